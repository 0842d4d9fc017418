"""Several targets in every export: predictions and intervals of all of them, of every type of column."""

import csv
import ctypes
import io
import json
import subprocess

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from grown import some_trees, with_trees
from mixed import as_text, by_name, cells, drawn_for, later_rows, rows_of, with_intervals
from readers import STRICT, cell_of_json, data_of, imported, in_node, outputs_of_json, program

from netformer import export
from netformer.exports.intervals import between
from netformer.sources.formats import FORMATS, SCHEMA, to_json
from netformer.tables.reading import read

NAMES = ['a "name", */ with </script>', "größe\n", "huge"]
COVERAGE = 0.8


@pytest.fixture(scope="module", params=["written", "grown"])
def population(request):
    table, y = rows_of(600)
    other = np.sin(y / y.std())
    reading, *_ = read(table, np.stack([y, 1e-9 * other, 1e9 * (y / y.std() + other)], 1), target=NAMES)
    found = with_intervals(drawn_for(reading, 3))
    if request.param == "written":
        return found
    first, last = (some_trees(len(reading.inputs), depth=depth) for depth in (5, 3))
    return with_trees(found, [first, None, last], [0.3, 0.0, 0.8])


@pytest.fixture(scope="module")
def rows():
    return later_rows(200)


def from_python(path, population, table, which):
    module = imported(path)
    assert module.TARGETS == NAMES
    return module.predict(table), module.predict_interval(table, COVERAGE) if which == "wide" else None


def from_torch(path, population, table, which):
    module = imported(path)
    network, x = module.load(), module.encode(table)
    with torch.no_grad():
        return network(x).numpy(), network.predict_interval(x, COVERAGE).numpy() if which == "wide" else None


def from_sklearn(path, population, table, which):
    pipeline = imported(path).load()
    ends = [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2]
    return pipeline.predict(table), pipeline.predict(table, quantiles=ends) if which == "wide" else None


def from_onnx(path, population, table, which):
    assert json.loads({one.key: one.value for one in onnx.load(str(path)).metadata_props}["targets"]) == NAMES
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = by_name(population, table)
    if which != "wide":
        return session.run(["y"], feed)[0], None
    y, low, high = session.run(["y", "low", "high"], feed | {"coverage": np.array(COVERAGE)})
    return y, np.stack([low, high], 2)


def from_json(path, population, table, which):
    d, texts = json.loads(path.read_text()), as_text(population, table)
    units = [(one["center"], one["scale"]) for one in d["targets"]]
    y = [v * scale + center for v, (center, scale) in zip(outputs_of_json(d, d["outputs"], texts), units, strict=True)]
    assert cell_of_json(d, d["inputs"][0], texts[0][d["inputs"][0]["column"]]) is not None
    if which != "wide":
        return np.stack(y, 1), None
    quantiles, ends = np.array([(1 - COVERAGE) / 2, (1 + COVERAGE) / 2]), []
    logs = outputs_of_json(d, d["intervals"], texts)
    for answer, log, one, (_, scale) in zip(y, logs, d["intervals"], units, strict=True):
        scores = between(quantiles, np.array(one["levels"]), np.array(one["scores"]))
        size = np.exp(np.clip(log, one["least"], one["largest"])) * scale
        ends.append(answer[:, None] + size[:, None] * scores)
    return np.stack(y, 1), np.stack(ends, 1)


def from_c(path, population, table, which):
    made, double = path.with_suffix(".so"), ctypes.c_double
    subprocess.run([*STRICT, "-fPIC", "-shared", str(path), "-o", str(made), "-lm"], check=True)
    loaded, pointer = ctypes.CDLL(str(made)), ctypes.POINTER(double)
    loaded.predict.argtypes, loaded.predict.restype = [pointer, pointer], None
    out, y, ends = (double * len(NAMES))(), [], []
    for row in np.ascontiguousarray(cells(population, table)):
        x = row.ctypes.data_as(pointer)
        loaded.predict(x, out)
        y.append(list(out))
        for q in ((1 - COVERAGE) / 2, (1 + COVERAGE) / 2) if which == "wide" else ():
            loaded.predict_quantile(x, double(q), out)
            ends.append(list(out))
    return y, np.array(ends).reshape(len(table), 2, -1).swapaxes(1, 2) if ends else None


