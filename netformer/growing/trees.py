"""Trees: oblivious trees grown by boosting, several fits of the same rows at once.

An oblivious tree of depth d asks the same d questions, "is this input above that threshold?", of every row; the d
answers are the number of a leaf, and the leaf holds the answer (Kohavi 1994; the trees of CatBoost, Prokhorenkova et
al. 2018). Each tree is grown on what the trees before it leave over (gradient boosting of the squared error, Friedman
2001) and takes `RATE` of it. A question is the one that leaves the least squared error, among `CUTS` thresholds of each
input whose ranks are shifted at random from tree to tree, on a random part of the rows (Friedman 2002).

The search is a matrix product: weights and residuals by leaf, times who is above which threshold, for all fits at once.
Fits that differ in their rows alone cost little more than one: so every row gets an answer of trees grown without it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

TREES, DEPTH, RATE = 60, 5, 0.2
CUTS = 32  # thresholds of an input that a tree chooses among
SOME, MOST_ROWS = 0.8, 1024  # of the rows a tree is grown on: their share, and how many at most
PENALTY = 1.0  # rows of residual 0 that a leaf counts beside its own
BETWEEN = 0.381966  # of the way from a value to the next, where thresholds lie: no new value of a grid is there


@dataclass(frozen=True, eq=False)
class Trees:
    """Boosted oblivious trees: the answer to a row is `bias` plus one leaf of each tree.

    column, cut: the questions of each tree, "is input `column` above `cut`?". leaf: of the 2^depth leaves of each, by
    the answers as digits of a binary number, the first question the highest one.
    """

    bias: float
    column: Int[np.ndarray, "trees depth"]
    cut: Float[np.ndarray, "trees depth"]
    leaf: Float[np.ndarray, "trees leaves"]

    def predict(self, z: Float[np.ndarray, "rows inputs"]) -> Float[np.ndarray, " rows"]:
        """The answer to each row."""
        answers = np.full(len(z), self.bias)
        place = 2 ** np.arange(self.column.shape[1])[::-1]
        for column, cut, leaf in zip(self.column, self.cut, self.leaf, strict=True):
            answers += leaf[(z[:, column] > cut) @ place]
        return answers


class Boosting:
    """Boosting of the same rows under several sets of weights, a tree at a time.

    z: (rows, inputs). y: (rows,). mass: (fits, rows), how much each row counts in each fit, 0 for a row left out.
    `answers`: (fits, rows), what each fit says of every row so far.
    """

    def __init__(
        self,
        z: Float[np.ndarray, "rows inputs"],
        y: Float[np.ndarray, " rows"],
        mass: Float[np.ndarray, "fits rows"],
        rng: np.random.Generator,
    ) -> None:
        self.z, self.mass, self.rng = np.ascontiguousarray(z.T), mass, rng
        self.bias = mass @ y / mass.sum(1)
        self.answers = np.repeat(self.bias[:, None], len(y), 1)
        self.residual = (y - self.answers) * mass
        self.inputs, self.cuts = thresholds(self.z)
        self.grown: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def grow(self, count: int = 1) -> None:
        """So many trees more, to every fit."""
        for _ in range(count):
            column, cut, leaf = self._questions()
            fits, leaves = len(self.mass), 2**DEPTH
            flat = (np.arange(fits)[:, None] * leaves + leaf).ravel()
            total = np.bincount(flat, self.residual.ravel(), fits * leaves)
            value = (RATE * total / (np.bincount(flat, self.mass.ravel(), fits * leaves) + PENALTY)).reshape(fits, -1)
            step = np.take_along_axis(value, leaf, 1)
            self.answers += step
            self.residual -= step * self.mass
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
        weights = np.stack([self.mass[:, some], self.residual[:, some]]).astype(np.float32)
        leaf, chosen = np.zeros((fits, rows), np.int64), []
        at, places = np.arange(fits)[:, None], np.arange(len(some))
        for level in range(DEPTH):
            by_leaf = np.zeros((2, fits, 2**level, len(some)), np.float32)
            by_leaf[:, at, leaf[:, some], places] = weights
            right = (by_leaf.reshape(-1, len(some)) @ above).reshape(2, fits, 2**level, -1)
            left = by_leaf.sum(3, keepdims=True) - right
            gain = right[1] ** 2 / (right[0] + PENALTY) + left[1] ** 2 / (left[0] + PENALTY)
            best = gain.sum(1).argmax(1)
            leaf = 2 * leaf + (self.z[column[best]] > cuts[best, None])
            chosen.append(best)
        best = np.stack(chosen, 1)
        return column[best], cuts[best], leaf

    def trees(self, fit: int) -> Trees:
        """What was grown in one fit."""
        column, cut, leaf = (np.stack([tree[part][fit] for tree in self.grown]) for part in range(3))
        return Trees(float(self.bias[fit]), column, cut, leaf)


def thresholds(
    z: Float[np.ndarray, "inputs rows"],
) -> tuple[Int[np.ndarray, " varying"], Float[np.ndarray, "varying rows"]]:
    """The inputs that vary, and for each rank of such an input the threshold above the value there: `BETWEEN` this
    value and the next one, as float32 has it; where it is the largest, the one below it.

    In the middle of two whole numbers or dates there may be a third one, which would lie above or below the threshold
    as rounding has it, in every exported format anew.
    """
    ordered = np.sort(z, 1)
    inputs = np.flatnonzero(ordered[:, 0] < ordered[:, -1])
    cuts = np.empty((len(inputs), z.shape[1]))
    for own, values in zip(cuts, ordered[inputs], strict=True):
        last = np.flatnonzero(np.diff(values) > 0)  # the last row of each value but the largest
        above = ((1 - BETWEEN) * values[last] + BETWEEN * values[last + 1]).astype(np.float32)
        own[: last[-1] + 1] = np.repeat(above, np.diff(last, prepend=-1))
        own[last[-1] + 1 :] = above[-1]
    return inputs, cuts
