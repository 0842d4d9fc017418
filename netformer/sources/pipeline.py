"""Pipeline: a network as the text of one Python file for scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np

from netformer.exports.predictors import NetworkClassifier, NetworkRegressor, units_and_inputs, with_leaves
from netformer.sources.digits import EXACT_DIGITS
from netformer.sources.literals import CELLS, ROWS, function_lines, literal
from netformer.sources.python import answer_words, cell_lines, import_lines, input_lines, name_lines, step_lines
from netformer.tables.reading import Reading

_KINDS = {
    "identity": "lambda a: a",
    "relu": "lambda a: np.maximum(a, 0.0)",
    "tanh": "np.tanh",
    "sigmoid": "expit",
    "gelu": "lambda a: 0.5 * a * (1 + erf(a * 0.5**0.5))",
    "step": "lambda a: np.where(a > 0, 1.0, 0.0)",
}


def sklearn_source(predictor: Any, reading: Reading) -> str:
    """One Python file whose `load()` makes a fitted pipeline: cells of a table to inputs to this predictor.

    predictor: of `exports.predictors`: an `MLPRegressor` or `MLPClassifier`, or a `NetworkRegressor` or
    `NetworkClassifier`, whose class stands in the file.
    """
    answer = answer_words(reading)
    ours = isinstance(predictor, NetworkRegressor | NetworkClassifier)
    return "\n".join(
        [
            f'"""A network written by NetFormer, for scikit-learn: cells of a table in, {answer} out."""',
            "",
            *import_lines(reading),
            "",
            "import numpy as np",
            *(_network_imports(predictor) if ours else _mlp_imports(reading)),
            "",
            *name_lines(reading),
            *step_lines(reading),
            *(_network_activations(predictor) if ours else []),
            "",
            "",
            "def load():",
            f'    """The fitted pipeline. Its predict takes {ROWS};',
            f'    {CELLS}."""',
            *(_network_load(predictor) if ours else _mlp_load(predictor, reading)),
            '    return Pipeline([("reading", FunctionTransformer(_array)), ("network", network)])',
            "",
            "",
            "def _array(rows):",
            "    return np.array(inputs(rows)).reshape(-1, len(STEPS))",
            *(_network_functions(predictor) if ours else []),
            *input_lines(),
            *cell_lines(reading),
            "",
        ]
    )


_PIPELINE = ["from sklearn.pipeline import Pipeline", "from sklearn.preprocessing import FunctionTransformer"]


def _array(values: np.ndarray, digits: int = 9) -> str:
    return f"np.array({literal(values, digits)})"


def _parts(values: tuple[Any, ...], digits: int = 9) -> str:
    """A tuple of arrays, and of numbers as they are."""
    return f"({', '.join(_array(one, digits) if isinstance(one, np.ndarray) else repr(one) for one in values)})"


def _forest(first: int, column: np.ndarray, cut: np.ndarray, leaf: np.ndarray) -> str:
    return f"({first}, np.array({column.tolist()}), {_array(cut, EXACT_DIGITS)}, {_array(leaf)})"


def _mlp_imports(reading: Reading) -> list[str]:
    if not reading.classes:
        return ["from sklearn.neural_network import MLPRegressor", *_PIPELINE]
    return ["from sklearn.neural_network import MLPClassifier", _PIPELINE[0], f"{_PIPELINE[1]}, LabelBinarizer"]


def _mlp_load(predictor: Any, reading: Reading) -> list[str]:
    """The lines that make a fitted `MLPRegressor` or `MLPClassifier`."""
    labels = [
        "    network._label_binarizer = LabelBinarizer().fit(np.array(CLASSES))",
        "    network.classes_ = network._label_binarizer.classes_",
    ]
    return [
        f"    sizes, activation = {tuple(predictor.hidden_layer_sizes)!r}, {predictor.activation!r}",
        f"    network = {type(predictor).__name__}(hidden_layer_sizes=sizes, activation=activation)",
        "    network.coefs_ = [",
        *(f"        {_array(values, EXACT_DIGITS)}," for values in predictor.coefs_),
        "    ]",
        "    network.intercepts_ = [",
        *(f"        {_array(values, EXACT_DIGITS)}," for values in predictor.intercepts_),
        "    ]",
        f"    network.n_features_in_, network.n_outputs_ = len(STEPS), {predictor.n_outputs_}",
        f"    network.n_layers_, network.out_activation_ = len(network.coefs_) + 1, {predictor.out_activation_!r}",
        *(labels if reading.classes else []),
        "    # What an optimiser would have left: partial_fit continues from here.",
        "    network.n_iter_, network.t_, network.loss_, network.best_loss_ = 0, 0, np.inf, np.inf",
        "    network.loss_curve_, network._no_improvement_count = [], 0",
        "    network.validation_scores_ = network.best_validation_score_ = None",
    ]


def _used(predictor: NetworkRegressor | NetworkClassifier) -> list[str]:
    """Names of the activations in use, sorted."""
    return sorted({name for layers in predictor.bodies for name, _, _ in layers})


def _network_imports(predictor: NetworkRegressor | NetworkClassifier) -> list[str]:
    classifier, used = isinstance(predictor, NetworkClassifier), _used(predictor)
    special = [name for kind, name in (("gelu", "erf"), ("sigmoid", "expit")) if kind in used]
    special += ["softmax"] * classifier
    return [
        *([f"from scipy.special import {', '.join(special)}"] if special else []),
        f"from sklearn.base import BaseEstimator, {'ClassifierMixin' if classifier else 'RegressorMixin'}",
        *_PIPELINE,
    ]


def _network_functions(predictor: NetworkRegressor | NetworkClassifier) -> list[str]:
    return [line for part in (units_and_inputs, with_leaves, type(predictor)) for line in function_lines(part)]


def _network_activations(predictor: NetworkRegressor | NetworkClassifier) -> list[str]:
    return ["ACTIVATE = {", *(f"    {name!r}: {_KINDS[name]}," for name in _used(predictor)), "}"]


def _network_load(predictor: NetworkRegressor | NetworkClassifier) -> list[str]:
    """The lines that make a `NetworkRegressor` or a `NetworkClassifier`."""
    lines = ["    bodies = ["]
    for layers in predictor.bodies:
        lines.append("        [")
        lines += [f"            ({name!r}, {_array(weight)}, {_array(bias)})," for name, weight, bias in layers]
        lines.append("        ],")
    lines.append("    ]")
    lines.append(f"    output = {_parts(predictor.output)}")
    trees = ", trees=trees" if predictor.trees else ""
    if trees:
        lines += ["    trees = [", *(f"        {_forest(*one)}," for one in predictor.trees), "    ]"]
    if isinstance(predictor, NetworkClassifier):
        return [*lines, f"    network = NetworkClassifier(bodies, output, CLASSES{trees})"]
    exact = EXACT_DIGITS
    call = f"bodies, output, {_parts(predictor.units, exact)}"
    if predictor.spread is not None:
        lines.append(f"    spread = {_parts(predictor.spread)}")
        call += f", spread, {_parts(predictor.bounds, exact)}, {_parts(predictor.ramps, exact)}"
    return [*lines, f"    network = NetworkRegressor({call}{trees})"]
