"""Layers: what the modules of the model are built of."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers of the given widths, the input's first, with GELU between them."""
    layers: list[nn.Module] = []
    for d_in, d_out in pairwise(widths):
        layers += [nn.Linear(d_in, d_out), nn.GELU()]
    return nn.Sequential(*layers[:-1])


def squash(x: Tensor) -> Tensor:
    """asinh(x) from functions that torch has in vectors: nine times as fast as its own."""
    size = x.abs()
    return torch.copysign(torch.log1p(size + size.square() / (1 + torch.sqrt(size.square() + 1))), x)


class Norm(nn.LayerNorm):
    """LayerNorm with the gain and the bias outside of the kernel, which sums their gradients thread by thread."""

    def forward(self, input: Tensor) -> Tensor:
        """Zero mean and unit variance along the last dimension, then gain and bias."""
        return functional.layer_norm(input, self.normalized_shape, None, None, self.eps) * self.weight + self.bias


def transformer(d: int, n_heads: int, depth: int) -> nn.TransformerEncoder:
    """`depth` pre-norm blocks of width d: attention among all patches, then an MLP of twice the width."""
    layer = nn.TransformerEncoderLayer(
        d, n_heads, 2 * d, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    layer.norm1, layer.norm2 = Norm(d), Norm(d)
    return nn.TransformerEncoder(layer, depth, norm=Norm(d), enable_nested_tensor=False)
