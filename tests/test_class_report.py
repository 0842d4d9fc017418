"""The page of a table of classes: its numbers are those of the rows held out, and whatever a label holds is text."""

import re

import numpy as np
import pandas as pd
import pytest
from commands import small_model
from pages import self_contained

from netformer import NetFormerClassifier
from netformer.benchmark.class_scores import BINS, class_scores
from netformer.benchmark.held_out import HeldOutClasses
from netformer.cli.class_report import by_class, confusion, contributions, reliability
from netformer.cli.scores import of_score
from netformer.cli.table_report import table_report
from netformer.report.page import DataTable, render

HOSTILE = "</script></style><svg onload=alert(1)>\"'&{{BODY}}\x00<b>"


def held_out(k, rows=200, repeats=1, labels=None, seed=0):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(k), (repeats, rows))
    y = (p[0].cumsum(1) < rng.random((rows, 1))).sum(1).clip(max=k - 1)
    names = tuple(labels or (f"c{i}" for i in range(k)))
    return HeldOutClasses(y, {"wide": p}, names, np.arange(rows), np.arange(rows), "folds")


def tables(section):
    return [block for block in section.blocks if isinstance(block, DataTable)]


@pytest.fixture(scope="module", autouse=True)
def model():
    with small_model():
        yield


def test_the_matrix_counts_rows_and_says_recall_and_precision():
    found = held_out(3)
    (table,) = tables(confusion(found))
    taken = found.predicted["wide"][0].argmax(1)
    for k, row in enumerate(table.rows):
        assert row[1:4] == [((found.y == k) & (taken == other)).sum() for other in range(3)]
        assert row[4:] == [
            (found.y == k).sum(),
            pytest.approx((taken == k)[found.y == k].mean()),
            pytest.approx((found.y == k)[taken == k].mean()),
        ]


def test_of_many_classes_the_pairs_most_often_confused_are_listed():
    found = held_out(30, 900)
    pairs, each = tables(confusion(found))
    counts = found.confusion() * (1 - np.eye(30, dtype=int))
    assert [row[2] for row in pairs.rows] == np.sort(counts, axis=None)[::-1][:20].tolist()
    first = pairs.rows[0]
    assert counts[int(first[0][1:]), int(first[1][1:])] == first[2]
    assert len(each.rows) == 30


@pytest.mark.parametrize(("k", "repeats"), [(2, 1), (4, 3)])
def test_the_table_of_intervals_adds_up_to_the_calibration_error(k, repeats):
    found = held_out(k, repeats=repeats)
    (table,) = tables(reliability(found))
    rows = np.array([row[1:] for row in table.rows], np.float64)
    assert rows[:, 0].sum() == repeats * 200
    error = np.abs(rows[:, 3]) @ rows[:, 0] / rows[:, 0].sum()
    assert error == pytest.approx(found.table().loc["wide", "calibration_error"])
    if repeats == 1:
        assert error == pytest.approx(class_scores(found.y, found.predicted["wide"][0])["calibration_error"])
    low = [float(row[0].split()[0]) for row in table.rows]
    assert all(at <= mean <= at + 1 / BINS for at, mean in zip(low, rows[:, 1] + 1e-3, strict=True))


def test_probabilities_by_class_are_means_over_its_rows_and_others():
    found = held_out(3)
    (table,) = tables(by_class(found))
    p = found.predicted["wide"][0]
    for k, row in enumerate(table.rows):
        own = found.y == k
        expected = [own.sum(), p[own, k].mean(), p[~own, k].mean(), -np.log(p[own, k]).mean()]
        assert row[1:] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("k", [2, 3])
def test_contributions_are_those_of_explain_and_move_no_probability(k):
    rng = np.random.default_rng(1)
    X = pd.DataFrame(rng.normal(size=(40, 3)), columns=list("abc"))
    y = np.array(["u", "v", "w"], dtype=object)[np.digitize(X["a"], [-0.4, 0.5]) % k]
    bundle = NetFormerClassifier(n_samples=2, random_state=0).fit(X, y).to_bundle()
    (table,) = tables(contributions(bundle, X))
    values = bundle.explain(X).values
    values = values - values.mean(2, keepdims=True) if k > 2 else values[:, :, None]
    expected = np.abs(values).mean(0)
    found = {row[0]: row[1:] for row in table.rows}
    for column, sizes in zip(bundle.columns, expected, strict=True):
        assert found[column] == pytest.approx(sizes.tolist())
    assert table.heads == ["column", "u", "v", "w"] if k == 3 else ["column", "v"]


@pytest.mark.parametrize("k", [2, 3, 14])
def test_the_page_of_hostile_labels_shows_them_as_text(k):
    rng = np.random.default_rng(0)
    hostile = HOSTILE.replace("\x00", "")
    X = pd.DataFrame(rng.normal(size=(140, 2)), columns=[hostile, "b" * 300]).assign(town=["Ulm", "</td>"] * 70)
    labels = sorted([hostile, "", "{{BODY}}", *(f"label {i}" for i in range(20))][:k])
    y = np.array(labels, dtype=object)[np.arange(140) % k]
    found = held_out(k, 140, labels=labels)
    bundle = NetFormerClassifier(n_samples=2, random_state=0).fit(X, pd.Series(y, name=hostile)).to_bundle()
    bundle.about["rows"] = 140
    text = render(table_report(bundle, found, X, y, ["said"], ["note"], "command"))
    page = self_contained(text)
    assert page.rows[1][:2] == [
        "wide",
        of_score(found.table().loc["wide"].to_dict(), "log_loss").replace(" ", "\u00a0"),
    ]
    titles = re.findall(r"<h2>(.*?)</h2>", text)
    for title in ("Confusion", "Calibration", "Probabilities by class", "Importances", "Contributions", "Curves"):
        assert title in titles
    assert "Residuals" not in titles
    assert "NetFormerClassifier.load" in text
    alone = render(table_report(bundle, None, X, y, ["said"]))
    assert "<h2>Confusion</h2>" not in alone
