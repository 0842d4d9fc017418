"""Merging: several networks of one task as one wider, sparser network.

The mean of k networks is again a network: their hidden units side by side under one output layer. `widen` weights the
networks in this mean by their leave-one-out error on the train rows. It also solves one output layer over the hidden
units of all networks together, by ridge regression under several penalties, weighted in the same way. The result is a
blend of the two: the more train rows per hidden unit, the more of the second. No gradient step is taken, and nothing
but train rows is read.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from netformer.errors import InputError
from netformer.networks.specs import Specs
from netformer.networks.stack import Networks
from netformer.ridge import PENALTIES, leave_one_out, ridge_path, trust
from netformer.tasks.view import TaskStack

PRIOR_SCALE = 4.0  # deviation a priori of what all hidden units say together, against that of one input
UNIT_ROWS = 0.7  # train rows for each hidden unit at which both output layers count the same


def widen(networks: Networks, tasks: TaskStack, count: int, share: float | None = None) -> Networks:
    """Networks whose mean, over each run of `count` networks of one task, is the wide network of that task.

    share: of the jointly solved output layer in it; the rest is the weighted mean of the output layers as they are.
    None: m / (m + UNIT_ROWS * u) for m train rows and u hidden units. Task i owns the networks from i * count on. Every
    output layer becomes dense: bias, inputs, units.
    """
    if len(networks) != count * len(tasks):
        raise InputError(f"networks must be {count} for each of {len(tasks)} tasks, got {len(networks)}")
    specs, layout, features = networks.specs, networks.layout, networks.layout.max_features
    weight, mask = networks.weight.clone(), specs.mask.clone()
    last = specs.widths.gather(1, specs.depth.unsqueeze(1) - 1)
    units = torch.arange(layout.max_width) < last
    inputs = torch.arange(features) < specs.n_inputs.unsqueeze(1)
    mask[:, -1] = torch.cat([torch.ones_like(units[:, :1]), inputs, units], 1)
    for i in range(len(tasks)):
        at = slice(i * count, (i + 1) * count)
        present = tasks.rows[i] >= 0
        x, y, train = tasks.x[i, present], tasks.y[i, present], tasks.train[i, present]
        hidden = networks[at].hidden(x.unsqueeze(0))[-1]
        solved = _joint_head(x, hidden.permute(1, 0, 2)[:, units[at]], y, train)
        m, u = int(train.sum()), int(units[at].sum())
        joint = m / (m + UNIT_ROWS * u) if share is None else share
        bias, skip, head = (joint * part.to(weight.dtype) for part in solved)
        if joint < 1:
            trust = _trust(x, hidden, y, train).to(weight.dtype)
            weight[at, -1] *= (1 - joint) * count * trust.unsqueeze(1)
        else:
            weight[at, -1] = 0.0
        weight[at, -1, 0] += bias
        weight[at, -1, 1 : 1 + features] += skip * inputs[at]
        spread = torch.zeros(count, layout.max_width)
        spread[units[at]] = count * head
        weight[at, -1, 1 + features :] += spread
    return Networks(Specs(specs.n_inputs, specs.widths, specs.activations, mask), weight)


def _trust(
    x: Float[Tensor, "rows features"],
    hidden: Float[Tensor, "n rows units"],
    y: Float[Tensor, " rows"],
    train: Bool[Tensor, " rows"],
) -> Float[Tensor, " n"]:
    """`head.trust` of ridge on [x, hidden] at its best penalty, for each network."""
    n = len(hidden)
    design = torch.cat([x.expand(n, -1, -1), hidden], 2)[:, train].double()
    target, every = y[train].double().expand(n, -1), torch.ones(n, int(train.sum()), dtype=torch.bool)
    error = leave_one_out(*ridge_path(design, target, every), target, every).min(1).values
    return trust(error / target[0].square().sum().clamp(min=1e-12))


def _joint_head(
    x: Float[Tensor, "rows features"],
    hidden: Float[Tensor, "rows units"],
    y: Float[Tensor, " rows"],
    train: Bool[Tensor, " rows"],
) -> tuple[Float[Tensor, ""], Float[Tensor, " features"], Float[Tensor, " units"]]:
    """Bias, skip and output weights of the ridge fit on [x, hidden], hidden units standardised on the train rows."""
    x, hidden, y = x.double(), hidden.double(), y.double()
    scale = PRIOR_SCALE / hidden.shape[1] ** 0.5 / hidden[train].std(0, correction=0).clamp(min=1e-4)
    design = torch.cat([x, hidden * scale], 1)
    centre, y_mean = design[train].mean(0), y[train].mean()
    z = design[train] - centre
    size, basis = torch.linalg.eigh(z.T @ z)
    rotated = z @ basis
    inverse = 1 / (size.clamp(min=0).unsqueeze(1) + PENALTIES)
    moment = (rotated.T @ (y[train] - y_mean)).unsqueeze(1) * inverse
    predicted, leverage = y_mean + rotated @ moment, 1 / len(z) + rotated.square() @ inverse
    every = torch.ones(1, len(z), dtype=torch.bool)
    error = leave_one_out(predicted[None], leverage[None], y[train][None], every)[0]
    w = basis @ (moment @ trust(error / (y[train] - y_mean).square().sum().clamp(min=1e-12)))
    skip, head = w[: x.shape[1]], w[x.shape[1] :] * scale
    return y_mean - centre @ w, skip, head
