"""Documentation: every shell and Python block of README and docs runs, page by page, or says why not.

A page runs from top to bottom in one folder: a checkout's params.yaml, examples and sample, and a tiny zoo in data/, as
if the pipeline had run. Python blocks of a page share their names, shell blocks are bash that stops at the first
failure.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name

import numpy as np
import pandas as pd
import pytest
import torch
from drawn import draw

from netformer.artifacts import networks_table, write_parquet, write_tasks
from netformer.networks.sensitivity import sensitivity
from netformer.networks.specs import Layout
from netformer.networks.stack import Networks
from netformer.networks.token_tables import tokenize_networks
from netformer.tasks.scores import scores
from netformer.tasks.stream import synthetic_tasks
from netformer.tasks.view import stack_tasks

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "examples" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RUN, SHOWN = ("shell", "python"), ("text", "mermaid", "bibtex", "c")
FENCE = re.compile(
    r"^(?:<!-- not run: (?P<why>.+?) -->\n)?```(?P<kind>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)


def blocks(page: Path) -> list[tuple[str, str, str | None]]:
    """(kind, code, why it is not run) of every fenced block."""
    return [(m["kind"], m["code"], m["why"]) for m in FENCE.finditer(page.read_text())]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


RUNNABLE = [page for page in PAGES if any(kind in RUN and not why for kind, _, why in blocks(page))]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copy(ROOT / "params.yaml", folder)
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "data").mkdir()
    shutil.copy(ROOT / "data" / "sample.csv", folder / "data")
    sizes = {"seed": 0, "max_features": 10, "min_rows": 40, "max_rows": 50}
    tasks = [
        task for split in ("train", "valid", "test") for task in synthetic_tasks(2, stream=split, split=split, **sizes)
    ]
    stack = stack_tasks(tasks, 10)
    owner = torch.arange(60) % len(tasks)
    nets = draw(60, layout=Layout(), skip_share=0.5)
    index = torch.arange(60)
    nets = Networks(nets.specs, 0.01 * nets.weight)  # R2 near 0
    table = networks_table(
        nets, [tasks[i].task_id for i in owner.tolist()], r2=scores(nets, stack, owner).abs(), arm=["zoo"] * len(index)
    )
    tokens = tokenize_networks(nets, sensitivity(nets, stack.x[owner], stack.train[owner]))
    tokens = tokens.add_column(0, "task_id", table["task_id"]).add_column(0, "net_id", table["net_id"])
    write_tasks(tasks, folder / "data" / "tasks.parquet")
    write_parquet(table, folder / "data" / "zoo.parquet")
    write_parquet(tokens, folder / "data" / "tokens.parquet")
    commands = folder / ".bin"
    commands.mkdir()
    for command, arguments in (("netformer", "-m netformer"), ("python", "")):
        (commands / command).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        (commands / command).chmod(0o755)
    return folder


def shell(code: str, folder: Path) -> str:
    """What the commands print, stdout and stderr together."""
    env = os.environ | {
        "PATH": f"{folder / '.bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = ["bash", "-euo", "pipefail", "-c", code]
    done = subprocess.run(
        command,
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, f"{code}\n{done.stdout[-4000:]}"
    return done.stdout


SECONDS = re.compile(r"\(\d+\.\d\)")
DECIMAL = re.compile(r"-?\d+\.\d+|\d+(?= ± )|(?<= ± )\d+")
COUNTS = re.compile(r"\d+(?= │| hidden units| parameters)")


def assert_printed(printed: str, shown: str) -> None:
    """What a page shows is what its commands print: words and counts alike, decimal numbers about so, for another
    processor rounds otherwise; sizes of networks and seconds may be others."""
    parts = [SECONDS.sub("(s)", text) for text in (printed, shown)]
    words = [[COUNTS.sub("#", DECIMAL.sub("#", line)).split() for line in text.splitlines()] for text in parts]
    assert words[0] == words[1]
    numbers = [[float(value) for value in DECIMAL.findall(text)] for text in parts]
    np.testing.assert_allclose(*numbers, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("page", RUNNABLE, ids=name)
def test_every_block_runs(page: Path, checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(checkout, folder)
    monkeypatch.chdir(folder)
    names: dict = {"__name__": "snippet"}
    start = ROOT / "docs" / "start.md"
    elsewhere = {code for kind, code, _ in blocks(start) if kind == "shell"} if page != start else set()
    every = blocks(page)
    for number, (kind, code, why) in enumerate(every):
        if why or kind not in RUN:
            continue
        if kind == "python":
            exec(compile(code, f"{name(page)}, block {number}", "exec"), names)
        elif code not in elsewhere:  # the first commands stand in README and start
            printed = shell(code, folder)
            if every[number + 1 : number + 2] and every[number + 1][0] == "text":
                assert_printed(printed, every[number + 1][1])
    if page == start:
        rows = pd.read_csv("examples/diabetes.csv").shape[0]
        from_c = pd.read_csv("from_c.csv")["progression"]
        assert len(from_c) == rows
        np.testing.assert_allclose(from_c, pd.read_csv("predictions.csv")["progression"], rtol=1e-5)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_has_a_language_and_a_reason_where_it_does_not_run(page: Path) -> None:
    text = page.read_text()
    found = blocks(page)
    assert len(re.findall(r"^```", text, re.MULTILINE)) == 2 * len(found), "fences must be pairs in the first column"
    assert {kind for kind, _, _ in found} <= {*RUN, *SHOWN}
    assert text.count("<!-- not run") == sum(why is not None for _, _, why in found), "a reason must precede its block"


def test_the_start_is_that_of_the_readme() -> None:
    start = [code for kind, code, _ in blocks(ROOT / "docs" / "start.md") if kind == "shell"]
    assert start[:2] == [code for kind, code, _ in blocks(ROOT / "README.md") if kind == "shell"][:2]


def test_every_target_of_make_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "netformer" / "pretrained" / "README.md"]:
        named = re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(), re.MULTILINE)
        assert set(named) <= targets, name(page)


def test_every_page_is_in_the_menu_of_the_site() -> None:
    menu = (ROOT / "mkdocs.yml").read_text()
    assert all(f"- {page.name}\n" in menu for page in (ROOT / "docs").glob("*.md"))


def test_what_users_read_uses_no_words_of_our_own() -> None:
    ours = re.compile(r"\b(laws?|sceptics?|legs?|net-steps?|told)\b", re.IGNORECASE)
    others = ("CONTRIBUTING.md", "params.yaml", "params/pretrained.yaml", "netformer/pretrained/README.md", "Makefile")
    for page in [*PAGES, *(ROOT / name for name in others), *sorted((ROOT / "netformer" / "cli").glob("*.py"))]:
        assert ours.search(page.read_text()) is None, f"{name(page)}: {ours.search(page.read_text())}"


def test_every_command_is_documented() -> None:
    from netformer.cli.app import app

    text = (ROOT / "docs" / "command_line.md").read_text()
    assert all(f"`{command.callback.__name__}" in text for command in app.registered_commands)


def test_every_name_in_the_walks_through_the_code_exists() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    packages = {path.parent.name for path in (ROOT / "netformer").glob("*/__init__.py")} | {"artifacts"}
    names = [name for name in re.findall(r"`(\w+\.[\w.]+)`", text) if name.partition(".")[0] in packages]
    assert len(names) > 40
    for name in names:
        resolve_name(f"netformer.{name}")  # a module, or what one holds; AttributeError names what is gone
    assert packages - {"artifacts"} <= {name.partition(".")[0] for name in names}


def test_every_public_name_and_format_is_documented() -> None:
    import netformer
    from netformer.sources.formats import FORMATS

    api, exports = (ROOT / "docs" / "api.md").read_text(), (ROOT / "docs" / "exports.md").read_text()
    assert all(f"netformer.{home}.{public}\n" in api for public, home in netformer._HOMES.items())
    assert all(f"| `{format}` |" in exports for format in FORMATS)


def test_the_columns_of_a_zoo_are_those_of_the_schema() -> None:
    from netformer.artifacts import NETWORKS

    text = (ROOT / "docs" / "zoo.md").read_text()
    rows = re.findall(r"^\| (`.+`) \| [a-z]", text, re.MULTILINE)
    assert re.findall(r"`(\w+)`", " ".join(rows)) == NETWORKS.names


@pytest.mark.skipif(
    any(find_spec(name) is None for name in ("mkdocs", "mkdocstrings", "nbclient", "ipykernel")),
    reason="extra docs not installed",
)
@pytest.mark.slow
def test_the_site_builds_and_fetches_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path / "site")]
    env = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert len(pages) >= 13
    for page in pages:
        fetched = re.findall(r"<(?:script|img|iframe|source)[^>]+src=\"?(https?://[^\s\">]+)", page.read_text())
        fetched += re.findall(
            r"<link[^>]+rel=\"?(?:stylesheet|preconnect)\"?[^>]+href=\"?(https?:[^\s\">]+)", page.read_text()
        )
        assert fetched == []
    assert (tmp_path / "site" / "pictures" / "evaluate" / "graphs.svg").is_file()
    for notebook in (ROOT / "docs" / "notebooks").glob("*.ipynb"):
        shown = (tmp_path / "site" / "notebooks" / f"{notebook.stem}.html").read_text()
        cells = notebook.read_text().count('"cell_type": "code"')
        assert cells < shown.count('<div class="highlight">') <= 2 * cells, "code, and answers to some of it"


@pytest.mark.skipif(find_spec("nbclient") is None or find_spec("ipykernel") is None, reason="extra docs not installed")
@pytest.mark.parametrize("notebook", sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_notebook_runs_and_is_kept_without_output(notebook: Path, tmp_path: Path) -> None:
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells)
    code = f"import nbformat, nbclient; nbclient.execute(nbformat.read({str(notebook)!r}, as_version=4))"
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr[-4000:]
