"""Web: a network as one HTML page, which is the model: a field per column, its answer while one types.

The page holds the arrays of `formula` and the script `network.js`, which computes them in float64; `page.js` is the
page itself. It makes no request (its own policy forbids any), and holds no row of the table: what it compares with is
the typical row of `exports.explain`, every column at its median or at its most frequent level.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from netformer import __version__
from netformer.errors import InputError, first_few
from netformer.exports.explain import LEAST_PAIRS, MOST_EXACT, SETS, dependence
from netformer.exports.formula import Formula, Output, fills_of, single_of, typical_row
from netformer.exports.intervals import LEVELS
from netformer.exports.population import Population
from netformer.exports.trees import Trees
from netformer.tables.cells import GAPS
from netformer.tables.inputs import PERIODS
from netformer.tables.reading import Reading
from netformer.tables.scaling import SQUASH

MOST_FIELDS = 40  # columns that have a field unless others are asked for
_NAMED = 8  # columns or classes named in one line
_ALONG = 9  # points of a column along which its effect is looked at, to name those
_DAY = 86400.0  # seconds
# Names of scores, the one that methods are compared by first; those without unit have 3 digits
_SCORES = {"r2": "R2", "mae": "mean absolute error", "rmse": "root mean squared error"}
_SCORES_CLASSES = {"log_loss": "log loss", "accuracy": "accuracy", "auc": "AUC"}
_WITHOUT_UNIT = {"r2", *_SCORES_CLASSES}
_METHODS = {"single": "one network alone", "hgb": "histogram boosting"}
COVERAGE = 0.9  # of the interval that is spoken of
NETWORK, PAGE, STYLE, TEMPLATE = (
    Path(__file__).with_name(name) for name in ("network.js", "page.js", "page.css", "page.html")
)


def web_page(
    population: Population,
    formula: Formula,
    which: int | str,
    columns: str | Sequence[str] | None = None,
    day: str = "",
) -> str:
    """The page. formula: of the network `which` of the population. columns: those with a field, in that order, also as
    one text with commas between them; None for all. The others stay at their typical cells. day: when it was written,
    in words; "" for today.

    Raises InputError for columns that are not read, or stand twice, and for more than `MOST_FIELDS` of them where none
    are chosen."""
    shown = _shown(formula, columns)
    facts = _facts(population, formula, which, len(shown), day or today())
    data = page_data(formula, shown) | {"facts": facts}
    code, style = (
        "\n".join(path.read_text(encoding="utf-8") for path in paths) for paths in ((NETWORK, PAGE), (STYLE,))
    )
    parts = {
        "TITLE": escape(_plain(f"{formula.reading.target}, predicted by a small network")),
        "POLICY": f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(code)}'",
        "STYLE": style,
        # no < in the data: nothing in it can end the element it stands in
        "DATA": json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
        "SCRIPT": code,
    }
    template = TEMPLATE.read_text(encoding="utf-8")
    return re.sub(r"\{\{([A-Z]+)\}\}", lambda match: parts[match[1]], template)


def page_data(formula: Formula, shown: Sequence[int]) -> dict[str, Any]:
    """What `network.js` reads, as JSON values. shown: numbers of the columns with a field; the others stay at the cells
    of the typical row. Arrays are base64, as float32 where that is exact, else as float64: no digit is lost.
    """
    reading, typical = formula.reading, typical_row(formula.reading)
    field = {index: at for at, index in enumerate(shown)}
    steps = [
        {"input": i, "column": field[step.column], "part": step.part, "constants": step.constants, "more": step.more}
        for i, step in enumerate(formula.steps)
        if step.column in field
    ]
    bodies = []
    for body in formula.bodies:
        reads = np.flatnonzero((body[0].weight != 0).any(0))
        weights = [body[0].weight[:, reads], *(layer.weight for layer in body[1:])]
        layers = [
            [layer.activation, _coded(weight), _coded(layer.bias)] for layer, weight in zip(body, weights, strict=True)
        ]
        bodies.append({"reads": reads.tolist(), "layers": layers})
    one, *others = reading.targets
    data = {
        "columns": [_field(reading, index, typical) for index in shown],
        "inputs": steps,
        "rest": _coded(reading.standardize(typical)[0]),
        "squash": SQUASH,
        "bodies": bodies,
        "count": formula.count,
        "outputs": [_output(one, formula.count) for one in formula.outputs],
        "target": {"name": one.name, "center": one.center, "scale": one.scale},
        "exact": MOST_EXACT,
        "sets": SETS,
        "least_pairs": LEAST_PAIRS,
        "words": sorted(GAPS),
    }
    intervals = [
        _output(spread, formula.count) | {"bounds": spread.bounds, "levels": LEVELS, "scores": spread.scores}
        for spread in formula.spreads
    ]
    if formula.trees:
        data["trees"] = [_trees(one, formula.count) for one in formula.trees]
    if others:
        data["targets"] = [{"name": one.name, "center": one.center, "scale": one.scale} for one in reading.targets]
        data |= {"intervals": intervals} if intervals else {}
    elif intervals:
        data["interval"] = intervals[0]
    if reading.classes:
        data["classes"] = [str(label) for label in reading.classes]
    return data


def _output(output: Output, count: int) -> dict[str, Any]:
    return {"bias": output.bias, "skip": _coded(output.skip), "heads": [_coded(head, count) for head in output.heads]}


def _trees(trees: Trees, count: int) -> dict[str, Any]:
    return {
        "first": trees.first,
        "depth": trees.column.shape[1],
        "column": trees.column.ravel().tolist(),
        "cut": _coded(trees.cut),
        "leaf": [_coded(own, count) for own in trees.leaf],
    }


def _coded(values: np.ndarray, count: int = 1) -> str:
    """Base64 of the numbers as little-endian float32, behind an f, or of them times the count, behind an m, where that
    is exact; else as float64, behind a d."""
    for kind, times in (("f", 1), ("m", count)):
        if (single := single_of(values, times)) is not None:
            return kind + base64.b64encode(single.tobytes()).decode()
    return "d" + base64.b64encode(values.astype("<f8").tobytes()).decode()


def _field(reading: Reading, index: int, typical: Any) -> dict[str, Any]:
    """What a field of the page is made of."""
    column = reading.table[index]
    own = {one.part: i for i, one in enumerate(reading.inputs) if one.column == index}
    fill = fills_of(reading)[index]
    described: dict[str, Any] = {"name": column.name, "kind": column.kind, "fill": fill, "levels": column.levels}
    if column.kind == "category":
        return described | {"typical": int(column.codes(typical[column.name])[0]), "ordered": "rank" in own}
    low, high = float(reading.low[own["value"]]), float(reading.high[own["value"]])
    described |= {"typical": fill, "low": low, "high": high, "form": column.form, "gaps": column.gaps}
    described["words"] = column.words
    if column.kind == "date":
        days = any(one.column == index and one.period == PERIODS["day"] for one in reading.inputs)
        described["timed"] = days or "%H" in column.form or any(end % _DAY for end in (low, high, fill))
    return described | {"seconds": "a duration" in column.note, "knows_gaps": "missing" in own}


def _shown(formula: Formula, columns: str | Sequence[str] | None) -> list[int]:
    """Numbers of the columns that get a field."""
    names = formula.reading.columns
    if columns is None:
        if len(names) > MOST_FIELDS:
            raise InputError(
                f"a page has at most {MOST_FIELDS} fields, the networks read {len(names)} columns; choose those to "
                "show with --columns (columns= in Python), the others stay at typical cells; the answer moves most "
                f"along {','.join(_strongest(formula))}"
            )
        return list(range(len(names)))
    if isinstance(columns, str):
        columns = [columns] if columns in names else [name.strip() for name in columns.split(",") if name.strip()]
    if unknown := [name for name in columns if name not in names]:
        raise InputError(
            f"columns must be some of those that are read, {first_few(names, _NAMED)}; found {unknown[0]!r}"
        )
    if not columns or len(set(columns)) < len(columns):
        raise InputError(f"columns must be at least one name and none of them twice, found {', '.join(columns)}")
    return [names.index(name) for name in columns]


def _strongest(formula: Formula) -> list[str]:
    """The columns along which the prediction for a typical row moves most."""
    moves = {}
    for name in formula.reading.columns:
        along = dependence(formula, name, None, points=_ALONG).drop(columns="value")
        moves[name] = float(np.ptp(along.to_numpy(), 0).max())
    return sorted(moves, key=lambda name: -moves[name])[:_NAMED]


def today() -> str:
    """The date, UTC, or that of the variable SOURCE_DATE_EPOCH, by which files can be made again byte for byte."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    return str(datetime.fromtimestamp(int(epoch), UTC).date() if epoch.isdecimal() else datetime.now(UTC).date())


