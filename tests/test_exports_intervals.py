"""Intervals of every export: those of `predict_interval`, at any coverage, for a table of every kind of column."""

import ctypes
import json
import subprocess
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from mixed import as_text, by_name, cells, later_rows, mixed, with_intervals
from readers import FUNCTIONS, answers_of_json, cell_of_json, imported, library, program
from sklearn.base import clone

from netformer import export
from netformer.errors import InputError
from netformer.exports.intervals import FAR, LEVELS, between, ramps_of
from netformer.sources.formats import FORMATS, SCHEMA

COVERAGES = [0.004, 0.5, 0.9, 0.9998]  # within levels, and beyond them


@pytest.fixture(scope="module")
def population():
    return with_intervals(mixed())


@pytest.fixture(scope="module")
def rows():
    return later_rows(300)


def ends(coverage):
    return [(1 - coverage) / 2, (1 + coverage) / 2]


def from_onnx(path, population, table, coverage, real=np.float64):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = by_name(population, table, real) | {"coverage": np.array(coverage, real)}
    return np.concatenate(session.run(["low", "high"], feed), 1)


def from_torch(path, population, table, coverage):
    module = imported(path)
    with torch.no_grad():
        return module.load().predict_interval(module.encode(table), coverage).numpy()


def from_json(path, population, table, coverage):
    """As the schema says."""
    d, texts = json.loads(path.read_text()), as_text(population, table)
    interval = d["interval"]
    z = np.array([[cell_of_json(d, one, row[one["column"]]) for one in d["inputs"]] for row in texts])
    logs = interval["bias"] + z @ interval["skip"]
    for body, head in zip(d["bodies"], interval["heads"], strict=True):
        h = z
        for layer in body["layers"]:
            h = FUNCTIONS[layer["activation"]](layer["bias"] + h @ np.array(layer["weight"]).T)
        logs = logs + h @ head
    scale = np.exp(np.clip(logs, interval["least"], interval["largest"])) * d["target"]["scale"]
    scores = between(np.array(ends(coverage)), np.array(interval["levels"]), np.array(interval["scores"]))
    return answers_of_json(path, texts)[:, None] + scale[:, None] * scores


def from_c(path, population, table, coverage):
    quantile, pointer = library(path).predict_quantile, ctypes.POINTER(ctypes.c_double)
    encoded = np.ascontiguousarray(cells(population, table))
    return np.array([[quantile(row.ctypes.data_as(pointer), q) for q in ends(coverage)] for row in encoded])


def from_program(path, population, table, coverage):
    table.to_csv(path.with_suffix(".csv"), index=False)
    command = [program(path), "--interval", str(coverage), path.with_suffix(".csv")]
    header, *lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert header == "price,price_low,price_high"
    found = np.array([line.split(",") for line in lines], np.float64)
    np.testing.assert_allclose(found[:, 0], population.predict(table), atol=1e-5 * population.reading.targets[0].scale)
    return found[:, 1:]


READERS = {
    "onnx": ("onnx", from_onnx),
    "torch": ("py", from_torch),
    "sklearn": ("py", lambda path, _, table, coverage: imported(path).load().predict(table, quantiles=ends(coverage))),
    "json": ("json", from_json),
    "c": ("c", from_c),
    "program": ("c", from_program),
    "numpy": ("py", lambda path, _, table, coverage: np.array(imported(path).predict_interval(table, coverage))),
}


def test_every_format_has_intervals():
    assert {*READERS, "onnx32", "html"} - {"program"} == set(FORMATS)  # that of html: test_web


@pytest.mark.parametrize("format", READERS)
def test_every_format_has_the_intervals_of_the_population(tmp_path, population, rows, format):
    suffix, answers = READERS[format]
    path = tmp_path / f"net.{suffix}"
    export(population, "wide", path, "c" if format == "program" else format)
    for coverage in COVERAGES:
        expected = population.predict_interval(rows, coverage)
        assert len(np.unique(np.diff(expected).round(6))) > 50
        off = np.abs(answers(path, population, rows, coverage) - expected).max() / population.reading.targets[0].scale
        assert off < 1e-6, (coverage, off)


def test_onnx_with_single_inputs_has_them_too(tmp_path, rows):
    population = with_intervals(mixed(without=("far", "sold")))
    held = by_name(population, rows, np.float32)
    table = rows[list(held)].assign(**{n: v[:, 0].astype(float) for n, v in held.items() if v.dtype != object})
    export(population, "wide", tmp_path / "net.onnx", "onnx32")
    for coverage in COVERAGES[:-1]:
        found = from_onnx(tmp_path / "net.onnx", population, table, coverage, np.float32)
        expected = population.predict_interval(table, coverage)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * population.reading.targets[0].scale)


