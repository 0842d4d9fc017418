"""Boosted: gradient boosting on statistics of weights (Unterthiner et al. 2020), and the mean, which reads nothing."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from netformer.networks.stack import Networks
from netformer.readers.questions import CLASSES, Answers, Benchmark, Split

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
NUMBER_TREES, CLASS_TREES = 150, 40  # of classes one tree each


def mean_answer(benchmark: Benchmark, split: Split) -> Answers:
    """The mean of the networks fitted, of classes the most frequent one."""
    out = {}
    for name in split.asked:
        known = benchmark.answers[name][split.fit]
        value = np.bincount(known).argmax() if name in CLASSES else known.mean()
        out[name] = np.full(len(split.test), value)
    return out


def weight_statistics(networks: Networks) -> Float[np.ndarray, "n statistics"]:
    """Of the weights and of the biases of each layer, the output's and the skip's too: how many there are, their mean,
    variance and five quantiles; 0 where there are none."""
    layout, weight, mask = networks.layout, networks.weight.numpy(), networks.specs.mask.numpy()
    inputs, units = slice(1, 1 + layout.max_features), slice(1 + layout.max_features, None)
    parts = []
    for index in range(layout.max_hidden_layers):
        parts += [(layout.layer(index), units if index else inputs), (layout.layer(index), slice(0, 1))]
    parts += [(layout.outputs, columns) for columns in (units, inputs, slice(0, 1))]
    return np.concatenate([_statistics(weight[:, rows, columns], mask[:, rows, columns]) for rows, columns in parts], 1)


def _statistics(
    weight: Float[np.ndarray, "n rows columns"], mask: Bool[np.ndarray, "n rows columns"]
) -> Float[np.ndarray, "n statistics"]:
    n = len(weight)
    values = np.where(mask, weight, np.nan).reshape(n, -1).astype(np.float64)
    out = np.zeros((n, 3 + len(QUANTILES)))
    out[:, 0] = mask.reshape(n, -1).sum(1)
    some = out[:, 0] > 0
    if not some.any():
        return out
    out[some, 1], out[some, 2] = np.nanmean(values[some], 1), np.nanvar(values[some], 1)
    out[some, 3:] = np.nanquantile(values[some], QUANTILES, axis=1).T
    return out


def statistics(benchmark: Benchmark, split: Split) -> Answers:
    """Boosting on `weight_statistics`."""
    fit, test = (weight_statistics(benchmark.networks[side]) for side in (split.fit, split.test))
    return _boosted(fit, test, benchmark, split)


def statistics_and_score(benchmark: Benchmark, split: Split) -> Answers:
    """The same, and the R2 on train rows, which the data gave and no weight tells: what a reader of weights alone is
    hardly better than."""
    fit, test = (
        np.column_stack([weight_statistics(benchmark.networks[side]), benchmark.train_r2[side]])
        for side in (split.fit, split.test)
    )
    return _boosted(fit, test, benchmark, split)


def _boosted(
    fit: Float[np.ndarray, "k features"], test: Float[np.ndarray, "j features"], benchmark: Benchmark, split: Split
) -> Answers:
    out = {}
    for name in split.asked:
        kind, trees = (
            (HistGradientBoostingClassifier, CLASS_TREES)
            if name in CLASSES
            else (HistGradientBoostingRegressor, NUMBER_TREES)
        )
        learner = kind(max_iter=trees, random_state=split.seed)
        out[name] = learner.fit(fit, benchmark.answers[name][split.fit]).predict(test)
    return out
