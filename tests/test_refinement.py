"""Refinement: never worse than the start on held-back rows, no new edge, every network alone."""

from __future__ import annotations

import itertools

import pytest
import torch
from drawn import draw

from netformer.generation import refinement
from netformer.generation.refinement import distil, held_back_error, hold_back, refine, refine_latents
from netformer.generation.sampling import sample_networks
from netformer.model.grammar import read_structure
from netformer.model.head import solve_head, weigh_heads
from netformer.model.vae import TransformerVAE
from netformer.networks.specs import Layout
from netformer.networks.stack import Networks
from netformer.tasks.scores import r2
from netformer.tasks.task import PAD, TEST, TRAIN, VALID
from netformer.tasks.view import TaskStack, canonicalize_tasks

LAYOUT, N = Layout(), 24
PENALTIES = torch.full((N, LAYOUT.n_slots), 1e-2)


def stack(valid=True, t=6, n_rows=80, seed=0):
    """Tasks with a kink and a wave; the last one is short."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(t, n_rows, LAYOUT.max_features, generator=g, dtype=torch.float64)
    clean = x[:, :, 0].abs() + torch.sin(2 * x[:, :, 1]) + 0.5 * x[:, :, 2]
    y = clean + 0.2 * torch.randn(t, n_rows, generator=g, dtype=torch.float64)
    rows = torch.tensor([TRAIN, TRAIN, TRAIN, VALID if valid else TEST, TEST]).repeat(t, n_rows // 5)
    rows[-1, n_rows // 2 :] = PAD
    return canonicalize_tasks(x, y, rows, LAYOUT.max_features).float()


def starts(tasks, n=N, seed=0, scale=0.4):
    """Random networks with solved outputs, and the task of each."""
    networks, at = draw(n, seed, sparse_share=0.5, skip_share=0.5), torch.arange(n) % len(tasks)
    small = Networks(networks.specs, scale * networks.weight)
    return solve_head(small, tasks[at], torch.full((n, LAYOUT.n_slots), 1e-2)), at


def untrained() -> TransformerVAE:
    torch.manual_seed(0)
    return TransformerVAE.from_arguments(
        max_features=LAYOUT.max_features,
        max_hidden_layers=LAYOUT.max_hidden_layers,
        max_width=LAYOUT.max_width,
        n_metafeatures=3,
        condition="task",
        d_model=16,
        d_writer=32,
        d_global=4,
        d_vertex=2,
        d_row=16,
    ).eval()


def latents(model, own):
    """Condition, random latents and the specs read from them, one each task."""
    with torch.no_grad():
        c = model.embed(len(own), own)
        z = torch.randn(len(own), model.d_latent, generator=torch.Generator().manual_seed(1))
        return c, z, read_structure(model.structure_logits(z, c), own.n_features, LAYOUT)


def mean_r2(networks, tasks, at, code):
    return float(r2(tasks.y[at], networks.predict(tasks.x[at]), tasks.rows[at] == code).mean())


def unseen_error(networks, tasks, penalties):
    """Mean squared error on held-back rows, output layers weighed on the others."""
    fit = hold_back(tasks)
    with torch.no_grad():
        return held_back_error(weigh_heads(networks, fit, penalties)[0], fit)


@pytest.mark.parametrize("valid", [True, False])
@pytest.mark.parametrize("lr", [0.06, 3.0])
def test_no_network_is_worse_than_its_start_on_held_back_rows(valid, lr):
    tasks = stack(valid)
    networks, at = starts(tasks)
    refined = refine(networks, tasks, at, steps=6, lr=lr, penalties=PENALTIES)
    before, after = (unseen_error(part, tasks[at], PENALTIES) for part in (networks, refined))
    moved = (refined.weight != networks.weight).flatten(1).any(1)
    assert bool((after[moved] < before[moved]).all())
    assert float(moved.float().mean()) > (0.3 if lr < 1 else 0.05)
    assert torch.equal(refined.weight[:, -1], networks.weight[:, -1])


@pytest.mark.parametrize("valid", [True, False])
def test_no_latent_is_worse_than_its_start_on_held_back_rows(valid):
    tasks, model = stack(valid), untrained()
    own = tasks[torch.arange(12) % (len(tasks) - 1)]
    c, z, specs = latents(model, own)

    def error(at):
        with torch.no_grad():
            return unseen_error(model.write(at, c, specs), own, model.penalties(c))

    assert torch.equal(refine_latents(model, own, c, z, specs, steps=0), z)
    refined = refine_latents(model, own, c, z, specs, steps=8)
    moved = (refined != z).any(1)
    assert bool((error(refined)[moved] < error(z)[moved]).all())
    assert float(moved.float().mean()) > 0.3
    assert torch.equal(refined[:, : model.d_global], z[:, : model.d_global])  # the structure stays
    alone = refine_latents(model, own[[4]], c[[4]], z[[4]], specs[[4]], steps=8)
    torch.testing.assert_close(alone, refined[[4]], rtol=1e-3, atol=1e-3)
    changed = TaskStack(own.x, torch.where(own.rows == TEST, 1e3, own.y), own.rows, own.views)
    assert torch.equal(refine_latents(model, changed, c, z, specs, steps=8), refined)


def test_a_stronger_tether_keeps_latents_nearer_and_more_rows_let_them_go():
    model, tasks = untrained(), stack(valid=False, t=8, n_rows=125)[torch.arange(7)].train_only()
    assert tasks.x.shape[1] % 5 == 0  # every copy of the rows holds the same ones back
    c, z, specs = latents(model, tasks)

    def moved(shrink, times=1):
        own = TaskStack(tasks.x.repeat(1, times, 1), tasks.y.repeat(1, times), tasks.rows.repeat(1, times), tasks.views)
        refined = refine_latents(model, own, c, z, specs, steps=20, shrink=shrink)
        return float((refined - z).norm(dim=1).mean())

    assert moved(100.0) < 0.5 * moved(0.0)
    assert moved(100.0) < 0.9 * moved(100.0, times=10) < moved(0.0)


def test_of_a_long_table_some_rows_are_read_drawn_among_train_and_valid():
    tasks = stack()
    some, every = refinement._seen(tasks, 20), refinement._seen(tasks)
    for i in range(len(tasks)):
        of = every.x[i][every.rows[i] != PAD]
        got = some.x[i][some.rows[i] != PAD]
        assert len(got) == min(20, len(of))
        places = [int((of == row).all(1).nonzero()[0]) for row in got]
        assert places == sorted(set(places))  # in stored order, none twice
        assert places != list(range(len(got))) or len(of) <= 20
    assert torch.equal(refinement._seen(tasks, 10**6).x, every.x)


def test_samples_are_written_from_refined_latents_each_in_its_orientation():
    tasks, model = stack(valid=False), untrained()
    model.orientations, model.order_noise = 4, 0.5

    def write(steps):
        g = torch.Generator().manual_seed(0)
        return sample_networks(model, tasks, None, n_samples=4, generator=g, refine_steps=steps)[0]

    plain, refined = write(0), write(8)
    moved = (plain.weight[:, :-1] != refined.weight[:, :-1]).flatten(1).any(1)
    assert 0.3 < float(moved.float().mean()) < 1  # those of the task too short to hold back stay
    assert torch.equal(refined.weight[~moved], plain.weight[~moved])
    assert torch.equal(refined.specs.mask, plain.specs.mask)
    at = torch.arange(len(tasks)).repeat_interleave(4)
    before, after = (mean_r2(part, tasks, at, TRAIN) for part in (plain, refined))
    assert after > before + 0.002
    with pytest.raises(ValueError, match="refine_steps must be at least 0, got -1"):
        write(-1)
    with pytest.raises(ValueError, match="refine_steps move latents for a solved output layer, got solve=False"):
        sample_networks(model, tasks, None, n_samples=1, generator=torch.Generator(), solve=False, refine_steps=1)


def test_refinement_learns():
    """Twenty-five steps help on rows nobody chose by, with valid rows and without."""
    for valid in (True, False):
        tasks = stack(valid, n_rows=400)
        networks, at = starts(tasks)
        refined = weigh_heads(refine(networks, tasks, at, steps=25, penalties=PENALTIES), tasks[at], PENALTIES)[0]
        assert mean_r2(refined, tasks, at, TRAIN) > mean_r2(networks, tasks, at, TRAIN) + 0.05
        assert mean_r2(refined, tasks, at, TEST) > mean_r2(networks, tasks, at, TEST) + 0.05


def test_no_steps_are_the_identity_and_less_than_none_an_error():
    tasks = stack()
    networks, at = starts(tasks)
    assert torch.equal(refine(networks, tasks, at, steps=0, penalties=PENALTIES).weight, networks.weight)
    with pytest.raises(ValueError, match="refine_steps must be at least 0, got -1"):
        refine(networks, tasks, at, steps=-1, penalties=PENALTIES)


@pytest.mark.parametrize("valid", [True, False])
def test_no_edge_appears(valid):
    tasks = stack(valid)
    networks, at = starts(tasks)
    refined = refine(networks, tasks, at, steps=5, penalties=PENALTIES)
    assert refined.specs.key(3) == networks.specs.key(3)
    assert torch.equal(refined.specs.mask, networks.specs.mask)
    assert not bool((refined.weight[~refined.specs.mask] != 0).any())
    assert bool((refined.weight[:, :-1] != networks.weight[:, :-1]).any())


@pytest.mark.parametrize("valid", [True, False])
def test_a_network_does_not_depend_on_its_stack(valid, monkeypatch):
    tasks = stack(valid)
    networks, at = starts(tasks)
    together = refine(networks, tasks, at, steps=5, penalties=PENALTIES).predict(tasks.x[at])
    few = [11, 3]
    alone = refine(networks[few], tasks[at[few]], torch.arange(2), steps=5, penalties=PENALTIES[:2])
    torch.testing.assert_close(alone.predict(tasks.x[at[few]]), together[few], rtol=1e-3, atol=1e-3)
    monkeypatch.setattr(refinement, "_chunks", lambda n, size=7: (slice(i, i + size) for i in range(0, n, size)))
    torch.testing.assert_close(
        refine(networks, tasks, at, steps=5, penalties=PENALTIES).predict(tasks.x[at]), together, rtol=1e-3, atol=1e-3
    )


def test_test_rows_are_not_read():
    tasks = stack()
    networks, at = starts(tasks)
    changed = torch.where(tasks.rows == TEST, 1e3, tasks.y)
    other = TaskStack(tasks.x, changed, tasks.rows, tasks.views)
    first, second = (refine(networks, of, at, steps=3, penalties=PENALTIES).weight for of in (tasks, other))
    assert torch.equal(first, second)


@pytest.mark.parametrize("valid", [True, False])
def test_the_best_point_is_the_one_held_back_rows_see(valid):
    """More steps only add points: of networks that moved, none is worse there after more of them."""
    tasks = stack(valid)
    networks, at = starts(tasks)
    fit, ways = hold_back(tasks[at]), []
    for k in (1, 3, 9):
        refined = refine(networks, tasks, at, steps=k, penalties=PENALTIES, shrink=0.0)
        moved = (refined.weight != networks.weight).flatten(1).any(1)
        ways.append((moved, held_back_error(solve_head(refined, fit, PENALTIES), fit)))
    for (fewer, before), (more, after) in itertools.pairwise(ways):
        both = fewer & more
        assert int(both.sum()) > 5
        assert bool((after[both] <= before[both] * (1 + 1e-4)).all())
    assert float(ways[2][1][both].mean()) < float(ways[0][1][both].mean())


def test_tasks_without_valid_rows_hold_back_every_fifth_train_row():
    tasks = stack(valid=False)
    held = hold_back(tasks)
    for i in range(len(tasks)):
        train = torch.nonzero(tasks.rows[i] == TRAIN).squeeze(1)
        assert torch.equal(torch.nonzero(held.rows[i] == VALID).squeeze(1), train[4::5])
    assert torch.equal(hold_back(stack()).rows, stack().rows)


def test_a_task_too_small_to_hold_back_keeps_its_network():
    tasks = stack(valid=False)
    networks, same = starts(tasks)[0], torch.zeros(N, dtype=torch.long)

    def refined(n):
        """With n train rows."""
        rows = torch.where((tasks.rows[:1] == TRAIN) & (tasks.train[:1].cumsum(1) <= n), TRAIN, PAD)
        tiny = TaskStack(tasks.x[:1], tasks.y[:1], rows, tasks.views[[0]])
        return refine(networks, tiny, same, steps=9, penalties=PENALTIES, shrink=0.0)

    assert all(torch.equal(refined(n).weight, networks.weight) for n in (1, 4, 24))
    assert not torch.equal(refined(25).weight, networks.weight)


def test_a_distilled_network_has_its_spec_and_comes_closer_to_its_teachers():
    tasks = stack()
    k, own = 4, torch.arange(len(tasks))
    teachers, _ = starts(tasks, k * len(tasks))
    index = own.repeat_interleave(k)
    teachers = solve_head(teachers, tasks[index], torch.full((len(index), LAYOUT.n_slots), 1e-2))
    start = teachers[own * k]
    mean = teachers.predict(tasks.x[index]).view(len(tasks), k, -1).mean(1)
    student = distil(teachers, tasks, own, start, steps=10)
    for i in range(len(tasks)):
        assert student.specs.key(i) == start.specs.key(i)
    lesson = refinement._crossed(tasks, 2)
    said = teachers.predict(lesson.x.repeat_interleave(k, 0)).view(len(tasks), k, -1)
    test = tasks.rows == TEST
    nearest = distil(teachers, tasks, own, steps=0)
    gap = (said - said.mean(1, keepdim=True)).square() * lesson.train.unsqueeze(1)
    assert torch.equal(nearest.weight[:, :-1], teachers[own * k + gap.sum(2).argmin(1)].weight[:, :-1])
    still = distil(teachers, tasks, own, start, steps=0)
    score = [float(r2(mean, part.predict(tasks.x), test).mean()) for part in (start, still, student)]
    assert score[0] + 0.02 < score[1]  # the output layer learns the mean
    assert score[1] + 0.02 < score[2]  # so do the hidden ones


def test_distillation_reads_no_label_and_no_valid_or_test_row():
    tasks = stack()
    teachers, at = starts(tasks)
    order = torch.argsort(at, stable=True)
    teachers, own = teachers[order], torch.arange(len(tasks))
    other = TaskStack(
        torch.where(tasks.train.unsqueeze(2), tasks.x, 9.0), torch.full_like(tasks.y, 7.0), tasks.rows, tasks.views
    )
    first, second = (distil(teachers, t, own, steps=3).weight for t in (tasks, other))
    assert torch.equal(first, second)
    with pytest.raises(ValueError, match="equally many for each of 6 students, got 23"):
        distil(teachers[:23], tasks, own, steps=1)


def test_synthetic_rows_take_every_feature_from_a_train_row():
    tasks = stack()
    lesson = refinement._crossed(tasks, 3)
    for i in range(len(tasks)):
        train, made = tasks.x[i][tasks.train[i]], lesson.x[i][lesson.train[i]]
        assert len(made) == 4 * len(train)
        assert torch.equal(made[: len(train)], train)
        for f in range(LAYOUT.max_features):
            assert bool(torch.isin(made[:, f], train[:, f]).all())
        assert len(made.unique(dim=0)) > 3.5 * len(train)
    short = refinement._crossed(tasks[[5]], 3)
    assert torch.equal(short.x[0][short.train[0]], lesson.x[5][lesson.train[5]])
