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
    return np.stack([_backward(networks, index, rows)[0] for index in range(len(networks))])


def felt(
    networks: Networks, index: int, rows: Float[np.ndarray, "rows features"]
) -> tuple[Float[np.ndarray, " features"], Float[np.ndarray, " patches"]]:
    """Of one network the mean over rows and outputs of |d output / d input|, and of |d output / d pre-activation| of
    each vertex, as `networks.sensitivity` has it from tensors."""
    layout = networks.layout
    inputs, layers = _backward(networks, index, rows)
    own = np.zeros(layout.n_patches)
    own[layout.outputs] = 1 / layout.n_outputs
    for level, slopes in enumerate(layers):
        start = layout.layer(level).start
        own[start : start + slopes.shape[2]] = np.abs(slopes).mean((0, 1))
    return np.abs(inputs).mean((0, 1)), own


def _backward(
    networks: Networks, index: int, rows: Float[np.ndarray, "rows features"]
) -> tuple[Float[np.ndarray, "outputs rows features"], list[Float[np.ndarray, "outputs rows units"]]]:
    """Derivatives of the outputs of one network by its inputs, and by the pre-activations of each hidden layer."""
    layout, n_inputs = networks.layout, int(networks.specs.n_inputs[index])
    *hidden, (last, _, _) = networks.matrices(index)
    h, passed = rows[:, :n_inputs].astype(np.float64), []
    for weight, bias, name in hidden:
        a = h @ np.asarray(weight).T
        h, slope = _BOTH[name](a if bias is None else a + np.asarray(bias))
        passed.append((slope, np.asarray(weight)))
    back, layers = np.broadcast_to(np.asarray(last)[:, None], (layout.n_outputs, *h.shape)), []
    for slope, weight in reversed(passed):
        layers.append(back * slope)
        back = layers[-1] @ weight
    found = np.zeros((layout.n_outputs, *rows.shape))
    direct = networks.weight.numpy()[index, layout.outputs, 1 : 1 + n_inputs]
    found[:, :, :n_inputs] = back + direct[:, None]
    return found, layers[::-1]
