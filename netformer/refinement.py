"""Refinement: what a few gradient steps or a distillation make of written networks.

Gradient steps move the hidden weights, or the latent they are written from; after every step the output layer is solved
again (`head.solve_head`), which is variable projection (Golub and Pereyra 1973): by the envelope theorem the gradient
of the projected loss is the partial one at the solved output, so nothing is differentiated through the solution. The
optimiser is Adam (Kingma and Ba 2015) at a constant rate, so K steps are the beginning of any longer way.

Every network descends alone, on the train rows of its task, and ends at the point of its way that is best on held-back
rows (`hold_back`). Where no point is better there than its start, it ends as its start, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from netformer.head import solve_head
from netformer.model import TransformerVAE
from netformer.networks import Networks, concatenate
from netformer.specs import Specs
from netformer.tasks import PAD, TEST, TRAIN, VALID, TaskStack, r2

STEPS, HOLD_EVERY = (0, 1, 5, 25, 100), 5
LR, SHRINK = 0.06, 3e-3
LATENT_LR, LATENT_SHRINK = 0.1, 1e-3
PENALTY = 1e-2  # of the output layer, where none is given
_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8
_CHUNK = 512  # networks taken at once, for memory alone


def hold_back(tasks: TaskStack) -> TaskStack:
    """The same tasks, where those without a valid row have every fifth train row as one, in stored order."""
    fifth = tasks.train & (tasks.train.long().cumsum(1) % HOLD_EVERY == 0)
    own = (tasks.rows == VALID).any(1, keepdim=True)
    return TaskStack(tasks.x, tasks.y, torch.where(fifth & ~own, VALID, tasks.rows), tasks.views)


def held_back_error(networks: Networks, tasks: TaskStack) -> Float[Tensor, " n"]:
    """Mean squared error of network i on the held-back rows of task i; inf where it is not finite or none is."""
    return _mean_square(networks.predict(tasks.x) - tasks.y, hold_back(tasks).rows == VALID)


def refine(
    networks: Networks,
    tasks: TaskStack,
    task_index: Int[Tensor, " n"],
    *,
    steps: int,
    lr: float = LR,
    shrink: float = SHRINK,
    penalties: Float[Tensor, "n slots"] | None = None,
) -> Networks:
    """`steps` gradient steps on the hidden weights; network i reads task `task_index[i]`. No steps: the same networks.

    lr: learning rate. shrink: weight of the squared distance from the start beside the mean squared error. penalties:
    of the output layer, toward the given one, as in `solve_head`; None for `PENALTY` everywhere. Without valid rows the
    point is chosen with outputs solved on four fifths of the train rows; its own output is then solved on all of them.
    With fewer than 5 of them nothing is held back, and a network stays as it is.
    """
    if penalties is None:
        penalties = networks.weight.new_full((len(networks), networks.layout.n_slots), PENALTY)
    hidden = networks.specs.mask.clone()
    hidden[:, -1] = False

    def build(at: slice, moved: Tensor) -> Networks:
        return Networks(networks.specs[at], networks.weight[at] + torch.where(hidden[at], moved, 0.0))

    return _descend(networks, build, torch.zeros_like(networks.weight), tasks, task_index, penalties, steps, lr, shrink)


def refine_curve(
    networks: Networks, tasks: TaskStack, task_index: Int[Tensor, " n"], *, steps: Sequence[int] = STEPS, **rule: Any
) -> Float[Tensor, "steps n"]:
    """Test R2 of each network after each number of steps, floored at -1; rule: lr, shrink, penalties as in `refine`.

    Zero steps is the network as given: solve the output of a random start first, to compare hidden weights alone.
    """
    x, y, test = tasks.x[task_index], tasks.y[task_index], tasks.rows[task_index] == TEST
    return torch.stack([r2(y, refine(networks, tasks, task_index, steps=k, **rule).predict(x), test) for k in steps])


def refine_latent(
    model: TransformerVAE,
    tasks: TaskStack,
    c: Float[Tensor, "n two_d"],
    z: Float[Tensor, "n z"],
    specs: Specs,
    *,
    steps: int,
    lr: float = LATENT_LR,
    shrink: float = LATENT_SHRINK,
) -> Networks:
    """`steps` gradient steps on the latent of each network, through `model.write`, with the model's penalties.

    tasks, c, z, specs: one each network. The start, and the result of no steps, is the network as delivered: written
    from z, output solved. lr, shrink: as in `refine`, in latent units.
    """

    def build(at: slice, moved: Tensor) -> Networks:
        return model.write(z[at] + moved, c[at], specs[at])

    with torch.no_grad():
        still, penalties = torch.zeros_like(z), model.penalties(c)
        start = solve_head(build(slice(None), still), tasks, penalties)
    return _descend(start, build, still, tasks, torch.arange(len(z)), penalties, steps, lr, shrink)


def distil(
    teachers: Networks, tasks: TaskStack, task_index: Int[Tensor, " n"], start: Networks | None = None, **rule: Any
) -> Networks:
    """One network for the mean prediction of its teachers; no label and no valid row is read.

    teachers: equally many for each student, student by student; student i reads task `task_index[i]`. start: where each
    begins, and so its spec; None: its teacher nearest to the mean. rule: steps, lr, shrink and penalties in `refine`,
    here toward the mean on train rows and synthetic rows (`_crossed`), every fifth of them held back.
    """
    n, k = len(task_index), len(teachers) // max(1, len(task_index))
    if k < 1 or n * k != len(teachers):
        raise ValueError(f"teachers must be equally many for each of {n} students, got {len(teachers)}")
    lesson = _crossed(tasks[task_index])
    with torch.no_grad():
        owner = torch.arange(n).repeat_interleave(k)
        parts = [teachers[at].predict(lesson.x[owner[at]]) for at in _chunks(n * k)]
    said = torch.cat(parts).view(n, k, -1)
    mean = said.mean(1)
    if start is None:
        gap = torch.where(lesson.train.unsqueeze(1), said - mean.unsqueeze(1), 0.0).square().sum(2)
        start = teachers[torch.arange(n) * k + gap.argmin(1)]
    return refine(start, TaskStack(lesson.x, mean, lesson.rows, lesson.views), torch.arange(n), **rule)


def _descend(
    start: Networks,
    build: Callable[[slice, Tensor], Networks],
    still: Tensor,
    tasks: TaskStack,
    task_index: Int[Tensor, " n"],
    penalties: Float[Tensor, "n slots"],
    steps: int,
    lr: float,
    shrink: float,
) -> Networks:
    """The best point of the way of each network; build: some of them, from how far their parameters have moved."""
    if steps < 0:
        raise ValueError(f"steps must be at least 0, got {steps}")
    ends = []
    for at in _chunks(len(start)) if steps else ():
        seen, penalty = _seen(tasks[task_index[at]]), penalties[at]
        fit = hold_back(seen)
        best = moved = mean = square = still[at]
        least = torch.full_like(fit.y[:, 0], torch.inf)
        for step in range(1, steps + 2):  # the last one looks only
            with torch.enable_grad():
                here = moved.detach().requires_grad_()
                written = build(at, here)
                output = solve_head(Networks(written.specs, written.weight.detach()), fit, penalty).weight[:, -1:]
                solved = Networks(written.specs, torch.cat([written.weight[:, :-1], output], 1))
                residual = solved.predict(fit.x) - fit.y
                loss = _mean_square(residual, fit.train) + shrink * here.flatten(1).square().sum(1)
                gradient = torch.nan_to_num(torch.autograd.grad(loss.sum(), here)[0], 0.0, 0.0, 0.0)
            error = _mean_square(residual.detach(), fit.rows == VALID)
            better = (error < least).view(-1, *[1] * (moved.dim() - 1))
            best, least = torch.where(better, moved, best), torch.minimum(error, least)
            mean = _BETA1 * mean + (1 - _BETA1) * gradient
            square = _BETA2 * square + (1 - _BETA2) * gradient.square()
            moved = moved - lr * mean / (1 - _BETA1**step) / ((square / (1 - _BETA2**step)).sqrt() + _EPS)
        with torch.no_grad():
            end = solve_head(build(at, best), seen, penalty)
            ahead = (held_back_error(end, seen) < held_back_error(start[at], seen)).view(-1, 1, 1)
            ends.append(Networks(end.specs, torch.where(ahead, end.weight, start.weight[at])))
    return concatenate(ends) if ends else start


def _seen(tasks: TaskStack) -> TaskStack:
    """The train and valid rows alone."""
    seen = tasks.train | (tasks.rows == VALID)
    order = torch.argsort((~seen).long(), dim=1, stable=True)[:, : int(seen.sum(1).max())]
    x = tasks.x.gather(1, order.unsqueeze(2).expand(-1, -1, tasks.x.shape[2]))
    return TaskStack(x, tasks.y.gather(1, order), torch.where(seen, tasks.rows, PAD).gather(1, order), tasks.views)


def _mean_square(residual: Float[Tensor, "n rows"], keep: Bool[Tensor, "n rows"]) -> Float[Tensor, " n"]:
    """Mean square over the kept rows; inf where it is not finite or no row is kept."""
    value = torch.where(keep, residual, 0.0).square().sum(1) / keep.sum(1)
    return torch.where(torch.isfinite(value), value, torch.inf)


def _crossed(tasks: TaskStack, copies: int = 2) -> TaskStack:
    """The train rows, and `copies` synthetic rows of each: every feature is, with chance one half, that of another
    train row. What is drawn depends on the position among the train rows alone. Targets are 0."""
    read = _seen(TaskStack(tasks.x, tasks.y, torch.where(tasks.train, TRAIN, PAD), tasks.views))
    n, rows, features = read.x.shape
    drawn = torch.from_numpy(np.random.default_rng(0).random((rows, copies, 1 + features), np.float32))
    last = read.train.sum(1).clamp(min=1).view(-1, 1, 1) - 1
    other = read.x[torch.arange(n).view(-1, 1, 1), torch.minimum((drawn[:, :, 0] * (last + 1)).long(), last)]
    mixed = torch.where(drawn[:, :, 1:] < 0.5, read.x.unsqueeze(2), other)
    x = torch.cat([read.x, mixed.transpose(1, 2).flatten(1, 2)], 1)
    return TaskStack(x, torch.zeros_like(x[:, :, 0]), read.rows.repeat(1, 1 + copies), read.views)


def _chunks(n: int, size: int = _CHUNK) -> Iterator[slice]:
    return (slice(start, min(start + size, n)) for start in range(0, n, size))
