"""Mixing: how much of the answer is that of grown trees, decided on rows that neither had seen.

What was written does not look at the target of a row it is solved on but through the output layer, so an error without
that row has a closed form. Trees do look: leave-one-out is too kind to them, and each row's answer comes from trees
grown on other folds. The share b minimises the squared error of (1 - b) written + b grown over these answers, within 0
and 1 (stacked regression, Breiman 1996, with one weight). The mixed answer is then scaled by the number near 1 that
fits these answers best: the mean of two answers that err apart from each other is too tame. Trees are kept where b is
not small and where what they take off the squared error is clear beside its standard error over rows. Of classes
logits are mixed and scaled, by the log loss.

What is called the answer of the trees is the mean of `COPIES` boostings, each with thresholds and rows of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from netformer.exports.classes import log_loss
from netformer.growing.trees import TREES, Boosting, ClassBoosting, Trees, mean_of

FOLDS, COPIES = 5, 2
LEAST_ROWS = 50  # different ones, of a table that trees are grown for
LEAST_SHARE = 0.1  # of the answer, that trees are kept for
CLEAR = 1.5  # standard errors that what trees take off the loss must be
FIRST = 15  # trees after which growing stops where they do not help
SHARES, SIZES = np.linspace(0.0, 1.0, 11), np.exp(np.linspace(-0.5, 0.5, 21))  # tried of classes
NUMBER_ROWS, CLASS_ROWS = 20.0, 10.0  # that say the mixed answer is not to be scaled, beside those looked at

# Of answers of trees, (outputs, some): `Grown.weights`, what trees take off the loss of each row, and `Grown.left`
Weighing = Callable[[np.ndarray], tuple[tuple[float, float], np.ndarray, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Grown:
    """Trees for a table. weights: of what is written and of the trees in the answer. left: of each row looked at in
    that answer, without it, written and grown together: its error, of classes its log loss."""

    trees: Trees
    weights: tuple[float, float]
    left: Float[np.ndarray, " some"]

    @property
    def share(self) -> float:
        """Of the answer that is the trees'."""
        return share_of(self.weights)


def share_of(weights: tuple[float, float]) -> float:
    """Of the second in both."""
    return weights[1] / sum(weights)


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

    def weighed(answers: Float[np.ndarray, "1 some"]) -> tuple[tuple[float, float], np.ndarray, np.ndarray]:
        off = y[some] - answers[0]
        apart = error - off
        squares = float(mass[some] @ apart**2)
        share = float(np.clip(mass[some] @ (apart * error) / max(squares, 1e-12), 0.0, 1.0))
        mixed = (1 - share) * error + share * off
        answer = y[some] - mixed
        size = 1 + float(mass[some] @ (mixed * answer) / (mass[some] @ answer**2 + NUMBER_ROWS))
        left = y[some] - size * answer
        return (size * (1 - share), size * share), error**2 - left**2, left

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

    def weighed(answers: Float[np.ndarray, "outputs some"]) -> tuple[tuple[float, float], np.ndarray, np.ndarray]:
        mixed = [(1 - b) * logits + b * answers.T for b in SHARES]
        loss = np.stack([log_loss(one, codes[some]) for one in mixed])
        best = int((loss @ mass[some]).argmin())
        scaled = np.stack([log_loss(size * mixed[best], codes[some]) for size in SIZES])
        found = int((scaled @ mass[some] + CLASS_ROWS * np.log(SIZES) ** 2).argmin())
        size, share = float(SIZES[found]), float(SHARES[best])
        # A size alone takes much off where logits are too sure: what trees take off is counted without it.
        return (size * (1 - share), size * share), loss[0] - loss[best], scaled[found]

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
    boostings = [kind(z, y, kept * mass, rng) for _ in range(COPIES)]
    for count in (FIRST, TREES - FIRST):
        for boosting in boostings:
            boosting.grow(count)
        answers = np.mean([boosting.answers[:, fold[some], some] for boosting in boostings], 0)
        weights, gain, left = weighed(answers)
        if share_of(weights) < LEAST_SHARE:
            return None
    count, mean = mass[some], float(mass[some] @ gain / mass[some].sum())
    if mean < CLEAR * np.sqrt(count @ (gain - mean) ** 2) / count.sum():
        return None
    return Grown(mean_of([boosting.trees(FOLDS) for boosting in boostings]), weights, left)
