"""Grammar: the most probable *valid* structure under the heads, and the constraints of a prompt.

All shapes (depth and widths) a layout allows are enumerated once; each is scored by the type and number heads, and the
best one that keeps every constraint wins. Activations follow a layer, edges one by one, and every vertex keeps at
least one edge that is no bias. Nothing here can produce a network that does not run.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from netformer.errors import InputError
from netformer.networks.specs import ABSENT, ACTIVATIONS, Layout, Specs, slots


@cache
def shapes(layout: Layout) -> Int[Tensor, "k layers"]:
    """Every choice of widths, 0 for absent layers."""
    rows = []
    for depth in range(1, layout.max_hidden_layers + 1):
        for widths in product(range(1, layout.max_width + 1), repeat=depth):
            rows.append((*widths, *(0,) * (layout.max_hidden_layers - depth)))
    return torch.tensor(rows)


def dense_params(n_inputs: Int[Tensor, " n"], widths: Int[Tensor, "k layers"]) -> Int[Tensor, "n k"]:
    """Parameters of the dense network of each shape, with biases and skip."""
    first = (n_inputs + 1).unsqueeze(1) * widths[:, 0]
    inner = (widths[:, :-1] * widths[:, 1:] + widths[:, 1:]).sum(1)
    last = widths.gather(1, ((widths > 0).sum(1) - 1).unsqueeze(1)).squeeze(1)
    return first + inner + last + 1 + n_inputs.unsqueeze(1)


def read_structure(
    logits: Structure,
    n_inputs: Int[Tensor, " n"],
    layout: Layout,
    *,
    max_params: int | None = None,
    max_hidden_layers: int | None = None,
    activations: tuple[str, ...] | None = None,
) -> Specs:
    """Specs of n networks.

    max_params: upper bound of the number of edges. max_hidden_layers: upper bound of the depth. activations: allowed
    names. Raises InputError, naming the smallest possible value, for a bound nobody can meet.
    """
    n, layers, width = len(n_inputs), layout.max_hidden_layers, layout.max_width
    table = shapes(layout)
    allowed = torch.ones(n, len(table), dtype=torch.bool)
    if max_params is not None:
        params = dense_params(n_inputs, table)
        if bool((params.min(1).values > max_params).any()):
            least = int(params.min(1).values.max())
            raise InputError(f"max_params must be at least {least} for these inputs, got {max_params}")
        allowed &= params <= max_params
    if max_hidden_layers is not None:
        if max_hidden_layers < 1:
            raise InputError(f"max_hidden_layers must be at least 1, got {max_hidden_layers}")
        allowed &= (table > 0).sum(1) <= max_hidden_layers
    type_log, number_log = functional.log_softmax(logits.type, 2), functional.log_softmax(logits.number, 2)
    absent = type_log[:, :, ABSENT] + number_log[:, :, 0]
    present = torch.logsumexp(type_log[:, :, 1:], 2) + torch.logsumexp(number_log[:, :, 1:], 2)
    units = (torch.arange(width) < table.unsqueeze(2)).flatten(1).to(present.dtype)
    gain = (present - absent)[:, :-1]
    widths = table[(gain @ units.T).masked_fill(~allowed, -torch.inf).argmax(1)]

    here = (torch.arange(width) < widths.unsqueeze(2)).to(type_log.dtype)
    by_layer = type_log[:, :-1, 1 : 1 + len(ACTIVATIONS)].reshape(n, layers, width, len(ACTIVATIONS))
    score = (by_layer * here.unsqueeze(3)).sum(2)
    if activations is not None:
        unknown = sorted(set(activations) - set(ACTIVATIONS))
        if unknown or not activations:
            raise InputError(f"activations must be some of {', '.join(ACTIVATIONS)}, got {activations!r}")
        barred = torch.tensor([name not in activations for name in ACTIVATIONS])
        score = score.masked_fill(barred, -torch.inf)
    codes = score.argmax(2) * (widths > 0)

    yes = torch.ones(n, dtype=torch.bool)
    dense = slots(layout, n_inputs, widths, yes, yes)
    required = slots(layout, n_inputs, widths, ~yes, ~yes)
    forced = logits.parent.masked_fill(~required, -torch.inf).argmax(2, keepdim=True)
    forced_mask = torch.zeros_like(dense).scatter(2, forced, True) & required
    return Specs(n_inputs, widths, codes, (dense & (logits.parent > 0)) | forced_mask)


@dataclass(frozen=True)
class Structure:
    """Logits from which a network's structure is read."""

    type: Float[Tensor, "n patches types"]
    number: Float[Tensor, "n patches numbers"]
    parent: Float[Tensor, "n patches slots"]
