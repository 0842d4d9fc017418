"""Model: grammar, latent, closed-form output layer, exact resume."""

import itertools

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from netformer.evaluation.metrics import validity
from netformer.model.grammar import Structure, dense_params, read_structure, shapes
from netformer.model.head import FACTORS, FLOOR, SHARES, solve_head, weigh_heads
from netformer.model.latent import Gaussian
from netformer.model.prompt import Prompt
from netformer.model.vae import TransformerVAE
from netformer.networks.specs import ACTIVATIONS, Layout, draw_specs, patch_numbers, patch_types, slots
from netformer.networks.stack import Networks
from netformer.networks.symmetry import canonicalize
from netformer.ridge import TRUST
from netformer.tasks.scores import scores
from netformer.tasks.stream import stream_batch, synthetic_tasks
from netformer.tasks.task import TRAIN
from netformer.tasks.view import TaskStack, canonicalize_tasks, stack_tasks
from netformer.training.batches import Corpus, draw_batch
from netformer.training.loop import train
from netformer.training.losses import LossWeights
from netformer.zoo.build import build_zoo, initialize

torch.set_num_threads(1)

LAYOUT = Layout()
TINY = {
    "max_features": 10,
    "max_hidden_layers": 3,
    "max_width": 8,
    "n_metafeatures": 4,
    "d_model": 16,
    "n_heads": 2,
    "d_vertex": 2,
    "d_row": 16,
}


def random_logits(n, seed=0):
    g = torch.Generator().manual_seed(seed)
    p, numbers = LAYOUT.n_patches, 11 + LAYOUT.n_patches
    parts = (torch.randn(n, p, k, generator=g) * 3 for k in (len(ACTIVATIONS) + 2, numbers, LAYOUT.n_slots))
    return Structure(*parts)


def test_any_logits_give_a_network_that_runs():
    n_inputs = torch.arange(500) % 10 + 1
    specs = read_structure(random_logits(500), n_inputs, LAYOUT)
    networks = initialize(specs, torch.arange(500))
    x = torch.randn(1, 20, 10)
    assert bool(validity(networks, x, torch.ones(1, 20, dtype=torch.bool)).all())


def test_structures_of_any_logits_are_within_their_slots_and_every_vertex_has_a_parent():
    n_inputs = torch.arange(500) % 10 + 1
    logits = random_logits(500, seed=1)
    logits.type[:, :, 0] += torch.linspace(0, 20, 500).unsqueeze(1)  # "absent" ever more probable: shallow nets too
    specs = read_structure(logits, n_inputs, LAYOUT)
    yes, present = torch.ones(500, dtype=torch.bool), specs.widths > 0
    assert bool(((specs.widths >= 0) & (specs.widths <= 8)).all())
    assert bool((present == (torch.arange(3) < specs.depth.unsqueeze(1))).all())
    assert set(specs.depth.tolist()) == {1, 2, 3}
    assert not bool((specs.mask & ~slots(LAYOUT, n_inputs, specs.widths, yes, yes)).any())
    assert torch.equal(specs.mask[:, :, 1:].any(2), specs.patch_mask)


@pytest.mark.parametrize("max_params", [23, 24, 40, 100, 500])
def test_every_feasible_bound_on_parameters_holds(max_params):
    n_inputs = torch.arange(500) % 10 + 1
    logits = random_logits(500)
    logits.parent.abs_()  # every edge is wanted
    specs = read_structure(logits, n_inputs, LAYOUT, Prompt(max_params=max_params))
    assert int(specs.n_params.max()) <= max_params
    free = read_structure(logits, n_inputs, LAYOUT)
    fits = dense_params(n_inputs, shapes(LAYOUT)).max() <= max_params
    assert torch.equal(specs.mask, free.mask) == bool(fits)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_one_allowed_activation_is_the_only_one(name):
    specs = read_structure(random_logits(500), torch.arange(500) % 10 + 1, LAYOUT, Prompt(activations=(name,)))
    assert set(specs.activations[specs.widths > 0].tolist()) == {ACTIVATIONS.index(name)}


