"""Scored networks: the zoo and the samples as the evaluator sees them, each network with its task and its R2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int
from torch import Tensor

from netformer.artifacts import networks_of, r2_of
from netformer.errors import InputError
from netformer.evaluation.arms import ARMS, CONTROLS
from netformer.generation.merging import widen
from netformer.generation.refinement import distil
from netformer.networks.specs import Layout
from netformer.networks.stack import Networks
from netformer.tasks.scores import r2
from netformer.tasks.task import TEST, VALID, Task
from netformer.tasks.view import TaskStack, stack_tasks

SMALL_ROWS = 300


DISTIL_STEPS = 25


def sets_of(tasks: Sequence[Task]) -> dict[str, list[int]]:
    """The evaluation sets: positions in `tasks` by set name; empty sets are left out."""
    sets: dict[str, list[int]] = {name: [] for name in ("heldout_tasks", "heldout_family", "real_tables")}
    for index, task in enumerate(tasks):
        if task.source == "real":
            sets["real_tables"].append(index)
        elif task.family.startswith("friedman"):
            sets["heldout_family"].append(index)
        else:
            sets["heldout_tasks"].append(index)
    sets["real_tables_small"] = [i for i in sets["real_tables"] if len(tasks[i].y) <= SMALL_ROWS]
    return {name: indices for name, indices in sets.items() if indices}


@dataclass(frozen=True)
class Scored:
    """Trained networks: the task of each (a position in the stack of all tasks), that task's split, and train, valid
    and test R2."""

    networks: Networks
    task_index: Int[Tensor, " n"]
    split: np.ndarray
    r2: Float[Tensor, "n 3"]

    def part(self, split: str) -> Scored:
        """The networks of the tasks of one split. Raises InputError when there are none."""
        at = torch.from_numpy(np.flatnonzero(self.split == split))
        if not len(at):
            raise InputError(f"the zoo must hold networks of {split} tasks, found none; more tasks or a laxer filter")
        return Scored(self.networks[at], self.task_index[at], self.split[at.numpy()], self.r2[at])


def read_scored(table: pa.Table, tasks: Sequence[Task], networks: Networks) -> Scored:
    """`networks` with task and R2 from the rows of a table of the schema `artifacts.NETWORKS`."""
    rows = {task.task_id: row for row, task in enumerate(tasks)}
    index = torch.tensor([rows[task_id] for task_id in table["task_id"].to_pylist()], dtype=torch.int64)
    split = np.array([task.split for task in tasks])[index.numpy()]
    return Scored(networks, index, split, r2_of(table))


@dataclass(frozen=True)
class Samples:
    """What the `sample` stage wrote for the test tasks.

    networks: those of the arm `single`, by sampling seed, then task, then sample. r2: train, valid and test R2 of every
    arm in the same order, controls with one sample a task. expected: R2 of `networks` by leave-one-out on the train
    rows. task_index: the task of each network, a position in `tasks` and `stack`.
    """

    tasks: list[Task]
    stack: TaskStack
    networks: Networks
    task_index: Int[Tensor, " n"]
    r2: dict[str, Float[Tensor, "seeds t samples 3"]]
    expected: Float[Tensor, "seeds t samples"]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Sampling seeds, tasks, samples a task."""
        seeds, t, n, _ = self.r2["single"].shape
        return seeds, t, n

    def of_task(self, task: int) -> Networks:
        """The first sampling seed's networks of one task."""
        n = self.shape[2]
        return self.networks[slice(task * n, (task + 1) * n)]

    @property
    def first(self) -> Networks:
        """The delivered network of each task: first sampling seed, first sample."""
        _, t, n = self.shape
        return self.networks[slice(0, t * n, n)]

    def scores(self) -> dict[str, Float[np.ndarray, " t"]]:
        """Test R2 of our own rows on every task, means over the sampling seeds, and the known ceiling (or nan).

        single, raw and the controls: the first sample, the mode of the prior. drawn: the mean score of the other
        samples of `single`, if there are any. expected_best_n: chosen by leave-one-out on the train rows, the first
        network of `NetFormer.generate`. best_of_n: chosen by valid rows. average_n: the mean prediction. wide_n: the
        samples merged, their output layer solved jointly (`merging.widen`). distilled: one network of the first
        sample's spec, in `DISTIL_STEPS` steps toward the wide one.
        """
        seeds, t, n = self.shape
        single = self.r2["single"]
        result = {arm: values[:, :, 0, TEST].mean(0).numpy() for arm, values in self.r2.items()}
        if n > 1:
            result["drawn"] = single[:, :, 1:, TEST].mean((0, 2)).numpy()
        for name, known in (("expected_best", self.expected), ("best_of", single[..., VALID])):
            chosen = known.argmax(2, keepdim=True)
            result[f"{name}_{n}"] = single[..., TEST].gather(2, chosen).squeeze(2).mean(0).numpy()
        position = torch.arange(seeds * t * n).view(seeds, t, n)
        merged = {name: torch.zeros(t, dtype=torch.float64) for name in (f"average_{n}", f"wide_{n}", "distilled")}
        for at in torch.argsort(self.stack.n_rows, stable=True).split(16):
            stack = self.stack[at.repeat(seeds)].trim()
            networks = self.networks[position[:, at].flatten()]
            wide = widen(networks, stack, n)
            student = distil(wide, stack, torch.arange(len(stack)), networks[slice(0, None, n)], steps=DISTIL_STEPS)
            x = stack.x.repeat_interleave(n, 0)
            hidden = networks.hidden(x)[-1]  # the wide network has the same hidden layers
            for name, predicted in (
                (f"average_{n}", networks.output(hidden, x).view(len(stack), n, -1).mean(1)),
                (f"wide_{n}", wide.output(hidden, x).view(len(stack), n, -1).mean(1)),
                ("distilled", student.predict(stack.x)),
            ):
                merged[name][at] = r2(stack.y, predicted, stack.rows == TEST).view(seeds, -1).mean(0)
        result |= {name: values.numpy() for name, values in merged.items()}
        result["ceiling"] = np.array([task.ceiling for task in self.tasks])
        return result


def read_samples(table: pa.Table, tasks: Sequence[Task], layout: Layout, n_seeds: int, n_samples: int) -> Samples:
    """The samples of the test tasks. Raises InputError for a table of other params."""
    test = [task for task in tasks if task.split == "test"]
    arms = table["arm"].to_numpy(zero_copy_only=False)
    parts = {arm: table.filter(pa.array(arms == arm)) for arm in ARMS}
    for arm, part in parts.items():
        count = 1 if arm in CONTROLS else n_samples
        if len(part) != n_seeds * len(test) * count:
            raise InputError(
                f"samples of the arm {arm!r} must be {n_seeds} seeds x {len(test)} tasks x {count}, "
                f"found {len(part)}; run the stage sample again"
            )
    index = torch.arange(len(test)).repeat_interleave(n_samples).repeat(n_seeds)
    r2s = {arm: r2_of(part).view(n_seeds, len(test), -1, 3) for arm, part in parts.items()}
    networks = networks_of(parts["single"], layout)
    expected = torch.tensor(parts["single"]["expected_r2"].to_numpy()).view(n_seeds, len(test), n_samples)
    return Samples(test, stack_tasks(test, layout.max_features), networks, index, r2s, expected)
