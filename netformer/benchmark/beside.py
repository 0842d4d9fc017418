"""Beside ours: ready-made learners at their defaults on a table as it is, of packages that are installed with ours.

All get the columns that the networks get, read by `tables.columns`; then each takes them as it likes: ridge and
logistic regression one-hot and target means, histogram boosting and CatBoost categories as they are. Everything is
fitted on the rows to learn from. `BESIDE` are those of numbers, `BESIDE_CLASSES` those of classes, numbered from 0.

Learners are imported where they are made: importing scikit-learn's moves Python's own random numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, RegressorMixin, TransformerMixin

from netformer.benchmark.learners import CLASS_METHODS
from netformer.errors import InputError
from netformer.tables.columns import column_of, stand_ins

ONE_HOT, RARE = 10, 3  # levels of a category that get a number each, and rows below which one is rare
FOLDS = 5  # of the rows fitted, for the mean target of a level
NATIVE = 254  # levels of a category that histogram boosting takes as they are: it has 255 bins, one for gaps
ROUNDS = 500  # of CatBoost, which sets its rate by them
ONE_THREAD = (
    200_000  # cells, up to which CatBoost has one thread: more would wait for each other; answers do not change
)


class Plain(TransformerMixin, BaseEstimator):
    """Columns as `tables.columns` takes them, for learners of scikit-learn's kind: numbers and dates as float64, gaps
    nan, categories as text, "" for a gap. Columns that nothing can be read from are left out. X: DataFrames."""

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


def _texts(X: pd.DataFrame, low: int, high: float) -> list[str]:
    """Categories of more than `low` and at most `high` levels."""
    texts = X.select_dtypes(exclude="number")
    return [name for name in texts.columns if low < texts[name].nunique() <= high]


def _means(kind: str = "continuous") -> Any:
    """The mean target of each level, of the rows fitted by folds; of classes (kind "auto") the share of each."""
    from sklearn.model_selection import KFold
    from sklearn.preprocessing import TargetEncoder

    old = TargetEncoder().get_params().get("shuffle") is True  # before scikit-learn 1.9
    folds: dict[str, Any] = {"random_state": 0} if old else {"cv": KFold(FOLDS, shuffle=True, random_state=0)}
    return TargetEncoder(target_type=kind, **folds)


def constant(seed: int) -> Any:
    """The mean of the target."""
    from sklearn.dummy import DummyRegressor

    return DummyRegressor()


def shares(seed: int) -> Any:
    """The share of each class."""
    from sklearn.dummy import DummyClassifier

    return DummyClassifier(strategy="prior")


def _linear(learner: Any, kind: str) -> Any:
    """A linear learner on standardised numbers: categories up to `ONE_HOT` levels one-hot, others as the mean target of
    their level (kind: of `_means`); gaps filled with the median, with an indicator."""
    from sklearn.compose import ColumnTransformer, make_column_selector
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_column_selector(dtype_include="number")
    parts = [
        ("numbers", SimpleImputer(strategy="median", add_indicator=True), numbers),
        (
            "few",
            OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=RARE, sparse_output=False),
            partial(_texts, low=0, high=float(ONE_HOT)),
        ),
        ("many", _means(kind), partial(_texts, low=ONE_HOT, high=np.inf)),
    ]
    return make_pipeline(Plain(), ColumnTransformer(parts), StandardScaler(), learner)


def ridge(seed: int = 0) -> Any:
    """Ridge, the penalty by leave-one-out, on the inputs of `_linear`."""
    from sklearn.linear_model import RidgeCV

    return _linear(RidgeCV(np.logspace(-3, 3, 13)), "continuous")


def logistic(seed: int = 0) -> Any:
    """Logistic regression, the penalty by the log loss of folds (see `learners`), on the inputs of `_linear`."""
    return _linear(CLASS_METHODS["logistic"].make(seed), "auto")


class Boosting(RegressorMixin, BaseEstimator):
    """Histogram gradient boosting at scikit-learn's defaults on the columns of `Plain`: gaps and categories as they
    are, those of more than `NATIVE` levels as the mean target of their level. random_state: its seed."""

    def __init__(self, random_state: int = 0) -> None:
        self.random_state = random_state

    def fit(self, X: pd.DataFrame, y: np.ndarray) -> Boosting:
        """X: text and numbers."""
        self.many_ = _texts(X, NATIVE, np.inf)
        self.means_ = self._means()
        X = self._native(X, self.means_.fit_transform(X[self.many_], y) if self.many_ else None)
        self.learner_ = self._learner(y).fit(X, y)
        return self

    def _means(self) -> Any:
        return _means()

    def _learner(self, y: np.ndarray) -> Any:
        from sklearn.ensemble import HistGradientBoostingRegressor

        options: dict[str, Any] = {"categorical_features": "from_dtype", "random_state": self.random_state}
        return HistGradientBoostingRegressor(**options)

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Of levels that were not fitted as of gaps."""
        return self.learner_.predict(self._as_fitted(X))

    def _as_fitted(self, X: pd.DataFrame) -> pd.DataFrame:
        return self._native(X, self.means_.transform(X[self.many_]) if self.many_ else None)

    def _native(self, X: pd.DataFrame, means: np.ndarray | None) -> pd.DataFrame:
        if means is not None:  # of classes a column for each
            per = means.shape[1] // len(self.many_)
            names = [name + f" {k}" * (k > 0) for name in self.many_ for k in range(per)]
            X = X.assign(**dict(zip(names, means.T, strict=True)))
        texts = X.select_dtypes(exclude="number").columns
        return X.astype(dict.fromkeys(texts, "category"))


