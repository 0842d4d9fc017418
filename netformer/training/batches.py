"""Batches: what one training step reads, drawn whole before it.

A batch depends on the seed and the step alone: neither on the steps before it, so that resuming needs no other state,
nor on the processes that share it (`Batch.part`), nor on the thread that draws it (`ahead`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from netformer.model.grammar import dense_params
from netformer.model.orientation import draw_orientations
from netformer.model.prompt import FREE, Prompt
from netformer.networks.specs import WRITTEN, Layout
from netformer.networks.stack import Networks
from netformer.options import BatchOptions, TaskPrior
from netformer.tasks.stream import stream_batch
from netformer.tasks.view import TaskStack
from netformer.training.class_batches import ClassBatch, draw_class_batch

T = TypeVar("T")
STEP_WORD = 77  # between seed and step: a training step shares no random numbers with a batch of the stream
BUDGET_ACTIVATIONS = 2  # a budget allows so many
FRESH_DROPOUT = 0.5  # of `condition_dropout`, for fresh tasks: their rows are the only channel


@dataclass(frozen=True, eq=False)
class Corpus:
    """What is learned from: canonical networks, the task of each (networks sorted by it), the sensitivity of every
    vertex, and the transformed meta-features of every task."""

    networks: Networks
    task_index: Int[Tensor, " n"]
    sensitivity: Float[Tensor, "n patches"]
    tasks: TaskStack
    metafeatures: Float[Tensor, "t k"]


@dataclass(frozen=True, eq=False)
class Batch:
    """n networks of the zoo, equally many in a row from each of t tasks, and s fresh tasks, with their random numbers.

    metafeatures: of the t tasks, noise added. keep_*: which channels of the condition are given. eps, prior_eps,
    fresh_eps: normal noise of the posterior, of the prior on the zoo's tasks, and of the prior on fresh ones.
    budget: constraints on the networks written for fresh tasks. classes: fresh tasks with classes, if there are any.
    """

    networks: Networks
    sensitivity: Float[Tensor, "n patches"]
    tasks: TaskStack
    metafeatures: Float[Tensor, "t k"]
    keep_task: Bool[Tensor, " t"]
    keep_metafeatures: Bool[Tensor, " t"]
    eps: Float[Tensor, "n z"]
    prior_eps: Float[Tensor, "t z"]
    fresh: TaskStack
    keep_fresh: Bool[Tensor, " s"]
    fresh_eps: Float[Tensor, "s z"]
    budget: Prompt
    classes: ClassBatch | None = None

    @property
    def per_task(self) -> int:
        """Networks of each task of the zoo."""
        return len(self.networks) // len(self.tasks)

    def part(self, rank: int, world: int) -> Batch:
        """The share of one of `world` processes: every `world`-th task from task `rank` on, with its networks."""
        if world == 1:
            return self
        task, fresh = slice(rank, None, world), slice(rank, None, world)
        net = torch.arange(len(self.networks)).view(-1, self.per_task)[task].flatten()
        return Batch(
            self.networks[net],
            self.sensitivity[net],
            self.tasks[task],
            self.metafeatures[task],
            self.keep_task[task],
            self.keep_metafeatures[task],
            self.eps[net],
            self.prior_eps[task],
            self.fresh[fresh],
            self.keep_fresh[fresh],
            self.fresh_eps[fresh],
            self.budget,
            None if self.classes is None else self.classes.part(rank, world),
        )

    @property
    def counts(self) -> dict[str, int]:
        """What each part of the loss is a mean over; parts that are not named: over networks."""
        mask = self.networks.specs
        zoo, stream = len(self.tasks), len(self.fresh)
        return {
            "network": len(self.networks),
            "parent": int(mask.patch_mask.sum()),
            "weight": int(mask.mask.sum()),
            "zoo_prior_raw": zoo,
            "zoo_prior_solved": zoo,
            "stream_prior_raw": stream,
            "stream_prior_solved": stream,
            **({} if self.classes is None else {"stream_classes": len(self.classes)}),
        }


def draw_batch(
    step: int, corpus: Corpus, options: BatchOptions, *, seed: int, d_latent: int, order_noise: float, prior: TaskPrior
) -> Batch:
    """The batch of one step. order_noise: of the orientations of those fresh tasks that are not answered with the mode
    of the prior (`orientation`); those of the zoo are canonical. prior: of the fresh tasks."""
    g, layout, o = step_generator(seed, step), corpus.networks.layout, options
    at = _zoo_batch(corpus, o.zoo_tasks, o.networks_per_task, g)
    index = corpus.task_index[at[:: o.networks_per_task]]
    t, n, metafeatures = len(index), len(at), corpus.metafeatures[index]
    keep_task = torch.rand(t, generator=g) >= o.condition_dropout
    keep_metafeatures = torch.rand(t, generator=g) >= o.condition_dropout
    eps = torch.randn(n, d_latent, generator=g)
    metafeatures = metafeatures + o.metafeature_noise * torch.randn(metafeatures.shape, generator=g)
    prior_eps = torch.randn(t, d_latent, generator=g)
    withheld = o.condition_dropout * FRESH_DROPOUT
    keep_fresh = torch.rand(o.number_tasks, generator=g) >= withheld
    mode = torch.rand(o.number_tasks, generator=g) < o.mode_share
    fresh_eps = torch.randn(o.number_tasks, d_latent, generator=g) * ~mode.unsqueeze(1)
    budget = _budget(layout, o.budget_share, g)
    fresh = stream_batch(
        step,
        o.number_tasks,
        seed=seed,
        max_features=layout.max_features,
        min_rows=o.min_rows,
        max_rows=o.max_rows,
        prior=prior,
        tables=o.tables,
    )
    orientations = draw_orientations(fresh.n_features, layout.max_features, order_noise, g).canonical(mode)
    classes = None
    if o.class_tasks:
        classes = draw_class_batch(
            step,
            o,
            seed=seed,
            max_features=layout.max_features,
            d_latent=d_latent,
            order_noise=order_noise,
            prior=prior,
            keep_share=1 - withheld,
            generator=g,
        )
    return Batch(
        networks=corpus.networks[at],
        sensitivity=corpus.sensitivity[at],
        tasks=corpus.tasks[index],
        metafeatures=metafeatures,
        keep_task=keep_task,
        keep_metafeatures=keep_metafeatures,
        eps=eps,
        prior_eps=prior_eps,
        fresh=orientations.apply(fresh),
        keep_fresh=keep_fresh,
        fresh_eps=fresh_eps,
        budget=budget,
        classes=classes,
    )


def step_generator(seed: int, step: int) -> torch.Generator:
    """The random numbers of one training step: resuming needs no other state."""
    words = np.random.SeedSequence([seed, STEP_WORD, step]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)


def _zoo_batch(corpus: Corpus, n_tasks: int, per_task: int, g: torch.Generator) -> Tensor:
    """Indices of networks, `per_task` from each of `n_tasks` random tasks, task by task."""
    present, counts = torch.unique_consecutive(corpus.task_index, return_counts=True)
    starts = torch.cumsum(counts, 0) - counts
    picked = torch.randperm(len(present), generator=g)[:n_tasks]
    u = torch.rand(len(picked), per_task, generator=g)
    return (starts[picked].unsqueeze(1) + (u * counts[picked].unsqueeze(1)).long()).flatten()


def _budget(layout: Layout, share: float, g: torch.Generator) -> Prompt:
    """With probability `share` constraints, lest a prompt ask for networks never written: a bound on the number of
    parameters, log-uniform over what the layout allows, one on the depth, and `BUDGET_ACTIVATIONS` activations."""
    if share == 0 or float(torch.rand((), generator=g)) >= share:
        return FREE
    widest = torch.full((1,), layout.max_features), torch.full((1, layout.max_hidden_layers), layout.max_width)
    most, least = int(dense_params(*widest)), 2 * layout.max_features + 3
    max_params = round(least * (most / least) ** float(torch.rand((), generator=g)))
    max_hidden_layers = int(torch.randint(1, layout.max_hidden_layers + 1, (), generator=g))
    order = torch.randperm(len(WRITTEN), generator=g)[:BUDGET_ACTIVATIONS]
    return Prompt(max_params, max_hidden_layers, tuple(WRITTEN[int(i)] for i in order))


def ahead(function: Callable[[int], T], steps: range) -> Iterator[tuple[int, T]]:
    """(step, function(step)) of every step; the next one is computed on another core while the caller works.

    The thread has as many threads of torch as the caller; what `function` raises is raised here, at its step.
    """
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(1, "ahead", initializer=torch.set_num_threads, initargs=(threads,)) as pool:
        coming = {step: pool.submit(function, step) for step in steps[:1]}
        for step in steps:
            value = coming.pop(step).result()
            if step + 1 in steps:
                coming[step + 1] = pool.submit(function, step + 1)
            yield step, value
