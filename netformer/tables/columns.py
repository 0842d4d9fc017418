"""Columns: what each column of a table is, and its cells as numbers or as levels.

A column is of one kind:

    number    numbers, truth values (0, 1), durations (seconds); also numbers as people write them: 1,000.5 $ 3 % 2,5 ?
    date      dates and times, as seconds since 1970-01-01 UTC
    category  text, and columns of a categorical type: its cells are levels

What a column is read as is decided once, on the rows that are fitted (`column_of`), and holds for every later row.
"""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from netformer.errors import InputError, first_few
from netformer.tables.cells import DATE_FORMATS, GAPS, Cells, first_of, has_comma, read_dates, read_numbers, texts_of
from netformer.tables.scaling import FLAT

MIN_FREQUENCY = 2  # rows of a level, or of a word that stands for a gap, that is kept
MOST_UNREADABLE = 0.1  # of the cells that are no gap: with more of them a column of text is no column of numbers
LEAST_STAND_INS, LEAST_OTHERS = 3, 10  # cells that hold a number taken for a gap; different other values beside it
MOST_NEW = 0.5  # share of levels to rows above which text tells rows apart and says nothing of the next one
ALWAYS_LEVELS = 10  # that are read whatever the share
HINTS = 4  # names that are missing for which one that comes near is named
_ROW_NUMBER = re.compile(r"(?:row_?)?(?:id|index|names?|number|no|nr)|unnamed: ?0|#|\w*_id|\w+ID|\w+Id", re.IGNORECASE)
_TIME = re.compile(r"t|time|year|yr|month|day|date|week|period|age|rank|step", re.IGNORECASE)


@dataclass(frozen=True)
class Column:
    """One column of a table and how its cells are read.

    kind: number, date or category. levels: those of a category, text, the most frequent first, "" for a gap; of a
    number whose values behave as codes, these values. fill: what stands for a gap of a number or date, in its units.
    gaps: numbers that were taken for gaps, such as -999. form: of text cells, "," for a decimal comma, the format of
    a date (`DATE_FORMATS`), else "". note: what was assumed. words: text that stood for a gap among numbers, such as
    "to ask". missing: share of gaps among the rows fitted, 0 to 1.
    """

    name: str
    kind: str
    levels: tuple[str | float, ...] = ()
    fill: float = 0.0
    gaps: tuple[float, ...] = ()
    form: str = ""
    note: str = ""
    words: tuple[str, ...] = ()
    missing: float = 0.0

    def values(self, cells: Cells) -> Float[np.ndarray, " rows"]:
        """The cells of a number or date, gaps nan. Cells among numbers that hold none are gaps if they are few
        (`MOST_UNREADABLE`), which a UserWarning says; else, and among dates, InputError names the first one."""
        values, unreadable = self.read(cells)
        if unreadable.any():
            series = pd.Series(cells)
            if self.kind == "date" or unreadable.sum() > MOST_UNREADABLE * series.notna().sum():
                row, what = int(unreadable.argmax()), self.kind
                if self.form not in ("", ",", "ISO8601"):
                    what = f"date such as {pd.Timestamp(2026, 12, 31):{self.form}}, or 2026-12-31,"
                raise InputError(
                    f"column {self.name!r} must hold a {what} in every row, as in the table that was fitted; "
                    f"found {str(series.iloc[row])!r} in row {row + 1}; leave the cell empty if it is not known"
                )
            note = f"column {self.name!r}: {first_of(series, unreadable)} taken for a gap"
            warnings.warn(note, UserWarning, stacklevel=2)
        return values

    def read(self, cells: Cells) -> tuple[Float[np.ndarray, " rows"], Bool[np.ndarray, " rows"]]:
        """The cells of a number or date, gaps nan, and which are neither that nor anything known to stand for a gap."""
        if isinstance(cells, np.ndarray) and cells.dtype.kind in "fiub":
            values, unreadable = cells.astype(np.float64), np.zeros(len(cells), bool)
        else:
            series = pd.Series(cells)
            read = read_dates if self.kind == "date" else read_numbers
            values, unreadable = read(series, self.form)
            if self.words and unreadable.any():
                unreadable[unreadable] = ~np.isin(texts_of(series[unreadable]), self.words)
        return np.where(np.isin(values, self.gaps), np.nan, values) if self.gaps else values, unreadable

    def codes(self, cells: Cells) -> Int[np.ndarray, " rows"]:
        """The position of each cell in `levels`; len(levels) for any other."""
        keys: Any = self.values(cells) if self.kind == "number" else texts_of(pd.Series(cells))
        at = pd.Index(list(self.levels)).get_indexer(keys)
        return np.where(at < 0, len(self.levels), at)


