"""Head: the output layer in closed form, ridge regression on the hidden units of a written network.

Training solves it under the model's own penalties (`solve_head`); what is delivered also weighs, network by network,
how far to trust them and the written output layer (`weigh_heads`).
"""

from __future__ import annotations

from jaxtyping import Float

from netformer.arrays.namespace import Tensor, namespace
from netformer.networks.stack import Networks, concatenate
from netformer.ridge import trust
from netformer.tasks.view import TaskStack

MANY = 4096  # rows from which networks are solved one after the other
FLOOR = 1e-4  # of a penalty: thirty units that say the same (one binary column) have a Gram matrix of rank 2 in float32
LEAST_MEAN_SQUARE = 1e-4  # added to that of a column
LEAST_LEFT = 1e-3  # of one minus the leverage of a row
STEP = 8  # units
FACTORS, SHARES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0), (0.0, 0.5, 1.0)  # what `weigh_heads` weighs


def solve_head(networks: Networks, tasks: TaskStack, penalties: Float[Tensor, "n slots"]) -> Networks:
    """Output layers solved in closed form on the train rows, shrunk toward the written ones.

    w = w0 + (G + diag(penalties * diag(G)))^-1 D'(y - D w0) / m with G = D'D / m and D = [1, x, h] over the m train
    rows, restricted to the edges the spec has; ridge regression as the last layer of meta-learning (R2-D2, Bertinetto
    et al. 2019; ALPaCA, Harrison et al. 2018). Differentiable in everything. A penalty is relative to the mean square
    of its column, so the scale of a hidden unit does not matter.
    """
    design, edges, m = _design(networks, tasks)
    start = networks.weight[:, -1:].transpose(1, 2)
    residual = (tasks.y * tasks.train).unsqueeze(2) - design @ start
    gram = design.transpose(1, 2) @ design / m
    xp = namespace(gram)
    size = gram.diagonal(dim1=1, dim2=2) + LEAST_MEAN_SQUARE
    factor = xp.linalg.cholesky(gram + xp.diag_embed((penalties + FLOOR) * size + (1 - edges)))
    step = xp.cholesky_solve(design.transpose(1, 2) @ residual / m, factor).squeeze(2) * edges
    return _with_output(networks, networks.weight[:, -1] + step)


def weigh_heads(
    networks: Networks, tasks: TaskStack, penalties: Float[Tensor, "n slots"]
) -> tuple[Networks, Float[Tensor, " n"]]:
    """Output layers as in `solve_head`, for each network a mean over `FACTORS` times the penalties and `SHARES` of the
    written output layer to shrink toward, weighed by `trust`.

    The errors are leave-one-out on the train rows, in closed form (PRESS, Allen 1974). The mean guards networks for
    tasks unlike those of training, whose written output layer or penalty is off, and is steadier than the best alone.
    Also returns one minus the mean error over the variance of y, an estimate of R2 that is a little high: the hidden
    layers have seen every row.
    """
    xp = namespace(tasks.x)
    if tasks.x.shape[1] >= MANY and len(networks) > 1:  # one after the other: rows stay in the cache
        every = [slice(i, i + 1) for i in range(len(networks))]
        each = [weigh_heads(networks[at], tasks[at], penalties[at]) for at in every]
        return concatenate([one for one, _ in each]), xp.cat([r2 for _, r2 in each])
    return _weighed(networks, tasks, penalties)[:2]


def leave_one_out_heads(
    networks: Networks, tasks: TaskStack, penalties: Float[Tensor, "n slots"]
) -> tuple[Networks, Float[Tensor, "n rows"]]:
    """The networks of `weigh_heads`, and what each predicts for every train row when its output layer is solved without
    it; 0 for other rows."""
    solved, _, off = _weighed(networks, tasks, penalties)
    xp = namespace(tasks.y)
    predicted = xp.zeros_like(tasks.y)
    predicted[:, tasks.train.any(0)] = off
    return solved, xp.where(tasks.train, tasks.y - predicted, 0.0)


