"""Mixing: how much of the answer is that of grown trees, decided on rows that neither had seen.

What was written does not look at the target of a row it is solved on but through the output layer, so an error without
that row has a closed form. Trees do look: leave-one-out is too kind to them, and each row's answer comes from trees
grown on other folds. The share b minimises the squared error of (1 - b) written + b grown over these answers, within 0
and 1 (stacked regression, Breiman 1996, with one weight). Trees are kept where b is not small and where what they take
off the squared error is clear beside its standard error over rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from netformer.growing.trees import TREES, Boosting, Trees

FOLDS = 5
LEAST_ROWS = 50  # different ones, of a table that trees are grown for
LEAST_SHARE = 0.1  # of the answer, that trees are kept for
CLEAR = 1.5  # standard errors that what trees take off the squared error must be
FIRST = 15  # trees after which growing stops where they do not help


@dataclass(frozen=True, eq=False)
class Grown:
    """Trees for a table. share: of the answer that is theirs. error: of each row looked at in that answer, without it:
    written and grown together."""

    trees: Trees
    share: float
    error: Float[np.ndarray, " some"]


def grow(
    z: Float[np.ndarray, "rows inputs"],
    y: Float[np.ndarray, " rows"],
    mass: Float[np.ndarray, " rows"],
    some: Int[np.ndarray, " some"],
    error: Float[np.ndarray, " some"],
    seed: int = 0,
) -> Grown | None:
    """Trees for a table, or None where they do not help, which is decided on the rows `some`.

    z, y: different rows, standardised. mass: how often each is there. error: of what is written, for each of `some`
    without it.
    """
    if len(y) < LEAST_ROWS:
        return None
    rng = np.random.default_rng(seed)
    fold = rng.permutation(len(y)) % FOLDS
    kept = np.concatenate([fold != np.arange(FOLDS)[:, None], np.ones((1, len(y)), bool)])
    boosting = Boosting(z, y, kept * mass, rng)
    boosting.grow(FIRST)
    if _share(boosting, fold, y, mass, some, error)[0] < LEAST_SHARE:
        return None
    boosting.grow(TREES - FIRST)
    share, off = _share(boosting, fold, y, mass, some, error)
    mixed, count = (1 - share) * error + share * off, mass[some]
    gain = error**2 - mixed**2
    mean = float(count @ gain / count.sum())
    if share < LEAST_SHARE or mean < CLEAR * np.sqrt(count @ (gain - mean) ** 2) / count.sum():
        return None
    return Grown(boosting.trees(FOLDS), share, mixed)


def _share(
    boosting: Boosting,
    fold: Int[np.ndarray, " rows"],
    y: Float[np.ndarray, " rows"],
    mass: Float[np.ndarray, " rows"],
    some: Int[np.ndarray, " some"],
    error: Float[np.ndarray, " some"],
) -> tuple[float, Float[np.ndarray, " some"]]:
    """b, see the module, and the error of each row in the trees grown without it."""
    off = y[some] - boosting.answers[fold[some], some]
    apart = error - off
    squares = float(mass[some] @ apart**2)
    return float(np.clip(mass[some] @ (apart * error) / max(squares, 1e-12), 0.0, 1.0)), off
