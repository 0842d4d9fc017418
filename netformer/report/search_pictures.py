"""Pictures of searches: what is found against what is spent, and the fronts."""

from __future__ import annotations

import pandas as pd

from netformer.report.charts import Axis, Curve, Points, plane
from netformer.report.svg import Drawing

COLOURS = 6
FRONTS = 4  # tasks that are drawn
SIZE = (480, 360)
SHAPES = ("dot", "square", "triangle", "cross", "diamond", "ring")


def anytime(quartiles: pd.DataFrame, x: str = "evaluations", title: str = "") -> Drawing:
    """Median hypervolume against what was spent, a curve per way, quartiles dashed. quartiles: columns way, `x`, low,
    median, high."""
    parts: list[Points | Curve] = []
    for number, (way, part) in enumerate(quartiles.groupby("way", sort=False)):
        colour = number % COLOURS
        parts += [Curve(_pairs(part, x, name), colour, dashed=True) for name in ("low", "high")]
        parts.append(Curve(_pairs(part, x, "median"), colour, strong=True, label=str(way)))
    top = float(quartiles["high"].max()) * 1.02
    axes = Axis(x, float(quartiles[x].min()), float(quartiles[x].max())), Axis("hypervolume", 0.0, top)
    return plane(title or f"Hypervolume against {x}: median and quartiles of tasks", *axes, parts, size=SIZE)


def front(fronts: pd.DataFrame, x: str, y: str, title: str) -> Drawing:
    """The networks of each way that nothing else it found is better than. fronts: columns way, `x`, `y`."""
    parts: list[Points | Curve] = []
    for number, (way, part) in enumerate(fronts.groupby("way", sort=False)):
        names = [f"{way}: {x} {a:.4g}, {y} {b:.4g}" for a, b in _pairs(part, x, y)]
        shape = SHAPES[number % len(SHAPES)]
        parts.append(Points(_pairs(part, x, y), shape, number % COLOURS, label=str(way), names=names))
    low, high = float(fronts[x].min()), float(fronts[x].max())
    wide = low > 0 and high > 10 * low
    across = Axis(x, low, high, log=wide)
    return plane(title, across, Axis(y, min(0.0, float(fronts[y].min())), float(fronts[y].max())), parts, size=SIZE)


def _pairs(part: pd.DataFrame, x: str, y: str) -> list[tuple[float, float]]:
    return list(zip(part[x].astype(float).tolist(), part[y].astype(float).tolist(), strict=True))
