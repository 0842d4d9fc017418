"""NetFormerRegressor with the package's weights: scikit-learn's own checks, and tables nobody prepared."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_diabetes, make_friedman1
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import cross_val_score

from netformer import NetFormerRegressor

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def friedman():
    return make_friedman1(240, n_features=8, noise=1.0, random_state=0)


CHECKS = """
import json, warnings

from sklearn.exceptions import SkipTestWarning
from sklearn.utils.estimator_checks import check_estimator

from netformer import NetFormerRegressor

warnings.simplefilter("error", SkipTestWarning)
results = check_estimator(NetFormerRegressor(), on_fail=None)
print(json.dumps([(r["check_name"], r["status"], str(r["exception"])) for r in results]))
"""


def test_scikit_learns_checks_pass_and_none_is_skipped():
    """In a process of their own: scipy reads SCIPY_ARRAY_API, without which a check is skipped, when it is imported."""
    env = os.environ | {"SCIPY_ARRAY_API": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", CHECKS]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert [result for result in results if result[1] != "passed"] == []
    assert len(results) > 50
    assert "check_array_api_input" in {name for name, _, _ in results}


def test_it_beats_ridge_where_ridge_cannot_do(friedman):
    X, y = friedman
    ours = cross_val_score(NetFormerRegressor(random_state=0), X, y, cv=3).mean()
    assert ours > cross_val_score(RidgeCV(np.logspace(-3, 3, 13)), X, y, cv=3).mean() + 0.05


def test_it_is_no_worse_than_ridge_on_a_small_linear_table():
    X, y = load_diabetes(return_X_y=True)
    ours = cross_val_score(NetFormerRegressor(random_state=0), X, y, cv=5).mean()
    assert ours > cross_val_score(RidgeCV(np.logspace(-3, 3, 13)), X, y, cv=5).mean() - 0.02


def test_a_wide_table_is_read_in_several_views_and_every_column_counts():
    """The signal sits in columns that no view of the 16 most correlated ones could all hold."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 40))
    y = X @ np.linspace(1.0, 0.5, 40)
    assert NetFormerRegressor(random_state=0).fit(X[:300], y[:300]).score(X[300:], y[300:]) > 0.98


def test_many_rows_are_handled():
    X, y = make_friedman1(6000, noise=1.0, random_state=0)
    assert NetFormerRegressor(n_samples=4, random_state=0).fit(X[:5000], y[:5000]).score(X[5000:], y[5000:]) > 0.8


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e30])
def test_units_do_not_matter(friedman, scale):
    X, y = friedman
    plain = NetFormerRegressor(random_state=0).fit(X, y)
    scaled = NetFormerRegressor(random_state=0).fit(X * scale, y * scale)
    np.testing.assert_allclose(scaled.predict(X * scale) / scale, plain.predict(X), rtol=1e-3, atol=1e-3 * y.std())


@pytest.mark.filterwarnings("ignore:invalid value encountered in reduce")  # of scikit-learn's check
def test_a_column_may_span_more_than_a_float_holds(friedman):
    X, y = friedman
    wide = X - X.mean(0)
    wide[:, 0] = wide[:, 0] / np.abs(wide[:, 0]).max() * 1.7e308
    assert wide[:, 0].max() / 2 - wide[:, 0].min() / 2 > 0.9e308
    plain = NetFormerRegressor(n_samples=3, random_state=0).fit(X, y).predict(X)
    spanning = NetFormerRegressor(n_samples=3, random_state=0).fit(wide, y).predict(wide)
    np.testing.assert_allclose(spanning, plain, atol=1e-3 * y.std())


def test_constant_columns_duplicates_and_lone_columns_give_finite_answers(friedman):
    X, y = friedman
    for table in (X[:, :1], np.c_[X, X, np.ones(len(X))], np.c_[X, np.full(len(X), 1e20)]):
        predicted = NetFormerRegressor(n_samples=3, random_state=0).fit(table, y).predict(table)
        assert np.isfinite(predicted).all()
    far = NetFormerRegressor(n_samples=3, random_state=0).fit(X, y).predict(np.full((1, X.shape[1]), 1e300))
    assert np.isfinite(far).all()


@pytest.mark.parametrize("y", [np.full(30, 2.5), np.full(30, 1e30)])
def test_a_constant_target_is_answered_with_itself(y):
    X = np.random.default_rng(0).normal(size=(30, 3))
    np.testing.assert_allclose(NetFormerRegressor().fit(X, y).predict(X), y)


