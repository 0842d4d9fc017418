"""Metrics: how far two stacks of networks agree, and how valid and how different the networks of one stack are."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from netformer.errors import InputError
from netformer.networks.specs import ACTIVATIONS, Specs, dense_mask, patch_numbers, patch_types
from netformer.networks.stack import Networks
from netformer.tasks.scores import r2


def edge_scores(original: Networks, decoded: Networks) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Edge accuracy and edge F1 of each decoded network.

    An edge is (parent, vertex, type of the vertex) in token numbering: bias 0, inputs from 1, hidden units layer by
    layer, outputs last. Accuracy: share of the original's edges that the decoded network has. F1: 2 common / (edges
    of the original + edges of the decoded).
    """
    first, second = _types(original.specs), _types(decoded.specs)
    common = ((first == second) & (first > 0)).sum(1).double()
    n_first, n_second = (first > 0).sum(1), (second > 0).sum(1)
    return common / n_first.clamp(min=1), 2 * common / (n_first + n_second).clamp(min=1)


def penultimate_cosine(
    a: Networks, b: Networks, x: Float[Tensor, "m rows features"], keep: Bool[Tensor, "m rows"]
) -> Float[Tensor, " n"]:
    """Cosine of penultimate activations, unit by unit in the order given, mean over the kept rows.

    Units that do not exist are zeros, so the narrower network is padded. Where both networks are silent the cosine
    is 1, where one is, 0. x, keep: rows for each network, or one set of rows (m = 1) for all.
    """
    h = [(net.hidden(x)[-1] * net.specs.last_units.unsqueeze(1)).double() for net in (a, b)]
    norms = [v.norm(dim=2) for v in h]
    product = norms[0] * norms[1]
    cosine = (h[0] * h[1]).sum(2) / torch.where(product > 0, product, 1.0)
    cosine = torch.where((norms[0] == 0) & (norms[1] == 0), 1.0, cosine)
    return torch.where(keep, cosine, 0.0).sum(1) / keep.sum(1).clamp(min=1)


def weight_cosine(a: Networks, b: Networks) -> Float[Tensor, " n"]:
    """Cosine of all weights but the last layer's, slot by slot; 0 where one network has none."""
    first, second = (net.weight[:, : net.layout.outputs.start].flatten(1).double() for net in (a, b))
    product = first.norm(dim=1) * second.norm(dim=1)
    return (first * second).sum(1) / torch.where(product > 0, product, 1.0)


def layer_mean(networks: Networks) -> Float[Tensor, "patches slots"]:
    """Mean of the existing weights of each layer, repeated over the layer's patches and slots; 0 for an empty layer."""
    layout, mask = networks.layout, networks.specs.mask
    mean = networks.weight.new_zeros(layout.n_patches, layout.n_slots)
    for rows in [layout.layer(i) for i in range(layout.max_hidden_layers)] + [layout.outputs]:
        mean[rows] = (networks.weight[:, rows] * mask[:, rows]).sum() / mask[:, rows].sum().clamp(min=1)
    return mean


def weight_r2(original: Networks, decoded: Networks, zoo_mean: Float[Tensor, "patches slots"]) -> Float[Tensor, " n"]:
    """1 - SSE / SSE of the zoo mean, over the edges both networks have (as in `edge_scores`); nan without a common one.

    zoo_mean: what the zoo's mean predicts for each weight, `layer_mean(zoo)`.
    """
    kinds = [_types(net.specs) for net in (original, decoded)]
    common = (kinds[0] == kinds[1]) & (kinds[0] > 0)
    w = _place(original.specs, original.weight)
    guess = _place(decoded.specs, decoded.weight)
    null = _place(original.specs, zoo_mean.expand(len(original), -1, -1))
    error = torch.where(common, w - guess, 0.0).square().sum(1)
    total = torch.where(common, w - null, 0.0).square().sum(1)
    return torch.where(common.any(1), 1 - error / total.clamp(min=1e-12), torch.nan)


def functional_r2(
    original: Networks, decoded: Networks, x: Float[Tensor, "m rows features"], keep: Bool[Tensor, "m rows"]
) -> Float[Tensor, " n"]:
    """R2 of the decoded networks' predictions against the originals' on the kept rows, floored at -1."""
    return r2(original.predict(x), decoded.predict(x), keep)


def uniqueness(networks: Networks) -> float:
    """Share of networks that are distinct in (spec, weights to 3 significant digits)."""
    w = np.nan_to_num(networks.weight.double().numpy())
    size = np.abs(w)
    exponent = np.where(size > 0, np.floor(np.log10(np.where(size > 0, size, 1.0))), 0.0)
    digits = np.rint(w / 10.0 ** (exponent - 2))
    carried = np.abs(digits) == 1000
    digits = np.where(carried, digits / 10, digits) + 0.0
    code = np.stack([digits, exponent + carried], -1)
    return len({networks.specs.key(i) + code[i].tobytes() for i in range(len(networks))}) / len(networks)


