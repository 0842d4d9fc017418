"""ONNX: a network as one file, with the reading of its columns in the graph."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from netformer.errors import InputError
from netformer.exports.formula import MAPPED, Formula, Output, Step, fills_of, gaps_of, single_of
from netformer.exports.intervals import COVERAGE, ramps_of
from netformer.exports.trees import Trees
from netformer.tables.reading import Reading
from netformer.tables.scaling import SQUASH

_OPSETS, _IR = {"": 17, "ai.onnx.ml": 3}, 8
_KINDS = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid"}
_MANY = 32  # numbers from which half of their bytes are more than a node
COARSEST = 1e-3  # of a standardised input: what float32 may blur


def onnx_model(formula: Formula, single: bool = False) -> Any:
    """The formula as an ONNX model, opset 17, that answers y double (rows, targets); GELU is exact.

    Of a target of classes it answers label (rows,), that of the most probable class, text or int64 (double where labels
    are no whole numbers; truth values are 0 and 1), and probabilities double (rows, classes).

    With intervals (`Formula.spreads`) also low and high double (rows, targets), between which each target lies with the
    probability `coverage`: a number, one more input that need not be given and is 0.9 then.

    Of a table of numbers and dates one input, x (rows, columns); else one per column under its name (`input_names`),
    (rows, 1): a category is text, without blanks around it, "" for a gap. nan is a gap of the others, a date is seconds
    since 1970 UTC. They are double, or float with `single`; the arithmetic is in double. Names and kinds of the columns
    and the name of the target are its metadata `columns`, `kinds` (JSON lists) and `target`, of several `targets` (a
    JSON list); labels are `classes`, in the order of their probabilities (a JSON list).

    Raises InputError if onnx is not installed, for labels that no tensor holds, and with `single` for a column that
    float cannot tell apart.
    """
    try:
        from onnx import TensorProto, checker, helper, numpy_helper
    except ImportError:
        raise InputError("onnx must be installed to write ONNX; pip install onnx onnxruntime") from None
    reading = formula.reading
    if single:
        _check_single(formula)
    graph = _Graph(reading.columns)
    real, reals = (TensorProto.FLOAT, np.float32) if single else (TensorProto.DOUBLE, np.float64)
    names = input_names(reading)
    inputs = []
    if not has_text(reading):
        inputs.append(helper.make_tensor_value_info("x", real, ["rows", len(reading.columns)]))
    else:
        for name, column in zip(names, reading.table, strict=True):
            kind = TensorProto.STRING if column.kind == "category" else real
            inputs.append(helper.make_tensor_value_info(name, kind, ["rows", 1]))
    z = _inputs(graph, formula, names, reals)
    units = []
    for body in formula.bodies:
        h = z
        for layer in body:
            h = graph.node("Gemm", h, graph.weights(layer.weight), graph.weights(layer.bias), transB=1)
            h = _activated(graph, h, layer.activation)
        units.append(h)
    joined = graph.node("Concat", *units, z, axis=1)
    y = _answer(graph, joined, formula.outputs)
    for trees in formula.trees:
        y = graph.node("Add", y, _added(graph, z, trees, formula))
    if reading.classes:
        found = _classified(graph, y, reading.classes, (_free("label", names), _free("probabilities", names)))
    else:
        y = graph.node("Mul", y, graph.constant(_one_or_all(reading.scales)))
        outputs = [_free("y", names)]
        graph.node("Add", y, graph.constant(_one_or_all(reading.centers)), output=outputs[0])
        found = [helper.make_tensor_value_info(outputs[0], TensorProto.DOUBLE, ["rows", reading.n_outputs])]
    if formula.spreads:
        coverage, low, high = (_free(name, names) for name in ("coverage", "low", "high"))
        inputs.append(helper.make_tensor_value_info(coverage, real, []))
        graph.constants.append(numpy_helper.from_array(np.array(COVERAGE, reals), coverage))
        _interval(graph, formula, joined, outputs[0], coverage, (low, high))
        found += [
            helper.make_tensor_value_info(end, TensorProto.DOUBLE, ["rows", reading.n_outputs]) for end in (low, high)
        ]
    opsets = [helper.make_opsetid(*one) for one in _OPSETS.items() if one[0] in graph.domains]
    whole = helper.make_graph(graph.nodes, "netformer", inputs, found, graph.constants)
    model = helper.make_model(whole, opset_imports=opsets, ir_version=_IR, producer_name="netformer")
    kinds = [column.kind for column in reading.table]
    facts = {"columns": json.dumps(reading.columns), "kinds": json.dumps(kinds), "target": reading.target}
    facts |= {"classes": json.dumps(reading.classes)} if reading.classes else {}
    facts |= {"targets": json.dumps([one.name for one in reading.targets])} if len(reading.targets) > 1 else {}
    helper.set_model_props(model, facts)
    checker.check_model(model)
    return model


def _answer(graph: _Graph, joined: str, outputs: Sequence[Output]) -> str:
    """Outputs of the last hidden units and what the network reads: (rows, outputs)."""
    last = np.stack([np.concatenate([*one.heads, one.skip]) for one in outputs], 1)
    return graph.node("Gemm", joined, graph.constant(last), graph.constant([one.bias for one in outputs]))


def _added(graph: _Graph, z: str, trees: Trees, formula: Formula) -> str:
    """What trees add to all outputs: (rows, outputs)."""
    own, count, _ = trees.leaf.shape
    place, two = graph.constant(np.arange(count), np.int64), graph.constant(2, np.int64)
    for column, cut in zip(trees.column.T, trees.cut.T, strict=True):
        asked = graph.node("Gather", z, graph.constant(column, np.int64), axis=1)
        above = graph.node("Greater", asked, graph.constant(cut))
        place = graph.node("Add", graph.node("Mul", place, two), graph.cast(above, "INT64"))
    values = graph.node("Gather", graph.weights(trees.leaf.reshape(own, -1).T, formula.count), place, axis=0)
    added = graph.node("ReduceSum", values, graph.constant([1], np.int64), keepdims=0)
    behind = len(formula.outputs) - own - trees.first
    return graph.node("Pad", added, graph.constant([0, trees.first, 0, behind], np.int64))


def _classified(graph: _Graph, logits: str, classes: tuple[Any, ...], ends: tuple[str, str]) -> list[Any]:
    """The nodes that make label and probabilities of the outputs of `exports.classes`; names and shapes of both."""
    from onnx import TensorProto, helper

    if len(classes) == 2:
        graph.node("Sigmoid", graph.node("Mul", logits, graph.constant([-1.0, 1.0])), output=ends[1])
        second = graph.node("Greater", logits, graph.constant(0.0))
        place = graph.cast(graph.node("Squeeze", second, graph.constant([1], np.int64)), "INT64")
    else:
        graph.node("Softmax", logits, axis=1, output=ends[1])
        place = graph.node("ArgMax", logits, axis=1, keepdims=0)
    labels, kind = _labels(classes)
    graph.node("Gather", graph.constant(labels, labels.dtype.type), place, axis=0, output=ends[0])
    return [
        helper.make_tensor_value_info(ends[0], kind, ["rows"]),
        helper.make_tensor_value_info(ends[1], TensorProto.DOUBLE, ["rows", len(classes)]),
    ]


def _labels(classes: tuple[Any, ...]) -> tuple[np.ndarray, int]:
    """Labels as an array, and the kind of tensor that holds them. Raises InputError where none does."""
    from onnx import TensorProto

    if isinstance(classes[0], str):
        return np.array(classes, object), TensorProto.STRING
    whole = all(label % 1 == 0 and -(2**63) <= label < 2**63 for label in classes)
    labels = np.array(classes, np.int64 if whole else np.float64)
    if tuple(labels.tolist()) != classes:
        raise InputError(f"labels beyond int64 do not fit into ONNX, got {classes!r}; use text for them")
    return labels, TensorProto.INT64 if whole else TensorProto.DOUBLE


def _interval(graph: _Graph, formula: Formula, joined: str, answer: str, coverage: str, ends: tuple[str, str]) -> None:
    """The nodes that make the ends of an interval. joined: as `_answer` takes them."""
    spreads = formula.spreads
    bounds = np.array([spread.bounds for spread in spreads])
    least, largest = (graph.constant(_one_or_all(side)) for side in bounds.T)
    log = graph.node("Min", graph.node("Max", _answer(graph, joined, spreads), least), largest)
    scale = graph.node("Mul", graph.node("Exp", log), graph.constant(_one_or_all(formula.reading.scales)))
    share = graph.cast(coverage)
    one = graph.constant(1.0)
    odds = graph.node("Div", graph.node("Add", one, share), graph.node("Sub", one, share))
    every = [ramps_of(spread.scores) for spread in spreads]
    ramps, slopes = every[0], np.array([one.slopes for one in every]).T
    start = _one_or_all(np.array([one.start for one in every]))
    low, high = (np.array([edge(0.0, v) for v in ramps.lengths]) for edge in (min, max))
    logit = graph.node("Log", odds)  # of the quantile at the upper end
    for at, end in ((graph.node("Neg", logit), ends[0]), (logit, ends[1])):
        along = graph.node("Sub", at, graph.constant(ramps.left))
        along = graph.node("Min", graph.node("Max", along, graph.constant(low)), graph.constant(high))
        score = graph.node("MatMul", along, graph.constant(slopes if len(every) > 1 else slopes[:, 0]))
        score = graph.node("Add", score, graph.constant(start))
        graph.node("Add", answer, graph.node("Mul", scale, score), output=end)


def _one_or_all(values: np.ndarray) -> Any:
    """What is kept of each target; of one alone the number."""
    return values if len(values) > 1 else values[0]


def input_names(reading: Reading) -> list[str]:
    """Names of the inputs of the graph: x alone for a table of numbers and dates, else the names of the columns."""
    if not has_text(reading):
        return ["x"]
    return [name or _free("x", reading.columns) for name in reading.columns]


def has_text(reading: Reading) -> bool:
    """Whether a category is among the columns."""
    return any(column.kind == "category" for column in reading.table)


def _free(name: str, taken: Sequence[str]) -> str:
    while name in taken:
        name += "_"
    return name


class _Graph:
    """Nodes and constants as they are made, under names that no column has."""

    def __init__(self, columns: Sequence[str]) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.domains = {""}
        self.prefix = "_"
        while any(name.startswith(self.prefix) for name in columns):
            self.prefix += "_"

    def constant(self, value: Any, kind: type = np.float64) -> str:
        from onnx import numpy_helper

        name = f"{self.prefix}c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(value, kind), name))
        return name

    def weights(self, values: np.ndarray, count: int = 1) -> str:
        """Many constants in double, stored as float where that holds them times the count."""
        single = single_of(values, count)
        if values.size < _MANY or single is None:
            return self.constant(values)
        double = self.cast(self.constant(single, np.float32))
        return double if count == 1 else self.node("Div", double, self.constant(count))

    def cast(self, values: str, kind: str = "DOUBLE") -> str:
        """The values in another type, a name of `onnx.TensorProto`."""
        from onnx import TensorProto

        return self.node("Cast", values, to=getattr(TensorProto, kind))

    def node(self, kind: str, *inputs: str, output: str | None = None, domain: str = "", **attributes: Any) -> str:
        from onnx import helper

        output = output or f"{self.prefix}n{len(self.nodes)}"
        self.domains.add(domain)
        self.nodes.append(helper.make_node(kind, list(inputs), [output], domain=domain, **attributes))
        return output


def _activated(graph: _Graph, h: str, name: str) -> str:
    if name == "gelu":  # onnxruntime has Erf in float32 alone
        single = graph.cast(graph.node("Mul", h, graph.constant(0.5**0.5)), "FLOAT")
        erf = graph.cast(graph.node("Erf", single))
        return graph.node("Mul", graph.node("Mul", h, graph.constant(0.5)), graph.node("Add", erf, graph.constant(1.0)))
    if name == "step":
        return graph.cast(graph.node("Greater", h, graph.constant(0.0)))
    return h if name == "identity" else graph.node(_KINDS[name], h)


def _inputs(graph: _Graph, formula: Formula, names: Sequence[str], real: type) -> str:
    """What the networks read (rows, inputs). real: the type of the graph's inputs; what their cells are compared with
    is rounded to it."""

    reading, steps = formula.reading, formula.steps
    numeric = [i for i, column in enumerate(reading.table) if column.kind != "category"]
    at = {column: k for k, column in enumerate(numeric)}  # place of a number in x
    cells = names[0]
    if numeric and has_text(reading):
        cells = graph.node("Concat", *(names[i] for i in numeric), axis=1)
    if numeric:
        cells, known = _known(graph, reading, cells, numeric, real)

    def gather(values: str, places: list[int]) -> str:
        return graph.node("Gather", values, graph.constant(places, np.int64), axis=1)

    parts, order = [], []
    for part in MAPPED:
        some = [i for i, step in enumerate(steps) if step.part == part]
        if not some:
            continue
        places = [at[steps[i].column] for i in some]
        raw = known if places == list(range(len(numeric))) else gather(known, places)
        if part != "value":
            turns = graph.node("Div", raw, graph.constant([steps[i].more[0] for i in some]))
            quarter = 0.0 if part == "sin" else np.pi / 2  # cos(a) = sin(a + pi / 2)
            angle = graph.node("Mul", turns, graph.constant(2 * np.pi))
            raw = graph.node("Sin", graph.node("Add", angle, graph.constant(quarter)))
        parts.append(_standard(graph, raw, np.array([steps[i].constants for i in some]).T))
        order += some
    for i, step in enumerate(steps):
        if step.part in MAPPED:
            continue
        if step.part == "level":
            parts.append(_looked_up(graph, names[step.column], reading.table[step.column].levels, step))
        else:
            cell = gather(cells, [at[step.column]])
            parts.append(_compared(graph, cell, step, real))
        order.append(i)
    z = parts[0] if len(parts) == 1 else graph.node("Concat", *parts, axis=1)
    return z if order == sorted(order) else gather(z, np.argsort(order).tolist())


def _known(graph: _Graph, reading: Reading, x: str, numeric: list[int], real: type) -> tuple[str, str]:
    """Numbers and dates in double: with nan for every gap, and with what a gap is read as."""
    x = graph.cast(x)
    gaps, fills = gaps_of(reading), fills_of(reading)
    for column, numbers in gaps.items():
        for number in numbers:
            others = np.where(np.array(numeric) == column, real(number), np.nan)
            x = graph.node("Where", graph.node("Equal", x, graph.constant(others)), graph.constant(np.nan), x)
    return x, graph.node("Where", graph.node("IsNaN", x), graph.constant([fills[i] for i in numeric]), x)


def _standard(graph: _Graph, x: str, maps: np.ndarray) -> str:
    center, scale, low, high, shift, spread = map(graph.constant, maps)
    r = graph.node("Div", graph.node("Sub", x, center), scale)
    r = graph.node("Min", graph.node("Max", r, low), high)
    part = graph.node("Div", r, graph.constant(SQUASH))
    root = graph.node("Sqrt", graph.node("Add", graph.node("Mul", part, part), graph.constant(1.0)))
    return graph.node("Div", graph.node("Sub", graph.node("Div", r, root), shift), spread)


def _looked_up(graph: _Graph, cell: str, levels: Sequence[Any], step: Step) -> str:
    """The value of each text (rows, 1)."""
    texts = [str(level) for level in levels]
    places: dict[str, Any] = {
        "keys_strings": texts,
        "values_int64s": list(range(len(texts))),
        "default_int64": len(texts),
    }
    position = graph.node("LabelEncoder", cell, domain="ai.onnx.ml", **places)
    return graph.node("Gather", graph.constant(step.constants), position, axis=0)


def _compared(graph: _Graph, cell: str, step: Step, real: type) -> str:
    """The value of each number (rows, 1), nan for a gap: by the level it equals, or by whether it is a gap."""
    values = np.array(step.constants)
    if step.part == "missing":
        return graph.node("Where", graph.node("IsNaN", cell), graph.constant(values[1]), graph.constant(values[0]))
    levels = graph.constant(np.array(step.more, real)[None])
    same = graph.cast(graph.node("Equal", cell, levels))
    found = graph.node("MatMul", same, graph.constant((values[:-1] - values[-1])[:, None]))
    return graph.node("Add", found, graph.constant(values[-1]))


def _check_single(formula: Formula) -> None:
    """Raises InputError for a column of which float32 blurs what the networks read."""
    reading = formula.reading
    half = float(np.finfo(np.float32).eps) / 2
    for i, step in enumerate(formula.steps):
        name = reading.columns[step.column]
        if step.part == "code" and max(map(abs, step.more)) > 2**24:
            raise InputError(f"float32 cannot tell the values of column {name!r} apart; use onnx, which reads double")
        if step.part not in MAPPED:
            continue
        values = next(k for k, one in enumerate(reading.inputs) if one.column == step.column and one.part == "value")
        blur = half * max(abs(reading.low[values]), abs(reading.high[values]))
        blur *= 2 * np.pi / step.more[0] if step.more else 1.0
        if blur / (reading.scale[i] * reading.spread[i]) > COARSEST:
            raise InputError(
                f"float32 is too coarse for column {name!r}, {reading.low[values]:g} to {reading.high[values]:g}; use "
                "onnx, which reads double"
            )
