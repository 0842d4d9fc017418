"""Objects: a delivered network for PyTorch and for scikit-learn, from raw columns to units of the target."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from netformer.errors import InputError
from netformer.networks.convert import sklearn_regressor
from netformer.networks.stack import Networks
from netformer.tables.reading import CUT, Reading


class DeliveredNetwork(nn.Module):
    """The mean of the networks of a stack: raw columns (rows, features) -> units of the target (rows, 1), in float64.

    networks: the networks as they are, `nn.Sequential` or `SkipNetwork`, which read standardised columns; their weights
    are the parameters. center, scale: buffers. Columns are cut as `Population.predict` cuts them.
    """

    center: Tensor
    scale: Tensor

    def __init__(self, reading: Reading, stack: Networks) -> None:
        super().__init__()
        double = Networks(stack.specs, stack.weight.double())
        self.networks = nn.ModuleList([double.to_torch(index) for index in range(len(stack))])
        self.register_buffer("center", torch.from_numpy(reading.center.copy()))
        self.register_buffer("scale", torch.from_numpy(reading.scale.copy()))
        self.target_center, self.target_scale = reading.target_center, reading.target_scale

    def forward(self, x: Float[Tensor, "rows features"]) -> Float[Tensor, "rows 1"]:
        """Predictions in units of the target, whatever the dtype of x, in float64."""
        z = ((x.double() - self.center) / self.scale).clamp(-CUT, CUT)
        t = torch.stack([network(z) for network in self.networks]).mean(0)
        return t * self.target_scale + self.target_center


def raw_regressor(reading: Reading, stack: Networks, name: Any) -> Any:
    """A stack of one network as a fitted `MLPRegressor` in float64 that reads raw columns: the standardisation is
    folded into its first layer, the units of the target into its last. A center of 1e6 scales costs 6 of the 16 digits
    of float64. It does not cut columns: give it np.clip(X, reading.low, reading.high). name: of the network, in errors.

    Raises InputError for what MLPRegressor cannot express: several networks, a skip, GELU, activations that differ.
    """
    if len(stack) != 1 or isinstance(name, str):
        raise InputError(f"which must be the index of one network for MLPRegressor, got {name!r}; use torch or onnx")
    if bool(stack.specs.skip[0]):
        raise InputError(f"MLPRegressor has no edges from inputs to outputs, network {name} has; use torch or onnx")
    layers = Networks(stack.specs, stack.weight.double()).matrices(0)
    weight, bias, activation = layers[0]
    weight = weight / torch.from_numpy(reading.scale)
    shift = weight @ torch.from_numpy(reading.center)
    layers[0] = (weight, -shift if bias is None else bias - shift, activation)
    weight, bias, activation = layers[-1]
    bias = weight.new_zeros(1) if bias is None else bias
    layers[-1] = (weight * reading.target_scale, bias * reading.target_scale + reading.target_center, activation)
    return sklearn_regressor(layers)
