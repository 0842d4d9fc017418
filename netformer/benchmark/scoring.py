"""Scores: what to expect of networks on rows they were not fitted on, beside other learners on the same rows.

What is computed of the predictions is in `held_out`.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from sklearn.base import clone, is_classifier
from sklearn.utils.validation import check_consistent_length
from threadpoolctl import threadpool_limits

from netformer.benchmark.beside import BESIDE, BESIDE_CLASSES, ONE_THREAD, Beside, chosen, constant, shares
from netformer.benchmark.class_scores import aligned
from netformer.benchmark.folds import FOLDS, Part, Plan, copies, groups_of, in_folds, in_time, on_test, times_of
from netformer.benchmark.held_out import ONE, OURS, HeldOut, HeldOutClasses
from netformer.errors import InputError
from netformer.exports.classes import labels_of
from netformer.generation.classifier import NetFormerClassifier
from netformer.generation.estimator import NetFormerRegressor, numeric_target, several, target_names
from netformer.tables.columns import MIN_FREQUENCY, cells_of
from netformer.tables.intake import settled
from netformer.tables.labels import CLASSIFICATION, LEAST_ROWS, Label, check_classes, labels_in, task_type
from netformer.tables.reading import read

if TYPE_CHECKING:
    from netformer.exports.population import Population

COVERAGES = (0.5, 0.8, 0.9, 0.95)  # of the intervals that are looked at
_QUANTILES = np.array([(1 - one) / 2 for one in COVERAGES[::-1]] + [(1 + one) / 2 for one in COVERAGES])
WHAT = {
    OURS: "what predicts: all networks merged into one, unless one was chosen",
    ONE: "the one network with the best expected R2, which is estimated on the rows fitted",
}


class _Numbers:
    """How numbers are fitted and answered."""

    ours = (OURS, ONE)
    learners: Beside = BESIDE
    simplest = staticmethod(constant)

    def constant(self, y: Float[np.ndarray, "fitted ..."]) -> Any:
        return y.mean(0)

    def fit(self, estimator: Any, X: pd.DataFrame, y: Float[np.ndarray, "fitted ..."]) -> Population:
        return estimator.fit(X, y).network_

    def answers(self, population: Population, X: pd.DataFrame) -> dict[str, np.ndarray]:
        best = int(np.asarray(population.expected_r2).argmax())
        return {OURS: population.predict(X), ONE: population.predict(X, best)}

    def answer_of(self, fitted: Any, X: pd.DataFrame) -> np.ndarray:
        return fitted.predict(X)

    def readable(self, X: pd.DataFrame, y: np.ndarray) -> bool:
        """Whether a column can be used."""
        try:
            read(X, y)
        except InputError:
            return False
        return True


@dataclass(frozen=True)
class _Classes:
    """How classes are fitted and answered; y are their numbers, probabilities have a column per class. How good one
    network is, is not known of classes: none is chosen."""

    labels: tuple[Any, ...]
    ours = (OURS,)
    learners = BESIDE_CLASSES
    simplest = staticmethod(shares)

    def constant(self, y: Int[np.ndarray, " fitted"]) -> Any:
        return np.bincount(y, minlength=len(self.labels)) / len(y)

    def fit(self, estimator: Any, X: pd.DataFrame, y: Int[np.ndarray, " fitted"]) -> Population:
        """Without rows of a class that are alone: it is not learned."""
        often = np.bincount(y)[y] >= LEAST_ROWS
        return estimator.fit(X[often], labels_of(self.labels)[y[often]]).network_

    def answers(self, population: Population, X: pd.DataFrame) -> dict[str, np.ndarray]:
        known = [self.labels.index(label) for label in population.classes]
        return {OURS: aligned(population.predict_proba(X), known, len(self.labels))}

    def answer_of(self, fitted: Any, X: pd.DataFrame) -> np.ndarray:
        return aligned(fitted.predict_proba(X), fitted.classes_, len(self.labels))

    def readable(self, X: pd.DataFrame, y: np.ndarray) -> bool:
        """Whether a column can be used, and there is more than one class to learn."""
        return int((np.bincount(y) >= LEAST_ROWS).sum()) > 1 and _Numbers().readable(X, np.asarray(y, np.float64))


def hold_out(
    X: pd.DataFrame,
    y: Float[np.ndarray, "rows ..."],
    plan: Plan,
    estimator: NetFormerRegressor,
    beside: Sequence[str],
    seed: int = 0,
    say: Callable[[str], Any] = lambda text: None,
) -> list[HeldOut]:
    """Fit on the rows of each part of a plan, predict those held out; for every target of y, (rows,) or (rows,
    targets). Ours answers all of them at once, the learners beside it are fitted to one after the other.

    estimator: fitted as a clone in every part. beside: of `BESIDE`. say: is given a line of progress. A learner sees
    of the rows held out their features alone, and these only to predict. Where the rows fitted have no usable column
    or one target, every learner answers their mean.
    """
    at, place = _rows_of(plan)
    ends = np.full((plan.repeats, len(at), *y.shape[1:], 2 * len(COVERAGES)), np.nan)

    def interval(population: Population | None, new: pd.DataFrame, fitted: np.ndarray, to: Any) -> None:
        ends[to] = (
            np.quantile(fitted, _QUANTILES, axis=0).T
            if population is None
            else population.predict_quantiles(new, _QUANTILES)
        )

    predicted = _predictions(X, y, plan, estimator, beside, seed, say, _Numbers(), (at, place), interval)
    middle, found = len(COVERAGES), []
    each = {name: answers.reshape(plan.repeats, len(at), -1) for name, answers in predicted.items()}
    ends = ends.reshape(plan.repeats, len(at), -1, 2 * middle)
    for k, truth in enumerate(y[at].reshape(len(at), -1).T):
        own = {name: answers[..., k] for name, answers in each.items()}
        pairs = {one: ends[:, :, k, [middle - 1 - i, middle + i]] for i, one in enumerate(COVERAGES)}
        found.append(HeldOut(truth, own, pairs, at, plan.clusters[at], plan.how, plan.widen))
    return found


def hold_out_classes(
    X: pd.DataFrame,
    y: Int[np.ndarray, " rows"],
    plan: Plan,
    estimator: Any,
    beside: Sequence[str],
    classes: tuple[Any, ...],
    seed: int = 0,
    say: Callable[[str], Any] = lambda text: None,
) -> HeldOutClasses:
    """The same for classes. y: their numbers. estimator: a NetFormerClassifier. beside: of `BESIDE_CLASSES`. classes:
    labels. A class that is not among the rows fitted has probability 0; where these have no usable column or one class,
    every learner answers their shares of classes."""
    at, place = _rows_of(plan)
    predicted = _predictions(X, y, plan, estimator, beside, seed, say, _Classes(classes), (at, place))
    return HeldOutClasses(y[at], predicted, classes, at, plan.clusters[at], plan.how, plan.widen)


def _rows_of(plan: Plan) -> tuple[Int[np.ndarray, " held_out"], Int[np.ndarray, " rows"]]:
    """The rows that are held out, and the place of each row among them, -1 for others."""
    at = np.sort(np.concatenate([part.held_out for part in plan.parts if part.repeat == 0]))
    place = np.full(len(plan.clusters), -1)
    place[at] = np.arange(len(at))
    return at, place


def _predictions(
    X: pd.DataFrame,
    y: np.ndarray,
    plan: Plan,
    estimator: Any,
    beside: Sequence[str],
    seed: int,
    say: Callable[[str], Any],
    kind: _Numbers | _Classes,
    rows: tuple[np.ndarray, np.ndarray],
    also: Callable[..., None] = lambda population, new, fitted, to: None,
) -> dict[str, np.ndarray]:
    """Of every learner what it answers for the rows held out, (repeats, rows, ..). also: is given ours of each part.
    Parts of a small table share the processor's cores, a thread each."""
    at, place = rows
    shape = (plan.repeats, len(at), *np.shape(kind.constant(y)))
    predicted = {name: np.full(shape, np.nan) for name in (*kind.ours, *beside)}

    def answer(part: Part) -> None:
        fitted, new = (X.iloc[rows].reset_index(drop=True) for rows in (part.fitted, part.held_out))
        target, to = y[part.fitted], (part.repeat, place[part.held_out])
        population = _fitted(estimator, fitted, target, kind)
        constant = dict.fromkeys(kind.ours, kind.constant(target))
        for name, answers in (constant if population is None else kind.answers(population, new)).items():
            predicted[name][to] = answers
        also(population, new, target, to)
        for name in beside:
            predicted[name][to] = _beside(kind, name, seed, population is None, fitted, target, new)

    if "catboost" in beside:  # it imports polars, which scikit-learn looks for, and must find whole, in other threads
        import_module("catboost")
    small = X.size <= ONE_THREAD
    workers, threads = (os.cpu_count(), 1) if small else (1, None)
    with warnings.catch_warnings(), threadpool_limits(threads):
        warnings.simplefilter("ignore")  # levels not seen before and cells taken for gaps: both are handled
        # within a thread too: OpenMP counts threads in each anew
        pool = ThreadPoolExecutor(workers, initializer=threadpool_limits, initargs=(threads,))
        try:
            say(f"scoring, {len(plan.parts)} parts")
            answer(plan.parts[0])  # alone: imports what the others need
            for number, _ in enumerate(pool.map(answer, plan.parts[1:]), 2):
                say(f"scoring, part {number} of {len(plan.parts)} done")
        finally:
            pool.shutdown(cancel_futures=True)
    return predicted


