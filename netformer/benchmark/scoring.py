"""Scores: what to expect of networks on rows they were not fitted on, beside other learners on the same rows.

Every score is of all held-out rows together, and every standard error over them (over their groups, where rows depend
on each other), by the delta method: with e the error of a row, d its distance from the mean of all,

    R2 = 1 - mean e^2 / mean d^2        error of a row: (mean e^2 / mean d^2 d^2 - e^2) / mean d^2
    RMSE = sqrt(mean e^2)               error of a row: (e^2 - mean e^2) / 2 RMSE
    MAE = mean |e|

Of repeated folds e^2 and |e| of a row are means over repeats, RMSE is the root of the mean. The difference of two R2
has the error of the differences per row: learners err on the same rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from sklearn.base import clone
from sklearn.utils.validation import check_consistent_length
from threadpoolctl import threadpool_limits

from netformer.benchmark.beside import BESIDE, ONE_THREAD, chosen, constant
from netformer.benchmark.folds import (
    FOLDS,
    Plan,
    cluster_error,
    copies,
    groups_of,
    in_folds,
    in_time,
    on_test,
    times_of,
)
from netformer.errors import InputError
from netformer.evaluation.comparison import verdict
from netformer.generation.estimator import NetFormerRegressor, numeric_target
from netformer.tables.columns import MIN_FREQUENCY, cells_of
from netformer.tables.intake import settled
from netformer.tables.reading import read

if TYPE_CHECKING:
    from netformer.exports.population import Population

OURS, ONE = "wide", "single"  # rows of ours: all networks merged, and the one expected to be the best
COVERAGES = (0.5, 0.8, 0.9, 0.95)  # of the intervals that are looked at
_QUANTILES = np.array([(1 - one) / 2 for one in COVERAGES[::-1]] + [(1 + one) / 2 for one in COVERAGES])
WHAT = {
    OURS: "all networks merged into one",
    ONE: "the one network with the best expected R2, which is estimated on the rows fitted",
}


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Predictions for rows that were not fitted.

    y: (rows,) their target. predicted: of each row of the table of scores (repeats, rows). ends: for each of
    `COVERAGES` the interval of `OURS`, (repeats, rows, 2). rows: their positions in the table. clusters, how, widen:
    see `folds.Plan`; of these rows alone.
    """

    y: Float[np.ndarray, " rows"]
    predicted: dict[str, Float[np.ndarray, "repeats rows"]]
    ends: dict[float, Float[np.ndarray, "repeats rows 2"]]
    rows: Int[np.ndarray, " rows"]
    clusters: Int[np.ndarray, " rows"]
    how: str
    widen: float = 1.0

    def error(self, influence: Float[np.ndarray, " rows"]) -> float:
        """Standard error of a mean over rows."""
        return self.widen * cluster_error(influence, self.clusters)

    def table(self) -> pd.DataFrame:
        """The scores, best first: index the method; columns r2, mae, rmse and their standard errors r2_se, mae_se,
        rmse_se (mae and rmse in units of the target); r2_minus and r2_minus_se, what the R2 of `OURS` is more than that
        of the row; standing, what `OURS` is against the row: ahead, behind or level, which is below two standard
        errors. Of a target that does not vary on these rows R2 is nan."""
        unit = float(np.abs(self.y).max()) or 1.0  # no overflow
        sizes = {name: np.abs(one - self.y) / unit for name, one in self.predicted.items()}
        squares = {name: np.square(one).mean(0) for name, one in sizes.items()}
        r2 = {name: _r2(one, np.square(self.y / unit - (self.y / unit).mean())) for name, one in squares.items()}
        rows: dict[str, dict[str, Any]] = {}
        for name, square in squares.items():
            rmse, size = float(np.sqrt(square.mean())), sizes[name].mean(0)
            rows[name] = {
                "r2": r2[name][0],
                "r2_se": self.error(r2[name][1]),
                "mae": unit * float(size.mean()),
                "mae_se": unit * self.error(size),
                "rmse": unit * rmse,
                "rmse_se": unit * self.error(square) / (2 * rmse) if rmse > 0 else 0.0,
                "r2_minus": r2[OURS][0] - r2[name][0],
                "r2_minus_se": self.error(r2[OURS][1] - r2[name][1]),
            }
            one = rows[name]
            known = name != OURS and np.isfinite(one["r2_minus"])
            one["standing"] = verdict(one["r2_minus"], one["r2_minus_se"]) if known else ""
        return pd.DataFrame.from_dict(rows, "index").rename_axis("method").sort_values("rmse", kind="stable")

    def coverage(self) -> pd.DataFrame:
        """Of each of `COVERAGES` as index: within, the share of rows inside their interval; within_se, its standard
        error; width, the median, in units of the target."""
        found = {}
        for coverage, ends in self.ends.items():
            inside = ((ends[..., 0] <= self.y) & (self.y <= ends[..., 1])).mean(0)
            width = float(np.median(ends[..., 1] - ends[..., 0]))
            found[coverage] = (float(inside.mean()), self.error(inside), width)
        return pd.DataFrame.from_dict(found, "index", columns=["within", "within_se", "width"]).rename_axis("coverage")


def _r2(
    square: Float[np.ndarray, " rows"], distance: Float[np.ndarray, " rows"]
) -> tuple[float, Float[np.ndarray, " rows"]]:
    """R2 from squared errors and squared distances from the mean, and what each row adds to its error; nan where there
    is no distance."""
    total = float(distance.mean())
    if total == 0:
        return float("nan"), np.full(len(square), np.nan)
    ratio = float(square.mean()) / total
    return 1 - ratio, (ratio * distance - square) / total


