"""Oblivious trees beside random networks, which the tests share."""

from dataclasses import replace

import numpy as np

from netformer.exports.trees import Trees
from netformer.growing.beside import beside, intervals_beside


def some_trees(inputs, outputs=1, count=7, depth=3, seed=0):
    """Random trees; thresholds and leaves are numbers of float32."""
    rng = np.random.default_rng(seed)
    column = rng.integers(0, inputs, (count, depth))
    cut, leaf = rng.normal(size=(count, depth)), rng.normal(size=(outputs, count, 2**depth))
    bias, cut, leaf = (part.astype(np.float32).astype(np.float64) for part in (rng.normal(size=outputs), cut, leaf))
    return Trees(bias, column, cut, leaf)


def with_trees(population, trees, shares):
    """The same with trees in its wide network, as `beside` takes them, by their shares of the answer."""
    wide = beside(population.wide, trees, [(1 - share, share) for share in shares])
    intervals = population.intervals and intervals_beside(population.intervals, wide)
    return replace(population, wide=wide, intervals=intervals)
