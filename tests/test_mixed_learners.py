"""Learners of mixed tables: text, dates and gaps are read, valid rows choose, test rows only report."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from netformer.benchmark import standing
from netformer.benchmark.learners import METHODS, fit_predict
from netformer.benchmark.mixed import MixedTable
from netformer.benchmark.standing import (
    OURS,
    OWN,
    SMALLEST,
    STEPS,
    over_splits,
    r2_on_test,
    reference_key,
    reference_scores,
)
from netformer.errors import InputError
from netformer.tasks.task import TEST, TRAIN, VALID, split_rows
from stages import mixed_tables as stage

WITH_A_GRID = [name for name, method in METHODS.items() if len(method.grid) > 1]


def drawn(name: str = "made-table", seed: int = 0, n: int = 160, n_splits: int = 2) -> MixedTable:
    """A target of category, date and number, with gaps, a level of TEST rows alone, and text of many levels."""
    rng = np.random.default_rng(seed)
    level, day, x = rng.integers(0, 4, n), rng.integers(0, 365, n), rng.normal(size=n)
    y = 300 + 20 * np.array([0.0, 3.0, -2.0, 1.0])[level] + 40 * (day > 180) + 5 * x + rng.normal(size=n)
    splits = [split_rows(n, rng, 0.56, 0.14) for _ in range(n_splits)]
    group = np.array(["a", "b", "c", "d"], dtype=object)[level]
    group[np.flatnonzero(splits[0] == TEST)[0]] = "unseen"
    frame = pd.DataFrame({"x": x, "group": group, "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(day, unit="D")})
    frame["name"] = [f"name {i}" for i in rng.integers(0, n // 2, n)]
    for column in frame.columns:
        frame[column] = frame[column].where(rng.random(n) > 0.03)
    kinds = {"x": "number", "group": "category", "day": "date", "name": "text"}
    return MixedTable(name, frame, y, "y", kinds, splits)


@pytest.mark.parametrize("name", METHODS)
def test_reads_category_and_date_and_test_rows_only_report(name):
    table = drawn()
    codes, X = table.splits[0], table.typed()
    predicted = fit_predict(name, X, table.y, codes)
    assert predicted.shape == ((codes == TEST).sum(),)
    assert r2_on_test(table.y, predicted, codes) > 0.6
    again = fit_predict(name, X, np.where(codes == TEST, 1e6, table.y), codes)
    np.testing.assert_array_equal(predicted, again)
    for column in ("group", "day"):  # both are used
        without = fit_predict(name, X.drop(columns=column), table.y, codes)
        assert r2_on_test(table.y, without, codes) < r2_on_test(table.y, predicted, codes)


@pytest.mark.parametrize("name", WITH_A_GRID)
def test_valid_rows_choose_and_are_fitted_again(name, monkeypatch):
    table = drawn()
    codes, X = table.splits[0], table.typed()
    fitted = []
    method = METHODS[name]

    def make(seed, **options):
        learner = method.make(seed, **options)
        fit = learner.fit

        def noted(X, y, **watched):
            fitted.append((options, len(X)))
            return fit(X, y, **watched)

        learner.fit = noted
        return learner

    monkeypatch.setitem(METHODS, name, method._replace(make=make))
    fit_predict(name, X, table.y, codes)
    train, valid = ((codes == code).sum() for code in (TRAIN, VALID))
    assert [n for _, n in fitted] == [train] * len(method.grid) + [train + valid]
    assert [options for options, _ in fitted[:-1]] == method.grid
    chosen = fitted[-1][0]
    changed = {"n_estimators", "iterations"}  # what the last fit has of its own
    assert sum(all(chosen[k] == v for k, v in o.items() if k not in changed) for o in method.grid) == 1


def test_an_unknown_learner_is_named():
    table = drawn()
    with pytest.raises(InputError, match="name must be one of ridge, rf, hgb, catboost, catboost_chosen, got 'svr'"):
        fit_predict("svr", table.X, table.y, table.splits[0])


def test_r2_is_floored_and_of_test_rows_alone():
    y, codes = np.array([1.0, 2.0, 3.0, 100.0]), np.array([TEST, TEST, TEST, TRAIN])
    assert r2_on_test(y, np.array([1.0, 2.0, 3.0]), codes) == 1
    assert r2_on_test(y, np.array([1.5, 2.0, 2.5]), codes) == pytest.approx(1 - 0.5 / 2)
    assert r2_on_test(y, np.array([50.0, 2.0, 3.0]), codes) == -1


def test_the_key_of_what_is_kept_changes_with_the_table_and_its_splits(monkeypatch):
    table = drawn()
    keys = {reference_key(table), reference_key(drawn(seed=1)), reference_key(replace(table, splits=table.splits[:1]))}
    keys.add(reference_key(replace(table, X=table.X.assign(x=table.X["x"].fillna(0)))))
    keys.add(reference_key(replace(table, kinds=table.kinds | {"x": "category"}, X=table.X.astype({"x": str}))))
    assert len(keys) == 5
    assert reference_key(drawn()) == reference_key(replace(table, name="another"))
    monkeypatch.setattr(standing, "version", lambda name: "0")
    assert reference_key(table) not in keys


@pytest.fixture
def few(monkeypatch):
    """Ridge alone, and two tables, one of 1,000 rows."""
    for name in set(METHODS) - {"ridge"}:
        monkeypatch.delitem(METHODS, name)
    return [drawn("plotly-large", n=1000), drawn("plotnine-small", seed=2)]


def test_scores_over_splits_count_small_tables_in_both_sets(few):
    scores = pd.concat([reference_scores(table) for table in few])
    again = reference_scores(few[1])
    pd.testing.assert_frame_equal(scores[scores["task_id"] == "plotnine-small"], again)
    long = over_splits(scores, few)
    assert long[["set", "task_id", "family", "row", "n_runs"]].to_numpy().tolist() == [
        ["mixed_tables", "plotly-large", "plotly", "ridge", 2],
        ["mixed_tables", "plotnine-small", "plotnine", "ridge", 2],
        ["mixed_tables_small", "plotnine-small", "plotnine", "ridge", 2],
    ]
    codes = few[1].splits
    expected = [r2_on_test(few[1].y, fit_predict("ridge", few[1].typed(), few[1].y, c), c) for c in codes]
    assert long["test_r2"].tolist()[1:] == pytest.approx([np.mean(expected)] * 2)


def test_the_stage_writes_its_report_and_fits_nothing_twice(few, tmp_path, monkeypatch):
    few.append(drawn("plotnine-third", seed=3))
    considered = pd.DataFrame({"name": [*(table.name for table in few), "dalex-out"]})
    considered = considered.assign(kept=[True] * 3 + [False], n_rows=160, removed="", reason=[""] * 3 + ["59 rows"])
    said = {OURS: 0.9, STEPS: 0.95, SMALLEST: 0.85}
    ours = [(table.name, row, r, r2) for table in few for r in range(2) for row, r2 in said.items()]
    ours = pd.DataFrame(ours, columns=standing.SCORES)
    monkeypatch.setattr(stage, "mixed_tables", lambda *settings: (few, considered))
    monkeypatch.setattr(stage, "own_scores", lambda tables, workers: ours)
    monkeypatch.setenv("NETFORMER_WORKERS", "1")
    stage.fit_references(tmp_path)
    monkeypatch.setattr(stage, "reference_scores", None)
    stage.main(tmp_path)
    folder = tmp_path / "reports" / "mixed"
    table = pd.read_csv(folder / "tables.csv", index_col="table")
    assert list(table.columns) == ["n_rows", OURS, STEPS, SMALLEST, "ridge"]
    assert (table[OURS] == 0.9).all()
    assert (table[STEPS] == 0.95).all()
    metrics = pd.read_json(folder / "metrics.json")
    assert metrics.loc["ridge_n_tasks"].to_dict() == {"mixed_tables": 3, "mixed_tables_small": 2}
    difference = (table[OURS] - table["ridge"]).to_numpy()
    assert metrics.loc[f"{OURS}_minus_ridge", "mixed_tables"] == pytest.approx(difference.mean(), abs=1e-4)
    error = difference.std(ddof=1) / np.sqrt(3)
    assert metrics.loc[f"{OURS}_minus_ridge_se", "mixed_tables"] == pytest.approx(error, abs=1e-4)
    assert pd.read_csv(folder / "considered.csv")["reason"].tolist()[-1] == "59 rows"
    assert "plotnine-small" in (folder / "tables.svg").read_text()


def test_ours_is_fitted_on_what_is_no_test_row_and_a_table_it_refuses_is_named(monkeypatch):
    seen, asked = [], []

    class Fitted:
        def __init__(self, random_state, **parameters):
            assert random_state == 0
            asked.append(parameters)

        def fit(self, X, y):
            if "refused" in X:
                raise InputError("no way")
            seen.append(len(X))
            return self

        def predict(self, X):
            seen.append(len(X))
            return np.zeros(len(X), dtype=np.float32)

    monkeypatch.setattr(standing, "NetFormerRegressor", Fitted)
    table = drawn()
    scores = standing.own_scores([table])
    assert scores[["task_id", "row", "repeat"]].to_numpy().tolist() == [
        ["made-table", row, r] for row in OWN for r in range(2)
    ]
    assert seen == [112, 48] * 6
    assert asked == [OWN[row] for row in OWN for _ in range(2)]
    assert (scores["test_r2"] == -1).all()
    with pytest.raises(InputError, match="made-table: no way"):
        standing.own_scores([replace(table, X=table.X.assign(refused=1))])
