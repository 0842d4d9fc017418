"""Arms: networks written under several conditions, to see what each part of the condition is worth, and the runs they
are written in: a task with a sampling seed each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from netformer.errors import InputError
from netformer.generation.sampling import sample_networks
from netformer.model.vae import TransformerVAE
from netformer.networks.stack import Networks
from netformer.tasks.task import Task
from netformer.tasks.view import TaskStack

CONTROLS = ("raw_with_metafeatures", "shuffled_condition", "metafeatures_only", "unconditional")
ARMS = ("single", "raw", *CONTROLS)


# Stored beside them: the samples of `single` and `raw` after the first one, which alone depend on the sampling seed.
DRAWN, RAW_DRAWN = "drawn", "raw_drawn"


def positions_of_test(tasks: Sequence[Task]) -> list[int]:
    """Positions of the test tasks: the first row split of every table, in stored order, then the second ones, ..."""
    return sorted((i for i, task in enumerate(tasks) if task.split == "test"), key=lambda i: tasks[i].repeat)


def runs_of(tasks: Sequence[Task], n_seeds: int) -> Int[Tensor, "runs problems"]:
    """The task of each run of each problem, as positions in `tasks`, test tasks in the order of `positions_of_test`.

    A run is a task with a sampling seed. Every problem has `n_seeds` of them: a table with one task has them all on
    this task, a table with `n_seeds` row splits has one on each. Raises InputError for another number of splits.
    """
    found: dict[str, list[int]] = {}
    for index, task in enumerate(tasks):
        found.setdefault(task.table, []).append(index)
    for table, members in found.items():
        if len(members) not in (1, n_seeds):
            raise InputError(
                f"sample.n_seeds must be the number of row splits of every real table, got {n_seeds} and {table} with "
                f"{len(members)}; set download.real_splits and run download again"
            )
    return torch.tensor([[members[run % len(members)] for members in found.values()] for run in range(n_seeds)])


def sample_arm(
    model: TransformerVAE, tasks: TaskStack, metafeatures: Float[Tensor, "t k"], arm: str, n_samples: int, seed: int
) -> tuple[Networks, Float[Tensor, " n"]]:
    """Networks of one arm of the experiment, and the leave-one-out R2 of each, see `sample_networks`.

    single: samples as delivered, the first the mode of the prior. raw: the same eps, every weight written by the
    decoder, all in the canonical orientation, as is what follows. Both are given the rows of the task, and by
    meta-features only if the model has no other channel. Raw under another condition: raw_with_metafeatures (both
    channels), shuffled_condition (the condition of another task), metafeatures_only (no task embedding), unconditional.
    """
    g = torch.Generator().manual_seed(seed)
    empty = tasks[:0]
    delivered = metafeatures if model.condition == "metafeatures" else None
    if arm == "single":
        return sample_networks(model, tasks, delivered, n_samples=n_samples, generator=g)
    if arm == "shuffled_condition":
        other = torch.roll(torch.arange(len(tasks)), 1)
        tasks_seen, metafeatures_seen = tasks[other], None if delivered is None else delivered[other]
    elif arm == "raw_with_metafeatures":
        tasks_seen, metafeatures_seen = tasks, metafeatures
    elif arm == "metafeatures_only":
        tasks_seen, metafeatures_seen = empty, metafeatures
    elif arm == "unconditional":
        tasks_seen, metafeatures_seen = empty, None
    elif arm == "raw":
        tasks_seen, metafeatures_seen = tasks, delivered
    else:
        raise InputError(f"arm must be one of {', '.join(ARMS)}, got {arm!r}")
    return sample_networks(
        model,
        tasks,
        metafeatures_seen,
        n_samples=n_samples,
        generator=g,
        solve=False,
        condition_tasks=tasks_seen,
        order_noise=0.0,
    )
