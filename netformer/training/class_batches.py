"""Class batches: fresh tasks with classes, as one training step reads them.

As in what is delivered, a network is written for one class against the rest: its target is the standardised indicator
of the class. A task has `NETWORKS_PER_CLASS_TASK` of them, of classes drawn at random, of two classes all for the first
one. Classes are in an order that their numbers do not enter (`in_order`), so other labels make the same batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from netformer.model.orientation import draw_orientations
from netformer.options import NETWORKS_PER_CLASS_TASK, BatchOptions, TablePrior, TaskPrior
from netformer.tables.batched import inputs_of_many
from netformer.tasks.classes import DrawnClasses, class_stream_batch
from netformer.tasks.families import NUMBERS
from netformer.tasks.task import TRAIN
from netformer.tasks.view import TaskStack, canonicalize_tasks


@dataclass(frozen=True, eq=False)
class ClassBatch:
    """s fresh tasks with classes, and their random numbers.

    tasks: what each network reads, the networks of a task in a row; the target is the indicator of its class, that of
    query rows its true probability. target: 1 for the class of a context row, the true probabilities of classes in a
    query row. fitted: context rows. keep: whether the condition is given, eps: normal noise of the prior, both per
    network.
    """

    tasks: TaskStack
    target: Float[Tensor, "s rows classes"]
    fitted: Bool[Tensor, "s rows"]
    keep: Bool[Tensor, " n"]
    eps: Float[Tensor, "n z"]

    def __len__(self) -> int:
        return len(self.target)

    def part(self, rank: int, world: int) -> ClassBatch:
        """The share of one of `world` processes: every `world`-th task from task `rank` on, with its networks."""
        at = torch.arange(rank, len(self), world)
        net = (at.unsqueeze(1) * NETWORKS_PER_CLASS_TASK + torch.arange(NETWORKS_PER_CLASS_TASK)).flatten()
        return ClassBatch(self.tasks[net], self.target[at], self.fitted[at], self.keep[net], self.eps[net])


def draw_class_batch(
    step: int,
    options: BatchOptions,
    *,
    seed: int,
    max_features: int,
    d_latent: int,
    order_noise: float,
    prior: TaskPrior,
    keep_share: float,
    generator: Generator,
) -> ClassBatch:
    """`options.class_tasks` tasks of the stream. order_noise, prior: as in `batches.draw_batch`. keep_share: of tasks
    whose rows the condition is given. generator: of all that is not the tasks."""
    o, g = options, generator
    drawn = class_stream_batch(
        step,
        o.class_tasks,
        seed=seed,
        max_features=max_features,
        min_rows=o.min_rows,
        max_rows=o.max_rows,
        prior=prior,
        tables=o.tables,
    )
    tasks, target = one_against_the_rest(drawn, max_features, o.tables, g)
    mode = torch.rand(len(tasks), generator=g) < o.mode_share
    orientations = draw_orientations(tasks.n_features, max_features, order_noise, g).canonical(mode)
    return ClassBatch(
        tasks=orientations.apply(tasks),
        target=target,
        fitted=drawn.rows == TRAIN,
        keep=(torch.rand(o.class_tasks, generator=g) < keep_share).repeat_interleave(NETWORKS_PER_CLASS_TASK),
        eps=torch.randn(len(tasks), d_latent, generator=g) * ~mode.unsqueeze(1),
    )


def one_against_the_rest(
    drawn: DrawnClasses, max_features: int, tables: TablePrior, g: Generator
) -> tuple[TaskStack, Float[Tensor, "s rows classes"]]:
    """`ClassBatch.tasks`, in their canonical views, and `ClassBatch.target`."""
    drawn = in_order(drawn)
    s, rows, k = drawn.probabilities.shape
    fitted = (drawn.rows == TRAIN).unsqueeze(2)
    target = torch.where(fitted, torch.nn.functional.one_hot(drawn.codes, k), drawn.probabilities)
    chance = torch.rand(s, k, generator=g) + (torch.arange(k) >= drawn.n_classes.unsqueeze(1))
    chosen = chance.argsort(1)[:, torch.arange(NETWORKS_PER_CLASS_TASK) % k]
    chosen = torch.where((drawn.n_classes > 2).unsqueeze(1), chosen, 0)
    y = target.gather(2, chosen.unsqueeze(1).expand(-1, rows, -1)).transpose(1, 2).flatten(0, 1)
    x, levels, split = (part.repeat_interleave(len(chosen[0]), 0) for part in (drawn.x, drawn.levels, drawn.rows))
    if tables == NUMBERS:
        return canonicalize_tasks(x, y, split, max_features), target
    many = inputs_of_many(x, levels, y, drawn.fitted)
    return canonicalize_tasks(many.x, y, split, max_features, many.kinds), target


def in_order(drawn: DrawnClasses) -> DrawnClasses:
    """Classes of most fitted rows first, equals by where these rows are; as many as the tasks have at most."""
    k = int(drawn.n_classes.max())
    shown = torch.nn.functional.one_hot(drawn.codes[:, : drawn.fitted], drawn.probabilities.shape[2])
    place = (shown * torch.arange(drawn.fitted).view(1, -1, 1)).sum(1)
    order: Int[Tensor, "s classes"] = (place - shown.sum(1) * drawn.fitted**2).argsort(dim=1, stable=True)[:, :k]
    rank = order.new_zeros(shown.shape[0], shown.shape[2]).scatter(1, order, torch.arange(k).expand_as(order))
    codes = rank.gather(1, drawn.codes)
    p = drawn.probabilities.gather(2, order.unsqueeze(1).expand(-1, drawn.codes.shape[1], -1))
    return replace(drawn, codes=codes, probabilities=p)
