"""Explanations: Shapley values against their definition, worth of columns, curves along them."""

from dataclasses import replace
from itertools import permutations
from math import comb

import numpy as np
import pandas as pd
import pytest
import torch
from mixed import later_rows, mixed, networks_for, numbers, rows_of, without_edges
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.inspection import permutation_importance

from netformer import Population
from netformer.errors import InputError
from netformer.exports import explain
from netformer.exports.formula import typical_row
from netformer.tables.scaling import Target

FEW = ("size", "age, in years", "stand", "firm", "grade", "seen", "far", "open")  # left out: three columns stay


def by_definition(predict, rows, background):
    """The mean over all orders of columns and all rows of the background, one cell after the other."""
    names, orders = list(rows.columns), list(permutations(rows.columns))
    values = pd.DataFrame(0.0, index=rows.index, columns=names)
    for row in rows.index:
        for other in background.index:
            for order in orders:
                cells = background.loc[[other]].astype(object)
                before = predict(cells)[0]
                for name in order:
                    cells[name] = [rows.at[row, name]]
                    after = predict(cells)[0]
                    values.at[row, name] += (after - before) / len(orders) / len(background)
                    before = after
    return values.to_numpy()


@pytest.fixture(scope="module")
def three():
    """Town (a category with gaps), street (many levels), sold (a date), and later rows with gaps and unseen levels."""
    population = mixed(without=FEW)
    rows = later_rows(300)[list(population.columns)]
    kinds = [rows["town"].isna(), rows["town"] == "Wien", rows["street"].isna(), rows["sold"].isna()]
    full = ~pd.concat(kinds, axis=1).any(axis=1)
    return population, pd.concat([rows[kind][:2] for kind in (*kinds, full)], ignore_index=True)


@pytest.mark.parametrize("which", ["wide", "mean", 2])
def test_values_are_those_of_the_definition(three, which):
    population, rows = three
    assert list(population.columns) == ["town", "street", "sold"]
    assert "Wien" not in population.reading.table[0].levels
    assert {"Wien", "Bonn"} <= set(rows["town"])
    assert rows.isna().any().all()
    found = population.explain(rows, which=which)
    expected = by_definition(lambda cells: population.predict(cells, which), rows, typical_row(population.reading))
    np.testing.assert_allclose(found.values, expected, atol=1e-8)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found.base_values, population.predict(typical_row(population.reading), which)[0])
    assert not found.error_std.any()


def test_a_background_counts_as_the_mean_over_its_rows(three):
    population, rows = three
    background = rows_of(4, seed=9)[0][list(population.columns)]
    found = population.explain(rows[:4], background)
    expected = by_definition(population.predict, rows[:4], background)
    np.testing.assert_allclose(found.values, expected, atol=1e-8)
    np.testing.assert_allclose(found.base_values, population.predict(background).mean())


def test_values_are_those_of_shap():
    shap = pytest.importorskip("shap")
    X, population = numbers()
    explainer = shap.explainers.Exact(population.predict, shap.maskers.Independent(X[:7], max_samples=7))
    expected = explainer(X[100:110])
    found = population.explain(X[100:110], X[:7])
    np.testing.assert_allclose(found.values, expected.values, atol=1e-6)
    np.testing.assert_allclose(found.base_values, expected.base_values, atol=1e-6)


def test_values_add_up_to_the_prediction_however_they_are_found():
    population, rows = mixed(), later_rows(40)
    for options in ({}, {"which": "mean"}, {"which": 3}, {"background": later_rows(3, 5)}, {"n_pairs": 2}):
        found = population.explain(rows, **options)
        assert found.values.shape == (40, 11)  # a column with many inputs is one column
        expected = population.predict(rows, options.get("which", "wide"))
        np.testing.assert_allclose(found.values.sum(1) + found.base_values, expected, atol=1e-6)


