"""Bundle: a population as one folder without pickles.

networks.safetensors   the stacks (weights, edges, shapes), expected R2, center and scale of columns and target
networks.json          format, names, `about`, and the SHA-256 of the other file
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from netformer.errors import InputError
from netformer.files import replacing
from netformer.networks.specs import Specs
from netformer.networks.stack import Networks
from netformer.tables.reading import Reading

FORMAT = 3  # 3: expected_r2
_JSON, _TENSORS = "networks.json", "networks.safetensors"
_KEYS = {"about": dict, "columns": list, "format": int, "sha256": str, "target": str}
_PARTS = {"n_inputs": torch.int64, "widths": torch.int64, "activations": torch.int64, "mask": torch.bool}


def write_folder(
    folder: str | Path,
    reading: Reading,
    networks: Networks,
    expected_r2: Float[Tensor, " n"],
    wide: Networks | None,
    about: dict,
) -> None:
    """Write the folder, complete or not at all. Raises InputError for a folder that is not empty, and for an `about`
    that JSON cannot hold."""
    folder = Path(folder).resolve()
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise InputError(f"{folder} must be a new or an empty folder; remove it or choose another name")
    tensors = {
        "center": torch.from_numpy(reading.center.copy()),
        "scale": torch.from_numpy(reading.scale.copy()),
        "target": torch.tensor([reading.target_center, reading.target_scale], dtype=torch.float64),
        "expected_r2": expected_r2.float(),
    }
    for name, stack in (("networks", networks), ("wide", wide)):
        if stack is not None:
            tensors[f"{name}.weight"] = stack.weight
            tensors |= {f"{name}.{part}": getattr(stack.specs, part) for part in _PARTS}
    data = save({name: value.clone(memory_format=torch.contiguous_format) for name, value in tensors.items()})
    names = {"columns": list(reading.columns), "target": reading.target, "about": about}
    try:
        text = json.dumps(
            {"format": FORMAT, "sha256": hashlib.sha256(data).hexdigest()} | names,
            indent=2,
            sort_keys=True,
            allow_nan=False,
        )
    except (TypeError, ValueError) as error:
        raise InputError(f"about must hold finite numbers, text, lists and dicts only: {error}") from None
    with replacing(folder) as partial:
        partial.mkdir()
        (partial / _TENSORS).write_bytes(data)
        (partial / _JSON).write_text(text + "\n", encoding="utf-8")


def read_folder(folder: str | Path) -> tuple[Reading, Networks, Float[Tensor, " n"], Networks | None, dict]:
    """reading, networks, expected_r2, wide and about of a folder that `write_folder` wrote. Raises InputError, one
    line, for one that is incomplete, damaged or of another format."""
    folder = Path(folder)
    for path in (folder / _JSON, folder / _TENSORS):
        if not path.is_file():
            raise InputError(f"{path} must be a file that Bundle.save wrote, found none")
    described = _read_json(folder / _JSON)
    data = (folder / _TENSORS).read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != described["sha256"]:
        raise InputError(
            f"{folder / _TENSORS}: sha256 must be {described['sha256']}, found {found}; the file was changed or cut"
        )
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise InputError(f"{folder / _TENSORS} must be a safetensors file, found: {error}") from None
    try:
        center, scale, target = (_tensor(tensors, name, torch.float64, 1) for name in ("center", "scale", "target"))
        if target.shape != (2,):
            raise InputError(f"target must be center and scale, found shape {tuple(target.shape)}")
        columns, units = tuple(described["columns"]), (float(target[0]), float(target[1]))
        reading = Reading(columns, center.numpy(), scale.numpy(), described["target"], *units)
        wide = _stack_of(tensors, "wide") if any(name.startswith("wide.") for name in tensors) else None
        expected = _tensor(tensors, "expected_r2", torch.float32, 1)
        return reading, _stack_of(tensors, "networks"), expected, wide, described["about"]
    except InputError as error:
        raise InputError(f"{folder}: {error}") from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} must be JSON, found: {error}") from None
    found = value.get("format") if isinstance(value, dict) else None
    if found != FORMAT:
        raise InputError(f"{path}: format must be {FORMAT}, found {found!r}; save it again with this version")
    for key, kind in _KEYS.items():
        if not isinstance(value.get(key), kind):
            raise InputError(f"{path}: {key} must be a {kind.__name__}, found {value.get(key)!r}")
    if not all(isinstance(name, str) for name in value["columns"]):
        raise InputError(f"{path}: columns must be a list of names, found {value['columns']!r}")
    return value


def _tensor(tensors: Mapping[str, Tensor], name: str, dtype: torch.dtype, dims: int) -> Tensor:
    found = tensors.get(name)
    if found is None or found.dtype != dtype or found.ndim != dims:
        what = "none" if found is None else f"{found.dtype} {tuple(found.shape)}"
        raise InputError(f"{name} must be a tensor of {dtype} with {dims} dimensions, found {what}")
    return found


def _stack_of(tensors: Mapping[str, Tensor], name: str) -> Networks:
    dims = {"n_inputs": 1, "widths": 2, "activations": 2, "mask": 3}
    parts = {part: _tensor(tensors, f"{name}.{part}", dtype, dims[part]) for part, dtype in _PARTS.items()}
    weight = tensors.get(f"{name}.weight")
    dtype = torch.float64 if weight is not None and weight.dtype == torch.float64 else torch.float32
    weight = _tensor(tensors, f"{name}.weight", dtype, 3)
    specs = (parts["n_inputs"], parts["widths"], parts["activations"], parts["mask"])
    if len({len(part) for part in (*specs, weight)}) != 1 or specs[1].shape != specs[2].shape:
        raise InputError(f"{name}: all parts must describe the same networks, found {[tuple(p.shape) for p in specs]}")
    if specs[3].shape != weight.shape:
        raise InputError(
            f"{name}: weight must have the shape of mask {tuple(specs[3].shape)}, found {tuple(weight.shape)}"
        )
    return Networks(Specs(*specs), weight)
