"""Artifacts: what the stages hand to each other, as Parquet with explicit schemas and stable bytes.

Files appear complete or not at all (`netformer.files.replacing`): a failure leaves the earlier artifact untouched.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from netformer.errors import InputError
from netformer.files import replacing
from netformer.networks.specs import ACTIVATIONS, Layout, Specs
from netformer.networks.stack import Networks
from netformer.tasks.task import SPLITS, ClassTask, Task

TASKS = pa.schema(
    [
        ("task_id", pa.string()),
        ("source", pa.string()),
        ("family", pa.string()),
        ("split", pa.string()),
        ("n_rows", pa.int32()),
        ("n_features", pa.int32()),
        ("X", pa.list_(pa.float32())),
        ("y", pa.list_(pa.float32())),
        ("row_split", pa.list_(pa.int8())),
        ("ceiling", pa.float64()),
        ("table", pa.string()),
        ("repeat", pa.int16()),
    ]
)
CLASS_TASKS = pa.schema(
    [
        ("task_id", pa.string()),
        ("source", pa.string()),
        ("family", pa.string()),
        ("way", pa.string()),
        ("split", pa.string()),
        ("n_rows", pa.int32()),
        ("n_features", pa.int32()),
        ("n_classes", pa.int16()),
        ("X", pa.list_(pa.float32())),
        ("codes", pa.list_(pa.int16())),
        ("probabilities", pa.list_(pa.float32())),
        ("row_split", pa.list_(pa.int8())),
    ]
)
NETWORKS = pa.schema(
    [
        ("net_id", pa.int64()),
        ("task_id", pa.string()),
        ("arm", pa.string()),
        ("sampling_seed", pa.int16()),
        ("n_inputs", pa.int16()),
        ("widths", pa.list_(pa.int16())),
        ("activations", pa.list_(pa.string())),
        ("bias", pa.bool_()),
        ("skip", pa.bool_()),
        ("n_params", pa.int32()),
        ("init_seed", pa.int64()),
        ("mask", pa.list_(pa.bool_())),
        ("weights", pa.list_(pa.float32())),
        ("train_r2", pa.float64()),
        ("valid_r2", pa.float64()),
        ("test_r2", pa.float64()),
    ]
)
_ARRAYS = {"X": np.float32, "y": np.float32, "row_split": np.int8}
STACK = ("n_inputs", "widths", "activations", "mask", "weights")  # of NETWORKS, which `networks_of` reads
_FIRST = 5  # layers in a message
_SHOWN = 200  # characters of what was found
MAY_BE_MISSING = ("ceiling",)  # a task whose noiseless function is not known


def write_parquet(table: pa.Table, path: Path, row_group: int | None = None) -> None:
    """Parquet, zstd, complete or not at all. row_group: rows that can be read alone, None: a million."""
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=row_group)


def read_parquet(path: Path) -> pa.Table:
    """Raises InputError for a file that is missing or is no Parquet file."""
    if not path.exists():
        raise InputError(f"{path} does not exist; run the stage that writes it (dvc repro)")
    try:
        table = pq.read_table(path)
        _ = table.column_names  # text, if they are
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is not a readable Parquet file: {str(error).splitlines()[0]}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a readable Parquet file: the name of a column is not UTF-8") from None
    return table


def conform(table: pa.Table, schema: pa.Schema, where: object) -> pa.Table:
    """The columns of a schema out of a table, in its types, checked through and through.

    Raises InputError, one line, for a column that is missing, there twice, of a type that does not turn into that of
    the schema without loss, or has gaps (but for `MAY_BE_MISSING`), and for a column whose lists or text are damaged.
    """
    columns = []
    for wanted in schema:
        at = table.schema.get_all_field_indices(wanted.name)
        if len(at) != 1:
            raise InputError(f"{where}: column {wanted.name} must be there once, found {len(at)} of that name")
        column = table.column(at[0])
        try:
            column.validate(full=True)
            column = (column if column.type == wanted.type else column.cast(wanted.type)).combine_chunks()
            parts = [column, column.flatten()] if pa.types.is_list(wanted.type) else [column]
        except pa.ArrowException as error:
            found = f"{table.schema.field(at[0]).type}: {' '.join(str(error).split())}"
            raise InputError(f"{where}: column {wanted.name} must be {wanted.type}, found {found[:_SHOWN]}") from None
        if wanted.name not in MAY_BE_MISSING and any(part.null_count for part in parts):
            raise InputError(f"{where}: column {wanted.name} must have no gaps; run the stage that writes it again")
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=schema)


def write_json(value: Any, path: Path) -> None:
    """Sorted keys, finite numbers only, complete or not at all."""
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text)


def write_tasks(tasks: Sequence[Task], path: Path) -> None:
    """Tasks in order of their ids, schema TASKS. X is stored row by row, in float32."""
    rows = [
        {
            "task_id": t.task_id,
            "source": t.source,
            "family": t.family,
            "split": t.split,
            "n_rows": len(t.y),
            "n_features": t.X.shape[1],
            "X": np.asarray(t.X, np.float32).ravel(),
            "y": np.asarray(t.y, np.float32),
            "row_split": np.asarray(t.row_split, np.int8),
            "ceiling": None if np.isnan(t.ceiling) else t.ceiling,
            "table": t.table,
            "repeat": t.repeat,
        }
        for t in sorted(tasks, key=lambda t: t.task_id)
    ]
    write_parquet(pa.Table.from_pylist(rows, schema=TASKS), path)


def read_tasks(path: Path) -> list[Task]:
    """What `write_tasks` wrote, in the order of the file. Raises InputError as `read_parquet` and `conform` do, and for
    a row that is no task."""
    table, tasks = conform(read_parquet(path), TASKS, path), []
    for number, row in enumerate(table.to_pylist()):
        n_rows, n_features = row["n_rows"], row["n_features"]
        x, y, codes = (np.asarray(row[name], kind) for name, kind in _ARRAYS.items())
        sizes = (x.size, y.size, codes.size)
        if min(n_rows, n_features) < 1 or sizes != (n_rows * n_features, n_rows, n_rows):
            found = f"{n_rows} rows, {n_features} features, and lists of {sizes}"
            raise InputError(f"{path}: X, y and row_split must have n_rows entries, found {found} in row {number}")
        known = row["split"] in SPLITS and np.isin(codes, range(len(SPLITS))).all()
        if not known or not np.isfinite(x).all() or not np.isfinite(y).all():
            raise InputError(f"{path}: X and y must be finite, splits {', '.join(SPLITS)}; row {number} has others")
        ceiling = float("nan") if row["ceiling"] is None else row["ceiling"]
        names = {key: row[key] for key in ("task_id", "source", "family", "split", "table", "repeat")}
        tasks.append(Task(X=x.reshape(n_rows, n_features), y=y, row_split=codes, ceiling=ceiling, **names))
    return tasks


def write_class_tasks(tasks: Sequence[ClassTask], path: Path) -> None:
    """Tasks with classes in order of their ids, schema CLASS_TASKS. X and probabilities are stored row by row."""
    rows = [
        {
            **{name: getattr(t, name) for name in ("task_id", "source", "family", "way", "split")},
            "n_rows": len(t.codes),
            "n_features": t.X.shape[1],
            "n_classes": t.probabilities.shape[1],
            "X": np.asarray(t.X, np.float32).ravel(),
            "codes": np.asarray(t.codes, np.int16),
            "probabilities": np.asarray(t.probabilities, np.float32).ravel(),
            "row_split": np.asarray(t.row_split, np.int8),
        }
        for t in sorted(tasks, key=lambda t: t.task_id)
    ]
    write_parquet(pa.Table.from_pylist(rows, schema=CLASS_TASKS), path)


def read_class_tasks(path: Path) -> list[ClassTask]:
    """What `write_class_tasks` wrote, in the order of the file. Raises InputError as `read_parquet` and `conform` do,
    and for a row that is no task."""
    table, tasks = conform(read_parquet(path), CLASS_TASKS, path), []
    for number, row in enumerate(table.to_pylist()):
        n, k, n_classes = row["n_rows"], row["n_features"], row["n_classes"]
        kinds = {"X": np.float32, "codes": np.int64, "probabilities": np.float32, "row_split": np.int8}
        x, codes, shares, split = (np.asarray(row[name], kind) for name, kind in kinds.items())
        sizes = (x.size, codes.size, shares.size, split.size)
        if min(n, k, n_classes - 1) < 1 or sizes != (n * k, n, n * n_classes, n):
            found = f"{n} rows, {k} features, {n_classes} classes, and lists of {sizes}"
            raise InputError(f"{path}: X, codes, probabilities and row_split must fit, found {found} in row {number}")
        known = row["split"] in SPLITS and np.isin(split, range(len(SPLITS))).all()
        known = known and ((codes >= 0) & (codes < n_classes)).all() and (shares >= 0).all()
        if not known or not np.isfinite(x).all() or not np.isfinite(shares).all():
            rule = f"X and probabilities must be finite, codes below n_classes, splits {', '.join(SPLITS)}"
            raise InputError(f"{path}: {rule}; row {number} has others")
        names = {name: row[name] for name in ("task_id", "source", "family", "way", "split")}
        tasks.append(
            ClassTask(**names, X=x.reshape(n, k), codes=codes, probabilities=shares.reshape(n, -1), row_split=split)
        )
    return tasks


def naming_outputs(table: pa.Table, n_outputs: int) -> pa.Table:
    """A table of networks that says how many outputs they have, so that such tables fit below one another."""
    if "n_outputs" in table.column_names:
        return table
    return table.append_column("n_outputs", pa.array(np.full(len(table), n_outputs, np.int16)))


def by_outputs(table: pa.Table) -> list[tuple[int, pa.Table]]:
    """The parts of a table made of tables of `naming_outputs`, each with its number of outputs, the least first."""
    found = table["n_outputs"].to_numpy()
    return [(int(k), table.filter(found == k)) for k in np.unique(found)]


def networks_table(
    networks: Networks,
    task_ids: Sequence[str],
    *,
    r2: Tensor,
    arm: Sequence[str],
    init_seed: Tensor | None = None,
    sampling_seed: Tensor | None = None,
) -> pa.Table:
    """A table of the schema NETWORKS, one row per network, in the order of the stack.

    r2: (n, 3), on train, valid and test rows. `mask` and `weights` are the padded stack, row by row, so that nothing is
    lost; the number of outputs is not stored, it is known from the layout they are read with.
    """
    s, n = networks.specs, len(networks)

    def flat(values: Tensor, kind: pa.DataType) -> pa.ListArray:
        width = values[0].numel()
        offsets = pa.array(np.arange(n + 1, dtype=np.int32) * width)
        return pa.ListArray.from_arrays(offsets, pa.array(values.reshape(-1).numpy(), kind))

    names = np.array(ACTIVATIONS)[s.activations.numpy()]
    depth = s.depth.tolist()
    columns = [
        pa.array(range(n), pa.int64()),
        pa.array(list(task_ids), pa.string()),
        pa.array(list(arm), pa.string()),
        pa.array((torch.zeros(n) if sampling_seed is None else sampling_seed).numpy().astype(np.int16)),
        pa.array(s.n_inputs.numpy().astype(np.int16)),
        pa.array([w[:d] for w, d in zip(s.widths.tolist(), depth, strict=True)], pa.list_(pa.int16())),
        pa.array([a[:d].tolist() for a, d in zip(names, depth, strict=True)], pa.list_(pa.string())),
        pa.array(s.bias.numpy()),
        pa.array(s.skip.numpy()),
        pa.array(s.n_params.numpy().astype(np.int32)),
        pa.array((torch.zeros(n) if init_seed is None else init_seed).numpy().astype(np.int64)),
        flat(s.mask, pa.bool_()),
        flat(networks.weight, pa.float32()),
        *(pa.array(r2[:, i].numpy().astype(np.float64)) for i in range(3)),
    ]
    return pa.Table.from_arrays(columns, schema=NETWORKS)


def networks_of(table: pa.Table, layout: Layout) -> Networks:
    """The stack behind a table of the schema NETWORKS.

    Raises InputError as `conform` does, and for a table of another layout or with networks that the layout has not.
    """
    table = conform(table, pa.schema([NETWORKS.field(name) for name in STACK]), "networks")
    n, layers, index = table.num_rows, layout.max_hidden_layers, {name: code for code, name in enumerate(ACTIVATIONS)}
    shape = (n, layout.n_patches, layout.n_slots)
    every = [table[name].combine_chunks() for name in ("mask", "weights")]
    if any((part.value_lengths().to_numpy() != shape[1] * shape[2]).any() for part in every):
        found = " and ".join(
            f"{len(part.flatten())} {name}" for name, part in zip(("edges", "weights"), every, strict=True)
        )
        raise InputError(f"networks were stored for another layout: expected {layout}, found {found}")
    mask, weight = (torch.from_numpy(part.flatten().to_numpy(zero_copy_only=False).copy()) for part in every)
    widths, codes = torch.zeros(n, layers).long(), torch.zeros(n, layers).long()
    n_inputs = torch.from_numpy(table["n_inputs"].to_numpy().astype(np.int64))
    for i, (w, a) in enumerate(zip(table["widths"].to_pylist(), table["activations"].to_pylist(), strict=True)):
        known = len(w) == len(a) and 1 <= len(w) <= layers and all(1 <= width <= layout.max_width for width in w)
        if not known or not index.keys() >= set(a) or not 1 <= int(n_inputs[i]) <= layout.max_features:
            found = f"{int(n_inputs[i])} inputs, layers of {w[:_FIRST]} units, {a[:_FIRST]} in row {i}"
            raise InputError(f"networks must have a width and an activation per layer, as in {layout}, found {found}")
        widths[i, : len(w)] = torch.tensor(w)
        codes[i, : len(a)] = torch.tensor([index[name] for name in a])
    return Networks(Specs(n_inputs, widths, codes, mask.view(shape), layout.n_outputs), weight.view(shape))


def r2_of(table: pa.Table) -> Tensor:
    """Train, valid and test R2, (n, 3)."""
    return torch.from_numpy(np.stack([table[f"{part}_r2"].to_numpy() for part in ("train", "valid", "test")], 1))
