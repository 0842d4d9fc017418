"""Classes in a report: which are taken for which, whether probabilities hold, and what columns add to each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from netformer.benchmark.class_scores import BINS, clipped, intervals_of
from netformer.benchmark.held_out import OURS, HeldOutClasses
from netformer.cli.trust import spread_over
from netformer.exports.population import Population
from netformer.report.charts import WIDTH, Axis, Curve, Points, plane
from netformer.report.page import Cell, DataTable, Picture, Section
from netformer.report.svg import Drawing, short

MOST, PAIRS = 12, 20  # classes of a whole matrix; pairs of classes that are listed of more
DRAWN = 4  # classes with a curve each
_NAME, _ROWS, _EXPLAINED, _LINE = 18, 500, 60, 17  # letters; rows drawn; rows explained; height of a class
_JITTER = 0.3


def _whole(labels: Sequence[Any]) -> list[str]:
    """Labels as a cell has them."""
    return [str(label) or "(empty)" for label in labels]


def _named(labels: Sequence[Any]) -> list[str]:
    """Labels as heads and axes have them."""
    return [short(label, _NAME) for label in _whole(labels)]


def _most_frequent(y: Int[np.ndarray, " rows"], n_classes: int, most: int) -> list[int]:
    """The most frequent classes, in their order."""
    return sorted(np.argsort(-np.bincount(y, minlength=n_classes), kind="stable")[:most].tolist())


def confusion(found: HeldOutClasses) -> Section:
    """Which classes are taken for which."""
    counts, names = found.confusion(), _whole(found.classes)
    rows, taken, right = counts.sum(1), counts.sum(0), np.diag(counts)
    recall = [int(one) / int(n) if n else None for one, n in zip(right, rows, strict=True)]
    precision = [int(one) / int(n) if n else None for one, n in zip(right, taken, strict=True)]
    note = "The class called most probable, of rows held out, each by networks that were fitted without it."
    facts = zip(names, rows.tolist(), recall, precision, strict=True)
    if len(names) <= MOST:
        cells: list[list[Cell]] = [
            [name, *own.tolist(), n, part, sure] for own, (name, n, part, sure) in zip(counts, facts, strict=True)
        ]
        heads = ["class", *(f"as {name}" for name in _named(found.classes)), "rows", "recall", "precision"]
        caption = (
            "Rows of each class, by the class that they were taken for. Recall: the share of its rows that were taken "
            "for it; precision: the share of rows taken for it that were its."
        )
        return Section("Confusion", [DataTable(heads, cells, caption)], note)
    off = counts - np.diag(right)
    order = np.argsort(-off, axis=None, kind="stable")[:PAIRS]
    pairs: list[list[Cell]] = [
        [names[at // len(names)], names[at % len(names)], int(off.flat[at])] for at in order.tolist() if off.flat[at]
    ]
    each: list[list[Cell]] = [list(one) for one in facts]
    blocks = [
        DataTable(["class", "taken for", "rows"], pairs, f"The {len(pairs)} pairs that were confused most often."),
        DataTable(["class", "rows", "recall", "precision"], each, "Each class.", search=True),
    ]
    return Section("Confusion", blocks, note)


def reliability(found: HeldOutClasses) -> Section:
    """Whether classes are as frequent as their probabilities say, in `BINS` intervals."""
    p = np.stack([clipped(one) for one in found.predicted[OURS]])
    row = found.table().loc[OURS]
    top, right = p.max(2), p.argmax(2) == found.y
    error = f"calibration error {row['calibration_error']:.3f} ± {row['calibration_error_se']:.3f}"
    drawn = [Picture(_curve("the most probable class", top, right, len(p)), f"Of each row: {error}.")]
    if p.shape[2] == 2:
        every, is_it, name = p[:, :, 1], np.broadcast_to(found.y == 1, p.shape[:2]), f"class {_named(found.classes)[1]}"
        drawn.append(Picture(_curve(name, every, is_it, len(p)), "Of each row the probability of this class."))
    else:
        is_it = np.broadcast_to(np.eye(p.shape[2], dtype=bool)[found.y], p.shape)
        said = "Of each row the probabilities of all classes, with the share of rows that have the class."
        drawn.append(Picture(_curve("every class", p, is_it, len(p)), said))
    heads = ["probability", "rows", "mean probability", "were of the class", "difference"]
    rows: list[list[Cell]] = [
        [f"{at / BINS:.3f} to {(at + 1) / BINS:.3f}", n, mean, share, share - mean]
        for at, n, mean, share, _ in _intervals(top, right, len(p))
    ]
    caption = (
        f"The most probable class, in {BINS} intervals of its probability, those with rows"
        f"{f' (of all {len(p)} repeats)' * (len(p) > 1)}. The calibration error is the mean |difference|, weighed by "
        "rows; few rows make it too large."
    )
    note = "On the line, rows are of a class as often as its probability says. Lines: intervals of 95 % for the share."
    return Section("Calibration", [*drawn, DataTable(heads, rows, caption)], note)


def _intervals(
    p: Float[np.ndarray, "*n"], right: Bool[np.ndarray, "*n"], repeats: int
) -> list[tuple[int, int, float, float, tuple[float, float]]]:
    """Of each interval with rows: its number, rows of all repeats, mean probability, share that is right, and where
    this share lies (Wilson 1927, at two standard errors; rows of one repeat count)."""
    at = intervals_of(p).ravel()
    count, sums, hits = (np.bincount(at, one, BINS) for one in (None, p.ravel(), right.ravel()))
    found = []
    for number in np.flatnonzero(count).tolist():
        n, mean, share = int(count[number]), float(sums[number] / count[number]), float(hits[number] / count[number])
        rows = max(n / repeats, 1.0)
        middle = (share + 2 / rows) / (1 + 4 / rows)
        half = 2 * (share * (1 - share) / rows + 1 / rows**2) ** 0.5 / (1 + 4 / rows)
        found.append((number, n, mean, share, (middle - half, middle + half)))
    return found


def _curve(title: str, p: Float[np.ndarray, "*n"], right: Bool[np.ndarray, "*n"], repeats: int) -> Drawing:
    some = _intervals(p, right, repeats)
    lines: list[Points | Curve] = [Curve([(mean, low), (mean, high)], 0) for _, _, mean, _, (low, high) in some]
    pairs = [(mean, share) for _, _, mean, share, _ in some]
    facts = [f"{n / repeats:.4g} rows: probability {mean:.3f}, share {share:.3f}" for _, n, mean, share, _ in some]
    axes = Axis("probability", 0.0, 1.0), Axis("share of rows", 0.0, 1.0)
    return plane(title, *axes, [*lines, Curve(pairs, 0), Points(pairs, "dot", 0, names=facts)], diagonal=True)


def by_class(found: HeldOutClasses) -> Section:
    """The probabilities of rows of each class."""
    p, labels, whole = clipped(found.predicted[OURS][0]), _named(found.classes), _whole(found.classes)
    two, shown = len(labels) == 2, _most_frequent(found.y, len(labels), MOST)
    value = p[:, 1] if two else p[np.arange(len(p)), found.y]
    dots, names = list[tuple[float, float]](), list[str]()
    for place, k in enumerate(reversed(shown)):
        own = np.flatnonzero(found.y == k)
        own = own[spread_over(len(own), max(20, _ROWS // len(shown)))] if len(own) else own
        for i, row in enumerate(own.tolist()):
            dots.append((float(value[row]), place + _JITTER * ((i % 7) - 3) / 3))
            said = labels[int(p[row].argmax())]
            names.append(f"row {found.rows[row] + 1}, {labels[k]}: taken for {said}, {p[row].max():.3f}")
    title = f"probability of {labels[1]}" if two else "probability of its own class"
    axis = Axis("", -0.6, len(shown) - 0.4, names=[whole[k] for k in reversed(shown)])
    size = (WIDTH, max(180, 90 + 2 * _LINE * len(shown)))
    drawing = plane(title, Axis(title, 0.0, 1.0), axis, [Points(dots, "ring", 0, names=names)], size=size)
    log = -np.log(p[np.arange(len(p)), found.y])
    counts = np.bincount(found.y, minlength=len(labels))
    heads = ["class", "rows", "in its rows", "in other rows", "log loss"]
    rows: list[list[Cell]] = []
    for k, name in enumerate(whole):
        own = found.y == k
        means = [float(p[part, k].mean()) if part.any() else None for part in (own, ~own)]
        rows.append([name, int(counts[k]), *means, float(log[own].mean()) if own.any() else None])
    what = "A ring is a row held out, in the line of its class; the farther to the left, the larger its log loss."
    if two:
        what = f"A ring is a row held out, in the line of its class; those of {labels[1]} should lie to the right."
    caption = "The mean probability of each class, in its rows and in those of others; the log loss of its rows."
    table = DataTable(heads, rows, caption, search=len(labels) > MOST)
    return Section("Probabilities by class", [Picture(drawing, what), table], "Of rows held out, by their true class.")


def contributions(bundle: Population, X: pd.DataFrame) -> Section:
    """What each column adds to the logit of each class, over rows of the table."""
    rows = X.iloc[spread_over(len(X), _EXPLAINED)]
    explained = bundle.explain(rows)
    values = explained.values if explained.values.ndim == 3 else explained.values[:, :, None]
    labels = bundle.classes if len(bundle.classes) > 2 else bundle.classes[1:]
    centred = values - values.mean(2, keepdims=True) if len(labels) > 1 else values
    sizes = np.abs(centred).mean(0)
    shown = sorted(np.argsort(-sizes.sum(0), kind="stable")[:MOST].tolist())
    order = np.argsort(-sizes.mean(1), kind="stable").tolist()
    heads = ["column", *(_named(labels)[k] for k in shown)]
    cells: list[list[Cell]] = [[explained.feature_names[i], *sizes[i, shown].tolist()] for i in order]
    less = " less its mean over the classes, which changes no probability" if len(labels) > 1 else ""
    which = "each class" if len(labels) > 1 else str(labels[0])
    first = f" The {len(shown)} classes with the largest." if len(shown) < len(labels) else ""
    caption = (
        f"Mean |contribution| to the logit of {which}{less}, over {len(rows)} rows of the table: Shapley values "
        f"against one typical row.{first}"
    )
    note = "model.explain(table) gives them row by row, with their sign."
    return Section("Contributions", [DataTable(heads, cells, caption, search=len(cells) > MOST)], note)


def along(
    name: str, classes: tuple[Any, ...], p: Float[np.ndarray, "grid classes"], at: list[float], axis: Axis, levels: bool
) -> Drawing:
    """Mean probabilities along a column, of the classes that it moves most. at: places on the axis; levels: these are
    lines, and probabilities lie across."""
    labels = _named(classes)
    first = [1] if len(labels) == 2 else np.argsort(-np.ptp(p, axis=0), kind="stable")[:DRAWN].tolist()
    parts: list[Points | Curve] = []
    for colour, k in enumerate(sorted(first)):
        pairs = list(zip(p[:, k].tolist(), at, strict=True) if levels else zip(at, p[:, k].tolist(), strict=True))
        shape = ("dot", "square", "triangle", "diamond")[colour]
        parts.append(Points(pairs, shape, colour, labels[k]) if levels else Curve(pairs, colour, True, labels[k]))
    high = min(1.0, 1.1 * float(p[:, first].max()))
    probability = Axis("probability", -0.04 * high if levels else 0.0, high)  # no mark on the names of levels
    return plane(name, probability, axis, parts) if levels else plane(name, axis, probability, parts)
