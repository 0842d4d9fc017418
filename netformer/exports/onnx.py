"""ONNX: a network as one file."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from netformer.exports.formula import Formula
from netformer.tables.reading import CUT

_ONNX_OPSET, _ONNX_IR = 17, 8
_ONNX_KINDS = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid"}


def onnx_model(formula: Formula) -> Any:
    """The formula as an ONNX model, opset 17: x double (rows, features) -> y double (rows, 1); GELU is exact.

    The names of columns and target are its metadata `columns` (a JSON list) and `target`.
    """
    from onnx import TensorProto, checker, helper, numpy_helper

    nodes: list[Any] = []
    constants: list[Any] = []

    def constant(value: np.ndarray | float) -> str:
        name = f"c{len(constants)}"
        constants.append(numpy_helper.from_array(np.array(value, np.float64), name))
        return name

    def node(kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        output = output or f"n{len(nodes)}"
        nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def activated(h: str, name: str) -> str:
        if name == "gelu":
            single = node("Cast", node("Mul", h, constant(0.5**0.5)), to=TensorProto.FLOAT)
            erf = node("Cast", node("Erf", single), to=TensorProto.DOUBLE)
            return node("Mul", node("Mul", h, constant(0.5)), node("Add", erf, constant(1.0)))
        return h if name == "identity" else node(_ONNX_KINDS[name], h)

    z = node("Div", node("Sub", "x", constant(formula.reading.center)), constant(formula.reading.scale))
    z = node("Clip", z, constant(-CUT), constant(CUT))
    ends = []
    for body in formula.bodies:
        h = z
        for layer in body:
            h = activated(node("Gemm", h, constant(layer.weight), constant(layer.bias), transB=1), layer.activation)
        ends.append(h)
    last = np.concatenate([*formula.heads, formula.skip])[:, None]
    y = node("Gemm", node("Concat", *ends, z, axis=1), constant(last), constant(np.array([formula.bias])))
    node(
        "Add",
        node("Mul", y, constant(formula.reading.target_scale)),
        constant(formula.reading.target_center),
        output="y",
    )
    graph = helper.make_graph(
        nodes,
        "netformer",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["rows", len(formula.reading.columns)])],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, ["rows", 1])],
        constants,
    )
    opset = [helper.make_opsetid("", _ONNX_OPSET)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=_ONNX_IR, producer_name="netformer")
    helper.set_model_props(model, {"columns": json.dumps(formula.reading.columns), "target": formula.reading.target})
    checker.check_model(model)
    return model
