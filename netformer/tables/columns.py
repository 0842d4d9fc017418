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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from netformer.errors import InputError

GAPS = frozenset(("", "?", "-", "--", ".", "na", "n/a", "#n/a", "nan", "none", "null", "<na>", "nat"))
MOST_UNREADABLE = 0.1  # of the cells that are no gap: with more of them a column of text is no column of numbers
LEAST_STAND_INS, LEAST_OTHERS = 3, 10  # cells that hold a number taken for a gap; different other values beside it
MOST_NEW = 0.5  # share of levels to rows above which text tells rows apart and says nothing of the next one
ALWAYS_LEVELS = 10  # that are read whatever the share
HINTS = 4  # names that are missing for which one that comes near is named
DATE_FORMATS = (
    *("ISO8601", "%Y/%m/%d", "%Y/%m/%d %H:%M", "%Y/%m/%d %H:%M:%S", "%d.%m.%Y", "%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S"),
    *("%m/%d/%Y", "%m/%d/%Y %H:%M", "%m/%d/%Y %H:%M:%S", "%d/%m/%Y", "%d/%m/%Y %H:%M", "%d/%m/%Y %H:%M:%S", "%m/%d/%y"),
    *(
        "%d-%m-%Y",
        "%d-%b-%Y",
        "%d-%b-%y",
        "%d %b %Y",
        "%d %B %Y",
        "%b %d %Y",
        "%b %d, %Y",
        "%B %d, %Y",
        "%b %Y",
        "%B %Y",
    ),
)
_TRUTH = {"true": 1.0, "false": 0.0}
_DRESS = re.compile(r"[\s\u00a0\u202f'$€£¥₹%]|^(?:usd|eur|gbp|chf)|(?:usd|eur|gbp|chf)$", re.IGNORECASE)
_COMMA = re.compile(r"[^\d]*(?:\d{1,3}(?:\.\d{3})+|\d+),(?:\d{1,2}|\d{4,})\D*")  # 2,5 and 1.000,25, not 1,000
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d*)?")
_ROW_NUMBER = re.compile(r"(?:row_?)?(?:id|index|names?|number|no|nr)|unnamed: ?0|#|\w*_id|\w+ID|\w+Id", re.IGNORECASE)
_TIME = re.compile(r"t|time|year|yr|month|day|date|week|period|age|rank|step", re.IGNORECASE)

Cells = np.ndarray | pd.Series  # of one column


