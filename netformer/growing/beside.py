"""Beside: trees as step units of networks (`exports.trees`), beside those a transformer writes, under one answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from netformer.arrays import functions as xp
from netformer.arrays.namespace import Tensor
from netformer.exports.intervals import Intervals
from netformer.exports.trees import STEP, Trees, step_networks
from netformer.networks.specs import Layout
from netformer.networks.stack import Networks, concatenate


def beside(wide: Networks, trees: Sequence[Trees | None], weights: Sequence[tuple[float, float]]) -> Networks:
    """Networks whose mean is that of `wide` plus the answer of the trees, each times its weight, in each output: its
    networks, and behind them those of the trees. trees, weights: of one output after the other, or of as many as trees
    answer; None, and weights of 1 and 0, where there are none."""
    wide, leaves = wide.numpy(), max(one.leaf.shape[2] for one in trees if one is not None)
    layout = wide.layout
    layers, width = max(layout.max_hidden_layers, 2), max(layout.max_width, leaves)
    layout = Layout(layout.max_features, layers, width, layout.n_outputs)
    answered = [1 if one is None else len(one.bias) for one in trees]
    first = np.cumsum([0, *answered]).tolist()
    placed = zip(trees, first[:-1], strict=True)
    grown = [None if one is None else step_networks(replace(one, first=at), layout) for one, at in placed]
    written = enlarged(wide, layout)
    count = len(written) + sum(map(len, filter(None, grown)))
    parts = [written]
    for own, (kept, added), at, end in zip(grown, weights, first[:-1], first[1:], strict=True):
        outputs = slice(layout.outputs.start + at, layout.outputs.start + end)
        written.weight[:, outputs] *= kept * count / len(written)
        if own is not None:
            own.weight[:, outputs] *= added * count
            parts.append(own)
    return concatenate(parts)


def enlarged(networks: Networks, layout: Layout) -> Networks:
    """The same networks in a layout with more hidden layers or wider ones, on a copy of their weights."""
    old, specs = networks.layout, networks.specs
    layers, width = layout.max_hidden_layers - old.max_hidden_layers, layout.max_width - old.max_width

    def moved(stack: Tensor) -> Tensor:
        hidden = stack[:, : old.outputs.start].reshape(len(stack), old.max_hidden_layers, old.max_width, -1)
        hidden = xp.pad(hidden, (0, width, 0, width, 0, layers))
        hidden = hidden.reshape(len(stack), layout.outputs.start, -1)
        return xp.cat([hidden, xp.pad(stack[:, old.outputs], (0, width))], 1)

    widths, codes = xp.pad(specs.widths, (0, layers)), xp.pad(specs.activations, (0, layers))
    wider = replace(specs, mask=moved(specs.mask), widths=widths, activations=codes)
    return Networks(wider, moved(networks.weight))


def intervals_beside(intervals: Intervals, networks: Networks) -> Intervals:
    """Intervals of a wide network as those of the `networks` it became by `beside`: the scale is what it was."""
    written, targets, slots = intervals.output.shape
    output = xp.zeros(len(networks), targets, networks.layout.n_slots, dtype=xp.float64)
    output[:written, :, :slots] = intervals.output * len(networks) / written
    return replace(intervals, output=output)


def step_units(networks: Networks) -> int:
    """Units of the last hidden layers that jump."""
    specs = networks.specs
    last = (specs.depth - 1).unsqueeze(1)
    jumps = specs.activations.gather(1, last) == STEP
    return int((specs.widths.gather(1, last) * jumps).sum())
