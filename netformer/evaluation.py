"""Evaluation: every reported number, on held-out tasks, free-running (DESIGN: what counts as a result).

Conditions and baselines fit on train rows, choices are made on valid rows, test rows only report. R2 is floored at -1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from netformer import baselines, metrics
from netformer.grammar import read_structure
from netformer.model import TransformerVAE
from netformer.networks import Networks, concatenate
from netformer.specs import draw_specs
from netformer.tasks import TEST, VALID, Task, TaskStack, r2
from netformer.zoo import initialize, scores, train_networks

SMALL_ROWS = 300


def sets_of(tasks: Sequence[Task]) -> dict[str, list[int]]:
    """The evaluation sets: positions in `tasks` by set name; empty sets are left out."""
    sets: dict[str, list[int]] = {name: [] for name in ("heldout_tasks", "heldout_family", "real_tables")}
    for index, task in enumerate(tasks):
        if task.source == "real":
            sets["real_tables"].append(index)
        elif task.family.startswith("friedman"):
            sets["heldout_family"].append(index)
        else:
            sets["heldout_tasks"].append(index)
    sets["real_tables_small"] = [i for i in sets["real_tables"] if len(tasks[i].y) <= SMALL_ROWS]
    return {name: indices for name, indices in sets.items() if indices}


def summarize(name: str, values: Float[np.ndarray, " n"]) -> dict[str, float]:
    """Median, interquartile range and count."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return {name: float(middle), f"{name}_iqr": float(high - low), f"{name}_n_tasks": float(len(values))}


def arm_scores(
    r2s: Float[Tensor, "seeds t samples 3"], predictions: Float[Tensor, "seeds t rows"], tasks: TaskStack
) -> dict[str, Float[np.ndarray, " t"]]:
    """Rows of our own: one sample, best of all by valid rows, and the mean prediction; means over sampling seeds."""
    chosen = r2s[..., VALID].argmax(2, keepdim=True)
    best = r2s[..., TEST].gather(2, chosen).squeeze(2)
    average = torch.stack([r2(tasks.y, p, tasks.rows == TEST) for p in predictions])
    n = r2s.shape[2]
    return {
        "single": r2s[:, :, 0, TEST].mean(0).numpy(),
        f"best_of_{n}": best.mean(0).numpy(),
        f"average_{n}": average.mean(0).numpy(),
    }


def baseline_scores(
    tasks: TaskStack,
    singles: Networks,
    zoo: Networks,
    *,
    spec: dict[str, Any],
    optimizer: dict[str, Any],
    scratch_networks: int,
    seed: int,
    workers: int,
    progress: Callable[[str], None] = lambda name: None,
) -> dict[str, Float[np.ndarray, " t"]]:
    """Test R2 of every baseline on every task.

    singles: the delivered network of each task; `scratch` trains its spec, `random_ridge_head` has its size. zoo: all
    training networks, for retrieval and average.
    """
    test, t = tasks.rows == TEST, len(tasks)
    inputs = tasks.n_features.clamp(min=1)
    units = ((singles.specs.n_params - 1) / (inputs + 2)).round().long().clamp(min=1)
    written: dict[str, Tensor] = {}
    written["constant"] = baselines.constant(tasks)
    written["ridge"] = baselines.ridge(tasks)
    written["random_ridge_head"] = baselines.random_head(tasks, units, seed=seed)
    written["random128_ridge_head"] = baselines.random_head(tasks, 128, seed=seed)
    progress("linear")
    written["mlp"] = baselines.mlp_lbfgs(tasks, workers=workers, seed=seed)
    progress("mlp")
    written["retrieval"] = baselines.retrieval(tasks, zoo)[1]
    written["zoo_average"] = baselines.zoo_average(tasks, zoo)
    progress("retrieval")
    result = {name: r2(tasks.y, predicted, test).numpy() for name, predicted in written.items()}

    own = torch.arange(t)
    scratch = train_networks(initialize(singles.specs, own + seed), tasks, own, seed=seed, **optimizer)
    result["scratch"] = scores(scratch, tasks, own)[:, TEST].numpy()
    g = torch.Generator().manual_seed(seed)
    index = own.repeat_interleave(scratch_networks)
    specs = draw_specs(inputs[index], layout=singles.layout, generator=g, **spec)
    trained = train_networks(initialize(specs, torch.arange(len(index)) + seed), tasks, index, seed=seed, **optimizer)
    all_r2 = scores(trained, tasks, index).view(t, scratch_networks, 3)
    chosen = all_r2[:, :, VALID].argmax(1, keepdim=True)
    result["scratch_best"] = all_r2[:, :, TEST].gather(1, chosen).squeeze(1).numpy()
    progress("scratch")
    return result


