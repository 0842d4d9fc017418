"""Objectives: what networks are searched for, each to be made small, by name or as a function of one's own.

An objective of one's own is any callable (networks, task) -> (n,) finite numbers, with `networks` the candidates in
canonical coordinates, output layers solved, and `task` the `SearchTask`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from netformer.errors import InputError
from netformer.networks.specs import Specs, dense_mask
from netformer.networks.stack import Networks
from netformer.search.problem import SearchTask
from netformer.tasks.task import VALID

Values = Callable[[Networks, SearchTask], Any]
MOST_OBJECTIVES = 4  # that the hypervolume is computed of
NOISE, NOISY_ROWS = 0.1, 256  # standard deviation of the noise on inputs; rows it is put on
BYTES = 4  # of a weight in C, a float
WORST = 10.0  # of an error that is not finite


@dataclass(frozen=True, eq=False)
class Objective:
    """name: as in tables. values: None for the error of rows left out, which is known before. log: a decade counts as
    much as the next in the hypervolume. limits: ends of its scale there, best and worst; None: the best and worst of
    the first generation."""

    name: str
    values: Values | None
    log: bool = False
    limits: Callable[[SearchTask], tuple[float, float]] | None = None


def edges(networks: Networks, task: SearchTask | None = None) -> Int[Tensor, " n"]:
    """Edges that are no biases."""
    return networks.specs.mask[:, :, 1:].sum((1, 2))


def columns(networks: Networks, task: SearchTask) -> Int[Tensor, " n"]:
    """Columns of the table that a network reads."""
    f = networks.layout.max_features
    reads = networks.specs.mask[:, :, 1 : 1 + f].any(1)
    of = torch.arange(task.n_columns).unsqueeze(1) == task.column  # columns, features
    return (reads.unsqueeze(1) & of).any(2).sum(1)


def multiply_adds(networks: Networks, task: SearchTask) -> Int[Tensor, " n"]:
    """Multiplications per row of the network as C: its layers are dense, and read every input of the table."""
    specs, n = networks.specs, task.n_inputs
    before = torch.cat([torch.full_like(specs.widths[:, :1], n), specs.widths[:, :-1]], 1)
    last = specs.widths.gather(1, specs.depth.unsqueeze(1) - 1).squeeze(1)
    return (before * specs.widths).sum(1) + specs.n_outputs * (last + specs.skip * n)


def c_bytes(networks: Networks, task: SearchTask) -> Int[Tensor, " n"]:
    """Bytes of the weights in the C file, as floats: its layers are dense, each unit and each output with a bias."""
    return BYTES * (multiply_adds(networks, task) + networks.specs.widths.sum(1) + networks.specs.n_outputs)


def robustness(networks: Networks, task: SearchTask) -> Float[Tensor, " n"]:
    """How far answers move with noise of `NOISE` on every input: the mean square of it over the variance of y, on the
    first `NOISY_ROWS` train rows, the same noise for all networks. Of classes the answers are probabilities."""
    x = task.rows.train_only().x[:, :NOISY_ROWS]
    drawn = torch.from_numpy(np.random.default_rng(0).standard_normal(tuple(x.shape))).to(x.dtype)
    used = (task.column >= 0).to(x.dtype)
    noisy = x + NOISE * drawn * used
    if task.head is not None:
        return task.head.moved(networks, x, noisy)
    moved = networks.predict(noisy) - networks.predict(x)
    return moved.square().mean(1)


def valid_error(networks: Networks, task: SearchTask) -> Float[Tensor, " n"]:
    """Mean squared error on the valid rows over the variance of y there. Raises InputError without valid rows."""
    keep = task.rows.rows[0] == VALID
    if int(keep.sum()) < 2:
        raise InputError(f"valid_error needs at least 2 valid rows, got {int(keep.sum())}")
    y = task.rows.y[0, keep]
    error = (networks.predict(task.rows.x[:, keep]) - y).square().mean(1)
    return error / (y - y.mean()).square().mean().clamp(min=1e-12)


def _sizes(values: Values) -> Callable[[SearchTask], tuple[float, float]]:
    def limits(task: SearchTask) -> tuple[float, float]:
        least, most = (float(values(one, task)[0]) for one in (smallest(task), _largest(task)))
        return least, max(most, 2 * least)

    return limits


def _n_params(networks: Networks, task: SearchTask) -> Int[Tensor, " n"]:
    return networks.specs.n_params


def _unit(task: SearchTask) -> tuple[float, float]:
    return 0.0, 1.0


OBJECTIVES: Mapping[str, Objective] = {
    one.name: one
    for one in (
        Objective("error", None, limits=_unit),
        Objective("valid_error", valid_error, limits=_unit),
        Objective("params", _n_params, True, _sizes(_n_params)),
        Objective("edges", edges, True, _sizes(edges)),
        Objective("columns", columns, False, lambda task: (0.0, float(task.n_columns))),
        Objective("bytes", c_bytes, True, _sizes(c_bytes)),
        Objective("multiply_adds", multiply_adds, True, _sizes(multiply_adds)),
        Objective("robustness", robustness, limits=_unit),
    )
}


def smallest(task: SearchTask) -> Networks:
    """A network of one unit that reads one input, of numbers without biases: no candidate is smaller."""
    layout = replace(task.model.layout, n_outputs=task.n_outputs)
    widths = torch.zeros(1, layout.max_hidden_layers, dtype=torch.long)
    widths[0, 0] = 1
    no = torch.zeros(1, dtype=torch.bool)
    mask = dense_mask(layout, torch.tensor([1]), widths, no, no)
    mask[:, layout.outputs, 0] = task.head is not None  # classes have a share without any input
    return Networks(Specs(task.rows.n_features, widths, 0 * widths, mask, task.n_outputs), mask.float())


def _largest(task: SearchTask) -> Networks:
    layout, yes = replace(task.model.layout, n_outputs=task.n_outputs), torch.ones(1, dtype=torch.bool)
    widths = torch.full((1, layout.max_hidden_layers), layout.max_width)
    n_inputs = task.rows.n_features
    mask = dense_mask(layout, n_inputs, widths, yes, yes)
    return Networks(Specs(n_inputs, widths, 0 * widths, mask, task.n_outputs), mask.float())


def chosen(wanted: Sequence[str | Values | Objective]) -> tuple[Objective, ...]:
    """The objectives that names and functions stand for; a function has its own name. Raises InputError for a name
    that is not known, for one twice, and for none or more than `MOST_OBJECTIVES`."""
    if isinstance(wanted, str) or not 1 <= len(wanted) <= MOST_OBJECTIVES:
        raise InputError(f"objectives must be a list of 1 to {MOST_OBJECTIVES}, got {wanted!r}")
    found = [_one(which) for which in wanted]
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"an objective may be named once, got {name!r} twice")
    return tuple(found)


def _one(which: str | Values | Objective) -> Objective:
    if isinstance(which, Objective):
        return which
    if callable(which):
        return Objective(getattr(which, "__name__", type(which).__name__), which)
    if which not in OBJECTIVES:
        raise InputError(f"objective must be a function or one of {', '.join(OBJECTIVES)}, got {which!r}")
    return OBJECTIVES[which]


@dataclass(frozen=True)
class Bound:
    """A constraint: the value of `objective` is at most `most`."""

    objective: Objective
    most: float


def bounds_of(constraints: Mapping[str, Any], task: SearchTask) -> tuple[Bound, ...]:
    """Constraints by name, such as {"max_params": 100}: max_ and the name of an objective.

    Raises InputError for another name, for what is no finite number, and for a bound that no network can keep, with the
    nearest that one can.
    """
    found = []
    for key, value in constraints.items():
        objective = OBJECTIVES.get(key.removeprefix("max_")) if key.startswith("max_") else None
        if objective is None:
            names = ", ".join(f"max_{name}" for name in OBJECTIVES)
            raise InputError(f"constraint must be one of {names}, got {key!r}")
        if isinstance(value, bool) or not isinstance(value, Real) or not np.isfinite(float(value)):
            raise InputError(f"{key} must be a finite number, got {value!r}")
        sized = objective.name not in ("error", "valid_error", "robustness")
        least = float(objective.values(smallest(task), task)[0]) if sized and objective.values else 0.0
        if value < least:
            raise InputError(f"{key} must be at least {least:g} for any network, got {value!r}")
        found.append(Bound(objective, float(value)))
    return tuple(found)


def values_of(
    objective: Objective, networks: Networks, task: SearchTask, error: Float[Tensor, " n"]
) -> Float[np.ndarray, " n"]:
    """What an objective says of solved networks. error: by leave-one-out, of each. Raises InputError for a function
    whose answer is not n finite numbers."""
    if objective.values is None:
        return error.double().nan_to_num(WORST, WORST, WORST).clamp(max=WORST).numpy()
    answer = objective.values(networks, task)
    try:
        values = np.asarray(answer.detach().numpy() if isinstance(answer, Tensor) else answer, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"objective {objective.name!r} must return numbers, got {type(answer).__name__}") from None
    n = len(networks)
    if values.shape != (n,):
        raise InputError(f"objective {objective.name!r} must return one number per network, ({n},), got {values.shape}")
    if OBJECTIVES.get(objective.name) is objective:
        return np.nan_to_num(values, nan=WORST, posinf=WORST)
    if not np.isfinite(values).all():
        wrong = values[~np.isfinite(values)][0]
        raise InputError(f"objective {objective.name!r} must return finite numbers, got {wrong}")
    return values
