"""Exports of a table with gaps, stand-ins, codes, dates and categories: each format answers what the bundle does."""

import csv
import ctypes
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from mixed import as_text, by_name, cells, later_rows, mixed, networks_for, rows_of
from readers import answers_of_json, answers_of_onnx, compiled, imported, program

from netformer import NetFormerRegressor, export
from netformer.errors import InputError
from netformer.sources.formats import SCHEMA
from netformer.sources.literals import level_names
from netformer.tables.columns import Column

WHICH = ["wide", "mean", *range(6)]


@pytest.fixture(scope="module")
def rows():
    return later_rows(1000)


def from_python(path, population, table):
    return np.array(imported(path).predict(table))


def from_torch(path, population, table):
    module = imported(path)
    with torch.no_grad():
        return module.load()(module.encode(table))[:, 0].numpy()


def from_c(path, population, table):
    predict, pointer = compiled(path), ctypes.POINTER(ctypes.c_double)
    encoded = np.ascontiguousarray(cells(population, table))
    return np.array([predict(row.ctypes.data_as(pointer)) for row in encoded])


def from_program(path, population, table):
    """Through the program beside the C file, from a CSV file with columns in another order and one more."""
    table[["far", "more", *[name for name in table if name != "far"]]].to_csv(path.with_suffix(".csv"), index=False)
    run = subprocess.run([program(path), path.with_suffix(".csv")], capture_output=True, text=True, check=True)
    header, *lines = run.stdout.splitlines()
    assert header == population.target
    return np.array([float(line) for line in lines])


READERS = {
    "numpy": ("py", from_python),
    "torch": ("py", from_torch),
    "json": ("json", lambda path, population, table: answers_of_json(path, as_text(population, table))),
    "onnx": ("onnx", lambda path, population, table: answers_of_onnx(path, by_name(population, table))),
    "c": ("c", from_c),
    "program": ("c", from_program),
    "sklearn": ("py", lambda path, _, table: imported(path).load().predict(table)),
}


@pytest.mark.parametrize("format", READERS)
def test_every_format_agrees_with_the_bundle(tmp_path, rows, format):
    population = mixed()
    suffix, answers = READERS[format]
    shuffled = rows[rows.columns[::-1]].assign(more="x")  # columns are matched by name
    for which in WHICH:
        path = tmp_path / f"net_{which}.{suffix}"
        export(population, which, path, "c" if format == "program" else format)
        difference = np.abs(answers(path, population, shuffled) - population.predict(rows, which))
        assert difference.max() < 1e-5 * population.reading.targets[0].scale, which


def test_the_reading_of_the_table_has_every_part():
    """What these tests are about is in the table."""
    reading = mixed().reading
    parts = {(reading.table[one.column].kind, one.part) for one in reading.inputs}
    assert parts >= {("number", part) for part in ("value", "missing", "mean")}
    assert parts >= {("date", part) for part in ("value", "sin", "cos")}
    assert parts >= {("category", part) for part in ("level", "rank", "mean")}
    assert any(column.gaps for column in reading.table)
    assert {column.form for column in reading.table} == {"", "%d.%m.%Y"}


@pytest.mark.parametrize("format", ["numpy", "torch", "sklearn", "json", "program"])
def test_words_that_stood_for_a_gap_do_so_in_every_export_that_reads_text(tmp_path, rows, format):
    table, y = rows_of(300)
    size = table["size"].astype(object).where(table.index % 30 > 0, "to ask")
    population = networks_for(table.assign(size=size), y, skip_share=0.0, activations=("tanh",), sparse_share=0.0)
    some = rows[:30].assign(size=["to ask", "", " to ask "] * 10)
    expected = population.predict(some.assign(size=np.nan), 0)
    assert not np.allclose(population.predict(some.assign(size=20.0), 0), expected)
    np.testing.assert_array_equal(population.predict(some, 0), expected)
    kind, name = ("c", "net.c") if format == "program" else (format, "net.py")
    (path, *_) = export(population, 0, tmp_path / name, kind)
    if format == "json":
        text = as_text(population, some)
        text[:, 0] = some["size"].str.strip().replace("", np.nan)
        answers = answers_of_json(path, text)
    elif format == "sklearn":
        answers = imported(path).load().predict(some)
    else:
        answers = READERS[format][1](path, population, some.assign(more="x"))
    np.testing.assert_allclose(answers, expected, rtol=0, atol=1e-5 * population.reading.targets[0].scale)


