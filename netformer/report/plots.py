"""Pictures of the evaluation: colour-blind-safe (Okabe and Ito), shapes and line styles repeat what colour says.

Same input, same bytes: no date or version in the files, nothing random.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from matplotlib import pyplot as plt
from torch import Tensor

from netformer.evaluation.ablation import GENERATION
from netformer.evaluation.card import STEPS
from netformer.evaluation.scored import Samples, Scored, sets_of
from netformer.networks.specs import ACTIVATIONS
from netformer.networks.stack import Networks
from netformer.tasks.task import PAD, TEST
from netformer.tasks.view import TaskStack

matplotlib.use("Agg")


BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"


MARKERS = "os^Dvp"


def write_all(
    folder: Path,
    per_task: pd.DataFrame,
    samples: Samples,
    zoo: Scored,
    latents: Float[Tensor, "n z"],
    tasks: TaskStack,
    positions: list[int],
    losses: Path,
) -> None:
    """Every picture of the report.

    zoo, latents: networks of the test tasks and their posterior means. tasks: the stack `zoo.task_index` counts in.
    positions: of the test tasks in it. losses: folder of the training curves, a `.tsv` a loss.
    """
    zero_shot(per_task, folder / "zero_shot.png")
    predictions(samples, folder / "predictions.png")
    functions(samples, folder / "functions.png")
    latent_map(zoo, latents, folder / "latent_map.png")
    histograms(samples, zoo, tasks, folder / "histograms.png")
    graphs(samples, zoo, positions, folder / "graphs.png")
    loss_curves(losses, folder / "loss_curves.png")


def _save(figure: plt.Figure, path: Path, bottom: float = 0.0) -> None:
    figure.tight_layout(rect=(0, bottom, 1, 1))
    figure.savefig(path, dpi=80, metadata={"Software": None})
    plt.close(figure)


def _shown(samples: Samples, count: int) -> list[int]:
    """The first tasks of the first evaluation set."""
    return next(iter(sets_of(samples.tasks).values()))[:count]


def zero_shot(per_task: pd.DataFrame, path: Path) -> None:
    """Test R2 of one generated network against trained-from-scratch and ridge, a point a task, a column a set."""
    sets = [name for name in per_task["set"].unique() if name != "real_tables_small"]
    figure, axes = plt.subplots(2, len(sets), figsize=(4.2 * len(sets), 8.6), squeeze=False)
    labels = {"scratch_best": "best of the random specs, trained", "ridge": "ridge"}
    for column, name in enumerate(sets):
        wide = per_task[per_task["set"] == name].pivot(index="task_id", columns="row", values="test_r2")
        for axis, (row, label) in zip(axes[:, column], labels.items(), strict=True):
            ahead = wide["single"] > wide[row]
            axis.plot([-1, 1], [-1, 1], color="0.6", linewidth=1)
            for part, colour, marker in ((ahead, BLUE, "o"), (~ahead, ORANGE, "x")):
                axis.scatter(wide[row][part], wide["single"][part], s=18, marker=marker, color=colour, linewidths=1)
            axis.set(xlabel=f"{label}: test R2", xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), aspect="equal")
            axis.set_title(f"{name}: ahead on {int(ahead.sum())} of {len(wide)}", fontsize=11)
        axes[0, 0].set_ylabel("one generated network: test R2")
        axes[1, 0].set_ylabel("one generated network: test R2")
    _save(figure, path)


def predictions(samples: Samples, path: Path) -> None:
    """Predicted against true test values of the delivered network on the first eight held-out tasks."""
    figure, axes = plt.subplots(2, 4, figsize=(14, 7.2))
    for axis in axes.flat:
        axis.set_visible(False)
    for axis, task in zip(axes.flat, _shown(samples, 8), strict=False):
        axis.set_visible(True)
        keep = (samples.stack.rows[task] == TEST).numpy()
        predicted = samples.first[[task]].predict(samples.stack.x[[task]])[0].numpy()[keep]
        truth = samples.stack.y[task].numpy()[keep]
        ends = [float(truth.min()), float(truth.max())]
        axis.plot(ends, ends, color="0.6", linewidth=1)
        axis.scatter(truth, predicted, s=12, marker="o", facecolors="none", edgecolors=BLUE)
        axis.set(xlabel="y (standardised)", ylabel="predicted")
        axis.set_title(f"{samples.tasks[task].task_id}: R2 {float(samples.r2['single'][0, task, 0, TEST]):.2f}")
    _save(figure, path)


def functions(samples: Samples, path: Path) -> None:
    """The generated functions along the strongest feature, mean over the rows of all others (partial dependence)."""
    figure, axes = plt.subplots(2, 4, figsize=(14, 7.2))
    for axis in axes.flat:
        axis.set_visible(False)
    for axis, task in zip(axes.flat, _shown(samples, 8), strict=False):
        axis.set_visible(True)
        present = samples.stack.rows[task] != PAD
        x, y = samples.stack.x[task][present], samples.stack.y[task][present]
        low, high = np.percentile(x[:, 0].numpy(), [1, 99])
        margin = 0.05 * max(high - low, 1e-6)
        grid = torch.linspace(float(low), float(high), 40)
        points = x.unsqueeze(0).repeat(len(grid), 1, 1)
        points[:, :, 0] = grid.unsqueeze(1)
        written = samples.of_task(task)[slice(0, 8)]
        curves = written.predict(points.view(1, -1, x.shape[1])).view(len(written), len(grid), -1).mean(2).numpy()
        axis.scatter(x[:, 0], y, s=6, color="0.75", linewidths=0, label="rows of the task")
        for curve in curves[1:]:
            axis.plot(grid, curve, color=SKY, linewidth=0.8)
        axis.plot(grid, curves[0], color=BLUE, linewidth=2.2, label="delivered network")
        axis.plot([], [], color=SKY, linewidth=0.8, label="other samples")
        spread = np.percentile(y.numpy(), [1, 99])
        axis.set(xlim=(low - margin, high + margin), ylim=(spread[0] - 0.5, spread[1] + 0.5))
        axis.set(xlabel="strongest feature", ylabel="y (standardised)", title=samples.tasks[task].task_id)
    axes.flat[0].legend(fontsize=8, loc="upper left")
    _save(figure, path)


def latent_map(zoo: Scored, latents: Float[Tensor, "n z"], path: Path) -> None:
    """First two principal components of the posterior means; the twelve tasks with most networks stand out."""
    centred = latents.double() - latents.double().mean(0)
    _, values, vectors = torch.linalg.svd(centred, full_matrices=False)
    signs = torch.sign(vectors[:2].gather(1, vectors[:2].abs().argmax(1, keepdim=True)))
    xy = (centred @ (vectors[:2] * signs).T).numpy()
    share = (values.square() / values.square().sum())[:2].tolist()
    tasks, counts = np.unique(zoo.task_index.numpy(), return_counts=True)
    figure, axes = plt.subplots(1, 2, figsize=(13, 6))
    axes[0].scatter(*xy.T, s=7, color="0.8", linewidths=0)
    colours = (BLUE, ORANGE, GREEN, PURPLE, YELLOW, "black")
    for number, task in enumerate(tasks[np.argsort(-counts, kind="stable")[:12]]):
        at = zoo.task_index.numpy() == task
        colour = colours[number % 6]
        inside = colour if number < 6 else "none"
        axes[0].scatter(*xy[at].T, s=34, marker=MARKERS[number % 6], facecolors=inside, edgecolors=colour, linewidths=1)
    axes[0].set_title("a colour and shape a task (12 of them), grey: all others")
    depth = zoo.networks.specs.depth.numpy()
    for number, layers in enumerate(np.unique(depth)):
        at = depth == layers
        axes[1].scatter(*xy[at].T, s=12, color=colours[number], marker=MARKERS[number], linewidths=0, label=f"{layers}")
    axes[1].set_title("the same by number of hidden layers")
    axes[1].legend(title="layers", markerscale=2)
    for axis in axes:
        axis.set(xlabel=f"component 1 ({share[0]:.0%} of variance)", ylabel=f"component 2 ({share[1]:.0%})")
    _save(figure, path)


def _weights(networks: Networks) -> dict[str, np.ndarray]:
    """Weights by the role of their edge."""
    mask, w, layout = networks.specs.mask, networks.weight, networks.layout
    features = layout.max_features
    first, later = slice(0, layout.max_width), slice(layout.max_width, layout.n_patches - 1)
    return {
        "weights, first hidden layer": w[:, first, 1:][mask[:, first, 1:]].numpy(),
        "weights, later hidden layers": w[:, later, 1:][mask[:, later, 1:]].numpy(),
        "weights, output layer": w[:, -1, 1 + features :][mask[:, -1, 1 + features :]].numpy(),
        "biases": w[:, :, 0][mask[:, :, 0]].numpy(),
    }


def histograms(samples: Samples, zoo: Scored, tasks: TaskStack, path: Path) -> None:
    """Weights, hidden activations, activation functions and sizes: trained networks of the held-out tasks beside
    generated networks for these tasks. What lies beyond an axis is counted in its last bin."""
    members = _shown(samples, len(samples.tasks))
    picked = torch.isin(samples.task_index[: samples.shape[1] * samples.shape[2]], torch.tensor(members)).nonzero()[
        :, 0
    ]
    generated, at = samples.networks[picked], samples.task_index[picked]
    stacks = {"trained": (zoo.networks, tasks.x[zoo.task_index]), "generated": (generated, samples.stack.x[at])}
    values = {name: _numbers(networks, x[:, :32]) for name, (networks, x) in stacks.items()}
    figure, axes = plt.subplots(2, 4, figsize=(16, 7.4))
    looks = {"trained": ("0.3", "-"), "generated": (BLUE, "--")}
    for axis, name in zip(axes.flat, values["trained"], strict=False):
        both = np.concatenate([part[name] for part in values.values()])
        low, high = np.percentile(both, [1, 99]) if len(both) else (-1.0, 1.0)
        bins = np.linspace(low, max(high, low + 1e-6), 41)
        for label, (colour, style) in looks.items():
            shown = np.clip(values[label][name], bins[0], bins[-1])
            share = np.full(len(shown), 1 / max(1, len(shown)))
            axis.hist(
                shown, bins, weights=share, histtype="step", color=colour, linestyle=style, linewidth=1.6, label=label
            )
        axis.set(title=name, ylabel="share")
    for offset, (label, (colour, style)) in zip((-0.2, 0.2), looks.items(), strict=True):
        specs = stacks[label][0].specs
        used = specs.activations[specs.widths > 0]
        share = torch.bincount(used, minlength=len(ACTIVATIONS)).numpy() / max(1, len(used))
        fill = (
            {"color": colour} if label == "trained" else {"facecolor": "white", "edgecolor": colour, "linestyle": style}
        )
        axes[1, 3].bar(np.arange(len(ACTIVATIONS)) + offset, share, 0.38, linewidth=1.6, label=label, **fill)
    axes[1, 3].set_xticks(range(len(ACTIVATIONS)), ACTIVATIONS)
    axes[1, 3].set(title="activation functions, by layer", ylabel="share")
    axes[0, 0].legend()
    axes[1, 3].legend()
    _save(figure, path)


def _numbers(networks: Networks, x: Float[Tensor, "n rows features"]) -> dict[str, np.ndarray]:
    """Weights by the role of their edge, activations of the first and last hidden layer, and sizes."""
    mask, w, layout, units = networks.specs.mask, networks.weight, networks.layout, networks.specs.unit_mask
    first, later, inner = slice(0, layout.max_width), slice(layout.max_width, -1), 1 + layout.max_features
    hidden = networks.hidden(x)
    last = units[torch.arange(len(networks)), networks.specs.depth - 1]
    values = {
        "weights, first hidden layer": w[:, first, 1:][mask[:, first, 1:]],
        "weights, later hidden layers": w[:, later, 1:][mask[:, later, 1:]],
        "weights, output from hidden": w[:, -1, inner:][mask[:, -1, inner:]],
        "biases": w[:, :, 0][mask[:, :, 0]],
        "activations, first hidden layer": hidden[0].transpose(1, 2)[units[:, 0]].flatten(),
        "activations, last hidden layer": hidden[-1].transpose(1, 2)[last].flatten(),
        "parameters a network": networks.specs.n_params.float(),
    }
    return {name: value.numpy() for name, value in values.items()}


def graphs(samples: Samples, zoo: Scored, positions: list[int], path: Path) -> None:
    """Trained (top) and generated (bottom) networks for the first four held-out tasks with a trained one.

    positions: of the test tasks in the stack that `zoo.task_index` counts in."""
    shown = [i for i in _shown(samples, len(samples.tasks)) if positions[i] in zoo.task_index][:4]
    figure, axes = plt.subplots(2, len(shown), figsize=(4.2 * len(shown), 8), squeeze=False)
    for column, task in enumerate(shown):
        index = int((zoo.task_index == positions[task]).nonzero()[0])
        name = samples.tasks[task].task_id
        trained, scale = float(zoo.r2[index, TEST]), float(samples.r2["single"][0, task, 0, TEST])
        _draw(axes[0, column], zoo.networks[[index]], f"{name}\ntrained, R2 {trained:.2f}")
        _draw(axes[1, column], samples.first[[task]], f"generated, R2 {scale:.2f}")
    lines = [
        plt.Line2D([], [], color=BLUE, linewidth=2, label="positive weight"),
        plt.Line2D([], [], color=ORANGE, linewidth=2, linestyle="--", label="negative weight"),
    ]
    figure.legend(handles=lines, loc="lower center", ncols=2, frameon=False)
    _save(figure, path, bottom=0.05)


def _draw(axis: plt.Axes, network: Networks, title: str) -> None:
    """One network: inputs left, output right, the bias vertex left out; width of an edge by |weight| in its layer."""
    specs, layout = network.specs, network.layout
    depth, n_inputs = int(specs.depth[0]), int(specs.n_inputs[0])
    widths = [n_inputs, *specs.widths[0, :depth].tolist(), 1]
    heights = [np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in widths]
    inner = 1 + layout.max_features
    for level in range(1, depth + 2):
        rows = layout.layer(level - 1) if level <= depth else slice(-1, None)
        weight, mask = network.weight[0, rows], specs.mask[0, rows]
        largest = float(weight[:, 1:].abs().max().clamp(min=1e-12))
        for unit in range(widths[level]):
            for slot in mask[unit, 1:].nonzero()[:, 0].tolist():
                source, place = (0, slot) if slot + 1 < inner else (level - 1, slot + 1 - inner)
                value = float(weight[unit, slot + 1])
                axis.plot(
                    [source, level],
                    [heights[source][place], heights[level][unit]],
                    color=BLUE if value > 0 else ORANGE,
                    linestyle="-" if value > 0 else (0, (3, 1)),
                    linewidth=0.2 + 3 * abs(value) / largest,
                    alpha=0.75,
                    zorder=1,
                )
    for level, places in enumerate(heights):
        axis.scatter([level] * len(places), places, s=70, color="white", edgecolors="black", zorder=2)
    names = [ACTIVATIONS[code] for code in specs.activations[0, :depth].tolist()]
    axis.set_xticks(range(depth + 2), ["inputs", *names, "output"], fontsize=9)
    axis.set_yticks([])
    axis.set_title(f"{title}, {int(specs.n_params[0])} parameters", fontsize=11)
    for side in axis.spines.values():
        side.set_visible(False)


def loss_curves(folder: Path, path: Path) -> None:
    """Every part of the training loss by step, means over the steps between two points."""
    files = sorted(folder.glob("*.tsv"))
    columns = 4
    rows = max(1, -(-len(files) // columns))
    figure, axes = plt.subplots(rows, columns, figsize=(14, 3.1 * rows), squeeze=False)
    for axis in axes.flat[len(files) :]:
        axis.set_visible(False)
    for axis, file in zip(axes.flat, files, strict=False):
        curve = pd.read_csv(file, sep="\t")
        marker = "o" if len(curve) < 5 else None
        axis.plot(curve["step"], curve.iloc[:, -1], color=BLUE, linewidth=1.5, marker=marker)
        if curve.iloc[:, -1].min() > 0.1 * curve.iloc[:, -1].max() or curve.iloc[:, -1].min() <= 0:
            axis.set_ylim(bottom=min(0.0, float(curve.iloc[:, -1].min())))
        else:
            axis.set_yscale("log")
        axis.set(title=file.stem.replace("_", " "), xlabel="step")
    _save(figure, path)


def plot_refinement(report: dict[str, dict[str, dict[str, float]]], path: Path) -> None:
    """Mean test R2 against gradient steps, a line a start, a panel a set; medians jump where tasks lie far apart."""
    figure, axes = plt.subplots(1, len(report), figsize=(4.0 * len(report), 3.8), squeeze=False)
    styles = {
        "wide_latent": (BLUE, "D-"),
        "generated_latent": (SKY, "o-"),
        "generated": (SKY, "o--"),
        "retrieval": (GREEN, "s--"),
        "he": (ORANGE, "^:"),
    }
    for axis, (name, starts) in zip(axes[0], report.items(), strict=True):
        for start, (colour, style) in styles.items():
            values = [starts[start].get(f"steps_{k}_mean", np.nan) for k in STEPS]
            axis.plot(range(len(STEPS)), values, style, color=colour, label=start)
        axis.set(xticks=range(len(STEPS)), xticklabels=STEPS, xlabel="gradient steps", title=name)
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("mean test R2")
    axes[0, -1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    _save(figure, path)


def plot_real_tables(real: pd.DataFrame, path: Path) -> None:
    """Test R2 on each real table, a row a table, sorted by the wide network: ours, ridge, forest and CatBoost."""
    shown = real.sort_values("wide_16")
    figure, axis = plt.subplots(figsize=(8.5, 0.17 * len(shown) + 1.2))
    at = range(len(shown))
    for row, colour, marker in (
        ("ridge", "0.6", "|"),
        ("rf", GREEN, "s"),
        ("catboost", ORANGE, "^"),
        ("single", SKY, "o"),
    ):
        axis.scatter(shown[row], at, s=18, marker=marker, color=colour, label=row, linewidths=1)
    axis.scatter(shown["wide_16"], at, s=26, marker="D", color=BLUE, label="wide_16")
    axis.set(yticks=at, xlim=(-1.02, 1.02), ylim=(-1, len(shown)), xlabel="test R2")
    axis.set_yticklabels(shown.index, fontsize=6)
    axis.grid(axis="x", alpha=0.3)
    axis.legend(loc="upper left")
    _save(figure, path)


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
