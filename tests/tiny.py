"""The pipeline on params so small that it runs in seconds."""

import shutil
from importlib import import_module
from pathlib import Path

from stages.roots import write_params

ROOT = Path(__file__).resolve().parents[1]
PARAMS = ROOT / "params.yaml"
STAGES = ("download", "zoo", "tokenize", "metafeatures", "train", "sample", "evaluate", "search")
TINY = {
    "download.sources": ["synthetic", "csv"],
    "download.n_train": 8,
    "download.n_valid": 2,
    "download.n_test": 4,
    "download.n_heldout_family": 3,
    "download.n_class_train": 5,
    "download.n_class_test": 4,
    "download.min_rows": 40,
    "download.max_rows": 50,
    "zoo.networks_per_task": 3,
    "zoo.class_networks_per_task": 2,
    "zoo.steps": 30,
    "zoo.min_valid_r2": -1.0,
    "zoo.max_gap": 5.0,
    "model.d_model": 16,
    "model.d_condition": 16,
    "model.n_heads": 2,
    "model.n_encoder_layers": 1,
    "model.d_writer": 16,
    "model.d_vertex": 2,
    "model.orientations": 2,
    "model.d_row": 16,
    "train.steps": 3,
    "train.zoo_tasks": 3,
    "train.networks_per_task": 2,
    "train.stream_tasks": 4,
    "train.min_rows": 20,
    "train.max_rows": 30,
    "sample.n_samples": 3,
    "sample.n_seeds": 2,
    "evaluate.scratch_networks": 2,
    "evaluate.mlp_tasks": 8,
    "search.n_tasks": 2,
    "search.evaluations": 20,
    "search.population": 10,
}


def run_stages(root: Path) -> None:
    """The whole pipeline under `root`, stage by stage in this process."""
    write_params(PARAMS, root, TINY)
    shutil.copy(ROOT / "data" / "sample.csv", root / "data")
    for name in STAGES:
        import_module(f"stages.{name}").main(root)
