"""Rules: which columns of a table stay, which is the target, and whether a table is one at all.

No table is treated by hand. In order:

1. Columns that are constant (or empty), hold lists or dictionaries, or count the rows go. Rows that repeat another one
   go, so that no copy is on both sides of a split.
2. The target is the first column of numbers with at least 10 values whose name does not say time, place, identifier or
   a bare number (a year of a wide table, a file without header), and that does not belong to a group of rows (some one
   column with repeated values determines it: the seats of a model of plane). Rows without it go.
3. Columns that are the target in disguise go: as in numeric tables (`tasks.real.disguises`, text of numbers included,
   names not looked at); those with the same ranks within the levels of a category (|rank correlation| above 0.98); and
   a category whose levels part the target into intervals.
4. Out are tables of fewer than `MIN_ROWS` rows, of fewer than 2 columns beside the target, with no date and no category
   that repeats (they are tables of numbers), and those that repeat an earlier table: the columns have the same names,
   or at least two of them, and half of those with 10 values, hold the same rows.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import UInt64

from netformer.tasks import real
from netformer.tasks.real import MIN_FEATURES, MIN_LEVELS, Counted, counted, overlap

MIN_ROWS, READ_ROWS = 60, 20_000  # the rules look at a random part of a longer table
MIN_DISTINCT = 0.1  # values per row of a column that can tell whether two tables are one
MAX_UNREAD = 0.2  # of a text column's cells are no number, or no date
MAX_SHARE_OF_LEVELS = 0.2  # levels per row of a category within which ranks are compared
TIME = {"time", "timestamp", "date", "datetime", "period"}
TIME |= {"year", "yr", "quarter", "month", "week", "day", "hour", "minute", "second", "decade"}
PLACE = {"lat", "latitude", "lon", "lng", "long", "longitude"}
IDENTIFIER = {"id", "pid", "code", "nr", "num", "no", "index", "key", "unnamed", "zip", "postal", "fips"}


@dataclass
class Candidate:
    """A table on its way through the rules.

    removed: column -> why; reason: why the table is out, or empty. names: of the file's columns, letters and digits;
    hashes: of the cells of every column with 10 values; cells: the same counted, without gaps.
    """

    name: str
    frame: pd.DataFrame
    raw_shape: tuple[int, int] = (0, 0)
    kinds: dict[str, str] = field(default_factory=dict)
    target: str = ""
    reason: str = ""
    removed: dict[str, str] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    hashes: list[np.ndarray] = field(default_factory=list)
    cells: list[Counted] = field(default_factory=list)

    def remove(self, why: dict[str, str]) -> None:
        """Take columns out and note why."""
        self.removed |= why
        self.frame = self.frame.drop(columns=list(why))


def apply(table: Candidate, earlier: list[Candidate], rng: np.random.Generator) -> None:
    """The rules, in place; `earlier`: the tables that are in."""
    table.raw_shape = table.frame.shape
    table.names = {re.sub(r"[\W_]", "", column.lower()) for column in table.frame.columns}
    clean(table, rng)
    _choose(table)
    n_rows, n_inputs = len(table.frame), table.frame.shape[1] - bool(table.target)
    if n_rows < MIN_ROWS:
        table.reason = f"{n_rows} rows, at least {MIN_ROWS} needed"
    elif not table.target:
        table.reason = f"no number with {MIN_LEVELS} values that belongs to the row"
    elif n_inputs < MIN_FEATURES:
        table.reason = f"columns beside the target: {n_inputs}, at least {MIN_FEATURES} needed"
    elif not {"category", "date"} & {kind for column, kind in table.kinds.items() if column != table.target}:
        table.reason = "no category and no date"
    elif twin := twin_of(table, earlier):
        table.reason = f"repeats {twin}"


def clean(table: Candidate, rng: np.random.Generator) -> None:
    """Rule 1, in place; of more than `READ_ROWS` rows a random part stays."""
    some = [c for c in table.frame.columns if table.frame[c].dtype == object]  # no text
    nested = [c for c in some if table.frame[c].map(lambda cell: isinstance(cell, list | dict)).any()]
    table.remove(dict.fromkeys(nested, "nested"))
    frame = table.frame
    levels = frame.nunique()
    steps = frame.select_dtypes("number").diff().iloc[1:].nunique(dropna=False)  # one: the number of the row
    table.remove({c: "counts the rows" for c in steps.index[steps == 1] if levels[c] == len(frame)})
    table.remove(dict.fromkeys(levels.index[levels <= 1], "constant"))
    repeated = table.frame.duplicated()
    if repeated.any():
        table.removed["(rows)"] = f"{repeated.sum()} repeat another"
    frame = table.frame[~repeated]
    if len(frame) > READ_ROWS:
        frame = frame.iloc[np.sort(rng.choice(len(frame), READ_ROWS, replace=False))]
    table.frame = frame.reset_index(drop=True)


def _choose(table: Candidate) -> None:
    """Rules 2 and 3, and the kinds of the columns."""
    numbers = as_numbers(table.frame)
    for target in _targets(table.frame):
        known = table.frame[target].notna()
        if known.sum() < MIN_ROWS:
            continue
        rows, values = table.frame[known], numbers[known]
        hidden = real.disguises(values.loc[:, values.notna().any()], target, by_name=False)
        if real.is_group_property(rows.drop(columns=[target, *hidden]), values[target]):
            continue
        table.target, table.frame = target, rows
        table.remove(hidden)
        table.remove(_disguised_by_category(table.frame, values, target))
        break
    levels = table.frame.nunique()
    table.remove(dict.fromkeys(levels.index[levels <= 1], "constant"))
    table.kinds = {c: kind(table.frame[c]) for c in table.frame.columns}


def _targets(frame: pd.DataFrame) -> list[str]:
    """Rule 2, but for the group."""
    numbers = [c for c in frame.columns if is_number(frame[c]) and frame[c].nunique() >= MIN_LEVELS]
    return [c for c in numbers if words(c) and not words(c) & (TIME | PLACE | IDENTIFIER)]


def words(name: str) -> set[str]:
    """The words of a column's name in lower case: `iso_num`, `LocID`, `Year`."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def kind(column: pd.Series) -> str:
    """number (also text that holds numbers but for a few cells), date (also durations, and text in one format of
    them), category (truth values, or levels that repeat) or text."""
    if _is_time(column) or _reads_as_time(column.dropna()):
        return "date"
    if not pd.api.types.is_bool_dtype(column) and not as_numbers(column.to_frame()).empty:
        return "number"
    return "category" if column.nunique() <= column.notna().sum() / 2 else "text"


