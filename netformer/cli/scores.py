"""Scores for the command line: which rows they are on, as asked for, and what is printed of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich.table import Table

from netformer.benchmark.beside import chosen
from netformer.benchmark.folds import Plan, copies, groups_of, in_folds, in_time, on_test, times_of
from netformer.benchmark.scoring import ONE, OURS, HeldOut, hold_out
from netformer.errors import InputError
from netformer.generation.estimator import NetFormerRegressor
from netformer.tables.cells import times_of as cells_to_times
from netformer.tables.columns import Column
from netformer.tables.intake import Intake, count, in_file, match
from netformer.tables.reading import Reading

if TYPE_CHECKING:
    from netformer.exports.population import Population

FEW = 50  # rows held out, below which scores are rough
MINUS = "r2_minus"  # R2 of ours minus that of a row
COVERAGE = 0.9  # of the interval that is spoken of


@dataclass(frozen=True)
class Wanted:
    """What scores are to be of, see the options of `generate`. Raises InputError for more than one of groups, time,
    in_order and test, and for learners that are not known or not installed."""

    groups: str | None = None
    time: str | None = None
    in_order: bool = False
    test: Path | None = None
    beside: str | None = None

    def __post_init__(self) -> None:
        given = {"--groups": self.groups, "--time": self.time, "--in-order": self.in_order, "--test": self.test}
        said = [name for name, value in given.items() if value]
        if len(said) > 1:
            raise InputError(f"{' and '.join(said)} each say alone what is scored on; give one of them")
        if self.test is not None and not self.test.exists() and str(self.test) != "-":
            raise FileNotFoundError(f"{self.test}: no such file; give --test the path of a table")
        self.learners()

    def learners(self) -> list[str]:
        """Names of those beside ours."""
        return chosen(
            None if self.beside is None else [name.strip() for name in self.beside.split(",") if name.strip()]
        )

    @property
    def columns(self) -> list[str]:
        """Columns of the table that are needed, whether networks read them or not."""
        return [name for name in (self.groups, self.time) if name]


@dataclass(frozen=True, eq=False)
class Task:
    """A table to fit, and the plan of its scores. X, y: the rows of the table, then those of a test file."""

    X: pd.DataFrame
    y: np.ndarray
    plan: Plan
    notes: list[str]


def features(intake: Intake, wanted: Wanted, target: str) -> pd.DataFrame:
    """The columns that networks may read: all but that of the groups, whose levels new rows do not have. Raises
    InputError if none is left, and for groups or an order by the target."""
    if target in wanted.columns:
        raise InputError(f"{target!r} is the target; --groups and --time need another column")
    X = intake.X.drop(columns=wanted.groups, errors="ignore") if wanted.groups else intake.X
    if X.shape[1] == 0:
        raise InputError(f"no column is left beside the target and {wanted.groups!r}, which is not read; name more")
    return X


def task_of(
    path: Path, X: pd.DataFrame, intake: Intake, wanted: Wanted, reading: Reading, seed: int, **options: Any
) -> Task:
    """path: of the table, for messages. X: see `features`. reading: of the whole table. options: of `match`.

    Raises InputError for a group or a time in all rows, times that are not known in every row, a test file that lacks
    the target or columns.
    """
    y, rows = intake.y, len(intake.y)
    if wanted.test is not None:
        more, truth, notes = _test(wanted.test, X, intake, reading, options)
        X, y = pd.concat([X, more], ignore_index=True), np.concatenate([y, truth])
        label = copies(X, y)
        again = np.isin(label[rows:], label[:rows])
        if again.any():
            notes.append(f"{wanted.test}: {count(again, 'row')} also in {path}; a score on fitted rows is too good")
        return Task(X, y, on_test(rows, len(truth), str(wanted.test)), notes)
    with in_file(path):
        if wanted.in_order:
            plan = in_time(np.arange(float(rows)))
        elif wanted.time:
            plan = in_time(times_of(wanted.time, intake.kept[wanted.time].reset_index(drop=True)), of=wanted.time)
        elif wanted.groups:
            plan = in_folds(groups_of(intake.kept[wanted.groups]), seed=seed, of=wanted.groups)
        else:
            plan = in_folds(copies(X, y), seed=seed)
    return Task(X, y, plan, [])


def _test(
    path: Path, X: pd.DataFrame, intake: Intake, reading: Reading, options: dict[str, Any]
) -> tuple[pd.DataFrame, np.ndarray, list[str]]:
    """Features and target of the rows of a test file that have one."""
    table, y, notes = match(path, reading, **options)
    if y is None:
        raise InputError(f"{path}: a test file must have the target, a column {reading.target!r} with numbers")
    known = np.isfinite(y)
    if known.sum() < 2:
        raise InputError(f"{path}: a test file needs at least 2 rows with a target, found {known.sum()}")
    if not known.all():
        notes.append(f"{path}: dropped {count(~known, 'row')} without a finite target {reading.target!r}")
    made = {name: _as_fitted(intake.columns.get(name), table[name]) for name in X.columns if name in table.columns}
    return pd.DataFrame(made, index=table.index).reindex(columns=X.columns)[known], y[known], notes


def _as_fitted(column: Column | None, cells: pd.Series) -> pd.Series:
    """Cells of a test file as those of the table are: numbers and times, where these stand as text."""
    if column is None or column.kind == "category" or cells.dtype.kind not in "OTU":
        return cells
    if column.kind == "date":
        return cells_to_times(cells, column.form)[0]
    return pd.Series(column.values(cells), cells.index)


def score(task: Task, wanted: Wanted, estimator: NetFormerRegressor, seed: int, say: Callable[[str], Any]) -> HeldOut:
    """The scores of a task; see `benchmark.scoring.hold_out`."""
    return hold_out(task.X, task.y, task.plan, estimator, wanted.learners(), seed, say)


def plus_minus(value: float, error: float) -> str:
    """A value and its standard error, with two digits of the error."""
    if not math.isfinite(value):
        return "-"
    digits = max(0, 1 - math.floor(math.log10(error))) if math.isfinite(error) and error > 0 else 3
    digits = min(digits, 12)
    return f"{value:.{digits}f}" + (f" ± {error:.{digits}f}" if math.isfinite(error) else "")


def of_r2(row: dict[Any, Any], name: str) -> str:
    """An R2 of a row of `HeldOut.table`, or the difference of two, with its standard error."""
    value, error, sign = row[name], row[f"{name}_se"], "+" if name == MINUS else ""
    if not math.isfinite(value):
        return "-"
    return f"{value:{sign}.3f}" + (f" ± {error:.3f}" if math.isfinite(error) else "")


def of_methods(row: dict[Any, Any]) -> list[str]:
    """R2, MAE, RMSE of a row of `HeldOut.table`, and what ours is beside it, as they are shown."""
    errors = [plus_minus(row[one], row[f"{one}_se"]) for one in ("mae", "rmse")]
    return [of_r2(row, "r2"), *errors, f"{row['standing']} {of_r2(row, MINUS)}" if row["standing"] else ""]


def scores_table(found: HeldOut, title: str) -> Table:
    """The scores for a terminal."""
    shown = Table(title=f"{title}: {found.how}")
    for name in ("method", "R2", "MAE", "RMSE", f"{OURS} is (R2)"):
        shown.add_column(name)
    for method, row in found.table().to_dict("index").items():
        shown.add_row(str(method), *of_methods(row), style="bold" if method == OURS else None)
    return shown


def conclusions(found: HeldOut) -> list[str]:
    """What the scores come to, a sentence each: which is the best, what is level with ours, what is rough."""
    rows = {str(name): row for name, row in found.table().to_dict("index").items()}
    best, lines = next(iter(rows)), list[str]()
    level = [name for name, row in rows.items() if row["standing"] == "level"]
    if not math.isfinite(rows[OURS]["r2"]):
        lines.append(f"The target is the same in all rows held out: no R2; the smallest RMSE is that of {best}.")
    elif best == OURS:
        lines.append(f"Best here: {OURS}." + f" Level with it: {', '.join(level)}." * bool(level))
    elif best in level:
        lines.append(f"Best here: {best}; {OURS} is level with it ({of_r2(rows[best], MINUS)}).")
    else:
        advice = "" if best == ONE else f"; if predictions are all you need, use {best}"
        lines.append(f"Best here: {best}; {OURS} is behind it ({of_r2(rows[best], MINUS)}){advice}.")
    if "constant" in rows and rows["constant"]["standing"] in ("level", "behind"):
        lines.append(f"{OURS} is not ahead of the mean of the target: these columns say nothing sure about it.")
    if len(found.y) < FEW:
        lines.append(f"{len(found.y)} rows are few, these scores are rough.")
    return lines


def interval_line(found: HeldOut) -> str:
    """How often intervals held, and how wide they are."""
    row = found.coverage().to_dict("index")[COVERAGE]
    held = plus_minus(100 * row["within"], 100 * row["within_se"])
    return (
        f"{held} % of these rows lie within their interval of {COVERAGE:.0%}; its width is {row['width']:.4g} (median)."
    )


def said(found: HeldOut | None, bundle: Population | None = None) -> list[str]:
    """Sentences below the scores: what they come to, how far off answers are, which networks to use."""
    lines = [] if found is None else [*conclusions(found), interval_line(found)]
    if bundle is None:
        return lines
    many = f"the {len(bundle)} networks merged, mostly better than each alone" if len(bundle) > 1 else "the network"
    return [*lines, f"Use {OURS}: {many}; the one written is fitted on all {bundle.about['rows']} rows."]


def facts(found: HeldOut) -> dict[str, Any]:
    """Scores for JSON and for the folder of the networks."""
    return {
        "how": found.how,
        "rows": len(found.y),
        "methods": found.table().reset_index(),
        "intervals": found.coverage().reset_index(),
        "best": str(found.table().index[0]),
    }