def test_perfect_logits_are_read_back():
    n_inputs = torch.arange(300) % 10 + 1
    specs = draw_specs(n_inputs, layout=LAYOUT, generator=torch.Generator().manual_seed(0), sparse_share=0.5)
    one_hot = torch.nn.functional.one_hot
    logits = Structure(
        10.0 * one_hot(patch_types(specs), len(ACTIVATIONS) + 2),
        10.0 * one_hot(patch_numbers(specs), 11 + LAYOUT.n_patches),
        torch.where(specs.mask, 10.0, -10.0),
    )
    read = read_structure(logits, n_inputs, LAYOUT)
    assert torch.equal(read.widths, specs.widths)
    assert torch.equal(read.activations, specs.activations)
    assert torch.equal(read.mask, specs.mask)


def test_constraints_always_hold():
    n_inputs = torch.arange(200) % 10 + 1
    specs = read_structure(
        random_logits(200), n_inputs, LAYOUT, Prompt(60, max_hidden_layers=2, activations=("tanh", "gelu"))
    )
    assert int(specs.n_params.max()) <= 60
    assert int(specs.depth.max()) <= 2
    names = {ACTIVATIONS[int(code)] for code in specs.activations[specs.widths > 0]}
    assert names <= {"tanh", "gelu"}


def test_dense_params_counts_the_edges_of_dense_networks():
    table = shapes(LAYOUT)
    yes = torch.ones(len(table), dtype=torch.bool)
    n_inputs = torch.full((len(table),), 7)
    counted = slots(LAYOUT, n_inputs, table, yes, yes).sum((1, 2))
    assert torch.equal(dense_params(torch.tensor([7]), table)[0], counted)


def test_impossible_constraints_name_the_least_possible():
    with pytest.raises(ValueError, match="max_params must be at least 23 for these inputs, got 5"):
        read_structure(random_logits(1), torch.tensor([10]), LAYOUT, Prompt(max_params=5))


def test_kl_is_that_of_torch_distributions():
    a, b = (Gaussian(torch.randn(5, 7), torch.randn(5, 7)) for _ in range(2))
    normals = [Independent(Normal(p.mu, torch.exp(0.5 * p.logvar)), 1) for p in (a, b)]
    torch.testing.assert_close(a.kl(b).sum(1), kl_divergence(*normals), rtol=1e-4, atol=1e-4)


def test_solved_head_is_ridge_shrunk_toward_the_written_head():
    tasks = stream_batch(0, 5, seed=0, max_features=10, min_rows=30, max_rows=40)
    specs = draw_specs(tasks.n_features, layout=LAYOUT, generator=torch.Generator().manual_seed(1), skip_share=1.0)
    networks = initialize(specs, torch.arange(5))
    penalties = 0.1 + torch.rand(5, LAYOUT.n_slots, generator=torch.Generator().manual_seed(2))
    solved = solve_head(networks, tasks, penalties)
    assert torch.equal(solved.weight[:, :-1], networks.weight[:, :-1])
    hidden = networks.hidden(tasks.x)[-1]
    for i in range(5):
        keep, edges = tasks.train[i].numpy(), specs.mask[i, -1].numpy()
        x, h = tasks.x[i].numpy(), hidden[i].numpy()
        design = np.concatenate([np.ones((len(x), 1)), x, h], 1)[keep][:, edges].astype(float)
        gram, start = design.T @ design / len(design), networks.weight[i, -1].numpy()[edges]
        system = gram + np.diag((penalties[i].numpy()[edges] + FLOOR) * (np.diag(gram) + 1e-4))
        step = np.linalg.solve(system, design.T @ (tasks.y[i].numpy()[keep] - design @ start) / len(design))
        np.testing.assert_allclose(solved.weight[i, -1].numpy()[edges], start + step, atol=2e-4)


def shrunk_ridge(design, y, prior, start):
    return start + np.linalg.solve(design.T @ design + prior, design.T @ (y - design @ start))


