"""The examples run as they stand, from the repository's root."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from netformer.artifacts import save_model
from netformer.metafeatures import NAMES, MetaFeatureTransform
from netformer.model import TransformerVAE

ROOT = Path(__file__).resolve().parents[1]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was never trained: its networks run, and their output layer is solved."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TransformerVAE(
            max_features=10,
            max_hidden_layers=3,
            max_width=8,
            n_metafeatures=len(NAMES),
            d_model=16,
            n_heads=2,
            d_slot=2,
        )
    folder = tmp_path_factory.mktemp("model")
    values = np.random.default_rng(0).normal(size=(20, len(NAMES)))
    save_model(model.eval(), MetaFeatureTransform.fit(values), folder)
    return folder


def test_inference_example(model_folder: Path) -> None:
    done = run("examples/inference_example.py", str(model_folder), "--samples", "4")
    assert done.returncode == 0, done.stderr
    assert "265 train, 88 valid and 89 test rows" in done.stdout
    assert "best of 4 on valid rows" in done.stdout
    assert "ridge" in done.stdout


def test_inference_example_says_what_is_missing(tmp_path: Path) -> None:
    done = run("examples/inference_example.py", str(tmp_path / "absent"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "absent/config.json does not exist; train a model first" in done.stderr


def test_train_loop_example() -> None:
    done = run("examples/train_loop_example.py", "--steps", "3", "--tasks", "10")
    assert done.returncode == 0, done.stderr
    assert "generated, output layer solved" in done.stdout
    assert "ridge" in done.stdout
