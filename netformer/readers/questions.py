"""Questions: what is asked of a network of the zoo, on which networks readers are fitted and on which they are judged.

    test_r2      R2 on the test rows of its task
    gap          R2 on train rows less that on test rows
    noise        log10 of the noise of its task: standard deviation over that of the target without noise, `QUIETEST`
                 at least
    columns      columns that count: shuffled on its task, they move the answer by `COUNTS` of its standard
                 deviation
    family       the kind of random function that its task is
    activation   of its first hidden layer

Readers are fitted on networks of training tasks and judged on networks of valid and test tasks. Three ways to split:

    task           other tasks of the same kind
    family         families that no fitted network is of; each of the `SEEDS` seeds leaves out others
    architecture   fitted on one or two hidden layers, judged on three
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.stats import kendalltau

from netformer.artifacts import read_tasks
from netformer.errors import InputError
from netformer.networks.specs import ACTIVATIONS
from netformer.networks.stack import Networks
from netformer.networks.symmetry import canonicalize
from netformer.tasks.task import Task
from netformer.tasks.view import stack_tasks
from netformer.zoo.load import load_zoo

NUMBERS, CLASSES = ("test_r2", "gap", "noise", "columns"), ("family", "activation")
WAYS = ("task", "family", "architecture")
SEEDS = 5
COUNTS = 0.1  # of the standard deviation of the answer
QUIETEST = -1.5  # log10 of the noise at least, about what the quietest tasks of the pipeline are drawn with
DEEP = 3  # hidden layers of the networks that the way `architecture` judges on
FEW = 20  # networks on either side of a split, at least
CHUNK = 256  # networks run together

Answers = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Split:
    """Networks that a reader is fitted on and judged on, by their places in `Benchmark.networks`. seed: of whatever the
    reader draws."""

    way: str
    seed: int
    fit: Int[np.ndarray, " k"]
    test: Int[np.ndarray, " j"]

    @property
    def asked(self) -> tuple[str, ...]:
        """Questions; a family that was never seen cannot be named."""
        return tuple(name for name in (*NUMBERS, *CLASSES) if (self.way, name) != ("family", "family"))


@dataclass(frozen=True, eq=False)
class Benchmark:
    """Networks of a zoo in canonical form, and the answers.

    answers: of each question; classes as whole numbers, `classes` has their names. train_r2: on train rows, which no
    weight tells. tasks: those of the networks; of which each is one, `task_index`.
    """

    networks: Networks
    answers: dict[str, np.ndarray]
    classes: dict[str, tuple[str, ...]]
    train_r2: Float[np.ndarray, " n"]
    tasks: tuple[Task, ...]
    task_index: Int[np.ndarray, " n"]

    def splits(self, way: str, most_fit: int = 3000, most_test: int = 3000) -> list[Split]:
        """A split per seed. most_fit, most_test: networks on either side at most, drawn by the seed. Raises InputError
        for another way, and where fewer than `FEW` networks are on a side."""
        if way not in WAYS:
            raise InputError(f"way must be one of {', '.join(WAYS)}, got {way!r}")
        held = np.array([task.split != "train" for task in self.tasks])[self.task_index]
        family, depth = self.answers["family"], self.networks.specs.depth.numpy()
        out = []
        for seed in range(SEEDS):
            fit, test = ~held, held
            if way == "family":
                other = np.isin(family, np.array_split(np.arange(len(self.classes["family"])), SEEDS)[seed])
                fit, test = fit & ~other, test & other
            elif way == "architecture":
                fit, test = fit & (depth < DEEP), test & (depth == DEEP)
            rng = np.random.default_rng([seed, WAYS.index(way)])
            sides = [
                np.sort(rng.permutation(np.flatnonzero(side))[:most])
                for side, most in ((fit, most_fit), (test, most_test))
            ]
            if min(map(len, sides)) < FEW:
                raise InputError(
                    f"a split by {way} needs {FEW} networks to fit and {FEW} to judge on, found {len(sides[0])} and "
                    f"{len(sides[1])}; take a larger zoo"
                )
            out.append(Split(way, seed, *sides))
        return out

    def score(self, split: Split, name: str, predicted: np.ndarray) -> dict[str, float]:
        """How well one question is answered for the networks a split judges on: r2 and Kendall's tau of numbers, the
        share of right answers of classes. predicted: one per network of `split.test`. Raises InputError for another
        number of them, and for what is not finite."""
        truth, predicted = self.answers[name][split.test], np.asarray(predicted, np.float64)
        if predicted.shape != truth.shape or not np.isfinite(predicted).all():
            raise InputError(
                f"{name}: a reader must answer with one finite number per network, {truth.shape}, got {predicted.shape}"
            )
        return {"accuracy": float((predicted == truth).mean())} if name in CLASSES else score_of(truth, predicted)


def score_of(truth: Float[np.ndarray, " k"], predicted: Float[np.ndarray, " k"]) -> dict[str, float]:
    """r2 and Kendall's tau, 0 where either does not vary."""
    error, spread = np.square(predicted - truth).mean(), truth.var()
    tau = 0.0 if np.ptp(predicted) == 0 or spread == 0 else float(kendalltau(truth, predicted).statistic)
    return {"r2": float(1 - error / max(spread, 1e-12)), "tau": tau}


