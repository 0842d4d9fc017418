"""Checkpoints: the same training, seen earlier; what is told of it is told of networks of other tasks."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from netformer.artifacts import networks_table, write_parquet, write_tasks
from netformer.errors import InputError
from netformer.networks.specs import Layout
from netformer.networks.symmetry import canonicalize
from netformer.readers import checkpoints
from netformer.readers.checkpoints import along_training, load_checkpoints, summary, told
from netformer.readers.questions import SEEDS
from netformer.tasks.scores import scores
from netformer.tasks.stream import synthetic_tasks
from netformer.tasks.task import VALID
from netformer.tasks.view import stack_tasks
from netformer.zoo.build import build_zoo
from netformer.zoo.load import load_zoo
from stages import zoo_checkpoints

OPTIMIZER = {"steps": 60, "lr": 0.03, "batch_size": 32, "weight_decay": 0.05}
SIZES = {"seed": 0, "max_features": 4, "min_rows": 60, "max_rows": 90}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A zoo that was trained, a little, on training and held-out tasks."""
    path = tmp_path_factory.mktemp("zoo")
    tasks = [task for split in ("train", "test") for task in synthetic_tasks(25, stream=split, split=split, **SIZES)]
    how = {"layout": Layout(4, 2, 4), "spec": {}, "networks_per_task": 3, "duplicate_share": 0.2, "seed": 5}
    zoo, _ = build_zoo(stack_tasks(tasks, 4), optimizer=OPTIMIZER, min_valid_r2=-9.0, max_gap=9.0, **how)
    ids = [tasks[i].task_id for i in zoo.task_index.tolist()]
    table = networks_table(zoo.networks, ids, r2=zoo.r2, arm=["zoo"] * len(ids), init_seed=zoo.init_seed)
    write_tasks(tasks, path / "tasks.parquet")
    write_parquet(table, path / "zoo.parquet")
    return path, {task.task_id: task for task in tasks}


@pytest.fixture(scope="module")
def table(folder):
    path, tasks = folder
    made = along_training(load_zoo(path / "zoo.parquet"), tasks, OPTIMIZER, seed=5, workers=1)
    write_parquet(made, path / "zoo_checkpoints.parquet")
    return made


@pytest.fixture(scope="module")
def found(folder, table):
    return load_checkpoints(folder[0] / "zoo_checkpoints.parquet")


def test_the_last_checkpoint_is_the_network_of_the_zoo_and_scores_are_those_of_its_weights(folder, found):
    path, tasks = folder
    zoo = load_zoo(path / "zoo.parquet")
    assert np.unique(found.step).tolist() == [2, 6, 12, 24, 42, 60]
    last = found.at(60)
    assert torch.equal(last.networks.weight, canonicalize(zoo.networks).weight)
    np.testing.assert_array_equal(last.net, zoo.table["net_id"])
    np.testing.assert_array_equal(last.r2[:, 2], last.final_r2)
    names = list(tasks)
    at = torch.tensor([names.index(name) for name in found.task_id])
    again = scores(found.networks, stack_tasks(list(tasks.values()), 4), at)
    np.testing.assert_allclose(found.r2, again, atol=1e-4)


def test_validation_never_gets_worse_and_networks_are_followed(found):
    valid = pd.DataFrame({"net": found.net, "step": found.step, "r2": found.r2[:, VALID], "end": found.final_r2})
    along = valid.pivot(index="net", columns="step", values="r2").loc[:, 6:]  # looks are after every sixth step
    assert (along.diff(axis=1).iloc[:, 1:] >= -1e-6).all(axis=None)
    assert along[60].mean() > along[6].mean() + 0.05
    assert (valid.groupby("net")["end"].nunique() == 1).all()


def test_a_zoo_of_other_parameters_is_refused(folder):
    path, tasks = folder
    zoo = load_zoo(path / "zoo.parquet")
    with pytest.raises(InputError, match=r"\d+ of \d+ networks end in other weights; give the parameters of the zoo"):
        along_training(zoo, tasks, OPTIMIZER | {"lr": 0.02}, seed=5, workers=1)


def test_readers_are_judged_on_tasks_that_none_was_fitted_on(found, folder, monkeypatch):
    held = [name for name, task in folder[1].items() if task.split == "test"]
    seen = []

    class Spy(checkpoints.HistGradientBoostingRegressor):
        def fit(self, X, y):
            seen.append(X)
            return super().fit(X, y)

    monkeypatch.setattr(checkpoints, "HistGradientBoostingRegressor", Spy)
    told_of = told(found, held)
    scored = {row.tobytes() for row in checkpoints.weight_statistics(found.networks)[np.isin(found.task_id, held)]}
    width = min(X.shape[1] for X in seen)
    assert not any(row.tobytes() in scored for X in seen if X.shape[1] == width for row in np.ascontiguousarray(X))
    assert set(told_of["question"]) == {"step", "test_r2", "final_r2"}
    counts = told_of.groupby(["question", "steps", "reader"]).size()
    assert set(counts) == {SEEDS}
    assert len(counts) == 3 * (1 + 6 + 6)
    mean = told_of.query("reader == 'mean'")
    assert mean["r2"].max() < 0.05
    assert (mean["tau"] == 0).all()
    table = summary(told_of)
    assert table.loc[("test_r2", 60), ("r2", "statistics and train score")] > 0.3
    assert table.loc[("final_r2", 60)].equals(table.loc[("test_r2", 60)])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.set_column(2, "arm", pa.array(["zoo"] * len(t))), "holds no checkpoints; make them by"),
        (lambda t: t.slice(1), "every network must be there at every step; make the file again"),
        (lambda t: t.drop_columns(["arm"]), "column"),
    ],
)
def test_another_file_is_one_line(table, tmp_path, spoil, message):
    pq.write_table(spoil(table), tmp_path / "other.parquet")
    with pytest.raises(InputError, match=message) as caught:
        load_checkpoints(tmp_path / "other.parquet")
    assert "\n" not in str(caught.value)


def test_a_step_without_checkpoints_and_too_few_networks_are_named(found):
    with pytest.raises(InputError, match="step must be one of 2, 6, 12, 24, 42, 60, got 7"):
        found.at(7)
    with pytest.raises(InputError, match=r"20 networks to fit and to judge on are needed, found \d+ and 0"):
        told(found, [])


def test_the_command_writes_both_files(folder, tmp_path, monkeypatch):
    path, _ = folder

    class Params:
        class zoo:
            optimizer, seed = OPTIMIZER, 5

    monkeypatch.setattr(zoo_checkpoints, "load_params", lambda root: Params)
    out, report = tmp_path / "made.parquet", tmp_path / "report"
    zoo_checkpoints.main(tmp_path, 70, path / "zoo.parquet", out, report)
    assert len(load_checkpoints(out).at(60).net) == 70
    assert len(pd.read_csv(report / "checkpoints.csv")) == 3 * 13 * SEEDS
    with pytest.raises(InputError, match="--networks must be a whole number of at least 20, got 3"):
        zoo_checkpoints.main(tmp_path, 3, path / "zoo.parquet", out, report)
