"""The page of an evaluation: numbers from its metrics and its table of tasks, drawings from samples and zoo."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from netformer.evaluation.comparison import base, verdict
from netformer.report import pictures, summaries
from netformer.report.charts import Axis, Curve, plane
from netformer.report.page import Cell, DataTable, Picture, Report, Section, Text

ROWS = {  # without their number of samples, in the order shown
    "single": "one network, the most likely one: hidden layers written by the model, output layer solved by ridge",
    "drawn": "the same, drawn at random instead of the most likely one",
    "expected_best": "the best of the networks drawn, by leave-one-out on train rows",
    "best_of": "the best of the networks drawn, by their R2 on valid rows",
    "average": "mean prediction of the networks drawn",
    "wide": "the networks drawn, merged into one whose output layer is solved again",
    "distilled": "one network trained to predict what the merged one does",
    "raw": "one network, every weight written by the model, nothing solved",
    "raw_with_metafeatures": "raw; the model sees the meta-features too",
    "shuffled_condition": "raw; the model sees another task (control)",
    "metafeatures_only": "raw; the model sees meta-features alone (control)",
    "unconditional": "raw; the model sees nothing of the task (control)",
    "scratch": "the generated architecture, trained from scratch",
    "scratch_best": "the best of random architectures, trained from scratch",
    "ridge": "linear",
    "mlp": "L-BFGS fit, penalty chosen on valid rows",
    "random_ridge_head": "random hidden weights, as many units as `single`, output layer solved",
    "random128_ridge_head": "128 random hidden units, output layer solved",
    "random_wide_ridge_head": "random hidden weights, as many units as the merged network, output layer solved",
    "retrieval": "the training network best on train and valid rows",
    "zoo_average": "mean of all training networks",
    "constant": "mean of the train rows",
    "ceiling": "the noiseless function, where it is known",
}
SETS = ("heldout_tasks", "heldout_family", "real_tables", "real_tables_small")
CLASS_ROWS = {
    "wide": "networks written one class against the rest, under one output layer",
    "random_wide": "as many random units under the same output layer",
    "logistic": "the same output layer on the columns alone",
    "majority": "how often each class occurs",
    "floor": "the true probabilities",
}
MAIN = {"single", "wide", "raw", "scratch", "scratch_best", "ridge", "mlp", "retrieval"}


def evaluation_report(
    metrics: Mapping[str, Any],
    per_task: pd.DataFrame,
    evidence: pictures.Evidence | None = None,
    others: Mapping[str, Mapping[str, Any]] | None = None,
    title: str = "NetFormer: evaluation",
) -> Report:
    """Everything that is known of a run, for `page.write_page`.

    metrics, per_task: what the evaluation writes (`comparison.zero_shot_metrics`, `comparison.per_task_table`).
    evidence: what is drawn; without it the page has numbers alone. others: metrics of other runs by name, each to stand
    beside this one.
    """
    zero_shot = _ordered(metrics["zero_shot"])
    sections = [
        Section("Zero-shot results", [_zero_shot_table(zero_shot)], "An R2 below -1 counts as -1."),
        Section("Differences", [_differences(zero_shot)], "Level: less than two standard errors apart."),
        *(_comparison(metrics, name, other) for name, other in (others or {}).items()),
        Section(
            "Every task",
            [_tasks_table(per_task), *summaries.duels(per_task)],
            "Click a head to sort; more rows of the results under 'columns'.",
        ),
    ]
    if evidence is not None:
        sections += [
            pictures.functions(evidence.samples),
            pictures.surfaces(evidence.samples),
            pictures.networks(evidence),
        ]
        if evidence.latents is not None:
            drawn = pictures.latent_map(evidence.zoo, evidence.latents)
            note = "Trained networks of held-out tasks, where the encoder puts them."
            sections.append(Section("Latent map", drawn, note))
        weights = [Picture(drawing, "") for drawing in pictures.histograms(evidence)]
        sections.append(Section("Weights and sizes", weights, pictures.HISTOGRAMS))
    if "classes" in metrics:
        sections.append(_classes(metrics["classes"]))
    if "memorisation_ratio" in metrics.get("sampling", {}):
        sections.append(_memorisation(metrics["sampling"]))
    rest = [[group, key, value] for group, key, value in _numbers(metrics) if not group.startswith("zero_shot")]
    sections.append(Section("Other numbers", [DataTable(["group", "number", "value"], rest, "", (0,), search=True)]))
    return Report(title, [headline(name, rows) for name, rows in zero_shot.items()], sections)


def _ordered(zero_shot: Mapping[str, Mapping[str, float]]) -> dict[str, Mapping[str, float]]:
    """Known sets first, in the order of `SETS`."""
    known = [name for name in SETS if name in zero_shot]
    return {name: zero_shot[name] for name in [*known, *(name for name in zero_shot if name not in SETS)]}


def rows_of(zero_shot: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The rows that any set has, in the order of `ROWS`, unknown ones last."""
    found = {key for rows in zero_shot.values() for key in rows if f"{key}_n_tasks" in rows}
    order = list(ROWS)
    return sorted(found, key=lambda row: (order.index(base(row)) if base(row) in ROWS else len(order), row))