class BoostingClasses(Boosting):
    """The same of classes."""

    def _means(self) -> Any:
        return _means("auto")

    def _learner(self, y: np.ndarray) -> Any:
        from sklearn.ensemble import HistGradientBoostingClassifier

        self.classes_, counts = np.unique(y, return_counts=True)
        options: dict[str, Any] = {"categorical_features": "from_dtype", "random_state": self.random_state}
        if counts.min() < 2:  # nothing can be held back to stop by
            options["early_stopping"] = False
        return HistGradientBoostingClassifier(**options)

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        """(rows, classes); of levels that were not fitted as of gaps."""
        return self.learner_.predict_proba(self._as_fitted(X))


class NativeCatBoost(RegressorMixin, BaseEstimator):
    """CatBoost at its defaults with `ROUNDS` rounds on the columns of `Plain`: gaps and categories as they are.
    random_state: its seed."""

    def __init__(self, random_state: int = 0) -> None:
        self.random_state = random_state

    def fit(self, X: pd.DataFrame, y: np.ndarray) -> NativeCatBoost:
        """X: text and numbers."""
        texts = list(X.select_dtypes(exclude="number").columns)
        fixed = {"random_seed": self.random_state, "allow_writing_files": False, "verbose": False}
        fixed["thread_count"] = 1 if X.size <= ONE_THREAD else -1
        self.learner_ = self._learner()(iterations=ROUNDS, cat_features=texts, **fixed).fit(X, y)
        return self

    def _learner(self) -> Any:
        from catboost import CatBoostRegressor

        return CatBoostRegressor

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Predictions for the rows of X."""
        return self.learner_.predict(X)


class NativeCatBoostClasses(NativeCatBoost):
    """The same of classes."""

    def _learner(self) -> Any:
        from catboost import CatBoostClassifier

        return CatBoostClassifier

    @property
    def classes_(self) -> np.ndarray:
        """Numbers of the classes fitted."""
        return self.learner_.classes_

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        """(rows, classes)."""
        return self.learner_.predict_proba(X)


def _reading(learner: Any) -> Any:
    """The learner behind `Plain`."""
    from sklearn.pipeline import make_pipeline

    return make_pipeline(Plain(), learner)


Beside = dict[str, tuple[Callable[[int], Any], str]]  # name: (seed -> a learner, what it is)
BESIDE: Beside = {
    "ridge": (ridge, "linear: scikit-learn's RidgeCV, categories encoded"),
    "hgb": (lambda seed: _reading(Boosting(seed)), "scikit-learn's HistGradientBoostingRegressor"),
    "catboost": (lambda seed: _reading(NativeCatBoost(seed)), f"CatBoost, {ROUNDS} rounds"),
    "constant": (constant, "the mean of the target"),
}
BESIDE_CLASSES: Beside = {
    "logistic": (logistic, "logistic regression, penalty by cross-validation, categories encoded"),
    "hgb": (lambda seed: _reading(BoostingClasses(seed)), "scikit-learn's HistGradientBoostingClassifier"),
    "catboost": (lambda seed: _reading(NativeCatBoostClasses(seed)), f"CatBoost, {ROUNDS} rounds"),
    "constant": (shares, "the share of each class"),
}


def chosen(names: Sequence[str] | None, among: Beside = BESIDE) -> list[str]:
    """Names of learners, each once, in their order; None: all, CatBoost where it is installed. among: `BESIDE` or
    `BESIDE_CLASSES`. Raises InputError for others, and for CatBoost where it is not."""
    installed = find_spec("catboost") is not None
    if names is None:
        return [name for name in among if installed or name != "catboost"]
    for name in names:
        if name not in among:
            raise InputError(f"what stands beside must be of {', '.join(among)}, got {name!r}")
    if "catboost" in names and not installed:
        raise InputError("catboost is not installed; pip install catboost")
    return [name for name in among if name in names]
