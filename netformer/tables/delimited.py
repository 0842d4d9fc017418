"""Delimited text: UTF-8 to a table. Separator, decimal mark and header are found out, and said in notes."""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pandas as pd

from netformer.errors import InputError
from netformer.tables.encodings import MOST_CELLS, Source, not_utf8, require_cells

SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a vertical bar"}  # others by request
NAMED = {"tab": "\t", "\\t": "\t", "space": " "}  # what a shell does not pass on easily
_LINES = 50  # looked at to find the separator
_NUMBERS = 10  # rows of them in which numbers are counted
_CHUNK = 1 << 18  # bytes
_CELLS = 1000  # with a comma in a number, looked at to find the decimal mark
_COMMA = re.compile(r"\s*[+-]?(\d+|\d{1,3}(\.\d{3})+),\d+([eE][+-]?\d+)?\s*")  # 0,5 and 1.234,5
_POINT = re.compile(r"\s*[+-]?(\d*|\d{1,3}(,\d{3})+)\.\d+([eE][+-]?\d+)?\s*")
_THOUSANDS = re.compile(r"\s*[+-]?[1-9]\d{0,2}([.,]\d{3})+\s*")  # 1.234 or 1,234: may be one thousand and more
_ANYWHERE = re.compile(rb"(?<=[;|\t\n\"])[+-]?\d[\d.]*,\d+(?=[;|\t\r\n\"])")


@dataclass(frozen=True, eq=False)
class _Text:
    """The text of a table: where it begins, after how many lines, and what separates its cells."""

    source: Source
    start: int
    n_lines: int
    sep: str

    def separators(self) -> int:
        """How often the separator stands in it, -1 where it may also stand in quotes."""
        count = 0
        with self.source.stream(self.start) as stream:
            while chunk := stream.read(_CHUNK):
                if b'"' in chunk:
                    return -1
                count += int(np.count_nonzero(np.frombuffer(chunk, np.uint8) == ord(self.sep)))
        return count

    def lines(self) -> int:
        """How many lines it has at most: every end of a line counts, also in quotes."""
        count = 1
        with self.source.stream(self.start) as stream:
            while chunk := stream.read(_CHUNK):
                count += chunk.count(b"\n") + chunk.count(b"\r") - chunk.count(b"\r\n")
        return count

    def widths(self) -> Iterator[tuple[int, int]]:
        """The line in which each row ends, and its number of cells, up to a cell that is too long for csv."""
        stream = self.source.stream(self.start)
        with suppress(csv.Error), io.TextIOWrapper(stream, "utf-8", "replace", newline="") as lines:
            reader = csv.reader(lines, delimiter=self.sep, skipinitialspace=self.sep == " ")
            for row in reader:
                if len(row) > 1 or (row and row[0].strip()):
                    yield self.n_lines + reader.line_num, len(row)


