"""Zoo card: the data sheet of a zoo as Markdown, every figure computed from the files themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from netformer.errors import InputError
from netformer.tasks.task import SPLITS

TASK_COLUMNS = ("task_id", "source", "family", "split", "n_rows", "n_features", "ceiling")
ZOO_COLUMNS = (
    *("task_id", "widths", "activations", "bias", "skip", "n_params", "init_seed"),
    *("train_r2", "valid_r2", "test_r2"),
)
_QUARTILES = (0.25, 0.5, 0.75)


def zoo_card(
    tasks: pd.DataFrame,
    zoo: pd.DataFrame,
    counts: Mapping[str, int] | None = None,
    params: Mapping[str, Any] | None = None,
) -> str:
    """The card. R2 are shares of the target's variance, on the rows they are named after.

    tasks: one row per task, TASK_COLUMNS. zoo: one row per network, ZOO_COLUMNS. counts: of `build.build_zoo`, drawn,
    kept and rejected; None for a zoo that another program made. params: how it was made, printed as they are. Raises
    InputError for an empty zoo, for networks of unknown tasks, and for counts of another zoo.
    """
    if not len(zoo):
        raise InputError("the zoo must hold at least one network, found none")
    unknown = sorted(set(zoo["task_id"]) - set(tasks["task_id"]))
    if unknown:
        raise InputError(f"the tasks must hold every task of the zoo, {len(unknown)} are missing: {unknown[0]}, ...")
    if counts is not None and counts.get("kept") != len(zoo):
        raise InputError(f"counts must be of this zoo of {len(zoo)} networks, found {counts.get('kept')} kept")
    known = zoo.merge(tasks[list(TASK_COLUMNS)], on="task_id", validate="many_to_one")
    used = tasks[tasks["task_id"].isin(zoo["task_id"])]
    shares = [
        _share(known[flag].mean(), name) for flag, name in (("bias", "with biases"), ("skip", "with a linear path"))
    ]
    parts = [
        "# Zoo card",
        f"{len(zoo):,} trained regression networks of {_span(zoo['n_params'])} parameters on {len(used):,} tasks: "
        f"{_span(used['n_features'])} features, {_span(used['n_rows'])} rows. {', '.join(shares)}. "
        f"{zoo['init_seed'].duplicated(keep=False).sum():,} networks share their initialisation with another one.",
        "Splits are by task: what learns from networks of train tasks has seen no row of a valid or test task. R2 are "
        "on test rows of the task, on which no network was trained or chosen, unless others are named. A task: median "
        "number of networks of one task. Ceiling: median R2 of the noiseless function, where it is known.",
        _section("Splits", _by(known, used, "split", [s for s in SPLITS if s in set(used["split"])])),
        _section("Families", _by(known, used, "family", sorted(set(used["family"])))),
        _section("Quality", _quality(known)),
        _section("Rejected", _rejected(counts)),
        _section("Structure", _structure(known)),
        _section("Tasks without networks", _without(tasks, set(zoo["task_id"]))),
    ]
    if params:
        rows = [[f"`{name}`", f"`{value}`"] for name, value in params.items()]
        parts.append(_section("How it was made", _table(["parameter", "value"], rows)))
    return "\n\n".join(parts) + "\n"


def _by(known: pd.DataFrame, used: pd.DataFrame, column: str, names: Sequence[str]) -> str:
    """Tasks, networks and quartiles of test R2 of each value of a column, split or family."""
    rows = []
    for name in names:
        nets, own = known[known[column] == name], used[used[column] == name]
        counts = [int((own["split"] == split).sum()) for split in SPLITS] if column == "family" else [len(own)]
        per_task = nets.groupby("task_id").size().median()
        ceiling = own["ceiling"].median()
        rows.append([name, *counts, f"{len(nets):,}", f"{per_task:g}", *_quartiles(nets["test_r2"]), _number(ceiling)])
    heads = [f"{split} tasks" for split in SPLITS] if column == "family" else ["tasks"]
    return _table([column, *heads, "networks", "per task", "R2 25%", "R2 median", "R2 75%", "ceiling"], rows)


def _quality(known: pd.DataFrame) -> str:
    rows = [[f"R2, {part} rows", *_quartiles(known[f"{part}_r2"])] for part in SPLITS]
    best = known.loc[known.groupby("task_id")["valid_r2"].idxmax()]
    rows.append(["R2, test rows, best of each task (by valid rows)", *_quartiles(best["test_r2"])])
    rows.append(["ceiling minus that R2, where known", *_quartiles((best["ceiling"] - best["test_r2"]).dropna())])
    rows.append(["R2, train minus test rows", *_quartiles(known["train_r2"] - known["test_r2"])])
    return _table(["", "25%", "median", "75%"], rows)


def _rejected(counts: Mapping[str, int] | None) -> str:
    if counts is None:
        return "Not known: this zoo came without counts."
    note = "Valid rows decided what was kept: R2 on them flatters."
    rows = [
        [name.replace("_", " "), f"{number:,}", f"{number / max(counts['drawn'], 1):.1%}"]
        for name, number in sorted(counts.items(), key=lambda item: -item[1])
    ]
    return f"{note}\n\n{_table(['networks', 'number', 'of those drawn'], rows)}"


def _structure(known: pd.DataFrame) -> str:
    depth = known["widths"].map(len)
    layers = known["activations"].explode().value_counts(normalize=True).sort_index()
    rows = [
        ["hidden layers", ", ".join(_share(share, n) for n, share in depth.value_counts(normalize=True).items())],
        ["activation of a layer", ", ".join(_share(share, name) for name, share in layers.items())],
        ["units of a layer, quartiles", ", ".join(f"{q:g}" for q in known["widths"].explode().quantile(_QUARTILES))],
        ["parameters, quartiles", ", ".join(f"{q:g}" for q in known["n_params"].quantile(_QUARTILES))],
    ]
    return _table(["", ""], rows)


def _without(tasks: pd.DataFrame, used: set[str]) -> str:
    """Held-out families and real tables, for evaluation only, and tasks whose networks were all rejected."""
    rest = tasks[~tasks["task_id"].isin(used)]
    if not len(rest):
        return "None."
    rest = rest.assign(family=rest["family"].where(rest["source"] != "real", "real tables"))
    counts = rest.groupby(["family", "split"], as_index=False).agg(tasks=("task_id", "size"))
    return _table(["family", "split", "tasks"], counts.to_numpy().tolist())


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', '&#124;') for cell in line)} |" for line in lines)


def _quartiles(values: pd.Series) -> list[str]:
    return [_number(q) for q in values.quantile(_QUARTILES)]


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"


def _share(share: float, name: Any) -> str:
    return f"{share:.0%} {name}" if isinstance(name, str) else f"{name}: {share:.0%}"


def _span(values: pd.Series) -> str:
    return f"{values.min():,} to {values.max():,}"
