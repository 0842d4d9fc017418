"""Worth: what a network of a given size is worth when its structure is chosen for the task, and when it is not.

Every network is written for its task, from the mode of the latent prior, and its output layer solved; only its
structure is another. One of these is chosen by leave-one-out error (`generation.structures`), the model's own under the
bound is cropped, the others are drawn, or chosen for another task.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from netformer.generation.generator import NetFormer
from netformer.generation.structures import Writing, dense, n_params, sizes
from netformer.model.grammar import read_structure
from netformer.model.prompt import Prompt
from netformer.networks.specs import WRITTEN, Specs, dense_mask
from netformer.tables.reading import read
from netformer.tasks.task import TEST, Task
from netformer.workers import map_parallel

BOUNDS = (30, 60, 120, 250, None)  # on parameters; None: none
LOSSES = (0.0, 0.005, 0.01, 0.02, 0.05)  # of R2 that the smallest network may have
CHOSEN, CROPPED, RANDOM, OTHER = "chosen", "cropped", "random", "of another task"
N_RANDOM = 4  # random structures per task and bound, whose mean counts
LEAST = 0.5  # of the bound that a random structure uses
SMALLEST = "smallest, max_loss {}"
COLUMNS = ["task", "family", "rows", "inputs", "bound", "method", "params", "reads", "units", "kind", "test_r2"]


def measure(some: Sequence[Task], bounds: Sequence[int | None] = BOUNDS, workers: int = 1) -> pd.DataFrame:
    """R2 on test rows, at least -1, of every method on every task under every bound that its inputs allow: `COLUMNS`.
    The structure of another task is that which was chosen for the one before."""
    asked = [(task, some[number - 1], tuple(bounds)) for number, task in enumerate(some)]
    return pd.DataFrame(
        [row for rows in map_parallel(_measured, asked, workers=workers) for row in rows], columns=COLUMNS
    )


@cache
def _package() -> NetFormer:
    return NetFormer.load()


class _Problem:
    """A task: what is fitted, and what is asked."""

    def __init__(self, task: Task) -> None:
        held = task.row_split == TEST
        self.reading, self.z, t = read(task.X[~held], task.y[~held])
        self.writing = Writing.of(_package(), self.z, t)
        self.asked = torch.from_numpy(self.reading.standardize(task.X[held])).float()
        self.known = self.reading.standardize_targets(task.y[held][:, None])[:, 0]

    def r2(self, specs: Specs) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Of each structure the R2 on test rows and by leave-one-out."""
        solved, expected = self.writing.solved(specs)
        answers = self.writing.folded(solved, self.z.shape[1]).predict(self.asked[None]).double().numpy()
        off = np.square(self.known - answers).mean(1) / max(float(self.known.var()), 1e-12)
        return np.maximum(-1.0, 1 - off), expected.numpy()


def _measured(asked: tuple[Task, Task, tuple[int | None, ...]]) -> list[tuple]:
    torch.set_num_threads(1)
    task, another, bounds = asked
    own, other = _Problem(task), _Problem(another)
    layout, used, order = own.writing.model.layout, own.writing.used, own.writing.order()
    facts = (task.task_id, task.family, len(own.z), task.X.shape[1])
    rows: list[tuple] = []

    def note(bound: int | None, method: str, specs: Specs, at: Sequence[int] | None = None) -> None:
        r2, _ = own.r2(specs)
        mask = specs.mask
        size, reads = mask.sum((1, 2)).float(), mask[:, :, 1 : 1 + layout.max_features].any(1).sum(1).float()
        kind = WRITTEN[int(specs.activations[0, 0])] if len(specs) == 1 else ""
        units = specs.widths.sum(1).float()
        means = (float(values.mean()) for values in (size, reads, units))
        rows.append((*facts, bound or 0, method, *means, kind, float(r2.mean())))

    rng = np.random.default_rng(len(own.z))
    for bound in bounds:
        if bound is not None and bound < n_params(used, 1):
            continue
        prompt = Prompt(bound)
        shapes = sizes(layout, used, prompt)
        _, expected = own.r2(dense(layout, order, shapes))
        note(bound, CHOSEN, dense(layout, order, [shapes[int(expected.argmax())]]))
        model, writing = own.writing.model, own.writing
        with torch.no_grad():
            logits = model.structure_logits(writing.z, writing.c)
        note(bound, CROPPED, read_structure(logits, writing.tasks.n_features, layout, prompt))
        note(bound, RANDOM, _random(own.writing, bound, rng))
        if bound is None or bound >= n_params(other.writing.used, 1):
            foreign = sizes(layout, other.writing.used, prompt)
            best = foreign[int(other.r2(dense(layout, other.writing.order(), foreign))[1].argmax())]
            note(bound, OTHER, _moved(own.writing, other.writing, best))
        if bound is None:
            params = np.array([n_params(reads, width) for reads, width, _ in shapes])
            for loss in LOSSES:
                enough = np.flatnonzero(expected >= expected.max() - loss)
                at = int(enough[np.lexsort((-expected[enough], params[enough]))[0]])
                note(bound, SMALLEST.format(loss), dense(layout, order, [shapes[at]]))
    return rows


