"""Batches: fresh tasks for each step of the teacher's training, all of a batch with equally many rows.

A batch is a function of seed and step alone, so a training that was interrupted needs no state of it. Long tasks come
fewer at a time, so that every batch has about as many rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Generator

from netformer.arrays.devices import drawn, made_on, moved
from netformer.errors import InputError, require
from netformer.model.orientation import draw_orientations
from netformer.model.vae import TransformerVAE
from netformer.options import LEAST_ROWS, TablePrior, TaskPrior
from netformer.tasks.families import NUMBERS
from netformer.tasks.observation import log_uniform
from netformer.tasks.stream import stream_batch
from netformer.tasks.view import TaskStack
from netformer.teacher.inputs import Fits, fits_of, oriented, without_networks

WORD = 78  # between seed and step: a step of the teacher shares no random numbers with one of the model
ORDER_NOISE = 0.5  # of the orientations in which tasks that are not canonical are read, see `orientation`
VALID = "valid"  # the stream on which choices are made


@dataclass(frozen=True)
class TeachOptions:
    """How the teacher is trained, as in the section `teach` of params/teacher.yaml.

    seed: of initial weights and tasks. steps: of the optimisers. every: steps from one checkpoint to the next. rows: of
    a batch, about; least_tasks, most_tasks: of a batch. min_rows, max_rows: train rows of a task, log-uniform.
    canonical_share: tasks read in their canonical orientation, the others in a random one. ridge_share: tasks whose
    networks are withheld, so that ridge regression is corrected. lr: learning rate, constant after `warmup` steps;
    matrices of the blocks, and `outer_lr` of everything else. decay_share: of the steps, the last ones, over which it
    falls to zero. weight_decay: decoupled. average: how many of the last checkpoints the delivered weights are the mean
    of, while the rate is constant. precision: of the blocks' arithmetic.

    Raises InputError for a value out of range.
    """

    seed: int = 11
    steps: int = 40000
    every: int = 100
    rows: int = 8000
    least_tasks: int = 8
    most_tasks: int = 64
    min_rows: int = 20
    max_rows: int = 600
    canonical_share: float = 0.5
    ridge_share: float = 0.5
    lr: float = 0.003
    outer_lr: float = 0.002
    warmup: int = 50
    decay_share: float = 0.25
    weight_decay: float = 0.01
    average: int = 5
    precision: Literal["bf16-mixed", "32-true"] = "bf16-mixed"

    def __post_init__(self) -> None:
        require(self, ["seed", "steps", "warmup", "weight_decay"], low=0)
        require(self, ["every", "rows", "least_tasks", "most_tasks", "average"], low=1)
        require(self, ["min_rows", "max_rows"], low=LEAST_ROWS)
        require(self, ["canonical_share", "ridge_share", "decay_share"], low=0, high=1)
        for low, high in (("min_rows", "max_rows"), ("least_tasks", "most_tasks")):
            if getattr(self, low) > getattr(self, high):
                raise InputError(f"{low} must be at most {high}, got {getattr(self, low)} > {getattr(self, high)}")
        for name in ("lr", "outer_lr"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be greater than 0, got {getattr(self, name)}")
        if self.precision not in ("bf16-mixed", "32-true"):
            raise InputError(f"precision must be bf16-mixed or 32-true, got {self.precision!r}")


@dataclass(frozen=True, eq=False)
class Lesson:
    """Tasks of equally many train rows, `n_train`, which stand first, and the fits the teacher corrects."""

    tasks: TaskStack
    fits: Fits
    n_train: int

    def __len__(self) -> int:
        return len(self.tasks)


def draw_lesson(
    step: int,
    options: TeachOptions,
    *,
    max_features: int,
    networks: int,
    writer: TransformerVAE | None,
    prior: TaskPrior,
    tables: TablePrior = NUMBERS,
    device: torch.device | None = None,
) -> Lesson:
    """The batch of one step. networks, writer: see `inputs.fits_of`. prior, tables: of the tasks. device: where the
    writer is and the batch will be, None: the CPU; what is random is drawn on the CPU."""
    o, g = options, step_generator(options.seed, step)
    n_train = round(float(log_uniform(float(o.min_rows), float(o.max_rows), 1, g=g)))
    n = int(np.clip(o.rows // (n_train + n_train // 2), o.least_tasks, o.most_tasks))
    tasks = stream_batch(
        step,
        n,
        seed=o.seed,
        max_features=max_features,
        min_rows=n_train,
        max_rows=n_train,
        prior=prior,
        tables=tables,
    ).float()
    tasks = moved(tasks, device)
    with made_on(device):
        fits = fits_of(tasks, writer, networks, g)
        fits = without_networks(tasks, fits, drawn("rand", n, generator=g, like=tasks.x) < o.ridge_share)
        how = draw_orientations(tasks.n_features, max_features, ORDER_NOISE, g)
        how = how.canonical(drawn("rand", n, generator=g, like=tasks.x) < o.canonical_share)
        return Lesson(*oriented(tasks, fits, how), n_train)


def validation_tasks(
    batches: int,
    n: int,
    options: TeachOptions,
    *,
    max_features: int,
    prior: TaskPrior,
    tables: TablePrior = NUMBERS,
) -> list[TaskStack]:
    """Batches of `n` tasks of the validation stream, seed 0, the same for every training; a batch's tasks have equally
    many rows, as many as in training."""
    draw = partial(stream_batch, n=n, seed=0, stream=VALID, max_features=max_features, prior=prior, tables=tables)
    return [draw(i, min_rows=options.min_rows, max_rows=options.max_rows).float() for i in range(batches)]


def step_generator(seed: int, step: int) -> Generator:
    """The random numbers of one training step."""
    words = np.random.SeedSequence([seed, WORD, step]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)
