"""Heads: the output layers of `model.head.weigh_heads` for many networks of one task, in a third of the time.

There every penalty costs a factorisation and a product with all rows. Here one eigendecomposition serves all of them:
with G the Gram matrix of the design A over m rows, D the penalties and E the floor below them,

    G + E + f D = D^(1/2) Q (L + f) Q' D^(1/2)    where D^(-1/2) (G + E) D^(-1/2) = Q L Q'
    hat matrix  = U diag(1 / (L + f)) U' / m      where U = A D^(-1/2) Q

for each factor f (ridge by its eigenvectors, Hastie and Tibshirani 2004). Networks are taken together by how many units
their last layer has, in steps of `STEP`, and slots beyond that are left out of the work. Numbers are those of
`weigh_heads` up to rounding: errors to 1e-5, on tables of few rows and of columns that say the same too.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from netformer.model.head import FACTORS, FLOOR, SHARES
from netformer.networks.stack import Networks
from netformer.ridge import trust
from netformer.search.problem import SearchTask

STEP = 8  # units
LEAST_MEAN_SQUARE = 1e-4  # added to that of a slot, as in `model.head`


def solved(networks: Networks, task: SearchTask) -> tuple[Networks, Float[Tensor, " n"]]:
    """Networks with the output layer that a delivered one has (`head.weigh_heads`), and their leave-one-out error: the
    mean square over the variance of y."""
    train = task.rows.train_only()
    used, layout = int(task.rows.n_features[0]), networks.layout
    x, y, m = train.x[:, :, :used], train.y[0], train.x.shape[1]
    penalties = task.penalties[0]
    with torch.no_grad():
        h = networks.last_hidden(train.x)
        units = -(-networks.specs.last_units.sum(1) // STEP) * STEP
        error, output = h.new_empty(len(networks)), torch.zeros_like(networks.weight[:, -1])
        for count in units.unique().tolist():
            at = (units == count).nonzero()[:, 0]
            slots = torch.cat([torch.arange(1 + used), 1 + layout.max_features + torch.arange(count)])
            slots = slots[slots < layout.n_slots]
            edges = networks.specs.mask[at, -1][:, slots].to(h.dtype)
            own = h[at, :, : len(slots) - 1 - used]
            design = torch.cat([h.new_ones(len(at), m, 1), x.expand(len(at), -1, -1), own], 2) * edges.unsqueeze(1)
            found, error[at] = _weighed(design, edges, networks.weight[at, -1][:, slots], y, penalties[slots])
            output[at.unsqueeze(1), slots] = found
        weight = torch.cat([networks.weight[:, :-1], output.unsqueeze(1)], 1)
    return Networks(networks.specs, weight), error


def _weighed(
    design: Float[Tensor, "n rows slots"],
    edges: Float[Tensor, "n slots"],
    start: Float[Tensor, "n slots"],
    y: Float[Tensor, " rows"],
    penalties: Float[Tensor, " slots"],
) -> tuple[Float[Tensor, "n slots"], Float[Tensor, " n"]]:
    """Output layers and errors. start: the written ones."""
    m, dtype = design.shape[1], design.dtype
    gram = (design.transpose(1, 2) @ design / m).double()  # small and ill-conditioned from here on
    size = gram.diagonal(dim1=1, dim2=2) + LEAST_MEAN_SQUARE
    root = (penalties.double() * size).sqrt()
    scaled = (gram + torch.diag_embed(FLOOR * size)) / (root.unsqueeze(2) * root.unsqueeze(1))
    values, vectors = torch.linalg.eigh(scaled)
    basis = (vectors / root.unsqueeze(2)).to(dtype) * edges.unsqueeze(2)
    factors, shares = torch.tensor(FACTORS, dtype=torch.float64), torch.tensor(SHARES, dtype=dtype)
    inverse = (1 / (values.clamp(min=0).unsqueeze(2) + factors)).to(dtype)  # n, slots, factors
    rotated = design @ basis
    target = y.view(1, -1, 1) - (design @ start.unsqueeze(2)) * shares  # n, rows, shares
    moment = rotated.transpose(1, 2) @ target / m
    remaining = (1 - rotated.square() @ inverse / m).clamp(min=1e-3)  # n, rows, factors
    along = moment.unsqueeze(3) * inverse.unsqueeze(2)  # n, slots, shares, factors
    off = (rotated @ along.flatten(2)).unflatten(2, along.shape[2:])
    off.sub_(target.unsqueeze(3)).div_(remaining.unsqueeze(2))
    error = off.square_().sum(1) / y.square().sum().clamp(min=1e-12)
    weight = trust(error.flatten(1)).view(error.shape)
    step = (basis @ (along * weight.unsqueeze(1)).sum((2, 3)).unsqueeze(2)).squeeze(2)
    written = (weight.sum(2) @ shares).unsqueeze(1) * start
    return (written + step) * edges, (error * weight).sum((1, 2))
