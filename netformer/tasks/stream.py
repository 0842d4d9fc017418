"""Stream: endless, deterministic, vectorised random regression tasks.

A batch is a function of (seed, split, index) alone, so no stream meets a held-out task. Features come from correlated
Gaussian roots pushed through random marginals; importances follow a power law with a share of unused features (arXiv
2602.11139, appendix); the target is drawn from one of `FAMILIES`, all tasks of a batch sharing their number of rows.
Friedman 1-3 (Friedman 1991) is the held-out family: it has its own function, which no stream calls.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Generator, Tensor

from netformer.errors import InputError
from netformer.options import TablePrior, TaskPrior
from netformer.tables.batched import inputs_of_many
from netformer.tasks.families import DEFAULT, FAMILIES, NUMBERS, draw_friedman, draw_tasks
from netformer.tasks.observation import log_uniform, uniform
from netformer.tasks.task import TEST, TRAIN, VALID, Task
from netformer.tasks.view import TaskStack, canonicalize_tasks

# One namespace of random numbers per use: a batch of one is never a batch of another.
STREAMS = {"train": 0, "valid": 1, "test": 2, "heldout_family": 3, "stream": 4}
STREAMS |= {"class_train": 5, "class_valid": 6, "class_test": 7, "class_heldout_family": 8, "class_stream": 9}
TRAIN_SHARE, VALID_SHARE = 0.6, 0.2  # of the rows of a stored task, in the order in which they are drawn


def batch_generator(seed: int, stream: str, index: int) -> Generator:
    """The random numbers of batch `index` of one stream (`STREAMS`)."""
    words = np.random.SeedSequence([seed, STREAMS[stream], index]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)


def row_codes(rows: int) -> Tensor:
    """TRAIN, VALID or TEST for each row of a stored task, in this order, by `TRAIN_SHARE` and `VALID_SHARE`."""
    codes = torch.full((rows,), TEST)
    codes[: round((TRAIN_SHARE + VALID_SHARE) * rows)] = VALID
    codes[: round(TRAIN_SHARE * rows)] = TRAIN
    return codes


def synthetic_tasks(
    n: int,
    *,
    seed: int,
    stream: str,
    split: str,
    max_features: int,
    min_rows: int,
    max_rows: int,
    families: Sequence[str] = FAMILIES,
    prior: TaskPrior = DEFAULT,
    batch_size: int = 25,
    first: int = 0,
) -> list[Task]:
    """n stored tasks of one stream; rows log-uniform, one draw per batch; columns get random units and offsets.

    first: number of the first one, a multiple of `batch_size`.
    """
    if first % batch_size:
        raise InputError(f"first must be a multiple of {batch_size}, got {first}")
    tasks: list[Task] = []
    for index in range(first // batch_size, math.ceil((first + n) / batch_size)):
        g = batch_generator(seed, stream, index)
        rows = round(float(log_uniform(float(min_rows), float(max_rows), 1, g=g)))
        if stream == "heldout_family":
            drawn = draw_friedman(batch_size, rows, max_features=max_features, generator=g)
        else:
            drawn = draw_tasks(batch_size, rows, max_features=max_features, families=families, prior=prior, generator=g)
        unit = 10 ** uniform(-1.0, 2.0, batch_size, 1, max_features, g=g)
        x = drawn.x * unit + unit * uniform(-2.0, 2.0, batch_size, 1, max_features, g=g)
        y = drawn.y * 10 ** uniform(-1.0, 2.0, batch_size, 1, g=g)
        codes = row_codes(rows)
        for i in range(min(batch_size, n - len(tasks))):
            tested, noiseless = drawn.y[i][codes == TEST], drawn.clean[i][codes == TEST]
            ceiling = 1 - float((tested - noiseless).square().sum() / (tested - tested.mean()).square().sum())
            tasks.append(
                Task(
                    task_id=f"{stream}-{index * batch_size + i:06d}",
                    source="synthetic",
                    family=drawn.family[i],
                    split=split,
                    X=x[i, :, : int(drawn.n_features[i])].numpy().copy(),
                    y=y[i].numpy().copy(),
                    row_split=codes.numpy().astype(np.int8),
                    ceiling=max(-1.0, ceiling) if math.isfinite(ceiling) else math.nan,
                )
            )
    return tasks


def stream_batch(
    index: int,
    n: int,
    *,
    seed: int,
    stream: str = "stream",
    max_features: int,
    min_rows: int,
    max_rows: int,
    families: Sequence[str] = FAMILIES,
    prior: TaskPrior = DEFAULT,
    tables: TablePrior = NUMBERS,
) -> TaskStack:
    """Batch `index` of the endless stream, canonical: context rows are TRAIN, the rows asked about are TEST.

    Tasks have between `min_rows` and `max_rows` context rows (log-uniform, one draw per batch) and as many as
    `max_rows` / 2 query rows. Query rows hold the clean target, the mean of the noisy one, unless the target was
    transformed after the noise. With columns that hold more than numbers (`tables`), they are read as those of
    a table are (`tables.batched`), fitted on the context rows.
    """
    g = batch_generator(seed, stream, index)
    context = round(float(log_uniform(float(min_rows), float(max_rows), 1, g=g)))
    query = min(context, max_rows // 2)
    draw = partial(draw_tasks, max_features=max_features, families=families, prior=prior, tables=tables)
    drawn = draw(n, context + query, generator=g)
    rows = torch.full((n, context + query), TEST)
    rows[:, :context] = TRAIN
    clean = (rows == TEST) & drawn.clean.isfinite()
    y = torch.where(clean, drawn.clean, drawn.y)
    if tables == NUMBERS:
        return canonicalize_tasks(drawn.x, y, rows, max_features)
    many = inputs_of_many(drawn.x, drawn.levels, y, context)
    return canonicalize_tasks(many.x, y, rows, max_features, many.kinds)
