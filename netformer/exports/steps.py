"""Steps: what an exported network does with a row before its layers, the one description all formats write.

A row holds one number per column of `Reading.table`, nan for a gap: of a number or a date (seconds since 1970 UTC) its
value, of a category the position of its level in `Column.levels` (their number for any other). Numbers that stand for a
gap (`Column.gaps`) become nan, and each input is made by one step, already standardised:

    value    standard(x)                        standard(x):  r = (x - center) / scale, cut to low and high
    sin      standard(sin(2 pi x / period))                   s = r / sqrt(1 + (r / SQUASH)^2)
    cos      standard(cos(2 pi x / period))                   z = (s - shift) / spread
    missing  values[1] for a gap, else values[0]
    level    values[x], of a category
    code     values[i] of the i-th of `Column.levels` that x equals, the last of values for any other

In value, sin, cos and level a gap is read as `fills_of`. low and high are bounds of r that hold both cuts of `Reading`,
that of x and that of z: both are in order, so one does.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from netformer.tables.reading import CUT, Reading
from netformer.tables.scaling import SQUASH, standard

MAPPED = ("value", "sin", "cos")
_FARTHEST = 1e9  # of r, beyond which the squash is SQUASH in float64, and its square far from an overflow


class Step(NamedTuple):
    """How one input is made.

    column: number of its column. part: one of those above. constants: of the parts in MAPPED center, scale, low, high,
    shift and spread, of the others the values. more: the period of sin and cos, in seconds; the levels of code.
    """

    column: int
    part: str
    constants: tuple[float, ...]
    more: tuple[float, ...] = ()


def steps_of(reading: Reading) -> tuple[Step, ...]:
    """A step per input of a reading, in their order."""
    low, high = _bounds(reading)
    maps = np.stack([reading.center, reading.scale, low, high, reading.shift, reading.spread], 1)
    steps = []
    for i, one in enumerate(reading.inputs):
        column = reading.table[one.column]
        if one.part in MAPPED:
            steps.append(Step(one.column, one.part, tuple(maps[i].tolist()), (one.period,) if one.period else ()))
            continue
        part = "level" if column.kind == "category" else "code" if one.values else "missing"
        numbers = np.zeros((len(one.values) or 2, len(reading.inputs)))
        numbers[:, i] = one.values or (0.0, 1.0)
        values = np.clip(reading.scaled(numbers)[:, i], -CUT, CUT)
        levels = tuple(float(level) for level in column.levels) if part == "code" else ()
        steps.append(Step(one.column, part, tuple(values.tolist()), levels))
    return tuple(steps)


def gaps_of(reading: Reading) -> dict[int, tuple[float, ...]]:
    """Of each column that has some, by number: the numbers that stand for a gap."""
    return {i: column.gaps for i, column in enumerate(reading.table) if column.gaps}


def fills_of(reading: Reading) -> tuple[float, ...]:
    """What a gap of each column is read as: of a number or a date a value, of a category a position."""
    return tuple(
        float(column.levels.index("") if "" in column.levels else len(column.levels))
        if column.kind == "category"
        else column.fill
        for column in reading.table
    )


def _bounds(reading: Reading) -> tuple[Float[np.ndarray, " inputs"], Float[np.ndarray, " inputs"]]:
    """The least and the largest r of each input, so that x and z keep within their bounds."""
    edges = []
    for sign, end in ((-1, reading.low), (1, reading.high)):
        r = standard(end, reading.center, reading.scale)
        squashed = np.clip((reading.shift + sign * CUT * reading.spread) / SQUASH, -1.0, 1.0)
        with np.errstate(divide="ignore"):
            cut = SQUASH * squashed / np.sqrt(1 - np.square(squashed))
        edges.append(np.clip(sign * np.minimum(sign * r, sign * cut), -_FARTHEST, _FARTHEST))
    return edges[0], edges[1]
