"""Intake: a table file as features and target, for commands. Every assumption is a line in `notes`, every error is one.

What a column is read as is settled here on the whole file, so that no row held back is a surprise: text that holds
numbers becomes numbers, cells that hold none of them gaps, text that holds dates times, all other text categories. A
reading of some of the rows learns by `Reading.written` how these stand in the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from netformer.errors import InputError, first_few
from netformer.tables.cells import first_of, times_of
from netformer.tables.columns import MIN_FREQUENCY, MOST_UNREADABLE, Column, column_of, finite, matched, stand_ins
from netformer.tables.files import MIN_ROWS, read_raw, require_column
from netformer.tables.labels import (
    AUTO,
    CLASSIFICATION,
    Label,
    are_truth_values,
    check_classes,
    codes_in,
    is_plain,
    labels_in,
    numbers_in,
    task_type,
    whole_numbers,
)
from netformer.tables.reading import Reading

MANY_COPIES = 0.05  # of the rows, from which on rows that stand more than once are said


@dataclass(frozen=True, eq=False)
class Intake:
    """X: the features, indexed by the position of their row in the file. y: the target, without gaps; of classes their
    numbers, whole; of several targets (rows, targets). kept: columns that were asked for as they stand, of the same
    rows. columns: what each feature was read as, by name; not those that nothing can be read from. classes: labels of
    the target's classes in sorted order, none of a target of numbers. targets: names of what is predicted."""

    X: pd.DataFrame
    y: Float[np.ndarray, "rows ..."] | Int[np.ndarray, " rows"]
    notes: list[str]
    kept: pd.DataFrame
    columns: dict[str, Column]
    classes: tuple[Label, ...] = ()
    targets: tuple[str, ...] = ("y",)

    def target(self) -> pd.Series | pd.DataFrame:
        """The target as an estimator takes it: numbers, labels, or a column of numbers for each of several."""
        (name, *others), several = self.targets, self.y.ndim > 1
        if several:
            return pd.DataFrame(self.y, columns=[name, *others])
        if not self.classes:
            return pd.Series(self.y, name=name)
        labels = [self.classes[code] for code in self.y]
        return pd.Series(labels, name=name, dtype=object if isinstance(self.classes[0], str) else None)


