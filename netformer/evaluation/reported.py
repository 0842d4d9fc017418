"""Reported: every number of the report, on held-out tasks; networks are decoded without a look at the original.

Every method is fitted on the train rows of a task. What is selected is selected on its valid rows. Test rows are scored
once; an R2 below -1 counts as -1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from netformer.errors import InputError
from netformer.evaluation import baselines, metrics
from netformer.evaluation.scored import Samples, Scored
from netformer.model.grammar import read_structure
from netformer.model.vae import TransformerVAE
from netformer.networks.specs import draw_specs
from netformer.networks.stack import Networks, concatenate
from netformer.tasks.scores import r2, scores
from netformer.tasks.task import TEST, VALID
from netformer.tasks.view import TaskStack
from netformer.zoo.build import initialize, train_networks

WIDE_CHUNK = 16  # tasks together under some hundred random units: a gigabyte


def median_and_iqr(name: str, values: Tensor, middle: str = "median") -> dict[str, float]:
    """Median (or mean) and interquartile range of one number per network; what is not finite is left out."""
    finite = values[torch.isfinite(values)].double().numpy()
    low, high = np.percentile(finite, [25, 75])
    return {name: float(getattr(np, middle)(finite)), f"{name}_iqr": float(high - low)}


def baseline_scores(
    tasks: TaskStack,
    singles: Networks,
    zoo: Networks,
    wide_units: Int[Tensor, " t"],
    *,
    spec: dict[str, Any],
    optimizer: dict[str, Any],
    scratch_networks: int,
    seed: int,
    workers: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[dict[str, Float[np.ndarray, " t"]], Int[Tensor, " t"]]:
    """Test R2 of every baseline on every task; and for each task the network of `zoo` that retrieval chose.

    singles: the delivered network of each task; `scratch` trains its spec, `random_ridge_head` has its size. zoo: all
    training networks, for retrieval and average. wide_units: hidden units of each task's wide network, and of
    `random_wide_ridge_head`.
    """
    test, t = tasks.rows == TEST, len(tasks)
    inputs = tasks.n_features.clamp(min=1)
    units = ((singles.specs.n_params - 1) / (inputs + 2)).round().long().clamp(min=1)
    written: dict[str, Tensor] = {}
    written["constant"] = baselines.constant(tasks)
    written["ridge"] = baselines.ridge(tasks)
    written["random_ridge_head"] = baselines.random_head(tasks, units, seed=seed)
    written["random128_ridge_head"] = baselines.random_head(tasks, 128, seed=seed)
    written["random_wide_ridge_head"] = baselines.random_head(tasks, wide_units, seed=seed, chunk=WIDE_CHUNK)
    progress(1, 4)
    written["mlp"] = baselines.mlp_lbfgs(tasks, workers=workers, seed=seed)
    progress(2, 4)
    retrieved, written["retrieval"] = baselines.retrieval(tasks, zoo, workers=workers)
    written["zoo_average"] = baselines.zoo_average(tasks, zoo)
    progress(3, 4)
    result = {name: r2(tasks.y, predicted, test).numpy() for name, predicted in written.items()}

    own = torch.arange(t)
    scratch = train_networks(initialize(singles.specs, own + seed), tasks, own, seed=seed, workers=workers, **optimizer)
    result["scratch"] = scores(scratch, tasks, own)[:, TEST].numpy()
    g = torch.Generator().manual_seed(seed)
    index = own.repeat_interleave(scratch_networks)
    specs = draw_specs(inputs[index], layout=singles.layout, generator=g, **spec)
    initial = initialize(specs, torch.arange(len(index)) + seed)
    trained = train_networks(initial, tasks, index, seed=seed, workers=workers, **optimizer)
    all_r2 = scores(trained, tasks, index).view(t, scratch_networks, 3)
    chosen = all_r2[:, :, VALID].argmax(1, keepdim=True)
    result["scratch_best"] = all_r2[:, :, TEST].gather(1, chosen).squeeze(1).numpy()
    progress(4, 4)
    return result, retrieved


def zoo_metrics(zoo: Scored, tasks: TaskStack, *, mlp_tasks: int, workers: int, seed: int) -> dict[str, float]:
    """Every `zoo.*` key: kept networks, ridge on the same tasks and, on the first `mlp_tasks` of them, MLPRegressor
    with the specs it can express beside the zoo's own networks of these specs (left out when there are none)."""
    some = torch.unique(zoo.task_index)[:mlp_tasks]
    few = torch.isin(zoo.task_index, some).nonzero().squeeze(1)
    mlp_r2, fitted = baselines.mlp_same_spec(zoo.networks[few], tasks, zoo.task_index[few], workers=workers, seed=seed)
    ridge_r2 = r2(tasks.y, baselines.ridge(tasks), tasks.rows == TEST)[zoo.task_index]
    test = zoo.r2[:, TEST]
    rows = {"median_test_r2": test, "ridge_r2": ridge_r2}
    if len(fitted):
        rows |= {"mlp_lbfgs_r2": mlp_r2, "same_networks_r2": test[few[fitted]]}
    result = {"n_networks": float(len(test)), "n_tasks": float(len(torch.unique(zoo.task_index)))}
    for name, values in rows.items():
        result |= median_and_iqr(name, values)
    return result


def posterior_means(
    model: TransformerVAE,
    networks: Networks,
    task_index: Int[Tensor, " n"],
    tasks: TaskStack,
    metafeatures: Float[Tensor, "t k"],
    chunk: int = 512,
) -> tuple[Float[Tensor, "n z"], Float[Tensor, "n two_d"]]:
    """The latent of each network, mean of q(z | network, condition), and the condition of its task."""
    latents, conditions = [], []
    with torch.no_grad():
        for start in range(0, len(networks), chunk):
            part, at = networks[slice(start, start + chunk)], task_index[start : start + chunk]
            used, local = torch.unique(at, return_inverse=True)
            conditions.append(model.embed(len(used), tasks[used], metafeatures[used])[local])
            latents.append(model.encode(part, conditions[-1]).mu)
    return torch.cat(latents), torch.cat(conditions)


