"""README: its figures are those of the committed report."""

import json
from pathlib import Path

from stages.show import head_to_head, markdown

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "reports" / "evaluate" / "metrics.json"
PRETRAINED = ROOT / "reports" / "pretrained" / "metrics.json"


def test_the_result_tables_are_those_of_the_committed_reports():
    readme, pretrained = (ROOT / "README.md").read_text(), json.loads(PRETRAINED.read_text())
    assert markdown(json.loads(REPORT.read_text())) in readme
    assert markdown(pretrained) in readme
    assert head_to_head(pretrained) in readme


def test_the_page_is_short():
    before, _, rest = (ROOT / "README.md").read_text().partition("<!-- results: ")
    _, _, after = rest.partition("<!-- end of results -->")
    assert len((before + after).splitlines()) <= 137  # and a table of ten rows


def test_every_package_is_in_the_file_tree():
    readme = (ROOT / "README.md").read_text()
    packages = sorted(path.parent.name for path in (ROOT / "netformer").glob("*/__init__.py"))
    assert [name for name in packages if f"  {name}/ " not in readme] == []


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
