"""Python sources: a formula as the text of one Python file that needs nothing of this package."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from netformer.exports.formula import EXACT_DIGITS, MAPPED, Formula, Spread, Step, decimal, fills_of, gaps_of, steps_of
from netformer.exports.intervals import LEVELS
from netformer.exports.objects import Inputs
from netformer.sources import plain
from netformer.tables.reading import Reading
from netformer.tables.scaling import SQUASH

_MODULES = {"relu": "nn.ReLU()", "tanh": "nn.Tanh()", "sigmoid": "nn.Sigmoid()", "gelu": "nn.GELU()"}
_KINDS = {
    "identity": "lambda a: a",
    "relu": "lambda a: max(a, 0.0)",
    "tanh": "math.tanh",
    "sigmoid": "lambda a: 0.5 + 0.5 * math.tanh(0.5 * a)",
    "gelu": "lambda a: 0.5 * a * (1.0 + math.erf(a * 0.5**0.5))",
}
_ROWS = "a DataFrame, or rows that are lists in the order of COLUMNS, or dicts by name"
_CELLS = "a gap is None, nan or empty; a date is seconds since 1970 UTC, a datetime or text; a category is text"


def python_source(formula: Formula) -> str:
    """One Python file of the standard library alone: `predict(rows)`, a list of floats. rows: a DataFrame, or rows as
    lists, an array, or dicts, with cells as in the table that was fitted (`plain`)."""
    bodies = []
    for body, head in zip(formula.bodies, formula.heads, strict=True):
        layers = [f"({layer.activation!r}, {_literal(np.column_stack([layer.bias, layer.weight]))})" for layer in body]
        bodies.append(f"    ([{', '.join(layers)}], {_literal(head)}),")
    kinds = [f"    {name!r}: {_KINDS[name]}," for name in formula.activations]
    return "\n".join(
        [
            '"""A network written by NetFormer: cells of a table to units of the target. It needs Python alone."""',
            "",
            *_imports(formula.reading),
            "",
            *_names(formula.reading),
            *_units(formula.reading),
            *_steps(formula.reading),
            f"SKIP, BIAS = {_literal(formula.skip)}, {_number(formula.bias)}",
            "BODIES = [  # ([(activation, [[bias, weight, ...] of each unit]) of each layer], output weights)",
            *bodies,
            "]",
            "ACTIVATIONS = {",
            *kinds,
            "}",
            "",
            "",
            "def predict(rows):",
            f'    """A float for each row. rows: {_ROWS};',
            f'    {_CELLS}."""',
            "    return [_predict(z) for z in inputs(rows)]",
            *_intervals(formula.spread),
            "",
            "",
            "def _predict(z):",
            "    y = output(z, hidden(z, BODIES, ACTIVATIONS), BIAS, SKIP, [head for _, head in BODIES])",
            "    return y * TARGET_SCALE + TARGET_CENTER",
            *_text(plain.hidden),
            *_text(plain.output),
            *_inputs(),
            *_encode(formula.reading),
            "",
        ]
    )


def _intervals(spread: Spread | None) -> list[str]:
    """The functions that answer with quantiles, and what they read."""
    if spread is None:
        return []
    return [
        "",
        "",
        "# Of intervals: the output layer whose answer is the logarithm of a row's scale, its bounds, scores at levels",
        f"SCALE_SKIP, SCALE_BIAS = {_literal(spread.skip)}, {_number(spread.bias)}",
        f"SCALE_HEADS = [{', '.join(_literal(head) for head in spread.heads)}]",
        f"SCALE_BOUNDS, LEVELS_OF_SCORES = {spread.bounds!r}, {LEVELS!r}",
        f"SCORES = {_literal(np.array(spread.scores))}",
        "",
        "",
        "def predict_interval(rows, coverage=0.9):",
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
        *_text(plain.score_of),
    ]


