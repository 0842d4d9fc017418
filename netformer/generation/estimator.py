"""NetFormerRegressor: networks written for a table, behind scikit-learn's interface.

Importing this module must not import torch, which takes a second: what needs it is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from netformer.errors import InputError

if TYPE_CHECKING:
    from netformer.exports.population import Population
    from netformer.generation.generator import NetFormer


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


class NetFormerRegressor(RegressorMixin, BaseEstimator):
    """Regression by networks that a trained transformer writes for the table: no training, no choice to make.

    `n_samples` networks are written and merged into one wide network. Its output layer is a blend of theirs and of one
    ridge fit over all hidden units (`merging.widen`): the more rows per hidden unit, the more of the fit. No gradient
    step is taken unless `refine_steps` asks for some. Columns are numeric and finite, the target is one. Of a table
    with more columns than a network reads (16), each network reads one of up to 4 groups of columns, and the output
    layer is the ridge fit alone; every column reaches the output linearly.

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

    Attributes
    ----------
    networks_ : Population of the networks written, before merging: `networks_.predict(X)` is (n, rows).
    network_ : Population, the same with the wide network that `predict` runs: `network_.predict(X)` is (rows,).
        Where there is nothing to learn (a constant target, no column that varies), it answers the mean.
    noise_ : float, root mean squared residual on the rows fitted, in the units of y.
    center_, scale_ : ndarray of shape (n_features_in_,), of the columns; target_center_, target_scale_ : float.
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
    ) -> None:
        self.refine_steps = refine_steps
        self.n_samples = n_samples
        self.random_state = random_state
        self.max_params = max_params
        self.max_hidden_layers = max_hidden_layers
        self.activations = activations
        self.model = model

    def fit(self, X: Any, y: Any) -> NetFormerRegressor:
        """X: (rows, features), y: (rows,), at least 2 rows. Raises InputError for missing or infinite values, and for
        parameters and a model that cannot be used."""
        from netformer.generation.delivery import deliver
        from netformer.model.prompt import Prompt, check_request

        n_samples, refine_steps = check_request(self.n_samples, self.refine_steps)
        prompt = Prompt(self.max_params, self.max_hidden_layers, self.activations)
        if getattr(y, "ndim", 1) == 2 and y.shape[1] > 1:
            raise InputError(f"y must be one target, got {y.shape}; see sklearn.multioutput.MultiOutputRegressor")
        X, y = validate_data(self, _advise(X), y, dtype=np.float64, y_numeric=True, ensure_min_samples=2)
        y = np.asarray(y, np.float64)
        population = deliver(
            X,
            y,
            lambda: netformer_of(self.model),
            n_samples=n_samples,
            refine_steps=refine_steps,
            seed=_seed(self.random_state),
            prompt=prompt,
        )
        reading = population.reading
        residual = population.standard_answers(reading.standardize(X)) - reading.standardize_target(y)
        self._keep(population, float(np.sqrt(np.square(residual).mean())) * reading.target_scale)
        return self

    def _keep(self, population: Population, noise: float) -> None:
        """What `fit` and `load` leave behind."""
        reading = population.reading
        self.network_, self.networks_, self.noise_ = population, population[:], noise
        self.center_, self.scale_ = reading.center, reading.scale
        self.target_center_, self.target_scale_ = reading.target_center, reading.target_scale

    def predict(
        self, X: Any, return_std: bool = False
    ) -> Float[np.ndarray, " rows"] | tuple[Float[np.ndarray, " rows"], Float[np.ndarray, " rows"]]:
        """Predictions in the units of y.

        return_std: also a standard deviation of y for each row: the root of `noise_` squared plus the variance across
        the networks written (not where each reads a part of the columns, and differs by that). How often its
        intervals hold is measured in `reports/pretrained/metrics.json`, calibration.
        """
        check_is_fitted(self, "network_")
        X = validate_data(self, _advise(X), dtype=np.float64, reset=False)
        predicted = self.network_.predict(X)
        if not return_std:
            return predicted
        spread = np.zeros(len(X))
        if self.network_.about.get("groups", 1) == 1:
            z = self.networks_.reading.standardize(X)
            spread = self.networks_.standard_answers(z, "each").std(0) * self.target_scale_
        return predicted, np.hypot(spread, self.noise_)

    def to_bundle(self, columns: Sequence[str] | None = None, target: str = "y") -> Population:
        """What was fitted, to save or export (`exports.export`). columns: names, None for those of the DataFrame that
        was fitted, else x0, x1, ... `about` keeps the parameters; a random_state that is no whole number, and a model
        that is no folder, as None."""
        check_is_fitted(self, "network_")
        named = getattr(self, "feature_names_in_", None)
        if columns is None:
            columns = [f"x{i}" for i in range(self.n_features_in_)] if named is None else named.tolist()
        parameters = self.get_params()
        for name in ("refine_steps", "n_samples", "random_state", "max_params", "max_hidden_layers"):
            value = parameters[name]
            parameters[name] = int(value) if isinstance(value, Integral) else None
        if self.activations is not None:
            parameters["activations"] = [str(name) for name in self.activations]
        parameters["model"] = str(self.model) if isinstance(self.model, str | Path) else None
        about = {"estimator": parameters, "feature_names": named is not None, "noise": self.noise_}
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
        loaded.n_features_in_ = len(population.columns)
        if population.about.get("feature_names"):
            loaded.feature_names_in_ = np.array(population.columns, dtype=object)
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


def _advise(X: Any) -> Any:
    """X as it is. Raises InputError that names the columns of a DataFrame that are no numbers, or have gaps."""
    if not hasattr(X, "dtypes") or not hasattr(X, "columns"):
        return X
    kinds = {str(name): dtype for name, dtype in zip(X.columns, X.dtypes, strict=True)}
    text = [f"{name} ({kind})" for name, kind in kinds.items() if getattr(kind, "kind", "O") not in "biuf"]
    if text:
        raise InputError(f"columns must be numeric, got {', '.join(text)}; encode them (OrdinalEncoder, get_dummies)")
    gaps = [str(name) for name, missing in zip(X.columns, X.isna().any().tolist(), strict=True) if missing]
    if gaps:
        raise InputError(f"columns must hold no missing value (NaN), {', '.join(gaps)} do; see sklearn.impute")
    return X
