"""Tokens: a network as a list of edges, and back.

An edge is (parent number, vertex number, weight, type of the vertex). Vertex 0 is the bias vertex, inputs are
1..n_inputs, then hidden units layer by layer, outputs last; a bias is an edge from vertex 0. Edges are sorted by
(vertex, parent). An existing edge of weight zero is an edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from netformer.networks import _MODULES, SKLEARN_NAMES, Networks, SkipNetwork, sklearn_regressor
from netformer.specs import ACTIVATIONS, Layout, Specs, activate

Layer = tuple[Tensor, Tensor | None, str]
_MAX_NUMBER = 32767  # vertex numbers are stored as int16


@dataclass(frozen=True, eq=False)
class Tokens:
    """One network as edges; tensors, because numpy has no bfloat16.

    weight: in the dtype of the network. type: index into `ACTIVATIONS`, of the edge's vertex. sensitivity: of the
    edge's vertex, where it is known.

    Raises ValueError unless the edges are sorted and unique and form an acyclic network in which every hidden and
    output vertex has an incoming edge.
    """

    # One entry an edge; equal lengths are checked below, with a message of our own.
    parent: Int[Tensor, " parents"]
    vertex: Int[Tensor, " vertices"]
    weight: Float[Tensor, " weights"]
    type: Int[Tensor, " types"]
    n_inputs: int
    n_outputs: int = 1
    sensitivity: Float[Tensor, " sensitivities"] | None = None

    def __post_init__(self) -> None:
        lengths = [len(column) for column in (self.parent, self.vertex, self.weight, self.type)]
        if len(set(lengths)) > 1 or not lengths[0]:
            raise ValueError(f"tokens must have columns of one length and at least one edge, got lengths {lengths}")
        parent, vertex, kind, first = self.parent.long(), self.vertex.long(), self.type.long(), 1 + self.n_inputs
        start, step = torch.zeros(1, dtype=torch.bool), vertex.diff()
        known = f"type must be 0..{len(ACTIVATIONS) - 1} ({', '.join(ACTIVATIONS)})"
        _refuse((kind < 0) | (kind >= len(ACTIVATIONS)), known, kind)
        _refuse(vertex < first, f"vertex must be at least {first}, after the bias and {self.n_inputs} inputs", vertex)
        _refuse((parent < 0) | (parent >= vertex), "parent must be lower than its vertex, and at least 0", parent)
        _refuse((parent >= first) & ~torch.isin(parent, vertex), "parent must have an incoming edge itself", parent)
        order = torch.cat([start, (step < 0) | ((step == 0) & (parent.diff() <= 0))])
        _refuse(order, "edges must be sorted by (vertex, parent), without duplicates; parent", parent)
        _refuse(torch.cat([vertex[:1] != first, step > 1]), "vertices must be numbered without a gap", vertex)
        mixed = torch.cat([start, (step == 0) & (kind.diff() != 0)])
        _refuse(mixed, "type must be the same for all edges of a vertex", kind)
        if not 1 <= self.n_outputs <= int(vertex[-1]) - self.n_inputs:
            raise ValueError(f"n_outputs must be 1..{int(vertex[-1]) - self.n_inputs}, got {self.n_outputs}")

    def __len__(self) -> int:
        return len(self.parent)

    @property
    def dtype(self) -> torch.dtype:
        return self.weight.dtype

    def equal(self, other: Tokens) -> bool:
        """Same edges, same weights to the bit, same header; sensitivities are not compared."""
        header = (self.n_inputs, self.n_outputs, self.dtype) == (other.n_inputs, other.n_outputs, other.dtype)
        names = ("parent", "vertex", "type")
        edges = header and all(torch.equal(getattr(self, name).long(), getattr(other, name).long()) for name in names)
        return edges and torch.equal(self.weight.view(torch.uint8), other.weight.view(torch.uint8))


class EdgeNetwork(nn.Module):
    """Any acyclic network, vertex by vertex: what `detokenize` returns where the edges are not plain layers."""

    def __init__(self, tokens: Tokens) -> None:
        super().__init__()
        self.tokens = tokens
        self.weight = nn.Parameter(tokens.weight.clone())

    def forward(self, x: Float[Tensor, "rows features"]) -> Float[Tensor, "rows outputs"]:
        values = [x.new_ones(len(x)), *x.unbind(1)]
        counts = torch.bincount(self.tokens.vertex.long())[len(values) :].tolist()
        columns = (column.split(counts) for column in (self.tokens.parent, self.weight, self.tokens.type))
        for parents, weight, kind in zip(*columns, strict=True):
            a = torch.stack([values[p] for p in parents.tolist()], 1) @ weight
            values.append(activate(a.view(1, -1, 1), kind[:1].long()).view(-1))
        return torch.stack(values[-self.tokens.n_outputs :], 1)


def tokenize(net: Any) -> Tokens:
    """The edges of a network.

    net: `nn.Sequential` of Linear layers with ReLU, Tanh, Sigmoid, exact GELU or nothing after each; a `SkipNetwork`
    around one; an `EdgeNetwork`; or a fitted scikit-learn `MLPRegressor`. Training state (inplace, device,
    requires_grad, optimiser) is not part of a network.

    Raises ValueError for anything else, naming it.
    """
    if isinstance(net, EdgeNetwork):
        t = net.tokens
        return Tokens(t.parent, t.vertex, net.weight.detach().clone(), t.type, t.n_inputs, t.n_outputs, t.sensitivity)
    if isinstance(net, SkipNetwork):
        layers = _sequential_layers(net.body)
        if len(layers) < 2 or layers[-1][2] != "identity":
            raise ValueError("SkipNetwork must have a hidden layer and no output activation, to have one edge a path")
        expected = ((len(layers[-1][0]), layers[0][0].shape[1]), layers[0][0].dtype)
        if (tuple(net.skip.shape), net.skip.dtype) != expected:
            raise ValueError(f"skip must be {expected}, as the body, got {(tuple(net.skip.shape), net.skip.dtype)}")
        return _join(layers, net.skip.detach().cpu())
    if isinstance(net, nn.Sequential):
        return _join(_sequential_layers(net), None)
    from sklearn.neural_network import MLPRegressor

    if isinstance(net, MLPRegressor):
        return _join(_regressor_layers(net), None)
    raise ValueError(f"net must be nn.Sequential, SkipNetwork, EdgeNetwork or MLPRegressor, got {type(net).__name__}")


def detokenize(tokens: Tokens, to: str = "torch") -> Any:
    """The network of these edges, in their dtype; `detokenize(tokenize(net))` has the weights of `net` bit for bit.

    to: "torch" gives `nn.Sequential`; a `SkipNetwork` where edges run from inputs to outputs; an `EdgeNetwork` where
    the edges are not layers at all. "sklearn" gives a fitted `MLPRegressor`. In the layered forms an edge that does
    not exist is a zero.

    Raises ValueError for what MLPRegressor cannot express: a skip, edges that are not layers, GELU, hidden activations
    that differ, an output activation, half precision.
    """
    if to not in ("torch", "sklearn"):
        raise ValueError(f"to must be torch or sklearn, got {to!r}")
    split = _split(tokens)
    if to == "sklearn":
        if split is None or split[1] is not None:
            what = "edges that are not layers" if split is None else "edges from inputs to outputs"
            raise ValueError(f"MLPRegressor has only edges between consecutive layers, got {what}; use to='torch'")
        return sklearn_regressor(split[0])
    if split is None:
        return EdgeNetwork(tokens)
    layers, skip = split
    modules: list[nn.Module] = []
    for weight, bias, name in layers:
        # skip_init: nothing is drawn from the global generator, every value is replaced below.
        linear = nn.utils.skip_init(
            nn.Linear, weight.shape[1], weight.shape[0], bias=bias is not None, dtype=weight.dtype
        )
        linear.load_state_dict({"weight": weight} if bias is None else {"weight": weight, "bias": bias})
        modules.extend([linear] if name == "identity" else [linear, _MODULES[name]()])
    body = nn.Sequential(*modules)
    return body if skip is None else SkipNetwork(body, skip)


def _refuse(bad: Bool[Tensor, " edges"], rule: str, found: Int[Tensor, " edges"]) -> None:
    """One line for the first bad edge."""
    if bool(bad.any()):
        edge = int(bad.int().argmax())
        raise ValueError(f"{rule}, got {int(found[edge])} at edge {edge}")


def _sequential_layers(net: nn.Sequential) -> list[Layer]:
    """(weight, bias, activation) of each Linear. Raises ValueError for another module, mixed dtypes or widths."""
    names = {module: name for name, module in _MODULES.items()}
    allowed = f"allowed are Linear, each followed by at most one of {', '.join(m.__name__ for m in names)}"
    layers: list[Layer] = []
    open_layer = False
    for index, module in enumerate(net):
        if type(module) is nn.Linear:
            bias = None if module.bias is None else module.bias.detach().cpu()
            layers.append((module.weight.detach().cpu(), bias, "identity"))
            open_layer = True
        elif open_layer and type(module) in names and getattr(module, "approximate", "none") == "none":
            layers[-1] = (*layers[-1][:2], names[type(module)])
            open_layer = False
        else:
            raise ValueError(f"module {index} of the Sequential cannot be tokens: {module}; {allowed} (exact GELU)")
    dtypes = {str(part.dtype) for weight, bias, _ in layers for part in (weight, bias) if part is not None}
    if len(dtypes) != 1:
        raise ValueError(f"the Sequential must have Linear layers of one dtype, got {sorted(dtypes) or 'no layer'}")
    _check_sizes(layers, "Sequential")
    return layers


def _regressor_layers(net: Any) -> list[Layer]:
    if not hasattr(net, "coefs_"):
        raise ValueError("MLPRegressor must be fitted before it is tokenized; call fit first")
    if net.out_activation_ != "identity":
        raise ValueError(f"MLPRegressor must have an identity output, got {net.out_activation_} (loss {net.loss!r})")
    hidden = {name: ours for ours, name in SKLEARN_NAMES.items()}[net.activation]
    names = [hidden] * (len(net.coefs_) - 1) + ["identity"]
    pairs = zip(net.coefs_, net.intercepts_, names, strict=True)
    layers: list[Layer] = [(torch.tensor(w.T), torch.tensor(b), name) for w, b, name in pairs]
    _check_sizes(layers, "MLPRegressor")
    return layers


def _check_sizes(layers: Sequence[Layer], owner: str) -> None:
    for index, (weight, _, _) in enumerate(layers):
        if not weight.numel() or (index and weight.shape[1] != len(layers[index - 1][0])):
            shapes = [tuple(w.shape) for w, _, _ in layers]
            raise ValueError(f"layers of the {owner} must not be empty and must fit one another, got {shapes}")


def _join(layers: Sequence[Layer], skip: Float[Tensor, "outputs features"] | None) -> Tokens:
    """Layers, output last, to edges."""
    n_inputs = layers[0][0].shape[1]
    first_parent, first = 1, 1 + n_inputs
    parts: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    for index, (weight, bias, name) in enumerate(layers):
        d_out, d_in = weight.shape
        numbers = [torch.arange(first_parent, first_parent + d_in)]
        columns = [weight]
        if skip is not None and index == len(layers) - 1:
            numbers.insert(0, torch.arange(1, 1 + n_inputs))
            columns.insert(0, skip)
        if bias is not None:
            numbers.insert(0, torch.zeros(1, dtype=torch.int64))
            columns.insert(0, bias.unsqueeze(1))
        parent = torch.cat(numbers)
        vertex = torch.arange(first, first + d_out).repeat_interleave(len(parent))
        kind = torch.full_like(vertex, ACTIVATIONS.index(name))
        parts.append((parent.repeat(d_out), vertex, torch.cat(columns, 1).flatten(), kind))
        first_parent, first = first, first + d_out
    parent, vertex, weights, kinds = (torch.cat(column) for column in zip(*parts, strict=True))
    return Tokens(parent, vertex, weights, kinds, n_inputs, len(layers[-1][0]))


def _split(tokens: Tokens) -> tuple[list[Layer], Tensor | None] | None:
    """Edges to (layers, skip or None), or None where they are not layers: the inverse of `_join`."""
    parents, vertices, n_inputs = tokens.parent.tolist(), tokens.vertex.tolist(), tokens.n_inputs
    n_vertices = vertices[-1] + 1
    first_output = n_vertices - tokens.n_outputs
    depth = [0] * (1 + n_inputs) + [1] * (n_vertices - 1 - n_inputs)
    for parent, vertex in zip(parents, vertices, strict=True):
        depth[vertex] = max(depth[vertex], depth[parent] + (parent > 0))
    last = max(depth[:first_output]) + 1
    depth[first_output:] = [last] * tokens.n_outputs
    level = torch.tensor(depth)
    kind = torch.zeros(n_vertices, dtype=torch.int64).scatter(0, tokens.vertex.long(), tokens.type.long())
    parent, vertex = tokens.parent.long(), tokens.vertex.long()
    direct = (parent >= 1) & (parent <= n_inputs) & (vertex >= first_output) & (last > 1)
    chained = (parent == 0) | (level[parent] == level[vertex] - 1)
    same_kind = all(len(kind[level == index].unique()) == 1 for index in range(1, last + 1))
    plain = bool((chained | direct).all()) and bool((level.diff() >= 0).all()) and same_kind
    if not plain or bool((parent >= first_output).any()) or (bool(direct.any()) and int(kind[-1]) != 0):
        return None
    dense = tokens.weight.new_zeros(n_vertices, n_vertices)
    dense[vertex, parent] = tokens.weight
    layers: list[Layer] = []
    bounds = [1, *torch.searchsorted(level, torch.arange(1, last + 2)).tolist()]
    for index in range(1, last + 1):
        rows, columns = slice(bounds[index], bounds[index + 1]), slice(bounds[index - 1], bounds[index])
        biased = bool(((parent == 0) & (level[vertex] == index)).any())
        bias = dense[rows, 0].clone() if biased else None
        layers.append((dense[rows, columns].clone(), bias, ACTIVATIONS[int(kind[bounds[index]])]))
    return layers, dense[first_output:, 1 : 1 + n_inputs].clone() if bool(direct.any()) else None


def tokenize_networks(networks: Networks, sensitivity: Float[Tensor, "n patches"] | None = None) -> pa.Table:
    """A stack as a table, one row a network.

    Columns: n_inputs int32; widths and activations list<int16>, one entry a hidden layer; parent, vertex, type
    list<int16>, weight and (where `sensitivity` of the vertices is given) sensitivity list<float32>, one entry an edge.

    Raises ValueError for weights that are not float32, and for vertex numbers above 32767.
    """
    specs = networks.specs
    if networks.weight.dtype != torch.float32:
        raise ValueError(f"tokens.weight is stored as float32, got {networks.weight.dtype}; convert the stack first")
    first = _first_numbers(specs.n_inputs, specs.widths)
    if len(first) and int(first.max()) > _MAX_NUMBER:
        raise ValueError(f"vertex numbers must be at most {_MAX_NUMBER}, got {int(first.max())}; reduce n_inputs")
    from netformer import edges  # numba takes longer to import than the rest of this module

    mask, widths, activations = (part.contiguous().numpy() for part in (specs.mask, specs.widths, specs.activations))
    start = _offsets(np.count_nonzero(mask, axis=(1, 2)))
    parent, vertex, types = np.empty((3, start[-1]), np.int16)
    weight, felt = np.empty((2, start[-1]), np.float32)
    known = torch.empty(0, 0) if sensitivity is None else sensitivity.float()
    sources = (networks.weight.detach(), specs.n_inputs, known)
    values, n_inputs, known_values = (part.contiguous().numpy() for part in sources)
    edges.write(mask, values, n_inputs, widths, activations, known_values, start, parent, vertex, types, weight, felt)
    layers = _offsets(np.count_nonzero(widths, axis=1))
    lists = {
        "widths": (layers, widths[widths > 0].astype(np.int16)),
        "activations": (layers, activations[widths > 0].astype(np.int16)),
        "parent": (start, parent),
        "vertex": (start, vertex),
        "type": (start, types),
        "weight": (start, weight),
    }
    if sensitivity is not None:
        lists["sensitivity"] = (start, felt)
    columns = {name: pa.ListArray.from_arrays(offsets, pa.array(values)) for name, (offsets, values) in lists.items()}
    return pa.table({"n_inputs": pa.array(specs.n_inputs.numpy(), pa.int32()), **columns})


def detokenize_networks(table: pa.Table, layout: Layout) -> Networks:
    """The stack that `tokenize_networks` wrote, exactly: specs, mask and weights.

    Raises ValueError for a network that does not fit the layout and for an edge that no layered network has.
    """
    specs, (net, patch, slot) = _place(table, layout)
    weight = torch.zeros(specs.mask.shape)
    weight[net, patch, slot] = _values(table, "weight")
    return Networks(specs, weight)


def detokenize_sensitivity(table: pa.Table, layout: Layout) -> Float[Tensor, "n patches"]:
    """The sensitivities that `tokenize_networks` wrote; zero where there is no vertex."""
    specs, (net, patch, _) = _place(table, layout)
    out = torch.zeros(specs.mask.shape[:2])
    out[net, patch] = _values(table, "sensitivity")
    return out


def tokens_of(table: pa.Table, index: int) -> Tokens:
    """Row `index` of the table as `Tokens`."""
    row = table.slice(index, 1)
    sensitivity = _values(row, "sensitivity") if "sensitivity" in row.column_names else None
    parent, vertex, types = (_values(row, name).long() for name in ("parent", "vertex", "type"))
    return Tokens(parent, vertex, _values(row, "weight"), types, row["n_inputs"][0].as_py(), 1, sensitivity)


def exact_share(networks: Networks, table: pa.Table) -> float:
    """Share of networks that the table gives back: same spec, same mask, same weights to the bit."""
    back, specs = detokenize_networks(table, networks.layout), networks.specs
    same = (back.specs.n_inputs == specs.n_inputs) & (back.specs.mask == specs.mask).all(2).all(1)
    same &= ((back.specs.widths == specs.widths) & (back.specs.activations == specs.activations)).all(1)
    same &= (back.weight.view(torch.int32) == networks.weight.view(torch.int32)).all(2).all(1)
    return float(same.double().mean())


def _first_numbers(n_inputs: Int[Tensor, " n"], widths: Int[Tensor, "n layers"]) -> Int[Tensor, "n levels"]:
    """Number of the first vertex of each hidden layer, and of the output."""
    return torch.cat([1 + n_inputs.unsqueeze(1), 1 + n_inputs.unsqueeze(1) + widths.cumsum(1)], 1)


def _place(table: pa.Table, layout: Layout) -> tuple[Specs, tuple[Tensor, Tensor, Tensor]]:
    """Specs of the table's networks and (net, patch, slot) of every edge."""
    n, n_layers, features = len(table), layout.max_hidden_layers, layout.max_features
    n_inputs = torch.tensor(table["n_inputs"].to_numpy(), dtype=torch.int64)
    depth, edges = _lengths(table, "widths"), _lengths(table, "vertex")
    for names, reference in ((("activations",), depth), (("parent", "type", "weight"), edges)):
        for name in names:
            _fits(_lengths(table, name) == reference, f"{name} must have one entry for each layer or edge")
    _fits((n_inputs >= 1) & (n_inputs <= features), f"n_inputs must be 1..{features}")
    _fits((depth >= 1) & (depth <= n_layers), f"hidden layers must be 1..{n_layers}")
    present = torch.arange(n_layers) < depth.unsqueeze(1)
    widths, activations = torch.zeros(2, n, n_layers, dtype=torch.int64)
    widths[present], activations[present] = _values(table, "widths").long(), _values(table, "activations").long()
    _fits(((widths >= 1) | ~present).all(1) & (widths.amax(1) <= layout.max_width), f"widths: 1..{layout.max_width}")
    _fits(((activations >= 0) & (activations < len(ACTIVATIONS))).all(1), "activations must be known types")

    net = torch.arange(n).repeat_interleave(edges)
    parent, vertex, types = (_values(table, name).long() for name in ("parent", "vertex", "type"))
    first, inputs = _first_numbers(n_inputs, widths)[net], n_inputs[net]
    layer, above = ((number.unsqueeze(1) >= first[:, 1:]).sum(1) for number in (vertex, parent))
    is_output = layer == n_layers
    unit = vertex - first.gather(1, layer.unsqueeze(1)).squeeze(1)
    reads = torch.where(is_output, depth[net], layer) - 1
    slot = torch.where(parent <= inputs, parent, 1 + features + parent - first.gather(1, above.unsqueeze(1)).squeeze(1))
    from_input = (parent <= inputs) & ((layer == 0) | is_output)
    good = (parent == 0) | ((parent > 0) & from_input) | ((parent > inputs) & (above == reads))
    good &= (vertex > inputs) & (vertex <= first[:, -1])
    good &= types == nn.functional.pad(activations, (0, 1))[net, layer]
    if not bool(good.all()):
        edge = int((~good).int().argmax())
        found = f"parent {int(parent[edge])}, vertex {int(vertex[edge])}, type {int(types[edge])}"
        rule = "an edge must run to the next layer or from an input to the output, with the layer's type"
        raise ValueError(f"{rule}, got {found} in row {int(net[edge])}")
    patch = layer * layout.max_width + unit
    mask = torch.zeros(n, layout.n_patches, layout.n_slots, dtype=torch.bool)
    mask[net, patch, slot] = True
    return Specs(n_inputs, widths, activations, mask), (net, patch, slot)


def _fits(good: Bool[Tensor, " n"], rule: str) -> None:
    if not bool(good.all()):
        raise ValueError(f"{rule}; row {int((~good).int().argmax())} of the table has others")


def _offsets(counts: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n+1"]:
    """Where each of n lists begins in their concatenation, and where the last one ends."""
    ends = np.concatenate([[0], np.cumsum(counts)])
    if ends[-1] > np.iinfo(np.int32).max:
        raise ValueError(f"a table must have at most 2^31 - 1 edges, got {ends[-1]}; tokenize the stack in parts")
    return ends.astype(np.int32)


def _values(table: pa.Table, name: str) -> Tensor:
    return torch.tensor(table[name].combine_chunks().flatten().to_numpy())


def _lengths(table: pa.Table, name: str) -> Int[Tensor, " n"]:
    return torch.tensor(table[name].combine_chunks().value_lengths().to_numpy(), dtype=torch.int64)
