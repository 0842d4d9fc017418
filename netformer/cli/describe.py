"""What a written network looks like: its structure in a line, its weights in tables, its graph in a picture."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from rich.table import Table
from torch import Tensor

from netformer.cli.console import number
from netformer.exports.population import Population
from netformer.networks.specs import ACTIVATIONS, slots
from netformer.networks.stack import Networks
from netformer.report.graph import draw_network
from netformer.report.svg import Drawing, sheet

READ = """Inputs are cut to the range fitted, centred, scaled and squashed, gaps filled;
networks answer in deviations of the target from its mean. The number beside an
input is the mean size of the slope along it.
R2 is what is expected of a network by leave-one-out, a little high."""
STRONGEST = 6  # inputs of a unit, and of a column, that are shown
_ROWS = 256  # standard normal rows, in place of the table's, for the influence of inputs
_GRID = 4  # pictures beside each other


def structure(networks: Networks, index: int) -> str:
    """Sizes and activations, such as `8-12-1 tanh, skip`; sparse: edges of the dense network are absent."""
    specs = networks.specs[[index]]
    depth = int(specs.depth[0])
    sizes = [int(specs.n_inputs[0]), *specs.widths[0, :depth].tolist(), 1]
    names = list(dict.fromkeys(ACTIVATIONS[code] for code in specs.activations[0, :depth].tolist()))
    dense = slots(networks.layout, specs.n_inputs, specs.widths, specs.bias, specs.skip)
    words = ["-".join(map(str, sizes)) + " " + "/".join(names)]
    words += ["skip"] * bool(specs.skip[0]) + ["sparse"] * bool((dense & ~specs.mask).any())
    return ", ".join(words)


def influence(networks: Networks) -> Float[Tensor, "n features"]:
    """Mean |d output / d input| of each input over standard normal rows: networks read and answer in that scale."""
    x = _normal_rows(networks).repeat(len(networks), 1, 1).requires_grad_()
    (slope,) = torch.autograd.grad(networks.predict(x).sum(), x)
    return slope.abs().mean(1)


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
    for name in ("network", "R2", "parameters", "structure", "strongest inputs"):
        shown.add_column(name, justify="right" if name in ("R2", "parameters") else "left")
    for fact in facts:
        strongest = ", ".join(_pair(name, f"{value:.2f}") for name, value in list(fact["influence"].items())[:3])
        shown.add_row(
            str(fact["network"]), number(fact["expected_r2"]), str(fact["n_params"]), fact["structure"], strongest
        )
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
        shown.add_row(name, kind, first(inputs.get(name, [])), note)
    return shown


def first(parts: Sequence[str], most: int = STRONGEST) -> str:
    """At most so many of them, and how many more."""
    return ", ".join(parts[:most]) + (f" and {len(parts) - most} more" if len(parts) > most else "")


def _pair(name: str, value: str) -> str:
    """Both without a blank, at which a line of a terminal could be broken."""
    return f"{name}:{value}"


def layers(networks: Networks, index: int) -> list[dict]:
    """Each layer of one network as plain numbers, output last; the output's `skip` is its edges from the inputs."""
    out: list[dict] = [
        {"activation": name, "weight": weight.tolist(), "bias": None if bias is None else bias.tolist()}
        for weight, bias, name in networks.matrices(index)
    ]
    if bool(networks.specs.skip[index]):
        out[-1]["skip"] = networks.weight[index, -1, 1 : 1 + int(networks.specs.n_inputs[index])].tolist()
    return out


def weight_tables(networks: Networks, index: int, inputs: Sequence[str]) -> list[Table]:
    """A table per layer: a row is one of its units, with its bias and its largest weights, of edges that exist."""
    out, sources = [], list(inputs)
    described = layers(networks, index)
    for level, layer in enumerate(described):
        last = level == len(described) - 1
        units = ["output"] if last else [f"h{level + 1}.{unit}" for unit in range(len(layer["weight"]))]
        table = Table(title="output layer" if last else f"hidden layer {level + 1}, {layer['activation']}")
        table.add_column("unit")
        table.add_column("bias", justify="right")
        table.add_column("strongest weights")
        for unit, weights, bias in zip(units, layer["weight"], layer["bias"] or [0.0] * len(units), strict=True):
            edges = list(zip(sources, weights, strict=True))
            edges += zip(inputs, layer.get("skip", [0.0] * len(inputs)), strict=True)
            strongest = sorted((edge for edge in edges if edge[1]), key=lambda edge: -abs(edge[1]))
            shown = first([_pair(source, f"{weight:+.3f}") for source, weight in strongest])
            table.add_row(unit, f"{bias:z.3f}", shown)
        out.append(table)
        sources = units
    return out


def draw_networks(networks: Networks, which: Sequence[int], inputs: Sequence[str]) -> Drawing:
    """The graphs of these networks side by side: inputs left, output right, the width of an edge by its |weight|."""
    x = _normal_rows(networks)
    return sheet("networks", [draw_network(networks, i, x, inputs, f"network {i}") for i in which], _GRID)


def _normal_rows(networks: Networks) -> Float[Tensor, "rows features"]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(_ROWS, networks.layout.max_features, generator=generator).to(networks.weight.dtype)
