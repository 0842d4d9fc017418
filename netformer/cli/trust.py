"""Can it be trusted: sections of a report on rows held out, on what columns are worth, and on the network delivered."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from netformer.benchmark.beside import BESIDE, BESIDE_CLASSES
from netformer.benchmark.held_out import ONE, OURS, HeldOut, HeldOutClasses
from netformer.benchmark.scoring import WHAT
from netformer.cli.scores import COVERAGE, Found, heads_of, of_methods, of_score
from netformer.exports.formula import ACTIVATE, Formula, formula_of
from netformer.exports.population import Population
from netformer.report.charts import WIDTH, Axis, Curve, Points, plane
from netformer.report.page import Cell, Code, DataTable, Picture, Section, Text
from netformer.report.svg import short

_DOTS = 500  # rows drawn at most
_UNITS, _READS = 40, 4  # units in the table, those that add most, and inputs of each
_BARS, _NAME, _LINE = 20, 24, 17  # columns with a bar, letters of a name, height of a bar
_BELOW = (0.5, 0.8, 0.9, 0.95)  # shares of the rows that are spoken of


def spread_over(count: int, most: int) -> np.ndarray:
    """At most so many positions, evenly spaced."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int)


def ends_of(*parts: np.ndarray) -> tuple[float, float]:
    """Limits of an axis that holds all values."""
    low, high = (float(value) for value in np.percentile(np.concatenate(parts), [0, 100]))
    return low - 0.04 * (high - low), high + 0.04 * (high - low)


def scores(found: Found, target: str, lines: Sequence[str]) -> Section:
    """Every method with its errors. lines: what it comes to."""
    classes = isinstance(found, HeldOutClasses)
    what = {**WHAT, **{name: said for name, (_, said) in (BESIDE_CLASSES if classes else BESIDE).items()}}
    rows: list[list[Cell]] = [
        [str(name), *map(_unbroken, of_methods(row)), what[str(name)]]
        for name, row in found.table().to_dict("index").items()
    ]
    heads = ["method", *heads_of(found), "what it is"]
    unit = f"MAE and RMSE in units of {target}."
    if classes:
        unit = (
            "log loss in nats, the less the better; AUC of each class against the rest; calibration error: see below."
        )
    caption = f"On {len(found.y)} rows held out ({found.how}); ± one standard error; {unit}"
    return Section("Scores", [Text(lines), DataTable(heads, rows, caption)])


def _unbroken(text: str) -> str:
    """With blanks at which no line ends."""
    return text.replace(" ", "\u00a0")


def predicted(found: HeldOut, target: str) -> Section:
    """Predictions of the first repeat, of ours and of the best other learner."""
    some, table = spread_over(len(found.y), _DOTS), found.table()
    others = [str(name) for name in table.index if name not in (OURS, ONE, "constant")][:1]
    y, drawn, ends = found.y[some], [], ends_of(found.y, found.predicted[OURS][0])
    for name in (OURS, *others):
        dots = _dots(y, found.predicted[name][0][some], found.rows[some], y, found.predicted[name][0][some])
        drawing = plane(name, Axis(f"observed {target}", *ends), Axis("predicted", *ends), [dots], diagonal=True)
        drawn.append(Picture(drawing, f"{name}: R2 {of_score(table.loc[name].to_dict(), 'r2')}"))
    return Section("Predicted against observed", drawn, "Rows held out, each by networks that were fitted without it.")


def _dots(x: np.ndarray, y: np.ndarray, rows: np.ndarray, observed: np.ndarray, answer: np.ndarray) -> Points:
    facts = zip(rows, observed, answer, strict=True)
    names = [f"row {row + 1}: {a:.4g}, predicted {b:.4g}" for row, a, b in facts]
    return Points(list(zip(x.tolist(), y.tolist(), strict=True)), "ring", 0, names=names)


def residuals(found: HeldOut, target: str) -> Section:
    """Observed minus predicted, along the prediction, and how often it is how large."""
    answer = found.predicted[OURS][0]
    residual, some = found.y - answer, spread_over(len(found.y), _DOTS)
    across, up = ends_of(answer), ends_of(residual)
    dots = _dots(answer[some], residual[some], found.rows[some], found.y[some], answer[some])
    zero = Curve([(across[0], 0.0), (across[1], 0.0)], 5, dashed=True)
    along = plane("along the prediction", Axis(f"predicted {target}", *across), Axis("residual", *up), [zero, dots])
    sizes = np.sort(np.abs(residual))
    share = np.arange(1, len(sizes) + 1) / len(sizes)
    at = spread_over(len(sizes), _DOTS)
    curve = Curve(list(zip(sizes[at].tolist(), share[at].tolist(), strict=True)), 0, strong=True)
    how = plane(
        "how large", Axis(f"|residual|, {target}", 0.0, float(sizes[-1])), Axis("share of rows", 0.0, 1.0), [curve]
    )
    off = "; ".join(f"{part:.0%} by at most {np.quantile(sizes, part):.3g}" for part in _BELOW)
    mean = f"The mean residual is {residual.mean():.3g}; without a slope or a funnel nothing is left to be learned."
    return Section(
        "Residuals",
        [Picture(along, mean), Picture(how, f"Rows are off: {off}.")],
        f"Observed minus predicted, by {OURS}.",
    )


