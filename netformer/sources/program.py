"""Program: the text of a C file that reads a CSV file for the network in another."""

from __future__ import annotations

import re
from pathlib import Path

from netformer.sources.c import comment
from netformer.tables.reading import Reading

READER = Path(__file__).with_name("reader.c")


def c_reader(reading: Reading, network: str, intervals: bool = False) -> str:
    """One C99 file with a `main` that reads a CSV file with a header row and prints a prediction a row; after
    `--interval 0.9` also columns _low and _high. network: name of the file of `c_source` that it is compiled with.
    intervals: whether that has some; without them the option is refused.

    Columns are matched by name, others ignored; cells may be quoted; text is mapped to levels, empty cells and words
    such as NA to gaps, dates in ISO 8601 or in the form of the table that was fitted to seconds, numbers as people
    write them to numbers. All else ends the program with one line that names file, row and column, and status 2.
    """
    own = Path(network).stem
    lines = [
        f"/* Predicts {comment(reading.target)} for the rows of a CSV file, with the network in {comment(network)}:",
        " *",
        f" *     cc -O2 {comment(network)} {comment(own)}_csv.c -lm -o predict",
        f" *     ./predict {'[--interval 0.9] ' * intervals}table.csv > predictions.csv",
        " */",
    ]
    ends = [_string(f",{_csv(f'{reading.target}_{end}')}") for end in ("low", "high")]
    tables = [
        f"#define INTERVALS {int(intervals)}",
        f"#define N {len(reading.table)}",
        f"#define TARGET {_string(_csv(reading.target))}",
        f"#define ENDS {' '.join(ends)}",
    ]
    rows = []
    for i, column in enumerate(reading.table):
        levels = column.levels if column.kind == "category" else column.words
        if levels:
            tables += [f"static const char *const levels{i}[] = {{", *(f"    {_string(str(v))}," for v in levels), "};"]
        form = "" if column.form == "ISO8601" else column.form
        shown = f"{_string(column.name)}, '{column.kind[0]}', {_string(form)}"
        rows.append(f"    {{{shown}, {len(levels)}, {f'levels{i}' if levels else 'NULL'}}},")
    tables += ["static const struct column columns[N] = {", *rows, "};"]
    body = READER.read_text(encoding="utf-8").replace("/* COLUMNS */", "\n".join(tables))
    return "\n".join(lines) + "\n" + body


def _csv(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if re.search(r'[",;\s]', name) else name


def _string(text: str) -> str:
    """A string of C, in ASCII without trigraphs."""
    plain = (chr(byte) if 32 <= byte < 127 and byte not in b'"\\?' else f"\\{byte:03o}" for byte in text.encode())
    return f'"{"".join(plain)}"'