def torch_source(formula: Formula) -> str:
    """One Python file with the network as `nn.Module` in float64: rows as numbers (rows, columns) to (rows, 1).

    Its weights are parameters, ready for more training; what reads the columns are buffers. `load()` makes one,
    `encode(rows)` makes numbers of cells.
    """
    bodies = []
    for body in formula.bodies:
        bodies.append("                nn.Sequential(")
        for layer in body:
            bodies.append(f"                    _linear({_literal(layer.weight)}, {_literal(layer.bias)}),")
            if layer.activation in _MODULES:
                bodies.append(f"                    {_MODULES[layer.activation]},")
        bodies.append("                ),")
    return "\n".join(
        [
            '"""A network written by NetFormer, for PyTorch: rows as numbers in, units of the target out."""',
            "",
            *_imports(formula.reading),
            "",
            "import torch",
            "from torch import nn",
            "",
            *_names(formula.reading),
            *_units(formula.reading),
            *_steps(formula.reading),
            "",
            "",
            "def load():",
            '    """The network, a `Network` in eval mode."""',
            "    return Network().eval()",
            "",
            "",
            "def encode(rows):",
            f'    """A tensor (rows, columns) for `Network`. rows: {_ROWS};',
            f'    {_CELLS}."""',
            "    return _tensor(list(numbers(rows)))",
            "",
            "",
            "def _tensor(values):",
            "    return torch.tensor(values, dtype=torch.float64)",
            "",
            "",
            "def _linear(weight, bias):",
            "    weight, bias = _tensor(weight), _tensor(bias)",
            "    linear = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)",
            "    linear.weight, linear.bias = nn.Parameter(weight), nn.Parameter(bias)",
            "    return linear",
            "",
            "",
            inspect.getsource(Inputs),
            "",
            "class Network(nn.Module):",
            '    """x (rows, columns) -> (rows, 1). A row holds a number for each of COLUMNS, nan for a gap: a date in',
            '    seconds since 1970 UTC, a category as the position of its level in LEVELS, -1 for any other."""',
            "",
            "    def __init__(self):",
            "        super().__init__()",
            "        self.inputs = Inputs(FILLS, GAPS_OF, STEPS)",
            "        self.bodies = nn.ModuleList(",
            "            [",
            *bodies,
            "            ]",
            "        )",
            f"        self.head = nn.Parameter(_tensor({_literal(np.concatenate(formula.heads))}))",
            f"        self.skip = nn.Parameter(_tensor({_literal(formula.skip)}))",
            f"        self.bias = nn.Parameter(_tensor({_number(formula.bias)}))",
            "",
            "    def forward(self, x):",
            "        z = self.inputs(x)",
            "        h = torch.cat([body(z) for body in self.bodies], 1)",
            "        y = h @ self.head + z @ self.skip + self.bias",
            "        return (y * TARGET_SCALE + TARGET_CENTER).unsqueeze(1)",
            *_encode(formula.reading),
            "",
        ]
    )


def sklearn_source(regressor: Any, reading: Reading) -> str:
    """One Python file whose `load()` makes a fitted pipeline: cells of a table to inputs to this `MLPRegressor`."""

    def arrays(values: Iterable[np.ndarray]) -> list[str]:
        return [f"        np.array({_literal(v, EXACT_DIGITS)})," for v in values]

    return "\n".join(
        [
            '"""A network written by NetFormer, for scikit-learn: cells of a table in, units of the target out."""',
            "",
            *_imports(reading),
            "",
            "import numpy as np",
            "from sklearn.neural_network import MLPRegressor",
            "from sklearn.pipeline import Pipeline",
            "from sklearn.preprocessing import FunctionTransformer",
            "",
            *_names(reading),
            *_steps(reading),
            "",
            "",
            "def load():",
            f'    """The fitted pipeline. Its predict takes {_ROWS};',
            f'    {_CELLS}."""',
            f"    sizes, activation = {tuple(regressor.hidden_layer_sizes)!r}, {regressor.activation!r}",
            "    regressor = MLPRegressor(hidden_layer_sizes=sizes, activation=activation)",
            "    regressor.coefs_ = [",
            *arrays(regressor.coefs_),
            "    ]",
            "    regressor.intercepts_ = [",
            *arrays(regressor.intercepts_),
            "    ]",
            "    regressor.n_features_in_, regressor.n_outputs_ = len(STEPS), 1",
            "    regressor.n_layers_, regressor.out_activation_ = len(regressor.coefs_) + 1, 'identity'",
            "    # What an optimiser would have left: partial_fit continues from here.",
            "    regressor.n_iter_, regressor.t_, regressor.loss_, regressor.best_loss_ = 0, 0, np.inf, np.inf",
            "    regressor.loss_curve_, regressor._no_improvement_count = [], 0",
            "    regressor.validation_scores_ = regressor.best_validation_score_ = None",
            '    return Pipeline([("reading", FunctionTransformer(_array)), ("network", regressor)])',
            "",
            "",
            "def _array(rows):",
            "    return np.array(inputs(rows)).reshape(-1, len(STEPS))",
            *_inputs(),
            *_encode(reading),
            "",
        ]
    )


