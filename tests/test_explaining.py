"""What a fitted regressor says of its columns."""

import numpy as np
import pandas as pd
import pytest
from mixed import mixed, rows_of
from sklearn.datasets import make_friedman1
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import RFE

from netformer import NetFormerRegressor
from netformer.errors import InputError
from netformer.generation.fitted import _level_shares, _share, drawn_effects, drawn_rows


@pytest.fixture(scope="module")
def friedman():
    X, y = make_friedman1(200, n_features=8, noise=0.5, random_state=0)
    return NetFormerRegressor(n_samples=4, random_state=0).fit(X, y), X, y


@pytest.fixture(scope="module")
def framed():
    """A table with a row number, a constant, and a column that says something by its gaps alone."""
    rng = np.random.default_rng(0)
    gap = rng.random(200) < 0.3
    table = pd.DataFrame(
        {
            "id": np.arange(200),
            "size": rng.normal(size=200),
            "kind": "same",
            "asked": np.where(gap, np.nan, rng.normal(size=200)),
            "noise": rng.normal(size=200),
        }
    )
    y = pd.Series(table["size"] + 3.0 * gap, name="rent")
    return NetFormerRegressor(n_samples=4, random_state=0).fit(table, y), table, y


def test_feature_importances_find_the_columns_that_matter(friedman, framed):
    fitted, X, _ = friedman
    found = fitted.feature_importances_
    assert found.shape == (8,)
    assert found.sum() == pytest.approx(1)
    assert found[:5].min() > 2 * found[5:].max()  # Friedman 1 has five
    np.testing.assert_array_equal(found, fitted.feature_importances_)
    by_rows = np.abs(fitted.explain(X).values).mean(0)
    assert np.corrcoef(found, by_rows)[0, 1] > 0.9
    fitted, table, _ = framed
    named = pd.Series(fitted.feature_importances_, table.columns)
    assert named["id"] == named["kind"] == 0
    assert named["asked"] > 3 * named["noise"]
    assert named["size"] > 3 * named["noise"]


def test_features_are_selected_by_them(friedman):
    _, X, y = friedman
    kept = RFE(NetFormerRegressor(n_samples=4, random_state=0), n_features_to_select=5).fit(X, y)
    assert kept.support_.tolist() == [True] * 5 + [False] * 3


def test_several_targets_and_nothing_learned_and_not_fitted(friedman):
    _, X, y = friedman
    both = NetFormerRegressor(n_samples=2, random_state=0).fit(X, np.stack([y, X[:, 7]], 1))
    assert both.feature_importances_.sum() == pytest.approx(1.0)
    assert both.feature_importances_[7] > 0.2
    found = both.explain(X[:9])
    assert found.values.shape == (9, 8, 2)
    np.testing.assert_allclose(found.base_values + found.values.sum(1), both.predict(X[:9]))
    assert found.targets == ("y0", "y1")
    assert both.importances(X, np.stack([y, X[:, 7]], 1), n_repeats=2)["importance"].idxmax() == 7
    for Y in (y, np.stack([y, y, y], 1)):
        with pytest.raises(InputError, match="y must be 2 numbers, one for each target, per row of X"):
            both.importances(X, Y)
    assert list(both.partial_dependence(0, points=3)) == ["value", "y0", "y1"]
    constant = NetFormerRegressor().fit(X, np.full(len(X), 3.0))
    assert not constant.feature_importances_.any()
    assert not constant.explain(X[:3]).values.any()
    for call in (lambda new: new.explain(X), lambda new: new.feature_importances_):
        with pytest.raises(NotFittedError):
            call(NetFormerRegressor())


def test_the_methods_are_those_of_the_population(friedman):
    fitted, X, y = friedman
    network = fitted.network_
    np.testing.assert_array_equal(fitted.explain(X[:9], X[:2]).values, network.explain(X[:9], X[:2]).values)
    assert fitted.explain(X[:9], n_pairs=3).error_std.any()
    pd.testing.assert_frame_equal(
        fitted.importances(X, y, n_repeats=2, random_state=5), network.importances(X, y, n_repeats=2, random_state=5)
    )
    pd.testing.assert_frame_equal(
        fitted.partial_dependence(3, X[:9], points=4), network.partial_dependence("x3", X[:9], points=4)
    )
    with pytest.raises(ValueError, match="X has 7 features"):
        fitted.explain(X[:, :7])


def test_a_saved_regressor_with_columns_left_out_explains_as_before(framed, tmp_path):
    fitted, table, _ = framed
    fitted.save(tmp_path / "nets")
    loaded = NetFormerRegressor.load(tmp_path / "nets")
    assert loaded.n_features_in_ == 5
    assert list(loaded.feature_names_in_) == list(table.columns)
    np.testing.assert_array_equal(loaded.predict(table), fitted.predict(table))
    np.testing.assert_array_equal(loaded.feature_importances_, fitted.feature_importances_)
    expected, found = fitted.explain(table[:9]), loaded.explain(table[:9])
    np.testing.assert_array_equal(found.values, expected.values)
    assert found.feature_names == ["size", "asked", "noise"]
    assert expected.values[:, 1] == pytest.approx(np.where(table["asked"][:9].isna(), 3, 0), abs=1.0)
    again = table[["size", "asked", "noise"]].set_axis(["a", "b", "c"], axis=1)
    renamed = fitted.to_bundle(["a", "b", "c"], "t").explain(again[:9])
    assert (renamed.target, renamed.feature_names) == ("t", ["a", "b", "c"])
    np.testing.assert_array_equal(renamed.values, expected.values)


def test_rows_are_drawn_as_the_reading_remembers_them():
    reading, (table, _) = mixed().reading, rows_of(600)
    rows = drawn_rows(reading, 500, np.random.default_rng(0))
    counts = table["town"].fillna("").value_counts(normalize=True)
    shares = dict(zip(reading.table[4].levels, _level_shares(reading, 4), strict=True))
    assert shares == pytest.approx(dict(counts))
    drawn = rows["town"].value_counts(normalize=True)
    assert dict(drawn) == pytest.approx(dict(counts), abs=1 / 500)
    missing = reading.input_names.index("age, in years missing")
    assert _share(reading, missing) == pytest.approx(table["age, in years"].isna().mean())
    assert rows["age, in years"].isna().mean() == pytest.approx(table["age, in years"].isna().mean(), abs=1 / 500)
    assert rows["size"].between(table["size"].min(), table["size"].max()).all()
    assert rows["size"].median() == pytest.approx(table["size"].median(), rel=0.15)
    assert set(rows["firm"]) <= set(table["firm"].astype(float))
    assert set(rows["street"]) == set(table["street"])  # which one is frequent is not known
    assert (drawn_effects(mixed()) > 0).all()