@dataclass(frozen=True)
class Column:
    """One column of a table and how its cells are read.

    kind: number, date or category. levels: those of a category, text, the most frequent first, "" for a gap; of a
    number whose values behave as codes, these values. fill: what stands for a gap of a number or date, in its units.
    gaps: numbers that were taken for gaps, such as -999. form: of text cells, "," for a decimal comma, the format of
    a date (`DATE_FORMATS`), else "". note: what was assumed. missing: share of gaps among the rows fitted.
    """

    name: str
    kind: str
    levels: tuple[str | float, ...] = ()
    fill: float = 0.0
    gaps: tuple[float, ...] = ()
    form: str = ""
    note: str = ""
    missing: float = 0.0

    def values(self, cells: Cells) -> Float[np.ndarray, " rows"]:
        """The cells of a number or date, gaps nan. Raises InputError, naming the first one that is none."""
        if isinstance(cells, np.ndarray) and cells.dtype.kind in "fiub":
            return self._known(cells.astype(np.float64))
        series = pd.Series(cells)
        values, unreadable = _dates(series, self.form) if self.kind == "date" else read_numbers(series, self.form)
        if unreadable.any():
            row = int(unreadable.argmax())
            raise InputError(
                f"column {self.name!r} must hold a {self.kind} in every row, as in the table that was fitted; found "
                f"{str(series.iloc[row])!r} in row {row + 1}; leave the cell empty if it is not known"
            )
        return self._known(values)

    def _known(self, values: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
        return np.where(np.isin(values, self.gaps), np.nan, values) if self.gaps else values

    def codes(self, cells: Cells) -> Int[np.ndarray, " rows"]:
        """The position of each cell in `levels`; len(levels) for any other."""
        keys: Any = self.values(cells) if self.kind == "number" else _texts(pd.Series(cells))
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


def _shown(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more


def column_of(name: str, cells: Cells) -> tuple[Column, np.ndarray]:
    """What a column is, and its cells: values of a number or date, codes of a category.

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
        return Column(name, "number"), read_numbers(series, "")[0]
    if pd.api.types.is_timedelta64_dtype(kind):
        return Column(name, "number", note="a duration, in seconds"), read_numbers(series, "")[0]
    if pd.api.types.is_datetime64_any_dtype(kind):
        return Column(name, "date"), _dates(series, "")[0]
    known = series.dropna()
    if known.map(lambda cell: isinstance(cell, list | dict | set | tuple | np.ndarray)).any():
        raise InputError("holds lists or the like")
    return _text_column(name, series)


def _text_column(name: str, series: pd.Series) -> tuple[Column, np.ndarray]:
    """A column of text or mixed cells: numbers if (nearly) all are, dates if all are, else a category."""
    texts = _texts(series)
    distinct = [text for text in pd.unique(texts) if text.lower() not in GAPS]
    if not distinct:
        raise InputError("holds no value")
    codes = any(re.fullmatch(r"0\d+", text) for text in distinct)  # 00123: no number is written so
    form = "," if any(_COMMA.fullmatch(text) for text in distinct) else ""
    values, unreadable = read_numbers(series, form)
    some = np.isfinite(values)
    if not codes and some.any() and unreadable.sum() <= MOST_UNREADABLE * (some.sum() + unreadable.sum()):
        note = "numbers with a decimal comma" if form else ""
        if unreadable.any():
            row = int(unreadable.argmax())
            more = f" and {unreadable.sum() - 1} more" if unreadable.sum() > 1 else ""
            note = f"numbers; the cell in row {row + 1}{more} taken for gaps"  # without it: this is stored
        return Column(name, "number", form=form, note=note), values
    if all(6 <= len(text) <= 40 and re.search(r"\d{2}", text) for text in distinct):
        for form in DATE_FORMATS:
            if not _dates(pd.Series(distinct[:20]), form)[1].any():
                seconds, unreadable = _dates(series, form)
                if not unreadable.any():
                    return Column(name, "date", form=form, note=_other_order(series, form, seconds)), seconds
    return _category(name, series)


def _other_order(series: pd.Series, form: str, seconds: Float[np.ndarray, " rows"]) -> str:
    """The note for dates that can be read with day and month the other way round as well, and are other dates then."""
    other = form.translate(str.maketrans("dm", "md"))
    if other == form or other not in DATE_FORMATS:
        return ""
    swapped, unreadable = _dates(series, other)
    if unreadable.any() or np.array_equal(swapped, seconds, equal_nan=True):
        return ""
    first, second = ("day", "month") if form.index("d") < form.index("m") else ("month", "day")
    return f"dates taken as {first} before {second}; {second} before {first} fits every cell as well"


def _category(name: str, series: pd.Series, ordered: bool = False) -> tuple[Column, np.ndarray]:
    texts = _texts(series)
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


def _texts(series: pd.Series) -> np.ndarray:
    """Each cell as text without blanks around it, "" for a gap; whole numbers without a decimal point."""
    codes, distinct = pd.factorize(series)  # -1 for a gap
    texts = np.array([_text(cell) for cell in distinct] + [""], dtype=object)
    return texts[codes]


def _text(cell: Any) -> str:
    if isinstance(cell, float | np.floating) and float(cell).is_integer():
        return str(int(cell))
    return str(cell).strip()


def read_numbers(series: pd.Series, form: str) -> tuple[Float[np.ndarray, " rows"], np.ndarray]:
    """Cells as numbers, nan for gaps, and which could not be read. form: "," for a decimal comma."""
    kind = series.dtype
    if pd.api.types.is_timedelta64_dtype(kind):
        return series.dt.total_seconds().to_numpy(np.float64, na_value=np.nan), np.zeros(len(series), bool)
    if pd.api.types.is_bool_dtype(kind) or pd.api.types.is_numeric_dtype(kind):
        return series.to_numpy(np.float64, na_value=np.nan), np.zeros(len(series), bool)
    codes, distinct = pd.factorize(series)
    read = np.array([read_number(cell, form) for cell in distinct] + [(np.nan, False)], dtype=np.float64).reshape(-1, 2)
    return read[codes, 0], read[codes, 1] > 0


def read_number(cell: Any, form: str) -> tuple[float, bool]:
    """A cell as a number, and whether it is neither a number nor a gap."""
    if isinstance(cell, bool | np.bool_ | int | float | np.number):
        return float(cell), False
    text = str(cell).strip()
    if text.lower() in GAPS:
        return np.nan, False
    if text.lower() in _TRUTH:
        return _TRUTH[text.lower()], False
    text = _DRESS.sub("", text)
    if text.startswith("(") and text.endswith(")"):
        text = "-" + text[1:-1]
    if form == ",":
        text = text.replace(".", "").replace(",", ".")
    elif _THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    try:
        value = float(text) if "_" not in text else np.nan
    except ValueError:
        value = np.nan
    return (value, False) if np.isfinite(value) else (np.nan, True)


def _dates(series: pd.Series, form: str) -> tuple[Float[np.ndarray, " rows"], np.ndarray]:
    """Cells as seconds since 1970 UTC, nan for gaps, and which could not be read. Times without a zone are UTC."""
    if pd.api.types.is_datetime64_any_dtype(series.dtype):
        times = pd.to_datetime(series, utc=True)
    elif pd.api.types.is_numeric_dtype(series.dtype):
        return series.to_numpy(np.float64, na_value=np.nan), np.zeros(len(series), bool)
    else:
        texts = pd.Series([None if text.lower() in GAPS else text for text in _texts(series)], dtype=object)
        times = pd.to_datetime(texts, format=form or "ISO8601", utc=True, errors="coerce")
        unreadable = (times.isna() & texts.notna()).to_numpy()
        return _seconds(times), unreadable
    return _seconds(times), np.zeros(len(series), bool)


def _seconds(times: pd.Series) -> Float[np.ndarray, " rows"]:
    return ((times - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)).to_numpy(np.float64, na_value=np.nan)


def is_row_number(column: Column, values: np.ndarray) -> bool:
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
