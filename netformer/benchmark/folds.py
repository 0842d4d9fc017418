"""Folds: which rows of a table are held out when, so that a score says what to expect of new ones.

New rows may be like those of the table (random folds), of groups that were never seen (folds of whole groups), later
than all of them (parts in order of time, each by what lies before it), or a table of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from netformer.errors import InputError
from netformer.tables.columns import column_of

FOLDS = 5
SMALL, MOST_REPEATS = 400, 5  # rows, below which folds are drawn again, and times that they are drawn at most
LATER = 1 / 3  # of the rows in order of time is held out


class Part(NamedTuple):
    """Rows to fit and rows to predict, as positions. repeat: number of the drawing it belongs to, from 0."""

    repeat: int
    fitted: Int[np.ndarray, " fitted"]
    held_out: Int[np.ndarray, " held_out"]


@dataclass(frozen=True, eq=False)
class Plan:
    """parts: in each repeat a row is held out at most once, and the same rows in all. clusters: (rows,) a number per
    row; rows of one number are not independent of each other, which standard errors respect. how: in words. widen:
    what a standard error over rows is multiplied by, see `in_folds`."""

    parts: list[Part]
    clusters: Int[np.ndarray, " rows"]
    how: str
    widen: float = 1.0

    @property
    def repeats(self) -> int:
        """How often each row is held out."""
        return 1 + max(part.repeat for part in self.parts)


def in_folds(
    labels: Int[np.ndarray, " rows"],
    *,
    folds: int = FOLDS,
    repeats: int | None = None,
    seed: int = 0,
    of: str = "",
    classes: Int[np.ndarray, " rows"] | None = None,
) -> Plan:
    """Random folds of nearly equal size; rows of one label share a fold. classes: of the target, a number per row;
    folds then have nearly equal shares of each.

    folds: at least 2, at most as many as there are labels. repeats: how often folds are drawn; None: once, of fewer
    than `SMALL` rows up to `MOST_REPEATS` times. of: the name of what the labels are, for `Plan.how`.

    Rows are fitted and held out in turn, so that the errors of two folds depend on each other, and an error over rows
    is too small by about sqrt(1 + folds * held out / fitted) (Nadeau and Bengio, "Inference for the generalization
    error", Machine Learning 52, 2003): `Plan.widen`, 1.5 for 5 folds.
    Raises InputError for a single label, folds below 2 and repeats below 1.
    """
    rows = len(labels)
    known, label = np.unique(labels, return_inverse=True)
    if len(known) < 2:
        raise InputError(f"groups must be at least 2, found one in all {rows} rows; choose another column")
    for name, value, least in (("folds", folds, 2), ("repeats", repeats, 1)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
            raise InputError(f"{name} must be a whole number of at least {least}, got {value!r}")
    folds = min(folds, len(known))
    times = min(MOST_REPEATS, -(-SMALL // rows)) if repeats is None else repeats
    parts, rng = [], np.random.default_rng(seed)
    for repeat in range(times):
        if classes is None:
            fold = _dealt(np.bincount(label), folds, rng)[label]
        else:
            fold = _dealt_by_class(label, classes, folds, rng)[label]
        parts += [Part(repeat, np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(folds)]
    how = f"{folds}-fold cross-validation" + " stratified by class" * (classes is not None)
    how += f", {times} times" * (times > 1)
    how += f", {len(known)} groups of {of!r}" if of else ", copies of a row in one fold" * (len(known) < rows)
    return Plan(parts, label, how, (1 + folds / (folds - 1)) ** 0.5)


def _dealt(sizes: Int[np.ndarray, " labels"], folds: int, rng: np.random.Generator) -> Int[np.ndarray, " labels"]:
    """A fold for every label: the largest first, each to the fold with the fewest rows, in random order."""
    order = rng.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    fold, full = np.zeros(len(sizes), np.int64), np.zeros(folds, np.int64)
    for label in order:
        fold[label] = full.argmin()
        full[fold[label]] += sizes[label]
    return fold


def _dealt_by_class(
    label: Int[np.ndarray, " rows"], classes: Int[np.ndarray, " rows"], folds: int, rng: np.random.Generator
) -> Int[np.ndarray, " labels"]:
    """A fold for every label: the largest first, in random order, each to the fold that has least of its classes, as
    shares of each class (of one class: the fewest rows of it); of equals to the one with the fewest rows."""
    k, sizes, whole = int(classes.max()) + 1, np.bincount(label), np.bincount(classes).tolist()
    pairs, counts = np.unique(label * k + classes, return_counts=True)
    own: list[list[tuple[int, int]]] = [[] for _ in sizes]  # of every label its classes, and rows of each
    for pair, rows in zip(pairs.tolist(), counts.tolist(), strict=True):
        own[pair // k].append((pair % k, rows))
    order = rng.permutation(len(sizes))
    fold, filled, full = np.zeros(len(sizes), np.int64), [[0] * k for _ in range(folds)], [0] * folds
    for one in order[np.argsort(-sizes[order], kind="stable")].tolist():
        shares = [sum(part[c] * rows / whole[c] for c, rows in own[one]) for part in filled]
        best = min(range(folds), key=lambda at: (round(shares[at], 12), full[at]))
        fold[one] = best
        for c, rows in own[one]:
            filled[best][c] += rows
            full[best] += rows
    return fold


def in_time(times: Float[np.ndarray, " rows"], *, folds: int = FOLDS, of: str = "") -> Plan:
    """The last third of the rows in order of time, in `folds` parts; each is predicted from all rows before it.

    Rows of one time stay together. Neighbours count as dependent in blocks of as many rows as there are blocks.
    of: name of the column, empty for the order of rows. Raises InputError for times that are all the same.
    """
    rows = len(times)
    order = np.argsort(times, kind="stable")
    ordered = times[order]
    edges = np.linspace(rows * (1 - LATER), rows, folds + 1).round().astype(int)
    starts = np.searchsorted(ordered, ordered[np.minimum(edges[:-1], rows - 1)])
    starts = np.unique(starts[starts > 0])
    if not len(starts):
        where = f"all rows to be held out{of and f' ({of})'}"
        raise InputError(f"rows must differ in time, found one time in {where}; choose another column")
    ends = [*starts[1:], rows]
    parts = [Part(0, order[:start], order[start:end]) for start, end in zip(starts, ends, strict=True)]
    held_out = rows - int(starts[0])
    clusters = np.zeros(rows, np.int64)
    clusters[order[starts[0] :]] = np.arange(held_out) // max(1, round(held_out**0.5))
    how = f"the last {held_out} rows{of and f' by {of!r}'}, in {len(parts)} parts, each from all rows before it"
    return Plan(parts, clusters, how)


def on_test(rows: int, test_rows: int, of: str) -> Plan:
    """Rows of a table of their own, that follow those to fit. of: its name."""
    part = Part(0, np.arange(rows), rows + np.arange(test_rows))
    return Plan([part], np.arange(rows + test_rows), f"the {test_rows} rows of {of}")


def copies(X: pd.DataFrame, y: np.ndarray) -> Int[np.ndarray, " rows"]:
    """A number per row; rows that are copies of each other share one. y: (rows,) numbers, of values or of classes, or
    (rows, targets).

    Rows are copies if they are the same in every column and in the target, unless others that are the same in every
    column differ in the target: those are measured more than once, not copied.
    """
    try:
        hashed = pd.util.hash_pandas_object(X.set_axis(range(X.shape[1]), axis=1), index=False)
    except TypeError:  # lists cannot be compared
        return np.arange(len(X))
    if y.ndim > 1:
        y = np.unique(y, axis=0, return_inverse=True)[1].ravel()
    groups = pd.DataFrame({"row": hashed.to_numpy(), "y": y}).groupby("row", sort=False)
    same = groups["y"].transform("nunique").to_numpy() == 1
    return np.where(same, groups.ngroup().to_numpy(), len(X) + np.arange(len(X)))


def times_of(name: str, cells: pd.Series) -> Float[np.ndarray, " rows"]:
    """A column of dates or numbers as an order. Raises InputError for other columns and for gaps."""
    try:
        column, values = column_of(name, cells)
        kind = column.kind
    except InputError:
        kind = "text"
    if kind not in ("date", "number"):
        raise InputError(f"time must be a column of dates or numbers, {name!r} holds text; choose another column")
    if np.isnan(values).any():
        row = int(np.isnan(values).argmax())
        raise InputError(f"time must be known in every row, {name!r} is not in row {row + 1}; drop such rows")
    return values


def groups_of(cells: Any) -> Int[np.ndarray, " rows"]:
    """A number per group; gaps are a group of their own."""
    codes, _ = pd.factorize(np.asarray(cells, dtype=object), use_na_sentinel=False)
    return codes.astype(np.int64)


def cluster_error(influence: Float[np.ndarray, " rows"], clusters: Sequence[int] | np.ndarray) -> float:
    """Standard error of the mean of `influence` over rows, of which those of a cluster depend on each other (Liang and
    Zeger 1986); nan for one cluster. With every row on its own: standard deviation (n - 1) over
    sqrt(n)."""
    _, label = np.unique(clusters, return_inverse=True)
    sums = np.bincount(label, influence - influence.mean())
    count = len(sums)
    return float(np.sqrt(count / (count - 1) * np.square(sums).sum())) / len(influence) if count > 1 else float("nan")
