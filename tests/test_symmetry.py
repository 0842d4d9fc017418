"""Symmetry: canonicalize is idempotent, keeps function and edges, and takes an orbit to one network."""

from __future__ import annotations

import pytest
import torch
from drawn import draw, orbit_sample

from netformer.networks.specs import ACTIVATIONS, Layout, Specs
from netformer.networks.stack import Networks
from netformer.networks.symmetry import _representative, _walk, canonicalize

LAYOUT, OUTPUTS = Layout(), (1, 2, 5)


def drawn(n, n_outputs, **options):
    return draw(n, layout=Layout(n_outputs=n_outputs), **{"activations": ACTIVATIONS} | options)


def untied(networks):
    """Without the nets in which two ReLU or two step units of a layer have one edge each: scaled to norm 1 they tie."""
    layout, scaled = networks.layout, torch.tensor([ACTIVATIONS.index(name) for name in ("relu", "step")])
    hidden = slice(0, layout.outputs.start)
    lonely = (networks.specs.mask.sum(2) == 1)[:, hidden].unflatten(1, (layout.max_hidden_layers, layout.max_width))
    return networks[~((lonely.sum(2) > 1) & torch.isin(networks.specs.activations, scaled)).any(1)]


def same_function(a, b, tolerance):
    x = torch.randn(1, 50, LAYOUT.max_features, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    first = Networks(a.specs, a.weight.double()).answers(x)
    second = Networks(b.specs, b.weight.double()).answers(x)
    scale = first.square().mean(1, keepdim=True).sqrt()
    return float(((first - second).abs() / scale).max()) < tolerance


@pytest.mark.parametrize("n_outputs", OUTPUTS)
@pytest.mark.parametrize("sparse_share", [0.0, 1.0])
@pytest.mark.parametrize("change", [canonicalize, lambda nets: orbit_sample(nets, torch.Generator().manual_seed(7))])
def test_function_edges_and_dtype_are_kept(change, sparse_share, n_outputs):
    networks = drawn(500, n_outputs, sparse_share=sparse_share)
    changed = change(networks)
    assert changed.weight.dtype == torch.float32
    assert not torch.equal(changed.weight, networks.weight)
    assert same_function(networks, changed, 1e-5)
    assert torch.equal(changed.specs.n_params, networks.specs.n_params)
    assert torch.equal(changed.specs.patch_mask, networks.specs.patch_mask)
    assert not bool((changed.weight != 0)[~changed.specs.mask].any())
    assert not bool(torch.signbit(changed.weight)[~changed.specs.mask].any())
    assert not bool(changed.specs.mask[~changed.specs.patch_mask].any())


@pytest.mark.parametrize("n_outputs", OUTPUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_canonicalize_twice_changes_no_bit(dtype, n_outputs):
    once = canonicalize(drawn(1000, n_outputs, dtype=dtype, sparse_share=0.5, min_width=1))
    twice = canonicalize(once)
    assert torch.equal(once.weight, twice.weight)
    assert torch.equal(once.specs.mask, twice.specs.mask)


@pytest.mark.parametrize("n_outputs", OUTPUTS)
@pytest.mark.parametrize("sparse_share", [0.0, 1.0])
def test_the_kernel_gives_the_bits_of_the_reference_in_torch(sparse_share, n_outputs):
    networks = drawn(1000, n_outputs, sparse_share=sparse_share, min_width=1)
    networks = orbit_sample(networks, torch.Generator().manual_seed(3))
    found = canonicalize(networks)
    expected = _walk(networks, _representative(torch.float32, 4 * torch.finfo(torch.float32).eps))
    assert torch.equal(found.specs.mask, expected.specs.mask)
    assert torch.equal(found.weight.view(torch.int32), expected.weight.view(torch.int32))


def test_any_dtype_and_any_strides():
    networks = draw(30)
    half = canonicalize(Networks(networks.specs, networks.weight.half()))
    assert half.weight.dtype == torch.float16
    assert same_function(Networks(networks.specs, networks.weight.half()), half, 0.02)
    assert len(canonicalize(networks[:0])) == 0
    strided = networks[torch.arange(0, 30, 2)]
    assert torch.equal(canonicalize(networks[::2]).weight, canonicalize(strided).weight)


def tied(networks):
    """Networks with two units of a layer that no incoming weight tells apart, as single-edge ReLU units are."""
    found = torch.zeros(len(networks), dtype=torch.bool)
    for layer in range(LAYOUT.max_hidden_layers):
        rows, exists = networks.weight[:, LAYOUT.layer(layer), 1:], networks.specs.unit_mask[:, layer]
        strongest = rows.abs().argmax(2)
        value = rows.gather(2, strongest.unsqueeze(2)).squeeze(2)
        same = (strongest[:, 1:] == strongest[:, :-1]) & ((value[:, 1:] - value[:, :-1]).abs() < 1e-9)
        found |= (same & exists[:, 1:]).any(1)
        # A unit whose two strongest parents weigh the same has two signs to choose from.
        top = rows.abs().topk(2, dim=2).values
        found |= (exists & ((top[:, :, 0] - top[:, :, 1]).abs() < 1e-9)).any(1)
    return found


@pytest.mark.parametrize("n_outputs", OUTPUTS)
@pytest.mark.parametrize("sparse_share", [0.0, 1.0])
def test_one_representative_an_orbit(sparse_share, n_outputs):
    networks = untied(drawn(1000, n_outputs, dtype=torch.float64, sparse_share=sparse_share))
    assert len(networks) > 900
    expected = canonicalize(networks)
    for seed in range(3):
        other = orbit_sample(networks, torch.Generator().manual_seed(seed))
        again = canonicalize(other)
        clear = ~tied(expected)
        assert clear.double().mean() > 0.75
        assert torch.equal(again.specs.mask[clear], expected.specs.mask[clear])
        torch.testing.assert_close(again.weight[clear], expected.weight[clear], rtol=1e-9, atol=1e-9)


def test_the_representative_is_the_documented_one():
    networks = canonicalize(drawn(500, 1, sparse_share=0.0))
    for layer in range(LAYOUT.max_hidden_layers):
        rows, exists = networks.weight[:, LAYOUT.layer(layer)], networks.specs.unit_mask[:, layer]
        code = networks.specs.activations[:, layer].unsqueeze(1).expand_as(exists)
        step = exists & (code == ACTIVATIONS.index("step"))
        norm = rows.norm(dim=2)[step | exists & (code == ACTIVATIONS.index("relu"))]
        torch.testing.assert_close(norm, torch.ones_like(norm))
        strongest = rows[:, :, 1:].abs().argmax(2)
        value = rows[:, :, 1:].gather(2, strongest.unsqueeze(2)).squeeze(2)
        signed = exists & (code == ACTIVATIONS.index("tanh"))
        signed |= exists & (code == ACTIVATIONS.index("sigmoid")) & networks.specs.bias.unsqueeze(1)
        signed |= step & networks.specs.bias.unsqueeze(1)
        assert bool((value[signed] > 0).all())
        assert bool(signed.any())
        both = exists[:, 1:]
        later = strongest.diff(dim=1) > 0
        smaller = (strongest.diff(dim=1) == 0) & (value.diff(dim=1) <= 0)
        assert bool((later | smaller)[both].all())


def one_unit(activation, bias, incoming, outgoing, reader_bias=True):
    """A net of one input, one hidden unit."""
    layout = Layout(1, 1, 1)
    mask = torch.tensor([[[bias is not None, True, False], [reader_bias, False, True]]])
    weight = torch.tensor([[[bias or 0.0, incoming, 0.0], [0.0, 0.0, outgoing]]])
    one = torch.ones(1, dtype=torch.int64)
    specs = Specs(one, one.view(1, 1), torch.tensor([[ACTIVATIONS.index(activation)]]), mask)
    assert specs.layout == layout
    return Networks(specs, weight)


@pytest.mark.parametrize(
    ("activation", "reader_bias", "expected"),
    [
        ("tanh", False, [[[-3.0, 4.0, 0.0], [0.0, 0.0, -2.0]]]),
        ("sigmoid", True, [[[-3.0, 4.0, 0.0], [2.0, 0.0, -2.0]]]),
        ("sigmoid", False, [[[3.0, -4.0, 0.0], [0.0, 0.0, 2.0]]]),  # 1 - sigma(a) has no bias to go to
        ("relu", False, [[[0.6, -0.8, 0.0], [0.0, 0.0, 10.0]]]),
        ("gelu", True, [[[3.0, -4.0, 0.0], [0.0, 0.0, 2.0]]]),
        ("step", True, [[[-0.6, 0.8, 0.0], [2.0, 0.0, -2.0]]]),
        ("step", False, [[[0.6, -0.8, 0.0], [0.0, 0.0, 2.0]]]),
        ("identity", True, [[[3.0, -4.0, 0.0], [0.0, 0.0, 2.0]]]),
    ],
)
def test_by_hand(activation, reader_bias, expected):
    done = canonicalize(one_unit(activation, 3.0, -4.0, 2.0, reader_bias))
    torch.testing.assert_close(done.weight, torch.tensor(expected))


def test_a_reflected_sigmoid_moves_the_bias_of_every_output_that_reads_it():
    """One input, one unit -4 x + 3, read by outputs with weights 2, none and -5."""
    mask = torch.tensor([[[True, True, False], [True, False, True], [True, False, False], [True, False, True]]])
    weight = torch.tensor([[[3.0, -4.0, 0.0], [0.5, 0.0, 2.0], [0.25, 0.0, 0.0], [1.0, 0.0, -5.0]]])
    one = torch.ones(1, dtype=torch.int64)
    specs = Specs(one, one.view(1, 1), torch.tensor([[ACTIVATIONS.index("sigmoid")]]), mask, 3)
    done = canonicalize(Networks(specs, weight))
    expected = torch.tensor([[[-3.0, 4.0, 0.0], [2.5, 0.0, -2.0], [0.25, 0.0, 0.0], [-4.0, 0.0, 5.0]]])
    torch.testing.assert_close(done.weight, expected)
    # One output that reads it has no bias: nothing is reflected.
    mask[0, 3, 0], weight[0, 3, 0] = False, 0.0
    assert torch.equal(canonicalize(Networks(specs, weight)).weight, weight)


@pytest.mark.parametrize("activation", ["relu", "step"])
def test_a_dead_unit_stays(activation):
    network = one_unit(activation, None, 0.0, 2.0)
    assert torch.equal(canonicalize(network).weight, network.weight)


def test_a_step_unit_without_a_bias_is_not_reflected():
    """Where its input is 0, as behind other steps, step(-a) is not 1 - step(a)."""
    network = one_unit("step", None, -4.0, 2.0)
    done = canonicalize(network)
    assert done.weight[0, 0].tolist() == [0.0, -1.0, 0.0]
    assert torch.equal(done.weight[0, 1], network.weight[0, 1])


def test_a_network_does_not_affect_its_neighbours_nor_is_the_input_changed():
    networks = draw(50, sparse_share=0.5, dtype=torch.float64)
    before = networks.weight.clone()
    together = canonicalize(networks)
    assert torch.equal(networks.weight, before)
    for index in range(0, 50, 7):
        alone = canonicalize(networks[[index]])
        assert torch.equal(alone.weight[0], together.weight[index])


def test_orbit_samples_differ_by_seed_only():
    networks = draw(20)
    a, b, c = (orbit_sample(networks, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(a.weight, b.weight)
    assert not torch.equal(a.weight, c.weight)
