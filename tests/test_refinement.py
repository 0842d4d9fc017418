"""Refinement: never worse than the start on held-back rows, no new edge, every network alone."""

from __future__ import annotations

import pytest
import torch
from drawn import draw

from netformer import refinement
from netformer.grammar import read_structure
from netformer.head import solve_head
from netformer.model import TransformerVAE
from netformer.networks import Networks
from netformer.refinement import distil, held_back_error, hold_back, refine, refine_curve, refine_latent
from netformer.specs import Layout
from netformer.tasks import PAD, TEST, TRAIN, VALID, TaskStack, canonicalize_tasks, r2

torch.set_num_threads(1)
LAYOUT, N = Layout(), 24


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


def written(tasks, n=12):
    """A small untrained model, and what it writes from random latents."""
    torch.manual_seed(0)
    model = TransformerVAE(
        max_features=LAYOUT.max_features,
        max_hidden_layers=LAYOUT.max_hidden_layers,
        max_width=LAYOUT.max_width,
        n_metafeatures=3,
        condition="task",
        d_model=16,
        d_writer=32,
        d_global=4,
        d_slot=2,
        d_row=16,
    )
    own = tasks[torch.arange(n) % len(tasks)]
    with torch.no_grad():
        c = model.embed(n, own)
        z = torch.randn(n, model.d_latent, generator=torch.Generator().manual_seed(1))
        specs = read_structure(model.structure_logits(z, c), own.n_features, LAYOUT)
        return model, own, c, z, solve_head(model.write(z, c, specs), own, model.penalties(c))


def mean_r2(networks, tasks, at, code):
    return float(r2(tasks.y[at], networks.predict(tasks.x[at]), tasks.rows[at] == code).mean())


@pytest.mark.parametrize("valid", [True, False])
@pytest.mark.parametrize("lr", [0.06, 3.0])
def test_no_network_is_worse_than_its_start_on_held_back_rows(valid, lr):
    tasks = stack(valid)
    networks, at = starts(tasks)
    before = held_back_error(networks, tasks[at])
    after = held_back_error(refine(networks, tasks, at, steps=6, lr=lr), tasks[at])
    assert bool((after <= before).all())
    assert float((after < before).float().mean()) > 0.3


def test_latent_steps_are_never_worse_and_zero_of_them_deliver_the_network():
    tasks = stack()
    model, own, c, z, delivered = written(tasks)
    torch.testing.assert_close(
        refine_latent(model, own, c, z, delivered.specs, steps=0).weight, delivered.weight, rtol=0, atol=0
    )
    refined = refine_latent(model, own, c, z, delivered.specs, steps=8)
    before, after = held_back_error(delivered, own), held_back_error(refined, own)
    assert bool((after <= before).all())
    assert float((after < before).float().mean()) > 0.5
    assert not bool((refined.weight[~refined.specs.mask] != 0).any())
    alone = refine_latent(model, own[[4]], c[[4]], z[[4]], delivered.specs[[4]], steps=8)
    torch.testing.assert_close(alone.predict(own.x[[4]]), refined[[4]].predict(own.x[[4]]), rtol=1e-3, atol=1e-3)


def test_refinement_learns():
    """Twenty-five steps help on rows nobody chose by, with valid rows and without."""
    for valid in (True, False):
        tasks = stack(valid, n_rows=400)
        networks, at = starts(tasks)
        refined = refine(networks, tasks, at, steps=25)
        assert mean_r2(refined, tasks, at, TRAIN) > mean_r2(networks, tasks, at, TRAIN) + 0.05
        assert mean_r2(refined, tasks, at, TEST) > mean_r2(networks, tasks, at, TEST) + 0.05


def test_no_steps_are_the_identity_and_less_than_none_an_error():
    tasks = stack()
    networks, at = starts(tasks)
    assert torch.equal(refine(networks, tasks, at, steps=0).weight, networks.weight)
    with pytest.raises(ValueError, match="steps must be at least 0, got -1"):
        refine(networks, tasks, at, steps=-1)


