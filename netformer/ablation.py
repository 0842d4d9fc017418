"""Ablation: what each part of the method is worth, one part left out at a time at equal budget."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from netformer.evaluation import reconstruct, reconstruction_metrics
from netformer.merging import widen
from netformer.model import TransformerVAE
from netformer.sampling import sample_networks
from netformer.scored import Scored
from netformer.tasks import TEST, Task, r2, stack_tasks
from netformer.zoo import scores

matplotlib.use("Agg")
from matplotlib import pyplot as plt

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
TOLD_BOTH = "full, told of meta-features too"
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
    `merging.widen`. The first row is told of a task as networks are delivered, by its rows alone if the
    model reads rows; a model that reads both channels has a second row, told of both.
    """
    stack = stack_tasks(tasks, model.layout.max_features)
    held = zoo.part("test")
    decoded = reconstruct(model, held.networks, held.task_index, stack, metafeatures)
    rebuilt = reconstruction_metrics(held.networks, decoded, stack, held.task_index, zoo.part("train").networks)
    at = torch.unique(held.task_index)
    index = torch.arange(len(at)).repeat_interleave(n_samples)
    told: list[Tensor | None] = [None] if model.condition in ("task", "both") else []
    told += [metafeatures[at]] if model.condition in ("metafeatures", "both") else []
    told = told or [None]
    rows: list[dict[str, float]] = []
    for known in told:
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


def summarize(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean and deviation over the seeds of every figure of every arm, arms in order of appearance."""
    groups = runs.drop(columns="seed").groupby("arm", sort=False)
    names = [*GENERATION, *RECONSTRUCTION]
    both = pd.concat([groups.mean()[names], groups.std()[names].add_suffix("_std")], axis=1)
    return both[[name + kind for name in names for kind in ("", "_std")]]


def plot(runs: pd.DataFrame, path: Path) -> None:
    """A dot a seed and a bar at the mean, an arm a line, for the R2 of written networks and of decoded ones."""
    arms = list(dict.fromkeys(runs["arm"]))[::-1]
    figure, axes = plt.subplots(1, 4, figsize=(13, 0.5 * len(arms) + 1.2), sharey=True)
    titles = (
        "single: output layer solved",
        "wide: the samples of a task merged",
        "raw: every weight written",
        "trained networks, decoded",
    )
    for axis, name, title in zip(axes, (*GENERATION, "functional_r2"), titles, strict=True):
        for line, arm in enumerate(arms):
            values = runs.loc[runs["arm"] == arm, name].dropna()
            axis.plot(values, [line] * len(values), "o", color="#0072B2", alpha=0.6)
            if len(values):
                axis.plot([values.mean()] * 2, [line - 0.3, line + 0.3], color="black")
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("median test R2" if name in GENERATION else "functional R2")
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(range(len(arms)), arms)
    figure.tight_layout()
    figure.savefig(path, dpi=80, metadata={"Software": None})
    plt.close(figure)
