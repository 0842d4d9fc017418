"""NetFormerRegressor: the package's weights behind scikit-learn's interface."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from netformer.merging import merge, widen
from netformer.networks import concatenate
from netformer.refinement import refine
from netformer.sampling import NetFormer, Population
from netformer.tasks import TRAIN, TaskStack, Views

VIEWS = 4  # of a table with more columns than a network reads
_LARGEST = 1e30  # of a standardised value: a row far outside of what was seen stays finite in float32


@cache
def _model() -> NetFormer:
    return NetFormer.load()


def _views(strength: Float[np.ndarray, " features"], size: int, count: int) -> list[Int[np.ndarray, " k"]]:
    """Columns of each view: of a narrow table one with all, else the stronger half of `size` in each, and others in
    turn, in order of |correlation with y|."""
    order = np.argsort(-strength, kind="stable")
    if len(order) <= size:
        return [order]
    half = size // 2
    rest = order[half:]
    used = min(count, -(-len(rest) // (size - half)))
    return [np.concatenate([order[:half], rest[v::used][: size - half]]) for v in range(used)]


class NetFormerRegressor(RegressorMixin, BaseEstimator):
    """Regression by networks that a pretrained transformer writes for the table: no training, no choice to make.

    `n_samples` networks are written, and merged into one wide network whose output layer is half the mean of theirs and
    half solved jointly (`merging.widen`); no gradient step unless `refine_steps` asks for some. Columns are numeric and
    finite, the target is one. A table with more columns than a network reads (16) is read in up to 4 views, and
    solved jointly alone; every column reaches the output linearly.

    Parameters
    ----------
    refine_steps : int, default 0. Gradient steps a network (`refinement.refine`); a fifth of the rows is held back, and
        no network ends worse there than it began.
    n_samples : int, default 16. Networks written.
    random_state : int, RandomState instance or None, default None. The noise the networks are drawn from.

    Attributes
    ----------
    networks_ : Population of the networks written, before merging; they read standardised columns.
    network_ : MergedNetwork, the wide one that `predict` runs, from standardised columns to the standardised target.
    center_, scale_ : ndarray of shape (n_features_in_,), of the columns; target_center_, target_scale_ : float.
    n_features_in_, feature_names_in_ : as in scikit-learn.
    """

    def __init__(self, refine_steps: Any = 0, n_samples: Any = 16, random_state: Any = None) -> None:
        self.refine_steps = refine_steps
        self.n_samples = n_samples
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> NetFormerRegressor:
        """X: (rows, features), y: (rows,), at least 2 rows. Raises ValueError for missing or infinite values."""
        if self.n_samples < 1:
            raise ValueError(f"n_samples must be at least 1, got {self.n_samples}")
        if self.refine_steps < 0:
            raise ValueError(f"refine_steps must be at least 0, got {self.refine_steps}")
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=2)
        y = np.asarray(y, np.float64)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.center_, self.scale_ = _center_and_scale(X)
        center, scale = _center_and_scale(y[:, None])
        self.target_center_, self.target_scale_ = float(center[0]), float(scale[0])
        self.network_ = None
        z, t = self._standardize(X), (y - self.target_center_) / self.target_scale_
        if t.std() == 0 or not (z.std(0) > 0).any():
            return self  # nothing to learn: the mean
        self.networks_, tasks = self._write(z, t, seed)
        # Networks that each read a part of the columns are no answer in the mean, only together.
        share = 1.0 if z.shape[1] > _model().model.layout.max_features else 0.5
        wide = widen(self.networks_.networks, tasks, self.n_samples, share)
        self.network_ = merge(wide, self.n_samples)[0].double()
        return self

    def predict(self, X: Any) -> Float[np.ndarray, " rows"]:
        """Predictions in the units of y."""
        check_is_fitted(self, "center_")
        X = validate_data(self, X, dtype=np.float64, reset=False)
        if self.network_ is None:
            return np.full(len(X), self.target_center_)
        predicted = self.network_.predict(self._standardize(X)).astype(np.float64)
        return predicted * self.target_scale_ + self.target_center_

    def _standardize(self, X: Float[np.ndarray, "rows features"]) -> Float[np.ndarray, "rows features"]:
        return np.clip((X - self.center_) / self.scale_, -_LARGEST, _LARGEST)

    def _write(
        self, z: Float[np.ndarray, "rows features"], t: Float[np.ndarray, " rows"], seed: int
    ) -> tuple[Population, TaskStack]:
        """Networks on all standardised columns, and the table as the task they share."""
        model, n_features = _model(), z.shape[1]
        views = _views(np.abs(z.T @ t), model.model.layout.max_features, min(VIEWS, self.n_samples))
        counts = [len(part) for part in np.array_split(np.arange(self.n_samples), len(views))]
        written, expected = [], []
        for number, (columns, count) in enumerate(zip(views, counts, strict=True)):
            seen = np.zeros_like(z)
            seen[:, columns] = z[:, columns]
            tasks, networks, estimates = model.write(seen, t, count, random_state=(seed + number) % 2**31)
            if self.refine_steps:
                networks = refine(networks, tasks, torch.zeros(count, dtype=torch.long), steps=self.refine_steps)
            written.append(tasks.views[[0] * count].fold(networks, n_features))
            expected.append(estimates)
        return Population(concatenate(written), torch.cat(expected)), _as_task(z, t)


def _center_and_scale(X: Float[np.ndarray, "rows features"]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each column, without overflow; 1 where the column is constant."""
    size = np.abs(X).max(0)
    size[size == 0] = 1.0
    unit = X / size
    center, scale = unit.mean(0), unit.std(0)
    flat = scale <= 1e-9 * np.maximum(np.abs(center), 1e-300)
    return center * size, np.where(flat, 1.0, scale) * np.where(flat, 1.0, size)


def _as_task(z: Float[np.ndarray, "rows features"], t: Float[np.ndarray, " rows"]) -> TaskStack:
    x, y = torch.from_numpy(z).float()[None], torch.from_numpy(t).float()[None]
    f = z.shape[1]
    views = Views(
        torch.arange(f)[None],
        torch.ones(1, f),
        torch.zeros(1, f),
        torch.ones(1, f),
        torch.tensor([f]),
        torch.zeros(1),
        torch.ones(1),
    )
    return TaskStack(x, y, torch.full((1, len(t)), TRAIN), views)
