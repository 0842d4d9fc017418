"""A page that is a model, opened in Chromium: its fields are typed into, and what it says is read."""

import json
import shutil
import tempfile

import pandas as pd
import pytest

from netformer import export
from stages.report_check import BROWSERS, Browser, complaints

PARTS = "[...document.querySelectorAll('#parts tbody data')].map(d => Number(d.value))"
FRAME = "new Promise(done => requestAnimationFrame(() => setTimeout(done, 2 * PAUSE)))"


def started():
    """A browser, while it is in use. Skips the test where there is no Chromium."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip("there is no Chromium here (Debian: apt-get install chromium) to type into the page")
    with tempfile.TemporaryDirectory() as profile:
        browser = Browser(program, profile)
        browser.call("Emulation.setFocusEmulationEnabled", enabled=True)
        browser.call("Emulation.setTimezoneOverride", timezoneId="America/New_York")  # dates are UTC all the same
        yield browser
        browser.close()


def opened(browser, population, folder, width=1280):
    """The page of the wide network of a population, and its address."""
    path = folder / "page.html"
    export(population, "wide", path, "html", overwrite=True)
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 600)
    url = path.resolve().as_uri()
    browser.open(url)
    settled(browser)
    return url


def wrong_with(browser, url):
    """Complaints but for pictures that are part of Chromium, of the button of a date."""
    return [line for line in complaints(browser.events, url) if not line.startswith("request: data:")]


def settled(browser):
    """Waits until the curve and the contributions are those of the fields."""
    browser.call("Runtime.evaluate", expression=FRAME, awaitPromise=True)


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


def typed_row(browser, population, row):
    """Put the cells of a table of one row into the fields."""
    for i, column in enumerate(population.reading.table):
        cell = row[column.name].iloc[0]
        if column.form == "%d.%m.%Y":
            cell = pd.to_datetime(cell, format=column.form) if cell is not None else None
        typed(browser, i, column, cell)


def pressed(browser, key, code):
    """A key, down and up."""
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)


def reached(browser):
    """The names of what Tab reaches, in order."""
    names = []
    browser.evaluate("document.body.focus()")
    for _ in range(200):
        pressed(browser, "Tab", 9)
        now = browser.evaluate("document.activeElement.id || document.activeElement.type || ''")
        if names and now == names[0]:
            break
        names.append(now)
    return [name for i, name in enumerate(names) if names.index(name) == i]


def narrow_and_named(browser, width):
    """The page is no wider than its window, and every control has a name and room for a finger."""
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    unnamed = """[...document.querySelectorAll('input, select, button')].filter(e =>
        !e.labels?.length && !e.getAttribute('aria-label') && !e.textContent.trim()).map(e => e.id)"""
    assert browser.evaluate(unnamed) == []
    assert browser.evaluate("fields.filter(({ control }) => control.offsetHeight < 24).length") == 0
