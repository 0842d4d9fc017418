"""A network as a graph: vertices and edges with the sensitivity of each, and their drawing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from netformer.exports.slopes import felt
from netformer.networks.specs import ACTIVATIONS
from netformer.networks.stack import Networks
from netformer.report.svg import BOLD, Drawing, coordinate, escape, fitted, label, width_of

WIDTH, HEIGHT = 360, 300
LETTER, NAMES = 6.4, 130  # pixels: width of a letter of a name, mostly; of a name of an input, at most
LEGEND = (
    "The pointer, or the arrow keys after a click, shows weight and sensitivity. Size of a vertex: its sensitivity; "
    "width of an edge: |weight| in its layer; dashed: negative."
)
MOST_INPUTS, MOST_EDGES = 24, 350  # drawn, the most sensitive; edges hidden are counted in the title


@dataclass(frozen=True)
class Vertex:
    """layer: 0 for inputs. place: from -1 to 1 in its layer. facts: lines shown under the pointer."""

    name: str
    layer: int
    place: float
    sensitivity: float
    facts: str


@dataclass(frozen=True)
class Edge:
    """source, target: positions in the list of vertices."""

    source: int
    target: int
    weight: float
    sensitivity: float


def draw_network(
    networks: Networks,
    index: int,
    x: Float[np.ndarray, "rows features"],
    names: Sequence[str],
    title: str,
    outputs: Sequence[str] = (),
) -> Drawing:
    """Network `index` of a stack. names: of its inputs. outputs: names of its outputs, by default their numbers. See
    `parts_of`."""
    layers, vertices, edges, left_out = parts_of(networks[[index]], x, names, outputs)
    rest = f", {left_out} edges hidden" if left_out else ""
    return graph(title + rest, layers, vertices, edges)


def parts_of(
    network: Networks, x: Float[np.ndarray, "rows features"], names: Sequence[str], outputs: Sequence[str] = ()
) -> tuple[list[str], list[Vertex], list[Edge], int]:
    """Layer names, vertices, edges, and the number of edges left out, of a stack of one network.

    Means over the rows x and the outputs. Sensitivity of a vertex: |d output / d its pre-activation| (`sensitivity`),
    of an input: |d output / d input|. Of an edge: |weight| x sensitivity of the vertex it leads to, what the output
    moves by when its source moves by one.
    """
    network = network.numpy()
    specs, layout = network.specs, network.layout
    depth, n_inputs, inner = int(specs.depth[0]), int(specs.n_inputs[0]), 1 + layout.max_features
    strength, own = felt(network, 0, x)
    numbered = [f"output {k + 1}" for k in range(layout.n_outputs)] if layout.n_outputs > 1 else ["output"]
    ends = list(outputs or numbered)
    read = [i for i in range(n_inputs) if bool(specs.mask[0, :, 1 + i].any())]
    read = sorted(sorted(read, key=lambda i: -float(strength[i]))[:MOST_INPUTS])
    vertices = [
        Vertex(names[i], 0, place, float(strength[i]), f"input, sensitivity {strength[i]:.3g}")
        for i, place in zip(read, _places(len(read)), strict=True)
    ]
    position = {("input", i): at for at, i in enumerate(read)}
    layers = ["inputs"]
    for level in range(depth + 1):
        last = level == depth
        width = len(ends) if last else int(specs.widths[0, level])
        patches = layout.outputs.start if last else layout.layer(level).start
        kind = "output" if last else ACTIVATIONS[int(specs.activations[0, level])]
        layers.append(kind)
        for unit, place in enumerate(_places(width)):
            patch = patches + unit
            name = ends[unit] if last else f"unit {unit + 1} of layer {level + 1}"
            bias = f"{float(network.weight[0, patch, 0]):z.4g}" if bool(specs.mask[0, patch, 0]) else "none"
            facts = f"{kind}, bias {bias}\nsensitivity {float(own[patch]):.3g}"
            position["patch", patch] = len(vertices)
            vertices.append(Vertex(name, level + 1, place, float(own[patch]), facts))
    edges = []
    for patch, slot in np.argwhere(specs.mask[0, :, 1:].numpy()).tolist():
        source = ("input", slot) if slot + 1 < inner else ("patch", _before(patch, slot + 1 - inner, depth, network))
        if source in position and ("patch", patch) in position:
            weight = float(network.weight[0, patch, slot + 1])
            edges.append(Edge(position[source], position["patch", patch], weight, abs(weight) * float(own[patch])))
    total = int(specs.mask[0, :, 1:].sum())
    kept = sorted(sorted(range(len(edges)), key=lambda i: -edges[i].sensitivity)[:MOST_EDGES])
    return layers, vertices, [edges[i] for i in kept], total - len(kept)


def _before(patch: int, unit: int, depth: int, network: Networks) -> int:
    """Patch of a unit in the layer that `patch` reads."""
    layout = network.layout
    level = depth if patch >= layout.outputs.start else patch // layout.max_width
    return layout.layer(level - 1).start + unit


def _places(count: int) -> list[float]:
    return [2 * i / (count - 1) - 1 for i in range(count)] if count > 1 else [0.0]


def graph(title: str, layers: Sequence[str], vertices: Sequence[Vertex], edges: Sequence[Edge]) -> Drawing:
    """A network: inputs left, outputs right, vertices by sensitivity, edges by |weight| in their layer; negative ones
    are dashed. What the pointer or the arrow keys reach says weight and sensitivity."""
    names = [fitted(v.name, NAMES) for v in vertices if v.layer == 0]
    named = max((max(LETTER * len(name), width_of(name) - 4) for name in names), default=0.0)
    left, right, top, bottom = 14 + named, WIDTH - 16, 36, HEIGHT - 26
    last = max(1, len(layers) - 1)
    xy = [(left + v.layer * (right - left) / last, (top + bottom + v.place * (bottom - top)) / 2) for v in vertices]
    largest: dict[int, float] = {}
    for edge in edges:
        layer = vertices[edge.target].layer
        largest[layer] = max(largest.get(layer, 1e-12), abs(edge.weight))
    parts = [label(fitted(title, (WIDTH - 6) / BOLD), 4, 14, kind="title", whole=title)]
    for edge in edges:
        (x0, y0), (x1, y1) = xy[edge.source], xy[edge.target]
        width = 0.3 + 2.7 * abs(edge.weight) / largest[vertices[edge.target].layer]
        sign = "p" if edge.weight >= 0 else "m"
        facts = f"{edge.source} {edge.target} {edge.weight:z.4g} {edge.sensitivity:z.3g}"
        line = f"M{coordinate(x0)} {coordinate(y0)}L{coordinate(x1)} {coordinate(y1)}"
        parts.append(f'<path class="{sign}" d="{line}" stroke-width="{width:.1f}" data-e="{facts}"/>')
    for level, name in enumerate(layers):
        most = max((v.sensitivity for v in vertices if v.layer == level), default=0.0) or 1.0
        for vertex, (x, y) in zip(vertices, xy, strict=True):
            if vertex.layer == level:
                radius = 2 + 4 * math.sqrt(max(0.0, vertex.sensitivity) / most)
                facts = f'data-n="{escape(vertex.name)}" data-f="{escape(vertex.facts)}"'
                place = f'cx="{coordinate(x)}" cy="{coordinate(y)}" r="{radius:.1f}"'
                parts.append(f'<circle class="vertex" {place} {facts}/>')
                if level == 0:
                    shown = fitted(vertex.name, NAMES)
                    parts.append(label(shown, x - 9, y + 3.5, "end", "name", vertex.name))
        x = left + level * (right - left) / last + (12 if level == last else 0)
        parts.append(label(name, x, HEIGHT - 6, "end" if level == last else "middle"))
    return Drawing(title, "".join(parts), WIDTH, HEIGHT, "graph")
