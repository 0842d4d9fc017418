"""Networks: n target networks as one padded stack of weights, evaluated together."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from netformer.specs import ACTIVATIONS, Layout, Specs, activate

_MODULES = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "gelu": nn.GELU}
SKLEARN_NAMES = {"identity": "identity", "relu": "relu", "tanh": "tanh", "sigmoid": "logistic"}
_ONNX_OPSET, _ONNX_IR = 17, 8


@dataclass(frozen=True)
class Networks:
    """n target networks. `weight` is zero wherever `specs.mask` has no edge."""

    specs: Specs
    weight: Float[Tensor, "n patches slots"]

    def __len__(self) -> int:
        return len(self.weight)

    def __getitem__(self, index) -> Networks:
        """A sub-stack; `index` selects along the first axis and keeps it (slice, list, mask or index tensor)."""
        return Networks(self.specs[index], self.weight[index])

    @property
    def layout(self) -> Layout:
        return self.specs.layout

    def hidden(self, x: Float[Tensor, "m rows features"]) -> list[Float[Tensor, "n rows width"]]:
        """Activations of every hidden layer; a shallower net repeats its last one, so that [-1] is the penultimate.

        x: rows for each network, or one set of rows (m = 1) for all. Units that do not exist hold arbitrary values,
        which no edge reads.
        """
        features, out = self.layout.max_features, []
        h = x.expand(len(self), -1, -1)
        for index in range(self.layout.max_hidden_layers):
            patches = self.weight[:, self.layout.layer(index)]
            w = patches[:, :, 1 : 1 + features] if index == 0 else patches[:, :, 1 + features :]
            a = torch.baddbmm(patches[:, None, :, 0], h, w.transpose(1, 2))
            a = activate(a, self.specs.activations[:, index])
            present = (self.specs.widths[:, index] > 0).view(-1, 1, 1)
            h = a if index == 0 else torch.where(present, a, h)
            out.append(h)
        return out

    def predict(self, x: Float[Tensor, "m rows features"]) -> Float[Tensor, "n rows"]:
        """Outputs of each network on its own rows, or on one shared set of rows (m = 1)."""
        return self.output(self.hidden(x)[-1], x)

    def output(self, h: Float[Tensor, "n rows width"], x: Float[Tensor, "m rows features"]) -> Float[Tensor, "n rows"]:
        """The output layer, from the last hidden activations and the inputs (skip)."""
        features = self.layout.max_features
        last = self.weight[:, -1]
        y = torch.baddbmm(last[:, None, :1], h, last[:, 1 + features :, None])
        return (y + x @ last[:, 1 : 1 + features, None]).squeeze(2)

    def matrices(self, index: int) -> list[tuple[Tensor, Tensor | None, str]]:
        """(weight, bias or None, activation) of each layer of network `index`, output last, without its skip."""
        features, spec = self.layout.max_features, self.specs
        depth, d_in = int(spec.depth[index]), int(spec.n_inputs[index])
        layers, start = [], 1
        for layer in range(depth + 1):
            hidden = layer < depth
            rows = self.layout.layer(layer) if hidden else slice(-1, None)
            d_out = int(spec.widths[index, layer]) if hidden else 1
            patches, mask = self.weight[index, rows][:d_out], spec.mask[index, rows][:d_out]
            bias = patches[:, 0].clone() if bool(mask[:, 0].any()) else None
            name = ACTIVATIONS[int(spec.activations[index, layer])] if hidden else "identity"
            layers.append((patches[:, start : start + d_in].clone(), bias, name))
            start, d_in = 1 + features, d_out
        return layers

    def to_torch(self, index: int) -> nn.Module:
        """Network `index` as `nn.Sequential`, inside a `SkipNetwork` where its spec has a skip; output (rows, 1)."""
        modules: list[nn.Module] = []
        for weight, bias, name in self.matrices(index):
            linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=weight.dtype)
            with torch.no_grad():
                linear.weight.copy_(weight)
                if bias is not None:
                    linear.bias.copy_(bias)
            modules.append(linear)
            if name != "identity":
                modules.append(_MODULES[name]())
        body = nn.Sequential(*modules)
        if not bool(self.specs.skip[index]):
            return body
        n_inputs = int(self.specs.n_inputs[index])
        return SkipNetwork(body, self.weight[index, -1, 1 : 1 + n_inputs].unsqueeze(0).clone())

    def to_sklearn(self, index: int) -> Any:
        """Network `index` as a fitted `MLPRegressor`; edges that do not exist become zeros.

        Raises ValueError for what MLPRegressor cannot express: a skip, GELU, activations that differ between layers.
        """
        if bool(self.specs.skip[index]):
            raise ValueError(f"MLPRegressor has no edges from inputs to outputs, network {index} has; use to_torch")
        return sklearn_regressor(self.matrices(index))

    def to_onnx(self, index: int, path: str | Path) -> None:
        """Write network `index` as an ONNX file (opset 17): input `x` (rows, n_inputs), output `y` (rows, 1).

        GELU is the exact one, spelled with Erf. The file appears complete or not at all.
        """
        from onnx import TensorProto, checker, helper, numpy_helper

        nodes, constants = [], []

        def constant(name: str, value: Tensor | float) -> str:
            array = torch.as_tensor(value, dtype=self.weight.dtype).numpy()
            constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
            return name

        def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
            nodes.append(helper.make_node(kind, inputs, [output], **attributes))
            return output

        skip, n_inputs, h = bool(self.specs.skip[index]), int(self.specs.n_inputs[index]), "x"
        layers = self.matrices(index)
        for layer, (weight, bias, name) in enumerate(layers):
            inputs = [h, constant(f"weight{layer}", weight)]
            if bias is not None:
                inputs.append(constant(f"bias{layer}", bias))
            h = node("Gemm", inputs, "y" if layer == len(layers) - 1 and not skip else f"a{layer}", transB=1)
            if name == "gelu":
                scaled = node("Mul", [h, constant(f"gelu_scale{layer}", 0.5**0.5)], f"scaled{layer}")
                erf = node("Add", [node("Erf", [scaled], f"erf{layer}"), constant(f"one{layer}", 1.0)], f"erf1{layer}")
                half = node("Mul", [h, constant(f"half{layer}", 0.5)], f"half_a{layer}")
                h = node("Mul", [half, erf], f"h{layer}")
            elif name != "identity":
                h = node({"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid"}[name], [h], f"h{layer}")
        if skip:
            direct = constant("skip", self.weight[index, -1, 1 : 1 + n_inputs].unsqueeze(1))
            node("Add", [h, node("MatMul", ["x", direct], "linear")], "y")
        kind = TensorProto.DOUBLE if self.weight.dtype == torch.float64 else TensorProto.FLOAT
        graph = helper.make_graph(
            nodes,
            "netformer",
            [helper.make_tensor_value_info("x", kind, ["rows", n_inputs])],
            [helper.make_tensor_value_info("y", kind, ["rows", 1])],
            constants,
        )
        opset = [helper.make_opsetid("", _ONNX_OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=_ONNX_IR, producer_name="netformer")
        checker.check_model(model)
        path = Path(path)
        partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        try:
            partial.write_bytes(model.SerializeToString())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


class SkipNetwork(nn.Module):
    """A body and a linear path from the inputs to its output: body(x) + x @ skip.T."""

    def __init__(self, body: nn.Sequential, skip: Float[Tensor, "outputs features"]) -> None:
        super().__init__()
        self.body = body
        self.skip = nn.Parameter(skip)

    def forward(self, x: Float[Tensor, "rows features"]) -> Float[Tensor, "rows outputs"]:
        return self.body(x) + x @ self.skip.T


def concatenate(parts: Sequence[Networks]) -> Networks:
    """One stack from several of the same layout."""
    specs = [part.specs for part in parts]
    joined = Specs(
        torch.cat([s.n_inputs for s in specs]),
        torch.cat([s.widths for s in specs]),
        torch.cat([s.activations for s in specs]),
        torch.cat([s.mask for s in specs]),
    )
    return Networks(joined, torch.cat([part.weight for part in parts]))


def sklearn_regressor(layers: Sequence[tuple[Tensor, Tensor | None, str]]) -> Any:
    """A fitted `MLPRegressor` with these (weight, bias or None, activation) layers, output last; no bias is zeros.

    Raises ValueError for what MLPRegressor cannot express: GELU, hidden activations that differ, an output activation,
    a dtype other than float32 and float64.
    """
    from sklearn.neural_network import MLPRegressor

    names = [name for _, _, name in layers]
    dtype = layers[0][0].dtype
    if len(set(names[:-1])) > 1:
        raise ValueError(f"MLPRegressor has one activation for all hidden layers, got {names[:-1]}; use to_torch")
    if names[-1] != "identity":
        raise ValueError(f"MLPRegressor has an identity output, got {names[-1]}; use to_torch")
    if not set(names) <= set(SKLEARN_NAMES):
        raise ValueError(f"MLPRegressor activations are {', '.join(SKLEARN_NAMES)}, got {names[0]}; use to_torch")
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"MLPRegressor predicts in float32 or float64, got {dtype}; convert the network first")
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
