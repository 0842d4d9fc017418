"""Batches: what is withheld, noised and asked for comes at its rate, and every network stands beside its own task."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from drawn import draw
from torch import Tensor

from netformer.model.prompt import FREE
from netformer.networks.specs import Layout
from netformer.options import BatchOptions, TaskPrior
from netformer.tasks.stream import synthetic_tasks
from netformer.tasks.view import stack_tasks
from netformer.training.batches import FRESH_DROPOUT, Batch, Corpus, draw_batch

LAYOUT, N_META, TASKS, STEPS = Layout(4, 2, 4), 3, 20, 60
DROPOUT, NOISE, BUDGET, MODE = 0.3, 0.5, 0.25, 0.4


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    made = synthetic_tasks(
        TASKS, seed=2, stream="train", split="train", max_features=4, min_rows=10, max_rows=20, batch_size=1
    )
    index, g = torch.arange(TASKS).repeat_interleave(3), torch.Generator().manual_seed(0)
    sensitivity = torch.rand(3 * TASKS, LAYOUT.n_patches, generator=g)
    known = torch.randn(TASKS, N_META, generator=g)
    return Corpus(draw(3 * TASKS, layout=LAYOUT), index, sensitivity, stack_tasks(made, 4), known)


def drawn(corpus: Corpus, **changes: float) -> list[Batch]:
    """The batches of `STEPS` steps."""
    options = {
        "zoo_tasks": 15, "networks_per_task": 2, "stream_tasks": 20, "min_rows": 5, "max_rows": 6,
        "budget_share": BUDGET, "mode_share": MODE, "condition_dropout": DROPOUT, "metafeature_noise": NOISE,
    }  # fmt: skip
    made = BatchOptions(**(options | changes))
    rest = {"seed": 0, "d_latent": 5, "order_noise": 0.5, "prior": TaskPrior()}
    return [draw_batch(step, corpus, made, **rest) for step in range(STEPS)]


@pytest.fixture(scope="module")
def batches(corpus: Corpus) -> list[Batch]:
    return drawn(corpus)


def is_rate(found: Tensor, rate: float) -> None:
    """The share of what was drawn is the rate, within 4 standard errors."""
    assert float(found.double().mean()) == pytest.approx(rate, abs=4 * (rate * (1 - rate) / found.numel()) ** 0.5)


def owners(batch: Batch, corpus: Corpus) -> Tensor:
    """The task of each task in the batch, found by its targets."""
    same = (batch.tasks.y.unsqueeze(1) == corpus.tasks.y).all(2)
    assert bool((same.sum(1) == 1).all())
    return same.long().argmax(1)


def test_channels_of_the_condition_are_withheld_at_their_rate_each_on_its_own(batches: list[Batch]) -> None:
    task, meta, fresh = (
        torch.cat([getattr(b, f"keep_{k}") for b in batches]) for k in ("task", "metafeatures", "fresh")
    )
    is_rate(~task, DROPOUT)
    is_rate(~meta, DROPOUT)
    is_rate(~task & ~meta, DROPOUT**2)
    is_rate(task & ~meta, (1 - DROPOUT) * DROPOUT)
    is_rate(~fresh, DROPOUT * FRESH_DROPOUT)


def test_nothing_is_withheld_asked_for_or_noised_at_a_rate_of_zero(corpus: Corpus) -> None:
    for batch in drawn(corpus, condition_dropout=0.0, metafeature_noise=0.0, budget_share=0.0, mode_share=0.0):
        assert bool(batch.keep_task.all() & batch.keep_metafeatures.all() & batch.keep_fresh.all())
        assert torch.equal(batch.metafeatures, corpus.metafeatures[owners(batch, corpus)])
        assert batch.budget == FREE
        assert bool(batch.fresh_eps.any(1).all())


def test_budgets_and_modes_come_at_their_share(batches: list[Batch]) -> None:
    is_rate(torch.tensor([batch.budget != FREE for batch in batches]), BUDGET)
    is_rate(torch.cat([~batch.fresh_eps.any(1) for batch in batches]), MODE)


def test_noise_is_normal_of_its_deviation_and_drawn_anew_for_every_number(batches: list[Batch], corpus: Corpus) -> None:
    added = torch.cat([batch.metafeatures - corpus.metafeatures[owners(batch, corpus)] for batch in batches])
    assert added.std(0).numpy() == pytest.approx(NOISE, rel=0.1)
    np.testing.assert_allclose(np.corrcoef(added.numpy().T) - np.eye(N_META), 0, atol=0.15)
    eps = {name: torch.cat([getattr(batch, name) for batch in batches]) for name in ("eps", "prior_eps", "fresh_eps")}
    eps["fresh_eps"] = eps["fresh_eps"][eps["fresh_eps"].any(1)]
    for name, values in eps.items():
        assert values.mean(0).numpy() == pytest.approx(0.0, abs=0.15), name
        assert values.std(0).numpy() == pytest.approx(1.0, abs=0.12), name
        assert len(values.unique(dim=0)) == len(values), name


def test_every_network_stands_beside_its_own_task_metafeatures_and_sensitivity(
    batches: list[Batch], corpus: Corpus
) -> None:
    for batch in batches:
        same = (batch.networks.weight.unsqueeze(1) == corpus.networks.weight).flatten(2).all(2)
        at = same.long().argmax(1)
        assert bool((same.sum(1) == 1).all())
        owner = owners(batch, corpus)
        assert torch.equal(corpus.task_index[at], owner.repeat_interleave(batch.per_task))
        assert torch.equal(batch.sensitivity, corpus.sensitivity[at])
        assert len(owner.unique()) == len(owner), "a task twice in a step"


def test_a_batch_is_a_function_of_seed_and_step(batches: list[Batch], corpus: Corpus) -> None:
    again = drawn(corpus)
    for name in ("metafeatures", "keep_task", "eps", "prior_eps", "fresh_eps"):
        assert all(torch.equal(getattr(a, name), getattr(b, name)) for a, b in zip(batches, again, strict=True)), name
        assert not torch.equal(getattr(batches[0], name), getattr(batches[1], name)), name
    assert torch.equal(batches[3].fresh.x, again[3].fresh.x)


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_a_step_without_overlap(batches: list[Batch], world: int) -> None:
    batch = batches[0]
    parts = [batch.part(rank, world) for rank in range(world)]
    for name in ("eps", "prior_eps", "metafeatures", "fresh_eps", "sensitivity"):
        both = torch.cat([getattr(part, name) for part in parts])
        whole = getattr(batch, name)
        assert both.shape == whole.shape, name
        assert torch.equal(both.unique(dim=0), whole.unique(dim=0)), name
    for part in parts:
        assert part.per_task == batch.per_task
        assert len(part.tasks) == len(part.prior_eps) == len(part.eps) // part.per_task
        assert len(part.fresh) == len(part.fresh_eps) == len(part.keep_fresh)
