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
from netformer.model.prompt import FREE, Prompt
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
    prompt: Prompt = FREE,
) -> Specs:
    """Specs of n networks that keep the prompt.

    Raises InputError, naming the smallest possible value, for a bound of parameters nobody can meet.
    """
    n, layers, width = len(n_inputs), layout.max_hidden_layers, layout.max_width
    table = shapes(layout)
    allowed = torch.ones(n, len(table), dtype=torch.bool)
    if prompt.max_params is not None:
        params = dense_params(n_inputs, table)
        if bool((params.min(1).values > prompt.max_params).any()):
            least = int(params.min(1).values.max())
            raise InputError(f"max_params must be at least {least} for these inputs, got {prompt.max_params}")
        allowed &= params <= prompt.max_params
    if prompt.max_hidden_layers is not None:
        allowed &= (table > 0).sum(1) <= prompt.max_hidden_layers
    type_log, number_log = functional.log_softmax(logits.type, 2), functional.log_softmax(logits.number, 2)
    absent = type_log[:, :, ABSENT] + number_log[:, :, 0]
    present = torch.logsumexp(type_log[:, :, 1:], 2) + torch.logsumexp(number_log[:, :, 1:], 2)
    units = (torch.arange(width) < table.unsqueeze(2)).flatten(1).to(present.dtype)
    gain = (present - absent)[:, :-1]
    widths = table[(gain @ units.T).masked_fill(~allowed, -torch.inf).argmax(1)]

    here = (torch.arange(width) < widths.unsqueeze(2)).to(type_log.dtype)
    by_layer = type_log[:, :-1, 1 : 1 + len(ACTIVATIONS)].reshape(n, layers, width, len(ACTIVATIONS))
    score = (by_layer * here.unsqueeze(3)).sum(2)
    if prompt.activations is not None:
        barred = torch.tensor([name not in prompt.activations for name in ACTIVATIONS])
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