def read_delimited(
    source: Source,
    usual: str,
    separator: str | None = None,
    header: bool = True,
    texts: Collection[str] = (),
    comma: bool = False,
) -> tuple[pd.DataFrame, list[str], bool]:
    """A table from UTF-8 text, what was assumed, and whether numbers have a decimal comma.

    usual: the separator that the file's name stands for, taken where the first lines allow several. separator: one
    character, or `tab`, `space`; None to find out. header: False for a table without one: columns are x0, x1, .. texts:
    names of columns whose cells stay text. comma: whether numbers have a decimal comma where the file does not say.

    Cells are numbers where all of a column are. Text with another separator than a comma may have a decimal comma.
    Leading lines that start with # and blank ones are skipped; the last of them is the header where a row of numbers
    with as many cells follows. So are lines of a title above the header (`header_at`).

    Raises InputError for text that is empty, a header twice, a row longer than the header, a quotation mark that is
    not closed, text that is not UTF-8.
    """
    name, (start, n_lines, skipped, said) = source.name, _leading(source)
    sample, whole = _sample(source, start)
    sep = _given(separator or said) or _sniff(sample, whole, usual)
    rows = _records(sample, sep, whole)
    if not rows:
        raise _empty(name)
    title, n_titles = rows[0], header_at(rows) if header else 0
    if n_titles:
        start, n_lines = _behind(start, n_lines, sample, sep, n_titles)
        sample, whole = _sample(source, start)
        rows = _records(sample, sep, whole)
    text = _Text(source, start, n_lines, sep)
    decimal = "," if sep != "," and _decimal_comma(rows, source, sep, comma) else "."
    spaced = sep == " " or any(cell.startswith(" ") for cell in rows[0][1:])
    first = [cell.strip() for cell in rows[0]] if spaced else rows[0]
    above = _header_above(skipped, first, sep, decimal) if header else None
    names = above or (None if header else [f"x{i}" for i in range(len(first))])
    notes = []
    if above:
        notes.append(f"{name}: line {skipped[-1][0]} starts with # and was read as the header")
    elif skipped:
        notes.append(f"{name}: skipped {len(skipped)} leading line{'s' * (len(skipped) > 1)} starting with #")
    if n_titles:
        notes.append(skipped_titles(name, n_titles, title))
    if names is None:
        notes += check_header(first, name, decimal)
    n_bytes = len(source.head) if source.file is None else source.file.stat().st_size
    if len(first) * n_bytes > MOST_CELLS:  # there are no more rows than bytes
        require_cells(text.lines(), len(first), name, n_bytes)
    as_text = {*texts, *(cell for cell in rows[0] if cell.strip() in texts)}
    frame = _parse(text, decimal, names, spaced, len(first), as_text)
    if sep != usual or decimal == ",":
        mark = ", with ',' as decimal mark" if decimal == "," else ""
        size = " and ".join(f"{n} {w}{'s' * (n != 1)}" for n, w in zip(frame.shape, ("row", "column"), strict=True))
        notes.insert(0, f"{name}: read {size}, separated by {_shown(sep)}{mark}")
    return frame, notes + _short(text, frame, names is None), decimal == ","


