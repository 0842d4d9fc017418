"""Store: weights of a model and its config on disk.

model.safetensors   the weights
model.sha256        their SHA-256, as `sha256sum --check` reads it; looked at where it is there
config.json         format, arguments of the model, transform of the meta-features
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.overrides import TorchFunctionMode

from netformer.artifacts import write_json
from netformer.errors import InputError
from netformer.files import replacing
from netformer.model.vae import TransformerVAE
from netformer.tasks.metafeatures import MetaFeatureTransform

FORMAT = 3  # 3: weights named after the modules of the model; 2: d_vertex, which was d_slot
CONFIG, WEIGHTS, DIGEST = "config.json", "model.safetensors", "model.sha256"
_SHOWN = 3  # names in a line
_LARGEST = 1 << 16  # number in a config: widths, and what they are counted in
_DEEPEST = 100  # layers of a transformer
_BESIDE = 1 << 20  # numbers that are made on the way and not kept
_MAKERS = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn)
_SHAPE = ("max_features", "max_hidden_layers", "max_width", "n_metafeatures")
_DEPTHS = ("n_encoder_layers", "n_structure_layers", "rounds", "max_hidden_layers")


def save_model(model: TransformerVAE, transform: MetaFeatureTransform, folder: Path) -> None:
    """Write the three files, each complete or not at all."""
    write_weights(model.state_dict(), folder)
    config = {"format": FORMAT, "model": model.arguments, "metafeatures": transform.to_dict()}
    write_json(config, folder / CONFIG)


def write_weights(tensors: dict[str, torch.Tensor], folder: Path) -> None:
    """`model.safetensors` and its SHA-256 in `folder`, in that order: between the two the folder is refused."""
    with replacing(folder / WEIGHTS) as partial:
        save_file({name: value.contiguous() for name, value in tensors.items()}, partial)
        partial.chmod(0o644)
        digest = _sha256(partial)
    with replacing(folder / DIGEST) as partial:
        partial.write_text(f"{digest}  {WEIGHTS}\n", encoding="utf-8")


def load_model(folder: Path) -> tuple[TransformerVAE, MetaFeatureTransform]:
    """The model and its meta-feature transform from a folder of `save_model`; half-precision weights become float32.

    Raises InputError, one line, for a folder that is missing, incomplete, damaged or of another format.
    """
    folder = Path(folder)
    config = _read_config(folder)
    if (folder / DIGEST).is_file():
        expected, found = (folder / DIGEST).read_bytes().split()[:1], _sha256(folder / WEIGHTS)
        if expected != [found.encode()]:
            raise InputError(f"{folder / WEIGHTS}: its sha256 must be that of {DIGEST}, found {found}; copy both again")
    try:
        tensors = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{folder / WEIGHTS} must be a safetensors file, found: {error}; it was changed or cut, copy it again"
        ) from None
    try:
        _check_size(config["model"])
        with torch.random.fork_rng(devices=[]), _Allowance(sum(tensor.numel() for tensor in tensors.values())):
            model = TransformerVAE.from_arguments(**config["model"])
        transform = MetaFeatureTransform.from_dict(config["metafeatures"])
    except (TypeError, ValueError, KeyError, RuntimeError, ArithmeticError) as error:
        line = " ".join(str(error).split())
        raise InputError(f"{folder / CONFIG}: model and metafeatures must be as train writes them: {line}") from None
    check_tensors(folder, tensors, model.state_dict())
    model.load_state_dict(tensors)
    return model.eval(), transform


def _read_config(folder: Path) -> dict[str, Any]:
    """The config of a stored model. Raises InputError for a folder without one, or without weights, for a file that is
    no such JSON, and for another format."""
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise InputError(f"{folder / name} does not exist; train a model first (dvc repro train)")
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{folder / CONFIG} must be JSON, found: {error}; copy it again or retrain the model"
        ) from None
    found = config.get("format") if isinstance(config, dict) else None
    if found != FORMAT:
        raise InputError(f"{folder}: format must be {FORMAT}, found {found!r}; retrain the model")
    for key in ("model", "metafeatures"):
        if not isinstance(config.get(key), dict):
            raise InputError(
                f"{folder / CONFIG}: {key} must be an object, found {config.get(key)!r}; retrain the model"
            )
    return config


class _Allowance(TorchFunctionMode):
    """While it is in force a tensor is refused, before it is allocated, when with it far more numbers would be made
    than a file holds."""

    def __init__(self, n_numbers: int) -> None:
        self.left = 2 * n_numbers + _BESIDE

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _MAKERS:
            sizes = args[0] if args and isinstance(args[0], tuple | list) else args
            self.left -= math.prod(size for size in sizes if isinstance(size, int))
            if self.left < 0:
                raise InputError(f"the model would hold more numbers than {WEIGHTS} does")
        return func(*args, **(kwargs or {}))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_size(arguments: dict[str, Any]) -> None:
    """Raises InputError for numbers that no model of ours has, before any of them sizes anything."""
    for name, value in arguments.items():
        most = _DEEPEST if name in _DEPTHS else _LARGEST
        if isinstance(value, int | float) and not (name in _SHAPE) <= value <= most:
            raise InputError(f"{name} must be between {int(name in _SHAPE)} and {most}, found {value!r}")


def check_tensors(folder: Path, found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Raises InputError where names or shapes are not those of the model that config.json describes, or where a weight
    is not finite."""
    kinds = [{name: (tuple(t.shape), t.is_floating_point()) for name, t in part.items()} for part in (found, expected)]
    wrong = sorted(name for name in kinds[0].keys() | kinds[1].keys() if kinds[0].get(name) != kinds[1].get(name))
    if wrong:
        names = ", ".join(wrong[:_SHOWN]) + (f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else "")
        raise InputError(
            f"{folder / WEIGHTS}: tensors must be those of the model in {CONFIG}, other names or shapes: {names}"
        )
    if not all(bool(torch.isfinite(tensor).all()) for tensor in found.values()):
        raise InputError(f"{folder / WEIGHTS}: weights must be finite; copy it again or retrain the model")
