"""What was written for one table, as a report: scores, how each column was read, what the answer does along the
strongest columns, networks, predicted against true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int

from netformer.cli.leaderboard import BASELINES, Row, ridge_pipeline
from netformer.exports.population import Population
from netformer.report.charts import Axis, Curve, Points, plane
from netformer.report.graph import LEGEND, draw_network
from netformer.report.page import Cell, DataTable, Picture, Report, Section, cell
from netformer.report.svg import Drawing, short
from netformer.tables.columns import Column

DRAWN, COLUMNS = 6, 6  # networks, and columns of which the curves are drawn
LEVELS, NAME = 10, 18  # levels of a category that are drawn, the most frequent, and letters of each
_POINTS, _GRID, _DOTS = 120, 33, 500
_EFFECT_ROWS, _EFFECT_GRID = 60, 9  # rows and values at which it is seen how far the answer moves along a column
_YEAR, _DAY = 365.2425 * 86400.0, 86400.0
Answers = dict[int | str, np.ndarray]  # of networks, or of wide, along a column
_JITTER = 0.28  # of the rows of a level, so that they do not hide each other


def table_report(
    bundle: Population,
    board: Sequence[Row],
    X: pd.DataFrame,
    y: Float[np.ndarray, " rows"],
    train: Bool[np.ndarray, " rows"],
    notes: Sequence[str],
) -> Report:
    """board: of `leaderboard`, best first. X, y: the whole table, X indexed by the position of a row in its file.
    train: the rows trained on."""
    score = {row.name: row.r2 for row in board}
    lead = [
        f"{len(bundle.networks)} networks for {bundle.target!r}, {len(y)} rows ({int(train.sum())} trained on) and "
        f"{len(bundle.columns)} columns.",
        *notes,
    ]
    lines: list[list[Cell]] = [
        [row.name, row.r2, row.n_params, row.structure + "; the default" * (row.name == "wide")] for row in board
    ]
    heads = ["network", "R2", "parameters", "structure"]
    z = bundle.reading.standardize(X)
    effects = {
        column.name: float(np.ptp(along.answers(bundle, "wide")))
        for column, along in zip(bundle.reading.table, _alongs(bundle, X, z, _EFFECT_ROWS, _EFFECT_GRID), strict=True)
    }
    strongest = sorted(effects, key=lambda name: -effects[name])
    best = [int(row.name) for row in board if row.name not in ("mean", "wide", *BASELINES)][:DRAWN]
    return Report(
        f"NetFormer: {bundle.target}",
        lead,
        [
            Section("Leaderboard", [DataTable(heads, lines, f"On {int((~train).sum())} rows held back, best first.")]),
            Section("Columns", [_columns(bundle, strongest, effects)]),
            Section("Predicted against true", _predicted(bundle, score, best[0], X, y, train), "Rows held back."),
            Section("Curves", _curves(bundle, strongest, effects, best, X, y, z), _CURVES),
            Section("Networks", _networks(bundle, score, best, z[train]), _NOTE),
        ],
    )


_CURVES = (
    "Along the columns that move the answer most: the mean over rows of the table whose cells in this column are "
    "replaced. Thick, or a dot: wide."
)
_NOTE = f"The best on the rows held back, reading and answering standardised values. {LEGEND}"


def _columns(bundle: Population, strongest: Sequence[str], effects: dict[str, float]) -> DataTable:
    table = bundle.reading.described().set_index("name")
    order = [*strongest, *(name for name in table.index if name not in effects)]
    rows: list[list[Cell]] = [
        [name, str(table.loc[name, "kind"]), effects.get(name), *map(str, table.loc[name, ["note", "inputs"]])]
        for name in order
    ]
    caption = (
        f"How each column was read, and how far the answer of wide moves along it, in units of {bundle.target}: its "
        "highest mean over rows minus its lowest. Of numbers and dates the middle 98 % count."
    )
    return DataTable(["column", "read as", "moves the answer by", "note", "inputs"], rows, caption, (1,), search=True)


@dataclass(frozen=True, eq=False)
class _Along:
    """A walk along one column: rows whose inputs made of it are replaced by those of others.

    z: rows, standardised. at: rows of the table, in the order of the column's values or levels, whose cells are taken.
    cells: their inputs. own: which inputs these are.
    """

    column: Column
    z: Float[np.ndarray, "rows inputs"]
    at: Int[np.ndarray, " grid"]
    cells: Float[np.ndarray, "grid own"]
    own: list[int]

    def answers(self, bundle: Population, which: int | str) -> Float[np.ndarray, " grid"]:
        """The mean answer at each, in units of the target."""
        points = np.repeat(self.z[None], len(self.at), 0)
        points[:, :, self.own] = self.cells[:, None]
        found = bundle.standard_answers(points.reshape(-1, points.shape[2]), which)
        return bundle.reading.answer(found.reshape(len(self.at), -1).mean(1))


def _alongs(bundle: Population, X: pd.DataFrame, z: np.ndarray, rows: int, grid: int) -> list[_Along]:
    """A walk along every column in use, in their order."""
    made = []
    for index, column in enumerate(bundle.reading.table):
        own = [i for i, one in enumerate(bundle.reading.inputs) if one.column == index]
        if column.kind == "category":
            codes = column.codes(X[column.name])
            at = np.array([np.argmax(codes == level) for level in _levels(column, codes)])
        else:
            at = _evenly(column.values(X[column.name]), grid)
        made.append(_Along(column, z[_spread(len(z), rows)], at, z[at][:, own], own))
    return made


def _levels(column: Column, codes: np.ndarray) -> list[int]:
    """The most frequent levels, in their order."""
    counts = np.bincount(codes, minlength=len(column.levels) + 1)[: len(column.levels)]
    return sorted(np.argsort(-counts, kind="stable")[:LEVELS][: int((counts > 0).sum())].tolist())


def _evenly(values: Float[np.ndarray, " rows"], most: int) -> Int[np.ndarray, " grid"]:
    """Rows whose values are evenly spaced between the 1st and the 99th percentile, or near it; lowest first."""
    known = np.flatnonzero(np.isfinite(values))
    known = known[np.argsort(values[known], kind="stable")]
    low, high = np.percentile(values[known], [1, 99])
    at = np.searchsorted(values[known], np.linspace(low, high, most))
    return known[np.unique(np.clip(at, 0, len(known) - 1))]


def _spread(count: int, most: int) -> np.ndarray:
    """At most so many positions, evenly spaced."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int)


