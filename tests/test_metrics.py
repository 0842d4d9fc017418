"""Metrics: a network agrees with itself, a changed one does not, and counts are what a loop counts."""

from __future__ import annotations

import pytest
import torch
from drawn import draw

from netformer.evaluation import metrics
from netformer.networks.specs import Layout, Specs, patch_numbers, patch_types
from netformer.networks.stack import Networks, concatenate

LAYOUT = Layout()


def rows(n, seed=5):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 30, LAYOUT.max_features, generator=generator)
    return x, torch.rand(n, 30, generator=generator) < 0.7


def edge_set(specs, index):
    """Edges of one network as a set of (parent, vertex, type), counted one by one."""
    number, kind = patch_numbers(specs)[index].tolist(), patch_types(specs)[index].tolist()
    depth, width, found, ends = int(specs.depth[index]), LAYOUT.max_width, set(), specs.layout.outputs.start
    for patch, slot in torch.nonzero(specs.mask[index]).tolist():
        parent = slot
        if slot > LAYOUT.max_features:
            before = depth - 1 if patch >= ends else patch // width - 1
            parent = number[before * width + slot - 1 - LAYOUT.max_features]
        found.add((parent, number[patch], kind[patch]))
    return found


@pytest.mark.parametrize("n_outputs", [1, 4])
def test_a_network_agrees_with_itself(n_outputs):
    networks = draw(50, layout=Layout(n_outputs=n_outputs), sparse_share=0.5)
    x, keep = rows(50)
    scores = [
        *metrics.edge_scores(networks, networks),
        metrics.penultimate_cosine(networks, networks, x, keep),
        metrics.weight_cosine(networks, networks),
        metrics.weight_r2(networks, networks, metrics.layer_mean(networks)),
        metrics.validity(networks, x, keep).double(),
    ]
    for score in scores + ([metrics.functional_r2(networks, networks, x, keep)] if n_outputs == 1 else []):
        torch.testing.assert_close(score, torch.ones(50, dtype=torch.float64))


@pytest.mark.parametrize("n_outputs", [1, 4])
def test_edge_scores_count_sets(n_outputs):
    layout = Layout(n_outputs=n_outputs)
    first, second = draw(60, layout=layout, sparse_share=0.5), draw(60, seed=1, layout=layout, sparse_share=0.5)
    accuracy, f1 = metrics.edge_scores(first, second)
    for index in range(60):
        a, b = edge_set(first.specs, index), edge_set(second.specs, index)
        assert float(accuracy[index]) == pytest.approx(len(a & b) / len(a))
        assert float(f1[index]) == pytest.approx(2 * len(a & b) / (len(a) + len(b)))


def test_permuted_units_keep_edges_and_lose_cosine():
    networks = draw(40, min_width=8, sparse_share=0.0, activations=("tanh",), min_hidden_layers=3)
    order = torch.arange(LAYOUT.max_width).flip(0)
    weight = networks.weight.clone()
    weight[:, LAYOUT.layer(2)] = weight[:, LAYOUT.layer(2)][:, order]
    weight[:, -1, 1 + LAYOUT.max_features :] = weight[:, -1, 1 + LAYOUT.max_features :][:, order]
    permuted = Networks(networks.specs, weight)
    x, keep = rows(40)
    assert torch.equal(metrics.edge_scores(networks, permuted)[1], torch.ones(40, dtype=torch.float64))
    assert float(metrics.functional_r2(networks, permuted, x, keep).min()) > 0.9999
    assert float(metrics.penultimate_cosine(networks, permuted, x, keep).max()) < 0.95
    assert float(metrics.weight_cosine(networks, permuted).max()) < 0.95