def _imports(reading: Reading) -> list[str]:
    dated = any(column.kind == "date" for column in reading.table)
    return ["import math", *["from datetime import datetime"] * dated]


def _names(reading: Reading) -> list[str]:
    """Names of columns and target, and what it takes to read their cells."""
    levels = {i: list(column.levels) for i, column in enumerate(reading.table) if column.kind == "category"}
    forms = {i: _form(column.form) for i, column in enumerate(reading.table) if column.kind == "date"}
    lines = [f"COLUMNS = {list(reading.columns)!a}", f"TARGET = {reading.target!a}"]
    if levels:
        lines += ["LEVELS = {  # of the categories, by number of the column; '' is a gap"]
        lines += [f"    {i}: {texts!a}," for i, texts in levels.items()]
        lines += ["}", "PLACES = {i: {level: at for at, level in enumerate(levels)} for i, levels in LEVELS.items()}"]
    if forms:
        lines.append(f"FORMS = {forms!r}  # of dates as text, by number of the column, beside ISO 8601")
    gaps = {i: [float(value) for value in values] for i, values in gaps_of(reading).items()}
    return [*lines, f"GAPS_OF = {gaps!r}  # numbers that stand for a gap, by number of the column"]


def _form(form: str) -> str:
    return "" if form == "ISO8601" else form


def _units(reading: Reading) -> list[str]:
    return [f"TARGET_CENTER, TARGET_SCALE = {reading.target_center!r}, {reading.target_scale!r}"]


def _steps(reading: Reading) -> list[str]:
    made = [f"{step.column}, {step.part!r}, {_constants(step)}, {list(step.more)!r}" for step in steps_of(reading)]
    return [
        f"FILLS = {_literal(np.array(fills_of(reading)), EXACT_DIGITS)}  # what a gap of each column is read as",
        f"SQUASH = {SQUASH!r}",
        "STEPS = [  # how each input of the network is made: column, part, constants, period or levels",
        *(f"    ({step})," for step in made),
        "]",
    ]


def _constants(step: Step) -> str:
    """The center as exact as it is, all else with 9 digits."""
    if step.part not in MAPPED:
        return _literal(np.array(step.constants))
    center, rest = _literal(np.array(step.constants[:1]), EXACT_DIGITS), _literal(np.array(step.constants[1:]))
    return f"{center[:-1]}, {rest[1:]}"


def _inputs() -> list[str]:
    """The function that makes standardised inputs of rows."""
    return [
        "",
        "",
        "def inputs(rows):",
        '    """What the network reads of each row: a standardised number for each of STEPS."""',
        "    return [[standardised(row[i], FILLS[i], *step) for i, *step in STEPS] for row in numbers(rows)]",
        *_text(plain.standardised),
    ]


def _encode(reading: Reading) -> list[str]:
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
        "    return number(cell, COLUMNS[i], GAPS_OF.get(i, ()))",
        *_text(plain.in_order),
        *_text(plain.number),
        *(_text(plain.date) if "date" in kinds else []),
        *(_text(plain.position) if "category" in kinds else []),
    ]


def _text(function: Callable) -> list[str]:
    return ["", "", inspect.getsource(function).rstrip()]


def _number(value: float) -> str:
    return repr(float(f"{value:.9g}"))


def _literal(values: np.ndarray, digits: int = 9) -> str:
    """A list, or a list of lists, of floats; 9 digits keep what float32 holds."""
    if values.ndim > 1:
        return f"[{', '.join(_literal(row, digits) for row in values)}]"
    texts = (decimal(value, digits) for value in values)
    return f"[{', '.join(t if '.' in t or 'e' in t else t + '.' for t in texts)}]"
