"""The comparison of searches: what an arm has at a budget, nothing is chosen on test rows, and runs go on."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import PARAMS

from netformer.errors import InputError
from netformer.generation.generator import NetFormer
from netformer.model.vae import TransformerVAE
from netformer.networks.specs import Layout
from netformer.options import ModelOptions
from netformer.search import arms
from netformer.search.arms import ARMS, Budget, Trace, _error, measured
from netformer.search.problem import SearchTask
from netformer.tasks.metafeatures import MetaFeatureTransform
from netformer.tasks.stream import synthetic_tasks
from netformer.tasks.task import TEST, VALID
from netformer.tasks.view import stack_tasks
from netformer.zoo.build import train_networks
from stages import search_comparison
from stages.roots import write_params

SMALL = {"d_model": 16, "d_condition": 8, "n_heads": 2, "n_encoder_layers": 1, "d_writer": 16, "d_row": 8}
BUDGET = Budget(24, 0.5, {"steps": 20, "lr": 0.03, "batch_size": 16, "weight_decay": 0.0})


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TransformerVAE(Layout(6, 2, 5), 1, ModelOptions(**SMALL, d_global=6, d_vertex=2)).eval()


@pytest.fixture(scope="module")
def task(model):
    drawn = synthetic_tasks(1, stream="test", split="test", seed=3, max_features=6, min_rows=80, max_rows=90)
    return SearchTask.of(model, stack_tasks(drawn, 6))


@pytest.mark.parametrize("arm", list(ARMS))
def test_no_arm_reads_a_test_row(model, task, arm):
    """Other targets there change the test errors and nothing else."""
    if "Optuna" in arm and find_spec("optuna") is None:
        pytest.skip("optuna not installed")
    rows = task.rows
    other = SearchTask.of(model, replace(rows, y=torch.where(rows.rows == TEST, -rows.y, rows.y)))
    budget = replace(BUDGET, seconds=1e9) if "MLP" not in arm else replace(BUDGET, evaluations=3, seconds=1e9)
    one, two = (ARMS[arm](about, budget, 0) for about in (task, other))
    assert one.values.tobytes() == two.values.tobytes()
    known = np.isfinite(one.test_error)
    assert np.array_equal(known, np.isfinite(two.test_error))
    assert known.any()
    assert not np.allclose(one.test_error[known], two.test_error[known])
    assert (np.diff(one.evaluations) > 0).all()
    assert one.evaluations[-1] >= budget.evaluations
    for at in (1.0, 4.0, 24.0):
        assert np.isfinite(list(measured(one, task, "evaluations", at).values())).all()


def test_written_networks_are_trained_from_where_they_are_as_long_as_they_gain(task, monkeypatch):
    monkeypatch.setattr(arms, "FIRST", 40)
    monkeypatch.setattr(arms, "BRED", 8)
    begun = []

    def train(networks, *given, **options):
        done = train_networks(networks, *given, **options)
        begun.append((networks, options["steps"], done))
        return done

    monkeypatch.setattr(arms, "train_networks", train)
    optimizer = {**BUDGET.optimizer, "steps": 100}
    trace = ARMS["written, then trained"](task, Budget(10**9, 1e9, optimizer), 0)
    assert {steps for _, steps, _ in begun} == {100 // arms.LESS}
    n = sum(len(networks) for networks, _, _ in begun)
    assert len(trace.values) == 40 + n, "it ends by itself"
    errors = trace.values[:40, 0]
    first, _, _ = begun[0]
    np.testing.assert_allclose(np.sort(_error(first, task, VALID)), np.sort(errors)[: len(first)], rtol=1e-5)
    assert trace.values[40:, 0].min() < errors.min()
    again = sum(len(networks) for networks, _, _ in begun[1:]) - (40 - 8)
    assert 0 < again < n, "those that gained, once more"
    same = ARMS["written, then trained"](task, Budget(10**9, 1e9, optimizer), 0)
    assert same.values.tobytes() == trace.values.tobytes()


def test_an_arm_is_held_against_trained_networks_at_equal_and_at_fewer_seconds():
    rows = []
    for task_id, ours in (("a", {8.0: (0.5, 0.4), 1.0: (0.6, 0.3)}), ("b", {8.0: (0.1, 0.9), 1.0: (0.2, 0.8)})):
        for way, values in (("ours", ours), (search_comparison.TRAINED, {8.0: (0.3, 0.7), 1.0: (0.9, 0.1)})):
            for at, (error, r2) in values.items():
                other = dict.fromkeys(("hypervolume", "test_hypervolume", "params", "evaluations", "seconds"), 1.0)
                key = {"task_id": task_id, "seed": 0, "way": way, "by": "seconds", "at": at}
                rows.append(key | {"valid_error": error, "test_r2": r2} | other)
    found = search_comparison.summary(pd.DataFrame(rows)).set_index("way")
    assert found.loc["ours", ["better_than_trained", "valid_as_low", "valid_as_low_early"]].tolist() == [0.5, 0.5, 0.5]
    trained = found.loc[search_comparison.TRAINED]
    assert trained[["better_than_trained", "valid_as_low", "valid_as_low_early"]].tolist() == [0.0, 1.0, 0.0]


def test_what_an_arm_has_is_chosen_on_valid_rows(task):
    values = np.array([[0.9, 40.0], [0.5, 60.0], [0.4, 50.0], [0.3, 70.0]])
    trace = Trace(np.arange(1, 5), np.array([0.1, 0.1, 0.2, 0.9]), values, np.array([0.8, 0.2, 0.6, 2.5]))
    assert measured(trace, task, "seconds", 0.05)["test_r2"] == 0.0
    assert measured(trace, task, "seconds", 0.1)["test_r2"] == pytest.approx(0.8)
    third = measured(trace, task, "evaluations", 3.0)
    assert (third["test_r2"], third["params"]) == (pytest.approx(0.4), 50.0)
    assert measured(trace, task, "evaluations", 4.0)["test_r2"] == -1.0
    assert 0 < third["test_hypervolume"] < third["hypervolume"]


def test_a_comparison_goes_on_and_refuses_another_budget(model, tmp_path: Path, monkeypatch):
    known = NetFormer(model, MetaFeatureTransform((0.0,), (1.0,)))
    monkeypatch.setattr(search_comparison.NetFormer, "load", lambda: known)
    changes = {"zoo.steps": 20, "zoo.max_features": 6, "download.min_rows": 40, "download.max_rows": 50}
    write_params(PARAMS, tmp_path, changes)
    ways = ["random structures, trained", "random latents", "NSGA-II on latents"]
    how = {"tables": 0, "evaluations": 16, "seconds": 0.5, "arms": ways}
    search_comparison.main(tmp_path, tasks=1, seeds=1, **how)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "build").rglob("*-0-*.csv")}
    assert len(kept) == 3
    search_comparison.main(tmp_path, tasks=1, seeds=2, **how)
    assert kept == {path: path.stat().st_mtime_ns for path in kept}
    found = pd.read_csv(tmp_path / "reports" / "search_comparison" / "summary.csv")
    assert sorted(found["way"]) == sorted(ways * 2)
    assert found.loc[found["way"] == "random latents", "over_written"].tolist() == [1.0, 1.0]
    runs = pd.read_csv(tmp_path / "reports" / "search_comparison" / "runs.csv")
    assert set(runs["seed"]) == {0, 1}
    assert (tmp_path / "reports" / "search_comparison" / "seconds.svg").is_file()
    next(path for path in kept).unlink()
    search_comparison.main(tmp_path, tasks=1, seeds=2, known=True, **how)
    runs = pd.read_csv(tmp_path / "reports" / "search_comparison" / "runs.csv")
    assert set(runs["seed"]) == {1}, "of the other one an arm is missing, and nothing is run"
    with pytest.raises(InputError, match="holds no task of which every arm is known; leave out --known"):
        search_comparison.main(tmp_path, tasks=1, seeds=1, known=True, **how)
    with pytest.raises(InputError, match="holds a comparison of another budget"):
        search_comparison.main(tmp_path, tasks=1, seeds=1, **(how | {"evaluations": 20}))
    with pytest.raises(InputError, match=r"arms must be some of .*, got 'luck'"):
        search_comparison.main(tmp_path, tasks=1, **(how | {"arms": ["luck"]}))
    with pytest.raises(InputError, match="seeds must be a whole number of at least 1, got 0"):
        search_comparison.main(tmp_path, tasks=1, seeds=0, **how)
