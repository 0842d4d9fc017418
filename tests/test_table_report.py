"""The page of a table: whether it can be trusted, in this order, with numbers that are those of the rows held out."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from commands import dirty_table
from drawn import draw
from pages import self_contained
from typer.testing import CliRunner

from netformer import __version__
from netformer.benchmark.scoring import COVERAGES, OURS, HeldOut
from netformer.cli.app import app
from netformer.cli.scores import of_score
from netformer.cli.table_report import table_report
from netformer.cli.trust import predicted, units
from netformer.exports.population import Bundle
from netformer.generation import fitted
from netformer.generation.generator import NetFormer
from netformer.model.vae import TransformerVAE
from netformer.networks.specs import Layout
from netformer.networks.stack import Networks
from netformer.report.page import cell, render, write_page
from netformer.tables.reading import read
from netformer.tasks.metafeatures import MetaFeatureTransform

HOSTILE = "</script></style><svg onload=alert(1)>\"'&{{BODY}}\x00\ud800<b>"


def test_the_page_of_a_table_names_hostile_columns_and_scores(tmp_path):
    rng, hostile = np.random.default_rng(0), HOSTILE.replace("\ud800", "")  # which no file can hold
    X = pd.DataFrame(rng.normal(size=(60, 3)) * [1.0, 1e6, 1e-6], columns=[hostile, "b" * 300, "ü \u202e"])
    y = X[hostile].to_numpy() + rng.normal(size=60)
    X = X.assign(**{"<i>": np.arange(60) % 2}).astype({"<i>": str}).replace({"<i>": {"0": hostile, "1": "</td>"}})
    networks = draw(8, layout=Layout(4, 2, 4), inputs=4)
    bundle = Bundle(read(X, y, target=hostile)[0], networks, torch.zeros(8), networks)
    ends = {share: np.stack([y - 1, y + share], 1)[None] for share in COVERAGES}
    found = HeldOut(y, {OURS: y[None], "ridge": y[None] / 2}, ends, np.arange(60), np.arange(60), hostile)
    write_page(table_report(bundle, found, X, y, [hostile], [hostile], hostile), tmp_path / "t.html")
    page = self_contained((tmp_path / "t.html").read_text())
    assert [row[:2] for row in page.rows[1:3]] == [
        [OURS, "1.000\u00a0±\u00a00.000"],
        ["ridge", of_score(found.table().loc["ridge"].to_dict(), "r2").replace(" ", "\u00a0")],
    ]
    assert sum(attrs.get("class") == "graph" for _, attrs in page.tags) == 3


def test_the_page_of_a_table_lists_its_columns_and_how_far_each_moves_the_answer(tmp_path):
    """One answer is a line of known slope along a column, another jumps by level: the page has just that."""
    table = dirty_table()
    X, y = table.drop(columns=["rent", "cents", "area", "costs"]), np.arange(200) % 13.0
    reading = read(X, y, target="rent")[0]
    f, at = len(reading.inputs), [reading.input_names.index(name) for name in ("built", "heat = oil")]
    networks = draw(2, layout=Layout(f, 1, 4), inputs=f)
    weight, mask = torch.zeros_like(networks.weight), networks.specs.mask.clone()
    weight[:, -1, [1 + i for i in at]] = torch.tensor([0.5, 0.25])
    mask[:, -1, [1 + i for i in at]] = True
    networks = Networks(replace(networks.specs, mask=mask), weight)
    bundle = Bundle(reading, networks, torch.zeros(2), networks)
    report = table_report(bundle, None, X, y)
    page = self_contained(render(report))
    rows = {row[0]: row[1:] for row in page.rows if row[0] in X.columns and len(row) == 5}
    assert set(rows) == set(X.columns)
    z = reading.standardize(X)
    oil = z[:, at[1]]
    assert rows["heat"][1] == cell(0.25 * reading.targets[0].scale * float(np.ptp(oil)))
    built = float(rows["built"][1]) / reading.targets[0].scale / 0.5
    assert 0.9 * np.ptp(z[:, at[0]]) < built <= np.ptp(z[:, at[0]])
    assert [rows[name][1] for name in ("town", "since", "share")] == ["0.000"] * 3
    assert rows["id"][:3] == ["left out", "–", "a row number or an id"]
    assert rows["heat"][3] == ", ".join(name for name in reading.input_names if name.startswith("heat"))
    order = [row[0] for row in page.rows if row[0] in X.columns and len(row) == 5]
    assert order[:2] == sorted(["built", "heat"], key=lambda name: -float(rows[name][1]))
    drawn = [picture.drawing for section in report.sections if section.title == "Curves" for picture in section.blocks]
    heat = next(drawing for drawing in drawn if drawing.title == "heat")
    assert all(f">{level}</text>" in heat.body for level in ("gas", "oil", "wood", "missing"))


def test_generate_writes_the_page_of_its_table(tmp_path, monkeypatch):
    parts = {"max_features": 8, "max_hidden_layers": 2, "max_width": 6, "n_metafeatures": 37, "d_model": 16}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TransformerVAE.from_arguments(d_vertex=2, d_row=16, n_heads=2, condition="task", **parts).eval()
    monkeypatch.setattr(fitted, "_package", lambda in_torch: NetFormer(model, MetaFeatureTransform((0.0,), (1.0,))))
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(50, 2)), columns=["</script>", "b"]).assign(price=rng.normal(size=50))
    table.to_csv(tmp_path / "t.csv", index=False)

    def generate(*extra):
        return CliRunner().invoke(
            app, ["generate", str(tmp_path / "t.csv"), "-t", "price", "-n", "3", "--beside", "ridge", "--json", *extra]
        )

    page = tmp_path / "page.html"
    done = generate("--report", str(page))
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["report"] == str(page)
    rows = self_contained(page.read_text()).rows
    assert [row[0] for row in rows[1:4]] == [row["method"] for row in found["scores"]["methods"]]
    assert ["</script>"] in [row[:1] for row in rows]
    assert (
        f"netformer generate {tmp_path / 't.csv'} -t price -n 3 --beside ridge --json --report {page}"
        in page.read_text()
    )
    for extra, message in (
        (["--report", str(page)], "exists already"),
        (["--report", str(tmp_path / "page.txt")], "must end in .html"),
        (["--report", str(tmp_path / "a.html"), "--out", str(tmp_path / "a.html")], "another name than --out"),
    ):
        refused = generate(*extra)
        assert refused.exit_code == 2
        assert message in refused.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "t.csv"]


@pytest.fixture(scope="module")
def scored():
    """A table of 60 rows, a network that is a line plus units, and predictions for rows held out."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(60, 3)) * [1.0, 2.0, 3.0], columns=list("abc"))
    y = 600_000 + 1000 * X["a"].to_numpy() + 500 * rng.normal(size=60)
    networks = draw(4, layout=Layout(3, 2, 4), inputs=3)
    bundle = Bundle(read(X, y, target="price")[0], networks, torch.zeros(4), networks, {"rows": 60})
    answer = y + 100 * rng.normal(size=60)
    ends = {share: np.stack([answer - 400 * share, answer + 400 * share], 1)[None] for share in COVERAGES}
    predicted = {OURS: answer[None], "ridge": answer[None] + 50, "constant": np.full((1, 60), y.mean())}
    return bundle, HeldOut(y, predicted, ends, np.arange(60), np.arange(60), "by hand"), X, y


