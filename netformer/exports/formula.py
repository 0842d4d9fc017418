"""Formula: a delivered network as plain arrays, from the cells of a row to the target, the one form all exports write.

    z = what the network reads of a row, a number per input, each made by one `Step`
    y = bias + skip . z + sum_k heads[k] . bodies[k](z) + sum_t leaf of z in tree t, for each output
    answer = y * scale + center, of each target of numbers, which has one output
    probabilities = `classes.probabilities`(y), of a target of classes: one output of two classes, else one per class

    log s = the same of an output of `spreads`, of the wide network (`intervals`)

A body is a chain of layers h = activation(weight @ h + bias). The mean of k networks is k bodies, their output layers
over k. Networks of step units that are oblivious trees (`trees`) are trees and no bodies, unless the scale reads them.

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

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy.special import erf, expit

from netformer.errors import InputError
from netformer.exports.intervals import Intervals
from netformer.exports.trees import Trees, split
from netformer.networks.stack import Networks
from netformer.tables.columns import Column
from netformer.tables.reading import CUT, Reading
from netformer.tables.scaling import FARTHEST, SQUASH, standard

MAPPED = ("value", "sin", "cos")
Rounding = Callable[[np.ndarray], np.ndarray]
ACTIVATE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda a: a,
    "relu": lambda a: np.maximum(a, 0.0),
    "tanh": np.tanh,
    "sigmoid": expit,
    "gelu": lambda a: 0.5 * a * (1 + erf(a * 0.5**0.5)),
    "step": lambda a: np.where(a > 0, 1.0, 0.0),
}


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
        edges.append(np.clip(sign * np.minimum(sign * r, sign * cut), -FARTHEST, FARTHEST))
    return edges[0], edges[1]


@dataclass(frozen=True)
class Layer:
    """One layer: activation(weight @ inputs + bias); activation is a name of `specs.ACTIVATIONS`."""

    weight: Float[np.ndarray, "units inputs"]
    bias: Float[np.ndarray, " units"]
    activation: str


@dataclass(frozen=True)
class Output:
    """One output: its weights on the last hidden units of each body and on the inputs, and its bias."""

    heads: tuple[Float[np.ndarray, " _"], ...]
    skip: Float[np.ndarray, " inputs"]
    bias: float

    def map(self, change: Rounding) -> Output:
        """The same with every weight changed."""
        return Output(tuple(map(change, self.heads)), change(self.skip), float(change(np.array([self.bias]))[0]))


@dataclass(frozen=True)
class Spread(Output):
    """The output of a wide network that says how far off it may be, and what makes quantiles of it: see
    `intervals.Intervals`."""

    bounds: tuple[float, float]
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Formula:
    """The arrays of the formula in the head of this module, float64. An edge that does not exist is a 0. spreads: none,
    or one per output. trees: those of one depth and of the same outputs together; the biases of outputs hold theirs,
    which are 0. count: of the networks whose mean it is."""

    reading: Reading
    bodies: tuple[tuple[Layer, ...], ...]
    outputs: tuple[Output, ...]
    spreads: tuple[Spread, ...] = ()
    trees: tuple[Trees, ...] = ()
    count: int = 1

    @property
    def steps(self) -> tuple[Step, ...]:
        """How each input is made."""
        return steps_of(self.reading)

    @property
    def activations(self) -> list[str]:
        """The names in use, sorted."""
        return sorted({layer.activation for body in self.bodies for layer in body})

    def inner(self, z: Float[np.ndarray, "rows inputs"]) -> Float[np.ndarray, "rows outputs"]:
        """Standardised inputs to the standardised target, or to the logits of classes."""
        answers = np.stack([one.bias + z @ one.skip for one in self.outputs], 1)
        for number, body in enumerate(self.bodies):
            h = z
            for layer in body:
                h = ACTIVATE[layer.activation](h @ layer.weight.T + layer.bias)
            answers += np.stack([h @ one.heads[number] for one in self.outputs], 1)
        for trees in self.trees:
            answers[:, trees.outputs] += trees.predict(z).T
        return answers

    def target(self, z: Float[np.ndarray, "rows inputs"]) -> Float[np.ndarray, " rows"]:
        """`inner` of a network with one output."""
        return self.inner(z)[:, 0]

    def map(self, change: Rounding) -> Formula:
        """The same with every weight changed; the reading stays, and so do the questions of trees."""
        bodies = tuple(
            tuple(Layer(change(layer.weight), change(layer.bias), layer.activation) for layer in body)
            for body in self.bodies
        )
        trees = tuple(replace(one, leaf=change(one.leaf)) for one in self.trees)
        return replace(self, bodies=bodies, outputs=tuple(one.map(change) for one in self.outputs), trees=trees)


def formula_of(
    reading: Reading, stack: Networks, intervals: Intervals | None = None, *, units: bool = False
) -> Formula:
    """The formula of the mean of a stack. intervals: of this stack, a wide one. units: step units of trees are bodies
    like all others, and there are no trees."""
    count = len(stack)
    networks, logs, trees = parted(stack, intervals, units=units)
    bodies, outputs = _parts(networks, count)
    spreads = []
    if intervals is not None and logs is not None:
        ends = zip(_parts(logs, count)[1], intervals.bounds.tolist(), intervals.scores.tolist(), strict=True)
        spreads = [
            Spread(one.heads, one.skip, one.bias, (low, high), tuple(scores)) for one, (low, high), scores in ends
        ]
    mean = tuple(replace(one, leaf=one.leaf / count) for one in trees)
    return Formula(reading, bodies, outputs, tuple(spreads), mean, count)


def parted(
    stack: Networks, intervals: Intervals | None, *, units: bool = False
) -> tuple[Networks, Networks | None, list[Trees]]:
    """A stack as networks in arrays, those with the output layers of the scale, if there are intervals, and trees
    (`trees.split`): none with `units`, and where the scale reads a leaf."""
    stack = stack.numpy()
    scale = None if intervals is None else intervals.scale_of(stack)
    networks, trees = split(stack)
    logs, read = (None, []) if scale is None else split(scale)
    return (stack, scale, []) if units or read else (networks, logs, trees)


def single_of(values: np.ndarray, count: int = 1) -> np.ndarray | None:
    """The numbers in float32 which, over the count, are exactly these values; None where there are none."""
    with np.errstate(over="ignore"):
        single = (values * count).astype("<f4")
    return single if np.array_equal(single.astype(np.float64) / count, values) else None


def _parts(networks: Networks, count: int) -> tuple[tuple[tuple[Layer, ...], ...], tuple[Output, ...]]:
    """The bodies of networks, and the outputs of their sum over `count`."""
    networks, bodies, heads = Networks(networks.specs, networks.weight.double()), [], []
    for index in range(len(networks)):
        *hidden, (head, _, _) = networks.matrices(index)
        layers = [
            Layer(w.numpy(), np.zeros(len(w)) if b is None else b.numpy(), activation) for w, b, activation in hidden
        ]
        bodies.append(tuple(layers))
        heads.append(head.numpy() / count)
    inputs = slice(1, 1 + int(networks.specs.n_inputs[0]))
    last = networks.weight[:, networks.layout.outputs].numpy().sum(0) / count
    outputs = (
        Output(tuple(head[number] for head in heads), own[inputs], float(own[0])) for number, own in enumerate(last)
    )
    return tuple(bodies), tuple(outputs)


def typical_row(reading: Reading) -> pd.DataFrame:
    """One row of typical cells, all a saved network knows of its table: of a number or date the median of those that
    were fitted, of a category its most frequent level, of an ordered one the middle level. Dates are timestamps in UTC,
    a level of gaps is None."""
    return pd.DataFrame({one.name: cells_for(one, [_typical(reading, i)]) for i, one in enumerate(reading.table)})


def cells_for(column: Column, values: Sequence[float | str]) -> pd.Series:
    """Values (seconds of a date, levels of a category) as the cells people write."""
    if column.kind == "date":
        return pd.to_datetime(pd.Series(values, dtype=np.float64), unit="s", utc=True)
    if column.kind == "number":
        return pd.Series(values, dtype=np.float64)
    return pd.Series([value or None for value in values], dtype=object)


def cells_along(reading: Reading, index: int, points: int) -> pd.Series:
    """Cells of a column: its levels, or so many within the range fitted; then a gap, where it has an input."""
    column, parts = reading.table[index], [one.part for one in reading.inputs if one.column == index]
    values: Sequence[float | str] = column.levels
    if not values:
        at = next(i for i, one in enumerate(reading.inputs) if one.column == index and one.part == "value")
        values = np.linspace(reading.low[at], reading.high[at], points).tolist()
    return cells_for(column, [*values, np.nan] if "missing" in parts else values)


def index_of(reading: Reading, column: int | str) -> int:
    """The number of a column, among those in use, from its name or its position in the table that was fitted."""
    given = reading.given or reading.columns
    position = isinstance(column, Integral) and not isinstance(column, bool) and 0 <= column < len(given)
    name = given[int(column)] if position else column
    if name in reading.columns:
        return reading.columns.index(str(name))
    if name in dict(reading.left_out):
        raise InputError(f"column {name!r} was left out, no network reads it: {dict(reading.left_out)[str(name)]}")
    raise InputError(
        f"column must be one of {', '.join(map(repr, reading.columns))}, or a position from 0 to {len(given) - 1}, "
        f"got {column!r}"
    )


def owns_of(reading: Reading) -> list[Bool[np.ndarray, " inputs"]]:
    """Which inputs are made of each column."""
    column = np.array([one.column for one in reading.inputs])
    return [column == index for index in range(len(reading.columns))]


def _typical(reading: Reading, index: int) -> float | str:
    column = reading.table[index]
    if column.kind != "category":
        return column.fill
    ranks = [i for i, one in enumerate(reading.inputs) if one.column == index and one.part == "rank"]
    if not ranks:
        return str(column.levels[0])  # the most frequent comes first
    values = np.array(reading.inputs[ranks[0]].values[:-1])
    return str(column.levels[int(np.abs(values - reading.center[ranks[0]]).argmin())])
