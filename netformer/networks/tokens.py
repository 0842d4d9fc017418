"""Tokens: a network as a list of edges, and back.

An edge is (parent number, vertex number, weight, type of the vertex). Vertex 0 is the bias vertex, inputs are
1..n_inputs, then hidden units layer by layer, outputs last; a bias is an edge from vertex 0. Edges are sorted by
(vertex, parent). An existing edge of weight zero is an edge. The outputs of a network that classifies are logits:
softmax and logistic function are no vertices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from netformer.errors import InputError
from netformer.networks.convert import SKLEARN_NAMES, Label, check_classes, sklearn_classifier, sklearn_regressor
from netformer.networks.modules import _MODULES, SkipNetwork, torch_module
from netformer.networks.specs import ACTIVATIONS, activate

Layer = tuple[Tensor, Tensor | None, str]


@dataclass(frozen=True, eq=False)
class Tokens:
    """One network as edges; tensors, because numpy has no bfloat16.

    weight: in the dtype of the network. type: index into `ACTIVATIONS`, of the edge's vertex. sensitivity: of the
    edge's vertex, where it is known. n_outputs: the last vertices are the outputs. classes: sorted labels, where the
    outputs are logits of classes: one output, the logit of the second class, for two of them, one per class for more.

    Raises InputError unless the edges are sorted and unique and form an acyclic network in which every hidden and
    output vertex has an incoming edge, and as `convert.check_classes` does.
    """

    # One entry an edge; equal lengths are checked below, with a message of our own.
    parent: Int[Tensor, " parents"]
    vertex: Int[Tensor, " vertices"]
    weight: Float[Tensor, " weights"]
    type: Int[Tensor, " types"]
    n_inputs: int
    n_outputs: int = 1
    sensitivity: Float[Tensor, " sensitivities"] | None = None
    classes: tuple[Label, ...] = ()

    def __post_init__(self) -> None:
        lengths = [len(column) for column in (self.parent, self.vertex, self.weight, self.type)]
        if len(set(lengths)) > 1 or not lengths[0]:
            raise InputError(f"tokens must have columns of one length and at least one edge, got lengths {lengths}")
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
            raise InputError(f"n_outputs must be 1..{int(vertex[-1]) - self.n_inputs}, got {self.n_outputs}")
        if self.classes:
            check_classes(self.classes, self.n_outputs)

    def __len__(self) -> int:
        return len(self.parent)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.weight.dtype

    def equal(self, other: Tokens) -> bool:
        """Same edges, same weights to the bit, same header; sensitivities are not compared."""
        heads = [(t.n_inputs, t.n_outputs, t.dtype, t.classes) for t in (self, other)]
        names = ("parent", "vertex", "type")
        edges = all(torch.equal(getattr(self, name).long(), getattr(other, name).long()) for name in names)
        return (
            heads[0] == heads[1]
            and edges
            and torch.equal(self.weight.view(torch.uint8), other.weight.view(torch.uint8))
        )


class EdgeNetwork(nn.Module):
    """Any acyclic network, vertex by vertex: what `detokenize` returns where the edges are not plain layers."""

    def __init__(self, tokens: Tokens) -> None:
        super().__init__()
        self.tokens = tokens
        self.weight = nn.Parameter(tokens.weight.clone())

    def forward(self, x: Float[Tensor, "rows features"]) -> Float[Tensor, "rows outputs"]:
        """Answers to rows of inputs."""
        values = [x.new_ones(len(x)), *x.unbind(1)]
        counts = torch.bincount(self.tokens.vertex.long())[len(values) :].tolist()
        columns = (column.split(counts) for column in (self.tokens.parent, self.weight, self.tokens.type))
        for parents, weight, kind in zip(*columns, strict=True):
            a = torch.stack([values[p] for p in parents.tolist()], 1) @ weight
            values.append(activate(a.view(1, -1, 1), kind[:1].long()).view(-1))
        return torch.stack(values[-self.tokens.n_outputs :], 1)


def tokenize(net: Any) -> Tokens:
    """The edges of a network.

    net: `nn.Sequential` of Linear layers with ReLU, Tanh, Sigmoid, exact GELU, `modules.Step` or nothing after each; a
    `SkipNetwork` around one; an `EdgeNetwork`; or a fitted scikit-learn `MLPRegressor` or `MLPClassifier`, of any
    number of outputs.
    Training state (inplace, device, requires_grad, optimiser) is not part of a network.

    Raises InputError for anything else, naming it.
    """
    if isinstance(net, EdgeNetwork):
        return replace(net.tokens, weight=net.weight.detach().clone())
    if isinstance(net, SkipNetwork):
        layers = _sequential_layers(net.body)
        if len(layers) < 2 or layers[-1][2] != "identity":
            raise InputError("SkipNetwork must have a hidden layer and no output activation, to have one edge a path")
        expected = ((len(layers[-1][0]), layers[0][0].shape[1]), layers[0][0].dtype)
        if (tuple(net.skip.shape), net.skip.dtype) != expected:
            raise InputError(f"skip must be {expected}, as the body, got {(tuple(net.skip.shape), net.skip.dtype)}")
        return _join(layers, net.skip.detach().cpu())
    if isinstance(net, nn.Sequential):
        return _join(_sequential_layers(net), None)
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    if isinstance(net, MLPRegressor):
        return _join(_sklearn_layers(net, ("identity",)), None)
    if isinstance(net, MLPClassifier):
        layers = _sklearn_layers(net, ("logistic", "softmax"))
        return replace(_join(layers, None), classes=tuple(net.classes_.tolist()))
    allowed = "nn.Sequential, SkipNetwork, EdgeNetwork, MLPRegressor or MLPClassifier"
    raise InputError(f"net must be {allowed}, got {type(net).__name__}")


def detokenize(tokens: Tokens, to: str = "torch") -> Any:
    """The network of these edges, in their dtype; `detokenize(tokenize(net))` has the weights of `net` bit for bit.

    to: "torch" gives `nn.Sequential`; a `SkipNetwork` where edges run from inputs to outputs; an `EdgeNetwork` where
    the edges are not layers at all: the outputs are logits where the tokens have classes. "sklearn" gives a fitted
    `MLPRegressor`, or an `MLPClassifier` where they do. In the layered forms an edge that does not exist is a zero.

    Raises InputError for what these two cannot express: a skip, edges that are not layers, GELU, steps, hidden
    activations that differ, an output activation, half precision.
    """
    if to not in ("torch", "sklearn"):
        raise InputError(f"to must be torch or sklearn, got {to!r}")
    split = _split(tokens)
    if to == "sklearn":
        if split is None or split[1] is not None:
            what = "edges that are not layers" if split is None else "edges from inputs to outputs"
            owner = "MLPClassifier" if tokens.classes else "MLPRegressor"
            raise InputError(f"{owner} has only edges between consecutive layers, got {what}; use to='torch'")
        return sklearn_classifier(split[0], tokens.classes) if tokens.classes else sklearn_regressor(split[0])
    if split is None:
        return EdgeNetwork(tokens)
    return torch_module(*split)


def _refuse(bad: Bool[Tensor, " edges"], rule: str, found: Int[Tensor, " edges"]) -> None:
    """One line for the first bad edge."""
    if bool(bad.any()):
        edge = int(bad.int().argmax())
        raise InputError(f"{rule}, got {int(found[edge])} at edge {edge}")


def _sequential_layers(net: nn.Sequential) -> list[Layer]:
    """(weight, bias, activation) of each Linear. Raises InputError for another module, mixed dtypes or widths."""
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
            raise InputError(f"module {index} of the Sequential cannot be tokens: {module}; {allowed} (exact GELU)")
    dtypes = {str(part.dtype) for weight, bias, _ in layers for part in (weight, bias) if part is not None}
    if len(dtypes) != 1:
        raise InputError(f"the Sequential must have Linear layers of one dtype, got {sorted(dtypes) or 'no layer'}")
    _check_sizes(layers, "Sequential")
    return layers


def _sklearn_layers(net: Any, outputs: Sequence[str]) -> list[Layer]:
    """Layers of a fitted estimator whose output function is one of `outputs`, without that function."""
    owner = type(net).__name__
    if not hasattr(net, "coefs_"):
        raise InputError(f"{owner} must be fitted before it is tokenized; call fit first")
    if net.out_activation_ not in outputs:
        found = f"{net.out_activation_} (loss {net.loss!r})"
        raise InputError(f"{owner} must have the output {' or '.join(outputs)}, got {found}")
    if net.out_activation_ == "logistic" and net.n_outputs_ > 1:
        raise InputError(f"{owner} must give one class per row, got {net.n_outputs_} independent labels")
    hidden = {name: ours for ours, name in SKLEARN_NAMES.items()}[net.activation]
    names = [hidden] * (len(net.coefs_) - 1) + ["identity"]
    pairs = zip(net.coefs_, net.intercepts_, names, strict=True)
    layers: list[Layer] = [(torch.tensor(w.T), torch.tensor(b), name) for w, b, name in pairs]
    _check_sizes(layers, owner)
    return layers


def _check_sizes(layers: Sequence[Layer], owner: str) -> None:
    for index, (weight, _, _) in enumerate(layers):
        if not weight.numel() or (index and weight.shape[1] != len(layers[index - 1][0])):
            shapes = [tuple(w.shape) for w, _, _ in layers]
            raise InputError(f"layers of the {owner} must not be empty and must fit one another, got {shapes}")


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
