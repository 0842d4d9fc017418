"""Drawings as SVG: part of a page, or a file of their own that needs nothing else.

A drawing says what its marks are by classes (`curve`, `dots`, `c0`); `RULES` says how these look. A page lends them
its colours, so that they follow its light or dark; a file carries light colours, and dark ones for who asks for them.
Same input, same bytes.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from netformer.files import replacing

# Light, dark. The colours are those of Okabe and Ito, which colour-blind readers tell apart, darkened for white paper.
PALETTE = {
    "page": ("#fff", "#15171a"),
    "ink": ("#1b1d20", "#e6e7e9"),
    "soft": ("#5a5f66", "#a3a9b1"),
    "line": ("#d9dce0", "#363b42"),
    "tint": ("#f3f5f7", "#1f2328"),
    "blue": ("#0072b2", "#56b4e9"),
    "orange": ("#c24e00", "#f0a33c"),
    "green": ("#00795a", "#2fc79b"),
    "pink": ("#a8467f", "#dd93bd"),
}
RULES = """\
svg { font: 11px system-ui, sans-serif } svg text { fill: var(--soft) } svg .title, svg .name { fill: var(--ink) }
.title { font-weight: 600 } .paper { fill: var(--page) } .frame { fill: none; stroke: var(--line) }
.c0 { color: var(--blue) } .c1 { color: var(--orange) } .c2 { color: var(--green) } .c3 { color: var(--pink) }
.c4 { color: var(--ink) } .c5 { color: var(--soft) }
.dots { fill: none; stroke: currentColor; stroke-linecap: round; stroke-width: 4; opacity: .75 }
.dots.small { stroke-width: 2.6; opacity: .5 } .marks { fill: none; stroke: currentColor; stroke-width: 1.3 }
.curve { fill: none; stroke: currentColor; stroke-width: 1; opacity: .7 } .strong { stroke-width: 2.4; opacity: 1 }
.dashed { stroke-dasharray: 5 3 } .guide { stroke: var(--soft); stroke-dasharray: 2 3; fill: none }
.level { fill: var(--blue) } .p, .m { fill: none; stroke: var(--blue); opacity: .7 }
.m { stroke: var(--orange); stroke-dasharray: 4 2 }
.vertex { fill: var(--page); stroke: var(--ink); stroke-width: 1.2 }
"""
GAP = 12  # between the drawings of a sheet
FONT, BOLD = 11, 1.15  # pixels of a letter's height; how much wider a title is
TOLD = 300  # letters of a text that was cut, under the pointer
# Hundredths of that height that the letters from space to ~ are wide in DejaVu Sans, the widest of the usual fonts.
# fmt: off
_WIDTHS = [
    32, 41, 46, 84, 64, 96, 78, 28, 40, 40, 50, 84, 32, 37, 32, 34, 64, 64, 64, 64, 64, 64, 64, 64,
    64, 64, 34, 34, 84, 84, 84, 54, 100, 69, 69, 70, 78, 64, 58, 78, 76, 30, 30, 66, 56, 87, 75, 79,
    61, 79, 70, 64, 62, 74, 69, 99, 69, 62, 69, 40, 34, 40, 84, 50, 50, 62, 64, 55, 64, 62, 36, 64,
    64, 28, 28, 58, 28, 98, 64, 62, 64, 64, 42, 53, 40, 64, 60, 82, 60, 60, 53, 64, 34, 64, 84,
]
# fmt: on


@dataclass(frozen=True)
class Drawing:
    """Markup of a picture with its size in pixels.

    title: what is read to those who do not see it. kind: a class that the page's script looks for.
    """

    title: str
    body: str
    width: int
    height: int
    kind: str = ""

    def inline(self) -> str:
        """The element for a page, as wide as its place."""
        kind = f' class="{self.kind}"' if self.kind else ""
        focus = ' tabindex="0"' if self.kind == "graph" else ""
        label = f'role="img" aria-label="{escape(self.title)}"'
        return f'<svg viewBox="0 0 {self.width} {self.height}"{kind}{focus} {label}>{self.body}</svg>\n'


def escape(text: str) -> str:
    """For HTML and SVG, in text and quoted attributes; control characters and lone surrogates become U+FFFD."""
    shown = "".join("\ufffd" if (c < " " and c not in "\t\n") or "\ud800" <= c <= "\udfff" else c for c in text)
    return html.escape(shown, quote=True)


def short(text: str, most: int = 16) -> str:
    """The text, cut to so many characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def width_of(text: str) -> float:
    """Pixels that a text takes, at most; a title takes `BOLD` times as many."""
    return FONT / 100 * sum(_WIDTHS[ord(one) - 32] if " " <= one <= "~" else _width_of_other(one) for one in text)


