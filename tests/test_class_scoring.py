"""Scores of classes on rows held out: no learner sees them, numbers are scikit-learn's, errors those of experiments."""

import numpy as np
import pandas as pd
import pytest
from commands import dirty_table, small_model
from sklearn.datasets import load_iris
from sklearn.model_selection import cross_val_predict

from netformer import NetFormerClassifier, NetFormerRegressor, cross_validate
from netformer.benchmark import beside
from netformer.benchmark.beside import BESIDE_CLASSES, chosen
from netformer.benchmark.class_scores import calibration_error, class_scores
from netformer.benchmark.folds import in_folds, in_time
from netformer.benchmark.held_out import ERRORS, HeldOutClasses
from netformer.benchmark.scoring import hold_out_classes
from netformer.errors import InputError

N = 90


@pytest.fixture(scope="module", autouse=True)
def model():
    with small_model():
        yield


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(N, 3)), columns=list("abc"))
    score = X["a"] + 0.5 * X["b"] + 0.5 * rng.normal(size=N)
    return X, np.digitize(score, [-0.5, 0.7])


def small(**options):
    return NetFormerClassifier(**({"n_samples": 2, "random_state": 0} | options))


# Folds


def test_folds_have_the_same_shares_of_classes_and_copies_stay_together():
    y = np.repeat([0, 1, 2, 3], [70, 20, 7, 3])
    plan = in_folds(np.arange(100), classes=y, repeats=3, seed=1)
    for part in plan.parts:
        held = np.bincount(y[part.held_out], minlength=4)
        assert (np.abs(held - np.bincount(y) / 5) < 1).all()
    assert "stratified by class" in plan.how
    drawn = [tuple(part.held_out) for part in plan.parts]
    assert len(set(drawn)) == 15
    groups = np.arange(100) % 25
    for part in in_folds(groups, classes=y, repeats=1, of="site").parts:
        assert not set(groups[part.fitted]) & set(groups[part.held_out])
    mixed = [np.bincount(y[part.held_out], minlength=4) for part in in_folds(groups, classes=y, repeats=1).parts]
    assert np.ptp([held[0] for held in mixed]) <= 3


# Scores


def test_no_row_is_scored_by_what_was_fitted_on_it(table, monkeypatch):
    X, y = table
    seen, fit = [], NetFormerClassifier.fit

    def watched(self, X, y, sample_weight=None):
        seen.append((X["a"].tolist(), list(y)))
        return fit(self, X, y, sample_weight)

    monkeypatch.setattr(NetFormerClassifier, "fit", watched)
    plan = in_folds(np.arange(N), classes=y, repeats=1, seed=3)
    labels = ("low", "middle", "top")
    hold_out_classes(X, y, plan, small(), [], labels)
    assert sorted(one[0] for one in seen) == sorted(X["a"][part.fitted].tolist() for part in plan.parts)  # in threads
    assert seen[0][1] == [labels[code] for code in y[plan.parts[0].fitted]]


@pytest.mark.parametrize("k", [2, 3])
def test_scores_are_those_of_the_same_predictions(table, k):
    X, y = table[0], np.minimum(table[1], k - 1)
    plan = in_folds(np.arange(N), classes=y, repeats=1)
    found = hold_out_classes(X, y, plan, small(), ["logistic", "constant"], tuple(range(k)))
    parts = [(part.fitted, part.held_out) for part in plan.parts]
    own = cross_val_predict(small(), X, y, cv=parts, method="predict_proba")
    np.testing.assert_allclose(found.predicted["wide"][0], own)
    for name, answers in found.predicted.items():
        expected = class_scores(y, answers[0])
        assert found.table().loc[name, list(ERRORS)].to_dict() == pytest.approx({one: expected[one] for one in ERRORS})
    assert list(found.table().index) == list(found.table()["log_loss"].sort_values().index)
    counts = found.confusion()
    assert counts.sum() == N
    assert np.diag(counts).sum() == pytest.approx(N * found.table().loc["wide", "accuracy"])
    assert counts[0, 1] == ((y == 0) & (own.argmax(1) == 1)).sum()


def made(y, clusters=None, **predicted):
    clusters = np.arange(len(y)) if clusters is None else clusters
    classes = tuple(range(next(iter(predicted.values())).shape[-1]))
    every = {name: p if p.ndim == 3 else p[None] for name, p in predicted.items()}
    return HeldOutClasses(y, every, classes, np.arange(len(y)), clusters, "")


def drawn(rng, rows, k, noise):
    """Classes drawn from probabilities, and forecasts that are off by some noise in the logits."""
    logits = 1.5 * rng.normal(size=(rows, k))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    y = (p.cumsum(1) < rng.random((rows, 1))).sum(1).clip(max=k - 1)
    off = np.exp(logits + noise * rng.normal(size=(rows, k)))
    return y, p, off / off.sum(1, keepdims=True)


