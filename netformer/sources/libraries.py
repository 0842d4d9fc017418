"""Library sources: a formula as the text of one Python file for PyTorch or for scikit-learn."""

from __future__ import annotations

import inspect
from dataclasses import astuple
from typing import Any

import numpy as np

from netformer.exports.formula import EXACT_DIGITS, Formula, Spread
from netformer.exports.intervals import COVERAGE, ramps_of
from netformer.exports.objects import Inputs, Quantiles
from netformer.exports.regressor import NetworkRegressor
from netformer.sources.python import (
    CELLS,
    ROWS,
    cell_lines,
    function_lines,
    import_lines,
    input_lines,
    literal,
    name_lines,
    number_text,
    step_lines,
    unit_lines,
)
from netformer.tables.reading import Reading

_MODULES = {"relu": "nn.ReLU()", "tanh": "nn.Tanh()", "sigmoid": "nn.Sigmoid()", "gelu": "nn.GELU()"}
_KINDS = {
    "identity": "lambda a: a",
    "relu": "lambda a: np.maximum(a, 0.0)",
    "tanh": "np.tanh",
    "sigmoid": "expit",
    "gelu": "lambda a: 0.5 * a * (1 + erf(a * 0.5**0.5))",
}
_TORCH_INTERVALS = [
    "",
    "    def predict_quantiles(self, x, quantiles):",
    '        """(rows, quantiles): for each row these quantiles of the target, numbers between 0 and 1."""',
    "        z, h = self._units(x)",
    "        log = h @ self.scale_head + z @ self.scale_skip + self.scale_bias",
    "        return self._answer(z, h) + self.quantiles(log, quantiles) * TARGET_SCALE",
    "",
    f"    def predict_interval(self, x, coverage={COVERAGE}):",
    '        """(rows, 2): low and high; the target lies between them with probability `coverage`."""',
    "        return self.predict_quantiles(x, [(1 - coverage) / 2, (1 + coverage) / 2])",
]


def torch_source(formula: Formula) -> str:
    """One Python file with the network as `nn.Module` in float64: rows as numbers (rows, columns) to (rows, 1).

    Its weights are parameters, ready for more training; what reads the columns, and what intervals are made of, are
    buffers. `load()` makes one, `encode(rows)` makes numbers of cells.
    """
    bodies = []
    for body in formula.bodies:
        bodies.append("                nn.Sequential(")
        for layer in body:
            bodies.append(f"                    _linear({literal(layer.weight)}, {literal(layer.bias)}),")
            if layer.activation in _MODULES:
                bodies.append(f"                    {_MODULES[layer.activation]},")
        bodies.append("                ),")
    return "\n".join(
        [
            '"""A network written by NetFormer, for PyTorch: rows as numbers in, units of the target out."""',
            "",
            *import_lines(formula.reading),
            "",
            "import torch",
            "from torch import nn",
            "",
            *name_lines(formula.reading),
            *unit_lines(formula.reading),
            *step_lines(formula.reading),
            "",
            "",
            "def load():",
            '    """The network, a `Network` in eval mode."""',
            "    return Network().eval()",
            "",
            "",
            "def encode(rows):",
            f'    """A tensor (rows, columns) for `Network`. rows: {ROWS};',
            f'    {CELLS}."""',
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
            *([inspect.getsource(Quantiles), ""] if formula.spread else []),
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
            f"        self.head = nn.Parameter(_tensor({literal(np.concatenate(formula.outputs[0].heads))}))",
            f"        self.skip = nn.Parameter(_tensor({literal(formula.outputs[0].skip)}))",
            f"        self.bias = nn.Parameter(_tensor({number_text(formula.outputs[0].bias)}))",
            *_torch_scale(formula.spread),
            "    def forward(self, x):",
            "        return self._answer(*self._units(x))",
            "",
            "    def _units(self, x):",
            "        z = self.inputs(x)",
            "        return z, torch.cat([body(z) for body in self.bodies], 1)",
            "",
            "    def _answer(self, z, h):",
            "        y = h @ self.head + z @ self.skip + self.bias",
            "        return (y * TARGET_SCALE + TARGET_CENTER).unsqueeze(1)",
            *(_TORCH_INTERVALS if formula.spread else []),
            *cell_lines(formula.reading),
            "",
        ]
    )


def _torch_scale(spread: Spread | None) -> list[str]:
    """The lines of `__init__` that make the output layer of the scale, and the blank one below it."""
    if spread is None:
        return [""]
    head = literal(np.concatenate(spread.heads))
    return [
        "        # Of intervals: the output layer whose answer is the logarithm of a row's scale",
        f'        self.register_buffer("scale_head", _tensor({head}))',
        f'        self.register_buffer("scale_skip", _tensor({literal(spread.skip)}))',
        f'        self.register_buffer("scale_bias", _tensor({number_text(spread.bias)}))',
        f"        self.quantiles = Quantiles({spread.bounds!r}, {astuple(ramps_of(spread.scores))!r})",
        "",
    ]


