"""Comparison: rows beside each other over the problems of a set, as medians, means and paired differences.

A row is a method (ours, a control, a baseline, a reference learner); a problem is a table. Every number per problem is
a mean over its runs, so that a standard error over problems counts each table once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from netformer.errors import InputError

if TYPE_CHECKING:  # torch takes a second, and the words of a comparison need none of it
    from netformer.evaluation.scored import Samples

CLEAR = 2.0  # standard errors beyond which a difference is called one
OURS = ("single", "average", "wide")  # rows compared with every other one, without their number of samples
DRAWING = ("drawn", "expected_best", "best_of", "average", "wide", "distilled")  # rows that a sampling seed changes
RATED_AT = "ridge"  # has the rating 1000


class Paired(NamedTuple):
    """`paired`: of a minus b over `n` problems, mean and its standard error; the share of problems a wins."""

    difference: float
    se: float
    wins: float
    n: int


def paired(per_table: pd.DataFrame, a: str, b: str) -> Paired:
    """Column a against column b of a table with a row per problem; problems that lack one of the two are left out.

    Standard error: standard deviation of the differences (n - 1) over sqrt(n). A tie is half a win.

    Raises InputError when fewer than 2 problems are left, which have no standard error.
    """
    both = per_table[[a, b]].dropna()
    if len(both) < 2:
        raise InputError(f"a comparison of {a} and {b} needs at least 2 problems with both, got {len(both)}")
    difference = (both[a] - both[b]).to_numpy()
    wins = np.where(difference == 0, 0.5, difference > 0)
    se = float(difference.std(ddof=1) / np.sqrt(len(difference)))
    return Paired(float(difference.mean()), se, float(wins.mean()), len(difference))


def verdict(difference: float, se: float) -> str:
    """ "ahead" or "behind" for a mean difference of more than `CLEAR` standard errors, else "level"."""
    if abs(difference) <= CLEAR * se or difference == 0:
        return "level"
    return "ahead" if difference > 0 else "behind"


def plain_r2(y: Float[np.ndarray, " rows"], predicted: Float[np.ndarray, " rows"]) -> float:
    """1 - squared error / squared deviation from the mean, without the floor of `tasks.scores.r2`; nan where y is
    constant."""
    size = np.abs(y).max() or 1.0  # no overflow
    y, predicted = y / size, predicted / size
    total = float(np.square(y - y.mean()).sum())
    return 1 - float(np.square(y - predicted).sum()) / total if total > 0 else float("nan")


def base(row: str) -> str:
    """A row without its number of samples: wide of wide_16."""
    name, _, number = row.rpartition("_")
    return name if number.isdigit() else row


def summarize(name: str, values: Float[np.ndarray, " n"]) -> dict[str, float]:
    """Median, interquartile range, mean, count of problems, and how many failed: not finite or at the floor of -1.

    Values that are not finite are counted, and left out of the others.
    """
    finite = values[np.isfinite(values)]
    low, middle, high = np.percentile(finite, [25, 50, 75])
    return {
        name: float(middle),
        f"{name}_iqr": float(high - low),
        f"{name}_mean": float(finite.mean()),
        f"{name}_n_tasks": float(len(values)),
        f"{name}_n_failed": float(len(values) - (finite > -1).sum()),
    }


def per_task_table(samples: Samples, rows: dict[str, Float[np.ndarray, " problems"]]) -> pd.DataFrame:
    """The long table (set, task_id, family, row, test_r2, n_runs), a line per set, row and problem.

    task_id: the table. test_r2: a mean over n_runs, the row splits of the problem or, for a row that is drawn, its
    sampling seeds. A ceiling that is not known is left out.
    """
    from netformer.evaluation.scored import sets_of

    runs, splits = samples.shape[0], samples.splits.tolist()
    return pd.DataFrame(
        [
            {
                "set": name,
                "task_id": samples.tasks[i].table,
                "family": samples.tasks[i].family,
                "row": row,
                "test_r2": float(values[i]),
                "n_runs": runs if base(row) in DRAWING else splits[i],
            }
            for name, members in sets_of(samples.tasks).items()
            for row, values in rows.items()
            for i in members
            if row != "ceiling" or np.isfinite(values[i])
        ]
    )


def zero_shot_metrics(per_task: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The rows of every set in numbers, from the long table of `per_task_table`.

    Keys of a row ROW: ROW, its median test R2 over problems, and ROW_iqr, ROW_mean, ROW_n_tasks, ROW_n_failed, see
    `summarize`. For OUR in single, average_N, wide_N and every other ROW but the ceiling, see `paired`:
    OUR_minus_ROW, the mean difference, OUR_minus_ROW_se, its standard error over problems, and OUR_wins_ROW. Sets of
    one problem have none of these.
    """
    result: dict[str, dict[str, float]] = {}
    for name, group in per_task.groupby("set", sort=True):
        wide = group.pivot(index="task_id", columns="row", values="test_r2")
        values: dict[str, float] = {}
        for row in wide.columns:
            values |= summarize(str(row), wide[row].dropna().to_numpy())
        for ours in (row for row in wide.columns if base(row) in OURS):
            for row in wide.columns.drop([ours, "ceiling"], errors="ignore"):
                if len(wide[[ours, row]].dropna()) > 1:
                    found = paired(wide, ours, row)
                    values |= {f"{ours}_minus_{row}": found.difference, f"{ours}_minus_{row}_se": found.se}
                    values[f"{ours}_wins_{row}"] = found.wins
        result[str(name)] = values
    return result


def rating(per_table: pd.DataFrame) -> dict[str, float]:
    """Elo of every column of a table with a row per problem and test R2 in it, by `bencheval`, the engine of TabArena.

    Every pair of rows plays on every problem; 400 points are odds of 10 to 1, and `RATED_AT` has 1000. ROW_low,
    ROW_high: 95 % interval over 100 bootstraps of the problems (seeded there).
    """
    from bencheval.evaluator import BenchmarkEvaluator

    error = (1 - per_table).rename_axis(index="task").reset_index()
    error = error.melt("task", var_name="method", value_name="metric_error")
    evaluator = BenchmarkEvaluator(columns_to_agg_extra=None)
    found = evaluator.compute_elo(error, calibration_framework=RATED_AT, calibration_elo=1000)
    result: dict[str, float] = {}
    for row, elo, up, down in found[["elo", "elo+", "elo-"]].itertuples():
        result |= {str(row): float(elo), f"{row}_low": float(elo - down), f"{row}_high": float(elo + up)}
    return result
