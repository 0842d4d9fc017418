"""NetFormerRegressor: networks written for a table, behind scikit-learn's interface.

Importing this module must not import torch, which takes a second: what needs it is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from netformer.errors import InputError
from netformer.generation.fitted import NUMBERS, Fitted, at_least_one, netformer_of, seed_of
from netformer.tables.columns import MIN_FREQUENCY, is_frame

if TYPE_CHECKING:
    from netformer.exports.population import Population
    from netformer.generation.delivery import Searching
    from netformer.generation.generator import NetFormer
    from netformer.model.prompt import Prompt

LARGEST = 1e300  # of a target: answers and their errors stay finite, also where they are a million times its scale


class NetFormerRegressor(RegressorMixin, Fitted):
    """Regression by networks that a trained transformer writes for the table: no gradient step, no choice to make.

    Where the target jumps, step units (boosted trees) are grown on the rows and join them; steps=False leaves them out.

    `n_samples` networks are written and merged into one wide network. Its output layer is a blend of theirs and of one
    ridge fit over all hidden units (`merging.widen`): the more rows per hidden unit, the more of the fit. No gradient
    step is taken unless `refine_steps` asks for some.

    Columns may hold numbers, dates, categories and text, with gaps and outliers: `tables.reading` and `tables.inputs`
    say what becomes of them, `columns_` what was decided. The target is one column of numbers, or several: networks are
    then written for one after the other, and each answers all of them. A network reads up to
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
    steps : bool, default True. Grow step units for the table, as decision trees, and let them have a share of the
        answer where that helps on rows they were not grown on (`growing.mixing`; docs/steps.md). False: what is
        written alone.
    search : netformer.search.table.Search or None, default None. Instead of merging networks, search one: the network
        of least leave-one-out error of those that keep the constraints of the search is the answer, as it is, and no
        step unit is grown. Bounds are then those of the search; `n_samples` and `steps` are not read.
    max_loss : float or None, default None. Instead of merging networks, deliver one: the smallest whose leave-one-out
        R2 is at most so much below that of the best, of many structures that read all columns or a few
        (`generation.structures`; docs/small.md). 0.01 is a good value. `n_samples` and `steps` are not read.

    Attributes
    ----------
    networks_ : Population of the networks written, before merging: `networks_.predict(X)` is (n, rows). Of a search
        the front: networks that none is better than in everything, in order of the first objective.
    network_ : Population, the same with the wide network that `predict` runs: `network_.predict(X)` is (rows,); of a
        search it is one of the front, number `network_.about["search"]["chosen"]`.
        Where there is nothing to learn (a constant target, no column that varies), it answers the mean.
    noise_ : float, root mean squared residual on the rows fitted, on 8,192 of them at most, in the units of y; of
        several targets an array (targets,), as the next two.
    columns_ : DataFrame, a row per column of the table: what it was read as, its inputs, what was left out and why.
    target_center_, target_scale_ : float, mean and standard deviation of y.
    feature_importances_ : one number per column, sum 1, from the network alone; see `Fitted`.
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
        steps: bool = True,
        search: Searching | None = None,
        max_loss: float | None = None,
    ) -> None:
        self.refine_steps = refine_steps
        self.n_samples = n_samples
        self.random_state = random_state
        self.max_params = max_params
        self.max_hidden_layers = max_hidden_layers
        self.activations = activations
        self.model = model
        self.min_frequency = min_frequency
        self.steps = steps
        self.search = search
        self.max_loss = max_loss

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> NetFormerRegressor:
        """X: a DataFrame of pandas, polars or pyarrow with columns of numbers, dates, categories and text, or an array
        of numbers (rows, features); gaps are allowed. y: (rows,), at least 2 rows, or (rows, targets), each a number.
        sample_weight: (rows,), at least 0: a row counts as if it stood in the table so many times; weights that are not
        whole are rounded so that the table keeps its number of rows (`repeats`). Raises InputError for infinite values,
        a target with gaps or beyond `LARGEST`, a table without a usable column, for parameters and a model that
        cannot be used, and as the search does.
        """
        from netformer.generation.delivery import deliver, deliver_found, noise_of

        n_samples, refine_steps, prompt = self._request()
        search, names = self._search(prompt), target_names(y)
        if self.max_loss is not None and len(names) > 1:
            raise InputError(f"max_loss is for one target, got {len(names)}: {', '.join(map(repr, names))}")
        X, y = self._repeated(*self._checked(X, y), sample_weight)
        _bounded(y, names)
        if not is_frame(X):  # in an order of its own, so that the order of rows changes no digit
            order = np.lexsort((*y.reshape(len(y), -1).T, *X.T))
            X, y = X[order], y[order]
        how: dict[str, Any] = {"seed": seed_of(self.random_state), "min_frequency": at_least_one(self.min_frequency)}
        if search is not None:
            torch_for = "" if self.search is None else "a search"
            population = deliver_found(X, y, lambda: netformer_of(self.model, torch_for), search, target=names, **how)
        else:
            population = deliver(
                X,
                y,
                lambda: netformer_of(self.model, "refine_steps" if refine_steps else ""),
                n_samples=n_samples,
                refine_steps=refine_steps,
                prompt=prompt,
                target=names,
                steps=self._steps(),
                **how,
            )
        self._keep(population)
        self._say_gaps(stacklevel=3)
        self.noise_ = noise_of(population, X, y)
        return self

    def _search(self, prompt: Prompt) -> Searching | None:
        """What searches: `search`, or the smallest network where `max_loss` asks for it. Raises InputError for what is
        none, and beside parameters that it does not read."""
        if self.max_loss is not None:
            from netformer.generation.structures import Smallest

            if self.search is not None or self.refine_steps:
                raise InputError("max_loss chooses one network by itself; leave search and refine_steps out")
            return Smallest(self.max_loss, prompt)
        return self._searched("front")

    def _checked(self, X: Any, y: Any) -> tuple[Any, Float[np.ndarray, "rows ..."]]:
        """X as it is read, and y as float64: a DataFrame stays one, all else is an array of numbers, gaps nan."""
        if is_frame(X):
            y = numeric_target(y)
            return self._framed(X, y), y
        more = several(y)
        y = numeric_target(y) if more or np.asarray(y).dtype.kind in "OSU" else y
        X, y = validate_data(self, X, y, y_numeric=True, multi_output=more, ensure_min_samples=2, **NUMBERS)
        return X, np.asarray(y, np.float64)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.target_tags.multi_output = True
        return tags

    def _keep(self, population: Population) -> None:
        super()._keep(population)
        reading, one = population.reading, len(population.reading.targets) == 1
        self.noise_ = plainly(np.asarray(population.about.get("noise", 0.0), np.float64), one)
        self.target_center_, self.target_scale_ = plainly(reading.centers, one), plainly(reading.scales, one)

    def predict(
        self, X: Any, return_std: bool = False, quantiles: Any = None
    ) -> Float[np.ndarray, "*n"] | tuple[Float[np.ndarray, "*n"], Float[np.ndarray, "*n"]]:
        """Predictions in the units of y, (rows,) or (rows, targets). X: as in `fit`; a DataFrame is matched by name,
        whatever its order.

        return_std: also a standard deviation of y for each row: the root of `noise_` squared plus the variance across
        the networks written (not where each reads a part of the columns, and differs by that; nor across the front of
        a search, where they differ by what they are good at). `predict_interval`
        keeps its promise more often.
        quantiles: instead of predictions these quantiles of y, (rows, quantiles), see
        `Population.predict_quantiles`; of several targets (rows, targets, quantiles). Raises InputError for quantiles
        out of order or outside (0, 1), and together with return_std.
        """
        check_is_fitted(self, "network_")
        X = self._table(X)
        if quantiles is not None:
            if return_std:
                raise InputError("predict must be asked for return_std or for quantiles, not for both")
            return self.network_.predict_quantiles(X, quantiles)
        predicted = self.network_.predict(X)
        if not return_std:
            return predicted
        spread = np.zeros_like(predicted)
        about = self.network_.about
        if about.get("groups", 1) == 1 and "search" not in about:
            each = self.networks_.outputs(self.networks_.read(X), "each").std(0)
            spread = (each if predicted.ndim > 1 else each[:, 0]) * self.target_scale_
        return predicted, np.hypot(spread, self.noise_)

    def predict_interval(self, X: Any, coverage: Any = 0.9) -> Float[np.ndarray, " rows *n"]:
        """The least and the largest y to be expected of each row, (rows, 2): a new row lies between them with
        probability `coverage`, above as often as below. They lie farther apart where the fitted rows were off by more.

        From the errors of the rows fitted, each without itself (`generation.calibration`); how often that holds on
        real tables: docs/intervals.md. X: as in `predict`. coverage: in (0, 1). Of several targets (rows, targets, 2).
        Raises InputError for another coverage.
        """
        check_is_fitted(self, "network_")
        return self.network_.predict_interval(self._table(X), coverage)


