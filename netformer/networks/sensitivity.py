"""Sensitivity: how much the outputs of a network depend on each of its vertices."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from netformer.errors import InputError
from netformer.networks.specs import ACTIVATIONS, activate, sigmoid
from netformer.networks.stack import Networks

_STEP = ACTIVATIONS.index("step")
_MAX_CHUNK_ELEMENTS = 2**22  # networks x rows x units at a time: 16 MB a float32 tensor, of which a few are alive


@torch.no_grad()
def sensitivity(
    networks: Networks,
    x: Float[Tensor, "m rows features"],
    keep: Bool[Tensor, "m rows"] | None = None,
) -> Float[Tensor, "n patches"]:
    """SeReNe neuron sensitivity: mean over rows and outputs of |d output / d pre-activation| of every vertex v,

        S(v) = 1 / (rows K) * sum over rows and outputs k of |d y_k / d a_v|

    x: rows for each network, or one set of rows (m = 1) for all. keep: the rows that count, all when None. An output
    vertex has 1 / K (its own y_k moves one to one, the others not), padding 0 (and every hidden vertex 0 for a network
    none of whose rows are kept).

    Source: Tartaglione et al., "SeReNe: Sensitivity-based regularization of neurons", arXiv 2102.03773.

    Raises InputError unless m is 1 or the number of networks, and for networks with step units, whose slope says
    nothing: it is 0 wherever there is one.
    """
    n, layout = len(networks), networks.layout
    if bool((networks.specs.activations == _STEP).any()):
        raise InputError("sensitivity needs activations with a slope, found networks with step units; leave them out")
    if len(x) not in (1, n):
        raise InputError(f"x must have rows for 1 or {n} networks, got {len(x)}")
    units = x.shape[1] * layout.max_width * layout.max_hidden_layers
    size = max(1, _MAX_CHUNK_ELEMENTS // max(1, units))
    out = networks.weight.new_zeros(n, layout.n_patches)
    for start in range(0, n, size):
        chunk = slice(start, start + size)
        own = slice(None) if len(x) == 1 else chunk
        rows = torch.ones(x.shape[:2], dtype=torch.bool) if keep is None else keep
        out[chunk] = _chunk(networks[chunk], x[own], rows[own])
    return out


def _chunk(
    networks: Networks, x: Float[Tensor, "m rows features"], keep: Bool[Tensor, "m rows"]
) -> Float[Tensor, "n patches"]:
    layout, specs, weight = networks.layout, networks.specs, networks.weight
    features, n_layers = layout.max_features, layout.max_hidden_layers
    h, slopes = x.expand(len(networks), -1, -1), []
    for index in range(n_layers):
        patches = weight[:, layout.layer(index)]
        w = patches[:, :, 1 : 1 + features] if index == 0 else patches[:, :, 1 + features :]
        a = torch.baddbmm(patches[:, None, :, 0], h, w.transpose(1, 2))
        slopes.append(_slope(a, specs.activations[:, index]))
        h = activate(a, specs.activations[:, index])
    share = keep.to(weight.dtype)
    share = share / share.sum(1, keepdim=True).clamp(min=1)
    out = weight.new_zeros(len(networks), layout.n_patches)
    out[:, layout.outputs] = 1
    for patch in range(layout.outputs.start, layout.outputs.stop):
        last = weight[:, patch : patch + 1, 1 + features :]
        gradient = torch.zeros_like(h)
        for index in reversed(range(n_layers)):
            is_last = (specs.depth == index + 1).view(-1, 1, 1)
            delta = torch.where(is_last, last, gradient) * slopes[index]
            out[:, layout.layer(index)] += (delta.abs() * share.unsqueeze(2)).sum(1)
            gradient = delta @ weight[:, layout.layer(index), 1 + features :]
    return torch.where(specs.patch_mask, out / layout.n_outputs, 0.0)


def _slope(a: Float[Tensor, "n rows width"], codes: Int[Tensor, " n"]) -> Float[Tensor, "n rows width"]:
    """Derivative of each network's own activation; 0 at the kink of ReLU, as torch has it."""
    slope = torch.ones_like(a)
    for code, name in enumerate(ACTIVATIONS):
        chosen = codes == code
        if name == "identity" or not bool(chosen.any()):
            continue
        z = a[chosen]
        if name == "relu":
            d = (z > 0).to(z.dtype)
        elif name == "tanh":
            d = 1 - torch.tanh(z).square()
        elif name == "sigmoid":
            d = sigmoid(z) * sigmoid(-z)
        else:  # gelu: d/dz z Phi(z) = Phi(z) + z phi(z)
            phi = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
            d = (1 + torch.erf(z / math.sqrt(2))) / 2 + z * phi
        slope[chosen] = d
    return slope
