"""Stacks: one padded tensor computes what its networks compute alone, and nothing else leaks in."""

import pytest
import torch

from netformer.errors import InputError
from netformer.networks import stack
from netformer.networks.specs import (
    ACTIVATIONS,
    OUTPUT,
    Layout,
    Specs,
    activate,
    dense_mask,
    draw_specs,
    patch_numbers,
    patch_types,
)
from netformer.networks.stack import LONG, Networks, _check_stack, concatenate, constant_network

LAYOUT = Layout()
FUNCTIONS = {
    "identity": lambda a: a,
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "gelu": torch.nn.functional.gelu,
    "step": lambda a: torch.heaviside(a, torch.zeros_like(a)),
}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def mixed(n=100, seed=0, layout=LAYOUT, dtype=torch.float64, **options):
    g = seeded(seed)
    n_inputs = torch.randint(1, layout.max_features + 1, (n,), generator=g)
    shares = {
        "bias_share": 0.6,
        "skip_share": 0.5,
        "sparse_share": 0.5,
        "min_width": 1,
        "activations": ACTIVATIONS,
    } | options
    specs = draw_specs(n_inputs, layout=layout, generator=g, **shares)
    weight = torch.randn(specs.mask.shape, generator=g, dtype=dtype) * specs.mask
    return Networks(specs, weight), torch.randn(n, 17, layout.max_features, generator=g, dtype=dtype)


def test_a_stack_predicts_what_its_networks_predict_alone():
    networks, x = mixed()
    assert set(networks.specs.depth.tolist()) == {1, 2, 3}
    predicted = networks.predict(x)
    for i in range(len(networks)):
        rows = x[i, :, : int(networks.specs.n_inputs[i])]
        torch.testing.assert_close(predicted[i], networks.to_torch(i)(rows).squeeze(1), rtol=1e-10, atol=1e-10)


def test_vertex_by_vertex_evaluation_agrees():
    """The definition in the head of `specs`, with no matrix in it."""
    networks, x = mixed(30, seed=1)
    predicted, features, width = networks.predict(x), LAYOUT.max_features, LAYOUT.max_width
    for i in range(30):
        w, spec = networks.weight[i], networks.specs[[i]]
        before: list = []
        for layer in range(int(spec.depth[0])):
            function = FUNCTIONS[ACTIVATIONS[int(spec.activations[0, layer])]]
            now = []
            for unit in range(int(spec.widths[0, layer])):
                patch = w[layer * width + unit]
                a = patch[0] + sum(patch[1 + f] * x[i, :, f] for f in range(features)) * (layer == 0)
                a = a + sum(patch[1 + features + u] * value for u, value in enumerate(before))
                now.append(function(a))
            before = now
        y = w[-1, 0] + sum(w[-1, 1 + f] * x[i, :, f] for f in range(features))
        y = y + sum(w[-1, 1 + features + u] * value for u, value in enumerate(before))
        torch.testing.assert_close(predicted[i], y, rtol=1e-10, atol=1e-10)


