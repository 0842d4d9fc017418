"""NetFormerRegressor: the package's weights behind scikit-learn's interface.

Importing this module must not import torch, which takes a second: what needs it is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

import netformer
from netformer.errors import InputError


@cache
def _model() -> netformer.NetFormer:
    from netformer.generation.generator import NetFormer

    return NetFormer.load()


class NetFormerRegressor(RegressorMixin, BaseEstimator):
    """Regression by networks that a pretrained transformer writes for the table: no training, no choice to make.

    `n_samples` networks are written, and merged into one wide network whose output layer is half the mean of theirs and
    half solved jointly (`merging.widen`); no gradient step unless `refine_steps` asks for some. Columns are numeric and
    finite, the target is one. A table with more columns than a network reads (16) is read in up to 4 views, and
    solved jointly alone; every column reaches the output linearly.

    Parameters
    ----------
    refine_steps : int, default 0. Gradient steps on what each network is written from (`refinement.refine_latents`), on
        four fifths of the rows; each keeps the steps that help on the others. `noise_` is then rather low.
    n_samples : int, default 16. Networks written.
    random_state : int, RandomState instance or None, default None. The noise the networks are drawn from.
    max_params : int or None, default None. Largest number of parameters of each network written, before merging.
    max_hidden_layers : int or None, default None. Largest depth of each.
    activations : sequence of names or None, default None. Those allowed: identity, relu, tanh, sigmoid, gelu.

    Attributes
    ----------
    networks_ : Population of the networks written, before merging; they read standardised columns.
    wide_ : Networks, the same with the output layers of `merging.widen`.
    network_ : MergedNetwork, the wide one that `predict` runs, from standardised columns to the standardised target.
        Where there is nothing to learn (a constant target, no column that varies), it answers 0, the mean.
    noise_ : float, root mean squared residual on the rows fitted, in the units of y.
    center_, scale_ : ndarray of shape (n_features_in_,), of the columns; target_center_, target_scale_ : float.
    n_features_in_, feature_names_in_ : as in scikit-learn.
    """

    def __init__(
        self,
        refine_steps: Any = 0,
        n_samples: Any = 16,
        random_state: Any = None,
        max_params: Any = None,
        max_hidden_layers: Any = None,
        activations: Any = None,
    ) -> None:
        self.refine_steps = refine_steps
        self.n_samples = n_samples
        self.random_state = random_state
        self.max_params = max_params
        self.max_hidden_layers = max_hidden_layers
        self.activations = activations

    def fit(self, X: Any, y: Any) -> NetFormerRegressor:
        """X: (rows, features), y: (rows,), at least 2 rows. Raises InputError for missing or infinite values."""
        from netformer.exports.bundle import standardize
        from netformer.generation.delivery import deliver
        from netformer.model.prompt import Prompt, check_request
        from netformer.networks.merged import merged

        n_samples, refine_steps = check_request(self.n_samples, self.refine_steps)
        prompt = Prompt(self.max_params, self.max_hidden_layers, self.activations)
        if getattr(y, "ndim", 1) == 2 and y.shape[1] > 1:
            raise InputError(f"y must be one target, got {y.shape}; see sklearn.multioutput.MultiOutputRegressor")
        X, y = validate_data(self, _advise(X), y, dtype=np.float64, y_numeric=True, ensure_min_samples=2)
        y = np.asarray(y, np.float64)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.center_, self.scale_ = _center_and_scale(X)
        center, scale = _center_and_scale(y[:, None])
        self.target_center_, self.target_scale_ = float(center[0]), float(scale[0])
        z = (X / 2 - self.center_ / 2) / (self.scale_ / 2)  # halves: the difference of two finite numbers may not be
        t = (y / 2 - self.target_center_ / 2) / (self.target_scale_ / 2)
        self.networks_, self.wide_ = deliver(
            z, t, _model, n_samples=n_samples, refine_steps=refine_steps, seed=seed, **vars(prompt)
        )
        self.network_ = merged(self.wide_)
        fitted = self.network_.predict(standardize(X, self.center_, self.scale_))
        self.noise_ = float(np.sqrt(np.square(fitted - t).mean())) * self.target_scale_
        return self

    def predict(
        self, X: Any, return_std: bool = False
    ) -> Float[np.ndarray, " rows"] | tuple[Float[np.ndarray, " rows"], Float[np.ndarray, " rows"]]:
        """Predictions in the units of y.

        return_std: also a standard deviation of y for each row: the root of `noise_` squared plus the variance across
        the networks written (not of a table read in several views, where these differ by what they read). How often its
        intervals hold is measured in `reports/pretrained/metrics.json`, calibration.
        """
        from netformer.exports.bundle import standardize

        check_is_fitted(self, "center_")
        X = validate_data(self, _advise(X), dtype=np.float64, reset=False)
        z = standardize(X, self.center_, self.scale_)
        predicted = self.network_.predict(z) * self.target_scale_ + self.target_center_
        if not return_std:
            return predicted
        spread = np.zeros(len(z))
        if z.shape[1] <= _model().model.layout.max_features:
            spread = self.networks_.predict(z).astype(np.float64).std(0) * self.target_scale_
        return predicted, np.hypot(spread, self.noise_)

    def to_bundle(self, columns: Sequence[str] | None = None, target: str = "y") -> netformer.Bundle:
        """What was fitted, to save or export (`exports.export`). columns: names, None for those of the DataFrame that
        was fitted, else x0, x1, ... `about` keeps the parameters; a random_state that is no whole number as None."""
        from netformer.exports.bundle import Bundle

        check_is_fitted(self, "center_")
        named = getattr(self, "feature_names_in_", None)
        if columns is None:
            columns = [f"x{i}" for i in range(self.n_features_in_)] if named is None else named.tolist()
        parameters = self.get_params()
        for name in ("refine_steps", "n_samples", "random_state", "max_params", "max_hidden_layers"):
            value = parameters[name]
            parameters[name] = int(value) if isinstance(value, Integral) else None
        if self.activations is not None:
            parameters["activations"] = [str(name) for name in self.activations]
        expected = [round(value, 6) for value in self.networks_.expected_r2.tolist()]
        about = {"estimator": parameters, "feature_names": named is not None}
        about |= {"expected_r2": expected, "noise": self.noise_}
        return Bundle(
            self.networks_.networks,
            self.wide_,
            self.center_,
            self.scale_,
            self.target_center_,
            self.target_scale_,
            tuple(columns),
            target,
            about,
        )

    def save(self, folder: str | Path) -> None:
        """Write what was fitted as a folder (`Bundle.save`), without pickle. Raises InputError if it is not empty."""
        self.to_bundle().save(folder)

    @classmethod
    def load(cls, folder: str | Path) -> NetFormerRegressor:
        """A fitted regressor from a folder of `save` or of `Bundle.save`; it predicts what the saved one predicts.
        Raises InputError, one line, for a folder that is incomplete, damaged or of another format."""
        import torch

        from netformer.exports.bundle import Bundle
        from netformer.generation.delivery import reader
        from netformer.networks.merged import merged

        bundle = Bundle.load(folder)
        parameters = bundle.about.get("estimator", {"n_samples": len(bundle.networks)})
        if not isinstance(parameters, dict) or not set(parameters) <= set(cls().get_params()):
            allowed = ", ".join(sorted(cls().get_params()))
            raise InputError(f"{folder}: about.estimator must hold some of {allowed}, found {parameters!r}")
        if isinstance(parameters.get("activations"), list):
            parameters = parameters | {"activations": tuple(parameters["activations"])}
        loaded = cls(**parameters)
        loaded.center_, loaded.scale_ = bundle.center, bundle.scale
        loaded.target_center_, loaded.target_scale_ = bundle.target_center, bundle.target_scale
        loaded.n_features_in_ = len(bundle.columns)
        if bundle.about.get("feature_names"):
            loaded.feature_names_in_ = np.array(bundle.columns, dtype=object)
        expected = bundle.about.get("expected_r2", [np.nan] * len(bundle.networks))
        loaded.networks_ = reader(bundle.networks, torch.tensor(expected))
        loaded.wide_ = bundle.networks if bundle.wide is None else bundle.wide
        loaded.network_, loaded.noise_ = merged(loaded.wide_), float(bundle.about.get("noise", 0.0))
        return loaded


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


def _center_and_scale(X: Float[np.ndarray, "rows features"]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each column, without overflow; 1 where the column is constant."""
    size = np.abs(X).max(0)
    size[size == 0] = 1.0
    unit = X / size
    center, scale = unit.mean(0), unit.std(0)
    flat = scale <= 1e-9 * np.maximum(np.abs(center), 1e-300)
    return center * size, np.where(flat, 1.0, scale) * np.where(flat, 1.0, size)
