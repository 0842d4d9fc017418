"""Report: self-contained, escaped, deterministic; its tables and drawings say what the data say."""

import json
import re
import shutil
from importlib import import_module
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
from pages import Page, made_evidence, metrics, per_task, self_contained

from netformer.report.charts import Axis, Curve, Points, levels, plane
from netformer.report.evaluation_report import evaluation_report, headline
from netformer.report.graph import Edge, Vertex, graph
from netformer.report.page import DataTable, Picture, Report, Section, Text, cell, render, write_page
from netformer.report.svg import save, sheet
from netformer.tasks.task import TEST

ROOT = Path(__file__).resolve().parents[1]
HOSTILE = "</script></style><svg onload=alert(1)>\"'&{{BODY}}\x00\ud800<b>"


@pytest.fixture(scope="module")
def evidence():
    return made_evidence()


def test_the_evaluation_page_is_self_contained_and_has_every_part(evidence):
    table = per_task()
    found = metrics(table) | {"sampling": {"memorisation_ratio": 0.9, "novelty": 0.99, "ladder_0.1": 0.2}}
    text = render(evaluation_report(found, table, evidence))
    page = self_contained(text)
    titles = re.findall(r"<h2>(.*?)</h2>", text)
    assert titles == [
        "Zero-shot results",
        "Differences",
        "Every task",
        "What was written: curves",
        "What was written: surfaces",
        "Networks",
        "Latent map",
        "Weights and sizes",
        "Memorisation",
        "Other numbers",
    ]
    assert page.count("svg") >= 1 + 12 + 5 + 12 + 2 + 8 + 1
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_same_data_same_bytes_and_nothing_left_beside(evidence, tmp_path):
    for name in ("a.html", "b.html"):
        write_page(evaluation_report(metrics(per_task()), per_task(), evidence), tmp_path / "new" / name)
    assert (tmp_path / "new" / "a.html").read_bytes() == (tmp_path / "new" / "b.html").read_bytes()
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["a.html", "b.html"]


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "r.html"
    path.write_text("old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_page(Report("t", [], []), path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]


def test_hostile_text_is_text_everywhere(tmp_path):
    shown = Points([(0.0, 0.0)], names=[HOSTILE], label=HOSTILE)
    vertices = [Vertex(HOSTILE, 0, 0.0, 1.0, HOSTILE), Vertex("output", 1, 0.0, 1.0, "f")]
    curve, axis = Curve([(0.0, 0.0), (1.0, 1.0)], label=HOSTILE), Axis(HOSTILE, 0.0, 1.0)
    drawn = [
        plane(HOSTILE, axis, axis, [shown, curve]),
        plane(HOSTILE, axis, Axis(HOSTILE, 0.0, 1.0, names=[HOSTILE, HOSTILE]), [shown]),
        levels(HOSTILE, axis, axis, [[0.0, 1.0], [2.0, 3.0]]),
        graph(HOSTILE, [HOSTILE, HOSTILE], vertices, [Edge(0, 1, 1.0, 1.0)]),
    ]
    table = DataTable([HOSTILE, "n"], [[HOSTILE, 1.0]], HOSTILE, filters=(0,), ahead=(1,), search=True)
    blocks = [Text([HOSTILE]), table, *(Picture(drawing, HOSTILE) for drawing in drawn)]
    page = self_contained(text := render(Report(HOSTILE, [HOSTILE], [Section(HOSTILE, blocks, HOSTILE)])))
    assert page.count("script") == 1
    assert page.count("b") == 0
    assert not [attrs for _, attrs in page.tags if any(name.startswith("on") for name in attrs)]
    assert "\x00" not in text
    assert "{{BODY}}" in text
    assert text.count("<main>") == 1
    save(sheet(HOSTILE, drawn, 2), tmp_path / "hostile.svg")
    tags = {element.tag.rpartition("}")[2] for element in ElementTree.parse(tmp_path / "hostile.svg").iter()}
    assert tags == {"svg", "style", "rect", "g", "text", "title", "path", "circle"}


def test_the_table_of_tasks_holds_every_number_and_what_filters_need():
    table = per_task()
    twice = table[table["task_id"] == "real_tables-0"].assign(set="real_tables_small")
    page = Page(render(evaluation_report(metrics(table), pd.concat([table, twice]))))
    head = next(row for row in page.rows if row[:3] == ["task", "set", "family"])
    lines = {row[0]: row for row in page.rows if re.fullmatch(r"(heldout_tasks|real_tables)-\d", row[0])}
    assert len(lines) == 10
    assert lines["real_tables-0"][1] == "real_tables, real_tables_small"
    for _, (_, task, family, row, value) in table.iterrows():
        assert lines[task][head.index(row)] == f"{value:.3f}"
        assert lines[task][2] == family
    foot = next(row for row in page.rows if row[0] == "median")
    assert foot[head.index("ridge")] == f"{table[table['row'] == 'ridge']['test_r2'].median():.3f}"
    filters = [attrs["data-filter"] for tag, attrs in page.tags if tag == "select" and "data-filter" in attrs]
    assert filters[:2] == ["1", "2"]
    options = [attrs for tag, attrs in page.tags if tag == "input" and "data-column" in attrs]
    assert len(options) == 5


def test_the_zero_shot_table_has_sets_as_columns_and_the_headline_its_numbers():
    found = metrics(per_task())
    page = Page(render(evaluation_report(found, per_task())))
    assert page.rows[0] == ["row", "heldout_tasks (5)", "real_tables (5)", "what it is"]
    ridge = next(row for row in page.rows if row[0] == "ridge")
    assert ridge[1:3] == [f"{found['zero_shot'][name]['ridge']:.3f}" for name in ("heldout_tasks", "real_tables")]
    rows = {"single": 0.1, "wide_16": 0.2, "scratch": 0.3, "ridge": 0.4, "retrieval": 0.5}
    rows |= {f"{row}_n_tasks": 9.0 for row in rows}
    assert headline("heldout_tasks", rows) == (
        "On 9 tasks never seen (heldout_tasks), median test R2: one generated network 0.100, 16 merged 0.200, "
        "trained from scratch 0.300, ridge 0.400, the best training network 0.500."
    )


def test_differences_have_their_standard_error_and_a_word():
    found = metrics(per_task())
    found["zero_shot"]["real_tables"]["wide_16_minus_ridge_se"] = 0.01
    page = Page(render(evaluation_report(found, per_task())))
    at = page.rows.index(["row", "heldout_tasks", "real_tables"])
    assert page.rows[at + 1 : at + 3] == [
        ["single", "+0.013 ± 0.005, ahead", "+0.013 ± 0.005, ahead"],
        ["ridge", "+0.013 ± 0.005, ahead", "+0.013 ± 0.010, level"],
    ]


def test_another_run_stands_beside_with_the_difference():
    ours, theirs = metrics(per_task()), metrics(per_task(rows=("single", "ridge", "catboost")))
    theirs["zero_shot"]["heldout_tasks"]["single"] = ours["zero_shot"]["heldout_tasks"]["single"] - 0.25
    page = Page(render(evaluation_report(ours, per_task(), others={"other": theirs})))
    at = next(i for i, row in enumerate(page.rows) if "heldout_tasks: difference" in row)
    lines = {row[0]: row[1:4] for row in page.rows[at + 1 :][:6]}
    assert lines["single"][2] == "0.250"
    assert lines["scratch"][1:] == ["–", "–"]
    assert lines["catboost"][0] == lines["catboost"][2] == "–"


def test_numbers_that_do_not_exist_are_dashes():
    assert [cell(v) for v in (None, float("nan"), float("inf"), -0.0001, 3, 0.5)] == ["–"] * 3 + ["0.000", "3", "0.500"]
    with pytest.raises(ValueError, match=r"rows must have 2 cells, one a head, got \[1\]"):
        render(Report("t", [], [Section("s", [DataTable(["a", "b"], [[1.0]], "c")])]))


def test_a_page_of_numbers_alone_beside_another_run(tmp_path, capsys):
    """No data of the pipeline: the page is written from the committed metrics."""
    shutil.copytree(ROOT / "reports" / "evaluate", tmp_path / "reports" / "evaluate")
    other = ROOT / "reports" / "pretrained" / "metrics.json"
    main = import_module("stages.report").main
    main(tmp_path, ["--compare", str(other), "--out", str(tmp_path / "page.html")])
    assert "written: " in capsys.readouterr().out
    text = (tmp_path / "page.html").read_text()
    self_contained(text)
    assert "catboost" in text
    ours = json.loads((ROOT / "reports" / "evaluate" / "metrics.json").read_text())["zero_shot"]["heldout_tasks"]
    theirs = json.loads(other.read_text())["zero_shot"]["heldout_tasks"]
    assert f"{ours['single'] - theirs['single']:.3f}" in text
    (tmp_path / "wrong.json").write_text("[1]")
    for path, message in ((tmp_path / "wrong.json", "it has no zero_shot"), (tmp_path / "none.json", "does not exist")):
        with pytest.raises(ValueError, match=message):
            main(tmp_path, ["--compare", str(path)])


def test_without_chromium_the_check_says_so_in_one_line(tmp_path, monkeypatch, capsys):
    check = import_module("stages.report_check")
    monkeypatch.setattr(check.shutil, "which", lambda name: None)
    check.main(tmp_path, [])
    assert capsys.readouterr().out.count("\n") == 1


def test_rows_of_the_test_split_are_those_predicted(evidence):
    """The R2 in a caption is the one of the evaluation, not one of the picture's own."""
    text = render(evaluation_report(metrics(per_task()), per_task(), evidence))
    assert float(evidence.samples.r2["single"][0, 0, 0, TEST]) == 0.25
    assert "trees, 40 rows: test R2 0.25" in text
    assert "the zoo&#x27;s: test R2 0.75" in text