def _ends(*parts: np.ndarray) -> tuple[float, float]:
    low, high = (float(value) for value in np.percentile(np.concatenate(parts), [0, 100]))
    return low - 0.04 * (high - low), high + 0.04 * (high - low)


def _predicted(
    bundle: Population, score: dict[str, float], best: int, X: pd.DataFrame, y: np.ndarray, train: np.ndarray
) -> list[Picture]:
    test = np.flatnonzero(~train)
    test = test[_spread(len(test), _DOTS)]
    some = X.iloc[test]
    answers = {
        "wide": bundle.predict(some, "wide"),
        str(best): bundle.predict(some, best),
        "ridge": ridge_pipeline().fit(X[train], y[train]).predict(some),
    }
    drawn, ends = [], _ends(y[test], answers["wide"])
    said = {"wide": "all networks merged, the default", "ridge": "linear, for comparison"}
    for name, answer in answers.items():
        facts = zip(some.index, y[test], answer, strict=True)
        names = [f"row {row + 1}: {a:.4g}, predicted {b:.4g}" for row, a, b in facts]
        dots = Points(list(zip(y[test].tolist(), answer.tolist(), strict=True)), "ring", 0, names=names)
        title = name if name in said else f"network {name}"
        drawing = plane(title, Axis(bundle.target, *ends), Axis("predicted", *ends), [dots], diagonal=True)
        what = said.get(name, f"network {name}, the best on these rows, so it looks better here than on new ones")
        drawn.append(Picture(drawing, f"{what}: R2 {cell(score[name])}"))
    return drawn


