"""Drawings of the report as SVG markup: points, curves, levels, graphs of networks. Numbers in, escaped markup out.

Shapes, line styles and labels repeat what colour says; colours come from the page, so that they follow light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from netformer.report.page import escape

WIDTH, HEIGHT = 360, 300


LEFT, RIGHT, TOP, BOTTOM = 46, 10, 26, 54


LEVELS = 7


Pairs = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Points:
    """shape: dot, small, square, triangle, cross, diamond or ring. colour: 0 to 5. names: shown under the pointer."""

    xy: Pairs
    shape: str = "dot"
    colour: int = 0
    label: str = ""
    names: Sequence[str] = ()


@dataclass(frozen=True)
class Curve:
    xy: Pairs
    colour: int = 0
    strong: bool = False
    label: str = ""


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


def short(text: str, most: int = 16) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _n(value: float) -> str:
    return f"{value:z.1f}".removesuffix(".0")


class Frame:
    """A plane with axes: data to the coordinates of the picture."""

    def __init__(self, xlim: tuple[float, float], ylim: tuple[float, float], margin: float = float(RIGHT)) -> None:
        """margin: room on the right."""
        (self.x0, self.x1), (self.y0, self.y1) = _open(*xlim), _open(*ylim)
        self.across, self.down = WIDTH - LEFT - margin, HEIGHT - TOP - BOTTOM

    def at(self, x: float, y: float) -> tuple[float, float]:
        """What lies outside is drawn at the border."""
        u = min(max((x - self.x0) / (self.x1 - self.x0), 0.0), 1.0)
        v = min(max((y - self.y0) / (self.y1 - self.y0), 0.0), 1.0)
        return LEFT + u * self.across, HEIGHT - BOTTOM - v * self.down

    def axes(self, title: str, x: str, y: str) -> str:
        across, down = self.across, self.down
        parts = [
            f'<text class="title" x="{LEFT}" y="15">{escape(short(title, 48))}</text>'
            f'<rect class="frame" x="{LEFT}" y="{TOP}" width="{across}" height="{down}"/>'
            f'<text x="{LEFT + across / 2:g}" y="{HEIGHT - 25}" text-anchor="middle">{escape(short(x, 44))}</text>'
            f'<text transform="translate(11 {TOP + down / 2:g}) rotate(-90)" text-anchor="middle">'
            f"{escape(short(y, 36))}</text>"
        ]
        for value in _ticks(self.x0, self.x1):
            at = self.at(value, self.y0)[0]
            parts.append(f'<text x="{_n(at)}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle">{value:zg}</text>')
        for value in _ticks(self.y0, self.y1):
            at = self.at(self.x0, value)[1]
            parts.append(f'<text x="{LEFT - 4}" y="{_n(at + 4)}" text-anchor="end">{value:zg}</text>')
        return "".join(parts)


def plane(
    title: str,
    x: str,
    y: str,
    parts: Sequence[Points | Curve],
    xlim: tuple[float, float],
    ylim: tuple[float, float],
    diagonal: bool = False,
) -> str:
    """Points and curves over axes, in the order given; a label a part in the legend."""
    frame = Frame(xlim, ylim)
    body = [frame.axes(title, x, y)]
    if diagonal:
        low, high = max(frame.x0, frame.y0), min(frame.x1, frame.y1)
        body.append(f'<path class="guide" d="{_path([frame.at(low, low), frame.at(high, high)])}"/>')
    body += [_drawn(part, frame) for part in parts]
    named = [part for part in parts if part.label]
    left = LEFT
    for part in named:
        body.append(f'<g transform="translate({left} {HEIGHT - 6})">{_key(part)}</g>')
        left += 30 + 6 * len(part.label)
    kind = ' class="points"' if any(isinstance(part, Points) and part.names for part in parts) else ""
    return _svg(kind, title, "".join(body))


def levels(
    title: str, x: str, y: str, grid: Sequence[Sequence[float]], xs: Sequence[float], ys: Sequence[float]
) -> str:
    """A surface in steps, the fuller the colour the higher, with the values of the steps. grid: a row a value of ys."""
    low, high = min(map(min, grid)), max(map(max, grid))
    step = (high - low) / LEVELS or 1.0
    frame = Frame((xs[0], xs[-1]), (ys[0], ys[-1]), margin=66.0)
    tall = frame.down / LEVELS
    across = [_n(LEFT + i * frame.across / len(xs)) for i in range(len(xs) + 1)]
    up = [_n(HEIGHT - BOTTOM - j * frame.down / len(ys)) for j in range(len(ys) + 1)]  # neighbours share an edge
    cells: list[list[str]] = [[] for _ in range(LEVELS)]
    for j, row in enumerate(grid):
        for i, value in enumerate(row):
            level = min(LEVELS - 1, int((value - low) / step))
            cells[level].append(f"M{across[i]} {up[j]}H{across[i + 1]}V{up[j + 1]}H{across[i]}z")
    parts = [frame.axes(title, x, y)]
    for level, marks in enumerate(cells):
        opacity = f'fill-opacity="{0.06 + 0.9 * level / (LEVELS - 1):.2f}" stroke="none" shape-rendering="crispEdges"'
        parts.append(f'<path class="level" {opacity} d="{"".join(marks)}"/>')
        top = HEIGHT - BOTTOM - (level + 1) * tall
        box = f'x="{WIDTH - 60}" y="{_n(top)}" width="12" height="{tall - 2:.1f}"'
        label = f'<text x="{WIDTH - 45}" y="{_n(top + 19)}">{low + (level + 0.5) * step:z.2f}</text>'
        parts.append(f'<rect class="level" {opacity} {box}/>{label}')
    return _svg("", title, "".join(parts))


def graph(title: str, layers: Sequence[str], vertices: Sequence[Vertex], edges: Sequence[Edge]) -> str:
    """A network: inputs left, output right, vertices by sensitivity, edges by |weight| in their layer; negative ones
    are dashed. What the pointer or the arrow keys reach says weight and sensitivity."""
    named = max((len(short(v.name)) for v in vertices if v.layer == 0), default=0)
    left, right, top, bottom = 14 + 6.4 * named, WIDTH - 16, 36, HEIGHT - 26
    last = max(1, len(layers) - 1)
    xy = [(left + v.layer * (right - left) / last, (top + bottom + v.place * (bottom - top)) / 2) for v in vertices]
    largest: dict[int, float] = {}
    for edge in edges:
        layer = vertices[edge.target].layer
        largest[layer] = max(largest.get(layer, 1e-12), abs(edge.weight))
    parts = [f'<text class="title" x="4" y="14">{escape(short(title, 52))}</text>']
    for edge in edges:
        (x0, y0), (x1, y1) = xy[edge.source], xy[edge.target]
        width = 0.3 + 2.7 * abs(edge.weight) / largest[vertices[edge.target].layer]
        sign = "p" if edge.weight >= 0 else "m"
        facts = f"{edge.source} {edge.target} {edge.weight:z.4g} {edge.sensitivity:z.3g}"
        line = f"M{_n(x0)} {_n(y0)}L{_n(x1)} {_n(y1)}"
        parts.append(f'<path class="{sign}" d="{line}" stroke-width="{width:.1f}" data-e="{facts}"/>')
    for level in range(len(layers)):
        most = max((v.sensitivity for v in vertices if v.layer == level), default=0.0) or 1.0
        for vertex, (x, y) in zip(vertices, xy, strict=True):
            if vertex.layer == level:
                radius = 2 + 4 * math.sqrt(max(0.0, vertex.sensitivity) / most)
                label = f'data-n="{escape(vertex.name)}" data-f="{escape(vertex.facts)}"'
                parts.append(f'<circle class="vertex" cx="{_n(x)}" cy="{_n(y)}" r="{radius:.1f}" {label}/>')
                if level == 0:
                    name = escape(short(vertex.name))
                    parts.append(
                        f'<text class="name" x="{_n(x - 9)}" y="{_n(y + 3.5)}" text-anchor="end">{name}</text>'
                    )
        anchor = "end" if level == last else "middle"
        x = left + level * (right - left) / last + (12 if level == last else 0)
        parts.append(f'<text x="{_n(x)}" y="{HEIGHT - 6}" text-anchor="{anchor}">{escape(layers[level])}</text>')
    return _svg(' class="graph" tabindex="0"', title, "".join(parts))


def ladder(title: str, rungs: Sequence[tuple[str, float]]) -> str:
    """Named values on a line each from 0, with their numbers."""
    high = max([1.0, *(value for _, value in rungs)])
    step = min(26.0, (HEIGHT - TOP - 20) / max(1, len(rungs)))
    parts = [f'<text class="title" x="4" y="15">{escape(title)}</text>']
    for i, (name, value) in enumerate(rungs):
        y, end = TOP + (i + 0.6) * step, 176 + 138 * max(0.0, value) / high
        parts.append(f'<text x="170" y="{_n(y + 4)}" text-anchor="end">{escape(short(name, 30))}</text>')
        parts.append(f'<path class="curve strong c0" d="M176 {_n(y)}H{_n(end)}"/>')
        parts.append(f'<text x="{_n(end + 6)}" y="{_n(y + 4)}">{value:.3f}</text>')
    return _svg("", title, "".join(parts))


def _svg(attributes: str, title: str, body: str) -> str:
    label = f'role="img" aria-label="{escape(title)}"'
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}"{attributes} {label}>{body}</svg>\n'


def _open(low: float, high: float) -> tuple[float, float]:
    """Limits that are finite and not the same."""
    if not all(map(math.isfinite, (low, high, high - low))):
        return 0.0, 1.0
    pad = max(0.5, 0.01 * abs(low))
    return (low, high) if high - low > 1e-9 * max(abs(low), abs(high), 1e-280) else (low - pad, low + pad)


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers."""
    raw = (high - low) / 5
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * k for k in (1, 2, 5, 10) if size * k >= raw)
    first = math.ceil(low / step - 1e-9)
    return [float(f"{k * step:.6g}") for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _path(points: Pairs) -> str:
    return "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in points)


_SHAPES = {
    "square": "m-3-3h6v6h-6z",
    "triangle": "m0-3.6l3.4 6h-6.8z",
    "cross": "m-2.6-2.6l5.2 5.2m-5.2 0l5.2-5.2",
    "diamond": "m0-3.8l3 3.8-3 3.8-3-3.8z",
    "ring": "m-2.8 0a2.8 2.8 0 1 0 5.6 0a2.8 2.8 0 1 0-5.6 0",
}


def _marks(part: Points, at: Pairs) -> str:
    """One path for all points."""
    data = "".join(f"M{_n(x)} {_n(y)}{_SHAPES.get(part.shape, 'h0')}" for x, y in at)
    kind = "marks" if part.shape in _SHAPES else "dots small" if part.shape == "small" else "dots"
    names = ""
    if part.names:
        places = " ".join(f"{_n(x)},{_n(y)}" for x, y in at)
        lines = "\n".join(" ".join(name.split()) for name in part.names)
        names = f' data-xy="{places}" data-p="{escape(lines)}"'
    return f'<path class="{kind} c{part.colour}" d="{data}"{names}/>' if data else ""


def _drawn(part: Points | Curve, frame: Frame) -> str:
    finite = [i for i, pair in enumerate(part.xy) if all(map(math.isfinite, pair))]
    at = [frame.at(*part.xy[i]) for i in finite]
    if isinstance(part, Points):
        names = [part.names[i] for i in finite] if part.names else ()
        return _marks(Points((), part.shape, part.colour, names=names), at)
    return f'<path class="curve{" strong" if part.strong else ""} c{part.colour}" d="{_path(at)}"/>' if at else ""


def _key(part: Points | Curve) -> str:
    if isinstance(part, Points):
        mark = _marks(Points((), part.shape, part.colour), [(6.0, -4.0)])
    else:
        mark = f'<path class="curve{" strong" if part.strong else ""} c{part.colour}" d="M0-4h13"/>'
    return f'{mark}<text x="17">{escape(part.label)}</text>'