def test_constant_columns_alone_are_answered_with_the_mean():
    y = np.arange(10.0)
    np.testing.assert_allclose(NetFormerRegressor().fit(np.ones((10, 2)), y).predict(np.ones((3, 2))), 4.5)


def test_two_rows_are_enough_and_one_is_refused():
    X = np.array([[0.0], [1.0]])
    predicted = NetFormerRegressor(random_state=0).fit(X, [0.0, 1.0]).predict(X)
    assert predicted[0] < predicted[1]
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        NetFormerRegressor().fit(X[:1], [0.0])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_missing_and_infinite_values_are_refused(friedman, bad):
    X, y = friedman[0].copy(), friedman[1]
    X[3, 2] = bad
    with pytest.raises(ValueError, match="contains"):
        NetFormerRegressor().fit(X, y)


@pytest.mark.parametrize(
    ("name", "value"), [("n_samples", 0), ("n_samples", True), ("refine_steps", -1), ("refine_steps", 2.5)]
)
def test_bad_parameters_are_named(friedman, name, value):
    with pytest.raises(ValueError, match=f"{name} must be a whole number of at least .*, got {value}"):
        NetFormerRegressor().set_params(**{name: value}).fit(*friedman)


def test_the_same_seed_gives_the_same_answer_and_another_one_does_not(friedman):
    X, y = friedman
    first, again, other = (NetFormerRegressor(random_state=s).fit(X, y).predict(X) for s in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_refined_networks_fit_the_table_better(friedman):
    X, y = friedman
    plain, refined = (NetFormerRegressor(refine_steps=k, random_state=0).fit(X, y) for k in (0, 15))
    assert refined.score(X, y) > plain.score(X, y)


@pytest.mark.parametrize("rows", [2, 4, 10, 30])
def test_few_rows_and_a_constant_column_can_be_refined(rows):
    rng = np.random.default_rng(0)
    X, y = np.column_stack([rng.normal(size=(rows, 3)), np.ones(rows)]), rng.normal(size=rows)
    plain, refined = (NetFormerRegressor(refine_steps=k, n_samples=4, random_state=0).fit(X, y) for k in (0, 3))
    assert np.isfinite(refined.predict(X)).all()
    assert np.array_equal(plain.predict(X), refined.predict(X)) == (rows < 25)  # too few to hold some back


def test_written_networks_and_the_wide_one_can_be_looked_at(friedman):
    X, y = friedman
    fitted = NetFormerRegressor(n_samples=5, random_state=0).fit(X, y)
    assert fitted.networks_.predict(X).shape == (5, len(X))
    np.testing.assert_array_equal(fitted.network_.predict(X), fitted.predict(X))
    residual = np.sqrt(np.square(fitted.predict(X) - y).mean())
    assert fitted.noise_ == pytest.approx(residual)


def test_the_deviation_covers_what_it_says_and_grows_away_from_the_rows(friedman):
    X, y = friedman
    fitted = NetFormerRegressor(random_state=0).fit(X[:120], y[:120])
    predicted, deviation = fitted.predict(X[120:], return_std=True)
    np.testing.assert_array_equal(predicted, fitted.predict(X[120:]))
    inside = np.abs(predicted - y[120:]) < 1.645 * deviation
    assert 0.75 < inside.mean() <= 1.0
    assert (deviation >= fitted.noise_).all()
    assert fitted.predict(X[120:] + 3.0, return_std=True)[1].mean() > 1.5 * deviation.mean()


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (["Rome", "Oslo"] * 20, r"got city \((object|str|string)\); encode them"),
        (pd.Categorical(["a", "b"] * 20), r"got city \(category\); encode them"),
        (pd.date_range("2026-01-01", periods=40), r"got city \(datetime64.*\); encode them"),
        ([1.0, None] * 20, r"missing value \(NaN\), city do"),
    ],
)
def test_columns_that_cannot_be_read_are_named(column, message):
    frame = pd.DataFrame({"x": np.arange(40.0), "city": column})
    with pytest.raises(ValueError, match=message):
        NetFormerRegressor().fit(frame, np.arange(40.0))


def test_booleans_are_numbers_and_several_targets_are_not():
    frame = pd.DataFrame({"x": np.arange(40.0) % 7, "old": np.arange(40) % 2 == 0})
    assert (
        NetFormerRegressor(random_state=0)
        .fit(frame, frame["x"] + 3.0 * frame["old"])
        .score(frame, frame["x"] + 3.0 * frame["old"])
        > 0.95
    )
    with pytest.raises(ValueError, match=r"y must be one target, got .40, 2.; see sklearn.multioutput"):
        NetFormerRegressor().fit(frame, np.zeros((40, 2)))
