"""Intervals: they hold as often as they say, widen where the table is noisy, travel with what is saved and exported."""

import math

import numpy as np
import pandas as pd
import pytest
from commands import refused, run
from scipy.stats import norm

from netformer import Bundle, NetFormerRegressor
from netformer.arrays import functions as xp
from netformer.errors import InputError
from netformer.exports.intervals import LEVELS, Intervals, between
from netformer.generation.calibration import _left_out, conformal
from netformer.ridge import along_eigenvectors

F = 4


def noisy(n, seed, deviation, draw_noise=None):
    """y = sin(2 x0) + x1 + noise of a known deviation, which may depend on the row."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-2, 2, (n, F))
    noise = rng.normal(size=n) if draw_noise is None else draw_noise(rng, n)
    return X, np.sin(2 * X[:, 0]) + X[:, 1] + deviation(X) * noise


def uneven(X):
    return 0.15 + 0.5 * np.maximum(X[:, 2], 0)


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.98])
def test_as_many_rows_are_inside_as_promised(coverage):
    held = []
    for seed in range(4):
        X, y = noisy(200, seed, lambda X: 0.5)
        new, truth = noisy(2000, seed + 100, lambda X: 0.5)
        low, high = NetFormerRegressor(random_state=0).fit(X, y).predict_interval(new, coverage).T
        held.append(((low <= truth) & (truth <= high)).mean())
    assert np.mean(held) == pytest.approx(coverage, abs=0.35 * (1 - coverage) + 0.01)


def test_intervals_are_wide_where_the_noise_is():
    X, y = noisy(400, 0, uneven)
    new, truth = noisy(3000, 1, uneven)
    low, high = NetFormerRegressor(random_state=0).fit(X, y).predict_interval(new).T
    width, inside = high - low, (low <= truth) & (truth <= high)
    assert np.corrcoef(width, uneven(new))[0, 1] > 0.8
    thirds = np.array_split(np.argsort(uneven(new)), 3)
    assert width[thirds[2]].mean() > 1.7 * width[thirds[0]].mean()
    assert all(0.82 < inside[part].mean() < 0.97 for part in thirds)
    even = NetFormerRegressor(random_state=0).fit(*noisy(400, 0, lambda X: 0.5)).predict_interval(new)
    assert np.ptp(even, 1).std() / np.ptp(even, 1).mean() < 0.3 * width.std() / width.mean()


def test_quantiles_follow_noise_that_is_not_symmetric():
    def skewed(rng, n):
        return rng.exponential(size=n) - 1

    X, y = noisy(400, 0, lambda X: 0.7, skewed)
    new, truth = noisy(4000, 1, lambda X: 0.7, skewed)
    wanted = [0.05, 0.25, 0.5, 0.75, 0.95]
    fitted = NetFormerRegressor(random_state=0).fit(X, y)
    found = fitted.predict(new, quantiles=wanted)
    assert found.shape == (4000, 5)
    np.testing.assert_allclose((truth[:, None] <= found).mean(0), wanted, atol=0.06)
    low, middle, high = found[:, [0, 2, 4]].T
    assert ((high - middle) > 1.3 * (middle - low)).all()
    np.testing.assert_allclose(fitted.predict_interval(new, 0.9), found[:, [0, 4]])


@pytest.mark.parametrize("slots", [3, 40])
def test_errors_are_those_of_fits_without_the_row_and_its_copies(slots):
    rng = np.random.default_rng(0)
    rows, y, times = rng.normal(size=(15, slots)), rng.normal(size=15), rng.integers(1, 4, 15)
    mass = xp.from_numpy(times).double()
    centred = xp.from_numpy(rows) - mass @ xp.from_numpy(rows) / mass.sum()
    size, basis, rotated = along_eigenvectors(centred * mass.sqrt().unsqueeze(1))
    penalty = 0.7
    error, moment, _ = _left_out(xp.from_numpy(y), size, rotated, rotated.square(), xp.tensor([penalty]), mass)

    def fit(keep):
        design, target = np.repeat(rows[keep], times[keep], 0), np.repeat(y[keep], times[keep])
        middle = design.mean(0)
        z = design - middle
        w = np.linalg.solve(z.T @ z + penalty * np.eye(slots), z.T @ (target - target.mean()))
        return target.mean() - middle @ w, w

    for i in range(15):
        start, w = fit(np.arange(15) != i)
        assert error[i].item() == pytest.approx(y[i] - start - rows[i] @ w)
    np.testing.assert_allclose(basis @ moment, fit(np.arange(15) >= 0)[1], atol=1e-9)


def test_mapie_finds_the_same_errors_and_the_same_jackknife():
    regression = pytest.importorskip("mapie.regression")
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import LeaveOneOut

    rng = np.random.default_rng(1)
    X, y, ones = rng.normal(size=(99, 5)), rng.normal(size=99), xp.ones(99, dtype=xp.float64)
    theirs = regression.CrossConformalRegressor(Ridge(alpha=3.0), 0.9, method="base", cv=LeaveOneOut())
    theirs.fit_conformalize(X, y)
    middle, ends = theirs.predict_interval(X)
    size, _, rotated = along_eigenvectors(xp.from_numpy(X - X.mean(0)))
    error, _, _ = _left_out(xp.from_numpy(y), size, rotated, rotated.square(), xp.tensor([3.0]), ones)
    sizes = np.sort(np.abs(error.numpy()))
    np.testing.assert_allclose(sizes, np.sort(theirs._mapie_regressor.conformity_scores_), atol=1e-9)
    half = between(np.array([0.9]), np.arange(1, 100) / 100, sizes)[0]
    np.testing.assert_allclose(ends[:, 1, 0] - middle, half, atol=1e-9)


@pytest.mark.parametrize("n", [19, 60])
def test_a_new_score_is_below_each_level_as_often_as_it_says(n):
    rng = np.random.default_rng(0)
    for distribution in (norm(0, 1), norm(0, 3)):
        below = np.mean([distribution.cdf(conformal(distribution.rvs(n, rng))) for _ in range(2000)], 0)
        np.testing.assert_allclose(below, LEVELS, atol=0.015)


def test_levels_that_few_rows_do_not_reach_lie_farther_out():
    found = conformal(np.array([-2.0, -1.0, 0.5, 1.0, 3.0]))
    assert (np.diff(found) > 0).all()
    assert found[0] < -2.0
    assert found[-1] > 3.0


def test_between_levels_it_is_linear_in_the_logit_and_beyond_in_proportion():
    levels, scores = np.array([0.2, 0.5, 0.8]), np.array([-1.0, 0.5, 2.0])
    quantiles = np.array([0.05, 0.2, 0.35, 0.8, 0.95])
    logit = np.log(quantiles / (1 - quantiles)) / np.log(4)
    np.testing.assert_allclose(
        between(quantiles, levels, scores), [logit[0], -1.0, 0.5 + 1.5 * logit[2], 2.0, 2 * logit[4]]
    )
    # a last score on the other side of 0 does not turn back
    np.testing.assert_allclose(between(quantiles[:1], levels, scores + 3), [2.0])


def test_weighing_all_rows_twice_promises_nothing_more():
    X, y = noisy(80, 0, lambda X: 1.0)
    once = NetFormerRegressor(random_state=0).fit(X, y).predict_interval(X)
    twice = NetFormerRegressor(random_state=0).fit(X, y, np.full(80, 2.0)).predict_interval(X)
    assert np.ptp(twice, 1).mean() > 0.75 * np.ptp(once, 1).mean()


@pytest.mark.parametrize("rows", [2, 5, 12])
def test_a_handful_of_rows_has_finite_intervals_in_order(rows):
    X, y = noisy(rows, 0, lambda X: 0.5)
    found = NetFormerRegressor(random_state=0).fit(X, y).predict(X, quantiles=[0.001, 0.1, 0.5, 0.9, 0.999])
    assert np.isfinite(found).all()
    assert (np.diff(found) >= 0).all()


def test_where_nothing_can_be_learned_the_interval_is_that_of_the_target():
    rng = np.random.default_rng(0)
    y = rng.normal(7, 3, 400)
    found = NetFormerRegressor(random_state=0).fit(np.ones((400, 2)), y).predict_interval(np.ones((1, 2)))
    np.testing.assert_allclose(found[0], norm(7, 3).ppf([0.05, 0.95]), atol=0.6)
    constant = NetFormerRegressor(random_state=0).fit(rng.normal(size=(30, 2)), np.full(30, 4.0))
    np.testing.assert_array_equal(constant.predict_interval(np.zeros((3, 2))), np.full((3, 2), 4.0))


def test_more_columns_than_a_network_reads():
    rng = np.random.default_rng(0)
    X, new = rng.normal(size=(300, 40)), rng.normal(size=(2000, 40))
    fitted = NetFormerRegressor(random_state=0).fit(X, X @ np.ones(40) + rng.normal(size=300))
    low, high = fitted.predict_interval(new).T
    truth = new @ np.ones(40) + rng.normal(size=2000)
    assert 0.84 < ((low <= truth) & (truth <= high)).mean() < 0.96


def test_several_targets_have_intervals_each():
    X, y = noisy(60, 0, lambda X: 0.5)
    both = NetFormerRegressor(random_state=0, n_samples=3).fit(X, np.c_[y, X[:, 0]])
    assert both.predict(X, quantiles=[0.1, 0.2, 0.9]).shape == (60, 2, 3)
    low, high = both.predict_interval(X, 0.8).transpose(2, 0, 1)
    truth = np.c_[y, X[:, 0]]
    assert ((low <= truth) & (truth <= high)).mean(0).min() > 0.7
    assert np.median(high - low, 0)[0] > 3 * np.median(high - low, 0)[1]  # of its own noise each


BAD_QUANTILES = [[], [0.0, 0.5], [0.5, 1.0], [0.9, 0.1], [0.5, 0.5], [math.nan], ["0.5"], "0.5", [True], None, [[0.1]]]


@pytest.mark.parametrize("coverage", [0, 1, -0.1, 1.5, 90, math.nan, math.inf, "0.9", None, True, [0.9]])
def test_a_coverage_that_is_none_is_one_line(fitted, coverage):
    with pytest.raises(InputError, match=r"^coverage must be a number between 0 and 1, such as 0\.9, got .*$"):
        fitted.predict_interval(np.zeros((1, F)), coverage)


@pytest.mark.parametrize("quantiles", BAD_QUANTILES, ids=str)
def test_quantiles_that_are_none_are_one_line(fitted, quantiles):
    with pytest.raises(
        InputError, match=r"^quantiles must be numbers between 0 and 1, each above the one before, got "
    ):
        fitted.network_.predict_quantiles(np.zeros((1, F)), quantiles)


def test_return_std_goes_without_quantiles(fitted):
    with pytest.raises(InputError, match="return_std or for quantiles, not for both"):
        fitted.predict(np.zeros((1, F)), return_std=True, quantiles=[0.5])


@pytest.fixture(scope="module")
def fitted():
    return NetFormerRegressor(random_state=0, n_samples=3).fit(*noisy(100, 0, uneven))


def test_what_is_saved_answers_the_same_and_holds_no_row(fitted, tmp_path):
    X, _ = noisy(100, 0, uneven)
    fitted.save(tmp_path / "saved")
    again = NetFormerRegressor.load(tmp_path / "saved")
    np.testing.assert_array_equal(again.predict_interval(X), fitted.predict_interval(X))
    written = NetFormerRegressor(random_state=0, n_samples=3, steps=False)
    few, more = (written.fit(*noisy(rows, 0, uneven)).network_.intervals for rows in (100, 300))
    for part in ("output", "bounds", "scores"):  # as many numbers, whatever the table's length
        assert getattr(more, part).shape == getattr(few, part).shape
    assert fitted.network_.intervals.scores.size < len(X)


def test_some_of_the_networks_have_no_intervals(fitted):
    for part in (fitted.networks_, fitted.network_[0]):
        with pytest.raises(InputError, match="they belong to the wide network"):
            part.predict_interval(np.zeros((1, F)))


def test_a_damaged_folder_is_named(fitted, tmp_path):
    good = fitted.network_.intervals
    for table in (good.scores[:, ::-1].copy(), good.scores[:, :3], good.scores * math.nan):
        with pytest.raises(InputError, match="scores of intervals must be"):
            Intervals(good.output, good.bounds, table)
    with pytest.raises(InputError, match="bounds of the scale"):
        Intervals(good.output, good.bounds[:, ::-1] + np.array([1.0, 0.0]), good.scores)
    with pytest.raises(InputError, match="finite weights"):
        Intervals(xp.full_like(good.output, math.inf), good.bounds, good.scores)
    with pytest.raises(InputError, match="of a wide network of"):
        Intervals(good.output[:1], good.bounds, good.scores).scale_of(fitted.network_.wide)


def test_the_command_line_writes_two_more_columns(folder, tmp_path):
    out, nets, rows = tmp_path / "p.csv", folder / "nets", folder / "t.csv"
    said = run("predict", nets, rows, "--out", out, "--interval", 0.8).stdout
    found, table = pd.read_csv(out), pd.read_csv(rows)
    assert list(found) == ["price", "price_low", "price_high"]
    expected = Bundle.load(nets).predict_interval(table, 0.8)
    np.testing.assert_allclose(found[["price_low", "price_high"]], expected)
    inside = ((table["price"] >= expected[:, 0]) & (table["price"] <= expected[:, 1])).mean()
    assert f"{inside:.1%} of them within the interval of 0.8" in said
    for value in ("0", "1", "90", "nan"):
        message = refused("predict", nets, rows, "--out", tmp_path / "q.csv", "--interval", value)
        assert "coverage must be a number between 0 and 1" in message
    options = ("--out", tmp_path / "q.csv", "--interval", 0.8, "--which", "mean")
    assert "only the wide network has intervals" in refused("predict", nets, rows, *options)
    assert not (tmp_path / "q.csv").exists()