def _weighed(
    networks: Networks, tasks: TaskStack, penalties: Float[Tensor, "n slots"]
) -> tuple[Networks, Float[Tensor, " n"], Float[Tensor, "n rows"]]:
    """What `weigh_heads` returns, and the weighed leave-one-out error of each row that is a train row anywhere.

    Networks are taken together by how many units their last layer has, in steps of `STEP`; slots that none of them has
    are left out of the work.
    """
    xp = namespace(tasks.x)
    with xp.no_grad():
        if not (read := tasks.train.any(0)).all():
            tasks = tasks.at_rows(read)
        design, edges, m = _design(networks, tasks)
        start, y = networks.weight[:, -1], tasks.y * tasks.train
        output, r2, off = xp.zeros_like(start), xp.zeros_like(y[:, 0]), xp.zeros_like(y)
        steps = (networks.specs.last_units.sum(1) + STEP - 1) // STEP
        for count in sorted(set(steps.tolist())):
            at = xp.nonzero(steps == count)[:, 0]
            slots = xp.nonzero(edges[at].any(0))[:, 0]
            own = at.unsqueeze(1), slots
            output[own], r2[at], off[at] = _heads(design[at][:, :, slots], y[at], start[own], penalties[own], m[at])
        return _with_output(networks, output * edges), r2, off


def _heads(
    design: Float[Tensor, "n rows slots"],
    y: Float[Tensor, "n rows"],
    start: Float[Tensor, "n slots"],
    penalties: Float[Tensor, "n slots"],
    m: Float[Tensor, "n 1 1"],
) -> tuple[Float[Tensor, "n slots"], Float[Tensor, " n"], Float[Tensor, "n rows"]]:
    """Output layers, the leave-one-out R2 and errors of each, all weighed. One eigendecomposition serves every factor f
    (ridge regression by its eigenvectors, Hastie and Tibshirani 2004): with G the Gram matrix of the design A over m
    rows, P the penalties and E the floor below them, both times the mean squares of the columns,

        G + E + f P = P^(1/2) Q (L + f) Q' P^(1/2)    where P^(-1/2) (G + E) P^(-1/2) = Q L Q'
        hat matrix  = U diag(1 / (L + f)) U' / m      where U = A P^(-1/2) Q
    """
    xp, dtype = namespace(design), design.dtype
    gram = (design.transpose(1, 2) @ design / m).double()  # small and ill-conditioned from here on
    size = gram.diagonal(dim1=1, dim2=2) + LEAST_MEAN_SQUARE
    root = (penalties.double() * size).sqrt()
    values, vectors = xp.linalg.eigh((gram + xp.diag_embed(FLOOR * size)) / (root.unsqueeze(2) * root.unsqueeze(1)))
    basis = (vectors / root.unsqueeze(2)).to(dtype)
    factors, shares = xp.tensor(FACTORS, dtype=xp.float64), xp.tensor(SHARES)
    inverse = (1 / (values.clamp(min=0).unsqueeze(2) + factors)).to(dtype)  # n, slots, factors
    rotated = design @ basis
    target = y.unsqueeze(2) - (design @ start.unsqueeze(2)) * shares  # n, rows, shares
    moment = rotated.transpose(1, 2) @ target / m
    along = moment.unsqueeze(3) * inverse.unsqueeze(2)  # n, slots, shares, factors
    off = target.unsqueeze(3) - (rotated @ along.flatten(2)).view(*target.shape, len(FACTORS))
    off /= (1 - rotated.square() @ inverse / m).clamp(min=LEAST_LEFT).unsqueeze(2)
    error = off.square().sum(1) / y.square().sum(1).clamp(min=1e-12).view(-1, 1, 1)
    weight = trust(error.flatten(1)).view(error.shape)
    step = basis @ (along * weight.unsqueeze(1)).sum((2, 3)).unsqueeze(2)
    written = (weight.sum(2) @ shares).unsqueeze(1) * start
    each = off.flatten(2) @ weight.flatten(1).unsqueeze(2)
    return written + step.squeeze(2), 1 - (error * weight).sum((1, 2)), each.squeeze(2)


def _design(
    networks: Networks, tasks: TaskStack
) -> tuple[Float[Tensor, "n rows slots"], Float[Tensor, "n slots"], Float[Tensor, "n 1 1"]]:
    """[1, x, h] on the train rows, restricted to the edges the output layer has; these edges; the number m of rows."""
    keep = tasks.train.to(networks.weight.dtype)
    h = networks.last_hidden(tasks.x)
    edges = networks.specs.mask[:, -1].to(h.dtype)
    xp = namespace(h)
    design = xp.cat([xp.ones_like(h[:, :, :1]), tasks.x, h], 2) * edges.unsqueeze(1) * keep.unsqueeze(2)
    return design, edges, keep.sum(1).clamp(min=1).view(-1, 1, 1)


def _with_output(networks: Networks, output: Float[Tensor, "n slots"]) -> Networks:
    return Networks(networks.specs, namespace(output).cat([networks.weight[:, :-1], output.unsqueeze(1)], 1))
