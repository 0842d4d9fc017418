"""Pictures of what was written for the test tasks and of trained networks: sections of a page, and SVG files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from netformer.evaluation.scored import Samples, Scored, sets_of
from netformer.networks.specs import WRITTEN
from netformer.networks.stack import Networks
from netformer.report import summaries
from netformer.report.charts import Axis, Curve, Pairs, Points, levels, plane
from netformer.report.graph import LEGEND, draw_network
from netformer.report.page import Picture, Section
from netformer.report.showcase import dependence, limits, pairs_of, showcase, some_rows
from netformer.report.svg import Drawing, save, sheet
from netformer.tasks.task import TEST

HISTOGRAMS = (
    "Trained networks of held-out tasks, and those generated for the same tasks; what lies beyond an axis is counted "
    "in its last bin."
)
_SURFACE, _SURFACE_ROWS = 17, 60  # values along each column of a surface; rows it is a mean of, at most
_TEST_ROWS, _LATENTS = 400, 1500  # shown at most
_BINS, _UNITS_ROWS = 40, 32  # of a histogram; rows whose activations it counts
_PANEL = (268, 220)  # size of a small picture


@dataclass(frozen=True, eq=False)
class Evidence:
    """zoo: networks of the test tasks. latents: their posterior means, or None. positions: of the test tasks in the
    stack that `zoo.task_index` counts in."""

    samples: Samples
    zoo: Scored
    latents: Float[Tensor, "n z"] | None
    positions: list[int]


def write_all(folder: Path, per_task: pd.DataFrame, evidence: Evidence, losses: Path) -> None:
    """Every picture of the evaluation as an SVG file. losses: folder of the training curves, a `.tsv` a loss;
    without one there is no picture of them, as for weights that came trained."""
    samples = evidence.samples
    duels = [picture.drawing for picture in summaries.duels(per_task)]
    drawn = {
        "zero_shot": sheet("generated networks against others", duels, max(1, len(duels) // 2)),
        "functions": showcase(samples),
        "predictions": sheet("predicted against true", [prediction(samples, i) for i in shown(samples, 2)], 3),
        "histograms": sheet("weights and sizes", histograms(evidence), 3),
        "graphs": sheet("trained and generated networks", _pairs(evidence), 2),
    }
    if any(losses.glob("*.tsv")):
        drawn["loss_curves"] = summaries.loss_curves(losses)
    if evidence.latents is not None:
        drawn["latent_map"] = sheet("latent map", [p.drawing for p in latent_map(evidence.zoo, evidence.latents)], 2)
    for name, drawing in drawn.items():
        save(drawing, folder / f"{name}.svg")


def shown(samples: Samples, a_set: int) -> list[int]:
    """Tasks of every set, of families not shown yet before others."""
    picked: list[int] = []
    for name, members in sets_of(samples.tasks).items():
        if name != "real_tables_small":
            first = {samples.tasks[i].family: i for i in reversed(members)}
            order = [i for i in members if first[samples.tasks[i].family] == i]
            picked += (order + [i for i in members if i not in order])[:a_set]
    return picked


def _single_r2(samples: Samples, task: int) -> float:
    return float(samples.r2["single"][0, task, 0, TEST])


def _caption(samples: Samples, task: int) -> str:
    known = samples.tasks[task]
    return f"{known.family}, {len(known.y)} rows: test R2 {_single_r2(samples, task):.2f}"


def _column(samples: Samples, task: int, feature: int) -> str:
    return f"column {int(samples.stack.views.columns[task, feature])}"


def prediction(samples: Samples, task: int) -> Drawing:
    """Predicted against true test values of the delivered network."""
    keep = samples.stack.rows[task] == TEST
    predicted = samples.first[[task]].predict(samples.stack.x[[task]])[0][keep]
    truth = samples.stack.y[task][keep]
    ends = limits(truth)
    dots = Points(pairs_of(truth, predicted)[:_TEST_ROWS], "ring", 0)
    axes = Axis("y (standardised)", *ends), Axis("predicted", *ends)
    return plane(f"{samples.tasks[task].task_id}: test rows", *axes, [dots], diagonal=True)


def functions(samples: Samples) -> Section:
    """Partial dependence on the strongest column, and predicted against true test values."""
    drawn = []
    for task in shown(samples, 2):
        seen = dependence(samples, task)
        parts: list[Points | Curve] = [Points(seen.rows, "small", 5, "rows")]
        parts += [Curve(pairs, 2, label="other samples" if i == 0 else "") for i, pairs in enumerate(seen.others)]
        parts += [Curve(seen.merged, 0, True, "merged"), Curve(seen.one, 1, True, "one network", True)]
        x = Axis(f"{_column(samples, task, 0)}, the strongest (standardised)", *seen.across)
        drawing = plane(samples.tasks[task].task_id, x, Axis("y (standardised)", *seen.up), parts)
        drawn.append(Picture(drawing, f"{_caption(samples, task)}; mean over the rows of all other columns"))
        said = f"{_caption(samples, task)}; what lies outside is drawn at the border"
        drawn.append(Picture(prediction(samples, task), said))
    return Section("What was written: curves", drawn, "Networks generated for tasks never seen, the first of each set.")


def surfaces(samples: Samples) -> Section:
    """Partial dependence of the delivered network on the two strongest columns."""
    drawn = []
    for task in [i for i in shown(samples, 2) if samples.stack.n_features[i] > 1]:
        x, _ = some_rows(samples, task)
        first, second = (Axis(_column(samples, task, feature), *limits(x[:, feature])) for feature in (0, 1))
        across, up = (torch.linspace(axis.low, axis.high, _SURFACE) for axis in (first, second))
        points = x[:_SURFACE_ROWS].unsqueeze(0).repeat(_SURFACE**2, 1, 1)
        points[:, :, 0] = across.repeat(_SURFACE).unsqueeze(1)
        points[:, :, 1] = up.repeat_interleave(_SURFACE).unsqueeze(1)
        flat = samples.first[[task]].predict(points.view(1, -1, x.shape[1])).view(_SURFACE, _SURFACE, -1).mean(2)
        drawing = levels(samples.tasks[task].task_id, first, second, flat.tolist())
        drawn.append(Picture(drawing, f"{_caption(samples, task)}; the fuller the colour the higher"))
    return Section("What was written: surfaces", drawn, "The delivered network along its two strongest columns.")


def _generated(samples: Samples, task: int) -> Picture:
    x, _ = some_rows(samples, task)
    names = [_column(samples, task, i) for i in range(x.shape[1])]
    drawing = draw_network(samples.first, task, x.numpy(), names, f"{samples.tasks[task].task_id}: generated")
    return Picture(drawing, f"{_caption(samples, task)}, {int(samples.first.specs.n_params[task])} parameters")


def _trained(evidence: Evidence, task: int) -> Picture | None:
    """The first trained network of a task, if the zoo has one."""
    samples, zoo = evidence.samples, evidence.zoo
    at = (zoo.task_index == evidence.positions[task]).nonzero()[:, 0]
    if not len(at):
        return None
    index, (x, _) = int(at[0]), some_rows(samples, task)
    names = [_column(samples, task, i) for i in range(x.shape[1])]
    drawing = draw_network(zoo.networks, index, x.numpy(), names, f"{samples.tasks[task].task_id}: trained")
    size = int(zoo.networks.specs.n_params[index])
    return Picture(drawing, f"the zoo's: test R2 {float(zoo.r2[index, TEST]):.2f}, {size} parameters")


def networks(evidence: Evidence) -> Section:
    """Generated networks, trained ones beside them where the zoo has some."""
    drawn = []
    for task in shown(evidence.samples, 2):
        drawn.append(_generated(evidence.samples, task))
        trained = _trained(evidence, task)
        drawn += [trained] if trained else []
    return Section("Networks", drawn, LEGEND)


def _pairs(evidence: Evidence) -> list[Drawing]:
    """Trained and generated networks side by side, for two tasks that have both."""
    drawn: list[Drawing] = []
    for task in range(len(evidence.samples.tasks)):
        trained = _trained(evidence, task)
        if trained is not None and len(drawn) < 4:
            drawn += [trained.drawing, _generated(evidence.samples, task).drawing]
    return drawn


def latent_map(zoo: Scored, latents: Float[Tensor, "n z"]) -> list[Picture]:
    """First two principal components of the posterior means of trained networks, by task and by depth."""
    centred = latents.double() - latents.double().mean(0)
    _, values, vectors = torch.linalg.svd(centred, full_matrices=False)
    signs = torch.sign(vectors[:2].gather(1, vectors[:2].abs().argmax(1, keepdim=True)))
    xy = centred @ (vectors[:2] * signs).T
    share = (values.square() / values.square().sum()).tolist()
    x = Axis(f"component 1 ({share[0]:.0%} of variance)", *limits(xy[:, 0]))
    y = Axis(f"component 2 ({share[1]:.0%})", *limits(xy[:, 1]))
    index, depth = zoo.task_index.numpy(), zoo.networks.specs.depth.numpy()
    tasks, counts = np.unique(index, return_counts=True)
    shapes, some = ("square", "triangle", "cross", "diamond", "ring", "dot"), slice(0, _LATENTS)

    def points(at: np.ndarray, shape: str, colour: int, label: str = "") -> Points:
        return Points(list(map(tuple, xy.numpy()[some][at[some]].tolist())), shape, colour, label)

    by_task: list[Points | Curve] = [points(index >= 0, "small", 5)]
    for number, task in enumerate(tasks[np.argsort(-counts, kind="stable")[:6]]):
        by_task.append(points(index == task, shapes[number], number % 5))
    by_depth: list[Points | Curve] = [
        points(depth == layers, shapes[number % 6], number % 5, f"hidden layers: {layers}")
        for number, layers in enumerate(np.unique(depth))
    ]
    return [
        Picture(plane("by task", x, y, by_task), "A shape per task, the six with most networks; dots: all others."),
        Picture(plane("by number of hidden layers", x, y, by_depth), "The same networks."),
    ]


def histograms(evidence: Evidence) -> list[Drawing]:
    """Weights, hidden activations, sizes and activation functions: trained networks of the held-out tasks, and those
    generated for the same tasks. What lies beyond an axis is counted in its last bin."""
    samples, zoo = evidence.samples, evidence.zoo
    members = next(iter(sets_of(samples.tasks).values()))
    generated = [samples.of_task(i) for i in members]
    values = {
        "trained": [_numbers(zoo.networks, samples.stack.x[_own_tasks(evidence)])],
        "generated": [_numbers(part, samples.stack.x[[i]]) for part, i in zip(generated, members, strict=True)],
    }
    drawn = []
    for name in values["trained"][0]:
        both = {kind: np.concatenate([part[name] for part in parts]) for kind, parts in values.items()}
        every = np.concatenate(list(both.values()))
        low, high = (float(v) for v in np.percentile(every, [1, 99])) if len(every) else (-1.0, 1.0)
        edges = np.linspace(low, max(high, low + 1e-6), _BINS + 1)
        lines = {kind: _outline(both[kind], edges) for kind in both}
        top = max(share for line in lines.values() for _, share in line)
        parts = [
            Curve(lines["trained"], 4, label="trained"),
            Curve(lines["generated"], 0, True, "generated"),
        ]
        axes = Axis("", float(edges[0]), float(edges[-1])), Axis("share", 0.0, 1.05 * top)
        drawn.append(plane(name, *axes, parts, size=_PANEL))
    specs = {"trained": [zoo.networks.specs], "generated": [part.specs for part in generated]}
    used = {kind: torch.cat([s.activations[s.widths > 0] for s in parts]) for kind, parts in specs.items()}
    shares = {
        kind: (torch.bincount(codes, minlength=len(WRITTEN)) / max(1, len(codes))).tolist()
        for kind, codes in used.items()
    }
    points = [
        Points([(share, float(i)) for i, share in enumerate(shares[kind])], shape, colour, kind)
        for kind, shape, colour in (("trained", "square", 4), ("generated", "cross", 0))
    ]
    y = Axis("", -0.5, len(WRITTEN) - 0.5, names=WRITTEN)
    return [*drawn, plane("activation functions, by layer", Axis("share", 0.0, 1.0), y, points, size=_PANEL)]


def _own_tasks(evidence: Evidence) -> Tensor:
    """The task of each trained network, as a position in `samples.tasks`."""
    place = {position: i for i, position in enumerate(evidence.positions)}
    return torch.tensor([place[int(i)] for i in evidence.zoo.task_index])


def _outline(values: np.ndarray, edges: np.ndarray) -> Pairs:
    """The share of values in each bin as a staircase."""
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    shares = np.repeat(counts / max(1, len(values)), 2)
    return list(zip(np.repeat(edges, 2)[1:-1].tolist(), shares.tolist(), strict=True))


def _numbers(stack: Networks, x: Float[Tensor, "n rows features"]) -> dict[str, np.ndarray]:
    """Weights by the role of their edge, activations of the first and last hidden layer, and sizes. x: one task for
    all networks, or one for each."""
    mask, w, layout, units = stack.specs.mask, stack.weight, stack.layout, stack.specs.unit_mask
    first, later = slice(0, layout.max_width), slice(layout.max_width, layout.outputs.start)
    inner, ends = 1 + layout.max_features, layout.outputs
    hidden = stack.hidden(x[:, :_UNITS_ROWS])
    last = units[torch.arange(len(stack)), stack.specs.depth - 1]
    values = {
        "weights, first hidden layer": w[:, first, 1:][mask[:, first, 1:]],
        "weights, later hidden layers": w[:, later, 1:][mask[:, later, 1:]],
        "weights, output from hidden": w[:, ends, inner:][mask[:, ends, inner:]],
        "biases": w[:, :, 0][mask[:, :, 0]],
        "activations, first hidden layer": hidden[0].transpose(1, 2)[units[:, 0]].flatten(),
        "activations, last hidden layer": hidden[-1].transpose(1, 2)[last].flatten(),
        "parameters of a network": stack.specs.n_params.float(),
    }
    return {name: value.numpy() for name, value in values.items()}
