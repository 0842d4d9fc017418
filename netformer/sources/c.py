"""C sources: a formula as the text of one C99 file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from netformer.exports.formula import Formula, single_of
from netformer.exports.intervals import LEVELS
from netformer.sources.c_rows import input_lines, row_lines
from netformer.sources.digits import ALPHABET, EXACT_DIGITS, coded, fewest_characters, fewest_digits
from netformer.sources.literals import (
    WIDTH,
    array_lines,
    c_string,
    comment,
    double_text,
    text_lines,
)
from netformer.tables.reading import Reading

PLAIN_C = 10_000  # bytes of a C file up to which its weights stand in it as decimal numbers
_SCALE_DIGITS = 8  # of what says how far off an answer may be: in the tails scores are several times the scale
_PARTS = ("network", "trees", "quantile", "quantiles", "probabilities")
NETWORK, TREES, QUANTILE, QUANTILES, PROBABILITIES = (Path(__file__).with_name(f"{name}.c") for name in _PARTS)
_KINDS = {
    "relu": "a < 0 ? 0 : a",
    "tanh": "tanh(a)",
    "sigmoid": "1 / (1 + exp(-a))",
    "gelu": "0.5 * a * (1 + erf(a * 0.70710678118654752))",
    "step": "a > 0",
}


def c_source(formula: Formula) -> str:
    """One C99 file: `double predict(const double x[N])`, no allocation, no state, only <math.h>; of K targets `void
    predict(const double x[N], double y[K])`, of K classes `int predict(const double x[N], double probabilities[K])`,
    the number of one of `classes`, their labels.

    Arithmetic is in double, since float could not hold a raw column far from 0. Weights are stored as float where that
    changes no output by more than `digits.TOLERANCE`, with no more digits than that takes. A file that would be
    larger than PLAIN_C has them as text instead, a few characters each, as precise.
    """
    digits, single = fewest_digits(formula)
    values, real = _values(formula), "float" if single else "double"
    plain = _file(formula, len(values), array_lines(real, "weights", values, digits), "weights[{}]")
    code = fewest_characters(formula) if len(plain) > PLAIN_C else None
    if code is None:
        return plain
    return min(plain, _file(formula, len(values), _coded(values, *code), "weight({})"), key=len)


def _values(formula: Formula) -> list[float]:
    """All weights as `_file` reads them: of every output its bias, of every one its skip, then of each body its layers,
    unit by unit, and the head of every output, then the leaves of trees."""
    values = [one.bias for one in formula.outputs]
    if _skips(formula):
        values += np.concatenate([one.skip for one in formula.outputs]).tolist()
    for number, body in enumerate(formula.bodies):
        for layer in body:
            values += np.column_stack([layer.bias, layer.weight]).ravel().tolist()
        values += np.concatenate([one.heads[number] for one in formula.outputs]).tolist()
    for trees in formula.trees:
        values += trees.leaf.ravel().tolist()
    return values


def _skips(formula: Formula) -> bool:
    return any(bool(one.skip.any()) for one in formula.outputs)


def _coded(values: Sequence[float], count: int, step: float) -> list[str]:
    """The weights as strings, none longer than a C compiler must take, and the function that reads one."""
    row, base = WIDTH // count, len(ALPHABET)
    text = "".join(coded(value, count, step) for value in values)
    rows = [text[at : at + row * count] for at in range(0, len(text), row * count)]
    return [
        f"/* {count} characters a weight, base {base}, in steps of {step:.9g} */",
        f"static const char weights[{len(rows)}][{row * count + 1}] = {{",
        *(f'"{part}",' for part in rows),
        "};",
        "static double weight(int i) {",
        f"    const char *text = weights[i / {row}] + {count} * (i % {row});",
        "    long long k = 0;",
        f"    for (int j = 0; j < {count}; j++) k = {base} * k + text[j] - 35 - (text[j] > 63) - (text[j] > 92);",
        f"    return (double)(k - {(base**count - 1) // 2}) * {step:.9g};",
        "}",
    ]


def _file(formula: Formula, n_values: int, weights: Sequence[str], read: str) -> str:
    """weights: the lines that hold them. read: the expression for weight number {}."""
    n, deepest = len(formula.reading.inputs), max(len(body) for body in formula.bodies)
    width = max(len(layer.bias) for body in formula.bodies for layer in body)
    start, dot, finish = _outputs(formula, read)
    calls = [dot.format(n, "z") + " /* straight from the inputs */"] * _skips(formula)
    two, several = bool(formula.spreads), len(formula.reading.targets) > 1
    every = f"for (int k = 0; k < {len(formula.outputs)}; k++) " if several else ""
    far = f"    {every}w = far(w, {{}}, {{}}, log_scale{' + k' * several});"
    if two and several:
        calls += ["    const float *w = scale_weights;", far.format(n, "z")]
    elif two:
        calls.append(f"    const float *w = far(scale_weights, {n}, z, log_scale);")
    for body, head in zip(formula.bodies, formula.outputs[0].heads, strict=True):
        source = "z"
        for number, layer in enumerate(body):
            kind, out = formula.activations.index(layer.activation), "ab"[number % 2]
            units, inputs = layer.weight.shape
            calls.append(f"    p = layer(p, {kind}, {inputs}, {units}, {source}, {out}); /* {layer.activation} */")
            source = out
        calls.append(dot.format(len(head), source))
        calls += [far.format(len(head), source)] * two
    questions, more = _trees(formula)
    calls += more
    kinds = [
        f"        case {kind}: a = {_KINDS[name]}; break;"
        for kind, name in enumerate(formula.activations)
        if name in _KINDS
    ]
    (tables, read_row), (before, after) = input_lines(formula), _spread(formula, several)
    row = f"const double x[{len(formula.reading.columns)}]"
    classes = formula.reading.classes
    name = f"int predict({row}, double probabilities[{len(classes)}])" if classes else f"double predict({row})"
    outputs, head_lines = f"static double outputs({row}, double *log_scale)", _HEAD
    if several:
        name, head_lines = f"void predict({row}, double y[{len(formula.outputs)}])", _several_head(formula.reading)
        outputs = f"static void outputs({row}, double *y, double *log_scale)"
        if not two:
            before = _units(formula.reading)
    lines = [
        f"/* {comment(formula.reading.target)}, predicted by a NetFormer network of {n_values} weights; C99, -lm.",
        *(_class_head(classes) if classes else head_lines),
        *row_lines(formula.reading),
        " */",
        "#include <math.h>",
        "",
        *weights,
        *tables,
        *questions,
        "",
        NETWORK.read_text(encoding="utf-8")
        .replace("WEIGHT(p++)", read.format("p++"))
        .replace("KINDS", "\n".join(kinds)),
        *([TREES.read_text(encoding="utf-8").replace("WEIGHT(p + leaf)", read.format("p + leaf"))] if more else []),
        *(_class_lines(classes) if classes else before),
        f"{outputs} {{" if two else f"{name} {{",
        f"    double z[{n}], a[{width}]{f', b[{width}]' if deepest > 1 else ''};",
        *read_row,
        *start,
        *calls,
        "    (void)p;",
        finish,
        "}",
        *after,
    ]
    return "\n".join(lines) + "\n"


_HEAD = [" * double predict(const double x[]) answers in units of the target for a row, NAN for a gap in it:"]


def _several_head(reading: Reading) -> list[str]:
    """What `predict` answers of several targets, and their names."""
    return [
        " * void predict(const double x[], double y[]) answers in units of the targets for a row, NAN for a gap in it:",
        *(f" * y[{number}]: {comment(one.name)}" for number, one in enumerate(reading.targets)),
    ]


def _units(reading: Reading) -> list[str]:
    """The scale and the center of each of several targets."""
    pairs = [number for one in reading.targets for number in (one.scale, one.center)]
    return ["/* of each target: scale, center */", *array_lines("double", "units", pairs, EXACT_DIGITS)]


def _class_head(classes: Sequence[Any]) -> list[str]:
    """What `predict` answers of classes, and their labels."""
    return [
        " * int predict(const double x[], double probabilities[]) sets the probabilities for a row, NAN for a gap,",
        f" * and answers with the number of the most probable of {len(classes)} classes; labels are in classes[]:",
        *(f" * {number}: {comment(str(label))}" for number, label in enumerate(classes)),
    ]


def _class_lines(classes: Sequence[Any]) -> list[str]:
    """The labels, and the function that makes probabilities."""
    return [
        f"const char *const classes[{len(classes)}] = {{",
        *(f"    {c_string(str(label))}," for label in classes),
        "};",
        "",
        PROBABILITIES.read_text(encoding="utf-8"),
    ]


def _outputs(formula: Formula, read: str) -> tuple[list[str], str, str]:
    """The lines that start with the bias of every output, the one that adds to them, for a number of values and their
    array, and the one that answers. Of two classes the logit of the first is 0."""
    reading, count = formula.reading, len(formula.reading.classes)
    if len(reading.targets) > 1:
        every = f"    for (int k = 0; k < {len(reading.targets)}; k++)"
        return (
            ["    int p = 0;", f"{every} y[k] = {read.format('p++')};"],
            f"{every} p = dot(p, {{}}, {{}}, y + k);",
            f"{every} y[k] = y[k] * units[2 * k] + units[2 * k + 1];",
        )
    if not count:
        answer = f"y * {double_text(reading.targets[0].scale)} + {double_text(reading.targets[0].center)}"
        return (
            [f"    double y = {read.format('0')};", "    int p = 1;"],
            "    p = dot(p, {}, {}, &y);",
            f"    return {answer};",
        )
    every = f"    for (int k = {count - len(formula.outputs)}; k < {count}; k++)"
    start = ["    int p = 0;", f"    double y[{count}] = {{0}};", f"{every} y[k] = {read.format('p++')};"]
    return start, f"{every} p = dot(p, {{}}, {{}}, y + k);", f"    return probable({count}, y, probabilities);"


def _trees(formula: Formula) -> tuple[list[str], list[str]]:
    """The lines that hold the questions of trees, and those of `predict` that add their leaves."""
    if not formula.trees:
        return [], []
    asked, cuts = (np.concatenate([getattr(one, name).ravel() for one in formula.trees]) for name in ("column", "cut"))
    single = single_of(cuts) is not None
    lines = text_lines("unsigned short", "asked", asked.astype(str).tolist())
    lines += array_lines("float" if single else "double", "cuts", cuts, 9 if single else EXACT_DIGITS)
    calls, at, reading = [], 0, formula.reading
    for one in formula.trees:
        count, depth = one.column.shape
        first = one.first + max(len(reading.classes) - len(formula.outputs), 0)
        every, y = f"    for (int k = {first}; k < {first + len(one.leaf)}; k++) ", "y + k"
        if not reading.classes and len(reading.targets) == 1:
            every, y = "    ", "&y"
        calls.append(f"{every}p = trees(p, {at}, {count}, {depth}, z, {y});")
        at += one.column.size
    return lines, calls


def _spread(formula: Formula, several: bool) -> tuple[list[str], list[str]]:
    """The lines before and after the function with the two outputs of a wide network; none without intervals."""
    if not formula.spreads:
        return [], []
    if several:
        return _several_spreads(formula)
    (spread,) = formula.spreads
    logits = [math.log(level / (1 - level)) for level in LEVELS]
    scales = [spread.bias, *spread.bounds, formula.reading.targets[0].scale]
    lines = [
        "/* for intervals: the output layer of the logarithm of the scale, scores; its bias and bounds, the unit */"
    ]
    lines += array_lines("float", "scale_weights", [*spread.skip, *np.concatenate(spread.heads)], _SCALE_DIGITS)
    for name, numbers in (("logits", logits), ("scores", spread.scores), ("scales", scales)):
        lines += array_lines("double", name, numbers, EXACT_DIGITS)
    before, after = QUANTILE.read_text(encoding="utf-8").split("/* PREDICT */\n")
    return [*lines, before], [after.rstrip()]


def _several_spreads(formula: Formula) -> tuple[list[str], list[str]]:
    """`_spread` of several targets."""
    spreads, count = formula.spreads, len(formula.spreads)
    weights = [one.skip for one in spreads]
    for number in range(len(formula.bodies)):
        weights += [one.heads[number] for one in spreads]
    lines = ["/* for intervals: output layers of the logarithms of the scales, scores; bias and bounds of each */"]
    lines += array_lines("float", "scale_weights", np.concatenate(weights).tolist(), _SCALE_DIGITS)
    numbers: dict[str, list[float]] = {
        "logits": [math.log(level / (1 - level)) for level in LEVELS],
        "scores": [score for one in spreads for score in one.scores],
        "scales": [number for one in spreads for number in (one.bias, *one.bounds)],
    }
    for name, values in numbers.items():
        lines += array_lines("double", name, values, EXACT_DIGITS)
    before, after = QUANTILES.read_text(encoding="utf-8").split("/* PREDICT */\n")
    return [*_units(formula.reading), *lines, before], [after.rstrip().replace("TARGETS", str(count))]
