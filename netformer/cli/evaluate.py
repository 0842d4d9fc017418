"""The command `evaluate`: how well networks do on tables, without keeping any."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from netformer.cli.arguments import (
    AsJson,
    Columns,
    Count,
    Drop,
    Encoding,
    Header,
    Model,
    Quiet,
    Refine,
    Seed,
    Separator,
    Target,
)
from netformer.cli.console import Talk, number


def evaluate(
    tables: Annotated[list[Path], typer.Argument(metavar="TABLE...", help="CSV, TSV, JSON, Parquet or Excel files.")],
    target: Target,
    n: Count = 16,
    refine: Refine = 0,
    seed: Seed = 0,
    model: Model = None,
    columns: Columns = None,
    drop: Drop = None,
    header: Header = True,
    encoding: Encoding = None,
    sep: Separator = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Cross-validate NetFormerRegressor (3 folds) beside ridge and MLPRegressor: mean R2, seconds in brackets."""
    from netformer import NetFormerRegressor
    from netformer.cli.leaderboard import cross_validate, mlp, ridge_pipeline
    from netformer.generation.estimator import netformer_of
    from netformer.model.prompt import check_request
    from netformer.tables.intake import in_file, on_reading, take_in
    from netformer.tables.reading import read

    talk, writer = Talk(json, quiet), netformer_of(model)
    check_request(n, refine)
    options: dict[str, Any] = {"columns": columns, "drop": drop}
    options |= {"header": header, "encoding": encoding, "separator": sep}
    intakes = [(path, take_in(path, target, **options)) for path in tables]
    build: dict[str, Callable[[], Any]] = {
        "netformer": lambda: NetFormerRegressor(refine, n, seed, model=writer),
        "ridge": ridge_pipeline,
        "mlp": lambda: mlp(seed),
    }
    shown = Table("table", "rows", "columns", *build, title="R2 by 3-fold cross-validation (seconds)")
    results: list[dict[str, Any]] = []
    for path, intake in intakes:
        with talk.progress(str(path)), in_file(path):
            reading = read(intake.X, intake.y, target=target)[0].written(intake.columns)
            notes = intake.notes + on_reading(reading, path)
            scores = {name: (score, took) for name, score, took in cross_validate(intake, build, 3, seed)}
        cells = [f"{number(score)} ({took:.1f})" for score, took in scores.values()]
        shown.add_row(str(path), str(len(intake.y)), str(len(reading.columns)), *cells)
        facts = {"table": str(path), "rows": len(intake.y), "columns": reading.described(), "notes": notes}
        results.append(facts | {name: {"r2": score, "seconds": took} for name, (score, took) in scores.items()})
    talk.notes([note for one in results for note in one["notes"]])
    talk.show(shown)
    talk.finish({"target": target, "folds": 3, "tables": results})
