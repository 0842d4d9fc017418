"""Grammar: the most probable *valid* structure under the heads, and the constraints of a prompt.

Every shape (depth and widths) a layout allows has a score, a sum over its layers of what the type and number heads say;
the best one that keeps every constraint wins. Activations follow a layer, edges one by one, and every vertex keeps at
least one edge that is no bias. Nothing here can produce a network that does not run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from netformer.arrays.devices import on_cpu
from netformer.arrays.namespace import Tensor, alike, namespace
from netformer.errors import InputError
from netformer.model.prompt import FREE, Prompt
from netformer.networks.specs import ABSENT, WRITTEN, Layout, Specs, dense_mask

SHAPES = 2**16  # looked at together: bounds the memory


def dense_params(n_inputs: Int[Tensor, " n"], widths: Int[Tensor, "k layers"]) -> Int[Tensor, "n k"]:
    """Parameters of the dense network of each shape, with biases and skip."""
    first = (n_inputs + 1).unsqueeze(1) * widths[:, 0]
    inner = (widths[:, :-1] * widths[:, 1:] + widths[:, 1:]).sum(1)
    last = widths.gather(1, ((widths > 0).sum(1) - 1).unsqueeze(1)).squeeze(1)
    return first + inner + last + 1 + n_inputs.unsqueeze(1)


def shapes(layout: Layout, depths: range, rows: int = SHAPES) -> Iterator[Int[np.ndarray, "k layers"]]:
    """Every choice of widths of the given depths, 0 for absent layers, at most `rows` at a time; shallow ones first,
    then in the order of their widths."""
    count = layout.max_width
    for depth in depths:
        inner = next(k for k in range(depth, -1, -1) if count**k <= rows)
        grid = 1 + np.indices((count,) * inner).reshape(inner, count**inner).T
        for outer in product(range(1, count + 1), repeat=depth - inner):
            widths = np.zeros((len(grid), layout.max_hidden_layers), np.int64)
            widths[:, : depth - inner] = outer
            widths[:, depth - inner : depth] = grid
            yield widths


@cache
def _list(layout: Layout) -> Int[np.ndarray, "k layers"]:
    return np.concatenate(list(shapes(layout, range(1, layout.max_hidden_layers + 1))))


@cache
def _list_on(layout: Layout, device: Any) -> Int[Tensor, "k layers"]:
    return namespace(device).from_numpy(_list(layout)).to(device)


def listed_widths(
    gain: Float[Tensor, "n units"], n_inputs: Int[Tensor, " n"], layout: Layout, prompt: Prompt
) -> Int[Tensor, "n layers"]:
    """What `best_widths` gives, by one matrix product over a list of all shapes: for layouts with few of them.

    gain: of each unit. The product has the precision of the caller, so that under autocast two shapes may count as
    equal whose totals differ by less than half precision tells; the first in the list is taken then.
    """
    xp, table = namespace(gain), alike(_list(layout), gain) if on_cpu(gain) else _list_on(layout, gain.device)
    allowed = xp.ones(len(n_inputs), len(table), dtype=xp.bool)
    if prompt.max_params is not None:
        allowed &= dense_params(n_inputs, table) <= prompt.max_params
    if prompt.max_hidden_layers is not None:
        allowed &= (table > 0).sum(1) <= prompt.max_hidden_layers
    units = (xp.arange(layout.max_width) < table.unsqueeze(2)).flatten(1).to(gain.dtype)
    return table[(gain @ units.T).masked_fill(~allowed, -xp.inf).argmax(1)]


def best_widths(
    gain: Float[Tensor, "n layers sizes"], n_inputs: Int[Tensor, " n"], layout: Layout, prompt: Prompt
) -> Int[Tensor, "n layers"]:
    """The widths of the largest total gain that keep the prompt; of equal ones the shallowest, then the narrowest.

    gain: of each layer (1..L) having so many units (0..W), 0 for none. The sum over layers is largest where every term
    is; only under a bound of parameters that this answer breaks are all shapes looked at, `SHAPES` at a time.
    """
    xp, layers = namespace(gain), layout.max_hidden_layers
    deepest = min(layers, prompt.max_hidden_layers or layers)
    top = gain[:, :, 1:].max(2)
    depth = 1 + top.values[:, :deepest].cumsum(1).argmax(1)
    widths = (top.indices + 1) * (xp.arange(layers, device=gain.device) < depth.unsqueeze(1))
    if prompt.max_params is None:
        return widths
    used = xp.cat([dense_params(n_inputs[i : i + 1], widths[i : i + 1])[0] for i in range(len(widths))])
    over = xp.nonzero(used > prompt.max_params).squeeze(1)
    if len(over) == 0:
        return widths
    inputs, terms = n_inputs[over], gain[over]
    best = xp.full((len(over),), -xp.inf)
    chosen = xp.zeros(len(over), layers, dtype=xp.int64)
    for listed in shapes(layout, range(1, deepest + 1)):
        table = alike(listed, gain)
        if int(dense_params(inputs.min().view(1), table[:1])) > prompt.max_params:
            continue  # the narrowest of them is too large for every network
        total = terms[:, 0, table[:, 0]]
        for layer in range(1, layers):
            total = total + terms[:, layer, table[:, layer]]
        total = total.masked_fill(dense_params(inputs, table) > prompt.max_params, -xp.inf)
        value, at = total.max(1)
        better = value > best
        best, chosen = xp.where(better, value, best), xp.where(better.unsqueeze(1), table[at], chosen)
    widths[over] = chosen
    return widths


def read_structure(
    logits: Structure,
    n_inputs: Int[Tensor, " n"],
    layout: Layout,
    prompt: Prompt = FREE,
) -> Specs:
    """Specs of n networks that keep the prompt.

    Raises InputError, naming the smallest possible value, for a bound of parameters nobody can meet.
    """
    xp, n, layers, width = namespace(logits.type), len(n_inputs), layout.max_hidden_layers, layout.max_width
    functional = xp.nn.functional
    type_log, number_log = functional.log_softmax(logits.type, 2), functional.log_softmax(logits.number, 2)
    absent = type_log[:, :, ABSENT] + number_log[:, :, 0]
    present = xp.logsumexp(type_log[:, :, 1:], 2) + xp.logsumexp(number_log[:, :, 1:], 2)
    gain = (present - absent)[:, :-1]
    if prompt.max_params is not None and (least := 2 * int(n_inputs.max()) + 3) > prompt.max_params:  # one hidden unit
        raise InputError(f"max_params must be at least {least} for these inputs, got {prompt.max_params}")
    if sum(width**depth for depth in range(1, layers + 1)) <= SHAPES:
        widths = listed_widths(gain, n_inputs, layout, prompt)
    else:
        by_size = functional.pad(gain.reshape(n, layers, width).cumsum(2), (1, 0))
        widths = best_widths(by_size, n_inputs, layout, prompt)

    here = (xp.arange(width) < widths.unsqueeze(2)).to(type_log.dtype)
    by_layer = type_log[:, :-1, 1 : 1 + len(WRITTEN)].reshape(n, layers, width, len(WRITTEN))
    score = (by_layer * here.unsqueeze(3)).sum(2)
    if prompt.activations is not None:
        barred = xp.tensor([name not in prompt.activations for name in WRITTEN])
        score = score.masked_fill(barred, -xp.inf)
    codes = score.argmax(2) * (widths > 0)

    yes = xp.ones(n, dtype=xp.bool)
    dense = dense_mask(layout, n_inputs, widths, yes, yes)
    required = dense_mask(layout, n_inputs, widths, ~yes, ~yes)
    forced = logits.parent.masked_fill(~required, -xp.inf).argmax(2, keepdim=True)
    forced_mask = xp.zeros_like(dense).scatter(2, forced, True) & required
    return Specs(n_inputs, widths, codes, (dense & (logits.parent > 0)) | forced_mask)


@dataclass(frozen=True, eq=False)
class Structure:
    """Logits from which a network's structure is read."""

    type: Float[Tensor, "n patches types"]
    number: Float[Tensor, "n patches numbers"]
    parent: Float[Tensor, "n patches slots"]