@contextmanager
def in_file(path: str | Path) -> Iterator[None]:
    """What is wrong with a table gets the name of its file in front."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def take_in(
    path: str | Path,
    target: str,
    *,
    columns: str | None = None,
    drop: str | None = None,
    keep: Sequence[str] = (),
    header: bool = True,
    encoding: str | None = None,
    separator: str | None = None,
    sheet: str | None = None,
    min_frequency: int = MIN_FREQUENCY,
    task: str = AUTO,
) -> Intake:
    """The table at `path` as features and target. target: its name; several names of columns of numbers with commas
    between them, of which a row needs every one. columns: names, with commas between them, of those to use, None for
    all; drop: of those not to; keep: of those to have beside the features, used or not. task: see `labels.task_type`.

    header, encoding, separator, sheet: see `read_raw`. min_frequency: as in `reading.read`. A target without a value
    drops its row. Raises FileNotFoundError, and InputError with one line that says what would be allowed.
    """
    path = Path(path)
    raw = read_raw(path, header=header, encoding=encoding, separator=separator, sheet=sheet)
    table, notes = raw.frame, list(raw.notes)
    if target not in table.columns and table.shape[1] == 1:
        way_out = "name what separates columns by --sep, or the sheet by --sheet"
        raise InputError(f"{path}: found one column only, {table.columns[0]!r}; {way_out}")
    targets = _named(target, table)
    target = targets[0] if len(targets) == 1 else target
    for name in (*targets, *keep):
        require_column(table, name, path)
    kept = table[list(keep)]
    for name in targets:
        if table[name].isna().all():
            raise InputError(f"{path}: target {name!r} holds no value; choose another column")
    classes: tuple[Label, ...] = ()
    if len(targets) > 1:
        with in_file(path):
            y, said = _several(targets, table, raw.comma, task)
        notes, known = notes + [f"{path}: {line}" for line in said], np.isfinite(y).all(1)
    elif task_type(table[target], task, raw.comma) == CLASSIFICATION:
        with in_file(path):
            y, classes = labels_in(target, table[target])
            known = y >= 0
    else:
        with in_file(path):
            y, note = numbers_in(target, table[target], raw.comma)
        notes, known = notes + [f"{path}: target {target!r}: {note}"] * bool(note), np.isfinite(y)
    X = _chosen(table.drop(columns=list(targets)), targets, columns, drop, path)
    X, read = settled(X, path, min_frequency, raw.comma)
    if not known.all():
        what = "" if classes else "finite "
        which = (
            f"target {target!r}"
            if len(targets) == 1
            else f"value of every target, {first_few(list(map(repr, targets)))}"
        )
        notes.append(f"{path}: dropped {count(~known, 'row')} without a {what}{which}")
    if known.sum() < MIN_ROWS:
        simple = f"add rows, or use {'logistic regression' if classes else 'ridge'}"
        raise InputError(f"{path}: a table needs at least {MIN_ROWS} rows with a target, found {known.sum()}; {simple}")
    with in_file(path):
        if classes:
            check_classes(target, y, classes)
        else:
            for name, column in zip(targets, y[known].reshape(known.sum(), -1).T, strict=True):
                if np.ptp(column) == 0:
                    raise InputError(
                        f"target {name!r} must vary, found {column[0]:g} in all rows; choose another column"
                    )
    if classes:
        notes += _on_classes(target, table[target], classes, path)
    else:
        for name, column in zip(targets, y[known].reshape(known.sum(), -1).T, strict=True):
            notes += _on_target(name, column, path)
    X, y = X.loc[known], y[known]
    notes += _on_copies(X, y, path)
    return Intake(X, y, notes, kept.loc[known], read, classes, targets)


def _named(target: str, table: pd.DataFrame) -> tuple[str, ...]:
    """The columns that a text names: one, or several with commas between them."""
    if target in table.columns:
        return (target,)
    named = [name.strip() for name in target.split(",") if name.strip()]
    return tuple(dict.fromkeys(named)) or (target,)


def _several(targets: Sequence[str], table: pd.DataFrame, comma: bool, task: str) -> tuple[np.ndarray, list[str]]:
    """Several targets, (rows, targets), nan where one has no value, and notes on what was assumed."""
    made, notes = [], []
    for name in targets:
        if task_type(table[name], task, comma) == CLASSIFICATION:
            raise InputError(
                f"target {name!r} looks like classes, and several targets are numbers; write networks for it "
                "alone, or --task regression takes whole numbers for numbers"
            )
        y, note = numbers_in(name, table[name], comma)
        made.append(y)
        notes += [f"target {name!r}: {note}"] * bool(note)
    return np.stack(made, 1), notes


def match(
    path: str | Path,
    reading: Reading,
    *,
    header: bool = True,
    encoding: str | None = None,
    separator: str | None = None,
    sheet: str | None = None,
    groups: tuple[str, Sequence[str]] | None = None,
) -> tuple[pd.DataFrame, np.ndarray | None, list[str]]:
    """The features of the table at `path` as networks that carry `reading` take them, its target if it has one, and
    notes: of `read_raw`, on columns that are ignored, on cells of columns of numbers that hold none and stood for no
    gap in the table that was fitted. A few such cells are gaps here. The target is numbers, gaps nan, or numbers of
    classes, -1 for a gap and for a label that was not fitted; of several targets (rows, targets).

    In a file of text, what was fitted as text stays text, whatever its cells look like, and numbers have the decimal
    mark that they had where no cell says otherwise. groups: a column that is not read, and its names.

    header, encoding, separator, sheet: see `read_raw`. Raises FileNotFoundError, InputError naming missing columns.
    """
    path = Path(path)
    raw = read_raw(
        path,
        header=header,
        encoding=encoding,
        separator=separator,
        sheet=sheet,
        texts=_texts(reading, groups),
        comma=any(column.form == "," for column in reading.table),
    )
    table, notes = raw.frame, list(raw.notes)
    if table.empty:
        raise InputError(f"{path}: a table needs at least one row, found only the header; add rows to predict")
    with in_file(path):
        _, extra = matched(table, reading.columns, reading.given or reading.columns)
    for column in reading.table:
        if column.kind == "number":
            cells = table[column.name]
            _, lost = column.read(cells)
            if 0 < lost.sum() <= MOST_UNREADABLE * cells.notna().sum():
                table[column.name] = cells.mask(lost)
                notes.append(f"{path}: column {column.name!r}: {first_of(cells, lost)} taken for a gap")
    ends = [one.name for one in reading.targets]
    if ignored := [name for name in extra if name not in ends]:
        notes.append(f"{path}: ignored {first_few(list(map(repr, ignored)))}, not in the table that was fitted")
    y: np.ndarray | None = None
    if reading.target in table.columns and reading.classes:
        y = codes_in(table[reading.target], reading.classes)
        other = table[reading.target].notna().to_numpy() & (y < 0)
        if other.any():
            notes.append(
                f"{path}: target {reading.target!r}: {first_of(table[reading.target], other)}: no class fitted"
            )
        y = y if (y >= 0).any() else None
    elif not reading.classes:
        found = [_known_numbers(table, name, raw.comma) for name in ends]
        if any(np.isfinite(one).any() for one in found):
            y = found[0] if len(found) == 1 else np.stack(found, 1)
    return table.drop(columns=extra), y, notes


def _texts(reading: Reading, groups: tuple[str, Sequence[str]] | None) -> list[str]:
    """Names of columns that were fitted as text, the target and the column of groups among them. Of classes, names of
    groups, and categories that come from no file their levels tell."""
    texts = [column.name for column in reading.table if column.kind != "number" and column.form]
    known: list[tuple[str, Sequence[Label]]] = [
        (one.name, one.levels) for one in reading.table if one.kind == "category"
    ]
    known += [(reading.target, reading.classes), *([groups] if groups else [])]
    return texts + [name for name, levels in known if not all(map(is_plain, levels))]


def _known_numbers(table: pd.DataFrame, name: str, comma: bool) -> Float[np.ndarray, " rows"]:
    """A target of numbers where a table has it, nan where not: a score is all it is for."""
    try:
        return numbers_in(name, table[name], comma)[0]
    except (KeyError, InputError):
        return np.full(len(table), np.nan)


def on_reading(reading: Reading, path: str | Path) -> list[str]:
    """Notes on how a table was read: what was left out and why, what was assumed, what looks wrong."""
    left = first_few([f"{name!r} ({why})" for name, why in reading.left_out])
    notes = [f"{path}: left out: {left}"] * bool(left)
    said = [column.note for column in reading.table if column.note not in ("", "ordered")]
    for note in dict.fromkeys(said):
        notes.append(f"{path}: {note}: {first_few([repr(one.name) for one in reading.table if one.note == note])}")
    return notes + [f"{path}: {note}" for note in reading.notes]


def count(where: Bool[np.ndarray, " n"], noun: str) -> str:
    """How many, with the noun in its number."""
    number = int(where.sum())
    return f"{number} {noun}" + ("s" if number != 1 else "")


def _chosen(X: pd.DataFrame, targets: Sequence[str], columns: str | None, drop: str | None, path: Path) -> pd.DataFrame:
    for option, text in (("--columns", columns), ("--drop", drop)):
        if text is None:
            continue
        named = [text] if text in X.columns else [name.strip() for name in text.split(",") if name.strip()]
        for name in named:
            if name in targets:
                raise InputError(f"{path}: {name!r} is the target, which is never read; leave it out of {option}")
            require_column(X, name, path)
        X = X[list(dict.fromkeys(named))] if option == "--columns" else X.drop(columns=named)
    if X.shape[1] == 0:
        beside = ", ".join(map(repr, targets))
        raise InputError(f"{path}: no column is left beside the target {beside}; name more, or drop fewer")
    return X


def settled(
    X: pd.DataFrame, path: Path, min_frequency: int, comma: bool = False
) -> tuple[pd.DataFrame, dict[str, Column]]:
    """The columns as they stand on every row, see the module, and what each was read as, by name.

    path: named in errors. comma: whether the numbers of the file have a decimal comma. Raises InputError for an
    infinite number.
    """
    made: dict[str, Any] = {}
    read: dict[str, Column] = {}
    for name in X.columns:
        made[name] = cells = X[name]
        try:
            read[name], values = column_of(name, cells, min_frequency, comma)
        except InputError:
            continue  # the reading leaves it out, and says why
        kind, text = read[name].kind, cells.dtype.kind in "OTU"
        if kind == "category":
            made[name] = cells.astype("category")
            read[name] = replace(read[name], form="text" if text else "")
        elif kind == "date":
            made[name] = times_of(cells, read[name].form)[0] if text else cells
        else:
            with in_file(path):
                values = finite(name, values)
            made[name] = values if text else cells
    return pd.DataFrame(made, index=X.index), read


def _on_classes(name: str, cells: pd.Series, classes: tuple[Label, ...], path: Path) -> list[str]:
    """What the target was taken for; of text, which can be nothing else, without a way out."""
    what = f"{path}: target {name!r} is taken for {len(classes)} classes"
    if isinstance(classes[0], str) and not are_truth_values(cells):
        return [what]
    return [f"{what}, {first_few(list(map(repr, classes)))}; if it is a number: --task regression"]


def _on_target(name: str, y: Float[np.ndarray, " rows"], path: Path) -> list[str]:
    levels = whole_numbers(y)
    if levels:
        return [
            f"{path}: target {name!r} holds {len(levels)} whole numbers, {levels[0]} to {levels[-1]}, and is taken for "
            "a number; if they are classes: --task classification"
        ]
    odd = stand_ins(y)
    shown = ", ".join(f"{value:g}" for value in odd)
    way_out = f"{shown} in {count(np.isin(y, odd), 'row')}, far from all other values; if it stands for a gap, empty it"
    return [f"{path}: target {name!r} is {way_out}"] if odd else []


def _on_copies(X: pd.DataFrame, y: np.ndarray, path: Path) -> list[str]:
    try:
        ends = {f"y{k}": column for k, column in enumerate(y.reshape(len(y), -1).T)}
        again = X.set_axis(range(X.shape[1]), axis=1).assign(**ends).duplicated().to_numpy()
    except TypeError:  # lists cannot be compared
        return []
    if again.mean() < MANY_COPIES:
        return []
    return [f"{path}: {count(again, 'row')} the same as an earlier one; a score on copies of fitted rows is too good"]
