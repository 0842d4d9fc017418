"""Latent: the Gaussian that encoder and prior speak of."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Gaussian:
    """A diagonal Gaussian over latents."""

    mu: Float[Tensor, "n z"]
    logvar: Float[Tensor, "n z"]

    def sample(self, eps: Float[Tensor, "n z"]) -> Float[Tensor, "n z"]:
        return self.mu + torch.exp(0.5 * self.logvar) * eps

    def kl(self, other: Gaussian) -> Float[Tensor, "n z"]:
        """KL(self || other) of each latent number; the sum over them is that of the Gaussians."""
        ratio = torch.exp(self.logvar - other.logvar)
        shift = (self.mu - other.mu).square() * torch.exp(-other.logvar)
        return 0.5 * (ratio + shift - 1 + other.logvar - self.logvar)

    def __getitem__(self, index) -> Gaussian:
        return Gaussian(self.mu[index], self.logvar[index])
