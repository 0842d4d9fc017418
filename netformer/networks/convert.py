"""Convert: layers of a network as PyTorch modules and as scikit-learn's `MLPRegressor`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from netformer.errors import InputError

_MODULES = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "gelu": nn.GELU}
SKLEARN_NAMES = {"identity": "identity", "relu": "relu", "tanh": "tanh", "sigmoid": "logistic"}


class SkipNetwork(nn.Module):
    """A body and a linear path from the inputs to its output: body(x) + x @ skip.T."""

    def __init__(self, body: nn.Sequential, skip: Float[Tensor, "outputs features"]) -> None:
        super().__init__()
        self.body = body
        self.skip = nn.Parameter(skip)

    def forward(self, x: Float[Tensor, "rows features"]) -> Float[Tensor, "rows outputs"]:
        """The body's output plus the linear path."""
        return self.body(x) + x @ self.skip.T


def torch_module(
    layers: Sequence[tuple[Tensor, Tensor | None, str]], skip: Float[Tensor, "outputs features"] | None
) -> nn.Module:
    """`nn.Sequential` of these (weight, bias or None, activation) layers, output last, in their dtype; inside a
    `SkipNetwork` where there is a skip. No generator is touched."""
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


def sklearn_regressor(layers: Sequence[tuple[Tensor, Tensor | None, str]]) -> Any:
    """A fitted `MLPRegressor` with these (weight, bias or None, activation) layers, output last; no bias is zeros.

    Raises InputError for what MLPRegressor cannot express: GELU, hidden activations that differ, an output activation,
    a dtype other than float32 and float64.
    """
    from sklearn.neural_network import MLPRegressor

    names = [name for _, _, name in layers]
    dtype = layers[0][0].dtype
    if len(set(names[:-1])) > 1:
        raise InputError(f"MLPRegressor has one activation for all hidden layers, got {names[:-1]}; use to_torch")
    if names[-1] != "identity":
        raise InputError(f"MLPRegressor has an identity output, got {names[-1]}; use to_torch")
    if not set(names) <= set(SKLEARN_NAMES):
        raise InputError(f"MLPRegressor activations are {', '.join(SKLEARN_NAMES)}, got {names[0]}; use to_torch")
    if dtype not in (torch.float32, torch.float64):
        raise InputError(f"MLPRegressor predicts in float32 or float64, got {dtype}; convert the network first")
    sizes = tuple(len(weight) for weight, _, _ in layers[:-1])
    regressor = MLPRegressor(hidden_layer_sizes=sizes, activation=SKLEARN_NAMES[names[0]])
    regressor.coefs_ = [weight.T.contiguous().numpy().copy() for weight, _, _ in layers]
    regressor.intercepts_ = [
        (weight.new_zeros(len(weight)) if bias is None else bias).numpy().copy() for weight, bias, _ in layers
    ]
    regressor.n_features_in_, regressor.n_outputs_ = layers[0][0].shape[1], len(layers[-1][0])
    regressor.n_layers_, regressor.out_activation_ = len(layers) + 1, "identity"
    # What an optimiser would have left: partial_fit continues from here.
    regressor.n_iter_, regressor.t_, regressor.loss_, regressor.best_loss_ = 0, 0, np.inf, np.inf
    regressor.loss_curve_, regressor._no_improvement_count = [], 0
    regressor.validation_scores_ = regressor.best_validation_score_ = None
    return regressor
