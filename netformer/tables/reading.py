"""Reading: how the columns of a table become the numbers a network reads, and its answers the units of the target.

    z = (x - center) / scale, cut at +-CUT
    answer = t * target_scale + target_center

In float64, the center first: a column may lie 1e8 deviations away from 0. What is written for a table carries this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from netformer.errors import InputError

CUT = 6.0  # of a standardised column: a row far outside of what was seen is read as one at the edge
FLAT = 1e-13  # deviation over size, below which a column holds one value and what rounding makes of it


@dataclass(frozen=True, eq=False)
class Reading:
    """Names, center and scale of the columns and of the target.

    columns: names, none twice. center, scale: of each column, finite float64, in its units; scale above 0. target: its
    name. target_center, target_scale: in units of the target. Raises InputError for parts that do not belong together.
    """

    columns: tuple[str, ...]
    center: Float[np.ndarray, " features"]
    scale: Float[np.ndarray, " scales"]
    target: str = "y"
    target_center: float = 0.0
    target_scale: float = 1.0

    def __post_init__(self) -> None:
        f = len(self.columns)
        if f < 1 or len(set(self.columns)) != f:
            raise InputError(f"columns must be at least one name, none of them twice, got {self.columns}")
        for name, values in (("center", self.center), ("scale", self.scale)):
            if values.shape != (f,) or values.dtype != np.float64 or not np.isfinite(values).all():
                raise InputError(
                    f"{name} must be {f} finite float64, one per column, got {values.dtype} {values.shape}"
                )
        if not ((self.scale > 0).all() and 0 < self.target_scale < np.inf and np.isfinite(self.target_center)):
            raise InputError("scale and target_scale must be above 0 and finite, target_center finite")

    @property
    def low(self) -> Float[np.ndarray, " features"]:
        """Where each column is cut below, in its units."""
        return self.center - CUT * self.scale

    @property
    def high(self) -> Float[np.ndarray, " features"]:
        """Where each column is cut above."""
        return self.center + CUT * self.scale

    def standardize(self, X: Float[np.ndarray, "rows features"]) -> Float[np.ndarray, "rows features"]:
        """(X - center) / scale, cut at +-CUT."""
        return np.clip(_standard(X, self.center, self.scale), -CUT, CUT)

    def standardize_target(self, y: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
        """(y - target_center) / target_scale."""
        return _standard(y, self.target_center, self.target_scale)

    def answer(self, t: Float[np.ndarray, "*n rows"]) -> Float[np.ndarray, "*n rows"]:
        """Standardised answers in units of the target."""
        return t * self.target_scale + self.target_center

    def named(self, columns: Sequence[str], target: str) -> Reading:
        """The same under other names."""
        return replace(self, columns=tuple(columns), target=target)


def read(
    X: Any, y: Any, columns: Sequence[str] | None = None, target: str = "y"
) -> tuple[Reading, Float[np.ndarray, "rows features"], Float[np.ndarray, " rows"]]:
    """The reading of a table, its columns and its target in it: mean 0 and deviation 1, not cut.

    X: (rows, features). y: (rows,). A column that does not vary (`FLAT`) is 0, and so is such a target. columns: names,
    None for x0, x1, ...
    Raises InputError for other shapes, fewer than 2 rows, and missing or infinite values.
    """
    X, y = np.asarray(X, np.float64), np.asarray(y, np.float64)
    if X.ndim != 2 or not X.shape[1] or y.shape != (len(X),) or len(y) < 2:
        raise InputError(f"X must be (rows, features) and y (rows,) with at least 2 rows, got {X.shape}, {y.shape}")
    if not (np.isfinite(X).all() and np.isfinite(y).all()):
        raise InputError("X and y must be finite; drop or impute missing values first")
    center, scale, flat = _center_and_scale(X)
    (target_center,), (target_scale,), (target_flat,) = _center_and_scale(y[:, None])
    names = tuple(f"x{i}" for i in range(X.shape[1])) if columns is None else tuple(columns)
    reading = Reading(names, center, scale, target, float(target_center), float(target_scale))
    z = np.where(flat, 0.0, _standard(X, center, scale))
    return reading, z, reading.standardize_target(y) * (not target_flat)


def _standard(
    X: Float[np.ndarray, "*rows"], center: Float[np.ndarray, " _"] | float, scale: Float[np.ndarray, " _"] | float
) -> Float[np.ndarray, "*rows"]:
    with np.errstate(over="ignore"):
        return (X / 2 - center / 2) / (scale / 2)  # halves: the difference of two finite numbers may not be finite


def _center_and_scale(X: Float[np.ndarray, "rows features"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and deviation of each column, and which do not vary. No step overflows, and the deviation of a column far
    from 0 is that of what is left when its mean is taken away. A column that does not vary has its size as scale."""
    size = np.ldexp(0.5, np.frexp(np.abs(X).max(0))[1])  # a power of 2, so that dividing is exact
    size[size == 0] = 1.0
    unit = X / size
    center = unit.mean(0)
    center = center + (unit - center).mean(0)
    scale = (unit - center).std(0)
    flat = scale <= FLAT * np.abs(center)
    center = np.where(flat, unit[0], center)
    return center * size, np.where(flat, 1.0, scale) * size, flat
