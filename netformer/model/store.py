"""Store: weights of a model and its config on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from netformer.artifacts import write_json
from netformer.errors import InputError
from netformer.files import replacing
from netformer.model.vae import TransformerVAE
from netformer.tasks.metafeatures import MetaFeatureTransform

FORMAT = 3  # 3: weights named after the modules of the model; 2: d_vertex, which was d_slot
CONFIG, WEIGHTS = "config.json", "model.safetensors"
_SHOWN = 3  # names in a line


def save_model(model: TransformerVAE, transform: MetaFeatureTransform, folder: Path) -> None:
    """Write `model.safetensors` (the weights) and `config.json` (format, `arguments`, meta-feature transform), each
    complete or not at all."""
    with replacing(folder / WEIGHTS) as partial:
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, partial)
    config = {"format": FORMAT, "model": model.arguments, "metafeatures": transform.to_dict()}
    write_json(config, folder / CONFIG)


def load_model(folder: Path) -> tuple[TransformerVAE, MetaFeatureTransform]:
    """The model and its meta-feature transform from a folder of `save_model`; half-precision weights become float32.

    Raises InputError, one line, for a folder that is missing, incomplete, damaged or of another format.
    """
    folder = Path(folder)
    config = _read_config(folder)
    try:
        tensors = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{folder / WEIGHTS} must be a safetensors file, found: {error}; it was changed or cut, copy it again"
        ) from None
    try:
        with torch.random.fork_rng(devices=[]):
            model = TransformerVAE.from_arguments(**config["model"])
        transform = MetaFeatureTransform.from_dict(config["metafeatures"])
    except (TypeError, ValueError, KeyError, RuntimeError, ArithmeticError) as error:
        line = " ".join(str(error).split())
        raise InputError(f"{folder / CONFIG}: model and metafeatures must be as train writes them: {line}") from None
    _check_tensors(folder, tensors, model.state_dict())
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


def _check_tensors(folder: Path, found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Raises InputError where names or shapes are not those of the model that config.json describes."""
    kinds = [{name: (tuple(t.shape), t.is_floating_point()) for name, t in part.items()} for part in (found, expected)]
    wrong = sorted(name for name in kinds[0].keys() | kinds[1].keys() if kinds[0].get(name) != kinds[1].get(name))
    if wrong:
        names = ", ".join(wrong[:_SHOWN]) + (f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else "")
        raise InputError(
            f"{folder / WEIGHTS}: tensors must be those of the model in {CONFIG}, other names or shapes: {names}"
        )
    if not all(bool(torch.isfinite(tensor).all()) for tensor in found.values()):
        raise InputError(f"{folder / WEIGHTS}: weights must be finite; copy it again or retrain the model")
