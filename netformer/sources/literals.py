"""Literals: names, numbers, text and comments as C holds them; numbers and functions as Python does."""

from __future__ import annotations

import inspect
import re
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np

from netformer.sources.digits import EXACT_DIGITS, decimal
from netformer.tables.reading import Reading

WIDTH = 116  # of a line of numbers
ROWS = "a DataFrame, or rows that are lists in the order of COLUMNS, or dicts by name"
CELLS = "a gap is None, nan or empty; a date is seconds since 1970 UTC, a datetime or text; a category is text"
_TAKEN = ("M_", "FP_", "HUGE_", "MATH_", *"0123456789")  # how names of <math.h> begin, and no name does


def level_names(reading: Reading) -> dict[int, list[str]]:
    """Names of the enumeration constants of each category, by number of its column: COLUMN_LEVEL in ASCII capitals,
    none twice, none that <math.h> has."""
    found: dict[int, list[str]] = {}
    seen: set[str] = set()
    for i, column in enumerate(reading.table):
        if column.kind != "category":
            continue
        found[i] = []
        for at, level in enumerate(column.levels):
            stem = f"{_capitals(column.name) or f'X{i}'}_{_capitals(str(level)) or (at if level else 'MISSING')}"[:55]
            stem = f"LEVEL_{stem}" if stem.startswith(_TAKEN) else stem
            name, count = stem, 1
            while name in seen:
                count += 1
                name = f"{stem}_{count}"
            seen.add(name)
            found[i].append(name)
    return found


def _capitals(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Z0-9]+", "_", plain.upper()).strip("_")


def enum_lines(reading: Reading, names: dict[int, list[str]]) -> list[str]:
    """The enumerations of these names."""
    lines = []
    for i, constants in names.items():
        lines += [f"enum {{ /* levels of {comment(reading.columns[i])} */", ""]
        for constant, level in zip(constants, reading.table[i].levels, strict=True):
            plain = re.fullmatch(r"[\w .-]+", str(level), re.ASCII) and constant.endswith(_capitals(str(level)))
            text = f" {constant}," + (f" /* {comment(str(level)) or 'a gap'} */" if not plain else "")
            if len(lines[-1]) + len(text) > WIDTH:
                lines.append("")
            lines[-1] += text
        lines.append("};")
    return lines


def decimals(values: Sequence[float]) -> list[str]:
    """Texts that hold them exactly."""
    return [decimal(value, EXACT_DIGITS) for value in values]


def short(value: float) -> str:
    """As precise as float32."""
    return decimal(value, 9)


def double_text(value: float) -> str:
    """A literal of C and of Python that is no integer."""
    return repr(float(value))


def array_lines(real: str, name: str, values: Sequence[float] | np.ndarray, digits: int) -> list[str]:
    """The definition of an array of numbers of the type `real`."""
    return text_lines(real, name, [decimal(value, digits) for value in values])


def text_lines(real: str, name: str, texts: Sequence[str]) -> list[str]:
    """The same of numbers that are text already, a comma between them and no blanks."""
    lines = [""]
    for text in texts:
        if len(lines[-1]) + len(text) > WIDTH:
            lines.append("")
        lines[-1] += text + ","
    return [f"static const {real} {name}[{len(texts)}] = {{", *lines, "};"]


def comment(name: str) -> str:
    """A name that can neither end nor continue a C comment: ASCII, on one line, no trigraph."""
    plain = re.sub(r"[\x00-\x1f\x7f]", " ", name).encode("ascii", "backslashreplace").decode()
    return re.sub(r"\?(?=\?)", "? ", re.sub(r"(?<=[*/])(?=[*/])", " ", plain))


def c_string(text: str) -> str:
    """A string of C, in ASCII without trigraphs."""
    plain = (chr(byte) if 32 <= byte < 127 and byte not in b'"\\?' else f"\\{byte:03o}" for byte in text.encode())
    return f'"{"".join(plain)}"'


def function_lines(function: Callable) -> list[str]:
    """The text of a function or a class, two blank lines before it."""
    return ["", "", inspect.getsource(function).rstrip()]


def number_text(value: float) -> str:
    """A float of 9 significant digits."""
    return repr(float(f"{value:.9g}"))


def literal(values: np.ndarray, digits: int = 9) -> str:
    """A list, or a list of lists, of floats. 9 digits are read as the same float32, but as another float64."""
    if values.ndim > 1:
        return f"[{', '.join(literal(row, digits) for row in values)}]"
    texts = (decimal(value, digits) for value in values)
    return f"[{', '.join(t if '.' in t or 'e' in t else t + '.' for t in texts)}]"
