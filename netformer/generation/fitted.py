"""Fitted: what the estimators share: their parameters, what they say of their columns, how they are saved.

Importing this module must not import torch, which takes a second: what needs it is imported where it is used.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.special import ndtri
from sklearn.base import BaseEstimator, is_classifier
from sklearn.utils import _safe_indexing, check_random_state
from sklearn.utils.validation import _check_sample_weight, check_consistent_length, check_is_fitted, validate_data

from netformer.errors import InputError, need
from netformer.tables.columns import cells_of, is_frame
from netformer.tables.reading import Reading
from netformer.tables.scaling import SQUASH, squash, standard

if TYPE_CHECKING:
    from netformer.exports.explain import Explanation
    from netformer.exports.population import Population
    from netformer.generation.generator import NetFormer
    from netformer.model.prompt import Prompt

ROWS = 512  # drawn for `feature_importances_`
_LARGEST = 0.99  # of a squashed value over SQUASH
# Arrays, as scikit-learn checks them.
NUMBERS: dict[str, Any] = {"dtype": np.float64, "ensure_all_finite": "allow-nan"}
OF_WRITTEN = ("refine_steps", "max_params", "max_hidden_layers", "activations")  # parameters that a search has not
MOST_REPEATS = 10  # times the rows of a table that it may grow by whole weights


@cache
def _package(in_torch: bool) -> NetFormer:
    from netformer.generation.generator import NetFormer

    return NetFormer.load() if in_torch else NetFormer.load_arrays()


def netformer_of(model: Any, torch_for: str = "") -> NetFormer:
    """The model a user names: a NetFormer, the folder of one, or None for the weights of the package, loaded once.

    torch_for: what needs the model in torch, such as refine_steps; without, a folder is read without torch. Raises
    InputError for anything else, for a folder that cannot be read, for a model in arrays where torch is needed, and
    where it is not installed.
    """
    from netformer.generation.generator import NetFormer

    if isinstance(model, NetFormer):
        if torch_for:
            model.require_torch(torch_for)
        return model
    if model is not None and not isinstance(model, str | Path):
        raise InputError(f"model must be None, the path of a folder or a NetFormer, got {type(model).__name__}")
    if torch_for:
        need("torch", torch_for)
    if model is None:
        return _package(bool(torch_for))
    if torch_for:
        return NetFormer.load(model)
    if in_bfloat16(Path(model)):
        need("torch", "a model in bfloat16")
        return NetFormer.load(model)
    return NetFormer.load_arrays(model)


def in_bfloat16(folder: Path) -> bool:
    """Whether a model has weights in bfloat16, which numpy has not; False for what is no model."""
    from safetensors import SafetensorError, safe_open

    from netformer.model.store import WEIGHTS

    try:
        with safe_open(folder / WEIGHTS, "np") as file:
            return any(file.get_slice(name).get_dtype() == "BF16" for name in file.keys())  # noqa: SIM118, no mapping
    except (SafetensorError, OSError):
        return False


class Fitted(BaseEstimator):
    """An estimator whose `network_` is a population: what it explains, how it is saved.

    feature_importances_: (columns of the table fitted,), at least 0, sum 1 (all 0 where nothing could be learned): how
    far the answer moves, in the mean, when a column alone takes another of its values. It needs no row: numbers are
    drawn as a normal with the center, spread and range fitted, levels as often as they were fitted where the networks
    tell them apart, else equally, each column on its own. Of several targets the mean. What a column is worth for new
    rows is said by `importances`.
    """

    network_: Population
    noise_: Any
    steps: bool
    search: Any

    def _table(self, X: Any) -> Any:
        """Rows to predict, as the population reads them."""
        return X if is_frame(X) else validate_data(self, X, reset=False, **NUMBERS)

    def explain(
        self, X: Any, background: Any = None, *, n_pairs: int | None = None, random_state: int = 0
    ) -> Explanation:
        """Shapley values of each column in units of the target, of classes in logits, see `Population.explain`."""
        population = self._explainable()
        background = None if background is None else self._table(background)
        return population.explain(self._table(X), background, n_pairs=n_pairs, random_state=random_state)

    def importances(self, X: Any, y: Any, *, n_repeats: int = 10, random_state: int = 0) -> pd.DataFrame:
        """How much R2 falls when a column is shuffled; of classes the rise of log loss, divided by the
        log loss of the class shares; see `Population.importances`."""
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
        check_is_fitted(self, "network_")
        effects = drawn_effects(self.network_)
        return effects / (effects.sum() or 1.0)

    def _explainable(self) -> Population:
        check_is_fitted(self, "network_")
        return self.network_

    def _repr_html_inner(self) -> str:
        """The diagram of scikit-learn, and what was fitted."""
        fitted = self.network_._repr_html_() if hasattr(self, "network_") else ""
        return super()._repr_html_inner() + fitted

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        shown = super()._repr_mimebundle_(**kwargs)
        return shown | ({"text/html": self._repr_html_inner()} if "text/html" in shown else {})

    def _keep(self, population: Population) -> None:
        """What `fit` and `load` leave behind."""
        self.network_, self.networks_ = population, population[:]
        self.columns_ = population.reading.described()

    def _framed(self, X: Any, y: np.ndarray) -> pd.DataFrame:
        """A DataFrame of pandas to fit, its columns noted. y: as long, else InputError."""
        check_consistent_length(X, y)
        names, _ = cells_of(X)
        self.n_features_in_, self.feature_names_in_ = len(names), np.array(names, dtype=object)
        return X if isinstance(X, pd.DataFrame) else X.to_pandas()

    def _repeated(self, X: Any, y: np.ndarray, sample_weight: Any) -> tuple[Any, np.ndarray]:
        """Rows as often as they count."""
        if sample_weight is None:
            return X, y
        weight = _check_sample_weight(sample_weight, y, ensure_non_negative=True)
        rows = np.repeat(np.arange(len(y)), repeats(weight))
        return _safe_indexing(X, rows), y[rows]

    def _say_gaps(self, stacklevel: int) -> None:
        """A UserWarning for words that were taken for gaps."""
        for column in self.network_.reading.table:
            if column.words:
                words = ", ".join(map(repr, column.words))
                warnings.warn(f"column {column.name!r}: {words} taken for a gap", UserWarning, stacklevel=stacklevel)

    def _request(self) -> tuple[int, int, Prompt]:
        """n_samples, refine_steps and the bounds on networks. Raises InputError for those that cannot be used."""
        from netformer.model.prompt import Prompt, check_request

        n_samples, refine_steps = check_request(self.n_samples, self.refine_steps)
        return n_samples, refine_steps, Prompt(self.max_params, self.max_hidden_layers, self.activations)

    def _searched(self, front: str) -> Any:
        """`search`, whose method of that name is asked for. Raises InputError for what has none, and beside parameters
        that it does not read."""
        if self.search is None:
            return None
        if isinstance(self.search, type) or not callable(getattr(self.search, front, None)):
            raise InputError(f"search must be None or a netformer.search.table.Search, got {self.search!r}")
        given = [name for name in OF_WRITTEN if getattr(self, name) not in (None, 0)]
        if given:
            raise InputError(f"{given[0]} is not for a search; bounds are its constraints, such as max_params")
        return self.search

    def _steps(self) -> bool:
        """`steps`. Raises InputError unless it is True or False."""
        if not isinstance(self.steps, bool | np.bool_):
            raise InputError(f"steps must be True or False, got {self.steps!r}")
        return bool(self.steps)

    def to_bundle(self, columns: Sequence[str] | None = None, target: str | Sequence[str] | None = None) -> Population:
        """What was fitted, to save or `netformer.export`. columns: other names for those in use, x0, x1, ... if
        an array was fitted; target: for the target, y or the name of the Series that was fitted; of several a name for
        each, y0, y1, .. or the columns of the DataFrame. `about` keeps the parameters; a random_state that is no whole
        number, a model that is no folder and class weights, as None; a search is kept by what it found alone."""
        check_is_fitted(self, "network_")
        parameters = self.get_params(deep=False)
        parameters.pop("search", None)
        for name in ("refine_steps", "n_samples", "random_state", "max_params", "max_hidden_layers", "min_frequency"):
            value = parameters[name]
            parameters[name] = int(value) if isinstance(value, Integral) else None
        parameters["steps"] = bool(self.steps)
        if "max_loss" in parameters:
            parameters["max_loss"] = None if self.max_loss is None else float(self.max_loss)
        if self.activations is not None:
            parameters["activations"] = [str(name) for name in self.activations]
        parameters["model"] = str(self.model) if isinstance(self.model, str | Path) else None
        if not isinstance(parameters.get("class_weight"), str):
            parameters.pop("class_weight", None)
        about = {"estimator": parameters, "feature_names": hasattr(self, "feature_names_in_")}
        about |= {"noise": np.asarray(self.noise_).tolist()} if hasattr(self, "noise_") else {}
        return self.network_.named(columns, target, **about)

    def save(self, folder: str | Path) -> None:
        """Write what was fitted as a folder (`Bundle.save`), without pickle. Raises InputError if it is not empty."""
        self.to_bundle().save(folder)

    @classmethod
    def load(cls, folder: str | Path) -> Any:
        """A fitted estimator from a folder of `save` or of `Bundle.save`; it predicts what the saved one predicts.
        Raises InputError, one line, for a folder that is incomplete, damaged or of another format, and for one whose
        target is of the other kind, numbers or classes."""
        from netformer.exports.population import Population

        population = Population.load(folder)
        if bool(population.classes) != is_classifier(cls()):
            kind, other = ("classes", "Classifier") if population.classes else ("numbers", "Regressor")
            raise InputError(f"{folder} holds networks for a target of {kind}; load it with NetFormer{other}")
        parameters = population.about.get("estimator", {"n_samples": len(population)})
        if not isinstance(parameters, dict) or not set(parameters) <= set(cls().get_params()):
            allowed = ", ".join(sorted(cls().get_params()))
            raise InputError(f"{folder}: about.estimator must hold some of {allowed}, found {parameters!r}")
        if isinstance(parameters.get("activations"), list):
            parameters = parameters | {"activations": tuple(parameters["activations"])}
        loaded = cls(**parameters)
        given = population.reading.given or population.columns
        loaded.n_features_in_ = len(given)
        if population.about.get("feature_names"):
            loaded.feature_names_in_ = np.array(given, dtype=object)
        if population.wide is None:
            population = replace(population, wide=population.networks)
        loaded._keep(population)
        return loaded


def drawn_effects(population: Population) -> Float[np.ndarray, " columns"]:
    """Mean |change of the answer| when the cells of one column are shuffled, on `drawn_rows`, in standard deviations
    of the target; one per column of the table that was fitted, 0 for those left out."""
    reading, rng = population.reading, np.random.default_rng(0)
    z = reading.standardize(drawn_rows(reading, ROWS, rng))
    answers, column = population.outputs(z), np.array([one.column for one in reading.inputs])
    effects = dict.fromkeys(reading.given or reading.columns, 0.0)
    for index, name in enumerate(reading.columns):
        shuffled, own = z.copy(), column == index
        shuffled[:, own] = z[rng.permutation(len(z))][:, own]
        effects[name] = float(np.abs(population.outputs(shuffled) - answers).mean())
    return np.array(list(effects.values()))


def drawn_rows(reading: Reading, n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Rows as the reading remembers them, each column on its own, see `Fitted`; dates in seconds."""
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


