"""Formula: a delivered network as plain arrays, from the cells of a row to the target, the one form all exports write.

    z = what the network reads of a row, a number per input, each made by one `Step`
    y = bias + skip . z + sum_k heads[k] . bodies[k](z), for each output
    answer = y * scale + center, of each target of numbers, which has one output
    probabilities = `classes.probabilities`(y), of a target of classes: one output of two classes, else one per class

    log s = the same of an output of `spreads`, of the wide network (`intervals`)

A body is a chain of layers h = activation(weight @ h + bias). The mean of k networks is k bodies, their output layers
over k.

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
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.special import erf, expit

from netformer.exports.intervals import Intervals
from netformer.networks.stack import Networks
from netformer.tables.columns import Column
from netformer.tables.reading import CUT, Reading
from netformer.tables.scaling import FARTHEST, SQUASH, standard

MAPPED = ("value", "sin", "cos")
Rounding = Callable[[np.ndarray], np.ndarray]
TOLERANCE = 2e-6  # of the target's spread, or of a logit: what written digits may change, on the rows of `_probe`
EXACT_DIGITS = 17
_SINGLE_DIGITS = range(4, 10)  # 9 digits tell all float32 apart
# Of coded weights: printable ASCII but for ! and ", and for ? and \, which mean something in a C string.
ALPHABET = "".join(chr(code) for code in range(35, 127) if chr(code) not in "?\\")
_CHARACTERS = range(3, 7)
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
    or one per output."""

    reading: Reading
    bodies: tuple[tuple[Layer, ...], ...]
    outputs: tuple[Output, ...]
    spreads: tuple[Spread, ...] = ()

    @property
    def steps(self) -> tuple[Step, ...]:
        """How each input is made."""
        return steps_of(self.reading)

    @property
    def activations(self) -> list[str]:
        """The names in use, sorted."""
        return sorted({layer.activation for body in self.bodies for layer in body})

    @property
    def n_weights(self) -> int:
        """Numbers a file holds: edges, and zeros where a layer has none."""
        layers = sum(layer.weight.size + layer.bias.size for body in self.bodies for layer in body)
        return layers + sum(sum(head.size for head in one.heads) + one.skip.size + 1 for one in self.outputs)

    def inner(self, z: Float[np.ndarray, "rows inputs"]) -> Float[np.ndarray, "rows outputs"]:
        """Standardised inputs to the standardised target, or to the logits of classes."""
        answers = np.stack([one.bias + z @ one.skip for one in self.outputs], 1)
        for number, body in enumerate(self.bodies):
            h = z
            for layer in body:
                h = ACTIVATE[layer.activation](h @ layer.weight.T + layer.bias)
            answers += np.stack([h @ one.heads[number] for one in self.outputs], 1)
        return answers

    def target(self, z: Float[np.ndarray, "rows inputs"]) -> Float[np.ndarray, " rows"]:
        """`inner` of a network with one output."""
        return self.inner(z)[:, 0]

    def map(self, change: Rounding) -> Formula:
        """The same with every weight changed; the reading stays."""
        bodies = tuple(
            tuple(Layer(change(layer.weight), change(layer.bias), layer.activation) for layer in body)
            for body in self.bodies
        )
        return replace(self, bodies=bodies, outputs=tuple(one.map(change) for one in self.outputs))


def formula_of(reading: Reading, stack: Networks, intervals: Intervals | None = None) -> Formula:
    """The formula of the mean of a stack. intervals: of this stack, a wide one."""
    spreads: list[Spread] = []
    if intervals is not None:
        scales = formula_of(reading, intervals.scale_of(stack)).outputs
        for logs, (low, high), scores in zip(scales, intervals.bounds.tolist(), intervals.scores.tolist(), strict=True):
            spreads.append(Spread(logs.heads, logs.skip, logs.bias, (low, high), tuple(scores)))
    networks, inputs = Networks(stack.specs, stack.weight.double()), len(reading.inputs)
    bodies, heads = [], []
    for index in range(len(networks)):
        *hidden, (head, _, _) = networks.matrices(index)
        layers = [
            Layer(w.numpy(), np.zeros(len(w)) if b is None else b.numpy(), activation) for w, b, activation in hidden
        ]
        bodies.append(tuple(layers))
        heads.append(head.numpy() / len(networks))
    last = networks.weight[:, networks.layout.outputs].numpy().mean(0)
    outputs = (
        Output(tuple(head[number] for head in heads), own[1 : 1 + inputs], float(own[0]))
        for number, own in enumerate(last)
    )
    return Formula(reading, tuple(bodies), tuple(outputs), tuple(spreads))


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


