"""Pictures of the evaluation, readable without colour vision (shapes and positions carry the message)."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

from netformer.networks import Networks
from netformer.tasks import TEST, TaskStack

matplotlib.use("Agg")
from matplotlib import pyplot as plt

# No date or version in the file: same input, same bytes.
_METADATA = {"Software": None}


def _save(figure: plt.Figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata=_METADATA)
    plt.close(figure)


def zero_shot(per_task: pd.DataFrame, path: Path) -> None:
    """Test R2 of one generated network against trained-from-scratch and ridge, a point a task, a column a set."""
    sets = [name for name in per_task["set"].unique() if name != "real_tables_small"]
    figure, axes = plt.subplots(2, len(sets), figsize=(4 * len(sets), 8), squeeze=False)
    for column, name in enumerate(sets):
        wide = per_task[per_task["set"] == name].pivot(index="task_id", columns="row", values="test_r2")
        for axis, row in zip(axes[:, column], ("scratch_best", "ridge"), strict=True):
            axis.plot([-1, 1], [-1, 1], color="0.6", linewidth=1)
            axis.scatter(wide[row], wide["single"], s=14, marker="o", facecolors="none", edgecolors="C0")
            share = float((wide["single"] > wide[row]).mean())
            axis.set(xlabel=f"{row}, test R2", ylabel="one generated network, test R2", xlim=(-1.02, 1.02))
            axis.set(ylim=(-1.02, 1.02), title=f"{name}: ahead on {share:.0%} of {len(wide)}")
    _save(figure, path)


def predictions(samples: Networks, tasks: TaskStack, members: list[int], n_samples: int, path: Path) -> None:
    """Predicted against true test values of the first generated network on the first eight tasks of a set."""
    figure, axes = plt.subplots(2, 4, figsize=(14, 7))
    for axis, task in zip(axes.flat, members[:8], strict=False):
        keep = (tasks.rows[task] == TEST).numpy()
        predicted = samples[[task * n_samples]].predict(tasks.x[[task]])[0].numpy()[keep]
        truth = tasks.y[task].numpy()[keep]
        low, high = float(np.min(truth)), float(np.max(truth))
        axis.plot([low, high], [low, high], color="0.6", linewidth=1)
        axis.scatter(truth, predicted, s=10, marker="o", facecolors="none", edgecolors="C0")
        axis.set(xlabel="y, standardised", ylabel="predicted", title=f"held-out task {task}")
    _save(figure, path)
