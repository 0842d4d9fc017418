"""What was written for one table, as a report: how far it can be trusted (scores, predictions for rows held out), how
each column was read, what the answer does along the strongest columns, networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from netformer import __version__
from netformer.benchmark.held_out import HeldOutClasses
from netformer.cli import class_report, trust
from netformer.cli.describe import of_target, outputs_of
from netformer.cli.scores import Found, said
from netformer.cli.trust import ends_of, spread_over
from netformer.exports.classes import probabilities
from netformer.exports.population import Population
from netformer.report.charts import Axis, Curve, Points, plane
from netformer.report.graph import LEGEND, draw_network
from netformer.report.page import Cell, DataTable, Picture, Report, Section, Text, cell
from netformer.report.svg import Drawing
from netformer.tables.columns import Column

DRAWN, COLUMNS = 3, 6  # networks, and columns of which the curves are drawn
LEVELS = 10  # levels of a category that are drawn, the most frequent
_POINTS, _GRID = 120, 33
_EFFECT_ROWS, _EFFECT_GRID = 60, 9  # rows and values at which it is seen how far the answer moves along a column
_YEAR, _DAY = 365.2425 * 86400.0, 86400.0
Answers = dict[int | str, np.ndarray]  # of networks, or of wide, along a column
_JITTER = 0.28  # of the rows of a level, so that they do not hide each other


def report_of(
    bundle: Population,
    found: Sequence[Found],
    X: pd.DataFrame,
    y: np.ndarray,
    conclusions: Sequence[str],
    notes: Sequence[str],
    command: str,
    out: Path | None,
) -> Report:
    """`table_report` of one target, `targets_report` of several. found: the scores of each target, or none.
    y: rows, or rows x targets."""
    if len(bundle.reading.targets) > 1:
        return targets_report(bundle, found, X, y, notes, command, out)
    return table_report(bundle, found[0] if found else None, X, y, conclusions, notes, command, out)


def table_report(
    bundle: Population,
    found: Found | None,
    X: pd.DataFrame,
    y: np.ndarray,
    conclusions: Sequence[str] = (),
    notes: Sequence[str] = (),
    command: str = "",
    out: Path | None = None,
) -> Report:
    """found: scores, or None; conclusions: what they come to. X, y: the whole table, X indexed by the position of a row
    in its file, y numbers or labels. notes: on how it was read. command, out: that made the networks, and where they
    are."""
    z, target = bundle.reading.standardize(X), bundle.target
    effects = {
        column.name: float(np.ptp(along.answers(bundle, "wide"), axis=0).max())
        for column, along in zip(bundle.reading.table, _alongs(bundle, X, z, _EFFECT_ROWS, _EFFECT_GRID), strict=True)
    }
    strongest = sorted(effects, key=lambda name: -effects[name])
    best = np.argsort(-bundle.expected_r2.numpy(), kind="stable")[:DRAWN].tolist()
    held_out = [] if found is None else [trust.scores(found, target, conclusions)]
    if isinstance(found, HeldOutClasses):
        held_out += [class_report.confusion(found), class_report.reliability(found), class_report.by_class(found)]
    elif found is not None:
        held_out += [trust.predicted(found, target), trust.residuals(found, target), trust.intervals(found, target)]
    kind = f" of {len(bundle.classes)} classes" if bundle.classes else ""
    return Report(
        f"NetFormer: {target}",
        [
            f"{len(bundle.networks)} networks for {target!r}{kind}, {len(y)} rows and {len(bundle.columns)} columns.",
            *([] if found else conclusions),
        ],
        [
            *held_out,
            Section("Columns", [Text(notes), _columns(bundle, strongest, effects)]),
            trust.importances(bundle, X, y),
            *([class_report.contributions(bundle, X)] if bundle.classes else []),
            Section("Curves", _curves(bundle, strongest, effects, best, X, y, z), _CURVES_CLASSES if kind else _CURVES),
            trust.units(bundle, X),
            Section("Single networks", _networks(bundle, best, z), f"{_NOTE_CLASSES if kind else _NOTE} {LEGEND}"),
            trust.use(bundle, __version__, command, str(out) if out else None),
        ],
    )


def targets_report(
    bundle: Population,
    found: Sequence[Found],
    X: pd.DataFrame,
    y: Float[np.ndarray, "rows targets"],
    notes: Sequence[str] = (),
    command: str = "",
    out: Path | None = None,
) -> Report:
    """`table_report` of several targets: every section for one after the other. found: scores of each, or none."""
    size = f"{len(bundle.networks)} networks for {y.shape[1]} targets, {len(y)} rows and {len(bundle.columns)} columns."
    sections: list[Section] = []
    for k, target in enumerate(bundle.reading.targets):
        own, some = (found[k], said(found[k])) if found else (None, [])
        made = table_report(of_target(bundle, k), own, X, y[:, k], some, notes if k == 0 else (), command, out)
        *each, last = made.sections
        sections += [replace(section, title=f"{target.name}: {section.title}") for section in each]
    return Report(f"NetFormer: {bundle.target}", [size], [*sections, last])


_CURVES = (
    "Along the columns that move the answer most: the mean over rows of the table whose cells in this column are "
    "replaced. Thick, or a dot: wide."
)
_CURVES_CLASSES = (
    "Along the columns that move the answer most: the mean probability over rows of the table whose cells in this "
    "column are replaced."
)
_NOTE = "Those with the best expected R2, reading and answering standardised values."
_NOTE_CLASSES = "The first of them, reading standardised values and answering logits."


def _columns(bundle: Population, strongest: Sequence[str], effects: dict[str, float]) -> DataTable:
    table = bundle.reading.described().set_index("name")
    order = [*strongest, *(name for name in table.index if name not in effects)]
    rows: list[list[Cell]] = [
        [name, str(table.loc[name, "kind"]), effects.get(name), *map(str, table.loc[name, ["note", "inputs"]])]
        for name in order
    ]
    unit = "as a probability, of the class that it moves most" if bundle.classes else f"in units of {bundle.target}"
    caption = (
        f"How each column was read, and how far the answer of wide moves along it, {unit}: its "
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

    def answers(self, bundle: Population, which: int | str) -> Float[np.ndarray, " grid *classes"]:
        """The mean answer at each, in units of the target; of classes the mean probability of each."""
        points = np.repeat(self.z[None], len(self.at), 0)
        points[:, :, self.own] = self.cells[:, None]
        found = bundle.outputs(points.reshape(-1, points.shape[2]), which)
        if bundle.classes:
            return probabilities(found).reshape(len(self.at), len(self.z), -1).mean(1)
        return bundle.reading.answers(found[:, :1].reshape(len(self.at), -1).mean(1)[:, None])[:, 0]


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
        made.append(_Along(column, z[spread_over(len(z), rows)], at, z[at][:, own], own))
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
        caption, category = f"{name}: moves the answer by {effects[name]:.3g}", along.column.kind == "category"
        if bundle.classes:
            places, axis = _levels_of(along, X[name])[1:] if category else _scale_of(along, X[name])
            p = along.answers(bundle, "wide")
            drawn.append(Picture(class_report.along(name, bundle.classes, p, places, axis, category), caption))
            continue
        members: list[int | str] = [*best, "wide"]
        answers = {which: along.answers(bundle, which) for which in members}
        draw = _along_levels if category else _along_values
        drawn.append(Picture(draw(bundle.target, along, answers, X[name], y), caption))
    return drawn


def _label(which: int | str, first: int | str) -> str:
    return "wide" if which == "wide" else "single networks" if which == first else ""


def _along_values(target: str, along: _Along, answers: Answers, cells: pd.Series, y: np.ndarray) -> Drawing:
    rows, values = spread_over(len(y), _POINTS), along.column.values(cells)
    x = _for_people(along.column, values, values[along.at])[0][rows]
    places, axis = _scale_of(along, cells)
    parts: list[Points | Curve] = [Points(list(zip(x.tolist(), y[rows].tolist(), strict=True)), "small", 5, "rows")]
    for which, answer in answers.items():
        pairs = list(zip(places, answer.tolist(), strict=True))
        wide = which == "wide"
        parts.append(Curve(pairs, 0 if wide else 2, wide, _label(which, next(iter(answers)))))
    span = ends_of(np.percentile(y, [2, 98]), answers["wide"])
    return plane(along.column.name, axis, Axis(target, *span), parts)


def _scale_of(along: _Along, cells: pd.Series) -> tuple[list[float], Axis]:
    """Where the walk along a number or a date stops, and the axis of it."""
    values = along.column.values(cells)[along.at]
    values, title = _for_people(along.column, values, values)
    return values.tolist(), Axis(title, float(values[0]), float(values[-1]))


def _for_people(column: Column, values: np.ndarray, shown: np.ndarray) -> tuple[np.ndarray, str]:
    """Values in units that an axis can have, and its title: dates in years, or in days from the first that is shown."""
    if column.kind != "date":
        return values, column.name
    if np.ptp(shown) > 2 * _YEAR:
        return 1970 + values / _YEAR, f"{column.name} (year)"
    return (values - shown[0]) / _DAY, f"{column.name} (days from {pd.Timestamp(shown[0], unit='s'):%Y-%m-%d})"


def _along_levels(target: str, along: _Along, answers: Answers, cells: pd.Series, y: np.ndarray) -> Drawing:
    column, codes = along.column, along.column.codes(cells)
    place, places, axis = _levels_of(along, cells)
    rows = [row for row in spread_over(len(y), _POINTS).tolist() if codes[row] in place]
    jitter = np.linspace(-_JITTER, _JITTER, 5)[np.arange(len(rows)) % 5]
    dots = [(float(y[row]), place[codes[row]] + float(off)) for row, off in zip(rows, jitter, strict=True)]
    parts = [Points(dots, "small", 5, "rows")]
    for which, answer in answers.items():
        pairs = list(zip(answer.tolist(), places, strict=True))
        wide = which == "wide"
        shape = "dot" if wide else "ring"
        parts.append(Points(pairs, shape, 0 if wide else 2, _label(which, next(iter(answers)))))
    span = ends_of(np.percentile(y, [2, 98]), *answers.values())
    return plane(column.name, Axis(target, *span), axis, parts)


def _levels_of(along: _Along, cells: pd.Series) -> tuple[dict[int, int], list[float], Axis]:
    """The place of each level of a walk on an axis that goes up, the first one on top; these places; the axis."""
    column, levels = along.column, along.column.codes(cells)[along.at].tolist()
    place = {level: len(levels) - 1 - i for i, level in enumerate(levels)}
    names = [str(column.levels[level]) or "missing" for level in reversed(levels)]
    return place, [float(place[level]) for level in levels], Axis("", -0.6, len(levels) - 0.4, names=names)


def _networks(bundle: Population, best: Sequence[int], z: np.ndarray) -> list[Picture]:
    rows, drawn = z[spread_over(len(z), _POINTS)], []
    for index in best:
        inputs, outputs = bundle.reading.input_names, outputs_of(bundle)
        drawing = draw_network(bundle.networks, index, rows, inputs, f"network {index}", outputs)
        size = f"{int(bundle.networks.specs.n_params[index])} parameters"
        expected = f"expected R2 {cell(float(bundle.expected_r2[index]))}, {size}"
        drawn.append(Picture(drawing, size if bundle.classes else expected))
    return drawn
