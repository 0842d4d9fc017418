"""Merging: several networks of one task as one wider, sparser network.

The mean of k networks is again a network: their hidden units side by side under one output layer. `widen` weights the
networks in this mean by their leave-one-out error on the train rows. It also solves one output layer over the hidden
units of all networks together, by ridge regression under several penalties, weighted in the same way. The result is a
blend of the two: the more train rows per hidden unit, the more of the second. No gradient step is taken, and nothing
but train rows is read.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from netformer.errors import InputError
from netformer.networks.specs import Specs
from netformer.networks.stack import Networks
from netformer.ridge import PENALTIES, leave_one_out, prior_scale, ridge_path, trust
from netformer.tasks.view import TaskStack

BLOCK = 8192  # rows whose hidden units are in memory at once
TRUST_ROWS = 2048  # that say which networks to trust, at most
MOST_UNITS = 2048  # under one solved output layer, of a table with more rows; more are solved in parts
STRIP = 128  # columns of a Gram matrix that are computed together
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
        x, y = tasks.x[i, tasks.train[i]], tasks.y[i, tasks.train[i]]
        m, u = len(y), int(units[at].sum())
        joint = m / (m + UNIT_ROWS * u) if share is None else share
        if joint < 1:
            weight[at, -1] *= (1 - joint) * count * _trust(networks[at], x, y).to(weight.dtype).unsqueeze(1)
        else:
            weight[at, -1] = 0.0
        parts = _parts(units[at].sum(1), m)
        for part in parts:
            own = torch.arange(len(networks))[at][part]
            bias, skip, head = (
                joint / len(parts) * value.to(weight.dtype) for value in _joint_head(networks[own], units[own], x, y)
            )
            weight[at, -1, 0] += bias
            weight[at, -1, 1 : 1 + features] += skip * inputs[at]
            spread = torch.zeros(len(own), layout.max_width)
            spread[units[own]] = count * head
            weight[own, -1, 1 + features :] += spread
    return Networks(Specs(specs.n_inputs, specs.widths, specs.activations, mask), weight)


def _parts(units: Int[Tensor, " n"], rows: int) -> list[Int[Tensor, " k"]]:
    """The networks solved together: all of them, unless both units and rows are too many."""
    every = torch.arange(len(units))
    if min(int(units.sum()), rows) <= MOST_UNITS:
        return [every]
    return list(every.chunk(-(-int(units.sum()) // MOST_UNITS)))


def own_fits(
    hidden: Float[Tensor, "n rows width"], x: Float[Tensor, "rows features"], y: Float[Tensor, " rows"]
) -> tuple[Float[Tensor, "n penalties"], Float[Tensor, "n rows"]]:
    """Ridge on [x, hidden] for each network on its own: its leave-one-out errors under `PENALTIES`, over the sum of
    squares of y, and the leverage of each row in the mean of these fits weighed by `trust`."""
    target = y.double()[None]
    every, squares = torch.ones(1, len(y), dtype=torch.bool), target.square().sum().clamp(min=1e-12)
    errors, leverages = [], []
    for own in hidden:  # one after the other: its rows stay in the cache
        predicted, leverage = ridge_path(torch.cat([x, own], 1).double()[None], target, every)
        errors.append(leave_one_out(predicted, leverage, target, every)[0] / squares)
        leverages.append(leverage[0] @ trust(errors[-1]))
    return torch.stack(errors), torch.stack(leverages)


def _trust(networks: Networks, x: Float[Tensor, "rows features"], y: Float[Tensor, " rows"]) -> Float[Tensor, " n"]:
    """`ridge.trust` of each network by its own fit at the best penalty, on at most `TRUST_ROWS` rows."""
    step = -(-len(y) // TRUST_ROWS)
    x, y = x[::step], y[::step]
    return trust(own_fits(networks.last_hidden(x.unsqueeze(0)), x, y)[0].min(1).values)


def _joint_head(
    networks: Networks, units: Bool[Tensor, "n width"], x: Float[Tensor, "rows features"], y: Float[Tensor, " rows"]
) -> tuple[Float[Tensor, ""], Float[Tensor, " features"], Float[Tensor, " units"]]:
    """Bias, skip and output weights of the ridge fit on [x, hidden], hidden units standardised.

    The fits under `PENALTIES` are weighed by their leave-one-out errors; of more than `BLOCK` rows by generalised
    cross-validation (Golub, Heath and Wahba 1979, eq. 1.4), for which the rows are read once, a block at a time.
    """
    m, f = len(y), x.shape[1]
    blocks = _designs(networks, units, x, y)
    if m <= BLOCK:
        design, target = next(blocks)
        centre, y_mean = design.mean(0), target.mean()
        z, t = design - centre, target - y_mean
        scale = prior_scale(z.square().mean(0), f)
        z = z * scale
        if m < z.shape[1]:  # the same from the smaller side: Z'Z and ZZ' share what is not 0
            size, left = torch.linalg.eigh(z @ z.T)
            size = size.clamp(min=0)
            rotated = left * size.sqrt()
            basis = z.T @ (left * torch.where(size > 1e-12 * size[-1], size, torch.inf).rsqrt())
        else:
            size, basis = torch.linalg.eigh(_gram(z))
            size = size.clamp(min=0)
            rotated = z @ basis
        inverse = 1 / (size.unsqueeze(1) + PENALTIES)
        moment, squares = (rotated.T @ t).unsqueeze(1) * inverse, t.square().sum()
        predicted, leverage = rotated @ moment, 1 / m + rotated.square() @ inverse
        error = leave_one_out(predicted[None], leverage[None], t[None], torch.ones(1, m, dtype=torch.bool))[0]
    else:
        centre, y_mean, gram, across, squares = _moments(blocks)
        scale = prior_scale(gram.diagonal() / m, f)
        size, basis = torch.linalg.eigh(gram * scale * scale.unsqueeze(1))
        size = size.clamp(min=0)
        inverse = 1 / (size.unsqueeze(1) + PENALTIES)
        along = (basis.T @ (across * scale)).unsqueeze(1)
        moment = along * inverse
        residual = squares - (2 * along * moment - size.unsqueeze(1) * moment.square()).sum(0)
        error = residual / (1 - (1 + (size.unsqueeze(1) * inverse).sum(0)) / m).square()
    w = scale * (basis @ (moment @ trust(error / squares.clamp(min=1e-12))))
    return y_mean - centre @ w, w[:f], w[f:]


def _designs(
    networks: Networks, units: Bool[Tensor, "n width"], x: Float[Tensor, "rows features"], y: Float[Tensor, " rows"]
) -> Iterator[tuple[Float[Tensor, "block slots"], Float[Tensor, " block"]]]:
    """[x, hidden] and y, a block of rows at a time, float64."""
    for part, target in zip(x.split(BLOCK), y.split(BLOCK), strict=True):
        hidden = networks.last_hidden(part.unsqueeze(0)).permute(1, 0, 2)[:, units]
        yield torch.cat([part, hidden], 1).double(), target.double()


def _moments(
    blocks: Iterator[tuple[Float[Tensor, "block slots"], Float[Tensor, " block"]]],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Means of the columns and of y; sums over rows of products about them: columns by columns, by y, y squared."""
    total = 0
    sums: list[Tensor] = []
    for design, target in blocks:
        total += len(target)
        own = [design.sum(0), target.sum(), _gram(design), design.T @ target, target.square().sum()]
        sums = [a + b for a, b in zip(sums, own, strict=True)] if sums else own
    first, y_first, second, across, squares = sums
    centre, y_mean = first / total, y_first / total
    gram = second - total * centre * centre.unsqueeze(1)
    return centre, y_mean, gram, across - total * centre * y_mean, squares - total * y_mean.square()


def _gram(design: Float[Tensor, "rows slots"]) -> Float[Tensor, "slots slots"]:
    """design' design: what lies above the diagonal is computed, the rest mirrored."""
    gram = design.new_empty(design.shape[1], design.shape[1])
    for start in range(0, len(gram), STRIP):
        stop = min(start + STRIP, len(gram))
        gram[start:stop, start:] = design[:, start:stop].T @ design[:, start:]
        gram[stop:, start:stop] = gram[start:stop, stop:].T
    return gram
