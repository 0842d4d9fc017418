"""Python sources: a formula as the text of one Python file of the standard library, and the lines that `libraries`
shares with it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from netformer.exports.formula import (
    MAPPED,
    Formula,
    Output,
    Spread,
    Step,
    fills_of,
    gaps_of,
    steps_of,
)
from netformer.exports.intervals import COVERAGE, LEVELS
from netformer.sources import plain
from netformer.sources.digits import EXACT_DIGITS
from netformer.sources.literals import CELLS, ROWS, function_lines, literal, number_text
from netformer.sources.targets import output_lines, several_functions
from netformer.tables.reading import Reading
from netformer.tables.scaling import SQUASH

_KINDS = {
    "identity": "lambda a: a",
    "relu": "lambda a: max(a, 0.0)",
    "tanh": "math.tanh",
    "sigmoid": "lambda a: 0.5 + 0.5 * math.tanh(0.5 * a)",
    "gelu": "lambda a: 0.5 * a * (1.0 + math.erf(a * 0.5**0.5))",
    "step": "lambda a: 1.0 if a > 0 else 0.0",
}


def python_source(formula: Formula) -> str:
    """One Python file of the standard library alone: `predict(rows)`, a list of floats, or of labels, which also has
    `predict_proba(rows)`. rows: a DataFrame, or rows as lists, an array, or dicts, with cells as in the table that was
    fitted; a number is one, or text of it alone (`1234.5`), without a currency sign or separators (`plain`)."""
    reading, outputs = formula.reading, formula.outputs
    several = bool(reading.classes) or len(outputs) > 1
    bodies = []
    for number, body in enumerate(formula.bodies):
        layers = [f"({layer.activation!r}, {literal(np.column_stack([layer.bias, layer.weight]))})" for layer in body]
        heads = [one.heads[number] for one in outputs]
        bodies.append(f"    ([{', '.join(layers)}], {literal(np.stack(heads) if several else heads[0])}),")
    kinds = [f"    {name!r}: {_KINDS[name]}," for name in formula.activations]
    last, answer = " of each output" if several else "", answer_words(reading)
    return "\n".join(
        [
            f'"""A network written by NetFormer: cells of a table to {answer}. It needs Python alone."""',
            "",
            *import_lines(reading),
            "",
            *name_lines(reading),
            *([] if reading.classes else unit_lines(reading)),
            *step_lines(reading),
            *(_several_weights(outputs) if several else _weights(outputs[0])),
            f"BODIES = [  # ([(activation, [[bias, weight, ...] of each unit]) of each layer], output weights{last})",
            *bodies,
            "]",
            "ACTIVATIONS = {",
            *kinds,
            "}",
            *_trees(formula),
            "",
            "",
            *_functions_of(formula),
            *function_lines(plain.hidden),
            *function_lines(plain.output),
            *(function_lines(plain.added) if formula.trees else []),
            *(function_lines(plain.probabilities) if reading.classes else []),
            *input_lines(),
            *cell_lines(reading),
            "",
        ]
    )


def answer_words(reading: Reading) -> str:
    """What a network answers with, for people."""
    return "one of CLASSES" if reading.classes else f"units of the target{'s' * (len(reading.targets) > 1)}"


def _weights(output: Output) -> list[str]:
    return [f"SKIP, BIAS = {literal(output.skip)}, {number_text(output.bias)}"]


def _several_weights(outputs: Sequence[Output]) -> list[str]:
    pairs = (f"    ({number_text(one.bias)}, {literal(one.skip)})," for one in outputs)
    return ["OUTPUTS = [  # (bias, skip) of each", *pairs, "]"]


def _trees(formula: Formula) -> list[str]:
    """Trees, as `plain.added` takes them."""
    lines = []
    for trees in formula.trees:
        for column, cut, leaf in zip(trees.column, trees.cut, trees.leaf.swapaxes(0, 1), strict=True):
            cuts = literal(cut, EXACT_DIGITS)[1:-1].split(", ")
            questions = ", ".join(f"({i}, {text})" for i, text in zip(column, cuts, strict=True))
            lines.append(f"    ({trees.first}, ({questions},), {literal(leaf)}),")
    if not lines:
        return []
    return ["TREES = [  # of each: the first output, questions (input, threshold), leaves of each output", *lines, "]"]


def _functions_of(formula: Formula) -> list[str]:
    """What answers."""
    if formula.reading.classes:
        return _class_functions(bool(formula.trees))
    if len(formula.outputs) > 1:
        return several_functions(formula.spreads, bool(formula.trees))
    return _functions(formula.spreads[0] if formula.spreads else None, bool(formula.trees))


def _functions(spread: Spread | None, trees: bool) -> list[str]:
    """What answers in units of the target."""
    return [
        "def predict(rows):",
        f'    """A float for each row. rows: {ROWS};',
        f'    {CELLS}."""',
        "    return [_predict(z) for z in inputs(rows)]",
        *_intervals(spread),
        "",
        "",
        "def _predict(z):",
        "    y = output(z, hidden(z, BODIES, ACTIVATIONS), BIAS, SKIP, [head for _, head in BODIES])",
        *["    y += added(z, TREES)"] * trees,
        "    return y * TARGET_SCALE + TARGET_CENTER",
    ]


