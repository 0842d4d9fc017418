"""Pictures of what was measured: tables and metrics in, drawings out."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from netformer.report.charts import Axis, Curve, Points, plane
from netformer.report.page import Picture
from netformer.report.svg import Drawing, sheet

SETS = {
    "heldout_tasks": "held-out tasks",
    "heldout_family": "held-out family (Friedman)",
    "real_tables": "real tables",
    "real_tables_small": "real tables of at most 300 rows",
}
_PANEL = (268, 210)  # size of a small picture
_LINE = 13  # height of a named line
_DECADE = 0.1  # a loss that falls to less than this part of its largest value is drawn on a logarithmic axis
LEARNERS = (("ridge", "cross", 5), ("rf", "square", 2), ("catboost", "triangle", 1), ("single", "ring", 3))
STARTS = {  # of gradient steps: name, colour, shape, whether the weights are moved and not the latent
    "wide_latent": ("16 generated and merged: latent", 0, "diamond", False),
    "generated_latent": ("generated: latent", 3, "ring", False),
    "generated": ("generated: weights", 3, "square", True),
    "retrieval": ("nearest trained network: weights", 2, "triangle", True),
    "he": ("random initialisation: weights", 1, "cross", True),
}


ABLATED = {  # figures of an ablation run that are drawn, and the titles they are drawn under
    "single": "one network: output layer solved",
    "wide": "samples merged",
    "raw": "every weight written",
    "functional_r2": "trained ones, decoded",
    "mixed_wide": "samples merged, tables with categories and gaps",
}
MEASURED = {"functional_r2": "functional R2", "mixed_wide": "mean test R2"}


def merged_row(rows: list[str]) -> str:
    """The row of the merged network among names of rows, or the single one's."""
    return next((row for row in rows if re.fullmatch(r"wide_\d+", row)), "single")


def duels(per_task: pd.DataFrame) -> list[Picture]:
    """Test R2 of the merged network against others, a mark per task: all sets against one row, then the next."""
    drawn = []
    for other, called in (("scratch_best", "best of random networks, trained"), ("ridge", "ridge")):
        for name in [name for name in per_task["set"].unique() if name != "real_tables_small"]:
            table = per_task[per_task["set"] == name].pivot(index="task_id", columns="row", values="test_r2")
            ours = merged_row([str(row) for row in table.columns])
            if ours not in table or other not in table:
                continue
            both = table[[other, ours]].dropna()
            ahead = both[ours] > both[other]
            parts = []
            for at, shape, colour, label in ((ahead, "dot", 0, "ahead"), (~ahead, "cross", 1, "not ahead")):
                some = both[at]
                names = [
                    f"{task}: {ours} {b:.3f}, {other} {a:.3f}"
                    for task, (a, b) in zip(some.index, some.values, strict=True)
                ]
                pairs = list(map(tuple, some.to_numpy().tolist()))
                parts.append(Points(pairs, shape, colour, f"{label} ({len(some)})", names))
            wide = re.search(r"\d+", ours)
            us = f"{wide[0]} generated networks, merged" if wide else "one generated network"
            axes = Axis(f"{called}: test R2", -1.0, 1.0), Axis(f"{us}: test R2", -1.0, 1.0)
            said = f"{ours} and {other}: a mark per task, its name under the pointer. Above the line {ours} is ahead."
            drawn.append(Picture(plane(SETS.get(name, name), *axes, parts, diagonal=True), said))
    return drawn


def loss_curves(folder: Path) -> Drawing:
    """Every part of the training loss by step, means over the steps between two points."""
    drawn = []
    for file in sorted(folder.glob("*.tsv")):
        curve = pd.read_csv(file, sep="\t")
        steps, values = curve["step"].astype(float).tolist(), curve.iloc[:, -1].astype(float)
        known = values[values.map(math.isfinite)]
        low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
        log = 0 < low < _DECADE * high
        y = Axis("", low if log else min(0.0, low), high, log)
        pairs = list(zip(steps, values.tolist(), strict=True))
        x = Axis("step", min(steps, default=0.0), max(steps, default=1.0))
        drawn.append(plane(file.stem.replace("_", " "), x, y, [Curve(pairs, 0, True)], size=_PANEL))
    return sheet("training losses", drawn, 3)


def refinement(report: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Drawing:
    """Mean test R2 against gradient steps, a line per start, a picture per set; medians jump where tasks lie far apart.

    report: of `card.refine_report`.
    """
    drawn = []
    rows = [row for starts in report.values() for row in starts.values()]
    steps = sorted({int(found[1]) for row in rows for key in row if (found := re.fullmatch(r"steps_(\d+)_mean", key))})
    x = Axis("gradient steps", -0.2, len(steps) - 0.8, names=[str(k) for k in steps])
    for name, starts in report.items():
        parts: list[Points | Curve] = []
        for start, (label, colour, shape, dashed) in STARTS.items():
            known = [starts[start].get(f"steps_{k}_mean", math.nan) for k in steps]
            pairs = [(float(i), value) for i, value in enumerate(known)]
            parts += [Curve(pairs, colour, dashed=dashed), Points(pairs, shape, colour, label)]
        every = [value for part in parts for _, value in part.xy if math.isfinite(value)]
        drawn.append(plane(SETS.get(name, name), x, Axis("mean test R2", min(every) - 0.02, max(every) + 0.02), parts))
    return sheet("test R2 after gradient steps", drawn, 2)


def real_tables(real: pd.DataFrame) -> Drawing:
    """Test R2 on each real table, a line per table, sorted by the merged network. real: a column per row of results."""
    ours = merged_row([str(row) for row in real.columns])
    order = real.sort_values(ours)
    parts: list[Points | Curve] = [
        Points([(value, float(i)) for i, value in enumerate(order[row])], shape, colour, row)
        for row, shape, colour in LEARNERS
        if row in order
    ]
    parts.append(Points([(value, float(i)) for i, value in enumerate(order[ours])], "diamond", 0, ours))
    y = Axis("", -1.0, float(len(order)), names=[str(name) for name in order.index])
    return plane("real tables", Axis("test R2", -1.0, 1.0), y, parts, size=(760, 90 + _LINE * len(order)))


def ablations(runs: pd.DataFrame) -> Drawing:
    """A dot per seed and a bar at the mean, a line per arm, for the R2 of written networks and of decoded ones."""
    arms = list(dict.fromkeys(runs["arm"]))[::-1]
    drawn = []
    for name, title in ABLATED.items():
        parts: list[Points | Curve] = []
        for line, arm in enumerate(arms):
            values = runs.loc[runs["arm"] == arm, name].dropna()
            parts.append(Points([(value, float(line)) for value in values], "ring", 0))
            if len(values):
                mean = float(values.mean())
                parts.append(Curve([(mean, line - 0.3), (mean, line + 0.3)], 4, True))
        known = runs[name].dropna()
        measured = MEASURED.get(name, "median test R2")
        x = Axis(measured, float(known.min()), float(known.max()))
        y = Axis("", -0.6, len(arms) - 0.4, names=arms)
        drawn.append(plane(title, x, y, parts, size=(440, 80 + 22 * len(arms))))
    return sheet("one part left out", drawn, 2)
