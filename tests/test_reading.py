"""How a table is read: far from zero, in any unit, and the columns that say nothing."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_diabetes
from sklearn.metrics import r2_score

from netformer import NetFormer, NetFormerRegressor
from netformer.errors import InputError
from netformer.networks.stack import constant_network
from netformer.tables.columns import Column
from netformer.tables.inputs import Input
from netformer.tables.reading import CUT, Reading, read
from netformer.tables.scaling import SQUASH, Target, squash

GRID = 2.0**-20  # deviations: multiples of it stay exact 1e8 deviations away from 0
FAR, SMALL, LARGE = 2.0**27, 2.0**-40, 2.0**40  # 1.3e8 deviations, units of 9e-13 and 1.1e12


def gridded(values):
    return np.round((values - values.mean(0)) / values.std(0) / GRID) * GRID


@pytest.fixture(scope="module")
def diabetes():
    X, y = load_diabetes(return_X_y=True)
    return gridded(X), gridded(y), np.arange(len(y)) % 4 > 0


@pytest.fixture(scope="module")
def model():
    return NetFormer.load()


def scores(model, diabetes, shift=0.0, unit=1.0, y_shift=0.0, y_unit=1.0):
    """R2 on held-out rows of each network of `generate`, and of the estimator."""
    X, y, train = diabetes
    X, moved = (X + shift) * unit, (y + y_shift) * y_unit
    each = model.generate(X[train], moved[train], n_samples=4).predict(X[~train])
    wide = NetFormerRegressor(n_samples=4, random_state=0).fit(X[train], moved[train]).predict(X[~train])
    return np.array([r2_score(y[~train], p / y_unit - y_shift) for p in (*each, wide)])


@pytest.fixture(scope="module")
def plain(model, diabetes):
    return scores(model, diabetes)


@pytest.mark.parametrize("shift", [0.0, FAR, -FAR])
@pytest.mark.parametrize("unit", [1.0, SMALL, LARGE])
@pytest.mark.parametrize("of", ["columns", "target"])
def test_offsets_and_units_change_no_score(model, diabetes, plain, of, shift, unit):
    """Of `generate` and of the estimator, to 1e-6; the table holds the same information, for no digit is lost."""
    assert plain.min() > 0.4
    moved = {"shift": shift, "unit": unit} if of == "columns" else {"y_shift": shift, "y_unit": unit}
    np.testing.assert_allclose(scores(model, diabetes, **moved), plain, rtol=0, atol=1e-6)


@pytest.mark.parametrize("unit", [1e-12, 1e12])
def test_units_that_are_no_power_of_two_change_no_score(model, diabetes, plain, unit):
    found = scores(model, diabetes, 0.0, unit, FAR, 1 / unit)
    np.testing.assert_allclose(found, plain, rtol=0, atol=1e-6)


def test_columns_are_standardised_and_answers_undone():
    rng = np.random.default_rng(0)
    X, y = rng.normal(5.0, 3.0, (200, 4)), rng.normal(-7.0, 0.1, 200)
    reading, z, t = read(X, y, ["a", "b", "c", "d"], "e")
    low, middle, high = np.quantile(X, [0.25, 0.5, 0.75], axis=0)
    np.testing.assert_allclose(reading.center, middle)
    np.testing.assert_allclose(reading.scale, (high - low) / 1.3489795)
    r = (X - middle) / ((high - low) / 1.3489795)
    s = r / np.sqrt(1 + (r / SQUASH) ** 2)
    np.testing.assert_allclose(z, (s - s.mean(0)) / s.std(0), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(t, (y - y.mean()) / y.std())
    np.testing.assert_allclose(reading.answers(t[:, None])[:, 0], y)
    assert (reading.columns, reading.target) == (("a", "b", "c", "d"), "e")
    assert reading.input_names == reading.columns
    assert read(X, y)[0].columns == ("x0", "x1", "x2", "x3")
    np.testing.assert_array_equal(reading.standardize(X), z)
    beyond = reading.standardize(np.array([X.max(0) + 1, X.min(0) - 1e9]))
    np.testing.assert_array_equal(beyond, reading.standardize(np.array([X.max(0), X.min(0)])))
    assert reading.outside(np.array([X.max(0) + 1, X[0], X[1]])) == dict.fromkeys("abcd", 1)


@pytest.mark.parametrize("r", [1e9, 1e154, 1e156, 1.7e308, np.inf])
def test_no_deviation_is_too_large_for_the_squash(r):
    np.testing.assert_allclose(squash(np.array([-r, 0.0, r])), [-SQUASH, 0.0, SQUASH], rtol=1e-15)


def test_a_cell_1e200_away_is_the_largest_one():
    X, y = np.linspace(-1, 1, 60)[:, None], np.linspace(0, 1, 60)
    X[7] = 1e200
    reading, z, _ = read(X, y)
    assert z.argmax() == 7
    np.testing.assert_array_equal(reading.standardize(np.array([[1e300]])), reading.standardize(X[7:8]))


def test_a_reading_and_a_stack_say_what_they_are():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"size": rng.normal(size=60), "town": ["a", "b", "c"] * 20, "id": np.arange(60)})
    reading = read(table, table["size"], target="rent")[0]
    assert repr(reading).splitlines() == [
        "Reading of 2 columns for 'rent': 1 number, 1 category",
        "inputs: 4: size, town = a, town = b, town = c",
        "left out: 1: id (a row number or an id)",
    ]
    wide = repr(read(rng.normal(size=(30, 300)), rng.normal(size=30))[0])
    assert wide.splitlines()[1] == "inputs: 300: x0, x1, x2, x3, x4, x5, ..."
    assert len(wide) < 200
    assert repr(constant_network(3)) == "Networks: 1 network, 3 inputs, at most 1 hidden layer of 1 units"


def test_columns_without_tails_are_not_squashed():
    """Uniform columns are standardised as they are, to a ten-millionth; one far cell, and the column is squashed."""
    own = np.random.default_rng(0)
    X, y = own.uniform(10, 20, (400, 2)), own.normal(size=400)
    X[:, 1] = own.normal(size=400)
    reading, z, _ = read(X, y)
    np.testing.assert_allclose(z[:, 0], (X[:, 0] - X[:, 0].mean()) / X[:, 0].std(), rtol=0, atol=1e-6)
    assert np.abs(z[:, 1] - (X[:, 1] - X[:, 1].mean()) / X[:, 1].std()).max() > 0.1
    np.testing.assert_array_equal(reading.standardize(np.array([[99.0, 0.0]]))[0, 0], z[:, 0].max())
    X[7, 0] = 1000.0
    assert 5 < read(X, y)[1][7, 0] < 15
    assert np.delete(read(X, y)[1][:, 0], 7).std() > 0.9


@pytest.mark.parametrize(("size", "coded"), [(0.3, False), (0.45, True)])
def test_codes_must_beat_a_curve_by_two_standard_errors(size, coded):
    """Of 1.5 (size 0.3) a curve is kept: integers that only count gain nothing from the mean of a level, and pay."""
    own = np.random.default_rng(1)
    rooms, effect = np.repeat(np.arange(20), 20), own.normal(size=20)
    y = rooms / 6 + size * effect[rooms] + 0.5 * own.normal(size=400)
    reading = read(pd.DataFrame({"rooms": rooms, "x": own.normal(size=400)}), y)[0]
    assert ("rooms (mean)" in reading.input_names) == coded


def test_one_wrong_cell_moves_no_other_row():
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(300, 2)), rng.normal(size=300)
    wrong = X.copy()
    wrong[7, 0] = 1e6
    z, bent = read(X, y)[1], read(wrong, y)[1]
    others = np.arange(300) != 7
    assert np.abs(z - bent)[others].max() < 0.2
    assert 4 < np.clip(bent, -CUT, CUT)[7, 0] <= CUT


@pytest.mark.parametrize("value", [0.0, 2.5, 1e20, 1 / 3, 1e-300, -1.7e308])
def test_what_does_not_vary_is_zero(value):
    X, y = np.c_[np.full(30, value), np.arange(30.0)], np.full(30, value)
    reading, z, t = read(X, y)
    assert not z[:, 0].any()
    assert z[:, 1].std() == pytest.approx(1)
    assert not t.any()
    assert np.array_equal(reading.answers(t[:, None])[:, 0], y)
    assert not reading.standardize(X)[:, 0].any()


def test_rounding_alone_is_no_column():
    """0.1 * 3 is not 0.3: a column of both says nothing."""
    X = np.where(np.arange(40) % 2, 0.1 * 3, 0.3)[:, None]
    assert X.std() > 0
    assert not read(X, np.arange(40.0))[1].any()


@pytest.mark.parametrize("size", [1e-300, 1e-30, 1e30, 1.7e308])
def test_no_size_overflows(size):
    X = np.linspace(-1, 1, 50)[:, None] * size
    reading, z, _ = read(X, np.arange(50.0))
    assert z.std() == pytest.approx(1)
    assert np.isfinite([reading.center, reading.scale]).all()
    np.testing.assert_allclose(reading.standardize(X), z)


@pytest.mark.parametrize(
    ("X", "y", "text"),
    [
        (np.zeros((3, 2)), np.zeros(2), r"X must be \(rows, features\) and y \(rows,\)"),
        (np.zeros((3, 0)), np.zeros(3), r"X must be \(rows, features\) and y \(rows,\)"),
        (np.zeros((1, 2)), np.zeros(1), "with at least 2 rows"),
        (
            np.array([[1.0], [np.inf]]),
            np.zeros(2),
            "column 'x0' must be finite, found inf in row 2; leave the cell empty",
        ),
        (np.zeros((2, 1)), np.array([0.0, np.inf]), "y must be finite; drop the rows without a target"),
        (np.full((3, 1), np.nan), np.arange(3.0), "no column can be used beside the target: x0: holds no value"),
    ],
)
def test_what_cannot_be_read_is_named(X, y, text):
    with pytest.raises(InputError, match=text):
        read(X, y)


MAPS = np.array([[-3.0, -3.0], [3.0, 3.0], [0.0, 0.0], [1.0, 1.0], [0.0, 0.0], [1.0, 1.0]])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"table": (Column("a", "number"), Column("a", "number"))},
            "columns must be at least one name, none of them twice",
        ),
        ({"maps": MAPS[:, :1]}, r"maps must be \(6, 2\) finite float64"),
        ({"maps": MAPS * np.nan}, r"maps must be \(6, 2\) finite float64"),
        ({"maps": MAPS * 0}, "scale and spread must be above 0"),
        ({"inputs": (Input(0, "value"), Input(2, "value"))}, "every input must be made of one of the 2 columns"),
        (
            {"inputs": (Input(0, "value"), Input(1, "mean", (1.0, 2.0)))},
            "one value for each level of its column and one",
        ),
        ({"targets": (Target("y", 0.0, np.inf),)}, "the scale of a target must be above 0 and finite"),
    ],
)
def test_parts_that_do_not_belong_together_are_named(change, text):
    parts = {
        "table": (Column("a", "number"), Column("b", "number")),
        "inputs": (Input(0, "value"), Input(1, "value")),
        "maps": MAPS,
    }
    Reading(**parts)
    with pytest.raises(InputError, match=text):
        Reading(**parts | change)


def test_a_constant_target_is_refused_by_generate(model):
    with pytest.raises(InputError, match="y must not be constant"):
        model.generate(np.arange(20.0).reshape(10, 2), np.full(10, 1 / 3))