def test_a_network_does_not_affect_another():
    networks, x = mixed(40, seed=2)
    weight, rows = networks.weight.clone(), x.clone()
    weight[7] = 1e5 * networks.specs.mask[7]
    rows[7] = -3e3
    before, after = networks.predict(x), Networks(networks.specs, weight).predict(rows)
    others = torch.arange(40) != 7
    torch.testing.assert_close(after[others], before[others], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(after[7], before[7])
    chosen = [31, 7, 7, 0]
    torch.testing.assert_close(networks[chosen].predict(x[chosen]), before[chosen], rtol=1e-12, atol=1e-12)


def test_inputs_beyond_n_inputs_and_absent_units_are_never_read():
    networks, x = mixed(60, seed=3)
    beyond = torch.arange(LAYOUT.max_features) >= networks.specs.n_inputs.unsqueeze(1)
    garbage = torch.where(beyond.unsqueeze(1), 1e6, x)
    assert bool(beyond.any())
    torch.testing.assert_close(networks.predict(garbage), networks.predict(x), rtol=0, atol=0)
    # What absent units hold does not reach the output.
    h = networks.hidden(x)[-1]
    last = networks.specs.unit_mask[torch.arange(60), networks.specs.depth - 1]
    noise = torch.where(last.unsqueeze(1), h, 1e6)
    torch.testing.assert_close(networks.output(noise, x), networks.predict(x), rtol=0, atol=0)


def test_rows_do_not_affect_each_other_and_shared_rows_are_broadcast():
    networks, x = mixed(20, seed=4)
    garbage = x.clone()
    garbage[:, 9:] = 1e6
    torch.testing.assert_close(networks.predict(garbage)[:, :9], networks.predict(x)[:, :9], rtol=1e-12, atol=1e-12)
    shared = networks.predict(x[:1])
    torch.testing.assert_close(shared, networks.predict(x[:1].expand(20, -1, -1).clone()), rtol=1e-12, atol=1e-12)


def test_a_larger_layout_computes_the_same():
    """The same network, padded from the small layout into the large one."""
    small, large = Layout(4, 2, 3), Layout(6, 3, 5)
    networks, x = mixed(50, seed=5, layout=small)
    weight = torch.zeros(50, large.n_patches, large.n_slots, dtype=torch.float64)
    mask = torch.zeros(weight.shape, dtype=torch.bool)
    pairs = [(layer * 3 + unit, layer * 5 + unit) for layer in range(2) for unit in range(3)] + [(-1, -1)]
    for old, new in pairs:
        for a, b in ((slice(0, 5), slice(0, 5)), (slice(5, 8), slice(7, 10))):
            weight[:, new, b], mask[:, new, b] = networks.weight[:, old, a], networks.specs.mask[:, old, a]
    s, pad = networks.specs, torch.nn.functional.pad
    specs = Specs(s.n_inputs, pad(s.widths, (0, 1)), pad(s.activations, (0, 1)), mask)
    assert specs.layout == large
    moved = Networks(specs, weight).predict(pad(x, (0, 2), value=1e6))
    torch.testing.assert_close(moved, networks.predict(x), rtol=1e-12, atol=1e-12)


def test_concatenation_and_slicing_are_inverse():
    networks, _ = mixed(9, seed=6)
    joined = concatenate([networks[:4], networks[4:5], networks[5:]])
    assert torch.equal(joined.weight, networks.weight)
    assert [joined.specs.key(i) for i in range(9)] == [networks.specs.key(i) for i in range(9)]


@pytest.mark.parametrize("codes", [[3] * 6, [5] * 6, [4, 0, 2, 5, 1, 3], [1, 0, 1, 0, 1, 0]])
def test_each_network_gets_its_own_activation(codes):
    a = torch.randn(6, 5, 4, generator=seeded(0))
    expected = torch.stack([FUNCTIONS[ACTIVATIONS[code]](row) for code, row in zip(codes, a, strict=True)])
    torch.testing.assert_close(activate(a, torch.tensor(codes)), expected, rtol=1e-6, atol=1e-6)


def test_drawn_shapes_stay_within_the_bounds_and_reach_them():
    n_inputs = torch.arange(2000) % 10 + 1
    options = {"min_hidden_layers": 2, "min_width": 3, "activations": ("tanh", "gelu")}
    specs = draw_specs(n_inputs, layout=LAYOUT, generator=seeded(0), **options)
    present = specs.widths > 0
    assert torch.equal(specs.n_inputs, n_inputs)
    assert set(specs.depth.tolist()) == {2, 3}
    assert set(specs.widths[present].tolist()) == {3, 4, 5, 6, 7, 8}
    assert bool((present == (torch.arange(3) < specs.depth.unsqueeze(1))).all())
    assert {ACTIVATIONS[int(code)] for code in specs.activations[present]} == {"tanh", "gelu"}
    assert not bool(specs.activations[~present].any())


def test_every_drawn_vertex_has_a_parent_that_is_no_bias_and_only_possible_edges():
    n_inputs = torch.arange(3000) % 10 + 1
    shares = {"sparse_share": 1.0, "min_density": 0.0, "min_width": 1}
    specs = draw_specs(n_inputs, layout=LAYOUT, generator=seeded(1), **shares)
    yes = torch.ones(3000, dtype=torch.bool)
    possible = dense_mask(LAYOUT, n_inputs, specs.widths, yes, yes)
    assert not bool((specs.mask & ~possible).any())
    assert bool((specs.mask[:, :, 1:].any(2) == specs.patch_mask).all())
    dense = dense_mask(LAYOUT, n_inputs, specs.widths, specs.bias, specs.skip)
    assert bool((specs.mask[:, :, 1:].sum((1, 2)) < dense[:, :, 1:].sum((1, 2))).float().mean() > 0.8)


def test_a_dense_draw_has_every_edge():
    specs = draw_specs(torch.arange(400) % 10 + 1, layout=LAYOUT, generator=seeded(2), sparse_share=0.0)
    assert torch.equal(specs.mask, dense_mask(LAYOUT, specs.n_inputs, specs.widths, specs.bias, specs.skip))


def test_shares_of_bias_skip_and_sparse_networks():
    """4,000 draws: six standard deviations of a share are below 0.05."""
    shares = {"bias_share": 0.7, "skip_share": 0.25, "sparse_share": 0.4, "min_density": 0.2}
    specs = draw_specs(torch.full((4000,), 10), layout=LAYOUT, generator=seeded(3), **shares)
    dense = dense_mask(LAYOUT, specs.n_inputs, specs.widths, specs.bias, specs.skip)
    sparse = (dense != specs.mask).any((1, 2))
    assert float(specs.bias.float().mean()) == pytest.approx(0.7, abs=0.05)
    assert float(specs.skip.float().mean()) == pytest.approx(0.25, abs=0.05)
    assert float(sparse.float().mean()) == pytest.approx(0.4, abs=0.05)


def test_equal_generators_draw_equal_specs():
    first, same, other = (draw_specs(torch.full((50,), 6), layout=LAYOUT, generator=seeded(s)) for s in (4, 4, 5))
    assert [first.key(i) for i in range(50)] == [same.key(i) for i in range(50)]
    assert [first.key(i) for i in range(50)] != [other.key(i) for i in range(50)]


def test_many_rows_run_network_by_network_give_what_all_networks_at_once_give(monkeypatch):
    """With every activation, every depth, rows of their own and shared ones."""
    networks, x = mixed(40, seed=6)
    assert {1, 2, 3} <= set(networks.specs.depth.tolist())
    together, shared = networks.hidden(x)[-1], networks.predict(x[:1])
    monkeypatch.setattr(stack, "LONG", 1)
    present = networks.specs.unit_mask[torch.arange(40), networks.specs.depth - 1].unsqueeze(1)
    apart = networks.last_hidden(x)
    torch.testing.assert_close(apart * present, together * present, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(networks.predict(x[:1]), shared, rtol=1e-12, atol=1e-12)


K = Layout(6, 3, 5, 4)


def test_the_layout_of_a_stack_counts_its_outputs():
    networks, _ = mixed(20, seed=7, layout=K)
    assert networks.layout == networks.specs.layout == networks[3:5].layout == K
    assert K.n_patches == 3 * 5 + 4
    assert list(range(K.n_patches))[K.outputs] == [15, 16, 17, 18]
    assert Layout(6, 3, 5).outputs == slice(15, 16)
    assert concatenate([networks[:9], networks[9:]]).layout == K
    assert repr(networks) == "Networks: 20 networks, 6 inputs, 4 outputs, at most 3 hidden layers of 5 units"


@pytest.mark.parametrize("rows", [17, LONG])
@pytest.mark.parametrize("n_outputs", [1, 2, 5])
def test_every_output_is_the_one_of_the_network_that_has_it_alone(n_outputs, rows):
    """Output k of K is computed by the same body under output layer k."""
    networks, _ = mixed(30, seed=8, layout=Layout(6, 3, 5, n_outputs))
    x = torch.randn(30, rows, 6, generator=seeded(9), dtype=torch.float64)
    answers, start, s = networks.answers(x), networks.layout.outputs.start, networks.specs
    assert answers.shape == (30, rows, n_outputs)
    for k in range(n_outputs):
        own = [*range(start), start + k]
        specs = Specs(s.n_inputs, s.widths, s.activations, s.mask[:, own])
        alone = Networks(specs, networks.weight[:, own]).predict(x)
        torch.testing.assert_close(answers[:, :, k], alone, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(networks.answers(x[:1])[0], answers[0], rtol=1e-12, atol=1e-12)
    for i in range(30):
        inputs = x[i, :, : int(s.n_inputs[i])]
        torch.testing.assert_close(answers[i], networks.to_torch(i)(inputs), rtol=1e-10, atol=1e-10)


def test_one_output_is_predicted_bit_for_bit_and_several_are_refused():
    networks, x = mixed(30, seed=10)
    assert torch.equal(networks.answers(x).squeeze(2), networks.predict(x))
    several, rows = mixed(3, seed=10, layout=K)
    with pytest.raises(InputError, match="predict needs networks of one output, got 4; use answers"):
        several.predict(rows)


def test_sklearn_gives_every_output():
    networks, x = mixed(40, seed=11, layout=K, skip_share=0.0, activations=("tanh",))
    answers = networks.answers(x)
    for i in range(40):
        inputs = x[i, :, : int(networks.specs.n_inputs[i])].numpy()
        torch.testing.assert_close(torch.from_numpy(networks.to_sklearn(i).predict(inputs)), answers[i])


def test_every_output_of_a_draw_has_a_parent_and_outputs_differ_in_sparse_networks():
    specs = draw_specs(torch.full((500,), 6), layout=K, generator=seeded(12), sparse_share=1.0, min_density=0.0)
    outputs = specs.mask[:, K.outputs, 1:]
    assert bool(outputs.any(2).all())
    assert float((outputs != outputs[:, :1]).any((1, 2)).float().mean()) > 0.9
    assert torch.equal(specs.patch_mask[:, K.outputs], torch.ones(500, 4, dtype=torch.bool))
    assert bool((patch_types(specs)[:, K.outputs] == OUTPUT).all())
    last = specs.n_inputs + specs.widths.sum(1)
    assert torch.equal(patch_numbers(specs)[:, K.outputs], last.unsqueeze(1) + torch.arange(1, 5))


def test_the_merged_size_counts_shared_edges_of_every_output_once():
    networks, _ = mixed(1, seed=13, layout=K, bias_share=1.0, skip_share=1.0, sparse_share=0.0)
    units, n_params = networks[[0, 0, 0]].merged_size()
    last = int(networks.specs.widths[0, networks.specs.depth[0] - 1])
    shared = 4 * (1 + int(networks.specs.n_inputs[0]))
    assert units == 3 * last
    assert n_params == 3 * (int(networks.specs.n_params[0]) - shared) + shared


def test_a_constant_network_of_several_outputs():
    nothing = constant_network(3, 5).tensors()
    _check_stack("networks", nothing, 3)
    assert nothing.layout == Layout(3, 1, 1, 5)
    assert torch.equal(nothing.answers(torch.ones(1, 2, 3)), torch.zeros(1, 2, 5))
    s = nothing.specs
    for n_outputs, message in ((0, "n_outputs must be at least 1, got 0"), (9, r"mask must be \(1, 9 \+ 1 \* width")):
        wrong = Networks(Specs(s.n_inputs, s.widths, s.activations, s.mask, n_outputs), nothing.weight)
        with pytest.raises(InputError, match=message):
            _check_stack("networks", wrong, 3)