def _moved(own: Writing, other: Writing, shape: tuple[int, int, str]) -> Specs:
    """The structure of another task: its size, and the places in canonical order of the inputs that it reads; of places
    that this task has not, its first."""
    reads, width, kind = shape
    places = [int(place) for place in other.order() if int(place) < own.used][:reads] or [0]
    rest = [place for place in range(own.used) if place not in places]
    return dense(own.model.layout, torch.tensor(places + rest), [(len(places), width, kind)])


def _random(writing: Writing, bound: int | None, rng: np.random.Generator) -> Specs:
    """Dense structures of one or two hidden layers drawn evenly from those that use at least `LEAST` of the bound and
    keep it."""
    layout, f = writing.model.layout, writing.used
    width = range(1, layout.max_width + 1)
    every = {(a, 0): n_params(f, a) for a in width}
    if layout.max_hidden_layers > 1:
        every |= {(a, b): (f + 1) * a + (a + 1) * b + b + 1 + f for a in width for b in width}
    most = max(every.values()) if bound is None else bound
    fitting = [shape for shape, size in every.items() if LEAST * most <= size <= most] or [(1, 0)]
    drawn = torch.tensor([fitting[i] for i in rng.integers(0, len(fitting), N_RANDOM)])
    widths = torch.zeros(N_RANDOM, layout.max_hidden_layers, dtype=torch.int64)
    widths[:, : drawn.shape[1]] = drawn[:, : layout.max_hidden_layers]
    kinds = torch.from_numpy(rng.integers(0, len(WRITTEN), widths.shape)) * (widths > 0)
    yes, n_inputs = torch.ones(N_RANDOM, dtype=torch.bool), torch.full((N_RANDOM,), f)
    return Specs(n_inputs, widths, kinds, dense_mask(layout, n_inputs, widths, yes, yes))


def summary(measured: pd.DataFrame) -> dict[str, float]:
    """`structure.BOUND.METHOD`: mean R2 over the tasks that have all methods. `.gain` of a method: R2 of the chosen
    structure minus that of the method, paired, with its standard error `.gain_se`. `structure.BOUND.loss`: what the
    chosen one lacks to the chosen one without a bound, on the same tasks. `smallest.LOSS`: mean R2, median of the
    parameters, and minus the free network as the model writes it."""
    found: dict[str, float] = {}
    free = measured.query("bound == 0").pivot(index="task", columns="method", values="test_r2")
    for bound, part in measured.groupby("bound", sort=False):
        name = "structure.free" if bound == 0 else f"structure.{bound!s}"
        table = part.pivot(index="task", columns="method", values="test_r2")
        table = table[[CHOSEN, CROPPED, RANDOM, OTHER]].dropna()
        found[f"{name}.tasks"] = float(len(table))
        for method in table:
            found[f"{name}.{method}"] = float(table[method].mean())
            if method != CHOSEN:
                found |= _paired(f"{name}.{method}.gain", table[CHOSEN] - table[method])
        if bound:
            found |= _paired(f"{name}.loss", free.loc[table.index, CHOSEN] - table[CHOSEN])
    sizes_of = measured.query("bound == 0").pivot(index="task", columns="method", values="params")
    for method in [CROPPED, *(SMALLEST.format(loss) for loss in LOSSES)]:
        name = "smallest.free" if method == CROPPED else f"smallest.{str(method).split()[-1]}"
        found |= {f"{name}.r2": float(free[method].mean()), f"{name}.params": float(sizes_of[method].median())}
        if method != CROPPED:
            found |= _paired(f"{name}.minus_free", free[method] - free[CROPPED])
    return found


def _paired(name: str, difference: pd.Series) -> dict[str, float]:
    return {name: float(difference.mean()), f"{name}_se": float(difference.std() / np.sqrt(len(difference)))}