def _is_time(column: pd.Series) -> bool:
    return pd.api.types.is_datetime64_any_dtype(column) or pd.api.types.is_timedelta64_dtype(column)


def is_number(column: pd.Series) -> bool:
    """Whether it holds numbers and no truth values."""
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def typed(column: pd.Series, kind: str) -> pd.Series:
    """A column of a known kind as numbers (durations in seconds), datetimes, or as it is; cells that do not read so are
    gaps."""
    if kind == "number" and not is_number(column):
        return pd.to_numeric(column, errors="coerce").astype("float64")
    if kind == "date" and (pd.api.types.is_timedelta64_dtype(column) or _is_duration(column.dropna())):
        return pd.to_timedelta(column, errors="coerce").dt.total_seconds()
    if kind == "date" and not _is_time(column):
        return pd.to_datetime(column, errors="coerce")
    return column


def _reads_as_time(known: pd.Series) -> bool:
    if not pd.api.types.is_string_dtype(known):
        return False
    if _is_duration(known):
        return True
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # no one format: pandas would guess cell by cell
        try:
            return bool(pd.to_datetime(known, errors="coerce").notna().mean() >= 1 - MAX_UNREAD)
        except UserWarning:
            return False


def _is_duration(known: pd.Series) -> bool:
    """Whether text reads as `2 days 01:30:00`."""
    if not pd.api.types.is_string_dtype(known) or not known.str.contains(r"\d:\d\d").all():
        return False
    return bool(pd.to_timedelta(known, errors="coerce").notna().mean() >= 1 - MAX_UNREAD)


