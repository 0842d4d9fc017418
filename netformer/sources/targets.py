"""Targets: the functions of a Python source that answers with several outputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from netformer.exports.formula import Spread
from netformer.exports.intervals import COVERAGE, LEVELS
from netformer.sources import plain
from netformer.sources.literals import CELLS, ROWS, function_lines, literal, number_text


def output_lines(trees: bool) -> list[str]:
    """Lines that answer with every output. trees: whether there are some."""
    return [
        "    units = hidden(z, BODIES, ACTIVATIONS)",
        "    return [",
        f"        output(z, units, bias, skip, [heads[k] for _, heads in BODIES]){' + added(z, TREES, k)' * trees}",
        "        for k, (bias, skip) in enumerate(OUTPUTS)",
        "    ]",
    ]


def several_functions(spreads: Sequence[Spread], trees: bool) -> list[str]:
    """What answers in units of several targets."""
    return [
        "def predict(rows):",
        f'    """For each row a list with a float for each of TARGETS. rows: {ROWS};',
        f'    {CELLS}."""',
        "    return [_predict(z) for z in inputs(rows)]",
        *_intervals(spreads),
        "",
        "",
        "def _predict(z):",
        "    return [y * scale + center for y, (center, scale) in zip(_outputs(z), UNITS)]",
        "",
        "",
        "def _outputs(z):",
        *output_lines(trees),
    ]


def _intervals(spreads: Sequence[Spread]) -> list[str]:
    """The functions that answer with quantiles of several targets, and what they read."""
    if not spreads:
        return []
    parts = (
        f"    ({number_text(one.bias)}, {literal(one.skip)}, [{', '.join(map(literal, one.heads))}], "
        f"{one.bounds!r}, {literal(np.array(one.scores))}),"
        for one in spreads
    )
    return [
        "",
        "",
        "# Of intervals, for each target: the output layer (bias, skip, heads) that says log of the scale",
        "# of a row, its bounds, scores at levels",
        "SCALES = [",
        *parts,
        "]",
        f"LEVELS_OF_SCORES = {LEVELS!r}",
        "",
        "",
        f"def predict_interval(rows, coverage={COVERAGE}):",
        '    """For each row [low, high] of each target: it lies between them with probability `coverage`."""',
        "    return predict_quantiles(rows, [(1 - coverage) / 2, (1 + coverage) / 2])",
        "",
        "",
        "def predict_quantiles(rows, quantiles):",
        '    """For each row and target a list of these quantiles of the target, each between 0 and 1."""',
        "    scores = [[score_of(q, LEVELS_OF_SCORES, one[-1]) for q in quantiles] for one in SCALES]",
        "    return [",
        "        [[y + scale * score for score in own] for y, scale, own in zip(_predict(z), _scales(z), scores)]",
        "        for z in inputs(rows)",
        "    ]",
        "",
        "",
        "def _scales(z):",
        "    units, found = hidden(z, BODIES, ACTIVATIONS), []",
        "    for (bias, skip, heads, (low, high), _), (_, scale) in zip(SCALES, UNITS):",
        "        found.append(math.exp(min(max(output(z, units, bias, skip, heads), low), high)) * scale)",
        "    return found",
        *function_lines(plain.score_of),
    ]
