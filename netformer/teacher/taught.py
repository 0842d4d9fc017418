"""Taught: delivered networks whose output layer is solved on what the teacher answers too.

The hidden units of a network stay as they are. One output layer is fitted in closed form to the teacher's answers for
rows made up from the train rows, another is the network's own, from the labels. Both read the same hidden units, so any
mean of the two is again that network with other weights; how much of each is decided by the errors for train rows that
neither has seen. Who gets the network needs no teacher.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from netformer.errors import InputError
from netformer.networks.stack import Networks
from netformer.ridge import leave_one_out, ridge_path, trust
from netformer.tasks.view import CUT, TaskStack
from netformer.teacher.answers import Answerer, asked

ROWS = 600  # made up and shown to the teacher
CROSSED = 0.5  # share of them that take columns from two train rows; the others are train rows moved a little
JITTER = 0.3  # standard deviation of a move, in those of a column
FOLDS = 5
LEAST_DEVIATION = 1e-4  # of what a fit reads, in standard deviations of an input
LEAST_LEFT = 1e-3  # of 1 - leverage
UNIT_SCALE = 4.0  # standard deviation of what all hidden units say together, against that of one input, before a fit
SHARES = torch.linspace(0, 1, 11, dtype=torch.float64)  # of the teacher that are weighed


@dataclass(frozen=True, eq=False)
class Lessons:
    """What a teacher says of one task. x, answers: rows made up, and its answers for them. out_of_fold: its answers for
    the train rows, each without a fifth of them that the row is in. All in canonical coordinates."""

    x: Float[Tensor, "rows features"]
    answers: Float[Tensor, " rows"]
    out_of_fold: Float[Tensor, " train"]


def lessons_of(
    answerer: Answerer,
    tasks: TaskStack,
    generator: Generator,
    *,
    rows: int = ROWS,
    orders: int = 1,
    networks: int | None = None,
) -> Lessons:
    """What the teacher says of the one task in `tasks`. rows: to make up. orders, networks: see `Answerer.answers`."""
    if len(tasks) != 1:
        raise InputError(f"tasks must hold one task, got {len(tasks)}; call lessons_of for each")
    known = tasks.at_rows(tasks.train[0])
    x = made_up(known.x[0], rows, generator)
    answers = answerer.answers(asked(known, x[None]), orders, networks, generator)[0]
    return Lessons(x, answers, answerer.out_of_fold(known, FOLDS, orders, networks, generator)[0])


def made_up(x: Float[Tensor, "train features"], rows: int, generator: Generator) -> Float[Tensor, "rows features"]:
    """Rows like those of x: `CROSSED` of them take each column from one of two of its rows, the others are rows of it
    with normal noise of `JITTER` of a column's standard deviation."""
    first, second = (torch.randint(len(x), (rows,), generator=generator) for _ in range(2))
    take = torch.rand(rows, x.shape[1], generator=generator) < 0.5
    noise = JITTER * x.std(0, correction=0) * torch.randn(rows, x.shape[1], generator=generator)
    crossed = torch.arange(rows) < round(CROSSED * rows)
    made = torch.where(crossed.unsqueeze(1), torch.where(take, x[first], x[second]), x[first] + noise)
    return made.clamp(-CUT, CUT)


def taught(
    networks: Networks, x: Float[Tensor, "train features"], y: Float[Tensor, " train"], lessons: Lessons
) -> tuple[Networks, float]:
    """Networks of one task, whose mean is what is delivered (one, or those of `generation.merging.widen`), taught; and
    the share of the teacher's output layer in theirs.

    x, y: the train rows they were written for, in their coordinates and the lessons'. The share is the mean of those in
    `SHARES`, weighed by `trust` of their errors for train rows: the networks' leave-one-out, the teacher's out of fold.
    It is 0 or 1 if the error at that mean would be above that of the better of the two.
    """
    output, _ = _fit(networks, torch.cat([lessons.x, x]), torch.cat([lessons.answers, lessons.out_of_fold]))
    _, left = _fit(networks, x, y)
    target, step = y.double(), lessons.out_of_fold.double() - left

    def error(shares: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
        return (target - left - shares.unsqueeze(1) * step).square().sum(1)

    total = (target - target.mean()).square().sum().clamp(min=1e-12)
    share = trust(error(SHARES) / total) @ SHARES
    every = torch.stack([share, SHARES[0], SHARES[-1]])
    share = every[error(every).argmin()]
    weight = networks.weight.clone()
    weight[:, -1] += (share * (output - weight[:, -1].double())).to(weight.dtype)
    return Networks(networks.specs, weight), float(share)


def _fit(
    networks: Networks, x: Float[Tensor, "rows features"], y: Float[Tensor, " rows"]
) -> tuple[Float[Tensor, "n slots"], Float[Tensor, " rows"]]:
    """Output layers of networks whose mean is fitted to rows, a mean of ridge fits weighed by their leave-one-out
    errors; and its predictions for these rows, each without the row.

    Inputs and units are standardised first, and units made small, see `UNIT_SCALE`. Bias and inputs have the same
    weights in all networks, only where all have the edge.
    """
    n, features = len(networks), x.shape[1]
    edges = networks.specs.mask[:, -1, 1:]
    exists = torch.cat([edges[:, :features].all(0), edges[:, features:].flatten()])
    hidden = networks.last_hidden(x[None]).permute(1, 0, 2).flatten(1)
    design = torch.where(exists, torch.cat([x, hidden], 1), 0.0).double()
    mean, deviation = design.mean(0), design.std(0, correction=0)
    scale = torch.where(deviation > LEAST_DEVIATION, 1 / deviation, 0.0)
    scale[features:] *= UNIT_SCALE / max(int(exists[features:].sum()), 1) ** 0.5
    z, target, every = (design - mean) * scale, y.double(), torch.ones(1, len(y), dtype=torch.bool)
    predicted, leverage = ridge_path(z[None], target[None], every)
    total = (target - target.mean()).square().sum().clamp(min=1e-12)
    weight = trust(leave_one_out(predicted, leverage, target[None], every)[0] / total)
    left = target - ((target.unsqueeze(1) - predicted[0]) / (1 - leverage[0]).clamp(min=LEAST_LEFT)) @ weight
    fitted = (predicted[0] @ weight - target.mean()).unsqueeze(1)
    slopes = torch.linalg.lstsq(z, fitted, driver="gelsd").solution[:, 0] * scale
    bias = (target.mean() - mean @ slopes).expand(n, 1)
    return torch.cat([bias, slopes[:features].expand(n, -1), n * slopes[features:].view(n, -1)], 1), left
