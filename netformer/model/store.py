"""Store: weights of a model and its config on disk."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from netformer.artifacts import write_json
from netformer.errors import InputError
from netformer.files import replacing
from netformer.model.vae import TransformerVAE
from netformer.tasks.metafeatures import MetaFeatureTransform

FORMAT = 3  # 3: weights named after the modules of the model; 2: d_vertex, which was d_slot


def save_model(model: TransformerVAE, transform: MetaFeatureTransform, folder: Path) -> None:
    """Write `model.safetensors` (the weights) and `config.json` (format, `arguments`, meta-feature transform)."""
    with replacing(folder / "model.safetensors") as temporary:
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, temporary)
    config = {"format": FORMAT, "model": model.arguments, "metafeatures": transform.to_dict()}
    write_json(config, folder / "config.json")


def load_model(folder: Path) -> tuple[TransformerVAE, MetaFeatureTransform]:
    """The model and its meta-feature transform from a folder of `save_model`; half-precision weights become float32.

    Raises InputError for a folder that is missing, incomplete or of another format.
    """
    folder = Path(folder)
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).exists():
            raise InputError(f"{folder / name} does not exist; train a model first (dvc repro train)")
    config = json.loads((folder / "config.json").read_text())
    if config.get("format") != FORMAT:
        raise InputError(f"{folder}: format must be {FORMAT}, found {config.get('format')}; retrain the model")
    with torch.random.fork_rng():
        model = TransformerVAE.from_arguments(**config["model"])
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.eval(), MetaFeatureTransform.from_dict(config["metafeatures"])
