"""References: ready-made learners that ours is compared with in the report on the package's weights.

They read every column of the raw table, not the canonical view. Fits read train rows alone; valid rows choose the
configuration of a grid and when boosting stops; nothing is refitted, test rows only report.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from netformer.errors import InputError
from netformer.tasks.scores import r2
from netformer.tasks.task import TEST, TRAIN, VALID, Task
from netformer.workers import map_parallel

TIMED_ROWS = 1000
Rows = tuple[np.ndarray, np.ndarray]
Grid = list[tuple[Any, dict[str, Any]]]


def _svr(seed: int, valid: Rows) -> Grid:
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVR

    features = valid[0].shape[1]
    grid = [(c, gamma / features) for c in (0.3, 1.0, 10.0, 100.0) for gamma in (0.1, 0.3, 1.0)]
    learners = [make_pipeline(StandardScaler(), SVR(C=c, gamma=gamma)) for c, gamma in grid]
    return [(TransformedTargetRegressor(learner, transformer=StandardScaler()), {}) for learner in learners]


def _hgb(seed: int, valid: Rows) -> Grid:
    from sklearn.ensemble import HistGradientBoostingRegressor

    default = {"learning_rate": 0.1, "max_iter": 100, "early_stopping": False}
    slow = {"learning_rate": 0.05, "max_iter": 500, "early_stopping": True, "n_iter_no_change": 20}
    return [
        (HistGradientBoostingRegressor(min_samples_leaf=leaf, random_state=seed, **rate), watched)
        for rate, watched in ((default, {}), (slow, {"X_val": valid[0], "y_val": valid[1]}))
        for leaf in (20, 5)
    ]


def _forest(kind: str, seed: int, valid: Rows) -> Grid:
    from sklearn import ensemble

    fixed = {"n_estimators": 300, "n_jobs": 1, "random_state": seed}
    grid = [{"max_features": part, "min_samples_leaf": leaf} for part in (1.0, 1 / 3) for leaf in (1, 5)]
    return [(getattr(ensemble, kind)(**fixed, **options), {}) for options in grid]


def _catboost(seed: int, valid: Rows) -> Grid:
    from catboost import CatBoostRegressor

    fixed = {"iterations": 500, "random_seed": seed, "thread_count": 1, "allow_writing_files": False, "verbose": False}
    watched = {"eval_set": valid, "use_best_model": True}
    return [(CatBoostRegressor(depth=depth, **fixed), watched) for depth in (6, 4)]


# name: (seed, (x, y) of the valid rows) -> the grid, as estimators with further arguments of their `fit`.
REFERENCES: dict[str, Callable[[int, Rows], Grid]] = {
    "svr": _svr,
    "hgb": _hgb,
    "rf": partial(_forest, "RandomForestRegressor"),
    "extratrees": partial(_forest, "ExtraTreesRegressor"),
    "catboost": _catboost,
}


def fit_reference(
    name: str, tasks: Sequence[Task], *, workers: int = 1, seed: int = 0
) -> tuple[list[Float[np.ndarray, " _"]], Float[np.ndarray, " t"], Float[np.ndarray, " t"]]:
    """Predictions for every row of each task in the units of its y, seconds to fit, seconds to predict 1,000 rows.

    Seconds are wall time of the chosen configuration, one thread; predictions do not depend on `workers`. Raises
    InputError for an unknown name and for a task without train or valid rows.
    """
    if name not in REFERENCES:
        raise InputError(f"name must be one of {', '.join(REFERENCES)}, got {name!r}")
    for task in tasks:
        for code, rows in ((TRAIN, "train"), (VALID, "valid")):
            if not (task.row_split == code).any():
                raise InputError(f"task {task.task_id!r} must have {rows} rows, found none; split it with split_rows")
    done = map_parallel(partial(_fit, name, seed), tasks, workers=workers)
    fit, predict = np.array([[a, b] for _, a, b in done], dtype=np.float64).reshape(-1, 2).T
    return [predicted for predicted, _, _ in done], fit, predict


def _fit(name: str, seed: int, task: Task) -> tuple[Float[np.ndarray, " n"], float, float]:
    """Predictions of the configuration best on valid rows (ties: the first), its seconds to fit and to predict."""
    from sklearn.dummy import DummyRegressor

    x, y = task.X.astype(np.float64), task.y.astype(np.float64)
    train, valid = task.row_split == TRAIN, task.row_split == VALID
    grid = REFERENCES[name](seed, (x[valid], y[valid]))
    if np.ptp(y[train]) == 0 or not np.ptp(x[train].astype(np.float32), axis=0).any():
        grid = [(DummyRegressor(), {})]  # nothing to learn, which CatBoost refuses
    best: Any = None
    least, seconds = np.inf, 0.0
    for learner, watched in grid:
        start = time.perf_counter()
        learner.fit(x[train], y[train], **watched)
        taken = time.perf_counter() - start
        error = float(np.square(learner.predict(x[valid]) - y[valid]).sum())
        if best is None or error < least:
            best, least, seconds = learner, error, taken
    predicted = np.asarray(best.predict(x), dtype=np.float64)
    tiled = np.resize(x, (TIMED_ROWS, x.shape[1]))
    start = time.perf_counter()
    best.predict(tiled)
    return predicted, seconds, time.perf_counter() - start


def reference_scores(
    tasks: Sequence[Task],
    *,
    workers: int = 1,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> pd.DataFrame:
    """The long table (task_id, row, test_r2, fit_seconds, predict_seconds): a row for each learner and task.

    test_r2 is that of `tasks.scores.r2`, floored at -1. The seconds are wall time: never the output of a stage.
    """
    parts = []
    for done, name in enumerate(REFERENCES, 1):
        predicted, fit, predict = fit_reference(name, tasks, workers=workers, seed=seed)
        part = pd.DataFrame({"task_id": [task.task_id for task in tasks], "row": name})
        part["test_r2"] = [_test_r2(task, values) for task, values in zip(tasks, predicted, strict=True)]
        parts.append(part.assign(fit_seconds=fit, predict_seconds=predict))
        progress(done, len(REFERENCES))
    return pd.concat(parts, ignore_index=True)


def _test_r2(task: Task, predicted: Float[np.ndarray, " n"]) -> float:
    y, keep = torch.from_numpy(task.y.astype(np.float64)), torch.from_numpy(task.row_split == TEST)
    return float(r2(y[None], torch.from_numpy(predicted)[None], keep[None]))