def test_sklearn_agrees(tmp_path, rows):
    population = mixed(skip_share=0.0, activations=("tanh",))
    for which in range(6):
        export(population, which, tmp_path / f"net{which}.py", "sklearn")
        expected = population.predict(rows, which)
        for pipeline in (imported(tmp_path / f"net{which}.py").load(), population.to_sklearn(which)):
            answers = pipeline.predict(rows[rows.columns[::-1]])
            np.testing.assert_allclose(answers, expected, rtol=0, atol=1e-5 * population.reading.targets[0].scale)


def test_onnx_reads_single_precision(tmp_path, rows):
    """Of cells that float32 holds, the graph makes what it makes of them in double."""
    population = mixed(without=("far", "sold"))
    held = by_name(population, rows, np.float32)
    kinds = [column.kind for column in population.reading.table]
    table = {name: held[name][:, 0] for name in population.columns}
    table = {n: v if k == "category" else v.astype(np.float64) for k, (n, v) in zip(kinds, table.items(), strict=True)}
    for which in WHICH:
        export(population, which, tmp_path / f"net{which}.onnx", "onnx32")
        expected = population.predict(pd.DataFrame(table), which)
        answers = answers_of_onnx(tmp_path / f"net{which}.onnx", held)
        np.testing.assert_allclose(answers, expected, rtol=0, atol=1e-5 * population.reading.targets[0].scale)


def test_what_single_precision_blurs_is_refused(tmp_path):
    table, y = rows_of(600)
    for name, text in [
        ("far", "float32 is too coarse for column 'far', 1e\\+09 to 1e\\+09; use onnx, which reads double"),
        ("sold", "float32 is too coarse for column 'sold'"),  # of which the hour of the day is read
    ]:
        with pytest.raises(InputError, match=text):
            export(networks_for(table[[name]], y), 0, tmp_path / "net.onnx", "onnx32")
    codes = pd.DataFrame({"code": 1 + 2.0**25 * (np.arange(200) % 5)})
    population = networks_for(codes, np.array([3.0, -5, 4, -1, 0])[np.arange(200) % 5])
    assert [one.part for one in population.reading.inputs] == ["value", "mean"]
    with pytest.raises(InputError, match="float32 cannot tell the values of column 'code' apart"):
        population.to_onnx(0, tmp_path / "net.onnx", "float32")
    with pytest.raises(InputError, match="dtype must be 'float64' or 'float32', got 'half'"):
        population.to_onnx(0, tmp_path / "net.onnx", "half")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("names", [["x"], ["y", "", "_c0", "n1"]], ids=str)
def test_onnx_inputs_have_the_names_of_the_columns(tmp_path, names):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({name: np.array(["a", "b", "c"], dtype=object)[rng.integers(0, 3, 80)] for name in names})
    if len(names) > 1:
        table["n1"] = rng.normal(size=80)
    population = networks_for(table, rng.normal(size=80))
    population.to_onnx(0, tmp_path / "net.onnx")
    graph = onnx.load(str(tmp_path / "net.onnx")).graph
    assert [one.name for one in graph.input] == [name or "x" for name in names]
    assert [one.name for one in graph.output] == ["y_" if "y" in names else "y"]
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    feed = {name or "x": table[[name]].to_numpy() for name in names}
    np.testing.assert_allclose(session.run(None, feed)[0][:, 0], population.predict(table, 0), atol=1e-9)