@pytest.mark.parametrize("valid", [True, False])
def test_no_edge_appears(valid):
    tasks = stack(valid)
    networks, at = starts(tasks)
    refined = refine(networks, tasks, at, steps=5)
    assert refined.specs.key(3) == networks.specs.key(3)
    assert torch.equal(refined.specs.mask, networks.specs.mask)
    assert not bool((refined.weight[~refined.specs.mask] != 0).any())
    assert bool((refined.weight[:, :-1] != networks.weight[:, :-1]).any())


@pytest.mark.parametrize("valid", [True, False])
def test_a_network_does_not_depend_on_its_stack(valid, monkeypatch):
    tasks = stack(valid)
    networks, at = starts(tasks)
    together = refine(networks, tasks, at, steps=5).predict(tasks.x[at])
    few = [11, 3]
    alone = refine(networks[few], tasks[at[few]], torch.arange(2), steps=5)
    torch.testing.assert_close(alone.predict(tasks.x[at[few]]), together[few], rtol=1e-3, atol=1e-3)
    monkeypatch.setattr(refinement, "_chunks", lambda n, size=7: (slice(i, i + size) for i in range(0, n, size)))
    torch.testing.assert_close(
        refine(networks, tasks, at, steps=5).predict(tasks.x[at]), together, rtol=1e-3, atol=1e-3
    )


def test_test_rows_are_not_read():
    tasks = stack()
    networks, at = starts(tasks)
    changed = torch.where(tasks.rows == TEST, 1e3, tasks.y)
    other = TaskStack(tasks.x, changed, tasks.rows, tasks.views)
    assert torch.equal(refine(networks, tasks, at, steps=3).weight, refine(networks, other, at, steps=3).weight)


def test_the_best_point_is_the_one_held_back_rows_see():
    """More steps only add points: the chosen one is never worse there, and one step is the first point of five."""
    tasks = stack()
    networks, at = starts(tasks)
    errors = torch.stack([held_back_error(refine(networks, tasks, at, steps=k), tasks[at]) for k in (0, 1, 3, 9)])
    assert bool((errors[1:] <= errors[:-1] * (1 + 1e-4)).all())


def test_tasks_without_valid_rows_hold_back_every_fifth_train_row():
    tasks = stack(valid=False)
    held = hold_back(tasks)
    for i in range(len(tasks)):
        train = torch.nonzero(tasks.rows[i] == TRAIN).squeeze(1)
        assert torch.equal(torch.nonzero(held.rows[i] == VALID).squeeze(1), train[4::5])
    assert torch.equal(hold_back(stack()).rows, stack().rows)


def test_a_task_too_small_to_hold_back_keeps_its_network():
    tasks = stack(valid=False)
    rows = torch.where(tasks.rows[:1].bool() | (torch.arange(80) > 5), PAD, TRAIN)
    tiny = TaskStack(tasks.x[:1], tasks.y[:1], rows, tasks.views[[0]])
    assert int(tiny.train.sum()) == 4
    networks = starts(tasks, 1)[0]
    assert torch.equal(refine(networks, tiny, torch.tensor([0]), steps=3).weight, networks.weight)


def test_the_curve_is_the_test_r2_of_refined_networks():
    tasks = stack()
    networks, at = starts(tasks)
    curve = refine_curve(networks, tasks, at, steps=(0, 2, 5), lr=0.05)
    test = tasks.rows[at] == TEST
    for row, k in zip(curve, (0, 2, 5), strict=True):
        refined = refine(networks, tasks, at, steps=k, lr=0.05)
        assert torch.equal(row, r2(tasks.y[at], refined.predict(tasks.x[at]), test))


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
    taught = TaskStack(lesson.x, said.mean(1), lesson.rows, lesson.views)
    assert bool((held_back_error(student, taught) <= held_back_error(start, taught)).all())
    test = tasks.rows == TEST
    nearest = distil(teachers, tasks, own, steps=0)
    gap = (said - said.mean(1, keepdim=True)).square() * lesson.train.unsqueeze(1)
    assert torch.equal(nearest.weight, teachers[own * k + gap.sum(2).argmin(1)].weight)
    closer = r2(mean, student.predict(tasks.x), test) - r2(mean, start.predict(tasks.x), test)
    assert float(closer.mean()) > 0.05


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
