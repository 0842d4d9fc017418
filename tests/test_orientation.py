"""Orientation: a network written in any order and sign of a task reads its canonical columns, the same function."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from drawn import draw

from netformer.generation.sampling import sample_networks
from netformer.model.orientation import draw_orientations
from netformer.model.vae import TransformerVAE
from netformer.networks.specs import Layout
from netformer.networks.stack import Networks
from netformer.tasks.stream import synthetic_tasks
from netformer.tasks.view import stack_tasks

LAYOUT = Layout()
TINY = {"max_features": 10, "max_hidden_layers": 3, "max_width": 8, "n_metafeatures": 3, "d_model": 16, "d_row": 16}


def stack(n=6):
    made = synthetic_tasks(n, seed=3, stream="test", split="test", max_features=10, min_rows=30, max_rows=60)
    return stack_tasks(made, LAYOUT.max_features)


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_undone_networks_give_the_same_answers_to_canonical_rows(n_outputs):
    tasks = stack(40)
    networks = draw(40, sparse_share=0.5, layout=Layout(n_outputs=n_outputs))
    orientations = draw_orientations(
        networks.specs.n_inputs, LAYOUT.max_features, 1.0, torch.Generator().manual_seed(0)
    )
    doubled = Networks(networks.specs, networks.weight.double())
    seen = orientations.apply(tasks)
    asked = doubled.answers(seen.x.double())
    undone = orientations.undo(doubled)
    answered = undone.answers(tasks.x.double())
    torch.testing.assert_close(answered, asked * orientations.sign.view(-1, 1, 1), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(seen.y * orientations.sign.unsqueeze(1), tasks.y, rtol=0, atol=0)
    assert not torch.equal(undone.weight, doubled.weight)
    assert torch.equal(undone.specs.n_params, networks.specs.n_params)
    assert torch.equal(undone.specs.patch_mask, networks.specs.patch_mask)
    assert not bool(torch.signbit(undone.weight)[~undone.specs.mask].any())
    # No edge from an input that a narrow table does not have.
    beyond = torch.arange(LAYOUT.max_features) >= networks.specs.n_inputs.unsqueeze(1)
    assert not bool((undone.specs.mask[:, :, 1 : 1 + LAYOUT.max_features] & beyond.unsqueeze(1)).any())


def test_without_noise_the_orientation_is_the_canonical_one():
    tasks, networks = stack(), draw(6)
    orientations = draw_orientations(tasks.n_features, LAYOUT.max_features, 0.0, torch.Generator().manual_seed(0))
    assert torch.equal(orientations.apply(tasks).x, tasks.x)
    assert torch.equal(orientations.undo(networks).weight, networks.weight)


@pytest.mark.parametrize("noise", [0.25, 0.5, 1.0])
def test_columns_are_drawn_with_the_chance_that_is_documented(noise):
    n, features = 40_000, 4
    g = torch.Generator().manual_seed(1)
    drawn = draw_orientations(torch.full((n,), features), LAYOUT.max_features, noise, g)
    assert torch.equal(drawn.order[:, features:], torch.arange(features, LAYOUT.max_features).expand(n, -1))
    chance = np.arange(1, features + 1) ** (-1 / noise)
    found = torch.bincount(drawn.order[:, 0], minlength=features).numpy() / n
    np.testing.assert_allclose(found, chance / chance.sum(), atol=0.01)
    # The second one by the same rule, of those that are left.
    second = drawn.order[drawn.order[:, 0] == 0][:, 1]
    left = chance[1:] / chance[1:].sum()
    np.testing.assert_allclose(torch.bincount(second, minlength=features)[1:].numpy() / len(second), left, atol=0.02)
    assert float((drawn.sign < 0).double().mean()) == pytest.approx(0.5, abs=0.01)


def test_samples_of_several_orientations_depend_on_no_chunk_and_share_them_evenly(monkeypatch):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TransformerVAE.from_arguments(
            orientations=2, order_noise=0.5, temperature=0.0, structure_temperature=0.0, **TINY
        )
    tasks = stack()

    def written(**options):
        g = torch.Generator().manual_seed(5)
        return sample_networks(model.eval(), tasks, None, n_samples=4, generator=g, solve=False, **options)[0].weight

    weight = written()
    monkeypatch.setattr("netformer.generation.sampling.CHUNK", 1)
    torch.testing.assert_close(written(), weight, rtol=1e-4, atol=1e-5)
    by_task = weight.view(len(tasks), 4, -1)
    torch.testing.assert_close(by_task[:, 0], by_task[:, 1])  # no noise on the latents: one network an orientation
    torch.testing.assert_close(by_task[:, 2], by_task[:, 3])
    differs = (by_task[:, 0] - by_task[:, 2]).abs().amax(1) > 1e-3
    assert int(differs.sum()) >= len(tasks) - 1  # the second orientation of a task may be canonical by chance
    canonical = written(order_noise=0.0).view(len(tasks), 4, -1)
    torch.testing.assert_close(canonical[:, 0], canonical[:, 3])
    torch.testing.assert_close(canonical[:, 0], by_task[:, 0])  # the first orientation
