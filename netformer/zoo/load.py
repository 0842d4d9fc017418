"""Load: a zoo and its tokens as typed objects, for work on networks as data.

Filters run inside the Parquet reader (`pyarrow.dataset`): rows that are not asked for are never built.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import torch
from jaxtyping import Float
from torch import Tensor

from netformer.artifacts import NETWORKS, STACK, conform, networks_of, r2_of
from netformer.errors import InputError
from netformer.networks.specs import Layout, Specs, dense_mask
from netformer.networks.stack import Networks
from netformer.networks.token_tables import detokenize_networks, detokenize_sensitivity, tokens_of
from netformer.networks.tokens import Tokens
from netformer.tasks.task import SPLITS

_TOKENS = ("n_inputs", "widths", "activations", "parent", "vertex", "type", "weight")
_NUMBERS = {"n_inputs": pa.int32(), "weight": pa.list_(pa.float32()), "sensitivity": pa.list_(pa.float32())}
_OF_TOKENS = {
    **{name: pa.list_(pa.int16()) for name in _TOKENS},
    **_NUMBERS,
    "n_outputs": pa.int16(),
    "task_id": pa.string(),
    "net_id": pa.int64(),
}
_GUESSED = 1 << 14  # most slots of a mask whose layout is worked out
_LOOK_AT = 1000  # rows on which a layout is checked


@dataclass(frozen=True, eq=False)
class Zoo:
    """Networks of a table of the schema `artifacts.NETWORKS`, one row per network.

    table: the columns that were read. layout: the shape of its stack, None where the weights were not read.
    """

    table: pa.Table
    layout: Layout | None

    def __len__(self) -> int:
        return self.table.num_rows

    @cached_property
    def networks(self) -> Networks:
        """The stack; row i of the table is network i. Raises InputError if its columns were not read, and for rows that
        are no networks."""
        if self.layout is None:
            raise InputError(f"networks need the columns {', '.join(STACK)}; load the zoo without columns=")
        networks = networks_of(self.table, self.layout)
        if not _are_networks(networks.specs):
            raise InputError("networks must have no edge but those of their layers, and an edge into every unit")
        if not bool(torch.isfinite(networks.weight).all()) or bool((networks.weight[~networks.specs.mask] != 0).any()):
            raise InputError("weights must be finite, and 0 where there is no edge")
        return networks

    @cached_property
    def r2(self) -> Float[Tensor, "n 3"]:
        """R2 on train, valid and test rows. Raises InputError if these columns were not read."""
        missing = [f"{part}_r2" for part in SPLITS if f"{part}_r2" not in self.table.column_names]
        if missing:
            raise InputError(f"r2 needs the columns {', '.join(missing)}; name them in columns=")
        return r2_of(self.table)

    @property
    def task_ids(self) -> list[str]:
        """Task of each network. Raises InputError if this column was not read."""
        return _task_ids(self.table)


@dataclass(frozen=True, eq=False)
class TokenTable:
    """Networks as edges, one row per network. Item i is one network as `Tokens`."""

    table: pa.Table
    layout: Layout

    def __len__(self) -> int:
        return self.table.num_rows

    def __getitem__(self, index: int) -> Tokens:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index must be below {len(self)}, got {index}")
        return tokens_of(self.table, index % len(self))

    @cached_property
    def networks(self) -> Networks:
        """The stack; row i of the table is network i."""
        return detokenize_networks(self.table, self.layout)

    @cached_property
    def sensitivity(self) -> Float[Tensor, "n patches"]:
        """Of every vertex, zero where there is none. Raises InputError for tokens stored without sensitivities."""
        if "sensitivity" not in self.table.column_names:
            raise InputError("these tokens hold no sensitivity; the stage tokenize writes it")
        return detokenize_sensitivity(self.table, self.layout)

    @property
    def task_ids(self) -> list[str]:
        """Task of each network. Raises InputError for tokens stored without tasks."""
        return _task_ids(self.table)


def load_zoo(
    path: str | Path,
    *,
    split: str | None = None,
    min_r2: float | None = None,
    columns: Sequence[str] | None = None,
    where: pc.Expression | None = None,
    tasks: str | Path | None = None,
    layout: Layout | None = None,
) -> Zoo:
    """Networks of a Parquet file of the schema `artifacts.NETWORKS` (`data/zoo.parquet`, `data/samples.parquet`).

    split: train, valid or test, networks of these tasks only; splits are by task and stand in `tasks`, by default
    `tasks.parquet` beside the file. min_r2: least R2 on valid rows; test rows stay for reports. columns: those to read,
    None for all; without masks and weights a large zoo is read in a moment. where: any other filter, such as
    `pyarrow.compute.field("n_params") < 100`. layout: of the stacked networks; None works it out from the masks.

    Raises InputError, one line, for a file that is missing or of another schema, and for a layout that is not clear.
    """
    path = Path(path)
    data = _dataset(path, NETWORKS.names)
    unknown = [name for name in columns or () if name not in NETWORKS.names]
    if unknown:
        raise InputError(f"columns must be some of {', '.join(NETWORKS.names)}, got {', '.join(unknown)}")
    rules = [] if where is None else [where]
    if split is not None:
        rules.append(_of_split(split, path.with_name("tasks.parquet") if tasks is None else Path(tasks)))
    if min_r2 is not None:
        rules.append(pc.field("valid_r2") >= min_r2)
    names = list(NETWORKS.names if columns is None else columns)
    table = conform(_read(data, names, rules, path), pa.schema([NETWORKS.field(name) for name in names]), path)
    if not set(STACK) <= set(names):
        return Zoo(table, None)
    return Zoo(table, layout or _layout_of(data, path))


def load_tokens(
    path: str | Path,
    *,
    split: str | None = None,
    min_r2: float | None = None,
    where: pc.Expression | None = None,
    tasks: str | Path | None = None,
    zoo: str | Path | None = None,
    layout: Layout | None = None,
) -> TokenTable:
    """Networks as edges, of a Parquet file that the stage tokenize wrote (`data/tokens.parquet`).

    split, where, tasks: as in `load_zoo`. min_r2: least R2 on valid rows, as `zoo` tells by net_id; by default
    `zoo.parquet` beside the file. layout: None for the smallest that holds every network of the file.

    Raises InputError, one line, for a file that is missing or holds no tokens.
    """
    path = Path(path)
    data = _dataset(path, _TOKENS)
    rules = [] if where is None else [where]
    if split is not None:
        rules.append(_of_split(split, path.with_name("tasks.parquet") if tasks is None else Path(tasks)))
    if min_r2 is not None:
        known = load_zoo(path.with_name("zoo.parquet") if zoo is None else zoo, min_r2=min_r2, columns=["net_id"]).table
        rules.append(pc.field("net_id").isin(known["net_id"].combine_chunks()))
    table = conform_tokens(_read(data, data.schema.names, rules, path), path)
    named = len(table) and "n_outputs" in table.column_names
    n_outputs = int(pc.max(table["n_outputs"]).as_py()) if named else 1
    return TokenTable(table, layout or Layout(*_least(data, path), n_outputs))


def conform_tokens(table: pa.Table, where: object) -> pa.Table:
    """A table of tokens with its columns in their types, others as they are. Raises InputError as `conform` does, and
    for a weight or a sensitivity that is not finite."""
    names = [name for name in _OF_TOKENS if name in _TOKENS or name in table.column_names]
    known = conform(table, pa.schema([(name, _OF_TOKENS[name]) for name in names]), where)
    values = [known[name].combine_chunks().flatten() for name in ("weight", "sensitivity") if name in names]
    if not all(bool(pc.all(pc.is_finite(part)).as_py()) for part in values if len(part)):
        raise InputError(f"{where}: weights and sensitivities must be finite; run the stage that writes it again")
    for name in names:
        table = table.set_column(table.column_names.index(name), name, known[name])
    return table


def _dataset(path: Path, names: Sequence[str]) -> ds.Dataset:
    if not path.is_file():
        raise InputError(f"{path} does not exist; run the stage that writes it (dvc repro)")
    try:
        data = ds.dataset(path, format="parquet")
        found = set(data.schema.names)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is not a readable Parquet file: {str(error).splitlines()[0]}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a readable Parquet file: the name of a column is not UTF-8") from None
    missing = [name for name in names if name not in found]
    if missing:
        raise InputError(f"{path} must have the columns {', '.join(names)}; it lacks {', '.join(missing)}")
    return data


def _read(data: ds.Dataset, names: Sequence[str], rules: Sequence[pc.Expression], path: Path) -> pa.Table:
    rule = None
    for part in rules:
        rule = part if rule is None else rule & part
    try:
        return data.to_table(columns=list(names), filter=rule)
    except (pa.ArrowException, OSError) as error:
        what = (
            "is not a readable Parquet file" if rule is None or isinstance(error, OSError) else "cannot be filtered so"
        )
        raise InputError(f"{path} {what}: {str(error).splitlines()[0]}") from None


def _of_split(split: str, tasks: Path) -> pc.Expression:
    if split not in SPLITS:
        raise InputError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    data = _dataset(tasks, ("task_id", "split"))
    found = _read(data, ["task_id"], [pc.field("split") == split], tasks)
    return pc.field("task_id").isin(found["task_id"].combine_chunks())


def _task_ids(table: pa.Table) -> list[str]:
    if "task_id" not in table.column_names:
        raise InputError("task_ids need the column task_id, which was not read")
    return table["task_id"].to_pylist()


def _least(data: ds.Dataset, path: Path) -> tuple[int, int, int]:
    """Most inputs, hidden layers and units of a layer in the whole file; 1 in an empty one."""
    kinds = pa.schema([("n_inputs", pa.int32()), ("widths", pa.list_(pa.int16()))])
    table = conform(_read(data, kinds.names, (), path), kinds, path)
    widths = table["widths"].combine_chunks()
    if not len(widths.flatten()):
        return 1, 1, 1
    numbers = (table["n_inputs"], widths.value_lengths(), widths.flatten())
    inputs, depth, width = (int(pc.max(values).as_py()) for values in numbers)
    return inputs, depth, width


def _layout_of(data: ds.Dataset, path: Path) -> Layout:
    """The one layout whose stack has as many slots as the masks and in which these are networks.

    (layers * width + 1) * (1 + features + width) slots can be several layouts; the masks tell them apart.
    """
    stack = pa.schema([NETWORKS.field(name) for name in STACK])
    try:
        head = conform(data.head(_LOOK_AT, columns=stack.names), stack, path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is not a readable Parquet file: {str(error).splitlines()[0]}") from None
    if not len(head):
        raise InputError(f"{path} holds no network to tell the layout from; pass layout=")
    lengths = head["mask"].combine_chunks().value_lengths()
    if len(pc.unique(lengths)) != 1:
        raise InputError(f"{path} must hold networks of one layout, found masks of several lengths")
    size, (inputs, depth, width) = lengths[0].as_py(), _least(data, path)
    if size > _GUESSED:
        raise InputError(f"{path}: masks of {size} slots are too large to tell the layout from; pass layout=")
    fitting = [
        Layout(size // (hidden + 1) - 1 - hidden // layers, layers, hidden // layers)
        for hidden in (divisor - 1 for divisor in _divisors(size))
        for layers in _divisors(hidden)
        if layers >= depth and hidden // layers >= width and size // (hidden + 1) - 1 - hidden // layers >= inputs
    ]
    first = [layout for layout in fitting if _are_networks(networks_of(head.slice(0, 1), layout).specs)]
    known = [layout for layout in first if _are_networks(networks_of(head, layout).specs)]
    if len(known) != 1:
        raise InputError(f"{path}: masks of {size} slots fit {len(known)} layouts, not one; pass layout=")
    return known[0]


def _divisors(number: int) -> list[int]:
    """In order; none of 0."""
    small = [part for part in range(1, math.isqrt(number) + 1) if number % part == 0]
    return sorted({*small, *(number // part for part in small)})


def _are_networks(specs: Specs) -> bool:
    """Every edge is one a network of its widths may have, and every unit has an incoming edge."""
    yes = torch.ones(len(specs), dtype=torch.bool)
    allowed = dense_mask(specs.layout, specs.n_inputs, specs.widths, yes, yes)
    return not bool((specs.mask & ~allowed).any()) and bool((specs.mask.any(2) == specs.patch_mask).all())