def _facts(population: Population, formula: Formula, which: int | str, n_shown: int, day: str) -> list[tuple[str, str]]:
    """What the network was made from and how good it is, as far as the population knows."""
    reading, about = population.reading, population.about
    facts = [("Predicts", reading.target)]
    if reading.classes:
        facts.append(("Classes", first_few([str(label) for label in reading.classes], _NAMED)))
    columns = f"{len(reading.columns)} of the table are read"
    if hidden := len(reading.columns) - n_shown:
        columns += f"; {hidden} of them have no field here and stay at their typical cell"
    facts.append(("Columns", columns))
    if reading.left_out:
        facts.append(("Columns left out", first_few([name for name, _ in reading.left_out], _NAMED)))
    if isinstance(rows := about.get("rows"), int):
        facts.append(("Rows fitted", f"{rows:,}"))
    if which == "wide" and isinstance(scores := about.get("scores"), dict):
        each = scores.get("targets")
        known = each if isinstance(each, dict) else {}
        if len(reading.targets) == 1:
            facts += _scores(scores, bool(reading.classes))
        for one in reading.targets if len(reading.targets) > 1 else ():
            found = _scores(known[one.name], False) if isinstance(known.get(one.name), dict) else []
            facts += [(f"{head}, {one.name}", text) for head, text in found]
    stack = population.stack(which)
    units, n_params = stack.merged_size()
    made = {"wide": f"{len(population)} networks merged", "mean": f"mean of {len(population)} networks"}
    named = made.get(str(which), f"number {which} of {len(population)}")
    facts.append(("Network", f"{named}: {units} hidden units, {n_params:,} parameters"))
    return [*facts, ("Written", f"{day}, NetFormer {__version__}")]