def _class_functions(trees: bool) -> list[str]:
    """What answers with labels and probabilities."""
    return [
        "def predict(rows):",
        f'    """The most probable of CLASSES for each row. rows: {ROWS};',
        f'    {CELLS}."""',
        "    return [max(zip(found, CLASSES), key=lambda pair: pair[0])[1] for found in predict_proba(rows)]",
        "",
        "",
        "def predict_proba(rows):",
        '    """The probability of each of CLASSES for each row. rows: as of predict."""',
        "    return [probabilities(_logits(z)) for z in inputs(rows)]",
        "",
        "",
        "def _logits(z):",
        *output_lines(trees),
    ]


def _intervals(spread: Spread | None) -> list[str]:
    """The functions that answer with quantiles, and what they read."""
    if spread is None:
        return []
    return [
        "",
        "",
        "# Of intervals: the output layer whose answer is the logarithm of a row's scale, its bounds, scores at levels",
        f"SCALE_SKIP, SCALE_BIAS = {literal(spread.skip)}, {number_text(spread.bias)}",
        f"SCALE_HEADS = [{', '.join(literal(head) for head in spread.heads)}]",
        f"SCALE_BOUNDS, LEVELS_OF_SCORES = {spread.bounds!r}, {LEVELS!r}",
        f"SCORES = {literal(np.array(spread.scores))}",
        "",
        "",
        f"def predict_interval(rows, coverage={COVERAGE}):",
        '    """[low, high] for each row: the target lies between them with probability `coverage`."""',
        "    return predict_quantiles(rows, [(1 - coverage) / 2, (1 + coverage) / 2])",
        "",
        "",
        "def predict_quantiles(rows, quantiles):",
        '    """For each row a list of these quantiles of the target, each between 0 and 1."""',
        "    scores = [score_of(q, LEVELS_OF_SCORES, SCORES) for q in quantiles]",
        "    answers = [(_predict(z), _scale(z)) for z in inputs(rows)]",
        "    return [[answer + scale * score for score in scores] for answer, scale in answers]",
        "",
        "",
        "def _scale(z):",
        "    log = output(z, hidden(z, BODIES, ACTIVATIONS), SCALE_BIAS, SCALE_SKIP, SCALE_HEADS)",
        "    return math.exp(min(max(log, SCALE_BOUNDS[0]), SCALE_BOUNDS[1])) * TARGET_SCALE",
        *function_lines(plain.score_of),
    ]


def import_lines(reading: Reading) -> list[str]:
    """What of the standard library the lines below need."""
    dated = any(column.kind == "date" for column in reading.table)
    return ["import math", *["from datetime import datetime"] * dated]


