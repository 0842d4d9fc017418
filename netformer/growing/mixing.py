"""Mixing: how much of the answer is that of grown trees, decided on rows that neither had seen.

What was written does not look at the target of a row it is solved on but through the output layer, so an error without
that row has a closed form. Trees do look: leave-one-out is too kind to them, and each row's answer comes from trees
grown on other folds. The share b minimises the squared error of (1 - b) written + b grown over these answers, within 0
and 1 (stacked regression, Breiman 1996, with one weight). Trees are kept where b is not small and where what they take
off the squared error is clear beside its standard error over rows. Of classes logits are mixed, by the log loss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from netformer.exports.classes import log_loss
from netformer.growing.trees import TREES, Boosting, ClassBoosting, Trees

FOLDS = 5
LEAST_ROWS = 50  # different ones, of a table that trees are grown for
LEAST_SHARE = 0.1  # of the answer, that trees are kept for
CLEAR = 1.5  # standard errors that what trees take off the loss must be
FIRST = 15  # trees after which growing stops where they do not help
SHARES = np.linspace(0.0, 1.0, 11)  # tried of classes

# Of answers of trees, (outputs, some): their share, what that takes off the loss of each row, and `Grown.left`
Weighing = Callable[[np.ndarray], tuple[float, np.ndarray, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Grown:
    """Trees for a table. share: of the answer that is theirs. left: of each row looked at in that answer, without it,
    written and grown together: its error, of classes its log loss."""

    trees: Trees
    share: float
    left: Float[np.ndarray, " some"]


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
    rng = np.random.default_rng(seed)
    fold = rng.permutation(len(y)) % FOLDS

    def weighed(answers: Float[np.ndarray, "1 some"]) -> tuple[float, np.ndarray, np.ndarray]:
        off = y[some] - answers[0]
        apart = error - off
        squares = float(mass[some] @ apart**2)
        share = float(np.clip(mass[some] @ (apart * error) / max(squares, 1e-12), 0.0, 1.0))
        mixed = (1 - share) * error + share * off
        return share, error**2 - mixed**2, mixed

    return _grown(Boosting, z, y[None], mass, fold, some, weighed, rng)


def grow_classes(
    z: Float[np.ndarray, "rows inputs"],
    codes: Int[np.ndarray, " rows"],
    mass: Float[np.ndarray, " rows"],
    fold: Int[np.ndarray, " rows"],
    some: Int[np.ndarray, " some"],
    logits: Float[np.ndarray, "some outputs"],
    seed: int = 0,
) -> Grown | None:
    """Trees for a table whose target is a class, as `grow`. codes: of the class of each row. mass: what each counts.
    fold: that each is left out in, 0 to `FOLDS` - 1. logits: of what is written, for each of `some` without it."""
    outputs = logits.shape[1]
    target = (codes == np.arange(outputs)[:, None] + (outputs == 1)).astype(np.float64)

    def weighed(answers: Float[np.ndarray, "outputs some"]) -> tuple[float, np.ndarray, np.ndarray]:
        loss = np.stack([log_loss((1 - b) * logits + b * answers.T, codes[some]) for b in SHARES])
        best = int((loss @ mass[some]).argmin())
        return float(SHARES[best]), loss[0] - loss[best], loss[best]

    return _grown(ClassBoosting, z, target, mass, fold, some, weighed, np.random.default_rng(seed))


def _grown(
    kind: type[Boosting],
    z: Float[np.ndarray, "rows inputs"],
    y: Float[np.ndarray, "outputs rows"],
    mass: Float[np.ndarray, " rows"],
    fold: Int[np.ndarray, " rows"],
    some: Int[np.ndarray, " some"],
    weighed: Weighing,
    rng: np.random.Generator,
) -> Grown | None:
    """Trees grown on all rows, if those grown on all folds but one help on the rows of that one."""
    if len(z) < LEAST_ROWS:
        return None
    kept = np.concatenate([fold != np.arange(FOLDS)[:, None], np.ones((1, len(z)), bool)])
    boosting = kind(z, y, kept * mass, rng)
    for count in (FIRST, TREES - FIRST):
        boosting.grow(count)
        share, gain, left = weighed(boosting.answers[:, fold[some], some])
        if share < LEAST_SHARE:
            return None
    count, mean = mass[some], float(mass[some] @ gain / mass[some].sum())
    if mean < CLEAR * np.sqrt(count @ (gain - mean) ** 2) / count.sum():
        return None
    return Grown(boosting.trees(FOLDS), share, left)
