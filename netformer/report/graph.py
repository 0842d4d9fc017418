"""One network as the vertices and edges that the report draws, with the sensitivity of each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from netformer.networks.sensitivity import sensitivity
from netformer.networks.specs import ACTIVATIONS
from netformer.networks.stack import Networks
from netformer.report.svg import Edge, Vertex, graph

LEGEND = (
    "The pointer, or the arrow keys after a click, shows weight and sensitivity. Size of a vertex: its sensitivity; "
    "width of an edge: |weight| in its layer; dashed: negative."
)


MOST_INPUTS, MOST_EDGES = 24, 350  # drawn, the most sensitive; edges hidden are counted in the title


def draw_network(
    networks: Networks, index: int, x: Float[Tensor, "rows features"], names: Sequence[str], title: str
) -> str:
    """SVG of network `index`; names: of its inputs. See `parts_of`."""
    layers, vertices, edges, left_out = parts_of(networks[[index]], x, names)
    rest = f", {left_out} edges hidden" if left_out else ""
    return graph(title + rest, layers, vertices, edges)


def parts_of(
    network: Networks, x: Float[Tensor, "rows features"], names: Sequence[str]
) -> tuple[list[str], list[Vertex], list[Edge], int]:
    """Layer names, vertices, edges, and the number of edges left out, of a stack of one network.

    Means over the rows x. Sensitivity of a vertex: |d output / d its pre-activation| (`sensitivity`), of an input:
    |d output / d input|. Of an edge: |weight| x sensitivity of the vertex it leads to, what the output moves by when
    its source moves by one.
    """
    specs, layout = network.specs, network.layout
    x = x.to(network.weight.dtype)
    depth, n_inputs, inner = int(specs.depth[0]), int(specs.n_inputs[0]), 1 + layout.max_features
    own = sensitivity(network, x.unsqueeze(0))[0]
    rows = x.unsqueeze(0).clone().requires_grad_()
    (slope,) = torch.autograd.grad(network.predict(rows).sum(), rows)
    strength = slope.abs().mean((0, 1))[:n_inputs]
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
        width = 1 if last else int(specs.widths[0, level])
        patches = layout.n_patches - 1 if last else layout.layer(level).start
        kind = "output" if last else ACTIVATIONS[int(specs.activations[0, level])]
        layers.append(kind)
        for unit, place in enumerate(_places(width)):
            patch = patches + unit
            name = "output" if last else f"unit {unit + 1} of layer {level + 1}"
            bias = f"{float(network.weight[0, patch, 0]):z.4g}" if bool(specs.mask[0, patch, 0]) else "none"
            facts = f"{kind}, bias {bias}\nsensitivity {float(own[patch]):.3g}"
            position["patch", patch] = len(vertices)
            vertices.append(Vertex(name, level + 1, place, float(own[patch]), facts))
    edges = []
    for patch, slot in specs.mask[0, :, 1:].nonzero().tolist():
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
    level = depth if patch == layout.n_patches - 1 else patch // layout.max_width
    return layout.layer(level - 1).start + unit


def _places(count: int) -> list[float]:
    return [2 * i / (count - 1) - 1 for i in range(count)] if count > 1 else [0.0]
