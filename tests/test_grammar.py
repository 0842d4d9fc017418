"""Grammar: any logits give a network that runs and keeps what was asked; the best shape is that of an enumeration."""

import itertools
import resource

import numpy as np
import pytest
import torch

from netformer.evaluation.metrics import validity
from netformer.model.grammar import SHAPES, Structure, best_widths, dense_params, listed_widths, read_structure, shapes
from netformer.model.prompt import Prompt
from netformer.networks.specs import WRITTEN, Layout, dense_mask, draw_specs, patch_numbers, patch_types
from netformer.zoo.build import initialize

LAYOUT = Layout()


def random_logits(n, seed=0):
    g = torch.Generator().manual_seed(seed)
    p, numbers = LAYOUT.n_patches, 11 + LAYOUT.n_patches
    parts = (torch.randn(n, p, k, generator=g) * 3 for k in (len(WRITTEN) + 2, numbers, LAYOUT.n_slots))
    return Structure(*parts)


def every_shape(layout):
    """Every choice of widths, enumerated: shallow ones first, then in the order of their widths."""
    rows = []
    for depth in range(1, layout.max_hidden_layers + 1):
        shapes = itertools.product(range(1, layout.max_width + 1), repeat=depth)
        rows.extend((*widths, *(0,) * (layout.max_hidden_layers - depth)) for widths in shapes)
    return torch.tensor(rows)


@pytest.mark.parametrize("layout", [Layout(), Layout(5, 1, 40), Layout(16, 2, 32), Layout(3, 4, 3)])
@pytest.mark.parametrize("max_params", [None, 40, 90, 250])
@pytest.mark.parametrize("deepest", [None, 1, 2])
def test_the_best_shape_is_that_of_an_enumeration(layout, max_params, deepest):
    g = torch.Generator().manual_seed(0)
    n, n_inputs = 200, torch.arange(200) % layout.max_features + 1
    gain = 3 * torch.randn(n, layout.max_hidden_layers, layout.max_width, generator=g)
    gain[:20] = gain[:20].round()  # ties: the shallowest, then the narrowest
    sizes = torch.nn.functional.pad(gain.cumsum(2), (1, 0))
    table = every_shape(layout)
    total = sum(sizes[:, layer, table[:, layer]] for layer in range(layout.max_hidden_layers))
    total = total.masked_fill((table > 0).sum(1) > (deepest or 9), -torch.inf)
    total = total.masked_fill(dense_params(n_inputs, table) > (max_params or 10**9), -torch.inf)
    found = best_widths(sizes, n_inputs, layout, Prompt(max_params, deepest))
    assert torch.equal(found, table[total.argmax(1)])
    listed = listed_widths(gain.flatten(1), n_inputs, layout, Prompt(max_params, deepest))
    assert float((listed == found).all(1).double().mean()) > 0.98, "rounding may decide between shapes as good"


@pytest.mark.parametrize("rows", [1, 5, 70, SHAPES])
def test_shapes_come_in_parts_of_a_bounded_size(rows):
    parts = list(shapes(LAYOUT, range(1, 4), rows))
    assert max(len(part) for part in parts) <= rows
    assert torch.equal(torch.from_numpy(np.concatenate(parts)), every_shape(LAYOUT))


@pytest.mark.parametrize("max_params", [None, 120])
def test_the_largest_layout_of_params_is_read_in_little_memory(max_params):
    """4 layers of up to 64 units have 17 million shapes: an enumeration takes 17 GB."""
    layout, g = Layout(10, 4, 64), torch.Generator().manual_seed(0)
    kinds = (len(WRITTEN) + 2, layout.n_numbers, layout.n_slots)
    logits = Structure(*(torch.randn(3, layout.n_patches, k, generator=g) for k in kinds))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    specs = read_structure(logits, torch.tensor([10, 5, 1]), layout, Prompt(max_params))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB
    assert max_params is None or int(specs.n_params.max()) <= max_params


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
    assert not bool((specs.mask & ~dense_mask(LAYOUT, n_inputs, specs.widths, yes, yes)).any())
    assert torch.equal(specs.mask[:, :, 1:].any(2), specs.patch_mask)


@pytest.mark.parametrize("max_params", [23, 24, 40, 100, 500])
def test_every_feasible_bound_on_parameters_holds(max_params):
    n_inputs = torch.arange(500) % 10 + 1
    logits = random_logits(500)
    logits.parent.abs_()  # every edge is wanted
    specs = read_structure(logits, n_inputs, LAYOUT, Prompt(max_params=max_params))
    assert int(specs.n_params.max()) <= max_params
    free = read_structure(logits, n_inputs, LAYOUT)
    fits = dense_params(n_inputs, every_shape(LAYOUT)).max() <= max_params
    assert torch.equal(specs.mask, free.mask) == bool(fits)


@pytest.mark.parametrize("name", WRITTEN)
def test_one_allowed_activation_is_the_only_one(name):
    specs = read_structure(random_logits(500), torch.arange(500) % 10 + 1, LAYOUT, Prompt(activations=(name,)))
    assert set(specs.activations[specs.widths > 0].tolist()) == {WRITTEN.index(name)}


def test_perfect_logits_are_read_back():
    n_inputs = torch.arange(300) % 10 + 1
    specs = draw_specs(n_inputs, layout=LAYOUT, generator=torch.Generator().manual_seed(0), sparse_share=0.5)
    one_hot = torch.nn.functional.one_hot
    logits = Structure(
        10.0 * one_hot(patch_types(specs), len(WRITTEN) + 2),
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
    names = {WRITTEN[int(code)] for code in specs.activations[specs.widths > 0]}
    assert names <= {"tanh", "gelu"}


def test_dense_params_counts_the_edges_of_dense_networks():
    table = every_shape(LAYOUT)
    yes = torch.ones(len(table), dtype=torch.bool)
    n_inputs = torch.full((len(table),), 7)
    counted = dense_mask(LAYOUT, n_inputs, table, yes, yes).sum((1, 2))
    assert torch.equal(dense_params(torch.tensor([7]), table)[0], counted)


def test_impossible_constraints_name_the_least_possible():
    with pytest.raises(ValueError, match="max_params must be at least 23 for these inputs, got 5"):
        read_structure(random_logits(1), torch.tensor([10]), LAYOUT, Prompt(max_params=5))
