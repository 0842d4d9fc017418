"""Learners: ready-made methods that ours is compared with, each with preprocessing made for its kind.

`METHODS` are for targets that are numbers, `CLASS_METHODS` for classes.

The preprocessing is skrub's own pipeline for the kind of learner (`skrub.tabular_pipeline`): dates become numbers, text
of many levels the 30 leading components of its n-grams, categories are one-hot for ridge, numbered for forests, native
for boosting; CatBoost reads all text as native categories. Everything is fitted on the rows to learn from alone.

A learner with a grid is fitted on TRAIN rows, VALID rows choose the configuration, and when CatBoost stops; the chosen
one is fitted again on both, as are those without a grid. TEST rows only report. What chooses is squared error, and for
classes log loss.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from netformer.benchmark.class_scores import aligned, negative_log_loss
from netformer.errors import InputError
from netformer.tasks.task import TEST, TRAIN, VALID

LEVELS = 40  # skrub's own threshold
LEVELS_OF_BOOSTING = 254  # scikit-learn's histograms have 255 bins, one for gaps
ALPHAS = np.logspace(-2, 4, 13)  # of ridge, chosen by leave-one-out
Learner = Any  # with fit(X, y) and predict(X)


class Native:
    """A table for CatBoost: dates as numbers, all text as native categories, gaps a level of their own."""

    def fit_transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """Decide what each column is, and read it."""
        from skrub import TableVectorizer

        self.reader = TableVectorizer(low_cardinality="passthrough", high_cardinality="passthrough").fit(X)
        return self.transform(X)

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """Numbers and text."""
        read = self.reader.transform(X)
        return read.apply(lambda c: c if pd.api.types.is_numeric_dtype(c) else c.astype(object).fillna("").astype(str))


def categories(read: pd.DataFrame) -> list[str]:
    """The columns of text."""
    return [c for c in read.columns if not pd.api.types.is_numeric_dtype(read[c])]


FIXED = {"thread_count": 1, "allow_writing_files": False, "verbose": False}  # of CatBoost


class CatBoost:
    """CatBoost on a table that `Native` reads.

    With `valid` rows in `fit` it stops at their best iteration, `n_iterations`.
    """

    def __init__(self, seed: int, **options: Any) -> None:
        self.seed, self.options = seed, options

    def fit(self, X: pd.DataFrame, y: np.ndarray, valid: tuple[pd.DataFrame, np.ndarray] | None = None) -> CatBoost:
        """Fit on the rows of X; see the class for `valid`."""
        from catboost import CatBoostRegressor

        self.reader = Native()
        read = self.reader.fit_transform(X)
        fixed = {**FIXED, **self.options, "random_seed": self.seed}
        self.learner = CatBoostRegressor(cat_features=categories(read), **fixed)
        watched = {"eval_set": (self.reader.transform(valid[0]), valid[1]), "use_best_model": True} if valid else {}
        self.learner.fit(read, y, **watched)
        self.n_iterations = self.learner.tree_count_
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Predictions for the rows of X."""
        return self.learner.predict(self.reader.transform(X))


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


def _sklearn(module: str, name: str, **fixed: Any) -> Any:
    """(**options) -> an unfitted learner of scikit-learn, imported when it is made."""
    return lambda **options: getattr(import_module(f"sklearn.{module}"), name)(**fixed, **options)


FOLDS = 5
LOGISTIC = _sklearn("linear_model", "LogisticRegression", max_iter=300)
FORESTS = {name: _sklearn("ensemble", name, n_jobs=1) for name in ("RandomForestClassifier", "ExtraTreesClassifier")}
BOOSTING = _sklearn("ensemble", "HistGradientBoostingClassifier")
# What a learner reads: numbers scaled, categories one-hot; categories numbered; native; native for CatBoost
READERS: dict[str, Callable[[int], Any]] = {
    "linear": lambda seed: _pipeline(LOGISTIC(), seed)[:-1],
    "trees": lambda seed: _pipeline(FORESTS["RandomForestClassifier"](), seed)[:-1],
    "boosting": lambda seed: _pipeline(BOOSTING(), seed, LEVELS_OF_BOOSTING)[:-1],
    "native": lambda seed: Native(),
}