def test_a_column_that_nothing_reads_has_nothing_and_those_that_work_alike_have_alike():
    X, population = numbers()
    some = without_edges(population, 2)
    values = some.explain(X[:50]).values
    assert not values[:, 2].any()
    assert (np.abs(values[:, [0, 1, 3, 4]]).max(0) > 0.01).all()
    alike = population.reading
    alike.maps[:, 1] = alike.maps[:, 0]
    table = (alike.table[0], replace(alike.table[1], fill=alike.table[0].fill), *alike.table[2:])
    wide = population.wide.weight.clone()
    wide[:, :, 2] = wide[:, :, 1]  # the second input by the same weights as the first
    twins = replace(population, reading=replace(alike, table=table), wide=replace(population.wide, weight=wide))
    rows = X[:50].copy()
    rows[:, 1] = rows[:, 0]
    values = twins.explain(rows).values
    np.testing.assert_allclose(values[:, 0], values[:, 1], atol=1e-12)
    assert np.abs(values[:, 0] - values[:, 2]).max() > 0.1


def test_sampled_values_lie_around_the_exact_ones_as_their_errors_say():
    X, population = numbers(columns=6)
    exact = population.explain(X[:60]).values
    errors = {}
    for n_pairs in (8, 32):
        found = [population.explain(X[:60], n_pairs=n_pairs, random_state=seed) for seed in range(20)]
        off = np.stack([one.values for one in found]) - exact
        error = np.stack([one.error_std for one in found])
        assert (error > 0).mean() > 0.95
        assert np.square(off).mean() == pytest.approx(np.square(error).mean(), rel=0.3)
        assert np.abs(off.mean(0)).max() < np.abs(off).max() / 2  # no bias
        errors[n_pairs] = np.square(error).mean() ** 0.5
    assert errors[8] / errors[32] == pytest.approx(2, rel=0.2)


def test_wide_tables_are_sampled_unless_every_network_reads_few_columns():
    X, population = numbers(columns=12)
    sampled = population.explain(X[:20])
    assert (sampled.error_std > 0).mean() > 0.95
    few = without_edges(population, 0, 5, 7)
    found = few.explain(X[:2])
    assert not found.error_std.any()
    member = (np.arange(2**12)[:, None] >> np.arange(12)) & 1 == 1
    size, reference = member.sum(1), typical_row(few.reading).to_numpy()[0]
    for row, values in zip(X[:2], found.values, strict=True):
        answers = few.predict(np.where(member, row, reference))
        for i in range(12):
            inside = answers[member[:, i]] / [12 * comb(11, s - 1) for s in size[member[:, i]]]
            outside = answers[~member[:, i]] / [12 * comb(11, s) for s in size[~member[:, i]]]
            assert values[i] == pytest.approx(inside.sum() - outside.sum(), abs=1e-9)


def test_sampled_values_of_a_wide_table_cover_the_exact_ones(monkeypatch):
    X, population = numbers(columns=12)
    sampled = population.explain(X[:20])
    monkeypatch.setattr(explain, "MOST_EXACT", 12)
    exact = population.explain(X[:20])
    off = np.abs(sampled.values - exact.values)
    assert (off <= 2 * sampled.error_std).mean() > 0.85
    assert 0 < off.max() < 0.2 * np.abs(exact.values).max()
    assert not exact.error_std.any()


def test_the_same_twice_and_blocks_change_nothing(monkeypatch):
    X, population = numbers()
    first, again = (population.explain(X[:30], n_pairs=4) for _ in range(2))
    np.testing.assert_array_equal(first.values, again.values)
    assert np.abs(population.explain(X[:30], n_pairs=4, random_state=1).values - first.values).max() > 1e-6
    monkeypatch.setattr(explain, "_BLOCK", 1)
    np.testing.assert_allclose(population.explain(X[:30], n_pairs=4).values, first.values, atol=1e-12)
    assert population.explain(X[:0]).values.shape == (0, 5)


def test_the_typical_row_is_of_medians_and_most_frequent_levels_and_travels_with_the_folder(tmp_path):
    table, _ = rows_of(600)
    population = mixed()
    row = typical_row(population.reading).iloc[0]
    assert row["size"] == np.quantile(table["size"], 0.5, method="lower")
    assert row["stand"] == np.quantile(table["stand"][table["stand"] != -999], 0.5, method="lower")
    assert row["sold"] == table["sold"].dt.tz_localize("UTC").quantile(0.5, interpolation="lower")
    assert row["street"] == table["street"].value_counts().sort_index().idxmax()
    town = table["town"].fillna("").value_counts().idxmax()
    assert row["town"] == (town or None)
    assert row["grade"] == table["grade"].cat.categories[int(np.median(table["grade"].cat.codes))]
    population.save(tmp_path / "nets")
    loaded, rows = Population.load(tmp_path / "nets"), later_rows(5)
    np.testing.assert_array_equal(loaded.explain(rows).values, population.explain(rows).values)


