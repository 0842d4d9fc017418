"""Losses: every part against its formula in numpy or torch.distributions, and which rows it reads."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from drawn import draw
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence
from torch.nn import functional

from netformer.model.grammar import Structure, read_structure
from netformer.model.head import solve_head
from netformer.model.latent import Gaussian
from netformer.model.vae import TransformerVAE
from netformer.networks.specs import N_TYPES, Layout, patch_numbers, patch_types
from netformer.networks.stack import Networks
from netformer.networks.symmetry import canonicalize
from netformer.options import BatchOptions, LossWeights, ModelOptions, TaskPrior
from netformer.tasks.stream import synthetic_tasks
from netformer.tasks.task import PAD, TEST, TRAIN, VALID
from netformer.tasks.view import TaskStack, stack_tasks
from netformer.training.batches import Batch, Corpus, draw_batch
from netformer.training.losses import (
    CLASS_PARTS,
    Objective,
    prior_terms,
    shares,
    stream_terms,
    structure_loss,
    total_loss,
    weight_loss,
    zoo_terms,
)

LAYOUT, N_META, PER_TASK = Layout(4, 2, 4), 3, 2
# Parts of the zoo path that read networks, not targets.
OF_NETWORKS = ("type", "number", "parent", "weight", "function", "kl_structure", "kl")


def small_model(**options: object) -> TransformerVAE:
    """Random weights, large enough that no embedding and no head is zero."""
    small = {"d_model": 16, "n_heads": 2, "d_condition": 16, "d_writer": 32, "d_global": 8, "d_vertex": 2, "d_row": 16}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TransformerVAE(LAYOUT, N_META, ModelOptions(**(small | options)))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.fixture(scope="module")
def model() -> TransformerVAE:
    return small_model().requires_grad_(False)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Tasks of different numbers of rows, with train, valid and test rows and padding, and three networks of each."""
    options = {"seed": 2, "stream": "train", "split": "train", "max_features": 4, "batch_size": 1}
    tasks = stack_tasks(synthetic_tasks(5, min_rows=20, max_rows=40, **options), 4)
    assert {PAD, TRAIN, VALID, TEST} == set(tasks.rows.unique().tolist())
    index, g = torch.arange(5).repeat_interleave(3), torch.Generator().manual_seed(0)
    drawn = draw(60, layout=LAYOUT)
    at = [int((drawn.specs.n_inputs <= tasks.n_features[i]).nonzero()[k]) for k, i in enumerate(index.tolist())]
    sensitivity = torch.rand(15, LAYOUT.n_patches, generator=g)
    return Corpus(canonicalize(drawn[at]), index, sensitivity, tasks, torch.randn(5, N_META, generator=g))


@pytest.fixture(scope="module")
def batch(corpus: Corpus) -> Batch:
    options = BatchOptions(
        zoo_tasks=5, networks_per_task=PER_TASK, stream_tasks=7, min_rows=10, max_rows=20, budget_share=0.0,
        mode_share=0.5, condition_dropout=0.3, metafeature_noise=0.5,
    )  # fmt: skip
    return draw_batch(0, corpus, options, seed=0, d_latent=small_model().d_latent, order_noise=0.5, prior=TaskPrior())


def with_targets(tasks: TaskStack, rows: Tensor) -> TaskStack:
    """Other targets in some rows of every task."""
    other = torch.randn(tasks.y.shape, generator=torch.Generator().manual_seed(5))
    return TaskStack(tasks.x, torch.where(rows, other, tasks.y), tasks.rows, tasks.views)


def log_error(networks: Networks, tasks: TaskStack, codes: tuple[int, ...]) -> float:
    """Mean over networks of log(1 + mean squared error) on rows of these kinds."""
    found = []
    for i in range(len(networks)):
        keep = np.isin(tasks.rows[i].numpy(), codes)
        predicted = networks[[i]].predict(tasks.x[[i]])[0].double().numpy()
        found.append(np.log1p(np.square(predicted - tasks.y[i].double().numpy())[keep].mean()))
    return float(np.mean(found))


def written_from_the_prior(
    model: TransformerVAE, tasks: TaskStack, c: Tensor, eps: Tensor
) -> tuple[Networks, Networks]:
    """As written, and with the output layer solved."""
    z = model.draw(model.prior_of(c), eps)
    specs = read_structure(model.structure_logits(z, c), tasks.n_features.clamp(min=1), model.layout)
    written = model.write(z, c, specs)
    return written, solve_head(written, tasks, model.penalties(c))