def _scores(scores: dict[str, Any], of_classes: bool) -> list[tuple[str, str]]:
    """What `generate` measured of the wide network on rows that were not fitted; nothing where it says nothing."""
    tables = (scores.get(name) for name in ("methods", "intervals"))
    methods, intervals = (
        [row for row in one if isinstance(row, dict)] if isinstance(one, list) else [] for one in tables
    )
    names = _SCORES_CLASSES if of_classes else _SCORES
    first = next(iter(names))
    rows = {str(row.get("method")): row for row in methods if isinstance(row.get(first), float)}
    if "wide" not in rows:
        return []
    own, found = rows.pop("wide"), []
    text = ", ".join(f"{name} {_measured(own, key)}" for key, name in names.items() if _measured(own, key))
    found.append(("How good", f"{text}; on {scores.get('rows')} rows that were not fitted: {scores.get('how')}"))
    if rows:
        called = _METHODS | {"constant": "the shares of the classes" if of_classes else "the mean of the target"}
        others = (f"{called.get(name, name)} {_measured(row, first)}" for name, row in rows.items())
        found.append((f"{names[first][0].upper()}{names[first][1:]} of others", ", ".join(others)))
    held = [row.get("within") for row in intervals if row.get("coverage") == COVERAGE]
    if held and isinstance(held[0], float):
        found.append(("Intervals", f"{held[0]:.0%} of those rows lie within their interval of {COVERAGE:.0%}"))
    return found


def _measured(row: dict[str, Any], key: str) -> str:
    """A score of a row and its standard error."""
    value, error = row.get(key), row.get(f"{key}_se")
    if not isinstance(value, float):
        return ""
    shown, off = (f"{value:.3f}", ".3f") if key in _WITHOUT_UNIT else (f"{value:.3g}", ".2g")
    return f"{shown} ± {error:{off}}" if isinstance(error, float) else shown


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _plain(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