def distinct_specs(specs: Specs) -> int:
    """Number of different specs."""
    return len({specs.key(i) for i in range(len(specs))})


def functional_diversity(
    networks: Networks, x: Float[Tensor, "one rows features"], keep: Bool[Tensor, "one rows"]
) -> float:
    """Median over ordered pairs of networks of 1 - R2 of one's predictions against the other's, R2 floored at -1.

    x, keep: the rows of the one task all networks answer. Raises InputError for fewer than 2 networks.
    """
    n = len(networks)
    if n < 2:
        raise InputError(f"functional_diversity compares pairs, it needs at least 2 networks, got {n}")
    predicted = networks.predict(x)
    scores = [
        r2(predicted[i : i + 1].expand(n - 1, -1), predicted[torch.arange(n) != i], keep.expand(n - 1, -1))
        for i in range(n)
    ]
    return float(np.median(1 - torch.cat(scores).numpy()))


def validity(
    networks: Networks, x: Float[Tensor, "m rows features"], keep: Bool[Tensor, "m rows"]
) -> Bool[Tensor, " n"]:
    """Networks that are complete, acyclic, within the layout's limits and finite.

    Complete: a non-bias edge into every existing hidden unit and every output. Acyclic and within limits: at least one
    hidden layer, absent layers last, and only edges that the dense network of that shape has; weights are zero where
    there is no edge. Finite: weights, and outputs on the kept rows.
    """
    specs, layout = networks.specs, networks.layout
    n, present = len(specs), specs.widths > 0
    shape = present[:, 0] & (present[:, 1:] <= present[:, :-1]).all(1)
    shape &= ((specs.widths >= 0) & (specs.widths <= layout.max_width)).all(1)
    shape &= ((specs.activations >= 0) & (specs.activations < len(ACTIVATIONS))).all(1)
    shape &= (specs.n_inputs >= 1) & (specs.n_inputs <= layout.max_features)
    every = torch.ones(n, dtype=torch.bool)
    first = torch.arange(specs.widths.shape[1]) == 0
    dense = dense_mask(
        layout, specs.n_inputs, torch.where(first, specs.widths.clamp(min=1), specs.widths), every, every
    )
    edges = ~(specs.mask & ~dense).any(2).any(1)
    complete = (specs.mask[:, :, 1:].any(2) | ~specs.patch_mask).all(1)
    weights = torch.isfinite(networks.weight).all(2).all(1) & ~((networks.weight != 0) & ~specs.mask).any(2).any(1)
    valid = shape & edges & complete & weights
    if bool(valid.any()):
        rows = x if len(x) == 1 else x[valid]
        kept = keep if len(keep) == 1 else keep[valid]
        valid[valid.clone()] = (torch.isfinite(networks[valid].answers(rows)).all(2) | ~kept).all(1)
    return valid


def _cells(specs: Specs) -> Int[Tensor, "n edges"]:
    """Place of each (patch, slot) in the flattened parent x vertex matrix in token numbering; 0 where no edge is.

    (0, 0), bias to bias, is no edge of any network.
    """
    layout, n = specs.layout, len(specs)
    features, width, layers = layout.max_features, layout.max_width, layout.max_hidden_layers
    vertices, number = 1 + features + layout.n_patches, patch_numbers(specs)
    units = number[:, : layout.outputs.start].view(n, layers, width)
    parent = torch.zeros(specs.mask.shape, dtype=torch.long)
    parent[:, :, 1 : 1 + features] = torch.arange(1, 1 + features)
    for index in range(1, layers):
        parent[:, layout.layer(index), 1 + features :] = units[:, index - 1].unsqueeze(1)
    last = units[torch.arange(n), (specs.depth - 1).clamp(min=0)]
    parent[:, layout.outputs, 1 + features :] = last.unsqueeze(1)
    return torch.where(specs.mask, parent * vertices + number.unsqueeze(2), 0).flatten(1)


def _place(specs: Specs, value: Float[Tensor, "n patches slots"]) -> Float[Tensor, "n cells"]:
    """Values of the edges, (patch, slot), in the flattened parent x vertex matrix; 0 elsewhere."""
    vertices = 1 + specs.layout.max_features + specs.layout.n_patches
    empty = torch.zeros(len(specs), vertices * vertices, dtype=torch.float64)
    return empty.scatter_add_(1, _cells(specs), torch.where(specs.mask, value, 0.0).flatten(1).double())


def _types(specs: Specs) -> Float[Tensor, "n cells"]:
    """Type code of the vertex each edge leads to, in the flattened parent x vertex matrix; 0 where no edge is."""
    return _place(specs, patch_types(specs).unsqueeze(2).expand_as(specs.mask).double())
