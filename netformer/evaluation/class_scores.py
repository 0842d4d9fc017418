"""Scores of classes: generated networks as classifiers on held-out tasks, beside what needs no model.

A network is written for each class against the rest, and one output layer is solved on the hidden units of all of them,
as in training (`model.class_head.class_logits`); `random_wide` has as many random units under it, `logistic` none. All
are fitted on train rows. The score is the expected log loss on test rows under the true probabilities, whose own is the
floor.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from netformer.generation.sampling import sample_networks
from netformer.model.class_head import class_logits, log_loss
from netformer.model.vae import TransformerVAE
from netformer.tasks.task import TEST, TRAIN, ClassTask, Task, class_order
from netformer.tasks.view import TaskStack, stack_tasks

ROWS = ("wide", "random_wide", "logistic", "majority", "floor")


def class_metrics(model: TransformerVAE, tasks: Sequence[ClassTask], *, n_samples: int, seed: int) -> dict[str, float]:
    """Mean log loss of each of `ROWS` in nats, its standard error over tasks (ROW_se), and wide minus every other row
    (wide_minus_ROW, with its error). n_samples: networks of a task, as many for each class."""
    every = np.array([_losses(model, task, n_samples, seed + number) for number, task in enumerate(tasks)])
    found, root = {"n_tasks": float(len(tasks))}, np.sqrt(len(tasks))
    spread = every.std(0, ddof=1) if len(tasks) > 1 else np.zeros(len(ROWS))
    for column, row in enumerate(ROWS):
        found |= {row: float(every[:, column].mean()), f"{row}_se": float(spread[column] / root)}
    for column, row in enumerate(ROWS[1:], 1):
        less = every[:, 0] - every[:, column]
        error = float(less.std(ddof=1) / root) if len(tasks) > 1 else 0.0
        found |= {f"wide_minus_{row}": float(less.mean()), f"wide_minus_{row}_se": error}
    return found


@torch.no_grad()
def _losses(model: TransformerVAE, task: ClassTask, n_samples: int, seed: int) -> list[float]:
    """The log loss of each of `ROWS` on a task."""
    fitted, asked = (torch.from_numpy(task.row_split == rows).unsqueeze(0) for rows in (TRAIN, TEST))
    truth = torch.from_numpy(task.probabilities).float().unsqueeze(0)
    codes = torch.from_numpy(task.codes).long().unsqueeze(0)
    target = torch.where(fitted.unsqueeze(2), torch.nn.functional.one_hot(codes, truth.shape[2]), truth)
    stack = one_against_the_rest(task, model.layout.max_features)
    g = torch.Generator().manual_seed(seed)
    each = max(1, n_samples // len(stack))
    networks, _ = sample_networks(model, stack, None, n_samples=each, generator=g, solve=False)
    hidden = networks.last_hidden(stack.x.repeat_interleave(each, 0)).transpose(0, 1).flatten(1).unsqueeze(0)
    own, x = networks.specs.last_units.flatten().unsqueeze(0), stack.x[:1]
    units = _random_units(x, int(stack.n_features[0]), int(own.sum()), seed)
    none = torch.zeros(1, x.shape[1], 1)
    parts: list[tuple[Tensor, Bool[Tensor, "t units"]]] = [
        (hidden, own),
        (units, torch.ones(1, units.shape[2], dtype=torch.bool)),
        (none, torch.zeros(1, 1, dtype=torch.bool)),
    ]
    logits = [class_logits(made, exist, x, target, fitted) for made, exist in parts]
    share = (target * fitted.unsqueeze(2)).sum(1, keepdim=True) / fitted.sum()
    logits += [share.log().expand_as(truth), truth.clamp(min=torch.finfo(truth.dtype).tiny).log()]
    return [float((log_loss(one, truth) * asked).sum() / asked.sum()) for one in logits]


def one_against_the_rest(task: ClassTask, max_features: int) -> TaskStack:
    """The task once for each class, of two classes for the first alone, the target being the indicator of that class.
    Classes of most train rows come first."""
    k = task.probabilities.shape[1]
    order = class_order(task.codes[task.row_split == TRAIN], k)[: k if k > 2 else 1]
    return stack_tasks(
        [
            Task(
                task.task_id,
                task.source,
                task.family,
                task.split,
                task.X,
                (task.codes == code).astype(np.float32),
                task.row_split,
            )
            for code in order
        ],
        max_features,
    )


def _random_units(
    x: Float[Tensor, "1 rows features"], n_features: int, units: int, seed: int
) -> Float[Tensor, "1 rows units"]:
    """tanh units with weights N(0, 1) / sqrt(features) and biases N(0, 1), as in `baselines.random_head`."""
    drawn = torch.from_numpy(np.random.default_rng(seed).standard_normal((units, 1 + x.shape[2]))).float()
    return torch.tanh(x @ drawn[:, 1:].T / max(n_features, 1) ** 0.5 + drawn[:, 0])