def test_onnx_that_is_not_installed_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match="onnx must be installed to write ONNX; pip install onnx onnxruntime"):
        export(mixed(), 0, tmp_path / "net.onnx", "onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_module_reads_tables_and_positions(rows):
    """Its levels say which; -1, and a position that is none, is any other level."""
    population = mixed()
    for which in WHICH:
        module = population.to_torch(which)
        with torch.no_grad():
            answers = module(module.encode(rows[rows.columns[::-1]]))[:, 0].numpy()
        np.testing.assert_allclose(answers, population.predict(rows, which), rtol=1e-10, atol=1e-10)
    assert module.levels["grade"] == ("low", "mid", "high", "top")
    at = population.columns.index("street")
    encoded = module.encode(rows[:4]).clone()
    encoded[:, at] = torch.tensor([-1.0, 1e6, len(module.levels["street"]), 1.0])
    some = module(encoded)
    other = module.encode(rows[:4].assign(street=["nowhere"] * 3 + [module.levels["street"][1]]))
    assert torch.equal(some, module(other))
    assert not torch.equal(some, module(module.encode(rows[:4].assign(street="nowhere"))))


def test_json_keeps_its_schema(tmp_path):
    from jsonschema import Draft202012Validator

    check = Draft202012Validator(json.loads(SCHEMA.read_text()))
    export(mixed(), 0, tmp_path / "net.json", "json")
    value = json.loads((tmp_path / "net.json").read_text())
    check.validate(value)
    assert {one["part"] for one in value["inputs"]} == {"value", "sin", "cos", "missing", "level", "code"}
    for spoil in (
        lambda v: v["columns"][4].pop("levels"),
        lambda v: v["columns"][0].update(levels=["a"]),
        lambda v: v["inputs"][0].pop("center"),
        lambda v: v["inputs"][4].update(center=1.0),
        lambda v: v["inputs"][0].update(part="rank"),
    ):
        spoiled = json.loads((tmp_path / "net.json").read_text())
        spoil(spoiled)
        assert not check.is_valid(spoiled)


def test_python_rows_may_be_lists_dicts_or_text(tmp_path, rows):
    population, some = mixed(), rows[:50]
    export(population, 0, tmp_path / "net.py", "numpy")
    module, expected = imported(tmp_path / "net.py"), population.predict(some, 0)
    near = {"rtol": 0, "atol": 1e-5 * population.reading.targets[0].scale}
    np.testing.assert_allclose(module.predict(some[list(population.columns)].values.tolist()), expected, **near)
    some.to_csv(tmp_path / "rows.csv", index=False)
    with (tmp_path / "rows.csv").open(newline="") as file:
        np.testing.assert_allclose(module.predict(csv.DictReader(file)), expected, **near)
    one = dict(zip(population.columns, as_text(population, rows[:1])[0], strict=True))
    for change, message in [
        ({"size": "12 m"}, "column 'size' must hold a number, found '12 m'"),
        ({"sold": "last year"}, "column 'sold' must hold a date, found 'last year'"),
    ]:
        with pytest.raises(ValueError, match=message):
            module.predict([one | change])
    with pytest.raises(ValueError, match=r"a row lacks \['size'\]"):
        module.predict([{name: cell for name, cell in one.items() if name != "size"}])
    iso = ["2020-02-29T12:30:15+02:00", "2020-02-29 10:30:15", "2020-02-29T10:30:15Z", 1582972215.0, "1582972215"]
    assert len(set(module.predict([one | {"sold": day} for day in iso]))) == 1


def test_levels_are_constants_of_c():
    reading = mixed().reading
    table = (
        Column("m", "category", ("pi", "Pi", "", "1")),
        Column("größe", "category", ("a b", "a-b", "漢", "x" * 200, "y" * 200, "x" * 200 + "1")),
        Column("3", "category", ("",)),
        Column("漢字", "category", ("1", "missing", "")),
    )
    names = level_names(replace(reading, table=table, inputs=(), maps=np.zeros((6, 0)), given=(), left_out=()))
    assert names[0] == ["LEVEL_M_PI", "LEVEL_M_PI_2", "LEVEL_M_MISSING", "LEVEL_M_1"]
    assert names[1][:3] == ["GROE_A_B", "GROE_A_B_2", "GROE_2"]
    assert names[2] == ["LEVEL_3_MISSING"]
    assert names[3] == ["X3_1", "X3_MISSING", "X3_MISSING_2"]
    every = [name for some in names.values() for name in some]
    assert len(set(every)) == len(every)
    assert all(len(name) <= 63 and name.isidentifier() and name.isascii() for name in every)


@pytest.mark.parametrize("format", sorted(set(READERS) - {"program"}))
def test_a_value_between_two_of_a_grid_is_on_the_same_side_of_a_threshold_in_every_format(tmp_path, format):
    """Even numbers, tenths and every second day are fitted: thresholds in their middle would stand at odd ones."""
    rng = np.random.default_rng(0)
    number, tenth, day = 2 * rng.integers(0, [[30], [30], [90]], (3, 400))
    y = 3.0 * (number > 29) - 2.0 * (day > 80) * (tenth > 21) + (tenth > 45) + 0.1 * rng.normal(size=400)

    kind = np.where(number % 3 == 0, "a", "b")

    def table(more):
        days = pd.Timestamp("2024-01-01") + pd.to_timedelta(day + more, "D")
        return pd.DataFrame({"number": number + more, "tenth": (tenth + more) / 10, "day": days, "kind": kind})

    population = NetFormerRegressor().fit(table(0), y).network_
    assert population.about["steps"]["share"] > 0.5
    suffix, answers = READERS[format]
    export(population, "wide", tmp_path / f"net.{suffix}", format)
    difference = np.abs(answers(tmp_path / f"net.{suffix}", population, table(1)) - population.predict(table(1)))
    assert difference.max() < 1e-5 * population.reading.targets[0].scale