@pytest.mark.parametrize("which", ["tasks", "fresh"])
def test_the_prior_path_is_scored_on_query_rows_alone(model: TransformerVAE, batch: Batch, which: str) -> None:
    tasks = getattr(batch, which)
    eps = torch.randn(len(tasks), model.d_latent, generator=torch.Generator().manual_seed(1))
    c = model.embed(len(tasks), tasks)
    terms, _ = prior_terms(model, tasks, c, eps, nullcontext)
    raw, solved = written_from_the_prior(model, tasks, c, eps)
    assert float(terms["prior_raw"]) == pytest.approx(log_error(raw, tasks, (VALID, TEST)), rel=1e-4)
    assert float(terms["prior_solved"]) == pytest.approx(log_error(solved, tasks, (VALID, TEST)), rel=1e-4)
    # Once the condition is given, the networks as written are blind to train targets; the output layer is not.
    blind, _ = prior_terms(model, with_targets(tasks, tasks.train), c, eps, nullcontext)
    assert torch.equal(blind["prior_raw"], terms["prior_raw"])
    assert not torch.equal(blind["prior_solved"], terms["prior_solved"])
    padded, _ = prior_terms(model, with_targets(tasks, tasks.rows == PAD), c, eps, nullcontext)
    assert all(torch.equal(padded[name], terms[name]) for name in terms)


def test_the_condition_of_every_path_is_blind_to_query_targets(model: TransformerVAE, batch: Batch) -> None:
    """Query targets reach the loss through the error alone."""
    told = replace(batch, fresh=with_targets(batch.fresh, ~batch.fresh.train))
    c, same = (model.embed(len(b.fresh), b.fresh, None, b.keep_fresh, None) for b in (batch, told))
    assert torch.equal(c, same)
    expected, _ = prior_terms(model, told.fresh, c, batch.fresh_eps, nullcontext, batch.budget)
    found = stream_terms(model, told, nullcontext)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_zoo_path_reads_targets_through_the_condition_alone(model: TransformerVAE, batch: Batch) -> None:
    before = zoo_terms(model, batch, nullcontext)
    queries = zoo_terms(model, replace(batch, tasks=with_targets(batch.tasks, ~batch.tasks.train)), nullcontext)
    assert all(torch.equal(before[name], queries[name]) for name in OF_NETWORKS)
    assert not torch.equal(before["zoo_prior_raw"], queries["zoo_prior_raw"])
    withheld = replace(batch, keep_task=torch.zeros_like(batch.keep_task))
    other = replace(withheld, tasks=with_targets(batch.tasks, batch.tasks.train))
    first, second = zoo_terms(model, withheld, nullcontext), zoo_terms(model, other, nullcontext)
    assert all(torch.equal(first[name], second[name]) for name in (*OF_NETWORKS, "zoo_prior_raw"))
    assert not torch.equal(before["kl"], first["kl"])


def test_kl_is_that_of_the_posterior_from_the_prior_of_its_task(model: TransformerVAE, batch: Batch) -> None:
    c = model.embed(5, batch.tasks, batch.metafeatures, batch.keep_task, batch.keep_metafeatures)
    q, p = model.encode(batch.networks, c.repeat_interleave(PER_TASK, 0)), model.prior_of(c)
    owner, d, expected = torch.arange(5).repeat_interleave(PER_TASK), model.d_global, {}
    for name, part in (("kl_structure", slice(0, d)), ("kl", slice(d, None))):
        sides = [
            Independent(Normal(g.mu[:, part].double(), torch.exp(0.5 * g.logvar[:, part].double())), 1)
            for g in (q, p[owner])
        ]
        expected[name] = float(kl_divergence(*sides).mean())
        assert float(kl_divergence(*sides[::-1]).mean()) != pytest.approx(expected[name], rel=0.01)
    found = zoo_terms(model, batch, nullcontext)
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(value, rel=1e-4), name
    assert not q.kl(q).any()


def test_a_gaussian_is_sampled_with_the_deviation_its_kl_is_of() -> None:
    g = torch.Generator().manual_seed(0)
    gaussian, eps = Gaussian(*torch.randn(2, 6, 5, generator=g)), torch.randn(6, 5, generator=g)
    torch.testing.assert_close(gaussian.sample(eps), gaussian.mu + gaussian.logvar.exp().sqrt() * eps)


