"""Measures: what pymfe computes for `tasks.metafeatures`, without its machinery.

Functions of pymfe that are fast are called as they are (`ft_gravity`, `ft_cor`, `ft_cov`, `ft_sparsity`, the tree
table). What was slow is batched here: `pandas.crosstab` per pair of columns (contingency tables by counting, all
columns at once), scipy's decorators per column, minima and maxima per pair of classes, introspection of every method.
Formulas and quirks are those of pymfe 0.4; tests compare every value with an unpatched call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.stats
import sklearn
from jaxtyping import Float, Int
from pymfe.general import MFEGeneral
from pymfe.info_theory import MFEInfoTheory
from pymfe.model_based import MFEModelBased
from pymfe.statistical import MFEStatistical
from sklearn.tree import DecisionTreeClassifier

_EPSILON = 1e-8  # pymfe adds it to every cell of a contingency table
_MAX_CONC = 12  # columns `attr_conc` compares, drawn at random from more
_TOLERANCE = 1e-8  # bounds of bins that are closer are one
_FAILURES = (ValueError, TypeError, MemoryError, ZeroDivisionError, IndexError, OverflowError, FloatingPointError)


def measure(x: Float[np.ndarray, "rows features"], classes: Int[np.ndarray, " rows"], seed: int) -> dict[str, Any]:
    """Every feature of `metafeatures.FEATURES`, a number or the values to be summarised; nan or none where pymfe fails.

    classes: 0, 1, ... without a gap. seed: of the tree and of the columns `attr_conc` draws.
    """
    sizes = np.bincount(classes)
    found: dict[str, Any] = {
        "inst_to_attr": MFEGeneral.ft_inst_to_attr(x),
        "nr_class": len(sizes),
        "nr_attr": MFEGeneral.ft_nr_attr(x),
        "attr_to_inst": MFEGeneral.ft_attr_to_inst(x),
        "sparsity": _try(MFEStatistical.ft_sparsity, x),
        "cor": _try(MFEStatistical.ft_cor, x),
        "cov": _try(MFEStatistical.ft_cov, x),
        "gravity": _try(MFEStatistical.ft_gravity, x, classes, classes=np.arange(len(sizes)), class_freqs=sizes),
    }
    found |= _moments(x)
    found |= _information(_codes(x), classes, seed)
    found |= _separation(x, classes, sizes)
    return found | _tree(x, classes, seed)


def _try(work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """What pymfe would have: no value where a method fails."""
    try:
        return work(*arguments, **named)
    except _FAILURES:
        return np.empty(0)


def _codes(x: Float[np.ndarray, "rows features"]) -> Int[np.ndarray, "features rows"]:
    """The number of each value's bin, in bins of about equal frequency."""
    shares = np.linspace(0, 1, int(len(x) ** (1 / 3)) + 1)[1:]
    codes = np.empty(x.T.shape, np.int64)
    for code, column, bounds in zip(codes, np.ascontiguousarray(x.T), np.quantile(x, shares, axis=0).T, strict=True):
        kept = np.sort(bounds[np.append(True, np.diff(bounds) > _TOLERANCE)])
        code[:] = np.searchsorted(kept, column, side="left")
    return codes


def _moments(x: Float[np.ndarray, "rows features"]) -> dict[str, Any]:
    """Skewness and kurtosis with the sample's standard deviation (e1071's type 3)."""
    columns, n = np.ascontiguousarray(x.T), len(x)
    skewness = scipy.stats.skew(columns, axis=1) * ((n - 1.0) / n) ** 1.5
    return {
        "skewness": skewness,
        "kurtosis": (scipy.stats.kurtosis(columns, axis=1) + 3.0) * (1.0 - 1.0 / n) ** 2.0 - 3.0,
    }


def _entropy(counts: Int[np.ndarray, "*lists values"]) -> Any:
    """In bits, of each list of counts."""
    p = counts / counts.sum(-1, keepdims=True)
    return -(p * np.log(np.where(counts > 0, p, 1.0))).sum(-1) / np.log(2)


def _tables(
    first: Int[np.ndarray, " rows"], others: Int[np.ndarray, "columns rows"], n_first: int, n_others: int
) -> tuple[Float[np.ndarray, "columns first others"], np.ndarray]:
    """Contingency tables of one column with several: shares + epsilon, and which cells belong to values that occur."""
    cell = first * n_others + others + (n_first * n_others * np.arange(len(others)))[:, None]
    size = len(others) * n_first * n_others
    counts = np.bincount(cell.ravel(), minlength=size).reshape(len(others), n_first, n_others)
    present = (counts.sum(2) > 0)[:, :, None] & (counts.sum(1) > 0)[:, None, :]
    return np.where(present, counts / len(first) + _EPSILON, 0.0), present


