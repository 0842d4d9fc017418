"""Exports: one delivered network as a file for another world. Every format reads raw columns, in the order of
`Bundle.columns`, and answers in units of the target; every one agrees with `Bundle.predict`.

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
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from netformer.errors import InputError
from netformer.exports.bundle import Bundle
from netformer.exports.formula import formula_of
from netformer.exports.onnx import to_onnx
from netformer.exports.source import c_source, python_source, sklearn_source, torch_source
from netformer.networks.convert import sklearn_regressor
from netformer.networks.stack import Networks
from netformer.tasks.view import CUT

SCHEMA = Path(__file__).with_name("network.schema.json")


def export(bundle: Bundle, which: int | str, path: str | Path, format: str, *, overwrite: bool = False) -> None:
    """Write one network as a file, complete or not at all.

    which: "wide", "mean" or the index of a network, see `Bundle.stack`. format: one of FORMATS. Raises InputError for
    another format, a file that exists unless `overwrite`, a folder that does not, and a network that the format cannot
    express (sklearn: more than one network, a skip, GELU, activations that differ between layers).
    """
    if format not in FORMATS:
        raise InputError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    path = Path(path)
    if path.is_dir() or (path.exists() and not overwrite):
        raise InputError(f"{path} exists; choose another name or pass overwrite=True for a file")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent} must be a folder that exists; create it first")
    content = _WRITERS[format](bundle, which)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def to_sklearn(bundle: Bundle, which: int | str) -> Any:
    """One network as a fitted `MLPRegressor` in float64 that reads raw columns; the standardisation is folded into its
    first layer, the units of the target into its last. A center of 1e6 scales costs 6 of the 16 digits of float64. It
    does not cut columns as `Bundle.predict` does.

    Raises InputError for what MLPRegressor cannot express, and for "wide" and "mean".
    """
    stack = bundle.stack(which)
    if isinstance(which, str):
        raise InputError(f"which must be the index of one network for MLPRegressor, got {which!r}; use torch or onnx")
    if bool(stack.specs.skip[0]):
        raise InputError(f"MLPRegressor has no edges from inputs to outputs, network {which} has; use torch or onnx")
    layers = Networks(stack.specs, stack.weight.double()).matrices(0)
    center, scale = torch.tensor(bundle.center), torch.tensor(bundle.scale)
    weight, bias, name = layers[0]
    weight = weight / scale
    shift = weight @ center
    layers[0] = (weight, -shift if bias is None else bias - shift, name)
    weight, bias, name = layers[-1]
    bias = weight.new_zeros(1) if bias is None else bias
    layers[-1] = (weight * bundle.target_scale, bias * bundle.target_scale + bundle.target_center, name)
    return sklearn_regressor(layers)


def to_json(bundle: Bundle, which: int | str = "wide") -> dict[str, Any]:
    """The network as JSON values, in the form of `network.schema.json`; weights with 9 significant digits."""
    formula = formula_of(bundle, which)

    def numbers(values: np.ndarray) -> list:
        return [numbers(row) if row.ndim else float(f"{row:.9g}") for row in values]

    def variable(name: str, center: float, scale: float) -> dict[str, Any]:
        return {"name": name, "center": float(center), "scale": float(scale)}

    columns = zip(formula.columns, formula.center, formula.scale, strict=True)
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
        "target": variable(formula.target, formula.target_center, formula.target_scale),
        "limit": CUT,
        "bodies": bodies,
        "skip": numbers(formula.skip),
        "bias": float(f"{formula.bias:.9g}"),
        "about": bundle.about,
    }


def _sklearn(bundle: Bundle, which: Any) -> bytes:
    low, high = bundle.center - CUT * bundle.scale, bundle.center + CUT * bundle.scale
    return sklearn_source(to_sklearn(bundle, which), bundle.columns, bundle.target, low, high).encode()


_WRITERS: dict[str, Callable[[Bundle, Any], bytes]] = {
    "onnx": lambda bundle, which: to_onnx(formula_of(bundle, which)).SerializeToString(),
    "torch": lambda bundle, which: torch_source(formula_of(bundle, which)).encode(),
    "sklearn": _sklearn,
    "json": lambda bundle, which: (json.dumps(to_json(bundle, which), allow_nan=False) + "\n").encode(),
    "c": lambda bundle, which: c_source(formula_of(bundle, which)).encode(),
    "numpy": lambda bundle, which: python_source(formula_of(bundle, which)).encode(),
}


FORMATS = tuple(_WRITERS)
