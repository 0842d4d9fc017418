"""Ablation: what each part of the method is worth, one part left out at a time at equal budget."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from netformer.evaluation.reported import posterior_means, reconstruct, reconstruction_metrics
from netformer.evaluation.scored import Scored
from netformer.generation.merging import widen
from netformer.generation.sampling import sample_networks
from netformer.model.vae import TransformerVAE
from netformer.options import TablePrior
from netformer.tasks.scores import r2, scores
from netformer.tasks.stream import stream_batch
from netformer.tasks.task import TEST, Task
from netformer.tasks.view import stack_tasks

TABLES = TablePrior(category_share=0.2, gap_share=0.15, outlier_share=0.05, time_share=0.1)
MIXED = {f"train.tables.{name}": share for name, share in vars(TABLES).items()}
MIXED_BATCHES, MIXED_TASKS, MIXED_ROWS = 12, 16, (50, 240)  # held-out tasks with such tables: context rows, log-uniform
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
    "mixed tables in the stream": MIXED,
    "mixed tables in the stream, kinds given": {**MIXED, "model.kinds": True},
}
BOTH_CHANNELS = "full, given the meta-features too"
GENERATION = ("single", "wide", "raw", "mixed_single", "mixed_wide")
RECONSTRUCTION = ("edge_f1", "cosine_skill", "functional_r2")


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
    `merging.widen`. mixed_single, mixed_wide: the same in the mean over held-out tasks of the stream whose tables are
    `TABLES`, given their rows alone. The first row is given a task as networks are delivered, its rows alone if the
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
    for seen in given:
        row = {key: rebuilt[key] for key in RECONSTRUCTION} | mixed_scores(model, n_samples, seed) if not rows else {}
        for key, solve, order_noise in (("single", True, None), ("raw", False, 0.0)):
            g = torch.Generator().manual_seed(seed)
            written, _ = sample_networks(
                model, stack[at], seen, n_samples=n_samples, generator=g, solve=solve, order_noise=order_noise
            )
            row[key] = float(scores(written, stack[at], index)[::n_samples, TEST].median())
            if solve:
                mean = widen(written, stack[at], n_samples).predict(stack.x[at].repeat_interleave(n_samples, 0))
                mean = mean.view(len(at), n_samples, -1).mean(1)
                row["wide"] = float(r2(stack.y[at], mean, stack.rows[at] == TEST).median())
        rows.append(row)
    return rows


def mixed_scores(model: TransformerVAE, n_samples: int, seed: int) -> dict[str, float]:
    """See `measure`; R2 on the query rows of each task, against the target without its noise where it is known, floored
    at -1."""
    found, (low, high) = [], MIXED_ROWS
    draw = partial(stream_batch, stream="test", max_features=model.layout.max_features, tables=TABLES)
    for number in range(MIXED_BATCHES):
        tasks = draw(number, MIXED_TASKS, seed=seed, min_rows=low, max_rows=high)
        g = torch.Generator().manual_seed(seed)
        written, _ = sample_networks(model, tasks, None, n_samples=n_samples, generator=g)
        index = torch.arange(MIXED_TASKS).repeat_interleave(n_samples)
        wide = widen(written, tasks, n_samples).predict(tasks.x[index]).view(MIXED_TASKS, n_samples, -1).mean(1)
        single = scores(written, tasks, index)[::n_samples, TEST].clamp(min=-1)
        found.append(torch.stack([single, r2(tasks.y, wide, tasks.rows == TEST).clamp(min=-1)]))
    single, wide = torch.cat(found, 1).mean(1).tolist()
    return {"mixed_single": single, "mixed_wide": wide}


def by_arm(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over the seeds of every figure of every arm, arms in order of appearance."""
    groups = runs.drop(columns="seed").groupby("arm", sort=False)
    names = [*GENERATION, *RECONSTRUCTION]
    both = pd.concat([groups.mean()[names], groups.std()[names].add_suffix("_std")], axis=1)
    return both[[name + kind for name in names for kind in ("", "_std")]]
