"""Scaling: center and scale of columns and targets, plain or robust, and the squash that bounds what one cell is
worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

SQUASH = 6.0  # robust deviations that a cell is worth at most
LIGHT = 2.0  # robust deviations that no value of a column exceeds whose tails are light: it needs no squash
STRAIGHT = 1000.0  # times the scale of such a column, so that the squash bends it by less than a ten-millionth
FARTHEST = 1e9  # robust deviations from which on the squash is SQUASH in float64, and whose square does not overflow
NORMAL_IQR = 1.3489795003921634  # interquartile range of a standard normal
FLAT = 1e-13  # standard deviation over size, below which a column holds one value and what rounding makes of it
LEAST_DIRECTION = 1e-6  # of the first singular value, below which a direction of targets is rounding


@dataclass(frozen=True)
class Target:
    """A target: its name, and center and scale, in its units: answer = t * scale + center. Of classes 0 and 1."""

    name: str
    center: float = 0.0
    scale: float = 1.0


def squash(r: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """r / sqrt(1 + (r / SQUASH)^2), of any r, infinite too."""
    r = np.clip(r, -FARTHEST, FARTHEST)
    return r / np.sqrt(1 + np.square(r / SQUASH))


def standard(
    X: Float[np.ndarray, "*rows"], center: Float[np.ndarray, " _"] | float, scale: Float[np.ndarray, " _"] | float
) -> Float[np.ndarray, "*rows"]:
    """(X - center) / scale."""
    with np.errstate(over="ignore"):
        return (X / 2 - center / 2) / (scale / 2)  # halves: the difference of two finite numbers may not be finite


def center_and_scale(
    X: Float[np.ndarray, "rows features"], robust: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column, or median and interquartile range; and which do not vary.

    No step overflows, a scale is at most the largest number, and the deviation of a column far from 0 is that of what
    is left when its center is taken away. A column that does not vary has its size as scale.
    """
    size = np.ldexp(0.5, np.frexp(np.abs(X).max(0))[1])  # a power of 2, so that dividing is exact
    size[size == 0] = 1.0
    unit = X / size
    center = unit.mean(0)
    center = center + (unit - center).mean(0)
    scale = (unit - center).std(0)
    flat = scale <= FLAT * np.abs(center)
    if robust:
        center = np.median(unit, 0)
        low, high = np.quantile(unit - center, (0.25, 0.75), axis=0)
        wide = (high - low) / NORMAL_IQR
        scale = np.where(wide > FLAT * np.abs(center), wide, scale)
    center = np.where(flat, unit[0], center)
    with np.errstate(over="ignore"):  # of a column that spreads over all numbers there are
        scale = np.minimum(np.where(flat, 1.0, scale) * size, np.finfo(np.float64).max)
    return center * size, scale, flat


def maps_of(
    numbers: Float[np.ndarray, "rows inputs"], values: Sequence[Sequence[float]]
) -> tuple[Float[np.ndarray, "6 inputs"], np.ndarray]:
    """The maps of inputs (`reading.MAPS`) on the rows fitted, and which do not vary. values: of each input that is
    looked up, what it may be; it reaches as far for a later row."""
    center, scale, flat = center_and_scale(numbers, robust=True)
    low, high = numbers.min(0), numbers.max(0)
    for i, some in enumerate(values):
        if some:
            low[i], high[i] = min(low[i], *some), max(high[i], *some)
    light = (np.abs(standard(numbers, center, scale)).max(0) <= LIGHT) & (scale < np.finfo(np.float64).max / STRAIGHT)
    scale = scale * np.where(light, STRAIGHT, 1.0)
    squashed = squash(standard(numbers, center, scale))
    spread = squashed.std(0)
    return np.stack([low, high, center, scale, squashed.mean(0) * ~flat, np.where(flat, 1.0, spread)]), flat


def principal_targets(t: Float[np.ndarray, "rows k"], most: int) -> Float[np.ndarray, "rows few"]:
    """At most `most` standardised targets that say most of many: the columns of t themselves, where these are few; else
    their leading principal components (Pearson 1901), the largest first."""
    if t.shape[1] <= most:
        return t
    left, size, _ = np.linalg.svd(t - t.mean(0), full_matrices=False)
    some = left[:, :most][:, size[:most] > LEAST_DIRECTION * size[0]]
    turned = some * np.sign((some**3).sum(0) + 1e-300)  # a direction of its own, whatever the signs of the vectors are
    return turned / turned.std(0)
