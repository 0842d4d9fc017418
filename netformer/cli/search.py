"""The command `search`: the front of networks for a table under several objectives."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netformer.cli.arguments import (
    AsJson,
    Columns,
    Drop,
    Encoding,
    Header,
    MinFrequency,
    Model,
    Quiet,
    Seed,
    Separator,
    Sheet,
    TablePath,
    Target,
)
from netformer.cli.console import Talk, command_line, noted, number, plain, refuse_existing
from netformer.errors import InputError, first_few, need

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Bool

    from netformer.exports.population import Population
    from netformer.generation.generator import NetFormer
    from netformer.report.page import Report
    from netformer.search.engine import Found
    from netformer.tables.intake import Intake

MOST_DRAWN = 24  # networks of the front on a page
WIDE = 10  # times the least value, from which an axis is logarithmic


def search(
    table: TablePath,
    target: Target,
    objectives: Annotated[str, typer.Option(help="What is made small, 1 to 4 of these: see docs.")] = "error,params",
    max_params: Annotated[int | None, typer.Option(help="Most parameters per network.")] = None,
    max_columns: Annotated[int | None, typer.Option(help="Most columns that a network reads.")] = None,
    max_bytes: Annotated[int | None, typer.Option(help="Most bytes of weights in C.")] = None,
    space: Annotated[str, typer.Option(help="latents, structures, both or prompts.")] = "both",
    algorithm: Annotated[str, typer.Option(help="nsga2, smsemoa, random or mutation.")] = "nsga2",
    evaluations: Annotated[int, typer.Option(help="Networks that are written and scored.")] = 2000,
    population: Annotated[int, typer.Option(help="Networks of a generation.")] = 100,
    seed: Seed = 0,
    model: Model = None,
    columns: Columns = None,
    drop: Drop = None,
    score: Annotated[
        bool, typer.Option("--score/--no-score", help="Hold back a fifth of the rows, to score the front on.")
    ] = True,
    header: Header = True,
    encoding: Encoding = None,
    sep: Separator = None,
    sheet: Sheet = None,
    min_frequency: MinFrequency = 2,
    resume: Annotated[Path | None, typer.Option(help="Folder that keeps every generation, to go on from.")] = None,
    out: Annotated[Path | None, typer.Option(help="New folder for the networks of the front.")] = None,
    report: Annotated[Path | None, typer.Option(help="New .html: the front and its networks, one file.")] = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Search networks for a table that are good at several things at once, and show those nothing is better than."""
    refuse_existing(out)
    refuse_existing(report)
    if report is not None and (report.suffix.lower() != ".html" or report == out):
        raise InputError(f"{report}: --report must end in .html and be another name than --out")
    need("torch", "a search")
    from netformer.generation.fitted import netformer_of
    from netformer.search.objectives import chosen
    from netformer.tables.intake import in_file, on_reading, take_in

    names = [name for name in objectives.replace(" ", "").split(",") if name]
    chosen(names)
    talk, writer = Talk(json, quiet), netformer_of(model, "a search")
    intake = take_in(
        table,
        target,
        columns=columns,
        drop=drop,
        header=header,
        encoding=encoding,
        separator=sep,
        sheet=sheet,
        min_frequency=min_frequency,
    )
    train = _rows_to_search_on(intake, table, target, seed, score)
    limits = {"max_params": max_params, "max_columns": max_columns, "max_bytes": max_bytes}
    how: dict[str, Any] = {
        "target": target,
        "min_frequency": min_frequency,
        "space": space,
        "algorithm": algorithm,
        "evaluations": evaluations,
        "population": population,
        "constraints": {name: value for name, value in limits.items() if value is not None},
        "seed": seed,
        "folder": resume,
        "workers": os.cpu_count() or 1,
    }
    notes = list(intake.notes)
    with in_file(table), noted(notes, table), talk.progress(f"searching networks for {train.sum()} rows") as say:
        how["progress"] = lambda done, total: say(f"{done} of {total} networks scored")
        found, front = _searched(writer, intake, train, names, how)
    notes += on_reading(front.reading, table)
    facts = _facts(found, front, intake.X[~train], intake.y[~train])
    volume = found.hypervolume[-1][1]
    front.about["search"] |= plain({"front": facts, "hypervolume": volume, "rows": int(train.sum())})
    if out is not None:
        front.save(out)
    if report is not None:
        from netformer.report.page import write_page

        write_page(_page(front, facts, found.names, table), report)
    scored = "log_loss, accuracy" if intake.classes else "r2"
    talk.notes(notes)
    talk.show(
        _shown(facts, f"{target}: the front of {len(found.values)} networks"),
        f"hypervolume: {volume:.3f} of the box between the best and the worst values",
        *([f"{scored}: on {(~train).sum()} rows no network has seen"] if score else []),
        *(f"written: {path}" for path in (out, report) if path),
    )
    talk.finish({"table": str(table), "target": target, "front": facts, "hypervolume": volume, "notes": notes})


def _rows_to_search_on(intake: Intake, table: Path, target: str, seed: int, score: bool) -> Bool[np.ndarray, " rows"]:
    """All rows, or without those to score on. Raises InputError for several targets, and for a class of which no row
    is left."""
    import numpy as np

    from netformer.cli.by import rows_to_train_on

    if len(intake.targets) > 1:
        raise InputError(f"{table}: a search is for one target, found {len(intake.targets)} in {target!r}; name one")
    train = rows_to_train_on(len(intake.y), seed) if score else np.ones(len(intake.y), bool)
    classes = intake.classes
    if classes and (rare := np.bincount(intake.y[train], minlength=len(classes)) < 1).any():
        rarest = classes[int(rare.argmax())]
        raise InputError(f"{table}: no row of class {rarest!r} is left to search on; give --no-score or another --seed")
    return train


