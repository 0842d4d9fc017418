"""Scored networks: the zoo and the samples as the evaluator sees them, each network with its task and its R2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int
from torch import Tensor

from netformer.artifacts import NETWORKS, conform, networks_of, r2_of
from netformer.errors import InputError
from netformer.evaluation.arms import ARMS, DRAWN, positions_of_test, runs_of
from netformer.generation.merging import widen
from netformer.generation.refinement import distil
from netformer.networks.specs import Layout
from netformer.networks.stack import Networks
from netformer.networks.token_tables import detokenize_networks
from netformer.tasks.scores import r2
from netformer.tasks.task import TEST, VALID, Task
from netformer.tasks.view import TaskStack, stack_tasks
from netformer.workers import map_parallel
from netformer.zoo.load import conform_tokens

SMALL_ROWS = 300
DISTIL_STEPS = 25
_SCORES = [NETWORKS.field(name) for name in ("train_r2", "valid_r2", "test_r2")]
_OF_ZOO = pa.schema([NETWORKS.field("net_id"), NETWORKS.field("task_id"), *_SCORES])
_OF_SAMPLES = pa.schema([NETWORKS.field("arm"), *_SCORES, ("expected_r2", pa.float64())])


def sets_of(tasks: Sequence[Task]) -> dict[str, list[int]]:
    """The evaluation sets: positions in `tasks` of the problems of each set; empty sets are left out.

    A problem is a table; it stands at its first task (`repeat` 0), the tasks of its other row splits are passed over.
    """
    sets: dict[str, list[int]] = {name: [] for name in ("heldout_tasks", "heldout_family", "real_tables")}
    for index, task in enumerate(tasks):
        if task.repeat:
            continue
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


def read_scored(zoo: pa.Table, tokens: pa.Table, tasks: Sequence[Task], layout: Layout) -> Scored:
    """The networks of the token table with task and R2 from the zoo's rows, schema `artifacts.NETWORKS`.

    Raises InputError as `conform` and `conform_tokens` do, and when the two tables do not hold the same networks in the
    same order, or tasks other than these.
    """
    conform(zoo, _OF_ZOO, "zoo.parquet")
    conform(tokens, pa.schema([_OF_ZOO.field("net_id")]), "tokens.parquet")
    if not zoo["net_id"].equals(tokens["net_id"]):
        raise InputError(
            f"zoo.parquet and tokens.parquet must hold the same networks in the same order, found {len(zoo)} and "
            f"{len(tokens)} with net_id that differ; run the stage tokenize again"
        )
    rows = {task.task_id: row for row, task in enumerate(tasks)}
    ids = zoo["task_id"].to_pylist()
    if unknown := [task_id for task_id in ids if task_id not in rows]:
        raise InputError(
            f"zoo.parquet must hold networks of these tasks, found {unknown[0]!r}; run the stage zoo again"
        )
    index = torch.tensor([rows[task_id] for task_id in ids], dtype=torch.int64)
    split = np.array([task.split for task in tasks])[index.numpy()]
    return Scored(detokenize_networks(conform_tokens(tokens, "tokens.parquet"), layout), index, split, r2_of(zoo))


@dataclass(frozen=True)
class Samples:
    """What the `sample` stage wrote for the test tasks.

    tasks, stack: the test tasks in the order of `positions_of_test`, so that the first task of problem i (a table) is
    at i. runs: see `runs_of`. networks: by run, then problem, then sample; the first sample of a task is the mode of
    the prior, the same in all runs on it. task_index: the task of each network, a position in `tasks`. r2: train, valid
    and test R2 of every arm in the same order, controls and raw with one sample. expected: R2 of `networks` by
    leave-one-out on the train rows.
    """

    tasks: list[Task]
    stack: TaskStack
    runs: Int[Tensor, "runs problems"]
    networks: Networks
    task_index: Int[Tensor, " n"]
    r2: dict[str, Float[Tensor, "runs problems samples 3"]]
    expected: Float[Tensor, "runs problems samples"]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Runs of a problem, problems, samples of a run."""
        runs, t, n, _ = self.r2["single"].shape
        return runs, t, n

    def of_task(self, task: int) -> Networks:
        """The networks of the first run on one task."""
        n, start = self.shape[2], int(self.first_at[task])
        return self.networks[slice(start, start + n)]

    @property
    def first_at(self) -> Int[Tensor, " tasks"]:
        """Where in `networks` those of the first run on each task begin."""
        at = np.unique(self.runs.flatten().numpy(), return_index=True)[1]
        return torch.from_numpy(at) * self.shape[2]

    @property
    def first(self) -> Networks:
        """The delivered network of each task: its first sample."""
        return self.networks[self.first_at]

    @property
    def wide_units(self) -> Int[Tensor, " tasks"]:
        """Hidden units under the output layer of each task's wide network (`merging.widen`), in the first run on it."""
        specs = self.networks.specs
        last = specs.widths.gather(1, specs.depth.unsqueeze(1) - 1).squeeze(1)
        return last[self.first_at.unsqueeze(1) + torch.arange(self.shape[2])].sum(1)

    @property
    def splits(self) -> Int[Tensor, " problems"]:
        """Row splits of each problem: 1, or as many as it has runs."""
        return torch.tensor([len(column.unique()) for column in self.runs.T])

    def over_runs(self, values: Float[np.ndarray, " tasks"]) -> Float[np.ndarray, " problems"]:
        """Mean over the tasks of each problem of a number per task."""
        return values[self.runs.numpy()].mean(0)

    def scores(self, workers: int = 1) -> dict[str, Float[np.ndarray, " problems"]]:
        """Test R2 of our own rows on every problem, means over its runs, and the known ceiling (or nan).

        single, raw and the controls: the first sample, the mode of the prior. drawn: the mean score of the other
        samples of `single`, if there are any. expected_best_n: chosen by leave-one-out on the train rows, the first
        network of `NetFormer.generate`. best_of_n: chosen by valid rows. average_n, wide_n, distilled: see `_merged`.
        workers: processes that share what is merged.
        """
        n, single = self.shape[2], self.r2["single"]
        result = {arm: values[:, :, 0, TEST].mean(0).numpy() for arm, values in self.r2.items()}
        if n > 1:
            result["drawn"] = single[:, :, 1:, TEST].mean((0, 2)).numpy()
        for name, known in (("expected_best", self.expected), ("best_of", single[..., VALID])):
            chosen = known.argmax(2, keepdim=True)
            result[f"{name}_{n}"] = single[..., TEST].gather(2, chosen).squeeze(2).mean(0).numpy()
        result |= self._merged(workers)
        result["ceiling"] = self.over_runs(np.array([task.ceiling for task in self.tasks]))
        return result

    def _merged(self, workers: int, chunk: int = 16) -> dict[str, Float[np.ndarray, " problems"]]:
        """Test R2 of the samples of a run together, means over the runs of each problem.

        average_n: the mean prediction. wide_n: the samples merged, their output layer solved jointly
        (`merging.widen`). distilled: one network of the first sample's spec, in `DISTIL_STEPS` steps toward the wide
        one. chunk: problems at a time, those of most rows first.
        """
        _, t, n = self.shape
        parts = torch.argsort(self.stack.n_rows[:t], stable=True).split(chunk)[::-1]
        found = map_parallel(_merged_r2, _Parts(self, parts), workers=workers)
        merged = {name: torch.zeros(t, dtype=torch.float64) for name in (f"average_{n}", f"wide_{n}", "distilled")}
        for at, scores in zip(parts, found, strict=True):
            for name, values in zip(merged, scores, strict=True):
                merged[name][at] = values
        return {name: values.numpy() for name, values in merged.items()}