def _concentration(p: Float[np.ndarray, "tables first others"], present: np.ndarray) -> Float[np.ndarray, " tables"]:
    """Goodman and Kruskal's coefficient of each table."""
    total = p.sum(1, keepdims=True)
    squares = (p.sum(2) ** 2).sum(1)
    explained = np.divide(p**2, total, out=np.zeros_like(p), where=present).sum((1, 2))
    return (explained - squares) / (1.0 - squares)


def _information(codes: Int[np.ndarray, "columns rows"], classes: Int[np.ndarray, " rows"], seed: int) -> dict:
    """Entropies, mutual information and concentration coefficients of columns with one another and with the classes."""
    n_columns, n_codes, n_classes = len(codes), int(codes.max()) + 1, int(classes.max()) + 1
    joint, present = _tables(classes, codes, n_classes, n_codes)
    joint_entropy = -(joint * np.log2(np.where(present, joint, 1.0))).sum((1, 2))
    offsets = n_codes * np.arange(n_columns)[:, None]
    counts = np.bincount((codes + offsets).ravel(), minlength=n_codes * n_columns).reshape(n_columns, n_codes)
    attr_ent, class_ent = _entropy(counts), _entropy(np.bincount(classes))
    mutual = attr_ent + class_ent - joint_entropy
    chosen = np.arange(n_columns)
    if n_columns > _MAX_CONC:
        chosen = np.random.RandomState(seed).choice(chosen, size=_MAX_CONC, replace=False)
    pairs = []
    for index, column in enumerate(chosen):
        others = np.delete(chosen, index)
        pairs.append(_concentration(*_tables(codes[column], codes[others], n_codes, n_codes)))
    return {
        "attr_conc": np.concatenate(pairs),
        "class_conc": _concentration(joint.transpose(0, 2, 1), present.transpose(0, 2, 1)),
        "class_ent": class_ent,
        "attr_ent": attr_ent,
        "mut_inf": mutual,
        "eq_num_attr": MFEInfoTheory.ft_eq_num_attr(codes.T, classes, class_ent=class_ent, mut_inf=mutual),
        "ns_ratio": MFEInfoTheory.ft_ns_ratio(codes.T, classes, attr_ent=attr_ent, mut_inf=mutual),
    }


def _separation(
    x: Float[np.ndarray, "rows features"], classes: Int[np.ndarray, " rows"], sizes: Int[np.ndarray, " classes"]
) -> dict[str, Any]:
    """Fisher's ratio of every column (f1), overlap of the boxes of every pair of classes (f2)."""
    groups = [x[classes == index] for index in range(len(sizes))]
    centres, low, high = (np.array([work(group, axis=0) for group in groups]) for work in (np.mean, np.min, np.max))
    between = np.sum(np.square(centres - np.mean(x, axis=0)).T * sizes, axis=1)
    within = np.sum([np.square(group - centre).sum(0) for group, centre in zip(groups, centres, strict=True)], axis=0)
    a, b = np.triu_indices(len(sizes), 1)
    overlap = np.maximum(0.0, np.minimum(high[a], high[b]) - np.maximum(low[a], low[b]))
    spread = np.maximum(high[a], high[b]) - np.minimum(low[a], low[b])
    return {"f1": 1.0 / (1.0 + between / within), "f2": np.prod(overlap / spread, axis=1)}


def _tree(x: Float[np.ndarray, "rows features"], classes: Int[np.ndarray, " rows"], seed: int) -> dict[str, Any]:
    """Shape of a decision tree grown to the end; nothing where scikit-learn refuses the table (float32 overflow)."""
    try:
        with sklearn.config_context(skip_parameter_validation=True):
            model = DecisionTreeClassifier(random_state=seed).fit(x, classes)
    except _FAILURES:
        return {}
    tree = model.tree_
    depth, level, nodes = np.zeros(tree.node_count, np.int64), 0, np.zeros(1, np.int64)
    left, right = tree.children_left, tree.children_right
    while len(nodes):
        depth[nodes] = level
        nodes = np.concatenate([left[nodes], right[nodes]])
        nodes, level = nodes[nodes >= 0], level + 1
    leaves = tree.feature < 0
    table = MFEModelBased.extract_table(model, leaves)
    return {
        "tree_depth": depth,
        "leaves_branch": depth[leaves],
        "leaves_per_class": MFEModelBased.ft_leaves_per_class(model, table),
        "nodes_per_attr": MFEModelBased.ft_nodes_per_attr(model),
    }
