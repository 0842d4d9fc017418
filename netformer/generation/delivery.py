"""Delivery: the networks written for one standardised table, and the wide network they become."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from netformer.generation.generator import NetFormer, Population
from netformer.generation.merging import widen
from netformer.networks.stack import Networks, concatenate, constant_network
from netformer.tasks.task import TRAIN
from netformer.tasks.view import CUT, TaskStack, Views

VIEWS = 4  # of a table with more columns than a network reads


def deliver(
    z: Float[np.ndarray, "rows features"],
    t: Float[np.ndarray, " rows"],
    load: Callable[[], NetFormer],
    *,
    n_samples: int,
    seed: int = 0,
    **options: Any,
) -> tuple[Population, Networks]:
    """`n_samples` networks on all columns of a table, and the stack whose mean is its wide network.

    z, t: columns and target, standardised, not cut. load: gives the model; not called where nothing can be learned (a
    constant target, no column that varies), which one network of zeros answers. options: refine_steps and
    constraints of `NetFormer.generate`.
    """
    if t.std() == 0 or not (z.std(0) > 0).any():
        nothing = constant_network(z.shape[1])
        return reader(nothing, torch.zeros(1)), nothing
    model, n_features = load(), z.shape[1]
    size = model.model.layout.max_features
    parts = views(np.abs(z.T @ t), size, min(VIEWS, n_samples))
    counts = [len(part) for part in np.array_split(np.arange(n_samples), len(parts))]
    written, expected = [], []
    for number, (columns, count) in enumerate(zip(parts, counts, strict=True)):
        seen = np.zeros_like(z)
        seen[:, columns] = z[:, columns]
        tasks, networks, estimates = model.write(seen, t, count, random_state=(seed + number) % 2**31, **options)
        written.append(tasks.views[[0] * count].fold(networks, n_features))
        expected.append(estimates)
    population = reader(concatenate(written), torch.cat(expected))
    # Networks that each read a part of the columns are no answer in the mean, only together.
    share = 1.0 if n_features > size else None
    return population, widen(population.networks, _as_task(np.clip(z, -CUT, CUT), t), n_samples, share)


def reader(networks: Networks, expected_r2: Float[Tensor, " n"]) -> Population:
    """Networks that read standardised columns."""
    edge = np.full(networks.layout.max_features, CUT)
    return Population(networks, expected_r2, -edge, edge)


def views(strength: Float[np.ndarray, " features"], size: int, count: int) -> list[Int[np.ndarray, " k"]]:
    """Columns of each view: of a narrow table one with all, else the stronger half of `size` in each, and others in
    turn, in order of strength, |correlation with y|."""
    order = np.argsort(-strength, kind="stable")
    if len(order) <= size:
        return [order]
    half = size // 2
    rest = order[half:]
    used = min(count, -(-len(rest) // (size - half)))
    return [np.concatenate([order[:half], rest[v::used][: size - half]]) for v in range(used)]


def _as_task(z: Float[np.ndarray, "rows features"], t: Float[np.ndarray, " rows"]) -> TaskStack:
    x, y = torch.from_numpy(z).float()[None], torch.from_numpy(t).float()[None]
    f = z.shape[1]
    identity = Views(
        torch.arange(f)[None],
        torch.ones(1, f),
        torch.zeros(1, f),
        torch.ones(1, f),
        torch.tensor([f]),
        torch.zeros(1),
        torch.ones(1),
    )
    return TaskStack(x, y, torch.full((1, len(t)), TRAIN), identity)
