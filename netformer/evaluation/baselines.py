"""Baselines: what solves a task without the model.

Each takes a `TaskStack` and returns predictions (t, rows) for every row. Fits read train rows alone; choices read valid
rows, except in `random_head`, which weighs by leave-one-out on train rows, and `retrieval`, which reads both.
"""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from netformer.networks.convert import SKLEARN_NAMES
from netformer.networks.specs import ACTIVATIONS, activate, dense_mask
from netformer.networks.stack import Networks
from netformer.ridge import leave_one_out, ridge_path, trust
from netformer.tasks.scores import r2
from netformer.tasks.task import PAD, TEST, TRAIN, VALID
from netformer.tasks.view import TaskStack
from netformer.workers import map_parallel

FIRST_ROWS, FINALISTS = 64, 256  # of `retrieval`: rows all networks answer, networks that answer all rows
MLP_PENALTIES = (1e-3, 1e-1, 1.0, 10.0)


def constant(tasks: TaskStack) -> Float[Tensor, "t rows"]:
    """The mean of y over the train rows."""
    keep = tasks.train.to(tasks.y.dtype)
    mean = (tasks.y * keep).sum(1, keepdim=True) / keep.sum(1, keepdim=True).clamp(min=1)
    return mean.expand_as(tasks.y).clone()


def ridge(tasks: TaskStack) -> Float[Tensor, "t rows"]:
    """Ridge regression with a free intercept; of `PENALTIES` (on the sum of squares) the best on valid rows."""
    y = tasks.y.double()
    predicted, _ = ridge_path(tasks.x.double(), y, tasks.train)
    error = (predicted - y.unsqueeze(2)).square() * (tasks.rows == VALID).unsqueeze(2)
    return _pick(predicted, error.sum(1))


def random_head(
    tasks: TaskStack,
    units: int | Int[Tensor, " t"],
    activation: str = "tanh",
    skip: bool = True,
    seed: int = 0,
    chunk: int = 64,
) -> Float[Tensor, "t rows"]:
    """One hidden layer of random weights, with the output solved by ridge on [1, x, h] (without x: no skip).

    Weights are N(0, 1) / sqrt(features of the task), biases N(0, 1); one draw serves all tasks, so a task's result does
    not depend on its stack. The fits under `PENALTIES` are averaged as those of written networks are, by `ridge.trust`
    of their leave-one-out errors on train rows; the intercept is free. units: hidden units, the same for all tasks or
    one number per task. chunk: tasks solved together.
    """
    count = torch.as_tensor(units).expand(len(tasks))
    largest, features = int(count.max()), tasks.x.shape[2]
    # numpy draws one by one (torch in blocks): the first units of a wider draw are the units of a narrower one.
    drawn = torch.from_numpy(np.random.default_rng(seed).standard_normal((largest, 1 + features)))
    code = ACTIVATIONS.index(activation)
    parts = []
    for start in range(0, len(tasks), chunk):
        part, n_units = tasks[slice(start, start + chunk)], count[start : start + chunk]
        x, y = part.x.double(), part.y.double()
        scale = part.n_features.clamp(min=1).double().rsqrt().view(-1, 1, 1)
        a = x @ drawn[:, 1:].T * scale + drawn[:, 0]
        h = activate(a, torch.full((len(part),), code)) * (torch.arange(largest) < n_units.view(-1, 1, 1))
        predicted, leverage = ridge_path(torch.cat([x, h], 2) if skip else h, y, part.train)
        weight = trust(leave_one_out(predicted, leverage, y, part.train) / _squares(y, part.train))
        parts.append((predicted * weight.unsqueeze(1)).sum(2))
    return torch.cat(parts)


def _squares(y: Float[Tensor, "t rows"], train: Bool[Tensor, "t rows"]) -> Float[Tensor, "t 1"]:
    """Sum of squares of y about its mean over the train rows."""
    keep = train.to(y.dtype)
    mean = (y * keep).sum(1, keepdim=True) / keep.sum(1, keepdim=True).clamp(min=1)
    return ((y - mean).square() * keep).sum(1, keepdim=True).clamp(min=1e-12)


