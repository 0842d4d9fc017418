"""Tokens: exact inverses, agreement of the two implementations, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from drawn import draw
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor
from torch import nn

from netformer.networks.modules import SkipNetwork, Step
from netformer.networks.specs import ACTIVATIONS, Layout
from netformer.networks.stack import Networks
from netformer.networks.token_tables import (
    detokenize_networks,
    detokenize_sensitivity,
    exact_share,
    tokenize_networks,
    tokens_of,
)
from netformer.networks.tokens import EdgeNetwork, Tokens, detokenize, tokenize

LAYOUT = Layout()


@pytest.fixture(autouse=True)
def _seeded():
    """nn.Linear draws from the global generator: same draws for every test, none left behind."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def bits(tensor):
    return tensor.detach().contiguous().view(torch.uint8)


def same_state(a, b):
    first, second = a.state_dict(), b.state_dict()
    assert list(first) == list(second)
    assert [type(m) for m in a.modules()] == [type(m) for m in b.modules()]
    for name, value in first.items():
        assert value.dtype == second[name].dtype
        assert torch.equal(bits(value), bits(second[name])), name


def sequential(activation, bias=True, dtype=torch.float32, output=None, n_outputs=1):
    modules = [nn.Linear(3, 5, bias=bias, dtype=dtype), nn.Linear(5, 4, bias=bias, dtype=dtype)]
    hidden = [[m, activation()] if activation else [m] for m in modules]
    last = [nn.Linear(4, n_outputs, dtype=dtype)] + ([output()] if output else [])
    return nn.Sequential(*hidden[0], *hidden[1], *last)


def edges(*rows, n_inputs=2, n_outputs=1):
    """Tokens from (parent, vertex, type) rows, weights 1, 2, ..."""
    parent, vertex, kind = torch.tensor(rows).T
    return Tokens(parent, vertex, torch.arange(1.0, len(rows) + 1), kind, n_inputs, n_outputs)


@pytest.mark.parametrize("n_outputs", [1, 2, 5])
def test_a_thousand_random_networks_round_trip_exactly(n_outputs, tmp_path):
    layout = replace(LAYOUT, n_outputs=n_outputs)
    networks = draw(1000, layout=layout, min_width=1, sparse_share=0.5, activations=ACTIVATIONS)
    networks.weight[networks.specs.mask & (torch.rand(networks.weight.shape) < 0.05)] = -0.0
    sensitivity = torch.where(networks.specs.patch_mask, torch.rand(1000, layout.n_patches), 0.0)
    pq.write_table(tokenize_networks(networks, sensitivity), tmp_path / "tokens.parquet")
    table = pq.read_table(tmp_path / "tokens.parquet")
    back = detokenize_networks(table, layout)
    assert back.layout == layout
    for name in ("n_inputs", "widths", "activations", "mask"):
        assert torch.equal(getattr(back.specs, name), getattr(networks.specs, name))
    assert torch.equal(bits(back.weight), bits(networks.weight))
    assert exact_share(networks, table) == 1.0
    assert torch.equal(detokenize_sensitivity(table, layout), sensitivity)


def test_only_tables_of_several_outputs_name_them():
    one, three = (tokenize_networks(draw(5, layout=replace(LAYOUT, n_outputs=k))) for k in (1, 3))
    assert "n_outputs" not in one.column_names
    assert three["n_outputs"].to_pylist() == [3] * 5
    for table, k in ((one, 3), (three, 1), (three, 2)):
        with pytest.raises(ValueError, match=f"n_outputs must be {k}, as in the layout; row 0"):
            detokenize_networks(table, replace(LAYOUT, n_outputs=k))


def test_strided_and_empty_stacks_become_tokens_too():
    networks = draw(20)
    sensitivity = torch.rand(20, LAYOUT.n_patches)
    contiguous = tokenize_networks(networks[torch.arange(0, 20, 2)], sensitivity[::2].contiguous())
    assert tokenize_networks(networks[::2], sensitivity[::2]).equals(contiguous)
    nothing = tokenize_networks(networks[:0], sensitivity[:0])
    assert nothing.schema == contiguous.schema
    assert len(detokenize_networks(nothing, LAYOUT)) == 0