def _beside(
    kind: _Numbers | _Classes,
    name: str,
    seed: int,
    nothing: bool,
    fitted: pd.DataFrame,
    target: np.ndarray,
    new: pd.DataFrame,
) -> np.ndarray:
    """What a learner answers for new rows, of several targets one after the other. nothing: whether there is none to be
    learned of these columns."""
    if target.ndim > 1:
        return np.stack([_beside(kind, name, seed, nothing, fitted, own, new) for own in target.T], 1)
    learner = (kind.simplest if nothing or np.ptp(target) == 0 else kind.learners[name][0])(seed)
    return kind.answer_of(learner.fit(fitted, target), new)


def _fitted(estimator: Any, X: pd.DataFrame, y: np.ndarray, kind: _Numbers | _Classes) -> Population | None:
    """The networks for some rows; None where these have no column that can be used, or one class."""
    try:
        return kind.fit(clone(estimator), X, y)
    except InputError:
        if kind.readable(X, y):
            raise
        return None


def cross_validate(
    X: Any,
    y: Any,
    *,
    estimator: Any = None,
    groups: Any = None,
    time: Any = None,
    test: tuple[Any, Any] | None = None,
    beside: Sequence[str] | None = None,
    folds: int = FOLDS,
    repeats: int | None = None,
    random_state: int = 0,
) -> pd.DataFrame:
    """What to expect of `NetFormerRegressor` or `NetFormerClassifier` on new rows, beside other learners on the same
    rows: see `HeldOut.table` and `HeldOutClasses.table`; of several targets a table of each, indexed by target first.

    X, y: as in `fit`. estimator: None for its defaults with `random_state` as seed, of the kind that `labels.task_type`
    says for y: text, categories, truth values and whole numbers that look like codes are classes. Folds are random,
    with copies of a row in one of them (`folds.copies`) and of classes the same shares in all, unless one of these is
    given. groups: (rows,), whole groups are held out. time: (rows,) dates or numbers, later rows are held out, each
    from all before it (`folds.in_time`). test: X and y of rows that are not fitted at all. beside: some of
    `beside.BESIDE` or `BESIDE_CLASSES`, None for all that are installed. folds, repeats: see `folds.in_folds`.

    Raises InputError for what cannot be read or divided, and for more than one of groups, time and test.
    """
    if sum(one is not None for one in (groups, time, test)) > 1:
        raise InputError(
            "groups, time and test exclude each other: each says which rows are held out; give one of them"
        )
    if y is None or np.ndim(y) not in (1, 2):
        raise InputError(f"y must be a column of numbers or labels, or columns of numbers, got {np.ndim(y)} dimensions")
    targets, more_than_one = y, several(y)
    cells = pd.Series() if more_than_one else _series(y)
    if estimator is None:
        of_classes = not more_than_one and task_type(cells) == CLASSIFICATION
    else:
        of_classes = is_classifier(estimator)
    if of_classes and more_than_one:
        raise InputError(f"a target of classes is one column, got y of shape {np.shape(y)}")
    if test is not None and several(test[1]) != more_than_one:
        raise InputError(f"test must have the targets of y, of shape {np.shape(y)}, got {np.shape(test[1])}")
    names = chosen(beside, BESIDE_CLASSES if of_classes else BESIDE)
    codes, classes = _classes(cells, None if test is None else _series(test[1])) if of_classes else (np.zeros(0), ())
    X, y = _table(X), codes[: len(cells)] if of_classes else numeric_target(y)
    check_consistent_length(X, y)
    if test is not None:
        more = _table(test[0])
        truth = codes[len(cells) :] if of_classes else numeric_target(test[1])
        check_consistent_length(more, truth)
        if lacking := [name for name in X.columns if name not in more.columns]:
            raise InputError(f"test must have the columns of X, it lacks {', '.join(map(repr, lacking))}")
        plan = on_test(len(y), len(truth), "test")
        X, y = pd.concat([X, more[X.columns]], ignore_index=True), np.concatenate([y, truth])
    elif time is not None:
        plan = in_time(times_of("time", pd.Series(np.asarray(time))), folds=folds)
    else:
        labels = copies(X, y) if groups is None else groups_of(groups)
        check_consistent_length(X, labels)
        plan = in_folds(labels, folds=folds, repeats=repeats, seed=random_state, classes=y if of_classes else None)
    check_consistent_length(X, plan.clusters)
    if of_classes:
        estimator = NetFormerClassifier(random_state=random_state) if estimator is None else estimator
        return hold_out_classes(X, y, plan, estimator, names, classes, random_state).table()
    estimator = NetFormerRegressor(random_state=random_state) if estimator is None else estimator
    found = [one.table() for one in hold_out(X, y, plan, estimator, names, random_state)]
    return pd.concat(found, keys=target_names(targets), names=["target"]) if more_than_one else found[0]