@pytest.mark.parametrize("k", [2, 4])
def test_errors_are_the_deviation_over_repeated_experiments(k):
    rng = np.random.default_rng(1)
    tables = []
    for _ in range(150):
        y, p, off = drawn(rng, 200, k, 1.0)
        tables.append(made(y, wide=p, off=off).table())
    for name in ("wide", "off"):
        each = pd.DataFrame([one.loc[name].drop("standing").astype(float) for one in tables])
        for score in ("log_loss", "accuracy", "auc", "brier", *(["log_loss_minus"] if name == "off" else [])):
            assert each[f"{score}_se"].mean() == pytest.approx(each[score].std(), rel=0.2), (name, score)
    y, p, _ = drawn(rng, 4000, k, 0.0)
    large = made(y, wide=p).table().loc["wide"]
    assert large["calibration_error_se"] == pytest.approx(large["accuracy_se"], rel=0.3)


def test_a_difference_is_paired_and_a_lower_log_loss_is_ahead():
    rng = np.random.default_rng(3)
    y, p, off = drawn(rng, 400, 3, 1.0)
    found = made(y, wide=p, same=p, worse=off).table()
    assert found["standing"].to_dict() == {"wide": "", "same": "level", "worse": "ahead"}
    assert found.loc["worse", "log_loss_minus"] == pytest.approx(
        found.loc["wide", "log_loss"] - found.loc["worse", "log_loss"]
    )
    assert found.loc["worse", "log_loss_minus_se"] < found.loc["worse", "log_loss_se"]
    assert made(y, wide=off, better=p).table().loc["better", "standing"] == "behind"
    assert next(iter(made(y, wide=off, better=p).table().index)) == "better"


def test_repeats_are_means_and_their_calibration_error_is_of_all_together():
    y, p, off = drawn(np.random.default_rng(4), 150, 3, 0.5)
    both = made(y, wide=np.stack([p, off])).table().loc["wide"]
    one, two = class_scores(y, p), class_scores(y, off)
    for score in ("log_loss", "accuracy", "auc", "brier"):
        assert both[score] == pytest.approx((one[score] + two[score]) / 2)
    assert both["calibration_error"] == pytest.approx(calibration_error([(y, p), (y, off)]))


def test_rows_that_depend_on_each_other_count_once():
    y, p, _ = drawn(np.random.default_rng(5), 80, 3, 0.0)
    once, often = (
        made(y, wide=p).table(),
        made(np.repeat(y, 10), np.repeat(np.arange(80), 10), wide=np.repeat(p, 10, 0)),
    )
    columns = [*ERRORS, *(f"{one}_se" for one in ERRORS)]
    np.testing.assert_allclose(often.table()[columns].astype(float), once[columns].astype(float))


def test_rows_of_one_class_have_no_area():
    p = np.full((9, 2), 0.5)
    found = made(np.zeros(9, int), wide=p).table().loc["wide"]
    assert np.isnan(found["auc"])
    assert found["log_loss"] == pytest.approx(np.log(2))


# Learners


def test_the_learners_of_classes_are_those_that_are_installed(monkeypatch):
    assert chosen(None, BESIDE_CLASSES) == ["logistic", "hgb", "catboost", "constant"]
    monkeypatch.setattr(beside, "find_spec", lambda name: None)
    assert chosen(None, BESIDE_CLASSES) == ["logistic", "hgb", "constant"]
    with pytest.raises(InputError, match="must be of logistic, hgb, catboost, constant, got 'ridge'"):
        chosen(["ridge"], BESIDE_CLASSES)


@pytest.mark.parametrize("name", list(BESIDE_CLASSES))
@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.filterwarnings("ignore:Found unknown categories")
@pytest.mark.filterwarnings("ignore:The least populated class")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning", "ignore:One or more of the test scores")
def test_the_learners_take_any_table_and_a_class_of_one_row(name, k):
    frame, y = dirty_table(80).drop(columns=["rent", "area"]), np.arange(80) % k
    y[(y == k - 1) & (np.arange(80) != 7)] = 0
    train, test = frame[:60], frame[60:].assign(built=np.nan, heat="new", town="new", share=None)
    fitted = BESIDE_CLASSES[name][0](0).fit(train, y[:60])
    p = fitted.predict_proba(test)
    assert list(fitted.classes_) == sorted(set(y))
    np.testing.assert_allclose(p.sum(1), 1)
    np.testing.assert_array_equal(BESIDE_CLASSES[name][0](0).fit(train, y[:60]).predict_proba(test), p)