def is_frame(X: Any) -> bool:
    """Whether X is a table with named columns: a DataFrame of pandas or polars, a table of pyarrow."""
    return hasattr(X, "columns") or hasattr(X, "column_names")


def cells_of(X: Any, names: Sequence[str] | None = None) -> tuple[tuple[str, ...], list[Cells]]:
    """Names and cells of each column of a table: an array (rows, features), or a DataFrame of pandas, polars or
    pyarrow. names: of an array's columns, None for x0, x1, ...

    Raises InputError for another shape, names that occur twice, sparse input.
    """
    if hasattr(X, "toarray") and not hasattr(X, "columns"):
        raise InputError("X must be dense, got a sparse matrix; X.toarray() makes it dense")
    if not isinstance(X, pd.DataFrame) and hasattr(X, "to_pandas"):
        X = X.to_pandas()
    if isinstance(X, pd.DataFrame):
        known = tuple(str(name) for name in X.columns)
        if len(set(known)) < len(known):
            twice = sorted({name for name in known if known.count(name) > 1})
            raise InputError(f"column names must be unique, found more than once: {', '.join(map(repr, twice))}")
        return known, [X.iloc[:, i] for i in range(X.shape[1])]
    array = np.asarray(X)
    if array.ndim != 2:
        raise InputError(f"X must be (rows, features), got {array.shape}")
    if array.dtype.kind in "fiub":
        array = array.astype(np.float64, copy=False)
        cells: list[Cells] = list(array.T)
    else:
        cells = [pd.Series(list(column)) for column in array.T]
    return tuple(names or (f"x{i}" for i in range(array.shape[1]))), cells


def matched(X: Any, wanted: Sequence[str], given: Sequence[str]) -> tuple[list[Cells], list[str]]:
    """The cells of the columns `wanted`, and which columns of X nobody asked for.

    A DataFrame is matched by name, whatever its order; an array by position, as wide as `given`, the columns of the
    table that was fitted, or as `wanted`. Raises InputError for a column that is missing, with names that come near.
    """
    framed = is_frame(X)
    names, cells = cells_of(X)
    if not framed:
        for expected in (given, wanted):
            if len(cells) == len(expected):
                return [cell for name, cell in zip(expected, cells, strict=True) if name in set(wanted)], []
        raise InputError(f"X must be (rows, {len(given)}), got {len(cells)} columns; it was fitted on {_shown(given)}")
    at = dict(zip(names, cells, strict=True))
    missing = [name for name in wanted if name not in at]
    if missing:
        hint = _hint(missing, [name for name in names if name not in set(wanted)]) or f"found {_shown(names)}"
        raise InputError(f"the table lacks {_shown(missing)}, read by the networks; {hint}")
    return [at[name] for name in wanted], [name for name in names if name not in set(given)]


def _hint(missing: Sequence[str], free: Sequence[str]) -> str:
    """Which of the names that are free may be meant by the first few that are missing, "" if none comes near."""
    meant: dict[str, str] = {}
    for name in missing[:HINTS]:
        if near := _nearest(name, [other for other in free if other not in meant]):
            meant[near] = f" for {name!r}" if len(missing) > 1 else ""
    return f"did you mean {', '.join(repr(near) + name for near, name in meant.items())}?" if meant else ""


def _nearest(name: str, among: Sequence[str]) -> str | None:
    plain = {re.sub(r"[\W_]+", "", other).lower(): other for other in among}
    near = difflib.get_close_matches(re.sub(r"[\W_]+", "", name).lower(), plain, n=1)
    return plain[near[0]] if near else None


def _shown(names: Sequence[str]) -> str:
    return first_few([repr(name) for name in names])


