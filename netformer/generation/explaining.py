"""Explaining: what a fitted estimator says of its columns, by way of its population (`exports.explain`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.special import ndtri
from sklearn.utils.validation import check_is_fitted

from netformer.errors import InputError
from netformer.tables.reading import Reading
from netformer.tables.scaling import SQUASH, squash, standard

if TYPE_CHECKING:
    from netformer.exports.explain import Explanation
    from netformer.exports.population import Population

ROWS = 512  # drawn for `feature_importances_`
_LARGEST = 0.99  # of a squashed value over SQUASH


class Explaining:
    """Methods that explain an estimator whose `network_` is a population.

    feature_importances_: (columns of the table fitted,), at least 0, sum 1 (all 0 where nothing could be learned): how
    far the answer moves, in the mean, when a column alone takes another of its values. It needs no row: numbers are
    drawn as a normal with the center, spread and range fitted, levels as often as they were fitted where the networks
    tell them apart, else equally, each column on its own. Of several targets the mean. What a column is worth for new
    rows is said by `importances`.
    """

    network_: Population
    targets_: list[Any]

    def _table(self, X: Any) -> Any:
        raise NotImplementedError

    def explain(
        self, X: Any, background: Any = None, *, n_pairs: int | None = None, random_state: int = 0
    ) -> Explanation:
        """Shapley values of each column in units of the target, see `Population.explain`."""
        population = self._explainable()
        background = None if background is None else self._table(background)
        return population.explain(self._table(X), background, n_pairs=n_pairs, random_state=random_state)

    def importances(self, X: Any, y: Any, *, n_repeats: int = 10, random_state: int = 0) -> pd.DataFrame:
        """How much R2 falls when a column is shuffled, with standard errors, see `Population.importances`."""
        population = self._explainable()
        return population.importances(self._table(X), y, n_repeats=n_repeats, random_state=random_state)

    def partial_dependence(self, column: int | str, background: Any = None, *, points: int = 50) -> pd.DataFrame:
        """The prediction along one column, see `Population.partial_dependence`."""
        population = self._explainable()
        background = None if background is None else self._table(background)
        return population.partial_dependence(column, background, points=points)

    @property
    def feature_importances_(self) -> Float[np.ndarray, " columns"]:
        """One number per column of the table that was fitted, see the class."""
        check_is_fitted(self, ["network_", "targets_"], all_or_any=any)
        if hasattr(self, "targets_"):
            return np.mean([one.feature_importances_ for one in self.targets_], 0)
        effects = drawn_effects(self.network_)
        return effects / (effects.sum() or 1.0)

    def _explainable(self) -> Population:
        check_is_fitted(self, ["network_", "targets_"], all_or_any=any)
        if hasattr(self, "targets_"):
            raise InputError(f"one target is explained at a time, found {len(self.targets_)}; ask one of targets_")
        return self.network_


def drawn_effects(population: Population) -> Float[np.ndarray, " columns"]:
    """Mean |change of the answer| when the cells of one column are shuffled, on `drawn_rows`, in deviations of the
    target; one per column of the table that was fitted, 0 for those left out."""
    reading, rng = population.reading, np.random.default_rng(0)
    z = reading.standardize(drawn_rows(reading, ROWS, rng))
    answers, column = population.standard_answers(z), np.array([one.column for one in reading.inputs])
    effects = dict.fromkeys(reading.given or reading.columns, 0.0)
    for index, name in enumerate(reading.columns):
        shuffled, own = z.copy(), column == index
        shuffled[:, own] = z[rng.permutation(len(z))][:, own]
        effects[name] = float(np.abs(population.standard_answers(shuffled) - answers).mean())
    return np.array(list(effects.values()))


def drawn_rows(reading: Reading, n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Rows as the reading remembers them, each column on its own, see `Explaining`; dates in seconds."""
    return pd.DataFrame({name: _drawn(reading, index, n, rng) for index, name in enumerate(reading.columns)})


def _drawn(reading: Reading, index: int, n: int, rng: np.random.Generator) -> np.ndarray:
    column = reading.table[index]
    at = {one.part: i for i, one in enumerate(reading.inputs) if one.column == index}
    if column.kind == "category":
        levels = np.array([*column.levels], dtype=object)
        return levels[_in_turn(_level_shares(reading, index), n, rng)]
    i = at["value"]
    s = reading.shift[i] + reading.spread[i] * ndtri((rng.permutation(n) + 0.5) / n)
    s = np.clip(s, -_LARGEST * SQUASH, _LARGEST * SQUASH)
    r = s / np.sqrt(1 - np.square(s / SQUASH))
    x = np.clip(reading.center[i] + r * reading.scale[i], reading.low[i], reading.high[i])
    if column.levels:
        levels = np.array(column.levels, dtype=np.float64)
        x = levels[np.abs(x[:, None] - levels).argmin(1)]
    share = _share(reading, at["missing"]) if "missing" in at else 0.0
    return np.where(_in_turn(np.array([1 - share, share]), n, rng) == 1, np.nan, x)


def _share(reading: Reading, i: int) -> float:
    """Share of the rows fitted in which an input of 0 and 1 was 1: its mean, squashed, lies so far between both."""
    zero, one = squash(standard(np.array([0.0, 1.0]), reading.center[i], reading.scale[i]))
    return float(np.clip((reading.shift[i] - zero) / (one - zero), 0.0, 1.0))


def _level_shares(reading: Reading, index: int) -> Float[np.ndarray, " levels"]:
    """Share of each level in the rows fitted; levels that have no input of their own share the rest."""
    shares = np.full(len(reading.table[index].levels), np.nan)
    for i, one in enumerate(reading.inputs):
        if one.column == index and one.part == "level":
            shares[int(np.argmax(one.values))] = _share(reading, i)
    others = np.isnan(shares)
    shares[others] = max(0.0, 1 - np.nansum(shares)) / max(1, others.sum())
    return shares / shares.sum()


def _in_turn(shares: Float[np.ndarray, " k"], n: int, rng: np.random.Generator) -> np.ndarray:
    """n numbers of parts, each as often as its share says, within 1, in random order."""
    edges = np.cumsum(shares)
    return np.minimum(np.searchsorted(edges, (rng.permutation(n) + 0.5) / n), len(shares) - 1)
