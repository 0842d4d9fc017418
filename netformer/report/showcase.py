"""The picture that shows it working: tasks along their strongest column, and what generated networks say of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from netformer.evaluation.scored import Samples
from netformer.generation.merging import widen
from netformer.report.charts import Axis, Curve, Pairs, Points, legend, plane
from netformer.report.svg import Drawing, sheet
from netformer.tasks.scores import r2
from netformer.tasks.task import PAD, TEST, TRAIN

_POINTS, _GRID = 150, 49  # rows, and values along a column
_CURVES = 6  # of the samples of a task
_STEPS, _STEP_ROWS = 8, 5  # along a column, and its values in each at least, of a task to look at
_SHOWN, _SHOWN_SIZE = 4, (200, 220)  # tasks in the picture, and their size, for a page of 840


def some_rows(samples: Samples, task: int) -> tuple[Tensor, Tensor]:
    """At most `_POINTS` rows of a task, evenly spaced."""
    present = (samples.stack.rows[task] != PAD).nonzero()[:, 0]
    some = present[torch.linspace(0, len(present) - 1, min(len(present), _POINTS)).round().long()]
    return samples.stack.x[task, some], samples.stack.y[task, some]


def limits(values: Tensor) -> tuple[float, float]:
    """First and last percent, and a margin."""
    low, high = np.percentile(values.double().numpy(), [1, 99])
    margin = 0.08 * max(high - low, 1e-6)
    return float(low - margin), float(high + margin)


def pairs_of(a: Tensor, b: Tensor) -> Pairs:
    """Points with these coordinates."""
    return list(zip(a.tolist(), b.tolist(), strict=True))


@dataclass(frozen=True)
class Dependence:
    """A task along its strongest column, standardised: its rows, and what networks say, mean over the other columns of
    the rows (partial dependence). one: the delivered network; merged: all samples as one; others: further samples;
    r2_*: on all test rows."""

    rows: Pairs
    one: Pairs
    merged: Pairs
    others: list[Pairs]
    across: tuple[float, float]
    up: tuple[float, float]
    r2_one: float
    r2_merged: float


def dependence(samples: Samples, task: int) -> Dependence:
    """Of the first sampling seed's networks for a task, a position in `samples.tasks`."""
    x, y = some_rows(samples, task)
    low, high = limits(x[:, 0])
    grid = torch.linspace(low, high, _GRID)
    points = x.unsqueeze(0).repeat(_GRID, 1, 1)
    points[:, :, 0] = grid.unsqueeze(1)
    written = samples.of_task(task)
    own = samples.stack[torch.tensor([task])]
    wide = widen(written, own, len(written))  # networks whose mean is the merged one
    flat = points.view(1, -1, x.shape[1])
    curves, merged = (part.predict(flat).view(-1, _GRID, len(x)).mean(2) for part in (written, wide))
    said = torch.cat([written[[0]].predict(own.x), wide.predict(own.x).mean(0, keepdim=True)])
    scores = r2(own.y.expand(2, -1), said, (own.rows == TEST).expand(2, -1)).tolist()
    lines = [pairs_of(grid, line) for line in (*curves, merged.mean(0))]
    return Dependence(pairs_of(x[:, 0], y), lines[0], lines[-1], lines[1:_CURVES], (low, high), limits(y), *scores)


def showcase(samples: Samples) -> Drawing:
    """The picture that shows it working: `_SHOWN` tasks never seen, their rows, one generated network, all merged."""
    drawn = []
    for task in striking(samples):
        seen, known = dependence(samples, task), samples.tasks[task]
        parts: list[Points | Curve] = [
            Points(seen.rows, "small", 5),
            Curve(seen.merged, 0, True),
            Curve(seen.one, 1, True, dashed=True),
            Curve((), 1, True, f"R2 {seen.r2_one:.2f}", True),
            Curve((), 0, True, f"R2 {seen.r2_merged:.2f}"),
        ]
        kind = "real table" if known.source == "real" else "synthetic"
        axes = Axis("strongest column", *seen.across), Axis("target", *seen.up)
        drawn.append(plane(f"{kind}: {known.family}", *axes, parts, size=_SHOWN_SIZE))
    marks: list[Points | Curve] = [
        Points((), "small", 5, "rows of a table never seen in training"),
        Curve((), 1, True, "one generated network", True),
        Curve((), 0, True, f"{samples.shape[2]} of them merged; R2: on the table's test rows"),
    ]
    return sheet("generated networks over the data", drawn, _SHOWN, legend(marks, _SHOWN * _SHOWN_SIZE[0]))


def striking(samples: Samples) -> list[int]:
    """Tasks to look at, half of them real tables: of other families each, those where a curve along the strongest
    column explains most of the target and a line explains less. What any network says of them is not asked."""
    gain = {task: _explained(samples, task) for task in range(samples.shape[1])}
    picked: list[int] = []
    for real in (False, True):
        members = [i for i in gain if (samples.tasks[i].source == "real") == real]
        families: set[str] = set()
        for task in sorted(members, key=lambda i: -gain[i]):
            if len(families) < _SHOWN // 2 and samples.tasks[task].family not in families:
                families.add(samples.tasks[task].family)
                picked.append(task)
    return picked


def _explained(samples: Samples, task: int) -> float:
    """R2 on train rows of steps along the strongest column, times the part of it that no line has; 0 where the column
    has few values."""
    rows = samples.stack.rows[task] == TRAIN
    x, y = samples.stack.x[task, rows, 0].double().numpy(), samples.stack.y[task, rows].double().numpy()
    if len(np.unique(x)) < _STEP_ROWS * _STEPS:
        return 0.0
    step = np.searchsorted(np.quantile(x, np.arange(1, _STEPS) / _STEPS), x)
    means = np.bincount(step, y, _STEPS) / np.maximum(np.bincount(step, minlength=_STEPS), 1)
    steps = 1 - float(np.var(y - means[step]) / max(np.var(y), 1e-12))
    return steps * (steps - float(np.corrcoef(x, y)[0, 1]) ** 2)