def _curves(
    bundle: Population,
    strongest: Sequence[str],
    effects: dict[str, float],
    best: Sequence[int],
    X: pd.DataFrame,
    y: np.ndarray,
    z: np.ndarray,
) -> list[Picture]:
    alongs = {along.column.name: along for along in _alongs(bundle, X, z, _POINTS, _GRID)}
    drawn = []
    for name in strongest[:COLUMNS]:
        along = alongs[name]
        members: list[int | str] = [*best, "wide"]
        answers = {which: along.answers(bundle, which) for which in members}
        draw = _along_levels if along.column.kind == "category" else _along_values
        caption = f"{name}: moves the answer by {effects[name]:.3g}"
        drawn.append(Picture(draw(bundle.target, along, answers, X[name], y), caption))
    return drawn


def _label(which: int | str, first: int | str) -> str:
    return "wide" if which == "wide" else "single networks" if which == first else ""


def _along_values(target: str, along: _Along, answers: Answers, cells: pd.Series, y: np.ndarray) -> Drawing:
    rows, values = _spread(len(y), _POINTS), along.column.values(cells)
    values, title = _for_people(along.column, values, values[along.at])
    x, low, high = values[rows], values[along.at[0]], values[along.at[-1]]
    parts: list[Points | Curve] = [Points(list(zip(x.tolist(), y[rows].tolist(), strict=True)), "small", 5, "rows")]
    for which, answer in answers.items():
        pairs = list(zip(values[along.at].tolist(), answer.tolist(), strict=True))
        wide = which == "wide"
        parts.append(Curve(pairs, 0 if wide else 2, wide, _label(which, next(iter(answers)))))
    span = _ends(np.percentile(y, [2, 98]), answers["wide"])
    return plane(along.column.name, Axis(title, low, high), Axis(target, *span), parts)


def _for_people(column: Column, values: np.ndarray, shown: np.ndarray) -> tuple[np.ndarray, str]:
    """Values in units that an axis can have, and its title: dates in years, or in days from the first that is shown."""
    if column.kind != "date":
        return values, column.name
    if np.ptp(shown) > 2 * _YEAR:
        return 1970 + values / _YEAR, f"{column.name} (year)"
    return (values - shown[0]) / _DAY, f"{column.name} (days from {pd.Timestamp(shown[0], unit='s'):%Y-%m-%d})"


def _along_levels(target: str, along: _Along, answers: Answers, cells: pd.Series, y: np.ndarray) -> Drawing:
    column, codes = along.column, along.column.codes(cells)
    levels = codes[along.at].tolist()
    place = {level: len(levels) - 1 - i for i, level in enumerate(levels)}  # the first one on top
    rows = [row for row in _spread(len(y), _POINTS).tolist() if codes[row] in place]
    jitter = np.linspace(-_JITTER, _JITTER, 5)[np.arange(len(rows)) % 5]
    dots = [(float(y[row]), place[codes[row]] + float(off)) for row, off in zip(rows, jitter, strict=True)]
    parts = [Points(dots, "small", 5, "rows")]
    for which, answer in answers.items():
        pairs = [(value, place[level]) for value, level in zip(answer.tolist(), levels, strict=True)]
        wide = which == "wide"
        shape = "dot" if wide else "ring"
        parts.append(Points(pairs, shape, 0 if wide else 2, _label(which, next(iter(answers)))))
    names = [short(str(column.levels[level]) or "missing", NAME) for level in reversed(levels)]
    span = _ends(np.percentile(y, [2, 98]), *answers.values())
    return plane(column.name, Axis(target, *span), Axis("", -0.6, len(levels) - 0.4, names=names), parts)


def _networks(bundle: Population, score: dict[str, float], best: Sequence[int], z: np.ndarray) -> list[Picture]:
    rows = torch.from_numpy(z[_spread(len(z), _POINTS)])
    drawn = []
    for index in best:
        drawing = draw_network(bundle.networks, index, rows, bundle.reading.input_names, f"network {index}")
        size = int(bundle.networks.specs.n_params[index])
        drawn.append(Picture(drawing, f"R2 {cell(score[str(index)])}, {size} parameters"))
    return drawn
