"""NetFormerClassifier: networks written for a table whose target is a class, behind scikit-learn's interface.

Importing this module must not import torch, which takes a second: what needs it is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from sklearn.base import ClassifierMixin
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from netformer.errors import InputError
from netformer.generation.fitted import NUMBERS, Fitted, at_least_one, netformer_of, seed_of
from netformer.tables.columns import MIN_FREQUENCY, is_frame
from netformer.tables.labels import check_classes

if TYPE_CHECKING:
    from netformer.exports.population import Population
    from netformer.generation.classes import ClassSearching
    from netformer.generation.generator import NetFormer

SHOWN = 5  # labels in an error


class NetFormerClassifier(ClassifierMixin, Fitted):
    """Classification by networks that a trained transformer writes for the table: no training, no choice to make.

    Where classes jump, step units (boosted trees) are grown on the rows and join them; steps=False leaves them out.

    `n_samples` networks are written, for one class after the other against the rest (of more classes than networks, for
    directions in which classes differ), and merged into one wide network with an output per class. Its output layer is
    a logistic regression over all hidden units and inputs, a mean over several penalties, weighted by the log loss of
    rows left out (`generation.classes`). There may be any number of classes; time grows in proportion to
    it. Columns are read as by `NetFormerRegressor`.

    Parameters
    ----------
    refine_steps, n_samples, random_state, max_params, max_hidden_layers, activations, model, min_frequency, steps : as
        in `NetFormerRegressor`.
    class_weight : "balanced", dict of label to weight, or None, default None. How much the rows of a class count in the
        output layer: "balanced" in inverse proportion to their number. Probabilities are then those of a table in which
        classes are as frequent as their weights say.
    search : netformer.search.table.Search or None, default None. Instead of merging networks, search one: the network
        of least log loss on rows left out of its output layer, of those that keep the constraints of the search, is the
        answer, as it is (`search.classes`). Bounds are then those of the search; `n_samples` and `steps` are not read.

    Attributes
    ----------
    classes_ : labels, sorted.
    networks_ : Population of the networks written, before merging, each with an output layer of its own; of a search
        its front, in order of the first objective.
    network_ : Population, the same with the wide network that `predict` runs, of a search number
        `network_.about["search"]["chosen"]` of the front. Where no column varies, it answers how
        frequent the classes are. `network_.about["log_loss"]`: of rows left out of the output layer, a little low.
    columns_ : DataFrame, a row per column of the table: what it was read as, its inputs, what was left out and why.
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
        class_weight: str | Mapping[Any, float] | None = None,
        steps: bool = True,
        search: ClassSearching | None = None,
    ) -> None:
        self.refine_steps = refine_steps
        self.n_samples = n_samples
        self.random_state = random_state
        self.max_params = max_params
        self.max_hidden_layers = max_hidden_layers
        self.activations = activations
        self.model = model
        self.min_frequency = min_frequency
        self.class_weight = class_weight
        self.steps = steps
        self.search = search

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> NetFormerClassifier:
        """X, sample_weight: as in `NetFormerRegressor.fit`. y: (rows,) labels: text, whole numbers, truth values; each
        class at least `labels.LEAST_ROWS` rows. Raises InputError, one line, for gaps, labels of several types, numbers
        that look like a target of regression, one class, a class of one row, and as `NetFormerRegressor.fit` does.
        """
        from netformer.generation.classes import deliver_classes, deliver_classes_found

        n_samples, refine_steps, prompt = self._request()
        search = self._searched("class_front")
        name = getattr(y, "name", None)  # of a Series
        labels = labels_checked(y)
        if is_frame(X):
            X = self._framed(X, labels)
        else:
            X, labels = validate_data(
                self, X, labels, ensure_min_samples=2, dtype=NUMBERS["dtype"], ensure_all_finite="allow-nan"
            )
        X, labels = self._repeated(X, labels, sample_weight)
        classes, codes = np.unique(labels, return_inverse=True)
        check_classes("y" if name is None else str(name), codes, tuple(classes.tolist()))
        if not is_frame(X):
            order = order_of_rows(X, codes, len(classes))
            X, codes = X[order], codes[order]
        weight = weights_of(self.class_weight, classes, codes)
        self.classes_ = classes
        named = tuple(classes.tolist())
        how: dict[str, Any] = {"weight": weight, "target": "y" if name is None else str(name)}
        how |= {"seed": seed_of(self.random_state), "min_frequency": at_least_one(self.min_frequency)}
        if search is not None:
            population = deliver_classes_found(
                X, codes, named, lambda: netformer_of(self.model, "a search"), search, **how
            )
        else:
            population = deliver_classes(
                X,
                codes,
                named,
                lambda: netformer_of(self.model, "refine_steps" if refine_steps else ""),
                n_samples=n_samples,
                refine_steps=refine_steps,
                prompt=prompt,
                steps=self._steps(),
                **how,
            )
        self._keep(population)
        self._say_gaps(stacklevel=3)
        return self

    def _keep(self, population: Population) -> None:
        from netformer.exports.classes import labels_of

        super()._keep(population)
        if not hasattr(self, "classes_"):
            self.classes_ = labels_of(population.classes)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def predict(self, X: Any) -> np.ndarray:
        """The label of the most probable class of each row, (rows,). X: as in `fit`; a DataFrame is matched by name."""
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(1)]

    def predict_proba(self, X: Any) -> Float[np.ndarray, "rows classes"]:
        """The probability of each of `classes_` in every row, adding up to 1."""
        check_is_fitted(self, "network_")
        return self.network_.predict_proba(self._table(X))

    def decision_function(self, X: Any) -> Float[np.ndarray, " rows *classes"]:
        """Logits: of two classes that of the second, (rows,); else (rows, classes), whose softmax the probabilities
        are."""
        check_is_fitted(self, "network_")
        return self.network_.decision_function(self._table(X))


