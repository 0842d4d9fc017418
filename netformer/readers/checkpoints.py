"""Checkpoints: networks of a zoo along their training, and what their weights say of how far it has come.

A checkpoint after k steps is what training would have delivered then: the first k of all steps, at the rates of all of
them, and of these the weights that did best on valid rows. The last one is the network of the zoo, to the bit, or the
zoo was drawn with other parameters. Rows are those of the zoo's file, so that `zoo.load.load_zoo` reads them; the step
stands in `arm`, as "step 150", and `net_id` says of which network it is.

Asked of a checkpoint: how many steps it has seen (`step`, log10), its test R2, and the test R2 of the network at the
end (`final_r2`), which is to be told early.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from jaxtyping import Float, Int
from sklearn.ensemble import HistGradientBoostingRegressor

from netformer.artifacts import NETWORKS, networks_table
from netformer.errors import InputError
from netformer.networks.stack import Networks
from netformer.networks.symmetry import canonicalize
from netformer.readers.boosted import NUMBER_TREES, weight_statistics
from netformer.readers.questions import FEW, SEEDS, score_of
from netformer.tasks.scores import scores
from netformer.tasks.task import Task
from netformer.tasks.view import stack_tasks
from netformer.zoo.build import initialize, train_networks
from netformer.zoo.load import Zoo, load_zoo
from netformer.zoo.schedule import learning_rate

SHARES = (1 / 30, 0.1, 0.2, 0.4, 0.7, 1.0)  # of the steps, after which there is a checkpoint
EVALUATIONS = 10  # of valid rows in the whole training, as the zoo has them
FITTED = 0.8  # of the networks to fit that a seed draws
ARM = "step "  # of a row, before the number


def along_training(
    zoo: Zoo,
    tasks: Mapping[str, Task],
    optimizer: Mapping[str, Any],
    *,
    seed: int,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> pa.Table:
    """The networks of a zoo after `SHARES` of their training, a row each, in order of steps and then of the zoo.

    tasks: by id. optimizer, seed: those the zoo was trained with. workers: threads. progress: called with (steps done,
    in all). Raises InputError where the last checkpoints are not the networks of the zoo.
    """
    names = sorted(set(zoo.task_ids))
    stack = stack_tasks([tasks[name] for name in names], zoo.networks.layout.max_features)
    index = torch.tensor([names.index(name) for name in zoo.task_ids])
    seeds = torch.from_numpy(zoo.table["init_seed"].to_numpy().copy())
    total, rest = int(optimizer["steps"]), {k: v for k, v in optimizer.items() if k not in ("steps", "lr")}
    every = max(1, total // EVALUATIONS)
    steps = sorted({max(1, round(share * total)) for share in SHARES})
    rate = partial(learning_rate, steps=total, peak=float(optimizer["lr"]))
    parts, done = [], 0
    for k in steps:
        begun = initialize(zoo.networks.specs, seeds)
        trained = train_networks(
            begun, stack, index, steps=k, lr=rate, evaluations=k // every, seed=seed, workers=workers, **rest
        )
        r2 = scores(trained, stack, index)
        part = networks_table(trained, zoo.task_ids, r2=r2, arm=[f"{ARM}{k}"] * len(zoo), init_seed=seeds)
        parts.append(part.set_column(0, NETWORKS.field("net_id"), zoo.table["net_id"]))
        done += k
        if progress is not None:
            progress(done, sum(steps))
    if not torch.equal(trained.weight, zoo.networks.weight):
        other = int((trained.weight != zoo.networks.weight).any((1, 2)).sum())
        raise InputError(f"{other} of {len(zoo)} networks end in other weights; give the parameters of the zoo")
    return pa.concat_tables(parts)


@dataclass(frozen=True, eq=False)
class Checkpoints:
    """Networks along training, a row of each array per checkpoint.

    networks: in canonical form. step: after so many. net: number of the network in the zoo. task_id: its task. r2: on
    train, valid and test rows; final_r2: on test rows at the end of its training.
    """

    networks: Networks
    step: Int[np.ndarray, " n"]
    net: Int[np.ndarray, " n"]
    task_id: np.ndarray
    r2: Float[np.ndarray, "n 3"]
    final_r2: Float[np.ndarray, " n"]

    def at(self, step: int) -> Checkpoints:
        """Those after so many steps. Raises InputError where there are none."""
        some = self.step == step
        if not some.any():
            known = ", ".join(map(str, np.unique(self.step).tolist()))
            raise InputError(f"step must be one of {known}, got {step!r}")
        parts = (self.step, self.net, self.task_id, self.r2, self.final_r2)
        return Checkpoints(self.networks[torch.from_numpy(some)], *(part[some] for part in parts))


def load_checkpoints(path: str | Path = "data/zoo_checkpoints.parquet") -> Checkpoints:
    """The checkpoints of a file that `along_training` made. Raises InputError as `load_zoo` does, for networks that are
    not there at every step, and for another file of networks."""
    zoo = load_zoo(path)
    arm = zoo.table["arm"].to_pylist()
    if not all(name.startswith(ARM) and name[len(ARM) :].isdigit() for name in arm):
        raise InputError(f"{path}: holds no checkpoints; make them by python -m stages.zoo_checkpoints")
    step = np.array([int(name[len(ARM) :]) for name in arm])
    net, r2 = zoo.table["net_id"].to_numpy(), zoo.r2.numpy()
    last = step == step.max()
    order = np.argsort(net[last], kind="stable")
    known, ends = net[last][order], r2[last, 2][order]
    at = np.searchsorted(known, net).clip(max=len(known) - 1)
    if (known[at] != net).any() or len(net) != len(known) * len(np.unique(step)):
        raise InputError(f"{path}: every network must be there at every step; make the file again")
    return Checkpoints(canonicalize(zoo.networks), step, net, np.array(zoo.task_ids), r2, ends[at])


def told(checkpoints: Checkpoints, held_out: Sequence[str]) -> pd.DataFrame:
    """What readers tell, a row per question, steps, reader and seed, with R2 and Kendall's tau.

    Fitted on networks of other tasks than `held_out`, judged on networks of these. Readers: the mean; boosting on
    `weight_statistics`; the same, and the R2 on train rows at that step. steps: 0 for all checkpoints together, which
    the question `step` is asked of.
    """
    held = np.isin(checkpoints.task_id, list(held_out))
    features = {"weight statistics, boosted": weight_statistics(checkpoints.networks)}
    features["statistics and train score"] = np.column_stack([*features.values(), checkpoints.r2[:, 0]])
    asked = [("step", 0, np.log10(checkpoints.step))]
    for k in np.unique(checkpoints.step).tolist():
        asked += [("test_r2", k, checkpoints.r2[:, 2]), ("final_r2", k, checkpoints.final_r2)]
    rows = []
    for question, k, answers in asked:
        some = np.ones(len(held), bool) if k == 0 else checkpoints.step == k
        fit, test = np.flatnonzero(some & ~held), np.flatnonzero(some & held)
        if min(len(fit), len(test)) < FEW:
            raise InputError(f"{FEW} networks to fit and to judge on are needed, found {len(fit)} and {len(test)}")
        for seed in range(SEEDS):
            drawn = np.sort(np.random.default_rng(seed).choice(fit, round(FITTED * len(fit)), replace=False))
            given = {"mean": np.full(len(test), answers[drawn].mean())}
            for name, known in features.items():
                learner = HistGradientBoostingRegressor(max_iter=NUMBER_TREES, random_state=seed)
                given[name] = learner.fit(known[drawn], answers[drawn]).predict(known[test])
            about = {"question": question, "steps": k, "seed": seed}
            rows += [about | {"reader": name} | score_of(answers[test], one) for name, one in given.items()]
    return pd.DataFrame(rows)


def summary(found: pd.DataFrame) -> pd.DataFrame:
    """R2 and tau of `told`, the mean over seeds: a row per question and steps, a column per score and reader."""
    return found.pivot_table(values=["r2", "tau"], index=["question", "steps"], columns="reader", sort=False).round(3)
