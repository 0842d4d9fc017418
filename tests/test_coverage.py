"""Coverage: what is reported of intervals, on data whose answer is known."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from netformer.artifacts import write_tasks
from netformer.benchmark import coverage
from netformer.benchmark.coverage import CATBOOST, MEASURED, OURS, judged, measure, summary
from netformer.tasks.task import TEST, Task, split_rows
from stages import intervals as stage


def task(table="a", repeat=0, n=150):
    rng = np.random.default_rng(repeat)
    X = rng.normal(size=(n, 3)).astype(np.float32)
    y = (X[:, 0] + 0.5 * rng.normal(size=n)).astype(np.float32)
    name = f"{table}/{repeat}"
    return Task(name, "real", "table", "test", X, y, split_rows(n, rng), table=table, repeat=repeat)


def test_an_interval_is_judged_by_hand():
    ends = np.array([[0.0, 1.0], [0.0, 2.0], [0.0, 4.0]])
    covered, width, score, *thirds = judged(ends, np.array([0.5, 2.5, -1.0]), 2.0)
    assert (covered, width, thirds) == (pytest.approx(1 / 3), 1.0, [1.0, 0.0, 0.0])
    assert score == pytest.approx((7 / 3 + 20 * 1.5 / 3) / 2)


def test_no_interval_scores_better_than_the_true_quantiles():
    y = np.random.default_rng(0).normal(size=20_000)
    scores = [judged(np.tile([-half, half], (len(y), 1)), y, 1.0)[2] for half in (1.3, norm.ppf(0.95), 2.2)]
    assert scores[1] == min(scores)


def test_catboost_is_calibrated_on_rows_it_was_not_fitted_on():
    rng = np.random.default_rng(0)
    X, new = rng.normal(size=(400, 2)), rng.normal(size=(4000, 2))
    low, high = coverage._catboost(X, X[:, 0] + rng.normal(size=400), new).T
    y = new[:, 0] + rng.normal(size=4000)
    assert 0.84 < ((low <= y) & (y <= high)).mean() < 0.97
    np.testing.assert_allclose(high - low, high[0] - low[0])


def test_both_methods_are_measured_on_the_test_rows_alone():
    one = task()
    measured = measure([one])
    assert list(measured.columns) == MEASURED
    assert measured["method"].tolist() == [OURS, CATBOOST]
    assert measured["covered"].between(0.6, 1).all()
    test = one.row_split == TEST
    moved = Task(one.task_id, "real", "table", "test", one.X, np.where(test, 1e6, one.y), one.row_split, table="a")
    np.testing.assert_allclose(measure([moved])["width"], measured["width"])
    assert (measure([moved])["covered"] == 0).all()


def test_the_summary_is_over_tables_not_over_rows_or_splits():
    rows = [(t, r, m, c, w, s, c, c, c) for t, r, m, c, w, s in (
        ("a", 0, OURS, 0.9, 1.0, 2.0), ("a", 1, OURS, 0.7, 1.0, 2.0), ("b", 0, OURS, 0.7, 3.0, 4.0),
        ("a", 0, CATBOOST, 1.0, 2.0, 3.0), ("a", 1, CATBOOST, 1.0, 2.0, 3.0), ("b", 0, CATBOOST, 0.9, 2.0, 8.0),
    )]  # fmt: skip
    found = summary(pd.DataFrame(rows, columns=MEASURED))
    assert found["netformer_covered"] == pytest.approx(0.75)
    assert found["netformer_tables_held"] == 0.5
    assert found["netformer_width"] == 2.0
    assert found["catboost_minus_ours_score"] == pytest.approx((1 + 4) / 2)
    assert found["n_tables"] == 2


def test_the_stage_measures_nothing_twice(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    synthetic = Task("s", "synthetic", "linear", "test", task().X, task().y, task().row_split)
    write_tasks([synthetic, *(task(table, repeat) for table in "ab" for repeat in range(2))], tmp_path / stage.TASKS)
    asked = []

    def fake(tasks, workers):
        asked.append([one.task_id for one in tasks])
        rows = [(one.table, one.repeat, m, 0.9, 1.0, 2.0, 0.9, 0.9, 0.9) for one in tasks for m in (OURS, CATBOOST)]
        return pd.DataFrame(rows, columns=MEASURED)

    monkeypatch.setattr(stage, "measure", fake)
    monkeypatch.setattr(stage, "CODE", ())
    stage.main(tmp_path, limit=1)
    assert json.loads((tmp_path / "reports/intervals/metrics.json").read_text())["n_tables"] == 1
    stage.main(tmp_path)
    assert asked == [["a/0", "a/1"], ["b/0", "b/1"]]
    assert len(pd.read_csv(tmp_path / "reports/intervals/tables.csv")) == 8
