"""Table: the search for a table as users hold it, and its front as networks in their units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.base import BaseEstimator

from netformer.errors import InputError
from netformer.exports.classes import n_outputs_of
from netformer.exports.population import Population
from netformer.generation.classes import discriminant_targets, indicators, relabelled
from netformer.generation.generator import NetFormer
from netformer.networks.stack import Networks
from netformer.search.classes import ClassHead
from netformer.search.engine import Found, search
from netformer.search.problem import SearchTask
from netformer.search.scoring import Scored
from netformer.tables.columns import MIN_FREQUENCY
from netformer.tables.reading import MOST_MEANS, Reading, read, read_classes
from netformer.tasks.task import class_order

SOLVED_ROWS = 8192  # of a table with classes, that output layers are solved on, at most


class Search(BaseEstimator):
    """How `NetFormerRegressor(search=...)` and `NetFormerClassifier(search=...)` search; parameters are those of
    `engine.search`.

    It has no `fit` of its own: an object of settings, which scikit-learn clones, and sets as `search__evaluations`.
    objectives should hold "error": what is delivered is the network of the front with the least.
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

    def class_front(
        self,
        model: NetFormer,
        X: Any,
        codes: Int[np.ndarray, " rows"],
        classes: tuple[Any, ...],
        *,
        weight: Float[np.ndarray, " rows"],
        target: str,
        min_frequency: int,
        seed: int,
    ) -> Population:
        """The front of `search_classes` for a table. Raises InputError as it does."""
        how = self.get_params(deep=False) | {"weight": weight, "target": target, "min_frequency": min_frequency}
        return search_classes(model, X, codes, classes, how.pop("objectives"), seed=seed, **how)[1]


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
        raise InputError(f"{target!r} has classes; search them by netformer.search.table.search_classes")
    if not t.any():
        raise InputError("y must not be constant: there is nothing to learn")
    return task_for(model, reading, z, t, model.metafeatures_of(reading, X, y)), reading


def task_for(
    model: NetFormer,
    reading: Reading,
    z: Float[np.ndarray, "rows inputs"],
    t: Float[np.ndarray, " rows"],
    metafeatures: Float[torch.Tensor, "1 k"] | None = None,
) -> SearchTask:
    """The task of a table that is read. z, t: its inputs and target, standardised. metafeatures: as `SearchTask.of`
    takes them, which raises InputError where no column varies."""
    task, seen = model.task_of(z, t, reading.kinds)
    column = _columns(reading, task.views.columns[0], int(task.n_features[0]))
    return SearchTask.of(model.model, task, column, z.shape[1], metafeatures, seen)


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
    best, front, about = delivered(found, len(reading.inputs))
    return found, Population(reading, front, 1 - best.error, about={"search": about})


def delivered(found: Found, n_inputs: int) -> tuple[Scored, Networks, dict[str, Any]]:
    """The front of a search: as scored; as networks on the inputs of the table, of which there are so many; and what
    is noted of it. Raises InputError where no candidate keeps the constraints."""
    if len(found.front) == 0:
        raise InputError(
            f"none of {len(found.values)} candidates keeps the constraints; loosen them or ask for more evaluations"
        )
    best = found.networks(found.front)
    front = found.space.task.rows.views.fold_standardized(best.networks, n_inputs)
    about = {"objectives": list(found.names), "values": best.values.tolist(), "evaluations": len(found.values)}
    return best, front, about


def task_of_classes(
    model: NetFormer,
    X: Any,
    codes: Int[np.ndarray, " rows"],
    classes: tuple[Any, ...],
    *,
    weight: Float[np.ndarray, " rows"] | None = None,
    columns: Sequence[str] | None = None,
    target: str = "y",
    min_frequency: int = MIN_FREQUENCY,
) -> tuple[SearchTask, Reading]:
    """The task that a table with classes is, and how it is read. Networks are written for the indicator of one of two
    classes, of more for the direction in which their means differ most (`generation.classes.discriminant_targets`).
    Classes are in an order of their own (`tasks.task.class_order`), so that other labels give the same search.

    codes: the number of each row's class in `classes`, which hold labels; every class has a row. weight: of the rows,
    None: all alike. The others: see `reading.read_classes`. Raises InputError as it does, where no column varies, and
    for a model without torch.
    """
    model.require_torch("a search")
    place = np.argsort(class_order(codes, len(classes)))[codes]
    shown = indicators(place, len(classes))
    reading, z = read_classes(X, shown[:MOST_MEANS], classes, columns, target, min_frequency)
    t = shown[0]
    if n_outputs_of(len(classes)) > 1 and z.any():
        t = np.concatenate([discriminant_targets(z, place, 1), shown])[0]
    step = -(-len(z) // SOLVED_ROWS)
    made = task_for(model, reading, z[::step], t[::step], model.metafeatures_of(reading, X, t))
    mass = np.ones(len(codes)) if weight is None else weight
    head = ClassHead.of(made.rows.x[0], place[::step], len(classes), mass[::step])
    return replace(made, head=head), reading


def search_classes(
    model: NetFormer,
    X: Any,
    codes: Int[np.ndarray, " rows"],
    classes: tuple[Any, ...],
    objectives: Sequence[Any] = ("error", "params"),
    *,
    weight: Float[np.ndarray, " rows"] | None = None,
    columns: Sequence[str] | None = None,
    target: str = "y",
    min_frequency: int = MIN_FREQUENCY,
    **options: Any,
) -> tuple[Found, Population]:
    """`search_table` for a target of classes; `about["log_loss"]`: of rows left out, of the network chosen.
    Arguments: see `task_of_classes` and `engine.search`. Raises InputError as they do."""
    how: dict[str, Any] = {"weight": weight, "columns": columns, "target": target, "min_frequency": min_frequency}
    task, reading = task_of_classes(model, X, codes, classes, **how)
    found = search(task, objectives, **options)
    best, front, about = delivered(found, len(reading.inputs))
    chosen = int(best.error.argmin())
    assert isinstance(task.head, ClassHead)
    loss = float(best.error[chosen]) * task.head.plain_loss
    front = relabelled(front.numpy(), np.argsort(class_order(codes, len(classes))))
    unknown = torch.full((len(front),), torch.nan)
    said = {"search": about | {"chosen": chosen}, "log_loss": loss}
    return found, Population(reading, front, unknown, about=said)