def _searched(
    writer: NetFormer, intake: Intake, train: Bool[np.ndarray, " rows"], names: Sequence[str], how: dict[str, Any]
) -> tuple[Found, Population]:
    """The search itself, on the rows to train on. names: of objectives. how: other arguments of `search_table`."""
    from dataclasses import replace

    from netformer.search.table import search_classes, search_table

    X, y = intake.X[train], intake.y[train]
    if intake.classes:
        found, front = search_classes(writer, X, y, intake.classes, names, **how)
    else:
        found, front = search_table(writer, X, y, names, **how)
    return found, replace(front, reading=front.reading.written(intake.columns))


def _facts(found: Found, front: Population, held: Any, known: Any) -> list[dict[str, Any]]:
    """What there is to say of each network of the front: its objectives, its scores on rows held back if there are
    some, its structure and the columns that it reads. known: the target there."""
    from netformer.cli.describe import structure

    return [
        {"network": i}
        | dict(zip(found.names, values, strict=True))
        | (_scores(front, i, held, known) if len(held) else {})
        | {"structure": structure(front.networks, i), "reads": _columns_read(front, i)}
        for i, values in enumerate(found.values[found.front].tolist())
    ]


def _scores(front: Population, which: int, held: Any, known: Any) -> dict[str, float]:
    """R2 of a network on rows held back; of classes the log loss and the share of right answers. known: the target
    there, of classes their numbers."""
    from netformer.evaluation.comparison import plain_r2
    from netformer.exports.classes import log_loss

    if not front.classes:
        return {"r2": plain_r2(known, front.predict(held, which))}
    logits = front.outputs(front.read(held), which)
    right = front.predict_proba(held, which).argmax(1) == known
    return {"log_loss": float(log_loss(logits, known).mean()), "accuracy": float(right.mean())}


def _columns_read(front: Population, index: int) -> list[str]:
    """Names of the columns that a network reads, in the order of the table."""
    reading, mask = front.reading, front.networks.specs.mask[index]
    used = mask[:, 1 : 1 + len(reading.inputs)].any(0).tolist()
    read = {one.column for one, yes in zip(reading.inputs, used, strict=True) if yes}
    return [name for number, name in enumerate(reading.columns) if number in read]


def _shown(facts: Sequence[dict[str, Any]], title: str) -> Any:
    """The front as a table for a terminal."""
    from rich.table import Table

    shown = Table(title=title)
    for name in facts[0]:
        shown.add_column(name, justify="left" if name in ("network", "structure", "reads") else "right")
    for fact in facts:
        shown.add_row(*(_cell(value) for value in fact.values()))
    return shown


def _cell(value: Any) -> str:
    """Whole numbers whole, others with three decimals, the first of several names, text as it is."""
    from netformer.cli.describe import STRONGEST

    if isinstance(value, list):
        return first_few(value, STRONGEST)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) >= 1 else number(value)
    return str(value)


def _plain_cell(value: Any) -> Any:
    """For a page: whole numbers whole, names with commas between them."""
    if isinstance(value, list):
        return ", ".join(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _front(facts: Sequence[dict[str, Any]], y: str, x: str) -> Any:
    """The networks as points; under the pointer which they are."""
    from netformer.report.charts import Axis, Points, plane
    from netformer.report.page import Picture

    xy = [(float(fact[x]), float(fact[y])) for fact in facts]
    names = [f"network {fact['network']}: {x} {fact[x]:.4g}, {y} {fact[y]:.4g}" for fact in facts]
    (low, high), (bottom, top) = ((min(values), max(values)) for values in zip(*xy, strict=True))
    across = Axis(x, low, high, log=low > 0 and high > WIDE * low)
    drawing = plane("The front", across, Axis(y, bottom, top), [Points(xy, names=names)])
    return Picture(drawing, f"{y} against {x}: each point is a network of the table")


def _page(front: Population, facts: Sequence[dict[str, Any]], names: Sequence[str], table: Path) -> Report:
    """A page: the front as points and as a table, and the graph of each network."""
    from netformer.cli.describe import draw_networks, outputs_of
    from netformer.report.page import Code, DataTable, Picture, Report, Section, Text

    heads = list(facts[0])
    rows = [[_plain_cell(value) for value in fact.values()] for fact in facts]
    blocks: list[Any] = []
    if len(names) > 1:
        blocks.append(_front(facts, *names[:2]))
    blocks.append(DataTable(heads, rows, "No network of the search is at least as good in everything as one of these."))
    drawn = [
        Picture(draw_networks(front.networks, [i], front.reading.input_names, outputs_of(front)), facts[i]["structure"])
        for i in range(min(MOST_DRAWN, len(facts)))
    ]
    more = [f"{len(facts) - MOST_DRAWN} more are in the table alone."] if len(facts) > MOST_DRAWN else []
    return Report(
        f"{front.target}: networks by {', '.join(names)}",
        [f"Networks for {table.name}, searched by NetFormer. Each is a compromise: choose by what you need."],
        [
            Section("Front", blocks),
            Section("Networks", [*drawn, *([Text(more)] if more else [])], "In the order of the table."),
            Section("Again", [Code([command_line()])]),
        ],
    )
