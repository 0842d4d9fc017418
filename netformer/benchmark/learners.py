"""Learners of mixed tables: ready-made methods that ours is compared with, each with preprocessing made for its kind.

The preprocessing is skrub's own pipeline for the kind of learner (`skrub.tabular_pipeline`): dates become numbers, text
of many levels the 30 leading components of its n-grams, categories are one-hot for ridge, numbered for forests, native
for boosting; CatBoost reads all text as native categories. Everything is fitted on the rows to learn from alone.

A learner with a grid is fitted on TRAIN rows, VALID rows choose the configuration, and when CatBoost stops; the chosen
one is fitted again on both, as are those without a grid. TEST rows only report.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from netformer.errors import InputError
from netformer.tasks.task import TEST, TRAIN, VALID

LEVELS = 40  # skrub's own threshold
LEVELS_OF_BOOSTING = 254  # scikit-learn's histograms have 255 bins, one for gaps
ALPHAS = np.logspace(-2, 4, 13)  # of ridge, chosen by leave-one-out
Learner = Any  # with fit(X, y) and predict(X)


class CatBoost:
    """CatBoost on a table: dates as numbers, all text as native categories, gaps a level of their own.

    With `valid` rows in `fit` it stops at their best iteration, `n_iterations`.
    """

    def __init__(self, seed: int, **options: Any) -> None:
        self.seed, self.options = seed, options

    def fit(self, X: pd.DataFrame, y: np.ndarray, valid: tuple[pd.DataFrame, np.ndarray] | None = None) -> CatBoost:
        """Fit on the rows of X; see the class for `valid`."""
        from catboost import CatBoostRegressor
        from skrub import TableVectorizer

        self.reader = TableVectorizer(low_cardinality="passthrough", high_cardinality="passthrough")
        self.reader.fit(X)
        fixed = {"random_seed": self.seed, "thread_count": 1, "allow_writing_files": False, "verbose": False}
        read = self._read(X)
        categories = [c for c in read if not pd.api.types.is_numeric_dtype(read[c])]
        self.learner = CatBoostRegressor(cat_features=categories, **fixed, **self.options)
        watched = {"eval_set": (self._read(valid[0]), valid[1]), "use_best_model": True} if valid else {}
        self.learner.fit(read, y, **watched)
        self.n_iterations = self.learner.tree_count_
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Predictions for the rows of X."""
        return self.learner.predict(self._read(X))

    def _read(self, X: pd.DataFrame) -> pd.DataFrame:
        read = self.reader.transform(X)
        return read.apply(lambda c: c if pd.api.types.is_numeric_dtype(c) else c.astype(object).fillna("").astype(str))


def _pipeline(learner: Any, seed: int, levels: int = LEVELS) -> Learner:
    """skrub's pipeline for the learner; text of more than `levels` levels becomes numbers."""
    from skrub import StringEncoder, tabular_pipeline

    reader = {"cardinality_threshold": levels, "high_cardinality": StringEncoder(random_state=seed)}
    return tabular_pipeline(learner).set_params(**{f"tablevectorizer__{name}": value for name, value in reader.items()})


def _ridge(seed: int) -> Learner:
    from sklearn.linear_model import RidgeCV

    return _pipeline(RidgeCV(ALPHAS), seed)


def _forest(seed: int, **options: Any) -> Learner:
    from sklearn.ensemble import RandomForestRegressor

    return _pipeline(RandomForestRegressor(n_jobs=1, random_state=seed, **options), seed)


def _boosting(seed: int, **options: Any) -> Learner:
    from sklearn.ensemble import HistGradientBoostingRegressor

    learner = HistGradientBoostingRegressor(early_stopping=False, random_state=seed, **options)
    return _pipeline(learner, seed, LEVELS_OF_BOOSTING)


def _nothing_else(fitted: Learner) -> dict[str, Any]:
    return {}


class Method(NamedTuple):
    """make: (seed, **options) -> an unfitted learner; grid: options to choose from; again: what the last fit has beside
    the chosen ones, from the learner that was fitted with these."""

    make: Callable[..., Learner]
    grid: list[dict[str, Any]]
    again: Callable[[Learner], dict[str, Any]] = _nothing_else


RATES: list[dict[str, Any]] = [{"learning_rate": 0.1, "max_iter": 100}, {"learning_rate": 0.05, "max_iter": 200}]
FOREST = [{"max_features": part, "min_samples_leaf": leaf} for part in (1.0, 1 / 3) for leaf in (1, 5)]
METHODS = {
    "ridge": Method(_ridge, [{}]),
    "rf": Method(_forest, [{"n_estimators": 50, **o} for o in FOREST], lambda fitted: {"n_estimators": 200}),
    "hgb": Method(_boosting, [{**rate, "min_samples_leaf": leaf} for rate in RATES for leaf in (20, 5)]),
    "catboost": Method(CatBoost, [{}]),
    "catboost_chosen": Method(
        CatBoost, [{"iterations": 500, "depth": depth} for depth in (6, 4)], lambda f: {"iterations": f.n_iterations}
    ),
}


def fit_predict(
    name: str, X: pd.DataFrame, y: Float[np.ndarray, " rows"], codes: Int[np.ndarray, " rows"], seed: int = 0
) -> Float[np.ndarray, " test"]:
    """Predictions of a learner of `METHODS` for the TEST rows, in their order.

    X: columns of any dtype that is no text of numbers or dates. codes: TRAIN, VALID or TEST. Of configurations that are
    level on valid rows the first is chosen.

    Raises InputError for an unknown name.
    """
    if name not in METHODS:
        raise InputError(f"name must be one of {', '.join(METHODS)}, got {name!r}")
    method = METHODS[name]
    train, valid, test = (codes == code for code in (TRAIN, VALID, TEST))
    chosen, least = method.grid[0], np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # unseen levels, columns without a value: both are handled
        for options in method.grid if len(method.grid) > 1 else []:
            learner = method.make(seed, **options)
            watched = {"valid": (X[valid], y[valid])} if isinstance(learner, CatBoost) else {}
            learner.fit(X[train], y[train], **watched)
            error = float(np.square(learner.predict(X[valid]) - y[valid]).sum())
            if error < least:
                chosen, least = {**options, **method.again(learner)}, error
        final = method.make(seed, **chosen).fit(X[~test], y[~test])
        return np.asarray(final.predict(X[test]), dtype=np.float64)
