"""Pictures of the zoo as a benchmark: what readers know, and what latents know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from netformer.report.charts import Axis, Curve, Points, legend, plane
from netformer.report.svg import Drawing, sheet

SHAPES = ("dot", "square", "triangle", "cross", "diamond", "ring")
SIZE = (430, 300)


def readers(found: Mapping[str, Any]) -> Drawing:
    """A picture per way to split: readers, and how much each knows of every question. found: `readers.card.summary`."""
    drawn, shown = [], list[Points | Curve]()
    asked = list(dict.fromkeys(q for rows in found.values() for row in rows.values() for q in row))
    for way, rows in found.items():
        names, parts = list(rows)[::-1], list[Points | Curve]()
        for number, question in enumerate(asked):
            xy = [
                (max(0.0, row[question].get("r2", row[question].get("accuracy"))), names.index(name))
                for name, row in rows.items()
                if question in row
            ]
            kind = SHAPES[number % len(SHAPES)]
            parts.append(Points(xy, kind, number, names=[f"{question}, {names[y]}: {x:.3f}" for x, y in xy]))
            if way == next(iter(found)):
                shown.append(Points([], kind, number, label=question))
        across = Axis("R2; of classes the share right", 0.0, 1.0)
        drawn.append(plane(f"Split by {way}", across, Axis("", -0.5, len(names) - 0.5, names=names), parts, size=SIZE))
    return sheet("What readers know of networks", drawn, 2, legend(shown, 2 * SIZE[0]))


def latent(one_by_one: pd.DataFrame, between: pd.DataFrame, neighbours: pd.DataFrame) -> Drawing:
    """What `readers.latent` found: sizes read out, test R2 on the way, what nearest networks have in common."""
    pairs = list(zip(one_by_one["size"].tolist(), one_by_one["read_size"].tolist(), strict=True))
    sizes = [value for pair in pairs for value in pair]
    low, high = min(sizes), max(sizes)
    out = [
        plane(
            "Size of the decoded network",
            Axis("parameters", low, high, log=True),
            Axis("read from the latent", low, high, log=True),
            [Points(pairs, "small")],
            diagonal=True,
            size=SIZE,
        )
    ]
    curves = [
        Curve(
            list(zip(between.index.tolist(), between[name].tolist(), strict=True)), number, True, name.replace("_", " ")
        )
        for number, name in enumerate(between.columns)
    ]
    least = min(0.0, float(between.min().min()))
    out.append(
        plane(
            "Between two networks of a task",
            Axis("share of the way", 0.0, 1.0),
            Axis("median test R2", least, 1.0),
            curves,
            size=SIZE,
        )
    )
    names = list(neighbours.columns)[::-1]
    points = [
        Points([(row[name], names.index(name)) for name in names], SHAPES[number], number, label=str(by))
        for number, (by, row) in enumerate(neighbours.iterrows())
    ]
    rows = Axis("", -0.5, len(names) - 0.5, names=[f"same {name}" for name in names])
    out.append(plane("The nearest network", Axis("share of networks", 0.0, 1.0), rows, points, size=SIZE))
    return sheet("What the latents know", out, 2)