def sklearn_source(regressor: Any, reading: Reading) -> str:
    """One Python file whose `load()` makes a fitted pipeline: cells of a table to inputs to this regressor.

    regressor: of `exports.regressor`: an `MLPRegressor`, or a `NetworkRegressor`, whose class stands in the file.
    """
    plain = isinstance(regressor, NetworkRegressor)
    return "\n".join(
        [
            '"""A network written by NetFormer, for scikit-learn: cells of a table in, units of the target out."""',
            "",
            *import_lines(reading),
            "",
            "import numpy as np",
            *(_network_imports(regressor) if plain else ["from sklearn.neural_network import MLPRegressor"]),
            "from sklearn.pipeline import Pipeline",
            "from sklearn.preprocessing import FunctionTransformer",
            "",
            *name_lines(reading),
            *step_lines(reading),
            *(_network_activations(regressor) if plain else []),
            "",
            "",
            "def load():",
            f'    """The fitted pipeline. Its predict takes {ROWS};',
            f'    {CELLS}."""',
            *(_network_load(regressor) if plain else _mlp_load(regressor)),
            '    return Pipeline([("reading", FunctionTransformer(_array)), ("network", regressor)])',
            "",
            "",
            "def _array(rows):",
            "    return np.array(inputs(rows)).reshape(-1, len(STEPS))",
            *(function_lines(NetworkRegressor) if plain else []),
            *input_lines(),
            *cell_lines(reading),
            "",
        ]
    )


def _array(values: np.ndarray, digits: int = 9) -> str:
    return f"np.array({literal(values, digits)})"


def _mlp_load(regressor: Any) -> list[str]:
    """The lines that make a fitted `MLPRegressor`."""
    return [
        f"    sizes, activation = {tuple(regressor.hidden_layer_sizes)!r}, {regressor.activation!r}",
        "    regressor = MLPRegressor(hidden_layer_sizes=sizes, activation=activation)",
        "    regressor.coefs_ = [",
        *(f"        {_array(values, EXACT_DIGITS)}," for values in regressor.coefs_),
        "    ]",
        "    regressor.intercepts_ = [",
        *(f"        {_array(values, EXACT_DIGITS)}," for values in regressor.intercepts_),
        "    ]",
        "    regressor.n_features_in_, regressor.n_outputs_ = len(STEPS), 1",
        "    regressor.n_layers_, regressor.out_activation_ = len(regressor.coefs_) + 1, 'identity'",
        "    # What an optimiser would have left: partial_fit continues from here.",
        "    regressor.n_iter_, regressor.t_, regressor.loss_, regressor.best_loss_ = 0, 0, np.inf, np.inf",
        "    regressor.loss_curve_, regressor._no_improvement_count = [], 0",
        "    regressor.validation_scores_ = regressor.best_validation_score_ = None",
    ]


def _used(regressor: NetworkRegressor) -> list[str]:
    """Names of the activations in use, sorted."""
    return sorted({name for layers in regressor.bodies for name, _, _ in layers})


def _network_imports(regressor: NetworkRegressor) -> list[str]:
    special = [name for kind, name in (("gelu", "erf"), ("sigmoid", "expit")) if kind in _used(regressor)]
    return [
        *([f"from scipy.special import {', '.join(special)}"] if special else []),
        "from sklearn.base import BaseEstimator, RegressorMixin",
    ]


def _network_activations(regressor: NetworkRegressor) -> list[str]:
    return ["ACTIVATE = {", *(f"    {name!r}: {_KINDS[name]}," for name in _used(regressor)), "}"]


def _network_load(regressor: NetworkRegressor) -> list[str]:
    """The lines that make a `NetworkRegressor`."""
    lines = ["    bodies = ["]
    for layers in regressor.bodies:
        lines.append("        [")
        lines += [f"            ({name!r}, {_array(weight)}, {_array(bias)})," for name, weight, bias in layers]
        lines.append("        ],")
    lines += ["    ]", f"    output = ({_array(regressor.output[0])}, {regressor.output[1]!r})"]
    call = f"bodies, output, {regressor.units!r}"
    if regressor.spread is not None:
        lines.append(f"    spread = ({_array(regressor.spread[0])}, {regressor.spread[1]!r})")
        call += f", spread, {regressor.bounds!r}, {regressor.ramps!r}"
    return [*lines, f"    regressor = NetworkRegressor({call})"]
