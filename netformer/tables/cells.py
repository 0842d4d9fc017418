"""Cells that no number can be read from, in a column of numbers of a table to be fitted: gaps, and said."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from netformer.errors import InputError
from netformer.tables.columns import GAPS, column_of


def emptied(X: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """A table to be fitted without the cells that no number can be read from in a column of numbers, gaps now; a note
    for each such column."""
    changed, notes = {}, []
    for at, name in enumerate(X.columns):
        cells = X.iloc[:, at]
        if cells.dtype.kind not in "OTU":  # neither text nor mixed
            continue
        with suppress(InputError):  # the reading leaves it out, and says why
            column, values = column_of(str(name), cells)
            if column.kind == "number" and (lost := unread(cells, values)).any():
                changed[str(name)] = cells.mask(lost)
                notes.append(f"column {name!r} holds numbers; {first_of(cells, lost)} taken for a gap")
    return (X.assign(**changed) if changed else X), notes


def unread(cells: pd.Series, values: Float[np.ndarray, " rows"]) -> Bool[np.ndarray, " rows"]:
    """Cells that hold something and are no number. values: what was read, gaps nan."""
    lost = np.isnan(values) & cells.notna().to_numpy()
    lost[lost] = [str(cell).strip().lower() not in GAPS for cell in cells[lost]]
    return lost


def first_of(cells: pd.Series, some: Bool[np.ndarray, " rows"]) -> str:
    """The first of some cells and its row, and how many more there are."""
    row, more = int(some.argmax()), int(some.sum()) - 1
    rest = f" and {more} more cell{'s' * (more > 1)}" if more else ""
    return f"{str(cells.iloc[row])!r} in row {row + 1}{rest}"
