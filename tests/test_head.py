"""Head: the output layer in closed form is ridge regression, and its errors are leave-one-out."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from netformer.model import head
from netformer.model.head import FACTORS, FLOOR, SHARES, STEP, leave_one_out_heads, solve_head, weigh_heads
from netformer.networks.specs import Layout, draw_specs
from netformer.networks.stack import Networks
from netformer.ridge import TRUST
from netformer.tasks.stream import stream_batch
from netformer.tasks.task import TEST, TRAIN
from netformer.tasks.view import canonicalize_tasks
from netformer.zoo.build import initialize

LAYOUT = Layout()


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
        assert float(estimate[i]) == pytest.approx(1 - float(weight @ error), abs=1e-4)
        np.testing.assert_allclose(chosen.weight[i, -1].numpy()[edges], expected, atol=2e-4)
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


def test_networks_solved_one_after_the_other_are_those_solved_together(monkeypatch):
    tasks = stream_batch(1, 3, seed=3, max_features=10, min_rows=40, max_rows=50)
    specs = draw_specs(tasks.n_features, layout=LAYOUT, generator=torch.Generator().manual_seed(1))
    networks, penalties = initialize(specs, torch.arange(3)), torch.full((3, LAYOUT.n_slots), 0.1)
    together, expected = weigh_heads(networks, tasks, penalties)
    monkeypatch.setattr(head, "MANY", 1)
    apart, alone = weigh_heads(networks, tasks, penalties)
    torch.testing.assert_close(apart.weight, together.weight, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(alone, expected, rtol=1e-4, atol=1e-5)


def test_a_network_does_not_depend_on_those_beside_it_nor_on_units_it_does_not_have():
    """Networks are solved in groups of like width."""
    layout, n = Layout(4, 2, 32), 40
    tasks = stream_batch(1, n, seed=3, max_features=4, min_rows=40, max_rows=50)
    specs = draw_specs(tasks.n_features, layout=layout, generator=torch.Generator().manual_seed(1), min_width=1)
    assert len(set(((specs.last_units.sum(1) + STEP - 1) // STEP).tolist())) == 4
    networks, penalties = initialize(specs, torch.arange(n)), torch.full((n, layout.n_slots), 0.1)
    together, r2 = weigh_heads(networks, tasks, penalties)
    padded = torch.where(specs.patch_mask.unsqueeze(2), networks.weight, 7.0)
    other, same = weigh_heads(Networks(specs, padded), tasks, penalties)
    assert torch.equal(other.weight[:, -1], together.weight[:, -1])
    assert torch.equal(same, r2)
    for i in range(0, n, 7):
        alone, own = weigh_heads(networks[[i]], tasks[[i]], penalties[[i]])
        torch.testing.assert_close(alone.weight[0, -1], together.weight[i, -1], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(own[0], r2[i], rtol=1e-5, atol=1e-6)


def test_what_is_predicted_for_a_row_that_is_left_out():
    """The errors are those that `weigh_heads` weighs, row by row; a row's own label moves nothing but the weights."""
    tasks = stream_batch(0, 3, seed=3, max_features=10, min_rows=30, max_rows=30)
    specs = draw_specs(tasks.n_features, layout=LAYOUT, generator=torch.Generator().manual_seed(1))
    networks, penalties = initialize(specs, torch.arange(3)), torch.full((3, LAYOUT.n_slots), 0.1)
    solved, predicted = leave_one_out_heads(networks, tasks, penalties)
    assert torch.equal(solved.weight, weigh_heads(networks, tasks, penalties)[0].weight)
    assert not bool(predicted[~tasks.train].any())
    rows = tasks.rows.clone()
    rows[:, 7] = TEST
    without = weigh_heads(networks, replace(tasks, rows=rows), penalties)[0].predict(tasks.x)
    torch.testing.assert_close(predicted[:, 7], without[:, 7], rtol=0, atol=0.2)
    inside = (solved.predict(tasks.x) - tasks.y)[tasks.train].square().mean()
    assert float((predicted - tasks.y)[tasks.train].square().mean()) > 1.2 * float(inside)
