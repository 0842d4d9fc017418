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
from netformer.errors import InputError
from netformer.generation.fitted import repeats

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
    # its scale has no thousandfold, so it alone is squashed (`scaling.LIGHT`)
    np.testing.assert_allclose(spanning, plain, atol=0.03 * y.std())


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


def test_infinite_values_are_refused_and_gaps_are_not(friedman):
    X, y = friedman[0].copy(), friedman[1]
    X[3, 2] = np.inf
    with pytest.raises(ValueError, match="contains infinity"):
        NetFormerRegressor().fit(X, y)
    X[3, 2], X[::5, 2] = 0.5, np.nan
    fitted = NetFormerRegressor(random_state=0).fit(X, y)
    assert fitted.score(X, y) > 0.8
    without = NetFormerRegressor(random_state=0).fit(friedman[0], y)  # a gap at predict alone
    assert np.isfinite(without.predict(X)).all()


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
    same = np.abs(plain.predict(X) - refined.predict(X)).max() < 1e-3  # torch takes the steps, and rounds otherwise
    assert same == (rows < 25)  # too few to hold some back


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
    assert fitted.predict(X[120:] + 3.0, return_std=True)[1].mean() > deviation.mean()  # at the edge of what was seen


def test_booleans_are_numbers():
    frame = pd.DataFrame({"x": np.arange(40.0) % 7, "old": np.arange(40) % 2 == 0})
    assert (
        NetFormerRegressor(random_state=0)
        .fit(frame, frame["x"] + 3.0 * frame["old"])
        .score(frame, frame["x"] + 3.0 * frame["old"])
        > 0.95
    )


def test_several_targets_are_answered_at_once(friedman):
    X, y = friedman
    both = NetFormerRegressor(random_state=0, n_samples=3).fit(X, np.c_[y, X[:, 0]])
    assert both.predict(X).shape == (len(X), 2)
    assert both.score(X, np.c_[y, X[:, 0]]) > 0.9
    assert both.predict(X, return_std=True)[1].shape == (len(X), 2)
    assert len(both.networks_) == 3
    assert both.network_.wide.specs.n_outputs == both.networks_.networks.specs.n_outputs == 2
    for values in (both.noise_, both.target_center_, both.target_scale_):
        assert values.shape == (2,)
    again = NetFormerRegressor(random_state=0, n_samples=3).fit(X[::-1], np.c_[y, X[:, 0]][::-1])
    np.testing.assert_array_equal(again.predict(X), both.predict(X))
    frame = pd.DataFrame({"first": y, "second": X[:, 0]})
    named = NetFormerRegressor(random_state=0, n_samples=3).fit(pd.DataFrame(X), frame)
    np.testing.assert_allclose(named.predict(pd.DataFrame(X))[:, 0], both.predict(X)[:, 0], atol=0.1 * y.std())


def test_weights_are_repetitions(friedman):
    X, y = friedman[0][:100], friedman[1][:100]
    weight = np.arange(100) % 3
    weighted = NetFormerRegressor(random_state=0, n_samples=3).fit(X, y, weight).predict(X)
    repeated = NetFormerRegressor(random_state=0, n_samples=3).fit(X.repeat(weight, 0), y.repeat(weight)).predict(X)
    np.testing.assert_array_equal(weighted, repeated)
    assert repeats(np.full(7, 0.3)).tolist() == [1] * 7
    share = np.random.default_rng(0).random(50)
    counts = repeats(share)
    assert counts.sum() == 50
    assert np.abs(np.cumsum(counts) - np.cumsum(share) / share.sum() * 50).max() <= 0.5 + 1e-9
    assert repeats(np.array([1e6, 1.0, 0.0])).sum() == 3
    with pytest.raises(InputError, match="sample_weight must be above 0 for at least 2 rows, found 1"):
        NetFormerRegressor().fit(X, y, np.arange(100) == 4)


def test_the_order_of_rows_changes_no_digit(friedman):
    X, y = friedman
    order = np.random.default_rng(0).permutation(len(y))
    first, other = (NetFormerRegressor(random_state=0, n_samples=3).fit(X[at], y[at]) for at in (slice(None), order))
    np.testing.assert_array_equal(first.predict(X), other.predict(X))


def test_columns_left_out_stay_known_in_a_folder_and_the_target_keeps_its_name(tmp_path):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"id": range(60), "a": rng.normal(size=60), "town": rng.choice(["Ulm", "Bonn"], 60)})
    fitted = NetFormerRegressor(n_samples=1, random_state=0).fit(table, table["a"].rename("price") ** 2)
    fitted.save(tmp_path / "nets")
    loaded = NetFormerRegressor.load(tmp_path / "nets")
    assert loaded.feature_names_in_.tolist() == fitted.feature_names_in_.tolist() == ["id", "a", "town"]
    assert (loaded.n_features_in_, loaded.network_.target) == (3, "price")
    pd.testing.assert_frame_equal(loaded.columns_, fitted.columns_)
    np.testing.assert_array_equal(loaded.predict(table[["town", "a"]]), fitted.predict(table))
    assert fitted.to_bundle(["x", "z"], "y").columns == ("x", "z")
