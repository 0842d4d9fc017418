"""Meta-features: 37 named numbers that describe a table, as pymfe computes them.

The documented settings, from which every value can be reproduced:

    MFE(groups="all", features=FEATURES, summary=("mean", "sd"), random_state=RANDOM_STATE).fit(X, quantile_bins(y))

pymfe describes classification data, so the target goes in as quantile bins (`quantile_bins`); with a continuous target
f1, f2 and the tree features are missing. X goes in as it stands: cov and gravity have its units, skewness its signs.
What pymfe cannot compute is FILL, and named in `filled`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from netformer.arrays import functions
from netformer.arrays.namespace import Tensor
from netformer.errors import InputError, need
from netformer.tasks.task import TRAIN, Task
from netformer.tasks.view import canonicalize_tasks

if TYPE_CHECKING:
    import pyarrow as pa

_SUMMARISED = (
    *("skewness", "kurtosis", "cor", "cov", "attr_conc", "class_conc", "sparsity", "attr_ent", "mut_inf"),
    *("f1", "f2", "tree_depth", "leaves_branch", "leaves_per_class"),
)
FEATURES = (
    *("inst_to_attr", "nr_class", "nr_attr", "attr_to_inst", "skewness", "kurtosis", "cor", "cov", "attr_conc"),
    *("class_conc", "sparsity", "gravity", "class_ent", "attr_ent", "mut_inf", "eq_num_attr", "ns_ratio", "f1", "f2"),
    *("tree_depth", "leaves_branch", "nodes_per_attr", "leaves_per_class"),
)
NAMES = tuple(name + end for name in FEATURES for end in ((".mean", ".sd") if name in _SUMMARISED else ("",)))
MAX_BINS = 5
RANDOM_STATE = 0
FILL = 0.0
_PIECE = 8  # tasks that a worker gets at a time


class MetaFeatures(dict[str, float]):
    """NAMES -> finite floats, in the order of NAMES. `filled`: names pymfe could not compute, whose value is FILL."""

    filled: tuple[str, ...]

    def __init__(self, values: dict[str, float], filled: tuple[str, ...]):
        super().__init__(values)
        self.filled = filled


def quantile_bins(target: Float[np.ndarray, " rows"]) -> Int[np.ndarray, " rows"]:
    """Classes 0, 1, ... of equal size up to rounding: MAX_BINS of them, fewer below 50 rows (a bin keeps about 10), but
    never less than 2. A row's bin is that of its mid-rank, so equal targets share a class: bins can then be uneven or
    fewer, one only if the target is constant.
    """
    n = len(target)
    bins = min(MAX_BINS, max(2, n // 10))
    _, inverse, counts = np.unique(target, return_inverse=True, return_counts=True)
    # floor(bins * (mid-rank - 1/2) / n), in integers: no rounding at the edges
    bin_of_value = bins * (2 * np.cumsum(counts) - counts) // (2 * n)
    return np.unique(bin_of_value[inverse], return_inverse=True)[1]


def get_meta_features(parameters: Any, target: Any) -> MetaFeatures:
    """The 37 meta-features of a table.

    parameters: array or DataFrame of numbers, (rows, features). target: numbers, (rows,). Deterministic, leaves numpy's
    global generator as it was, and warns of nothing. Values differ from pymfe's own by rounding alone, at most 1e-6 of
    their scale (`tasks.measures`). About 4 ms for 300 x 10, of which pymfe takes 400.

    Raises InputError when the table is empty, not numeric or not finite, the lengths differ, or pymfe is missing.
    """
    need("pymfe", "get_meta_features")
    x, y = _numbers(parameters, "parameters", 2), _numbers(target, "target", 1)
    if len(x) != len(y):
        raise InputError(f"parameters and target must have the same number of rows, got {len(x)} and {len(y)}")
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        from netformer.tasks.measures import measure

        found = measure(x, quantile_bins(y), RANDOM_STATE)
        values = dict.fromkeys(NAMES, float("nan"))
        for feature in FEATURES:
            measured = found.get(feature, np.nan)
            if feature in _SUMMARISED:
                listed = np.atleast_1d(measured)
                values[f"{feature}.mean"] = float(np.mean(listed))
                values[f"{feature}.sd"] = float(np.std(listed, ddof=1)) if len(listed) > 1 else float("nan")
            else:
                values[feature] = float(measured) if np.ndim(measured) == 0 else float("nan")
    filled = tuple(name for name, value in values.items() if not np.isfinite(value))
    return MetaFeatures(values | dict.fromkeys(filled, FILL), filled)


def limit_table(
    parameters: Float[np.ndarray, "rows features"],
    target: Float[np.ndarray, " rows"],
    max_rows: int,
    max_features: int,
) -> tuple[Float[np.ndarray, "kept_rows kept"], Float[np.ndarray, " kept_rows"]]:
    """The first `max_rows` rows and, of more features than `max_features`, those with the largest |correlation with y|
    on these rows (as in `view.canonicalize_tasks`), in the order of the table. A small table comes back unchanged."""
    for name, limit in (("max_rows", max_rows), ("max_features", max_features)):
        if limit < 1:
            raise InputError(f"{name} must be >= 1, got {limit}")
    x, y = parameters[:max_rows], target[:max_rows]
    if x.shape[1] > max_features:
        raw, goal = (functions.from_numpy(np.asarray(part, np.float64)[None]) for part in (x, y))
        columns = canonicalize_tasks(raw, goal, functions.full((1, len(y)), TRAIN), max_features).views.columns[0]
        x = x[:, np.sort(columns.numpy())]
    return x, y


def meta_features_frame(
    tasks: Sequence[Task],
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    max_rows: int = 300,
    max_features: int = 16,
) -> pa.Table:
    """One row per task, in the given order: task_id, NAMES (float64), filled (list<string>, see `MetaFeatures`).

    Computed on the train rows, cut by `limit_table`. workers, progress: of `workers.map_parallel`, which is called with
    `_PIECE` tasks at a time; the number of workers changes no value. Raises InputError, naming the task, as
    `get_meta_features` does.
    """
    tables = []
    for task in tasks:
        train = np.asarray(task.row_split) == TRAIN
        tables.append((task.task_id, *limit_table(task.X[train], task.y[train], max_rows, max_features)))
    pieces = [tables[start : start + _PIECE] for start in range(0, len(tables), _PIECE)]
    import pyarrow as pa

    from netformer.workers import map_parallel

    found = [item for piece in map_parallel(_describe, pieces, workers=workers, progress=progress) for item in piece]
    columns: dict[str, Any] = {"task_id": pa.array([task.task_id for task in tasks], pa.string())}
    columns |= {name: pa.array([item[name] for item in found], pa.float64()) for name in NAMES}
    columns["filled"] = pa.array([list(item.filled) for item in found], pa.list_(pa.string()))
    return pa.table(columns)


def _describe(tables: Sequence[tuple[str, np.ndarray, np.ndarray]]) -> list[MetaFeatures]:
    """Meta-features of some tables, each a name, x and y."""
    found = []
    for task_id, x, y in tables:
        try:
            found.append(get_meta_features(x, y))
        except InputError as error:
            raise InputError(f"task {task_id}: {error}") from error
    return found


def _numbers(data: Any, name: str, ndim: int) -> np.ndarray:
    """`data` as a finite float64 array of `ndim` axes. Raises InputError that says what is wrong with `name`."""
    if hasattr(data, "dtypes"):  # pandas: mixed or nullable columns become dtype object if converted in one go
        import pandas as pd

        columns = pd.DataFrame(data)
        bad = [str(key) for key, dtype in columns.dtypes.items() if not pd.api.types.is_numeric_dtype(dtype)]
        if bad:
            raise InputError(f"{name} must be numeric, got column {bad[0]!r} of another type; encode it first")
        array = columns.to_numpy(dtype=np.float64, na_value=np.nan)
        array = array[:, 0] if ndim == 1 and array.shape[1] == 1 else array
    else:
        array = np.asarray(data)
    if array.ndim != ndim:
        axes = "(rows, features)" if ndim == 2 else "(rows,)"
        raise InputError(f"{name} must have shape {axes}, got {array.shape}")
    if array.size == 0:
        raise InputError(f"{name} must not be empty, got shape {array.shape}")
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name} must be numeric, got dtype {array.dtype}; encode it first")
    array = array.astype(np.float64)
    bad_count = int((~np.isfinite(array)).sum())
    if bad_count:
        raise InputError(f"{name} must be finite, got {bad_count} NaN or infinite values; impute or drop them first")
    return array


@dataclass(frozen=True)
class MetaFeatureTransform:
    """Meta-features as a network wants them; fit it on train tasks only.

        s = sign(v) * log(1 + |v|),    out = clip((s - mean) / scale, -CLIP, CLIP)

    mean, scale: of s over the fitted tasks, a value a name. scale 0 marks a column that was constant: its output is 0.
    max_rows, max_features: the limits of `limit_table` the values were computed under, and are to be.
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    max_rows: int = 300
    max_features: int = 16

    CLIP = 5.0

    @classmethod
    def fit(
        cls,
        values: Float[np.ndarray, "tasks 37"] | Float[Tensor, "tasks 37"],
        max_rows: int = 300,
        max_features: int = 16,
    ) -> MetaFeatureTransform:
        """A column counts as constant when its spread is rounding noise, below 1e-9 * (1 + |mean|).

        Raises InputError without tasks and for values that are not finite.
        """
        logs = _signed_log(values)
        if len(logs) == 0:
            raise InputError("MetaFeatureTransform.fit needs at least one task, got 0")
        mean, scale = logs.mean(axis=0), logs.std(axis=0)
        scale = np.where(scale > 1e-9 * (1 + np.abs(mean)), scale, 0.0)
        return cls(tuple(mean.tolist()), tuple(scale.tolist()), max_rows, max_features)

    def transform(
        self, values: Float[np.ndarray, "*tasks 37"] | Float[Tensor, "*tasks 37"]
    ) -> Float[Tensor, "*tasks 37"]:
        """`array` as a tensor."""
        import torch

        return torch.from_numpy(self.array(values))

    __call__ = transform

    def array(self, values: Float[np.ndarray, "*tasks 37"] | Float[Tensor, "*tasks 37"]) -> np.ndarray:
        """float32, within +-CLIP. Raises InputError for values that are not finite."""
        mean, scale = np.array(self.mean), np.array(self.scale)
        centred = _signed_log(values) - mean
        z = np.divide(centred, scale, out=np.zeros_like(centred), where=scale > 0)
        return np.clip(z, -self.CLIP, self.CLIP).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; `from_dict` gives back an equal transform."""
        return {
            "names": list(NAMES),
            "mean": list(self.mean),
            "scale": list(self.scale),
            "max_rows": self.max_rows,
            "max_features": self.max_features,
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> MetaFeatureTransform:
        """What `to_dict` gave. Raises InputError for features of another version and numbers that `fit` cannot give."""
        if tuple(state["names"]) != NAMES:
            raise InputError("stored meta-features must be netformer.tasks.metafeatures.NAMES, in that order")
        mean, scale = (np.array(state[name], dtype=np.float64) for name in ("mean", "scale"))
        if not (mean.shape == scale.shape == (len(NAMES),) and np.isfinite(mean).all() and np.isfinite(scale).all()):
            raise InputError(f"stored mean and scale must be {len(NAMES)} finite numbers each")
        limits = state["max_rows"], state["max_features"]
        if (scale < 0).any() or not all(type(limit) is int and limit >= 1 for limit in limits):
            raise InputError(f"stored scale must be at least 0, max_rows and max_features at least 1, found {limits}")
        return cls(tuple(mean.tolist()), tuple(scale.tolist()), *limits)


def _signed_log(values: np.ndarray | Tensor) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise InputError("meta-feature values must be finite; leave missing rows to the model's null condition")
    return np.sign(array) * np.log1p(np.abs(array))


def metafeature_values(table: pa.Table, task_ids: Sequence[str]) -> Float[np.ndarray, "tasks 37"]:
    """Values of a table of `meta_features_frame`, in the order of `task_ids`. Raises InputError for a table without one
    of the columns or tasks, and for values that are no finite numbers."""
    import pyarrow as pa

    missing = [name for name in ("task_id", *NAMES) if table.column_names.count(name) != 1]
    if missing:
        raise InputError(
            f"meta-features must have the columns task_id, {', '.join(NAMES)}, each once; not {missing[0]}"
        )
    rows = {task_id: row for row, task_id in enumerate(table["task_id"].to_pylist())}
    if unknown := [task_id for task_id in task_ids if task_id not in rows]:
        raise InputError(f"meta-features must be those of these tasks, found none of {unknown[0]}; run the stage again")
    numeric = all(pa.types.is_floating(table.schema.field(name).type) for name in NAMES)
    values = np.stack([table[name].to_numpy() for name in NAMES], 1) if numeric else np.full((1, 1), np.nan)
    if not np.isfinite(values).all():
        raise InputError("meta-features must be finite numbers; run the stage metafeatures again")
    return values[[rows[task_id] for task_id in task_ids]]
