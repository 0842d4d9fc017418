"""Scores: no learner sees what it is scored on, numbers are scikit-learn's, errors those of repeated experiments."""

import os
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from commands import dirty_table, small_model
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from sklearn.model_selection import cross_val_predict

import netformer
from netformer.benchmark import beside, scoring
from netformer.benchmark.beside import BESIDE, chosen
from netformer.benchmark.folds import cluster_error, in_folds, in_time, on_test
from netformer.benchmark.scoring import HeldOut, cross_validate, hold_out
from netformer.errors import InputError
from netformer.generation.estimator import NetFormerRegressor

N = 90


@pytest.fixture(scope="module", autouse=True)
def model():
    with small_model():
        yield


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(N, 3)), columns=list("abc"))
    return X, (X["a"] + 0.5 * X["b"] + 0.3 * rng.normal(size=N)).to_numpy()


class Memory(RegressorMixin, BaseEstimator):
    """Knows the target of every row it was fitted on, and answers the mean for others; remembers what it saw."""

    seen: ClassVar[list] = []

    def fit(self, X, y):
        self.known_, self.mean_ = dict(zip(map(tuple, X.to_numpy()), y, strict=True)), float(np.mean(y))
        return self

    def predict(self, X):
        rows = list(map(tuple, X.to_numpy()))
        Memory.seen.append((set(self.known_), set(rows)))
        return np.array([self.known_.get(row, self.mean_) for row in rows])


@pytest.fixture
def memory(monkeypatch):
    Memory.seen = []
    monkeypatch.setitem(BESIDE, "memory", (lambda seed: Memory(), "remembers"))


@pytest.mark.parametrize("way", ["folds", "groups", "time", "test"])
def test_no_row_is_scored_by_what_was_fitted_on_it(table, memory, way):
    """One that knows every fitted row by heart is worth no more than the mean; a leak would make it perfect."""
    X, y = table
    given = {"folds": {}, "groups": {"groups": np.arange(N) % 9}, "time": {"time": np.arange(N)}, "test": {}}[way]
    rows = slice(0, 60) if way == "test" else slice(None)
    given |= {"test": (X[60:], y[60:])} if way == "test" else {}
    found = cross_validate(X[rows], y[rows], beside=["memory", "constant"], **given)
    assert found.loc["memory", "r2"] == pytest.approx(found.loc["constant", "r2"])
    assert found.loc["memory", "r2"] < 0.01
    assert len(Memory.seen) == {"folds": 25, "groups": 25, "time": 5, "test": 1}[way]
    for fitted, held_out in Memory.seen:
        assert not fitted & held_out
        assert len(held_out) > 1
    if way == "folds":
        assert {len(fitted | held_out) for fitted, held_out in Memory.seen} == {N}


def test_ours_is_fitted_without_the_rows_it_is_scored_on(table, monkeypatch):
    X, y = table
    fitted, fit = [], NetFormerRegressor.fit

    def watched(self, X, y, sample_weight=None):
        fitted.append(X["a"].tolist())
        return fit(self, X, y, sample_weight)

    monkeypatch.setattr(NetFormerRegressor, "fit", watched)
    plan = in_folds(np.arange(N), repeats=1, seed=3)
    hold_out(X, y, plan, NetFormerRegressor(n_samples=1, random_state=0), [])
    assert sorted(fitted) == sorted(X["a"][part.fitted].tolist() for part in plan.parts)


def test_scores_do_not_depend_on_the_number_of_cores(table, monkeypatch):
    found = []
    for cores in (1, 5):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        found.append(cross_validate(*table, beside=["ridge", "hgb"], estimator=NetFormerRegressor(n_samples=2)))
    pd.testing.assert_frame_equal(*found, check_exact=True)


def test_an_error_in_one_part_ends_all_of_them(table, monkeypatch):
    """What waits is not begun."""
    begun = []

    def failing(seed):
        begun.append(seed)
        if len(begun) > 1:
            raise RuntimeError("no")
        return beside.constant(seed)

    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.setitem(beside.BESIDE, "ridge", (failing, ""))
    with pytest.raises(RuntimeError, match=r"^no$"):
        cross_validate(*table, beside=["ridge"], estimator=NetFormerRegressor(n_samples=1))
    assert 2 <= len(begun) <= 5, "of ten parts or more: the first, one that fails, and what was begun meanwhile"


