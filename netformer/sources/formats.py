"""Formats: one delivered network as a file for other programs. Every format reads cells of the table as they are, with
the reading inside, answers in units of the target, and agrees with `Population.predict`.

A row holds, per column of `Population.columns`: a number, nan or empty for a gap; a date as seconds since 1970 UTC, in
formats that take text also in ISO 8601; a category as text, empty for a gap, or as the position of its level. Python
files (numpy, sklearn, `encode` of torch) take a number also as text of it alone (`1234.5`), without a currency sign or
separators.

    onnx      one graph, opset 17: x double (rows, columns) -> y double (rows, 1), x a nan for each gap; of a table with
              categories an input per column instead, under its name, (rows, 1). Double, because float32 cannot hold a
              column far from 0; Erf alone runs in float32, the only type in which onnxruntime has it
    onnx32    the same with float inputs, for a table that they hold
    torch     a Python file with an `nn.Module` in float64: `load()(encode(rows))` is (rows, 1)
    sklearn   a Python file whose `load()` is a fitted pipeline; it ends in an `MLPRegressor` where that can express the
              network, else in a regressor whose class stands in the file
    json      every number, in the form of `network.schema.json`
    c         a C99 file: `double predict(const double x[])`, categories as constants of an enumeration; beside it
              STEM_csv.c, a program that reads a CSV file
    numpy     a Python file of the standard library alone: `predict(rows)` is a list
    html      a page that is the model: a field per column, the answer, what each column contributed; no request

Of a target of classes every format gives the probability of each class, as `Population.predict_proba`, and the label of
the most probable one:

    onnx      outputs label (rows,), text or int64, and probabilities double (rows, classes); metadata `classes`
    torch     logits (rows, classes), as `cross_entropy` reads them; `predict_proba(x)` and `predict(x)` of the module
    sklearn   `predict` and `predict_proba` of a pipeline that ends in an `MLPClassifier` where that can express the
              network and hold the labels, else in a classifier whose class stands in the file
    json      version 3 of the schema: `target.classes`, `outputs`
    c         `int predict(const double x[], double probabilities[])`, the number of one of `classes`
    numpy     `predict(rows)` and `predict_proba(rows)`, in the order of `CLASSES`
    html      a bar per class; what each column contributed to the logit of the class in focus

Of several targets every format answers with each, in their order:

    onnx, torch    y (rows, targets); metadata `targets`
    sklearn        `predict(rows)` is (rows, targets)
    json           version 4 of the schema: `targets`, `outputs`
    c              `void predict(const double x[], double y[])`
    numpy          `predict(rows)`: a list of floats for each row, in the order of `TARGETS`
    html           a line per target; the curve and the contributions are of the one in focus

Of targets of numbers every format of the wide network also holds its intervals (`exports.intervals`):

    onnx           outputs low and high (rows, targets), for an input `coverage`, a number, 0.9 where it is not given
    torch          `predict_interval(x, coverage)` and `predict_quantiles(x, quantiles)` of the module
    sklearn        `predict(rows, quantiles=[0.05, 0.95])` of the pipeline
    json           `interval`, of several targets `intervals`, see the schema
    c              `double predict_quantile(const double x[], double q)`; of several targets
                   `void predict_quantile(const double x[], double q, double y[])`; the program takes `--interval 0.9`
    numpy          `predict_interval(rows, coverage)`, `predict_quantiles(rows, quantiles)`
    html           on the page
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from netformer.errors import InputError
from netformer.exports.formula import MAPPED, Output, Spread, Step, fills_of
from netformer.exports.intervals import LEVELS
from netformer.exports.onnx import onnx_model
from netformer.exports.population import Population
from netformer.files import replacing
from netformer.sources.c import c_source
from netformer.sources.libraries import torch_source
from netformer.sources.program import c_reader
from netformer.sources.python import python_source
from netformer.sources.web import web_page
from netformer.tables.reading import Reading
from netformer.tables.scaling import SQUASH

_LARGE = 1e6
SCHEMA = Path(__file__).with_name("network.schema.json")


def export(
    population: Any,
    which: int | str,
    path: str | Path,
    format: str | None = None,
    *,
    overwrite: bool = False,
    columns: str | Sequence[str] | None = None,
) -> list[Path]:
    """Write one network as a file, complete or not at all; of c also the program beside it. Returns what was written.

    population: a Population, a fitted estimator that makes one (`to_bundle`), or the folder that either was saved to.
    which: "wide", "mean" or the index of a network, see `Population.stack`. format: one of FORMATS; None: by the suffix
    of path, numpy for .py. columns: of html, those that have a field; the others stay at their typical cells
    (`web.web_page`). None: all; of more than `web.MOST_FIELDS` some must be chosen.

    Raises InputError for another format or suffix, a file that exists unless `overwrite`, a folder that does not, and
    what a format cannot write (onnx32: a column too far from 0; onnx without its package), all before anything is
    written.
    """
    path = Path(path)
    if format is None:
        format = SUFFIXES.get(path.suffix.lower())
        if format is None:
            raise InputError(f"{path}: must end in {', '.join(SUFFIXES)}, or format be one of {', '.join(FORMATS)}")
    if format not in FORMATS:
        raise InputError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    if columns is not None and format != "html":
        raise InputError(f"columns chooses the fields of html, and is not for {format}")
    if isinstance(population, str | Path):
        population = Population.load(population)
    population = population.to_bundle() if hasattr(population, "to_bundle") else population
    if not path.parent.is_dir():
        raise InputError(f"{path.parent} must be a folder that exists; create it first")
    beside = path.with_name(f"{path.stem}_csv.c")
    for file in (path, beside) if format == "c" else (path,):
        if file.is_dir() or (file.exists() and not overwrite):
            raise InputError(f"{file} exists; choose another name or pass overwrite=True for a file")
    if format == "html":
        page = web_page(population, population.formula(which), which, columns)
        contents = {path: page.encode()}
    else:
        contents = {path: _WRITERS[format](population, which)}
    if format == "c":
        intervals = bool(population.formula(which).spreads)
        contents[beside] = c_reader(population.reading, path.name, intervals).encode()
    for file, content in contents.items():
        with replacing(file) as partial:
            partial.write_bytes(content)
    return list(contents)


def _sklearn(population: Population, which: int | str) -> str:
    from netformer.sources.pipeline import sklearn_source  # scikit-learn, which takes a second

    return sklearn_source(population.to_sklearn(which)[-1], population.reading)


def to_json(population: Population, which: int | str = "wide") -> dict[str, Any]:
    """The network as JSON values, in the form of `network.schema.json`: version 2 of a target of numbers, version 3 of
    classes, version 4 of several targets; weights with 9 significant digits."""
    formula = population.formula(which, units=True)
    reading, outputs = formula.reading, formula.outputs
    bodies: list[dict[str, Any]] = [
        {
            "layers": [
                {"activation": layer.activation, "weight": _numbers(layer.weight), "bias": _numbers(layer.bias)}
                for layer in body
            ]
        }
        for body in formula.bodies
    ]
    described: dict[str, Any] = {
        "format": "netformer-network",
        "version": 3 if reading.classes else 2 if len(reading.targets) == 1 else 4,
        "columns": _columns(reading),
        "inputs": [_input(step) for step in formula.steps],
        "squash": SQUASH,
        "target": {"name": reading.target},
        "bodies": bodies,
    }
    if reading.classes:
        described["target"] |= {"classes": list(reading.classes)}
        described["outputs"] = [_output(one) for one in outputs]
    elif len(reading.targets) > 1:
        described["targets"] = [{"name": one.name, "center": one.center, "scale": one.scale} for one in reading.targets]
        described["outputs"] = [_output(one) for one in outputs]
        del described["target"]
    else:
        described["target"] |= {"center": reading.targets[0].center, "scale": reading.targets[0].scale}
        for body, head in zip(bodies, outputs[0].heads, strict=True):
            body["head"] = _numbers(head)
        described |= {"skip": _numbers(outputs[0].skip), "bias": float(f"{outputs[0].bias:.9g}")}
    described["about"] = population.about
    if formula.spreads and len(reading.targets) > 1:
        described["intervals"] = [_interval(spread) for spread in formula.spreads]
    elif formula.spreads:
        described["interval"] = _interval(formula.spreads[0])
    return described


def _output(output: Output) -> dict[str, Any]:
    return {
        "heads": [_numbers(head) for head in output.heads],
        "skip": _numbers(output.skip),
        "bias": float(f"{output.bias:.9g}"),
    }


def _interval(spread: Spread) -> dict[str, Any]:
    return {
        "heads": [_numbers(head) for head in spread.heads],
        "skip": _numbers(spread.skip),
        "bias": spread.bias,
        "least": spread.bounds[0],
        "largest": spread.bounds[1],
        "levels": list(LEVELS),
        "scores": list(spread.scores),
    }


def _numbers(values: np.ndarray) -> list:
    return [_numbers(row) if row.ndim else _number(float(f"{row:.9g}")) for row in values]


def _number(value: float) -> float | int:
    """Small whole ones without .0, which would be a fifth of a file with step units."""
    return int(value) if value.is_integer() and abs(value) < _LARGE else value


def _columns(reading: Reading) -> list[dict[str, Any]]:
    described = []
    for column, fill in zip(reading.table, fills_of(reading), strict=True):
        one: dict[str, Any] = {"name": column.name, "kind": column.kind, "fill": fill}
        if column.kind == "category":
            one |= {"fill": int(fill), "levels": list(column.levels)}
        one |= {"gaps": [float(value) for value in column.gaps]} if column.gaps else {}
        one |= {"words": list(column.words)} if column.words else {}
        described.append(one)
    return described


def _input(step: Step) -> dict[str, Any]:
    one: dict[str, Any] = {"column": step.column, "part": step.part}
    if step.part not in MAPPED:
        one["values"] = _numbers(np.array(step.constants))
        return one | ({"levels": list(step.more)} if step.part == "code" else {})
    one |= dict(zip(("center", "scale", "low", "high", "shift", "spread"), step.constants, strict=True))
    return one | ({"period": step.more[0]} if step.more else {})


def _text(values: dict[str, Any]) -> str:
    return json.dumps(values, allow_nan=False, separators=(",", ":")) + "\n"


_WRITERS: dict[str, Callable[[Population, Any], bytes]] = {
    "onnx": lambda population, which: onnx_model(population.formula(which)).SerializeToString(),
    "onnx32": lambda population, which: onnx_model(population.formula(which), single=True).SerializeToString(),
    "torch": lambda population, which: torch_source(population.formula(which)).encode(),
    "sklearn": lambda population, which: _sklearn(population, which).encode(),
    "json": lambda population, which: _text(to_json(population, which)).encode(),
    "c": lambda population, which: c_source(population.formula(which)).encode(),
    "numpy": lambda population, which: python_source(population.formula(which)).encode(),
}
FORMATS = (*_WRITERS, "html")
SUFFIXES = {".c": "c", ".html": "html", ".json": "json", ".onnx": "onnx", ".py": "numpy"}
