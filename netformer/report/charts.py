"""Points, curves and surfaces over axes. Numbers in, drawings out; shapes and line styles repeat what colour says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from netformer.report.svg import BOLD, Drawing, coordinate, escape, fitted, label, told, width_of

WIDTH, HEIGHT = 360, 300  # of a picture, unless it says otherwise
LETTER = 6.5  # width of a letter, mostly
TITLE, TICKS, LINE = 26, 16, 15  # heights: above the frame, of the numbers below it, of a line of text
LEVELS = 7  # steps of a surface
SCALE = 66  # width of the steps' own scale beside a surface
NAMES = 0.48  # of a picture's width, that names left of the frame may take
Number = float | int
Pairs = Sequence[tuple[Number, Number]]


@dataclass(frozen=True)
class Axis:
    """log: limits above 0, a decade as long as the next. names: categories, at 0, 1, ...; they replace the numbers."""

    label: str
    low: Number
    high: Number
    log: bool = False
    names: Sequence[str] = ()

    def span(self) -> tuple[float, float]:
        """Limits that are finite and not the same, as logarithms where the axis is logarithmic."""
        low, high = (math.log10(v) if self.log else v for v in (self.low, self.high))
        if not all(map(math.isfinite, (low, high, high - low))):
            return 0.0, 1.0
        pad = max(0.5, 0.01 * abs(low))
        return (low, high) if high - low > 1e-9 * max(abs(low), abs(high), 1e-280) else (low - pad, low + pad)

    def share(self, value: Number) -> float:
        """Where a value lies, 0 to 1; what lies outside is drawn at the border."""
        low, high = self.span()
        if self.log:
            value = math.log10(value) if value > 0 else low
        return min(max((value - low) / (high - low), 0.0), 1.0)

    def ticks(self, most: int) -> list[tuple[float, str]]:
        """Values with their text: names, or at most `most` + 1 round numbers."""
        if self.names:
            return [(float(i), name) for i, name in enumerate(self.names)]
        low, high = self.span()
        if self.log and high - low >= 1:
            digits = (1,) if high - low >= most else (1, 2, 5) if high - low < 2 else (1, 3)
            powers = range(math.floor(low), math.floor(high + 1e-9) + 1)
            values = [float(f"{digit}e{k}") for k in powers for digit in digits]
            values = [value for value in values if low - 1e-9 <= math.log10(value) <= high + 1e-9]
            values = values[:: -(-len(values) // (most + 2))]
        else:
            low, high = (10**low, 10**high) if self.log else (low, high)
            raw = (high - low) / most
            size = 10.0 ** math.floor(math.log10(raw))
            step = next(size * k for k in (1, 2, 5, 10) if size * k >= raw)
            first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
            values = [float(f"{k * step:.6g}") for k in range(first, last + 1)]
        return [(value, f"{value:zg}") for value in values]


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
    """A line through its points in their order. colour: 0 to 5."""

    xy: Pairs
    colour: int = 0
    strong: bool = False
    label: str = ""
    dashed: bool = False


class Frame:
    """The place of the axes in a picture: data to pixels."""

    def __init__(self, x: Axis, y: Axis, width: int, height: int, below: int = 0, right: int = 10) -> None:
        """below, right: room for a legend, in pixels."""
        self.x, self.y, self.width, self.height = x, y, width, height
        self.top = TITLE
        self.down = height - self.top - TICKS - below - (LINE + 2 if x.label else 4)
        self.y_ticks = _cut(y, y.ticks(max(2, self.down // 36)), NAMES * width)
        most = max(len(text) for _, text, _ in self.y_ticks)
        widest = max(width_of(text) for _, text, _ in self.y_ticks)
        self.left = math.ceil(max(min(LETTER * most + 2, NAMES * width), widest - 1)) + (18 if y.label else 6)
        room = 0.8 * width / max(1, len(x.names))
        longest = max(len(text) for _, text, _ in _cut(x, x.ticks(3), room))
        self.across = width - self.left - max(right, math.ceil(LETTER * longest / 2))
        self.x_ticks = _cut(x, x.ticks(max(2, min(5, int(self.across / (LETTER * (longest + 2)))))), room)

    def at(self, x: Number, y: Number) -> tuple[float, float]:
        """Pixels of a point."""
        return self.left + self.x.share(x) * self.across, self.top + (1 - self.y.share(y)) * self.down

    def axes(self, title: str) -> str:
        """Markup of the frame with its title, labels and numbers."""
        middle, bottom = self.left + self.across / 2, self.top + self.down
        shown = fitted(title, (self.width - 6) / BOLD)
        wide = max(LETTER * 1.15 * len(shown), BOLD * width_of(shown) if shown else 0.0)
        start = min(self.left, max(4.0, self.width - wide))  # a long title may begin further left
        parts = [
            label(shown, start, 15, kind="title", whole=title),
            f'<rect class="frame" x="{self.left}" y="{self.top}" width="{self.across}" height="{self.down}"/>',
        ]
        if self.x.label:
            shown, at = _inside(self.x.label, middle, self.width)
            parts.append(label(shown, at, bottom + TICKS + 12, "middle", whole=self.x.label))
        if self.y.label:
            shown, at = _inside(self.y.label, self.top + self.down / 2, self.height)
            place = f'transform="translate(11 {at:g}) rotate(-90)"'
            parts.append(f'<text {place} text-anchor="middle">{told(shown, self.y.label)}</text>')
        for value, text, whole in self.x_ticks:
            parts.append(label(text, self.at(value, self.y.low)[0], bottom + 14, "middle", whole=whole))
        for value, text, whole in self.y_ticks:
            kind = "name" if self.y.names else ""
            parts.append(label(text, self.left - 4, self.at(self.x.low, value)[1] + 4, "end", kind, whole))
        return "".join(parts)


def _cut(axis: Axis, ticks: Sequence[tuple[float, str]], pixels: Number) -> list[tuple[float, str, str]]:
    """Ticks with the text that is shown of each and all of it; names take no more than so many pixels."""
    return [(value, fitted(text, pixels) if axis.names else text, text) for value, text in ticks]


def _inside(text: str, middle: Number, size: Number) -> tuple[str, float]:
    """What is shown of a text along a side of a picture, and where its middle is: there, or as near as it is whole."""
    shown = fitted(text, size - 4)
    half = width_of(shown) / 2
    return shown, min(max(middle, half), size - half)


def plane(
    title: str,
    x: Axis,
    y: Axis,
    parts: Sequence[Points | Curve],
    *,
    diagonal: bool = False,
    size: tuple[int, int] = (WIDTH, HEIGHT),
) -> Drawing:
    """Points and curves over axes, in the order given; the legend has those with a label. diagonal: the line x = y."""
    width, height = size
    named = [part for part in parts if part.label]
    key = legend(named, width - 40)
    frame = Frame(x, y, width, height, key.height if named else 0)
    body = [frame.axes(title)]
    if diagonal:
        low, high = max(x.span()[0], y.span()[0]), min(x.span()[1], y.span()[1])
        body.append(f'<path class="guide" d="{_path([frame.at(low, low), frame.at(high, high)])}"/>')
    body += [_drawn(part, frame) for part in parts]
    if named:
        body.append(f'<g transform="translate({min(frame.left, 40)} {height - key.height})">{key.body}</g>')
    kind = "points" if any(isinstance(part, Points) and part.names for part in parts) else ""
    return Drawing(title, "".join(body), width, height, kind)


def legend(parts: Sequence[Points | Curve], width: int) -> Drawing:
    """What the marks of parts stand for, in lines of at most this width."""
    body, left, line = [], 0.0, 1
    for part in parts:
        shown = fitted(part.label, width - 20)
        wide = max(30 + LETTER * len(shown), 20 + width_of(shown))
        if left and left + wide - 12 > width:
            left, line = 0.0, line + 1
        body.append(f'<g transform="translate({coordinate(left)} {LINE * line - 4})">{_key(part, shown)}</g>')
        left += wide
    return Drawing("", "".join(body), width, LINE * line)


def levels(title: str, x: Axis, y: Axis, grid: Sequence[Sequence[float]]) -> Drawing:
    """A surface in steps, the fuller the colour the higher, with the values of the steps. grid: a row per value of y,
    evenly spaced between the limits of the axes."""
    low, high = min(map(min, grid)), max(map(max, grid))
    step = (high - low) / LEVELS or 1.0
    frame = Frame(x, y, WIDTH, HEIGHT, right=SCALE)
    bottom, tall = frame.top + frame.down, frame.down / LEVELS
    across = [coordinate(frame.left + i * frame.across / len(grid[0])) for i in range(len(grid[0]) + 1)]
    up = [coordinate(bottom - j * frame.down / len(grid)) for j in range(len(grid) + 1)]  # neighbours share an edge
    cells: list[list[str]] = [[] for _ in range(LEVELS)]
    for j, row in enumerate(grid):
        for i, value in enumerate(row):
            level = min(LEVELS - 1, int((value - low) / step))
            cells[level].append(f"M{across[i]} {up[j]}H{across[i + 1]}V{up[j + 1]}H{across[i]}z")
    parts = [frame.axes(title)]
    for level, marks in enumerate(cells):
        opacity = f'fill-opacity="{0.06 + 0.9 * level / (LEVELS - 1):.2f}" stroke="none" shape-rendering="crispEdges"'
        parts.append(f'<path class="level" {opacity} d="{"".join(marks)}"/>')
        top = bottom - (level + 1) * tall
        box = f'x="{WIDTH - SCALE + 6}" y="{coordinate(top)}" width="12" height="{tall - 2:.1f}"'
        number = label(f"{low + (level + 0.5) * step:z.2f}", WIDTH - SCALE + 21, top + 19)
        parts.append(f'<rect class="level" {opacity} {box}/>{number}')
    return Drawing(title, "".join(parts), WIDTH, HEIGHT)


def _path(points: Pairs) -> str:
    return "M" + "L".join(f"{coordinate(x)} {coordinate(y)}" for x, y in points)


_SHAPES = {
    "square": "m-3-3h6v6h-6z",
    "triangle": "m0-3.6l3.4 6h-6.8z",
    "cross": "m-2.6-2.6l5.2 5.2m-5.2 0l5.2-5.2",
    "diamond": "m0-3.8l3 3.8-3 3.8-3-3.8z",
    "ring": "m-2.8 0a2.8 2.8 0 1 0 5.6 0a2.8 2.8 0 1 0-5.6 0",
}


def _marks(part: Points, at: Pairs) -> str:
    """One path for all points."""
    data = "".join(f"M{coordinate(x)} {coordinate(y)}{_SHAPES.get(part.shape, 'h0')}" for x, y in at)
    kind = "marks" if part.shape in _SHAPES else "dots small" if part.shape == "small" else "dots"
    names = ""
    if part.names:
        places = " ".join(f"{coordinate(x)},{coordinate(y)}" for x, y in at)
        lines = "\n".join(" ".join(name.split()) for name in part.names)
        names = f' data-xy="{places}" data-p="{escape(lines)}"'
    return f'<path class="{kind} c{part.colour}" d="{data}"{names}/>' if data else ""


def _line(part: Curve, at: Pairs) -> str:
    kind = "curve" + " strong" * part.strong + " dashed" * part.dashed
    return f'<path class="{kind} c{part.colour}" d="{_path(at)}"/>' if at else ""


def _drawn(part: Points | Curve, frame: Frame) -> str:
    finite = [i for i, pair in enumerate(part.xy) if all(map(math.isfinite, pair))]
    at = [frame.at(*part.xy[i]) for i in finite]
    if isinstance(part, Points):
        names = [part.names[i] for i in finite] if part.names else ()
        return _marks(Points((), part.shape, part.colour, names=names), at)
    return _line(part, at)


def _key(part: Points | Curve, shown: str) -> str:
    if isinstance(part, Points):
        mark = _marks(Points((), part.shape, part.colour), [(6.0, -4.0)])
    else:
        mark = _line(part, [(0.0, -4.0), (13.0, -4.0)])
    return mark + label(shown, 17, 0, whole=part.label)