def reconstruct(
    model: TransformerVAE,
    latents: Float[Tensor, "n z"],
    conditions: Float[Tensor, "n two_d"],
    n_inputs: Int[Tensor, " n"],
    chunk: int = 512,
) -> Networks:
    """Networks decoded free-running from latents, `posterior_means`: structure from the heads, then the weights."""
    decoded = []
    with torch.no_grad():
        for z, c, inputs in zip(latents.split(chunk), conditions.split(chunk), n_inputs.split(chunk), strict=True):
            decoded.append(model.write(z, c, read_structure(model.structure_logits(z, c), inputs, model.layout)))
    return concatenate(decoded)


def same_shape_partner(networks: Networks) -> Int[Tensor, " k"]:
    """For each network another one of the same widths (the next in stored order), or itself where it is alone."""
    partner = torch.arange(len(networks))
    _, group = torch.unique(networks.specs.widths, dim=0, return_inverse=True)
    for code in range(int(group.max()) + 1):
        members = (group == code).nonzero().squeeze(1)
        partner[members] = torch.roll(members, 1)
    return partner


def reconstruction_metrics(
    original: Networks,
    decoded: Networks,
    tasks: TaskStack,
    task_index: Int[Tensor, " n"],
    reference: Networks,
) -> dict[str, float]:
    """Every `reconstruction.*` key; `reference`: training networks, whose layer means are the null of `weight_r2`.

    Where no two networks share their widths, the null of the cosine is another network of any shape.
    """
    partner = same_shape_partner(original)
    paired = partner != torch.arange(len(original))
    shuffled = original[torch.roll(torch.arange(len(original)), len(original) // 2)]
    other = original[partner] if bool(paired.any()) else shuffled
    x = tasks.x[task_index]
    valid, test = tasks.rows[task_index] == VALID, tasks.rows[task_index] == TEST
    accuracy, f1 = metrics.edge_scores(original, decoded)
    similarity = metrics.penultimate_cosine(original, decoded, x, valid)
    null = metrics.penultimate_cosine(original, other, x, valid)[paired if bool(paired.any()) else slice(None)].mean()
    weight = metrics.weight_r2(original, decoded, metrics.layer_mean(reference))
    functional = metrics.functional_r2(original, decoded, x, test)
    return {
        **median_and_iqr("edge_accuracy", accuracy, "mean"),
        **median_and_iqr("edge_f1", f1, "mean"),
        "edge_f1_chance": float(metrics.edge_scores(original, shuffled)[1].mean()),
        **median_and_iqr("cosine_similarity", similarity, "mean"),
        "cosine_distance": float(1 - similarity.mean()),
        "cosine_null": float(null),
        "cosine_skill": float((similarity.mean() - null) / (1 - null)),
        **median_and_iqr("weight_cosine", metrics.weight_cosine(original, decoded), "mean"),
        **median_and_iqr("weight_r2", weight),
        "weight_r2_n_failed": float((~torch.isfinite(weight)).sum()),
        **median_and_iqr("functional_r2", functional),
        "functional_r2_n_failed": float((functional <= -1).sum()),
        "n_networks": float(len(original)),
        "n_tasks": float(len(torch.unique(task_index))),
    }


def sampling_metrics(
    samples: Samples, zoo: Scored, zoo_tasks: TaskStack, limit: int = 1000, seed: int = 0
) -> dict[str, float]:
    """Every `sampling.*` key that needs no distance to training networks.

    `limit` random samples (all tasks and runs) and `limit` random networks of the zoo are compared. The first sample of
    a task, the mode of the prior, is the same in every run on it and counts once.
    """
    g = torch.Generator().manual_seed(seed)
    position = torch.arange(len(samples.networks))
    once = position[torch.isin(position, samples.first_at) | (position % samples.shape[2] != 0)]
    picked = once[torch.randperm(len(once), generator=g)[:limit]].sort().values
    some, at = samples.networks[picked], samples.task_index[picked]
    drawn = zoo.networks[torch.randperm(len(zoo.networks), generator=g)[:limit]]
    valid = metrics.validity(some, samples.stack.x[at], samples.stack.rows[at] >= 0)
    ours = _disagreement(samples.networks, samples.task_index, samples.stack)
    theirs = _disagreement(zoo.networks, zoo.task_index, zoo_tasks)
    return {
        "validity": float(valid.double().mean()),
        "uniqueness": metrics.uniqueness(some),
        "distinct_specs": metrics.distinct_specs(some.specs) / max(1, metrics.distinct_specs(drawn.specs)),
        "functional_diversity": ours / max(theirs, 1e-12),
        "n_samples": float(len(some)),
        "n_tasks": float(len(torch.unique(at))),
        "n_failed": float((~valid).sum()),
    }


def _disagreement(networks: Networks, index: Int[Tensor, " n"], tasks: TaskStack) -> float:
    """Median over the first 50 tasks of the functional diversity of the task's first 16 networks."""
    values = []
    for task in torch.unique(index)[:50].tolist():
        members = (index == task).nonzero().squeeze(1)[:16]
        if len(members) > 1:
            keep = tasks.rows[task : task + 1] == TEST
            values.append(metrics.functional_diversity(networks[members], tasks.x[task : task + 1], keep))
    if not values:
        raise InputError("functional diversity needs a task with at least 2 networks; raise sample.n_samples")
    return float(np.median(values))