def column_of(
    name: str, cells: Cells, min_frequency: int = MIN_FREQUENCY, comma: bool = False
) -> tuple[Column, np.ndarray]:
    """What a column is, and its cells: values of a number or date, codes of a category. min_frequency: rows in which
    a word that stands for a gap is found, if it is kept. comma: whether the numbers of its file have a decimal comma.

    Raises InputError, one line without the name of a file, for a column that nothing can be read from.
    """
    if pd.isna(cells).all():
        raise InputError("holds no value")
    if isinstance(cells, np.ndarray) and cells.dtype.kind == "f":
        return Column(name, "number"), cells
    series = pd.Series(cells)
    kind = series.dtype
    if isinstance(kind, pd.CategoricalDtype):
        return _category(name, series, ordered=bool(kind.ordered))
    if pd.api.types.is_bool_dtype(kind) or pd.api.types.is_numeric_dtype(kind):
        if pd.api.types.is_complex_dtype(kind):
            raise InputError("holds complex numbers")
        return Column(name, "number", form="," if comma else ""), read_numbers(series, "")[0]
    if pd.api.types.is_timedelta64_dtype(kind):
        return Column(name, "number", note="a duration, in seconds"), read_numbers(series, "")[0]
    if pd.api.types.is_datetime64_any_dtype(kind):
        return Column(name, "date"), read_dates(series, "")[0]
    known = series.dropna()
    if known.map(lambda cell: isinstance(cell, list | dict | set | tuple | np.ndarray)).any():
        raise InputError("holds lists or the like")
    return _text_column(name, series, min_frequency, comma)


def _text_column(name: str, series: pd.Series, min_frequency: int, comma: bool) -> tuple[Column, np.ndarray]:
    """A column of text or mixed cells: numbers if (nearly) all are, dates if all are, else a category."""
    texts = texts_of(series)
    distinct = [text for text in pd.unique(texts) if text.lower() not in GAPS]
    if not distinct:
        raise InputError("holds no value")
    codes = any(re.fullmatch(r"0\d+", text) for text in distinct)  # 00123: no number is written so
    form = "," if comma or any(has_comma(text) for text in distinct) else ""
    values, unreadable = read_numbers(series, form)
    some = np.isfinite(values)
    if not codes and some.any() and unreadable.sum() <= MOST_UNREADABLE * (some.sum() + unreadable.sum()):
        note = "numbers with a decimal comma" if form else ""
        if unreadable.any():
            row, more = int(unreadable.argmax()), int(unreadable.sum()) - 1
            rest = f" and {more} more taken for gaps" if more else " taken for a gap"
            note = f"{note or 'numbers'}; the cell in row {row + 1}{rest}"  # without it: this is stored
        counts = pd.Series(texts[unreadable]).value_counts()
        words = tuple(sorted(counts.index[counts >= min_frequency]))
        return Column(name, "number", form=form, note=note, words=words), values
    if all(6 <= len(text) <= 40 and re.search(r"\d{2}", text) for text in distinct):
        for form in DATE_FORMATS:
            if not read_dates(pd.Series(distinct[:20]), form)[1].any():
                seconds, unreadable = read_dates(series, form)
                if not unreadable.any():
                    return Column(name, "date", form=form, note=_other_order(series, form, seconds)), seconds
    return _category(name, series)


def _other_order(series: pd.Series, form: str, seconds: Float[np.ndarray, " rows"]) -> str:
    """The note for dates that can be read with day and month the other way round as well, and are other dates then."""
    other = form.translate(str.maketrans("dm", "md"))
    if other == form or other not in DATE_FORMATS:
        return ""
    swapped, unreadable = read_dates(series, other)
    if unreadable.any() or np.array_equal(swapped, seconds, equal_nan=True):
        return ""
    first, second = ("day", "month") if form.index("d") < form.index("m") else ("month", "day")
    return f"dates taken as {first} before {second}; {second} before {first} fits every cell as well"


def together(*notes: str) -> str:
    """Several notes on a column as one."""
    return "; ".join(dict.fromkeys(note for note in notes if note))