def _pick(predicted: Float[Tensor, "t rows penalties"], error: Float[Tensor, "t penalties"]) -> Float[Tensor, "t rows"]:
    best = error.argmin(1).view(-1, 1, 1).expand(-1, predicted.shape[1], 1)
    return predicted.gather(2, best).squeeze(2)


def mlp_lbfgs(tasks: TaskStack, workers: int = 1, seed: int = 0) -> Float[Tensor, "t rows"]:
    """scikit-learn's MLPRegressor, two tanh layers of 8 units, L-BFGS; the penalty is the best on valid rows."""
    x, y, rows = tasks.x.double().numpy(), tasks.y.double().numpy(), tasks.rows.numpy()
    used = tasks.n_features.clamp(min=1).tolist()
    jobs = [(x[i, :, : used[i]], y[i], rows[i], (8, 8), "tanh", MLP_PENALTIES, seed) for i in range(len(x))]
    return torch.from_numpy(np.stack(map_parallel(_fit, jobs, workers=workers)))


def mlp_same_spec(
    networks: Networks, tasks: TaskStack, task_index: Int[Tensor, " n"], workers: int = 1, seed: int = 0
) -> tuple[Float[Tensor, " k"], Int[Tensor, " k"]]:
    """Test R2 of MLPRegressor (L-BFGS, default penalty) with the spec of each network, and which networks those are.

    Left out is what MLPRegressor cannot fit: a skip, missing edges or biases, GELU, activations that differ.
    """
    specs, n = networks.specs, len(networks)
    every = torch.ones(n, dtype=torch.bool)
    known = torch.tensor([name in SKLEARN_NAMES for name in ACTIVATIONS])
    first = specs.activations[:, :1]
    same = ((specs.activations == first) | (specs.widths == 0)).all(1) & known[first[:, 0]]
    dense = (specs.mask == dense_mask(specs.layout, specs.n_inputs, specs.widths, every, ~every)).all(2).all(1)
    index = torch.nonzero(same & dense).squeeze(1)
    if len(index) == 0:
        return torch.zeros(0, dtype=torch.float64), index
    x, y, rows = tasks.x.double().numpy(), tasks.y.double().numpy(), tasks.rows.numpy()

    def job(i: int) -> tuple:
        at = int(task_index[i])
        widths = tuple(w for w in specs.widths[i].tolist() if w > 0)
        name = SKLEARN_NAMES[ACTIVATIONS[int(first[i, 0])]]
        return x[at, :, : int(specs.n_inputs[i])], y[at], rows[at], widths, name, (1e-4,), seed

    done = map_parallel(_fit, [job(i) for i in index.tolist()], workers=workers)
    at = task_index[index]
    return r2(tasks.y[at], torch.from_numpy(np.stack(done)), tasks.rows[at] == TEST), index


def _fit(job: tuple) -> Float[np.ndarray, " rows"]:
    return _fit_mlp(*job)


