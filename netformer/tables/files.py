"""Files: tables as users have them, as delimited text, JSON, Parquet, Arrow or Excel, and the strict reading of them.

`read_raw` takes a file as it stands and says what it assumed. `read_table` takes only tables that are numeric and
complete, one column of which is the target. What cannot be used stops here, with one line that says what is wrong,
where, and what would be allowed.
"""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from netformer.errors import InputError
from netformer.tables.delimited import read_delimited
from netformer.tables.encodings import (
    MOST_BYTES,
    Source,
    as_utf8,
    not_utf8,
    require_bytes,
    require_cells,
    unpacked,
)
from netformer.tables.sheets import read_excel

TEXT = {".csv": ",", ".tsv": "\t", ".txt": ","}  # and the separator that is usual in it
JSON = (".json", ".jsonl", ".ndjson")
ARROW = (".parquet", ".feather", ".arrow")
EXCEL = ".xlsx"
READS = f"{', '.join([*TEXT, *JSON])} (also .gz), {', '.join([*ARROW, EXCEL])}"
STDIN = "-"
_MAGIC = {b"PAR1": ".parquet", b"ARROW1": ".arrow", b"PK\x03\x04": EXCEL}
_HEAD = 1 << 20  # bytes read to find out what a file is
_GZIP = b"\x1f\x8b"
TOTALS = re.compile(
    r"\s*(grand |sub)?(totals?|sum|average|mean|summe|gesamt(summe)?|insgesamt|mittelwert|durchschnitt|somme"
    r"|total général|moyenne|suma|promedio|media|totale|somma|totaal)\s*:?\s*",
    re.IGNORECASE,
)
_MOST_TOTALS = 3  # last rows
MIN_ROWS = 10  # below it the row split leaves one or two rows to choose or to report on


@dataclass(frozen=True, eq=False)
class RawTable:
    """A table as its file has it, column names text and unique, and what was assumed to read it, a sentence each.
    comma: whether the numbers of the file have a decimal comma."""

    frame: pd.DataFrame
    notes: list[str]
    comma: bool = False


def read_table(path: str | Path, target: str) -> tuple[pd.DataFrame, Float[np.ndarray, " rows"]]:
    """The features (every column but the target, float64) and the target of one table.

    Booleans become 0 and 1; a row index that pandas wrote without a name is not a feature. Rows in
    messages count from 1, the header not included.

    Raises FileNotFoundError for a missing file, InputError for what cannot be used: see the messages.
    """
    path = Path(path)
    table = read_raw(path).frame
    require_column(table, target, path)
    if table.shape[1] == 1:
        raise InputError(f"{path}: a table needs at least one feature column beside the target {target!r}, found none")
    if table.empty:
        raise InputError(f"{path}: a table needs at least one row, found only the header")
    numeric = pd.DataFrame({name: read_numeric(table[name], path) for name in table.columns})
    for name in [target, *numeric.columns.drop(target)]:
        bad = ~np.isfinite(numeric[name].to_numpy())
        if bad.any():
            role, way_out = ("target", "drop them") if name == target else ("column", "fill them or drop the column")
            raise InputError(
                f"{path}: {role} {name!r} must be finite, found {bad.sum()} missing or infinite values, "
                f"the first in row {bad.argmax() + 1}; {way_out}"
            )
    y = numeric.pop(target).to_numpy()
    if (y == y[0]).all():
        raise InputError(f"{path}: target {target!r} must vary, found {y[0]:g} in all {len(y)} rows")
    return numeric, y


def read_raw(
    path: str | Path,
    *,
    header: bool = True,
    encoding: str | None = None,
    separator: str | None = None,
    sheet: str | None = None,
    texts: Collection[str] = (),
    comma: bool = False,
) -> RawTable:
    """A table file as it stands: cells are numbers where all of a column are, otherwise text, or what the format has.

    path: by its suffix delimited text, JSON (a list of objects; .jsonl, .ndjson: an object per line), Parquet, Arrow
    or Excel, text and JSON also compressed (.gz); `-` for standard input, whose format its first bytes say.
    header: False for text or Excel without column names: they are x0, x1, .. encoding: of text, None for UTF-8 or what
    a byte order mark says. separator: see `read_delimited`, which says what is assumed of text. sheet: of Excel, see
    `sheets.read_excel`. texts, comma: of delimited text, which columns stay text whatever their cells look like, and
    whether numbers have a decimal comma where no cell says otherwise, both as in the table that was fitted.

    Of text and Excel lines of a title above the header are skipped, and last rows that begin with a word for a total or
    a mean (`TOTALS`), which stands nowhere else in its column, are left out, each with a note.

    A first column without a name, in which pandas and R write row names, and nameless columns without values are left
    out, with a note; other nameless columns are called as by pandas, `Unnamed: 3`.

    Raises FileNotFoundError for a missing file, InputError for one that cannot be read.
    """
    path = Path(path)
    source, suffix = _load(path)
    name, notes = source.name, list[str]()
    if suffix not in TEXT and (separator is not None or (suffix != EXCEL and not header)):
        raise InputError(f"{name}: separator and no header are said of text, not of {suffix}; leave them out")
    if suffix != EXCEL and sheet is not None:
        raise InputError(f"{name}: a sheet is said of {EXCEL}, not of {suffix}; leave it out")
    if suffix in ARROW or suffix == EXCEL:
        if encoding is not None:
            raise InputError(f"{name}: an encoding is said of text, not of {suffix}; leave it out")
        frame, notes = read_excel(source, header, sheet) if suffix == EXCEL else (_read_arrow(source, suffix), [])
        comma = False
    else:
        source, notes = as_utf8(source, encoding)
        if suffix in TEXT:
            frame, more, comma = read_delimited(source, TEXT[suffix], separator, header, texts, comma)
            notes += more
        else:
            frame, comma = _read_json(source, suffix), False
    frame, more = _without_nameless(frame, name)
    notes += more
    if suffix in TEXT or suffix == EXCEL:
        frame, more = _without_totals(frame, name)
        notes += more
    return RawTable(frame, notes, comma)


