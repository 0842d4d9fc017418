"""Command line: tables in, small networks out. Run as `python -m netformer`; torch and pandas load inside commands."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from netformer.cli.arguments import (
    AsJson,
    Beside,
    By,
    Columns,
    Count,
    Drop,
    Encoding,
    Format,
    Group,
    GroupsOf,
    Header,
    InOrder,
    Interval,
    MinFrequency,
    Model,
    Nets,
    Quiet,
    Refine,
    Seed,
    Separator,
    Sheet,
    TablePath,
    Target,
    TaskKind,
    TaskOf,
    Test,
    Times,
    Which,
)
from netformer.cli.console import CODES, OneLine, Talk, command_line, noted, options, plain, refuse_existing
from netformer.cli.evaluate import evaluate, info
from netformer.cli.folders import load_bundle, load_groups, which_of
from netformer.cli.search import search
from netformer.errors import InputError, first_few, need
from netformer.files import replacing

app = typer.Typer(
    cls=OneLine,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    callback=options,
    help=f"Small networks for a table, written by a pretrained transformer: numbers or classes.\n\n{CODES}",
)
# of exports; the others are Python
SUFFIX = {"onnx": ".onnx", "onnx32": "_float32.onnx", "c": ".c", "json": ".json", "html": ".html"}


@app.command(epilog=CODES)
def generate(
    table: TablePath,
    target: Target,
    task: TaskOf = TaskKind.auto,
    n: Count = 16,
    max_params: Annotated[int | None, typer.Option(help="Most parameters per network.")] = None,
    max_hidden_layers: Annotated[int | None, typer.Option(help="Most hidden layers per network.")] = None,
    activations: Annotated[str | None, typer.Option(help="Allowed activations, such as relu,tanh.")] = None,
    steps: Annotated[bool, typer.Option("--steps/--no-steps", help="Grow step units where a target jumps.")] = True,
    max_loss: Annotated[float | None, typer.Option(help="One network: the smallest at most so much R2 worse.")] = None,
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
    score: Annotated[bool, typer.Option("--score/--no-score", help="Cross-validate; without, networks alone.")] = True,
    header: Header = True,
    encoding: Encoding = None,
    sep: Separator = None,
    sheet: Sheet = None,
    min_frequency: MinFrequency = 2,
    by: By = None,
    out: Annotated[Path | None, typer.Option(help="New folder for the networks.")] = None,
    report: Annotated[Path | None, typer.Option(help="New .html: scores, curves and networks, one file.")] = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write networks for a table, fitted on all its rows; cross-validate them beside other learners."""
    refuse_existing(out)
    refuse_existing(report)
    if report is not None and (report.suffix.lower() != ".html" or report == out):
        raise InputError(f"{report}: --report must end in .html and be another name than --out")
    from dataclasses import replace

    from netformer import NetFormerRegressor
    from netformer.cli import describe, scores
    from netformer.generation.classifier import NetFormerClassifier
    from netformer.generation.fitted import netformer_of
    from netformer.model.prompt import Prompt, check_request
    from netformer.tables.intake import in_file, on_reading, take_in

    talk, start = Talk(json, quiet), time.perf_counter()
    found: list[Any] = []
    allowed = None if activations is None else activations.replace(" ", "").split(",")
    check_request(n, refine)
    Prompt(max_params, max_hidden_layers, allowed)
    wanted = scores.Wanted(groups, times, in_order, test, beside)
    writer = netformer_of(model, "--refine" if refine else "")
    made: dict[str, Any] = {"refine_steps": refine, "n_samples": n, "random_state": seed, "model": writer}
    made |= {"max_params": max_params, "max_hidden_layers": max_hidden_layers, "activations": allowed}
    made["min_frequency"] = min_frequency
    reads: dict[str, Any] = {"header": header, "encoding": encoding, "separator": sep, "sheet": sheet}
    taken = {"columns": columns, "drop": drop, "min_frequency": min_frequency, "task": task} | reads
    if by is not None:
        from netformer.cli.by import generate_by, refuse_what_by_leaves_out

        refuse_what_by_leaves_out(report, max_loss, wanted)
        return generate_by(table, target, by, NetFormerRegressor(**made), out, talk, **taken)
    intake = take_in(table, target, keep=wanted.columns, **taken)
    if intake.classes and max_loss is not None:
        raise InputError(f"{table}: --max-loss is for a target of numbers, {target!r} has classes; leave it out")
    numbers = NetFormerRegressor(**made, steps=steps, max_loss=max_loss)
    estimator: Any = NetFormerClassifier(**made, steps=steps) if intake.classes else numbers
    wanted.learners(bool(intake.classes))
    X, y = scores.features(intake, wanted), intake.target()
    with talk.progress(f"writing {n} networks for {len(y)} rows and {X.shape[1]} columns") as say:
        with in_file(table):
            bundle = estimator.fit(X, y).set_params(model=model).to_bundle()
        estimator.set_params(model=writer)
        bundle = replace(bundle, reading=bundle.reading.written(intake.columns))
        seconds = time.perf_counter() - start
        notes = intake.notes + on_reading(bundle.reading, table)
        if score:
            job = scores.job_of(table, X, intake, wanted, bundle.reading, seed, **reads)
            found, notes = scores.score(job, wanted, estimator, seed, say), notes + job.notes
    talk.notes(notes)
    measured = scores.facts_of_all(found, bundle.reading)
    bundle.about.update(plain({"rows": len(y)} | ({} if measured is None else {"scores": measured})))
    said = [*scores.said_of_all(found, bundle.reading), scores.which_to_use(bundle, found)]
    if out is not None:
        bundle.save(out)
    if report is not None:
        from netformer.cli.table_report import report_of
        from netformer.report.page import write_page

        write_page(report_of(bundle, found, X, y.to_numpy(), said, notes, command_line(), out), report)
    talk.show(
        *(scores.scores_table(one, name) for one, name in zip(found, intake.targets, strict=False)),
        *said,
        *(f"written: {path}" for path in (out, report) if path),
    )
    written = {"out": out and str(out), "report": report and str(report), "seconds": seconds}
    facts = {"table": str(table), "target": target, "rows": len(y), "columns": bundle.reading.described()}
    facts |= {"task": "classification" if intake.classes else "regression", "classes": list(intake.classes)}
    facts |= {"targets": list(intake.targets)} if len(intake.targets) > 1 else {}
    facts |= {"scores": measured, "networks": describe.overview(bundle), "default": "wide"}
    talk.finish(facts | {"notes": notes, "said": said} | written)


