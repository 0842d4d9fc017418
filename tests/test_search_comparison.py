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
from netformer.search.arms import ARMS, Budget, Trace, measured
from netformer.search.problem import SearchTask
from netformer.tasks.metafeatures import MetaFeatureTransform
from netformer.tasks.stream import synthetic_tasks
from netformer.tasks.task import TEST
from netformer.tasks.view import stack_tasks
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
    arms = ["random structures, trained", "random latents", "NSGA-II on latents"]
    how = {"tables": 0, "evaluations": 16, "seconds": 0.5, "arms": arms}
    search_comparison.main(tmp_path, tasks=1, seeds=1, **how)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "build").rglob("*-0-*.csv")}
    assert len(kept) == 3
    search_comparison.main(tmp_path, tasks=1, seeds=2, **how)
    assert kept == {path: path.stat().st_mtime_ns for path in kept}
    found = pd.read_csv(tmp_path / "reports" / "search_comparison" / "summary.csv")
    assert sorted(found["way"]) == sorted(arms * 2)
    assert found.loc[found["way"] == "random latents", "over_written"].tolist() == [1.0, 1.0]
    runs = pd.read_csv(tmp_path / "reports" / "search_comparison" / "runs.csv")
    assert set(runs["seed"]) == {0, 1}
    assert (tmp_path / "reports" / "search_comparison" / "seconds.svg").is_file()
    with pytest.raises(InputError, match="holds a comparison of another budget"):
        search_comparison.main(tmp_path, tasks=1, seeds=1, **(how | {"evaluations": 20}))
    with pytest.raises(InputError, match=r"arms must be some of .*, got 'luck'"):
        search_comparison.main(tmp_path, tasks=1, **(how | {"arms": ["luck"]}))
    with pytest.raises(InputError, match="seeds must be a whole number of at least 1, got 0"):
        search_comparison.main(tmp_path, tasks=1, seeds=0, **how)