def test_pure_noise_is_worth_nothing():
    """Over tables of noise the mean R2 is not above 0, and hardly any table is by more than two errors."""
    above, values = 0, []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        X, y = pd.DataFrame(rng.normal(size=(60, 4))).add_prefix("x"), rng.normal(size=60)
        found = cross_validate(X, y, beside=["ridge", "constant"], repeats=1, estimator=NetFormerRegressor(n_samples=2))
        values.append(found["r2"])
        above += int((found["r2"] > 2 * found["r2_se"]).sum())
        assert found["r2_se"].between(0, 0.5).all()
    assert np.mean(values, 0).max() < 0.02
    assert above <= 1


def test_scores_are_scikit_learns_on_the_same_rows(table):
    X, y = table
    plan = in_folds(np.arange(N), repeats=1)
    (found,) = hold_out(X, y, plan, NetFormerRegressor(n_samples=2, random_state=0), ["ridge"])
    parts = [(part.fitted, part.held_out) for part in plan.parts]
    for name, learner in (("ridge", beside.ridge()), ("wide", NetFormerRegressor(n_samples=2, random_state=0))):
        predicted = cross_val_predict(learner, X, y, cv=parts)
        np.testing.assert_allclose(found.predicted[name][0], predicted)
        row = found.table().loc[name]
        assert row["r2"] == pytest.approx(r2_score(y, predicted))
        assert row["mae"] == pytest.approx(mean_absolute_error(y, predicted))
        assert row["rmse"] == pytest.approx(root_mean_squared_error(y, predicted))
    assert list(found.table().index) == sorted(found.table().index, key=lambda name: found.table().loc[name, "rmse"])


def made(y, clusters=None, **predicted):
    one = {name: np.atleast_2d(values) for name, values in predicted.items()}
    clusters = np.arange(len(y)) if clusters is None else clusters
    return HeldOut(y, one, {}, np.arange(len(y)), clusters, "")


def test_errors_are_the_deviation_over_repeated_experiments():
    rng = np.random.default_rng(1)
    tables = []
    for _ in range(400):
        y = rng.normal(size=150)
        tables.append(made(y, wide=y + rng.normal(size=150), ridge=0.5 * y + 0.8 * rng.normal(size=150)).table())
    for name in ("wide", "ridge"):
        each = pd.DataFrame([one.loc[name].drop("standing").astype(float) for one in tables])
        for score in ("r2", "mae", "rmse", *(["r2_minus"] if name == "ridge" else [])):
            assert each[f"{score}_se"].mean() == pytest.approx(each[score].std(), rel=0.15), (name, score)


def test_a_difference_is_paired_and_level_below_two_errors():
    """Two learners with the same large errors: their scores are uncertain, their difference is not."""
    rng = np.random.default_rng(2)
    y, noise = rng.normal(size=200), rng.normal(size=200)
    found = made(y, wide=y + noise, same=y + noise, worse=y + 1.1 * noise, wild=y - noise).table()
    assert found.loc["worse", "r2_minus"] == pytest.approx(found.loc["wide", "r2"] - found.loc["worse", "r2"])
    assert found.loc["worse", "r2_minus_se"] < found.loc["worse", "r2_se"] / 2
    assert found["standing"].to_dict() == {"wide": "", "same": "level", "worse": "ahead", "wild": "level"}
    assert made(y, wide=y + 1.1 * noise, better=y + noise).table().loc["better", "standing"] == "behind"


def test_rows_that_depend_on_each_other_count_once():
    """Every row ten times is no more knowledge: the error stays, where it would fall to a third."""
    rng = np.random.default_rng(3)
    y, answer = rng.normal(size=(2, 80))
    once, label = made(y, wide=answer).table(), np.repeat(np.arange(80), 10)
    often = made(np.repeat(y, 10), label, wide=np.repeat(answer, 10)).table()
    columns = ["r2", "r2_se", "mae", "mae_se", "rmse", "rmse_se"]
    np.testing.assert_allclose(often[columns].astype(float), once[columns].astype(float))
    values = rng.normal(size=40)
    assert cluster_error(values, np.arange(40)) == pytest.approx(values.std(ddof=1) / 40**0.5)
    assert np.isnan(cluster_error(values, np.zeros(40)))


