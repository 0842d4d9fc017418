"""Numbers that stay numbers: columns and targets from the smallest subnormal to the largest number, constant, collinear
and far from 0, through fit, predict, intervals, save and export: finite answers, or one line where that is said."""

import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
from commands import small_model
from readers import ANSWERS, SUFFIX, imported

from netformer import NetFormerClassifier, NetFormerRegressor, Population, export, fit_many
from netformer.errors import InputError

ROWS = 60
LARGEST, SMALLEST = np.finfo(float).max, 5e-324
COLUMNS = {
    "1e307": lambda rng, x: 1e307 * rng.uniform(-8, 8, len(x)),
    "1e-300": lambda rng, x: 1e-300 * rng.normal(size=len(x)),
    "subnormal": lambda rng, x: 1e-312 * rng.normal(size=len(x)),
    "one of 1e308": lambda rng, x: np.where(np.arange(len(x)) == 7, 1e308, x),
    "far from 0": lambda rng, x: 1e9 + rng.normal(size=len(x)),
    "constant": lambda rng, x: np.full(len(x), 3.0),
    "constant and the largest": lambda rng, x: np.full(len(x), LARGEST),
    "all there is": lambda rng, x: np.where(x > 0, LARGEST, -LARGEST),
    "copy": lambda rng, x: x.copy(),
    "nearly a copy": lambda rng, x: x + 1e-13 * rng.normal(size=len(x)),
    "steep": lambda rng, x: np.sinh(400 * rng.uniform(-1, 1, len(x))),
    "two values": lambda rng, x: np.where(x > 0, 1e-5, 1e5),
    "mostly gaps": lambda rng, x: np.where(rng.random(len(x)) < 0.95, np.nan, x),
}
LEFT_OUT = {"constant", "constant and the largest", "copy"}  # of a DataFrame
TARGETS = {
    "plain": lambda rng, x: x + 0.1 * rng.normal(size=len(x)),
    "1e299": lambda rng, x: 1e299 * x,
    "1e-300": lambda rng, x: 1e-300 * x,
    "subnormal": lambda rng, x: SMALLEST * np.round(10 * x),
    "far from 0": lambda rng, x: 1e12 + x,
    "one of 1e300": lambda rng, x: np.where(np.arange(len(x)) == 3, 1e300, x),
    "nearly constant": lambda rng, x: 1.0 + 1e-15 * np.round(x),
}


