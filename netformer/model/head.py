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
    factor = xp.linalg.cholesky(gram + _ridge(gram, edges, penalties))
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


def left_out(
    networks: Networks, tasks: TaskStack, penalties: Float[Tensor, "n slots"]
) -> tuple[Networks, Float[Tensor, "n rows"]]:
    """The networks of `weigh_heads`, and what each predicts for every train row when its output layer is solved without
    it; 0 for other rows."""
    solved, _, off = _weighed(networks, tasks, penalties, rows=True)
    xp = namespace(tasks.y)
    predicted = xp.zeros_like(tasks.y)
    predicted[:, tasks.train.any(0)] = off
    return solved, xp.where(tasks.train, tasks.y - predicted, 0.0)


def _weighed(
    networks: Networks, tasks: TaskStack, penalties: Float[Tensor, "n slots"], rows: bool = False
) -> tuple[Networks, Float[Tensor, " n"], Float[Tensor, "n rows"]]:
    """What `weigh_heads` returns; and if `rows`, the weighed leave-one-out error of each row that is a train row
    anywhere."""
    xp = namespace(tasks.x)
    with xp.no_grad():
        read = tasks.train.any(0)
        tasks = tasks.at_rows(read)
        design, edges, m = _design(networks, tasks)
        across = design.transpose(1, 2)
        start = networks.weight[:, -1:].transpose(1, 2)
        target = xp.cat([(tasks.y * tasks.train).unsqueeze(2), design @ start], 2)
        gram, moment = across @ design / m, across @ target / m
        unit = xp.eye(design.shape[2]).expand_as(gram)  # inverting the small factor beats solving for every row
        mixes = xp.stack([xp.ones(len(SHARES)), -xp.tensor(SHARES)])  # of y and what the written layer says
        errors, solutions, off = [], [], []
        for times in FACTORS:
            factor = xp.linalg.cholesky(gram + _ridge(gram, edges, times * penalties))
            inverse = xp.linalg.solve_triangular(factor, unit, upper=False)
            leverage = (inverse @ across).square_().sum(1) / m.squeeze(2)
            solutions.append(xp.cholesky_solve(moment, factor))
            remainder = (target - design @ solutions[-1]) / (1 - leverage).clamp(min=1e-3).unsqueeze(2)
            if rows:
                off.append(remainder @ mixes)
            errors.append((remainder @ mixes).square_().sum(1))
        error = xp.stack(errors, 1) / target[:, :, 0].square().sum(1).clamp(min=1e-12).view(-1, 1, 1)
        weight = trust(error.flatten(1)).view(error.shape)
        step = xp.einsum("nfs,nfcj,js->nc", weight, xp.stack(solutions, 1), mixes)
        written = -(weight @ mixes[1]).sum(1, keepdim=True) * start.squeeze(2)
        each = xp.einsum("nfs,nfrs->nr", weight, xp.stack(off, 1)) if rows else tasks.y
        return _with_output(networks, (written + step) * edges), 1 - (error * weight).sum((1, 2)), each


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


def _ridge(
    gram: Float[Tensor, "n slots slots"], edges: Float[Tensor, "n slots"], penalties: Float[Tensor, "n slots"]
) -> Float[Tensor, "n slots slots"]:
    return namespace(gram).diag_embed((penalties + FLOOR) * (gram.diagonal(dim1=1, dim2=2) + 1e-4) + (1 - edges))


def _with_output(networks: Networks, output: Float[Tensor, "n slots"]) -> Networks:
    return Networks(networks.specs, namespace(output).cat([networks.weight[:, :-1], output.unsqueeze(1)], 1))
