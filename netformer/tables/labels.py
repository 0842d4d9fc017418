"""Labels: whether a target is a number or names classes, and its cells as labels of classes.

A target is read as classes where it holds text, categories or truth values, and where it holds whole numbers that look
like codes: two different ones, or up to `MOST_CODES` that are 0, 1, .. or 1, 2, .. without one left out. All other
numbers are taken for numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from netformer.errors import InputError
from netformer.tables.cells import has_comma, read_number, texts_of
from netformer.tables.columns import column_of

AUTO, CLASSIFICATION, REGRESSION = TASKS = ("auto", "classification", "regression")
MOST_CODES = 10  # different whole numbers in a target that may be meant as classes
MOST_NEW = 0.5  # share of classes to rows above which a target tells rows apart and has no classes
LEAST_ROWS = 2  # of a class
SHOWN = 4  # classes in a line

Label = str | int | float | bool


def task_type(cells: pd.Series, task: str = AUTO, comma: bool = False) -> str:
    """classification or regression: what is asked for, or what the cells of the target look like, see the module.

    comma: whether the numbers of its file have a decimal comma. Raises InputError for another task.
    """
    if task not in TASKS:
        raise InputError(f"task must be one of {', '.join(TASKS)}, got {task!r}")
    if task != AUTO:
        return task
    if isinstance(cells.dtype, pd.CategoricalDtype) or pd.api.types.is_bool_dtype(cells.dtype):
        return CLASSIFICATION
    if are_truth_values(cells):
        return CLASSIFICATION
    try:
        column, values = column_of("y", cells, comma=comma)
    except InputError:  # lists, or text that differs in every row
        return CLASSIFICATION
    if column.kind != "number":
        return CLASSIFICATION if column.kind == "category" else REGRESSION
    codes = whole_numbers(values)
    first = codes[0] if codes else 0
    coded = codes == list(range(first, first + len(codes))) and first in (0, 1)
    return CLASSIFICATION if len(codes) == 2 or (len(codes) > 2 and coded) else REGRESSION


def are_truth_values(cells: pd.Series) -> bool:
    """Whether text says true or false in every row, gaps aside."""
    known = cells.dropna()
    if not len(known) or not known.map(lambda cell: isinstance(cell, str)).all():
        return False
    return {str(cell).strip().lower() for cell in known.unique()} - {""} <= {"true", "false"}


def numbers_in(name: str, cells: pd.Series, comma: bool = False) -> tuple[Float[np.ndarray, " rows"], str]:
    """A target of numbers, nan where it has no value, and what was assumed, "" for nothing. Categories that are numbers
    are numbers.

    name: of the target, for messages. comma: whether the numbers of its file have a decimal comma. Raises InputError,
    one line without the name of a file, for dates, and for a cell that is neither a number nor a gap.
    """
    cells = cells.astype(object) if isinstance(cells.dtype, pd.CategoricalDtype) else cells
    try:
        column, values = column_of(name, cells, comma=comma)
        kind = column.kind
    except InputError:  # lists, or text that differs in every row
        kind = "category"
    if kind == "date":
        raise InputError(
            f"target {name!r} holds dates, neither numbers nor classes: write them as a number, such as days"
        )
    if kind == "category":
        form = "," if comma or any(map(has_comma, texts_of(cells))) else ""
        no_number = [known and read_number(cell, form)[1] for cell, known in zip(cells, cells.notna(), strict=True)]
        row = no_number.index(True) if any(no_number) else int(cells.notna().to_numpy().argmax())
        raise InputError(
            f"target {name!r} must be numeric, found {str(cells.iloc[row])!r} in row {row + 1}; this is regression: "
            "choose a column of numbers, or --task classification"
        )
    return values, column.note


def is_plain(level: Label) -> bool:
    """Whether a level may stand for a number or a truth value that was no text: 7 and True may, 07 and TRUE may not."""
    if not isinstance(level, str) or level in ("", "True", "False"):
        return True
    value, unreadable = read_number(level, "")
    return not unreadable and texts_of(pd.Series([value]))[0] == level


def whole_numbers(values: Any) -> list[int]:
    """The different numbers in order, gaps aside, if all are whole and at most `MOST_CODES`; else none."""
    levels = np.unique(values[np.isfinite(values)])
    few = len(levels) <= MOST_CODES and bool((levels == np.round(levels)).all())
    return [int(level) for level in levels] if few else []


def labels_in(name: str, cells: pd.Series) -> tuple[Int[np.ndarray, " rows"], tuple[Label, ...]]:
    """The class of each row as a number, -1 for a gap, and the labels in sorted order: text, truth values or
    whole numbers, as the cells hold them; text without blanks around it.

    name: of the target, for messages. Raises InputError, one line without the name of a file, for cells of mixed types,
    dates, lists, and numbers that are not whole, which are no labels.
    """
    cells = cells.astype(object) if isinstance(cells.dtype, pd.CategoricalDtype) else cells
    if not pd.api.types.is_object_dtype(cells.dtype) and not pd.api.types.is_string_dtype(cells.dtype):
        if pd.api.types.is_datetime64_any_dtype(cells.dtype) or pd.api.types.is_timedelta64_dtype(cells.dtype):
            raise InputError(f"target {name!r} holds dates or durations, no classes; write classes as text")
        if pd.api.types.is_bool_dtype(cells.dtype):
            known = np.where(cells.isna(), -1, cells.fillna(False).astype(bool))
            return _numbered(known.astype(np.int64), (False, True))
        return _of_numbers(name, cells.to_numpy(np.float64, na_value=np.nan))
    rows = np.flatnonzero(cells.notna().to_numpy())
    held = cells.iloc[rows].tolist()
    kinds = [_kind(cell) for cell in held]
    if other := next((at for at, kind in enumerate(kinds) if kind != kinds[0]), 0):
        one, two = (f"{held[at]!r} ({kinds[at]}) in row {rows[at] + 1}" for at in (0, other))
        raise InputError(f"labels of target {name!r} must be of one type, found {one} and {two}; write all as text")
    if kinds[0] == "other":
        raise InputError(f"target {name!r} must hold text, numbers or truth values, found {held[0]!r}")
    if kinds[0] == "number":
        return _of_numbers(name, pd.to_numeric(cells).to_numpy(np.float64, na_value=np.nan))
    if kinds[0] == "truth value":
        return _numbered(np.array([-1 if pd.isna(cell) else int(cell) for cell in cells]), (False, True))
    texts = texts_of(cells)
    labels = tuple(sorted({str(text) for text in texts} - {""}))
    return codes_in(pd.Series(texts), labels), labels


def _kind(cell: Any) -> str:
    if isinstance(cell, bool | np.bool_):
        return "truth value"
    if isinstance(cell, int | float | np.number):
        return "number"
    return "text" if isinstance(cell, str) else "other"


def _of_numbers(name: str, values: np.ndarray) -> tuple[Int[np.ndarray, " rows"], tuple[Label, ...]]:
    known = values[np.isfinite(values)]
    levels = np.unique(known)
    odd = levels[(levels != np.round(levels)) | (np.abs(levels) > 2**53)]
    if len(odd):
        raise InputError(
            f"target {name!r} looks like a number, found {odd[0]:g} among {len(levels)} different values in "
            f"{len(known)} rows; take it for one, or write classes as text or whole numbers"
        )
    at = np.searchsorted(levels, values)
    return np.where(np.isfinite(values), at, -1), tuple(int(level) for level in levels)


def _numbered(codes: Int[np.ndarray, " rows"], labels: Sequence[Label]) -> tuple[np.ndarray, tuple[Label, ...]]:
    """Codes of labels of which some may not occur, without these."""
    some = np.unique(codes[codes >= 0])
    return np.where(codes < 0, -1, np.searchsorted(some, codes)), tuple(labels[i] for i in some)


def codes_in(cells: pd.Series, labels: Sequence[Label]) -> Int[np.ndarray, " rows"]:
    """The number of each cell's class among labels that are known; -1 for a gap and for any other cell. Text is
    compared as text, numbers and truth values by their value."""
    if isinstance(labels[0], str):
        keys: list[Any] = texts_of(cells.astype(object)).tolist()
    else:
        keys = [np.nan if pd.isna(cell) else read_number(cell, "")[0] for cell in cells]
    place = {label if isinstance(label, str) else float(label): number for number, label in enumerate(labels)}
    return np.array([place.get(key, -1) for key in keys], dtype=np.int64)


def check_classes(name: str, codes: Int[np.ndarray, " rows"], labels: Sequence[Label]) -> None:
    """Raises InputError, one line without the name of a file, for classes that nothing can be learned of: fewer than
    two, one in a single row, nearly as many as rows. codes: -1 for a gap. name: of the target."""
    known, counts = int((codes >= 0).sum()), np.bincount(codes[codes >= 0], minlength=len(labels))
    if len(labels) < 2:
        found = f"one class, {labels[0]!r} in all rows" if labels else "none"
        raise InputError(f"target {name!r} must vary, found {found}; choose another column")
    if len(labels) > max(2, MOST_NEW * known):
        shown = ", ".join(map(repr, labels[:SHOWN]))
        raise InputError(
            f"target {name!r} holds {len(labels)} different values in {known} rows, too many for classes: {shown}, ..; "
            "it looks like an identifier, or a number with cells that are none; choose another column, or clean it"
        )
    if (counts < LEAST_ROWS).any():
        alone = np.flatnonzero(counts < LEAST_ROWS)
        row, more = int((codes == alone[0]).argmax()) + 1, len(alone) - 1
        others = f", and {more} more class{'es' * (more > 1)} in one each" if more else ""
        raise InputError(
            f"a class needs at least {LEAST_ROWS} rows, {labels[alone[0]]!r} of target {name!r} stands in row {row} "
            f"alone{others}; drop such rows, or join classes"
        )
