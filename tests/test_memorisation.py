"""Memorisation: copies are found however they are disguised, strangers are not, and noise lies between."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn import draw, orbit_sample

from netformer.evaluation.memorisation import LADDER, _align, _alike, _comparable, _sorted, _unaligned, memorisation
from netformer.evaluation.memorisation import nearest_distances as nearest
from netformer.networks.specs import Layout
from netformer.networks.stack import Networks, concatenate, weight_scale
from netformer.networks.symmetry import canonicalize

SMALL = Layout(3, 2, 5)
KEYS = {
    *("novelty", "memorisation_ratio", "distance_median", "reference_median", "reference_p01"),
    *("average_ratio", "average_novelty", "n_samples", "n_held", "n_train", "n_unmatched"),
    *(f"ladder_{level:g}" for level in LADDER),
    *(f"ladder_novelty_{level:g}" for level in LADDER),
}


def noised(networks, level, seed=9):
    step = torch.randn(networks.weight.shape, generator=torch.Generator().manual_seed(seed))
    return Networks(networks.specs, networks.weight + level * step * networks.specs.mask)


def test_a_copy_has_distance_zero_and_is_not_novel():
    train, held = draw(300, layout=SMALL), draw(200, 1, SMALL)
    assert float(nearest(train[:40], train).max()) == 0
    assert float(nearest(train[:40], train, head=False).max()) == 0
    result = memorisation(train[:100], held, train)
    assert result["novelty"] == result["distance_median"] == result["memorisation_ratio"] == 0
    assert result["reference_p01"] > 0


def test_distances_are_to_training_networks_and_the_reference_is_of_held_out_ones():
    train, held = draw(60, layout=SMALL), draw(40, 1, SMALL)
    copies, strangers = memorisation(train[:10], held, train), memorisation(held[:10], held, train)
    assert copies["distance_median"] == copies["novelty"] == 0
    assert min(copies["reference_median"], strangers["distance_median"]) > 0.1


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("activation", ["identity", "relu", "tanh", "sigmoid", "gelu"])
def test_a_disguised_copy_has_distance_about_zero(activation, n_outputs):
    train = draw(200, layout=Layout(n_outputs=n_outputs), activations=(activation,), sparse_share=0.3)
    disguised = orbit_sample(train[:60], torch.Generator().manual_seed(2))
    assert not torch.equal(disguised.weight, train.weight[:60])
    assert float(nearest(disguised, train).max()) < 1e-4


def test_alignment_undoes_order_and_signs_that_the_canonical_form_does_not():
    """Noise changes the strongest parent of some units, so that canonical order and sign differ."""
    train = draw(400, activations=("tanh", "sigmoid"), min_hidden_layers=2)
    query = noised(train[:80], 0.05)
    scale = weight_scale(canonicalize(train))
    direct = [
        _comparable(canonicalize(net[i : i + 1]), int(net.specs.depth[i]), scale, True)[0]
        for i in range(80)
        for net in (query, train)
    ]
    unaligned = torch.stack([_unaligned(a, b)[0, 0] for a, b in zip(direct[::2], direct[1::2], strict=True)]).sqrt()
    assert float((unaligned > 0.3).double().mean()) > 0.1
    assert float(nearest(query, train).max()) < 0.2


def test_distance_is_the_formula():
    """One hidden layer of GELU units, few of them: every order is tried, in numpy."""
    few = Layout(2, 1, 4)
    query, train = (draw(n, seed, few, activations=("gelu",), min_width=2) for n, seed in ((20, 0), (30, 1)))
    scale = weight_scale(canonicalize(train)).double().numpy()
    q, t = (canonicalize(net).weight.double().numpy() / scale for net in (query, train))
    expected = []
    for i in range(20):
        found = []
        for j in np.flatnonzero((train.specs.n_inputs == query.specs.n_inputs[i]).numpy()):
            for order in itertools.permutations(range(4)):
                moved = t[j].copy()
                moved[:4], moved[4, 3:] = t[j][list(order)], t[j][4, 3:][list(order)]
                found.append(np.sqrt(((q[i] - moved) ** 2).sum() / ((q[i] ** 2).sum() + (moved**2).sum())))
        expected.append(min(found))
    distance = nearest(query, train, candidates=60).numpy()
    np.testing.assert_allclose(distance, expected, rtol=1e-4)


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_sorted_weights_bound_the_aligned_distance_from_below(n_outputs):
    layout = replace(SMALL, n_outputs=n_outputs)
    train = canonicalize(draw(120, layout=layout, min_hidden_layers=2, sparse_share=0.5))
    value, odd = _comparable(train, 2, weight_scale(train), True)
    q, t = value[:60], value[60:]
    aligned = _align(q, t.clone(), odd[60:].clone(), 2, layout)
    bound = _unaligned(_sorted(q, 2, layout), _sorted(t, 2, layout)).diagonal()
    after, before = (_unaligned(q, other).diagonal() for other in (aligned, t))
    assert bool((bound <= after + 1e-5).all())
    assert float(after.mean()) < float(before.mean())
    torch.testing.assert_close(aligned.square().sum((1, 2)), t.square().sum((1, 2)))


def test_ladder_rises_and_small_noise_is_not_novel():
    train, held, samples = (draw(n, seed, SMALL) for n, seed in ((1500, 0), (400, 1), (300, 2)))
    result = memorisation(samples, held, train)
    assert set(result) == KEYS
    assert all(np.isfinite(value) for value in result.values())
    ratios = [result[f"ladder_{level:g}"] for level in LADDER]
    assert ratios == sorted(ratios)
    assert 0 < ratios[0] < 0.1
    assert ratios[-1] > 0.7
    assert result["ladder_novelty_0.01"] < 0.02
    assert result["ladder_novelty_1"] > 0.8


def test_independent_networks_have_ratio_one_and_noised_copies_their_rung():
    train, held, samples = (draw(n, seed, SMALL) for n, seed in ((1500, 0), (400, 1), (400, 2)))
    independent = memorisation(samples, held, train)
    assert 0.9 < independent["memorisation_ratio"] < 1.1
    assert independent["novelty"] > 0.95
    copies = memorisation(noised(canonicalize(train[:400]), 0.1), held, train)
    assert copies["memorisation_ratio"] < independent["memorisation_ratio"] / 2
    assert independent["ladder_0.03"] < copies["memorisation_ratio"] < independent["ladder_0.3"]


def test_a_shrunken_copy_is_nearer_than_a_stranger():
    train = draw(500, layout=SMALL, activations=("gelu",), bias_share=1.0)
    shrunken = Networks(train.specs, 0.7 * train.weight)[:100]
    stranger = draw(100, 3, SMALL, activations=("gelu",), bias_share=1.0)
    assert float(nearest(shrunken, train).max()) < 0.3
    assert float(nearest(shrunken, train).median()) < float(nearest(stranger, train).median()) / 2


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_a_solved_head_hides_a_copy_only_with_the_head(n_outputs):
    train = draw(300, layout=replace(SMALL, n_outputs=n_outputs), activations=("gelu",))
    weight = train.weight[:50].clone()
    weight[:, train.layout.outputs] *= torch.randn(50, 1, SMALL.n_slots, generator=torch.Generator().manual_seed(4))
    solved = Networks(train.specs[:50], weight)
    assert float(nearest(solved, train, head=False).max()) < 1e-6
    assert float(nearest(solved, train).min()) > 1e-3


def test_the_chunk_changes_nothing_and_the_seed_decides(monkeypatch):
    query, train = draw(150, 1), draw(600)
    first = nearest(query, train)
    for chunk in (1, 7, 150):
        monkeypatch.setattr("netformer.evaluation.memorisation._CHUNK", chunk)
        torch.testing.assert_close(nearest(query, train), first, rtol=1e-5, atol=1e-6)
    again = [memorisation(query, draw(150, 2), train, limit=60, seed=seed) for seed in (0, 0, 1)]
    assert again[0] == again[1] != again[2]
    assert again[0]["n_samples"] + again[0]["n_unmatched"] == 60


def test_networks_do_not_affect_each_other_and_inputs_stay():
    query, train = draw(30, 1, SMALL), draw(200, layout=SMALL)
    kept = [net.weight.clone() for net in (query, train)]
    together = nearest(query, train)
    alone = torch.cat([nearest(query[i : i + 1], train) for i in range(30)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
    assert all(torch.equal(a, b.weight) for a, b in zip(kept, (query, train), strict=True))


def test_more_candidates_come_no_farther():
    query, train = draw(60, 1), draw(800)
    few, more, all_of_them = (nearest(query, train, candidates=n) for n in (2, 64, 1600))
    assert bool((more <= few + 1e-6).all())
    assert bool((all_of_them <= more + 1e-6).all())


def test_other_shapes_and_broken_networks_are_left_out():
    train, samples = draw(400, layout=SMALL), draw(40, 1, SMALL)
    two = train[train.specs.n_inputs == 2]
    distance = nearest(samples, two)
    assert torch.equal(torch.isfinite(distance), samples.specs.n_inputs == 2)
    broken = Networks(samples.specs, samples.weight.clone())
    broken.weight[0, 0, 1] = torch.nan
    broken.weight[1] *= 1e30
    result = memorisation(broken, draw(200, 2, SMALL), train)
    assert result["n_unmatched"] == 1
    assert all(np.isfinite(value) for value in result.values())
    with pytest.raises(ValueError, match="samples must be finite and of a shape in held and train, none of 1 is"):
        memorisation(broken[:1], train, train)
    with pytest.raises(ValueError, match="train must be finite, got 1 networks"):
        nearest(samples, concatenate([train, broken[:1]]))
    with pytest.raises(ValueError, match="must have the layout of train"):
        nearest(draw(3), train)


def test_drawn_networks_have_the_shapes_asked_for():
    shape, pool = torch.tensor([3, 1, 3, 3, 3, 2]), torch.tensor([1, 2, 3, 3, 3, 4, 1])
    first, second = _alike(shape, pool, torch.Generator().manual_seed(0))
    assert torch.equal(pool[first], shape)
    assert torch.equal(pool[second], shape)
    assert sorted(first[[0, 2, 3]].tolist()) == [2, 3, 4]
    assert torch.equal(first == second, shape == 2)