class Ours(RegressorMixin, BaseEstimator):
    """A population as scikit-learn sees it."""

    def __init__(self, population):
        self.population = population

    def fit(self, X, y):
        return self

    def predict(self, X):
        return self.population.predict(X)


def noisy(population, seed, n=200):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, len(population.columns)))
    answers = population.predict(X)
    return X, answers + answers.std() * rng.normal(size=n)


def test_importances_are_those_of_scikit_learn():
    _, population = numbers()
    population = without_edges(population, 2)
    X, y = noisy(population, 3, 1000)
    found = population.importances(X, y)
    expected = permutation_importance(Ours(population).fit(X, y), X, y, n_repeats=10, random_state=1)
    assert list(found["column"]) == list(population.columns)
    room = 4 * expected.importances_std / 10**0.5 + 1e-12
    assert (np.abs(found["importance"] - expected.importances_mean) <= 2 * room).all()
    assert found["importance"].max() > 0.2
    assert (found.loc[2, "importance"], found.loc[2, "standard_error"]) == (0, 0)


def test_their_errors_are_those_of_other_rows():
    _, population = numbers()
    drawn = [population.importances(*noisy(population, seed)) for seed in range(40)]
    spread = np.std([one["importance"] for one in drawn], axis=0, ddof=1)
    said = np.mean([one["standard_error"] for one in drawn], axis=0)
    largest = int(np.argmax(said))
    assert said[largest] == pytest.approx(spread[largest], rel=0.5)


def test_importances_of_a_mixed_table_count_a_column_once():
    population, (rows, y) = mixed(), rows_of(200, seed=4)
    found = population.importances(rows, y, n_repeats=2)
    assert list(found["column"]) == list(population.columns)
    assert np.isfinite(found[["importance", "standard_error"]].to_numpy()).all()
    np.testing.assert_array_equal(found, population.importances(rows[rows.columns[::-1]], y, n_repeats=2))


def test_curves_are_the_predictions_with_one_cell_replaced():
    population, background = mixed(), later_rows(3, 5)
    for name in population.columns:
        curve = population.partial_dependence(name, background, points=5)
        for value, prediction in zip(curve["value"], curve["prediction"], strict=True):
            rows = background.astype(object)
            rows[name] = pd.Series([value] * 3)
            assert prediction == pytest.approx(population.predict(rows).mean(), abs=1e-9)
    alone = population.partial_dependence("size", points=3)
    rows = pd.concat([typical_row(population.reading)] * 3, ignore_index=True).assign(size=alone["value"])
    np.testing.assert_allclose(alone["prediction"], population.predict(rows))


def test_curves_stay_within_what_was_fitted_and_show_every_level_and_the_gap():
    population, (table, _) = mixed(), rows_of(600)
    size = population.partial_dependence("size")["value"]
    assert (size.min(), size.max(), len(size)) == (table["size"].min(), table["size"].max(), 50)
    sold = population.partial_dependence("sold", points=4)["value"]
    assert (sold.min(), sold.max()) == tuple(table["sold"].agg(["min", "max"]).dt.tz_localize("UTC"))
    towns = set(population.partial_dependence("town")["value"])
    assert towns == {"Ulm", "Bonn", "Kiel", None}
    assert sorted(population.partial_dependence("firm")["value"]) == list(range(1000, 1012))
    age = population.partial_dependence("age, in years", points=6)
    assert "age, in years missing" in population.reading.input_names
    assert age["value"].isna().tolist() == [False] * 6 + [True]
    np.testing.assert_array_equal(
        population.partial_dependence(1)["prediction"], population.partial_dependence("age, in years")["prediction"]
    )


