"""Delivery: the networks written for one table, and the wide network they become."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int

from netformer.exports.population import Population
from netformer.generation.generator import NetFormer
from netformer.generation.merging import widen
from netformer.model.prompt import FREE, Prompt
from netformer.networks.stack import concatenate, constant_network
from netformer.tables.reading import CUT, read
from netformer.tasks.task import TRAIN
from netformer.tasks.view import TaskStack, Views

GROUPS = 4  # of columns, of a table with more than a network reads


def deliver(
    X: Float[np.ndarray, "rows features"],
    y: Float[np.ndarray, " rows"],
    load: Callable[[], NetFormer],
    *,
    n_samples: int,
    seed: int = 0,
    prompt: Prompt = FREE,
    refine_steps: int = 0,
    columns: Sequence[str] | None = None,
    target: str = "y",
) -> Population:
    """`n_samples` networks on all columns of a table, with a wide network.

    load: gives the model; not called where nothing can be learned (a constant target, no column that varies), which one
    network of zeros answers. prompt, refine_steps: as in `NetFormer.generate`. columns, target: names, see
    `reading.read`. `about["groups"]`: of columns the networks read a part each, 1 where each reads all.
    """
    reading, z, t = read(X, y, columns, target)
    if not (z.any() and t.any()):
        nothing = constant_network(z.shape[1])
        return Population(reading, nothing, torch.zeros(1), nothing, {"groups": 1})
    model, n_features = load(), z.shape[1]
    size = model.model.layout.max_features
    groups = column_groups(np.abs(z.T @ t), size, min(GROUPS, n_samples))
    counts = [len(part) for part in np.array_split(np.arange(n_samples), len(groups))]
    written, expected = [], []
    for number, (group, count) in enumerate(zip(groups, counts, strict=True)):
        seen = np.zeros_like(z)
        seen[:, group] = z[:, group]
        networks, estimates = model.write(
            seen,
            t,
            count,
            prompt=prompt,
            refine_steps=refine_steps,
            known=model.known(X[:, np.sort(group)], y),
            random_state=(seed + number) % 2**31,
        )
        written.append(networks)
        expected.append(estimates)
    networks = concatenate(written)
    # Networks that each read a part of the columns are no answer in the mean, only together.
    share = 1.0 if n_features > size else None
    wide = widen(networks, _as_task(np.clip(z, -CUT, CUT), t), n_samples, share)
    return Population(reading, networks, torch.cat(expected), wide, {"groups": len(groups)})


def column_groups(strength: Float[np.ndarray, " features"], size: int, count: int) -> list[Int[np.ndarray, " k"]]:
    """Columns of each group: of a narrow table one with all, else the stronger half of `size` in each, and others in
    turn, in order of strength, |correlation with y|."""
    order = np.argsort(-strength, kind="stable")
    if len(order) <= size:
        return [order]
    half = size // 2
    rest = order[half:]
    used = min(count, -(-len(rest) // (size - half)))
    return [np.concatenate([order[:half], rest[g::used][: size - half]]) for g in range(used)]


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
