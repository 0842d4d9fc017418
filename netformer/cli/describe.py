"""What a written network looks like: its structure in a line, its weights in tables, its graph in a picture; and what
it answers, with a score where that is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from rich.table import Table

from netformer.arrays import functions as xp
from netformer.arrays.draws import Generator
from netformer.cli.console import number
from netformer.errors import first_few
from netformer.evaluation.comparison import plain_r2
from netformer.exports.classes import log_loss
from netformer.exports.groups import Groups
from netformer.exports.intervals import Intervals
from netformer.exports.population import Population
from netformer.exports.slopes import slopes_of
from netformer.networks.specs import ACTIVATIONS, Specs, dense_mask
from netformer.networks.stack import Networks
from netformer.report.graph import draw_network
from netformer.report.svg import Drawing, sheet

READ = """Inputs are cut to the range fitted, centred, scaled and squashed, gaps filled;
networks answer in {what}. The number
beside an input is the mean size of the slope along it{more}."""
NUMBERS = (
    "standard deviations of the target from its mean",
    ".\nR2 is what is expected of a network by leave-one-out, a little high",
)
CLASSES = "logits of the classes", " and over the outputs"
STRONGEST = 6  # inputs of a unit, and of a column, that are shown
_ROWS = 256  # standard normal rows, in place of the table's, for the influence of inputs
_GRID = 4  # pictures beside each other


def read_of(bundle: Population) -> str:
    """How to read what `overview_table` shows."""
    what, more = CLASSES if bundle.classes else NUMBERS
    return READ.format(what=what, more=more)


def outputs_of(bundle: Population) -> list[str]:
    """Names of the outputs: of two classes the second, of more each; of a number `output`, of several targets these."""
    if len(bundle.reading.targets) > 1:
        return [one.name for one in bundle.reading.targets]
    labels = bundle.classes[1:] if len(bundle.classes) == 2 else bundle.classes
    return [f"{bundle.target} {label}" for label in labels] or ["output"]


def answers_of(bundle: Population, X: pd.DataFrame, which: int | str, groups: Groups | None = None) -> pd.DataFrame:
    """What `predict` writes, a row per row: the target, and of classes the probability of each, in a column named by
    the target and the label. groups: answer in place of the bundle, which is then the one of all."""
    target = bundle.target
    if not bundle.classes:
        answers = bundle.predict(X, which) if groups is None else groups.predict(X)
        return pd.DataFrame(answers.reshape(len(X), -1), columns=[one.name for one in bundle.reading.targets])
    p = bundle.predict_proba(X, which)
    every = {f"{target}_{label}": p[:, k] for k, label in enumerate(bundle.classes)}
    return pd.DataFrame({target: [bundle.classes[k] for k in p.argmax(1)]} | every)


def with_ends(answer: pd.DataFrame, ends: Float[np.ndarray, "rows targets 2"]) -> pd.DataFrame:
    """The same with the ends of its interval behind each target, in columns _low and _high."""
    made = dict[str, Any]()
    for k, name in enumerate(answer.columns):
        made |= {name: answer[name], f"{name}_low": ends[:, k, 0], f"{name}_high": ends[:, k, 1]}
    return pd.DataFrame(made)


def of_target(bundle: Population, k: int) -> Population:
    """The networks of several targets with output k alone. What is expected of them stays the mean over all."""
    reading, target, spread = bundle.reading, slice(k, k + 1), bundle.intervals

    def cut(stack: Networks) -> Networks:
        stack = stack.numpy()
        first, specs = stack.layout.outputs.start, stack.specs
        mask, weight = (xp.cat([v[:, :first], v[:, first:][:, target]], 1) for v in (specs.mask, stack.weight))
        return Networks(Specs(specs.n_inputs, specs.widths, specs.activations, mask), weight)

    assert bundle.wide is not None
    some = spread and Intervals(spread.output[:, target], spread.bounds[target], spread.scores[target])
    reading = replace(reading, targets=reading.targets[target])
    return replace(bundle, reading=reading, networks=cut(bundle.networks), wide=cut(bundle.wide), intervals=some)


def scored(
    bundle: Population, answer: pd.DataFrame, y: np.ndarray | None, interval: float | None
) -> tuple[str, dict[str, Any]]:
    """What answers are worth on the rows that have the target, as words and as facts. answer: see `answers_of`, with
    the ends of an interval if there is one. y: see `intake.match`, None where no target is known."""
    if bundle.classes:
        facts: dict[str, Any] = {"classes": list(bundle.classes), "accuracy": np.nan, "log_loss": np.nan}
        if y is None:
            return "", facts
        rows = y >= 0
        p = answer.iloc[:, 1:].to_numpy()[rows]
        facts["accuracy"] = float((p.argmax(1) == y[rows]).mean())
        facts["log_loss"] = float(log_loss(np.log(np.maximum(p, np.finfo(np.float64).tiny)), y[rows]).mean())
        score = f"accuracy {number(facts['accuracy'])}, log loss {number(facts['log_loss'])}"
        return f"; {score} on the {rows.sum()} rows that have the target, too good if some were fitted", facts
    facts = {"r2": np.nan, "within": np.nan}
    if y is None:
        return "", facts
    if y.ndim > 1:
        return _scored_each(answer, y, interval)
    rows = np.isfinite(y)
    facts["r2"] = plain_r2(y[rows], answer[bundle.target].to_numpy()[rows])
    known = f"; R2 {number(facts['r2'])} on the {rows.sum()} rows that have the target, too high if some were fitted"
    if interval is not None:
        facts["within"] = float(((y >= answer.iloc[:, 1]) & (y <= answer.iloc[:, 2]))[rows].mean())
        known += f"; {facts['within']:.1%} of them within the interval of {interval:g}"
    return known, facts


def _scored_each(
    answer: pd.DataFrame, y: Float[np.ndarray, "rows targets"], interval: float | None
) -> tuple[str, dict[str, Any]]:
    """`scored` of several targets, each on the rows that have it."""
    words, found, step = [], dict[str, dict[str, float]](), 1 if interval is None else 3
    for k, truth in enumerate(y.T):
        rows, (own, *ends) = np.isfinite(truth), (answer.iloc[:, at] for at in range(k * step, (k + 1) * step))
        if not rows.any():
            continue
        name = str(own.name)
        found[name] = {"r2": plain_r2(truth[rows], own.to_numpy()[rows]), "within": np.nan}
        held = ""
        if ends:
            found[name]["within"] = float(((truth >= ends[0]) & (truth <= ends[1]))[rows].mean())
            held = f", {found[name]['within']:.1%} within the interval of {interval:g}"
        words.append(f"{name}: R2 {number(found[name]['r2'])}{held}")
    rows = np.isfinite(y).any(1).sum()
    return f"; {'; '.join(words)}; on the {rows} rows that have a target, too high if some were fitted", {
        "scores": found
    }


def structure(networks: Networks, index: int) -> str:
    """Sizes and activations, such as `8-12-1 tanh, skip`; sparse: edges of the dense network are absent."""
    specs = networks.specs[[index]]
    depth = int(specs.depth[0])
    sizes = [int(specs.n_inputs[0]), *specs.widths[0, :depth].tolist(), specs.n_outputs]
    names = list(dict.fromkeys(ACTIVATIONS[code] for code in specs.activations[0, :depth].tolist()))
    dense = dense_mask(networks.layout, specs.n_inputs, specs.widths, specs.bias, specs.skip)
    words = ["-".join(map(str, sizes)) + " " + "/".join(names)]
    words += ["skip"] * bool(specs.skip[0]) + ["sparse"] * bool((dense & ~specs.mask).any())
    return ", ".join(words)


def influence(networks: Networks) -> Float[np.ndarray, "n features"]:
    """Mean |d output / d input| of each input over standard normal rows, in whose scale networks read, and outputs."""
    return np.abs(slopes_of(networks.numpy(), _normal_rows(networks))).mean((1, 2))


def overview(bundle: Population) -> list[dict]:
    """Number, expected R2 (`Population.expected_r2`), size, structure and influence (strongest input first) of each."""
    out, slopes = [], influence(bundle.networks)
    for i in range(len(bundle.networks)):
        pairs = sorted(zip(bundle.reading.input_names, slopes[i].tolist(), strict=True), key=lambda pair: -pair[1])
        fact = {
            "network": i,
            "expected_r2": float(bundle.expected_r2[i]),
            "n_params": int(bundle.networks.specs.n_params[i]),
        }
        out.append(fact | {"structure": structure(bundle.networks, i), "influence": dict(pairs)})
    return out


def overview_table(facts: Sequence[dict], title: str) -> Table:
    """What `overview` found, for a terminal."""
    shown = Table(title=title)
    known = any(math.isfinite(fact["expected_r2"]) for fact in facts)  # not of classes
    for name in ("network", *["R2"] * known, "parameters", "structure", "strongest inputs"):
        shown.add_column(name, justify="right" if name in ("R2", "parameters") else "left")
    for fact in facts:
        strongest = ", ".join(_pair(name, f"{value:.2f}") for name, value in list(fact["influence"].items())[:3])
        cells = [str(fact["network"]), number(fact["expected_r2"]), str(fact["n_params"]), fact["structure"], strongest]
        shown.add_row(*cells if known else cells[:1] + cells[2:])
    return shown


def columns_table(bundle: Population) -> Table:
    """How each column of the table was read (`Reading.described`), for a terminal."""
    shown = Table(title="columns")
    for name in ("column", "read as", "inputs", "note"):
        shown.add_column(name)
    reading, inputs = bundle.reading, dict[str, list[str]]()
    for name, one in zip(reading.input_names, reading.inputs, strict=True):
        inputs.setdefault(reading.columns[one.column], []).append(name)
    for name, kind, _, note in reading.described().itertuples(index=False):
        shown.add_row(name, kind, first_few(inputs.get(name, []), STRONGEST), note)
    return shown


def _pair(name: str, value: str) -> str:
    """Both without a blank, at which a line of a terminal could be broken."""
    return f"{name}:{value}"


def layers(networks: Networks, index: int) -> list[dict]:
    """Each layer of one network as plain numbers, output last; the output's `skip` is its edges from the inputs, of
    several outputs those of each."""
    out: list[dict] = [
        {"activation": name, "weight": weight.tolist(), "bias": None if bias is None else bias.tolist()}
        for weight, bias, name in networks.matrices(index)
    ]
    if bool(networks.specs.skip[index]):
        edges = networks.weight[index, networks.layout.outputs, 1 : 1 + int(networks.specs.n_inputs[index])].tolist()
        out[-1]["skip"] = edges if len(edges) > 1 else edges[0]
    return out


def weight_tables(
    networks: Networks, index: int, inputs: Sequence[str], outputs: Sequence[str] = ("output",)
) -> list[Table]:
    """A table per layer: a row is one of its units, with its bias and its largest weights, of edges that exist.
    inputs, outputs: their names."""
    out, sources = [], list(inputs)
    described = layers(networks, index)
    for level, layer in enumerate(described):
        last = level == len(described) - 1
        units = list(outputs) if last else [f"h{level + 1}.{unit}" for unit in range(len(layer["weight"]))]
        table = Table(title="output layer" if last else f"hidden layer {level + 1}, {layer['activation']}")
        table.add_column("unit")
        table.add_column("bias", justify="right")
        table.add_column("strongest weights")
        skips = layer.get("skip", [0.0] * len(inputs))
        skips = skips if last and len(outputs) > 1 and "skip" in layer else [skips] * len(units)
        biases = layer["bias"] or [0.0] * len(units)
        for unit, weights, bias, skip in zip(units, layer["weight"], biases, skips, strict=True):
            edges = list(zip(sources, weights, strict=True)) + list(zip(inputs, skip, strict=True))
            strongest = sorted((edge for edge in edges if edge[1]), key=lambda edge: -abs(edge[1]))
            shown = first_few([_pair(source, f"{weight:+.3f}") for source, weight in strongest], STRONGEST)
            table.add_row(unit, f"{bias:z.3f}", shown)
        out.append(table)
        sources = units
    return out


def draw_networks(
    networks: Networks, which: Sequence[int], inputs: Sequence[str], outputs: Sequence[str] = ("output",)
) -> Drawing:
    """The graphs of these networks side by side: inputs left, outputs right, the width of an edge by its |weight|."""
    x = _normal_rows(networks)
    return sheet("networks", [draw_network(networks, i, x, inputs, f"network {i}", outputs) for i in which], _GRID)


def _normal_rows(networks: Networks) -> Float[np.ndarray, "rows features"]:
    return Generator().manual_seed(0).normal(_ROWS * networks.layout.max_features).reshape(_ROWS, -1)
