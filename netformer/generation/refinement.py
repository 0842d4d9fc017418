"""Refinement: what a few gradient steps or a distillation make of written networks.

Gradient steps move the hidden weights, or the latent they are written from; after every step the output layer is solved
again (`head.solve_head`): variable projection (Golub and Pereyra 1973), without its derivative. What the output is
shrunk toward and the ridge term count as constant, so the gradient is that of the projected error but for these. The
optimiser is Adam (Kingma and Ba 2015) at a constant rate, so K steps are the beginning of any longer way.

Every network descends alone, on four fifths of the train rows of its task (with valid rows, on all), and ends at the
point of its way that is best on the rows held back (`hold_back`), which nothing was solved on. Where no point is better
there than its start, its hidden weights stay as they are, bit for bit; so they do where hardly a row can be held back.

Steps on the latent stay near what the model would write (`LOG.md` has both). The estimator and the command line take
these, through `sampling.sample_networks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from netformer.arrays.namespace import alike
from netformer.errors import InputError
from netformer.model.head import solve_head, weigh_heads
from netformer.model.vae import TransformerVAE
from netformer.networks.specs import Specs
from netformer.networks.stack import Networks, concatenate
from netformer.tasks.task import PAD, TRAIN, VALID
from netformer.tasks.view import TaskStack

HOLD_EVERY, HELD_LEAST = 5, 5  # with fewer rows held back than the second, a network stays as it is
ROWS = 2000  # of a table, that latents descend on
LR, SHRINK = 0.06, 10.0
LATENT_LR, LATENT_SHRINK = 0.1, 1.0
DISTIL_PENALTY, DISTIL_SHRINK = 1e-2, 1.0  # a mean prediction has no noise to follow
_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8
_CHUNK = 512  # networks taken at once, for memory alone


def hold_back(tasks: TaskStack) -> TaskStack:
    """The same tasks, where those without a valid row have every fifth train row as one, in stored order."""
    fifth = tasks.train & (tasks.train.long().cumsum(1) % HOLD_EVERY == 0)
    own = (tasks.rows == VALID).any(1, keepdim=True)
    return replace(tasks, rows=torch.where(fifth & ~own, VALID, tasks.rows))


def held_back_error(networks: Networks, tasks: TaskStack) -> Float[Tensor, " n"]:
    """Mean squared error of network i on the held-back rows of task i; inf where it is not finite or none is."""
    return _mean_square(networks.predict(tasks.x) - tasks.y, hold_back(tasks).rows == VALID)


def refine(
    networks: Networks,
    tasks: TaskStack,
    task_index: Int[Tensor, " n"],
    *,
    steps: int,
    penalties: Float[Tensor, "n slots"],
    lr: float = LR,
    shrink: float = SHRINK,
) -> Networks:
    """`steps` gradient steps on the hidden weights; network i reads task `task_index[i]`. No steps: the same networks.

    Output layers stay as they are, and are what those on the way are shrunk toward: solve them afterwards
    (`head.weigh_heads`). penalties: of the output layer, as in `solve_head`. lr: learning rate. shrink: weight of the
    squared distance from the start, over the number of rows descended on, beside the mean squared error: a normal prior
    about the start, as the mode of a posterior has it.
    """
    hidden = networks.specs.mask.clone()
    hidden[:, -1] = False
    ends = []
    for at in _chunks(len(networks)):
        start = networks[at]

        def build(moved: Tensor, start: Networks = start, hidden: Tensor = hidden[at]) -> Networks:
            return Networks(start.specs, start.weight + torch.where(hidden, moved, 0.0))

        seen = _seen(tasks[task_index[at]])
        ends.append(build(_descend(build, torch.zeros_like(start.weight), seen, penalties[at], steps, lr, shrink)))
    return concatenate(ends) if ends else networks


def refine_latents(
    model: TransformerVAE,
    tasks: TaskStack,
    c: Float[Tensor, "n two_d"],
    z: Float[Tensor, "n z"],
    specs: Specs,
    *,
    steps: int,
    lr: float = LATENT_LR,
    shrink: float = LATENT_SHRINK,
) -> Float[Tensor, "n z"]:
    """Latents after `steps` gradient steps through `model.write`, with the model's penalties. No steps: the same.

    tasks, c, z, specs: one each network; of each task at most `ROWS` rows are read. lr, shrink: as in `refine`, in
    latent units.
    """

    def build(moved: Tensor) -> Networks:
        return model.write(z + moved, c, specs)

    with torch.no_grad():
        penalties, still = model.penalties(c), torch.zeros_like(z)
        return z + _descend(build, still, _seen(tasks, ROWS), penalties, steps, lr, shrink)


def distil(
    teachers: Networks, tasks: TaskStack, task_index: Int[Tensor, " n"], start: Networks | None = None, *, steps: int
) -> Networks:
    """One network for the mean prediction of its teachers; no label and no valid row is read.

    teachers: equally many for each student, student by student; student i reads task `task_index[i]`. start: where each
    begins, and so its spec; None: its teacher nearest to the mean. steps: of `refine`, toward the mean on train
    rows and synthetic rows (`_crossed`), every fifth held back; the output layer is then weighed on all of them.
    """
    n, k = len(task_index), len(teachers) // max(1, len(task_index))
    if k < 1 or n * k != len(teachers):
        raise InputError(f"teachers must be equally many for each of {n} students, got {len(teachers)}")
    lesson = _crossed(tasks[task_index])
    with torch.no_grad():
        owner = torch.arange(n).repeat_interleave(k)
        parts = [teachers[at].predict(lesson.x[owner[at]]) for at in _chunks(n * k)]
    said = torch.cat(parts).view(n, k, -1)
    mean = said.mean(1)
    if start is None:
        gap = torch.where(lesson.train.unsqueeze(1), said - mean.unsqueeze(1), 0.0).square().sum(2)
        start = teachers[torch.arange(n) * k + gap.argmin(1)]
    taught = replace(lesson, y=mean)
    penalties = torch.full((n, start.layout.n_slots), DISTIL_PENALTY)
    moved = refine(start, taught, torch.arange(n), steps=steps, penalties=penalties, shrink=DISTIL_SHRINK)
    with torch.no_grad():
        return weigh_heads(moved, taught, penalties)[0]


def _descend(
    build: Callable[[Tensor], Networks],
    still: Float[Tensor, "*n parameters"],
    seen: TaskStack,
    penalties: Float[Tensor, "n slots"],
    steps: int,
    lr: float,
    shrink: float,
) -> Float[Tensor, "*n parameters"]:
    """How far the parameters of each network have moved at the best point of its way; 0 where that is its start.

    build: the networks, from how far their parameters have moved. still: zeros, of the shape of the parameters.
    """
    if steps < 0:
        raise InputError(f"refine_steps must be at least 0, got {steps}")
    fit = hold_back(seen)
    held = fit.rows == VALID
    tether = shrink / fit.train.sum(1).clamp(min=1)
    best = moved = mean = square = still
    least = torch.full_like(fit.y[:, 0], torch.inf)
    for step in range(1, steps + 2) if steps else ():
        with torch.set_grad_enabled(step <= steps):  # the last one looks only
            here = moved.detach().requires_grad_()
            written = build(here)
            output = solve_head(Networks(written.specs, written.weight.detach()), fit, penalties).weight[:, -1:]
            solved = Networks(written.specs, torch.cat([written.weight[:, :-1], output], 1))
            residual = solved.predict(fit.x) - fit.y
            loss = (_mean_square(residual, fit.train) + tether * here.flatten(1).square().sum(1)).sum()
        error = _mean_square(residual.detach(), held)
        best, least = _where(error < least, moved, best), torch.minimum(error, least)
        if step <= steps:
            gradient = torch.nan_to_num(torch.autograd.grad(loss, here)[0], 0.0, 0.0, 0.0)
            mean = _BETA1 * mean + (1 - _BETA1) * gradient
            square = _BETA2 * square + (1 - _BETA2) * gradient.square()
            moved = moved - lr * mean / (1 - _BETA1**step) / ((square / (1 - _BETA2**step)).sqrt() + _EPS)
    with torch.no_grad():
        end, start = (held_back_error(weigh_heads(build(at), fit, penalties)[0], fit) for at in (best, still))
    return _where((end < start) & (held.sum(1) >= HELD_LEAST), best, still)


def _where(keep: Bool[Tensor, " n"], a: Tensor, b: Tensor) -> Tensor:
    return torch.where(keep.view(-1, *[1] * (a.dim() - 1)), a, b)


def _seen(tasks: TaskStack, most: int | None = None) -> TaskStack:
    """The train and valid rows alone; of more than `most`, that many, drawn by their position among them."""
    seen = tasks.train | (tasks.rows == VALID)
    if most is not None and int(seen.sum(1).max()) > most:
        drawn = alike(np.random.default_rng(0).permutation(seen.shape[1]), seen)
        key = torch.where(seen, drawn[seen.long().cumsum(1) - 1], seen.shape[1])
        seen = seen & (key.argsort(1).argsort(1) < most)
    order = torch.argsort((~seen).long(), dim=1, stable=True)[:, : int(seen.sum(1).max())]
    x = tasks.x.gather(1, order.unsqueeze(2).expand(-1, -1, tasks.x.shape[2]))
    return replace(tasks, x=x, y=tasks.y.gather(1, order), rows=torch.where(seen, tasks.rows, PAD).gather(1, order))


def _mean_square(residual: Float[Tensor, "n rows"], keep: Bool[Tensor, "n rows"]) -> Float[Tensor, " n"]:
    """Mean square over the kept rows; inf where it is not finite or no row is kept."""
    value = torch.where(keep, residual, 0.0).square().sum(1) / keep.sum(1)
    return torch.where(torch.isfinite(value), value, torch.inf)


def _crossed(tasks: TaskStack, copies: int = 2) -> TaskStack:
    """The train rows, and `copies` synthetic rows of each: every feature is, with chance one half, that of another
    train row. What is drawn depends on the position among the train rows alone. Targets are 0."""
    read = _seen(replace(tasks, rows=torch.where(tasks.train, TRAIN, PAD)))
    n, rows, features = read.x.shape
    drawn = torch.from_numpy(np.random.default_rng(0).random((rows, copies, 1 + features), np.float32))
    last = read.train.sum(1).clamp(min=1).view(-1, 1, 1) - 1
    other = read.x[torch.arange(n).view(-1, 1, 1), torch.minimum((drawn[:, :, 0] * (last + 1)).long(), last)]
    mixed = torch.where(drawn[:, :, 1:] < 0.5, read.x.unsqueeze(2), other)
    x = torch.cat([read.x, mixed.transpose(1, 2).flatten(1, 2)], 1)
    return replace(read, x=x, y=torch.zeros_like(x[:, :, 0]), rows=read.rows.repeat(1, 1 + copies))


def _chunks(n: int, size: int = _CHUNK) -> Iterator[slice]:
    return (slice(start, min(start + size, n)) for start in range(0, n, size))
