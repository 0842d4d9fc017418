"""Memorisation: how far generated networks are from the training networks, and how far that would be without copying.

Compared are networks of one *shape*, (n_inputs, depth): an equal spec is rare among wide networks, and a copy has its
original's shape. Before that, the same for every side:

    canonical   one representative of the orbit (see symmetry), which fixes the scale of ReLU units
    centred     a vertex that reads a sigmoid unit has the bias it would have if it read sigma(a) - 1/2, an odd function
    scaled      weights are divided by their RMS over the training networks, by layer and kind of slot

The distance of a query q to a training network t, over all edges, an edge or unit that one of them lacks being zeros:

    d(q, t) = sqrt(sum (q - t)^2 / (sum q^2 + sum t^2))     0 for a copy, 1 for orthogonal weights

with t in the order (and the signs, where units are odd: tanh, and sigmoid where `canonicalize` may reflect it) that
fits q best, by weight matching (Ainsworth et al., 2209.04836): best assignments per layer, by incoming weights, then by
incoming and outgoing ones. Only the training networks closest before alignment are aligned: half of them by d with t
as it is, half by d of sorted absolute weights, which is never above d after alignment. Dividing by the weights of q
alone would call shrunken copies and averages novel.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from netformer.errors import InputError
from netformer.networks.specs import ACTIVATIONS, Layout, Specs
from netformer.networks.stack import Networks, concatenate, weight_scale
from netformer.networks.symmetry import canonicalize

LADDER = (0.01, 0.03, 0.1, 0.3, 1.0)
_TANH, _SIGMOID = (ACTIVATIONS.index(name) for name in ("tanh", "sigmoid"))
_LARGEST, _TINY = 1e6, 1e-12  # of a scaled weight, so that no square overflows; of a divisor
_CHUNK = 16  # queries at a time: bounds memory, changes nothing


def memorisation(
    samples: Networks, held: Networks, train: Networks, *, seed: int = 0, limit: int = 1000, head: bool = True
) -> dict[str, float]:
    """Distances of samples to their nearest training network, beside those of held-out zoo networks (the reference).

    At most `limit` random samples are compared; reference, noised copies and averages are drawn at random in the same
    number and with the samples' mix of shapes, for the distance grows with the number of inputs and layers. Keys:

        distance_median, reference_median, reference_p01   of the distances, without unit
        novelty              share of samples farther than the reference's 1st percentile
        memorisation_ratio   distance_median / reference_median: 0 for copies, 1 for independently trained networks
        ladder_L, ladder_novelty_L       both of training networks plus normal noise, L = deviation / RMS of the layer
        average_ratio, average_novelty   both of means of two training networks of one shape, in canonical order
        n_samples, n_held, n_train       networks compared, distinct ones of held, all of train
        n_unmatched                      samples left out: not finite, or no held or no training network of their shape

    head: see `nearest_distances`. Raises InputError when no sample is left, and for layouts that differ.
    """
    g = torch.Generator().manual_seed(seed)
    some = samples[torch.randperm(len(samples), generator=g)[:limit].sort().values]
    shape, held_shape, train_shape = (_shape(net) for net in (some, held, train))
    usable = (shape >= 0) & torch.isin(shape, held_shape) & torch.isin(shape, train_shape)
    if not bool(usable.any()):
        raise InputError(f"samples must be finite and of a shape in held and train, none of {len(some)} is; pass more")
    shape = shape[usable]
    reference = _alike(shape, held_shape, g)[0]
    copies, partners = (_canonical(train[index]) for index in _alike(shape, train_shape, g))
    noise = torch.randn(copies.weight.shape, generator=g) * weight_scale(copies) * copies.specs.mask
    widths, mask = torch.maximum(copies.specs.widths, partners.specs.widths), copies.specs.mask | partners.specs.mask
    mean = Specs(copies.specs.n_inputs, widths, copies.specs.activations, mask, copies.specs.n_outputs)
    sides = {
        "samples": some[usable],
        "reference": held[reference],
        "average": Networks(mean, (copies.weight + partners.weight) / 2),
        **{f"{level:g}": Networks(copies.specs, copies.weight + level * noise) for level in LADDER},
    }
    every = nearest_distances(concatenate(list(sides.values())), train, head=head)
    distance = dict(zip(sides, every.double().view(len(sides), -1).numpy(), strict=True))
    median = {name: float(np.median(values)) for name, values in distance.items()}
    low = float(np.percentile(distance["reference"], 1))
    ratio = {name: value / max(median["reference"], _TINY) for name, value in median.items()}
    novelty = {name: float((values > low).mean()) for name, values in distance.items()}
    return {
        "novelty": novelty["samples"],
        "memorisation_ratio": ratio["samples"],
        "distance_median": median["samples"],
        "reference_median": median["reference"],
        "reference_p01": low,
        **{f"ladder_{level:g}": ratio[f"{level:g}"] for level in LADDER},
        **{f"ladder_novelty_{level:g}": novelty[f"{level:g}"] for level in LADDER},
        "average_ratio": ratio["average"],
        "average_novelty": novelty["average"],
        "n_samples": float(len(shape)),
        "n_held": float(len(torch.unique(reference))),
        "n_train": float(len(train)),
        "n_unmatched": float(len(some) - len(shape)),
    }


def nearest_distances(
    query: Networks, train: Networks, *, candidates: int = 64, head: bool = True
) -> Float[Tensor, " n"]:
    """Distance d of each query network to the nearest training network of its shape; without unit, from 0 for a copy.

    inf where no training network has that shape or a weight is not finite. candidates: training networks aligned to
    each query; at twice the largest group of one shape the search is exhaustive. head: False leaves the edges into
    outputs out of everything, for networks whose output layer was solved and not written.

    Raises InputError for layouts that differ and training weights that are not finite.
    """
    if query.layout != train.layout:
        raise InputError(f"networks compared must have the layout of train, {train.layout}, got {query.layout}")
    shape, train_shape = _shape(query), _shape(train)
    if bool((train_shape < 0).any()):
        raise InputError(f"train must be finite, got {int((train_shape < 0).sum())} networks that are not; drop them")
    query, train, layout = _canonical(query), _canonical(train), train.layout
    scale, result = weight_scale(train), torch.full((len(query),), torch.inf)
    for code in torch.unique(shape[(shape >= 0) & torch.isin(shape, train_shape)]).tolist():
        members, pool = ((s == code).nonzero().squeeze(1) for s in (shape, train_shape))
        depth = int(train.specs.depth[pool[0]])
        t, odd = _comparable(train[pool], depth, scale, head)
        t_sorted, few = _sorted(t, depth, layout), min(max(1, candidates // 2), len(pool))
        for part in members.split(_CHUNK):
            q = _comparable(query[part], depth, scale, head)[0]
            pairs = (_unaligned(q, t), _unaligned(_sorted(q, depth, layout), t_sorted))
            at = torch.cat([d.topk(few, dim=1, largest=False).indices for d in pairs], 1).flatten()
            q = q.repeat_interleave(2 * few, 0)
            aligned = _align(q, t[at], odd[at], depth, layout)
            size = (q.square() + aligned.square()).sum((1, 2)).clamp(min=_TINY)
            result[part] = ((q - aligned).square().sum((1, 2)) / size).sqrt().view(len(part), -1).min(1).values
    return result


def _align(
    q: Float[Tensor, "m patches slots"],
    t: Float[Tensor, "m patches slots"],
    odd: Bool[Tensor, "m layers width"],
    depth: int,
    layout: Layout,
) -> Float[Tensor, "m patches slots"]:
    """Each t in the order and with the signs that fit its q best. Changes t and odd."""
    units = slice(1 + layout.max_features, None)
    for outgoing in (False, True):
        for index in range(depth):
            here, readers = layout.layer(index), _readers(layout, index, depth)
            gain = q[:, here] @ t[:, here].mT
            if outgoing:
                gain += q[:, readers, units].mT @ t[:, readers, units]
            value = torch.where(odd[:, index].unsqueeze(1), gain.abs(), gain).numpy()
            order = torch.from_numpy(np.stack([linear_sum_assignment(v, maximize=True)[1] for v in value]))
            odd[:, index] = odd[:, index].gather(1, order)
            rows, columns = order.unsqueeze(2), order.unsqueeze(1)
            sign = torch.where((gain.gather(2, rows).squeeze(2) < 0) & odd[:, index], -1.0, 1.0)
            t[:, here] = torch.take_along_dim(t[:, here], rows, 1) * sign.unsqueeze(2)
            t[:, readers, units] = torch.take_along_dim(t[:, readers, units], columns, 2) * sign.unsqueeze(1)
    return t


def _comparable(
    networks: Networks, depth: int, scale: Float[Tensor, "patches slots"], head: bool
) -> tuple[Float[Tensor, "n patches slots"], Bool[Tensor, "n layers width"]]:
    """Centred and scaled weights of canonical networks of one depth, and the units that are odd."""
    specs, layout, units = networks.specs, networks.layout, slice(1 + networks.layout.max_features, None)
    weight, odd = networks.weight.clone(), torch.zeros_like(specs.unit_mask)
    for index in range(depth):
        readers, code = _readers(layout, index, depth), specs.activations[:, index].unsqueeze(1)
        biased = specs.mask[:, readers, 0]
        half = weight[:, readers, units].sum(2) / 2
        weight[:, readers, 0] += torch.where((code == _SIGMOID) & biased, half, 0.0)
        unbiased = (specs.mask[:, readers, units] & ~biased.unsqueeze(2)).any(1)
        odd[:, index] = (code == _TANH) | ((code == _SIGMOID) & ~unbiased)
    weight = (weight / scale).nan_to_num().clamp(-_LARGEST, _LARGEST)
    if not head:
        weight[:, layout.outputs] = 0.0
    return weight, odd


def _sorted(value: Float[Tensor, "n patches slots"], depth: int, layout: Layout) -> Float[Tensor, "n patches slots"]:
    """Absolute values, sorted within what the symmetries exchange; biases and skip of the outputs as they are."""
    features, result = layout.max_features, value.clone()
    for index in range(depth):
        here = layout.layer(index)
        result[:, here] = value[:, here].abs().sort(1).values  # each slot over the units
        if index:
            block = value[:, here, 1 + features :].abs().flatten(1).sort(1).values
            result[:, here, 1 + features :] = block.view(len(value), layout.max_width, -1)
    outputs = layout.outputs
    result[:, outputs, 1 + features :] = value[:, outputs, 1 + features :].abs().sort(2).values
    return result


def _unaligned(q: Float[Tensor, "n patches slots"], t: Float[Tensor, "m patches slots"]) -> Float[Tensor, "n m"]:
    """d^2 of every pair as it stands; rounding makes it fit for ranking only."""
    size = q.square().sum((1, 2)).unsqueeze(1) + t.square().sum((1, 2))
    return 1 - 2 * (q.flatten(1) @ t.flatten(1).T) / size.clamp(min=_TINY)


def _readers(layout: Layout, index: int, depth: int) -> slice:
    """Patches that read hidden layer `index` of a network of that depth."""
    return layout.layer(index + 1) if index + 1 < depth else layout.outputs


def _shape(networks: Networks) -> Int[Tensor, " n"]:
    """A code of (n_inputs, depth); -1 where a weight is not finite."""
    code = networks.specs.n_inputs.long() * (networks.layout.max_hidden_layers + 1) + networks.specs.depth
    return torch.where(networks.weight.isfinite().all(2).all(1), code, -1)


def _alike(shape: Int[Tensor, " n"], pool: Int[Tensor, " m"], generator: torch.Generator) -> Int[Tensor, "two n"]:
    """For each entry a random place in `pool` of the same shape, and another one (the same where there is but one).
    No place comes twice before all of its shape have come."""
    drawn = torch.zeros(2, len(shape), dtype=torch.int64)
    for code in torch.unique(shape).tolist():
        own, theirs = ((s == code).nonzero().squeeze(1) for s in (shape, pool))
        shuffled = theirs[torch.randperm(len(theirs), generator=generator)]
        drawn[:, own] = shuffled[(torch.arange(len(own)) + torch.tensor([[0], [1]])) % len(theirs)]
    return drawn


def _canonical(networks: Networks) -> Networks:
    """`canonicalize` in float32, some at a time: it works in float64."""
    parts = (networks[at] for at in torch.arange(len(networks)).split(512))
    return concatenate([canonicalize(Networks(part.specs, part.weight.float())) for part in parts])