def headline(name: str, rows: Mapping[str, float]) -> str:
    """The result of one set in a sentence; what was not measured is left out."""
    wide = next((row for row in rows_of({name: rows}) if base(row) == "wide"), "")
    parts = {
        "one generated network": "single",
        f"{wide.removeprefix('wide_')} merged": wide,
        "trained from scratch": "scratch",
        "ridge": "ridge",
        "the best training network": "retrieval",
    }
    said = ", ".join(f"{what} {rows[row]:.3f}" for what, row in parts.items() if row in rows)
    return f"On {rows.get('single_n_tasks', 0):.0f} tasks never seen ({name}), median test R2: {said}."


def _zero_shot_table(zero_shot: Mapping[str, Mapping[str, float]]) -> DataTable:
    heads = [
        "row",
        *(f"{name} ({rows.get('single_n_tasks', 0):.0f})" for name, rows in zero_shot.items()),
        "what it is",
    ]
    lines = [
        [row, *(rows.get(row) for rows in zero_shot.values()), ROWS.get(base(row), "a reference learner")]
        for row in rows_of(zero_shot)
    ]
    return DataTable(heads, lines, "Median test R2; sets in columns, their number of tasks in brackets.")


def _differences(zero_shot: Mapping[str, Mapping[str, float]]) -> DataTable:
    """The merged network minus every other row, task by task."""
    rows = rows_of(zero_shot)
    ours = summaries.merged_row(rows)
    lines: list[list[Cell]] = []
    for row in rows:
        cells: list[Cell] = []
        for found in zero_shot.values():
            difference, se = found.get(f"{ours}_minus_{row}"), found.get(f"{ours}_minus_{row}_se")
            if difference is None or se is None:
                cells.append("")
            else:
                cells.append(f"{difference:+z.3f} ± {se:.3f}, {verdict(difference, se)}")
        if any(cells):
            lines.append([row, *cells])
    said = f"Test R2 of {ours} minus that of a row: mean over tasks, and its standard error."
    return DataTable(["row", *zero_shot], lines, said)


def _tasks_table(per_task: pd.DataFrame) -> DataTable:
    """A line per task; a task of two sets names both."""
    sets = per_task.groupby("task_id", sort=False)["set"].agg(lambda names: ", ".join(dict.fromkeys(names)))
    facts = per_task.drop_duplicates("task_id").set_index("task_id")["family"]
    wide = per_task.drop_duplicates(["task_id", "row"]).pivot(index="task_id", columns="row", values="test_r2")
    rows = rows_of({"": {f"{row}{end}": 0.0 for row in wide.columns for end in ("", "_n_tasks")}})
    lines: list[Sequence[Cell]] = [
        [str(task), str(sets[task]), str(facts[task]), *(_known(wide.loc[task, row]) for row in rows)]
        for task in sets.index
    ]
    hidden = [3 + i for i, row in enumerate(rows) if base(row) not in MAIN]
    columns = range(3, 3 + len(rows))
    heads = ["task", "set", "family", *rows]
    return DataTable(heads, lines, "Test R2 of every row on every task.", (1, 2), hidden, columns, search=True)


