"""Front: which candidates nothing else is better than, and the volume that they dominate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from netformer.errors import InputError
from netformer.search.objectives import Objective
from netformer.search.problem import SearchTask


def nondominated(values: Float[np.ndarray, "n objectives"]) -> Int[np.ndarray, " k"]:
    """The candidates that no other is at least as good as in everything; of equal ones the first. In order of the first
    objective."""
    order = np.lexsort((np.arange(len(values)), *values.T[::-1]))  # sorted by the first objective, then the others
    kept: list[int] = []
    for index in order:
        if not kept or not (values[kept] <= values[index]).all(1).any():
            kept.append(int(index))
    return np.array(kept, dtype=np.int64)


class Volume:
    """The share of the box between best and worst values that candidates dominate, objectives on their own scales
    (`Objective.limits`), 0 to 1: the normalised hypervolume (Zitzler and Thiele 1998). Kept up to date by moarchiving;
    of one objective it is how far the best value has come.

    objectives: of the values to come. first: values of the first generation, for objectives without limits.
    """

    def __init__(
        self, task: SearchTask, objectives: Sequence[Objective], first: Float[np.ndarray, "n objectives"]
    ) -> None:
        self.objectives = objectives
        every = [
            (float(column.min()), float(column.max())) if one.limits is None else one.limits(task)
            for one, column in zip(objectives, first.T, strict=True)
        ]
        self.low = np.array([low for low, _ in every])
        self.high = np.array([high if high > low else low + 1.0 for low, high in every])
        self.value, self.best = 0.0, 1.0
        if len(objectives) > 1:
            try:
                import moarchiving
            except ImportError:
                raise InputError("a search needs the extra search: pip install 'netformer[search]'") from None
            kinds = {2: moarchiving.BiobjectiveNondominatedSortedList, 3: moarchiving.MOArchive3obj}
            self.archive = kinds.get(len(objectives), moarchiving.MOArchive4obj)(
                reference_point=[1.0] * len(objectives),
                hypervolume_final_float_type=float,  # fractions, its default, are slow
                hypervolume_computation_float_type=float,
            )

    def scaled(self, values: Float[np.ndarray, "n objectives"]) -> Float[np.ndarray, "n objectives"]:
        """Values with best 0 and worst 1, not below 0."""
        out = np.empty_like(values)
        for k, one in enumerate(self.objectives):
            low, high, v = self.low[k], self.high[k], values[:, k]
            if one.log:
                low, high, v = np.log(low), np.log(high), np.log(np.maximum(v, self.low[k]))
            out[:, k] = (v - low) / (high - low)
        return out.clip(min=0)

    def add(self, values: Float[np.ndarray, "n objectives"]) -> float:
        """The hypervolume with these candidates too."""
        scaled = self.scaled(values)
        if len(self.objectives) == 1:
            self.best = min([self.best, *scaled[:, 0].tolist()])
            return 1.0 - self.best
        inside = scaled[(scaled < 1).all(1)]
        for row in inside[nondominated(inside)].tolist() if len(inside) else ():
            self.archive.add(row)
        return float(self.archive.hypervolume)


def curve(
    task: SearchTask,
    objectives: Sequence[Objective],
    generations: Iterable[tuple[Float[np.ndarray, "n objectives"], Bool[np.ndarray, " n"]]],
) -> list[tuple[int, float]]:
    """Evaluations so far and hypervolume after each generation. generations: values, and which candidates keep the
    constraints."""
    volume: Volume | None = None
    out, count = [], 0
    for values, kept in generations:
        volume = volume or Volume(task, objectives, values)
        count += len(values)
        out.append((count, volume.add(values[kept])))
    return out