def test_heads_are_weighed_by_their_leave_one_out_errors():
    """Against refitting without each train row, for every factor of the penalties and share of the written layer."""
    tasks = stream_batch(0, 4, seed=3, max_features=10, min_rows=12, max_rows=14)
    specs = draw_specs(tasks.n_features, layout=LAYOUT, generator=torch.Generator().manual_seed(1))
    networks = initialize(specs, torch.arange(4))
    networks.weight[0, -1] *= 30  # a written output layer that is far off
    penalties = 0.01 + 0.1 * torch.rand(4, LAYOUT.n_slots, generator=torch.Generator().manual_seed(2))
    chosen, estimate = weigh_heads(networks, tasks, penalties)
    assert torch.equal(chosen.weight[:, :-1], networks.weight[:, :-1])
    assert not bool(chosen.weight[~specs.mask].any())
    hidden, best = networks.hidden(tasks.x)[-1], []
    for i in range(4):
        keep, edges = tasks.train[i].numpy(), specs.mask[i, -1].numpy()
        x, h, y = (part[i].numpy()[keep].astype(float) for part in (tasks.x, hidden, tasks.y))
        design = np.concatenate([np.ones((len(x), 1)), x, h], 1)[:, edges]
        gram, p = design.T @ design / len(design), penalties[i].numpy()[edges]
        fits = {}
        for factor, share in itertools.product(FACTORS, SHARES):
            start = share * networks.weight[i, -1].numpy()[edges].astype(float)
            prior = len(design) * np.diag((factor * p + FLOOR) * (np.diag(gram) + 1e-4))
            error = 0.0
            for r, row in enumerate(design):
                without = shrunk_ridge(np.delete(design, r, 0), np.delete(y, r), prior, start)
                error += (y[r] - row @ without) ** 2
            fits[factor, share] = error, shrunk_ridge(design, y, prior, start)
        error = np.array([fit[0] for fit in fits.values()]) / np.square(y).sum()
        weight = np.exp(-TRUST * (error - error.min()))
        weight /= weight.sum()
        expected = sum(w * fit[1] for w, fit in zip(weight, fits.values(), strict=True))
        best.append(list(fits)[error.argmin()])
        assert float(estimate[i]) == pytest.approx(1 - float(weight @ error), abs=1e-3)
        np.testing.assert_allclose(chosen.weight[i, -1].numpy()[edges], expected, atol=2e-3)
    assert best[0][1] == 0.0, "shrinks toward a layer that is far off"
    assert len(set(best)) > 1, best


def test_units_that_all_say_the_same_are_solved():
    """One binary column: whatever the hidden units, [1, x, h] has rank 2, and float32 must not tell."""
    layout, g = Layout(4, 1, 64), torch.Generator().manual_seed(0)
    x = (torch.rand(64, 309, 1, generator=g) < 0.5).float()
    y = x[:, :, 0] + 0.3 * torch.randn(64, 309, generator=g)
    tasks = canonicalize_tasks(x, y, torch.full((64, 309), TRAIN), 4)
    specs = draw_specs(tasks.n_features, layout=layout, min_width=64, skip_share=1.0, sparse_share=0.0, generator=g)
    networks = initialize(specs, torch.arange(64))
    free = torch.full((64, layout.n_slots), 1e-9)
    by_level = torch.stack([(y * (x[:, :, 0] == v)).sum(1) / (x[:, :, 0] == v).sum(1) for v in (0, 1)], 1)
    mean = (by_level.gather(1, x[:, :, 0].long()) - tasks.views.y_mean.unsqueeze(1)) / tasks.views.y_scale.unsqueeze(1)
    for solved in (solve_head(networks, tasks, free), weigh_heads(networks, tasks, free)[0]):
        torch.testing.assert_close(solved.predict(tasks.x), mean, rtol=0, atol=0.02)


