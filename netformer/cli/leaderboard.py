"""Scores on rows held back: written networks, what they make together, and what is fitted beside them."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from rich.table import Table
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.impute import SimpleImputer
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler, TargetEncoder

from netformer.cli.console import number
from netformer.cli.describe import structure
from netformer.errors import InputError
from netformer.exports.population import Population
from netformer.tables.columns import column_of, stand_ins
from netformer.tables.intake import Intake

HELD_BACK = 0.2
FEW = 30  # rows, below which an R2 is rough
ONE_HOT, RARE = 10, 3  # levels of a category beside ours that get a number each, and rows below which one is rare
FOLDS = 5  # of the rows fitted, for the mean target of a level
BASELINES = ("ridge", "constant")


@dataclass(frozen=True)
class Row:
    """One line. r2: on the held-back rows, nan where their target is constant. n_params: numbers in it."""

    name: str
    r2: float
    n_params: int
    structure: str


class Plain(TransformerMixin, BaseEstimator):
    """Columns as `tables.columns` takes them, for scikit-learn's encoders: numbers and dates as float64, gaps nan,
    categories as text. Columns that nothing can be read from are left out. X: DataFrames."""

    def fit(self, X: pd.DataFrame, y: Any = None) -> Plain:
        """Decide what each column is."""
        self.columns_ = []
        for name in X.columns:
            try:
                column, values = column_of(name, X[name])
            except InputError:
                continue
            if column.kind == "number":
                column = replace(column, gaps=stand_ins(values[~np.isnan(values)]))
            self.columns_.append(column)
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """The columns in use. Raises InputError for a cell that cannot be read."""
        made: dict[str, Any] = {}
        for column in self.columns_:
            if column.kind == "category":
                levels = np.array([*column.levels, "an unseen one"], dtype=object)
                made[column.name] = levels[column.codes(X[column.name])]
            else:
                made[column.name] = column.values(X[column.name])
        return pd.DataFrame(made)


def _texts(X: pd.DataFrame, few: bool) -> list[str]:
    texts = X.select_dtypes(exclude="number")
    return [name for name in texts.columns if (texts[name].nunique() <= ONE_HOT) == few]


def encoded() -> list[Any]:
    """Steps of a pipeline that turns any table into standardised numbers: categories up to `ONE_HOT` levels one-hot,
    others as the mean target of their level; gaps filled with the median, with an indicator."""
    hot = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=RARE, sparse_output=False)
    old = TargetEncoder().get_params().get("shuffle") is True  # before scikit-learn 1.9
    folds: dict[str, Any] = {"random_state": 0} if old else {"cv": KFold(FOLDS, shuffle=True, random_state=0)}
    parts = [
        ("numbers", SimpleImputer(strategy="median", add_indicator=True), make_column_selector(dtype_include="number")),
        ("few", hot, partial(_texts, few=True)),
        ("many", TargetEncoder(target_type="continuous", **folds), partial(_texts, few=False)),
    ]
    return [Plain(), ColumnTransformer(parts), StandardScaler()]


def ridge_pipeline() -> Any:
    """Ridge on `encoded` columns, the penalty by leave-one-out."""
    return make_pipeline(*encoded(), RidgeCV(np.logspace(-3, 3, 13)))


def mlp(random_state: int) -> Any:
    """scikit-learn's MLPRegressor as it comes, on `encoded` columns and a standardised target, with more iterations."""
    net = make_pipeline(*encoded(), MLPRegressor(max_iter=500, random_state=random_state))
    return TransformedTargetRegressor(net, transformer=StandardScaler(), check_inverse=False)


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
    bundle: Population, X: pd.DataFrame, y: Float[np.ndarray, " rows"], train: Bool[np.ndarray, " rows"]
) -> list[Row]:
    """Every network of the bundle, `mean`, `wide`, ridge and the constant, best first. X: as `Population.predict`."""
    nets, test, count = bundle.networks, ~train, len(bundle.networks)
    z = bundle.reading.standardize(X[test])
    answers = bundle.reading.answer(bundle.standard_answers(z, "each"))
    rows = [
        Row(str(i), plain_r2(y[test], answers[i]), int(nets.specs.n_params[i]), structure(nets, i))
        for i in range(count)
    ]
    for name, what in (("mean", "mean of the"), ("wide", "merged from the")):
        units, n_params = bundle.stack(name).merged_size()
        line = f"{what} {count} networks: {units} hidden units"
        predicted = bundle.reading.answer(bundle.standard_answers(z, name))
        rows.append(Row(name, plain_r2(y[test], predicted), n_params, line))
    linear = ridge_pipeline().fit(X[train], y[train])
    n_linear = len(linear[-1].coef_) + 1
    rows.append(Row("ridge", plain_r2(y[test], linear.predict(X[test])), n_linear, "linear, scikit-learn's RidgeCV"))
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
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # iterations spent is an answer too; so are levels not seen before
                fitted = build().fit(X.iloc[train], y[train])
                scores.append(plain_r2(y[test], fitted.predict(X.iloc[test])))
        yield name, float(np.mean(scores)), time.perf_counter() - start