def test_a_slice_of_a_table_is_a_slice_of_the_stack():
    networks = draw(20)
    table = tokenize_networks(networks)
    back = detokenize_networks(pa.concat_tables([table.slice(5, 3), table.slice(15)]), LAYOUT)
    assert torch.equal(back.weight, networks[[5, 6, 7, 15, 16, 17, 18, 19]].weight)


def test_exact_share_counts_the_networks_that_differ():
    networks = draw(10)
    table = tokenize_networks(networks)
    changed = Networks(networks.specs, networks.weight.clone())
    changed.weight[3][networks.specs.mask[3]] += 1
    assert exact_share(changed, table) == 0.9


@pytest.mark.parametrize("n_outputs", [1, 2, 5])
def test_both_implementations_agree_on_dense_networks(n_outputs):
    networks = draw(60, layout=replace(LAYOUT, n_outputs=n_outputs), sparse_share=0.0)
    table = tokenize_networks(networks)
    for index in range(len(networks)):
        assert tokenize(networks.to_torch(index)).equal(tokens_of(table, index))
        same_state(detokenize(tokens_of(table, index)), networks.to_torch(index))


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_sparse_rows_become_the_layered_network_with_zeros(n_outputs):
    layout = replace(LAYOUT, n_outputs=n_outputs)
    networks = draw(30, layout=layout, sparse_share=1.0, bias_share=1.0, skip_share=0.0)
    table = tokenize_networks(networks)
    x = torch.randn(1, 7, LAYOUT.max_features)
    expected = networks.answers(x)
    for index in range(len(networks)):
        net = detokenize(tokens_of(table, index))
        assert isinstance(net, nn.Sequential)
        n_inputs = int(networks.specs.n_inputs[index])
        torch.testing.assert_close(net(x[0, :, :n_inputs]), expected[index], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("activation", [None, nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, Step])
@pytest.mark.parametrize("bias", [True, False])
def test_sequential_round_trips_bit_for_bit(dtype, activation, bias):
    for output, n_outputs in ((None, 1), (nn.Tanh, 3)):
        net = sequential(activation, bias, dtype, output, n_outputs)
        with torch.no_grad():
            net[0].weight[0, 0], net[0].weight[0, 1] = 0.0, -0.0
        tokens = tokenize(net)
        assert tokens.dtype == dtype
        assert len(tokens) == sum(p.numel() for p in net.parameters())
        same_state(detokenize(tokens), net)


def test_numbers_are_those_of_the_definition():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1, bias=False))
    tokens = tokenize(net)
    (a, b), (c, d) = net[0].weight.tolist()
    e, f = net[0].bias.tolist()
    g, h = net[2].weight[0].tolist()
    assert tokens.parent.tolist() == [0, 1, 2, 0, 1, 2, 3, 4]
    assert tokens.vertex.tolist() == [3, 3, 3, 4, 4, 4, 5, 5]
    assert tokens.weight.tolist() == [e, a, b, f, c, d, g, h]
    assert tokens.type.tolist() == [ACTIVATIONS.index("relu")] * 6 + [0] * 2


def test_a_single_linear_layer_and_a_skip_round_trip():
    linear = nn.Sequential(nn.Linear(4, 2))
    same_state(detokenize(tokenize(linear)), linear)
    skip = SkipNetwork(sequential(nn.Tanh, n_outputs=2), torch.randn(2, 3))
    same_state(detokenize(tokenize(skip)), skip)


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("hidden", "n_outputs"), [((5, 3), 1), ((4,), 2), ((), 1)])
def test_a_fitted_regressor_round_trips_bit_for_bit(activation, dtype, hidden, n_outputs):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3)).astype(dtype)
    y = rng.normal(size=(40, n_outputs)).astype(dtype).squeeze()
    net = MLPRegressor(hidden_layer_sizes=hidden, activation=activation, max_iter=2, random_state=0)
    with pytest.warns(ConvergenceWarning):
        net.fit(x, y)
    tokens = tokenize(net)
    back = detokenize(tokens, to="sklearn")
    for ours, theirs in zip(back.coefs_ + back.intercepts_, net.coefs_ + net.intercepts_, strict=True):
        assert ours.dtype == theirs.dtype == dtype
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(back.predict(x), net.predict(x))
    torch_out = detokenize(tokens)(torch.from_numpy(x)).detach().numpy().squeeze()
    np.testing.assert_allclose(torch_out, net.predict(x), rtol=1e-4, atol=1e-5)
    back.partial_fit(x, y)  # every fitted attribute is there


