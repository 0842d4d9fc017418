"""Scoring: genomes become networks, output layers are solved, objectives are computed, in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from netformer.model.head import weigh_heads
from netformer.networks.stack import Networks, concatenate
from netformer.search.objectives import Objective, values_of
from netformer.search.problem import SearchTask
from netformer.search.spaces import Space
from netformer.workers import one_thread

CHUNK, CHUNK_ROWS = 64, 32_768  # networks solved together: at most, and times the rows; few enough for the cache


@dataclass(frozen=True, eq=False)
class Scored:
    """Candidates in canonical coordinates, output layers solved, and what each objective says of them. error: mean
    squared error by leave-one-out over the variance of y; one minus it is `expected_r2`. With a `head` as it says."""

    networks: Networks
    error: Float[Tensor, " n"]
    values: Float[np.ndarray, "n objectives"]


def score(
    space: Space, genomes: Float[np.ndarray, "n genes"], objectives: Sequence[Objective], workers: int = 1
) -> Scored:
    """Write, solve and score candidates. workers: threads; they change the speed, not the bytes, for every chunk of
    candidates is worked on alone. Raises InputError for an objective that answers wrongly (`values_of`)."""
    task = space.task
    size = max(1, min(CHUNK, CHUNK_ROWS // max(1, int(task.rows.train.sum()))))
    parts = [genomes[at : at + size] for at in range(0, len(genomes), size)]

    def work(part: Float[np.ndarray, "n genes"]) -> Scored:
        with torch.no_grad():
            networks, error = solved(space.write(part), task)
            values = [values_of(one, networks, task, error) for one in objectives]
        return Scored(networks, error, np.stack(values, 1))

    with one_thread():
        if workers == 1 or len(parts) == 1:
            done = [work(part) for part in parts]
        else:
            with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                done = list(pool.map(work, parts))
    return Scored(
        concatenate([one.networks for one in done]),
        torch.cat([one.error for one in done]),
        np.concatenate([one.values for one in done]),
    )


def solved(networks: Networks, task: SearchTask) -> tuple[Networks, Float[Tensor, " n"]]:
    """Networks with the output layer that a delivered one has (`head.weigh_heads`), and their leave-one-out error: the
    mean square over the variance of y; where the task has a `head` of its own, with that one."""
    if task.head is not None:
        return task.head.solved(networks)
    every = torch.zeros(len(networks), dtype=torch.int64)
    found, r2 = weigh_heads(networks, task.rows.train_only()[every], task.penalties[every])
    return found, 1 - r2
