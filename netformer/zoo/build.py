"""Zoo engine: trains thousands of small networks, each alone in a compiled kernel (`netformer.zoo.kernel`).

Every network is trained by Adam (Kingma and Ba 2015) under a one-cycle schedule on mini-batches of its own task, and
keeps the weights that did best on the task's valid rows. Networks never meet: training network i alone gives the same
bits as training it in any stack, on any number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from netformer.errors import InputError
from netformer.networks.specs import WRITTEN, Layout, Specs, draw_specs
from netformer.networks.stack import Networks, concatenate
from netformer.tasks.scores import scores
from netformer.tasks.task import TRAIN, VALID
from netformer.tasks.view import TaskStack
from netformer.workers import map_parallel, on_cluster
from netformer.zoo.schedule import learning_rate

Progress = Callable[[int, int], None]
_PIECE = 512  # networks a call on a cluster: seconds of work, a few MB
_CHUNK = 64  # networks a thread takes at once: changes the speed, not the result
SQUARED_ERROR, LOG_LOSS = LOSSES = ("squared error", "log loss")


def _hash_uniform(keys: Int[np.ndarray, " n"], count: int) -> Float[np.ndarray, "n count"]:
    """Uniform (0, 1) numbers that depend on a key and a counter alone (SplitMix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        z = keys.astype(np.uint64)[:, None] * np.uint64(0xD1342543DE82EF95)
        z = z + (np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))[None, :]
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return ((z >> np.uint64(40)).astype(np.float32) + 0.5) / np.float32(1 << 24)


def initialize(specs: Specs, seeds: Int[Tensor, " n"]) -> Networks:
    """Initial weights U(-1, 1) / sqrt(fan-in), as `torch.nn.Linear`; equal seeds share their initialisation."""
    fan_in = specs.mask[:, :, 1:].sum(2, keepdim=True).clamp(min=1)
    uniform = torch.from_numpy(_hash_uniform(seeds.numpy(), specs.mask[0].numel())).view(specs.mask.shape)
    return Networks(specs, torch.where(specs.mask, (2 * uniform - 1) / fan_in.sqrt(), 0.0))


def _draws(step: int, batch_size: int, seed: int) -> Float[Tensor, " batch"]:
    """Uniform numbers in [0, 1); times the number of train rows they are the rows of one step."""
    words = np.random.SeedSequence([seed, step]).generate_state(1, np.uint32)
    return torch.rand(batch_size, generator=torch.Generator().manual_seed(int(words[0])))


