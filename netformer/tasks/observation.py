"""Observation: what a table shows of the variables behind it, and how noise and units change its target.

A synthetic task is a function of latent columns. This layer, applied after the function, shows them the way real tables
do: warped, rounded, cut into levels, under category codes without an order, as copies and mixes of each other; and it
gives the target noise of several kinds and units that are not those of the function. `TaskPrior` holds the share of
each ingredient; an ingredient whose share is 0 draws no random number, so that it can be ablated alone.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from netformer.options import TaskPrior


def uniform(low: float, high: float, *shape: int, g: Generator) -> Tensor:
    """Uniform numbers in [low, high)."""
    return low + (high - low) * torch.rand(*shape, generator=g)


def log_uniform(low: float, high: float, *shape: int, g: Generator) -> Tensor:
    """Numbers in [low, high) whose logarithm is uniform."""
    return torch.exp(uniform(math.log(low), math.log(high), *shape, g=g))


def normal(*shape: int, g: Generator) -> Tensor:
    """Numbers of mean 0 and deviation 1, normally distributed."""
    return torch.randn(*shape, generator=g)


def standardize(v: Tensor) -> Tensor:
    """Zero mean and unit deviation along the rows (dimension 1)."""
    return (v - v.mean(1, keepdim=True)) / v.std(1, keepdim=True).clamp(min=1e-6)


def _choose(options: list[Tensor], kind: Int[Tensor, "n 1 k"]) -> Tensor:
    """Of several versions of the same columns, for each column the one of its kind."""
    stacked = torch.stack(options)
    return stacked.gather(0, kind.expand(1, *stacked.shape[1:])).squeeze(0)


def _derive(x: Float[Tensor, "n rows features"], share: float, used: Tensor, g: Generator) -> Tensor:
    """Some columns become a noisy copy, a square, or a mix of two others of the same task."""
    n, rows, features = x.shape
    first, second = (torch.multinomial(used.float(), features, True, generator=g) for _ in range(2))
    a, b = (x.gather(2, at.unsqueeze(1).expand_as(x)) for at in (first, second))
    blur = log_uniform(0.03, 1.0, n, 1, features, g=g) * normal(n, rows, features, g=g)
    kind = torch.randint(3, (n, 1, features), generator=g)
    shift = uniform(-1.5, 1.5, n, 1, features, g=g)
    made = _choose([a + blur, (a + shift).square(), a + normal(n, 1, features, g=g) * b], kind)
    return torch.where(torch.rand(n, 1, features, generator=g) < share, standardize(made), x)


def _warp(x: Float[Tensor, "n rows features"], share: float, g: Generator) -> Tensor:
    """Some columns go through a monotone map: exponential, signed power, Kumaraswamy of the ranks, a floor."""
    n, _, features = x.shape
    shape = (n, 1, features)
    z = standardize(x).clamp(-6, 6)
    p = torch.special.ndtr(z).clamp(1e-6, 1 - 1e-6)
    a, b = log_uniform(0.2, 5.0, *shape, g=g), log_uniform(0.2, 5.0, *shape, g=g)
    options = [
        torch.exp(uniform(0.4, 1.5, *shape, g=g) * z),
        z.sign() * z.abs() ** log_uniform(0.4, 3.0, *shape, g=g),
        1 - (1 - p**a) ** b,
        torch.relu(z - uniform(-1.0, 0.7, *shape, g=g)),
    ]
    kind = torch.multinomial(torch.tensor([0.4, 0.25, 0.15, 0.2]), n * features, True, generator=g).view(shape)
    return torch.where(torch.rand(*shape, generator=g) < share, _choose(options, kind), x)


def _levels(x: Float[Tensor, "n rows features"], share: float, g: Generator) -> Tensor:
    """Some columns keep few values: rounded, binary, or category codes in no order."""
    n, _, features = x.shape
    shape = (n, 1, features)
    z = standardize(x).clamp(-6, 6)
    count = log_uniform(3.0, 12.0, *shape, g=g).floor()
    level = (torch.special.ndtr(z) * count).floor().minimum(count - 1)
    code = torch.rand(n, 12, features, generator=g).argsort(1).argsort(1).to(x.dtype)
    options = [
        (z * log_uniform(0.6, 4.0, *shape, g=g)).round(),
        (z > uniform(-1.3, 1.3, *shape, g=g)).to(x.dtype),
        code.gather(1, level.long()),
    ]
    kind = torch.multinomial(torch.tensor([0.35, 0.45, 0.2]), n * features, True, generator=g).view(shape)
    return torch.where(torch.rand(*shape, generator=g) < share, _choose(options, kind), x)


def observe(
    x: Float[Tensor, "n rows features"], used: Tensor, prior: TaskPrior, g: Generator
) -> Float[Tensor, "n rows features"]:
    """The columns as a table shows them. used: (n, features), the columns a task has."""
    if prior.derived_share > 0:
        x = _derive(x, prior.derived_share, used, g)
    if prior.warp_share > 0:
        x = _warp(x, prior.warp_share, g)
    if prior.level_share > 0:
        x = _levels(x, prior.level_share, g)
    return x


def add_noise(
    clean: Float[Tensor, "n rows"], x: Float[Tensor, "n rows features"], prior: TaskPrior, g: Generator
) -> Float[Tensor, "n rows"]:
    """The standardised clean target with noise."""
    n, rows = clean.shape
    scale = log_uniform(prior.noise_low, prior.noise_high, n, 1, g=g)
    noise = normal(n, rows, g=g)
    if prior.weak_share > 0:
        ceiling = uniform(0.02, 0.95, n, 1, g=g)
        scale = torch.where(torch.rand(n, 1, generator=g) < prior.weak_share, (1 / ceiling - 1).sqrt(), scale)
    if prior.noise_share > 0:
        chi = normal(4, n, rows, g=g).square().mean(0).clamp(min=0.05).sqrt()
        swing = torch.exp(uniform(-0.8, 0.8, n, 1, g=g) * standardize(x[:, :, 0]).clamp(-3, 3))
        kind = torch.randint(2, (n, 1), generator=g)
        other = noise * torch.where(kind == 0, swing, 1 / chi)
        other = other / other.square().mean(1, keepdim=True).sqrt().clamp(min=1e-6)
        noise = torch.where(torch.rand(n, 1, generator=g) < prior.noise_share, other, noise)
    return clean + scale * noise


def transform_target(
    y: Float[Tensor, "n rows"], share: float, g: Generator
) -> tuple[Float[Tensor, "n rows"], Int[Tensor, " n"]]:
    """The target in other units, and for each task the kind of its transform (-1: none).

    0 exponential, 1 signed power, 2 clipped at a bound, 3 rounded to few levels, 4 cut in two.
    """
    n = len(y)
    z = standardize(y).clamp(-6, 6)
    cut = uniform(-1.0, 1.0, n, 1, g=g)
    options = [
        torch.exp(uniform(0.3, 1.2, n, 1, g=g) * z),
        z.sign() * z.abs() ** log_uniform(0.5, 2.5, n, 1, g=g),
        torch.maximum(z, cut),
        (z * log_uniform(0.7, 3.0, n, 1, g=g)).round(),
        (z > cut).to(y.dtype),
    ]
    flip = torch.where(torch.rand(n, 1, generator=g) < 0.5, -1.0, 1.0)
    kind = torch.multinomial(torch.tensor([0.4, 0.2, 0.15, 0.1, 0.15]), n, True, generator=g)
    made = flip * torch.stack(options).gather(0, kind.view(1, n, 1).expand(1, *y.shape)).squeeze(0)
    changed = torch.rand(n, generator=g) < share
    return torch.where(changed.unsqueeze(1), standardize(made), y), torch.where(changed, kind, -1)
