"""Store: weights of a model and its config on disk.

model.safetensors   the weights
model.sha256        their SHA-256, as `sha256sum --check` reads it; looked at where it is there
config.json         format, arguments of the model, transform of the meta-features

Importing this module must not import torch; what needs it is imported where it is used.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError

from netformer.errors import InputError, first_few, need
from netformer.files import replacing
from netformer.model.arrays import LAYOUT, ArrayModel, shapes_of
from netformer.tasks.metafeatures import MetaFeatureTransform

if TYPE_CHECKING:
    import torch

    from netformer.model.vae import TransformerVAE

FORMAT = 3  # 3: weights named after the modules of the model; 2: d_vertex, which was d_slot
CONFIG, WEIGHTS, DIGEST = "config.json", "model.safetensors", "model.sha256"
ENCODER = "encoder."  # weights that only reading networks needs, and so only training
_SHOWN = 3  # names in a line
_LARGEST = 1 << 16  # number in a config: widths, and what they are counted in
_DEEPEST = 100  # layers of a transformer
_BESIDE = 1 << 20  # numbers that are made on the way and not kept
_SHAPE = (*LAYOUT, "n_metafeatures")  # at least 1
_DEPTHS = ("n_encoder_layers", "n_structure_layers", "rounds", "max_hidden_layers")


def save_model(model: TransformerVAE, transform: MetaFeatureTransform, folder: Path) -> None:
    """Write the three files, each complete or not at all."""
    from netformer.artifacts import write_json

    write_weights(model.state_dict(), folder)
    config = {"format": FORMAT, "model": model.arguments, "metafeatures": transform.to_dict()}
    write_json(config, folder / CONFIG)


def write_weights(tensors: dict[str, torch.Tensor], folder: Path) -> None:
    """`model.safetensors` and its SHA-256 in `folder`, in that order: between the two the folder is refused."""
    write_tensors(tensors, folder / WEIGHTS)
    with replacing(folder / DIGEST) as partial:
        partial.write_text(f"{_sha256(folder / WEIGHTS)}  {WEIGHTS}\n", encoding="utf-8")


def write_tensors(tensors: dict[str, torch.Tensor], path: Path, about: dict[str, str] | None = None) -> None:
    """A file of safetensors that everybody may read, complete or not at all. about: texts beside them. Raises OSError
    where the disk does not take it."""
    from safetensors.torch import save_file

    with replacing(path) as partial:
        try:
            save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, partial, about)
        except SafetensorError as error:
            raise OSError(f"{path}: {error}") from None
        partial.chmod(0o644)


def load_model(folder: Path) -> tuple[TransformerVAE, MetaFeatureTransform]:
    """The model and its meta-feature transform from a folder of `save_model`; half-precision weights become float32.

    Raises InputError, one line, for a folder that is missing, incomplete, damaged or of another format, and where torch
    is not installed.
    """
    need("torch", "a model with gradients")
    import torch
    from safetensors.torch import load_file

    from netformer.model.vae import TransformerVAE

    folder = Path(folder)
    config = _read_config(folder)
    with _weights(folder):
        tensors = load_file(folder / WEIGHTS)
    with _built(folder):
        _check_size(config["model"])
        with torch.random.fork_rng(devices=[]), _allowance(sum(tensor.numel() for tensor in tensors.values())):
            model = TransformerVAE.from_arguments(**config["model"])
        transform = MetaFeatureTransform.from_dict(config["metafeatures"])
    check_tensors(folder, tensors, model.state_dict())
    model.load_state_dict(tensors)
    return model.eval(), transform


def load_arrays(folder: Path) -> tuple[ArrayModel, MetaFeatureTransform]:
    """The same as `load_model`, to write networks without torch. Raises InputError as `load_model` does."""
    from safetensors.numpy import load_file

    folder = Path(folder)
    config = _read_config(folder)
    with _weights(folder):
        tensors = load_file(folder / WEIGHTS)
    with _built(folder):
        _check_size(config["model"])
        expected = {name: (shape, True) for name, shape in shapes_of(**config["model"]).items()}
        transform = MetaFeatureTransform.from_dict(config["metafeatures"])
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(ENCODER)}
    found = {name: (tensor.shape, tensor.dtype.kind == "f") for name, tensor in tensors.items()}
    _check_tensors(folder, found, expected, all(bool(np.isfinite(tensor).all()) for tensor in tensors.values()))
    return ArrayModel(tensors, **config["model"]), transform


@contextmanager
def _weights(folder: Path) -> Iterator[None]:
    """While weights are read: raises InputError for another SHA-256 than is stored, and for what is no such file."""
    if (folder / DIGEST).is_file():
        expected, found = (folder / DIGEST).read_bytes().split()[:1], _sha256(folder / WEIGHTS)
        if expected != [found.encode()]:
            raise InputError(f"{folder / WEIGHTS}: its sha256 must be that of {DIGEST}, found {found}; copy both again")
    try:
        yield
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{folder / WEIGHTS} must be a safetensors file, found: {error}; it was changed or cut, copy it again"
        ) from None


@contextmanager
def _built(folder: Path) -> Iterator[None]:
    """While a model is made of its config: raises InputError for one that no training wrote."""
    try:
        yield
    except (TypeError, ValueError, KeyError, RuntimeError, ArithmeticError) as error:
        line = " ".join(str(error).split())
        raise InputError(f"{folder / CONFIG}: model and metafeatures must be as train writes them: {line}") from None


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


def _allowance(n_numbers: int) -> Any:
    """A mode of torch: while it is in force a tensor is refused, before it is allocated, when with it far more numbers
    would be made than a file of `n_numbers` holds."""
    import torch
    from torch.overrides import TorchFunctionMode

    makers = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn)

    class Allowance(TorchFunctionMode):
        left = 2 * n_numbers + _BESIDE

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func in makers:
                sizes = args[0] if args and isinstance(args[0], tuple | list) else args
                self.left -= math.prod(size for size in sizes if isinstance(size, int))
                if self.left < 0:
                    raise InputError(f"the model would hold more numbers than {WEIGHTS} does")
            return func(*args, **(kwargs or {}))

    return Allowance()


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
    shapes, wanted = (
        {name: (tuple(t.shape), t.is_floating_point()) for name, t in part.items()} for part in (found, expected)
    )
    _check_tensors(folder, shapes, wanted, all(bool(t.isfinite().all()) for t in found.values()))


def _check_tensors(folder: Path, found: dict[str, Any], expected: dict[str, Any], finite: bool) -> None:
    """Raises InputError where names or shapes are not those of the model that config.json describes, and for weights
    that are not finite. found, expected: shape of each tensor and whether it holds floats."""
    wrong = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    if wrong:
        raise InputError(
            f"{folder / WEIGHTS}: tensors must be those of the model in {CONFIG}, other names or shapes: "
            f"{first_few(wrong, _SHOWN)}"
        )
    if not finite:
        raise InputError(f"{folder / WEIGHTS}: weights must be finite; copy it again or retrain the model")
