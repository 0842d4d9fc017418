"""Intervals: how far off an answer of the wide network may be, row by row, without a row of the table.

    s = exp(bias + skip . z + heads . h cut to bounds)    h: last hidden units of the wide network; z: what it reads
    quantile q of the target = answer + s * score(q) * scale of the target

so the scale s is a second output of the wide network, of each target. `score` is a table of `LEVELS`, linear between
them in log(q / (1 - q)), and beyond its ends in proportion to it, which is how the tails of a logistic distribution go.
Both come from the errors of each row without itself (`generation.calibration`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Real
from typing import Any

import numpy as np
from jaxtyping import Float

from netformer.arrays import functions as xp
from netformer.arrays.namespace import Tensor
from netformer.errors import InputError
from netformer.networks.stack import Networks

_UPPER = (0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.975, 0.99, 0.995)
COVERAGE = 0.9  # where none is asked for
FAR = 1e3  # of log(q / (1 - q)), beyond every quantile that float64 has
LEVELS = tuple(sorted({0.5, *_UPPER, *(round(1 - level, 3) for level in _UPPER)}))


@dataclass(frozen=True, eq=False)
class Intervals:
    """What the quantiles of a wide network's targets are made of.

    output: for each network of the wide stack and each target the output layer whose mean over networks is log s, by
    slot. bounds: of log s, what it was cut to on the rows fitted. scores: at each of `LEVELS`, never falling. Raises
    InputError for other shapes, bounds out of order and values that are not finite.
    """

    output: Float[Tensor, "n targets slots"]
    bounds: Float[np.ndarray, "targets 2"]
    scores: Float[np.ndarray, "targets levels"]

    def __post_init__(self) -> None:
        object.__setattr__(self, "output", xp.from_numpy(np.asarray(self.output)))
        count = self.output.shape[1]
        if (
            self.scores.shape != (count, len(LEVELS))
            or not np.isfinite(self.scores).all()
            or (np.diff(self.scores) < 0).any()
        ):
            raise InputError(f"scores of intervals must be {len(LEVELS)} finite numbers in order")
        finite = self.bounds.shape == (count, 2) and np.isfinite(self.bounds).all()
        if not finite or (self.bounds[:, 0] > self.bounds[:, 1]).any():
            raise InputError("bounds of the scale of intervals must be two finite numbers in order")
        if not bool(xp.isfinite(self.output).all()):
            raise InputError("the scale of intervals must have finite weights")

    @np.errstate(all="ignore")
    def scale_of(self, wide: Networks) -> Networks:
        """The stack whose mean is log s of each target: the wide one with other output layers. Raises InputError if it
        is not of this size."""
        edges = wide.specs.mask[:, wide.layout.outputs]
        if self.output.shape != edges.shape:
            raise InputError(f"intervals must be of a wide network of {tuple(self.output.shape)} output weights")
        wide = wide.numpy()
        hidden = wide.weight[:, : wide.layout.outputs.start].double()
        return Networks(wide.specs, xp.cat([hidden, self.output * edges.numpy()], 1))

    def scores_at(self, quantiles: Float[np.ndarray, " q"]) -> Float[np.ndarray, "targets q"]:
        """The score of each quantile in (0, 1)."""
        return np.stack([between(quantiles, np.array(LEVELS), own) for own in self.scores])


def between(
    quantiles: Float[np.ndarray, " q"], levels: Float[np.ndarray, " k"], scores: Float[np.ndarray, " k"]
) -> Float[np.ndarray, " q"]:
    """Scores at quantiles, from those at levels: linear in log(q / (1 - q)). Beyond the last level on either side the
    last score grows in proportion to it, away from 0. Both levels and scores ascend."""
    at, known = (np.log(q / (1 - q)) for q in (quantiles, levels))
    found = np.interp(at, known, scores)
    beyond = ((at < known[0]) & (found < 0)) | ((at > known[-1]) & (found > 0))
    return np.where(beyond, found * at / np.where(at < 0, known[0], known[-1]), found)


@dataclass(frozen=True)
class Ramps:
    """`between`, for what knows no tables: start + sum of slopes * (log(q / (1 - q)) - left, cut to 0 and length)."""

    start: float
    left: tuple[float, ...]
    lengths: tuple[float, ...]
    slopes: tuple[float, ...]


def ramps_of(scores: Sequence[float]) -> Ramps:
    """Scores at `LEVELS` as ramps, those of the tails first and last; the first goes to the left, its length below
    0."""
    known, s = [math.log(level / (1 - level)) for level in LEVELS], list(scores)
    lengths = [right - left for left, right in pairwise(known)]
    slopes = [(right - left) / length for (left, right), length in zip(pairwise(s), lengths, strict=True)]
    first, last = min(s[0], 0.0) / known[0], max(s[-1], 0.0) / known[-1]
    return Ramps(s[0], (known[0], *known), (-FAR, *lengths, FAR), (first, *slopes, last))


def quantiles_of(values: Any) -> Float[np.ndarray, " q"]:
    """`quantiles` as an array. Raises InputError unless they are one or more numbers in (0, 1), each above the last."""
    listed = list(values) if isinstance(values, Iterable) and not isinstance(values, str | bytes) else [values]
    numbers = all(isinstance(value, Real) and not isinstance(value, bool) for value in listed)
    found = np.array(listed, np.float64) if numbers else np.zeros(0)
    if not len(found) or not ((found > 0) & (found < 1)).all() or (np.diff(found) <= 0).any():
        raise InputError(f"quantiles must be numbers between 0 and 1, each above the one before, got {values!r}")
    return found


def ends_of(coverage: Any) -> Float[np.ndarray, " 2"]:
    """The quantiles an interval of that coverage lies between, as many rows below as above. Raises InputError for a
    coverage that is no number between 0 and 1."""
    if not isinstance(coverage, Real) or isinstance(coverage, bool) or not 0 < float(coverage) < 1:
        raise InputError(f"coverage must be a number between 0 and 1, such as 0.9, got {coverage!r}")
    return np.array([(1 - float(coverage)) / 2, (1 + float(coverage)) / 2])
