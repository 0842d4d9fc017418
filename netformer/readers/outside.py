"""Outside: readers that we did not write, of the package nfn (Zhou et al. 2023, permutation equivariant neural
functionals), on networks of the zoo as it takes them: a weight matrix and a bias per layer.

All networks get the layers of the deepest. A layer that is not there is the identity on the units before it, which
changes no function; a second channel says which edges exist. Skips, which nfn has no place for, stand beside what it
makes of the layers. Weights are over their root mean square, layer by layer.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from netformer.errors import InputError
from netformer.networks.stack import Networks
from netformer.readers.learned import Places, answers_of
from netformer.readers.questions import Answers, Benchmark, Split

CHANNELS = 16


def layers_of(networks: Networks) -> tuple[list[Float[Tensor, "n 2 rows columns"]], list[Float[Tensor, "n 2 rows"]]]:
    """Weight matrices and biases of each layer, the output's last, with a channel that says which edges exist."""
    layout, specs = networks.layout, networks.specs
    both = torch.stack([networks.weight, specs.mask.to(networks.weight.dtype)], 1)
    inputs, units = slice(1, 1 + layout.max_features), slice(1 + layout.max_features, None)
    eye, last = torch.eye(layout.max_width), specs.last_units
    weights, biases = [], []
    for index in range(layout.max_hidden_layers):
        rows = both[:, :, layout.layer(index)]
        weight = rows[..., units if index else inputs].clone()
        if index:
            absent = (specs.widths[:, index] == 0).view(-1, 1, 1)
            weight[:, 0] = torch.where(absent, eye * last.unsqueeze(1), weight[:, 0])
        weights.append(weight)
        biases.append(rows[..., 0])
    output = both[:, :, layout.outputs]
    return [*weights, output[..., units]], [*biases, output[..., 0]]


def _scaled(part: Float[Tensor, "n 2 ..."]) -> Float[Tensor, "n 2 ..."]:
    """Weights over the root mean square of those that exist."""
    weight, exists = part.unbind(1)
    size = ((weight * exists).square().sum() / exists.sum().clamp(min=1)).sqrt().clamp(min=1e-6)
    return torch.stack([part[:, 0] / size, part[:, 1]], 1)


class Functional(nn.Module):
    """nfn's layers for networks whose inputs and outputs have an order (HNP) and its pooling; or, with `plain`, its
    statistics of the layers."""

    def __init__(self, benchmark: Benchmark, plain: bool) -> None:
        super().__init__()
        try:
            from nfn import layers
            from nfn.common import WeightSpaceFeatures, network_spec_from_wsfeat
        except ImportError:
            raise InputError("this reader needs nfn: pip install -r requirements-readers.txt") from None
        self.layers = [[_scaled(part) for part in side] for side in layers_of(benchmark.networks)]
        self.features: Any = WeightSpaceFeatures
        example = WeightSpaceFeatures(*([part[:1] for part in side] for side in self.layers))
        spec = network_spec_from_wsfeat(example)
        if plain:
            self.body: Any = layers.StatFeaturizer()
            made = 2 * layers.StatFeaturizer.get_num_outs(spec)  # of two channels
        else:
            relu = layers.TupleOp(nn.ReLU())
            one, two = layers.HNPLinear(spec, 2, CHANNELS), layers.HNPLinear(spec, CHANNELS, CHANNELS)
            self.body = nn.Sequential(one, relu, two, relu, layers.HNPPool(spec), nn.Flatten())
            made = CHANNELS * layers.HNPPool.get_num_outs(spec)
        features = benchmark.networks.layout.max_features
        self.skip, self.width = benchmark.networks.weight[:, -1, 1 : 1 + features], made + features

    def forward(self, at: Places) -> Float[Tensor, "k features"]:
        """What nfn makes of the layers, and the skip."""
        weights, biases = ([part[at] for part in side] for side in self.layers)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="var")  # of the one bias of the output, which is nan
            found = self.body(self.features(weights, biases)).flatten(1).nan_to_num()
        return torch.cat([found, self.skip[at]], 1)


def functional(benchmark: Benchmark, split: Split) -> Answers:
    """nfn's equivariant layers."""
    return answers_of(lambda it: Functional(it, plain=False), benchmark, split)


def plain_functional(benchmark: Benchmark, split: Split) -> Answers:
    """nfn's statistics of layers, under the same head."""
    return answers_of(lambda it: Functional(it, plain=True), benchmark, split)
