"""Drawings of the evaluation for its report: functions, surfaces, networks and the latent map, as SVG."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from netformer.evaluation.scored import Samples, Scored, sets_of
from netformer.report.graph import LEGEND, draw_network
from netformer.report.page import Picture, Section
from netformer.report.svg import Curve, Points, levels, plane
from netformer.tasks.task import PAD, TEST

_POINTS, _GRID = 150, 33


@dataclass(frozen=True)
class Evidence:
    """zoo: networks of the test tasks. latents: their posterior means, or None. positions: of the test tasks in the
    stack that `zoo.task_index` counts in."""

    samples: Samples
    zoo: Scored
    latents: Float[Tensor, "n z"] | None
    positions: list[int]


def _shown(samples: Samples, a_set: int) -> list[int]:
    """Tasks of every set, of families not shown yet before others."""
    picked: list[int] = []
    for name, members in sets_of(samples.tasks).items():
        if name != "real_tables_small":
            first = {samples.tasks[i].family: i for i in reversed(members)}
            order = [i for i in members if first[samples.tasks[i].family] == i]
            picked += (order + [i for i in members if i not in order])[:a_set]
    return picked


def _rows(samples: Samples, task: int) -> tuple[Tensor, Tensor]:
    """At most `_POINTS` rows of a task, evenly spaced."""
    present = (samples.stack.rows[task] != PAD).nonzero()[:, 0]
    some = present[torch.linspace(0, len(present) - 1, min(len(present), _POINTS)).round().long()]
    return samples.stack.x[task, some], samples.stack.y[task, some]


def _limits(values: Tensor) -> tuple[float, float]:
    low, high = np.percentile(values.double().numpy(), [1, 99])
    margin = 0.08 * max(high - low, 1e-6)
    return float(low - margin), float(high + margin)


def _caption(samples: Samples, task: int) -> str:
    known = samples.tasks[task]
    return f"{known.family}, {len(known.y)} rows: test R2 {float(samples.r2['single'][0, task, 0, TEST]):.2f}"


def _column(samples: Samples, task: int, feature: int) -> str:
    return f"column {int(samples.stack.views.columns[task, feature])}"


def functions(samples: Samples) -> Section:
    """Partial dependence on the strongest feature, and predicted against true test values."""
    drawn = []
    for task in _shown(samples, 2):
        (x, y), name = _rows(samples, task), samples.tasks[task].task_id
        low, high = _limits(x[:, 0])
        grid = torch.linspace(low, high, _GRID)
        points = x.unsqueeze(0).repeat(_GRID, 1, 1)
        points[:, :, 0] = grid.unsqueeze(1)
        written = samples.of_task(task)[slice(0, 6)]
        curves = written.predict(points.view(1, -1, x.shape[1])).view(len(written), _GRID, -1).mean(2).tolist()
        pairs = [list(zip(grid.tolist(), curve, strict=True)) for curve in curves]
        parts: list[Points | Curve] = [Points(list(zip(x[:, 0].tolist(), y.tolist(), strict=True)), "small", 5, "rows")]
        parts += [Curve(pair, 2, label="other samples" if i == 0 else "") for i, pair in enumerate(pairs[1:])]
        parts.append(Curve(pairs[0], 0, True, "delivered"))
        axis = f"{_column(samples, task, 0)}, the strongest (standardised)"
        svg = plane(name, axis, "y (standardised)", parts, (low, high), _limits(y))
        drawn.append(Picture(svg, f"{_caption(samples, task)}; mean over the rows of all other columns"))
        keep = samples.stack.rows[task] == TEST
        predicted = samples.first[[task]].predict(samples.stack.x[[task]])[0][keep]
        truth = samples.stack.y[task][keep]
        ends = _limits(truth)
        dots = Points(list(zip(truth.tolist()[:400], predicted.tolist()[:400], strict=True)), "ring", 0)
        svg = plane(f"{name}: test rows", "y (standardised)", "predicted", [dots], ends, ends, True)
        drawn.append(Picture(svg, f"{_caption(samples, task)}; what lies outside is drawn at the border"))
    return Section("What was written: curves", drawn, "Networks generated for tasks never seen, the first of each set.")


def surfaces(samples: Samples) -> Section:
    """Partial dependence of the delivered network on the two strongest features."""
    drawn, size = [], 17
    for task in [i for i in _shown(samples, 2) if samples.stack.n_features[i] > 1]:
        x, _ = _rows(samples, task)
        axes = [torch.linspace(*_limits(x[:, feature]), size) for feature in (0, 1)]
        points = x[:60].unsqueeze(0).repeat(size * size, 1, 1)
        points[:, :, 0] = axes[0].repeat(size).unsqueeze(1)
        points[:, :, 1] = axes[1].repeat_interleave(size).unsqueeze(1)
        flat = samples.first[[task]].predict(points.view(1, -1, x.shape[1])).view(size, size, -1).mean(2)
        across, up = (_column(samples, task, feature) for feature in (0, 1))
        svg = levels(samples.tasks[task].task_id, across, up, flat.tolist(), axes[0].tolist(), axes[1].tolist())
        drawn.append(Picture(svg, f"{_caption(samples, task)}; the fuller the colour the higher"))
    return Section("What was written: surfaces", drawn, "The delivered network along its two strongest columns.")


def networks(evidence: Evidence) -> Section:
    """Generated networks, trained ones beside them where the zoo has some."""
    samples, zoo = evidence.samples, evidence.zoo
    drawn = []
    for task in _shown(samples, 2):
        x, _ = _rows(samples, task)
        names = [_column(samples, task, i) for i in range(x.shape[1])]
        known = samples.tasks[task].task_id
        svg = draw_network(samples.first, task, x, names, f"{known}: generated")
        size = int(samples.first.specs.n_params[task])
        drawn.append(Picture(svg, f"{_caption(samples, task)}, {size} parameters"))
        at = (zoo.task_index == evidence.positions[task]).nonzero()[:, 0]
        if len(at):
            index = int(at[0])
            svg = draw_network(zoo.networks, index, x, names, f"{known}: trained")
            size = int(zoo.networks.specs.n_params[index])
            drawn.append(Picture(svg, f"the zoo's: test R2 {float(zoo.r2[index, TEST]):.2f}, {size} parameters"))
    return Section("Networks", drawn, LEGEND)


def latent_map(zoo: Scored, latents: Float[Tensor, "n z"]) -> Section:
    """First two principal components of the posterior means of trained networks, by task and by depth."""
    centred = latents.double() - latents.double().mean(0)
    _, values, vectors = torch.linalg.svd(centred, full_matrices=False)
    signs = torch.sign(vectors[:2].gather(1, vectors[:2].abs().argmax(1, keepdim=True)))
    xy = (centred @ (vectors[:2] * signs).T).numpy()
    share = (values.square() / values.square().sum()).tolist()
    x, y = (f"component 1 ({share[0]:.0%} of variance)", f"component 2 ({share[1]:.0%})")
    xlim, ylim = [_limits(torch.from_numpy(xy[:, i].copy())) for i in (0, 1)]
    index, depth = zoo.task_index.numpy(), zoo.networks.specs.depth.numpy()
    tasks, counts = np.unique(index, return_counts=True)
    shapes, some = ("square", "triangle", "cross", "diamond", "ring", "dot"), slice(0, 1500)

    def points(at: np.ndarray, shape: str, colour: int, label: str = "") -> Points:
        return Points(list(map(tuple, xy[some][at[some]].tolist())), shape, colour, label)

    by_task: list[Points | Curve] = [points(index >= 0, "small", 5)]
    for number, task in enumerate(tasks[np.argsort(-counts, kind="stable")[:6]]):
        by_task.append(points(index == task, shapes[number], number % 5))
    by_depth: list[Points | Curve] = [
        points(depth == layers, shapes[number % 6], number % 5, f"layers: {layers}")
        for number, layers in enumerate(np.unique(depth))
    ]
    drawn = [
        Picture(plane(title, x, y, parts, xlim, ylim), caption)
        for title, parts, caption in (
            ("by task", by_task, "A shape a task, the six with most networks; dots: all others."),
            ("by number of hidden layers", by_depth, "The same networks."),
        )
    ]
    return Section("Latent map", drawn, "Trained networks of held-out tasks, where the encoder puts them.")