def test_the_coverage_of_onnx_need_not_be_given(tmp_path, population, rows):
    for path, dtype in ((tmp_path / "a.onnx", "float64"), (tmp_path / "b.onnx", "float32")):
        some = population if dtype == "float64" else with_intervals(mixed(without=("far", "sold")))
        some.to_onnx("wide", path, dtype)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        assert [one.name for one in session.get_inputs()] == list(some.columns)
        feed = by_name(some, rows, np.float64 if dtype == "float64" else np.float32)
        y, low, high = session.run(None, feed)
        assert y.shape == low.shape == high.shape == (len(rows), 1)
        again = session.run(None, feed | {"coverage": np.array(0.9, feed["size"].dtype)})
        for found, expected in zip((y, low, high), again, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_objects_answer_with_quantiles(population, rows):
    quantiles = [0.001, 0.05, 0.5, 0.97]
    expected = population.predict_quantiles(rows, quantiles)
    scale = population.reading.targets[0].scale
    module = population.to_torch("wide")
    with torch.no_grad():
        x = module.encode(rows)
        np.testing.assert_allclose(module.predict_quantiles(x, quantiles).numpy(), expected, atol=1e-9 * scale)
        np.testing.assert_allclose(module(x)[:, 0].numpy(), population.predict(rows), atol=1e-9 * scale)
        both = module.predict_interval(x).numpy()
    np.testing.assert_allclose(both, population.predict_interval(rows), atol=1e-9 * scale)
    pipeline = population.to_sklearn("wide")
    np.testing.assert_allclose(pipeline.predict(rows, quantiles=quantiles), expected, atol=1e-9 * scale)
    np.testing.assert_allclose(clone(pipeline).fit(rows).predict(rows), population.predict(rows), atol=1e-9 * scale)


def test_the_hidden_layers_of_a_module_are_there_once(population):
    plain, both = (one.to_torch("wide") for one in (replace(population, intervals=None), population))
    networks = len(population.wide)
    more = {id(p): p.numel() for p in both.parameters()}
    fewer = sum(p.numel() for p in plain.parameters())
    last = sum(network.body[-1].weight.numel() + network.skip.numel() for network in both.networks)
    bias = sum(network.body[-1].bias is not None for network in both.networks)
    assert networks > 1
    assert sum(more.values()) == fewer + last + bias


def test_other_networks_have_none(tmp_path, population, rows):
    for which in ("mean", 0):
        export(population, which, tmp_path / f"{which}.json")
        assert "interval" not in json.loads((tmp_path / f"{which}.json").read_text())
        export(population, which, tmp_path / f"{which}.c")
        assert "predict_quantile" not in (tmp_path / f"{which}.c").read_text()
        export(population, which, tmp_path / f"{which}.onnx")
        session = onnxruntime.InferenceSession(str(tmp_path / f"{which}.onnx"), providers=["CPUExecutionProvider"])
        assert [one.name for one in session.get_outputs()] == ["y"]
        module = population.to_torch(which)
        x = module.encode(rows[:1])
        with pytest.raises(InputError, match="there are no intervals here: they belong to the wide network"):
            module.predict_interval(x)
    with pytest.raises(ValueError, match="this network has no intervals"):
        population.to_sklearn("mean").predict(rows[:1], quantiles=[0.5])
    rows[:2].to_csv(tmp_path / "rows.csv", index=False)
    done = subprocess.run(
        [program(tmp_path / "0.c"), tmp_path / "rows.csv", "--interval", "0.9"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(": --interval is of the wide network alone, and this is another one\n")


@pytest.mark.parametrize("quantiles", [[0.0], [0.5, 1.0], [float("nan")]])
def test_a_quantile_that_is_none_is_an_error_of_every_object(tmp_path, population, rows, quantiles):
    module = population.to_torch("wide")
    with pytest.raises(ValueError, match=r"quantiles must be between 0 and 1, got \["):
        module.predict_quantiles(module.encode(rows[:1]), quantiles)
    with pytest.raises(ValueError, match=r"quantiles must be between 0 and 1, got \["):
        population.to_sklearn("wide").predict(rows[:1], quantiles=quantiles)
    export(population, "wide", tmp_path / "net.py")
    with pytest.raises(ValueError, match="a quantile must be between 0 and 1, got"):
        imported(tmp_path / "net.py").predict_quantiles(rows[:1], quantiles)


@pytest.mark.parametrize(
    "options", [["--interval"], ["--interval", "1"], ["--interval", "0.9x"], ["--interval", "nan"]]
)
def test_a_coverage_that_is_none_is_one_line_of_the_program(tmp_path, population, options):
    export(population, "wide", tmp_path / "net.c")
    done = subprocess.run([program(tmp_path / "net.c"), *options], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(": --interval must be a number between 0 and 1, such as 0.9\n")
    assert done.stderr.count("\n") == 1


def test_ramps_are_the_table_of_scores():
    rng, quantiles = np.random.default_rng(0), np.linspace(1e-4, 1 - 1e-4, 4001)
    for shift in (0.0, 5.0, -5.0):  # last scores on the other side of 0 too
        scores = np.sort(rng.normal(size=len(LEVELS))) + shift
        ramps = ramps_of(scores.tolist())
        along = np.log(quantiles / (1 - quantiles))[:, None] - ramps.left
        along = np.clip(along, np.minimum(ramps.lengths, 0), np.maximum(ramps.lengths, 0))
        found = ramps.start + along @ ramps.slopes
        np.testing.assert_allclose(found, between(quantiles, np.array(LEVELS), scores), atol=1e-9)
    assert np.log(np.nextafter(0, 1)) > -FAR


def test_json_keeps_its_schema(tmp_path, population):
    from jsonschema import Draft202012Validator

    export(population, "wide", tmp_path / "net.json")
    d, check = json.loads((tmp_path / "net.json").read_text()), Draft202012Validator(json.loads(SCHEMA.read_text()))
    check.validate(d)
    assert not check.is_valid(d | {"interval": {"bias": 0.0}})