@dataclass(frozen=True)
class _Parts(Sequence):
    """The tasks and networks of some problems, all runs, taken out of the samples when a process asks for them."""

    samples: Samples
    parts: Sequence[Int[Tensor, " k"]]

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: Any) -> tuple[TaskStack, Networks, int, int]:
        samples, at = self.samples, self.parts[index]
        runs, t, n = samples.shape
        position = torch.arange(runs * t * n).view(runs, t, n)[:, at].flatten()
        stack = samples.stack[samples.runs[:, at].flatten()].trim()
        return stack, samples.networks[position], runs, n


def _merged_r2(part: tuple[TaskStack, Networks, int, int]) -> list[Float[Tensor, " problems"]]:
    """The three rows of `Samples._merged` for one of `_Parts`."""
    stack, networks, runs, n = part
    wide = widen(networks, stack, n)
    student = distil(wide, stack, torch.arange(len(stack)), networks[slice(0, None, n)], steps=DISTIL_STEPS)
    x = stack.x.repeat_interleave(n, 0)
    hidden = networks.hidden(x)[-1]  # the wide network has the same hidden layers
    answers = [
        networks.output(hidden, x).view(len(stack), n, -1).mean(1),
        wide.output(hidden, x).view(len(stack), n, -1).mean(1),
        student.predict(stack.x),
    ]
    return [r2(stack.y, predicted, stack.rows == TEST).view(runs, -1).mean(0).double() for predicted in answers]


def read_samples(table: pa.Table, tasks: Sequence[Task], layout: Layout, n_seeds: int, n_samples: int) -> Samples:
    """The samples of the test tasks. Raises InputError as `conform` does, and for a table of other params."""
    conform(table, _OF_SAMPLES, "samples.parquet")
    test = [tasks[i] for i in positions_of_test(tasks)]
    runs = runs_of(test, n_seeds)
    problems, rest = runs.shape[1], n_samples - 1
    arms = table["arm"].to_numpy(zero_copy_only=False)
    at = {arm: torch.from_numpy(np.flatnonzero(arms == arm)) for arm in (*ARMS, DRAWN)}
    for arm, rows in at.items():
        count = (n_seeds, problems, rest) if arm == DRAWN else (1, len(test), 1)
        if len(rows) != np.prod(count):
            raise InputError(
                f"samples of the arm {arm!r} must be {count[0]} seeds x {count[1]} tasks x {count[2]}, "
                f"found {len(rows)}; run the stage sample again"
            )
    every = torch.cat([at["single"][runs].unsqueeze(2), at[DRAWN].view(n_seeds, problems, rest)], 2)
    scored, expected = r2_of(table), torch.from_numpy(table["expected_r2"].to_numpy().copy())
    r2s = {arm: scored[at[arm][runs]].unsqueeze(2) for arm in ARMS} | {"single": scored[every]}
    networks = networks_of(table.take(pa.array(every.flatten().numpy())), layout)
    index = runs.unsqueeze(2).expand(-1, -1, n_samples).flatten()
    return Samples(test, stack_tasks(test, layout.max_features), runs, networks, index, r2s, expected[every])
