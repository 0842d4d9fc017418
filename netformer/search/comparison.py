"""Comparison: several ways to search the same task, by what they have found after equally many evaluations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from netformer.search.engine import search
from netformer.search.problem import SearchTask
from netformer.tasks.scores import r2
from netformer.tasks.task import TEST


@dataclass(frozen=True)
class Way:
    """A space and an algorithm, by name (`engine.search`)."""

    space: str
    algorithm: str


WAYS: Mapping[str, Way] = {
    "random networks": Way("latents", "random"),
    "NSGA-II on latents": Way("latents", "nsga2"),
    "random structures": Way("structures", "random"),
    "NSGA-II on structures": Way("structures", "nsga2"),
    "random, both": Way("both", "random"),
    "NSGA-II on both": Way("both", "nsga2"),
}


def compare(
    name: str, task: SearchTask, ways: Sequence[str], objectives: Sequence[str], **options: Any
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Search a task in several ways; returns curves (task_id, way, evaluations, hypervolume) and fronts (task_id, way,
    the objectives, test_r2).

    name: of the task. ways: of `WAYS`. options: of `engine.search`. test_r2 is reported alone; nothing is chosen by it.
    """
    curves, fronts = [], []
    for way in ways:
        how = WAYS[way]
        found = search(task, objectives, space=how.space, algorithm=how.algorithm, **options)
        curves += [(name, way, count, volume) for count, volume in found.hypervolume]
        best = found.networks(found.front)
        rows = task.rows
        predicted = best.networks.predict(rows.x)
        keep = (rows.rows == TEST).expand(len(best.networks), -1)
        test = r2(rows.y.expand(len(best.networks), -1), predicted, keep).tolist()
        fronts += [(name, way, *values, score) for values, score in zip(best.values.tolist(), test, strict=True)]
    return (
        pd.DataFrame(curves, columns=["task_id", "way", "evaluations", "hypervolume"]),
        pd.DataFrame(fronts, columns=["task_id", "way", *objectives, "test_r2"]),
    )


def summary(curves: pd.DataFrame, fronts: pd.DataFrame) -> dict[str, dict[str, float]]:
    """For each way, over tasks: the median of the last hypervolume and its interquartile range, the median of its ratio
    to the same space searched at random, and the median test R2 of the network of the lowest first objective."""
    last = curves.groupby(["way", "task_id"], sort=False)["hypervolume"].last()
    out = {}
    for way in dict.fromkeys(curves["way"]):
        volumes = last[way]
        plain = next(name for name, how in WAYS.items() if how == Way(WAYS[way].space, "random"))
        values = {"hypervolume": float(volumes.median())}
        values["hypervolume_iqr"] = float(volumes.quantile(0.75) - volumes.quantile(0.25))
        if plain in last.index.get_level_values(0):
            values["over_random"] = float((volumes / last[plain].clip(lower=1e-9)).median())
        first = fronts[fronts["way"] == way].groupby("task_id", sort=False).first()
        values["test_r2"] = float(first["test_r2"].median())
        out[way] = values
    return out


def quartiles(curves: pd.DataFrame) -> pd.DataFrame:
    """Lower quartile, median and upper quartile of the hypervolume over tasks, for each way and number of
    evaluations."""
    groups = curves.groupby(["way", "evaluations"], sort=False)["hypervolume"]
    parts = [groups.quantile(q).rename(label) for q, label in ((0.25, "low"), (0.5, "median"), (0.75, "high"))]
    return pd.concat(parts, axis=1).reset_index()
