"""Coverage: how often intervals hold and how wide they are, ours beside split conformal prediction around CatBoost.

Both learn from the rows of a task that are not TEST, at their defaults; the intervals are for `COVERAGE` of new rows.
CatBoost is fitted on three quarters of them, and half the width of its intervals is the conformal quantile of its
absolute errors on the others (Lei et al. 2018, algorithm 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from netformer.generation.estimator import NetFormerRegressor
from netformer.tasks.task import TEST, Task
from netformer.workers import map_parallel

COVERAGE = 0.9
LEAST = 0.8  # of a table's rows, that it is counted whether its intervals hold
OURS, CATBOOST = "netformer", "catboost_split"
HELD_OUT = 4  # every fourth row is held out from CatBoost, for its errors
THIRDS = ("narrow", "middle", "far")  # of the test rows of a task, by the width of their intervals
MEASURED = ["table", "repeat", "method", "covered", "width", "score", *THIRDS]


def measure(tasks: Sequence[Task], workers: int = 1) -> pd.DataFrame:
    """A row per task and method, columns MEASURED.

    covered: share of test rows within their interval, in each third in the columns THIRDS. width: the median, over the
    standard deviation of y on the rows learned from. score: the mean interval score in the same unit, width plus 2 /
    (1 - COVERAGE) times what a row lies outside by (Gneiting and Raftery 2007, eq. 43).
    """
    found = map_parallel(partial(_measured), list(tasks), workers=workers)
    return pd.DataFrame([row for rows in found for row in rows], columns=MEASURED)


def _measured(task: Task) -> list[tuple]:
    test = task.row_split == TEST
    x, y = task.X.astype(np.float64), task.y.astype(np.float64)
    rows = []
    for method, answer in ((OURS, _ours), (CATBOOST, _catboost)):
        ends = answer(x[~test], y[~test], x[test])
        rows.append((task.table, task.repeat, method, *judged(ends, y[test], y[~test].std())))
    return rows


def judged(ends: Float[np.ndarray, "rows 2"], y: Float[np.ndarray, " rows"], unit: float) -> tuple[float, ...]:
    """covered, width, score and the coverage of the thirds, see `measure`; intervals of one width are ranked by row."""
    (low, high), width = ends.T, ends[:, 1] - ends[:, 0]
    inside = (low <= y) & (y <= high)
    outside = np.maximum(low - y, 0) + np.maximum(y - high, 0)
    thirds = np.array_split(np.argsort(width, kind="stable"), len(THIRDS))
    score = float((width + 2 / (1 - COVERAGE) * outside).mean() / unit)
    return float(inside.mean()), float(np.median(width) / unit), score, *(float(inside[part].mean()) for part in thirds)


def _ours(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    return NetFormerRegressor(random_state=0).fit(x, y).predict_interval(new, COVERAGE)


def _catboost(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    from catboost import CatBoostRegressor

    held: Int[np.ndarray, " rows"] = np.random.default_rng(0).permutation(len(y)) % HELD_OUT
    fixed = {"random_seed": 0, "thread_count": 1, "allow_writing_files": False, "verbose": False}
    learner = CatBoostRegressor(**fixed).fit(x[held > 0], y[held > 0])
    errors = np.sort(np.abs(y[held == 0] - learner.predict(x[held == 0])))
    half = errors[min(int(np.ceil((len(errors) + 1) * COVERAGE)), len(errors)) - 1]
    predicted = learner.predict(new)
    return np.stack([predicted - half, predicted + half], 1)


def summary(measured: pd.DataFrame) -> dict[str, float]:
    """Per method, over tables, each the mean over its row splits: METHOD_covered and of the thirds METHOD_narrow ..:
    means; METHOD_tables_held: share with at least LEAST covered; METHOD_width: the median. catboost_minus_ours_score:
    mean difference of the interval scores, and its standard error."""
    tables = measured.groupby(["method", "table"])[MEASURED[3:]].mean()
    found: dict[str, float] = {}
    for method in (OURS, CATBOOST):
        own = tables.loc[method]
        found |= {f"{method}_{name}": float(own[name].mean()) for name in ("covered", *THIRDS)}
        found |= {f"{method}_tables_held": float((own["covered"] >= LEAST).mean())}
        found |= {f"{method}_width": float(own["width"].median())}
    difference = tables.loc[CATBOOST]["score"] - tables.loc[OURS]["score"]
    found["catboost_minus_ours_score"] = float(difference.mean())
    found["catboost_minus_ours_score_se"] = float(difference.std(ddof=1) / len(difference) ** 0.5)
    found["n_tables"] = len(difference)
    return found