def test_an_acyclic_network_without_layers_runs_and_round_trips():
    tanh = ACTIVATIONS.index("tanh")
    tokens = edges((0, 3, tanh), (1, 3, tanh), (1, 4, 1), (3, 4, 1), (2, 5, 0), (3, 5, 0), (4, 5, 0))
    net = detokenize(tokens)
    assert isinstance(net, EdgeNetwork)
    assert tokenize(net).equal(tokens)
    x = torch.randn(6, 2)
    first = torch.tanh(1 + 2 * x[:, 0])
    second = torch.relu(3 * x[:, 0] + 4 * first)
    torch.testing.assert_close(net(x)[:, 0], 5 * x[:, 1] + 6 * first + 7 * second)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(1, 3, 9), (3, 4, 0)], r"type must be 0\.\.5 \(identity, .*\), got 9 at edge 0"),
        ([(1, 3, 1), (4, 3, 1), (3, 4, 0)], "parent must be lower than its vertex, and at least 0, got 4 at edge 1"),
        ([(3, 3, 1), (3, 4, 0)], "parent must be lower than its vertex, and at least 0, got 3 at edge 0"),
        ([(1, 3, 1), (4, 5, 0)], "parent must have an incoming edge itself, got 4 at edge 1"),
        ([(1, 3, 1), (3, 5, 0)], "vertices must be numbered without a gap, got 5 at edge 1"),
        ([(1, 2, 1), (3, 4, 0)], "vertex must be at least 3, after the bias and 2 inputs, got 2 at edge 0"),
        ([(2, 3, 1), (1, 3, 1), (3, 4, 0)], r"edges must be sorted .*; parent, got 1 at edge 1"),
        ([(1, 3, 1), (1, 3, 1), (3, 4, 0)], "without duplicates; parent, got 1 at edge 1"),
        ([(1, 3, 1), (2, 3, 2), (3, 4, 0)], "type must be the same for all edges of a vertex, got 2 at edge 1"),
    ],
)
def test_tokens_that_are_no_network_are_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        edges(*rows)


