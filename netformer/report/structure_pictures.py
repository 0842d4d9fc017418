"""Pictures of structures: what a network is worth against its size, and which structures tasks get."""

from __future__ import annotations

import numpy as np
import pandas as pd

from netformer.report.charts import Axis, Curve, Points, plane
from netformer.report.svg import Drawing, sheet

SIZE = (480, 340)
SHAPES = ("dot", "square", "triangle", "cross")


def sizes_and_scores(measured: pd.DataFrame) -> Drawing:
    """Mean R2 against mean parameters, a curve per way to choose the structure under a bound, and the smallest ones.
    measured: see `search.worth.measure`; the tasks that every bound allows."""
    bounds = measured.groupby("task")["bound"].nunique()
    kept = measured[measured["task"].isin(bounds.index[bounds == bounds.max()])]
    small = kept["method"].str.startswith("smallest")
    parts: list[Points | Curve] = []
    for number, (method, part) in enumerate(kept[~small].groupby("method", sort=False)):
        xy = _means(part.groupby("bound"))
        parts += [Curve(xy, number, strong=number == 0), Points(xy, SHAPES[number], number, label=str(method))]
    xy = _means(kept[small].groupby("method"))
    parts += [Curve(xy, 4, dashed=True), Points(xy, "diamond", 4, label="smallest within a loss")]
    x, y = ([pair[at] for part in parts if isinstance(part, Points) for pair in part.xy] for at in (0, 1))
    axes = Axis("parameters (mean)", min(x), max(x), log=True), Axis("R2 on test rows (mean)", min(y), max(y))
    return plane("One network: R2 against size, by how its structure is chosen", *axes, parts, size=SIZE)


def chosen_structures(measured: pd.DataFrame) -> Drawing:
    """Parameters, and the share of the inputs that are read, of the smallest network within 0.01 of the best, against
    rows and against how much can be known of the task."""
    own = measured[measured["method"] == "smallest, max_loss 0.01"]
    r2 = np.clip(own["test_r2"].to_numpy(), 0, 1)
    share = (own["reads"] / own["inputs"].clip(upper=16)).to_numpy()
    params = own["params"].to_numpy()
    rows = Axis("rows", float(own["rows"].min()), float(own["rows"].max()), log=True)
    known = Axis("R2 on test rows", 0.0, 1.0)
    sizes, shares = Axis("parameters", 4.0, float(params.max()), log=True), Axis("share of inputs read", 0.0, 1.0)
    drawn = [
        plane(f"{y.label} against {x.label}", x, y, [Points(list(zip(a, b, strict=True)), "small", 0)])
        for x, a in ((rows, own["rows"].to_numpy()), (known, r2))
        for y, b in ((sizes, params), (shares, share))
    ]
    return sheet("The smallest network within 0.01 of the best: a point per task", drawn, 2)


def _means(parts: object) -> list[tuple[float, float]]:
    means = parts[["params", "test_r2"]].mean().sort_values("params")  # type: ignore[index]
    return list(zip(means["params"].tolist(), means["test_r2"].tolist(), strict=True))
