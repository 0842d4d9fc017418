"""The page of a target of classes: its script answers and explains as Python does; in Chromium what is typed is
answered with the probabilities and the label of the population, for the class in focus."""

import json
from dataclasses import replace

import numpy as np
import pytest
from chromium import PARTS, narrow_and_named, opened, pressed, reached, settled, typed, typed_row, wrong_with
from classes import LABELS, jumping, of_classes
from mixed import positions
from readers import data_of, in_node

from netformer import NetFormerClassifier
from netformer.errors import InputError
from netformer.exports.formula import typical_row
from netformer.sources.web import web_page

SHOWN = 10  # classes with a bar, where there are more
BARS = """[...document.querySelectorAll('#bars tr')].map(tr => [tr.querySelector('th').textContent,
    Number(tr.querySelector('data').value), tr.querySelector('.more').style.width])"""


def page_of(population, which="wide"):
    return data_of(web_page(population, population.formula(which), which))


def logits_of(population, rows, which="wide"):
    """A logit per class, of two classes with either sign."""
    logits = population.decision_function(rows, which)
    return np.stack([-logits, logits], 1) if logits.ndim == 1 else logits


@pytest.mark.parametrize("name", LABELS)
def test_the_script_answers_with_the_probabilities_of_the_population(name):
    population, rows = of_classes(name)
    pages = [page_of(population, which) for which in ("wide", "mean", 0)]
    found = in_node("rows.map(row => net.answer(row.map(cell)))", pages, positions(population, rows))
    for which, answers in zip(("wide", "mean", 0), found, strict=True):
        for part, expected in (
            ("probabilities", population.predict_proba(rows, which)),
            ("logits", logits_of(population, rows, which)),
        ):
            np.testing.assert_allclose([one[part] for one in answers], expected, rtol=0, atol=1e-9)
    assert pages[0]["classes"] == [str(label) for label in population.classes]
    assert "interval" not in pages[0]


@pytest.mark.parametrize("name", ["bools", "ints"])
def test_contributions_are_those_of_explain_for_every_class(name):
    population, rows = of_classes(name, "numbers")
    rows = rows[:30]
    expected = population.explain(rows)
    values = expected.values if expected.values.ndim == 3 else np.stack([-expected.values, expected.values], 2)
    for k in range(len(population.classes)):
        call = f"rows.map(row => net.contributions(row.map(cell), {k}))"
        (found,) = in_node(call, [page_of(population)], rows)
        np.testing.assert_allclose([one["values"] for one in found], values[:, :, k], rtol=0, atol=1e-9)
        sums = [one["base"] + sum(one["values"]) for one in found]
        np.testing.assert_allclose(sums, logits_of(population, rows)[:, k], rtol=0, atol=1e-9)


def test_the_page_of_classes_that_jump_answers_and_explains_as_python_does():
    table, codes = jumping()
    population = NetFormerClassifier(n_samples=2, random_state=0).fit(table, codes).network_
    assert population.about["steps"]["share"] > 0.5
    rows = jumping(20, seed=1)[0]
    (found,) = in_node("rows.map(row => net.answer(row.map(cell)))", [page_of(population)], positions(population, rows))
    np.testing.assert_allclose([one["probabilities"] for one in found], population.predict_proba(rows), atol=1e-6)
    said = population.explain(rows[:5])
    np.testing.assert_allclose(said.base_values + said.values.sum(1), population.decision_function(rows[:5]), atol=1e-6)


def test_nothing_in_a_label_is_code():
    population, _ = of_classes("texts")
    text = web_page(population, population.formula("wide"), "wide")
    assert text.count("<script") == text.count("</script>") == 2
    facts = dict(data_of(text)["facts"])
    assert facts["Predicts"] == population.target
    assert facts["Classes"].endswith(" and 6 more")
    assert len(text) < 150_000
    with pytest.raises(InputError, match="columns must be some of those that are read"):
        web_page(population, population.formula("wide"), "wide", "z")


def test_what_the_page_says_of_its_scores():
    population, _ = of_classes("ints")
    ours = {"method": "wide", "log_loss": 0.25, "log_loss_se": 0.0312, "accuracy": 0.9, "auc": None}
    methods = [ours, {"method": "hgb", "log_loss": 0.5}, {"method": "constant", "log_loss": 1.0986}]
    scores = {"how": "5-fold cross-validation", "rows": 600, "methods": methods, "classes": [-3, 0, 70000]}
    population = replace(population, about={"rows": 600, "scores": scores})
    facts = dict(page_of(population)["facts"])
    assert facts["Classes"] == "-3, 0, 70000"
    assert facts["How good"] == (
        "log loss 0.250 ± 0.031, accuracy 0.900; on 600 rows that were not fitted: 5-fold cross-validation"
    )
    assert facts["Log loss of others"] == "histogram boosting 0.500, the shares of the classes 1.099"
    assert "Intervals" not in facts


def test_a_class_may_have_the_name_of_the_column_beside_it():
    population, _ = of_classes("two ints")
    named = replace(population, reading=replace(population.reading, classes=("other", "value")))
    curve = named.partial_dependence("size", points=4)
    assert list(curve.columns) == ["value", "other", "value"]
    np.testing.assert_array_equal(curve.to_numpy(), population.partial_dependence("size", points=4).to_numpy())


def percent(p):
    if p < 5e-4 or p > 0.9995:
        return "<\u202f0.1\u00a0%" if p < 0.5 else ">\u202f99.9\u00a0%"
    return f"{100 * p:.{1 if p < 0.01 or p > 0.99 else 0}f}\u00a0%"


