"""Several targets in one network: units, gaps, constants, weights, folders, and what is delivered beside one target."""

import numpy as np
import pandas as pd
import pytest

from netformer import NetFormerRegressor
from netformer.errors import InputError
from netformer.tables.reading import read
from netformer.tables.scaling import principal_targets


def table(n=150, seed=0):
    """A table, and three targets of it: two of a common part, one of its own."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 5))
    common = np.sin(2 * X[:, 0]) + X[:, 1]
    Y = np.stack([common + X[:, 2] ** 2, common - X[:, 3], np.tanh(2 * X[:, 4])], 1)
    return X, Y + 0.2 * rng.normal(size=Y.shape)


def fit(X, Y, **options):
    return NetFormerRegressor(random_state=0, n_samples=6, **options).fit(X, Y)


def r2(Y, predicted):
    return 1 - np.square(Y - predicted).sum(0) / np.square(Y - Y.mean(0)).sum(0)


def test_one_network_answers_about_as_well_as_one_for_each():
    X, Y = table()
    new, truth = table(1000, 1)
    together = r2(truth, fit(X, Y).predict(new))
    alone = [r2(truth[:, [k]], fit(X, Y[:, k]).predict(new)[:, None])[0] for k in range(3)]
    assert (together > np.array(alone) - 0.05).all()
    assert together.min() > 0.7


def test_every_target_has_its_own_units():
    X, Y = table()
    center, scale = np.array([0.0, 1e12, -5.0]), np.array([1e-9, 1e9, 1.0])
    plain, moved = fit(X, Y), fit(X, Y * scale + center)
    for one, other in ((plain.predict(X), moved.predict(X)), (plain.predict_interval(X), moved.predict_interval(X))):
        own = (slice(None), None) if one.ndim == 3 else ()
        np.testing.assert_allclose((other - center[own]) / scale[own], one, atol=1e-3)
    np.testing.assert_allclose(moved.noise_ / scale, plain.noise_, rtol=1e-3)


def test_a_constant_target_among_several_is_answered_and_costs_the_others_nothing():
    X, Y = table()
    with_one = fit(X, np.c_[Y, np.full(len(X), 7.0)])
    assert (with_one.predict(X)[:, 3] == 7.0).all()
    np.testing.assert_allclose(with_one.predict(X)[:, :3], fit(X, Y).predict(X), atol=1e-5)
    low, high = with_one.predict_interval(X)[:, 3].T
    assert (np.abs(high - low) < 1e-6).all()
    nothing = fit(X, np.zeros((len(X), 2)))
    assert not nothing.predict(X).any()


def test_more_targets_than_networks_are_answered():
    X, Y = table()
    many = Y @ np.random.default_rng(0).normal(size=(3, 10))
    assert r2(many, fit(X, many).predict(X)).min() > 0.8
    alone = NetFormerRegressor(random_state=0, n_samples=1).fit(X, many)
    assert alone.predict(X).shape == many.shape


def test_targets_with_gaps_and_text_are_one_line_that_names_which():
    X, Y = table()
    gap = Y.copy()
    gap[4, 1] = np.nan
    with pytest.raises(InputError, match=r"^y1 must be finite, found nan in row 5; drop the rows without a target$"):
        fit(X, gap)
    frame = pd.DataFrame(gap, columns=["a", "b", "c"])
    with pytest.raises(InputError, match=r"^b must be finite, found nan in row 5"):
        fit(pd.DataFrame(X), frame)
    with pytest.raises(InputError, match=r"^c must be numbers, found 'much'; for a target of classes there is"):
        fit(X, frame.assign(b=1.0, c=["much", *"1" * (len(X) - 1)]))
    with pytest.raises(InputError, match="every target must have a name of its own"):
        fit(X, frame.fillna(0.0).set_axis(["a", "b", "a"], axis=1))


def test_weights_are_repetitions():
    X, Y = table(60)
    weight = np.arange(60) % 3
    weighted = NetFormerRegressor(random_state=0, n_samples=3).fit(X, Y, weight)
    repeated = fit(X.repeat(weight, 0), Y.repeat(weight, 0))
    assert weighted.predict(X).shape == repeated.predict(X).shape == (60, 3)
    again = NetFormerRegressor(random_state=0, n_samples=3).fit(X.repeat(weight, 0), Y.repeat(weight, 0))
    np.testing.assert_array_equal(weighted.predict(X), again.predict(X))


def test_what_is_saved_answers_the_same(tmp_path):
    X, Y = table()
    fitted = fit(X, pd.DataFrame(Y, columns=["a", "b", "c"]))
    fitted.save(tmp_path / "nets")
    again = NetFormerRegressor.load(tmp_path / "nets")
    assert [one.name for one in again.network_.reading.targets] == ["a", "b", "c"]
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))
    np.testing.assert_array_equal(again.predict_interval(X), fitted.predict_interval(X))
    np.testing.assert_array_equal(again.noise_, fitted.noise_)
    again.save(tmp_path / "again")
    for path in (tmp_path / "nets").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()
    assert fitted.to_bundle(target=["p", "q", "r"]).target == "p, q, r"
    with pytest.raises(InputError, match="target must be a name for each of 3 targets, got 1"):
        fitted.to_bundle(target="p")


def test_directions_say_most_of_many_targets():
    rng = np.random.default_rng(0)
    t = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 12))
    assert principal_targets(t, 12) is t
    found = principal_targets(t, 5)
    assert found.shape == (200, 2)  # the others are rounding
    np.testing.assert_allclose(found.std(0), 1.0)
    left = t - t.mean(0) - found @ np.linalg.lstsq(found, t - t.mean(0), rcond=None)[0]
    assert np.abs(left).max() < 1e-9
    np.testing.assert_allclose(principal_targets(-t, 5), found, atol=1e-9)  # whatever the signs of the vectors are


def test_a_level_of_many_has_a_mean_of_every_target():
    rng = np.random.default_rng(0)
    level = rng.integers(0, 30, 900)
    effect = rng.normal(size=(30, 2))
    X = pd.DataFrame({"street": [f"s{k}" for k in level], "x": rng.normal(size=900)})
    reading, z, t = read(X, effect[level] + 0.1 * rng.normal(size=(900, 2)))
    means = [name for name in reading.input_names if "mean" in name]
    assert len(means) == 2
    assert t.shape == (900, 2)
    corr = np.corrcoef(z.T, t.T)[: z.shape[1], z.shape[1] :]
    assert (np.abs(corr).max(0) > 0.95).all()
