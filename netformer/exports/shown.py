"""Shown: how an object looks in a notebook, its `repr` with a small table below."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

MOST_ROWS = 20  # of a table in a notebook


def html_of(shown: Any, head: Sequence[str] = (), rows: Iterable[Sequence[Any]] = ()) -> str:
    """The lines of `repr(shown)` and a table of at most `MOST_ROWS` rows, escaped, without style or script of its own.
    head: names of its columns; rows: their cells, of numbers and text."""
    lines = "<br>".join(map(escape, repr(shown).splitlines()))
    listed = [[escape(str(cell)) for cell in row] for row in rows]
    if not listed:
        return f"<p>{lines}</p>"
    cells = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in listed[:MOST_ROWS])
    more = len(listed) - MOST_ROWS
    below = f"<p>and {more} more</p>" if more > 0 else ""
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f"<p>{lines}</p><table><thead><tr>{names}</tr></thead><tbody>{cells}</tbody></table>{below}"