def load_benchmark(zoo: str | Path = "data/zoo.parquet", most: int | None = None) -> Benchmark:
    """The benchmark of a zoo, with `tasks.parquet` beside it. most: networks at most, evenly spaced. Raises InputError
    as `zoo.load.load_zoo` does, and for tasks whose noise is not known."""
    path = Path(zoo)
    found = load_zoo(path)
    every = {task.task_id: task for task in read_tasks(path.with_name("tasks.parquet"))}
    at = torch.arange(len(found)) if most is None else torch.arange(0, len(found), max(1, len(found) // most))[:most]
    ids = [found.task_ids[i] for i in at.tolist()]
    if unknown := sorted(set(ids) - set(every)):
        raise InputError(
            f"{path}: {len(unknown)} tasks of its networks are not in tasks.parquet beside it, such as "
            f"{unknown[0]}; put the tasks it was trained on there"
        )
    names = sorted(set(ids))
    tasks, place = tuple(every[name] for name in names), {name: i for i, name in enumerate(names)}
    index = np.array([place[name] for name in ids])
    ceiling = np.array([task.ceiling for task in tasks])
    if not np.isfinite(ceiling).all():
        raise InputError(f"{path}: the noise of {int(np.isnan(ceiling).sum())} tasks is not known; leave them out")
    networks, r2 = found.networks[at], found.r2[at].numpy()
    families = sorted({task.family for task in tasks})
    answers = {
        "test_r2": r2[:, 2],
        "gap": r2[:, 0] - r2[:, 2],
        "noise": 0.5 * np.log10((1 - ceiling) / ceiling.clip(min=1e-6))[index].clip(min=2 * QUIETEST),
        "columns": columns_that_count(networks, tasks, index),
        "family": np.array([families.index(task.family) for task in tasks])[index],
        "activation": networks.specs.activations[:, 0].numpy(),
    }
    classes = {"family": tuple(families), "activation": ACTIVATIONS}
    return Benchmark(canonicalize(networks), answers, classes, r2[:, 0], tasks, index)


@torch.no_grad()
def columns_that_count(
    networks: Networks, tasks: Sequence[Task], index: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """How many columns of its task move the answer of a network, in the root mean square, by at least `COUNTS` of the
    standard deviation of the answer when they alone are shuffled. index: the task of each."""
    stack = stack_tasks(tasks, networks.layout.max_features)
    place, order = torch.from_numpy(index), torch.argsort(stack.n_rows[torch.from_numpy(index)], stable=True)
    out, rng = np.zeros(len(networks)), np.random.default_rng(0)
    for at in order.split(CHUNK):
        rows, some = stack[place[at]].trim(), networks[at]
        keep = rows.rows >= 0
        count = keep.sum(1, keepdim=True)
        # Every row takes the cells of another one of its task: of all rows in order, so many further.
        further = torch.from_numpy(rng.random((len(at), 1))) * (count - 1)
        other = (torch.arange(keep.shape[1]) + 1 + further.long()) % count
        answer = some.predict(rows.x)
        centred = torch.where(keep, answer - (answer * keep).sum(1, keepdim=True) / count, 0.0)
        size = centred.square().sum(1)
        for column in range(networks.layout.max_features):
            x = rows.x.clone()
            x[:, :, column] = rows.x[:, :, column].gather(1, other)
            moved = torch.where(keep, some.predict(x) - answer, 0.0).square().sum(1)
            out[at.numpy()] += (moved > COUNTS**2 * size).numpy()
    return out
