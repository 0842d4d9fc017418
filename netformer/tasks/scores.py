"""Scores: R2 of predictions and of networks on the rows of their tasks."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from netformer.networks.stack import Networks
from netformer.tasks.task import TEST, TRAIN, VALID
from netformer.tasks.view import TaskStack


def r2(
    y: Float[Tensor, "n rows"], predicted: Float[Tensor, "n rows"], keep: Bool[Tensor, "n rows"]
) -> Float[Tensor, " n"]:
    """Coefficient of determination over the kept rows, floored at -1; a non-finite prediction counts as -1."""
    w = keep.to(torch.float64)
    y, predicted = y.double(), predicted.double()
    mean = (y * w).sum(1, keepdim=True) / w.sum(1, keepdim=True).clamp(min=1)
    total = ((y - mean).square() * w).sum(1)
    error = torch.where(keep, y - predicted, 0.0).square().sum(1)
    value = 1 - error / total.clamp(min=1e-12)
    return torch.where(torch.isfinite(value), value, -1.0).clamp(min=-1.0)


def scores(
    networks: Networks, tasks: TaskStack, task_index: Int[Tensor, " n"], chunk: int = 1024
) -> Float[Tensor, "n 3"]:
    """R2 of each network on the train, valid and test rows of its task, floored at -1.

    Networks of tasks with similar numbers of rows are scored together, `chunk` at once.
    """
    result = torch.zeros(len(networks), 3, dtype=torch.float64)
    for at in torch.argsort(tasks.n_rows[task_index], stable=True).split(chunk):
        part = tasks[task_index[at]].trim()
        predicted = networks[at].predict(part.x)
        result[at] = torch.stack([r2(part.y, predicted, part.rows == code) for code in (TRAIN, VALID, TEST)], 1)
    return result