def name_lines(reading: Reading) -> list[str]:
    """Names of columns and target, and what it takes to read their cells."""
    levels = {i: list(column.levels) for i, column in enumerate(reading.table) if column.kind == "category"}
    forms = {i: _form(column.form) for i, column in enumerate(reading.table) if column.kind == "date"}
    lines = [f"COLUMNS = {list(reading.columns)!a}", f"TARGET = {reading.target!a}"]
    if len(reading.targets) > 1:
        lines[1] = f"TARGETS = {[one.name for one in reading.targets]!a}"
    if reading.classes:
        lines.append(f"CLASSES = {list(reading.classes)!a}")
    if levels:
        lines += ["LEVELS = {  # of the categories, by number of the column; '' is a gap"]
        lines += [f"    {i}: {texts!a}," for i, texts in levels.items()]
        lines += ["}", "PLACES = {i: {level: at for at, level in enumerate(levels)} for i, levels in LEVELS.items()}"]
    if forms:
        lines.append(f"FORMS = {forms!r}  # of dates as text, by number of the column, beside ISO 8601")
    gaps = {i: [float(value) for value in values] for i, values in gaps_of(reading).items()}
    words = {i: list(column.words) for i, column in enumerate(reading.table) if column.words}
    return [
        *lines,
        f"GAPS_OF = {gaps!r}  # numbers that stand for a gap, by number of the column",
        f"WORDS = {words!a}  # text that stands for one in a column of numbers",
    ]


def _form(form: str) -> str:
    return "" if form == "ISO8601" else form


def unit_lines(reading: Reading) -> list[str]:
    """Center and scale of the target, or of each."""
    if len(reading.targets) > 1:
        pairs = (f"    ({one.center!r}, {one.scale!r})," for one in reading.targets)
        return ["UNITS = [  # (center, scale) of each of TARGETS", *pairs, "]"]
    (one,) = reading.targets
    return [f"TARGET_CENTER, TARGET_SCALE = {one.center!r}, {one.scale!r}"]


def step_lines(reading: Reading) -> list[str]:
    """How each input is made of a number, see `formula`."""
    made = [f"{step.column}, {step.part!r}, {_constants(step)}, {list(step.more)!r}" for step in steps_of(reading)]
    return [
        f"FILLS = {literal(np.array(fills_of(reading)), EXACT_DIGITS)}  # what a gap of each column is read as",
        f"SQUASH = {SQUASH!r}",
        "STEPS = [  # how each input of the network is made: column, part, constants, period or levels",
        *(f"    ({step})," for step in made),
        "]",
    ]


def _constants(step: Step) -> str:
    """The center as exact as it is, all else with 9 digits."""
    if step.part not in MAPPED:
        return literal(np.array(step.constants))
    center, rest = literal(np.array(step.constants[:1]), EXACT_DIGITS), literal(np.array(step.constants[1:]))
    return f"{center[:-1]}, {rest[1:]}"


def input_lines() -> list[str]:
    """The function that makes standardised inputs of rows."""
    return [
        "",
        "",
        "def inputs(rows):",
        '    """What the network reads of each row: a standardised number for each of STEPS."""',
        "    return [[standardised(row[i], FILLS[i], *step) for i, *step in STEPS] for row in numbers(rows)]",
        *function_lines(plain.standardised),
    ]


def cell_lines(reading: Reading) -> list[str]:
    """The function that makes numbers of the cells of rows, and those it calls."""
    kinds = {column.kind for column in reading.table}
    calls = {"category": "position(cell, PLACES[i])", "date": "date(cell, COLUMNS[i], FORMS[i])"}
    tables = {"category": "PLACES", "date": "FORMS"}
    return [
        "",
        "",
        f"GAPS = {sorted(plain.GAPS)!r}  # as text",
        "",
        "",
        "def numbers(rows):",
        '    """A list of numbers for each row: nan for a gap, a category as the position of its level."""',
        "    for cells in in_order(rows, COLUMNS):",
        "        yield [_cell(i, cell) for i, cell in enumerate(cells)]",
        "",
        "",
        "def _cell(i, cell):",
        *(f"    if i in {tables[kind]}:\n        return {call}" for kind, call in calls.items() if kind in kinds),
        "    return number(cell, COLUMNS[i], GAPS_OF.get(i, ()), WORDS.get(i, ()))",
        *function_lines(plain.in_order),
        *function_lines(plain.number),
        *(function_lines(plain.date) if "date" in kinds else []),
        *(function_lines(plain.position) if "category" in kinds else []),
    ]
