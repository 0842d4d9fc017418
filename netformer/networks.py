"""Networks: n target networks as one padded stack of weights, evaluated together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from netformer.specs import ACTIVATIONS, Layout, Specs, activate

_MODULES = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "gelu": nn.GELU}


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
