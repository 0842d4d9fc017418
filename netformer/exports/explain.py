"""Explain: what each column contributed to each prediction, as Shapley values; what a column is worth; its curve.

The value of a set S of columns is the prediction for a row whose columns outside S have the cells of a reference row
(several: the mean over them): the interventional value function. The contribution of column c is

    phi_c = sum over S without c of |S|! (k - |S| - 1)! / k! (v(S + c) - v(S))      k columns (Shapley 1953)

so that base value + contributions = prediction. A column is one player, however many inputs it has. phi is linear in
the prediction, and that is a sum (`formula`): of inputs times weights, whose share is known, of one body per network,
for which only the columns count that this body reads, and of trees, which read few and are exact.

Sources: Lundberg and Lee, "A unified approach to interpreting model predictions", NeurIPS 2017; Janzing, Minorics and
Bloebaum, "Feature relevance quantification in explainable AI", AISTATS 2020 (interventional); Mitchell, Cooper, Frank
and Holmes, "Sampling permutations for Shapley value estimation", JMLR 23, 2022 (antithetic pairs).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from math import comb
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from netformer.errors import InputError
from netformer.exports.classes import codes_of, log_loss, probabilities
from netformer.exports.formula import ACTIVATE, Formula, Layer, cells_along, index_of, owns_of, typical_row
from netformer.exports.trees import Trees
from netformer.tables.columns import matched
from netformer.tables.reading import Reading

MOST_EXACT = 10  # columns that a network reads, up to which all sets of them are run
SETS = 1024  # run for each row and network with more
LEAST_PAIRS = 8  # of permutations, of a network with more
_BLOCK = 2**17  # numbers of a layer in memory at once, about 1 MB
SHOWN = 10  # columns in the HTML form


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """Contributions of columns to predictions; the fields are those of `shap.Explanation`, which `to_shap` gives.

    values: (rows, columns), in units of the target; base_values + values.sum(1) is the prediction. base_values: (rows,)
    the prediction for the reference rows, the same for all. Of a target of classes predictions are logits
    (`exports.classes`): of two classes that of the second, of more (rows, columns, classes) and (rows, classes).
    classes: their labels, none of a target of numbers. data: (rows, columns) the cells: numbers where all columns
    are numbers, else objects, numbers as they were read. feature_names: the columns in use (`Population.columns`);
    those left out contribute nothing. error_std: (rows, columns) the standard error of each value, 0 where it is exact.
    target: name of the target.
    """

    values: Float[np.ndarray, "rows columns *classes"]
    base_values: Float[np.ndarray, " rows *classes"]
    data: np.ndarray
    feature_names: list[str]
    error_std: Float[np.ndarray, "rows columns *classes"]
    target: str
    classes: tuple[Any, ...] = ()
    targets: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    def mean_sizes(self) -> pd.Series:
        """Mean |contribution| of each column over the rows (and classes), largest first, in units of the target; of
        several targets the mean of its shares in the sum of each, which have one unit."""
        size = np.abs(self.values).mean(0)
        if self.targets:
            size = size / np.maximum(size.sum(0), np.finfo(np.float64).tiny)
        sizes = pd.Series(size.reshape(len(size), -1).mean(1), self.feature_names, name="mean |contribution|")
        return sizes.sort_values(ascending=False, kind="stable")

    def to_shap(self) -> Any:
        """The same as `shap.Explanation`, for `shap.plots`. Raises InputError without the package shap."""
        try:
            import shap
        except ImportError:
            raise InputError("to_shap needs the package shap; pip install shap") from None
        return shap.Explanation(
            self.values,
            self.base_values,
            self.data,
            feature_names=self.feature_names,
            output_names=list(map(str, self.targets or self.classes)) if self.values.ndim > 2 else self.target,
            error_std=self.error_std,
        )

    def __repr__(self) -> str:
        error = float(self.error_std.max(initial=0.0))
        how = f"sampled, standard error at most {error:.3g}" if error else "exact"
        names = ", ".join(self.mean_sizes().index[:3]) if len(self) else ""
        said = f"Explanation of {self.target!r}: {len(self)} rows, {len(self.feature_names)} columns, {how}"
        base = ", ".join(f"{value:.6g}" for value in np.atleast_1d(self.base_values[0])) if len(self) else ""
        return f"{said}\nbase value: {base}; largest contributions: {names}" if len(self) else said

    def _repr_html_(self) -> str:
        sizes = self.mean_sizes()[:SHOWN].items() if len(self) else ()
        rows = [f"<tr><td>{escape(str(name))}</td><td>{size:.4g}</td></tr>" for name, size in sizes]
        table = f"<table><tr><th>column</th><th>mean |contribution|</th></tr>{''.join(rows)}</table>"
        return f"<p>{escape(repr(self).splitlines()[0])}</p>{table}"


def explained(
    formula: Formula,
    X: Any,
    z: Float[np.ndarray, "rows inputs"],
    background: Float[np.ndarray, "references inputs"] | None,
    *,
    n_pairs: int | None = None,
    random_state: int = 0,
) -> Explanation:
    """See `Population.explain`. z, background: the rows of X and of the background as networks read them."""
    if n_pairs is not None:
        _check_count("n_pairs", n_pairs, 2)
    _check_count("random_state", random_state, 0)
    reading = formula.reading
    owns, reference = owns_of(reading), _references(reading, background)
    seeds = np.random.SeedSequence(random_state).spawn(len(formula.bodies))
    skip, own = np.stack([one.skip for one in formula.outputs], 1), np.stack(owns, 1).astype(np.float64)
    values = np.einsum("ri,io,ic->rco", z - reference.mean(0), skip, own, optimize=True)
    variances = np.zeros_like(values)
    heads = [np.stack(own, 1) for own in zip(*(one.heads for one in formula.outputs), strict=True)]
    for body, head, seed in zip(formula.bodies, heads, seeds, strict=True):
        edges = (body[0].weight != 0).any(0)
        read = [index for index, own in enumerate(owns) if (own & edges).any()]
        if read and head.any():
            design = _Design.of(len(read), n_pairs, seed)
            some, variance = _body_values(body, head, z, reference, [owns[index] for index in read], design)
            values[:, read] += some
            variances[:, read] += variance
    for trees in formula.trees:
        values[:, :, trees.outputs] += _tree_values(trees, z, reference, owns)
    base = np.repeat(reading.answers(formula.inner(reference)).mean(0)[None], len(z), 0)
    values, error = values * reading.scales, np.sqrt(variances) * reading.scales
    if base.shape[1] == 1:
        values, error, base = values[:, :, 0], error[:, :, 0], base[:, 0]
    cells, names = _cells(reading, X), list(reading.columns)
    targets = tuple(one.name for one in reading.targets) if len(reading.targets) > 1 else ()
    return Explanation(values, base, cells, names, error, reading.target, reading.classes, targets)


@dataclass(frozen=True, eq=False)
class _Design:
    """Which sets of k columns are run, and how contributions are made of their values.

    member: (sets, k) 1 for a column in the set. contributions: from the values (rows, sets) to (estimates, rows, k):
    one estimate, exact, or one per pair of permutations.
    """

    member: Float[np.ndarray, "sets k"]
    contributions: Callable[[Float[np.ndarray, "rows sets"]], Float[np.ndarray, "estimates rows k"]]

    @classmethod
    def of(cls, k: int, n_pairs: int | None, seed: np.random.SeedSequence) -> _Design:
        """n_pairs: None for all sets of up to MOST_EXACT columns, and about SETS sets of more."""
        if n_pairs is None and k <= MOST_EXACT:
            return cls.exact(k)
        pairs = max(LEAST_PAIRS, SETS // (2 * k)) if n_pairs is None else n_pairs
        return cls.sampled(k, pairs, np.random.default_rng(seed))

    @classmethod
    def exact(cls, k: int) -> _Design:
        """All sets."""
        member = (np.arange(2**k)[:, None] >> np.arange(k)) & 1
        size = member.sum(1)
        share = np.array([1 / (k * comb(k - 1, others)) for others in range(k)])  # of v(S + c) - v(S), |S| = others
        weight = np.where(member == 1, share[size - 1][:, None], -share[np.minimum(size, k - 1)][:, None])
        return cls(member.astype(np.float64), lambda v: (v @ weight)[None])

    @classmethod
    def sampled(cls, k: int, pairs: int, rng: np.random.Generator) -> _Design:
        """The sets of first columns of random orders and of the same orders reversed."""
        order = rng.permuted(np.tile(np.arange(k), (pairs, 1)), axis=1)
        place = np.stack([order, k - 1 - order], 1)  # of each column
        member = place[:, :, None] < np.arange(k + 1)[:, None]

        def contributions(v: Float[np.ndarray, "rows sets"]) -> Float[np.ndarray, "estimates rows k"]:
            steps = np.diff(v.reshape(-1, pairs, 2, k + 1), axis=-1)
            return np.take_along_axis(steps, place[None], -1).mean(2).swapaxes(0, 1)

        return cls(member.reshape(-1, k).astype(np.float64), contributions)


def _body_values(
    body: Sequence[Layer],
    head: Float[np.ndarray, "units outputs"],
    z: Float[np.ndarray, "rows inputs"],
    reference: Float[np.ndarray, "references inputs"],
    owns: Sequence[np.ndarray],
    design: _Design,
) -> tuple[Float[np.ndarray, "rows k outputs"], Float[np.ndarray, "rows k outputs"]]:
    """Contributions of k columns to one body, and their variances. owns: of each column, which inputs are its."""
    first, *others = body
    widest = max(len(layer.bias) for layer in body)
    edges = [first.weight[:, own].T for own in owns]
    step = max(1, _BLOCK // (len(design.member) * widest))
    values = np.zeros((len(z), len(owns), head.shape[1]))
    variances = np.zeros_like(values)
    for start in range(0, len(z), step):
        rows, parts = z[start : start + step], []
        for one in reference:
            # before the activation, a set is the sum of what its columns move
            moved = np.stack([(rows[:, own] - one[own]) @ edge for own, edge in zip(owns, edges, strict=True)], 1)
            a = design.member @ moved + (first.weight @ one + first.bias)
            h = ACTIVATE[first.activation](a.reshape(-1, a.shape[-1]))
            for layer in others:
                h = ACTIVATE[layer.activation](h @ layer.weight.T + layer.bias)
            sums = (h @ head).reshape(len(rows), -1, head.shape[1])
            parts.append(np.stack([design.contributions(sums[:, :, k]) for k in range(head.shape[1])], -1))
        estimates = np.mean(parts, 0)
        values[start : start + step] = estimates.mean(0)
        if len(estimates) > 1:
            variances[start : start + step] = estimates.var(0, ddof=1) / len(estimates)
    return values, variances


def _tree_values(
    trees: Trees,
    z: Float[np.ndarray, "rows inputs"],
    reference: Float[np.ndarray, "references inputs"],
    owns: Sequence[np.ndarray],
) -> Float[np.ndarray, "rows columns outputs"]:
    """Contributions of columns to trees. Those to a tree depend on the leaf alone that a row is in: a set of columns
    has the answers of the row to their questions, and those of the reference to all others."""
    owner, here, there = np.argmax(owns, 0), trees.places(z), trees.places(reference)
    digits = 2 ** np.arange(trees.column.shape[1])[::-1]
    leaves = np.arange(2 * digits[0])
    values = np.zeros((len(z), len(owns), len(trees.leaf)))
    for number, asked in enumerate(owner[trees.column]):
        players = np.unique(asked)
        design = _Design.exact(len(players))
        kept = design.member.astype(np.int64) @ ((asked == players[:, None]) @ digits)
        others, count = np.unique(there[:, number], return_counts=True)
        place = leaves[:, None, None] & kept | others[:, None] & ~kept
        mean = np.einsum("klos,o->kls", trees.leaf[:, number][:, place], count / len(reference))
        values[:, players] += np.stack([design.contributions(one)[0] for one in mean], -1)[here[:, number]]
    return values


def importances(
    formula: Formula, z: Float[np.ndarray, "rows inputs"], y: Any, *, n_repeats: int = 10, random_state: int = 0
) -> pd.DataFrame:
    """See `Population.importances`. z: rows as networks read them."""
    _check_count("n_repeats", n_repeats, 1)
    _check_count("random_state", random_state, 0)
    reading = formula.reading
    error_of, unit = _errors(reading, y, len(z))
    rng, error, found = np.random.default_rng(random_state), error_of(formula.inner(z)), []
    for own in owns_of(reading):
        more = np.zeros(len(z))
        for _ in range(n_repeats):
            shuffled = z.copy()
            shuffled[:, own] = z[rng.permutation(len(z))][:, own]
            more += (error_of(formula.inner(shuffled)) - error) / n_repeats / unit
        found.append((more.mean(), more.std(ddof=1) / len(z) ** 0.5))
    return pd.DataFrame(found, columns=["importance", "standard_error"]).assign(column=reading.columns)[
        ["column", "importance", "standard_error"]
    ]


def _errors(reading: Reading, y: Any, count: int) -> tuple[Callable[[np.ndarray], np.ndarray], float]:
    """What makes the error of each row of the outputs, and the mean error of who knows the mean of y, or how frequent
    its classes are: squared, or the log loss."""
    if reading.classes:
        codes = codes_of(y, reading.classes)
        if len(codes) != count or count < 2 or len(set(codes.tolist())) < 2:
            raise InputError(f"y must be a label per row of X, of at least 2 rows and classes, got {len(codes)}")
        share = np.bincount(codes) / len(codes)
        return (lambda logits: log_loss(logits, codes)), float(-np.log(share[codes]).mean())
    t = reading.standardize_targets(_targets(y, count, len(reading.targets)))
    variance = np.array([one.var() for one in t.T])
    return (lambda answers: (np.square(t - answers) * (variance[0] / variance)).mean(1)), float(variance[0])


def _targets(y: Any, count: int, targets: int) -> Float[np.ndarray, "rows targets"]:
    try:
        y = np.asarray(y, np.float64)
    except (TypeError, ValueError):
        raise InputError("y must be numbers, one per row of X") from None
    y = y.reshape(-1, 1) if targets == 1 else y
    if len(y) != count or count < 2 or y.shape[1:] != (targets,):
        what = "one number" if targets == 1 else f"{targets} numbers, one for each target,"
        raise InputError(f"y must be {what} per row of X, of at least 2 rows, got {len(y)} for {count} rows")
    if not np.isfinite(y).all() or (y.min(0) == y.max(0)).any():
        raise InputError("y must be finite and vary; drop the rows without a target")
    return y


def dependence(
    formula: Formula,
    column: int | str,
    background: Float[np.ndarray, "references inputs"] | None,
    *,
    points: int = 50,
) -> pd.DataFrame:
    """See `Population.partial_dependence`. background: rows as networks read them."""
    _check_count("points", points, 2)
    reading = formula.reading
    index = index_of(reading, column)
    cells, own = cells_along(reading, index, points), owns_of(reading)[index]
    rows = pd.concat([typical_row(reading)] * len(cells), ignore_index=True)
    rows[reading.columns[index]] = cells
    reference, predicted = _references(reading, background), []
    for moved in reading.standardize(rows)[:, own]:
        z = reference.copy()
        z[:, own] = moved
        answers = formula.inner(z)
        predicted.append((probabilities(answers) if reading.classes else reading.answers(answers)).mean(0))
    names = reading.classes or ([one.name for one in reading.targets] if len(reading.targets) > 1 else ["prediction"])
    found = pd.DataFrame(np.array(predicted), columns=list(names))
    found.insert(0, "value", cells, allow_duplicates=True)  # a class may have this label
    return found


def _references(
    reading: Reading, background: Float[np.ndarray, "references inputs"] | None
) -> Float[np.ndarray, "references inputs"]:
    """What is compared with: rows as networks read them, the typical row if None."""
    if background is None:
        return reading.standardize(typical_row(reading))
    if not len(background):
        raise InputError("background must have at least 1 row, got 0")
    return background


def _cells(reading: Reading, X: Any) -> np.ndarray:
    """The cells of the columns in use; numbers as they are read, unless one of the column cannot be."""
    cells, _ = matched(X, reading.columns, reading.given or reading.columns)
    some = [np.asarray(pd.Series(cell), dtype=object) for cell in cells]
    for index, column in enumerate(reading.table):
        if column.kind == "number":
            with suppress(InputError):
                some[index] = column.values(cells[index])
    return np.stack(some, 1)


def _check_count(name: str, value: Any, least: int) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise InputError(f"{name} must be a whole number from {least} on, got {value!r}")
