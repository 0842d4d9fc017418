"""Jumps: targets that are constant within regions, and smooth ones; ours with and without step units, and others.

The families `trees` and `cells` are drawn here, by functions that no stream of tasks calls, so that nothing was trained
or chosen on them:

    trees   forests of 1 to 12 random trees, half of them oblivious (one question a level), half with a question of its
            own at every node, which may stop early; thresholds are values of the rows, leaves N(0, 1)
    cells   4 to 16 prototypes, which are rows, seen in 2 to 4 of the inputs: N(0, 1) of the nearest one

`smooth` are tasks of the stream for tests, of families that do not jump. Every method is fitted on the same rows, at
its defaults, and scored by R2 on `TEST_ROWS` new ones.

Of classes (`draw_classes`) there are other tasks of these three sets, drawn by another seed: 2, 3 or 5 classes are
what lies between thresholds of the target; in half of the tasks a tenth of the labels is drawn anew. `random` are
random tasks with classes, as in the stream for tests. The score is the log loss on `TEST_ROWS` new rows, in nats.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from netformer.evaluation.comparison import verdict
from netformer.files import replacing
from netformer.generation.classifier import NetFormerClassifier
from netformer.generation.estimator import NetFormerRegressor
from netformer.tasks.classes import draw_class_tasks
from netformer.tasks.families import FAMILIES, draw_tasks
from netformer.tasks.stream import batch_generator
from netformer.workers import map_parallel

SETS = ("trees", "cells", "smooth")
SMOOTH = tuple(name for name in FAMILIES if name not in ("trees", "composition", "graph"))  # those two may hold jumps
TEST_ROWS = 1000
MOST_TREES = 12
STEPS, OURS, CATBOOST = "wide_16_steps", "wide_16", "catboost"
MEASURED = ["set", "rows", "task", "method", "test_r2"]
CLASS_SETS, CLASS_SEED = (*SETS, "random"), 1
N_CLASSES, SHARE_ANEW, LEAST_SHARE = (2, 3, 5), 0.1, 0.5  # the last: of a class over its even share, at least
CLASS_MEASURED = ["set", "rows", "task", "classes", "method", "log_loss", "kept"]
FLOOR = 1e-6  # of a probability
_MARGINALS = 4  # normal, uniform, skewed, of three values

Rows = tuple[Float[np.ndarray, "rows inputs"], Float[np.ndarray, " rows"]]


def draw(name: str, rows: int, number: int, seed: int = 0) -> Rows:
    """Task `number` of a set: inputs and target of rows + `TEST_ROWS` rows, the first for learning."""
    if name == "smooth":
        g = batch_generator(seed, "test", number)
        drawn = draw_tasks(1, rows + TEST_ROWS, max_features=12, families=SMOOTH, generator=g)
        return drawn.x[0, :, : int(drawn.n_features[0])].double().numpy(), drawn.y[0].double().numpy()
    rng = np.random.default_rng([seed, SETS.index(name), rows, number])
    z = rng.normal(size=(rows + TEST_ROWS, int(rng.integers(4, 13))))
    kinds = rng.integers(0, _MARGINALS, (z.shape[1],)).tolist()
    for column, own in zip(z.T, kinds, strict=True):
        if own == 1:
            column[:] = rng.uniform(-1.7, 1.7, len(z))
        elif own == 2:
            column[:] = np.exp(0.6 * column)
        elif own == 3:
            column[:] = np.clip(np.round(column), -1, 1)
    clean = _cells(z, rng) if name == "cells" else _trees(z, rng)
    clean = (clean - clean.mean()) / max(float(clean.std()), 1e-9)
    return z, clean + 10 ** rng.uniform(-1.3, -0.2) * rng.normal(size=len(z))


def _trees(z: Float[np.ndarray, "rows inputs"], rng: np.random.Generator) -> Float[np.ndarray, " rows"]:
    """The sum of a random forest, see the module."""
    inputs = z.shape[1]
    weight = np.square(rng.random(inputs)) * (rng.random(inputs) > 0.3) + 1e-9
    weight /= weight.sum()
    oblivious, depth, total = rng.random() < 0.5, int(rng.integers(3, 6)), np.zeros(len(z))
    for _ in range(int(rng.integers(1, MOST_TREES + 1))):
        leaf = np.zeros(len(z), np.int64)
        for level in range(depth):
            before = leaf.copy()
            shared = int(rng.choice(inputs, p=weight)), int(rng.integers(len(z)))
            for node in np.unique(before):
                if not oblivious and level > 1 and rng.random() < 0.2:
                    continue
                at = before == node
                own = int(rng.choice(inputs, p=weight)), int(rng.choice(np.flatnonzero(at)))
                column, row = shared if oblivious else own
                leaf[at] = 2 * node + 1 + (z[at, column] > z[row, column])
        total += rng.normal(size=2 ** (depth + 1))[leaf]
    return total


def _cells(z: Float[np.ndarray, "rows inputs"], rng: np.random.Generator) -> Float[np.ndarray, " rows"]:
    """The value of the nearest prototype, see the module."""
    seen = rng.choice(z.shape[1], int(rng.integers(2, 5)), replace=False)
    own = z[:, seen]
    prototypes = own[rng.choice(len(z), int(rng.integers(4, 17)), replace=False)]
    nearest = np.square(own[:, None] - prototypes).sum(2).argmin(1)
    return rng.normal(size=len(prototypes))[nearest]


def draw_classes(
    name: str, rows: int, number: int, seed: int = CLASS_SEED
) -> tuple[Float[np.ndarray, "rows inputs"], Int[np.ndarray, " rows"]]:
    """Task `number` of a set of `CLASS_SETS`, as `draw`: inputs and class of every row, from 0; each class is in the
    rows for learning."""
    if name == "random":
        g = batch_generator(seed, "class_test", number)
        drawn = draw_class_tasks(1, rows + TEST_ROWS, fitted=rows, max_features=12, generator=g)
        return drawn.x[0, :, : int(drawn.n_features[0])].double().numpy(), drawn.codes[0].numpy()
    z, y = draw(name, rows, number, seed)
    rng, k = np.random.default_rng([seed, len(SETS) + SETS.index(name), rows, number]), N_CLASSES[number % 3]
    share = LEAST_SHARE / k + (1 - LEAST_SHARE) * rng.dirichlet(np.ones(k))
    codes = np.searchsorted(np.quantile(y[:rows], share.cumsum()[:-1]), y, side="right")
    anew = (rng.random(len(y)) < SHARE_ANEW) & bool(number // 3 % 2)
    return z, np.where(anew, rng.integers(0, k, len(y)), codes)


def _methods(seed: int) -> dict[str, Callable[[], Any]]:
    from catboost import CatBoostRegressor
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.linear_model import RidgeCV

    quiet = {"thread_count": 1, "allow_writing_files": False, "verbose": False, "random_seed": seed}
    return {
        OURS: partial(NetFormerRegressor, random_state=seed, steps=False),
        STEPS: partial(NetFormerRegressor, random_state=seed),
        CATBOOST: partial(CatBoostRegressor, **quiet),
        "extratrees": partial(ExtraTreesRegressor, 300, random_state=seed, n_jobs=1),
        "ridge": partial(RidgeCV, np.logspace(-3, 3, 13)),
    }


def _class_methods(seed: int) -> dict[str, Callable[[], Any]]:
    from catboost import CatBoostClassifier

    quiet = {"thread_count": 1, "allow_writing_files": False, "verbose": False, "random_seed": seed}
    return {
        OURS: partial(NetFormerClassifier, random_state=seed, steps=False),
        STEPS: partial(NetFormerClassifier, random_state=seed),
        CATBOOST: partial(CatBoostClassifier, loss_function="MultiClass", **quiet),
    }


def measure(
    sets: Sequence[str], rows: Sequence[int], count: int, workers: int = 1, kept: Path | None = None
) -> pd.DataFrame:
    """R2 of every method on `count` tasks of each set and number of rows: columns MEASURED. R2 is -1 at least. kept: a
    folder with what is known of each task, which is not measured again."""
    return _of_all(_measured, MEASURED, (sets, rows, count), workers, kept)


def measure_classes(
    sets: Sequence[str], rows: Sequence[int], count: int, workers: int = 1, kept: Path | None = None
) -> pd.DataFrame:
    """Log loss of every method, as `measure`: columns CLASS_MEASURED. kept, in the last of them: whether the network
    has step units; nothing for methods that never have."""
    return _of_all(_measured_classes, CLASS_MEASURED, (sets, rows, count), workers, kept)


def _of_all(
    one: Callable[[tuple[str, int, int]], list],
    columns: list[str],
    which: tuple[Sequence[str], Sequence[int], int],
    workers: int,
    kept: Path | None,
) -> pd.DataFrame:
    sets, rows, count = which
    asked = [(name, size, number) for name in sets for size in rows for number in range(count)]
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
    found = map_parallel(partial(_once, one, kept), asked, workers=workers)
    return pd.DataFrame([row for rows in found for row in rows], columns=columns)


def _once(one: Callable[[tuple[str, int, int]], list], kept: Path | None, asked: tuple[str, int, int]) -> list:
    """What is measured of a task, or was."""
    if kept is None:
        return one(asked)
    name, rows, number = asked
    path = kept / f"{name}-{rows}-{number}.json"
    if not path.exists():
        with replacing(path) as part:
            part.write_text(json.dumps(one(asked)))
    return json.loads(path.read_text())


def _measured(asked: tuple[str, int, int]) -> list[tuple]:
    name, rows, number = asked
    torch.set_num_threads(1)
    z, y = draw(name, rows, number)
    measured = []
    for method, make in _methods(number).items():
        said = make().fit(z[:rows], y[:rows]).predict(z[rows:])
        r2 = 1 - float(np.square(y[rows:] - said).mean() / y[rows:].var())
        measured.append((name, rows, number, method, max(-1.0, r2)))
    return measured


def _measured_classes(asked: tuple[str, int, int]) -> list[tuple]:
    name, rows, number = asked
    torch.set_num_threads(1)
    z, codes = draw_classes(name, rows, number)
    measured, k = [], int(codes[:rows].max()) + 1
    for method, make in _class_methods(number).items():
        fitted = make().fit(z[:rows], codes[:rows])
        p = np.clip(fitted.predict_proba(z[rows:]), FLOOR, 1.0)
        loss = float(-np.log(p[np.arange(len(p)), codes[rows:]]).mean())
        kept = "steps" in fitted.network_.about if method == STEPS else None
        measured.append((name, rows, number, k, method, loss, kept))
    return measured


def summary(measured: pd.DataFrame) -> dict[str, float | str]:
    """SET.ROWS.METHOD: the mean R2, or log loss. SET.ROWS.METHOD.minus: that of `STEPS` minus it, paired by task, with
    its standard error `.minus_se` and `.standing` (`comparison.verdict`). Of classes also SET.ROWS.kept, the share of
    tasks whose networks have step units, and SET.two, as SET.ROWS, of all tasks with two classes."""
    found: dict[str, float | str] = {}
    for (name, rows), part in measured.groupby(["set", "rows"], sort=False):
        found |= _paired(f"{name}.{rows}", part)
        if "kept" in part:
            found[f"{name}.{rows}.kept"] = float(part.loc[part["method"] == STEPS, "kept"].astype(float).mean())
    if "classes" in measured:
        two = measured[measured["classes"] == 2]
        for name in dict.fromkeys(two["set"]):
            found |= _paired(f"{name}.two", two[two["set"] == name])
    return found


def _paired(key: str, part: pd.DataFrame) -> dict[str, float | str]:
    score, sign = ("log_loss", -1) if "log_loss" in part else ("test_r2", 1)
    table, found = part.pivot(index=["rows", "task"], columns="method", values=score), dict[str, float | str]()
    for method in dict.fromkeys(part["method"]):
        gain = table[STEPS] - table[method]
        found[f"{key}.{method}"] = float(table[method].mean())
        if method != STEPS:
            error = float(gain.std() / np.sqrt(len(gain)))
            found |= {f"{key}.{method}.minus": float(gain.mean()), f"{key}.{method}.minus_se": error}
            found[f"{key}.{method}.standing"] = verdict(sign * float(gain.mean()), error)
    return found
