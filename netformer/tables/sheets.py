"""Sheets: a sheet of an Excel file as a table. Which one, and where its table begins, is found out, and said."""

from __future__ import annotations

import io
import re
import warnings
import zipfile
import zlib

import numpy as np
import pandas as pd
from jaxtyping import Int

from netformer.errors import InputError
from netformer.tables.delimited import check_header, header_at, skipped_titles
from netformer.tables.encodings import Source, require_sheets_fit

# openpyxl raises what the first line that meets a damaged part does.
_BY_OPENPYXL = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    ArithmeticError,
    SyntaxError,
    AssertionError,
)
_MERGED = re.compile(rb'<(?:\w+:)?mergeCell [^>]*?ref="(\w+:\w+)"')
_CHUNK, _LONGEST = 1 << 20, 1 << 8  # bytes of a sheet that are read at once, and of the tag of merged cells
_HEAD = 100  # first rows of a sheet in which its header must be


def read_excel(source: Source, header: bool, sheet: str | None = None) -> tuple[pd.DataFrame, list[str]]:
    """The table in a sheet of an Excel file, and what was assumed.

    header: False for a sheet without column names: they are x0, x1, .. sheet: its name, or its number, from 1 on; None
    for the first one with two columns and a row below the header, or else the first.

    Raises InputError for a file or a sheet that cannot be read, and a sheet that is not there.
    """
    name, notes = source.name, []
    try:
        require_sheets_fit(source)
        with warnings.catch_warnings(), pd.ExcelFile(io.BytesIO(source.data), engine="openpyxl") as book:
            warnings.simplefilter("ignore", UserWarning)  # openpyxl on what it leaves out: styles, extensions
            sheets = [str(one) for one in book.sheet_names]
            chosen = _chosen(book, sheets) if sheet is None else _named(sheet, sheets, name)
            rows = _head(book, chosen)
            filled = [i for i, row in enumerate(rows) if any(row)]
            if not filled:
                raise InputError(
                    f"{name}: a table needs a header and rows, the first rows of sheet {sheets[chosen]!r} are empty"
                )
            at = header_at([rows[i] for i in filled]) if header else 0
            start = filled[at]
            frame = pd.read_excel(book, sheet_name=chosen, header=None, skiprows=start + header)
            frame, merged = _filled(frame, start + header, _merged(book, sheets[chosen]), name)
    except ImportError:
        raise InputError(f"{name}: .xlsx needs openpyxl; pip install openpyxl, or save the sheet as .csv") from None
    except InputError:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        OSError,
        EOFError,
        NotImplementedError,
        RuntimeError,
        *_BY_OPENPYXL,
    ) as error:
        raise InputError(f"{name}: not a readable xlsx table: {' '.join(str(error).split())}") from None
    if len(sheets) > 1:
        others = ", ".join(repr(one) for one in sheets if one != sheets[chosen])
        hint = "" if sheet is not None else f"; others: {others}, --sheet names one"
        notes.append(f"{name}: read sheet {sheets[chosen]!r}, number {chosen + 1} of {len(sheets)}{hint}")
    if at:
        notes.append(skipped_titles(name, at, rows[filled[0]]))
    names = rows[start]
    if header:
        notes += check_header(names, name)
    if merged:
        shown = ", ".join(repr(names[i] if i < len(names) else f"Unnamed: {i}") for i in merged)
        notes.append(f"{name}: cells merged over several rows stand in each of them, in {shown}")
    names += [""] * (frame.shape[1] - len(names))  # rows below that are longer
    frame = frame.reindex(columns=range(len(names)))  # without rows there are no columns
    frame.columns = [(cell or f"Unnamed: {i}") if header else f"x{i}" for i, cell in enumerate(names)]
    return frame, notes


def _merged(book: pd.ExcelFile, sheet: str) -> Int[np.ndarray, "ranges 3"]:
    """The column, the first and the last row of each range of merged cells of a sheet, from 0 on. openpyxl does not
    read them of a sheet that it does not hold in memory."""
    from openpyxl.utils import range_boundaries

    found, rest = list[bytes](), b""
    with book.book._archive.open(book.book[sheet]._worksheet_path) as part:
        while chunk := part.read(_CHUNK):
            found += _MERGED.findall(rest + chunk)
            rest = (rest + chunk)[-_LONGEST:].rpartition(b">")[2]
    corners = [range_boundaries(one.decode()) for one in found]
    return np.array([(left, top, bottom) for left, top, _, bottom in corners], np.int64).reshape(-1, 3) - 1


def _filled(
    frame: pd.DataFrame, start: int, merged: Int[np.ndarray, "ranges 3"], name: str
) -> tuple[pd.DataFrame, list[int]]:
    """The table with the value of cells that are merged over rows in each of these, and numbers of such columns.

    start: row of the sheet in which the table begins. Raises InputError for ranges that overlap.
    """
    merged = np.minimum(merged - (0, start, start), (frame.shape[1], len(frame), len(frame) - 1))
    merged = merged[(merged[:, 0] < frame.shape[1]) & (merged[:, 1] >= 0) & (merged[:, 1] < merged[:, 2])]
    if (merged[:, 2] - merged[:, 1] + 1).sum() > frame.size:
        raise InputError(f"{name}: merged cells of the sheet overlap; save it again")
    taken = {int(column): np.arange(len(frame)) for column in np.unique(merged[:, 0])}  # from which row
    for column, top, bottom in merged.tolist():
        taken[column][top : bottom + 1] = top
    for column, rows in taken.items():
        frame[column] = frame[column].to_numpy()[rows]
    return frame, [*taken]


def _head(book: pd.ExcelFile, sheet: int) -> list[list[str]]:
    """The first rows of a sheet as text, empty cells ''."""
    cells = pd.read_excel(book, sheet_name=sheet, header=None, dtype=object, keep_default_na=False, nrows=_HEAD)
    return [[str(cell).strip() for cell in row] for row in cells.itertuples(index=False)]


def _chosen(book: pd.ExcelFile, sheets: list[str]) -> int:
    """The number of the first sheet that looks like a table, 0 where none does."""
    if len(sheets) > 1:
        for i in range(len(sheets)):
            if sum(sum(map(bool, row)) > 1 for row in _head(book, i)) > 1:
                return i
    return 0


def _named(sheet: str, sheets: list[str], name: str) -> int:
    """The place of a sheet that a user names. Raises InputError where there is none of that name or number."""
    if sheet in sheets:
        return sheets.index(sheet)
    if sheet.isdecimal() and 1 <= int(sheet) <= len(sheets):
        return int(sheet) - 1
    shown = ", ".join(map(repr, sheets))
    raise InputError(f"{name}: sheet must be one of {shown}, or a number from 1 to {len(sheets)}, got {sheet!r}")
