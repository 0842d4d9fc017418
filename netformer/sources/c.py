"""C sources: a formula as the text of one C99 file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from netformer.exports.formula import (
    ALPHABET,
    EXACT_DIGITS,
    MAPPED,
    Formula,
    Step,
    coded,
    decimal,
    fewest_characters,
    fewest_digits,
    fills_of,
    gaps_of,
)
from netformer.exports.intervals import LEVELS
from netformer.sources.literals import (
    WIDTH,
    array_lines,
    c_string,
    comment,
    decimals,
    double_text,
    enum_lines,
    level_names,
    short,
    text_lines,
)
from netformer.tables.reading import Reading
from netformer.tables.scaling import SQUASH

PLAIN_C = 10_000  # bytes of a C file up to which its weights stand in it as decimal numbers
_SCALE_DIGITS = 8  # of what says how far off an answer may be: in the tails scores are several times the scale
_MAP_DIGITS = 8  # of what standardises a number, but for its center, which may be far from 0
_PARTS = ("network", "quantile", "quantiles", "probabilities")
NETWORK, QUANTILE, QUANTILES, PROBABILITIES = (Path(__file__).with_name(f"{name}.c") for name in _PARTS)
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
    changes no output by more than `formula.TOLERANCE`, with no more digits than that takes. A file that would be
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
    unit by unit, and the head of every output."""
    values = [one.bias for one in formula.outputs]
    if _skips(formula):
        values += np.concatenate([one.skip for one in formula.outputs]).tolist()
    for number, body in enumerate(formula.bodies):
        for layer in body:
            values += np.column_stack([layer.bias, layer.weight]).ravel().tolist()
        values += np.concatenate([one.heads[number] for one in formula.outputs]).tolist()
    return values


def _skips(formula: Formula) -> bool:
    return any(bool(one.skip.any()) for one in formula.outputs)


