"""Card: how well readers answer, and what latents know, as a page of Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from netformer.readers.questions import CLASSES, NUMBERS, SEEDS, WAYS, Answers, Benchmark, Split

HEADINGS = {
    "task": "Other tasks",
    "family": "Other families",
    "architecture": "Three hidden layers, fitted on one and two",
}
Reader = Callable[[Benchmark, Split], Answers]


def judged(
    benchmark: Benchmark,
    readers: Mapping[str, Reader],
    ways: Sequence[str] = WAYS,
    progress: Callable[[int, int], None] | None = None,
    **most: int,
) -> pd.DataFrame:
    """Scores of readers, a row per way, reader, seed and question: columns way, reader, seed, question, and r2 and tau,
    or accuracy. most: see `Benchmark.splits`. progress: called with (readers done, in all)."""
    splits = [split for way in ways for split in benchmark.splits(way, **most)]
    rows: list[dict[str, Any]] = []
    for number, (split, name) in enumerate([(split, name) for split in splits for name in readers], 1):
        answers = readers[name](benchmark, split)
        about = {"way": split.way, "reader": name, "seed": split.seed}
        rows += [about | {"question": q} | benchmark.score(split, q, found) for q, found in answers.items()]
        if progress is not None:
            progress(number, len(splits) * len(readers))
    return pd.DataFrame(rows).reindex(columns=["way", "reader", "seed", "question", "r2", "tau", "accuracy"])


def summary(scores: pd.DataFrame) -> dict[str, Any]:
    """Mean and standard deviation over seeds, by way, reader and question."""
    out: dict[str, Any] = {}
    for (way, reader, question), part in scores.groupby(["way", "reader", "question"], sort=False):
        kinds = ("accuracy",) if question in CLASSES else ("r2", "tau")
        values = {kind: round(float(part[kind].mean()), 4) for kind in kinds}
        values |= {f"{kind}_sd": round(float(part[kind].std(ddof=0)), 4) for kind in kinds}
        out.setdefault(str(way), {}).setdefault(str(reader), {})[str(question)] = values
    return out


def card(found: Mapping[str, Any], sizes: Mapping[str, Any], latent: Mapping[str, pd.DataFrame]) -> str:
    """The page. found: a `summary`. sizes: of the zoo, networks and tasks. latent: see `latent`, tables by name."""
    lines = [
        "# The zoo as a benchmark of readers",
        "",
        f"{sizes['networks']:,} networks of {sizes['tasks']:,} tasks, in canonical form. Readers are",
        "fitted on networks of training tasks and judged on networks of valid and test tasks. Numbers: R2 +- standard",
        f"deviation over {SEEDS} seeds, Kendall's tau below it; family and activation: share of right answers. What is",
        "asked, and what each reader is: `docs/zoo_benchmark.md`. Figures of every seed: `scores.csv`.",
        "",
    ]
    for way, readers in found.items():
        asked = [name for name in (*NUMBERS, *CLASSES) if any(name in row for row in readers.values())]
        lines += [f"## {HEADINGS[way]}", "", f"| reader | {' | '.join(asked)} |", f"|---|{'---|' * len(asked)}"]
        lines += [f"| {name} | {' | '.join(_cell(row.get(q)) for q in asked)} |" for name, row in readers.items()]
        lines.append("")
    lines += ["![R2 and shares of right answers](readers.svg)", ""]
    if latent:
        lines += ["## What the latents know", "", "![Read out, between, neighbours](latent.svg)", ""]
    for title, table in latent.items():
        lines += [f"**{title}**", "", *_table(table), ""]
    return "\n".join(lines)


def _cell(values: Mapping[str, float] | None) -> str:
    if values is None:
        return ""
    if "accuracy" in values:
        return f"{values['accuracy']:.3f} +- {values['accuracy_sd']:.3f}"
    return f"{values['r2']:.3f} +- {values['r2_sd']:.3f}<br>{values['tau']:.3f}"


def _table(table: pd.DataFrame) -> list[str]:
    heads = [str(table.index.name), *map(str, table.columns)]
    rows = [
        [str(name), *(f"{value:.3f}" for value in row)] for name, row in zip(table.index, table.values, strict=True)
    ]
    return [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}", *(f"| {' | '.join(row)} |" for row in rows)]
