"""Command line: tables in, small networks out. Run as `python -m netformer`; torch and pandas load inside commands."""

from __future__ import annotations

import json as json_text
import math
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from netformer.cli.console import CODES, OneLine, Talk, number, plain, refuse_existing
from netformer.errors import InputError
from netformer.files import replacing

if TYPE_CHECKING:
    from netformer.exports.population import Population


app = typer.Typer(
    cls=OneLine,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help=f"Small regression networks for a table, written by a pretrained transformer.\n\n{CODES}",
)
TablePath = Annotated[
    Path, typer.Argument(metavar="TABLE", help="CSV, TSV, JSON, Parquet or Excel file; - is standard input.")
]
Target = Annotated[str, typer.Option("--target", "-t", help="Name of the column to predict.")]
Nets = Annotated[Path, typer.Argument(metavar="NETS", help="Folder that `generate --out` wrote.")]
Which = Annotated[str, typer.Option(help="wide (all networks merged), mean (of their answers), or the number of one.")]
Impute = Annotated[
    Literal["median"] | None,
    typer.Option(help="Fill missing values with the column's median; else they are an error."),
]
Header = Annotated[bool, typer.Option("--header/--no-header", help="Text has column names; else they are x0, x1, ..")]
Encoding = Annotated[str | None, typer.Option(help="Of text; else UTF-8, or what its byte order mark says.")]
Separator = Annotated[str | None, typer.Option("--sep", help="Between columns of text, tab for a tab; else found out.")]
SUFFIX = {"onnx": ".onnx", "c": ".c", "json": ".json"}  # of exports; the others are Python
Format = StrEnum("Format", ["onnx", "torch", "sklearn", "json", "c", "numpy"])
Refine = Annotated[int, typer.Option(help="Gradient steps for each network after it is written.")]
Count = Annotated[int, typer.Option("--n", "-n", help="Networks to write.")]
Seed = Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Seed of the rows held back and of the networks.")]
Model = Annotated[
    Path | None,
    typer.Option(help="Folder of a model of your own, such as models/netformer."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout and nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors.")]


def load_bundle(path: Path) -> Population:
    """The networks in a folder that `generate` wrote. Raises InputError for a folder that is missing or damaged."""
    if not path.is_dir():
        raise InputError(
            f"{path}: no such folder of networks; write it: netformer generate TABLE --target y --out {path}"
        )
    from netformer.exports.population import Population

    return Population.load(path)


def which_of(text: str, count: int) -> Any:
    """wide, mean or the number of a network."""
    if text in ("wide", "mean"):
        return text
    if text.isdecimal() and int(text) < count:
        return int(text)
    raise InputError(f"--which must be wide, mean or a network from 0 to {count - 1}, got {text!r}")


@app.command(epilog=CODES)
def generate(
    table: TablePath,
    target: Target,
    n: Count = 16,
    max_params: Annotated[int | None, typer.Option(help="Most parameters per network.")] = None,
    max_hidden_layers: Annotated[int | None, typer.Option(help="Most hidden layers per network.")] = None,
    activations: Annotated[str | None, typer.Option(help="Allowed activations, such as relu,tanh.")] = None,
    refine: Refine = 0,
    seed: Seed = 0,
    model: Model = None,
    impute: Impute = None,
    header: Header = True,
    encoding: Encoding = None,
    sep: Separator = None,
    out: Annotated[Path | None, typer.Option(help="New folder for the networks.")] = None,
    report: Annotated[Path | None, typer.Option(help="New .html: scores, curves and networks, one file.")] = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write networks for a table; score them, ridge and the target's mean on a fifth of the rows, held back."""
    refuse_existing(out)
    refuse_existing(report)
    if report is not None and (report.suffix.lower() != ".html" or report == out):
        raise InputError(f"{report}: --report must end in .html and be another name than --out")
    from dataclasses import asdict

    import numpy as np
    import pandas as pd

    from netformer import NetFormerRegressor
    from netformer.cli.leaderboard import board_table, leaderboard, rows_to_train_on, verdict
    from netformer.tables.intake import fill, medians, take_in

    talk, start = Talk(json, quiet), time.perf_counter()
    intake = take_in(table, target, impute is not None, header=header, encoding=encoding, separator=sep)
    talk.notes(intake.notes)
    train = rows_to_train_on(len(intake.y), seed)
    gaps = medians(intake.X, train)
    X, y = fill(intake.X, gaps), intake.y
    if np.ptp(y[train]) == 0 or not np.ptp(X[train], 0).any():
        raise InputError(f"{table}: target and columns must vary in the rows trained on; try another --seed")
    estimator = NetFormerRegressor(
        refine,
        n,
        seed,
        max_params,
        max_hidden_layers,
        None if activations is None else activations.replace(" ", "").split(","),
        model,
    )
    with talk.progress(f"writing {n} networks for {len(y)} rows and {len(intake.columns)} columns"):
        estimator.fit(pd.DataFrame(X[train], columns=intake.columns), y[train])
        seconds = time.perf_counter() - start
        bundle = estimator.to_bundle(target=target)
        rows = leaderboard(bundle, X, y, train)
    counts = {"trained": int(train.sum()), "held_back": int((~train).sum())}
    why = verdict(rows, counts["held_back"])
    if out is not None:
        about = {"rows": counts, "r2": {row.name: row.r2 for row in rows}, "medians": gaps.tolist(), "impute": impute}
        bundle.about.update(plain(about))
        bundle.save(out)
    if report is not None:
        from netformer.cli.table_report import table_report
        from netformer.report.page import write_page

        write_page(table_report(bundle, rows, X, y, train, [why, *intake.notes]), report)
    title = f"R2 of {target!r} on {counts['held_back']} rows held back ({counts['trained']} trained on)"
    talk.show(board_table(rows, title), why, *(f"written: {path}" for path in (out, report) if path))
    board = {"leaderboard": [asdict(row) for row in rows], "default": "wide", "why": why}
    facts = {"table": str(table), "target": target, "columns": intake.columns, "left_out": intake.left_out}
    written = {"out": out and str(out), "report": report and str(report)}
    talk.finish(facts | {"rows": counts, "notes": intake.notes, "seconds": seconds} | written | board)


@app.command(epilog=CODES)
def inspect(
    nets: Nets,
    which: Annotated[int | None, typer.Option(min=0, help="Show the weights of this network.")] = None,
    draw: Annotated[Path | None, typer.Option(help="New SVG: the graph of --which, or of all (at most 16).")] = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Structure and size of every network and which columns matter; the weights of one network; a picture."""
    refuse_existing(draw)
    if draw is not None and draw.suffix.lower() != ".svg":
        raise InputError(f"{draw}: --draw must end in .svg")
    from netformer.cli.describe import draw_networks, layers, overview, overview_table, weight_tables
    from netformer.report.svg import save

    bundle, talk = load_bundle(nets), Talk(json, quiet)
    networks, columns = bundle.networks, list(bundle.columns)
    if which is not None:
        which_of(str(which), len(networks))
    listed = overview(bundle)
    shown = overview_table(listed, f"{len(networks)} networks for {bundle.target!r}, {len(columns)} columns: {nets}")
    name = "mean" if bundle.wide is None else "wide"
    hidden, n_params = bundle.stack(name).merged_size()
    units = f"{name}: {hidden} hidden units, {n_params} parameters; "
    talk.show(shown, units + "networks read (x - center) / scale and answer in standardised target units")
    if which is not None:
        talk.show(*weight_tables(networks, which, columns))
        listed[which]["layers"] = layers(networks, which)
    if draw is not None:
        members = [which] if which is not None else list(range(min(16, len(networks))))
        save(draw_networks(networks, members, columns), draw)
        talk.show(f"written: {draw}")
    facts = {"nets": str(nets), "target": bundle.target, "columns": columns, "about": bundle.about}
    talk.finish(facts | {f"{name}_params": n_params, "networks": listed})


@app.command(epilog=CODES)
def predict(
    nets: Nets,
    table: TablePath,
    out: Annotated[Path, typer.Option(help="New .csv, .tsv or .parquet for the predictions, one row per row.")],
    which: Which = "wide",
    impute: Impute = None,
    header: Header = True,
    encoding: Encoding = None,
    sep: Separator = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Predict the rows of a table; columns are found by name, others ignored."""
    refuse_existing(out)
    if out.suffix.lower() not in (".csv", ".tsv", ".parquet"):
        raise InputError(f"{out}: --out must end in .csv, .tsv or .parquet")
    import numpy as np
    import pandas as pd

    from netformer.cli.leaderboard import plain_r2
    from netformer.tables.intake import fill, match, medians_of, require_complete

    bundle, talk = load_bundle(nets), Talk(json, quiet)
    chosen = which_of(which, len(bundle.networks))
    X, y, notes = match(table, bundle.columns, bundle.target, header=header, encoding=encoding, separator=sep)
    talk.notes(notes)
    if impute is None:
        require_complete(X, bundle.columns, table)
    else:
        X = fill(X, medians_of(bundle.about, len(bundle.columns), nets))
    answer = pd.DataFrame({bundle.target: bundle.predict(X, chosen)})
    between = "\t" if out.suffix.lower() == ".tsv" else ","
    as_parquet = out.suffix.lower() == ".parquet"
    with replacing(out) as part:
        answer.to_parquet(part) if as_parquet else answer.to_csv(part, sep=between, index=False)
    score, known = math.nan, ""
    if y is not None:
        rows = np.isfinite(y)
        score = plain_r2(y[rows], answer[bundle.target].to_numpy()[rows])
        known = f"; R2 {number(score)} on the {rows.sum()} rows that have the target"
    talk.show(f"{len(answer)} predictions of {bundle.target!r} by {chosen}: {out}{known}")
    facts = {"rows": len(answer), "which": chosen, "target": bundle.target, "r2": score, "out": str(out)}
    talk.finish(facts | {"notes": notes})


@app.command(epilog=CODES)
def export(
    nets: Nets,
    out: Annotated[Path, typer.Option(help="New folder for the files.")],
    format: Annotated[
        list[Format], typer.Option(help="May be given more than once; torch, sklearn and numpy are .py.")
    ],
    which: Which = "wide",
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write one network as ONNX, C, JSON or Python source, from raw columns to units of the target."""
    refuse_existing(out)
    from netformer.exports.formats import export as write

    bundle, talk = load_bundle(nets), Talk(json, quiet)
    chosen = which_of(which, len(bundle.networks))
    stem = chosen if isinstance(chosen, str) else f"network{chosen}"
    files = {name: f"{stem}{SUFFIX.get(name, f'_{name}.py')}" for name in format}
    with replacing(out) as folder:
        folder.mkdir()
        for name, file in files.items():
            write(bundle, chosen, folder / file, name)
    talk.show(*(f"written: {out / file}" for file in files.values()))
    talk.finish({"which": chosen, "target": bundle.target, "files": {name: str(out / f) for name, f in files.items()}})


@app.command(epilog=CODES)
def evaluate(
    tables: Annotated[list[Path], typer.Argument(metavar="TABLE...", help="CSV, TSV, JSON, Parquet or Excel files.")],
    target: Target,
    n: Count = 16,
    refine: Refine = 0,
    seed: Seed = 0,
    model: Model = None,
    impute: Impute = None,
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
    from netformer.tables.intake import take_in

    talk, writer = Talk(json, quiet), netformer_of(model)
    reading: dict[str, Any] = {"header": header, "encoding": encoding, "separator": sep}
    intakes = [(str(path), take_in(path, target, impute is not None, **reading)) for path in tables]
    build: dict[str, Callable[[], Any]] = {
        "netformer": lambda: NetFormerRegressor(refine, n, seed, model=writer),
        "ridge": ridge_pipeline,
        "mlp": lambda: mlp(seed),
    }
    shown = Table("table", "rows", "columns", *build, title="R2 by 3-fold cross-validation (seconds)")
    results = []
    for path, intake in intakes:
        talk.notes(intake.notes)
        with talk.progress(path):
            scores = {name: (score, took) for name, score, took in cross_validate(intake, build, 3, seed)}
        cells = [f"{number(score)} ({took:.1f})" for score, took in scores.values()]
        shown.add_row(path, str(len(intake.y)), str(len(intake.columns)), *cells)
        facts = {"table": path, "rows": len(intake.y), "columns": len(intake.columns), "notes": intake.notes}
        results.append(facts | {name: {"r2": score, "seconds": took} for name, (score, took) in scores.items()})
    talk.show(shown)
    talk.finish({"target": target, "folds": 3, "tables": results})


@app.command(epilog=CODES)
def info(model: Model = None, json: AsJson = False, quiet: Quiet = False) -> None:
    """Version, and what the weights of a model are; without --model, those of the package."""
    from importlib.metadata import PackageNotFoundError, version

    from netformer.generation.generator import PACKAGE
    from netformer.model.store import WEIGHTS, load_model

    try:
        own = version("netformer")
    except PackageNotFoundError:
        own = "not installed, run from its source"
    folder, talk = PACKAGE if model is None else model, Talk(json, quiet)
    loaded = load_model(folder)[0]
    weights = folder / WEIGHTS
    facts = {
        "netformer": own,
        "torch": version("torch"),
        "weights": str(weights),
        "megabytes": round(weights.stat().st_size / 1e6, 1),
        "parameters": sum(part.numel() for part in loaded.state_dict().values()),
    }
    if (folder / "history.json").is_file():  # beside weights that were trained in several runs
        history = json_text.loads((folder / "history.json").read_text())
        steps, tasks = (sum(one[name] for one in history) for name in ("steps", "stream_tasks"))
        facts |= {"steps": steps, "tasks": tasks, "trainings": len(history)}
    facts["layout"] = {
        name: getattr(loaded.layout, name) for name in ("max_features", "max_hidden_layers", "max_width")
    }
    shown = Table(show_header=False)
    for name, value in facts.items():
        shown.add_row(name, f"{value:,}" if isinstance(value, int) else str(value))
    talk.show(shown)
    talk.finish(facts)
