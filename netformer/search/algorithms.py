"""Algorithms: who proposes the next genomes. One of pymoo by name or as an object of one's own, and two baselines."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from jaxtyping import Float

from netformer.errors import InputError
from netformer.search.front import nondominated
from netformer.search.spaces import Space

ALGORITHMS = ("nsga2", "smsemoa", "random", "mutation")
MUTATED = 2.0  # genes that a mutation draws anew, in the mean
CROSSOVER_ETA, MUTATION_ETA = 10.0, 10.0  # of NSGA-II: the larger, the nearer are children to their parents
LEAST_MUTATED = 0.02  # share of the genes that its mutation changes, at least

Genomes = Float[np.ndarray, "n genes"]


class Random:
    """Random search: every generation is drawn as the first one is."""

    def __init__(self, space: Space, population: int, seed: int) -> None:
        self.space, self.population, self.rng = space, population, np.random.default_rng(seed)
        self.draw = space.first

    def ask(self) -> Genomes:
        """The next generation; none where an algorithm has ended."""
        drawn, self.draw = self.draw(self.population, self.rng), self.space.initial
        return drawn

    def tell(self, values: Float[np.ndarray, "n objectives"], excess: Float[np.ndarray, "n bounds"]) -> None:
        """Objectives of the genomes asked for last, each the better the smaller, and how far each is beyond the bounds,
        at most 0 where it keeps them. Nothing is learned here."""


class Mutation(Random):
    """Local search: genomes of the front so far, each with about `MUTATED` genes drawn anew."""

    def __init__(self, space: Space, population: int, seed: int) -> None:
        super().__init__(space, population, seed)
        self.front: Genomes | None = None
        self.known = np.zeros((0, 0))

    def ask(self) -> Genomes:
        """See `Random`."""
        drawn = super().ask()
        if self.front is not None:
            parents = self.front[self.rng.integers(len(self.front), size=self.population)]
            drawn = np.where(self.rng.random(drawn.shape) < MUTATED / drawn.shape[1], drawn, parents)
        self.asked = drawn
        return drawn

    def tell(self, values: Float[np.ndarray, "n objectives"], excess: Float[np.ndarray, "n bounds"]) -> None:
        """See `Random`. What is beyond the bounds is worse than all that is not, the more the further."""
        beyond = excess.clip(min=0).sum(1, keepdims=True)
        ranked = np.where(beyond > 0, 1e12 * (1 + beyond), values)
        if self.front is not None:
            ranked, every = np.concatenate([self.known, ranked]), np.concatenate([self.front, self.asked])
        else:
            every = self.asked
        kept = nondominated(ranked)
        self.front, self.known = every[kept], ranked[kept]


class Pymoo:
    """An algorithm of pymoo. algorithm: a copy of it works."""

    def __init__(self, space: Space, algorithm: Any, n_objectives: int, n_bounds: int, seed: int) -> None:
        from pymoo.core.problem import Problem

        low, high = space.bounds
        self.problem = Problem(n_var=space.n_genes, n_obj=n_objectives, n_ieq_constr=n_bounds, xl=low, xu=high)
        self.algorithm = copy.deepcopy(algorithm)
        self.algorithm.setup(self.problem, termination=("n_gen", 10**9), seed=seed, verbose=False)

    def ask(self) -> Genomes:
        """See `Random`."""
        self.asked = self.algorithm.ask()
        if self.asked is None or len(self.asked) == 0:
            return np.zeros((0, self.problem.n_var))
        return np.array(self.asked.get("X"), np.float64)

    def tell(self, values: Float[np.ndarray, "n objectives"], excess: Float[np.ndarray, "n bounds"]) -> None:
        """See `Random`."""
        from pymoo.core.evaluator import Evaluator
        from pymoo.problems.static import StaticProblem

        Evaluator().eval(StaticProblem(self.problem, F=values, G=excess), self.asked)
        self.algorithm.tell(infills=self.asked)


def proposer(
    algorithm: Any, space: Space, population: int, seed: int, *, n_objectives: int, n_bounds: int
) -> Random | Pymoo:
    """What an algorithm's name, or an object of pymoo, proposes. Raises InputError for another name or object, and
    without pymoo where it is needed."""
    if isinstance(algorithm, str) and algorithm in ("random", "mutation"):
        return {"random": Random, "mutation": Mutation}[algorithm](space, population, seed)
    try:
        from pymoo.core.algorithm import Algorithm
    except ImportError:
        raise InputError("a search needs the extra search: pip install 'netformer[search]'") from None
    if isinstance(algorithm, Algorithm):
        return Pymoo(space, algorithm, n_objectives, n_bounds, seed)
    if algorithm not in ALGORITHMS:
        names = ", ".join(ALGORITHMS)
        raise InputError(f"algorithm must be an algorithm of pymoo or one of {names}, got {algorithm!r}")
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.algorithms.moo.sms import SMSEMOA
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM

    kind = {"nsga2": NSGA2, "smsemoa": SMSEMOA}[algorithm]
    made = kind(
        pop_size=population,
        sampling=space.first(population, np.random.default_rng(seed)),
        crossover=SBX(prob=0.9, eta=CROSSOVER_ETA),
        mutation=PM(eta=MUTATION_ETA, prob_var=max(LEAST_MUTATED, 1 / space.n_genes)),
    )
    return Pymoo(space, made, n_objectives, n_bounds, seed)