def labels_checked(y: Any) -> np.ndarray:
    """Labels as an array of one type. Raises InputError for gaps, labels of several types, and numbers that are not
    whole."""
    y = column_or_1d(y.to_numpy() if hasattr(y, "to_numpy") else np.asarray(y), warn=True)
    gaps = pd.isna(y)
    if gaps.any():
        raise InputError(
            f"y must have no gaps, found one in row {int(gaps.argmax()) + 1}; drop the rows without a label"
        )
    if y.dtype.kind == "f" and not (np.isfinite(y).all() and (y == np.round(y)).all()):
        odd = y[~np.isfinite(y) | (y != np.round(y))][0]
        raise InputError(
            f"Unknown label type: y holds {float(odd)!r}, so it looks like a target of numbers; use NetFormerRegressor,"
            " or make classes of it (pandas.cut)"
        )
    if y.dtype.kind == "O":
        kinds = sorted({type(label).__name__ for label in y.tolist()})
        if len(kinds) > 1:
            raise InputError(f"y must hold labels of one type, found {', '.join(kinds)}; make all of them text")
        y = np.array(y.tolist(), dtype=object) if kinds == ["str"] else np.array(y.tolist())
    if y.dtype.kind not in "biufUO" or (y.dtype.kind == "O" and not isinstance(y[0], str)):
        raise InputError(
            f"y must hold text, whole numbers or truth values, found {y[:1].tolist()[0]!r}; make text of it"
        )
    return y


def weights_of(class_weight: Any, classes: np.ndarray, codes: Int[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
    """The weight of each row. Raises InputError for class weights that are no weights of these classes."""
    try:
        weight = np.asarray(compute_sample_weight(class_weight, classes[codes]), np.float64)
    except (TypeError, ValueError):
        weight = np.full(1, np.nan)
    if not (np.isfinite(weight).all() and (weight >= 0).all() and weight.any()):
        labels = ", ".join(map(repr, classes[:SHOWN].tolist()))
        raise InputError(
            f"class_weight must be None, 'balanced' or a dict of weights from 0 on by label ({labels}"
            f"{', ..' * (len(classes) > SHOWN)}), got {class_weight!r}"
        )
    return weight


def order_of_rows(
    X: Float[np.ndarray, "rows columns"], codes: Int[np.ndarray, " rows"], n_classes: int
) -> Int[np.ndarray, " rows"]:
    """Rows in an order that neither their order, nor that of columns, nor the names of classes enter: by the ranks of
    their cells; equal rows by how many rows their class has and where these are."""
    ranks = np.stack([np.unique(column, return_inverse=True)[1] for column in X.T], 1).astype(np.float64)
    keys = [(ranks**power).sum(1) for power in (3, 2, 1)]
    order = np.lexsort((*ranks.T, *keys))
    place = np.empty(len(X))
    place[order] = np.cumsum(np.r_[0, (ranks[order][1:] != ranks[order][:-1]).any(1)])
    count, total = np.bincount(codes, minlength=n_classes), np.bincount(codes, place, n_classes)
    squares = np.bincount(codes, place * place, n_classes)
    rank = np.empty(n_classes)
    rank[np.lexsort((squares, total, -count))] = np.arange(n_classes)
    return np.lexsort((rank[codes], place))
