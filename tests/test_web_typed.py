"""The page in Chromium: what is typed into it is answered as Python does, to 1e-6 of the target's spread; contributions
add up, it works without a mouse and on a telephone, asks nobody for anything and says no error."""

import json

import numpy as np
import pandas as pd
import pytest
from chromium import PARTS, narrow_and_named, opened, pressed, reached, settled, typed, typed_row, wrong_with
from mixed import networks_for, table

from netformer.exports.formula import typical_row

TABLES = ("numbers", "jumps", "mixed", "texts", "flats")
SAID = "[...document.querySelectorAll('#prediction data, #between data')].map(d => Number(d.value))"


@pytest.mark.parametrize("name", TABLES)
def test_what_is_typed_is_answered_as_python_does(browser, tmp_path, name):
    population, rows = table(name)
    if name == "mixed":
        assert set(population.reading.outside(rows[:10])) >= {"size", "town", "grade", "street"}
    if name == "texts":
        assert population.reading.table[1].words == ("to ask",)
        assert "to ask" in list(rows.iloc[:10, 1])
    url = opened(browser, population, tmp_path)
    near = {"rtol": 0, "atol": 1e-6 * population.reading.targets[0].scale}
    np.testing.assert_allclose(
        browser.evaluate(SAID)[0], population.predict(typical_row(population.reading))[0], **near
    )
    for n in range(min(10, len(rows))):
        row = rows.iloc[[n]]
        typed_row(browser, population, row)
        expected = [population.predict(row)[0], *population.predict_interval(row, 0.9)[0]]
        np.testing.assert_allclose(browser.evaluate(SAID), expected, **near)
        settled(browser)
        parts = browser.evaluate(PARTS)
        np.testing.assert_allclose([sum(parts[:-1]), parts[-1]], expected[0], **near)
    assert wrong_with(browser, url) == []


def test_the_page_works_without_a_mouse_and_on_a_telephone(browser, tmp_path):
    population, _ = table("mixed")
    url = opened(browser, population, tmp_path, 360)
    narrow_and_named(browser, 360)
    # Tab reaches every field in the order of the page, then the choices of the answer
    order = reached(browser)
    fields = [f"f{i}" for i in range(len(population.columns))]
    assert [name for name in order if name in fields] == fields
    assert {"coverage", "along", "reset"} <= set(order)
    # arrows on the slider move the field
    size = population.columns.index("size")
    browser.evaluate(f"fields[{size}].control.focus()")
    settled(browser)
    assert browser.evaluate("at('along').value") == str(size)
    before, answer = browser.evaluate(f"row[{size}]"), browser.evaluate(SAID)[0]
    browser.evaluate("at('slide').focus()")
    pressed(browser, "ArrowRight", 39)
    after = browser.evaluate(f"[row[{size}], Number(fields[{size}].control.value)]")
    assert after[0] == after[1] > before
    assert browser.evaluate(SAID)[0] != answer
    assert wrong_with(browser, url) == []


def test_cells_that_are_none_are_named_and_a_gap_is_a_gap(browser, tmp_path):
    population, _ = table("mixed")
    url = opened(browser, population, tmp_path)
    stand = population.columns.index("stand")
    typed(browser, stand, population.reading.table[stand], "12 m")
    assert browser.evaluate("at('prediction').textContent + at('unread').textContent") == "–cannot read stand"
    assert browser.evaluate(SAID) == []
    assert browser.evaluate(f"fields[{stand}].control.getAttribute('aria-invalid')") == "true"
    typical = typical_row(population.reading)
    for cell, remark in [("-999", "stands for a gap"), ("1e6", "beyond the table"), ("", "not known")]:
        typed(browser, stand, population.reading.table[stand], cell or None)
        assert remark in browser.evaluate(f"fields[{stand}].said.textContent").replace("−", "-")
        known = population.predict(typical.assign(stand=float(cell) if cell else np.nan))[0]
        np.testing.assert_allclose(browser.evaluate(SAID)[0], known, atol=1e-6 * population.reading.targets[0].scale)
        assert browser.evaluate(f"fields[{stand}].unknown.checked") == (cell != "1e6")
    browser.evaluate(f"fields[{stand}].unknown.click()")
    assert browser.evaluate(f"[row[{stand}], fields[{stand}].said.textContent]")[1] == ""
    assert browser.evaluate("document.querySelector('[type=reset]').click(), at('parts').rows.length") >= 2
    assert wrong_with(browser, url) == []


@pytest.mark.parametrize("name", TABLES)
def test_the_curve_is_the_prediction_along_the_column_in_focus(browser, tmp_path, name):
    population, _ = table(name)
    opened(browser, population, tmp_path)
    for i, column in enumerate(population.reading.table):
        browser.evaluate(f"fields[{i}].control.focus()")
        settled(browser)
        shown = browser.evaluate(
            "at('curve').textContent + (at('curve').querySelector('svg')?.getAttribute('aria-label') ?? '')"
        )
        assert shown
        expected = population.partial_dependence(column.name, points=3).query("value == value")
        values = [
            population.reading.table[i].levels.index(v or "") if column.kind == "category" else v
            for v in expected["value"]
        ]
        if column.kind == "date":
            values = [pd.Timestamp(v).timestamp() for v in expected["value"]]
        found = browser.evaluate(f"{json.dumps(values)}.map(x => along(x).y)")
        np.testing.assert_allclose(found, expected["prediction"], atol=1e-6 * population.reading.targets[0].scale)


def test_of_many_levels_the_most_frequent_are_drawn(browser, tmp_path):
    """All are in the list of the field: a drawing of thousands would take seconds at every key."""
    counts = [4, 3, *[2] * 70]
    cells = pd.DataFrame({"place": np.repeat([f"place {i}" for i in range(72)], counts)})
    population = networks_for(cells, np.random.default_rng(0).normal(size=len(cells)))
    url = opened(browser, population, tmp_path)
    last = population.reading.table[0].levels[-1]
    typed(browser, 0, population.reading.table[0], last)
    settled(browser)
    drawn = browser.evaluate("[...document.querySelectorAll('.levels th')].map(th => th.textContent)")
    assert len(drawn) == 51
    assert {"place 0", "place 1", last} <= set(drawn)
    assert browser.evaluate("document.querySelector('.levels .on th').textContent") == last
    assert "The 50 most frequent of 72 levels" in browser.evaluate("at('curve-note').textContent")
    assert browser.evaluate("fields[0].control.options.length") == 74
    assert wrong_with(browser, url) == []