def test_the_page_of_a_table_answers_in_order_whether_it_can_be_trusted(scored):
    bundle, found, X, y = scored
    text = render(
        table_report(bundle, found, X, y, ["Best here: wide."], ["a note"], "netformer generate t.csv", Path("n"))
    )
    page = self_contained(text)
    assert re.findall(r"<h2>(.*?)</h2>", text) == [
        "Scores",
        "Predicted against observed",
        "Residuals",
        "Intervals",
        "Columns",
        "Importances",
        "Curves",
        "The network",
        "Single networks",
        "Use it, make it again",
    ]
    row = next(row for row in page.rows if row[0] == "90%")
    inside = np.abs(y - found.predicted[OURS][0]) <= 360
    assert row[1].startswith(f"{100 * inside.mean():.1f}\u00a0±\u00a0")
    assert row[2] == "720"
    sizes = np.sort(np.abs(y - found.predicted[OURS][0]))
    assert f"90% by at most {np.quantile(sizes, 0.9):.3g}" in text
    assert "Best here: wide." in text
    assert "model = NetFormerRegressor.load(&#x27;n&#x27;)" in text
    assert "<pre tabindex=0>netformer generate t.csv</pre>" in text
    assert f"Made by netformer {__version__}" in text


def test_without_scores_the_page_has_what_is_left(scored):
    bundle, _, X, y = scored
    titles = [section.title for section in table_report(bundle, None, X, y).sections]
    assert titles[:2] == ["Columns", "Importances"]
    assert "Scores" not in titles


def test_the_table_of_units_adds_up_to_the_answer(scored):
    """Rank and size of each term by an independent sum: taking a term away moves answers by its deviation."""
    bundle, _, X, _ = scored
    (table,) = units(bundle, X).blocks
    z, stack = torch.from_numpy(bundle.read(X)), bundle.stack("wide")
    adds = {row[0]: row[2] for row in table.rows}
    assert list(adds.values()) == sorted(adds.values(), reverse=True)
    whole = bundle.predict(X, "wide")
    for index, name in enumerate("abc"):
        weight = stack.weight.clone()
        weight[:, -1, 1 + index] = 0
        without = replace(bundle, wide=Networks(stack.specs, weight)).predict(X, "wide")
        assert adds[name] == pytest.approx(float((whole - without).std()), abs=1e-4 * bundle.reading.targets[0].scale)
    hidden = [value for name, value in adds.items() if name.startswith("unit")]
    assert hidden
    assert len(z) == 60


def test_numbers_of_an_axis_are_whole_and_apart(scored):
    """Six digits on an axis: no number is cut at the border of the picture, and the title of an axis is beside them."""
    bundle, found, _, _ = scored
    for picture in predicted(found, bundle.target).blocks:
        drawing = picture.drawing
        shown = re.findall(
            r'<text x="([-\d.]+)" y="([-\d.]+)"(?: text-anchor="(\w+)")?[^>]*>(\d{6})</text>', drawing.body
        )
        assert len(shown) > 4
        for x, _, anchor, text in shown:
            wide = 6.5 * len(text)
            left = float(x) - {"middle": wide / 2, "end": wide}.get(anchor, 0)
            assert left >= (14 if anchor == "end" else 0)  # where the vertical title ends
            assert left + wide <= drawing.width
