"""Token tables: a stack of networks as a table of edges, a row per network, and back."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from netformer.errors import InputError
from netformer.networks.specs import ACTIVATIONS, Layout, Specs
from netformer.networks.stack import Networks
from netformer.networks.tokens import Tokens

_MAX_NUMBER = 32767  # vertex numbers are stored as int16
_SPARSEST = 4096  # slots of a stack per edge of a table that is read
_ALWAYS = 1 << 24  # slots of a stack that is made in any case


def tokenize_networks(networks: Networks, sensitivity: Float[Tensor, "n patches"] | None = None) -> pa.Table:
    """A stack as a table, one row per network.

    Columns: n_inputs int32; widths and activations list<int16>, one entry per hidden layer; parent, vertex, type
    list<int16>, weight and (where `sensitivity` of the vertices is given) sensitivity list<float32>, one entry an edge;
    n_outputs int16, where it is not 1. Outputs are the last vertices, in their order.

    Raises InputError for weights that are not float32, and for vertex numbers above 32767.
    """
    specs = networks.specs
    if networks.weight.dtype != torch.float32:
        raise InputError(f"tokens.weight is stored as float32, got {networks.weight.dtype}; convert the stack first")
    first = _first_numbers(specs.n_inputs, specs.widths)
    if len(first) and (highest := int(first.max()) + specs.n_outputs - 1) > _MAX_NUMBER:
        raise InputError(f"vertex numbers must be at most {_MAX_NUMBER}, got {highest}; reduce n_inputs")
    from netformer.networks import kernels  # numba takes longer to import than the rest of this module

    mask, widths, activations = (part.contiguous().numpy() for part in (specs.mask, specs.widths, specs.activations))
    start = _offsets(np.count_nonzero(mask, axis=(1, 2)))
    numbers = np.empty((3, start[-1]), np.int16)
    weight, felt = np.empty((2, start[-1]), np.float32)
    known = torch.empty(0, 0) if sensitivity is None else sensitivity.float()
    sources = (networks.weight.detach(), specs.n_inputs, known)
    values, n_inputs, known_values = (part.contiguous().numpy() for part in sources)
    stack = (mask, values, n_inputs, widths, activations, specs.n_outputs)
    kernels.write(*stack, known_values, start, numbers, weight, felt)
    layers = _offsets(np.count_nonzero(widths, axis=1))
    lists = {
        "widths": (layers, widths[widths > 0].astype(np.int16)),
        "activations": (layers, activations[widths > 0].astype(np.int16)),
        "parent": (start, numbers[0]),
        "vertex": (start, numbers[1]),
        "type": (start, numbers[2]),
        "weight": (start, weight),
    }
    if sensitivity is not None:
        lists["sensitivity"] = (start, felt)
    columns = {name: pa.ListArray.from_arrays(offsets, pa.array(values)) for name, (offsets, values) in lists.items()}
    if specs.n_outputs != 1:
        columns["n_outputs"] = pa.array(np.full(len(specs), specs.n_outputs), pa.int16())
    return pa.table({"n_inputs": pa.array(specs.n_inputs.numpy(), pa.int32()), **columns})


def detokenize_networks(table: pa.Table, layout: Layout) -> Networks:
    """The stack that `tokenize_networks` wrote, exactly: specs, mask and weights.

    Raises InputError for a network that does not fit the layout, for an edge that no layered network has or that is
    there twice, a vertex without one, and a layout of far more slots than there are edges.
    """
    specs, (net, patch, slot) = _place(table, layout)
    weight = torch.zeros(specs.mask.shape)
    weight[net, patch, slot] = _values(table, "weight")
    return Networks(specs, weight)


def detokenize_sensitivity(table: pa.Table, layout: Layout) -> Float[Tensor, "n patches"]:
    """The sensitivities that `tokenize_networks` wrote; zero where there is no vertex."""
    _fits(_lengths(table, "sensitivity") == _lengths(table, "vertex"), "sensitivity must have one entry for each edge")
    specs, (net, patch, _) = _place(table, layout)
    out = torch.zeros(specs.mask.shape[:2])
    out[net, patch] = _values(table, "sensitivity")
    return out


def tokens_of(table: pa.Table, index: int) -> Tokens:
    """Row `index` of the table as `Tokens`."""
    row = table.slice(index, 1)
    sensitivity = _values(row, "sensitivity") if "sensitivity" in row.column_names else None
    parent, vertex, types = (_values(row, name).long() for name in ("parent", "vertex", "type"))
    n_inputs, n_outputs = row["n_inputs"][0].as_py(), int(_n_outputs(row)[0])
    return Tokens(parent, vertex, _values(row, "weight"), types, n_inputs, n_outputs, sensitivity)


def exact_share(networks: Networks, table: pa.Table) -> float:
    """Share of networks that the table gives back: same spec, same mask, same weights to the bit."""
    back, specs = detokenize_networks(table, networks.layout), networks.specs
    same = (back.specs.n_inputs == specs.n_inputs) & (back.specs.mask == specs.mask).all(2).all(1)
    same &= ((back.specs.widths == specs.widths) & (back.specs.activations == specs.activations)).all(1)
    same &= (back.weight.view(torch.int32) == networks.weight.view(torch.int32)).all(2).all(1)
    return float(same.double().mean())


def _first_numbers(n_inputs: Int[Tensor, " n"], widths: Int[Tensor, "n layers"]) -> Int[Tensor, "n levels"]:
    """Number of the first vertex of each hidden layer, and of the outputs."""
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
    _fits(_n_outputs(table) == layout.n_outputs, f"n_outputs must be {layout.n_outputs}, as in the layout")
    _fits((depth >= 1) & (depth <= n_layers), f"hidden layers must be 1..{n_layers}")
    slots = n * layout.n_patches * layout.n_slots
    if slots > max(_SPARSEST * int(edges.sum()), _ALWAYS):
        raise InputError(
            f"a stack of {n} networks in {layout} has {slots} slots for {int(edges.sum())} edges: too many"
        )
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
    good &= (vertex > inputs) & (vertex < first[:, -1] + layout.n_outputs)
    good &= types == nn.functional.pad(activations, (0, 1))[net, layer]
    if not bool(good.all()):
        edge = int((~good).int().argmax())
        found = f"parent {int(parent[edge])}, vertex {int(vertex[edge])}, type {int(types[edge])}"
        rule = "an edge must run to the next layer or from an input to an output, with the layer's type"
        raise InputError(f"{rule}, got {found} in row {int(net[edge])}")
    patch = layer * layout.max_width + unit
    mask = torch.zeros(n, layout.n_patches, layout.n_slots, dtype=torch.bool)
    mask[net, patch, slot] = True
    _fits(mask.sum((1, 2)) == edges, "an edge must be there once")
    specs = Specs(n_inputs, widths, activations, mask, layout.n_outputs)
    _fits((mask.any(2) == specs.patch_mask).all(1), "a vertex must have an incoming edge")
    return specs, (net, patch, slot)


def _n_outputs(table: pa.Table) -> Int[Tensor, " n"]:
    """Outputs of each network; tables of networks with one output do not name them."""
    if "n_outputs" not in table.column_names:
        return torch.ones(len(table), dtype=torch.int64)
    return torch.tensor(table["n_outputs"].to_numpy(), dtype=torch.int64)


def _fits(good: Bool[Tensor, " n"], rule: str) -> None:
    if not bool(good.all()):
        raise InputError(f"{rule}; row {int((~good).int().argmax())} of the table has others")


def _offsets(counts: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n+1"]:
    """Where each of n lists begins in their concatenation, and where the last one ends."""
    ends = np.concatenate([[0], np.cumsum(counts)])
    if ends[-1] > np.iinfo(np.int32).max:
        raise InputError(f"a table must have at most 2^31 - 1 edges, got {ends[-1]}; tokenize the stack in parts")
    return ends.astype(np.int32)


def _values(table: pa.Table, name: str) -> Tensor:
    return torch.tensor(table[name].combine_chunks().flatten().to_numpy())


def _lengths(table: pa.Table, name: str) -> Int[Tensor, " n"]:
    return torch.tensor(table[name].combine_chunks().value_lengths().to_numpy(), dtype=torch.int64)
