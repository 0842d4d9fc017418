"""Convert: layers of a network as scikit-learn's `MLPRegressor` and `MLPClassifier`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from netformer.arrays.namespace import Tensor, namespace
from netformer.errors import InputError

Label = str | int | float | bool  # of a class, as users hold it
SKLEARN_NAMES = {"identity": "identity", "relu": "relu", "tanh": "tanh", "sigmoid": "logistic"}


def sklearn_regressor(layers: Sequence[tuple[Tensor, Tensor | None, str]]) -> Any:
    """A fitted `MLPRegressor` with these (weight, bias or None, activation) layers, output last; no bias is zeros.

    Raises InputError for what MLPRegressor cannot express: GELU, steps, hidden activations that differ, an output
    activation, a dtype other than float32 and float64.
    """
    from sklearn.neural_network import MLPRegressor

    return _fitted(MLPRegressor, layers, "identity")


def sklearn_classifier(layers: Sequence[tuple[Tensor, Tensor | None, str]], classes: Sequence[Label]) -> Any:
    """A fitted `MLPClassifier` with these (weight, bias or None, activation) layers, whose outputs are logits: one, of
    the second class, for two classes, one per class for more. classes: the labels, sorted.

    Raises InputError as `sklearn_regressor` does, and as `check_classes`.
    """
    from sklearn.neural_network import MLPClassifier
    from sklearn.preprocessing import LabelBinarizer

    check_classes(classes, len(layers[-1][0]))
    if any(isinstance(label, float) and not label.is_integer() for label in classes):
        raise InputError(
            f"MLPClassifier takes float labels only where they are whole, got {list(classes)}; use to_torch"
        )
    classifier = _fitted(MLPClassifier, layers, "logistic" if len(classes) == 2 else "softmax")
    classifier._label_binarizer = LabelBinarizer().fit(np.asarray(classes))
    classifier.classes_ = classifier._label_binarizer.classes_
    return classifier


def check_classes(classes: Sequence[Label], n_outputs: int) -> None:
    """Raises InputError for labels that are not sorted, not distinct, of several types or fewer than two, and for
    another number of outputs than they have logits."""
    kinds = {type(label) for label in classes}
    if len(kinds) != 1 or not kinds <= {str, int, float, bool} or list(classes) != sorted(set(classes)):
        rule = "classes must be distinct labels of one type (str, int, float or bool), sorted"
        raise InputError(f"{rule}, got {list(classes)}")
    if len(classes) < 2:
        raise InputError(f"classes must be two or more labels, got {list(classes)}")
    logits = 1 if len(classes) == 2 else len(classes)
    if n_outputs != logits:
        raise InputError(f"{len(classes)} classes must have {logits} output{'s' * (logits > 1)}, got {n_outputs}")


def _fitted(kind: Any, layers: Sequence[tuple[Tensor, Tensor | None, str]], output: str) -> Any:
    """An estimator of the class `kind` with these layers and the function `output` on what the last one gives."""
    names, owner = [name for _, _, name in layers], kind.__name__
    first = layers[0][0]
    dtype, xp = first.dtype, namespace(first)
    if len(set(names[:-1])) > 1:
        raise InputError(f"{owner} has one activation for all hidden layers, got {names[:-1]}; use to_torch")
    if names[-1] != "identity":
        raise InputError(f"{owner} has an identity output, got {names[-1]}; use to_torch")
    if not set(names) <= set(SKLEARN_NAMES):
        raise InputError(f"{owner} activations are {', '.join(SKLEARN_NAMES)}, got {names[0]}; use to_torch")
    if dtype not in (xp.float32, xp.float64):
        raise InputError(f"{owner} predicts in float32 or float64, got {dtype}; convert the network first")
    sizes = tuple(len(weight) for weight, _, _ in layers[:-1])
    net = kind(hidden_layer_sizes=sizes, activation=SKLEARN_NAMES[names[0]])
    net.coefs_ = [weight.T.contiguous().numpy().copy() for weight, _, _ in layers]
    net.intercepts_ = [
        (weight.new_zeros(len(weight)) if bias is None else bias).numpy().copy() for weight, bias, _ in layers
    ]
    net.n_features_in_, net.n_outputs_ = layers[0][0].shape[1], len(layers[-1][0])
    net.n_layers_, net.out_activation_ = len(layers) + 1, output
    # What an optimiser would have left: partial_fit continues from here.
    net.n_iter_, net.t_, net.loss_, net.best_loss_ = 0, 0, np.inf, np.inf
    net.loss_curve_, net._no_improvement_count = [], 0
    net.validation_scores_ = net.best_validation_score_ = None
    return net