@app.command(epilog=CODES)
def inspect(
    nets: Nets,
    which: Annotated[int | None, typer.Option(min=0, help="Show the weights of this network.")] = None,
    draw: Annotated[Path | None, typer.Option(help="New SVG: the graph of --which, or of all (at most 16).")] = None,
    group: Group = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Structure and size of every network and which columns matter; the weights of one network; a picture."""
    refuse_existing(draw)
    if draw is not None and draw.suffix.lower() != ".svg":
        raise InputError(f"{draw}: --draw must end in .svg")
    from netformer.cli import describe
    from netformer.report.svg import save

    bundle, talk = load_bundle(nets, group), Talk(json, quiet)
    networks, inputs = bundle.networks, bundle.reading.input_names
    if which is not None:
        which_of(str(which), bundle)
    listed = describe.overview(bundle)
    kind = f" of {len(bundle.classes)} classes" if bundle.classes else ""
    size = f"{len(networks)} networks for {bundle.target!r}{kind}, {len(bundle.columns)} columns, {len(inputs)} inputs"
    name = "mean" if bundle.wide is None else "wide"
    hidden, n_params = bundle.stack(name).merged_size()
    talk.show(describe.overview_table(listed, f"{size}: {nets}"), describe.columns_table(bundle))
    talk.show(f"{name}: {hidden} hidden units, {n_params} parameters", describe.read_of(bundle))
    if which is not None:
        talk.show(*describe.weight_tables(networks, which, inputs, describe.outputs_of(bundle)))
        listed[which]["layers"] = describe.layers(networks, which)
    if draw is not None:
        members = [which] if which is not None else list(range(min(16, len(networks))))
        save(describe.draw_networks(networks, members, inputs, describe.outputs_of(bundle)), draw)
        talk.show(f"written: {draw}")
    facts = {"nets": str(nets), "target": bundle.target, "columns": bundle.reading.described(), "about": bundle.about}
    facts["classes"] = list(bundle.classes)
    talk.finish(facts | {"inputs": inputs, f"{name}_params": n_params, "networks": listed})


@app.command(epilog=CODES)
def predict(
    nets: Nets,
    table: TablePath,
    out: Annotated[Path, typer.Option(help="New .csv, .tsv or .parquet for the predictions, one row per row.")],
    which: Which = "wide",
    interval: Interval = None,
    header: Header = True,
    encoding: Encoding = None,
    sep: Separator = None,
    sheet: Sheet = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Predict the rows of a table; columns are found by name, others ignored."""
    refuse_existing(out)
    if out.suffix.lower() not in (".csv", ".tsv", ".parquet"):
        raise InputError(f"{out}: --out must end in .csv, .tsv or .parquet")
    if out.suffix.lower() == ".parquet":
        need("pyarrow", str(out))
    from netformer.cli.describe import answers_of, scored, with_ends
    from netformer.exports.bundle import is_groups
    from netformer.exports.intervals import ends_of
    from netformer.tables.intake import in_file, match

    grouped, talk = load_groups(nets) if is_groups(nets) else None, Talk(json, quiet)
    bundle = load_bundle(nets) if grouped is None else grouped.whole
    chosen = which_of(which, bundle)
    if grouped is not None and chosen != "wide":
        raise InputError(f"{nets}: each group is answered by its wide network, got --which {which}; leave it out")
    if interval is not None:
        if bundle.classes:
            raise InputError(f"{bundle.target!r} has classes, whose probabilities are written; leave --interval out")
        ends_of(interval)
        if chosen != "wide":
            raise InputError(
                f"only the wide network has intervals, got --which {which}; leave --which or --interval out"
            )
    reads: dict[str, Any] = {"header": header, "encoding": encoding, "separator": sep, "sheet": sheet}
    groups = None if grouped is None else (grouped.by, grouped.names)
    X, y, notes = match(table, (grouped or bundle).reading, **reads, groups=groups)
    with in_file(table), noted(notes, table):
        answer = answers_of(bundle, X, chosen, grouped)
    with in_file(table), noted([], table):
        if interval is not None:
            ends = (grouped or bundle).predict_quantiles(X, ends_of(interval)).reshape(len(X), -1, 2)
            answer = with_ends(answer, ends)
        outside = bundle.reading.outside(X)
    if outside:
        beyond = first_few([f"{name!r} in {cells}" for name, cells in outside.items()])
        notes.append(f"{table}: outside of what was fitted, and read as its edge: {beyond} of {len(X)} rows")
    talk.notes(notes)
    between = "\t" if out.suffix.lower() == ".tsv" else ","
    as_parquet = out.suffix.lower() == ".parquet"
    with replacing(out) as part:
        answer.to_parquet(part) if as_parquet else answer.to_csv(part, sep=between, index=False)
    known, score = scored(bundle, answer, y, interval)
    talk.show(f"{len(answer)} predictions of {bundle.target!r} by {chosen}: {out}{known}")
    facts = {"rows": len(answer), "which": chosen, "target": bundle.target, "out": str(out), "interval": interval}
    talk.finish(facts | score | {"outside": outside, "notes": notes})


@app.command(epilog=CODES)
def export(
    nets: Nets,
    out: Annotated[Path, typer.Option(help="New folder for the files.")],
    format: Annotated[
        list[Format], typer.Option(help="May be given more than once; torch, sklearn and numpy are .py.")
    ],
    which: Which = "wide",
    columns: Annotated[str | None, typer.Option(help="Of html: columns with a field; others stay typical.")] = None,
    group: Group = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write one network as ONNX, C, JSON, Python source or one HTML page, from cells of the table to the target."""
    refuse_existing(out)
    from netformer.sources.formats import export as write

    bundle, talk = load_bundle(nets, group), Talk(json, quiet)
    chosen = which_of(which, bundle)
    stem = chosen if isinstance(chosen, str) else f"network{chosen}"
    files = {name: f"{stem}{SUFFIX.get(name, f'_{name}.py')}" for name in format}
    if columns is not None and "html" not in files:
        raise InputError("--columns chooses the fields of a page; add --format html")
    written = []
    with replacing(out) as folder:
        folder.mkdir()
        for name, file in files.items():
            fields = columns if name == "html" else None
            written += [path.name for path in write(bundle, chosen, folder / file, name, columns=fields)]
    talk.show(*(f"written: {out / file}" for file in written))
    talk.finish({"which": chosen, "target": bundle.target, "files": {name: str(out / f) for name, f in files.items()}})


app.command(epilog=CODES)(evaluate)
app.command(epilog=CODES)(info)
app.command(epilog=CODES)(search)
