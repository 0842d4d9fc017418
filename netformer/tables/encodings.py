"""Encodings: the bytes of a file, what they may unpack to, and their text as UTF-8."""

from __future__ import annotations

import codecs
import gzip
import io
import re
import xml.parsers.expat
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, reduce
from pathlib import Path

import numpy as np

from netformer.errors import InputError

MOST_CELLS = 1 << 26  # of a table, unless its file has a byte for each
_SPARSE = 1 << 17  # of a sheet, unless its XML has a byte for each
MOST_BYTES = 1 << 28  # of what a compressed file unpacks to
_PLACE = re.compile(r"\$?([A-Za-z]{1,3})\$?(\d{1,9})")  # of a cell: B7
_BOMS = (  # byte order marks; that of UTF-32 begins like that of UTF-16
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_UTF16 = 0.2  # share of zero bytes from which on text is taken for UTF-16
_WINDOW = 1 << 20  # bytes looked at to name an encoding


@dataclass(frozen=True, eq=False)
class Source:
    """Bytes to read a table from. name: in messages. head: the first of them, or all. file: has the others, read only
    when they are needed, None where there are none."""

    name: str
    head: bytes
    file: Path | None = None

    @cached_property
    def data(self) -> bytes:
        """All bytes."""
        return self.head if self.file is None else self.file.read_bytes()

    def stream(self, start: int) -> io.BytesIO | io.BufferedReader:
        """The bytes from `start` on, to be closed."""
        stream = io.BytesIO(self.head) if self.file is None else self.file.open("rb")
        stream.seek(start)
        return stream


def as_utf8(source: Source, encoding: str | None = None) -> tuple[Source, list[str]]:
    """Text as UTF-8 without a byte order mark, and a note where it was something else.

    encoding: that of the text, None for what its byte order mark says, or UTF-8 (which is not checked here).
    Raises InputError for an encoding that does not exist or does not fit.
    """
    name, notes = source.name, []
    if encoding is None:
        mark, found = next(((mark, code) for mark, code in _BOMS if source.head.startswith(mark)), (b"", ""))
        if found == "utf-8":
            return Source(name, source.data[len(mark) :]), []
        if not found:
            _refuse_zeros(source)
            return source, []
        encoding = found
        notes.append(f"{name}: the text is {encoding.upper()}, by its byte order mark")
    try:
        return Source(name, source.data.decode(encoding).removeprefix("\ufeff").encode()), notes
    except LookupError:
        raise InputError(
            f"encoding must be one that Python knows, such as cp1252 or utf-16, got {encoding!r}"
        ) from None
    except UnicodeError:
        raise InputError(f"{name}: not text in {encoding}; give another --encoding, or none for UTF-8") from None


def _refuse_zeros(source: Source) -> None:
    """Raises InputError for zero bytes: every second one is in UTF-16 of Western text, none in UTF-8."""
    zeros = np.frombuffer(source.head, np.uint8) == 0
    if not zeros.any():
        return
    if zeros.mean() < _UTF16:
        line = source.head.count(b"\n", 0, int(zeros.argmax())) + 1
        raise InputError(f"{source.name}: text must not hold zero bytes, found one in line {line}; remove it")
    code = "utf-16-be" if zeros[::2].sum() > zeros[1::2].sum() else "utf-16-le"
    raise InputError(f"{source.name}: holds zero bytes, probably UTF-16 without its mark; say --encoding {code}")


def not_utf8(source: Source) -> InputError:
    """The error for text that is not UTF-8: where, what it probably is, and the way out."""
    data = source.data
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        start = error.start
    window = np.frombuffer(data[start : start + _WINDOW], np.uint8)
    high = window >= 128
    if (high[1:] & high[:-1]).sum() > 0.5 * high.sum():  # whole words beyond ASCII
        probably = "perhaps cp1251 (Cyrillic), gb18030 (Chinese) or shift_jis (Japanese)"
        way_out = "name it with --encoding"
    else:
        unused = np.isin(window, (0x81, 0x8D, 0x8F, 0x90, 0x9D)).any()  # holes of cp1252
        code = "cp850" if unused else "cp1252"
        probably = f"probably {code} ({'DOS' if unused else 'Windows, includes latin-1'})"
        way_out = f"say --encoding {code}, or convert it: iconv -f {code} -t UTF-8"
    line = data.count(b"\n", 0, start) + 1
    return InputError(
        f"{source.name}: the text must be UTF-8, found byte 0x{data[start]:02x} in line {line}; {probably}: {way_out}"
    )


def unpacked(data: bytes, name: str) -> bytes:
    """What a gzip file holds. Raises InputError for a damaged one, and for one that unpacks to too much."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            text = stream.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{name}: not a readable gzip file: {error}") from None
    require_bytes(len(text), name)
    return text


def require_bytes(size: int, name: str) -> None:
    """Raises InputError for a compressed file that unpacks to so many bytes."""
    if size > MOST_BYTES:
        raise InputError(f"{name}: unpacked it must be at most {MOST_BYTES >> 20} MB; unpack it yourself, as .csv")


def require_cells(rows: int, columns: int, name: str, size: int = 0, most: int = 0) -> None:
    """Raises InputError, before a table is built, for more than `most` cells (0: MOST_CELLS) and more than the bytes of
    its file, `size`."""
    most = max(most or MOST_CELLS, size)
    if rows * columns > most:
        found = f"{rows} rows of {columns} columns"
        raise InputError(f"{name}: a table must have at most {most} cells, found {found}; cut it")


def require_sheets_fit(source: Source) -> None:
    """Raises InputError for an Excel file that unpacks to too much, and for a sheet with a cell so far out that the
    table up to it would be far larger than the file."""
    with zipfile.ZipFile(io.BytesIO(source.data)) as packed:
        require_bytes(sum(member.file_size for member in packed.infolist()), source.name)
        for member in packed.infolist():
            rows = columns = row = column = 0

            def start(tag: str, attributes: dict[str, str]) -> None:
                nonlocal rows, columns, row, column
                kind = tag.rpartition(":")[2]
                if kind == "row":
                    row, column = int(attributes.get("r", row + 1)), 0
                elif kind == "c":
                    place = _PLACE.fullmatch(attributes.get("r", ""))
                    column = reduce(lambda n, c: 26 * n + ord(c) - 64, place[1].upper(), 0) if place else column + 1
                    row = int(place[2]) if place else row
                rows, columns = max(rows, row), max(columns, column)

            parser = xml.parsers.expat.ParserCreate()
            parser.StartElementHandler = start
            with suppress(xml.parsers.expat.ExpatError, ValueError):  # no sheet
                parser.Parse(packed.read(member), True)
            require_cells(rows, columns, source.name, member.file_size, _SPARSE)
