"""Predictors: a delivered network for scikit-learn, from the cells of a row to units of the target or to classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from netformer.arrays import functions
from netformer.exports.formula import ACTIVATE, Formula, Output, formula_of
from netformer.exports.intervals import Intervals, ramps_of
from netformer.networks.convert import SKLEARN_NAMES, sklearn_classifier, sklearn_regressor
from netformer.networks.specs import ACTIVATIONS
from netformer.networks.stack import Networks
from netformer.tables.reading import Reading


def units_and_inputs(bodies, X):
    """The last hidden units of all bodies, and what they read: (rows, units and inputs)."""
    z = np.asarray(X, np.float64)
    last = []
    for layers in bodies:
        h = z
        for name, weight, bias in layers:
            h = ACTIVATE[name](h @ np.asarray(weight).T + bias)
        last.append(h)
    return np.concatenate([*last, z], 1)


def with_leaves(answers, trees, X):
    """Answers, (rows,) or (rows, outputs), plus those of trees."""
    z, y = np.asarray(X, np.float64), np.reshape(answers, (len(X), -1))
    for first, column, cut, leaf in trees:
        place = np.arange(len(column))
        for asked, threshold in zip(column.T, cut.T):  # noqa: B905
            place = 2 * place + (z[:, asked] > threshold)
        for at, values in enumerate(leaf, first):
            y[:, at] += values.ravel()[place].sum(1)
    return y.reshape(np.shape(answers))


class NetworkRegressor(RegressorMixin, BaseEstimator):
    """A delivered network for scikit-learn: standardised inputs to units of the target. `fit` changes nothing.

    bodies: of each network its hidden layers, (activation, weights (units, inputs), biases). output: weights of all
    last hidden units and of the inputs, and the bias. units: center and scale of the target. spread: None, or the same
    as output for the logarithm of the scale of a row. bounds, ramps: as in `exports.intervals`. Of several targets all
    of these have one more dimension: the first of weights, the last of all others. trees: of those together the first
    output they answer in, inputs and thresholds of their questions (trees, depth), and leaves (outputs, trees, leaves),
    the first question the highest digit of their number. The text of this class stands in the files of
    `sklearn_source`.
    """

    def __init__(self, bodies, output, units, spread=None, bounds=None, ramps=None, trees=()):
        self.bodies = bodies
        self.output = output
        self.units = units
        self.spread = spread
        self.bounds = bounds
        self.ramps = ramps
        self.trees = trees

    def fit(self, X, y=None):
        """Nothing: the weights are there."""
        return self

    def __sklearn_is_fitted__(self):
        return True

    def predict(self, X, quantiles=None):
        """(rows,), or these quantiles of the target, numbers between 0 and 1: (rows, quantiles). Of several targets
        (rows, targets), or (rows, targets, quantiles)."""
        joined, (center, scale) = units_and_inputs(self.bodies, X), self.units
        y = with_leaves(joined @ np.asarray(self.output[0]).T + self.output[1], self.trees, X)
        if quantiles is None:
            return y * scale + center
        if self.spread is None:
            raise ValueError("this network has no intervals")
        q, (start, left, lengths, slopes) = np.asarray(quantiles, np.float64), self.ramps
        if not ((q > 0) & (q < 1)).all():
            raise ValueError(f"quantiles must be between 0 and 1, got {quantiles!r}")
        along = np.log(q / (1 - q))[:, None] - left
        scores = np.clip(along, np.minimum(lengths, 0), np.maximum(lengths, 0)) @ slopes + start
        logs = np.clip(joined @ np.asarray(self.spread[0]).T + self.spread[1], *self.bounds)
        return np.moveaxis((y[:, None] + np.exp(logs)[:, None] * scores) * scale + center, 1, -1)


class NetworkClassifier(ClassifierMixin, BaseEstimator):
    """A delivered network for scikit-learn: standardised inputs to classes. `fit` changes nothing.

    bodies: as of `NetworkRegressor`. output: weights (outputs, units and inputs) and a bias each; of two classes the
    one output is the logit of the second. classes: their labels, sorted. trees: as of `NetworkRegressor`. The text of
    this class stands in the files of `sklearn_source`.
    """

    def __init__(self, bodies, output, classes, trees=()):
        self.bodies = bodies
        self.output = output
        self.classes = classes
        self.trees = trees

    def fit(self, X, y=None):
        """Nothing: the weights are there."""
        return self

    def __sklearn_is_fitted__(self):
        return True

    @property
    def classes_(self):
        """Their labels, sorted."""
        return np.array(self.classes, dtype=object if isinstance(self.classes[0], str) else None)

    def predict(self, X):
        """(rows,): the label of the most probable class."""
        return self.classes_[self.predict_proba(X).argmax(1)]

    def predict_proba(self, X):
        """(rows, classes): the probability of each."""
        logits = units_and_inputs(self.bodies, X) @ np.asarray(self.output[0]).T + self.output[1]
        logits = with_leaves(logits, self.trees, X)
        if logits.shape[1] == 1:
            logits = np.concatenate([np.zeros_like(logits), logits], 1)
        return softmax(logits, axis=1)


def predictor_of(reading: Reading, stack: Networks, intervals: Intervals | None = None) -> Any:
    """The mean of a stack as a fitted estimator in float64, from standardised inputs to units of the target or to its
    classes: an `MLPRegressor` or `MLPClassifier` where that can express it, else a `NetworkRegressor` or a
    `NetworkClassifier`. intervals: of this stack, a wide one."""
    if not expressible(stack) or not _can_label(reading.classes):
        formula = formula_of(reading, stack, intervals)
        return _network_classifier(formula) if reading.classes else _network_regressor(formula)
    stack = stack.numpy()
    layers = Networks(stack.specs, stack.weight.double()).matrices(0)
    if reading.classes:
        return sklearn_classifier(layers, reading.classes)
    weight, bias, activation = layers[-1]
    bias = weight.new_zeros(len(weight)) if bias is None else bias
    scales, centers = functions.from_numpy(reading.scales), functions.from_numpy(reading.centers)
    layers[-1] = (weight * scales.unsqueeze(1), bias * scales + centers, activation)
    return sklearn_regressor(layers)


def _can_label(classes: tuple[Any, ...]) -> bool:
    """Whether `MLPClassifier` can hold these labels: arrays of text lose a NUL at its end, and numbers must be whole
    ones of 64 bits."""
    whole = all(label.is_integer() for label in classes if isinstance(label, float))
    held = np.asarray(classes)
    return whole and held.dtype.kind in "biufU" and held.tolist() == list(classes)


def expressible(stack: Networks) -> bool:
    """Whether `MLPRegressor` can express the mean of a stack: one network, without a skip, with one activation."""
    used = set(stack.specs.activations[0, : int(stack.specs.depth[0])].tolist())
    known = {ACTIVATIONS.index(name) for name in SKLEARN_NAMES}
    return len(stack) == len(used) == 1 and used <= known and not bool(stack.specs.skip[0])


def _network_regressor(formula: Formula) -> NetworkRegressor:
    bodies, reading, spreads, trees = _bodies(formula), formula.reading, formula.spreads, _trees(formula)
    one = len(reading.targets) == 1
    units = (reading.targets[0].center, reading.targets[0].scale) if one else (reading.centers, reading.scales)
    output = _last(formula.outputs[0]) if one else _stacked(formula.outputs)
    if not spreads:
        return NetworkRegressor(bodies, output, units, trees=trees)
    ramps = [astuple(ramps_of(spread.scores)) for spread in spreads]
    if one:
        return NetworkRegressor(bodies, output, units, _last(spreads[0]), spreads[0].bounds, ramps[0], trees)
    start, (_, left, lengths, _), slopes = [ramp[0] for ramp in ramps], ramps[0], [ramp[3] for ramp in ramps]
    bounds = np.array([spread.bounds for spread in spreads]).T
    joined = np.array(start), left, lengths, np.array(slopes).T
    return NetworkRegressor(bodies, output, units, _stacked(spreads), tuple(bounds), joined, trees)


def _network_classifier(formula: Formula) -> NetworkClassifier:
    return NetworkClassifier(_bodies(formula), _stacked(formula.outputs), formula.reading.classes, _trees(formula))


def _bodies(formula: Formula) -> list[list[tuple[str, np.ndarray, np.ndarray]]]:
    return [[(layer.activation, layer.weight, layer.bias) for layer in body] for body in formula.bodies]


def _trees(formula: Formula) -> list[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    return [(one.first, one.column, one.cut, one.leaf) for one in formula.trees]


def _last(layer: Output) -> tuple[Float[np.ndarray, " _"], float]:
    """An output layer: weights of the last hidden units of all bodies and of the inputs, and the bias."""
    return np.concatenate([*layer.heads, layer.skip]), layer.bias


def _stacked(layers: Sequence[Output]) -> tuple[Float[np.ndarray, "outputs _"], Float[np.ndarray, " outputs"]]:
    """Several output layers as one."""
    weights, biases = zip(*map(_last, layers), strict=True)
    return np.stack(weights), np.array(biases)


def sklearn_pipeline(reading: Reading, predictor: Any) -> Any:
    """A fitted pipeline: a table, as `Population.predict` takes it, to standardised inputs, to a predictor on them."""
    from sklearn.pipeline import Pipeline  # here, because it draws from Python's generator (by way of rich)
    from sklearn.preprocessing import FunctionTransformer

    return Pipeline([("reading", FunctionTransformer(reading.standardize)), ("network", predictor)])
