"""Pipeline: a network as the text of one Python file for scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np

from netformer.exports.formula import EXACT_DIGITS
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
    step_lines,
)
from netformer.tables.reading import Reading

_KINDS = {
    "identity": "lambda a: a",
    "relu": "lambda a: np.maximum(a, 0.0)",
    "tanh": "np.tanh",
    "sigmoid": "expit",
    "gelu": "lambda a: 0.5 * a * (1 + erf(a * 0.5**0.5))",
}


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
