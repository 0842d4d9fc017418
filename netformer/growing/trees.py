"""Trees: oblivious trees grown by boosting, several fits of the same rows at once.

What an oblivious tree is stands in `exports.trees`. Each tree is grown on what the trees before it leave over (gradient
boosting, Friedman 2001): of the squared error the rest of the target, of classes the indicator of a class minus its
probability. It takes `RATE` of it. A question is the one that leaves the least squared error, over all classes, among
`CUTS` thresholds of each input whose ranks are shifted at random from tree to tree, on a random part of the rows
(Friedman 2002); of many classes, over random sums of them (Iosipoi and Vakhrushev 2022).

The search is a matrix product: weights and residuals by leaf, times who is above which threshold, for all fits at once.
Fits that differ in their rows alone cost little more than one: so every row gets an answer of trees grown without it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit, softmax

from netformer.exports.trees import Trees

TREES, DEPTH, RATE = 40, 5, 0.25
CUTS = 32  # thresholds of an input that a tree chooses among
SOME, MOST_ROWS = 0.8, 1024  # of the rows a tree is grown on: their share, and how many at most
PENALTY = 1.0  # rows of residual 0 that a leaf counts beside its own
CURVATURE, CLASS_PENALTY = 0.25, 2.0  # of a logistic function at most, and what a leaf counts of it beside its rows
LEAST_SHARE = 1e-3  # of a class among the rows, as boosting starts
MOST_SEEN = 10  # outputs that questions are chosen by: of more as many random sums
BETWEEN = 0.381966  # of the way from a value to the next, where thresholds lie: no new value of a grid is there
APART = 1e-6  # of a standardised input: closer values are one value and its rounding


class Boosting:
    """Boosting of the same rows under several sets of weights, a tree at a time, whose leaves answer all outputs.

    z: (rows, inputs). y: (outputs, rows). mass: (fits, rows), how much each row counts in each fit, 0 for a row left
    out. `answers`: (outputs, fits, rows), what each fit says of every row so far. The loss is the squared error.
    """

    rate, penalty = RATE, PENALTY

    def __init__(
        self,
        z: Float[np.ndarray, "rows inputs"],
        y: Float[np.ndarray, "outputs rows"],
        mass: Float[np.ndarray, "fits rows"],
        rng: np.random.Generator,
    ) -> None:
        self.z, self.y, self.mass, self.rng = np.ascontiguousarray(z.T), y, mass, rng
        self.bias = self._start(np.stack([mass @ own / mass.sum(1) for own in y]))
        self.answers = np.repeat(self.bias[:, :, None], len(z), 2)
        self.residual = self._left_over()
        self.inputs, self.cuts = thresholds(self.z)
        self.grown: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def _start(self, mean: Float[np.ndarray, "outputs fits"]) -> Float[np.ndarray, "outputs fits"]:
        """The answer without a tree."""
        return mean

    def _left_over(self, step: Float[np.ndarray, "outputs fits rows"] | None = None) -> np.ndarray:
        """The slope of the loss downhill in every answer times the mass of the row, after a step of the answers."""
        return (self.y[:, None] - self.answers) * self.mass if step is None else self.residual - step * self.mass

    def grow(self, count: int = 1) -> None:
        """So many trees more, to every fit."""
        fits, leaves = len(self.mass), 2**DEPTH
        for _ in range(count):
            column, cut, leaf = self._questions()
            flat = (np.arange(fits)[:, None] * leaves + leaf).ravel()
            held = np.bincount(flat, self.mass.ravel(), fits * leaves) + self.penalty
            total = np.stack([np.bincount(flat, own.ravel(), fits * leaves) for own in self.residual])
            value = (self.rate * total / held).reshape(-1, fits, leaves)
            step = value[:, np.arange(fits)[:, None], leaf]
            self.answers += step
            self.residual = self._left_over(step)
            self.grown.append((column, cut, value))

    def _questions(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Column and threshold of the questions of one tree in every fit, (fits, depth), and the leaf of every row,
        (fits, rows)."""
        fits, rows = self.mass.shape
        some = self.rng.permutation(rows)[: min(max(1, int(SOME * rows)), MOST_ROWS)]
        ranks = ((np.arange(CUTS) + self.rng.random()) / CUTS * rows).astype(np.int64)
        cuts = self.cuts[:, ranks].ravel()
        column = np.repeat(self.inputs, CUTS)
        above = (self.z[self.inputs][:, None, some] > cuts.reshape(-1, CUTS, 1)).reshape(len(cuts), -1)
        above = above.astype(np.float32).T
        seen = self.residual[:, :, some]
        if len(seen) > MOST_SEEN:
            seen = np.tensordot(self.rng.normal(size=(MOST_SEEN, len(seen))), seen, 1)
        weights = np.concatenate([self.mass[None, :, some], seen]).astype(np.float32)
        leaf, chosen = np.zeros((fits, rows), np.int64), []
        at, places = np.arange(fits)[:, None], np.arange(len(some))
        for level in range(DEPTH):
            by_leaf = np.zeros((len(weights), fits, 2**level, len(some)), np.float32)
            by_leaf[:, at, leaf[:, some], places] = weights
            right = (by_leaf.reshape(-1, len(some)) @ above).reshape(len(weights), fits, 2**level, -1)
            left = by_leaf.sum(3, keepdims=True) - right
            gain = sum((own[1:] ** 2).sum(0) / (own[0] + self.penalty) for own in (right, left))
            best = gain.sum(1).argmax(1)
            leaf = 2 * leaf + (self.z[column[best]] > cuts[best, None])
            chosen.append(best)
        best = np.stack(chosen, 1)
        return column[best], cuts[best], leaf

    def trees(self, fit: int) -> Trees:
        """What was grown in one fit."""
        column, cut = (np.stack([tree[part][fit] for tree in self.grown]) for part in range(2))
        return Trees(self.bias[:, fit], column, cut, np.stack([tree[2][:, fit] for tree in self.grown], 1))


