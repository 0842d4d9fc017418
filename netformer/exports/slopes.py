"""Slopes: how fast the answers of networks change with what they read, by the chain rule."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr

from netformer.networks.stack import Networks

Numbers = Float[np.ndarray, "rows width"]
DENSITY = (2 * np.pi) ** -0.5  # of the standard normal at 0

# The value of each activation, and its slope there.
_BOTH: dict[str, Callable[[Numbers], tuple[Numbers, Numbers]]] = {
    "identity": lambda a: (a, np.ones_like(a)),
    "relu": lambda a: (np.maximum(a, 0), (a > 0).astype(a.dtype)),
    "tanh": lambda a: (np.tanh(a), 1 - np.tanh(a) ** 2),
    "sigmoid": lambda a: (0.5 + 0.5 * np.tanh(a / 2), 0.25 * (1 - np.tanh(a / 2) ** 2)),
    "gelu": lambda a: (a * ndtr(a), ndtr(a) + a * DENSITY * np.exp(-a * a / 2)),
    "step": lambda a: ((a > 0).astype(a.dtype), np.zeros_like(a)),
}


def slopes_of(
    networks: Networks, rows: Float[np.ndarray, "rows features"]
) -> Float[np.ndarray, "n outputs rows features"]:
    """The derivative of every output of each network with respect to every input, at the rows given. 0 for inputs a
    network does not have, and through units that jump. networks: arrays; rows: what they read."""
    layout = networks.layout
    out = np.zeros((len(networks), layout.n_outputs, *rows.shape))
    for index in range(len(networks)):
        *hidden, (last, _, _) = networks.matrices(index)
        n_inputs = int(networks.specs.n_inputs[index])
        h, passed = rows[:, :n_inputs].astype(np.float64), []
        for weight, bias, name in hidden:
            a = h @ np.asarray(weight).T
            h, slope = _BOTH[name](a if bias is None else a + np.asarray(bias))
            passed.append((slope, np.asarray(weight)))
        direct = networks.weight.numpy()[index, layout.outputs, 1 : 1 + n_inputs]
        for output, own in enumerate(np.asarray(last)):
            back = np.broadcast_to(own, h.shape)
            for slope, weight in reversed(passed):
                back = (back * slope) @ weight
            out[index, output, :, :n_inputs] = back + direct[output]
    return out
