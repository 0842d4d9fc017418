"""Arms: ways to find a network for a task, written or trained, under one budget, judged on rows that none of them saw.

Every arm fits on train rows and is searched by the error on valid rows and the number of parameters. What is reported
is the test error of the network with the least valid error, and of the front on valid rows; no arm reads a test row.
Seconds are those of the processor, on one thread, so that a busy machine does not count.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from netformer.errors import InputError
from netformer.generation.refinement import refine_latents
from netformer.model.grammar import read_structure
from netformer.networks.stack import Networks, concatenate
from netformer.search.engine import search
from netformer.search.front import Volume, nondominated
from netformer.search.objectives import chosen
from netformer.search.problem import SearchTask
from netformer.search.scoring import solved
from netformer.search.spaces import Space
from netformer.tasks.task import TEST, TRAIN, VALID
from netformer.zoo.build import initialize, train_networks

OBJECTIVES = ("valid_error", "params")
BATCH = 8  # networks trained, or latents moved, at a time
STEPS = 25  # on a latent
POPULATION = 50
FIRST, LESS, BRED = 600, 5, 32  # written then trained: written at first, a part of the steps, networks taken at a time
LEAST_GAIN = 1e-3  # of its valid error, that a network must have gained to be trained again
GRID = {
    "widths": ((4,), (8,), (16,), (32,), (4, 4), (8, 8), (16, 16), (32, 32)),
    "activation": ("relu", "tanh"),
    "alpha": (1e-4, 1e-2, 1.0),
}
ITERATIONS = 500  # of L-BFGS


@dataclass(frozen=True)
class Budget:
    """evaluations: candidates an arm may look at. seconds: of the processor, that trained arms may take; written ones
    take less. optimizer: of trained networks (`zoo.build.train_networks`)."""

    evaluations: int
    seconds: float
    optimizer: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Trace:
    """What an arm looked at, in order. evaluations, seconds: spent when each candidate was known. values: error on
    valid rows and parameters. test_error: over the variance of y; nan where it was never needed."""

    evaluations: Int[np.ndarray, " n"]
    seconds: Float[np.ndarray, " n"]
    values: Float[np.ndarray, "n 2"]
    test_error: Float[np.ndarray, " n"]


Part = tuple[int, Float[np.ndarray, "k 2"], Float[np.ndarray, " k"]]  # evaluations of each, values, test errors


def _error(networks: Networks, task: SearchTask, code: int) -> Float[np.ndarray, " n"]:
    keep = task.rows.rows[0] == code
    y = task.rows.y[0, keep]
    error = (networks.predict(task.rows.x[:, keep]) - y).square().mean(1)
    return (error / (y - y.mean()).square().mean().clamp(min=1e-12)).double().numpy()


def _known(networks: Networks, task: SearchTask) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, " n"]]:
    with torch.no_grad():
        sizes = networks.specs.n_params.double().numpy()
        return np.stack([_error(networks, task, VALID), sizes], 1), _error(networks, task, TEST)


def _written(task: SearchTask, budget: Budget, seed: int, *, space: str, algorithm: str) -> Trace:
    """A search of written networks."""
    start, marks = time.process_time(), list[float]()
    found = search(
        task,
        OBJECTIVES,
        space=space,
        algorithm=algorithm,
        evaluations=budget.evaluations,
        population=POPULATION,
        seed=seed,
        progress=lambda done, total: marks.append(time.process_time() - start),
    )
    n = len(found.values)
    at = np.unique([*_records(found.values[:, 0]), *_fronts(found.values)])
    test = np.full(n, np.nan)
    with torch.no_grad():
        test[at] = _error(found.networks(at).networks, task, TEST)
    return Trace(np.arange(1, n + 1), np.array(marks)[found.generation], found.values, test)


def _records(values: Float[np.ndarray, " n"]) -> Int[np.ndarray, " k"]:
    """Candidates that are the best so far."""
    return np.flatnonzero(np.concatenate([[True], values[1:] < np.minimum.accumulate(values)[:-1]]))


def _fronts(values: Float[np.ndarray, "n 2"]) -> list[int]:
    """Candidates that are on the front when they come: all that is on any front of a beginning."""
    out: list[int] = []
    kept: list[int] = []
    for i, one in enumerate(values):
        if not (values[kept] <= one).all(1).any():
            kept = [k for k in kept if not (one <= values[k]).all()] + [i]
            out.append(i)
    return out


def _spent(task: SearchTask, budget: Budget, seed: int, *, parts: Callable[..., Iterator[Part]]) -> Trace:
    """An arm that hands out its candidates in parts, until the budget is spent."""
    start, count = time.process_time(), 0
    evaluations: list[int] = []
    seconds: list[float] = []
    values, tests = [], []
    for cost, value, test in parts(task, budget, seed):
        now = time.process_time() - start
        for _ in range(len(value)):
            count += cost
            evaluations.append(count)
            seconds.append(now)
        values.append(value)
        tests.append(test)
        if count >= budget.evaluations or now >= budget.seconds:
            break
    return Trace(np.array(evaluations), np.array(seconds), np.concatenate(values), np.concatenate(tests))


def _trained(task: SearchTask, budget: Budget, genomes: Float[np.ndarray, "k genes"], seed: int) -> Part:
    """Networks of the structures of genomes, trained."""
    specs = Space(task, "structures").write(genomes).specs
    rng = np.random.default_rng(seed)
    seeds = torch.from_numpy(rng.integers(2**31, size=len(genomes)))
    index = torch.zeros(len(genomes), dtype=torch.long)
    rows = task.rows
    done = train_networks(initialize(specs, seeds), rows, index, seed=seed, workers=1, **budget.optimizer)
    return 1, *_known(done, task)


def _random_trained(task: SearchTask, budget: Budget, seed: int) -> Iterator[Part]:
    space, rng = Space(task, "structures"), np.random.default_rng(seed)
    while True:
        yield _trained(task, budget, space.initial(BATCH, rng), int(rng.integers(2**31)))


def _written_then_trained(task: SearchTask, budget: Budget, seed: int) -> Iterator[Part]:
    """Random written networks; then those of least valid error are trained for a `LESS`-th of the steps from where they
    are, output layers solved, best first, and again as long as they gain: a memetic search (Moscato 1989)."""
    space, rng = Space(task, "both"), np.random.default_rng(seed)
    optimizer = {**budget.optimizer, "steps": max(1, budget.optimizer["steps"] // LESS)}
    genomes = space.first(FIRST, rng)
    waiting: list[tuple[float, int, Networks]] = []  # valid error and number of those to be trained
    count = 0
    for at in range(0, FIRST, POPULATION):
        with torch.no_grad():
            written, _ = solved(space.write(genomes[at : at + POPULATION]), task)
        values, test = _known(written, task)
        for i, error in enumerate(values[:, 0].tolist()):
            heappush(waiting, (error, count + i, written[[i]]))
        count += len(values)
        yield 1, values, test
    while waiting:
        taken = [heappop(waiting) for _ in range(min(BRED, len(waiting)))]
        begun = concatenate([one for _, _, one in taken])
        index = torch.zeros(len(taken), dtype=torch.long)
        drawn = int(rng.integers(2**31))
        done = train_networks(begun, task.rows, index, seed=drawn, workers=1, **optimizer)
        with torch.no_grad():
            done, _ = solved(done, task)
        values, test = _known(done, task)
        for i, error in enumerate(values[:, 0].tolist()):
            if error < (1 - LEAST_GAIN) * taken[i][0]:
                heappush(waiting, (error, count + i, done[[i]]))
        count += len(values)
        yield 1, values, test


def _optuna(task: SearchTask, budget: Budget, seed: int, *, sampler: str) -> Iterator[Part]:
    try:
        import optuna
    except ImportError:
        raise InputError("this arm needs optuna: pip install optuna") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # samplers call several of their options experimental
        if sampler == "tpe":
            made: Any = optuna.samplers.TPESampler(multivariate=True, constant_liar=True, seed=seed)
        else:
            made = optuna.samplers.NSGAIISampler(population_size=POPULATION, seed=seed)
        study = optuna.create_study(directions=["minimize", "minimize"], sampler=made)
    space, rng = Space(task, "structures"), np.random.default_rng(seed)
    genes: dict[str, Any] = {f"gene{i:02d}": optuna.distributions.FloatDistribution(0, 1) for i in range(space.n_genes)}
    while True:
        trials = [study.ask(genes) for _ in range(BATCH)]
        genomes = np.array([[trial.params[name] for name in genes] for trial in trials])
        part = _trained(task, budget, genomes, int(rng.integers(2**31)))
        for trial, value in zip(trials, part[1].tolist(), strict=True):
            study.tell(trial, value)
        yield part


def _latent_steps(task: SearchTask, budget: Budget, seed: int) -> Iterator[Part]:
    """Drawn latents, each moved by gradient steps, which cost an evaluation each."""
    model, g = task.model, torch.Generator().manual_seed(seed)
    c = task.condition.expand(BATCH, -1)
    own = task.rows[[0] * BATCH]
    while True:
        with torch.no_grad():
            z = model.draw(task.prior, torch.randn(BATCH, model.d_latent, generator=g))
            specs = read_structure(model.structure_logits(z, c), own.n_features, model.layout)
        moved: Tensor = refine_latents(model, own, c, z, specs, steps=STEPS)
        with torch.no_grad():
            networks, _ = solved(model.write(moved, c, specs), task)
        yield 1 + STEPS, *_known(networks, task)


def _mlp_grid(task: SearchTask, budget: Budget, seed: int) -> Iterator[Part]:
    """scikit-learn's MLPRegressor by L-BFGS, over a grid in a random order."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPRegressor

    rows, f = task.rows.rows[0].numpy(), int(task.rows.n_features[0])
    x, y = task.rows.x[0, :, :f].double().numpy(), task.rows.y[0].double().numpy()
    every = [(w, a, alpha) for w in GRID["widths"] for a in GRID["activation"] for alpha in GRID["alpha"]]
    for index in np.random.default_rng(seed).permutation(len(every)):
        widths, activation, alpha = every[index]
        net = MLPRegressor(
            hidden_layer_sizes=widths,
            activation=activation,
            solver="lbfgs",
            alpha=alpha,
            max_iter=ITERATIONS,
            random_state=seed,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            net.fit(x[rows == TRAIN], y[rows == TRAIN])
        errors = []
        for code in (VALID, TEST):
            told = y[rows == code]
            errors.append(float(np.square(net.predict(x[rows == code]) - told).mean() / max(told.var(), 1e-12)))
        size = sum(part.size for part in (*net.coefs_, *net.intercepts_))
        yield 1, np.array([[errors[0], float(size)]]), np.array(errors[1:])


Arm = Callable[[SearchTask, Budget, int], Trace]
ARMS: Mapping[str, Arm] = {
    "random structures, trained": partial(_spent, parts=_random_trained),
    "Optuna TPE, trained": partial(_spent, parts=partial(_optuna, sampler="tpe")),
    "Optuna NSGA-II, trained": partial(_spent, parts=partial(_optuna, sampler="nsga2")),
    "MLPRegressor grid": partial(_spent, parts=_mlp_grid),
    "random structures, written": partial(_written, space="structures", algorithm="random"),
    "mutation of structures, written": partial(_written, space="structures", algorithm="mutation"),
    "NSGA-II on structures, written": partial(_written, space="structures", algorithm="nsga2"),
    "random latents": partial(_written, space="latents", algorithm="random"),
    "NSGA-II on latents": partial(_written, space="latents", algorithm="nsga2"),
    "random structures and noise": partial(_written, space="both", algorithm="random"),
    "NSGA-II on structures and noise": partial(_written, space="both", algorithm="nsga2"),
    "steps on latents": partial(_spent, parts=_latent_steps),
    "written, then trained": partial(_spent, parts=_written_then_trained),
}


def measured(trace: Trace, task: SearchTask, by: str, at: float) -> dict[str, float]:
    """What an arm has when so many `evaluations` or `seconds` are spent (by): hypervolume of its front on valid rows,
    that of the same networks on test rows, and the test R2 (at least -1) and parameters of the network with the least
    valid error. An arm that has nothing yet has 0 and the R2 of the mean."""
    spent = trace.evaluations if by == "evaluations" else trace.seconds
    some = np.flatnonzero(spent <= at)
    if len(some) == 0:
        return {"hypervolume": 0.0, "test_hypervolume": 0.0, "valid_error": 1.0, "test_r2": 0.0, "params": 0.0}
    values, test = trace.values[some], trace.test_error[some]
    front = nondominated(values)
    best = int(values[:, 0].argmin())
    said = np.stack([test[front], values[front, 1]], 1)
    volumes = [Volume(task, chosen(list(OBJECTIVES)), values).add(points) for points in (values[front], said)]
    r2 = max(-1.0, 1.0 - float(test[best]))
    names = ("hypervolume", "test_hypervolume", "valid_error", "test_r2", "params")
    return dict(zip(names, (*volumes, float(values[best, 0]), r2, float(values[best, 1])), strict=True))