def _known(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _comparison(metrics: Mapping[str, Any], name: str, other: Mapping[str, Any]) -> Section:
    """This run, the other, and the difference; a number that only one of them has has no difference."""
    ours, theirs = _ordered(metrics["zero_shot"]), other.get("zero_shot", {})
    sets = [group for group in ours if group in theirs]
    heads = ["row", *(f"{group}: {part}" for group in sets for part in ("this", "other", "difference"))]
    lines = [
        [row, *(cell for group in sets for cell in _beside(ours[group].get(row), theirs[group].get(row)))]
        for row in rows_of({**ours, **{f"other {group}": rows for group, rows in theirs.items()}})
    ]
    known = {(group, key): value for group, key, value in _numbers(other)}
    rest = [
        [group, key, *_beside(value, known[group, key])]
        for group, key, value in _numbers(metrics)
        if (group, key) in known and not group.startswith("zero_shot")
    ]
    every = DataTable(
        ["group", "number", "this", "other", "difference"], rest, "Other numbers of both.", (0,), search=True
    )
    note = "Difference: this minus other, each the median over its own tasks; paired only where these are the same."
    return Section(f"Compared with {name}", [DataTable(heads, lines, "Median test R2."), every], note)


def _beside(this: float | int | None, other: float | int | None) -> tuple[Cell, Cell, Cell]:
    return this, other, None if this is None or other is None else this - other


def _numbers(metrics: Mapping[str, Any], group: str = "") -> list[tuple[str, str, float | int]]:
    """(group, key, value) of every number, groups in groups joined by a point."""
    found: list[tuple[str, str, float | int]] = []
    for key, value in sorted(metrics.items()):
        if isinstance(value, Mapping):
            found += _numbers(value, f"{group}.{key}" if group else key)
        elif isinstance(value, int | float):
            found.append((group, key, int(value) if re.search(r"(^|_)n_[a-z]+$", key) else float(value)))
    return found


def _classes(found: Mapping[str, float]) -> Section:
    """Log loss on tasks with classes; the less, the better."""
    lines: list[list[Cell]] = []
    for row in (row for row in CLASS_ROWS if row in found):
        less, se = found.get(f"wide_minus_{row}"), found.get(f"wide_minus_{row}_se", 0.0)
        beside = "" if less is None else f"{less:+z.3f} ± {se:.3f}, {verdict(-less, se)}"
        lines.append([row, found[row], found[f"{row}_se"], beside, CLASS_ROWS[row]])
    heads = ["row", "log loss", "standard error", "wide minus it", "what it is"]
    said = f"Mean over {found['n_tasks']:.0f} held-out tasks, expected under their true probabilities, in nats."
    return Section("Tasks with classes", [DataTable(heads, lines, said)], "The less, the better.")


def _memorisation(found: Mapping[str, float]) -> Section:
    """How far generated networks are from the training networks."""
    rungs = [(f"copies + {k.removeprefix('ladder_')} noise", found[k]) for k in _ladder(found)]
    rungs += [("means of two", found["average_ratio"])] if "average_ratio" in found else []
    rungs += [("generated", found["memorisation_ratio"]), ("independently trained", 1.0)]
    lines = [
        "Distance to the nearest training network, over that of independently trained ones: 0 for copies, 1 for "
        f"networks of their own. Generated networks: {found['memorisation_ratio']:.3f}.",
        f"{found['novelty']:.1%} of them are farther than the nearest 1% of independently trained networks."
        if "novelty" in found
        else "",
    ]
    y = Axis("", -0.6, len(rungs) - 0.4, names=[f"{name}: {value:.3f}" for name, value in rungs])
    x = Axis("distance to the nearest training network", 0.0, max(1.0, *(value for _, value in rungs)))
    lines_to = [Curve([(0.0, float(i)), (value, float(i))], 0, True) for i, (_, value) in enumerate(rungs)]
    drawing = plane("Copies?", x, y, lines_to, size=(400, 60 + 24 * len(rungs)))
    picture = Picture(drawing, "Ratio of medians; noise in deviations of the layer's weights.")
    return Section("Memorisation", [Text([line for line in lines if line]), picture])


def _ladder(found: Mapping[str, float]) -> list[str]:
    keys = [key for key in found if re.fullmatch(r"ladder_[\d.]+", key)]
    return sorted(keys, key=lambda key: float(key.removeprefix("ladder_")))