def test_condition_none_reads_nothing():
    tasks = stream_batch(0, 3, seed=0, max_features=10, min_rows=20, max_rows=30)
    blind = TransformerVAE(condition="none", **TINY)
    assert torch.equal(blind.embed(3, tasks, torch.randn(3, 4)), blind.embed(3))
    seeing = TransformerVAE(condition="both", **TINY)
    assert not torch.equal(seeing.embed(3, tasks, torch.randn(3, 4)), seeing.embed(3))


def test_written_weights_exist_exactly_where_edges_do():
    model, g = TransformerVAE(**TINY), torch.Generator().manual_seed(3)
    specs = draw_specs(torch.arange(40) % 10 + 1, layout=LAYOUT, generator=g, sparse_share=0.5)
    z = torch.randn(40, model.d_latent, generator=g)
    written = model.write(z, model.embed(40), specs)
    assert torch.equal(written.weight != 0, specs.mask)
    tasks = stream_batch(1, 40, seed=0, max_features=10, min_rows=20, max_rows=30)
    solved = solve_head(written, tasks, model.penalties(model.embed(40)))
    assert not bool(solved.weight[~specs.mask].any())
    assert not torch.equal(solved.weight, written.weight)


def test_the_condition_reads_train_rows_only_and_in_any_order():
    model = TransformerVAE(**TINY)
    tasks = stream_batch(2, 4, seed=0, max_features=10, min_rows=20, max_rows=30)
    c = model.embed(4, tasks)
    unseen = ~tasks.train
    garbage = torch.where(unseen.unsqueeze(2), 3.0, tasks.x), torch.where(unseen, -2.0, tasks.y)
    order = torch.randperm(tasks.x.shape[1], generator=torch.Generator().manual_seed(0))
    for x, y, rows in ((*garbage, tasks.rows), (tasks.x[:, order], tasks.y[:, order], tasks.rows[:, order])):
        other = model.embed(4, TaskStack(x, y, rows, tasks.views))
        torch.testing.assert_close(other, c, rtol=1e-5, atol=1e-6)
    shifted = TaskStack(tasks.x, tasks.y.flip(1), tasks.rows, tasks.views)
    assert not torch.allclose(model.embed(4, shifted), c, rtol=1e-3, atol=1e-4)


def test_dropped_channels_are_the_null_embedding():
    model = TransformerVAE(**TINY)
    with torch.no_grad():
        model.null_task.normal_()
        model.null_metafeatures.normal_()
    tasks = stream_batch(0, 2, seed=0, max_features=10, min_rows=20, max_rows=30)
    meta, keep = torch.randn(2, 4), torch.tensor([True, False])
    c = model.embed(2, tasks, meta, keep, ~keep)
    full, null = model.embed(2, tasks, meta), model.embed(2)
    d = model.arguments["d_condition"]
    assert torch.equal(c[0], torch.cat([full[0, :d], null[0, d:]]))
    assert torch.equal(c[1], torch.cat([null[1, :d], full[1, d:]]))


@pytest.fixture(scope="module")
def corpus():
    made = synthetic_tasks(5, seed=2, stream="train", split="train", max_features=10, min_rows=40, max_rows=50)
    tasks = stack_tasks(made, 10)
    zoo, _ = build_zoo(
        tasks, layout=LAYOUT, spec={}, networks_per_task=3, duplicate_share=0.0, steps=10, lr=0.03, batch_size=16,
        weight_decay=0.0, min_valid_r2=-1.0, max_gap=9.0, seed=0,
    )  # fmt: skip
    networks: Networks = canonicalize(zoo.networks)
    g = torch.Generator().manual_seed(0)
    ones = torch.ones(len(networks), LAYOUT.n_patches)
    return Corpus(networks, zoo.task_index, ones, tasks, torch.randn(5, 4, generator=g))


