"""Ablation: what each part of the method is worth, one part left out at a time at equal budget."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from netformer.evaluation.scored import Scored
from netformer.evaluation.scores import posterior_means, reconstruct, reconstruction_metrics
from netformer.generation.merging import widen
from netformer.generation.sampling import sample_networks
from netformer.model.vae import TransformerVAE
from netformer.tasks.scores import r2, scores
from netformer.tasks.task import TEST, Task
from netformer.tasks.view import stack_tasks

ARMS: dict[str, dict[str, object]] = {
    "full": {},
    "condition: task alone": {"model.condition": "task"},
    "condition: meta-features alone": {"model.condition": "metafeatures"},
    "condition: none": {"model.condition": "none"},
    "networks not canonical": {"tokenize.canonical": False},
    "no function-space loss": {"train.loss.function": 0.0, "train.loss.prior_raw": 0.0, "train.loss.prior_solved": 0.0},
    "prior N(0, I)": {"model.prior": "normal"},
    "no task answered with the mode": {"train.mode_share": 0.0},
    "one orientation": {"model.orientations": 1, "model.order_noise": 0.0},
}
BOTH_CHANNELS = "full, given the meta-features too"
GENERATION, RECONSTRUCTION = ("single", "wide", "raw"), ("edge_f1", "cosine_skill", "functional_r2")


def measure(
    model: TransformerVAE,
    zoo: Scored,
    tasks: Sequence[Task],
    metafeatures: Float[Tensor, "t k"],
    *,
    n_samples: int,
    seed: int,
) -> list[dict[str, float]]:
    """Figures of one model on the test tasks drawn from the prior and on their networks, free-running.

    tasks: all of them, in the order `zoo` and `metafeatures` (transformed) count in. single, raw: median test R2 over
    tasks of the first sample, the mode of the prior; wide: the `n_samples` samples of a task as one network,
    `merging.widen`. The first row is given a task as networks are delivered, its rows alone if the
    model reads rows; a model that reads both channels has a second row, given both.
    """
    stack = stack_tasks(tasks, model.layout.max_features)
    held = zoo.part("test")
    latents, conditions = posterior_means(model, held.networks, held.task_index, stack, metafeatures)
    decoded = reconstruct(model, latents, conditions, held.networks.specs.n_inputs)
    rebuilt = reconstruction_metrics(held.networks, decoded, stack, held.task_index, zoo.part("train").networks)
    at = torch.unique(held.task_index)
    index = torch.arange(len(at)).repeat_interleave(n_samples)
    given: list[Tensor | None] = [None] if model.condition in ("task", "both") else []
    given += [metafeatures[at]] if model.condition in ("metafeatures", "both") else []
    given = given or [None]
    rows: list[dict[str, float]] = []
    for known in given:
        row = {key: rebuilt[key] for key in RECONSTRUCTION} if not rows else {}
        for key, solve, order_noise in (("single", True, None), ("raw", False, 0.0)):
            g = torch.Generator().manual_seed(seed)
            written, _ = sample_networks(
                model, stack[at], known, n_samples=n_samples, generator=g, solve=solve, order_noise=order_noise
            )
            row[key] = float(scores(written, stack[at], index)[::n_samples, TEST].median())
            if solve:
                mean = widen(written, stack[at], n_samples).predict(stack.x[at].repeat_interleave(n_samples, 0))
                mean = mean.view(len(at), n_samples, -1).mean(1)
                row["wide"] = float(r2(stack.y[at], mean, stack.rows[at] == TEST).median())
        rows.append(row)
    return rows


def by_arm(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean and deviation over the seeds of every figure of every arm, arms in order of appearance."""
    groups = runs.drop(columns="seed").groupby("arm", sort=False)
    names = [*GENERATION, *RECONSTRUCTION]
    both = pd.concat([groups.mean()[names], groups.std()[names].add_suffix("_std")], axis=1)
    return both[[name + kind for name in names for kind in ("", "_std")]]