def intervals(found: HeldOut, target: str) -> Section:
    """How often intervals held, and how wide they are along the prediction."""
    rows, pairs, errors = list[list[Cell]](), list[tuple[float, float]](), list[Points | Curve]()
    for share, within, error, width in found.coverage().itertuples():
        rows.append([f"{share:.0%}", _unbroken(f"{100 * within:.1f} ± {100 * error:.1f} %"), f"{width:.4g}"])
        pairs.append((share, within))
        errors.append(Curve([(share, within - 2 * error), (share, within + 2 * error)], 0))
    heads = ["interval of", "rows inside", f"width ({target})"]
    axis = Axis("asked for", 0.4, 1.0), Axis("inside", 0.4, 1.0)
    held = plane("how often they held", *axis, [*errors, Points(pairs, "dot", 0)], diagonal=True)
    answer, some = found.predicted[OURS][0], spread_over(len(found.y), _DOTS)
    some = some[np.argsort(answer[some], kind="stable")]
    low, high = found.ends[COVERAGE][0][some].T
    up, ends = ends_of(found.y, low, high), ends_of(answer)
    observed = _dots(answer[some], found.y[some], found.rows[some], found.y[some], answer[some])
    parts = [
        Points(list(zip(answer[some].tolist(), side.tolist(), strict=True)), "small", 1, label)
        for side, label in ((low, f"ends of {COVERAGE:.0%}"), (high, ""))
    ]
    wide = plane(
        "along the prediction", Axis(f"predicted {target}", *ends), Axis(f"observed {target}", *up), [*parts, observed]
    )
    inside = f"{dict(pairs)[COVERAGE]:.1%} of the rows lie between the ends."
    blocks: list[DataTable | Picture] = [
        DataTable(heads, rows, "Median width; ± one standard error."),
        Picture(held, "On the line: as often as asked for. Lines: two standard errors."),
        Picture(wide, inside),
    ]
    return Section("Intervals", blocks, "Of rows held out; intervals know of them their columns alone.")


def importances(bundle: Population, X: pd.DataFrame, y: np.ndarray) -> Section:
    """What columns are worth to the network delivered. y: numbers, or labels."""
    found = bundle.importances(X, y).sort_values("importance", ascending=False, kind="stable")[:_BARS]
    worth, error = found["importance"].to_numpy(), found["standard_error"].to_numpy()
    places = np.arange(len(found))[::-1]
    parts: list[Points | Curve] = []
    for value, se, place in zip(worth.tolist(), error.tolist(), places.tolist(), strict=True):
        parts.append(Curve([(0.0, place), (value, place)], 0, strong=True))
        parts.append(Curve([(value - 2 * se, place), (value + 2 * se, place)], 4))
    names = [str(name) for name in found["column"][::-1]]
    low, high = ends_of(worth - 2 * error, worth + 2 * error, np.zeros(1))
    size = (WIDTH, 90 + _LINE * len(found))
    axis = Axis("", -0.7, len(found) - 0.3, names=names)
    score = "rise of log loss" if bundle.classes else "fall of R2"
    drawing = plane("importance", Axis(f"{score}, the column shuffled", low, high), axis, parts, size=size)
    much = "log loss rises" if bundle.classes else "R2 falls"
    unit = ", over the log loss of the shares of classes" if bundle.classes else ""
    note = (
        f"How much {much} on the rows fitted when the cells of a column are shuffled{unit}: what the network uses, not "
        "what moves the world. Columns that say the same share their worth. Thin lines: two standard errors."
    )
    return Section("Importances", [Picture(drawing, f"{len(found)} of {len(bundle.columns)} columns in use.")], note)


