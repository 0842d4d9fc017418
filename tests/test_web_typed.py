"""The page in Chromium: what is typed into it is answered as Python does, to 1e-6 of the target's spread; contributions
add up, it works without a mouse and on a telephone, asks nobody for anything and says no error."""

import json
import shutil
import tempfile

import numpy as np
import pandas as pd
import pytest
from mixed import networks_for, table

from netformer import export
from netformer.exports.formula import typical_row
from stages.report_check import BROWSERS, Browser, complaints

CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
TABLES = ("numbers", "mixed", "texts", "flats")


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here (Debian: apt-get install chromium) to type into the page")
    with tempfile.TemporaryDirectory() as profile:
        started = Browser(CHROMIUM, profile)
        started.call("Emulation.setFocusEmulationEnabled", enabled=True)
        started.call("Emulation.setTimezoneOverride", timezoneId="America/New_York")  # dates are UTC all the same
        yield started
        started.close()


def page_of(population, folder):
    path = folder / "page.html"
    export(population, "wide", path, "html")
    return path


def opened(browser, path, width=1280):
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 600)
    url = path.resolve().as_uri()
    browser.open(url)
    return url


def wrong_with(browser, url):
    """Complaints but for pictures that are part of Chromium, of the button of a date."""
    return [line for line in complaints(browser.events, url) if not line.startswith("request: data:")]


def typed(browser, i, column, cell):
    """Put a cell into field number i, by keys where it is text."""
    gap = pd.isna(cell)
    if column.kind == "number":
        browser.evaluate(f"fields[{i}].control.focus(), fields[{i}].control.select()")
        browser.call("Input.insertText", text="" if gap else str(cell))
        if gap:
            browser.call("Input.dispatchKeyEvent", type="keyDown", key="Delete", windowsVirtualKeyCode=46)
            browser.call("Input.dispatchKeyEvent", type="keyUp", key="Delete", windowsVirtualKeyCode=46)
        return
    if column.kind == "date":
        value = "" if gap else pd.Timestamp(cell).isoformat()
        value = value if browser.evaluate(f"columns[{i}].timed") else value[:10]
    else:
        texts = browser.evaluate(f"[...fields[{i}].control.options].map(o => o.textContent)")
        text = "– not known –" if gap or not str(cell).strip() else str(cell).strip()
        value = browser.evaluate(
            f"fields[{i}].control.options[{texts.index(text if text in texts else '– any other –')}].value"
        )
    browser.evaluate(
        f"fields[{i}].control.value = {json.dumps(value)};"
        f"fields[{i}].control.dispatchEvent(new Event('input', {{bubbles: true}}))"
    )


SAID = "[...document.querySelectorAll('#prediction data, #between data')].map(d => Number(d.value))"
PARTS = "[...document.querySelectorAll('#parts tbody data')].map(d => Number(d.value))"
FRAME = "new Promise(done => requestAnimationFrame(() => setTimeout(done, 2 * PAUSE)))"


@pytest.mark.parametrize("name", TABLES)
def test_what_is_typed_is_answered_as_python_does(browser, tmp_path, name):
    population, rows = table(name)
    if name == "mixed":
        assert set(population.reading.outside(rows[:10])) >= {"size", "town", "grade", "street"}
    if name == "texts":
        assert population.reading.table[1].words == ("to ask",)
        assert "to ask" in list(rows.iloc[:10, 1])
    url = opened(browser, page_of(population, tmp_path))
    near = {"rtol": 0, "atol": 1e-6 * population.reading.target_scale}
    np.testing.assert_allclose(
        browser.evaluate(SAID)[0], population.predict(typical_row(population.reading))[0], **near
    )
    for n in range(min(10, len(rows))):
        row = rows.iloc[[n]]
        cells = row.copy()
        for i, column in enumerate(population.reading.table):
            cell = row[column.name].iloc[0]
            if column.form == "%d.%m.%Y":
                cell = pd.to_datetime(cell, format=column.form) if cell is not None else None
            typed(browser, i, column, cell)
        expected = [population.predict(cells)[0], *population.predict_interval(cells, 0.9)[0]]
        np.testing.assert_allclose(browser.evaluate(SAID), expected, **near)
        browser.call("Runtime.evaluate", expression=FRAME, awaitPromise=True)
        parts = browser.evaluate(PARTS)
        np.testing.assert_allclose([sum(parts[:-1]), parts[-1]], expected[0], **near)
    assert wrong_with(browser, url) == []


