"""Task: one data set to be solved, its target a number or a class, and the split of its rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from netformer.errors import InputError

TRAIN, VALID, TEST, PAD = 0, 1, 2, -1
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Task:
    """One data set under one split of its rows.

    table: name of the data set; tasks of one table differ in their row split alone, counted by `repeat` from 0. Empty:
    the task is the only one of its table, which then bears its name. split: which tasks may learn from it (train,
    valid, test). row_split: TRAIN, VALID or TEST for each row. ceiling: test R2 of the noiseless function where it is
    known, else nan.
    """

    task_id: str
    source: str
    family: str
    split: str
    X: Float[np.ndarray, "rows features"]
    y: Float[np.ndarray, " rows"]
    row_split: Int[np.ndarray, " rows"]
    ceiling: float = float("nan")
    table: str = ""
    repeat: int = 0

    def __post_init__(self) -> None:
        if not self.table:
            object.__setattr__(self, "table", self.task_id)


@dataclass(frozen=True)
class ClassTask:
    """One data set whose target is a class, under one split of its rows.

    way: how the classes were made, of `tasks.classes.WAYS`. codes: class of each row, from 0; every class has at least
    two of the TRAIN rows. probabilities: true ones of all classes. The rest: as in `Task`.
    """

    task_id: str
    source: str
    family: str
    way: str
    split: str
    X: Float[np.ndarray, "rows features"]
    codes: Int[np.ndarray, " rows"]
    probabilities: Float[np.ndarray, "rows classes"]
    row_split: Int[np.ndarray, " rows"]

    @property
    def n_classes(self) -> int:
        """Classes of the task, 2 or more."""
        return self.probabilities.shape[1]

    @property
    def n_outputs(self) -> int:
        """Outputs of a network for the task: one for two classes, else one for each."""
        k = self.probabilities.shape[1]
        return k if k > 2 else 1


def split_rows(n_rows: int, rng: np.random.Generator, train: float = 0.6, valid: float = 0.2) -> np.ndarray:
    """Random row split with exact shares, at least one row in each part.

    Raises InputError when there are fewer than 3 rows.
    """
    if n_rows < 3:
        raise InputError(f"a task needs at least 3 rows (train, valid, test), got {n_rows}")
    n_train = min(max(1, round(train * n_rows)), n_rows - 2)
    n_valid = min(max(1, round(valid * n_rows)), n_rows - n_train - 1)
    codes = np.full(n_rows, TEST, dtype=np.int8)
    codes[:n_train] = TRAIN
    codes[n_train : n_train + n_valid] = VALID
    return rng.permutation(codes)


def class_order(codes: Int[np.ndarray, " rows"], n_classes: int) -> Int[np.ndarray, " classes"]:
    """Classes in an order that their numbers do not enter: those of most rows first, equals by where their rows are."""
    at = np.arange(len(codes), dtype=np.float64)
    return np.lexsort((np.bincount(codes, at, n_classes), -np.bincount(codes, minlength=n_classes)))