def seed_of(random_state: Any) -> int:
    """A seed from a `random_state`. None: a new one from the operating system each time, so that numpy's global
    generator is left alone."""
    if random_state is None:
        return int(np.random.default_rng().integers(2**31 - 1))
    return int(check_random_state(random_state).randint(2**31 - 1))


def at_least_one(min_frequency: Any) -> int:
    """`min_frequency` as an int. Raises InputError unless it is a whole number from 1 on."""
    if not isinstance(min_frequency, Integral) or isinstance(min_frequency, bool) or min_frequency < 1:
        raise InputError(f"min_frequency must be a whole number of rows from 1 on, got {min_frequency!r}")
    return int(min_frequency)


def repeats(weight: Float[np.ndarray, " rows"]) -> Int[np.ndarray, " rows"]:
    """How often each row stands in the table that a weighted one is fitted as.

    Whole weights with a sum of at most `MOST_REPEATS` times the rows are taken as they are. Else the rows keep their
    number, and each gets its share of it, rounded so that sums over neighbours stay within 1 (systematic sampling).
    Raises InputError where fewer than two rows have a weight.
    """
    if (weight > 0).sum() < 2:
        raise InputError(f"sample_weight must be above 0 for at least 2 rows, found {int((weight > 0).sum())}")
    if (weight == np.round(weight)).all() and weight.sum() <= MOST_REPEATS * len(weight):
        return weight.astype(np.int64)
    edges = np.floor(np.cumsum(weight) / weight.sum() * len(weight) + 0.5)
    return np.diff(edges, prepend=0.0).astype(np.int64)