def reconstruct(
    model: TransformerVAE,
    networks: Networks,
    task_index: Int[Tensor, " n"],
    tasks: TaskStack,
    metafeatures: Float[Tensor, "t k"],
    chunk: int = 512,
) -> Networks:
    """Networks decoded free-running from the posterior mean: structure from the heads, then the weights."""
    decoded = []
    with torch.no_grad():
        for start in range(0, len(networks), chunk):
            part, at = networks[slice(start, start + chunk)], task_index[start : start + chunk]
            used, local = torch.unique(at, return_inverse=True)
            c = model.embed(len(used), tasks[used], metafeatures[used])[local]
            z = model.encode(part, c).mu
            read = read_structure(model.structure_logits(z, c), part.specs.n_inputs, model.layout)
            decoded.append(model.write(z, c, read))
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
    """Every `reconstruction.*` key; `reference`: training networks, whose layer means are the null of `weight_r2`."""
    partner = same_shape_partner(original)
    paired = partner != torch.arange(len(original))
    other, x = original[partner], tasks.x[task_index]
    valid, test = tasks.rows[task_index] == VALID, tasks.rows[task_index] == TEST
    accuracy, f1 = metrics.edge_scores(original, decoded)
    shuffled = original[torch.roll(torch.arange(len(original)), len(original) // 2)]
    similarity = metrics.penultimate_cosine(original, decoded, x, valid).mean()
    null = metrics.penultimate_cosine(original, other, x, valid)[paired].mean()
    weight = metrics.weight_r2(original, decoded, metrics.layer_mean(reference))
    return {
        "edge_accuracy": float(accuracy.mean()),
        "edge_f1": float(f1.mean()),
        "edge_f1_chance": float(metrics.edge_scores(original, shuffled)[1].mean()),
        "cosine_similarity": float(similarity),
        "cosine_distance": float(1 - similarity),
        "cosine_null": float(null),
        "cosine_skill": float((similarity - null) / (1 - null)),
        "weight_cosine": float(metrics.weight_cosine(original, decoded).mean()),
        "weight_r2": float(weight.nanmedian()),
        "functional_r2": float(metrics.functional_r2(original, decoded, x, test).median()),
        "n_networks": float(len(original)),
    }


def sampling_metrics(
    samples: Networks,
    task_index: Int[Tensor, " n"],
    tasks: TaskStack,
    zoo: Networks,
    zoo_task: Int[Tensor, " m"],
    zoo_tasks: TaskStack,
    limit: int = 1000,
) -> dict[str, float]:
    """Every `sampling.*` key that needs no distance to training networks; the first `limit` samples and a random
    `limit` of the zoo's networks are compared."""
    first = samples[slice(0, limit)]
    at = task_index[:limit]
    valid = metrics.validity(first, tasks.x[at], tasks.rows[at] >= 0)
    g = torch.Generator().manual_seed(0)
    drawn = zoo[torch.randperm(len(zoo), generator=g)[:limit]]

    def spread(networks: Networks, index: Tensor, stack: TaskStack) -> float:
        values = []
        for task in torch.unique(index)[:50].tolist():
            members = (index == task).nonzero().squeeze(1)[:16]
            if len(members) > 1:
                keep = stack.rows[task : task + 1] == TEST
                values.append(metrics.functional_diversity(networks[members], stack.x[task : task + 1], keep))
        return float(np.median(values))

    ours, theirs = spread(samples, task_index, tasks), spread(zoo, zoo_task, zoo_tasks)
    specs = metrics.distinct_specs(first.specs) / max(1, metrics.distinct_specs(drawn.specs))
    return {
        "validity": float(valid.float().mean()),
        "uniqueness": metrics.uniqueness(first),
        "distinct_specs": specs,
        "functional_diversity": ours / theirs,
    }


def zero_shot_metrics(per_task: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Median over tasks of each row, a set at a time, from the long table (set, row, test_r2)."""
    result: dict[str, dict[str, float]] = {}
    for (name, row), group in per_task.groupby(["set", "row"], sort=True):
        values = group["test_r2"].to_numpy()
        result.setdefault(str(name), {}).update(summarize(str(row), values[np.isfinite(values)]))
    return result