def _width_of_other(letter: str) -> int:
    """Hundredths of its height that a letter is wide: marks over letters take no room, emoji the most."""
    return 0 if unicodedata.combining(letter) else 140 if letter >= "\U0001f000" else 110


def fitted(text: str, pixels: float | int) -> str:
    """The text, cut so that it takes no more than so many pixels."""
    if len(text) <= TOLD and width_of(text) <= pixels:
        return text
    room, kept = pixels - width_of("…"), 0
    while kept < len(text) and (room := room - width_of(text[kept])) >= 0:
        kept += 1
    return text[:kept] + "…"


def coordinate(value: float | int) -> str:
    """A number of pixels, to a tenth."""
    return f"{value:z.1f}".removesuffix(".0")


def label(text: str, x: float | int, y: float | int, anchor: str = "", kind: str = "", whole: str = "") -> str:
    """Text at a place; anchor: `middle` or `end` of it stands there, else its start; kind: a class; whole: what it was
    cut from, shown under the pointer."""
    kind = f' class="{kind}"' if kind else ""
    anchor = f' text-anchor="{anchor}"' if anchor else ""
    return f'<text{kind} x="{coordinate(x)}" y="{coordinate(y)}"{anchor}>{told(text, whole)}</text>'


def told(text: str, whole: str) -> str:
    """Markup inside of a text element: the text, and under the pointer what it was cut from."""
    said = f"<title>{escape(short(whole, TOLD))}</title>" if whole and whole != text else ""
    return said + escape(text)


def sheet(title: str, drawings: Sequence[Drawing], columns: int, foot: Drawing | None = None) -> Drawing:
    """Drawings side by side in rows of `columns`, `foot` below them all."""
    rows = [drawings[i : i + columns] for i in range(0, len(drawings), columns)]
    width = max(sum(part.width + GAP for part in row) - GAP for row in rows)
    parts, top = [], 0
    for row in rows:
        left = 0
        for part in row:
            parts.append(_placed(part, left, top))
            left += part.width + GAP
        top += max(part.height for part in row) + GAP
    if foot is not None:
        parts.append(_placed(foot, 0, top))
        top += foot.height + GAP
    return Drawing(title, "".join(parts), width, top - GAP)


def _placed(drawing: Drawing, left: int, top: int) -> str:
    kind = f' class="{drawing.kind}"' if drawing.kind else ""
    return f'<svg x="{left}" y="{top}" width="{drawing.width}" height="{drawing.height}"{kind}>{drawing.body}</svg>\n'


def palette() -> str:
    """The colours as CSS variables of a page."""
    return " ".join(f"--{name}: light-dark({light}, {dark});" for name, (light, dark) in PALETTE.items())


def save(drawing: Drawing, path: Path) -> None:
    """Write a file of its own, complete or not at all. What only a page's script reads is left out."""
    light, dark = (_coloured(which) for which in (0, 1))
    style = f"{light}@media (prefers-color-scheme: dark) {{\n{dark}}}\n"
    body = re.sub(r' data-\w+="[^"]*"', "", drawing.body)
    size = f'width="{drawing.width}" height="{drawing.height}" viewBox="0 0 {drawing.width} {drawing.height}"'
    text = (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(drawing.title)}">\n'
        f'<style>\n{style}</style>\n<rect class="paper" width="100%" height="100%"/>\n{body}</svg>\n'
    )
    with replacing(path) as part:
        part.write_bytes(text.encode())


def _coloured(which: int) -> str:
    """The rules with colours in place of names, for viewers that know no CSS variables."""
    rules = RULES
    for name, colours in PALETTE.items():
        rules = rules.replace(f"var(--{name})", colours[which])
    return rules