def _coded(values: Sequence[float], count: int, step: float) -> list[str]:
    """The weights as strings, none longer than a C compiler must take, and the function that reads one."""
    row, base = WIDTH // count, len(ALPHABET)
    text = "".join(coded(value, count, step) for value in values)
    rows = [text[at : at + row * count] for at in range(0, len(text), row * count)]
    return [
        f"/* {count} characters a weight, base {base}, counting steps of {step:.9g} */",
        f"static const char weights[{len(rows)}][{row * count + 1}] = {{",
        *(f'"{part}",' for part in rows),
        "};",
        "static double weight(int i) {",
        f"    const char *text = weights[i / {row}] + {count} * (i % {row});",
        "    double k = 0;",
        f"    for (int j = 0; j < {count}; j++) k = {base} * k + text[j] - 35 - (text[j] > 63) - (text[j] > 92);",
        f"    return (k - {(base**count - 1) // 2}.0) * {step:.9g};",
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
    kinds = [
        f"        case {kind}: a = {_KINDS[name]}; break;"
        for kind, name in enumerate(formula.activations)
        if name in _KINDS
    ]
    (tables, read_row), (before, after) = _reading(formula), _spread(formula, several)
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
        *_head(formula.reading),
        " */",
        "#include <math.h>",
        "",
        *weights,
        *tables,
        "",
        NETWORK.read_text(encoding="utf-8")
        .replace("WEIGHT(p++)", read.format("p++"))
        .replace("KINDS", "\n".join(kinds)),
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


def _head(reading: Reading) -> list[str]:
    """What each number of a row is, and the levels of categories."""
    lines, constants = [], level_names(reading)
    for i, column in enumerate(reading.table):
        what = ", a date: seconds since 1970-01-01 UTC" if column.kind == "date" else ""
        if i in constants:
            what = f", one of {constants[i][0]} to {constants[i][-1]}, -1 for any other" if constants[i] else ""
        lines.append(f" * x[{i}]: {comment(column.name)}{what}")
    return lines


def _reading(formula: Formula) -> tuple[list[str], list[str]]:
    """The lines that hold what reads a row, and those of `predict` that make z of x."""
    reading, steps = formula.reading, formula.steps
    names = level_names(reading)
    mapped = [i for i, step in enumerate(steps) if step.part in MAPPED]
    run = next((i for i, step in enumerate(steps) if step.part != "value" or step.column != i), len(steps))
    maps = [decimal(v, _MAP_DIGITS if at else EXACT_DIGITS) for i in mapped for at, v in enumerate(steps[i].constants)]
    tables = [*enum_lines(reading, names)]
    tables += ["/* for a gap */", *text_lines("double", "fill", decimals(fills_of(reading)))]
    if maps:
        tables += [
            "/* of each: center, scale, least, largest, shift, spread */",
            *text_lines("double", "maps", maps),
        ]
        tables += [
            "static double standard(double x, const double *m) {",
            "    double r = (x - m[0]) / m[1];",
            "    r = r < m[2] ? m[2] : r > m[3] ? m[3] : r;",
            f"    return (r / sqrt(1 + r * r / {SQUASH**2:g}) - m[4]) / m[5];",
            "}",
        ]
    known, columns = "x[i] == x[i] ? x[i] : fill[i]", len(reading.table)
    if run == len(steps) and not gaps_of(reading):  # plain numbers
        return tables, [f"    for (int i = 0; i < {run}; i++) z[i] = standard({known}, maps + 6 * i);"]
    lines = [f"    double v[{columns}];", f"    for (int i = 0; i < {columns}; i++) v[i] = {known};"]
    for i, numbers in gaps_of(reading).items():
        lines += [f"    if (x[{i}] == {double_text(number)}) v[{i}] = fill[{i}];" for number in numbers]
    if run:
        lines.append(f"    for (int i = 0; i < {run}; i++) z[i] = standard(v[i], maps + 6 * i);")
    calls = set()
    for i, step in list(enumerate(steps))[run:]:
        if step.part in MAPPED:
            wave = f"{step.part}({2 * math.pi!r} * (v[{step.column}] / {step.more[0]!r}))" if step.more else ""
            read = f"standard({wave or f'v[{step.column}]'}, maps + {6 * mapped.index(i)})"
        elif step.part == "missing":
            tests = [f"x[{step.column}] != x[{step.column}]"]
            tests += [f"x[{step.column}] == {double_text(number)}" for number in gaps_of(reading).get(step.column, ())]
            read = f"{' || '.join(tests)} ? {short(step.constants[1])} : {short(step.constants[0])}"
        elif (one := _only(step)) is not None:
            read = f"v[{step.column}] == {names[step.column][one]} ? {short(step.constants[one])} : "
            read += short(step.constants[-1])
        else:
            tables += text_lines("double", f"values{i}", [decimal(value, 9) for value in step.constants])
            calls.add(step.part)
            if step.part == "code":
                tables += text_lines("double", f"levels{i}", decimals(step.more))
                read = f"values{i}[place(x[{step.column}], levels{i}, {len(step.more)})]"
            else:
                read = f"values{i}[level(v[{step.column}], {len(step.constants) - 1})]"
        lines.append(f"    z[{i}] = {read};")
    return [*tables, *(line for part in sorted(calls) for line in _LOOKUPS[part])], lines


_LOOKUPS = {
    "code": [
        "static int place(double x, const double *levels, int n) {",
        "    int i = 0;",
        "    while (i < n && levels[i] != x) i++;",
        "    return i;",
        "}",
    ],
    "level": ["static int level(double x, int n) { return x >= 0 && x < n ? (int)x : n; }"],
}


def _only(step: Step) -> int | None:
    """The one level of a category that has another value than all others and than any other; None if there are more."""
    other = [at for at, value in enumerate(step.constants) if value != step.constants[-1]]
    return other[0] if step.part == "level" and len(other) == 1 else None