def test_the_function_loss_holds_decoded_networks_against_the_originals(model: TransformerVAE, batch: Batch) -> None:
    c = model.embed(5, batch.tasks, batch.metafeatures, batch.keep_task, batch.keep_metafeatures)
    c = c.repeat_interleave(PER_TASK, 0)
    z = model.encode(batch.networks, c).sample(batch.eps)
    written, errors = model.write(z, c, batch.networks.specs), []
    for i in range(5 * PER_TASK):
        x, present = batch.tasks.x[[i // PER_TASK]], batch.tasks.rows[i // PER_TASK] != PAD
        a, b = (net[[i]].predict(x)[0].double().numpy() for net in (batch.networks, written))
        scale = max(a.std(ddof=1), 0.05)
        errors.append(np.log1p(np.square((b - a) / scale)[present.numpy()].mean()))
    assert float(zoo_terms(model, batch, nullcontext)["function"]) == pytest.approx(np.mean(errors), rel=1e-4)
    assert min(errors) > 0.01


def test_the_weight_loss_is_squared_error_times_sensitivity() -> None:
    g = torch.Generator().manual_seed(0)
    original = draw(6, layout=LAYOUT, sparse_share=0.5)
    written = Networks(original.specs, torch.randn(original.weight.shape, generator=g) * original.specs.mask)
    sensitivity, scale = torch.rand(6, LAYOUT.n_patches, generator=g), torch.rand(original.weight[0].shape) + 0.5
    total, edges = 0.0, 0
    for n, patch, slot in torch.nonzero(original.specs.mask).tolist():
        error = float(written.weight[n, patch, slot] - original.weight[n, patch, slot]) / float(scale[patch, slot])
        total, edges = total + error**2 * float(sensitivity[n, patch]), edges + 1
    assert float(weight_loss(written, original, sensitivity, scale)) == pytest.approx(total / edges, rel=1e-4)


def test_the_structure_loss_is_cross_entropy_and_of_parents_of_present_vertices_only() -> None:
    g, specs = torch.Generator().manual_seed(0), draw(8, layout=LAYOUT, sparse_share=0.5).specs
    numbers = 1 + LAYOUT.max_features + LAYOUT.n_patches
    logits = Structure(*(torch.randn(8, LAYOUT.n_patches, k, generator=g) for k in (N_TYPES, numbers, LAYOUT.n_slots)))
    found = structure_loss(logits, specs)
    for name, target in (("type", patch_types(specs)), ("number", patch_numbers(specs))):
        log_p = torch.log_softmax(getattr(logits, name).double(), 2).numpy()
        at = np.take_along_axis(log_p, target.numpy()[:, :, None], 2)
        assert float(found[name]) == pytest.approx(-at.mean(), rel=1e-5), name
    present = specs.patch_mask
    each = functional.binary_cross_entropy_with_logits(logits.parent, specs.mask.float(), reduction="none").sum(2)
    assert float(found["parent"]) == pytest.approx(float(each[present].mean()), rel=1e-5)
    absent = Structure(logits.type, logits.number, torch.where(present.unsqueeze(2), logits.parent, 50.0))
    assert torch.equal(structure_loss(absent, specs)["parent"], found["parent"])


def test_every_part_counts_by_its_own_weight() -> None:
    losses = {name: torch.tensor(float(2**k)) for k, name in enumerate(CLASS_PARTS[:-1])}
    none = LossWeights(**{field.name: 0.0 for field in fields(LossWeights)})
    assert float(total_loss(losses, none)) == 0
    own = {"classes": ("stream_classes",), "beta": ("kl",), "beta_structure": ("kl_structure",)}
    for field in fields(LossWeights):
        found = float(total_loss(losses, replace(none, **{field.name: 3.0})))
        if field.name.startswith("prior"):
            expected = losses[f"stream_{field.name}"] + 0.5 * losses[f"zoo_{field.name}"]
        else:
            expected = sum(losses[name] for name in own.get(field.name, (field.name,)))
        assert found == 3 * float(expected), field.name


@pytest.mark.parametrize("world", [2, 3])
def test_the_mean_over_processes_is_the_loss_of_the_whole_batch(batch: Batch, world: int) -> None:
    """Unequal parts: 5 and 7 tasks among 2 or 3 processes. Every part of the loss, and the gradient."""
    model = small_model()
    objective = Objective(model, LossWeights(), nullcontext)

    def parts_and_gradient(rank: int, world: int) -> tuple[Tensor, Tensor]:
        value, parts = objective(*shares(batch, rank, world))
        model.zero_grad()
        value.backward()
        return parts, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    whole = parts_and_gradient(0, 1)
    several = [parts_and_gradient(rank, world) for rank in range(world)]
    for k in (0, 1):
        mean = torch.stack([found[k] for found in several]).mean(0)
        torch.testing.assert_close(mean, whole[k], rtol=1e-3, atol=1e-4)
