"""Scores for the command line: which rows they are on, as asked for, and what is printed of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich.table import Table

from netformer.benchmark.beside import BESIDE, BESIDE_CLASSES, chosen
from netformer.benchmark.folds import Plan, copies, groups_of, in_folds, in_time, on_test, times_of
from netformer.benchmark.held_out import ONE, OURS, HeldOut, HeldOutClasses
from netformer.benchmark.scoring import hold_out, hold_out_classes
from netformer.errors import InputError
from netformer.tables.cells import times_of as cells_to_times
from netformer.tables.columns import Column
from netformer.tables.intake import Intake, count, in_file, match
from netformer.tables.labels import Label
from netformer.tables.reading import Reading, read, read_classes

if TYPE_CHECKING:
    from netformer.exports.population import Population

FEW = 50  # rows held out, below which scores are rough
MINUS = "r2_minus"  # R2 of ours minus that of a row
LOSS_MINUS = "log_loss_minus"  # of classes
HEADS = ("R2", "MAE", "RMSE", f"{OURS} is, in R2")
HEADS_CLASSES = ("log loss", "accuracy", "AUC", "calibration error", f"{OURS} is, in log loss")
Found = HeldOut | HeldOutClasses
COVERAGE = 0.9  # of the interval that is spoken of


@dataclass(frozen=True)
class Wanted:
    """What scores are to be of, see the options of `generate`. Raises InputError for more than one of groups, time,
    in_order and test."""

    groups: str | None = None
    time: str | None = None
    in_order: bool = False
    test: Path | None = None
    beside: str | None = None

    def __post_init__(self) -> None:
        given = {"--groups": self.groups, "--time": self.time, "--in-order": self.in_order, "--test": self.test}
        said = [name for name, value in given.items() if value]
        if len(said) > 1:
            raise InputError(
                f"{' and '.join(said)} exclude each other: each says which rows are held out; give one of them"
            )
        if self.test is not None and not self.test.exists() and str(self.test) != "-":
            raise FileNotFoundError(f"{self.test}: no such file; give --test the path of a table")

    def learners(self, of_classes: bool) -> list[str]:
        """Names of those beside ours. Raises InputError for some that are not known or not installed."""
        named = None if self.beside is None else [name.strip() for name in self.beside.split(",") if name.strip()]
        return chosen(named, BESIDE_CLASSES if of_classes else BESIDE)

    @property
    def columns(self) -> list[str]:
        """Columns of the table that are needed, whether networks read them or not."""
        return [name for name in (self.groups, self.time) if name]


@dataclass(frozen=True, eq=False)
class Job:
    """A table to fit, and the plan of its scores. X, y: the rows of the table, then those of a test file. classes:
    labels of those that y are the numbers of, none of a target of numbers."""

    X: pd.DataFrame
    y: np.ndarray
    plan: Plan
    notes: list[str]
    classes: tuple[Label, ...] = ()


def features(intake: Intake, wanted: Wanted) -> pd.DataFrame:
    """The columns that networks may read: all but that of the groups, whose levels new rows do not have. Raises
    InputError if none is left, and for groups or an order by the target."""
    for target in intake.targets:
        if target in wanted.columns:
            raise InputError(f"{target!r} is the target; --groups and --time need another column")
    X = intake.X.drop(columns=wanted.groups, errors="ignore") if wanted.groups else intake.X
    if X.shape[1] == 0:
        raise InputError(f"no column is left beside the target and {wanted.groups!r}, which is not read; name more")
    return X


def job_of(
    path: Path, X: pd.DataFrame, intake: Intake, wanted: Wanted, reading: Reading, seed: int, **options: Any
) -> Job:
    """The table and the rows that its scores are on.

    path: of the table, for messages. X: see `features`. reading: of the whole table. options: of `match`.

    Raises InputError for a group or a time in all rows, times that are not known in every row, a test file that lacks
    the target or columns.
    """
    y, rows, classes = intake.y, len(intake.y), intake.classes
    if wanted.test is not None:
        more, truth, notes = _test(wanted.test, X, intake, reading, options)
        X, y = pd.concat([X, more], ignore_index=True), np.concatenate([y, truth])
        label = copies(X, y)
        again = np.isin(label[rows:], label[:rows])
        if again.any():
            notes.append(f"{wanted.test}: {count(again, 'row')} also in {path}; a score on fitted rows is too good")
        return Job(X, y, on_test(rows, len(truth), str(wanted.test)), notes, classes)
    with in_file(path):
        if wanted.in_order:
            plan = in_time(np.arange(float(rows)))
        elif wanted.time:
            plan = in_time(times_of(wanted.time, intake.kept[wanted.time].reset_index(drop=True)), of=wanted.time)
        elif wanted.groups:
            labels = groups_of(intake.kept[wanted.groups])
            plan = in_folds(labels, seed=seed, of=wanted.groups, classes=y if classes else None)
        else:
            plan = in_folds(copies(X, y), seed=seed, classes=y if classes else None)
    return Job(X, y, plan, [], classes)


def _test(
    path: Path, X: pd.DataFrame, intake: Intake, reading: Reading, options: dict[str, Any]
) -> tuple[pd.DataFrame, np.ndarray, list[str]]:
    """Features and target of the rows of a test file that have one."""
    table, y, notes = match(path, reading, **options)
    if y is None:
        what = "labels of the table" if reading.classes else "numbers"
        raise InputError(f"{path}: a test file must have the target, a column {reading.target!r} with {what}")
    known = y >= 0 if reading.classes else np.isfinite(y.reshape(len(y), -1)).all(1)
    if known.sum() < 2:
        raise InputError(f"{path}: a test file needs at least 2 rows with a target, found {known.sum()}")
    if not known.all():
        what = "label of the table as" if reading.classes else "finite"
        notes.append(f"{path}: dropped {count(~known, 'row')} without a {what} target {reading.target!r}")
    made = {name: _as_fitted(intake.columns.get(name), table[name]) for name in X.columns if name in table.columns}
    return pd.DataFrame(made, index=table.index).reindex(columns=X.columns)[known], y[known], notes


def _as_fitted(column: Column | None, cells: pd.Series) -> pd.Series:
    """Cells of a test file as those of the table are: numbers and times, where these stand as text."""
    if column is None or column.kind == "category" or cells.dtype.kind not in "OTU":
        return cells
    if column.kind == "date":
        return cells_to_times(cells, column.form)[0]
    return pd.Series(column.values(cells), cells.index)


def reading_of(X: pd.DataFrame, intake: Intake) -> Reading:
    """How the whole table is read. X: see `features`."""
    if not intake.classes:
        return read(X, intake.y, target=intake.targets)[0].written(intake.columns)
    from netformer.generation.classes import MOST_MEANS, indicators
    from netformer.tasks.task import class_order

    order = class_order(intake.y, len(intake.classes))
    shown = indicators(np.argsort(order)[intake.y], len(intake.classes))[:MOST_MEANS]
    return read_classes(X, shown, intake.classes, target=intake.targets[0])[0].written(intake.columns)


def score(job: Job, wanted: Wanted, estimator: Any, seed: int, say: Callable[[str], Any]) -> list[Found]:
    """The scores of a table, of every target; see `benchmark.scoring.hold_out`. estimator: a NetFormerRegressor or
    a NetFormerClassifier."""
    names = wanted.learners(bool(job.classes))
    if job.classes:
        return [hold_out_classes(job.X, job.y, job.plan, estimator, names, job.classes, seed, say)]
    return [*hold_out(job.X, job.y, job.plan, estimator, names, seed, say)]


def plus_minus(value: float, error: float) -> str:
    """A value and its standard error, with two digits of the error."""
    if not math.isfinite(value):
        return "-"
    digits = max(0, 1 - math.floor(math.log10(error))) if math.isfinite(error) and error > 0 else 3
    digits = min(digits, 12)
    return f"{value:.{digits}f}" + (f" ± {error:.{digits}f}" if math.isfinite(error) else "")


def of_score(row: dict[Any, Any], name: str) -> str:
    """An R2, a log loss, an area or a share of a row of `HeldOut.table`, or the difference of two, with three digits
    and its standard error."""
    value, error, sign = row[name], row[f"{name}_se"], "+" if name in (MINUS, LOSS_MINUS) else ""
    if not math.isfinite(value):
        return "-"
    return f"{value:{sign}.3f}" + (f" ± {error:.3f}" if math.isfinite(error) else "")


def heads_of(found: Found) -> tuple[str, ...]:
    """What the cells of `of_methods` are."""
    return HEADS if isinstance(found, HeldOut) else HEADS_CLASSES


def of_methods(row: dict[Any, Any]) -> list[str]:
    """The scores of a row of `HeldOut.table`, and what ours is beside it, as they are shown, see `heads_of`."""
    minus = MINUS if MINUS in row else LOSS_MINUS
    standing = f"{row['standing']} {of_score(row, minus)}" if row["standing"] else ""
    if minus == LOSS_MINUS:
        return [*(of_score(row, one) for one in ("log_loss", "accuracy", "auc", "calibration_error")), standing]
    return [of_score(row, "r2"), *(plus_minus(row[one], row[f"{one}_se"]) for one in ("mae", "rmse")), standing]


def scores_table(found: Found, title: str) -> Table:
    """The scores for a terminal."""
    shown = Table(title=f"{title}: {found.how}")
    for name in ("method", *heads_of(found)):
        shown.add_column(name)
    for method, row in found.table().to_dict("index").items():
        shown.add_row(str(method), *of_methods(row), style="bold" if method == OURS else None)
    return shown


def conclusions(found: Found) -> list[str]:
    """What the scores come to, a sentence each: which is the best, what is level with ours, what is rough."""
    rows = {str(name): row for name, row in found.table().to_dict("index").items()}
    best, lines, classes = next(iter(rows)), list[str](), isinstance(found, HeldOutClasses)
    minus, score = (LOSS_MINUS, "log loss ") if classes else (MINUS, "")
    level = [name for name, row in rows.items() if row["standing"] == "level"]
    if not classes and not math.isfinite(rows[OURS]["r2"]):
        lines.append(f"The target is the same in all rows held out: no R2; the smallest RMSE is that of {best}.")
    elif best == OURS:
        lines.append(f"Best here: {OURS}." + f" Level with it: {', '.join(level)}." * bool(level))
    elif best in level:
        lines.append(f"Best here: {best}; {OURS} is level with it ({score}{of_score(rows[best], minus)}).")
    else:
        advice = "" if best == ONE else f"; if predictions are all you need, use {best}"
        lines.append(f"Best here: {best}; {OURS} is behind it ({score}{of_score(rows[best], minus)}){advice}.")
    if "constant" in rows and rows["constant"]["standing"] in ("level", "behind"):
        known = "shares of the classes" if classes else "mean of the target"
        lines.append(f"{OURS} is not ahead of the {known}: these columns say nothing sure about it.")
    if len(found.y) < FEW:
        lines.append(f"{len(found.y)} rows are few, these scores are rough.")
    return lines


def right_line(found: HeldOutClasses) -> str:
    """How often the most probable class was right, beside the most frequent one."""
    row = found.table().to_dict("index")[OURS]
    right, most = plus_minus(100 * row["accuracy"], 100 * row["accuracy_se"]), np.bincount(found.y).max() / len(found.y)
    return f"{right} % of these rows have the class called most probable; the most frequent class has {most:.1%}."


def interval_line(found: HeldOut) -> str:
    """How often intervals held, and how wide they are."""
    row = found.coverage().to_dict("index")[COVERAGE]
    held = plus_minus(100 * row["within"], 100 * row["within_se"])
    return (
        f"{held} % of these rows lie within their interval of {COVERAGE:.0%}; its width is {row['width']:.4g} (median)."
    )


def said(found: Found) -> list[str]:
    """Sentences below the scores: what they come to, how far off answers are."""
    return [*conclusions(found), right_line(found) if isinstance(found, HeldOutClasses) else interval_line(found)]


def said_of_all(found: Sequence[Found], reading: Reading) -> list[str]:
    """`said` of every target, of several with its name in front."""
    lines, targets = list[str](), reading.targets
    for target, one in zip(targets, found, strict=False):
        lines += [f"{target.name}: {line}" if len(targets) > 1 else line for line in said(one)]
    return lines


def which_to_use(bundle: Population, found: Sequence[Found]) -> str:
    """A sentence on the networks that were written. found: their scores, of every target, or none."""
    if "chosen" in bundle.about.get("search", {}):
        size = bundle.stack("wide").merged_size()[1]
        return (
            f"Use {OURS}: network {bundle.about['search']['chosen']} of the {len(bundle)}, with {size} parameters the "
            f"smallest that is good enough; it is fitted on all {bundle.about['rows']} rows."
        )
    rows = found[0].table() if len(found) == 1 else pd.DataFrame()
    if len(rows) and rows.index[0] == ONE and rows["standing"].iloc[0] == "behind":
        best = int(np.asarray(bundle.expected_r2).argmax())
        return f"Use --which {best}: {ONE}, ahead of {OURS}; it is fitted on all {bundle.about['rows']} rows."
    many = f"the {len(bundle)} networks merged, mostly better than each alone" if len(bundle) > 1 else "the network"
    return f"Use {OURS}: {many}; the one written is fitted on all {bundle.about['rows']} rows."


def facts_of_all(found: Sequence[Found], reading: Reading) -> dict[str, Any] | None:
    """`facts` of the target; of several `targets`, those of each by its name; None without scores."""
    if len(reading.targets) == 1 or not found:
        return facts(found[0]) if found else None
    return {"targets": {one.name: facts(own) for one, own in zip(reading.targets, found, strict=True)}}


def facts(found: Found) -> dict[str, Any]:
    """Scores for JSON and for the folder of the networks."""
    best = str(found.table().index[0])
    common = {"how": found.how, "rows": len(found.y), "methods": found.table().reset_index()}
    if isinstance(found, HeldOutClasses):
        return common | {"classes": list(found.classes), "confusion": found.confusion().tolist(), "best": best}
    return common | {"intervals": found.coverage().reset_index(), "best": best}
