"""The commands that keep nothing: `evaluate`, how well networks do on tables, and `info`, what is installed."""

from __future__ import annotations

import json as json_text
import math
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from netformer.cli.arguments import (
    AsJson,
    Beside,
    Columns,
    Count,
    Drop,
    Encoding,
    GroupsOf,
    Header,
    InOrder,
    Model,
    Quiet,
    Refine,
    Seed,
    Separator,
    Sheet,
    Target,
    TaskKind,
    TaskOf,
    Test,
    Times,
)
from netformer.cli.console import Talk


def evaluate(
    tables: Annotated[list[Path], typer.Argument(metavar="TABLE...", help="CSV, TSV, JSON, Parquet or Excel files.")],
    target: Target,
    task: TaskOf = TaskKind.auto,
    n: Count = 16,
    refine: Refine = 0,
    seed: Seed = 0,
    model: Model = None,
    columns: Columns = None,
    drop: Drop = None,
    groups: GroupsOf = None,
    times: Times = None,
    in_order: InOrder = False,
    test: Test = None,
    beside: Beside = None,
    header: Header = True,
    encoding: Encoding = None,
    sep: Separator = None,
    sheet: Sheet = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Scores of networks on rows held out, beside other learners: what `generate` prints, for any tables."""
    from netformer import NetFormerRegressor
    from netformer.cli import scores
    from netformer.generation.classifier import NetFormerClassifier
    from netformer.generation.fitted import netformer_of
    from netformer.model.prompt import check_request
    from netformer.tables.intake import in_file, on_reading, take_in

    talk, writer = Talk(json, quiet), netformer_of(model, "--refine" if refine else "")
    check_request(n, refine)
    wanted = scores.Wanted(groups, times, in_order, test, beside)
    reads: dict[str, Any] = {"header": header, "encoding": encoding, "separator": sep, "sheet": sheet}
    common: dict[str, Any] = {"columns": columns, "drop": drop, "keep": wanted.columns, "task": task} | reads
    intakes = [(path, take_in(path, target, **common)) for path in tables]
    for _, intake in intakes:
        wanted.learners(bool(intake.classes))
    results: list[dict[str, Any]] = []
    for path, intake in intakes:
        with talk.progress(str(path)) as say:
            with in_file(path):
                X = scores.features(intake, wanted)
                reading = scores.reading_of(X, intake)
            job = scores.job_of(path, X, intake, wanted, reading, seed, **reads)
            kind: Any = NetFormerClassifier if intake.classes else NetFormerRegressor
            estimator = kind(refine_steps=refine, n_samples=n, random_state=seed, model=writer)
            found = scores.score(job, wanted, estimator, seed, say)
        notes, said = intake.notes + on_reading(reading, path) + job.notes, scores.said_of_all(found, reading)
        talk.notes(notes)
        before = f"{path}: " if len(tables) > 1 else ""
        shown = (scores.scores_table(one, before + name) for one, name in zip(found, intake.targets, strict=True))
        talk.show(*shown, *said)
        facts = {"table": str(path), "rows": len(intake.y), "columns": reading.described(), "notes": notes}
        facts["task"] = "classification" if intake.classes else "regression"
        results.append(facts | (scores.facts_of_all(found, reading) or {}) | {"said": said})
    talk.finish({"target": target, "tables": results})


def info(model: Model = None, json: AsJson = False, quiet: Quiet = False) -> None:
    """Version, and what the weights of a model are; without --model, those of the package."""
    from importlib.metadata import PackageNotFoundError, version

    from safetensors import safe_open

    from netformer.generation.fitted import in_bfloat16
    from netformer.generation.generator import PACKAGE
    from netformer.model.store import WEIGHTS, load_arrays, load_model

    def installed(name: str, without: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return without

    folder, talk = PACKAGE if model is None else model, Talk(json, quiet)
    layout = (load_model if in_bfloat16(folder) else load_arrays)(folder)[0].layout
    weights = folder / WEIGHTS
    with safe_open(weights, "np") as file:
        sizes = [math.prod(file.get_slice(name).get_shape()) for name in file.keys()]  # noqa: SIM118, no mapping
    facts = {
        "netformer": installed("netformer", "not installed, run from its source"),
        "torch": installed("torch", "not installed"),
        "weights": str(weights),
        "megabytes": round(weights.stat().st_size / 1e6, 1),
        "parameters": sum(sizes),
    }
    if (folder / "history.json").is_file():  # beside weights that were trained in several runs
        history = json_text.loads((folder / "history.json").read_text())
        steps, tasks = (sum(one[name] for one in history) for name in ("steps", "stream_tasks"))
        facts |= {"steps": steps, "tasks": tasks, "trainings": len(history)}
    facts["layout"] = {name: getattr(layout, name) for name in ("max_features", "max_hidden_layers", "max_width")}
    shown = Table(show_header=False)
    for name, value in facts.items():
        shown.add_row(name, f"{value:,}" if isinstance(value, int) else str(value))
    talk.show(shown)
    talk.finish(facts)
