"""Small valid files of every kind that the package reads, for tests/hostile.py."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from commands import small_model
from mixed import rows_of

from netformer import NetFormerRegressor
from netformer.artifacts import networks_table, write_class_tasks, write_parquet, write_tasks
from netformer.evaluation.arms import ARMS, DRAWN
from netformer.generation.many import fit_many
from netformer.model.store import save_model
from netformer.model.vae import TransformerVAE
from netformer.networks.specs import Layout, draw_specs
from netformer.networks.token_tables import tokenize_networks
from netformer.search.engine import _Store
from netformer.tasks.classes import synthetic_class_tasks
from netformer.tasks.metafeatures import NAMES, MetaFeatureTransform
from netformer.tasks.stream import synthetic_tasks
from netformer.tasks.task import Task
from netformer.zoo.build import initialize

ROOT = Path(__file__).resolve().parents[1]
LAYOUT = Layout(max_features=4, max_hidden_layers=2, max_width=4)
SETTINGS = {
    "task": "0" * 64,
    "space": "both",
    "objectives": ["error", "params"],
    "seed": 0,
    "constraints": {"max_params": 9},
}
GENOMES, OBJECTIVES = np.arange(12.0).reshape(3, 4), 2
MODEL = {"d_model": 8, "d_condition": 8, "n_heads": 2, "d_writer": 8, "d_vertex": 2, "d_row": 8}


def write_artifacts(root: Path) -> None:
    """`data/`, `models/netformer/` and `params.yaml` under `root`, as stages leave them: 2 tasks and 3 networks,
    2 tasks of classes, and samples of two tasks more."""
    (root / "data").mkdir(parents=True)
    tasks = synthetic_tasks(2, seed=0, stream="train", split="train", max_features=4, min_rows=12, max_rows=14)
    write_tasks(tasks, root / "data" / "tasks.parquet")
    at = torch.tensor([0, 1, 1])
    features = torch.tensor([task.X.shape[1] for task in tasks])
    specs = draw_specs(features[at], layout=LAYOUT, min_width=2, generator=torch.Generator().manual_seed(0))
    networks, ids = initialize(specs, torch.arange(3)), [tasks[i].task_id for i in at.tolist()]
    zoo = networks_table(networks, ids, r2=torch.zeros(3, 3), arm=["zoo"] * 3)
    write_parquet(zoo, root / "data" / "zoo.parquet")
    tokens = tokenize_networks(networks, torch.ones(specs.mask.shape[:2]))
    for name in ("task_id", "net_id"):
        tokens = tokens.add_column(0, name, zoo[name])
    write_parquet(tokens, root / "data" / "tokens.parquet")
    classes = synthetic_class_tasks(
        2, seed=0, stream="class_train", split="train", max_features=4, min_rows=24, max_rows=26
    )
    write_class_tasks(classes, root / "data" / "class_tasks.parquet")
    write_parquet(samples_of(tasks_to_test()), root / "data" / "samples.parquet")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shape = {"max_features": 4, "max_hidden_layers": 2, "max_width": 4}
        model = TransformerVAE.from_arguments(n_metafeatures=len(NAMES), **shape, **MODEL)
    values = np.random.default_rng(0).normal(size=(4, len(NAMES)))
    save_model(model, MetaFeatureTransform.fit(values), root / "models" / "netformer")
    shutil.copy(ROOT / "params.yaml", root)


def tasks_to_test() -> list[Task]:
    """Two tasks whose networks are samples."""
    return synthetic_tasks(2, seed=1, stream="test", split="test", max_features=4, min_rows=12, max_rows=14)


def samples_of(tasks: list[Task]) -> pa.Table:
    """A network per arm and task, and one drawn, with scores, as the stage sample leaves them."""
    arms, index = [arm for arm in (*ARMS, DRAWN) for _ in tasks], torch.arange(len(tasks)).repeat(len(ARMS) + 1)
    features = torch.tensor([task.X.shape[1] for task in tasks])
    specs = draw_specs(features[index], layout=LAYOUT, min_width=2, generator=torch.Generator().manual_seed(1))
    ids = [tasks[i].task_id for i in index.tolist()]
    table = networks_table(initialize(specs, torch.arange(len(ids))), ids, r2=torch.zeros(len(ids), 3), arm=arms)
    return table.append_column("expected_r2", pa.array(np.zeros(len(ids), np.float32)))


def write_search(folder: Path) -> None:
    """A search of one generation that was kept."""
    store = _Store(folder, SETTINGS)
    store.write(0, GENOMES, np.ones((len(GENOMES), OBJECTIVES)))


def write_delivered(folder: Path) -> None:
    """`nets` and `groups`: saved networks for one table, and for each group of it."""
    table, y = rows_of(200)
    table = table[["size", "firm", "town", "grade", "sold", "stand"]]
    with small_model():
        NetFormerRegressor(n_samples=2, random_state=0).fit(table, y).to_bundle().save(folder / "nets")
        group = np.array(["north", "south"])[np.arange(len(y)) % 2]
        fit_many(table.assign(by=group), y, "by", random_state=0, n_samples=2).save(folder / "groups")