def _load(path: Path) -> tuple[Source, str]:
    """The bytes of a file, not compressed, and the suffix that says its format."""
    if str(path) == STDIN:
        name, packed = "standard input", False
        source, suffix = Source(name, sys.stdin.buffer.read()), ".csv"
    else:
        name, packed = str(path), path.suffix.lower() == ".gz"
        suffix = Path(path.stem).suffix.lower() if packed else path.suffix.lower()
        if path.is_dir():
            raise InputError(f"{path}: is a folder; give one file: {READS}")
        if suffix not in (*TEXT, *JSON) and (packed or suffix not in (*ARROW, EXCEL)):
            raise InputError(f"{path}: a table must be one of {READS}, got {path.suffix or 'no suffix'!r}")
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; give the path of a table: {READS}")
        with path.open("rb") as file:
            head = file.read(_HEAD)
        source = Source(name, head, path if len(head) == _HEAD else None)
    if packed or (str(path) == STDIN and source.head.startswith(_GZIP)):
        source = Source(name, unpacked(source.data, name))
    found = next((kind for magic, kind in _MAGIC.items() if source.head.startswith(magic)), "")
    if str(path) == STDIN:
        suffix = found or _json_or_text(source.head)
    elif found and suffix in (*TEXT, *JSON):
        raise InputError(f"{name}: is not text, by its first bytes it is {found}; rename it")
    return source, suffix


def _json_or_text(head: bytes) -> str:
    """The suffix of text without a name."""
    first = head.lstrip()[:1]
    if first not in (b"[", b"{"):
        return ".csv"
    return ".jsonl" if first == b"{" and head.split(b"\n", 1)[0].rstrip().endswith(b"}") else ".json"


def _read_arrow(source: Source, suffix: str) -> pd.DataFrame:
    name = source.name
    try:
        import pyarrow.feather
        import pyarrow.parquet
    except ImportError:
        raise InputError(f"{name}: {suffix} needs pyarrow; pip install pyarrow, or save the table as .csv") from None
    try:
        if suffix == ".parquet":
            _require_parquet_fits(source)
        read = pyarrow.parquet.read_table if suffix == ".parquet" else pyarrow.feather.read_table
        table = read(pyarrow.BufferReader(source.data))
        table.validate(full=True)
        _require_unique(table.column_names, name)
        if not table.column_names:
            raise InputError(f"{name}: a table needs columns and rows, found none")
        require_cells(table.num_rows, table.num_columns, name)
        # column by column: an index that pandas stored stays an ordinary column
        return pd.DataFrame({name: table.column(name).to_pandas() for name in table.column_names})
    except InputError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{name}: not a readable {suffix[1:]} table: {' '.join(str(error).split())}") from None


def _require_parquet_fits(source: Source) -> None:
    """Raises InputError for a file that unpacks to too much. Text that is written once and repeated is counted as it
    would stand in memory, where the size of the file leaves room for it."""
    import pyarrow.compute
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(source.data))
    about, groups = file.metadata, range(file.metadata.num_row_groups)
    require_cells(about.num_rows, about.num_columns, source.name)
    size = sum(about.row_group(i).total_byte_size for i in groups)
    require_bytes(size, source.name)
    text = [
        one.name for one in file.schema_arrow if pyarrow.types.is_string(one.type) or pyarrow.types.is_binary(one.type)
    ]
    if size * about.num_rows <= MOST_BYTES or not text:
        return
    file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(source.data), read_dictionary=text)
    for column in (file.read([one]).column(0) for one in text):
        for chunk in column.chunks:
            lengths = pyarrow.compute.binary_length(chunk.dictionary).take(chunk.indices)
            size += pyarrow.compute.sum(lengths).as_py() or 0
        require_bytes(size, source.name)


