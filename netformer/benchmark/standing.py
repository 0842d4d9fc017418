"""Standing: ours and the learners on mixed tables, scores per table and row split, and what they come to."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from netformer.benchmark import learners
from netformer.benchmark.learners import METHODS, fit_predict
from netformer.benchmark.mixed import MixedTable
from netformer.errors import InputError
from netformer.files import code_digest
from netformer.generation.estimator import NetFormerRegressor
from netformer.tasks.scores import r2
from netformer.tasks.task import TEST
from netformer.workers import map_parallel

OURS = "wide_16"  # what the estimator predicts with: 16 networks merged
SMALL = 1000  # rows, and more: not a small table
SETS = ("mixed_tables", "mixed_tables_small")
LIBRARIES = ("scikit-learn", "catboost", "skrub", "pandas")
SCORES = ["task_id", "row", "repeat", "test_r2"]


def reference_key(table: MixedTable) -> str:
    """What decides the scores of the learners: the table and its splits, their code, the versions of the libraries."""
    decided = [table.digest(), code_digest([Path(learners.__file__)]), *(f"{n} {version(n)}" for n in LIBRARIES)]
    return hashlib.sha256("\n".join(decided).encode()).hexdigest()


def reference_scores(table: MixedTable, workers: int = 1) -> pd.DataFrame:
    """Test R2 of every learner of `METHODS` on every row split: columns SCORES and key, that of `reference_key`."""
    jobs = [(row, repeat) for row in METHODS for repeat in range(len(table.splits))]
    found = map_parallel(partial(_reference, table), jobs, workers=workers)
    facts = [(table.name, *job, value) for job, value in zip(jobs, found, strict=True)]
    return pd.DataFrame(facts, columns=SCORES).assign(key=reference_key(table))


def _reference(table: MixedTable, job: tuple[str, int]) -> float:
    codes = table.splits[job[1]]
    return r2_on_test(table.y, fit_predict(job[0], table.typed(), table.y, codes), codes)


def own_scores(tables: Sequence[MixedTable], workers: int = 1) -> pd.DataFrame:
    """Test R2 of `NetFormerRegressor()` on every row split, fitted on the raw columns of all rows that are not TEST.

    Columns: SCORES, the row is `OURS`. Raises InputError, with the table's name, for one that it does not
    read.
    """
    jobs = [(table, repeat) for table in tables for repeat in range(len(table.splits))]
    found = map_parallel(_own, jobs, workers=workers)
    facts = [(table.name, OURS, repeat, value) for (table, repeat), value in zip(jobs, found, strict=True)]
    return pd.DataFrame(facts, columns=SCORES)


def _own(job: tuple[MixedTable, int]) -> float:
    table, codes = job[0], job[0].splits[job[1]]
    test = codes == TEST
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # cells taken for gaps
            fitted = NetFormerRegressor(random_state=0).fit(table.X[~test], table.y[~test])
            predicted = np.asarray(fitted.predict(table.X[test]), dtype=np.float64)
    except InputError as error:
        raise InputError(f"{table.name}: {error}") from None
    return r2_on_test(table.y, predicted, codes)


def r2_on_test(
    y: Float[np.ndarray, " rows"], predicted: Float[np.ndarray, " test"], codes: Int[np.ndarray, " rows"]
) -> float:
    """R2 of `tasks.scores.r2` on the TEST rows, floored at -1; predicted: for these alone."""
    of = torch.from_numpy(y[codes == TEST])[None]
    return float(r2(of, torch.from_numpy(predicted)[None], torch.ones_like(of, dtype=torch.bool)))


def over_splits(scores: pd.DataFrame, tables: Sequence[MixedTable]) -> pd.DataFrame:
    """The long table of `evaluation.comparison`: set, task_id (the table), family, row, test_r2 (the mean over row
    splits), n_runs (their number). Tables of fewer than `SMALL` rows are in both `SETS`, the others in the first."""
    groups = scores.groupby(["task_id", "row"], sort=False)["test_r2"]
    long = groups.mean().to_frame().assign(n_runs=groups.size()).reset_index()
    long["family"] = long["task_id"].str.partition("-")[0]
    small = long["task_id"].isin([table.name for table in tables if len(table.y) < SMALL])
    every = pd.concat([long.assign(set=SETS[0]), long[small].assign(set=SETS[1])], ignore_index=True)
    return every[["set", "task_id", "family", "row", "test_r2", "n_runs"]]