def as_numbers(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns of numbers, and of text that holds numbers but for a few cells, as float64."""
    numeric = {c: pd.to_numeric(frame[c], errors="coerce") for c in frame.columns if not _is_time(frame[c])}
    read = pd.DataFrame(numeric, index=frame.index).astype("float64").replace([np.inf, -np.inf], np.nan)
    unread = (read.isna() & frame[read.columns].notna()).mean()
    return read.loc[:, (unread <= MAX_UNREAD) & read.notna().any()]


def _disguised_by_category(frame: pd.DataFrame, numbers: pd.DataFrame, target: str) -> dict[str, str]:
    """Rule 3, what categories show: column -> why."""
    found: dict[str, str] = {}
    y, levels = numbers[target], frame.nunique()
    for category in [
        c for c in frame.columns if not is_number(frame[c]) and levels[c] <= MAX_SHARE_OF_LEVELS * len(frame)
    ]:
        if levels[category] > 2 and _parts_into_intervals(frame[category], y):
            found[category] = "intervals of the target"
        for column in [c for c in numbers.columns if c in frame.columns and c not in (target, *found)]:
            if _rank_correlation_within(numbers[column], y, frame[category]) > real.MAX_SPEARMAN:
                found[column] = f"same ranks as the target within {category}"
    return found


def _parts_into_intervals(category: pd.Series, y: pd.Series) -> bool:
    """Whether the values of y at one level lie all below or all above those at any other."""
    bounds = y.groupby(category).agg(["min", "max"]).sort_values("min")
    return bool((bounds["max"].to_numpy()[:-1] < bounds["min"].to_numpy()[1:]).all())


def _rank_correlation_within(x: pd.Series, y: pd.Series, groups: pd.Series) -> float:
    """|correlation| of ranks taken within each group, on the scale 0 to 1."""
    known = x.notna() & y.notna() & groups.notna()
    a, b = (part[known].groupby(groups[known]).rank(pct=True).to_numpy() for part in (x, y))
    if known.sum() < MIN_LEVELS or np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(abs(np.corrcoef(a, b)[0, 1]))


def twin_of(table: Candidate, others: list[Candidate]) -> str:
    """The first earlier table that this one repeats, or empty."""
    every = (_hashes(table.frame[c]) for c in table.frame.columns)
    table.hashes = [hashes for hashes in every if len(np.unique(hashes)) >= MIN_LEVELS]
    table.cells = [counted(hashes[hashes != 0]) for hashes in table.hashes]
    for other in others:
        pairs: list[tuple[int, int]] = []  # columns that may be one
        for i, mine in enumerate(table.cells):
            free = [j for j in range(len(other.cells)) if j not in {b for _, b in pairs}]
            pairs += [(i, j) for j in free if overlap(mine, other.cells[j], MIN_DISTINCT)][:1]
        enough = len(pairs) >= max(2, len(table.cells) / 2)
        if table.names == other.names or (enough and _share_rows(table, other, pairs)):
            return other.name
    return ""


def _hashes(column: pd.Series) -> UInt64[np.ndarray, " rows"]:
    """A hash per cell, 0 for a gap."""
    cells = column.astype("float64").round(5) + 0.0 if is_number(column) else column.astype(str)  # no negative zero
    return np.where(column.isna(), np.uint64(0), pd.util.hash_array(cells.to_numpy()))


def _share_rows(table: Candidate, other: Candidate, pairs: list[tuple[int, int]]) -> bool:
    """Whether the rows of the shorter table are in the other, as far as paired columns show."""
    salts = [np.uint64(2 * i + 1) for i in range(len(pairs))]  # a sum of hashes over columns is a hash of the row
    mine = np.array([table.hashes[i] * salt for (i, _), salt in zip(pairs, salts, strict=True)]).sum(0)
    theirs = np.array([other.hashes[j] * salt for (_, j), salt in zip(pairs, salts, strict=True)]).sum(0)
    return overlap(counted(mine), counted(theirs), 0.0)