def _typical(reading: Reading, index: int) -> float | str:
    column = reading.table[index]
    if column.kind != "category":
        return column.fill
    ranks = [i for i, one in enumerate(reading.inputs) if one.column == index and one.part == "rank"]
    if not ranks:
        return str(column.levels[0])  # the most frequent comes first
    values = np.array(reading.inputs[ranks[0]].values[:-1])
    return str(column.levels[int(np.abs(values - reading.center[ranks[0]]).argmin())])


def fewest_digits(formula: Formula) -> tuple[int, bool]:
    """Significant decimal digits the weights need, and whether float32 can hold them.

    The fewest, from 4 on, that move no output by more than TOLERANCE on 1,000 rows twice as wide as the table. Where
    units jump, those that tell all float32 apart: a threshold that moves would be seen by few of these rows.
    """
    if "step" in formula.activations:
        return _SINGLE_DIGITS[-1], True
    moved = _probe(formula)
    for digits in _SINGLE_DIGITS:
        if moved(_rounding(digits)) <= TOLERANCE:
            return digits, True
    return EXACT_DIGITS, False


def fewest_characters(formula: Formula) -> tuple[int, float] | None:
    """Characters of ALPHABET a coded weight needs, and the step it counts (`coded`); None where 6 do not suffice.

    The fewest, from 3 on, that move no output by more than TOLERANCE on the same rows. None where units jump: steps of
    a count would move their thresholds.
    """
    if "step" in formula.activations:
        return None
    moved, largest = _probe(formula), 0.0

    def look(values: np.ndarray) -> np.ndarray:
        nonlocal largest
        largest = max(largest, np.abs(values).max(initial=0.0))
        return values

    formula.map(look)
    for count in _CHARACTERS:
        step = float(f"{largest / _half(count) * 1.000001:.9g}") or 1.0
        if moved(_steps(step)) <= TOLERANCE:
            return count, step
    return None


def coded(value: float, count: int, step: float) -> str:
    """round(value / step) + half as `count` digits of base 90, the highest first; half is what makes a 0 the middle:
    (90^count - 1) // 2."""
    rest, text = round(value / step) + _half(count), ""
    for _ in range(count):
        rest, digit = divmod(rest, len(ALPHABET))
        text = ALPHABET[digit] + text
    return text


def _half(count: int) -> int:
    return (len(ALPHABET) ** count - 1) // 2


def _probe(formula: Formula) -> Callable[[Rounding], float]:
    """Tells how far a change of the weights moves an output at most, on 1,000 rows twice as wide as the table; nan
    where it is not finite."""
    z = 2 * np.random.default_rng(0).standard_normal((1000, len(formula.reading.inputs)))
    expected = formula.inner(z)

    def moved(change: Rounding) -> float:
        with np.errstate(over="ignore", invalid="ignore"):
            return float(np.abs(formula.map(change).inner(z) - expected).max())

    return moved


def decimal(value: float, digits: int) -> str:
    """The shortest text of a number rounded to that many significant digits, for C and Python: .25, -3, 1.5e-7."""
    text = repr(float(value)) if digits >= EXACT_DIGITS else f"{float(value):.{digits}g}"
    mantissa, _, exponent = text.partition("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    sign, mantissa = ("-", mantissa[1:]) if mantissa.startswith("-") else ("", mantissa)
    if mantissa.startswith("0."):
        mantissa = mantissa[1:]
    if mantissa == "0":
        sign = ""
    return f"{sign}{mantissa}e{int(exponent)}" if exponent else f"{sign}{mantissa}"


def _steps(step: float) -> Rounding:
    return lambda values: np.round(values / step) * step


def _rounding(digits: int) -> Rounding:
    def change(values: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            flat = np.array([float(decimal(v, digits)) for v in values.ravel()]).astype(np.float32)
        return flat.astype(np.float64).reshape(values.shape)

    return change