def test_headers_are_checked():
    with pytest.raises(ValueError, match=r"n_outputs must be 1\.\.2, got 3"):
        edges((1, 3, 1), (3, 4, 0), n_outputs=3)
    with pytest.raises(ValueError, match="columns of one length and at least one edge"):
        replace(edges((1, 3, 1), (3, 4, 0)), weight=torch.ones(3))


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (lambda: nn.Sequential(nn.Linear(2, 1), nn.Dropout()), r"module 1 .*Dropout.*allowed are Linear, each .*GELU"),
        (lambda: nn.Sequential(nn.Linear(2, 2), nn.GELU(approximate="tanh")), r"module 1 .*approximate='tanh'"),
        (lambda: nn.Sequential(nn.ReLU(), nn.Linear(2, 1)), "module 0 of the Sequential cannot be tokens: ReLU"),
        (lambda: nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Tanh()), "module 2 .*Tanh.*at most one of"),
        (lambda: nn.Sequential(), "got no layer"),
        (lambda: nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1).double()), "one dtype, got .*float32.*float64"),
        (lambda: nn.Sequential(nn.Linear(2, 2), nn.Linear(3, 1)), r"must fit one another, got \[\(2, 2\), \(1, 3\)\]"),
        (lambda: SkipNetwork(nn.Sequential(nn.Linear(2, 1)), torch.ones(1, 2)), "SkipNetwork must have a hidden layer"),
        (lambda: SkipNetwork(sequential(nn.ReLU), torch.ones(1, 2)), r"skip must be \(\(1, 3\)"),
        (
            lambda: nn.Linear(2, 1),
            "net must be nn.Sequential, SkipNetwork, EdgeNetwork, MLPRegressor or MLPClassifier, got Linear",
        ),
        (lambda: MLPRegressor(), "MLPRegressor must be fitted"),
    ],
)
def test_networks_that_are_no_tokens_are_refused(net, message):
    with pytest.raises(ValueError, match=message) as caught:
        tokenize(net())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (sequential(nn.GELU), "activations are identity, relu, tanh, sigmoid, got gelu"),
        (sequential(Step), "activations are identity, relu, tanh, sigmoid, got step"),
        (nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1)), "one activation"),
        (sequential(nn.ReLU, output=nn.Tanh), "identity output, got tanh"),
        (sequential(nn.ReLU, dtype=torch.bfloat16), "float32 or float64, got torch.bfloat16"),
        (SkipNetwork(sequential(nn.ReLU), torch.ones(1, 3)), "got edges from inputs to outputs"),
        (EdgeNetwork(edges((1, 3, 1), (1, 4, 2), (3, 5, 0), (4, 5, 0))), "got edges that are not layers"),
    ],
)
def test_what_sklearn_cannot_express_is_refused(net, message):
    with pytest.raises(ValueError, match=f"MLPRegressor .*{message}"):
        detokenize(tokenize(net), to="sklearn")


def test_detokenize_names_its_targets():
    with pytest.raises(ValueError, match="to must be torch or sklearn, got 'keras'"):
        detokenize(tokenize(sequential(nn.ReLU)), to="keras")


def test_tables_that_are_no_stack_are_refused():
    networks = draw(3, skip_share=0.0)
    table = tokenize_networks(networks)

    def corrupt(name, change):
        rows = table[name].to_pylist()
        rows[1] = change(rows[1])
        return table.set_column(table.column_names.index(name), name, pa.array(rows, table.schema.field(name).type))

    cases = [
        ("parent", lambda row: [*row[:-1], 99], r"an edge must run to the next layer .* in row 1"),
        ("type", lambda row: [*row[:-1], 2], r"with the layer's type, got .* in row 1"),
        ("vertex", lambda row: [*row[:-1], row[-1] + 1], r"an edge must run .* in row 1"),
        ("weight", lambda row: row[:-1], "weight must have one entry .* row 1"),
        ("n_inputs", lambda row: 11, r"n_inputs must be 1\.\.10; row 1"),
        ("widths", lambda row: [9] * len(row), r"widths: 1\.\.8; row 1"),
        ("activations", lambda row: [len(ACTIVATIONS)] * len(row), "activations must be known types; row 1"),
    ]
    for name, change, message in cases:
        with pytest.raises(ValueError, match=message):
            detokenize_networks(corrupt(name, change), LAYOUT)
    with pytest.raises(ValueError, match=r"stored as float32, got torch\.float64"):
        tokenize_networks(Networks(networks.specs, networks.weight.double()))


def test_to_sklearn_predicts_what_the_stack_predicts():
    networks = draw(60, min_width=1, skip_share=0.3)
    x = torch.randn(1, 9, LAYOUT.max_features)
    expected, done = networks.predict(x), 0
    for index in range(len(networks)):
        names = {name for _, _, name in networks.matrices(index)[:-1]}
        n_inputs = int(networks.specs.n_inputs[index])
        if bool(networks.specs.skip[index]) or len(names) > 1 or names == {"gelu"}:
            with pytest.raises(ValueError, match=r"MLPRegressor .*use to_torch"):
                networks.to_sklearn(index)
        else:
            predicted = networks.to_sklearn(index).predict(x[0, :, :n_inputs].numpy())
            np.testing.assert_allclose(predicted, expected[index], rtol=1e-4, atol=1e-4)
            done += 1
    assert done > 5