def _series(y: Any) -> pd.Series:
    """A target as it stands, numbered from 0."""
    y = y.to_pandas() if hasattr(y, "to_pandas") else y
    if isinstance(y, pd.Series):
        return y.reset_index(drop=True)
    return pd.Series(np.asarray(y).ravel() if isinstance(y, np.ndarray | pd.DataFrame) else list(y))


def _classes(cells: pd.Series, more: pd.Series | None) -> tuple[Int[np.ndarray, " rows"], tuple[Label, ...]]:
    """Numbers and labels of the classes of a target, and of more rows that follow it, of a test. Raises InputError for
    gaps and for classes that nothing can be learned of."""
    codes, labels = labels_in("y", cells)
    check_classes("y", codes, labels)
    if more is not None:
        codes, labels = labels_in("y", pd.concat([cells, more], ignore_index=True))
    if (codes < 0).any():
        raise InputError(f"y must hold a label in every row, found a gap in row {int((codes < 0).argmax()) + 1}")
    return codes, labels


def _table(X: Any) -> pd.DataFrame:
    """A table as the command line reads it: what a column is holds for all rows, whichever are fitted."""
    names, cells = cells_of(X)
    check_consistent_length(*cells)
    made = {name: pd.Series(cell).reset_index(drop=True) for name, cell in zip(names, cells, strict=True)}
    return settled(pd.DataFrame(made), Path("X"), MIN_FREQUENCY)[0]
