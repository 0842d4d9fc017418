"""Reading: how a table becomes the numbers a network reads, and its answers the units of the target.

Columns give inputs (`inputs`), and each input x becomes

    r = (x cut to the range fitted - center) / scale        center, scale: median, interquartile range / 1.349
    s = r / sqrt(1 + (r / SQUASH)^2)                         smooth, order kept, within +-SQUASH
    z = (s - shift) / spread, cut at +-CUT                   mean 0 and standard deviation 1 on the rows fitted

so that one wrong cell moves no other row, and a row beyond what was seen is read as one at the edge. Columns without
tails are 1,000 times nearer to 0, where the squash is straight (`scaling.LIGHT`): it would cost them a little.

    answer = t * scale + center        of each target

All in float64, the center first: a column may lie 1e8 standard deviations away from 0. What is written for a table
carries this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from netformer.errors import InputError
from netformer.tables.cells import Cells
from netformer.tables.columns import (
    MIN_FREQUENCY,
    Column,
    cells_of,
    finite,
    is_frame,
    matched,
    together,
    usable,
)
from netformer.tables.inputs import Input, inputs_of, kinds_of, telling
from netformer.tables.scaling import Target, center_and_scale, maps_of, principal_targets, squash, standard

CUT = 6.0  # of a standardised input
SHOWN = 6  # names in a line of what a reading says of itself
MOST_MEANS = 6  # targets, or classes, whose means among its rows a level of many levels is read as
MAPS = ("low", "high", "center", "scale", "shift", "spread")


@dataclass(frozen=True, eq=False, repr=False)
class Reading:
    """The columns a network reads, its inputs, and the units of the targets.

    table: the columns in use. inputs: what is made of them. maps: (6, inputs) finite float64, in the order of MAPS;
    scale and spread above 0. targets: one or more, in the order of the outputs. given: names of all columns of the
    table that was fitted, in its order; empty for those of `table`. left_out: name and reason of each column that is
    not in use. notes: sentences on what looked wrong. classes: labels of the classes of the one target in order, with
    center 0 and scale 1; none of numbers. Raises InputError for parts that do not belong together.
    """

    table: tuple[Column, ...]
    inputs: tuple[Input, ...]
    maps: Float[np.ndarray, "6 inputs"]
    targets: tuple[Target, ...] = (Target("y"),)
    given: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    classes: tuple[str | int | float | bool, ...] = ()

    def __post_init__(self) -> None:
        names, f = self.columns, len(self.inputs)
        if not names or len(set(names)) != len(names):
            raise InputError(f"columns must be at least one name, none of them twice, got {names}")
        if not all(0 <= one.column < len(names) for one in self.inputs):
            raise InputError(f"every input must be made of one of the {len(names)} columns")
        if not all(len(one.values) in (0, 1 + len(self.table[one.column].levels)) for one in self.inputs):
            raise InputError("an input must have one value for each level of its column and one for any other")
        if self.maps.shape != (len(MAPS), f) or self.maps.dtype != np.float64 or not np.isfinite(self.maps).all():
            raise InputError(f"maps must be {(len(MAPS), f)} finite float64, got {self.maps.dtype} {self.maps.shape}")
        if not ((self.scale > 0).all() and (self.spread > 0).all()):
            raise InputError("scale and spread must be above 0")
        if not self.targets or not all(0 < one.scale < np.inf and np.isfinite(one.center) for one in self.targets):
            raise InputError("the scale of a target must be above 0 and finite, its center finite")
        if self.classes and (len(set(self.classes)) < max(2, len(self.classes)) or (self.scales != [1.0]).any()):
            raise InputError(f"classes must be at least two, none of them twice, got {self.classes!r}")

    def __repr__(self) -> str:
        kinds = [column.kind for column in self.table]
        counts = [f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)]
        lines = [f"Reading of {len(kinds)} column{'s' * (len(kinds) != 1)} for {self.target!r}: {', '.join(counts)}"]
        lines.append(f"inputs: {_first(self.input_names)}")
        if self.left_out:
            lines.append(f"left out: {_first([f'{name} ({why})' for name, why in self.left_out])}")
        return "\n".join(lines)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns in use, in the order in which they are read."""
        return tuple(column.name for column in self.table)

    @property
    def target(self) -> str:
        """The name of the target; of several all, with commas between them."""
        return ", ".join(one.name for one in self.targets)

    @property
    def n_outputs(self) -> int:
        """Outputs of a network: one per target; of two classes 1, of more one per class."""
        return len(self.targets) if len(self.classes) <= 2 else len(self.classes)

    @property
    def centers(self) -> Float[np.ndarray, " targets"]:
        """The center of each target."""
        return np.array([one.center for one in self.targets])

    @property
    def scales(self) -> Float[np.ndarray, " targets"]:
        """The scale of each target."""
        return np.array([one.scale for one in self.targets])

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs, for people; a number behind those that a column has several of."""
        names = [one.name(self.table[one.column]) for one in self.inputs]
        before = [names[:at].count(name) for at, name in enumerate(names)]
        return tuple(f"{name} {again + 1}" if again else name for name, again in zip(names, before, strict=True))

    @property
    def kinds(self) -> Float[np.ndarray, "inputs kinds"]:
        """What each input is, 1 for one of `KINDS`, and the share of gaps in its column, last."""
        return kinds_of(self.inputs, self.table)

    @property
    def low(self) -> Float[np.ndarray, " inputs"]:
        """Where each input is cut below, in its units: the least value fitted."""
        return self.maps[0]

    @property
    def high(self) -> Float[np.ndarray, " inputs"]:
        """Where each input is cut above."""
        return self.maps[1]

    @property
    def center(self) -> Float[np.ndarray, " inputs"]:
        """Median of each input."""
        return self.maps[2]

    @property
    def scale(self) -> Float[np.ndarray, " inputs"]:
        """Interquartile range of each input / 1.349, its standard deviation where that is 0; light tails: see above."""
        return self.maps[3]

    @property
    def shift(self) -> Float[np.ndarray, " inputs"]:
        """Mean of each squashed input."""
        return self.maps[4]

    @property
    def spread(self) -> Float[np.ndarray, " inputs"]:
        """Standard deviation of each squashed input."""
        return self.maps[5]

    def numbers(self, X: Any) -> Float[np.ndarray, "rows inputs"]:
        """The inputs of the rows of a table, in their units.

        X: a DataFrame, matched by name whatever its order, or an array (rows, columns), matched by position. Raises
        InputError for a column that is missing, and for a cell that cannot be read.
        """
        cells, _ = matched(X, self.columns, self.given or self.columns)
        return self._made(cells)

    def _made(self, cells: Sequence[Cells]) -> Float[np.ndarray, "rows inputs"]:
        looked_up = {one.column for one in self.inputs if one.values}
        values = [
            cell if column.kind == "category" else finite(column.name, column.values(cell))
            for column, cell in zip(self.table, cells, strict=True)
        ]
        codes = {i: self.table[i].codes(values[i]) for i in looked_up}
        made = [
            one.of(self.table[one.column], np.asarray(values[one.column]), codes.get(one.column)) for one in self.inputs
        ]
        return np.stack(made, 1)

    def standardize(self, X: Any) -> Float[np.ndarray, "rows inputs"]:
        """What networks read of the rows of a table (see `numbers`), cut at +-CUT."""
        return np.clip(self.scaled(self.numbers(X)), -CUT, CUT)

    def scaled(self, numbers: Float[np.ndarray, "rows inputs"]) -> Float[np.ndarray, "rows inputs"]:
        """Inputs in their units as standardised ones, not cut at +-CUT."""
        return (squash(standard(np.clip(numbers, self.low, self.high), self.center, self.scale)) - self.shift) / (
            self.spread
        )

    def standardize_targets(self, y: Float[np.ndarray, "rows targets"]) -> Float[np.ndarray, "rows targets"]:
        """(y - center) / scale, of each target."""
        return standard(y, self.centers, self.scales)

    def answers(self, t: Float[np.ndarray, "*n targets"]) -> Float[np.ndarray, "*n targets"]:
        """Standardised answers in units of the targets."""
        return t * self.scales + self.centers

    def outside(self, X: Any) -> dict[str, int]:
        """Columns of a table with cells beyond what was fitted, and how many: numbers out of range, levels that
        are not kept or were never seen."""
        cells, _ = matched(X, self.columns, self.given or self.columns)
        found: dict[str, int] = {}
        for index, (column, cell) in enumerate(zip(self.table, cells, strict=True)):
            if column.kind == "category":
                beyond = column.codes(cell) == len(column.levels)
            else:
                at = next(i for i, one in enumerate(self.inputs) if one.column == index and one.part == "value")
                values = column.values(cell)
                beyond = (values < self.low[at]) | (values > self.high[at])
            if beyond.any():
                found[column.name] = int(beyond.sum())
        return found

    def described(self) -> pd.DataFrame:
        """A row per column of the table that was fitted, in its order. name; kind: number, date, category, left out;
        inputs: what networks read of it; note: what was assumed, or why it was left out."""
        rows = {name: (name, "left out", "", why) for name, why in self.left_out}
        for index, column in enumerate(self.table):
            names = [name for name, one in zip(self.input_names, self.inputs, strict=True) if one.column == index]
            rows[column.name] = (column.name, column.kind, ", ".join(names), column.note)
        every = [rows[name] for name in self.given or self.columns]
        return pd.DataFrame(every, columns=["name", "kind", "inputs", "note"])

    def written(self, table: Mapping[str, Column]) -> Reading:
        """The same for cells as they stand in a file. table: its columns, by name, as they were read before they were
        fitted as numbers and times; what was found then (form, words, note) is added."""
        pairs = [(table.get(column.name, column), column) for column in self.table]
        known = (
            replace(column, form=found.form, words=found.words, note=together(found.note, column.note))
            for found, column in pairs
        )
        return replace(self, table=tuple(known))

    def named(self, columns: Sequence[str], targets: Sequence[str]) -> Reading:
        """The same under other names. columns: of those in use. Raises InputError for another number of targets."""
        if len(targets) != len(self.targets):
            raise InputError(f"target must be a name for each of {len(self.targets)} targets, got {len(targets)}")
        ends = tuple(replace(one, name=str(name)) for one, name in zip(self.targets, targets, strict=True))
        pairs = zip(self.table, columns, strict=True)
        given = dict(zip(self.columns, columns, strict=True))
        table = tuple(replace(column, name=str(name)) for column, name in pairs)
        return replace(self, table=table, targets=ends, given=tuple(given.get(name, name) for name in self.given))


def read(
    X: Any,
    y: Any,
    columns: Sequence[str] | None = None,
    target: str | Sequence[str] = "y",
    min_frequency: int = MIN_FREQUENCY,
) -> tuple[Reading, Float[np.ndarray, "rows inputs"], Float[np.ndarray, "rows ..."]]:
    """The reading of a table, its inputs and its target in it: mean 0, standard deviation 1, not cut, shaped as y.

    X: a DataFrame of pandas, polars or pyarrow, or an array (rows, columns); gaps are None or nan. y: (rows,), numbers,
    or (rows, targets). columns: names of an array's columns, None for x0, x1, ... Of a DataFrame, columns that say
    nothing (constant, row numbers, text that differs in every row, copies) are left out; an array keeps them, and what
    does not vary (`FLAT`) is 0, as is such a target. target: its name, or one for each; of several y stands for y0, y1,
    .. min_frequency: rows of a level that is kept (`inputs.frequent`), at least 1.
    Raises InputError for other shapes, fewer than 2 rows, infinite values, a target with gaps, and a table of which no
    column can be used.
    """
    y = np.asarray(y, np.float64)
    names, cells = cells_of(X, columns)
    if not cells or not 1 <= y.ndim <= 2 or not y.size or any(len(cell) != len(y) for cell in cells) or len(y) < 2:
        rows = len(cells[0]) if cells else 0
        raise InputError(
            f"X must be (rows, features) and y (rows,) with at least 2 rows, got {(rows, len(cells))}, {y.shape}"
        )
    if not np.isfinite(y).all():
        raise InputError("y must be finite; drop the rows without a target first")
    every = y.reshape(len(y), -1)
    named = [target] if isinstance(target, str) else list(target)
    if len(named) < every.shape[1]:
        named = [f"{named[0]}{k}" for k in range(every.shape[1])]
    center, scale, flat = center_and_scale(every)
    t = standard(every, center, scale) * ~flat
    ends = tuple(map(Target, named, center.tolist(), scale.tolist()))
    shown = [np.ascontiguousarray(one) for one in principal_targets(t, MOST_MEANS).T]
    return *_read(names, cells, is_frame(X), shown, min_frequency, ends), t.reshape(y.shape)


def read_classes(
    X: Any,
    targets: Float[np.ndarray, "k rows"],
    classes: tuple[Any, ...],
    columns: Sequence[str] | None = None,
    target: str = "y",
    min_frequency: int = MIN_FREQUENCY,
) -> tuple[Reading, Float[np.ndarray, "rows inputs"]]:
    """The reading of a table for a target of classes, and its inputs. targets: what stands for the classes where inputs
    are decided, mean 0 and standard deviation 1 each; a level of many has a mean of each. classes: labels. The others,
    Raises: as in `read`."""
    names, cells = cells_of(X, columns)
    if not cells or any(len(cell) != targets.shape[1] for cell in cells) or targets.shape[1] < 2:
        raise InputError(f"X must be (rows, features) with a label per row, of at least 2, got {targets.shape[1]}")
    return _read(names, cells, is_frame(X), list(targets), min_frequency, (Target(target),), classes)


def _read(
    names: tuple[str, ...],
    cells: Sequence[Cells],
    framed: bool,
    targets: Sequence[Float[np.ndarray, " rows"]],
    min_frequency: int,
    ends: tuple[Target, ...],
    classes: tuple[Any, ...] = (),
) -> tuple[Reading, Float[np.ndarray, "rows inputs"]]:
    """The reading and its inputs. targets: by which inputs are decided, standardised. ends, classes: those read."""
    used, reasons = usable(names, cells, framed, min_frequency)
    if not used:
        why = "; ".join(f"{name}: {reason}" for name, reason in list(reasons.items())[:4])
        raise InputError(f"no column can be used beside the target: {why}; add columns of numbers or categories")
    table: list[Column] = []
    inputs: list[Input] = []
    fitted: list[np.ndarray] = []
    for column, values in used:
        full, some, numbers = inputs_of(column, len(table), values, targets, min_frequency)
        if not some:
            reasons[column.name] = "every level of it is rare"
            continue
        table.append(full)
        inputs += some
        fitted += numbers
    if not inputs:
        raise InputError("no column can be used beside the target: every level of every category is rare; add rows")
    # what is made beside the value of a number comes last: in a table of numbers input i is column i
    order = sorted(range(len(inputs)), key=lambda i: _is_extra(table, inputs[i]))
    inputs, made = [inputs[i] for i in order], np.stack([fitted[i] for i in order], 1)
    maps, flat = maps_of(made, [one.values for one in inputs])
    reading = Reading(tuple(table), tuple(inputs), maps, ends, names, tuple(reasons.items()), classes=classes)
    z = np.where(flat, 0.0, reading.scaled(made))
    if not framed:
        return reading, z
    what = "a class of " * bool(classes) + " or ".join(repr(one.name) for one in ends)
    return replace(reading, notes=telling(reading.columns, inputs, made, targets, what)), z


def _first(names: Sequence[str]) -> str:
    """How many there are, and the first `SHOWN` of them."""
    return f"{len(names)}: {', '.join(names[:SHOWN])}{', ...' * (len(names) > SHOWN)}"


def _is_extra(table: Sequence[Column], one: Input) -> bool:
    return one.part != "value" and table[one.column].kind != "category"