class ClassBoosting(Boosting):
    """Boosting of the log loss. y: 1 for the class of a row, of two classes one output, for the second. `answers` are
    logits, whose softmax the probabilities are, of one output its logistic function.

    A leaf is a step along the slope over `CURVATURE`, the largest one of a logistic function, not over that at the
    answers (Newton's, Friedman 2001, algorithm 5): the weights of rows by leaf are then the same for all outputs.
    """

    rate, penalty = RATE / CURVATURE, CLASS_PENALTY / CURVATURE

    def _start(self, mean: Float[np.ndarray, "outputs fits"]) -> Float[np.ndarray, "outputs fits"]:
        share = mean.clip(LEAST_SHARE, 1 - LEAST_SHARE)
        return np.log(share / (1 - share)) if len(mean) == 1 else np.log(share)

    def _left_over(self, step: Float[np.ndarray, "outputs fits rows"] | None = None) -> np.ndarray:
        said = expit(self.answers) if len(self.answers) == 1 else softmax(self.answers, 0)
        return (self.y[:, None] - said) * self.mass


def mean_of(parts: Sequence[Trees]) -> Trees:
    """Trees whose answer is the mean of those of some, which are as deep and answer as many outputs."""
    bias = np.mean([one.bias for one in parts], 0)
    column, cut = np.concatenate([one.column for one in parts]), np.concatenate([one.cut for one in parts])
    return Trees(bias, column, cut, np.concatenate([one.leaf for one in parts], 1) / len(parts))


def thresholds(
    z: Float[np.ndarray, "inputs rows"],
) -> tuple[Int[np.ndarray, " varying"], Float[np.ndarray, "varying rows"]]:
    """The inputs that vary, and for each rank of such an input the threshold above the value there: `BETWEEN` this
    value and the next one, as float32 has it; where it is the largest, the one below it.

    In the middle of two whole numbers or dates there may be a third one, which would lie above or below the threshold
    as rounding has it, in every exported format anew. So would values that differ by rounding alone, such as the sines
    of two hours of a day: no threshold is between values that are not `APART`.
    """
    ordered = np.sort(z, 1)
    inputs = np.flatnonzero((np.diff(ordered, axis=1) > APART).any(1))
    cuts = np.empty((len(inputs), z.shape[1]))
    for own, values in zip(cuts, ordered[inputs], strict=True):
        last = np.flatnonzero(np.diff(values) > APART)  # the last row of each value but the largest
        above = ((1 - BETWEEN) * values[last] + BETWEEN * values[last + 1]).astype(np.float32)
        own[: last[-1] + 1] = np.repeat(above, np.diff(last, prepend=-1))
        own[last[-1] + 1 :] = above[-1]
    return inputs, cuts
