"""Trees: oblivious trees, which are networks of step units, and the way from one form to the other and back.

An oblivious tree of depth d asks the same d questions, "is this input above that threshold?", of every row; the d
answers are the number of a leaf, and the leaf holds the answer (Kohavi 1994; the trees of CatBoost, Prokhorenkova et
al. 2018).

It is a network of two hidden layers: its d questions are step units that read one input each, step(z - cut); its 2^d
leaves are step units that are 1 where all answers are theirs, step(sum of +-answers - yes + 1/2) with as many yes as
the leaf has; and the output adds the values of the leaves. Nothing is rounded on the way: the sums that decide are of
whole numbers and a half. Networks are stored, tokenized and mixed as networks; where numbers are computed and files are
written, `split` finds the trees in them again, for 2d numbers and 2^d leaves say all of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from netformer.arrays import functions as xp
from netformer.networks.specs import ACTIVATIONS, Layout, Specs
from netformer.networks.stack import Networks

STEP = ACTIVATIONS.index("step")
_ROWS = 4096  # of a table that networks run on at once, for memory
_FEW = 32  # rows, below which finding trees takes longer than running their units
_BLOCK = 512  # rows that are looked up at once, so that their leaves stay in the cache


@dataclass(frozen=True, eq=False)
class Trees:
    """Oblivious trees of one depth: the answer to a row is `bias` plus one leaf of each tree, in each output.

    column, cut: the questions of each tree, "is input `column` above `cut`?". leaf: of the 2^depth leaves of each, by
    the answers as digits of a binary number, the first question the highest one. first: the output of a network that
    the first of theirs is.
    """

    bias: Float[np.ndarray, " outputs"]
    column: Int[np.ndarray, "trees depth"]
    cut: Float[np.ndarray, "trees depth"]
    leaf: Float[np.ndarray, "outputs trees leaves"]
    first: int = 0

    @property
    def outputs(self) -> slice:
        """The outputs of a network that they answer in."""
        return slice(self.first, self.first + len(self.leaf))

    def places(self, z: Float[np.ndarray, "rows inputs"]) -> Int[np.ndarray, "rows trees"]:
        """The number of the leaf of each row in each tree."""
        found = np.zeros((len(z), len(self.column)), np.int64)
        for column, cut in zip(self.column.T, self.cut.T, strict=True):
            found = 2 * found + (z[:, column] > cut)
        return found

    def predict(self, z: Float[np.ndarray, "rows inputs"]) -> Float[np.ndarray, "outputs rows"]:
        """The answer to each row."""
        outputs, count, leaves = self.leaf.shape
        flat, start = self.leaf.reshape(outputs, count * leaves), np.arange(count) * leaves
        answers = np.repeat(self.bias[:, None], len(z), 1)
        for at in range(0, len(z), _BLOCK):
            place = self.places(z[at : at + _BLOCK]) + start
            for own, leaf in zip(answers, flat, strict=True):
                own[at : at + _BLOCK] += leaf[place].sum(1)
        return answers


def step_networks(trees: Trees, layout: Layout) -> Networks:
    """Networks of step units whose sum answers as the trees do: as many trees in each as its width allows. The layout
    must have two hidden layers and the width of a tree's leaves; its inputs are those of the trees."""
    outputs, count, leaves = trees.leaf.shape
    depth = trees.column.shape[1]
    own = min(layout.max_width // leaves, count)
    parts = -(-count // own)
    features, second = layout.max_features, layout.max_width
    answers = layout.outputs.start + trees.first + np.arange(outputs)
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
    codes = xp.where(widths > 0, STEP, 0)
    specs = Specs(xp.full((parts,), features), widths, codes, xp.from_numpy(mask), layout.n_outputs)
    return Networks(specs, xp.from_numpy(weight))


def split(networks: Networks) -> tuple[Networks, list[Trees]]:
    """The same as networks and trees, in float64: the answers of the stack add up to those of the networks and of the
    trees. networks: in arrays. Those left are at least one; the first has the output biases of all that are trees, so
    that those of the trees are 0.

    A network is trees if it is what `step_networks` makes of some, by its weights, in any order of its units: inputs
    are asked with a weight of 1, and each set of questions has all its leaves. Any other one stays a network.
    """
    specs = networks.specs
    jumps = (specs.activations[:, :2] == STEP).all(1) & (specs.depth == 2) & ~specs.skip
    candidates, widths = np.flatnonzero(jumps.numpy()), specs.widths.numpy()[:, :2]
    found, trees = np.zeros(len(networks), bool), []
    for width in np.unique(widths[candidates], axis=0)[::-1]:
        some = candidates[(widths[candidates] == width).all(1)]
        for own, column, cut, leaf in _whole(networks, some, *width.tolist()):
            own, column, cut, leaf = (part[own > 0] for part in (own, column, cut, leaf))  # the first one is kept
            found[own] = True
            trees += _by_outputs(column, cut, leaf)
    return (_without(networks, found), trees) if found.any() else (networks, [])


def _whole(
    networks: Networks, some: Int[np.ndarray, " some"], asked: int, ands: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Of some networks of step units those that are trees, by depth: of each tree its network, its questions (trees,
    depth), twice, and its leaves (trees, leaves, outputs). asked, ands: units of their hidden layers."""
    layout, weight = networks.layout, networks.weight.numpy()[some]
    inputs = slice(1, 1 + layout.max_features)
    questions, leaves = weight[:, layout.layer(0)][:, :asked], weight[:, layout.layer(1)][:, :ands]
    signs = leaves[:, :, inputs.stop : inputs.stop + asked]
    yes, depths = (signs > 0).sum(2), (signs != 0).sum(2)
    asks = ((questions[:, :, inputs] != 0).sum(2) == 1) & (questions[:, :, inputs].max(2) == 1)
    meets = (np.abs(signs) == (signs != 0)).all(2) & (leaves[:, :, 0] > -yes) & (leaves[:, :, 0] <= 1 - yes)
    whole = asks.all(1) & meets.all(1) & (depths == depths[:, :1]).all(1)
    for depth in range(1, asked + 1):
        own = np.flatnonzero(whole & (depths[:, 0] == depth))
        if not len(own) or ands % 2**depth:
            continue
        at, places = np.arange(len(own))[:, None, None], np.arange(2**depth)
        read = np.nonzero(signs[own])[2].reshape(len(own), ands, depth)
        leaf = (np.take_along_axis(signs[own], read, 2) > 0) @ 2 ** np.arange(depth)[::-1]
        order = np.lexsort((leaf.ravel(), *read.reshape(-1, depth).T[::-1], np.repeat(at, ands)))
        order = order.reshape(len(own), -1, 2**depth) % ands
        read, leaf = read[at, order], leaf[at, order]
        complete = (leaf == places).all((1, 2)) & (read == read[:, :, :1]).all((1, 2, 3))
        own, at, read, order = own[complete], at[complete], read[complete, :, 0], order[complete]
        column, cut = questions[own][:, :, inputs].argmax(2), -questions[own, :, 0]
        ends = weight[own][:, layout.outputs, inputs.stop :].swapaxes(1, 2)
        at = np.arange(len(own))[:, None, None]
        parts = column[at, read], cut[at, read].astype(np.float64), ends[at, order].astype(np.float64)
        yield np.repeat(some[own], order.shape[1]), *(part.reshape(-1, *part.shape[2:]) for part in parts)


def _by_outputs(
    column: Int[np.ndarray, "trees depth"],
    cut: Float[np.ndarray, "trees depth"],
    leaf: Float[np.ndarray, "trees leaves outputs"],
) -> list[Trees]:
    """Trees that answer in the same outputs together; those that answer in none are left out."""
    says = (leaf != 0).any(1)
    ends = np.stack([says.argmax(1), says.shape[1] - says[:, ::-1].argmax(1)], 1)
    ends[~says.any(1)] = 0
    found = []
    for first, end in np.unique(ends[ends[:, 1] > 0], axis=0).tolist():
        own = (ends == (first, end)).all(1)
        values = leaf[own, :, first:end].transpose(2, 0, 1)
        found.append(Trees(np.zeros(end - first), column[own], cut[own], values, first))
    return found


def _without(networks: Networks, some: Bool[np.ndarray, " n"]) -> Networks:
    """The others, in float64, the first with the output biases of those left out."""
    outputs, weight = networks.layout.outputs, networks.weight
    rest = Networks(networks.specs[~some], weight[~some].double())
    rest.weight[0, outputs, 0] += weight[:, outputs, 0][some].double().sum(0)
    return rest


def answers_of(networks: Networks, z: Float[np.ndarray, "rows inputs"]) -> Float[np.ndarray, "n rows outputs"]:
    """Every output of each network of a stack in arrays, in float64."""
    exact = Networks(networks.specs, networks.weight.double())
    return xp.cat([exact.answers(part[None]) for part in xp.from_numpy(z).split(_ROWS)], 1).numpy()


def mean_of(networks: Networks, z: Float[np.ndarray, "rows inputs"]) -> Float[np.ndarray, "rows outputs"]:
    """The mean of the answers of a stack. Of many rows trees are looked up in, and networks beside them that have no
    weight in any output are not run."""
    count = len(networks)
    trees: list[Trees] = []
    if len(z) >= _FEW:
        networks, trees = split(networks)
    if trees:
        silent = ~networks.weight[:, networks.layout.outputs, 1:].any((1, 2)).numpy()
        silent[0] &= not silent.all()
        networks = _without(networks, silent)
    total = answers_of(networks, z).sum(0)
    for one in trees:
        total[:, one.outputs] += one.predict(z).T
    return total / count