def test_the_cosine_of_weights_leaves_every_output_out():
    networks = draw(20, layout=Layout(n_outputs=3))
    weight = networks.weight.clone()
    weight[:, networks.layout.outputs] *= -2
    cosine = metrics.weight_cosine(networks, Networks(networks.specs, weight))
    torch.testing.assert_close(cosine, torch.ones(20, dtype=torch.float64))
    weight[:, : networks.layout.outputs.start] *= -1
    torch.testing.assert_close(metrics.weight_cosine(networks, Networks(networks.specs, weight)), -cosine)


def test_cosine_does_not_read_units_that_do_not_exist():
    networks = draw(30, min_width=1)
    weight = networks.weight.clone()
    absent = ~networks.specs.patch_mask
    weight[absent] = 3.0
    x, keep = rows(30)
    changed = metrics.penultimate_cosine(networks, Networks(networks.specs, weight), x, keep)
    torch.testing.assert_close(changed, torch.ones(30, dtype=torch.float64))


def test_weight_r2_of_the_mean_is_zero_and_without_common_edges_nan():
    networks = draw(20)
    mean = metrics.layer_mean(networks)
    guess = Networks(networks.specs, mean * networks.specs.mask)
    torch.testing.assert_close(metrics.weight_r2(networks, guess, mean), torch.zeros(20, dtype=torch.float64))
    relu = draw(1, activations=("relu",), bias_share=0.0, skip_share=0.0, min_width=8)
    tanh = draw(1, activations=("tanh",), bias_share=0.0, skip_share=0.0, min_width=8)
    specs = tanh.specs
    empty = Networks(Specs(specs.n_inputs, specs.widths, specs.activations, specs.mask.clone()), tanh.weight)
    empty.specs.mask[:, -1] = False
    assert bool(metrics.weight_r2(relu, empty, mean).isnan().all())


def test_uniqueness_rounds_to_three_digits():
    networks = draw(10)
    assert metrics.uniqueness(networks) == 1
    nearly = Networks(networks.specs, networks.weight * (1 + 1e-7))
    other = Networks(networks.specs, networks.weight * 1.05)
    assert metrics.uniqueness(concatenate([networks, networks])) == 0.5
    assert metrics.uniqueness(concatenate([networks, nearly])) <= 0.55
    assert metrics.uniqueness(concatenate([networks, other])) == 1
    edge = [Networks(networks[:1].specs, networks.specs.mask[:1] * value) for value in (0.99999, 1.0001, 1.01)]
    assert metrics.uniqueness(concatenate(edge)) == pytest.approx(2 / 3)
    assert metrics.distinct_specs(concatenate([networks, networks]).specs) == metrics.distinct_specs(networks.specs)


def test_functional_diversity():
    networks = draw(12)
    x, keep = rows(1)
    same = networks[torch.zeros(5, dtype=torch.long)]
    assert metrics.functional_diversity(same, x, keep) == pytest.approx(0, abs=1e-9)
    assert 0 < metrics.functional_diversity(networks, x, keep) <= 2
    with pytest.raises(ValueError, match="at least 2"):
        metrics.functional_diversity(networks[:1], x, keep)


def broken_weight(networks):
    networks.weight[0, 0, 1] = torch.nan


def broken_output(networks):
    networks.weight[0, -1] = networks.specs.mask[0, -1] * 3e38


def off_the_mask(networks):
    networks.weight[0, -1, 0] = 1.0
    networks.specs.mask[0, -1, 0] = False


def no_parent(networks):
    networks.specs.mask[0, 0, 1:] = False
    networks.weight[0, 0, 1:] = 0


def foreign_edge(networks):
    networks.specs.mask[0, 0, -1] = True


def gap(networks):
    networks.specs.widths[0, 0] = 0


@pytest.mark.parametrize("harm", [broken_weight, broken_output, off_the_mask, no_parent, foreign_edge, gap])
def test_validity_finds_every_harm(harm):
    networks = draw(8, bias_share=1.0, activations=("identity",))
    x, keep = rows(8)
    assert bool(metrics.validity(networks, x, keep).all())
    harm(networks)
    assert metrics.validity(networks, x, keep).tolist() == [False] + [True] * 7
