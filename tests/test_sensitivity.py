"""Sensitivity against finite differences and autograd, and independence of padding and neighbours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from netformer.errors import InputError
from netformer.exports.slopes import felt
from netformer.networks import sensitivity as module
from netformer.networks.sensitivity import sensitivity
from netformer.networks.specs import Layout, Specs, draw_specs
from netformer.networks.stack import Networks

LAYOUT = Layout(4, 3, 5)


def draw(n, seed=0, n_outputs=1, **options):
    generator = torch.Generator().manual_seed(seed)
    n_inputs = torch.randint(1, LAYOUT.max_features + 1, (n,), generator=generator)
    layout = replace(LAYOUT, n_outputs=n_outputs)
    specs = draw_specs(n_inputs, layout=layout, min_width=2, bias_share=1.0, generator=generator, **options)
    weight = torch.randn(specs.mask.shape, generator=generator, dtype=torch.float64)
    return Networks(specs, torch.where(specs.mask, weight, 0.0))


def rows_of(n, rows=30, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, rows, LAYOUT.max_features, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("n_outputs", [1, 2, 5])
def test_against_finite_differences(n_outputs):
    """The bias of a unit shifts its pre-activation, so that a step of the bias is a step of the pre-activation."""
    networks, step = draw(40, n_outputs=n_outputs, sparse_share=0.5), 1e-6
    x = rows_of(40)
    found = sensitivity(networks, x)
    for patch in range(networks.layout.n_patches):
        up, down = networks.weight.clone(), networks.weight.clone()
        up[:, patch, 0] += step
        down[:, patch, 0] -= step
        slope = (Networks(networks.specs, up).answers(x) - Networks(networks.specs, down).answers(x)) / (2 * step)
        expected = torch.where(networks.specs.patch_mask[:, patch], slope.abs().mean((1, 2)), 0.0)
        torch.testing.assert_close(found[:, patch], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n_outputs", [1, 2, 5])
def test_an_output_has_its_share_and_padding_zero(n_outputs):
    networks = draw(30, n_outputs=n_outputs)
    found = sensitivity(networks, rows_of(1))
    assert bool((found[:, -n_outputs:] == 1 / n_outputs).all())
    assert bool((found[~networks.specs.patch_mask] == 0).all())


def test_steps_are_refused():
    with pytest.raises(InputError, match="activations with a slope, found networks with step units"):
        sensitivity(draw(5, activations=("tanh", "step")), rows_of(1))


@pytest.mark.parametrize("m", [1, 20])
def test_rows_that_are_not_kept_do_not_matter(m):
    networks, x = draw(20), rows_of(m)
    keep = torch.rand(m, x.shape[1], generator=torch.Generator().manual_seed(0)) < 0.5
    changed = torch.where(keep.unsqueeze(2), x, 100.0)
    expected = torch.stack([sensitivity(networks[[i]], x[[i % m]][:, keep[i % m]])[0] for i in range(20)])
    torch.testing.assert_close(sensitivity(networks, x, keep), expected)
    torch.testing.assert_close(sensitivity(networks, changed, keep), expected)


def test_outputs_that_say_the_same_have_the_sensitivity_of_one():
    networks = draw(20)
    s, copied = networks.specs, [*range(LAYOUT.n_patches), LAYOUT.n_patches - 1, LAYOUT.n_patches - 1]
    thrice = Networks(Specs(s.n_inputs, s.widths, s.activations, s.mask[:, copied], 3), networks.weight[:, copied])
    hidden = slice(0, LAYOUT.n_patches - 1)
    found, expected = sensitivity(thrice, rows_of(20)), sensitivity(networks, rows_of(20))
    torch.testing.assert_close(found[:, hidden], expected[:, hidden], rtol=1e-12, atol=0)


def test_no_kept_row_gives_zero_for_hidden_units():
    networks, x = draw(3), rows_of(3)
    found = sensitivity(networks, x, torch.zeros(3, x.shape[1], dtype=torch.bool))
    assert bool((found[:, :-1] == 0).all())


def test_chunks_do_not_matter(monkeypatch):
    networks, x = draw(25), rows_of(25)
    whole = sensitivity(networks, x)
    monkeypatch.setattr(module, "_MAX_CHUNK_ELEMENTS", 4 * x.shape[1] * 15)
    torch.testing.assert_close(sensitivity(networks, x), whole, rtol=1e-12, atol=1e-12)


def test_rows_must_fit_the_stack():
    with pytest.raises(ValueError, match="x must have rows for 1 or 5 networks, got 3"):
        sensitivity(draw(5), rows_of(3))


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_arrays_have_the_same_sensitivities_and_slopes(n_outputs):
    """`exports.slopes.felt`, by which networks are drawn where they are arrays."""
    networks, rows = draw(12, n_outputs=n_outputs), rows_of(1, rows=9)
    expected, x = sensitivity(networks, rows).numpy(), rows.clone().requires_grad_()
    for index in range(len(networks)):
        strength, own = felt(networks.numpy(), index, rows[0].numpy())
        np.testing.assert_allclose(own, expected[index], rtol=1e-6, atol=1e-9)
        sums = networks[[index]].answers(x)[0].sum(0)
        slopes = torch.stack([torch.autograd.grad(one, x, retain_graph=True)[0][0] for one in sums])
        np.testing.assert_allclose(strength, slopes.abs().mean((0, 1)), rtol=1e-6, atol=1e-9)