def test_many_levels_are_shares_of_classes_for_histogram_boosting():
    rng = np.random.default_rng(8)
    level = rng.integers(300, size=3000)
    X = pd.DataFrame({"who": [f"w{one}" for one in level], "x": rng.normal(size=3000)})
    y = rng.integers(3, size=300)[level]
    learner = BESIDE_CLASSES["hgb"][0](0).fit(X[:2400], y[:2400])
    assert learner[-1].many_ == ["who"]
    assert (learner.predict_proba(X[2400:]).argmax(1) == y[2400:]).mean() > 0.9


# cross_validate


def test_the_target_or_the_estimator_says_whether_there_are_classes(table):
    X, y = table
    some = {"beside": ["constant"], "repeats": 1, "folds": 2}
    by_text = cross_validate(X, np.array(["p", "q", "r"], dtype=object)[y], **some)
    assert list(by_text.columns[:2]) == ["log_loss", "log_loss_se"]
    by_codes = cross_validate(X, y, **some)
    pd.testing.assert_frame_equal(by_text, by_codes)  # labels are names
    pd.testing.assert_frame_equal(by_codes, cross_validate(X, list(y), **some))
    numbers = cross_validate(X, y, estimator=NetFormerRegressor(n_samples=1, random_state=0), beside=[], repeats=1)
    assert "r2" in numbers
    wide = cross_validate(X, 3 * y + 5, estimator=small(), beside=[], repeats=1)
    assert "log_loss" in wide


def test_groups_time_and_a_test_of_classes(table):
    X, y = table
    names = np.array(["p", "q", "r"], dtype=object)[y]
    for given in ({"groups": np.arange(N) % 9, "repeats": 1}, {"time": np.arange(N)}):
        found = cross_validate(X, names, estimator=small(), beside=["constant"], **given)
        assert found["log_loss"].between(0, 14).all()
    found = cross_validate(X[:60], names[:60], estimator=small(), beside=["constant"], test=(X[60:], names[60:]))
    own = small().fit(X[:60], names[:60]).predict_proba(X[60:])
    assert found.loc["wide", "log_loss"] == pytest.approx(class_scores(y[60:], own)["log_loss"])
    unknown = names[60:].copy()
    unknown[0] = "new"
    assert (
        cross_validate(X[:60], names[:60], estimator=small(), beside=[], test=(X[60:], unknown))["log_loss"].iloc[0]
        > 0.2
    )


def test_a_class_that_is_rare_among_the_rows_fitted_is_no_end():
    """Of 2 rows one is fitted in some folds; later rows may have a class that was never seen; or all were of one."""
    rng = np.random.default_rng(0)
    X, y = pd.DataFrame(rng.normal(size=(40, 2))).add_prefix("x"), np.arange(40) % 2
    y[[3, 30]] = 2
    found = cross_validate(X, y, estimator=small(), repeats=1, beside=["logistic", "constant"])
    assert np.isfinite(found["log_loss"]).all()
    y = np.repeat([0, 1, 2], [30, 5, 5])
    late = hold_out_classes(X, y, in_time(np.arange(40.0)), small(), ["logistic", "constant"], (0, 1, 2))
    first = late.rows < 29
    for name in ("wide", "logistic", "constant"):
        np.testing.assert_array_equal(late.predicted[name][0][first], [[1.0, 0.0, 0.0]] * first.sum())


def test_what_cannot_be_scored_is_refused(table):
    X, y = table
    gap = pd.Series(y, dtype="Int64")
    gap[5] = pd.NA
    for call, message in (
        (lambda: cross_validate(X, ["a"] * N), "must vary, found one class, 'a' in all rows"),
        (lambda: cross_validate(X, ["a"] + ["b", "c"] * 44 + ["b"]), "'a' of target 'y' stands in row 1 alone"),
        (lambda: cross_validate(X, gap), "y must hold a label in every row, found a gap in row 6"),
        (lambda: cross_validate(X, y, beside=["ridge"]), "must be of logistic, hgb, catboost, constant, got 'ridge'"),
        (lambda: cross_validate(X, y / 2, estimator=small()), "looks like a number, found 0.5"),
        (lambda: cross_validate(X, [f"row {i}" for i in range(N)]), "too many for classes"),
    ):
        with pytest.raises(InputError, match=message):
            call()


def test_iris_is_told_apart():
    X, y = load_iris(return_X_y=True, as_frame=True)
    found = cross_validate(
        X, y, estimator=NetFormerClassifier(n_samples=4, random_state=0), beside=["constant"], repeats=1
    )
    assert found.loc["wide", "accuracy"] > 0.9
    assert found.loc["constant", "standing"] == "ahead"
