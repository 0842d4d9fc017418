"""Kernels of the tokens, compiled by numba: canonical form and edge lists of whole stacks, one network at a time.

What they compute is explained where they are called, in `networks.symmetry` and `networks.token_tables`. No fastmath:
every operation is rounded where numpy would round it. A network never meets another, so its bits do not depend on its
stack.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np
from numba import njit

from netformer.networks.specs import ACTIVATIONS

# `no_type_check`: the test run wraps annotated functions, and numba must see bare ones. Shapes are in the docstrings.
_PLAIN = {"cache": True, "nogil": True, "error_model": "numpy"}
_RELU, _TANH, _SIGMOID, _STEP = (ACTIVATIONS.index(name) for name in ("relu", "tanh", "sigmoid", "step"))
_TINY = float(np.finfo(np.float32).tiny)


@njit(**_PLAIN)
@no_type_check
def canonical(weight, mask, widths, activations, n_outputs, tolerance):
    """Replace every network by the representative of its orbit (`symmetry.canonicalize`), in place.

    weight (n, P, C), zero where mask (n, P, C) is False; float32 or float64, computed in float64. widths, activations
    (n, L): units and activation of each layer, 0 where absent. n_outputs: how many patches, the last ones, are outputs.
    tolerance: a ReLU or step unit whose norm is that close to 1 is left alone.
    """
    n_layers, patches, slots = widths.shape[1], weight.shape[1], weight.shape[2]
    output = patches - n_outputs
    width = output // n_layers
    features = slots - 1 - width
    w, m = np.empty((patches, slots)), np.empty((patches, slots), np.bool_)
    factor, through, best = np.empty(width), np.empty(width), np.empty(width)
    strongest, order = np.empty(width, np.int64), np.empty(width, np.int64)
    reflected = np.empty(width, np.bool_)
    rounded = np.empty(slots, weight.dtype)
    spare, spare_mask = np.empty((width, slots)), np.empty((width, slots), np.bool_)
    for i in range(len(weight)):
        w[:] = weight[i]
        m[:] = mask[i]
        for layer in range(n_layers):
            units, code, here = widths[i, layer], activations[i, layer], layer * width
            if units == 0:
                break
            # Rows that read this layer: the next one, or the outputs after the last one.
            deeper = layer + 1 < n_layers and widths[i, layer + 1] > 0
            begin = here + width if deeper else output
            stop = begin + widths[i, layer + 1] if deeper else patches
            for u in range(units):
                row, column = w[here + u], 1 + features + u
                scale = 1.0
                if code in (_RELU, _STEP):
                    norm = 0.0
                    for c in range(slots):
                        norm += row[c] * row[c]
                    norm = np.sqrt(norm)
                    if norm > _TINY and abs(norm - 1) > tolerance:
                        scale = 1 / norm
                for c in range(slots):
                    rounded[c] = row[c] * scale
                at = 1
                for c in range(2, slots):
                    if abs(rounded[c]) > abs(rounded[at]):
                        at = c
                value = np.float64(rounded[at])
                mirrored = code == _SIGMOID or (code == _STEP and row[0] != 0)
                if mirrored:
                    for r in range(begin, stop):
                        mirrored = mirrored and (m[r, 0] or not m[r, column])
                negative = value < 0 and (code == _TANH or mirrored)
                factor[u] = -scale if negative else scale
                through[u] = np.sign(factor[u]) if code == _STEP else factor[u]
                reflected[u] = negative and mirrored
                strongest[u], best[u] = at, -value if negative else value
                # Insertion: units of the same strongest parent and weight keep their order.
                place = u
                while place > 0:
                    other = order[place - 1]
                    if strongest[other] < at or (strongest[other] == at and best[other] >= best[u]):
                        break
                    order[place] = other
                    place -= 1
                order[place] = u
            spare[:units], spare_mask[:units] = w[here : here + units], m[here : here + units]
            for u in range(units):
                source = order[u]
                for c in range(slots):
                    rounded[c] = spare[source, c] * factor[source]
                    w[here + u, c], m[here + u, c] = rounded[c], spare_mask[source, c]
            for r in range(begin, stop):
                moved = 0.0
                for u in range(units):
                    spare[0, u], spare_mask[0, u] = w[r, 1 + features + u], m[r, 1 + features + u]
                    if reflected[u]:
                        moved += spare[0, u]
                w[r, 0] += moved
                for u in range(units):
                    w[r, 1 + features + u] = spare[0, order[u]] / through[order[u]]
                    m[r, 1 + features + u] = spare_mask[0, order[u]]
        for p in range(patches):
            for c in range(slots):
                # A flipped sign must not leave -0.0 where there is no edge.
                weight[i, p, c] = w[p, c] if m[p, c] else 0.0
                mask[i, p, c] = m[p, c]


@njit(**_PLAIN)
@no_type_check
def write(mask, weight, n_inputs, widths, activations, n_outputs, known, start, numbers, value, felt):
    """Write the edges of every network, sorted by (vertex, parent), from `start` (n + 1) on in the columns.

    mask, weight (n, P, C). n_inputs (n). widths, activations (n, L). known (n, P), sensitivities, goes into felt; an
    empty one is skipped. numbers (3, edges): parent, vertex and type; value, felt (edges): the other columns.
    """
    n_layers, slots = widths.shape[1], mask.shape[2]
    width = (mask.shape[1] - n_outputs) // n_layers
    features = slots - 1 - width
    parent, vertex, kind = numbers[0], numbers[1], numbers[2]
    for i in range(len(mask)):
        e, number, lower = start[i], 1 + n_inputs[i], 0
        for layer in range(n_layers + 1):
            hidden = layer < n_layers
            units = widths[i, layer] if hidden else n_outputs
            if units == 0:
                continue
            code = activations[i, layer] if hidden else 0
            for u in range(units):
                p = layer * width + u
                for c in range(slots):
                    if mask[i, p, c]:
                        parent[e] = c if c <= features else lower + c - 1 - features
                        vertex[e], kind[e], value[e] = number + u, code, weight[i, p, c]
                        if len(known):
                            felt[e] = known[i, p]
                        e += 1
            lower = number
            number += units
