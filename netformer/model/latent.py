"""Latent: a Gaussian, from a network and its condition (`Encoder`) or from the condition alone (`LatentPrior`)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from netformer.model.arrays import LOGVAR_HIGH, LOGVAR_LOW
from netformer.model.layers import mlp, squash, transformer
from netformer.networks.specs import N_TYPES, Layout, Specs, patch_numbers, patch_types

POOLED = 16  # numbers per patch that the latents of the whole network are read from
CUT_WEIGHT, SQUASH_GAIN = 8.0, 2.0  # a weight w is read as clamp(w, -8, 8) and asinh(2 w)
LOGVAR_START = -4.0  # added to the log-variance: less noise than signal from the first step on


@dataclass(frozen=True, eq=False)
class Gaussian:
    """A diagonal Gaussian over latents: means and log-variances."""

    mu: Float[Tensor, "n z"]
    logvar: Float[Tensor, "n z"]

    def sample(self, eps: Float[Tensor, "n z"]) -> Float[Tensor, "n z"]:
        """The latent that normal noise `eps` stands for; 0 is the mean."""
        return self.mu + torch.exp(0.5 * self.logvar) * eps

    def kl(self, other: Gaussian) -> Float[Tensor, "n z"]:
        """KL(self || other) of each latent number; the sum over them is that of the Gaussians."""
        ratio = torch.exp(self.logvar - other.logvar)
        shift = (self.mu - other.mu).square() * torch.exp(-other.logvar)
        return 0.5 * (ratio + shift - 1 + other.logvar - self.logvar)

    def __getitem__(self, index) -> Gaussian:
        return Gaussian(self.mu[index], self.logvar[index])


def bounded(logvar: Tensor) -> Tensor:
    """Log-variances between `LOGVAR_LOW` and `LOGVAR_HIGH`."""
    return torch.clamp(logvar, LOGVAR_LOW, LOGVAR_HIGH)


class Encoder(nn.Module):
    """q(z | network, condition). Shape letters: see `vae`.

    Each patch is the sum of what its edges, type, number and position say; after a transformer, the latents of a vertex
    are read from its own patch (and from its edges directly), those of the whole network from all patches together.
    """

    def __init__(
        self, layout: Layout, d_global: int, d_vertex: int, d_condition: int, *, d_model: int, n_heads: int, depth: int
    ) -> None:
        super().__init__()
        patches, n_slots, d = layout.n_patches, layout.n_slots, d_model
        self.position = nn.Parameter(0.02 * torch.randn(patches, d))
        self.number_embedding = nn.Embedding(layout.n_numbers, d)
        self.type_embedding = nn.Embedding(N_TYPES, d)
        self.edges_in = nn.Linear(3 * n_slots, d)
        self.blocks = transformer(d, n_heads, depth)
        self.pooled = nn.Linear(d + d_condition, POOLED)
        self.posterior_global = nn.Linear(POOLED * patches, 2 * d_global)
        self.posterior = nn.Linear(d + d_condition, 2 * d_vertex)
        self.direct = nn.Linear(3 * n_slots, d_vertex, bias=False)

    def forward(self, w: Float[Tensor, "n patches slots"], specs: Specs, c: Float[Tensor, "n two_c"]) -> Gaussian:
        """w: weights in units of the zoo's (`TransformerVAE.scale`)."""
        squashed = squash(SQUASH_GAIN * w)
        edges = torch.cat([torch.clamp(w, -CUT_WEIGHT, CUT_WEIGHT), squashed, specs.mask.to(w.dtype)], 2)
        h = (
            self.edges_in(edges)
            + self.type_embedding(patch_types(specs))
            + self.number_embedding(patch_numbers(specs))
            + self.position
        )
        h = self.blocks(h)
        h = torch.cat([h, c.unsqueeze(1).expand(-1, h.shape[1], -1)], 2)
        vertices = self.posterior(h) + functional.pad(self.direct(edges), (0, self.direct.out_features))
        parts = [self.posterior_global(self.pooled(h).flatten(1)), *vertices.unbind(1)]
        mu, logvar = (torch.cat(half, 1).float() for half in zip(*(part.chunk(2, 1) for part in parts), strict=True))
        return Gaussian(mu, bounded(logvar + LOGVAR_START))


class LatentPrior(nn.Module):
    """p(z | condition): an MLP of the condition, or the standard normal where it is not learned."""

    def __init__(self, d_latent: int, d_condition: int, *, d_hidden: int, learned: bool) -> None:
        super().__init__()
        self.d_latent = d_latent
        self.layers = mlp(d_condition, d_hidden, 2 * d_latent) if learned else None

    def forward(self, c: Float[Tensor, "n two_c"]) -> Gaussian:
        """The prior of each condition."""
        if self.layers is None:
            return Gaussian(*torch.zeros(2, len(c), self.d_latent, device=c.device))
        mu, logvar = self.layers(c).float().chunk(2, 1)
        return Gaussian(mu, bounded(logvar))