class Folds:
    """Random folds within classes for scikit-learn: as many as the smallest class has rows, 2 to `FOLDS`."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """How many."""
        return int(np.bincount(y)[np.unique(y)].min().clip(2, FOLDS))

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Any:
        """Rows to fit and rows held out, of each fold."""
        folds = _sklearn("model_selection", "StratifiedKFold", shuffle=True, random_state=self.seed)
        return folds(n_splits=self.get_n_splits(y=y)).split(X, y)


def _logistic(seed: int) -> Learner:
    """Multinomial logistic regression, its penalty of `PENALTIES` by cross-validated log loss."""
    search = _sklearn("model_selection", "GridSearchCV", scoring=negative_log_loss, cv=Folds(seed))
    return search(estimator=LOGISTIC(), param_grid={"C": 1 / PENALTIES})


def _support_vectors(seed: int, **options: Any) -> Learner:
    """Support vectors, whose probabilities are sigmoids of cross-validated decisions (Platt 1999)."""
    calibrated = _sklearn("calibration", "CalibratedClassifierCV", cv=Folds(seed), ensemble=False)
    return calibrated(estimator=_sklearn("svm", "SVC")(**options))


def _majority(seed: int) -> Learner:
    return _sklearn("dummy", "DummyClassifier", strategy="prior")()


def _perceptron(seed: int, **options: Any) -> Learner:
    fixed: dict[str, Any] = {"hidden_layer_sizes": (64,), "learning_rate_init": 3e-3, "max_iter": 150}
    return _sklearn("neural_network", "MLPClassifier", **fixed)(random_state=seed, **options)


class CatBoostClasses:
    """CatBoost for classes, on what `Native` reads."""

    def __init__(self, seed: int, **options: Any) -> None:
        self.seed, self.options = seed, options

    def fit(self, X: pd.DataFrame, y: Int[np.ndarray, " rows"], **watched: Any) -> Any:
        """CatBoost, fitted."""
        from catboost import CatBoostClassifier

        fixed = {**FIXED, **self.options, "random_seed": self.seed}
        return CatBoostClassifier(cat_features=categories(X), **fixed).fit(X, y, **watched)


class ClassMethod(NamedTuple):
    """reader: of `READERS`; make, grid, again: as of `Method`, `fit` returns the fitted learner with `predict_proba`
    and `classes_`; watched: arguments of `fit` for the valid rows, by which boosting stops; least: rows of a class, of
    which one of fewer is left out."""

    reader: str
    make: Callable[..., Learner]
    grid: Sequence[dict[str, Any]] = ({},)
    again: Callable[[Learner], dict[str, Any]] = _nothing_else
    watched: Callable[[Any, np.ndarray], dict[str, Any]] = lambda X, y: {}
    least: int = 1

    def fit(self, seed: int, options: dict[str, Any], X: Any, y: Int[np.ndarray, " rows"], **watched: Any) -> Any:
        """The learner, fitted; the majority where one class is left."""
        often = np.bincount(y)[y] >= self.least
        if len(np.unique(y[often])) < 2:
            return _majority(seed).fit(X, y)
        return self.make(seed, **options).fit(X[often], y[often], **watched)


PENALTIES = np.logspace(-2, 4, 9)  # of logistic regression, on half the sum of squares, the log loss summed over rows
WIDTHS = [{"C": c, "gamma": gamma} for c in (1.0, 10.0) for gamma in (0.003, 0.03)]
STOPPING = {"learning_rate": 0.07, "max_iter": 200, "early_stopping": True, "n_iter_no_change": 15}
LEAVES: list[dict[str, Any]] = [{"n_estimators": 50, "min_samples_leaf": leaf} for leaf in (1, 5)]
ROUNDS = {"learning_rate": 0.1, "iterations": 300, "early_stopping_rounds": 30}
GROWN: dict[str, Any] = {"reader": "trees", "grid": LEAVES, "again": lambda fitted: {"n_estimators": 200}}
CLASS_METHODS = {
    "majority": ClassMethod("trees", _majority),
    "logistic": ClassMethod("linear", _logistic),
    "mlp": ClassMethod("linear", _perceptron, [{"alpha": alpha} for alpha in (0.01, 1.0, 10.0)]),
    "svc": ClassMethod("linear", _support_vectors, WIDTHS, least=2),
    "hgb": ClassMethod(
        "boosting",
        lambda seed, **options: BOOSTING(random_state=seed, **options),
        [{**STOPPING, "min_samples_leaf": leaf} for leaf in (20, 5)],
        lambda fitted: {"max_iter": fitted.n_iter_, "early_stopping": False},
        lambda X, y: {"X_val": X, "y_val": y},
    ),
    "rf": ClassMethod(make=lambda seed, **o: FORESTS["RandomForestClassifier"](random_state=seed, **o), **GROWN),
    "extratrees": ClassMethod(make=lambda seed, **o: FORESTS["ExtraTreesClassifier"](random_state=seed, **o), **GROWN),
    "catboost": ClassMethod(
        "native",
        CatBoostClasses,
        [{**ROUNDS, "depth": depth} for depth in (6, 4)],
        lambda fitted: {"iterations": fitted.tree_count_, "early_stopping_rounds": None},
        lambda X, y: {"eval_set": (X, y), "use_best_model": True},
    ),
}


class Answer(NamedTuple):
    """Probabilities of the TEST rows, in their order; wall seconds to read (the first of those that read alike), choose
    and fit, and to predict."""

    p: Float[np.ndarray, "test classes"]
    fit_seconds: float
    predict_seconds: float


def fit_predict_proba(
    X: pd.DataFrame,
    y: Int[np.ndarray, " rows"],
    codes: Int[np.ndarray, " rows"],
    n_classes: int,
    names: Sequence[str] = tuple(CLASS_METHODS),
    seed: int = 0,
) -> dict[str, Answer]:
    """Probabilities of learners of `CLASS_METHODS` for the TEST rows; those that read alike share one reading.

    X, codes: as of `fit_predict`. y: classes from 0 to n_classes - 1; where TRAIN rows are all of one, every learner is
    the majority. Of configurations that are level on valid rows the first is chosen.

    Raises InputError for an unknown name.
    """
    for name in names:
        if name not in CLASS_METHODS:
            raise InputError(f"names must be of {', '.join(CLASS_METHODS)}, got {name!r}")
    train, valid, test = (codes == code for code in (TRAIN, VALID, TEST))
    known = valid & np.isin(y, y[train])  # what boosting may watch
    choose, both = _Reading(X, train, (valid, known), seed), _Reading(X, ~test, (test,), seed)
    answers = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # unseen levels, columns without a value, not converged: all are handled
        for name in names:
            method = CLASS_METHODS[name if len(np.unique(y[train])) > 1 else "majority"]
            start = time.perf_counter()
            chosen, least = method.grid[0], np.inf
            for options in method.grid if len(method.grid) > 1 else []:
                fitted_on, (judged, watched) = choose.read(method.reader)
                learner = method.fit(seed, options, fitted_on, y[train], **method.watched(watched, y[known]))
                loss = -negative_log_loss(learner, judged, y[valid])
                if loss < least:
                    chosen, least = {**options, **method.again(learner)}, loss
            fitted_on, (new,) = both.read(method.reader)
            learner = method.fit(seed, chosen, fitted_on, y[~test])
            fit_seconds, start = time.perf_counter() - start, time.perf_counter()
            p = aligned(learner.predict_proba(new), learner.classes_, n_classes)
            answers[name] = Answer(p, fit_seconds, time.perf_counter() - start)
    return answers


class _Reading:
    """Rows of a table as learners read them, decided on some of them, each way once."""

    def __init__(self, X: pd.DataFrame, fitted: np.ndarray, others: Sequence[np.ndarray], seed: int) -> None:
        self.rows, self.others, self.seed = X[fitted], [X[other] for other in others], seed
        self.done: dict[str, tuple[Any, list[Any]]] = {}

    def read(self, name: str) -> tuple[Any, list[Any]]:
        if name not in self.done:
            reader = READERS[name](self.seed)
            self.done[name] = reader.fit_transform(self.rows), [reader.transform(other) for other in self.others]
        return self.done[name]
