"""Merged: the mean of several networks as one network."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from netformer.errors import InputError
from netformer.networks.convert import SkipNetwork
from netformer.networks.stack import Networks


class MergedNetwork(nn.Module):
    """The mean of k networks as one wider, sparser network.

    Their bodies stand side by side, each with its own depth and activations, under one output layer: their output
    layers over k. The skips become one. n_params: edges that exist, as `Specs.n_params` counts them.
    """

    def __init__(self, networks: Networks) -> None:
        """Raises InputError for networks with different numbers of inputs."""
        super().__init__()
        mask, k, features = networks.specs.mask, len(networks), networks.layout.max_features
        sizes = sorted(set(networks.specs.n_inputs.tolist()))
        if len(sizes) != 1:
            raise InputError(f"n_inputs must be the same for all merged networks, got {sizes}")
        bodies, heads, last = [], [], networks.weight[:, -1] / k
        for i, width in enumerate(networks.specs.widths.gather(1, networks.specs.depth.unsqueeze(1) - 1).flatten()):
            net = networks.to_torch(i)
            chain = net.body if isinstance(net, SkipNetwork) else net
            bodies.append(nn.Sequential(*list(chain.children())[:-1]))
            heads.append(last[i, 1 + features : 1 + features + int(width)])
        self.bodies = nn.ModuleList(bodies)
        self.head = nn.Parameter(torch.cat(heads))
        self.skip = nn.Parameter(last[:, 1 : 1 + sizes[0]].sum(0))
        self.bias = nn.Parameter(last[:, 0].sum())
        shared = mask[:, -1, : 1 + features].any(0)  # one bias and one edge from an input, whoever has them
        self.n_params = int(mask[:, :-1].sum() + mask[:, -1, 1 + features :].sum() + shared.sum())

    def forward(self, x: Float[Tensor, "rows features"]) -> Float[Tensor, "rows 1"]:
        h = torch.cat([body(x) for body in self.bodies], 1)
        return (h @ self.head + x @ self.skip + self.bias).unsqueeze(1)

    def predict(self, X: Float[np.ndarray, "rows features"]) -> Float[np.ndarray, " rows"]:
        with torch.no_grad():
            return self(torch.as_tensor(np.asarray(X), dtype=self.head.dtype)).squeeze(1).numpy()


def merge(networks: Networks, count: int) -> list[MergedNetwork]:
    """One network for each run of `count` networks, which answers with their mean."""
    if count < 1 or len(networks) % count:
        raise InputError(f"count must divide the {len(networks)} networks, got {count}")
    return [MergedNetwork(networks[slice(at, at + count)]) for at in range(0, len(networks), count)]


def merged(networks: Networks) -> MergedNetwork:
    """The mean of a stack as one network, in float64."""
    return merge(Networks(networks.specs, networks.weight.double()), len(networks))[0]
