"""Bundle: the networks delivered for one table, with what they need to read it, as one folder without pickles.

networks.safetensors   the stacks (weights, edges, shapes), center and scale of columns and target
networks.json          format, names, `about`, and the SHA-256 of the other file
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from netformer.errors import InputError
from netformer.networks.merged import merged
from netformer.networks.specs import Specs
from netformer.networks.stack import Networks, _check_stack
from netformer.tasks.view import CUT

FORMAT = 2


_JSON, _TENSORS = "networks.json", "networks.safetensors"


_KEYS = {"about": dict, "columns": list, "format": int, "sha256": str, "target": str}


_PARTS = {"n_inputs": torch.int64, "widths": torch.int64, "activations": torch.int64, "mask": torch.bool}


@dataclass(frozen=True)
class Bundle:
    """Networks for one table.

    networks: they read all columns, standardised, and answer in the standardised target. wide: the stack whose mean is
    the wide network (`merging.widen`), or None. center, scale: of each column, target_center, target_scale: of the
    target; standardised = (raw - center) / scale, cut at +-CUT. columns, target: names. about: anything JSON holds
    (seeds, scores). Raises InputError for parts that do not belong together.
    """

    networks: Networks
    wide: Networks | None
    center: Float[np.ndarray, " features"]
    scale: Float[np.ndarray, " features"]
    target_center: float
    target_scale: float
    columns: tuple[str, ...]
    target: str = "y"
    about: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        f = len(self.columns)
        if f < 1 or len(set(self.columns)) != f:
            raise InputError(f"columns must be at least one name, none of them twice, got {self.columns}")
        for name, values in (("center", self.center), ("scale", self.scale)):
            if values.shape != (f,) or values.dtype != np.float64 or not np.isfinite(values).all():
                raise InputError(f"{name} must be {f} finite float64, one a column, got {values.dtype} {values.shape}")
        if not ((self.scale > 0).all() and 0 < self.target_scale < np.inf and np.isfinite(self.target_center)):
            raise InputError("scale and target_scale must be above 0 and finite, target_center finite")
        if len(self.networks) < 1:
            raise InputError("networks must hold at least 1 network, got 0")
        for name, stack in (("networks", self.networks), ("wide", self.wide)):
            if stack is not None:
                _check_stack(name, stack, f)

    def stack(self, which: int | str = "wide") -> Networks:
        """The stack whose mean `which` names: "wide", "mean" (of `networks`), or the index of one network."""
        n = len(self.networks)
        if which == "wide" and self.wide is not None:
            return self.wide
        if which == "mean":
            return self.networks
        if isinstance(which, Integral) and not isinstance(which, bool) and 0 <= which < n:
            return self.networks[[int(which)]]
        wide = "" if self.wide is None else "'wide', "
        raise InputError(f"which must be {wide}'mean' or an index from 0 to {n - 1}, got {which!r}")

    def predict(self, X: Any, which: int | str = "wide") -> Float[np.ndarray, " rows"]:
        """Predictions in units of the target, computed in float64. X: (rows, features), raw columns in the order of
        `columns`. which: see `stack`. Raises InputError for another shape and for missing or infinite values."""
        X = np.asarray(X, np.float64)
        if X.ndim != 2 or X.shape[1] != len(self.columns):
            raise InputError(f"X must be (rows, {len(self.columns)}), got {X.shape}")
        if not np.isfinite(X).all():
            raise InputError("X must be finite; drop or impute missing values first")
        predicted = merged(self.stack(which)).predict(standardize(X, self.center, self.scale))
        return predicted * self.target_scale + self.target_center

    def save(self, folder: str | Path) -> None:
        """Write the folder, complete or not at all. Raises InputError for a folder that is not empty."""
        folder = Path(folder).resolve()
        if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
            raise InputError(f"{folder} must be a new or an empty folder; remove it or choose another name")
        tensors = {
            "center": torch.from_numpy(self.center.copy()),
            "scale": torch.from_numpy(self.scale.copy()),
            "target": torch.tensor([self.target_center, self.target_scale], dtype=torch.float64),
        }
        for name, stack in (("networks", self.networks), ("wide", self.wide)):
            if stack is not None:
                tensors[f"{name}.weight"] = stack.weight
                tensors |= {f"{name}.{part}": getattr(stack.specs, part) for part in _PARTS}
        data = save({name: value.clone(memory_format=torch.contiguous_format) for name, value in tensors.items()})
        names = {"columns": list(self.columns), "target": self.target, "about": self.about}
        try:
            text = json.dumps(
                {"format": FORMAT, "sha256": hashlib.sha256(data).hexdigest()} | names,
                indent=2,
                sort_keys=True,
                allow_nan=False,
            )
        except (TypeError, ValueError) as error:
            raise InputError(f"about must hold finite numbers, text, lists and dicts only: {error}") from None
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        partial.mkdir()
        try:
            (partial / _TENSORS).write_bytes(data)
            (partial / _JSON).write_text(text + "\n", encoding="utf-8")
            partial.replace(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    @classmethod
    def load(cls, folder: str | Path) -> Bundle:
        """Raises InputError, one line, for a folder that is incomplete, damaged or of another format."""
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
            wide = _stack_of(tensors, "wide") if any(name.startswith("wide.") for name in tensors) else None
            return cls(
                _stack_of(tensors, "networks"),
                wide,
                center.numpy(),
                scale.numpy(),
                float(target[0]),
                float(target[1]),
                columns=tuple(described["columns"]),
                target=described["target"],
                about=described["about"],
            )
        except ValueError as error:
            raise InputError(f"{folder}: {error}") from None


def standardize(
    X: Float[np.ndarray, "rows features"], center: Float[np.ndarray, " features"], scale: Float[np.ndarray, " features"]
) -> Float[np.ndarray, "rows features"]:
    """(X - center) / scale, cut at +-CUT."""
    with np.errstate(over="ignore"):
        return np.clip((X - center) / scale, -CUT, CUT)


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
