"""The page that is the model: its script, run in Node, answers and explains as Python does; no data of it is code;
what it may not be made of is one line. `test_web_typed` opens it in Chromium."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from commands import refused, run, small_model, write_tables
from grown import some_trees, with_trees
from mixed import NAMES, later_rows, mixed, networks_for, numbers, positions, table, without_edges
from readers import data_of, in_node

from netformer import export
from netformer.errors import InputError
from netformer.exports.explain import MOST_EXACT
from netformer.exports.formula import formula_of, typical_row
from netformer.sources.web import MOST_FIELDS, NETWORK, PAGE, STYLE, TEMPLATE, page_data
from netformer.tables.cells import GAPS, read_number
from netformer.tables.reading import read

TABLES = ("numbers", "jumps", "mixed", "texts", "flats")


@pytest.mark.parametrize("name", TABLES)
def test_the_script_answers_as_python_does(name):
    population, rows = table(name)
    near = {"rtol": 0, "atol": 1e-9 * population.reading.targets[0].scale}
    formula = formula_of(population.reading, population.wide, population.intervals)
    page = page_data(formula, range(len(population.columns)))
    coverages = [0.02, 0.5, 0.9, 0.999]
    ends = f"{coverages}.map(c => net.interval(a, c))"
    call = f"rows.map(row => [net.answer(row.map(cell))].flatMap(a => [a.prediction, {ends}]))"
    (found,) = in_node(call, [json.loads(json.dumps(page))], positions(population, rows))
    np.testing.assert_allclose([one for one, _ in found], population.predict(rows), **near)
    expected = np.stack([population.predict_interval(rows, c) for c in coverages], 1)
    np.testing.assert_allclose([ends for _, ends in found], expected, **near)


def contributions(page, rows):
    found = in_node("rows.map(row => net.contributions(row.map(cell)))", [page], rows)[0]
    return tuple(np.array([one[part] for one in found]) for part in ("base", "values", "errors"))


@pytest.mark.parametrize("which", ["wide", "mean", 0, "jumps"])
def test_contributions_are_those_of_explain(which):
    population = mixed(without=("open",))  # ten columns, of which all sets are run
    if which == "jumps":
        trees, which = some_trees(len(population.reading.inputs), count=20, depth=5), "wide"
        population = with_trees(population, [trees], [0.6])
    assert len(population.columns) == MOST_EXACT
    rows = later_rows(20).drop(columns="open")
    base, values, errors = contributions(
        page_data(formula_of(population.reading, population.stack(which)), range(MOST_EXACT)),
        positions(population, rows),
    )
    expected = population.explain(rows, which=which)
    near = {"rtol": 0, "atol": 1e-9 * population.reading.targets[0].scale}
    np.testing.assert_allclose(values, expected.values, **near)
    np.testing.assert_allclose(base, expected.base_values, **near)
    np.testing.assert_allclose(base + values.sum(1), population.predict(rows, which), **near)
    assert (errors == 0).all()


def test_contributions_of_more_columns_add_up_and_are_near():
    X, population = numbers(columns=14)
    formula = formula_of(population.reading, population.wide)
    page = page_data(formula, range(14))
    assert all(len(body["reads"]) > MOST_EXACT for body in page["bodies"])
    rows = X[:8].copy()
    rows[0] = population.reading.center  # nothing differs
    rows[1, 4:] = population.reading.center[4:]  # four columns differ: exact
    fill = typical_row(population.reading).to_numpy()[0]
    rows[0], rows[1, 4:] = fill, fill[4:]
    base, values, errors = contributions(page, rows)
    near = {"rtol": 0, "atol": 1e-9 * population.reading.targets[0].scale}
    np.testing.assert_allclose(base + values.sum(1), population.predict(rows), **near)
    assert (values[0] == 0).all()
    assert (errors[:2] == 0).all()
    assert (errors[2:].max(1) > 0).all()
    exact = contributions(page | {"exact": 14}, rows)[1]
    np.testing.assert_allclose(values[1], exact[1], **near)
    off = (values[2:] - exact[2:]) / np.maximum(errors[2:], 1e-12 * population.reading.targets[0].scale)
    assert 0.5 < np.sqrt(np.square(off).mean()) < 1.5  # as far off as they say
    assert np.abs(off).max() < 5


def test_columns_without_a_field_stay_typical():
    population, rows = mixed(), later_rows(30)
    shown = [population.columns.index(name) for name in ("street", "size")]
    page = page_data(formula_of(population.reading, population.wide), shown)
    call = "rows.map(row => net.answer(row.map(cell)).prediction)"
    (found,) = in_node(call, [page], positions(population, rows)[:, shown])
    held = pd.concat([typical_row(population.reading)] * len(rows), ignore_index=True)
    held = held.assign(street=rows["street"], size=rows["size"])
    np.testing.assert_allclose(found, population.predict(held), atol=1e-9 * population.reading.targets[0].scale)
    hidden = {step.column for step in formula_of(population.reading, population.wide).steps} - set(shown)
    assert hidden
    assert len(page["columns"]) == 2
    assert "Ulm" not in json.dumps(page)  # nor are their levels in the page


def test_arrays_keep_every_digit():
    population, _ = table("numbers")
    wide = population.wide
    for weight in (wide.weight, wide.weight.double() * (1 + 1e-12)):
        formula = formula_of(population.reading, type(wide)(wide.specs, weight))
        page = page_data(formula, range(5))
        (found,) = in_node("page.bodies.map(body => [...decoded(body.layers[0][1])])", [page])
        for body, reads, layer in zip(found, page["bodies"], formula.bodies, strict=True):
            assert body == layer[0].weight[:, reads["reads"]].ravel().tolist()


WRITTEN = [
    *("1", "-2.5", " 3 ", "+.5", "5.", "1e3", "1E-3", "1,000", "1,000.5", "12,34", "2,5", "1.000,25", "-1.234,5"),
    *("214.62", "1.234", "0.234", "0,234", "1.2,5", "1,2.5", "2,5,6", "1,234.5e2", "1.234,5e2", "1,234,567.8"),
    *(
        "$5",
        "5 %",
        "€ 2",
        "EUR 7",
        "7usd",
        "(12)",
        "1 000",
        "1'000",
        "true",
        "FALSE",
        "",
        "?",
        "N/A",
        "nan",
        "-",
        "NaT",
    ),
    *("abc", "0x10", "1_000", "inf", "1e999", "--5", "5-", "1..2", "e5", "12 m"),
]


@pytest.mark.parametrize("form", ["", ","])
def test_numbers_are_read_as_python_reads_them(form):
    call = f"page.map(text => numberOf(text, '{form}', {sorted(GAPS)!r})).map(x => x === undefined ? 'none' : x)"
    (found,) = in_node(call, [WRITTEN])
    for text, one in zip(WRITTEN, found, strict=True):
        value, unreadable = read_number(text, form)
        expected = "none" if unreadable else None if np.isnan(value) else value
        assert one == expected, text


def page_of(population, folder, **options):
    path = folder / "page.html"
    export(population, "wide", path, "html", **options)
    return path


def test_the_page_is_small_and_nothing_in_the_data_is_code(tmp_path):
    own = sum(path.stat().st_size for path in (NETWORK, PAGE, STYLE, TEMPLATE))
    assert own < 45_000
    population, _ = table("texts")
    population = population.named(target="</title><script>alert(2)</script>")
    path = page_of(population, tmp_path)
    text = path.read_text()
    assert len(text.encode()) < 150_000
    assert len(text.encode()) - len(json.dumps(data_of(path))) < own + 2_000
    assert text.count("<script") == text.count("</script>") == 2
    assert re.findall(r"(?:https?:)?//[\w.]+\.\w+", re.sub(r"http://www\.w3\.org/2000/svg", "", text)) == []
    assert set(data_of(path)["columns"][0]["levels"]) == {*NAMES, "b"} or set(
        data_of(path)["columns"][0]["levels"]
    ) == {name.strip() for name in (*NAMES, "b")}


def test_what_the_page_says_of_its_network(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    population, _ = table("mixed")
    methods = [
        {"method": "catboost", "r2": 0.625, "r2_se": None, "mae": 8.0},
        {"method": "wide", "r2": 0.5, "r2_se": 0.0312, "mae": 10.25, "mae_se": 0.5, "rmse": None},
        {"method": "hgb", "r2": None},
        {"method": "constant", "r2": -0.01, "r2_se": 0.002},
    ]
    intervals = [{"coverage": 0.5, "within": 0.6}, {"coverage": 0.9, "within": 0.875}]
    scores = {"how": "5-fold cross-validation", "rows": 480, "methods": methods, "intervals": intervals}
    population = replace(population, about={"rows": 480, "scores": scores})
    path = page_of(population, tmp_path)
    facts = dict(data_of(path)["facts"])
    assert facts["Rows fitted"] == "480"
    assert facts["How good"] == (
        "R2 0.500 ± 0.031, mean absolute error 10.2 ± 0.5; on 480 rows that were not fitted: 5-fold cross-validation"
    )
    assert facts["R2 of others"] == "catboost 0.625, the mean of the target -0.010 ± 0.002"
    assert facts["Intervals"] == "88% of those rows lie within their interval of 90%"
    assert facts["Written"].startswith("2001-09-09, NetFormer ")
    first = path.read_bytes()
    export(population, "wide", path, "html", overwrite=True)
    assert path.read_bytes() == first
    for about in (
        {"rows": "many", "scores": [1]},
        {"scores": {"methods": 3.0}},
        {"scores": {"methods": [{"r2": 1}, 2]}},
    ):
        export(replace(population, about=about), "wide", path, "html", overwrite=True)
        assert not {"Rows fitted", "How good"} & set(dict(data_of(path)["facts"]))
    export(population, 0, path, "html", overwrite=True)
    facts = dict(data_of(path)["facts"])
    assert "How good" not in facts
    assert facts["Network"].startswith("number 0 of 6: ")
    assert "interval" not in data_of(path)


def test_a_page_for_many_columns_asks_which_to_show(tmp_path):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(60, MOST_FIELDS + 1)), columns=[f"c{i}" for i in range(MOST_FIELDS + 1)])
    reading, _, _ = read(X, rng.normal(size=60))
    population = without_edges(networks_for(X, rng.normal(size=60)), *range(1, MOST_FIELDS + 1))
    with pytest.raises(InputError, match=r"a page has at most 40 fields, the networks read 41 columns; .* along c0,"):
        page_of(population, tmp_path)
    for columns, message in [
        (["c1", "x"], "columns must be some of those that are read, c0, c1, .* and 33 more; found 'x'"),
        (["c1", "c1"], "none of them twice"),
        ([], "at least one name"),
        (" , ", "at least one name"),
    ]:
        with pytest.raises(InputError, match=message):
            page_of(population, tmp_path, columns=columns)
    with pytest.raises(InputError, match="columns chooses the fields of html, and is not for json"):
        export(population, 0, tmp_path / "net.json", "json", columns=["c1"])
    assert list(tmp_path.iterdir()) == []
    page = data_of(page_of(population, tmp_path, columns="c3, c0"))
    assert [one["name"] for one in page["columns"]] == ["c3", "c0"]
    assert "39 of them have no field" in dict(page["facts"])["Columns"]
    assert len(reading.columns) == 41


def test_the_command_line_writes_a_page(tmp_path):
    with small_model():
        write_tables(tmp_path)
    options = ("export", tmp_path / "nets", "--out", tmp_path / "e", "--format")
    run(*options, "html", "--format", "json", "--columns", "b,a")
    assert [one["name"] for one in data_of(tmp_path / "e" / "wide.html")["columns"]] == ["b", "a"]
    shutil.rmtree(tmp_path / "e")
    for arguments, message in [
        (("json", "--columns", "a"), "--columns chooses the fields of a page; add --format html"),
        (("html", "--columns", "a,z"), "columns must be some of those that are read, a, b, c, d, e; found 'z'"),
    ]:
        assert message in refused(*options, *arguments)
        assert not (tmp_path / "e").exists()
