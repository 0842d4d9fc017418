"""Files: tables as CSV, TSV or Parquet with named columns, all numeric and complete; one of them is the target.

What cannot be used stops here, with one line that says what is wrong, where, and what would be allowed.
"""

from __future__ import annotations

import csv
import difflib
import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet
from jaxtyping import Float

from netformer.errors import InputError

SUFFIXES = {".csv": ",", ".tsv": "\t", ".parquet": ""}
MIN_ROWS = 10  # below it the row split leaves one or two rows to choose or to report on


def read_table(path: str | Path, target: str) -> tuple[pd.DataFrame, Float[np.ndarray, " rows"]]:
    """The features (every column but the target, float64) and the target of one table.

    Booleans become 0 and 1; a row index that pandas wrote without a name is not a feature. Rows in
    messages count from 1, the header not included.

    Raises FileNotFoundError for a missing file, InputError for what cannot be used: see the messages.
    """
    path = Path(path)
    table = read_raw(path)
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


def read_raw(path: Path) -> pd.DataFrame:
    """A table file as it stands, column names unique, without a row index that pandas wrote.

    Raises FileNotFoundError for a missing file, InputError for one that cannot be read.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: a table must be one of {', '.join(SUFFIXES)}, got {path.suffix or 'no suffix'!r}")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        table = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_text(path)
    except (pd.errors.ParserError, pd.errors.ParserWarning, csv.Error, UnicodeDecodeError, pyarrow.ArrowException) as e:
        raise InputError(
            f"{path}: not a readable {path.suffix[1:].lower()} table: {' '.join(str(e).split())}"
        ) from None
    return table.drop(columns=[c for c in table.columns if re.fullmatch(r"Unnamed: 0|__index_level_\d+__", c)])


def _read_text(path: Path) -> pd.DataFrame:
    separator = SUFFIXES[path.suffix.lower()]
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = next(csv.reader(file, delimiter=separator), [])
    if not any(cell.strip() for cell in header):
        raise InputError(f"{path}: a table needs a header and rows, found an empty file")
    _require_unique(header, path)  # read_csv would rename the second one
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # a row longer than the header
        return pd.read_csv(path, sep=separator, encoding="utf-8-sig", index_col=False, low_memory=False)


def _read_parquet(path: Path) -> pd.DataFrame:
    table = pyarrow.parquet.read_table(path)
    _require_unique(table.column_names, path)
    if not table.column_names:
        raise InputError(f"{path}: a table needs columns and rows, found none")
    # column by column: an index that pandas stored stays an ordinary column
    return pd.DataFrame({name: table.column(name).to_pandas() for name in table.column_names})


def _require_unique(names: list[str], path: Path) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{path}: column names must be unique, found more than once: {', '.join(map(repr, twice))}")


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
    values = pd.to_numeric(column, errors="coerce")
    bad = (values.isna() & column.notna()).to_numpy()
    if bad.any():
        row = int(bad.argmax())
        raise InputError(
            f"{path}: column {column.name!r} must be numeric, found {str(column.iloc[row])!r} in row {row + 1}"
        )
    return values.astype("float64")
