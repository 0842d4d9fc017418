"""Merging: several networks of one task as one wider, sparser network.

The mean of k networks is again a network: their hidden units side by side under one output layer. `widen` weights the
networks in this mean by their leave-one-out error on the train rows. It also solves one output layer over the hidden
units of all networks together, by ridge regression under several penalties, weighted in the same way. The result is a
blend of the two: the more train rows per hidden unit, the more of the second. No gradient step is taken, and nothing
but train rows is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from jaxtyping import Bool, Float, Int

from netformer.arrays.namespace import Tensor, alike, namespace
from netformer.errors import InputError
from netformer.networks.specs import Specs
from netformer.networks.stack import Networks, concatenate, with_outputs
from netformer.ridge import PENALTIES, along_eigenvectors, gram, leave_one_out, prior_scale, ridge_path, trust
from netformer.tasks.view import TaskStack

BLOCK = 8192  # rows whose hidden units are in memory at once
TRUST_ROWS = 2048  # that say which networks to trust, at most
MOST_UNITS = 2048  # under one solved output layer, of a table with more rows; more are solved in parts
UNIT_ROWS = 0.7  # train rows for each hidden unit at which both output layers count the same


def widen(networks: Networks, tasks: TaskStack, count: int, share: float | None = None) -> Networks:
    """Networks whose mean, over each run of `count` networks of one task, is the wide network of that task.

    share: of the jointly solved output layer in it; the rest is the weighted mean of the output layers as they are.
    None: m / (m + UNIT_ROWS * u) for m train rows and u hidden units. Task i owns the networks from i * count on. Every
    output layer becomes dense: bias, inputs, units.
    """
    if len(networks) != count * len(tasks):
        raise InputError(f"networks must be {count} for each of {len(tasks)} tasks, got {len(networks)}")
    parts = []
    for i in range(len(tasks)):
        train, at = tasks.train[i], slice(i * count, (i + 1) * count)
        parts.append(merged(networks[at], tasks.x[i, train], tasks.y[i, train].unsqueeze(0), share))
    return concatenate(parts)


def merged(
    networks: Networks,
    x: Float[Tensor, "rows features"],
    y: Float[Tensor, "outputs rows"],
    share: float | None = None,
    own: Int[Tensor, " n"] | None = None,
) -> Networks:
    """`widen` for the networks of one task, all of whose rows are train rows. y: a target for each output; all targets
    share the hidden units, and one factorisation of what the rows say of them. own: the target that each network was
    written for, -1 for none: a fit on their units alone counts beside that on all units, by leave-one-out, since units
    written for a target that is unlike are in the way."""
    specs, layout, features, count = networks.specs, networks.layout, networks.layout.max_features, len(networks)
    weight, mask, xp = networks.weight.clone(), specs.mask.clone(), namespace(x)
    units = specs.last_units
    inputs = xp.arange(features) < specs.n_inputs.unsqueeze(1)
    mask[:, layout.outputs] = xp.cat([xp.ones_like(units[:, :1]), inputs, units], 1).unsqueeze(1)
    m, u = y.shape[1], int(units.sum())
    joint = m / (m + UNIT_ROWS * u) if share is None else share
    parts = _parts(units.sum(1), m)
    solved = [_joint_head(networks[part], units[part], x, y) for part in parts]
    step = -(-m // TRUST_ROWS)
    hidden = networks.last_hidden(x[::step].unsqueeze(0)) if joint < 1 else None
    for k, target in enumerate(y):
        last = weight[:, layout.outputs][:, k]
        taken, fits = joint, [(part, heads[k], joint / len(parts)) for part, heads in zip(parts, solved, strict=True)]
        mine = xp.zeros(0) if own is None else xp.nonzero(own == k).squeeze(1)
        if 0 < len(mine) < count and len(parts) == 1:
            (alone,) = _joint_head(networks[mine], units[mine], x, y[k : k + 1])
            every, few = trust(xp.stack([solved[0][k].error, alone.error])).tolist()
            few *= m / (m + UNIT_ROWS * int(units[mine].sum())) if share is None else share
            taken, fits = every * joint + few, [(parts[0], solved[0][k], every * joint), (mine, alone, few)]
        if hidden is not None:
            fitted = own_fits(hidden, x[::step], target[::step])[0]
            last *= (1 - taken) * count * trust(fitted.min(1).values).to(weight.dtype).unsqueeze(1)
        else:
            last.zero_()
        for part, found, times in fits:
            bias, skip, head = (times * value.to(weight.dtype) for value in found[:3])
            last[:, 0] += bias
            last[:, 1 : 1 + features] += skip * inputs
            spread = xp.zeros(len(part), layout.max_width)
            spread[units[part]] = count * head
            last[part, 1 + features :] += spread
    return Networks(Specs(specs.n_inputs, specs.widths, specs.activations, mask, specs.n_outputs), weight)


def _parts(units: Int[Tensor, " n"], rows: int) -> list[Int[Tensor, " k"]]:
    """The networks solved together: all of them, unless both units and rows are too many."""
    every = namespace(units).arange(len(units))
    if min(int(units.sum()), rows) <= MOST_UNITS:
        return [every]
    return list(every.chunk(-(-int(units.sum()) // MOST_UNITS)))


def own_fits(
    hidden: Float[Tensor, "n rows width"], x: Float[Tensor, "rows features"], y: Float[Tensor, " rows"]
) -> tuple[Float[Tensor, "n penalties"], Float[Tensor, "n rows"]]:
    """Ridge on [x, hidden] for each network on its own: its leave-one-out errors under `PENALTIES`, over the sum of
    squares of y, and the leverage of each row in the mean of these fits weighed by `trust`."""
    target, xp = y.double()[None], namespace(y)
    every, squares = xp.ones(1, len(y), dtype=xp.bool), target.square().sum().clamp(min=1e-12)
    errors, leverages = [], []
    for own in hidden:  # one after the other: its rows stay in the cache
        predicted, leverage = ridge_path(xp.cat([x, own], 1).double()[None], target, every)
        errors.append(leave_one_out(predicted, leverage, target, every)[0] / squares)
        leverages.append(leverage[0] @ trust(errors[-1]))
    return xp.stack(errors), xp.stack(leverages)


def for_all(
    networks: Networks,
    own: Int[Tensor, " n"],
    x: Float[Tensor, "rows features"],
    y: Float[Tensor, "outputs rows"],
) -> tuple[Networks, Float[Tensor, "n outputs"]]:
    """The same hidden layers with an output per target, from networks with one output each.

    own: the target that each was written for, which keeps its output layer, -1 for none. Any other target is answered
    by ridge on [x, hidden], the fits under `PENALTIES` weighed by `trust`. Also the least leave-one-out error of these
    fits, over the sum of squares of the target. At most `TRUST_ROWS` rows are read.
    """
    step, units, xp = -(-y.shape[1] // TRUST_ROWS), networks.specs.last_units, namespace(x)
    penalties = alike(PENALTIES, x)
    x, target = x[::step], y[:, ::step].double().T
    means, count = target.mean(0), len(target)
    t = target - means
    squares = t.square().sum(0).clamp(min=1e-12).unsqueeze(1)
    outputs, errors = [], []
    for hidden in networks.last_hidden(x.unsqueeze(0)) * units.unsqueeze(1):
        made = xp.cat([x, hidden], 1).double()
        centre = made.mean(0)
        size, basis = xp.linalg.eigh((made - centre).T @ (made - centre))
        rotated, inverse = (made - centre) @ basis, 1 / (size.clamp(min=0).unsqueeze(1) + penalties)
        moment = (rotated.T @ t).unsqueeze(2) * inverse.unsqueeze(1)
        leverage = (1 / count + rotated.square() @ inverse).unsqueeze(1)
        left = (t.unsqueeze(2) - (rotated @ moment.flatten(1)).view(count, *moment.shape[1:])) / (1 - leverage)
        error = left.square().sum(0) / squares
        w = basis @ (moment * trust(error)).sum(2)
        outputs.append(xp.cat([means - centre @ w.unsqueeze(0), w]))
        errors.append(error.min(1).values)
    found = with_outputs(networks, units, xp.stack(outputs))
    written = xp.nonzero(own >= 0).squeeze(1)
    found.weight[written, found.layout.outputs.start + own[written]] = networks.weight[written, -1]
    return found, xp.stack(errors)


class _Head(NamedTuple):
    """An output layer on [x, hidden units], and the mean leave-one-out error of the fits it is made of, over the sum of
    squares of the target."""

    bias: Float[Tensor, ""]
    skip: Float[Tensor, " features"]
    units: Float[Tensor, " units"]
    error: Float[Tensor, ""]


def _joint_head(
    networks: Networks,
    units: Bool[Tensor, "n width"],
    x: Float[Tensor, "rows features"],
    y: Float[Tensor, "outputs rows"],
) -> list[_Head]:
    """The ridge fit of each target on [x, hidden], hidden units standardised.

    The fits under `PENALTIES` are weighed by their leave-one-out errors; of more than `BLOCK` rows by generalised
    cross-validation (Golub, Heath and Wahba 1979, eq. 1.4), for which the rows are read once, a block at a time.
    """
    m, f, xp = y.shape[1], x.shape[1], namespace(x)
    penalties, blocks = alike(PENALTIES, x), _designs(networks, units, x, y)
    if m <= BLOCK:
        design, targets = next(blocks)
        centre, means = design.mean(0), [target.mean() for target in targets]
        z = design - centre
        scale = prior_scale(z.square().mean(0), f)
        z = z * scale
        size, basis, rotated = along_eigenvectors(z)
        inverse = 1 / (size.unsqueeze(1) + penalties)
        leverage, every = (1 / m + rotated.square() @ inverse)[None], xp.ones(1, m, dtype=xp.bool)
        fits = []
        for t in (target - mean for target, mean in zip(targets, means, strict=True)):
            moment = (rotated.T @ t).unsqueeze(1) * inverse
            error = leave_one_out((rotated @ moment)[None], leverage, t[None], every)[0]
            fits.append((moment, error, t.square().sum()))
    else:
        centre, means, products, moments = _moments(blocks)
        scale = prior_scale(products.diagonal() / m, f)
        size, basis = xp.linalg.eigh(products * scale * scale.unsqueeze(1))
        size = size.clamp(min=0)
        inverse = 1 / (size.unsqueeze(1) + penalties)
        fits = []
        for across, squares in moments:
            along = (basis.T @ (across * scale)).unsqueeze(1)
            moment = along * inverse
            residual = squares - (2 * along * moment - size.unsqueeze(1) * moment.square()).sum(0)
            error = residual / (1 - (1 + (size.unsqueeze(1) * inverse).sum(0)) / m).square()
            fits.append((moment, error, squares))
    found = []
    for mean, (moment, error, squares) in zip(means, fits, strict=True):
        error = error / squares.clamp(min=1e-12)
        weight = trust(error)
        w = scale * (basis @ (moment @ weight))
        found.append(_Head(mean - centre @ w, w[:f], w[f:], weight @ error))
    return found


def _designs(
    networks: Networks,
    units: Bool[Tensor, "n width"],
    x: Float[Tensor, "rows features"],
    y: Float[Tensor, "outputs rows"],
) -> Iterator[tuple[Float[Tensor, "block slots"], Float[Tensor, "outputs block"]]]:
    """[x, hidden] and the targets, a block of rows at a time, float64."""
    for part, targets in zip(x.split(BLOCK), y.split(BLOCK, 1), strict=True):
        hidden = networks.last_hidden(part.unsqueeze(0)).permute(1, 0, 2)[:, units]
        yield namespace(x).cat([part, hidden], 1).double(), targets.double()


def _moments(
    blocks: Iterator[tuple[Float[Tensor, "block slots"], Float[Tensor, "outputs block"]]],
) -> tuple[Tensor, list[Tensor], Tensor, list[tuple[Tensor, Tensor]]]:
    """Means of the columns and of each target; sums over rows of products about them: columns by columns, and of each
    target with the columns and with itself."""
    total = 0
    sums: list[Tensor] = []
    for design, targets in blocks:
        total += len(design)
        own = [design.sum(0), gram(design)]
        for target in targets:
            own += [target.sum(), design.T @ target, target.square().sum()]
        sums = [a + b for a, b in zip(sums, own, strict=True)] if sums else own
    first, second, *rest = sums
    centre, means = first / total, [y_first / total for y_first in rest[::3]]
    products = second - total * centre * centre.unsqueeze(1)
    moments = [
        (across - total * centre * mean, squares - total * mean.square())
        for mean, across, squares in zip(means, rest[1::3], rest[2::3], strict=True)
    ]
    return centre, means, products, moments
