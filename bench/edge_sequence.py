"""The plain transformer on tokens, one position per edge: what the grouping by vertex is compared with."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from netformer.networks.specs import ACTIVATIONS
from netformer.networks.stack import Networks
from netformer.networks.token_tables import tokenize_networks


class EdgeSequence(nn.Module):
    """The plain encoder-decoder on stored tokens: one position per edge, teacher-forced; widths and depths of the
    default model. An edge is its parent, vertex and type (embeddings) and its weight; the condition is concatenated to
    every encoded token, and one latent of the same size as ours is pooled from them."""

    def __init__(self, n_numbers: int, d_model: int, d_condition: int, d_latent: int, n_heads: int = 4) -> None:
        super().__init__()
        kinds = len(ACTIVATIONS)
        self.parent, self.vertex = nn.Embedding(n_numbers, d_model), nn.Embedding(n_numbers, d_model)
        self.kind, self.weight = nn.Embedding(kinds, d_model), nn.Linear(1, d_model)
        options: dict[str, Any] = {"dropout": 0.0, "activation": "gelu", "batch_first": True, "norm_first": True}
        layer = nn.TransformerEncoderLayer(d_model, n_heads, 2 * d_model, **options)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.posterior = nn.Linear(d_model + d_condition, 2 * d_latent)
        self.latent = nn.Linear(d_latent + d_condition, d_model)
        self.start = nn.Parameter(torch.zeros(d_model))
        self.decoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(d_model, n_heads, 2 * d_model, **options), 1, enable_nested_tensor=False
        )
        self.heads = nn.Linear(d_model, 2 * n_numbers + kinds + 1)
        self.sizes = (n_numbers, n_numbers, kinds, 1)

    def forward(
        self,
        parent: Int[Tensor, "n edges"],
        vertex: Int[Tensor, "n edges"],
        kind: Int[Tensor, "n edges"],
        weight: Float[Tensor, "n edges"],
        exists: Bool[Tensor, "n edges"],
        c: Float[Tensor, "n condition"],
        eps: Float[Tensor, "n z"],
    ) -> Float[Tensor, ""]:
        """Cross-entropies and squared error of every edge from those before it, and the KL of the latent."""
        h = self.parent(parent) + self.vertex(vertex) + self.kind(kind) + self.weight(weight.unsqueeze(2))
        encoded = self.encoder(h, src_key_padding_mask=~exists)
        told = torch.cat([encoded, c.unsqueeze(1).expand(-1, h.shape[1], -1)], 2)
        share = exists.unsqueeze(2) / exists.sum(1).view(-1, 1, 1)
        mu, logvar = (self.posterior(told) * share).sum(1).float().chunk(2, 1)
        z = mu + eps * torch.exp(0.5 * logvar)
        before = torch.cat([self.start.expand(len(h), 1, -1), h[:, :-1]], 1)
        whole = self.latent(torch.cat([z, c], 1)).unsqueeze(1)
        causal = torch.ones(h.shape[1], h.shape[1], dtype=torch.bool).triu(1)
        decoded = self.decoder(before + whole, mask=causal, is_causal=True)[exists]
        parents, vertices, kinds, weights = self.heads(decoded).float().split(self.sizes, 1)
        kl = -0.5 * (1 + logvar - mu.square() - logvar.exp()).sum(1).mean()
        return (
            functional.cross_entropy(parents, parent[exists])
            + functional.cross_entropy(vertices, vertex[exists])
            + functional.cross_entropy(kinds, kind[exists])
            + functional.mse_loss(weights.squeeze(1), weight[exists])
            + 1e-4 * kl
        )


def edge_batch(networks: Networks) -> tuple[Tensor, ...]:
    """parent, vertex, kind, weight and existence of every edge, padded to the longest network."""
    table = tokenize_networks(networks)
    lengths = torch.tensor(table["vertex"].combine_chunks().value_lengths().to_numpy())
    exists = torch.arange(int(lengths.max())) < lengths.unsqueeze(1)
    columns = []
    for name in ("parent", "vertex", "type", "weight"):
        values = torch.tensor(table[name].combine_chunks().flatten().to_numpy())
        padded = torch.zeros(exists.shape, dtype=values.dtype if name == "weight" else torch.int64)
        padded[exists] = values.to(padded.dtype)
        columns.append(padded)
    return (*columns, exists)