def hold_out(
    X: pd.DataFrame,
    y: Float[np.ndarray, " rows"],
    plan: Plan,
    estimator: NetFormerRegressor,
    beside: Sequence[str],
    seed: int = 0,
    say: Callable[[str], Any] = lambda text: None,
) -> HeldOut:
    """Fit on the rows of each part of a plan, predict those held out.

    estimator: fitted as a clone in every part. beside: of `BESIDE`. say: is given a line of progress. A learner sees
    of the rows held out their features alone, and these only to predict. Where the rows fitted have no usable column
    or one target, every learner answers their mean.
    """
    names = [OURS, ONE, *beside]
    at = np.sort(np.concatenate([part.held_out for part in plan.parts if part.repeat == 0]))
    place = np.full(len(y), -1)
    place[at] = np.arange(len(at))
    predicted = {name: np.full((plan.repeats, len(at)), np.nan) for name in names}
    ends = np.full((plan.repeats, len(at), 2 * len(COVERAGES)), np.nan)
    for number, (repeat, rows, held) in enumerate(plan.parts, 1):
        fitted, target, new = X.iloc[rows].reset_index(drop=True), y[rows], X.iloc[held].reset_index(drop=True)
        said, to = f"scoring, part {number} of {len(plan.parts)}: ", (repeat, place[held])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # levels not seen before and cells taken for gaps: both are handled
            say(said + OURS)
            population = _fitted(estimator, fitted, target)
            if population is None:
                predicted[OURS][to] = predicted[ONE][to] = target.mean()
                ends[to] = np.quantile(target, _QUANTILES)
            else:
                predicted[OURS][to] = population.predict(new)
                predicted[ONE][to] = population.predict(new, int(np.asarray(population.expected_r2).argmax()))
                ends[to] = population.predict_quantiles(new, _QUANTILES)
            for name in beside:
                say(said + name)
                nothing = population is None or np.ptp(target) == 0
                learner = constant(seed) if nothing else BESIDE[name][0](seed)
                with threadpool_limits(1 if X.size <= ONE_THREAD else None):
                    predicted[name][to] = learner.fit(fitted, target).predict(new)
    k = len(COVERAGES)
    intervals = {coverage: ends[..., [k - 1 - i, k + i]] for i, coverage in enumerate(COVERAGES)}
    return HeldOut(y[at], predicted, intervals, at, plan.clusters[at], plan.how, plan.widen)


def _fitted(estimator: NetFormerRegressor, X: pd.DataFrame, y: Float[np.ndarray, " rows"]) -> Population | None:
    """The networks for some rows; None where these have no column that can be used."""
    try:
        return clone(estimator).fit(X, y).network_
    except InputError:
        try:
            read(X, y)
        except InputError:
            return None
        raise


def cross_validate(
    X: Any,
    y: Any,
    *,
    estimator: NetFormerRegressor | None = None,
    groups: Any = None,
    time: Any = None,
    test: tuple[Any, Any] | None = None,
    beside: Sequence[str] | None = None,
    folds: int = FOLDS,
    repeats: int | None = None,
    random_state: int = 0,
) -> pd.DataFrame:
    """What to expect of `NetFormerRegressor` on new rows, beside other learners on the same rows: see `HeldOut.table`.

    X, y: as in `NetFormerRegressor.fit`. estimator: None for its defaults with `random_state` as seed. Folds are
    random, with copies of a row in one of them (`folds.copies`), unless one of these is given. groups: (rows,), whole
    groups are held out. time: (rows,) dates or numbers, later rows are held out, each from all before it
    (`folds.in_time`). test: X and y of rows that are not fitted at all. beside: some of `beside.BESIDE`, None for all
    that are installed. folds, repeats: see `folds.in_folds`.

    Raises InputError for what cannot be read or divided, and for more than one of groups, time and test.
    """
    if sum(one is not None for one in (groups, time, test)) > 1:
        raise InputError("groups, time and test say each alone what is held out; give one of them")
    names = chosen(beside)
    X, y = _table(X, y)
    if test is not None:
        more, truth = _table(*test)
        if lacking := [name for name in X.columns if name not in more.columns]:
            raise InputError(f"test must have the columns of X, it lacks {', '.join(map(repr, lacking))}")
        plan = on_test(len(y), len(truth), "test")
        X, y = pd.concat([X, more[X.columns]], ignore_index=True), np.concatenate([y, truth])
    elif time is not None:
        plan = in_time(times_of("time", pd.Series(np.asarray(time))), folds=folds)
    else:
        labels = copies(X, y) if groups is None else groups_of(groups)
        plan = in_folds(labels, folds=folds, repeats=repeats, seed=random_state)
    check_consistent_length(X, plan.clusters)
    estimator = NetFormerRegressor(random_state=random_state) if estimator is None else estimator
    return hold_out(X, y, plan, estimator, names, random_state).table()


def _table(X: Any, y: Any) -> tuple[pd.DataFrame, Float[np.ndarray, " rows"]]:
    """A table as the command line reads it: what a column is holds for all rows, whichever are fitted."""
    y = numeric_target(y)
    names, cells = cells_of(X)
    check_consistent_length(*cells, y)
    made = {name: pd.Series(cell).reset_index(drop=True) for name, cell in zip(names, cells, strict=True)}
    return settled(pd.DataFrame(made), Path("X"), MIN_FREQUENCY)[0], y