def table_of(*names, seed=0):
    """A column to learn from, the others, and what drew them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=ROWS)
    return pd.DataFrame({"x": x, **{f"c{i}": COLUMNS[name](rng, x) for i, name in enumerate(names)}}), x, rng


def fitted(estimator, X, y):
    with small_model(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return estimator(n_samples=2, random_state=0).fit(X, y)


def works(X, y, folder, formats=("numpy",)):
    """Everything that is delivered answers with finite numbers, and with the same ones, as few as the target has."""
    model = fitted(NetFormerRegressor, X, y)
    assert np.isfinite(model.predict_interval(X)).all()
    assert np.isfinite(model.predict(X, return_std=True)[1]).all()
    population = model.to_bundle()
    expected = population.predict(X)
    assert np.isfinite(expected).all()
    population.save(folder / "nets")
    np.testing.assert_array_equal(Population.load(folder / "nets").predict(X), expected)
    (target,), cells = population.reading.targets, X[list(population.columns)].to_numpy(copy=True)
    last_digit = np.spacing(np.abs(expected).max())
    for format in formats:
        path = folder / f"{format}.{SUFFIX.get(format, 'py')}"
        export(population, "wide", path, format)
        answers = np.asarray(ANSWERS[format](path, cells)).ravel()
        np.testing.assert_allclose(answers, expected, rtol=0, atol=1e-5 * target.scale + last_digit)
    return population


@pytest.mark.parametrize("name", COLUMNS)
def test_columns(tmp_path, name):
    X, x, rng = table_of(name)
    population = works(X, TARGETS["plain"](rng, x), tmp_path)
    assert ("c0" in population.columns) == (name not in LEFT_OUT)


@pytest.mark.parametrize("name", TARGETS)
def test_targets(tmp_path, name):
    X, x, rng = table_of("two values")
    works(X, TARGETS[name](rng, x), tmp_path)


@pytest.mark.parametrize("seed", range(6))
def test_some_of_them_together(tmp_path, seed):
    rng = np.random.default_rng(seed)
    X, x, rng = table_of(*rng.choice(list(COLUMNS), 4, replace=False), seed=seed)
    works(X, TARGETS[rng.choice(list(TARGETS))](rng, x), tmp_path)


@pytest.mark.parametrize("format", ["onnx", "torch", "sklearn", "json", "c", "html"])
def test_every_format(tmp_path, format):
    X, x, rng = table_of("1e307", "1e-300", "subnormal", "one of 1e308", "far from 0", "mostly gaps")
    works(X, TARGETS["1e299"](rng, x), tmp_path, (format,))


def test_classes():
    X, x, _ = table_of(*COLUMNS)
    for labels in (x > 0, np.digitize(x, [-0.5, 0.5])):
        shares = fitted(NetFormerClassifier, X, labels).predict_proba(X)
        np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-6)
        assert (shares >= 0).all()


def test_groups():
    X, x, rng = table_of("1e307", "subnormal", "one of 1e308", "copy")
    with small_model():
        groups = fit_many(X.assign(by=np.arange(ROWS) % 3), TARGETS["1e299"](rng, x), "by", random_state=0, n_samples=2)
    assert np.isfinite(groups.predict(X.assign(by=np.arange(ROWS) % 4 % 3))).all()


@pytest.mark.parametrize("cell", [LARGEST, -LARGEST, 1e300, SMALLEST, -SMALLEST])
def test_later_rows(tmp_path, cell):
    """What no row fitted held is read as one at the edge, by every column."""
    X, x, rng = table_of("1e-300", "far from 0", "mostly gaps", "nearly a copy")
    population = fitted(NetFormerRegressor, X, TARGETS["plain"](rng, x)).to_bundle()
    rows = pd.concat([X.head(5).assign(**{name: cell}) for name in X])
    expected = population.predict(rows)
    assert np.isfinite(expected).all()
    export(population, "wide", tmp_path / "net.py", "numpy")
    np.testing.assert_allclose(imported(tmp_path / "net.py").predict(rows), expected, rtol=0, atol=1e-5)


def test_the_smallest_numbers():
    """Of a column whose deviation is a few steps of the smallest number, a step is the error of a cell, and no more."""
    X, x, rng = table_of()
    X = X.assign(c=SMALLEST * np.round(10 * x))
    model = fitted(NetFormerRegressor, X, TARGETS["plain"](rng, x))
    assert np.isfinite(model.predict(X)).all()
    read = model.network_.reading.standardize(X)[:, 1]
    assert np.corrcoef(read, np.round(10 * x))[0, 1] > 0.99


def test_too_large_ends_in_a_line():
    X, x, rng = table_of()
    y = TARGETS["plain"](rng, x)
    with pytest.raises(InputError, match=r"y must be within \+-1e\+300, found -?\d.*; divide it by a power of 10"):
        fitted(NetFormerRegressor, X, 1e304 * y)
    with pytest.raises(InputError, match=r"b must be within"):
        fitted(NetFormerRegressor, X, pd.DataFrame({"a": y, "b": 1e304 * y}))


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("estimator", [NetFormerRegressor, partial(NetFormerRegressor, refine_steps=2)])
def test_few_rows_and_more_columns_than_rows(n, estimator):
    """Singular systems: fewer rows than columns, all of them copies or constant."""
    rng = np.random.default_rng(n)
    X = np.tile(rng.normal(size=(n, 1)), (1, 12))
    X[:, 6:9] = 1.0
    model = fitted(estimator, X, rng.normal(size=n))
    assert np.isfinite(model.predict(X)).all()
    assert np.isfinite(model.predict_interval(X)).all()
