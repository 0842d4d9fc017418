"""Formats: one delivered network as a file for other programs. Every format reads raw columns, in the order of
`Population.columns`, answers in units of the target, and agrees with `Population.predict`.

    onnx      one graph, opset 17: x double (rows, features) -> y double (rows, 1). Double, because float32 cannot hold
              a column far from 0; Erf alone runs in float32, the only type in which onnxruntime has it
    torch     a Python file with an `nn.Module` in float64: `load()(x)` is (rows, 1)
    sklearn   a Python file whose `load()` is a fitted `MLPRegressor`, only for networks that it can express; it
              does not cut columns, so give it np.clip(X, LOW, HIGH)
    json      every number, in the form of `network.schema.json`
    c         a C99 file: `double predict(const double x[])`
    numpy     a Python file of the standard library alone: `predict(rows)` is a list; rows are lists or an array
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from netformer.errors import InputError
from netformer.exports.formula import Formula, formula_of
from netformer.exports.onnx import onnx_model
from netformer.exports.population import Population
from netformer.exports.source import c_source, python_source, sklearn_source, torch_source
from netformer.files import replacing
from netformer.tables.reading import CUT

SCHEMA = Path(__file__).with_name("network.schema.json")


def export(population: Population, which: int | str, path: str | Path, format: str, *, overwrite: bool = False) -> None:
    """Write one network as a file, complete or not at all.

    which: "wide", "mean" or the index of a network, see `Population.stack`. format: one of FORMATS. Raises InputError
    for another format, a file that exists unless `overwrite`, a folder that does not, and a network that the format
    cannot express (sklearn: more than one network, a skip, GELU, activations that differ between layers).
    """
    if format not in FORMATS:
        raise InputError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    path = Path(path)
    if path.is_dir() or (path.exists() and not overwrite):
        raise InputError(f"{path} exists; choose another name or pass overwrite=True for a file")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent} must be a folder that exists; create it first")
    content = _WRITERS[format](population, which)
    with replacing(path) as partial:
        partial.write_bytes(content)


def to_json(population: Population, which: int | str = "wide") -> dict[str, Any]:
    """The network as JSON values, in the form of `network.schema.json`; weights with 9 significant digits."""
    formula = _formula(population, which)
    reading = formula.reading

    def numbers(values: np.ndarray) -> list:
        return [numbers(row) if row.ndim else float(f"{row:.9g}") for row in values]

    def variable(name: str, center: float, scale: float) -> dict[str, Any]:
        return {"name": name, "center": float(center), "scale": float(scale)}

    columns = zip(reading.columns, reading.center, reading.scale, strict=True)
    bodies = []
    for body, head in zip(formula.bodies, formula.heads, strict=True):
        layers = [
            {"activation": layer.activation, "weight": numbers(layer.weight), "bias": numbers(layer.bias)}
            for layer in body
        ]
        bodies.append({"layers": layers, "head": numbers(head)})
    return {
        "format": "netformer-network",
        "version": 1,
        "columns": [variable(*column) for column in columns],
        "target": variable(reading.target, reading.target_center, reading.target_scale),
        "limit": CUT,
        "bodies": bodies,
        "skip": numbers(formula.skip),
        "bias": float(f"{formula.bias:.9g}"),
        "about": population.about,
    }


def _formula(population: Population, which: Any) -> Formula:
    return formula_of(population.reading, population.stack(which))


def _sklearn(population: Population, which: Any) -> bytes:
    return sklearn_source(population.to_sklearn(which), population.reading).encode()


_WRITERS: dict[str, Callable[[Population, Any], bytes]] = {
    "onnx": lambda population, which: onnx_model(_formula(population, which)).SerializeToString(),
    "torch": lambda population, which: torch_source(_formula(population, which)).encode(),
    "sklearn": _sklearn,
    "json": lambda population, which: (json.dumps(to_json(population, which), allow_nan=False) + "\n").encode(),
    "c": lambda population, which: c_source(_formula(population, which)).encode(),
    "numpy": lambda population, which: python_source(_formula(population, which)).encode(),
}
FORMATS = tuple(_WRITERS)