def units(bundle: Population, X: pd.DataFrame) -> Section:
    """The wide network as a table of what it adds up: linear terms, hidden units and trees, those that add most
    first."""
    formula, z = formula_of(bundle.reading, bundle.stack(OURS)), bundle.read(X)
    scale, names, ends = bundle.reading.targets[0].scale, bundle.reading.input_names, formula.outputs
    labels = [str(label) for label in (bundle.classes if len(ends) > 1 else bundle.classes[1:])]
    terms: list[tuple[float, list[Cell]]] = []

    def term(name: str, kind: str, reads: str, deviations: np.ndarray) -> None:
        adds = deviations * scale
        most: list[Cell] = [short(labels[int(adds.argmax())], _NAME)] if len(labels) > 1 else []
        terms.append((float(adds.mean()), [name, kind, float(adds.mean()), *most, reads]))

    skips = np.stack([one.skip for one in ends])
    for name, weights, values in zip(names, skips.T, z.T, strict=True):
        reads = f"{name} {weights[0]:+.3g}" if len(ends) == 1 else name
        term(name, "linear", reads, np.abs(weights) * values.std())
    for index, found in enumerate(_hidden(formula, z, names)):
        term(f"unit {index + 1}", *found)
    for index, found in enumerate(_grown(formula, z, names)):
        term(f"tree {index + 1}", *found)
    terms.sort(key=lambda pair: -pair[0])
    rest = len(terms) - _UNITS
    of = f"units of {bundle.target}"
    if labels:
        of = f"the logit of {labels[0]}" if len(ends) == 1 else "logits, the mean over the classes"
    caption = (
        "What the answer is the sum of: each term's deviation over the rows of the table, in "
        f"{of}, and the standardised inputs that it reads with the largest weights"
        + (f"; {rest} terms that add less are not shown." if rest > 0 else ".")
    )
    heads = ["term", "kind", "adds", *["most to"] * (len(labels) > 1), "reads"]
    return Section("The network", [DataTable(heads, [cells for _, cells in terms[:_UNITS]], caption)])


def _hidden(
    formula: Formula, z: np.ndarray, names: Sequence[str]
) -> list[tuple[str, str, Float[np.ndarray, " outputs"]]]:
    """Of each unit of each last hidden layer: activation, what it reads, and the standard deviation of what it adds
    to each output."""
    found = []
    for index, body in enumerate(formula.bodies):
        heads = np.stack([one.heads[index] for one in formula.outputs], 1)
        h = z
        for layer in body:
            h = ACTIVATE[layer.activation](h @ layer.weight.T + layer.bias)
        paths = np.abs(body[0].weight)
        for layer in body[1:]:
            paths = np.abs(layer.weight) @ paths
        signed = body[0].weight if len(body) == 1 else paths
        for unit, weights in enumerate(heads):
            if not weights.any():
                continue
            order = np.argsort(-paths[unit], kind="stable")[:_READS]
            sign = "+" if len(body) == 1 else ""
            reads = ", ".join(f"{names[i]} {signed[unit, i]:{sign}.2f}" for i in order if paths[unit, i])
            kind = body[-1].activation if len(body) == 1 else f"{body[-1].activation}, {len(body)} layers"
            found.append((kind, reads, np.abs(weights) * h[:, unit].std()))
    return found


def _grown(
    formula: Formula, z: np.ndarray, names: Sequence[str]
) -> list[tuple[str, str, Float[np.ndarray, " outputs"]]]:
    """The same of each tree, which reads its questions."""
    found = []
    for trees in formula.trees:
        for number, places in enumerate(trees.places(z).T):
            asked = zip(trees.column[number], trees.cut[number], strict=True)
            reads = ", ".join(f"{names[column]} > {cut:.2f}" for column, cut in list(asked)[:_READS])
            adds = np.zeros(len(formula.outputs))
            adds[trees.outputs] = trees.leaf[:, number, places].std(1)
            found.append((f"tree, {trees.column.shape[1]} questions", reads, adds))
    return found


def use(bundle: Population, version: str, command: str, out: str | None) -> Section:
    """How to load it, predict and make it again. out: the folder it was written to."""
    folder = out or "nets"
    name = "NetFormerClassifier" if bundle.classes else "NetFormerRegressor"
    load = [
        f"from netformer import {name}",
        "",
        f"model = {name}.load({folder!r})",
        "model.predict(table)  # a DataFrame with these columns, in any order",
        "model.predict_proba(table)" if bundle.classes else f"model.predict_interval(table, coverage={COVERAGE})",
        "model.explain(table)",
    ]
    shell = [
        f"netformer predict {folder} new.csv --out predictions.csv",
        f"netformer export {folder} --format c --out files",
    ]
    kept = "" if out else "It was not saved; --out nets does. "
    seed = bundle.about.get("estimator", {}).get("random_state")
    made = f"{kept}Made by netformer {version}, seed {seed}; the same command on the same file makes the same networks:"
    return Section("Use it, make it again", [Code(load), Code(shell), Text([made]), Code([command])])
