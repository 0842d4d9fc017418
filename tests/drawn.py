"""Random networks, and readings for them, that the tests share."""

import math

import numpy as np
import torch

from netformer.networks.specs import ACTIVATIONS, Layout, draw_specs
from netformer.networks.stack import Networks
from netformer.networks.symmetry import _walk
from netformer.tables.columns import Column
from netformer.tables.inputs import Input
from netformer.tables.reading import Reading
from netformer.tables.scaling import Target


def draw(n, seed=0, layout=None, dtype=torch.float32, inputs=None, **options):
    """n random specs with normal weights on their edges, all with `inputs` inputs or each with its own number."""
    layout = layout or Layout()
    generator = torch.Generator().manual_seed(seed)
    n_inputs = torch.randint(1, layout.max_features + 1, (n,), generator=generator)
    if inputs:
        n_inputs = torch.full((n,), inputs)
    specs = draw_specs(n_inputs, layout=layout, generator=generator, **options)
    weight = torch.randn(specs.mask.shape, generator=generator, dtype=dtype)
    return Networks(specs, torch.where(specs.mask, weight, 0.0))


def orbit_sample(networks, generator):
    """A random equivalent of each network: units permuted, tanh, sigmoid and step units reflected with probability 1/2,
    ReLU and step units scaled by a factor log-uniform in (1/4, 4)."""
    relu, tanh, step = (ACTIVATIONS.index(name) for name in ("relu", "tanh", "step"))

    def decide(rows, code, exists, reflectable):
        draws = torch.rand(3, *exists.shape, generator=generator, dtype=torch.float64)
        order = torch.where(exists, draws[0], 2.0).argsort(dim=1, stable=True)
        scale = torch.exp((2 * draws[1] - 1) * math.log(4.0))
        negative = (draws[2] < 0.5) & ((code == tanh) | reflectable)
        return torch.where((code == relu) | (code == step), scale, 1.0) * torch.where(negative, -1.0, 1.0), order

    return _walk(networks, decide)


def reading_of(center, scale, columns=None, target="y", units=(0.0, 1.0), reach=8.0):
    """A reading of plain numbers: each column has this center and scale, is cut `reach` scales away from the center,
    and a gap is read as its center. units: center and scale of the target."""
    center, scale = np.asarray(center, np.float64), np.asarray(scale, np.float64)
    names = [f"x{i}" for i in range(len(center))] if columns is None else columns
    table = tuple(Column(name, "number", fill=float(middle)) for name, middle in zip(names, center, strict=True))
    shift, spread = np.full_like(center, 0.1), np.full_like(center, 0.9)
    maps = np.stack([center - reach * scale, center + reach * scale, center, scale, shift, spread])
    inputs = tuple(Input(i, "value") for i in range(len(table)))
    return Reading(table, inputs, maps, (Target(target, *units),), given=tuple(names))
