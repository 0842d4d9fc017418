"""Classes: a zoo of networks that classify, one stack for each number of outputs.

Networks are drawn and trained as those of `build.build_zoo`, by the log loss. They are scored by McFadden's R2, the
share of the log loss of the class frequencies that a network saves, so that the same bounds say what is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from netformer.networks.specs import Layout
from netformer.networks.stack import Networks
from netformer.tasks.task import TEST, TRAIN, VALID, ClassTask
from netformer.tasks.view import TaskStack, stack_class_tasks
from netformer.zoo.build import LOG_LOSS, TrainedZoo, build_zoo

LEAST_PROBABILITY = 1e-6  # of a class, by how often it occurs


def class_r2(
    networks: Networks, tasks: TaskStack, task_index: Int[Tensor, " n"], chunk: int = 1024
) -> Float[Tensor, "n 3"]:
    """McFadden's R2 of each network on the train, valid and test rows of its task, at least -1: one minus its log loss
    over that of how often each class is among the train rows. y of the tasks: numbers of classes."""
    result = torch.zeros(len(networks), 3, dtype=torch.float64)
    for at in torch.arange(len(networks)).split(chunk):
        part = tasks[task_index[at]]
        logits = networks[at].answers(part.x).double()
        if logits.shape[2] == 1:
            logits = functional.pad(logits, (1, 0))
        code, n_classes = part.y.long(), logits.shape[2]
        loss = functional.cross_entropy(logits.transpose(1, 2), code, reduction="none")
        count = (functional.one_hot(code, n_classes) * part.train.unsqueeze(2)).sum(1).double()
        share = (count / count.sum(1, keepdim=True)).clamp(min=LEAST_PROBABILITY).log()
        known = -share.gather(1, code)
        for column, rows in enumerate((TRAIN, VALID, TEST)):
            keep = part.rows == rows
            total, guess = (torch.where(keep, values, 0.0).sum(1) for values in (loss, known))
            found = 1 - total / guess.clamp(min=1e-12)
            result[at, column] = torch.where(found.isfinite(), found, -1.0).clamp(min=-1.0)
    return result


def build_class_zoo(
    tasks: Sequence[ClassTask], *, layout: Layout, optimizer: dict[str, Any], **options: Any
) -> tuple[list[tuple[list[str], TrainedZoo]], dict[str, int]]:
    """Zoos by their number of outputs, the least first, each with the id of every network's task, and the counts of all
    together. options: as for `build.build_zoo`, `seed` among them; r2 is that of `class_r2`."""
    zoos, counts = [], Counter[str]()
    for k in sorted({task.n_outputs for task in tasks}):
        own = [task for task in tasks if task.n_outputs == k]
        stack = stack_class_tasks(own, layout.max_features)
        zoo, found = build_zoo(
            stack,
            layout=replace(layout, n_outputs=k),
            optimizer=optimizer | {"loss": LOG_LOSS},
            score=class_r2,
            **options,
        )
        zoos.append(([own[i].task_id for i in zoo.task_index.tolist()], zoo))
        counts.update(found)
    return zoos, dict(counts)
