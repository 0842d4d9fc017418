"""README and docs/results.md: their figures are those of the committed reports."""

import json
import re
from pathlib import Path

import pytest

from netformer.evaluation.comparison import verdict
from netformer.report.evaluation_report import ROWS
from stages import show

ROOT = Path(__file__).resolve().parents[1]
REPORTS = [json.loads((ROOT / show.REPORTS[name]).read_text()) for name in ("pretrained", "evaluate", "mixed")]
CLASSES = json.loads((ROOT / show.CLASSES).read_text()) if (ROOT / show.CLASSES).exists() else None


def test_the_result_tables_are_those_of_the_committed_reports():
    readme = (ROOT / "README.md").read_text()
    found = show.markdown(REPORTS[0], REPORTS[2])
    assert show.readme_with(readme, found) == readme
    assert found in readme
    assert (ROOT / show.PAGE).read_text() == show.page(*REPORTS, CLASSES)


@pytest.fixture
def report() -> dict:
    wide = {"wide_16": 0.5, "wide_16_mean": 0.4, "wide_16_n_tasks": 96.0, "single_n_tasks": 96.0}
    ridge = {"ridge": 0.42, "ridge_mean": 0.39, "ridge_n_tasks": 96.0, "wide_16_wins_ridge": 0.625}
    real = wide | ridge | {"wide_16_minus_ridge": 0.01, "wide_16_minus_ridge_se": 0.004}
    held = real | {"wide_16_minus_ridge_se": 0.006}
    rating = {"ridge": 1000.0, "ridge_low": 950.4, "ridge_high": 1049.6, "wide_16": 1200.0}
    rating |= {"wide_16_low": 1150.0, "wide_16_high": 1250.0}
    return {"zero_shot": {"heldout_tasks": held, "real_tables": real}, "rating": rating}


@pytest.fixture
def mixed(report) -> dict:
    return {"mixed_tables": {k: v for k, v in report["zero_shot"]["real_tables"].items() if k != "single_n_tasks"}}


def test_a_difference_is_said_with_its_error_and_level_within_two_of_them(report):
    real, held = report["zero_shot"]["real_tables"], report["zero_shot"]["heldout_tasks"]
    assert show.difference(real, "wide_16", "ridge") == "+0.010 ± 0.004, ahead"
    assert show.difference(held, "wide_16", "ridge") == "+0.010 ± 0.006, level"
    assert show.difference(real, "wide_16", "catboost") == "-"
    assert verdict(0.01, 0.004) == "ahead"
    assert "| `ridge` | +0.010 ± 0.004, ahead (62%) | +0.010 ± 0.006, level (62%) |" in show.head_to_head(
        report, "wide_16"
    )


def test_the_readmes_table_has_a_line_per_row_and_dashes_for_what_was_not_measured(report, mixed):
    lines = show.markdown(report, mixed).splitlines()
    assert lines[0].startswith(
        "| mean test R2 | 96 mixed tables | `wide_16` minus it | 96 real tables | `wide_16` minus it |"
    )
    assert len(lines) == 2 + len(show.SHORT) <= 12
    assert (
        "| `ridge` | 0.390 | +0.010 ± 0.004, ahead | 0.390 | +0.010 ± 0.004, ahead | 0.390 | +0.010 ± 0.006, level |"
        in lines
    )
    assert "| `catboost` | - | - | - | - | - | - |" in lines


def test_the_page_holds_every_row_set_rating_and_definition(report, mixed):
    page = show.page(report, {"zero_shot": report["zero_shot"]}, mixed)
    assert page.count("| `ridge` | 0.420 / 0.390 | 0.420 / 0.390 |") == 2
    assert page.count("| `ridge` | 0.420 / 0.390 |\n") == 1  # on mixed tables
    assert page.index("| `wide_16` | 1200 | 1150 | 1250 |") < page.index("| `ridge` | 1000 | 950 | 1050 |")
    assert all(f"| `{row}` | {words} |" in page for row, words in (ROWS | show.LEARNERS).items())


def test_the_page_says_of_classes_that_less_log_loss_is_ahead(report, mixed):
    losses = {"wide_16_steps": 0.5, "logistic": 0.53, "rf": 0.51, "wide_16_steps_minus_logistic": -0.03}
    losses |= {"wide_16_steps_minus_logistic_se": 0.01, "wide_16_steps_wins_logistic": 0.8}
    losses |= {"wide_16_steps_minus_rf": -0.01, "wide_16_steps_minus_rf_se": 0.02, "wide_16_steps_wins_rf": 0.5}
    rest = {
        score: {"wide_16_steps": 0.9, "logistic": 0.8, "rf": 0.7} for score in show.CLASS_SCORES if score != "log_loss"
    }
    page = show.page(report, report, mixed, {"real_tables": {"n_tasks": 79, "log_loss": losses, **rest}})
    assert "Means over 79 tables: real tables.\n" in page
    assert f"| `logistic` | 0.530 | 0.800 | 0.800 | 0.800 | 0.800 | {show.CLASS_ROWS['logistic']} |" in page
    assert "| `logistic` | -0.030 ± 0.010, ahead (80%) |\n| `rf` | -0.010 ± 0.020, level (50%) |\n" in page
    assert "## Classes" not in show.page(report, report, mixed)


def test_the_page_is_written_and_the_readme_keeps_its_words(report, mixed, tmp_path, capsys):
    for name, path in show.REPORTS.items():
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(json.dumps(mixed if name == "mixed" else report))
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("before\n" + show.MARKS[0] + "old\n" + show.MARKS[1] + "after\n")
    show.main(tmp_path, ["--page"])
    written = (tmp_path / "README.md").read_text()
    assert written == "before\n" + show.MARKS[0] + show.markdown(report, mixed) + "\n" + show.MARKS[1] + "after\n"
    assert (tmp_path / "docs" / "results.md").read_text() == show.page(report, report, mixed)
    capsys.readouterr()
    show.main(tmp_path, ["--markdown"])
    assert capsys.readouterr().out == show.markdown(report, mixed) + "\n"


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_link_leads_to_a_file(page):
    links = re.findall(r"(?<!!)\[[^\]\n]*\]\(([^)#\s]+)", (ROOT / page).read_text())
    assert len(links) >= 2
    assert [link for link in links if not link.startswith("https://") and not (ROOT / link).exists()] == []


def test_every_package_is_in_the_file_tree():
    readme = (ROOT / "README.md").read_text()
    packages = sorted(path.parent.name for path in (ROOT / "netformer").glob("*/__init__.py"))
    assert [name for name in packages if f"  {name}/ " not in readme] == []


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
