"""The examples run as they stand, from the repository's root."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn import draw

from netformer.artifacts import networks_table, write_parquet, write_tasks
from netformer.model.store import save_model
from netformer.model.vae import TransformerVAE
from netformer.networks.specs import Layout
from netformer.networks.stack import Networks
from netformer.tasks.metafeatures import NAMES, MetaFeatureTransform
from netformer.tasks.task import Task

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
        model = TransformerVAE.from_arguments(
            max_features=10,
            max_hidden_layers=3,
            max_width=8,
            n_metafeatures=len(NAMES),
            d_model=16,
            n_heads=2,
            d_vertex=2,
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


def test_predict_r2_from_weights(tmp_path: Path) -> None:
    """On a zoo in which the largest weight of a network decides its R2, weights tell it and the spec does not."""
    n, rng = 240, np.random.default_rng(0)
    nets = draw(n, layout=Layout(4, 2, 4), inputs=4)
    size = torch.tensor(rng.uniform(0.1, 3, n), dtype=torch.float32)
    nets = Networks(nets.specs, nets.weight * size.view(-1, 1, 1))
    r2 = (1 - size / 4).double().unsqueeze(1).repeat(1, 3)
    rows, splits = np.zeros(12, np.int8), ("train", "train", "valid", "test")
    tasks = [
        Task(f"t{i:02}", "synthetic", "sparse", splits[i % 4], rng.normal(size=(12, 4)), rng.normal(size=12), rows)
        for i in range(40)
    ]
    write_tasks(tasks, tmp_path / "tasks.parquet")
    table = networks_table(nets, [f"t{i % 40:02}" for i in range(n)], r2=r2, arm=["zoo"] * n)
    write_parquet(table, tmp_path / "zoo.parquet")
    done = run("examples/predict_r2_from_weights.py", str(tmp_path / "zoo.parquet"))
    assert done.returncode == 0, done.stderr
    assert "fitted on 120 networks of 20 tasks; test R2 of 60 networks of 10 other tasks" in done.stdout
    lines = [line.rsplit(maxsplit=2) for line in done.stdout.splitlines()[2:]]
    found = {name.strip(): float(score) for name, score, _ in lines}
    assert list(found) == ["constant", "spec", "all weights", "by layer"]
    assert min(found["all weights"], found["by layer"]) > 0.7 > 0.3 > found["spec"]
    refused = run("examples/predict_r2_from_weights.py", str(tmp_path / "absent.parquet"))
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