def _read_json(source: Source, suffix: str) -> pd.DataFrame:
    name, data = source.name, source.data
    values = []
    for number, line in enumerate(data.splitlines() if suffix != ".json" else [data], 1):
        try:
            values += [json.loads(line.decode("utf-8"), object_pairs_hook=_object)] if line.strip() else []
        except UnicodeDecodeError:
            raise not_utf8(source) from None
        except (ValueError, RecursionError) as error:  # no JSON, or a name twice
            where = "" if suffix == ".json" else f"line {number}: "
            raise InputError(f"{name}: not a readable {suffix[1:]} table: {where}{error}") from None
    table = values[0] if suffix == ".json" and values else values
    if table in ([], {}):
        raise InputError(f"{name}: a table needs columns and rows, found none")
    by_row = isinstance(table, list) and all(isinstance(row, dict) for row in table)
    by_column = isinstance(table, dict) and all(isinstance(cells, list | dict) for cells in table.values())
    if by_row or by_column:
        parts = table.values() if isinstance(table, dict) else table
        keys = set[str]().union(*(part for part in parts if isinstance(part, dict)))  # of all rows, or all columns
        require_cells(len(table), len(keys), name, len(data))
    try:
        if by_row or by_column:
            return pd.DataFrame(table)
    except (ValueError, OverflowError):  # columns of several lengths, numbers beyond all bounds
        pass
    raise InputError(f'{name}: JSON must be a list of rows, [{{"a": 1, "y": 2}}, ..], or such a row per line in .jsonl')


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError(f"a name twice in one row: {', '.join(key for key, _ in pairs)}")
    return made


def _without_nameless(frame: pd.DataFrame, name: str) -> tuple[pd.DataFrame, list[str]]:
    """Without row names and empty columns that have no name, and a note on these and on other nameless columns."""
    frame = frame.set_axis([str(c) if str(c).strip() else f"Unnamed: {i}" for i, c in enumerate(frame.columns)], axis=1)
    index = [c for c in frame.columns if re.fullmatch(r"Unnamed: 0|__index_level_\d+__", c)]
    others = [c for i, c in enumerate(frame.columns) if c == f"Unnamed: {i}" and c not in index]
    empty = [c for c in others if frame[c].isna().all()]
    named = [c for c in others if c not in empty]
    notes = []
    if index:
        notes.append(f"{name}: left out {', '.join(map(repr, index))}, a column without a name, as row names")
    if empty:
        notes.append(f"{name}: left out {len(empty)} column{'s' * (len(empty) > 1)} without name and values")
    if named:
        notes.append(f"{name}: columns without a name are called {', '.join(map(repr, named))}")
    return frame.drop(columns=[*index, *empty]), notes


def _without_totals(frame: pd.DataFrame, name: str) -> tuple[pd.DataFrame, list[str]]:
    """Without last rows that sum up those above, and a note on them."""
    notes = []
    for _ in range(_MOST_TOTALS):
        filled = frame.iloc[-1:].dropna(axis=1)
        if len(frame) < 2 or filled.empty:
            break
        column, cell = filled.columns[0], filled.iloc[0, 0]
        if not TOTALS.fullmatch(str(cell)) or (frame[column] == cell).sum() > 1:
            break
        notes.append(f"{name}: left out the last row, {str(cell).strip()!r}, which sums up those above")
        frame = frame.iloc[:-1].infer_objects()  # a column in which it alone was text holds numbers now
        while len(frame) and frame.iloc[-1].isna().all():  # a blank row above it
            frame = frame.iloc[:-1]
    return frame, notes


def _require_unique(names: list[str], name: str) -> None:
    twice = sorted(column for column, count in Counter(names).items() if count > 1)
    if twice:
        raise InputError(f"{name}: column names must be unique, found more than once: {', '.join(map(repr, twice))}")


def require_column(table: pd.DataFrame, column: str, path: Path) -> None:
    """Raises InputError, with the names that come near, when the table of the file `path` has no such column."""
    if column in table.columns:
        return
    near = difflib.get_close_matches(column, map(str, table.columns), n=3)
    shown = ", ".join(map(str, table.columns[:20])) + (", .." if table.shape[1] > 20 else "")
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"found {shown}"
    raise InputError(f"{path}: no column {column!r}; {hint}")


def read_numeric(column: pd.Series, path: Path) -> pd.Series:
    """A column of the file `path` as float64, missing cells nan. Raises InputError for one that is not numeric."""
    if pd.api.types.is_datetime64_any_dtype(column) or pd.api.types.is_timedelta64_dtype(column):
        raise InputError(f"{path}: column {column.name!r} must be numeric, found {column.dtype}")
    if pd.api.types.is_bool_dtype(column) or pd.api.types.is_numeric_dtype(column):
        return column.astype("float64")
    try:
        values = pd.to_numeric(column, errors="coerce").astype("float64")
    except OverflowError:  # a whole number of hundreds of digits
        raise InputError(f"{path}: column {column.name!r} must be numeric, found a number beyond 1e308") from None
    bad = (values.isna() & column.notna()).to_numpy()
    if bad.any():
        row = int(bad.argmax())
        raise InputError(
            f"{path}: column {column.name!r} must be numeric, found {str(column.iloc[row])!r} in row {row + 1}"
        )
    return values
