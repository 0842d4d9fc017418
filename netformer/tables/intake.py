"""Intake: tables as users have them. Columns that a network cannot read are left out, with a note; gaps stop it.

`files.read_table` takes only tables that are numeric and complete; here columns that are not numeric are left out,
rows without a target are dropped, and gaps may be filled. Every such step is a line in `notes`, every error is one too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from netformer.errors import InputError
from netformer.tables.files import MIN_ROWS, read_numeric, read_raw, require_column

_SHOWN = 8  # names in a line


@dataclass(frozen=True)
class Intake:
    """Numeric columns of a table, gaps as nan, and its target without gaps. left_out: names of columns not numeric."""

    X: Float[np.ndarray, "rows features"]
    y: Float[np.ndarray, " rows"]
    columns: list[str]
    left_out: list[str]
    notes: list[str]


def take_in(
    path: str | Path,
    target: str,
    impute: bool = False,
    *,
    header: bool = True,
    encoding: str | None = None,
    separator: str | None = None,
) -> Intake:
    """The table at `path` as features and target. impute: allow gaps in the features, `fill` closes them.

    header, encoding, separator: see `read_raw`.
    Raises FileNotFoundError, and InputError with one line that says what would be allowed.
    """
    path = Path(path)
    raw = read_raw(path, header=header, encoding=encoding, separator=separator)
    table = raw.frame
    if target not in table.columns and table.shape[1] == 1:
        raise InputError(f"{path}: found one column only, {table.columns[0]!r}; name what separates columns by --sep")
    require_column(table, target, path)
    y = _target(table[target], path)
    known = np.isfinite(y)
    notes = list(raw.notes)
    if not known.all():
        notes.append(f"{path}: dropped {_count(~known, 'row')} without a finite target {target!r}")
    if known.sum() < MIN_ROWS:
        raise InputError(
            f"{path}: a table needs at least {MIN_ROWS} rows with a target, found {known.sum()}; add rows, or use ridge"
        )
    y, table = y[known], table.loc[known].drop(columns=target)
    if (y == y[0]).all():
        raise InputError(f"{path}: target {target!r} must vary, found {y[0]:g} in all rows; choose another column")
    values, columns, examples = [], [], {}
    for name in table.columns:
        try:
            values.append(read_numeric(table[name], path).to_numpy())
            columns.append(str(name))
        except (ValueError, TypeError):  # text, dates, lists
            examples[str(name)] = str(next(iter(table[name].dropna()), ""))[:20]
    shown = _names([f"{name} (as {example!r})" for name, example in examples.items()])
    if not columns:
        raise InputError(
            f"{path}: no numeric column beside the target; encode some (pandas.get_dummies): {shown or '-'}"
        )
    if examples:
        notes.append(f"{path}: left out, not numeric: {shown}; encode them to use them (pandas.get_dummies)")
    X = np.column_stack(values)
    empty = [name for name, any_value in zip(columns, np.isfinite(X).any(0), strict=True) if not any_value]
    if empty:
        raise InputError(f"{path}: no finite value in any row of {_names(empty)}; drop the column")
    if not impute:
        require_complete(X, columns, path)
    elif not np.isfinite(X).all():
        notes.append(f"{path}: filled {_count(~np.isfinite(X), 'gap')} with the medians of the rows trained on")
    return Intake(np.where(np.isfinite(X), X, np.nan), y, columns, list(examples), notes)


def match(
    path: str | Path,
    columns: Sequence[str],
    target: str,
    *,
    header: bool = True,
    encoding: str | None = None,
    separator: str | None = None,
) -> tuple[Float[np.ndarray, "rows features"], Float[np.ndarray, " rows"] | None, list[str]]:
    """The named columns of the table at `path`, gaps as nan, its target if it has a numeric one, and notes.

    header, encoding, separator: see `read_raw`, which the notes are from.
    Raises FileNotFoundError, and InputError naming the columns that are missing or not numeric.
    """
    path = Path(path)
    raw = read_raw(path, header=header, encoding=encoding, separator=separator)
    table = raw.frame
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise InputError(f"{path}: the networks read columns that it lacks: {_names(missing)}; add or rename them")
    if table.empty:
        raise InputError(f"{path}: a table needs at least one row, found only the header; add rows to predict")
    try:
        X = np.column_stack([read_numeric(table[name], path).to_numpy() for name in columns])
    except ValueError as error:
        raise InputError(f"{error}; encode it as in the table the networks were written for") from None
    try:
        y = read_numeric(table[target], path).to_numpy() if target in table.columns else None
    except ValueError:
        y = None
    return np.where(np.isfinite(X), X, np.nan), y if y is not None and np.isfinite(y).any() else None, raw.notes


def medians(X: Float[np.ndarray, "rows features"], train: np.ndarray) -> Float[np.ndarray, " features"]:
    """Median of each column over the train rows that have it; over all rows where none of them does."""
    part = np.where(np.isfinite(X[train]).any(0), X[train], np.nanmedian(X, 0))
    return np.nanmedian(part, 0)


def medians_of(about: dict, n_features: int, path: Path) -> Float[np.ndarray, " features"]:
    """The medians that `generate` left in a bundle's `about`. Raises InputError where there are none."""
    values = about.get("medians")
    if not isinstance(values, list) or len(values) != n_features or not all(isinstance(v, float) for v in values):
        raise InputError(f"{path}: these networks carry no medians to impute with; fill the gaps in the table")
    return np.array(values)


def fill(
    X: Float[np.ndarray, "rows features"], values: Float[np.ndarray, " features"]
) -> Float[np.ndarray, "rows features"]:
    """Gaps closed with the value of their column."""
    return np.where(np.isnan(X), values, X)


def _target(column: pd.Series, path: Path) -> Float[np.ndarray, " rows"]:
    try:
        return read_numeric(column, path).to_numpy()
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{str(error).replace('column', 'target', 1)}; this is regression: choose or encode a number"
        ) from None


def require_complete(X: Float[np.ndarray, "rows features"], columns: Sequence[str], path: str | Path) -> None:
    """Raises InputError naming the columns with gaps and how many."""
    gaps = ~np.isfinite(X)
    if gaps.any():
        shown = _names([f"{name} ({n})" for name, n in zip(columns, gaps.sum(0), strict=True) if n])
        raise InputError(f"{path}: missing or infinite values in {shown}; fill them, or say --impute median")


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _count(where: np.ndarray, noun: str) -> str:
    count = int(where.sum())
    return f"{count} {noun}" + ("s" if count != 1 else "")
