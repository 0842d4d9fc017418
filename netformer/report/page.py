"""Report: plain data to one HTML file that needs nothing else, no network and no library; same data, same bytes.

Text is escaped wherever it enters, and the page's own policy allows no request and no script but its own.
"""

from __future__ import annotations

import base64
import hashlib
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from netformer.errors import InputError
from netformer.files import replacing
from netformer.report.svg import RULES, Drawing, escape, palette

TEMPLATE = Path(__file__).with_name("page.html")
NONE = "–"  # a cell that has no value
Cell = str | float | int | None


@dataclass(frozen=True)
class Text:
    """Paragraphs."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Code:
    """Lines of a program, as they are."""

    lines: Sequence[str]


@dataclass(frozen=True)
class DataTable:
    """Sorts by its heads. rows: as many cells as there are heads; a column of numbers and None aligns right.

    filters: columns with a choice of their values, a comma between two values of one cell. hidden: columns shown on
    demand. ahead: columns of which one can be asked to be above another; their medians make the last line.
    """

    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str
    filters: Sequence[int] = ()
    hidden: Sequence[int] = ()
    ahead: Sequence[int] = ()
    search: bool = False


@dataclass(frozen=True)
class Picture:
    """A drawing with what is to be said about it."""

    drawing: Drawing
    caption: str


@dataclass(frozen=True)
class Section:
    """A heading, a note below it, and what follows; pictures in a row of blocks stand side by side."""

    title: str
    blocks: Sequence[Text | Code | DataTable | Picture]
    note: str = ""


@dataclass(frozen=True)
class Report:
    """A page. lead: sentences below its title."""

    title: str
    lead: Sequence[str]
    sections: Sequence[Section]


def cell(value: Cell) -> str:
    """A value as it is shown: whole numbers whole, others with three digits after the point."""
    if isinstance(value, str):
        return escape(value)
    if value is None or not math.isfinite(value):
        return NONE
    return str(value) if isinstance(value, int) else f"{value:z.3f}"


def write_page(report: Report, path: Path) -> None:
    """Write the page, complete or not at all."""
    with replacing(path) as part:
        part.write_bytes(render(report).encode())


def render(report: Report) -> str:
    """The page as text. Raises InputError for a table whose rows have not a cell for every head."""
    page = TEMPLATE.read_text(encoding="utf-8")
    start, end = page.index("<script>") + len("<script>"), page.index("</script>")
    digest = base64.b64encode(hashlib.sha256(page[start:end].encode()).digest()).decode()
    links = "".join(f'<a href="#s{i}">{escape(section.title)}</a>' for i, section in enumerate(report.sections))
    parts = {
        "POLICY": f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
        "TITLE": escape(report.title),
        "PALETTE": palette(),
        "DRAWINGS": RULES,
        "LEAD": "".join(f"<p>{escape(line)}</p>" for line in report.lead),
        "LINKS": links,
        "BODY": "\n".join(_section(section, i) for i, section in enumerate(report.sections)),
    }
    pieces = []  # one pass: what is filled in is never looked at again
    for piece in page.split("{{"):
        name, closed, rest = piece.partition("}}")
        pieces.append(parts[name] + rest if closed and name in parts else piece)
    return "".join(pieces)


def _section(section: Section, index: int) -> str:
    note = f"<p class=note>{escape(section.note)}</p>" if section.note else ""
    body, grid = [], False
    for number, block in enumerate(section.blocks):
        picture = isinstance(block, Picture)
        if picture != grid:
            body.append("<div class=grid>" if picture else "</div>")
            grid = picture
        if isinstance(block, Picture):
            body.append(f"<figure>{block.drawing.inline()}<figcaption>{escape(block.caption)}</figcaption></figure>")
        elif isinstance(block, DataTable):
            body.append(_table(block, f"t{index}-{number}"))
        elif isinstance(block, Code):
            body.append(f"<pre tabindex=0>{escape(chr(10).join(block.lines))}</pre>")
        else:
            body.append("".join(f"<p>{escape(line)}</p>" for line in block.lines))
    body.append("</div>" if grid else "")
    return f'<section id="s{index}"><h2>{escape(section.title)}</h2>{note}\n' + "\n".join(body) + "</section>"


def _table(table: DataTable, name: str) -> str:
    """The table, complete in HTML: the script only sorts, hides and counts."""
    wide = {len(row) for row in table.rows} - {len(table.heads)}
    if wide:
        raise InputError(f"rows must have {len(table.heads)} cells, one a head, got {sorted(wide)}")
    columns = range(len(table.heads))
    text = [any(isinstance(row[i], str) for row in table.rows) for i in columns]
    heads = "".join(
        f'<th scope=col{" class=t" if text[i] else ""}><button type=button title="sort">{escape(head)}</button></th>'
        for i, head in enumerate(table.heads)
    )
    rows = "".join(
        "<tr>" + "".join(f"<td{_facts(text[i], row[i])}>{cell(row[i])}</td>" for i in columns) + "</tr>\n"
        for row in table.rows
    )
    foot = ""
    if table.ahead:
        cells = ["<td class=t>median</td>"] + ["<td></td>"] * (len(table.heads) - 1)
        for i in table.ahead:
            values = [row[i] for row in table.rows]
            known = [float(v) for v in values if isinstance(v, int | float) and math.isfinite(v)]
            cells[i] = f"<td data-m>{cell(statistics.median(known) if known else None)}</td>"
        foot = f"<tfoot><tr>{''.join(cells)}</tr></tfoot>"
    hidden = "".join(f"#{name} tr>:nth-child({i + 1}){{display:none}}" for i in table.hidden)
    return (
        f'<div class=board id="{name}"><style>{hidden}</style>{_controls(table)}'
        f"<p class=note>{escape(table.caption)}</p>"
        f'<div class=scroll tabindex=0 role=region aria-label="{escape(table.caption)}"><table>'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>{rows}</tbody>{foot}</table></div></div>"
    )


def _facts(text: bool, value: Cell) -> str:
    """Attributes of a cell; what may be cut off is whole in its title."""
    title = f' title="{escape(value)}"' if isinstance(value, str) and len(value) > 24 else ""
    return (" class=t" if text else "") + title


def _controls(table: DataTable) -> str:
    """Choices above a table, for screens only."""
    parts = []
    for i in table.filters:
        values = sorted({part for row in table.rows for part in str(row[i]).split(", ")})
        options = "<option value=''>all</option>" + "".join(f"<option>{escape(value)}</option>" for value in values)
        parts.append(f"<label>{escape(table.heads[i])} <select data-filter={i}>{options}</select></label>")
    if table.search:
        parts.append("<label>contains <input type=search data-search></label>")
    if table.ahead:
        options = "<option value=''>any</option>"
        options += "".join(f"<option value={i}>{escape(table.heads[i])}</option>" for i in table.ahead)
        parts.append(f"<label>only where <select data-above=a>{options}</select></label>")
        parts.append(f"<label>is ahead of <select data-above=b>{options}</select></label>")
        boxes = "".join(
            f"<label><input type=checkbox data-column={i}{'' if i in table.hidden else ' checked'}> "
            f"{escape(table.heads[i])}</label>"
            for i in table.ahead
        )
        parts.append(f"<details><summary>columns</summary>{boxes}</details>")
    if parts:
        parts.append(f"<output>{len(table.rows)} lines</output>")
    return f"<form class=controls>{''.join(parts)}</form>" if parts else ""