def _fit_mlp(
    x: Float[np.ndarray, "rows features"],
    y: Float[np.ndarray, " rows"],
    rows: Int[np.ndarray, " rows"],
    widths: tuple[int, ...],
    activation: str,
    penalties: tuple[float, ...],
    seed: int,
) -> Float[np.ndarray, " rows"]:
    """Predictions for every row of the fit on train rows whose penalty is the best on valid rows; 0 for padding."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPRegressor

    train, valid, present = rows == TRAIN, rows == VALID, rows != PAD
    best, least = np.zeros(len(y)), np.inf
    for penalty in penalties:
        net = MLPRegressor(
            hidden_layer_sizes=widths,
            activation=activation,
            solver="lbfgs",
            alpha=penalty,
            max_iter=500,
            random_state=seed,
        )
        with warnings.catch_warnings():
            # 500 iterations are the budget of this baseline, converged or not.
            warnings.simplefilter("ignore", ConvergenceWarning)
            net.fit(x[train], y[train])
        predicted = np.zeros(len(y))
        predicted[present] = net.predict(x[present])
        error = float(np.square(predicted - y)[valid].sum())
        if error < least:
            best, least = predicted, error
    return best


def retrieval(
    tasks: TaskStack, networks: Networks, net_chunk: int = 64, task_chunk: int = 4, workers: int = 1
) -> tuple[Int[Tensor, " t"], Float[Tensor, "t rows"]]:
    """For each task the network with the least squared error on its train and valid rows, and its predictions.

    Every network answers the first `FIRST_ROWS` of these rows in stored order, which is random; the `FINALISTS` best of
    them answer all. A network with more inputs than the task has features reads zeros there. A network that is not
    finite on these rows is never chosen before one that is. net_chunk, task_chunk: evaluated together; they change the
    speed alone, as the number of processes does.
    """
    chunks = torch.arange(len(tasks)).split(task_chunk)
    parts = [torch.cat(chunks[k::workers]) for k in range(min(workers, len(chunks)))]
    found = map_parallel(partial(_retrieved, tasks, networks, net_chunk, task_chunk), parts, workers=max(1, len(parts)))
    index = torch.zeros(len(tasks), dtype=torch.long)
    for part, best in zip(parts, found, strict=True):
        index[part] = best
    return index, networks[index].predict(tasks.x)


def _retrieved(
    tasks: TaskStack, networks: Networks, net_chunk: int, task_chunk: int, at: Int[Tensor, " k"]
) -> Int[Tensor, " k"]:
    """The network of each of these tasks. Rows of all tasks are laid out alike, whichever tasks are asked for."""
    seen = (tasks.rows == TRAIN) | (tasks.rows == VALID)
    order = torch.argsort((~seen).long(), dim=1, stable=True)[:, : int(seen.sum(1).max())]
    x = tasks.x.gather(1, order.unsqueeze(2).expand(-1, -1, tasks.x.shape[2]))[at]
    y, keep = tasks.y.gather(1, order)[at], seen.gather(1, order)[at]
    count = min(FINALISTS, len(networks))
    index = torch.zeros(len(at), dtype=torch.long)
    for start in range(0, len(at), task_chunk):
        some = slice(start, start + task_chunk)
        first = (x[some, :FIRST_ROWS], y[some, :FIRST_ROWS], keep[some, :FIRST_ROWS])
        errors = [_squared_error(networks[slice(k, k + net_chunk)], *first) for k in range(0, len(networks), net_chunk)]
        error = torch.cat(errors)
        best = torch.argsort(error, dim=0, stable=True)[:count]  # finalists, tasks
        for i in range(best.shape[1]):
            own = best[:, i].sort().values
            task = slice(start + i, start + i + 1)
            index[start + i] = own[_squared_error(networks[own], x[task], y[task], keep[task]).argmin()]
    return index


def _squared_error(
    networks: Networks, x: Float[Tensor, "t rows features"], y: Float[Tensor, "t rows"], keep: Bool[Tensor, "t rows"]
) -> Float[Tensor, "n t"]:
    """Of every network on every task; inf where it is not finite."""
    predicted = networks.predict(x.flatten(0, 1).unsqueeze(0)).view(len(networks), *y.shape)
    error = torch.where(keep, predicted - y, 0.0).square().sum(2)
    return torch.where(torch.isnan(error), torch.inf, error)


def zoo_average(tasks: TaskStack, networks: Networks, count: int = 256) -> Float[Tensor, "t rows"]:
    """Mean prediction of the first `count` networks; 0 for padding."""
    part, result = networks[slice(0, count)], torch.zeros_like(tasks.y)
    for i, n in enumerate(tasks.n_rows.tolist()):
        result[i, :n] = part.predict(tasks.x[i : i + 1, :n]).mean(0)
    return result