def test_bad_input_is_one_line():
    X, population = numbers()
    y = X[:, 0]
    wrong = {
        "n_pairs must be a whole number from 2 on, got 1": lambda: population.explain(X, n_pairs=1),
        "random_state must be a whole number from 0 on": lambda: population.explain(X, random_state=-1),
        "background must have at least 1 row, got 0": lambda: population.explain(X, X[:0]),
        "X must be \\(rows, 5\\), got 4 columns": lambda: population.explain(X[:, :4]),
        "which must be 'wide', 'mean' or an index": lambda: population.explain(X, which="each"),
        "n_repeats must be a whole number from 1 on": lambda: population.importances(X, y, n_repeats=0),
        "y must be one number per row of X, of at least 2 rows": lambda: population.importances(X, y[:-1]),
        "y must be finite and vary": lambda: population.importances(X, 0 * y),
        "y must be numbers": lambda: population.importances(X, ["a"] * len(X)),
        "points must be a whole number from 2 on": lambda: population.partial_dependence(0, points=1),
        "column must be one of 'x0'.*, or a position from 0 to 4, got 5": lambda: population.partial_dependence(5),
        "got 'y'": lambda: population.partial_dependence("y"),
    }
    for message, call in wrong.items():
        with pytest.raises(InputError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
    table, y = rows_of(600)
    with pytest.raises(InputError, match="column 'row_id' was left out, no network reads it: a row number or an id"):
        networks_for(table.assign(row_id=range(600)), y).partial_dependence("row_id")


@pytest.mark.filterwarnings("ignore")  # of shap and matplotlib
def test_shap_draws_them():
    pytest.importorskip("shap")
    pyplot = pytest.importorskip("matplotlib.pyplot")
    import shap

    pyplot.switch_backend("agg")
    found = mixed().explain(later_rows(30))
    theirs = found.to_shap()
    np.testing.assert_array_equal(theirs.values, found.values)
    assert theirs.feature_names == list(mixed().columns)
    for draw in (shap.plots.bar, shap.plots.beeswarm):
        draw(theirs, show=False)
        assert len(pyplot.gcf().axes) >= 1
        pyplot.close("all")
    shap.plots.waterfall(theirs[0], show=False)
    shown = [text.get_text() for text in pyplot.gcf().axes[0].get_yticklabels()]
    assert any("town" in text for text in shown)
    pyplot.close("all")


def test_without_shap_the_way_out_is_said(monkeypatch):
    X, population = numbers()
    monkeypatch.setitem(__import__("sys").modules, "shap", None)
    with pytest.raises(InputError, match="pip install shap"):
        population.explain(X[:2]).to_shap()


def test_data_are_the_cells_and_the_forms_are_short():
    population, rows = mixed(), later_rows(30)
    found = population.explain(rows)
    assert pd.Series(found.data[:, 4]).fillna("").tolist() == rows["town"].fillna("").tolist()
    assert np.isnan(found.data[:, 2].astype(float)).sum() == (rows["stand"] == -999).sum() > 0
    assert 1 <= len(repr(found).splitlines()) <= 5
    assert "sampled, standard error at most" in repr(found)
    odd = population.named(["<b>", *population.columns[1:]])
    page = odd.explain(rows.rename(columns={"size": "<b>"}))._repr_html_()
    assert page.count("<tr>") == 1 + explain.SHOWN
    assert "<b>" not in page
    odd = rows.assign(size=rows["size"].astype(object).where(rows.index > 0, "large"))
    with pytest.warns(UserWarning, match="'size': 'large' in row 1 taken for a gap"):
        found = population.explain(odd)
    gap = population.explain(rows.assign(size=rows["size"].where(rows.index > 0)))
    np.testing.assert_array_equal(found.values, gap.values)
    assert np.isnan(found.data[0, 0])
    X, plain = numbers()
    assert plain.explain(X[:4]).data.dtype == np.float64
    np.testing.assert_array_equal(plain.explain(X[:4]).data, X[:4])
    assert "5 columns, exact" in repr(plain.explain(X[:4]))
    assert repr(plain.explain(X[:0])) == "Explanation of 'price': 0 rows, 5 columns, exact"
    page = replace(plain, reading=replace(plain.reading, targets=(Target("<i>"),)))._repr_html_()
    assert page.count("<tr>") == 1 + len(plain)
    assert "<i>" not in page
    assert torch.isfinite(plain.expected_r2).all()
