"""`generate --by`: a network per group of a table, scored on rows held back, then written for all rows."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from rich.table import Table

from netformer.cli.console import Talk, noted, number
from netformer.cli.scores import Wanted
from netformer.errors import InputError
from netformer.evaluation.comparison import plain_r2
from netformer.exports.groups import without_group
from netformer.generation.estimator import NetFormerRegressor
from netformer.generation.many import fit_many
from netformer.tables.intake import in_file, on_reading, take_in

HELD_BACK = 0.2


def rows_to_train_on(n_rows: int, seed: int) -> Bool[np.ndarray, " rows"]:
    """The rows to train on: all but a seeded random fifth, at least 2."""
    train = np.ones(n_rows, bool)
    train[np.random.default_rng(seed).permutation(n_rows)[: max(2, round(HELD_BACK * n_rows))]] = False
    return train


def refuse_what_by_leaves_out(report: Path | None, max_loss: float | None, wanted: Wanted) -> None:
    """Raises InputError: an option of `generate` that is for one network of the whole table."""
    if report is not None:
        raise InputError("--report is a page about one network, and --by writes one per group; leave one out")
    if max_loss is not None:
        raise InputError("--max-loss chooses one network for the whole table; leave --by out")
    if wanted != Wanted():
        raise InputError(
            "--by holds back a fifth of the rows; leave --groups, --time, --in-order, --test, --beside out"
        )


def generate_by(
    table: Path, target: str, by: str, estimator: NetFormerRegressor, out: Path | None, talk: Talk, **options: Any
) -> None:
    """What `generate --by` does. options: of `intake.take_in`. `estimator.random_state` draws the rows held back."""
    start = time.perf_counter()
    if by == target:
        raise InputError(f"--by must be another column than the target {target!r}")
    intake = take_in(table, target, keep=[by], **options)
    if intake.classes:
        way = "" if isinstance(intake.classes[0], str) else ", or --task regression takes the target for a number"
        raise InputError(
            f"{table}: --by is for targets that are numbers, {target!r} has {len(intake.classes)} classes; leave out "
            f"--by, {by!r} is then read like any column{way}"
        )
    if len(intake.targets) > 1:
        raise InputError(
            f"{table}: --by is for one target, got {', '.join(map(repr, intake.targets))}; run it for each"
        )
    X = intake.X.assign(**{by: intake.kept[by]})  # as it stands, for the names of groups
    y, parameters = pd.Series(intake.y, name=target), estimator.get_params()
    train, notes = rows_to_train_on(len(y), parameters["random_state"]), list(intake.notes)
    what = f"writing networks for {len(y)} rows and {X.shape[1]} columns, by {by!r}"
    with in_file(table), talk.progress(what), noted([], table):
        held, seen, known = X[~train], X[train], y.to_numpy()
        groups = fit_many(seen, y[train], by, **parameters)
        answers = {
            "by group": groups.predict(held),
            "whole": groups.whole.predict(held.drop(columns=by)),
            "group mean": _group_means(seen, known[train], held, by),
            "constant": np.full(len(held), known[train].mean()),
        }
    with in_file(table), talk.progress(what), noted(notes, table):
        groups = fit_many(X, y, by, **parameters)
        reading = groups.whole.reading.written(intake.columns)
        groups = replace(groups, whole=replace(groups.whole, reading=reading))
    seconds = time.perf_counter() - start
    notes += on_reading(groups.whole.reading, table)
    scores = {
        name: {"r2": plain_r2(known[~train], answer), "mae": float(np.abs(known[~train] - answer).mean())}
        for name, answer in answers.items()
    }
    shown = Table("", "R2", f"mean error, units of {target!r}", "", title=f"on {len(held)} rows held back")
    said = ("a network per group", "one network for all, blind to the group", "mean of the group", "mean of all")
    for (name, score), what in zip(scores.items(), said, strict=True):
        shown.add_row(name, number(score["r2"]), f"{score['mae']:.4g}", what)
    if out is not None:
        groups.whole.about["by"] = {"column": by, "scores": scores, "rows_held_back": len(held)}
        groups.save(out)
    talk.notes(notes)
    talk.show(shown, repr(groups), f"written for all {len(y)} rows: {out}" if out else "not written; add --out")
    facts: dict[str, Any] = {"table": str(table), "target": target, "by": by, "rows": len(y), "held_back": len(held)}
    facts["groups"] = dict(zip(groups.names, groups.rows, strict=True))
    facts |= {"columns": groups.whole.reading.described(), "scores": scores}
    talk.finish(facts | {"notes": notes, "seconds": seconds, "out": out and str(out)})


def _group_means(
    seen: pd.DataFrame, y: Float[np.ndarray, " seen"], held: pd.DataFrame, by: str
) -> Float[np.ndarray, " held"]:
    """The mean of each row's group, of all rows for a group without one."""
    means = pd.Series(y).groupby(without_group(seen, by)[1]).mean()
    return means.reindex(without_group(held, by)[1]).fillna(float(y.mean())).to_numpy()
