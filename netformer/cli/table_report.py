"""What was written for one table, as a report: scores, curves along columns, networks, predicted against true."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float

from netformer.cli.describe import influence
from netformer.cli.leaderboard import BASELINES, Row, ridge_pipeline
from netformer.exports.population import Population
from netformer.report.charts import Axis, Curve, Points, plane
from netformer.report.graph import LEGEND, draw_network
from netformer.report.page import Cell, DataTable, Picture, Report, Section, cell

DRAWN, COLUMNS = 6, 4  # networks, and columns of which the curves are drawn
_POINTS, _GRID, _DOTS = 120, 33, 500


def table_report(
    bundle: Population,
    board: Sequence[Row],
    X: Float[np.ndarray, "rows features"],
    y: Float[np.ndarray, " rows"],
    train: Bool[np.ndarray, " rows"],
    notes: Sequence[str],
) -> Report:
    """board: of `leaderboard`, best first. X, y: the whole table without gaps; train: the rows trained on."""
    score = {row.name: row.r2 for row in board}
    lead = [
        f"{len(bundle.networks)} networks for {bundle.target!r}, {len(y)} rows ({int(train.sum())} trained on) and "
        f"{len(bundle.columns)} columns.",
        *notes,
    ]
    lines: list[list[Cell]] = [[row.name, row.r2, row.n_params, row.structure] for row in board]
    heads = ["network", "R2", "parameters", "structure"]
    slopes = influence(bundle.networks).mean(0).tolist()
    order = sorted(range(len(slopes)), key=lambda i: -slopes[i])
    strength: list[list[Cell]] = [[bundle.columns[i], slopes[i]] for i in order]
    best = [int(row.name) for row in board if row.name not in ("mean", "wide", *BASELINES)][:DRAWN]
    return Report(
        f"NetFormer: {bundle.target}",
        lead,
        [
            Section("Leaderboard", [DataTable(heads, lines, f"On {int((~train).sum())} rows held back, best first.")]),
            Section("Predicted against true", _predicted(bundle, score, best[0], X, y, train), "Rows held back."),
            Section("Curves", _curves(bundle, slopes, best, X, y), "Along the strongest columns, mean over the rows."),
            Section("Networks", _networks(bundle, score, best, X[train]), _NOTE),
            Section("Columns", [DataTable(["column", "influence"], strength, _INFLUENCE, search=True)]),
        ],
    )


_INFLUENCE = "Mean |slope| over the networks; columns and target standardised."
_NOTE = f"The best on the rows held back, reading and answering standardised values. {LEGEND}"


def _spread(count: int, most: int) -> np.ndarray:
    """At most so many positions, evenly spaced."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int)


def _ends(*parts: np.ndarray) -> tuple[float, float]:
    low, high = (float(value) for value in np.percentile(np.concatenate(parts), [0, 100]))
    return low - 0.04 * (high - low), high + 0.04 * (high - low)


def _predicted(
    bundle: Population, score: dict[str, float], best: int, X: np.ndarray, y: np.ndarray, train: np.ndarray
) -> list[Picture]:
    test = np.flatnonzero(~train)
    test = test[_spread(len(test), _DOTS)]
    answers = {
        "wide": bundle.predict(X[test], "wide"),
        str(best): bundle.predict(X[test], best),
        "ridge": ridge_pipeline().fit(X[train], y[train]).predict(X[test]),
    }
    drawn, ends = [], _ends(y[test], answers["wide"])
    said = {"wide": "all networks merged, the default", "ridge": "linear, for comparison"}
    for name, answer in answers.items():
        names = [f"row {row + 1}: {a:.4g}, predicted {b:.4g}" for row, a, b in zip(test, y[test], answer, strict=True)]
        dots = Points(list(zip(y[test].tolist(), answer.tolist(), strict=True)), "ring", 0, names=names)
        title = name if name in said else f"network {name}"
        drawing = plane(title, Axis(bundle.target, *ends), Axis("predicted", *ends), [dots], diagonal=True)
        what = said.get(name, f"network {name}, the best on these rows, so it looks better here than on new ones")
        drawn.append(Picture(drawing, f"{what}: R2 {cell(score[name])}"))
    return drawn


def _curves(
    bundle: Population, slopes: Sequence[float], best: Sequence[int], X: np.ndarray, y: np.ndarray
) -> list[Picture]:
    rows = _spread(len(y), _POINTS)
    x, drawn = X[rows], []
    for column in sorted(range(len(slopes)), key=lambda i: -slopes[i])[:COLUMNS]:
        low, high = (float(value) for value in np.percentile(X[:, column], [1, 99]))
        grid = np.linspace(low, high, _GRID)
        points = np.repeat(x[None], _GRID, 0)
        points[:, :, column] = grid[:, None]
        parts: list[Points | Curve] = [
            Points(list(zip(x[:, column].tolist(), y[rows].tolist(), strict=True)), "small", 5, "rows")
        ]
        lines = []
        members: list[int | str] = [*best, "wide"]
        for which in members:
            curve = bundle.predict(points.reshape(-1, X.shape[1]), which).reshape(_GRID, -1).mean(1)
            lines.append(curve)
            label = "merged" if which == "wide" else "single" if which == best[0] else ""
            pairs = list(zip(grid.tolist(), curve.tolist(), strict=True))
            parts.append(Curve(pairs, 0 if which == "wide" else 2, which == "wide", label))
        name = bundle.columns[column]
        span = _ends(np.percentile(y, [2, 98]), lines[-1])
        drawing = plane(name, Axis(name, low, high), Axis(bundle.target, *span), parts)
        drawn.append(Picture(drawing, f"influence {slopes[column]:.2f}"))
    return drawn


def _networks(bundle: Population, score: dict[str, float], best: Sequence[int], X: np.ndarray) -> list[Picture]:
    z = torch.from_numpy(bundle.reading.standardize(X[_spread(len(X), _POINTS)]))
    drawn = []
    for index in best:
        drawing = draw_network(bundle.networks, index, z, bundle.columns, f"network {index}")
        size = int(bundle.networks.specs.n_params[index])
        drawn.append(Picture(drawing, f"R2 {cell(score[str(index)])}, {size} parameters"))
    return drawn
