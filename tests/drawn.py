"""Random networks that the tests share."""

import torch

from netformer.networks.specs import Layout, draw_specs
from netformer.networks.stack import Networks


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