def from_program(path, population, table, which):
    table.to_csv(path.with_suffix(".csv"), index=False)
    option = ["--interval", str(COVERAGE)] if which == "wide" else []
    command = [program(path), *option, path.with_suffix(".csv")]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    header, *lines = csv.reader(io.StringIO(text, newline=""))
    ends = ("", "_low", "_high") if which == "wide" else ("",)
    assert header == [f"{name}{end}" for name in NAMES for end in ends]
    found = np.array(lines, np.float64).reshape(len(table), len(NAMES), -1)
    return found[..., 0], found[..., 1:] if which == "wide" else None


def from_html(path, population, table, which):
    call = "rows.map(row => net.answer(row.map(cell)).targets.map(one => [one.prediction, ENDS]))"
    ends = f"...net.interval(one, {COVERAGE})" if which == "wide" else ""
    (found,) = in_node(call.replace("ENDS", ends), [data_of(path)], cells(population, table))
    found = np.array(found)
    return found[..., 0], found[..., 1:] if which == "wide" else None


READERS = {
    "onnx": ("onnx", from_onnx),
    "torch": ("py", from_torch),
    "sklearn": ("py", from_sklearn),
    "json": ("json", from_json),
    "c": ("c", from_c),
    "program": ("c", from_program),
    "numpy": ("py", from_python),
    "html": ("html", from_html),
}


def test_every_format_is_here():
    assert {*READERS, "onnx32"} - {"program"} == set(FORMATS)


@pytest.mark.parametrize("format", READERS)
def test_every_format_answers_every_target_as_the_population(tmp_path, population, rows, format):
    suffix, answers = READERS[format]
    scale = population.reading.scales
    for which in ("wide", "mean", 1):
        path = tmp_path / f"net_{which}.{suffix}"
        export(population, which, path, "c" if format == "program" else format)
        found, ends = answers(path, population, rows, which)
        expected = population.predict(rows, which)
        assert expected.shape == (len(rows), 3)
        assert (np.abs(np.array(found) - expected) / scale).max() < 1e-5, which
        if which == "wide":
            known = population.predict_interval(rows, COVERAGE)
            assert known.shape == (len(rows), 3, 2)
            assert (np.abs(np.array(ends) - known) / scale[:, None]).max() < 1e-5


def test_objects_answer_every_target(population, rows):
    scale, ends = population.reading.scales, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2]
    expected, known = population.predict(rows), population.predict_interval(rows, COVERAGE)
    pipeline, module = population.to_sklearn("wide"), population.to_torch("wide")
    with torch.no_grad():
        x = module.encode(rows)
        pairs = [(module(x).numpy(), module.predict_interval(x, COVERAGE).numpy())]
    pairs.append((pipeline.predict(rows), pipeline.predict(rows, quantiles=ends)))
    for answers, found in pairs:
        assert (np.abs(answers - expected) / scale).max() < 1e-9
        assert (np.abs(found - known) / scale[:, None]).max() < 1e-9


def test_json_of_several_targets_keeps_its_schema(population):
    from jsonschema import Draft202012Validator

    check = Draft202012Validator(json.loads(SCHEMA.read_text()))
    value = to_json(population)
    check.validate(value)
    for spoiled in (
        {"version": 2},
        {"version": 3},
        {"targets": value["targets"][:1]},
        {"outputs": value["outputs"][:1]},
        {"target": value["targets"][0]},
        {"interval": value["intervals"][0]},
    ):
        assert not check.is_valid(value | spoiled), spoiled


def test_contributions_of_the_page_are_those_of_each_target(tmp_path, population, rows):
    export(population, "wide", tmp_path / "net.html")
    some = rows[:5]
    expected = population.explain(some)
    for k, scale in enumerate(population.reading.scales):
        call = f"rows.map(row => net.contributions(row.map(cell), {k}).values)"
        (found,) = in_node(call, [data_of(tmp_path / "net.html")], cells(population, some))
        assert (np.abs(np.array(found) - expected.values[..., k]) / scale).max() < 0.05  # sampled in both
