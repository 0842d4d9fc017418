"""C rows: how a C file says what the numbers of a row are, and makes of them what a network reads."""

from __future__ import annotations

import math

from netformer.exports.formula import MAPPED, Formula, Step, fills_of, gaps_of
from netformer.sources.digits import EXACT_DIGITS, decimal
from netformer.sources.literals import comment, decimals, double_text, enum_lines, level_names, short, text_lines
from netformer.tables.reading import Reading
from netformer.tables.scaling import SQUASH

_MAP_DIGITS = 8  # of what standardises a number, but for its center, which may be far from 0


def row_lines(reading: Reading) -> list[str]:
    """What each number of a row is, and the levels of categories."""
    lines, constants = [], level_names(reading)
    for i, column in enumerate(reading.table):
        what = ", a date: seconds since 1970-01-01 UTC" if column.kind == "date" else ""
        if i in constants:
            what = f", one of {constants[i][0]} to {constants[i][-1]}, -1 for any other" if constants[i] else ""
        lines.append(f" * x[{i}]: {comment(column.name)}{what}")
    return lines


def input_lines(formula: Formula) -> tuple[list[str], list[str]]:
    """The lines that hold what reads a row, and those of `predict` that make z of x."""
    reading, steps = formula.reading, formula.steps
    names = level_names(reading)
    mapped = [i for i, step in enumerate(steps) if step.part in MAPPED]
    run = next((i for i, step in enumerate(steps) if step.part != "value" or step.column != i), len(steps))
    maps = [decimal(v, _MAP_DIGITS if at else EXACT_DIGITS) for i in mapped for at, v in enumerate(steps[i].constants)]
    tables = [*enum_lines(reading, names)]
    tables += ["/* for a gap */", *text_lines("double", "fill", decimals(fills_of(reading)))]
    if maps:
        tables += [
            "/* of each: center, scale, least, largest, shift, spread */",
            *text_lines("double", "maps", maps),
        ]
        tables += [
            "static double standard(double x, const double *m) {",
            "    double r = (x - m[0]) / m[1];",
            "    r = r < m[2] ? m[2] : r > m[3] ? m[3] : r;",
            f"    return (r / sqrt(1 + r * r / {SQUASH**2:g}) - m[4]) / m[5];",
            "}",
        ]
    known, columns = "x[i] == x[i] ? x[i] : fill[i]", len(reading.table)
    if run == len(steps) and not gaps_of(reading):  # plain numbers
        return tables, [f"    for (int i = 0; i < {run}; i++) z[i] = standard({known}, maps + 6 * i);"]
    lines = [f"    double v[{columns}];", f"    for (int i = 0; i < {columns}; i++) v[i] = {known};"]
    for i, numbers in gaps_of(reading).items():
        lines += [f"    if (x[{i}] == {double_text(number)}) v[{i}] = fill[{i}];" for number in numbers]
    if run:
        lines.append(f"    for (int i = 0; i < {run}; i++) z[i] = standard(v[i], maps + 6 * i);")
    calls = set()
    for i, step in list(enumerate(steps))[run:]:
        if step.part in MAPPED:
            wave = f"{step.part}({2 * math.pi!r} * (v[{step.column}] / {step.more[0]!r}))" if step.more else ""
            read = f"standard({wave or f'v[{step.column}]'}, maps + {6 * mapped.index(i)})"
        elif step.part == "missing":
            tests = [f"x[{step.column}] != x[{step.column}]"]
            tests += [f"x[{step.column}] == {double_text(number)}" for number in gaps_of(reading).get(step.column, ())]
            read = f"{' || '.join(tests)} ? {short(step.constants[1])} : {short(step.constants[0])}"
        elif (one := _only(step)) is not None:
            read = f"v[{step.column}] == {names[step.column][one]} ? {short(step.constants[one])} : "
            read += short(step.constants[-1])
        else:
            tables += text_lines("double", f"values{i}", [decimal(value, 9) for value in step.constants])
            calls.add(step.part)
            if step.part == "code":
                tables += text_lines("double", f"levels{i}", decimals(step.more))
                read = f"values{i}[place(x[{step.column}], levels{i}, {len(step.more)})]"
            else:
                read = f"values{i}[level(v[{step.column}], {len(step.constants) - 1})]"
        lines.append(f"    z[{i}] = {read};")
    return [*tables, *(line for part in sorted(calls) for line in _LOOKUPS[part])], lines


_LOOKUPS = {
    "code": [
        "static int place(double x, const double *levels, int n) {",
        "    int i = 0;",
        "    while (i < n && levels[i] != x) i++;",
        "    return i;",
        "}",
    ],
    "level": ["static int level(double x, int n) { return x >= 0 && x < n ? (int)x : n; }"],
}


def _only(step: Step) -> int | None:
    """The one level of a category that has another value than all others and than any other; None if there are more."""
    other = [at for at, value in enumerate(step.constants) if value != step.constants[-1]]
    return other[0] if step.part == "level" and len(other) == 1 else None
