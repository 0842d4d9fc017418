"""Inputs: what the teacher reads of a task, a row of numbers per row of the table.

Two closed-form fits come first, so that only the rest has to be learned: ridge regression, a mean over penalties
weighed by leave-one-out errors (`ridge.trust`), and networks that the package's model writes for the task. A train row
is given the predictions of fits without it, as a row that is asked about is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from netformer.arrays.devices import drawn
from netformer.model.grammar import read_structure
from netformer.model.head import leave_one_out_heads
from netformer.model.layers import squash
from netformer.model.orientation import Orientations, draw_orientations
from netformer.model.task_encoder import input_kinds
from netformer.model.vae import TransformerVAE
from netformer.ridge import leave_one_out, ridge_path, trust
from netformer.tables.inputs import KINDS
from netformer.tasks.view import CUT, TaskStack

LEAST_DEVIATION = 0.02  # of the residuals of a fit, in standard deviations of the target
EDGE = 0.98 * CUT  # beyond it an input counts as cut
LOG_ROWS_SCALE, LOG_ROWS_SHIFT = 3.0, 1.5  # the number m of train rows is read as log(m) / 3 - 1.5
LEAST_LEFT = 1e-3  # of 1 - leverage


@dataclass(frozen=True, eq=False)
class Fits:
    """Predictions of the two fits for every row of t tasks, of train rows without them, and how far they are off.

    linear: of ridge regression. base: of the fit that the teacher corrects. deviation: root mean square of base's
    residuals on the train rows, at least `LEAST_DEVIATION`. All in standard deviations of the
    target.
    """

    linear: Float[Tensor, "t rows"]
    base: Float[Tensor, "t rows"]
    deviation: Float[Tensor, "t 1"]

    def turned(self, sign: Float[Tensor, " t"]) -> Fits:
        """The same for targets times `sign`."""
        return Fits(self.linear * sign.unsqueeze(1), self.base * sign.unsqueeze(1), self.deviation)

    def at_rows(self, some) -> Fits:
        """The same for some of the rows."""
        return Fits(self.linear[:, some], self.base[:, some], self.deviation)


@torch.no_grad()
def fits_of(tasks: TaskStack, writer: TransformerVAE | None, count: int, g: Generator) -> Fits:
    """Both fits of each task.

    writer: the model that writes `count` networks per task, the first from the mode of the prior; the second fit is
    their mean. None, or no networks: it is the first fit. g: draws the other networks.
    """
    base = linear = _linear(tasks)
    if writer is not None and count:
        base = _mean_of_written(writer, tasks, count, g)
    return Fits(linear, base, _deviation(tasks, base))


def without_networks(tasks: TaskStack, fits: Fits, where: Bool[Tensor, " t"]) -> Fits:
    """The same fits, but ridge regression is the one to correct where the argument says so."""
    base = torch.where(where.unsqueeze(1), fits.linear, fits.base)
    return Fits(fits.linear, base, _deviation(tasks, base))


def _deviation(tasks: TaskStack, fit: Float[Tensor, "t rows"]) -> Float[Tensor, "t 1"]:
    """Root mean square of a fit's residuals on the train rows."""
    keep = tasks.train.to(fit.dtype)
    squares = ((tasks.y - fit).square() * keep).sum(1, keepdim=True) / keep.sum(1, keepdim=True).clamp(min=1)
    return squares.sqrt().clamp(min=LEAST_DEVIATION)


def _mean_of_written(writer: TransformerVAE, tasks: TaskStack, count: int, g: Generator) -> Float[Tensor, "t rows"]:
    """Mean prediction of `count` networks per task, written as `generation.sampling` does, each in an orientation of
    its own, with weighed output layers; for a train row, of output layers solved without it."""
    at = torch.arange(len(tasks)).repeat_interleave(count)
    shown = draw_orientations(tasks.n_features[at], tasks.x.shape[2], writer.order_noise, g)
    shown = shown.canonical(torch.arange(len(at)) % count == 0)
    own = shown.apply(tasks[at])
    eps = drawn("randn", len(at), writer.d_latent, generator=g, like=tasks.x)
    eps[::count] = 0
    c = writer.embed(len(at), own)
    z = writer.draw(writer.prior_of(c), eps)
    specs = read_structure(writer.structure_logits(z, c), own.n_features.clamp(min=1), writer.layout)
    solved, off = leave_one_out_heads(writer.write(z, c, specs), own, writer.penalties(c))
    predicted = torch.where(own.train, off, solved.predict(own.x)) * shown.sign.unsqueeze(1)
    return predicted.clamp(-2 * CUT, 2 * CUT).view(len(tasks), count, -1).mean(1)


def _linear(tasks: TaskStack) -> Float[Tensor, "t rows"]:
    """Predictions of ridge regression for every row, of a train row from the fit without it; cut at twice `CUT`."""
    y, train = tasks.y.double(), tasks.train
    predicted, leverage = ridge_path(tasks.x.double(), y, train)
    squares = (y.square() * train).sum(1, keepdim=True).clamp(min=1e-12)
    weight = trust(leave_one_out(predicted, leverage, y, train) / squares).unsqueeze(1)
    residual = (y.unsqueeze(2) - predicted) / (1 - leverage).clamp(min=LEAST_LEFT)
    own = torch.where(train, y - (residual * weight).sum(2), (predicted * weight).sum(2))
    return own.clamp(-2 * CUT, 2 * CUT).to(tasks.x.dtype)


def n_row_inputs(max_features: int) -> tuple[int, int, int]:
    """How many numbers `row_inputs` gives: per row, per train row beside these, per task."""
    return 3 * max_features + 3, 5, max_features * (1 + len(KINDS)) + 3


def row_inputs(
    tasks: TaskStack, fits: Fits
) -> tuple[Float[Tensor, "t rows k"], Float[Tensor, "t rows 5"], Float[Tensor, "t m"]]:
    """What is known of every row; of train rows beside it, from the target; and of the task as a whole."""
    x, y, train = tasks.x, tasks.y, tasks.train.to(tasks.x.dtype)
    linear, base = squash(fits.linear), squash(fits.base)
    rows = [x, squash(2 * x), (x.abs() > EDGE).to(x.dtype)]
    rows.append(torch.stack([linear, base, (fits.linear - fits.base) / fits.deviation], 2).clamp(-CUT, CUT))
    cut = y.clamp(-CUT, CUT)
    off = [squash((y - fit) / fits.deviation) for fit in (fits.linear, fits.base)]
    known = torch.stack([cut, squash(3 * cut), *off, torch.ones_like(y)], 2) * train.unsqueeze(2)
    count = train.sum(1, keepdim=True).clamp(min=1)
    size = torch.log(count) / LOG_ROWS_SCALE - LOG_ROWS_SHIFT
    whole = torch.cat([input_kinds(tasks).flatten(1).to(x.dtype), size, fits.deviation, torch.log(fits.deviation)], 1)
    return torch.cat(rows, 2), known, whole


def oriented(tasks: TaskStack, fits: Fits, how: Orientations) -> tuple[TaskStack, Fits]:
    """Tasks and fits in other orders of columns, and under other signs."""
    return how.apply(tasks), fits.turned(how.sign)
