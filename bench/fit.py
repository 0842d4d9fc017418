"""The bench of fitting: what users wait for, with the weights of the package, warm, on one thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from bench.machine import in_turns, seconds
from netformer.generation.classifier import NetFormerClassifier
from netformer.generation.estimator import NetFormerRegressor
from netformer.generation.many import fit_many
from netformer.workers import one_thread


def _columns(rows: int, columns: int) -> Float[np.ndarray, "rows columns"]:
    return np.random.default_rng(0).uniform(size=(rows, columns))


def _friedman(x: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, " rows"]:
    """Friedman 1 (1991) with noise of standard deviation 1."""
    noise = np.random.default_rng(1).normal(size=len(x))
    return 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4] + noise


@one_thread()
def measure_fit(*, rounds: int, rows: int = 300, many: int = 2000, groups: int = 1000) -> dict[str, float]:
    """Seconds of `fit`: a target of numbers and one of 3 classes on `rows` x 10, numbers on `many` x 12; once each, 200
    classes on `many` x 10 (10 of 200 where there are fewer rows), and `fit_many` on groups of 100 rows x 6."""
    small, large = _columns(rows, 10), _columns(many, 12)
    classes = np.searchsorted(np.quantile(_friedman(small), (1 / 3, 2 / 3)), _friedman(small))
    rng, n_classes = np.random.default_rng(2), max(2, many // 10)
    label = np.arange(many) % n_classes
    scattered = rng.normal(size=(n_classes, 10))[label] + 0.4 * rng.normal(size=(many, 10))

    def fitted(kind: Any, X: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
        return lambda: kind(random_state=0).fit(X, y)

    works = {
        "ms": fitted(NetFormerRegressor, small, _friedman(small)),
        "classes_ms": fitted(NetFormerClassifier, small, classes),
        "large_ms": fitted(NetFormerRegressor, large, _friedman(large)),
    }
    in_turns(1, **works)
    found = {f"fit.{name}": 1e3 * value for name, value in in_turns(rounds, **works).items()}
    table = pd.DataFrame(_columns(100 * groups, 6), columns=[f"x{i}" for i in range(6)])
    table["group"] = np.arange(len(table)) % groups
    target = _friedman(table.to_numpy()) + 3 * table["group"].to_numpy() / groups
    found["fit.many_classes_seconds"] = seconds(fitted(NetFormerClassifier, scattered, label))
    found["fit.groups_seconds"] = seconds(lambda: fit_many(table, target, "group", random_state=0))
    return found
