"""Table: the search for a table as users hold it, and its front as networks in their units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int
from sklearn.base import BaseEstimator

from netformer.errors import InputError
from netformer.exports.population import Population
from netformer.generation.generator import NetFormer
from netformer.search.engine import Found, search
from netformer.search.problem import SearchTask
from netformer.tables.columns import MIN_FREQUENCY
from netformer.tables.reading import Reading, read


class Search(BaseEstimator):
    """How `NetFormerRegressor(search=...)` searches; parameters are those of `engine.search`.

    It has no `fit` of its own: an object of settings, which scikit-learn clones, and sets as `search__evaluations`.
    objectives should hold "error": the regressor delivers the network of the front with the least.
    """

    def __init__(
        self,
        objectives: Sequence[Any] = ("error", "params"),
        constraints: Mapping[str, Any] | None = None,
        space: str = "both",
        algorithm: Any = "nsga2",
        evaluations: int = 2000,
        population: int = 100,
        workers: int = 1,
    ) -> None:
        self.objectives = objectives
        self.constraints = constraints
        self.space = space
        self.algorithm = algorithm
        self.evaluations = evaluations
        self.population = population
        self.workers = workers

    def front(self, model: NetFormer, X: Any, y: Any, *, target: str, min_frequency: int, seed: int) -> Population:
        """The front of `search_table` for a table. Raises InputError as it does."""
        how = self.get_params(deep=False)
        return search_table(
            model, X, y, how.pop("objectives"), target=target, min_frequency=min_frequency, seed=seed, **how
        )[1]


def task_of_table(
    model: NetFormer,
    X: Any,
    y: Any,
    columns: Sequence[str] | None = None,
    target: str = "y",
    min_frequency: int = MIN_FREQUENCY,
) -> tuple[SearchTask, Reading]:
    """The task that a table is, every row a train row, and how it is read; of many rows and inputs some, see
    `NetFormer.task_of`.

    X, y, columns, target, min_frequency: see `tables.reading.read`. Raises InputError as `read` does, and for a target
    of one value, or a model without torch.
    """
    model.require_torch("a search")
    reading, z, t = read(X, y, columns, target, min_frequency)
    if reading.classes:
        raise InputError(f"a search is for a target of numbers, {target!r} has classes")
    if not t.any():
        raise InputError("y must not be constant: there is nothing to learn")
    task, seen = model.task_of(z, t, reading.kinds)
    column = _columns(reading, task.views.columns[0], int(task.n_features[0]))
    return SearchTask.of(model.model, task, column, z.shape[1], model.known(reading, X, y), seen), reading


def _columns(reading: Reading, at: Int[torch.Tensor, " features"], used: int) -> Int[torch.Tensor, " features"]:
    """The column of each canonical input, numbered among those that are read; -1: not in use."""
    of = [reading.inputs[i].column for i in at[:used].tolist()]
    number = {column: k for k, column in enumerate(dict.fromkeys(of))}
    return torch.tensor([number[column] for column in of] + [-1] * (len(at) - used))


def search_table(
    model: NetFormer,
    X: Any,
    y: Any,
    objectives: Sequence[Any] = ("error", "params"),
    *,
    columns: Sequence[str] | None = None,
    target: str = "y",
    min_frequency: int = MIN_FREQUENCY,
    **options: Any,
) -> tuple[Found, Population]:
    """Search networks for a table; returns all candidates and the front as a population, in its order.

    options: of `search`. The others: see `task_of_table`. A network's values are under `about["search"]`. Raises
    InputError as they do, and where no candidate keeps the constraints.
    """
    task, reading = task_of_table(model, X, y, columns, target, min_frequency)
    found = search(task, objectives, **options)
    if len(found.front) == 0:
        raise InputError(
            f"none of {len(found.values)} candidates keeps the constraints; loosen them or ask for more evaluations"
        )
    best = found.networks(found.front)
    front = task.rows.views.fold_standardized(best.networks, len(reading.inputs))
    about = {"objectives": list(found.names), "values": best.values.tolist(), "evaluations": len(found.values)}
    return found, Population(reading, front, 1 - best.error, about={"search": about})
