"""Inputs: the numbers a network reads of a table, and what each column gives.

    number    its value; an indicator of gaps where that helps; where its values act as codes (a district, a firm) also
              the mean of the target for its value
    date      seconds since 1970, and sine and cosine of the year, the week and the day where they help
    category  its rank if it is ordered; up to `MOST_SHOWN` levels: a 0/1 input for each; more: the mean of the target
              for its level, and the logarithm of the level's count where that helps

A level that stands in fewer than `MIN_FREQUENCY` of the rows fitted, or as many as are asked for, is not kept: its
cells are those of any other level, also in the rows fitted. So no level tells of one row.

Whether something helps is decided on the rows fitted, by leave-one-out. A mean of the target is shrunk to that of all
rows, by the variance within levels over that between them (Micci-Barreca 2001, eq. 5), and the rows fitted get the mean
of the other `FOLDS` - 1 folds: one that knew a row's own target would be believed too much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from netformer.tables.columns import MIN_FREQUENCY, Column, stand_ins, together
from netformer.tables.scaling import center_and_scale, standard

MOST_SHOWN = 10  # levels of a category that get an input each
LEAST_ROWS = 3  # of a level that gets one
CODE_LEVELS, CODE_ROWS = (3, 60), 5  # how many values codes take, and rows a value at least, in the mean
CODES = 2.0  # standard errors by which codes must be better than a smooth curve
FOLDS = 5
KINDS = ("value", "level", "mean", "missing", "other")  # of inputs, as the model hears of them
PERIODS = {"year": 365.2425 * 86400.0, "week": 7 * 86400.0, "day": 86400.0}
TELLING = 0.999  # R2 by leave-one-out of one column alone, above which it looks like the target itself
LEAST_PERIODS = {"year": 0.5, "week": 2.0, "day": 2.0}  # that the dates must span


@dataclass(frozen=True)
class Input:
    """One number a network reads.

    column: which column it is made of. part: value; missing, 1 for a gap; level, rank, mean, count: `values` of the
    cell's position in the column's levels, the last one for any other cell; sin, cos: of 2 pi value / period. period:
    seconds.
    """

    column: int
    part: str
    values: tuple[float, ...] = ()
    period: float = 0.0

    @property
    def kind(self) -> str:
        """One of `KINDS`."""
        return self.part if self.part in KINDS else "other"

    def name(self, column: Column) -> str:
        """Its name for people: age, age missing, sex = male, street (mean), date (year, sin)."""
        if self.part == "value":
            return column.name
        if self.part == "level":
            return f"{column.name} = {column.levels[int(np.argmax(self.values))] or 'missing'}"
        if self.part in ("sin", "cos"):
            period = next(name for name, seconds in PERIODS.items() if seconds == self.period)
            return f"{column.name} ({period}, {self.part})"
        return f"{column.name} missing" if self.part == "missing" else f"{column.name} ({self.part})"

    def of(self, column: Column, cells: np.ndarray, codes: np.ndarray | None) -> Float[np.ndarray, " rows"]:
        """The input for values (number, date; gaps nan) or codes of the column; codes: needed for a lookup."""
        if self.part == "missing":
            return np.isnan(cells).astype(np.float64)
        if self.values:
            return np.array(self.values)[codes]
        filled = np.where(np.isnan(cells), column.fill, cells)
        if self.part == "value":
            return filled
        angle = 2 * np.pi * (filled / self.period)
        return np.sin(angle) if self.part == "sin" else np.cos(angle)


def kinds_of(inputs: Sequence[Input], table: Sequence[Column]) -> Float[np.ndarray, "inputs kinds"]:
    """What each input is, 1 for one of `KINDS`, and the share of gaps in its column, last."""
    every = np.zeros((len(inputs), 1 + len(KINDS)))
    for at, one in enumerate(inputs):
        every[at, KINDS.index(one.kind)] = 1.0
        every[at, -1] = table[one.column].missing
    return every


def inputs_of(
    column: Column,
    index: int,
    cells: np.ndarray,
    targets: Sequence[Float[np.ndarray, " rows"]],
    min_frequency: int = MIN_FREQUENCY,
) -> tuple[Column, list[Input], list[Float[np.ndarray, " rows"]]]:
    """The column with what it learned of the rows fitted, its inputs, and these for the rows fitted.

    index: of the column. cells: values (gaps nan), or codes of a category. targets: standardised; a level has a mean of
    each, and what lowers the sum of their errors helps. min_frequency: rows of a level that is kept, see `frequent`; of
    a category without such a level there is no input.
    """
    if column.kind == "category":
        missing = float((cells == column.levels.index("")).mean()) if "" in column.levels else 0.0
        column, cells = frequent(replace(column, missing=missing), cells, min_frequency)
        inputs, fitted = _of_category(column, index, cells, targets)
        return column, inputs, fitted
    gaps = stand_ins(cells[~np.isnan(cells)]) if column.kind == "number" else ()
    cells = np.where(np.isin(cells, gaps), np.nan, cells) if gaps else cells
    gap = np.isnan(cells)
    fill = float(np.quantile(cells[~gap], 0.5, method="lower"))
    said = f"{', '.join(f'{value:g}' for value in gaps)} taken for a gap" if gaps else ""
    note = together(column.note, said)
    column = replace(column, fill=fill, gaps=gaps, note=note, missing=float(gap.mean()))
    filled = np.where(gap, fill, cells)
    inputs, fitted = [Input(index, "value")], [filled]
    if gap.any() and not gap.all() and helps([filled], [gap.astype(np.float64)], targets):
        inputs.append(Input(index, "missing"))
        fitted.append(gap.astype(np.float64))
    if column.kind == "date":
        for period in _periods(filled):
            some = [Input(index, part, period=period) for part in ("sin", "cos")]
            waves = [one.of(column, filled, None) for one in some]
            if helps([filled], waves, targets):
                inputs += some
                fitted += waves
        return column, inputs, fitted
    levels = _code_values(cells, gap)
    if levels is not None:
        codes = np.where(gap, len(levels), np.searchsorted(levels, cells))
        if _act_as_codes(codes, filled, targets, len(levels)):
            column, codes = frequent(replace(column, levels=tuple(levels.tolist())), codes, min_frequency)
            for t in targets:
                values, own = level_means(codes, t, len(column.levels))
                inputs.append(Input(index, "mean", tuple(values.tolist())))
                fitted.append(own)
    return column, inputs, fitted


def frequent(column: Column, codes: Int[np.ndarray, " rows"], least: int) -> tuple[Column, Int[np.ndarray, " rows"]]:
    """The column with the levels that stand in at least so many rows, and the codes of these; any other has the
    last."""
    counts = np.bincount(codes, minlength=len(column.levels) + 1)[:-1]
    kept = np.flatnonzero(counts >= least)
    place = np.full(len(counts) + 1, len(kept))
    place[kept] = np.arange(len(kept))
    return replace(column, levels=tuple(column.levels[i] for i in kept)), place[codes]


def _of_category(
    column: Column, index: int, codes: Int[np.ndarray, " rows"], targets: Sequence[Float[np.ndarray, " rows"]]
) -> tuple[list[Input], list[np.ndarray]]:
    k = len(column.levels)
    counts = np.bincount(codes, minlength=k + 1)[:k]
    inputs, fitted = [], []
    if column.note == "ordered" and k:
        known = np.arange(k) - np.mean(np.arange(k))
        inputs.append(Input(index, "rank", (*known.tolist(), 0.0)))
    if k <= MOST_SHOWN:
        shown = [level for level in range(k) if counts[level] >= LEAST_ROWS]
        shown = shown[1:] if len(shown) == k == 2 and counts.sum() == len(codes) else shown  # two are one number
        inputs += [Input(index, "level", tuple(float(i == level) for i in range(k + 1))) for level in shown]
        return inputs, [one.of(column, codes, codes) for one in inputs]
    fitted, means = [one.of(column, codes, codes) for one in inputs], []
    for t in targets:
        values, own = level_means(codes, t, k)
        inputs.append(Input(index, "mean", tuple(values.tolist())))
        means.append(own)
    fitted += means
    sizes = Input(index, "count", (*np.log1p(counts).tolist(), 0.0))
    size = sizes.of(column, codes, codes)
    if helps(means, [size], targets):
        inputs.append(sizes)
        fitted.append(size)
    return inputs, fitted


def _periods(seconds: Float[np.ndarray, " rows"]) -> list[float]:
    """Those that the dates cover; of the day only if they hold times."""
    span = np.ptp(seconds)
    timed = bool((seconds % PERIODS["day"] != 0).any())
    return [
        period for name, period in PERIODS.items() if span >= LEAST_PERIODS[name] * period and (name != "day" or timed)
    ]


def _code_values(cells: Float[np.ndarray, " rows"], gap: np.ndarray) -> np.ndarray | None:
    """The values of a column of whole numbers, if they are few and each is there often; else None."""
    known = cells[~gap]
    if (known[:200] != np.round(known[:200])).any() or (known != np.round(known)).any():
        return None
    levels = np.unique(known)
    few = CODE_LEVELS[0] <= len(levels) <= CODE_LEVELS[1]
    return levels if few and len(known) >= CODE_ROWS * len(levels) else None


def level_means(
    codes: Int[np.ndarray, " rows"], t: Float[np.ndarray, " rows"], k: int
) -> tuple[Float[np.ndarray, " levels"], Float[np.ndarray, " rows"]]:
    """Shrunk means of t by code, 0 to k - 1 and k for any other; and for each row that of the other folds.

    t: mean 0. A code that was never seen has 0, the mean of all rows.
    """
    prior = _prior_rows(codes, t, k)
    fold = np.random.default_rng(0).permutation(len(t)) % FOLDS
    cell = codes * FOLDS + fold
    counts = np.bincount(cell, minlength=(k + 1) * FOLDS).reshape(k + 1, FOLDS)
    sums = np.bincount(cell, t, minlength=(k + 1) * FOLDS).reshape(k + 1, FOLDS)
    n, total = counts.sum(1), sums.sum(1)
    others = (total[:, None] - sums) / (n[:, None] - counts + prior)
    values = np.where(n > 0, total / (n + prior), 0.0)
    values[k] = 0.0 if n[k] == 0 else values[k]
    return values, others[codes, fold]


def _prior_rows(codes: Int[np.ndarray, " rows"], t: Float[np.ndarray, " rows"], k: int) -> float:
    """Rows that the mean of all rows counts for: variance within levels over that between them (analysis of variance
    with unequal groups)."""
    n = np.bincount(codes, minlength=k + 1).astype(np.float64)
    total, squares = np.bincount(codes, t, minlength=k + 1), np.bincount(codes, t * t, minlength=k + 1)
    used, rows = int((n > 0).sum()), len(t)
    mean = total / np.maximum(n, 1)
    within = max(float((squares - n * mean**2).sum()), 0.0) / max(rows - used, 1)
    between = float((n * (mean - t.mean()) ** 2).sum()) / max(used - 1, 1)
    size = (rows - np.square(n).sum() / rows) / max(used - 1, 1)
    return float(np.clip(within / max((between - within) / max(size, 1e-9), 1e-9), 0.1, 100.0))


def _act_as_codes(
    codes: Int[np.ndarray, " rows"],
    filled: Float[np.ndarray, " rows"],
    targets: Sequence[Float[np.ndarray, " rows"]],
    k: int,
) -> bool:
    """Whether the mean of its level tells a row's target better than a cubic in the value does, by more than `CODES`
    standard errors of the paired difference of squared leave-one-out errors: a smooth curve is for the networks."""
    z = (filled - filled.mean()) / filled.std()
    n, gain = np.bincount(codes, minlength=k + 1), np.zeros(len(z))
    for t in targets:
        prior, total = _prior_rows(codes, t, k), np.bincount(codes, t, minlength=k + 1)
        left = t - (total[codes] - t) / (n[codes] - 1 + prior)
        gain += leave_one_out_squares([z, z**2, z**3], t) - left**2
    return bool(gain.mean() > CODES * gain.std() / len(z) ** 0.5)


def helps(
    base: Sequence[np.ndarray], more: Sequence[np.ndarray], targets: Sequence[Float[np.ndarray, " rows"]]
) -> bool:
    """Whether further inputs lower the squared leave-one-out errors of linear fits on some inputs."""
    without, beside = (
        sum(leave_one_out_squares(inputs, t).sum() for t in targets) for inputs in (base, [*base, *more])
    )
    return bool(beside < without)


def leave_one_out_squares(inputs: Sequence[np.ndarray], t: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
    """Squared error of each row under the least-squares line of all others, in closed form by its leverage."""
    design = np.column_stack(inputs).astype(np.float64)
    design = design - design.mean(0)
    size = np.abs(design).max(0)
    basis, triangle = np.linalg.qr(design / np.where(size > 0, size, 1.0))
    basis = basis[:, np.abs(np.diag(triangle)) > 1e-9 * max(1.0, float(np.abs(triangle).max()))]
    leverage = np.square(basis).sum(1) + 1 / len(t)
    residual = t - t.mean() - basis @ (basis.T @ t)
    return np.square(residual / np.maximum(1 - leverage, 1e-12))


def telling(
    columns: Sequence[str],
    inputs: Sequence[Input],
    numbers: Float[np.ndarray, "rows inputs"],
    targets: Sequence[Float[np.ndarray, " rows"]],
    what: str,
) -> tuple[str, ...]:
    """A sentence for each column whose value is a target in disguise, as it stands in the table: not squashed.

    columns: names of those that inputs are of. targets: standardised. what: they are, in words.
    """
    found = []
    center, scale, _ = center_and_scale(numbers)
    varying = [t for t in targets if t.any()]
    for i, one in enumerate(inputs):
        column = [standard(numbers[:, i], center[i], scale[i])]
        own = varying if one.part == "value" else []
        r2 = max((1 - leave_one_out_squares(column, t).mean() for t in own), default=0.0)
        if r2 > TELLING:
            found.append(
                f"{columns[one.column]!r} alone predicts {what} with an R2 of {r2:.4f}; drop it if "
                "it is not known before the target is"
            )
    return tuple(found)
