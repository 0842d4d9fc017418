"""NetFormerRegressor: networks written for a table, behind scikit-learn's interface.

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
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.utils import _safe_indexing, check_random_state
from sklearn.utils.validation import (
    _check_sample_weight,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from netformer.errors import InputError
from netformer.generation.explaining import Explaining
from netformer.tables.columns import MIN_FREQUENCY, cells_of, is_frame

if TYPE_CHECKING:
    from netformer.exports.population import Population
    from netformer.generation.generator import NetFormer

_NUMBERS: dict[str, Any] = {
    "dtype": np.float64,
    "ensure_all_finite": "allow-nan",
}  # arrays, as scikit-learn checks them

MOST_REPEATS = 10  # times the rows of a table that it may grow by whole weights


@cache
def _package() -> NetFormer:
    from netformer.generation.generator import NetFormer

    return NetFormer.load()


def netformer_of(model: Any) -> NetFormer:
    """The model a user names: a NetFormer, the folder of one, or None for the weights of the package, loaded once.
    Raises InputError for anything else, and for a folder that cannot be read."""
    from netformer.generation.generator import NetFormer

    if model is None:
        return _package()
    if isinstance(model, NetFormer):
        return model
    if isinstance(model, str | Path):
        return NetFormer.load(model)
    raise InputError(f"model must be None, the path of a folder or a NetFormer, got {type(model).__name__}")


class NetFormerRegressor(Explaining, RegressorMixin, BaseEstimator):
    """Regression by networks that a trained transformer writes for the table: no training, no choice to make.

    `n_samples` networks are written and merged into one wide network. Its output layer is a blend of theirs and of one
    ridge fit over all hidden units (`merging.widen`): the more rows per hidden unit, the more of the fit. No gradient
    step is taken unless `refine_steps` asks for some.

    Columns may hold numbers, dates, categories and text, with gaps and outliers: `tables.reading` and `tables.inputs`
    say what becomes of them, `columns_` what was decided. The target is one column of numbers. A network reads up to
    16 inputs. Of a table with columns that say little on their own, some of the networks read the relevant ones alone;
    of one with more inputs than 16, the others read a part each, and the output layer is the ridge fit alone. Every
    input reaches the output linearly.

    Parameters
    ----------
    refine_steps : int, default 0. Gradient steps on the latent of each network (`refinement.refine_latents`), on four
        fifths of the rows; each keeps the step that is best on the others. `noise_` is then rather low.
    n_samples : int, default 16. Networks written.
    random_state : int, RandomState instance or None, default None. The noise the networks are drawn from; None: new
        noise at every fit, numpy's global generator is not read.
    max_params : int or None, default None. Largest number of parameters of each network written, before merging.
    max_hidden_layers : int or None, default None. Largest depth of each.
    activations : sequence of names or None, default None. Those allowed: identity, relu, tanh, sigmoid, gelu.
    model : path of a folder, NetFormer or None, default None. The model that writes; None: the weights of the package.
        A fitted or saved regressor does not need it any more.
    min_frequency : int, default 2. Rows in which a level of text or of codes stands if what is fitted may hold it; a
        rarer one is read as any other (docs/privacy.md).

    Attributes
    ----------
    networks_ : Population of the networks written, before merging: `networks_.predict(X)` is (n, rows).
    network_ : Population, the same with the wide network that `predict` runs: `network_.predict(X)` is (rows,).
        Where there is nothing to learn (a constant target, no column that varies), it answers the mean.
    noise_ : float, root mean squared residual on the rows fitted, on 8,192 of them at most, in the units of y.
    columns_ : DataFrame, a row per column of the table: what it was read as, its inputs, what was left out and why.
    target_center_, target_scale_ : float, mean and deviation of y.
    feature_importances_ : one number per column, sum 1, from the network alone; see `Explaining`.
    targets_ : of several targets alone, a fitted NetFormerRegressor for each, and none of the above.
    n_features_in_, feature_names_in_ : as in scikit-learn.
    """

    def __init__(
        self,
        refine_steps: int = 0,
        n_samples: int = 16,
        random_state: int | np.random.RandomState | None = None,
        max_params: int | None = None,
        max_hidden_layers: int | None = None,
        activations: Sequence[str] | None = None,
        model: str | Path | NetFormer | None = None,
        min_frequency: int = MIN_FREQUENCY,
    ) -> None:
        self.refine_steps = refine_steps
        self.n_samples = n_samples
        self.random_state = random_state
        self.max_params = max_params
        self.max_hidden_layers = max_hidden_layers
        self.activations = activations
        self.model = model
        self.min_frequency = min_frequency

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> NetFormerRegressor:
        """X: a DataFrame of pandas, polars or pyarrow with columns of numbers, dates, categories and text, or an array
        of numbers (rows, features); gaps are allowed. y: (rows,), at least 2 rows, or (rows, targets), see `targets_`.
        sample_weight: (rows,), at least 0: a row counts as if it stood in the table so many times; weights that are not
        whole are rounded so that the table keeps its number of rows (`repeats`). Raises InputError for infinite values,
        a target with gaps, a table without a usable column, and for parameters and a model that cannot be used.
        """
        from netformer.generation.delivery import deliver, noise_of
        from netformer.model.prompt import Prompt, check_request

        n_samples, refine_steps = check_request(self.n_samples, self.refine_steps)
        prompt = Prompt(self.max_params, self.max_hidden_layers, self.activations)
        if getattr(y, "ndim", 1) == 2 and y.shape[1] > 1:
            return self._fit_each(X, y, sample_weight)
        name = getattr(y, "name", None)  # of a Series
        X, y = self._checked(X, y)
        if sample_weight is not None:
            rows = np.repeat(
                np.arange(len(y)), repeats(_check_sample_weight(sample_weight, y, ensure_non_negative=True))
            )
            X, y = _safe_indexing(X, rows), y[rows]
        if not is_frame(X):  # in an order of its own, so that the order of rows changes no digit
            order = np.lexsort((y, *X.T))
            X, y = X[order], y[order]
        population = deliver(
            X,
            y,
            lambda: netformer_of(self.model),
            n_samples=n_samples,
            refine_steps=refine_steps,
            seed=_seed(self.random_state),
            prompt=prompt,
            target="y" if name is None else str(name),
            min_frequency=at_least_one(self.min_frequency),
        )
        for column in population.reading.table:
            if column.words:
                words = ", ".join(map(repr, column.words))
                warnings.warn(f"column {column.name!r}: {words} taken for a gap", UserWarning, stacklevel=2)
        self._keep(population, noise_of(population, X, y))
        return self

    def _fit_each(self, X: Any, y: Any, sample_weight: Any) -> NetFormerRegressor:
        """One regressor per target."""
        columns = [y.iloc[:, i] for i in range(y.shape[1])] if hasattr(y, "iloc") else list(np.asarray(y).T)
        self.targets_ = [clone(self).fit(X, column, sample_weight) for column in columns]
        self.n_features_in_ = self.targets_[0].n_features_in_
        if hasattr(self.targets_[0], "feature_names_in_"):
            self.feature_names_in_ = self.targets_[0].feature_names_in_
        return self

    def _checked(self, X: Any, y: Any) -> tuple[Any, Float[np.ndarray, " rows"]]:
        """X as it is read, and y as float64: a DataFrame stays one, all else is an array of numbers, gaps nan."""
        if not is_frame(X):
            X, y = validate_data(self, X, y, y_numeric=True, ensure_min_samples=2, **_NUMBERS)
            return X, np.asarray(y, np.float64)
        y = numeric_target(y)
        check_consistent_length(X, y)
        names, _ = cells_of(X)
        X = X if isinstance(X, pd.DataFrame) else X.to_pandas()
        self.n_features_in_, self.feature_names_in_ = len(names), np.array(names, dtype=object)
        return X, y

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.target_tags.multi_output = True
        return tags

    def _repr_html_inner(self) -> str:
        """The diagram of scikit-learn, and what was fitted."""
        fitted = [one.network_ for one in getattr(self, "targets_", [self]) if hasattr(one, "network_")]
        return super()._repr_html_inner() + "".join(population._repr_html_() for population in fitted)

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        shown = super()._repr_mimebundle_(**kwargs)
        return shown | ({"text/html": self._repr_html_inner()} if "text/html" in shown else {})

    def _keep(self, population: Population, noise: float) -> None:
        """What `fit` and `load` leave behind."""
        reading = population.reading
        self.network_, self.networks_, self.noise_ = population, population[:], noise
        self.columns_ = reading.described()
        self.target_center_, self.target_scale_ = reading.target_center, reading.target_scale

    def _table(self, X: Any) -> Any:
        """Rows to predict, as the population reads them."""
        return X if is_frame(X) else validate_data(self, X, reset=False, **_NUMBERS)

    def predict(
        self, X: Any, return_std: bool = False, quantiles: Any = None
    ) -> Float[np.ndarray, "*n"] | tuple[Float[np.ndarray, "*n"], Float[np.ndarray, "*n"]]:
        """Predictions in the units of y. X: as in `fit`; a DataFrame is matched by name, whatever its order.

        return_std: also a standard deviation of y for each row: the root of `noise_` squared plus the variance across
        the networks written (not where each reads a part of the columns, and differs by that). `predict_interval`
        keeps its promise more often.
        quantiles: instead of predictions these quantiles of y, (rows, quantiles), see
        `Population.predict_quantiles`; of several targets (rows, targets, quantiles). Raises InputError for quantiles
        out of order or outside (0, 1), and together with return_std.
        """
        check_is_fitted(self, ["network_", "targets_"], all_or_any=any)
        if quantiles is not None:
            if return_std:
                raise InputError("predict must be asked for return_std or for quantiles, not for both")
            return self._asked(X, "predict_quantiles", quantiles)
        if hasattr(self, "targets_"):
            if not return_std:
                return np.stack([one.predict(X) for one in self.targets_], 1)
            each, deviation = zip(*(one.predict(X, return_std=True) for one in self.targets_), strict=True)
            return np.stack(each, 1), np.stack(deviation, 1)
        X = self._table(X)
        predicted = self.network_.predict(X)
        if not return_std:
            return predicted
        spread = np.zeros(len(predicted))
        if self.network_.about.get("groups", 1) == 1:
            spread = self.networks_.standard_answers(self.networks_.read(X), "each").std(0) * self.target_scale_
        return predicted, np.hypot(spread, self.noise_)

    def predict_interval(self, X: Any, coverage: Any = 0.9) -> Float[np.ndarray, " rows *n"]:
        """The least and the largest y to be expected of each row, (rows, 2): a new row lies between them with
        probability `coverage`, above as often as below. They lie farther apart where the fitted rows were off by more.

        From the errors of the rows fitted, each without itself (`generation.calibration`); how often that holds on
        real tables: docs/intervals.md. X: as in `predict`. coverage: in (0, 1). Of several targets (rows, targets, 2).
        Raises InputError for another coverage.
        """
        check_is_fitted(self, ["network_", "targets_"], all_or_any=any)
        return self._asked(X, "predict_interval", coverage)

    def _asked(self, X: Any, method: str, wanted: Any) -> Float[np.ndarray, " rows *n"]:
        """What a method of the population answers; of several targets one after the other."""
        if hasattr(self, "targets_"):
            return np.stack([one._asked(X, method, wanted) for one in self.targets_], 1)
        return getattr(self.network_, method)(self._table(X), wanted)

    def to_bundle(self, columns: Sequence[str] | None = None, target: str | None = None) -> Population:
        """What was fitted, to save or export (`exports.export`). columns: other names for those in use, x0, x1, ... if
        an array was fitted; target: for the target, y or the name of the Series that was fitted. `about` keeps the
        parameters; a random_state that is no whole number, and a model that is no folder, as None."""
        check_is_fitted(self, "network_")
        parameters = self.get_params()
        for name in ("refine_steps", "n_samples", "random_state", "max_params", "max_hidden_layers", "min_frequency"):
            value = parameters[name]
            parameters[name] = int(value) if isinstance(value, Integral) else None
        if self.activations is not None:
            parameters["activations"] = [str(name) for name in self.activations]
        parameters["model"] = str(self.model) if isinstance(self.model, str | Path) else None
        about = {"estimator": parameters, "feature_names": hasattr(self, "feature_names_in_"), "noise": self.noise_}
        return self.network_.named(columns, target, **about)

    def save(self, folder: str | Path) -> None:
        """Write what was fitted as a folder (`Bundle.save`), without pickle. Raises InputError if it is not empty."""
        self.to_bundle().save(folder)

    @classmethod
    def load(cls, folder: str | Path) -> NetFormerRegressor:
        """A fitted regressor from a folder of `save` or of `Bundle.save`; it predicts what the saved one predicts.
        Raises InputError, one line, for a folder that is incomplete, damaged or of another format."""
        from netformer.exports.population import Population

        population = Population.load(folder)
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
        loaded._keep(population, float(population.about.get("noise", 0.0)))
        return loaded


def _seed(random_state: Any) -> int:
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


def numeric_target(y: Any) -> Float[np.ndarray, " rows"]:
    """y as (rows,) float64. Raises InputError for text, and for gaps."""
    y = column_or_1d(np.asarray(y), warn=True)
    try:
        numbers = y.astype(np.float64)
    except (TypeError, ValueError):
        example = next(value for value in y if not isinstance(value, int | float))
        raise InputError(
            f"y must be numbers, found {str(example)!r}; a column of text is no target of a regression"
        ) from None
    if not np.isfinite(numbers).all():
        row = int((~np.isfinite(numbers)).argmax())
        raise InputError(f"y must be finite, found {numbers[row]} in row {row + 1}; drop the rows without a target")
    return numbers


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