def test_a_target_that_does_not_vary_has_no_r2_and_no_standing_and_size_is_no_matter():
    y = np.full(9, 4.0)
    found = made(y, wide=y + 1, ridge=y - 2).table()
    assert found["r2"].isna().all()
    assert found["standing"].tolist() == ["", ""]
    assert found.loc["ridge", "mae"] == pytest.approx(2)
    y, answer = np.random.default_rng(4).normal(size=(2, 30))
    small, large = (made(y * size, wide=answer * size).table().loc["wide"] for size in (1.0, 1e200))
    assert large["r2"] == pytest.approx(small["r2"])
    assert large["rmse_se"] == pytest.approx(1e200 * small["rmse_se"])
    assert made(y, wide=y).table().loc["wide", "rmse_se"] == 0


def test_coverage_counts_rows_inside_their_interval():
    y = np.arange(10.0)
    ends = np.stack([y - 1, np.where(y < 7, y + 1, y - 0.5)], 1)[None]
    found = replace(made(y, wide=y), ends={0.8: ends}).coverage().loc[0.8]
    assert found["within"] == 0.7
    assert found["within_se"] == pytest.approx(np.std(y < 7, ddof=1) / 10**0.5)
    assert found["width"] == 2.0


def test_intervals_held_out_are_those_of_the_fitted_part(table):
    X, y = table
    plan = in_folds(np.arange(N), repeats=1)
    estimator = NetFormerRegressor(n_samples=2, random_state=0)
    (found,) = hold_out(X, y, plan, estimator, [])
    part = plan.parts[2]
    own = estimator.fit(X.iloc[part.fitted], y[part.fitted])
    for coverage in scoring.COVERAGES:
        np.testing.assert_allclose(
            found.ends[coverage][0][part.held_out], own.predict_interval(X.iloc[part.held_out], coverage)
        )


def test_the_single_network_is_chosen_by_what_it_was_fitted_on(table):
    X, y = table
    plan = on_test(60, 30, "t")
    (found,) = hold_out(X, y, plan, NetFormerRegressor(n_samples=4, random_state=0), [])
    own = NetFormerRegressor(n_samples=4, random_state=0).fit(X[:60], y[:60]).network_
    np.testing.assert_allclose(found.predicted["single"][0], own.predict(X[60:], int(own.expected_r2.argmax())))


def test_an_error_of_folds_is_widened_and_one_of_new_rows_is_not(table):
    X, y = table
    assert in_folds(np.arange(N)).widen == 1.5
    assert in_folds(np.arange(N), folds=2).widen == 3**0.5
    assert (in_time(np.arange(90.0)).widen, on_test(4, 2, "t").widen) == (1, 1)
    (found,) = hold_out(X, y, in_folds(np.arange(N), repeats=1), NetFormerRegressor(n_samples=1), ["ridge"])
    narrow = replace(found, widen=1.0).table()
    assert found.table().loc["ridge", "mae_se"] == pytest.approx(1.5 * narrow.loc["ridge", "mae_se"])


def test_copies_do_not_make_a_score(memory):
    rng = np.random.default_rng(6)
    X, y = pd.DataFrame(rng.normal(size=(40, 2))).add_prefix("x"), rng.normal(size=40)
    twice = pd.concat([X, X], ignore_index=True), np.concatenate([y, y])
    assert cross_validate(*twice, beside=["memory"]).loc["memory", "r2"] < 0.01


