"""Answers: what a teacher says of rows of a task, and how good that is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from netformer.arrays.devices import drawn
from netformer.model.orientation import draw_orientations
from netformer.model.vae import TransformerVAE
from netformer.tasks.scores import r2
from netformer.tasks.task import TEST, TRAIN
from netformer.tasks.view import TaskStack
from netformer.teacher.batches import ORDER_NOISE
from netformer.teacher.inputs import Fits, fits_of, oriented
from netformer.teacher.transformer import Teacher

CONTEXT_ROWS = 1000  # train rows a teacher reads, at most


@dataclass(frozen=True, eq=False)
class Answerer:
    """A teacher with the model that writes the networks it corrects."""

    teacher: Teacher
    writer: TransformerVAE | None

    @torch.no_grad()
    def answers(
        self, tasks: TaskStack, orders: int = 1, networks: int | None = None, generator: Generator | None = None
    ) -> Float[Tensor, "t queries"]:
        """Answers for every row behind the train rows, which stand first and are equally many in all tasks.

        orders: orientations over which they are averaged, the first canonical. networks: as many are written per task
        for the fit that is corrected; None: as in training. generator: draws both; None: seed 0. Of more train rows
        than `CONTEXT_ROWS` a random part is read. Linear in the number of rows asked about.
        """
        g = torch.Generator().manual_seed(0) if generator is None else generator
        n = int(tasks.train[0].sum())
        if n > CONTEXT_ROWS:
            kept = drawn("randperm", n, generator=g, like=tasks.x)[:CONTEXT_ROWS].sort().values
            tasks = tasks.at_rows(torch.cat([kept, torch.arange(n, tasks.x.shape[1])]))
            n = CONTEXT_ROWS
        count = self.teacher.options.networks if networks is None else networks
        return self._mean(tasks, fits_of(tasks, self.writer, count, g), n, orders, g)

    @torch.no_grad()
    def out_of_fold(
        self,
        tasks: TaskStack,
        folds: int,
        orders: int = 1,
        networks: int | None = None,
        generator: Generator | None = None,
    ) -> Float[Tensor, "t rows"]:
        """Answers for the train rows, of which `tasks` has no others: each from the rows that are not in its fold,
        every `folds`-th row, in random order. The fits that are corrected are those of all rows, which leave out the
        row itself.
        """
        g = torch.Generator().manual_seed(0) if generator is None else generator
        count = self.teacher.options.networks if networks is None else networks
        fits, answers = fits_of(tasks, self.writer, count, g), torch.zeros_like(tasks.y)
        order = drawn("randperm", tasks.x.shape[1], generator=g, like=tasks.x)
        for fold in range(folds):
            out = torch.zeros(len(order), dtype=torch.bool)
            out[order[fold::folds]] = True
            at = torch.argsort(out.to(torch.int8), stable=True)
            at = torch.cat([at[: int((~out).sum())][:CONTEXT_ROWS], torch.nonzero(out).squeeze(1)])
            answers[:, out] = self._mean(tasks.at_rows(at), fits.at_rows(at), len(at) - int(out.sum()), orders, g)
        return answers

    def _mean(
        self, tasks: TaskStack, fits: Fits, n_train: int, orders: int, g: Generator
    ) -> Float[Tensor, "t queries"]:
        """The mean answer over orientations, the first canonical."""
        total = torch.zeros(())
        for number in range(orders):
            how = draw_orientations(tasks.n_features, tasks.x.shape[2], ORDER_NOISE, g)
            how = how.canonical(torch.full((len(tasks),), number == 0))
            total = total + self.teacher(*oriented(tasks, fits, how), n_train) * how.sign.unsqueeze(1)
        return total / orders


def asked(tasks: TaskStack, x: Float[Tensor, "t rows features"]) -> TaskStack:
    """The train rows of tasks (equally many) and other rows to ask about, in canonical coordinates."""
    known = tasks.at_rows(tasks.train[0])
    rows = torch.full(x.shape[:2], TEST)
    y = torch.cat([known.y, known.y.new_zeros(x.shape[:2])], 1)
    return replace(known, x=torch.cat([known.x, x], 1), y=y, rows=torch.cat([known.rows, rows], 1))


def valid_r2(answerer: Answerer, batches: Iterable[TaskStack], orders: int = 1) -> Float[Tensor, " t"]:
    """R2 of the teacher on the rows asked about, task by task, floored at -1."""
    found = []
    for tasks in batches:
        n = int((tasks.rows[0] == TRAIN).sum())
        y = tasks.y[:, n:]
        found.append(r2(y, answerer.answers(tasks, orders), torch.ones_like(y, dtype=torch.bool)))
    return torch.cat(found)