def run(corpus, steps, checkpoint=None, seed=0, arguments=None, **options):
    small = {"stream_tasks": 4, "min_rows": 20, "max_rows": 30, "precision": "32-true"}
    return train(
        corpus, {"condition": "both", **TINY} | (arguments or {}), steps=steps, lr=1e-3, weight_decay=0.01, zoo_tasks=3,
        networks_per_task=2, budget_share=0.5, mode_share=0.5, condition_dropout=0.2, metafeature_noise=0.5,
        loss=LossWeights(), seed=seed, checkpoint=checkpoint, checkpoint_every=2, **(small | options),
    )  # fmt: skip


def test_a_resumed_run_is_the_straight_run(corpus, tmp_path):
    path = tmp_path / "state.safetensors"
    straight = run(corpus, 3, path)
    assert path.exists()
    resumed = run(corpus, 3, path)
    again, other = run(corpus, 3), run(corpus, 3, seed=1)
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
        assert torch.equal(value, again.state_dict()[name]), name
    assert not torch.equal(straight.type_head.weight, other.type_head.weight)


def test_a_model_without_rounds_goes_on_with_them_as_it_was(corpus):
    """Rounds of the task encoder begin at zero: before a step the condition is the same, after some it is not."""
    plain = run(corpus, 3)
    grown = run(corpus, 0, arguments={"rounds": 2}, initial=plain)
    trained = run(corpus, 3, arguments={"rounds": 2}, initial=plain)
    c, same, other = (model.embed(5, corpus.tasks) for model in (plain, grown, trained))
    assert torch.equal(c, same)
    assert not torch.allclose(c, other)
    assert all(bool(layer.weight.any()) for layer in trained.task_encoder.moves)
    with pytest.raises(RuntimeError):
        run(corpus, 1, initial=grown)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_tasks_answered_with_the_mode_have_no_noise_and_are_canonical(corpus, share):
    options = {
        "seed": 0, "layout": LAYOUT, "d_latent": 9, "zoo_tasks": 3, "networks_per_task": 2, "budget_share": 0.0,
        "condition_dropout": 0.0, "metafeature_noise": 0.0, "min_rows": 20, "max_rows": 30, "order_noise": 1.0,
    }  # fmt: skip
    batch = draw_batch(0, corpus, stream_tasks=400, mode_share=share, **options)
    canonical = stream_batch(0, 400, seed=0, max_features=10, min_rows=20, max_rows=30)
    mode = ~batch.fresh_eps.any(1)
    assert float(mode.double().mean()) == pytest.approx(share, abs=0.08)
    assert torch.equal(batch.fresh.x[mode], canonical.x[mode])
    assert torch.equal(batch.fresh.y[mode], canonical.y[mode])
    if share < 1:
        turned = (batch.fresh.x != canonical.x).flatten(1).any(1)
        assert float(turned[~mode].double().mean()) > 0.5


def test_the_number_of_threads_changes_no_score(corpus):
    """Large enough for torch to share the work among its threads, one of them with an odd share."""
    before, index = torch.get_num_threads(), torch.arange(5).repeat(400)
    g = torch.Generator().manual_seed(0)
    networks = initialize(draw_specs(corpus.tasks.n_features[index], layout=LAYOUT, generator=g), index)
    found = []
    try:
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            found.append(scores(networks, corpus.tasks, index))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0], other) for other in found[1:])


@pytest.mark.parametrize("log_every", [1, 2, 3])
def test_logged_losses_are_means_of_the_steps_they_cover_after_a_resume_too(corpus, tmp_path, log_every):
    path, every, straight, resumed = tmp_path / "state.safetensors", {}, {}, {}
    run(corpus, 5, path, log=every.__setitem__, log_every=1)
    run(corpus, 5, path, log=resumed.__setitem__, log_every=log_every)
    run(corpus, 5, log=straight.__setitem__, log_every=log_every)
    assert list(straight) == [step for step in (1, 2, 3, 4, 5) if step % log_every == 0 or step == 5]
    assert resumed == straight, "steps before the checkpoint are told again"
    before = 0
    for step, means in straight.items():
        for name, value in means.items():
            covered = [every[step][name] for step in range(before + 1, step + 1)]
            assert value == pytest.approx(np.mean(covered)), name
        before = step