def bars_are(browser, probabilities, labels, k):
    """The bars are those of the classes in order, or of the most probable of many and of class k, which is in focus."""
    shown = list(range(len(labels)))
    if len(labels) > SHOWN:
        shown = np.argsort(-probabilities, kind="stable")[:SHOWN].tolist()
        shown += [k] * (k not in shown)
    bars = browser.evaluate(BARS)
    assert [text for text, _, _ in bars] == [labels[i].strip() or "– empty –" for i in shown]
    np.testing.assert_allclose([p for _, p, _ in bars], probabilities[shown], rtol=0, atol=1e-6)
    np.testing.assert_allclose([float(w[:-1]) for _, _, w in bars], 100 * probabilities[shown], rtol=1e-4, atol=1e-4)
    if len(labels) > SHOWN:
        assert f"of {len(labels)} classes" in browser.evaluate("at('shares-note').textContent")
    assert browser.evaluate("[...at('bars').rows].findIndex(tr => tr.className === 'on')") == shown.index(k)


@pytest.mark.parametrize("name", ["two texts", "texts", "ints", "floats", "bools"])
def test_what_is_typed_is_answered_as_python_does(browser, tmp_path, name):
    population, rows = of_classes(name)
    labels, logits = [str(label) for label in population.classes], logits_of(population, rows)
    url, tops = opened(browser, population, tmp_path), set()
    assert browser.evaluate("at('covers').hidden")
    for n in range(8):
        row = rows.iloc[[n]]
        typed_row(browser, population, row)
        probabilities = population.predict_proba(row)[0]
        top = int(probabilities.argmax())
        tops.add(top)
        k = top if len(labels) > 2 else 1
        said = browser.evaluate("[at('prediction').textContent, Number(at('prediction').querySelector('data').value)]")
        assert said[0] == f"most probable: {labels[top].strip() or '– empty –'}, {percent(probabilities[top])}"
        np.testing.assert_allclose(said[1], probabilities[top], rtol=0, atol=1e-6)
        bars_are(browser, probabilities, labels, k)
        settled(browser)
        parts = browser.evaluate(PARTS)
        np.testing.assert_allclose([sum(parts[:-1]), parts[-1]], logits[n, k], rtol=0, atol=1e-6)
        whole = browser.evaluate("[...document.querySelectorAll('#parts .sum small')].map(e => e.textContent)")
        typical = population.predict_proba(typical_row(population.reading))[0]
        assert whole == [f"probability {percent(one[k])}" for one in (typical, probabilities)]
    assert len(tops) > 1
    assert wrong_with(browser, url) == []


@pytest.mark.parametrize("name", ["bools", "ints", "texts"])
def test_the_curve_is_the_probability_of_the_class_in_focus(browser, tmp_path, name):
    population, rows = of_classes(name)
    labels = [str(label).strip() or "– empty –" for label in population.classes]
    url = opened(browser, population, tmp_path)
    typed_row(browser, population, rows.iloc[[3]])
    options = browser.evaluate("[...at('class').options].map(o => o.textContent)")
    assert options == ["the most probable class"] * (len(labels) > 2) + labels
    size, town = (population.columns.index(column) for column in ("size", "town"))
    for k in sorted({0, 1, len(labels) - 1}):
        browser.evaluate(f"at('class').value = {k}, at('class').dispatchEvent(new Event('input'))")
        bars_are(browser, population.predict_proba(rows.iloc[[3]])[0], [str(one) for one in population.classes], k)
        for i, cells in ((size, [10.0, 20.5, 30.25]), (town, [0, 1, 2])):
            browser.evaluate(f"fields[{i}].control.focus()")
            settled(browser)
            column = population.reading.table[i]
            values = [column.levels[cell] for cell in cells] if column.kind == "category" else cells
            moved = rows.iloc[[3] * len(cells)].assign(**{column.name: values})
            found = browser.evaluate(f"{json.dumps(cells)}.map(x => along(x).y)")
            np.testing.assert_allclose(found, population.predict_proba(moved)[:, k], rtol=0, atol=1e-6)
            assert browser.evaluate("at('of').textContent") == f"Probability of {labels[k]}"
            drawn = browser.evaluate("(at('curve').querySelector('[aria-label]')).getAttribute('aria-label')")
            assert drawn.startswith(f"Probability of {labels[k]} ")
        assert browser.evaluate("at('parts-title').textContent").endswith(f" to the logit of {labels[k]}")
        settled(browser)
        logit = logits_of(population, rows.iloc[[3]])[0, k]
        np.testing.assert_allclose(browser.evaluate(PARTS)[-1], logit, rtol=0, atol=1e-6)
    assert wrong_with(browser, url) == []


def test_the_page_works_without_a_mouse_and_on_a_telephone(browser, tmp_path):
    population, _ = of_classes("texts")
    url = opened(browser, population, tmp_path, 360)
    narrow_and_named(browser, 360)
    order = reached(browser)
    fields = [f"f{i}" for i in range(len(population.columns))]
    assert [name for name in order if name in fields] == fields
    assert {"class", "along", "reset"} <= set(order)
    assert "coverage" not in order
    # arrows on the list choose the class in focus
    browser.evaluate("at('class').focus()")
    assert browser.evaluate("at('class').value") == "-1"
    pressed(browser, "ArrowDown", 40)
    assert browser.evaluate("[at('class').value, chosen, inFocus]") == ["0", 0, 0]
    # a cell that is none leaves the bars where they are, and marks them as those of before
    size, before = population.columns.index("size"), browser.evaluate(BARS)
    typed(browser, size, population.reading.table[size], "12 m")
    assert browser.evaluate("at('prediction').textContent + at('shares').className") == "–stale"
    assert browser.evaluate(BARS) == before
    typed(browser, size, population.reading.table[size], "12")
    assert browser.evaluate("at('shares').className") == ""
    assert wrong_with(browser, url) == []
