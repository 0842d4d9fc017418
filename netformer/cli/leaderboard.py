"""Scores on rows held back: written networks, what they make together, and what is fitted beside them."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from rich.table import Table
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from netformer.cli.console import number
from netformer.cli.describe import structure
from netformer.exports.population import Population
from netformer.tables.intake import Intake, fill, medians

HELD_BACK = 0.2
FEW = 30  # rows, below which an R2 is rough
BASELINES = ("ridge", "constant")


@dataclass(frozen=True)
class Row:
    """One line. r2: on the held-back rows, nan where their target is constant. n_params: numbers in it."""

    name: str
    r2: float
    n_params: int
    structure: str


def ridge_pipeline() -> Any:
    """Ridge on standardised columns, the penalty by leave-one-out."""
    return make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 13)))


def mlp(random_state: int) -> Any:
    """scikit-learn's MLPRegressor as it comes, on standardised columns and target, with more iterations."""
    net = make_pipeline(StandardScaler(), MLPRegressor(max_iter=500, random_state=random_state))
    return TransformedTargetRegressor(net, transformer=StandardScaler())


def rows_to_train_on(n_rows: int, seed: int) -> Bool[np.ndarray, " rows"]:
    """The rows to train on: all but a seeded random fifth, at least 2."""
    train = np.ones(n_rows, bool)
    train[np.random.default_rng(seed).permutation(n_rows)[: max(2, round(HELD_BACK * n_rows))]] = False
    return train


def plain_r2(y: Float[np.ndarray, " rows"], predicted: Float[np.ndarray, " rows"]) -> float:
    """1 - squared error / squared deviation from the mean, without the floor of `tasks.scores.r2`; nan where y is
    constant."""
    size = np.abs(y).max() or 1.0  # no overflow
    y, predicted = y / size, predicted / size
    total = float(np.square(y - y.mean()).sum())
    return 1 - float(np.square(y - predicted).sum()) / total if total > 0 else math.nan


def leaderboard(
    bundle: Population,
    X: Float[np.ndarray, "rows features"],
    y: Float[np.ndarray, " rows"],
    train: Bool[np.ndarray, " rows"],
) -> list[Row]:
    """Every network of the bundle, `mean`, `wide`, ridge and the constant, best first."""
    nets, test, count = bundle.networks, ~train, len(bundle.networks)
    rows = [
        Row(str(i), plain_r2(y[test], bundle.predict(X[test], i)), int(nets.specs.n_params[i]), structure(nets, i))
        for i in range(count)
    ]
    for name, what in (("mean", "mean of the"), ("wide", "merged from the")):
        units, n_params = bundle.stack(name).merged_size()
        line = f"{what} {count} networks: {units} hidden units"
        rows.append(Row(name, plain_r2(y[test], bundle.predict(X[test], name)), n_params, line))
    linear = ridge_pipeline().fit(X[train], y[train]).predict(X[test])
    rows.append(Row("ridge", plain_r2(y[test], linear), X.shape[1] + 1, "linear, scikit-learn's RidgeCV"))
    rows.append(Row("constant", plain_r2(y[test], np.full(test.sum(), y[train].mean())), 1, "mean of the target"))
    return sorted(rows, key=lambda row: (math.isnan(row.r2), -row.r2))


def board_table(rows: list[Row], title: str) -> Table:
    """The rows for a terminal."""
    shown = Table(title=title)
    shown.add_column("network")
    shown.add_column("R2", justify="right")
    shown.add_column("parameters", justify="right")
    shown.add_column("structure")
    for row in rows:
        style = "bold" if row.name == "wide" else "dim" if row.name in BASELINES else None
        shown.add_row(row.name, number(row.r2), str(row.n_params), row.structure, style=style)
    return shown


def verdict(rows: list[Row], n_held_back: int) -> str:
    """Which network is the default and why, and whether ridge would do."""
    score = {row.name: row.r2 for row in rows}
    if math.isnan(score["wide"]):
        return "default: wide; R2 is unknown, the target is constant on the rows held back: try another --seed"
    best = next(row for row in rows if row.name not in ("mean", "wide", *BASELINES))
    line = (
        f"default: wide (R2 {score['wide']:.3f}), all networks merged; these rows selected nothing in it. Network "
        f"{best.name} (R2 {best.r2:.3f}) is the best of all on these rows, and looks better here than on new ones"
    )
    ahead = [name for name in BASELINES if score[name] >= score["wide"]]
    line += f"; {ahead[0]} is no worse on these rows" if ahead else ""
    return line + (f"; {n_held_back} rows are few, these R2 are rough" if n_held_back < FEW else "")


def cross_validate(
    intake: Intake, estimators: dict[str, Callable[[], Any]], folds: int, seed: int
) -> Iterator[tuple[str, float, float]]:
    """(name, mean R2 over the folds, seconds of fit and predict in all) of each estimator, on the same folds."""
    X, y = intake.X, intake.y
    splits = list(KFold(folds, shuffle=True, random_state=seed).split(X))
    for name, build in estimators.items():
        scores, start = [], time.perf_counter()
        for train, test in splits:
            gaps = medians(X, train)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # iterations spent is an answer too
                fitted = build().fit(fill(X[train], gaps), y[train])
            scores.append(plain_r2(y[test], fitted.predict(fill(X[test], gaps))))
        yield name, float(np.mean(scores)), time.perf_counter() - start
