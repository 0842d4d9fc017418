"""Program: the text of a C file that reads a CSV file for the network in another."""

from __future__ import annotations

import re
from pathlib import Path

from netformer.sources.literals import c_string, comment
from netformer.tables.reading import Reading

READER, NUMBERS, TARGETS, CLASSES = (
    Path(__file__).with_name(f"{name}.c") for name in ("reader", "reader_numbers", "reader_targets", "reader_classes")
)


def c_reader(reading: Reading, network: str, intervals: bool = False) -> str:
    """One C99 file with a `main` that reads a CSV file with a header row and prints a prediction a row, of each target;
    after `--interval 0.9` also columns _low and _high. Of classes it prints the label of the most probable one, and the
    probability of each. network: name of the file of `c_source` that it is compiled with. intervals: whether that has
    some; without them the option is refused.

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
    several = len(reading.targets) > 1
    tables = _labels(reading) if reading.classes else (_targets if several else _ends)(reading, intervals)
    rows = []
    for i, column in enumerate(reading.table):
        levels = column.levels if column.kind == "category" else column.words
        if levels:
            tables += [
                f"static const char *const levels{i}[] = {{",
                *(f"    {c_string(str(v))}," for v in levels),
                "};",
            ]
        form = "%Y-%m-%d" if column.form == "ISO8601" else column.form
        shown = f"{c_string(column.name)}, '{column.kind[0]}', {c_string(form)}"
        rows.append(f"    {{{shown}, {len(levels)}, {f'levels{i}' if levels else 'NULL'}}},")
    tables += ["static const struct column columns[N] = {", *rows, "};"]
    body = READER.read_text(encoding="utf-8").replace("/* COLUMNS */", "\n".join(tables))
    for mark, text in _sections(CLASSES if reading.classes else TARGETS if several else NUMBERS):
        body = body.replace(mark, text)
    return "\n".join(lines) + "\n" + body


def _sections(file: Path) -> list[tuple[str, str]]:
    """Marks of `reader.c`, and the lines of a file that stand for each."""
    _, *parts = re.split(r"^(/\* == \w+ \*/\n)", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return list(zip(parts[::2], parts[1::2], strict=True))


def _ends(reading: Reading, intervals: bool) -> list[str]:
    """What the program knows of a target of numbers."""
    ends = [c_string(f",{_csv(f'{reading.target}_{end}')}") for end in ("low", "high")]
    return [
        f"#define INTERVALS {int(intervals)}",
        f"#define N {len(reading.table)}",
        f"#define TARGET {c_string(_csv(reading.target))}",
        f"#define ENDS {' '.join(ends)}",
    ]


def _targets(reading: Reading, intervals: bool) -> list[str]:
    """What the program knows of several targets of numbers."""
    names = [one.name for one in reading.targets]
    ends = ["".join(f",{_csv(f'{name}_{end}')}" for end in ("low", "high")) for name in names]
    return [
        f"#define INTERVALS {int(intervals)}",
        f"#define N {len(reading.table)}",
        f"#define TARGETS {len(reading.targets)}",
        *(
            line
            for name, texts in (("targets", map(_csv, names)), ("ends", ends))
            for line in (
                f"static const char *const {name}[TARGETS] = {{",
                *(f"    {c_string(text)}," for text in texts),
                "};",
            )
        ),
    ]


def _labels(reading: Reading) -> list[str]:
    """What the program knows of a target of classes: its header, and labels as cells, which may hold a NUL."""
    names = [reading.target, *(f"{reading.target}_{label}" for label in reading.classes)]
    return [
        f"#define N {len(reading.table)}",
        f"#define CLASSES {len(reading.classes)}",
        "struct label {",
        "    size_t size;",
        "    const char *text;",
        "};",
        "static const struct label header_labels[CLASSES + 1] = {",
        *map(_label, names),
        "};",
        "static const struct label labels[CLASSES] = {",
        *map(_label, map(str, reading.classes)),
        "};",
    ]


def _label(text: str) -> str:
    """A cell of a CSV file, in a `struct label`."""
    return f"    {{{len(_csv(text).encode())}, {c_string(_csv(text))}}},"


def _csv(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if re.search(r'[",;\s]', name) else name
