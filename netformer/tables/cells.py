"""Cells: what is written in one, as text, as a number or as a date; and what stands for a gap."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

GAPS = frozenset(("", "?", "-", "--", ".", "na", "n/a", "#n/a", "nan", "none", "null", "<na>", "nat"))
_DAYS = ("%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%d.%m.%y", "%m/%d/%y", "%d/%m/%y")
DATE_FORMATS = (
    "ISO8601",
    *(day + time for day in _DAYS for time in ("", " %H:%M", " %H:%M:%S")),
    *("%d-%m-%Y", "%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%d %B %Y"),
    *("%b %d %Y", "%b %d, %Y", "%B %d, %Y", "%b %Y", "%B %Y"),
)
_TRUTH = {"true": 1.0, "false": 0.0}
_DRESS = re.compile(r"[\s\u00a0\u202f'$€£¥₹%]|^(?:usd|eur|gbp|chf)|(?:usd|eur|gbp|chf)$", re.IGNORECASE)
_COMMA = re.compile(r"\D*(?:\d{1,3}(?:\.\d{3})+,\d+|0,\d+|\d+,(?:\d{1,2}|\d{4,}))\D*")  # 2,5 0,125 1.000,25, not 1,000
_GROUPED = {  # a whole number with marks between its thousands, by what is the decimal mark
    "": re.compile(r"[-+]?[1-9]\d{0,2}(?:,\d{3})+(?=\.|$)"),
    ",": re.compile(r"[-+]?[1-9]\d{0,2}(?:\.\d{3})+(?=,|$)"),
}

Cells = np.ndarray | pd.Series  # of one column


def has_comma(text: str) -> bool:
    """Whether a number can only be read with a decimal comma: 2,5 0,125 and 1.000,25, not 1,000."""
    return _COMMA.fullmatch(text) is not None


def first_of(cells: pd.Series, some: Bool[np.ndarray, " rows"]) -> str:
    """The first of some cells and its row, and how many more there are."""
    row, more = int(some.argmax()), int(some.sum()) - 1
    rest = f" and {more} more cell{'s' * (more > 1)}" if more else ""
    return f"{str(cells.iloc[row])!r} in row {row + 1}{rest}"


def texts_of(series: pd.Series) -> np.ndarray:
    """Each cell as text without blanks around it, "" for a gap; whole numbers without a decimal point."""
    codes, distinct = pd.factorize(series)  # -1 for a gap
    texts = np.array([_text(cell) for cell in distinct] + [""], dtype=object)
    return texts[codes]


def _text(cell: Any) -> str:
    if isinstance(cell, float | np.floating) and float(cell).is_integer():
        return str(int(cell))
    return str(cell).strip()


def read_numbers(series: pd.Series, form: str) -> tuple[Float[np.ndarray, " rows"], np.ndarray]:
    """Cells as numbers, nan for gaps, and which could not be read. form: "," for a decimal comma, see `read_number`."""
    kind = series.dtype
    if pd.api.types.is_timedelta64_dtype(kind):
        return series.dt.total_seconds().to_numpy(np.float64, na_value=np.nan), np.zeros(len(series), bool)
    if pd.api.types.is_bool_dtype(kind) or pd.api.types.is_numeric_dtype(kind):
        return series.to_numpy(np.float64, na_value=np.nan), np.zeros(len(series), bool)
    codes, distinct = pd.factorize(series)
    read = np.array([read_number(cell, form) for cell in distinct] + [(np.nan, False)], dtype=np.float64).reshape(-1, 2)
    return read[codes, 0], read[codes, 1] > 0


def read_number(cell: Any, form: str) -> tuple[float, bool]:
    """A cell as a number, and whether it is neither a number nor a gap. form: "," for text with a decimal comma, in
    which points between thousands are left out; 2.5 is 2.5 there too, it can be nothing else."""
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
    if whole := _GROUPED[form].match(text):
        text = whole[0].replace(",", "").replace(".", "") + text[whole.end() :]
    if form == ",":
        text = text.replace(",", ".")
    try:
        value = float(text) if "_" not in text else np.nan
    except ValueError:
        value = np.nan
    return (value, False) if np.isfinite(value) else (np.nan, True)


def read_dates(series: pd.Series, form: str) -> tuple[Float[np.ndarray, " rows"], np.ndarray]:
    """Cells as seconds since 1970 UTC, nan for gaps, and which could not be read. Numbers are such seconds; form: of
    text, one of `DATE_FORMATS`, "" for ISO 8601."""
    if pd.api.types.is_numeric_dtype(series.dtype):
        return series.to_numpy(np.float64, na_value=np.nan), np.zeros(len(series), bool)
    times, unreadable = times_of(series, form)
    seconds = (times - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
    return seconds.to_numpy(np.float64, na_value=np.nan), unreadable


def times_of(series: pd.Series, form: str) -> tuple[pd.Series, np.ndarray]:
    """Cells as times in UTC, and which could not be read; form: as in `read_dates`, beside which text may be ISO 8601.
    Times without a zone are UTC."""
    if pd.api.types.is_datetime64_any_dtype(series.dtype):
        return pd.to_datetime(series, utc=True), np.zeros(len(series), bool)
    texts = [None if text.lower() in GAPS else text for text in texts_of(series)]
    cells = pd.Series(texts, series.index, dtype=object)
    times = pd.to_datetime(cells, format=form or "ISO8601", utc=True, errors="coerce")
    other = times.isna() & cells.notna()
    if other.any() and form not in ("", "ISO8601"):
        times[other] = pd.to_datetime(cells[other], format="ISO8601", utc=True, errors="coerce")
    return times, (times.isna() & cells.notna()).to_numpy()
