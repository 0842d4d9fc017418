"""Symmetry: networks that differ in weights and not in function, and the one that stands for them (canonical form).

Maps of a hidden unit that keep the function, all of which `canonicalize` undoes:

    permutation   units of a layer in any order
    tanh          tanh(-a) = -tanh(a): incoming and outgoing weights change sign
    sigmoid       sigma(-a) = 1 - sigma(a): both change sign, the outgoing weight is added to the reader's bias; only
                  where every vertex that reads the unit, all outputs included, has a bias edge
    relu          relu(c a) = c relu(a), c > 0: incoming weights and bias times c, outgoing weights divided by c
    step          step(c a) = step(a), c > 0: incoming weights and bias times c; step(-a) = 1 - step(a) where
                  a is not 0, as a sigmoid, and only where its own bias is not 0

The representative, decided layer by layer from incoming weights alone:

    scale         a ReLU or step unit has incoming weights and bias of Euclidean norm 1 (a unit of zeros stays)
    sign          the incoming weight of largest magnitude (the bias not counted) is positive
    order         by the index of that strongest parent, then by that weight, largest first; padding last

Inputs are ordered by importance and positively correlated with y (`tasks.view`), so that first units read first inputs
with positive weights. Exact ties (such as ReLU or step units with a single edge, scaled to norm 1) have no fixed order;
identity and GELU units are only permuted. A step unit keeps its answer on all rows but those where a is 0, or is so
after rounding. No edge appears or disappears, a zero weight stays an edge. The function is that of all outputs, in
their order: what softmax adds, that one function may be added to every logit, is left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from netformer.networks.specs import ACTIVATIONS
from netformer.networks.stack import Networks

_RELU, _TANH, _SIGMOID, _STEP = (ACTIVATIONS.index(name) for name in ("relu", "tanh", "sigmoid", "step"))


# (rows (n, W, C), activation (n, 1), existing units (n, W), units that may be reflected (n, W)) -> (factor, order)
_Decide = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def canonicalize(networks: Networks) -> Networks:
    """The representative of each network's orbit, in the same dtype.

    The function is kept up to rounding (computed in float64); doing it twice changes no bit.
    """
    # Rounding moves a norm of 1 by less than this: such a row is left alone, else no result would be final.
    tolerance = 4 * torch.finfo(networks.weight.dtype).eps
    if networks.weight.dtype not in (torch.float32, torch.float64):
        return _walk(networks, _representative(networks.weight.dtype, tolerance))
    from netformer.networks import kernels  # numba takes longer to import than the rest of this module

    specs = networks.specs
    weight = networks.weight.detach().clone(memory_format=torch.contiguous_format)
    mask = specs.mask.clone(memory_format=torch.contiguous_format)
    widths, activations = specs.widths.contiguous(), specs.activations.contiguous()
    arrays = (weight.numpy(), mask.numpy(), widths.numpy(), activations.numpy())
    kernels.canonical(*arrays, specs.n_outputs, tolerance)
    return Networks(replace(specs, mask=mask), weight)


def _representative(dtype: torch.dtype, tolerance: float) -> _Decide:
    """What `kernels.canonical` decides, in torch: for half precision, which numba lacks, and as a reference."""

    def decide(rows: Tensor, code: Tensor, exists: Tensor, reflectable: Tensor) -> tuple[Tensor, Tensor]:
        norm = rows.norm(dim=2)
        rescale = (
            ((code == _RELU) | (code == _STEP))
            & (norm > torch.finfo(torch.float32).tiny)
            & ((norm - 1).abs() > tolerance)
        )
        scale = torch.where(rescale, 1 / norm, 1.0)
        incoming = (rows * scale.unsqueeze(2)).to(dtype).double()[:, :, 1:]
        strongest = incoming.abs().argmax(2)
        value = incoming.gather(2, strongest.unsqueeze(2)).squeeze(2)
        negative = (value < 0) & ((code == _TANH) | reflectable)
        value = torch.where(negative, -value, value)
        by_value = torch.argsort(value, dim=1, descending=True, stable=True)
        parent = torch.where(exists, strongest, incoming.shape[2]).gather(1, by_value)
        order = by_value.gather(1, torch.argsort(parent, dim=1, stable=True))
        return torch.where(negative, -scale, scale), order

    return decide


def _walk(networks: Networks, decide: _Decide) -> Networks:
    """Let `decide` choose factor and order of the units of every layer, first layer first, and apply them.

    A layer is rounded to the network's dtype before the next one is looked at: its rows are final then, and what
    `decide` sees is what a second pass sees.
    """
    specs, layout, dtype = networks.specs, networks.layout, networks.weight.dtype
    weight, mask = networks.weight.double(), specs.mask.clone()
    weight = weight.clone() if weight is networks.weight else weight
    columns = slice(1 + layout.max_features, None)
    for index in range(layout.max_hidden_layers):
        here = layout.layer(index)
        exists = specs.unit_mask[:, index]
        code = torch.where(exists[:, :1], specs.activations[:, index : index + 1], 0)
        # Rows that read this layer: the next layer, or the outputs after the last one.
        last = (specs.depth == index + 1).view(-1, 1, 1)
        readers = [(layout.outputs, last)]
        if index + 1 < layout.max_hidden_layers:
            readers.append((layout.layer(index + 1), specs.depth.view(-1, 1, 1) > index + 1))
        unbiased = torch.zeros_like(exists)
        for rows, reads in readers:
            unbiased |= (mask[:, rows, columns] & ~mask[:, rows, :1] & reads).any(1)
        step = (code == _STEP) & (weight[:, here, 0] != 0)
        reflectable = ((code == _SIGMOID) | step) & exists & ~unbiased

        factor, order = decide(weight[:, here], code, exists, reflectable)
        factor = torch.where(exists, factor, 1.0)
        reflected = reflectable & (factor < 0)
        through = torch.where(code == _STEP, factor.sign(), factor)  # what comes out of a step unit has no scale
        weight[:, here] = (weight[:, here] * factor.unsqueeze(2)).gather(1, _wide(order, weight))
        mask[:, here] = mask[:, here].gather(1, _wide(order, mask))
        for rows, reads in readers:
            outgoing = weight[:, rows, columns]
            weight[:, rows, 0] += (outgoing * (reflected.unsqueeze(1) & reads)).sum(2)
            across = order.unsqueeze(1).expand_as(outgoing)
            changed = (outgoing / through.unsqueeze(1)).gather(2, across)
            weight[:, rows, columns] = torch.where(reads, changed, outgoing)
            mask[:, rows, columns] = torch.where(
                reads, mask[:, rows, columns].gather(2, across), mask[:, rows, columns]
            )
        weight[:, here] = weight[:, here].to(dtype).double()
    # A flipped sign must not leave -0.0 where there is no edge.
    weight = torch.where(mask, weight, 0.0).to(dtype)
    return Networks(replace(specs, mask=mask), weight)


def _wide(order: Int[Tensor, "n width"], like: Tensor) -> Int[Tensor, "n width slots"]:
    return order.unsqueeze(2).expand(-1, -1, like.shape[2])