def test_what_cannot_be_held_out_is_refused(table):
    X, y = table
    for call, message in (
        (lambda: cross_validate(X, y, groups=y, time=y), "groups, time and test exclude each other"),
        (lambda: cross_validate(X, y, test=(X[["a"]], y)), "test must have the columns of X, it lacks 'b', 'c'"),
        (lambda: cross_validate(X, y, beside=["svm"]), "must be of ridge, hgb, catboost, constant, got 'svm'"),
        (lambda: cross_validate(X, y, groups=[1, 2]), "inconsistent numbers of samples"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


# Learners beside ours


def test_catboost_is_there_where_it_is_installed(monkeypatch):
    assert chosen(None) == ["ridge", "hgb", "catboost", "constant"]
    assert chosen(["constant", "ridge", "ridge"]) == ["ridge", "constant"]
    assert chosen([]) == []
    monkeypatch.setattr(beside, "find_spec", lambda name: None)
    assert chosen(None) == ["ridge", "hgb", "constant"]
    with pytest.raises(InputError, match="catboost is not installed; pip install catboost"):
        chosen(["catboost"])


@pytest.mark.parametrize("name", list(BESIDE))
@pytest.mark.filterwarnings("ignore:Found unknown categories")
def test_the_learners_take_any_table(name):
    """Levels not seen before, gaps at prediction only, a column without a value: numbers all the same, twice alike."""
    table, y = dirty_table(200).drop(columns=["rent", "area"]).assign(none=np.nan), np.arange(200) % 7.0
    train, test = table[:150], table[150:].assign(built=np.nan, heat="new", town="new", share=None)
    fitted = BESIDE[name][0](0).fit(train, y[:150])
    assert np.isfinite(fitted.predict(test)).all()
    np.testing.assert_array_equal(BESIDE[name][0](0).fit(train, y[:150]).predict(test), fitted.predict(test))


@pytest.mark.parametrize("name", ["hgb", "catboost"])
def test_boosting_takes_categories_as_they_are(name):
    """Levels in an order that means nothing: told apart, which a number per level would make many cuts for."""
    rng = np.random.default_rng(7)
    level = rng.integers(12, size=400)
    X = pd.DataFrame({"town": [f"t{one}" for one in level], "x": rng.normal(size=400)})
    y = np.where(level % 2, 3.0, 0.0) + 0.1 * rng.normal(size=400)
    learner = BESIDE[name][0](0).fit(X[:300], y[:300])
    inner = learner[-1].learner_
    native = inner.get_cat_feature_indices() if name == "catboost" else np.flatnonzero(inner.is_categorical_)
    assert list(native) == [0]
    assert learner.score(X[300:], y[300:]) > 0.95


def test_many_levels_are_target_means_for_histogram_boosting():
    rng = np.random.default_rng(8)
    level = rng.integers(300, size=3000)
    X = pd.DataFrame({"who": [f"w{one}" for one in level]})
    y = rng.normal(size=300)[level] + 0.1 * rng.normal(size=3000)
    learner = BESIDE["hgb"][0](0).fit(X[:2400], y[:2400])
    assert learner[-1].many_ == ["who"]
    assert learner.score(X[2400:], y[2400:]) > 0.7


def test_rows_of_which_nothing_can_be_learned_are_answered_by_their_mean():
    """Levels apart in time: the first part fits on rows of one level, and no column is left."""
    X = pd.DataFrame({"a": ["x"] * 40 + ["y"] * 20})
    y = np.arange(60.0)
    (found,) = hold_out(X, y, in_time(np.arange(60.0)), NetFormerRegressor(n_samples=1, random_state=0), ["ridge"])
    first = found.rows < 44
    for name in ("wide", "single", "ridge"):
        np.testing.assert_allclose(found.predicted[name][0][first], np.arange(40.0).mean())
    (constant,) = hold_out(X, np.where(y < 45, 1.0, y), in_time(y), NetFormerRegressor(n_samples=1), list(chosen(None)))
    assert all(np.isfinite(one).all() for one in constant.predicted.values())


def test_any_table_any_kind(table):
    X, y = table
    frame = dirty_table(120)
    found = netformer.cross_validate(
        frame.drop(columns=["rent", "cents", "id"]), np.arange(120) % 11, beside=["hgb"], repeats=1
    )
    assert set(found.index) == {"wide", "single", "hgb"}
    same = [cross_validate(one, y, beside=[], repeats=1) for one in (X, X.to_numpy())]
    assert same[0].loc["wide", "r2"] == pytest.approx(same[1].loc["wide", "r2"], abs=0.02)
    pd.testing.assert_frame_equal(same[0], cross_validate(X, y, beside=[], repeats=1))
    own = NetFormerRegressor(n_samples=1, random_state=3)
    assert cross_validate(X, y, estimator=own, beside=[], folds=3).loc["wide", "r2"] != same[0].loc["wide", "r2"]