def numeric_target(y: Any) -> Float[np.ndarray, "rows ..."]:
    """y as float64: (rows,), or (rows, targets) of several. Raises InputError for text, and for gaps, naming which."""
    if several(y):
        names = target_names(y)
        return np.stack([_numbers(one, names[k]) for k, one in enumerate(np.asarray(y).T)], 1)
    return _numbers(column_or_1d(np.asarray(y), warn=True), "y")


def several(y: Any) -> bool:
    """Whether y holds more than one target."""
    shape = y.shape if hasattr(y, "shape") else np.asarray(y).shape
    return len(shape) == 2 and shape[1] > 1


def target_names(y: Any) -> list[str]:
    """The name of each target: of the columns of a DataFrame or the Series, if it has one; else y, of several y0, y1,
    .. Raises InputError for names that stand twice."""
    if not several(y):
        name = getattr(y, "name", None)
        return ["y" if name is None else str(name)]
    named = getattr(y, "column_names", getattr(y, "columns", None))
    names = [f"y{k}" for k in range(np.asarray(y).shape[1])] if named is None else [str(name) for name in named]
    if len(set(names)) < len(names):
        raise InputError(f"every target must have a name of its own, got {', '.join(map(repr, names))}")
    return names


def plainly(values: np.ndarray, one: bool) -> Any:
    """What is kept of each target; of one alone a float."""
    return float(values.ravel()[0]) if one else values


def _bounded(y: Float[np.ndarray, "rows ..."], names: Sequence[str]) -> None:
    """Raises InputError for a target beyond `LARGEST`."""
    for name, column in zip(names, y.reshape(len(y), -1).T, strict=True):
        row = int(np.abs(column).argmax())
        if abs(column[row]) > LARGEST:
            raise InputError(f"{name} must be within +-{LARGEST:g}, found {column[row]:g}; divide it by a power of 10")


def _numbers(y: np.ndarray, name: str) -> Float[np.ndarray, " rows"]:
    try:
        numbers = y.astype(np.float64)
    except (TypeError, ValueError):
        example = next(value for value in y if not isinstance(value, int | float))
        raise InputError(
            f"{name} must be numbers, found {str(example)!r}; for a target of classes there is NetFormerClassifier"
        ) from None
    if not np.isfinite(numbers).all():
        row = int((~np.isfinite(numbers)).argmax())
        raise InputError(
            f"{name} must be finite, found {numbers[row]} in row {row + 1}; drop the rows without a target"
        )
    return numbers
