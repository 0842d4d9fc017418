"""Hostile names of columns, levels, words and targets in generated C, Python, JSON, HTML and JavaScript: the code
compiles, answers as the networks do, and nothing of a name is run. C runs under the address and undefined-behaviour
sanitizers, its CSV reader also on damaged files."""

import ast
import html.parser
import json
import random
import subprocess

import numpy as np
import pandas as pd
import pytest
from damage import damaged_bytes
from mixed import networks_for
from readers import answers_of_html, data_of, imported

from netformer import export

HOSTILE = (
    '"quoted" and \\',
    "'single' \\",
    '""" + open("HACKED", "w").write("") + """',
    "''' + open('HACKED', 'w').write('') + '''",
    "*/ int hacked = 1; /*",
    "*\\\n/ int hacked = 1; /*",
    "??/\n#error hacked",
    "\n#error hacked\n",
    "\r\nopen('HACKED', 'w')\n",
    "\\",
    "%s%n%n",
    "</script><script>hacked = 1</script>",
    "<img src=x onerror=hacked=1>",
    '" autofocus onfocus="hacked=1',
    "`${hacked=1}`",
    "-->",
    "\u2028hacked=1",
    "\u202egnp.elbat\u202c",
    "\ufeff",
    "\u0000after",
    "{DATA}}{{DATA}}",
    "__proto__",
    "constructor",
    "größe \U0001f600",
    "=cmd|'/c calc'!A0",
    "a,b;c\td|e",
)
SANITIZED = ["gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-O1", "-g", "-fsanitize=address,undefined"]


def table_of(n, seed):
    """Columns of numbers, and one of text with every hostile level, all with hostile names."""
    rng = np.random.default_rng(seed)
    names = [name for name in HOSTILE if name.strip("\ufeff").strip()]
    X = pd.DataFrame({name: rng.normal(size=n).round(3) for name in names[1:]})
    X[names[0]] = np.array(HOSTILE, dtype=object)[rng.integers(0, len(HOSTILE), n)]
    return X, X[names[1]] + X[names[-1]] + np.array([len(str(cell)) for cell in X[names[0]]])


@pytest.fixture(scope="module")
def population():
    made = networks_for(*table_of(600, 0), sparse_share=0.0)
    levels = next(column.levels for column in made.reading.table if column.kind == "category")
    assert len(made.columns) > 20
    assert len(levels) >= 20
    return made.named(target=HOSTILE[2])


@pytest.fixture(scope="module")
def rows():
    return table_of(60, 1)[0]


def same(found, population, rows):
    """Answers within what the exports promise."""
    expected = population.predict(rows, 0)
    assert np.abs(np.asarray(found) - expected).max() < 1e-5 * population.reading.targets[0].scale


@pytest.mark.parametrize("format", ["numpy", "torch", "sklearn"])
def test_python(population, rows, tmp_path, monkeypatch, format):
    monkeypatch.chdir(tmp_path)
    (path,) = export(population, 0, tmp_path / "net.py", format)
    called = {ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)}
    assert not called & {"open", "exec", "eval", "__import__", "compile"}
    module = imported(path)
    if format == "numpy":
        same(module.predict(rows), population, rows)
    elif format == "sklearn":
        same(module.load().predict(rows), population, rows)
    else:
        same(module.load()(module.encode(rows)).detach()[:, 0], population, rows)
    assert not (tmp_path / "HACKED").exists()


@pytest.fixture(scope="module")
def program(population, tmp_path_factory):
    """The program of the C export, under both sanitizers."""
    folder = tmp_path_factory.mktemp("c")
    paths = export(population, 0, folder / "net.c", "c")
    subprocess.run([*SANITIZED, *map(str, paths), "-o", str(folder / "predict"), "-lm"], check=True)
    symbols = subprocess.run(["nm", folder / "predict"], capture_output=True, text=True, check=True).stdout
    assert "hacked" not in symbols
    return folder / "predict"


def run(program, path):
    """What it printed; 0 or 2, and no word of a sanitizer."""
    done = subprocess.run([program, path], capture_output=True, timeout=20)
    assert done.returncode in (0, 2), done.stderr.decode(errors="replace")
    assert b"runtime error" not in done.stderr
    assert b"Sanitizer" not in done.stderr
    assert done.stderr.count(b"\n") == (done.returncode == 2)
    return done.stdout


def test_what_a_csv_file_cannot_hold_is_named_in_one_line(population, rows, program, tmp_path):
    path = tmp_path / "rows.csv"
    rows.to_csv(path, index=False)
    assert run(program, path) == b""  # a column whose name has a NUL
    path.write_bytes(b"\n" * 1_000_000)
    assert run(program, path) == b""


def test_the_csv_reader_in_c_on_damaged_files(population, rows, program, tmp_path):
    good, path = rows.to_csv(index=False).encode(), tmp_path / "rows.csv"
    for number in range(60):
        data, rng = good, random.Random(number)
        for _ in range(rng.choice((1, 2, 5, 20))):
            data = damaged_bytes(data, rng)
        path.write_bytes(data)
        run(program, path)


def test_c_answers(tmp_path):
    """Names and levels that a CSV file can hold, through the program and its sanitizers."""
    names = [name for name in HOSTILE if not any(c in name for c in "\0\r\ufeff") and name.strip()]
    rng = np.random.default_rng(2)
    X = pd.DataFrame({name: rng.normal(size=300).round(3) for name in names[1:]})
    X[names[0]] = np.array([*names, "\u00a0 Ulm\u3000 "], dtype=object)[rng.integers(0, len(names) + 1, 300)]
    made = networks_for(X, X[names[1]] + np.array([len(cell) for cell in X[names[0]]]), sparse_share=0.0)
    paths = export(made, 0, tmp_path / "net.c", "c")
    subprocess.run([*SANITIZED, *map(str, paths), "-o", str(tmp_path / "predict"), "-lm"], check=True)
    X.to_csv(tmp_path / "rows.csv", index=False)
    lines = run(tmp_path / "predict", tmp_path / "rows.csv").decode().splitlines()
    same([float(line) for line in lines[1:]], made, X)


class Tags(html.parser.HTMLParser):
    """Elements of a page, and attributes that run code."""

    def __init__(self):
        super().__init__()
        self.tags, self.handlers = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.handlers += [name for name, _ in attributes if name.startswith("on")]


def test_html_and_javascript(population, rows, tmp_path):
    (path,) = export(population, 0, tmp_path / "net.html", "html", columns=list(population.columns[:12]))
    page = Tags()
    page.feed(path.read_text(encoding="utf-8"))
    assert page.tags.count("script") == 2
    assert not {"img", "iframe", "svg", "object"} & set(page.tags)
    assert page.handlers == []
    known = data_of(path)
    assert [column["name"] for column in known["columns"]] == list(population.columns[:12])
    assert known["target"]["name"] == HOSTILE[2]
    numeric = networks_for(*plain()).named(columns=HOSTILE[11:14])
    (path,) = export(numeric, 0, tmp_path / "numbers.html", "html")
    X, _ = plain()
    same(answers_of_html(path, X.to_numpy()), numeric, X.set_axis(list(HOSTILE[11:14]), axis=1))


def plain():
    """Three columns of numbers."""
    X = pd.DataFrame(np.random.default_rng(3).normal(size=(100, 3)), columns=list("abc"))
    return X, X["a"] + X["b"] * X["c"]


def test_json(population, tmp_path):
    (path,) = export(population, 0, tmp_path / "net.json", "json")
    known = json.loads(path.read_text())
    assert [column["name"] for column in known["columns"]] == list(population.columns)