def train_networks(
    initial: Networks,
    tasks: TaskStack,
    task_index: Int[Tensor, " n"],
    *,
    steps: int,
    lr: float | Callable[[int], float],
    batch_size: int = 64,
    weight_decay: float = 0.0,
    evaluations: int = 10,
    seed: int = 0,
    loss: str = SQUARED_ERROR,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Networks:
    """Train every network on its task; network i reads task `task_index[i]`.

    steps: Adam steps. lr: peak learning rate of `schedule.learning_rate`, or the rate of every step, from 0 on: so the
    first steps of a longer training are repeated. weight_decay: decoupled (AdamW). evaluations: how often the valid
    rows are looked at; the best weights seen there are kept (the initial ones included). loss: "squared error" of
    networks with one output, or "log loss" where y is the number of a class: 0 or 1 for one output, the logit of class
    1; 0 to K - 1 for K outputs, logits under softmax. workers: threads, None: one a core. They change the speed, not
    the result, and so does a Dask cluster (`netformer.workers`), which gets `_PIECE` networks per call.

    Raises InputError for a task without train or without valid rows: nothing says then which weights are best; and for
    a loss that fits neither the outputs nor the targets, and for units that have no slope (`specs.WRITTEN` have one).
    """
    if bool((initial.specs.activations >= len(WRITTEN)).any()):
        raise InputError(f"networks to train must have activations of {', '.join(WRITTEN)}, found step units")
    for code, name in ((TRAIN, "train"), (VALID, "valid")):
        lacking = task_index[(tasks.rows == code).sum(1)[task_index] == 0]
        if len(lacking):
            raise InputError(
                f"every task must have train and valid rows, found none that is {name} in task {lacking[0]}"
            )
    _check_loss(loss, initial.specs.n_outputs, tasks[torch.unique(task_index)])
    if on_cluster():
        options: dict[str, Any] = {"steps": steps, "lr": lr, "batch_size": batch_size, "weight_decay": weight_decay}
        options |= {"evaluations": evaluations, "seed": seed, "loss": loss}
        pieces = [_piece(initial, tasks, task_index, at) for at in torch.arange(len(initial)).split(_PIECE)]
        return concatenate(map_parallel(partial(_train_piece, **options), pieces, progress=progress))

    from netformer.zoo import kernel  # numba takes longer to import than the rest of this module

    specs, features, n = initial.specs, tasks.x.shape[2], len(initial)
    layout, width = specs.layout, specs.layout.max_width
    exists = specs.patch_mask
    patch = torch.nonzero(exists)[:, 1]
    edge_owner, edge_patch, slot = torch.nonzero(specs.mask, as_tuple=True)
    reads = torch.where(edge_patch >= layout.outputs.start, specs.depth[edge_owner], edge_patch // width) - 1
    source = torch.where(slot > features, slot + reads * width, slot)
    ends = torch.zeros(n, layout.n_outputs, dtype=torch.long)
    codes = torch.cat([specs.activations.repeat_interleave(width, 1), ends], 1)
    read_order = torch.where(tasks.rows == TRAIN, 0, torch.where(tasks.rows == VALID, 1, 2))
    order = torch.argsort(read_order, dim=1, stable=True)
    weight = initial.weight[specs.mask].numpy().copy()
    rate = lr if callable(lr) else partial(learning_rate, steps=steps, peak=lr)
    rates = [kernel.adam_rates(step, rate(step), weight_decay) for step in range(steps)]
    every = max(1, steps // max(1, evaluations))
    arguments: tuple[Any, ...] = (
        task_index.contiguous().numpy(),
        specs.n_inputs.contiguous().numpy(),
        _offsets(exists.sum(1)),
        (1 + features + patch).numpy(),
        codes[exists].numpy(),
        _offsets(specs.mask.sum(2)[exists]),
        source.numpy(),
        weight,
        tasks.x.gather(1, order.unsqueeze(2).expand_as(tasks.x)).transpose(1, 2).contiguous().numpy(),
        tasks.y.gather(1, order).numpy(),
        torch.stack([(tasks.rows == TRAIN).sum(1), (tasks.rows == VALID).sum(1)], 1).numpy(),
        torch.stack([_draws(step, batch_size, seed) for step in range(steps)]).numpy(),
        np.array(rates, np.float32),
        np.array([(step + 1) % every == 0 or step + 1 == steps for step in range(steps)]),
        layout.n_outputs if loss == LOG_LOSS else 0,
    )
    parts = [np.arange(start, min(start + _CHUNK, n)) for start in range(0, n, _CHUNK)]
    done = 0
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        jobs = {pool.submit(kernel.train, part, *arguments): len(part) for part in parts}
        for job in as_completed(jobs):
            job.result()
            done += jobs[job]
            if progress:
                progress(done, n)
    trained = torch.zeros_like(initial.weight)
    trained[specs.mask] = torch.from_numpy(weight)
    return Networks(specs, trained)


def _check_loss(loss: str, n_outputs: int, tasks: TaskStack) -> None:
    """Raises InputError for an unknown loss, and for outputs or targets of another one."""
    if loss not in LOSSES:
        raise InputError(f"loss must be {' or '.join(map(repr, LOSSES))}, got {loss!r}")
    if loss == SQUARED_ERROR and n_outputs > 1:
        raise InputError(f"squared error must have networks of one output, got {n_outputs}; train them by log loss")
    if loss == LOG_LOSS:
        y, most = tasks.y[(tasks.rows == TRAIN) | (tasks.rows == VALID)], max(1, n_outputs - 1)
        wrong = y[(y != y.round()) | (y < 0) | (y > most)]
        if len(wrong):
            raise InputError(f"log loss must have the classes 0 to {most} as targets, got {float(wrong[0]):g}")


def _piece(
    initial: Networks, tasks: TaskStack, task_index: Int[Tensor, " n"], at: Int[Tensor, " k"]
) -> tuple[Networks, TaskStack, Tensor]:
    """The networks `at` with their own tasks alone."""
    used, local = torch.unique(task_index[at], return_inverse=True)
    return initial[at], tasks[used], local


def _train_piece(piece: tuple[Networks, TaskStack, Tensor], **options: Any) -> Networks:
    return train_networks(*piece, workers=1, **options)


def _offsets(counts: Int[Tensor, " n"]) -> Int[np.ndarray, " n+1"]:
    """Where each of n runs begins in their concatenation, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(counts.numpy())])


@dataclass(frozen=True, eq=False)
class TrainedZoo:
    """Trained networks with the task, initial seed and scores (train, valid, test R2) of each."""

    networks: Networks
    task_index: Int[Tensor, " n"]
    init_seed: Int[Tensor, " n"]
    r2: Float[Tensor, "n 3"]


def build_zoo(
    tasks: TaskStack,
    *,
    layout: Layout,
    spec: dict,
    networks_per_task: int,
    duplicate_share: float,
    optimizer: dict[str, Any],
    min_valid_r2: float,
    max_gap: float,
    seed: int,
    workers: int | None = None,
    progress: Progress | None = None,
    score: Callable[[Networks, TaskStack, Tensor], Tensor] = scores,
) -> tuple[TrainedZoo, dict[str, int]]:
    """Draw, train and filter `networks_per_task` networks per task.

    spec: arguments of `specs.draw_specs`. optimizer: of `train_networks` (steps, lr, batch_size, weight_decay).
    duplicate_share: share of networks that start from the initialisation of one that has its own. min_valid_r2: a
    network below it is rejected. max_gap: so is one that lies further below the best of its task. score: gives
    R2 on train, valid and test rows, at most 1.

    Returns the zoo, in task order, and counts of drawn, rejected (by reason, first reason counts) and kept networks.
    """
    n = len(tasks) * networks_per_task
    task_index = torch.arange(len(tasks)).repeat_interleave(networks_per_task)
    g = torch.Generator().manual_seed(seed)
    specs = draw_specs(tasks.n_features[task_index].clamp(min=1), layout=layout, generator=g, **spec)
    seeds = torch.arange(n) + (seed << 32)
    copied = torch.rand(n, generator=g) < duplicate_share
    copied[0] = False  # the first net keeps its own initialisation, so that a donor exists
    own = torch.nonzero(~copied).squeeze(1)
    seeds[copied] = seeds[own[torch.randint(len(own), (int(copied.sum()),), generator=g)]]
    trained = train_networks(
        initialize(specs, seeds),
        tasks,
        task_index,
        seed=seed,
        workers=workers,
        progress=progress,
        **optimizer,
    )
    r2s = score(trained, tasks, task_index)
    valid = r2s[:, VALID]
    best = torch.full((len(tasks),), -1.0, dtype=valid.dtype).scatter_reduce(0, task_index, valid, "amax")
    finite = torch.isfinite(trained.weight).all((1, 2))
    weak = finite & (valid < min_valid_r2)
    behind = finite & ~weak & (valid < best[task_index] - max_gap)
    keep = finite & ~weak & ~behind
    counts = {
        "drawn": n,
        "rejected_not_finite": int((~finite).sum()),
        "rejected_below_min_valid_r2": int(weak.sum()),
        "rejected_behind_best_of_task": int(behind.sum()),
        "kept": int(keep.sum()),
    }
    return TrainedZoo(trained[keep], task_index[keep], seeds[keep], r2s[keep]), counts