def header_at(rows: Sequence[Sequence[str]]) -> int:
    """The number of the row that names the columns: 0, or that of the first row below lines of a title. These fill one
    cell, or at most half of as many as the fullest row; what is below them must hold names, unique and no numbers."""
    filled = [sum(bool(cell.strip()) for cell in row) for row in rows]
    few = max(1, max(filled, default=0) // 2)
    at = next((i for i, n in enumerate(filled) if n > few), 0)
    names = [cell.strip() for cell in rows[at] if cell.strip()] if at else []
    return at if len(set(names)) == len(names) and not any(map(_is_number, names)) else 0


def skipped_titles(name: str, count: int, title: Sequence[str]) -> str:
    """The note on rows above the header, the first of which is `title`."""
    first = next((cell.strip() for cell in title if cell.strip()), "")
    what = f"the row {first!r}" if count == 1 else f"{count} rows, the first {first!r},"
    return f"{name}: skipped {what} above the header"


def check_header(names: Sequence[str], name: str, decimal: str = ".") -> list[str]:
    """A note where the names look like cells. Raises InputError for names that stand twice, or none at all."""
    filled = [cell for cell in names if cell.strip()]
    if not filled:
        raise InputError(f"{name}: a table needs a header, found none in its first row; give one, or say --no-header")
    data = [c for c in filled if _is_number(c, decimal)]
    looks = len(data) == len(filled) or any(not c.strip().isdigit() for c in data)
    twice = sorted(cell for cell, count in Counter(filled).items() if count > 1)
    if twice:
        shown = ", ".join(map(repr, twice))
        way_out = "; the first row looks like data, say --no-header if it is" if looks else ""
        raise InputError(f"{name}: column names must be unique, found more than once: {shown}{way_out}")
    return [f"{name}: the first row looks like data and was read as the header; say --no-header if it is data"] * looks


def _leading(source: Source) -> tuple[int, int, list[tuple[int, bytes]], str]:
    """Where the table starts, the number of lines before it, those of them that start with # with their numbers, and
    the separator where Excel's line `sep=;` gives it."""
    data, start, n_lines, skipped, said = source.head, 0, 0, [], ""
    while start < len(data):
        end = _line_end(data, start)
        line = data[start:end].strip(b"\r\n")
        excel = re.fullmatch(rb'"?sep=(.)"?', line, re.IGNORECASE)
        if line.startswith(b"#"):
            skipped.append((n_lines + 1, line))
        elif excel and not said:
            said = excel[1].decode("latin-1")
        elif line.strip():
            break
        start, n_lines = end, n_lines + 1
    return start, n_lines, skipped, said


def _line_end(data: bytes, start: int) -> int:
    """Behind the line break that ends the line which begins at `start`."""
    end = data.find(b"\n", start)
    if end < 0:
        end = data.find(b"\r", start)
    return len(data) if end < 0 else end + 1


def _lines_end(data: bytes, start: int) -> int:
    """Behind the first lines from `start` on."""
    for _ in range(_LINES):
        start = _line_end(data, start)
    return start


def _sample(source: Source, start: int) -> tuple[str, bool]:
    """The first lines of the table, and whether they are all of it."""
    data = source.head
    end = _lines_end(data, start)
    if end == len(data):  # the lines are long, or few
        data = source.data
        end = _lines_end(data, start)
    try:
        return data[start:end].decode("utf-8"), end == len(data)
    except UnicodeDecodeError:
        raise not_utf8(source) from None


def _behind(start: int, n_lines: int, sample: str, sep: str, rows: int) -> tuple[int, int]:
    """Where the text begins behind the first rows of its sample, and the number of lines before it."""
    text = io.StringIO(sample, newline="")
    reader = csv.reader(text, delimiter=sep, skipinitialspace=sep == " ")
    while rows:
        row = next(reader)
        rows -= len(row) > 1 or bool(row and row[0].strip())
    return start + len(sample[: text.tell()].encode()), n_lines + reader.line_num


def _given(separator: str) -> str:
    """The character that a user names, none where none is. Raises InputError for what cannot separate cells."""
    sep = NAMED.get(separator, separator)
    if len(sep) > 1 or (sep and (sep.isalnum() or not sep.isascii() or sep in '"\r\n.')):
        raise InputError(f"separator must be one character such as ';', or tab or space, got {separator!r}")
    return sep


def _records(sample: str, sep: str, whole: bool = True) -> list[list[str]]:
    """The cells of the rows of a text, blank lines left out; the last one too where the text may be cut in it."""
    reader = csv.reader(io.StringIO(sample, newline=""), delimiter=sep, skipinitialspace=sep == " ")
    rows: list[list[str]] = []
    with suppress(csv.Error):  # a cell of more than csv's 131,072 characters
        rows.extend(row for row in reader if len(row) > 1 or (row and row[0].strip()))
    return rows if whole or len(rows) < 3 else rows[:-1]


def _sniff(sample: str, whole: bool, usual: str) -> str:
    """The separator under which most rows have as many cells as the first, then most cells are numbers; `usual` before
    others that are as good."""
    best, best_score = usual, (0.0, -1.0)
    for sep in dict.fromkeys((usual, *SEPARATORS)):
        rows = _records(sample, sep, whole)
        rows = rows[header_at(rows) :]
        if not rows or len(rows[0]) < 2:
            continue
        body = rows[1:] or rows
        cells = [cell for row in body[:_NUMBERS] for cell in row if cell.strip()]
        numeric = sum(_is_number(c) or (sep != "," and _is_number(c, ",")) for c in cells) / max(len(cells), 1)
        score = (sum(len(row) == len(rows[0]) for row in body) / len(body), numeric)
        if score > best_score:
            best, best_score = sep, score
    return best


def _decimal_comma(rows: Sequence[Sequence[str]], source: Source, sep: str, usual: bool) -> bool:
    """Whether numbers have a decimal comma: more of those that can be nothing else than of such with a point. 1,234 may
    be a thousand; beside semicolons, which are there because of it, it is not, unless points say otherwise. usual:
    whether they have one where no cell says otherwise."""
    cells = [cell for row in rows for cell in row]
    if not any(_COMMA.fullmatch(c) or _POINT.fullmatch(c) for c in cells) and b"," in source.data:
        hits = zip(range(_CELLS), _ANYWHERE.finditer(source.data), strict=False)  # further down
        cells = [hit[0].decode() for _, hit in hits]
    commas, points = ([c for c in cells if mark.fullmatch(c)] for mark in (_COMMA, _POINT))
    sure, against = (sum(not _THOUSANDS.fullmatch(c) for c in found) for found in (commas, points))
    return sure > against or (not against and (usual or (sep == ";" and bool(commas))))


def _is_number(cell: str, decimal: str = ".") -> bool:
    try:
        float(cell if decimal == "." else cell.replace(".", "x").replace(",", "."))
    except ValueError:
        return False
    return cell.strip().lstrip("+-")[:1] in "0123456789.,"  # not nan, not inf


def _header_above(
    skipped: Sequence[tuple[int, bytes]], first: Sequence[str], sep: str, decimal: str
) -> list[str] | None:
    """The names in a last line such as `#a,b`, where the first row is data of as many cells."""
    if not skipped or len(first) < 2 or not any(_is_number(cell, decimal) for cell in first):
        return None
    names = next(iter(_records(skipped[-1][1].lstrip(b"# ").decode("utf-8", "replace"), sep)), [])
    names = [cell.strip() for cell in names]
    return names if len(names) == len(first) and all(names) and len(set(names)) == len(names) else None


def _parse(
    text: _Text, decimal: str, names: list[str] | None, spaced: bool, width: int, as_text: Collection[str]
) -> pd.DataFrame:
    """The table by pandas. names: of the columns, None for those of the first row, which has `width` cells. spaced:
    whether blanks follow the separators. as_text: names of columns whose cells stay text."""
    try:
        with warnings.catch_warnings(), text.source.stream(text.start) as stream:
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a row longer than the header
            frame = pd.read_csv(
                stream,
                sep=r"\s+" if text.sep == " " else text.sep,
                decimal=decimal,
                header=0 if names is None else None,
                names=names,
                skipinitialspace=spaced,
                encoding="utf-8",
                index_col=False,
                dtype=dict.fromkeys(as_text, "str"),
                low_memory=False,
            )
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise _ragged(text, width, str(error)) from None
    except pd.errors.EmptyDataError:  # a second byte order mark is all there is
        raise _empty(text.source.name) from None
    except UnicodeDecodeError:
        raise not_utf8(text.source) from None
    if spaced:
        frame.columns = frame.columns.str.strip()
    return frame


def _empty(name: str) -> InputError:
    return InputError(f"{name}: a table needs a header and rows, found an empty file")


def _ragged(text: _Text, width: int, said: str) -> InputError:
    """The error for text that pandas does not take: a row longer than the header, or a quote without its end."""
    name = text.source.name
    open_quote = re.search(r"EOF inside string starting at row (\d+)", said)
    if open_quote:
        line = text.n_lines + int(open_quote[1]) + 1
        return InputError(f"{name}: a quotation mark near line {line} is not closed; close it or remove it")
    for line, cells in text.widths():
        if cells > width:
            way_out = f"quote cells that hold {_shown(text.sep)}, or name every column"
            return InputError(f"{name}: line {line} has {cells} cells, the header {width}; {way_out}")
    return InputError(f"{name}: not a readable table: {' '.join(said.split())}")


def _short(text: _Text, frame: pd.DataFrame, has_header: bool) -> list[str]:
    """A note on rows with fewer cells than there are columns; the last column has a gap where there are any."""
    width = frame.shape[1]
    if width < 2 or frame.empty or text.sep == " " or not frame.iloc[:, -1].isna().any():
        return []
    if text.separators() == (width - 1) * (len(frame) + has_header):
        return []
    short = [line for line, cells in text.widths() if cells < width]
    if not short:
        return []
    what = "1 row has" if len(short) == 1 else f"{len(short)} rows have"
    where = f"the first in line {short[0]}; the missing ones are gaps"
    return [f"{text.source.name}: {what} fewer cells than the header, {where}"]


def _shown(sep: str) -> str:
    return SEPARATORS.get(sep, repr(sep))