def _category(name: str, series: pd.Series, ordered: bool = False) -> tuple[Column, np.ndarray]:
    texts = texts_of(series)
    counts = pd.Series(texts).value_counts(sort=True)
    levels = sorted(counts.index, key=lambda level: (-counts[level], level))
    if ordered:
        rank = {str(level).strip(): i for i, level in enumerate(series.cat.categories)}
        levels = sorted(levels, key=lambda level: (rank.get(level, -1), level))
    full = [level for level in levels if level]
    if len(full) > max(MOST_NEW * int(counts[full].sum()), ALWAYS_LEVELS):
        raise InputError(f"a text that differs in nearly every row ({len(full)} of {int(counts[full].sum())})")
    column = Column(name, "category", tuple(levels), note="ordered" if ordered else "")
    return column, column.codes(series)


def _is_row_number(column: Column, values: np.ndarray) -> bool:
    """Whether a column of numbers counts rows, or names them: whole, none twice, and in steps of one from 0 or 1, or
    under a name such as id."""
    if (
        column.kind != "number"
        or len(values) < 3
        or not np.isfinite(values).all()
        or (values != np.round(values)).any()
    ):
        return False
    if len(np.unique(values)) < len(values) or _TIME.fullmatch(column.name):
        return False
    counts = values[0] in (0, 1) and bool((np.diff(values) == 1).all())
    return counts or _ROW_NUMBER.fullmatch(column.name) is not None


def says_nothing(column: Column, values: np.ndarray, n_columns: int) -> str:
    """Why a column says nothing of a target: it does not vary, or counts the rows; else "". values: or codes."""
    if column.kind == "category":
        return "one level in all rows" if len(column.levels) == 1 else ""
    known = values[~np.isnan(values)]
    if len(known) == len(values) and np.ptp(known / 2) <= FLAT * np.abs(known).max():
        return f"constant, {known[0]:g} in all rows"
    return "a row number or an id" if n_columns > 1 and _is_row_number(column, values) else ""


def copy_of(column: Column, values: np.ndarray, seen: dict[bytes, str]) -> str:
    """The note for a column that repeats an earlier one."""
    key = column.kind.encode() + (values + 0.0).tobytes()
    earlier = seen.setdefault(key, column.name)
    return "" if earlier == column.name else f"a copy of {earlier}"


def finite(name: str, values: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
    """The values. Raises InputError for an infinite one, naming its row."""
    endless = np.isinf(values)
    if endless.any():
        row = int(endless.argmax())
        raise InputError(f"column {name!r} must be finite, found {values[row]} in row {row + 1}; leave the cell empty")
    return values


def stand_ins(values: Float[np.ndarray, " rows"]) -> tuple[float, ...]:
    """Numbers that stand for a gap in a column, such as -999: its least or largest value, if it is there
    `LEAST_STAND_INS` times and farther from all others than these are from each other. values: without gaps."""
    for end in (values.min(), values.max()):
        others = values[values != end]
        if len(values) - len(others) < LEAST_STAND_INS or len(others) < LEAST_OTHERS:
            continue
        low, high = others.min(), others.max()
        apart = low / 2 - end / 2 if end < low else end / 2 - high / 2  # halves: two numbers may be very far apart
        if apart > high / 2 - low / 2 and len(np.unique(others)) >= LEAST_OTHERS:
            return (float(end), *stand_ins(others))
    return ()


def usable(
    names: Sequence[str], cells: Sequence[Cells], framed: bool, min_frequency: int
) -> tuple[list[tuple[Column, np.ndarray]], dict[str, str]]:
    """The columns in use with their values or codes, and why each other one is left out."""
    used: list[tuple[Column, np.ndarray]] = []
    reasons: dict[str, str] = {}
    seen: dict[bytes, str] = {}
    for name, cell in zip(names, cells, strict=True):
        try:
            column, values = column_of(name, cell, min_frequency)
        except InputError as error:
            reasons[name] = str(error)
            continue
        if column.kind != "category":
            values = finite(name, values)
        if framed:
            what = says_nothing(column, values, len(cells)) or copy_of(column, values, seen)
            if what:
                reasons[name] = what
                continue
        used.append((column, values))
    return used, reasons