def test_the_page_works_without_a_mouse_and_on_a_telephone(browser, tmp_path):
    population, _ = table("mixed")
    url = opened(browser, page_of(population, tmp_path), width=360)
    assert browser.evaluate("document.documentElement.scrollWidth") <= 360
    unnamed = """[...document.querySelectorAll('input, select, button')].filter(e =>
        !e.labels?.length && !e.getAttribute('aria-label') && !e.textContent.trim()).map(e => e.id)"""
    assert browser.evaluate(unnamed) == []
    assert browser.evaluate("fields.filter(({ control }) => control.offsetHeight < 24).length") == 0
    # Tab reaches every field in the order of the page, then the choices of the answer
    reached = []
    browser.evaluate("document.body.focus()")
    for _ in range(200):
        for kind in ("keyDown", "keyUp"):
            browser.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        now = browser.evaluate("document.activeElement.id || document.activeElement.type || ''")
        if reached and now == reached[0]:
            break
        reached.append(now)
    order = [name for i, name in enumerate(reached) if reached.index(name) == i]
    fields = [f"f{i}" for i in range(len(population.columns))]
    assert [name for name in order if name in fields] == fields
    assert {"coverage", "along", "reset"} <= set(order)
    # arrows on the slider move the field
    size = population.columns.index("size")
    browser.evaluate(f"fields[{size}].control.focus()")
    browser.call("Runtime.evaluate", expression=FRAME, awaitPromise=True)
    assert browser.evaluate("at('along').value") == str(size)
    before, answer = browser.evaluate(f"row[{size}]"), browser.evaluate(SAID)[0]
    browser.evaluate("at('slide').focus()")
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key="ArrowRight", code="ArrowRight", windowsVirtualKeyCode=39)
    after = browser.evaluate(f"[row[{size}], Number(fields[{size}].control.value)]")
    assert after[0] == after[1] > before
    assert browser.evaluate(SAID)[0] != answer
    assert wrong_with(browser, url) == []


def test_cells_that_are_none_are_named_and_a_gap_is_a_gap(browser, tmp_path):
    population, _ = table("mixed")
    url = opened(browser, page_of(population, tmp_path))
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
        np.testing.assert_allclose(browser.evaluate(SAID)[0], known, atol=1e-6 * population.reading.target_scale)
        assert browser.evaluate(f"fields[{stand}].unknown.checked") == (cell != "1e6")
    browser.evaluate(f"fields[{stand}].unknown.click()")
    assert browser.evaluate(f"[row[{stand}], fields[{stand}].said.textContent]")[1] == ""
    assert browser.evaluate("document.querySelector('[type=reset]').click(), at('parts').rows.length") >= 2
    assert wrong_with(browser, url) == []


@pytest.mark.parametrize("name", TABLES)
def test_the_curve_is_the_prediction_along_the_column_in_focus(browser, tmp_path, name):
    population, _ = table(name)
    opened(browser, page_of(population, tmp_path))
    for i, column in enumerate(population.reading.table):
        browser.evaluate(f"fields[{i}].control.focus()")
        browser.call("Runtime.evaluate", expression=FRAME, awaitPromise=True)
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
        np.testing.assert_allclose(found, expected["prediction"], atol=1e-6 * population.reading.target_scale)


def test_of_many_levels_the_most_frequent_are_drawn(browser, tmp_path):
    """All are in the list of the field: a drawing of thousands would take seconds at every key."""
    counts = [4, 3, *[2] * 70]
    cells = pd.DataFrame({"place": np.repeat([f"place {i}" for i in range(72)], counts)})
    population = networks_for(cells, np.random.default_rng(0).normal(size=len(cells)))
    url = opened(browser, page_of(population, tmp_path))
    last = population.reading.table[0].levels[-1]
    typed(browser, 0, population.reading.table[0], last)
    browser.call("Runtime.evaluate", expression=FRAME, awaitPromise=True)
    drawn = browser.evaluate("[...document.querySelectorAll('.levels th')].map(th => th.textContent)")
    assert len(drawn) == 51
    assert {"place 0", "place 1", last} <= set(drawn)
    assert browser.evaluate("document.querySelector('.levels .on th').textContent") == last
    assert "The 50 most frequent of 72 levels" in browser.evaluate("at('curve-note').textContent")
    assert browser.evaluate("fields[0].control.options.length") == 74
    assert wrong_with(browser, url) == []
