"""Sheets: a sheet of an Excel file as a table. Which one, and where its table begins, is found out, and said."""

from __future__ import annotations

import io
import warnings
import zipfile
import zlib

import pandas as pd

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
    names += [""] * (frame.shape[1] - len(names))  # rows below that are longer
    frame = frame.reindex(columns=range(len(names)))  # without rows there are no columns
    frame.columns = [(cell or f"Unnamed: {i}") if header else f"x{i}" for i, cell in enumerate(names)]
    return frame, notes


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
