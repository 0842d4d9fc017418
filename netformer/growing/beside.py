"""Beside: trees as step units of networks, beside those a transformer writes, under one answer.

An oblivious tree is a network of two hidden layers: its d questions are step units that read one input each,
step(z - cut); its 2^d leaves are step units that are 1 where all answers are theirs, step(sum of +-answers - yes + 1/2)
with as many yes as the leaf has; and the output adds the values of the leaves. Nothing is rounded on the way: the sums
that decide are of whole numbers and a half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from netformer.arrays import functions as xp
from netformer.arrays.namespace import Tensor
from netformer.exports.intervals import Intervals
from netformer.growing.trees import Trees
from netformer.networks.specs import ACTIVATIONS, Layout, Specs
from netformer.networks.stack import Networks, concatenate

_STEP = ACTIVATIONS.index("step")


def step_networks(trees: Trees, layout: Layout, first: int = 0) -> Networks:
    """Networks of step units whose sum answers as the trees do, those in the outputs of the layout from `first` on: as
    many trees in each as its width allows. The layout must have two hidden layers and the width of a tree's leaves; its
    inputs are those of the trees."""
    outputs, count, leaves = trees.leaf.shape
    depth = trees.column.shape[1]
    own = min(layout.max_width // leaves, count)
    parts = -(-count // own)
    features, second = layout.max_features, layout.max_width
    answers = layout.outputs.start + first + np.arange(outputs)
    weight = np.zeros((parts, layout.n_patches, layout.n_slots), np.float32)
    mask = np.zeros(weight.shape, bool)
    place = np.arange(leaves)[:, None] >> np.arange(depth)[::-1] & 1  # the answers of each leaf
    for number, (column, cut, leaf) in enumerate(zip(trees.column, trees.cut, trees.leaf.swapaxes(0, 1), strict=True)):
        part, at = divmod(number, own)
        asked = at * depth + np.arange(depth)
        weight[part, asked, 1 + column], weight[part, asked, 0] = 1.0, -cut
        mask[part, asked, 1 + column] = mask[part, asked, 0] = True
        met, slots = second + at * leaves + np.arange(leaves), 1 + features + asked
        weight[part, met[:, None], slots], weight[part, met, 0] = 2 * place - 1, 0.5 - place.sum(1)
        mask[part, met[:, None], slots] = mask[part, met, 0] = True
        ends = 1 + features + at * leaves + np.arange(leaves)
        weight[part, answers[:, None], ends], mask[part, answers[:, None], ends] = leaf, True
    weight[0, answers, 0] = trees.bias
    mask[:, answers, 0] = True
    held = xp.tensor([own] * (parts - 1) + [count - own * (parts - 1)])
    widths = xp.zeros(parts, layout.max_hidden_layers, dtype=xp.int64)
    widths[:, 0], widths[:, 1] = held * depth, held * leaves
    codes = xp.where(widths > 0, _STEP, 0)
    specs = Specs(xp.full((parts,), features), widths, codes, xp.from_numpy(mask), layout.n_outputs)
    return Networks(specs, xp.from_numpy(weight))


def beside(wide: Networks, trees: Sequence[Trees | None], shares: Sequence[float]) -> Networks:
    """Networks whose mean is (1 - share) times that of `wide` plus share times the answer of the trees, in each output:
    its networks, and behind them those of the trees. trees, shares: of one output after the other, or of as many as
    trees answer; None and 0 where there are none."""
    wide, leaves = wide.numpy(), max(one.leaf.shape[2] for one in trees if one is not None)
    layout = wide.layout
    layers, width = max(layout.max_hidden_layers, 2), max(layout.max_width, leaves)
    layout = Layout(layout.max_features, layers, width, layout.n_outputs)
    answered = [1 if one is None else len(one.bias) for one in trees]
    first = np.cumsum([0, *answered]).tolist()
    grown = [None if one is None else step_networks(one, layout, at) for one, at in zip(trees, first[:-1], strict=True)]
    written = enlarged(wide, layout)
    count = len(written) + sum(map(len, filter(None, grown)))
    parts = [written]
    for own, share, at, end in zip(grown, shares, first[:-1], first[1:], strict=True):
        outputs = slice(layout.outputs.start + at, layout.outputs.start + end)
        written.weight[:, outputs] *= (1 - share) * count / len(written)
        if own is not None:
            own.weight[:, outputs] *= share * count
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
    jumps = specs.activations.gather(1, last) == _STEP
    return int((specs.widths.gather(1, last) * jumps).sum())
