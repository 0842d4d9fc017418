"""Population: the networks delivered for one table. The one form that `generate`, the estimator, folders, exports and
reports share."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from netformer.arrays.namespace import Tensor
from netformer.errors import InputError, need
from netformer.exports.bundle import read_folder, write_folder
from netformer.exports.classes import labels_of, most_probable, probabilities
from netformer.exports.explain import Explanation, dependence, explained, importances
from netformer.exports.formula import Formula, formula_of
from netformer.exports.intervals import Intervals, ends_of, quantiles_of
from netformer.exports.onnx import onnx_model
from netformer.exports.trees import answers_of, mean_of
from netformer.files import replacing
from netformer.networks.stack import Networks, _check_stack
from netformer.tables.columns import is_frame
from netformer.tables.reading import Reading

MOST_ROWS = 20  # of a table in a notebook


@dataclass(frozen=True, eq=False, repr=False)
class Population:
    """Networks for one table, and how it is read: cells of its columns in, units of the target or classes out.

    reading: what each column is and becomes. networks: they read standardised inputs and answer in the standardised
    target, or in logits of its classes (`exports.classes`). expected_r2: of each network on new rows, by leave-one-out
    of its output layer; a little high, see `head.weigh_heads`; nan where it is not known. wide: the stack whose mean is
    the wide network (`merging.widen`), or None. about: anything JSON holds (seeds, scores). intervals: how far off
    the wide network may be, or None.

    `len` counts the networks; `population[i]`, `population[i:j]` and `population[mask]` hold some of them, without the
    wide one, and so do its items one by one.
    Raises InputError for parts that do not belong together.
    """

    reading: Reading
    networks: Networks
    expected_r2: Float[Tensor, " n"]
    wide: Networks | None = None
    about: dict = field(default_factory=dict)
    intervals: Intervals | None = None

    def __post_init__(self) -> None:
        n = len(self.networks)
        if n < 1:
            raise InputError("networks must hold at least 1 network, got 0")
        outputs = self.reading.n_outputs
        for name, stack in (("networks", self.networks), ("wide", self.wide)):
            if stack is not None:
                _check_stack(name, stack, len(self.reading.inputs))
                if stack.specs.n_outputs != outputs:
                    raise InputError(f"{name} must have {outputs} outputs, got {stack.specs.n_outputs}")
        if self.expected_r2.shape != (n,):
            raise InputError(f"expected_r2 must be one number per network, got {tuple(self.expected_r2.shape)}")
        if self.intervals is not None:
            if self.wide is None or self.classes:
                raise InputError("intervals are those of a wide network for numbers, and there is none")
            self.intervals.scale_of(self.wide)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in the order in which they are read."""
        return self.reading.columns

    @property
    def target(self) -> str:
        """Name of the target."""
        return self.reading.target

    @property
    def classes(self) -> tuple[Any, ...]:
        """Labels of the target's classes in sorted order; none of a target of numbers."""
        return self.reading.classes

    def __len__(self) -> int:
        return len(self.networks)

    def __getitem__(self, index: Any) -> Population:
        """Some of the networks, in a population without a wide one. index: a number, a slice, numbers, or a mask with
        a truth value per network. Raises InputError for another mask and where nothing is selected, IndexError for a
        number that no network has."""
        some = np.arange(len(self))
        at = index if isinstance(index, slice) else np.asarray(index)
        if not isinstance(at, slice):
            if at.dtype == bool and at.shape != (len(self),):
                raise InputError(f"a mask must hold a truth value per network, {len(self)}, got shape {at.shape}")
            if at.ndim > 1 or at.dtype.kind not in "biu":
                raise InputError(f"an index must be a number, a slice, numbers or a mask, got {index!r}")
        chosen = np.atleast_1d(some[at]).tolist()
        some_r2 = self.expected_r2[chosen]
        return replace(self, networks=self.networks[chosen], expected_r2=some_r2, wide=None, intervals=None)

    def __iter__(self) -> Iterator[Population]:
        """The networks one by one, as `population[i]`."""
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        sizes, known = self.networks.specs.n_params, np.asarray(self.expected_r2)
        kind = f" of {len(self.classes)} classes" if self.classes else ""
        parts = [
            f"Population of {len(self)} networks for {self.target!r}{kind}, {len(self.columns)} columns",
            f"parameters: {int(sizes.min())} to {int(sizes.max())}",
        ]
        if self.wide is not None:
            parts[1] += "; merged {} in {} hidden units".format(*self.wide.merged_size()[::-1])
        if np.isfinite(known).any():
            parts.append(f"expected R2: {np.nanmin(known):.3f} to {np.nanmax(known):.3f}")
        return "\n".join(parts)

    def _repr_html_(self) -> str:
        sizes, r2 = self.networks.specs.n_params.tolist(), self.expected_r2.tolist()
        rows = [(i, size, f"{value:.3f}") for i, (size, value) in enumerate(zip(sizes, r2, strict=True))]
        return html_of(self, ("network", "parameters", "expected R2"), rows)

    def stack(self, which: int | str) -> Networks:
        """The stack whose mean `which` names: "wide", "mean" (of `networks`), or the index of one network."""
        if which == "wide" and self.wide is not None:
            return self.wide
        if which == "mean":
            return self.networks
        n = len(self)
        if isinstance(which, Integral) and not isinstance(which, bool) and 0 <= which < n:
            return self.networks[[int(which)]]
        wide = "" if self.wide is None else "'wide', "
        raise InputError(f"which must be {wide}'mean' or an index from 0 to {n - 1}, got {which!r}")

    def predict(self, X: Any, which: int | str | None = None) -> np.ndarray:
        """Predictions in units of the target, float64; of a target of classes the label of the most probable; of
        several targets one more dimension, the last.

        X: a DataFrame, matched by name, or an array (rows, columns of the table that was fitted), matched by position;
        see `Reading.numbers`. which: "each" gives (n, rows), the answers of every network; "wide", "mean" or an index
        (see `stack`) give (rows,). None: "wide" where there is a wide network, else "each". Raises InputError for a
        column that is missing, another shape, and a cell that is no number, no gap and no word that stood for one in
        the table that was fitted.
        """
        if self.classes:
            return labels_of(self.classes)[most_probable(self.outputs(self.read(X), which))]
        answers = self.reading.answers(self.outputs(self.read(X), which))
        return answers if len(self.reading.targets) > 1 else answers[..., 0]

    def predict_proba(self, X: Any, which: int | str | None = None) -> Float[np.ndarray, "*n rows classes"]:
        """The probability of each of `classes` in every row. X, which: as in `predict`. Raises InputError for a target
        of numbers, and as `predict` does."""
        return probabilities(self._logits(X, which))

    def decision_function(self, X: Any, which: int | str | None = None) -> Float[np.ndarray, "*n rows_and_outputs"]:
        """What the outputs say before they become probabilities: of two classes the logit of the second, (rows,); else
        (rows, classes). X, which, Raises: as in `predict_proba`."""
        logits = self._logits(X, which)
        return logits[..., 0] if len(self.classes) == 2 else logits

    def _logits(self, X: Any, which: int | str | None) -> Float[np.ndarray, "*n rows outputs"]:
        if not self.classes:
            raise InputError(f"{self.target!r} has no classes but numbers; use predict")
        return self.outputs(self.read(X), which)

    def read(self, X: Any) -> Float[np.ndarray, "rows inputs"]:
        """What networks read of the rows of a table, X as in `predict`. A UserWarning names columns that were not
        fitted and are ignored."""
        z = self.reading.standardize(X)
        if is_frame(X):
            known = {*self.reading.given, *self.columns, self.target}
            if more := [name for name in map(str, getattr(X, "column_names", X.columns)) if name not in known]:
                note = f"columns that were not fitted are ignored: {', '.join(more[:8])}"
                warnings.warn(note, UserWarning, stacklevel=3)
        return z

    def predict_quantiles(self, X: Any, quantiles: Any) -> Float[np.ndarray, "rows ..."]:
        """Quantiles of the target for each row, (rows, quantiles), in its units, from the errors of rows left out
        (`exports.intervals`); of several targets (rows, targets, quantiles).

        X: as in `predict`. quantiles: numbers in (0, 1), each above the one before. Raises InputError for others, and
        where there are no intervals: some of the networks, a folder of an earlier version.
        """
        wanted = quantiles_of(quantiles)
        if self.intervals is None or self.wide is None:
            raise InputError(
                "there are no intervals here: they belong to the wide network of a fitted table; fit again"
            )
        z = self.read(X)
        logs = replace(self, wide=self.intervals.scale_of(self.wide), intervals=None).outputs(z, "wide")
        scale = np.exp(np.clip(logs, *self.intervals.bounds.T))
        t = self.outputs(z, "wide")[..., None] + scale[..., None] * self.intervals.scores_at(wanted)
        found = self.reading.answers(t.swapaxes(1, 2)).swapaxes(1, 2)
        return found if len(self.reading.targets) > 1 else found[:, 0]

    def predict_interval(self, X: Any, coverage: Any = 0.9) -> Float[np.ndarray, "rows ..."]:
        """The least and the largest target of each row that are to be expected: a new row lies between them with
        probability `coverage`, and as often below as above: (rows, 2), of several targets (rows, targets, 2). X,
        Raises: as in `predict_quantiles`; coverage: in (0, 1)."""
        return self.predict_quantiles(X, ends_of(coverage))

    @np.errstate(all="ignore")
    def outputs(
        self, z: Float[np.ndarray, "rows features"], which: int | str | None = None
    ) -> Float[np.ndarray, "*n rows outputs"]:
        """From standardised columns, cut, to every output; which: as in `predict`."""
        which = ("each" if self.wide is None else "wide") if which is None else which
        return answers_of(self.networks.numpy(), z) if which == "each" else mean_of(self.stack(which).numpy(), z)

    def explain(
        self,
        X: Any,
        background: Any = None,
        *,
        n_pairs: int | None = None,
        random_state: int = 0,
        which: int | str | None = None,
    ) -> Explanation:
        """What each column contributed to each prediction: Shapley values in units of the target, of classes in logits
        (`exports.explain`).

        X: rows, as in `predict`. background: rows of a table to compare with, the mean over them; time grows with
        their number, 20 to 100 are a good choice. None: one typical row, of medians and most frequent levels. It is
        what a saved population can compare with, for it holds no row of its table, and it is a base that can be shown
        to people: `exports.formula.typical_row`. A contribution says how the prediction differs from that of the
        background because of this column, not what would happen if someone changed it.

        Values add up to the prediction, and are exact as long as each network reads at most 10 columns, whatever
        their inputs; those of trees always are. Networks that read more are run on random orders of their columns,
        n_pairs pairs of an order and its reverse (None: so many that about 1,024 sets are run per row and network), the
        same for all rows; `error_std` is the standard error. n_pairs, at least 2, samples where it would not be needed.
        random_state: from 0 on. which: "wide", "mean" or an index (`stack`); None: "wide" where there is one, else
        "mean".
        """
        background = None if background is None else self.read(background)
        formula, z = self.formula(which), self.read(X)
        return explained(formula, X, z, background, n_pairs=n_pairs, random_state=random_state)

    def importances(
        self, X: Any, y: Any, *, n_repeats: int = 10, random_state: int = 0, which: int | str | None = None
    ) -> pd.DataFrame:
        """What each column in use is worth on rows with a known target: how much R2 falls when its cells are shuffled,
        of classes the rise of log loss, divided by the log loss of the class shares (permutation importance, Breiman
        2001), a row per column: column, importance, standard_error.

        X, y: at least 2 rows; new ones, if it is to be worth on new rows. The mean over n_repeats shuffles; the
        standard error is that of the mean over rows. Columns that say the same share their worth: each alone may seem
        worth little. Raises InputError for a target with gaps or of one value. which: as in `explain`.
        """
        return importances(self.formula(which), self.read(X), y, n_repeats=n_repeats, random_state=random_state)

    def partial_dependence(
        self, column: int | str, background: Any = None, *, points: int = 50, which: int | str | None = None
    ) -> pd.DataFrame:
        """The prediction along one column, the others as in the background: value and prediction, a row per value.

        column: a name, or a position in the table that was fitted. background: rows of a table, the mean over them
        (Friedman 2001); None: one typical row, as in `explain`. Of a number or a date `points` values evenly spaced
        within the range fitted, of a category and of numbers that act as codes every level; and a gap, where the
        networks know gaps. Raises InputError for a column that no network reads. which: as in `explain`.
        """
        background = None if background is None else self.read(background)
        return dependence(self.formula(which), column, background, points=points)

    def formula(self, which: int | str | None = None, *, units: bool = False) -> Formula:
        """What `which` names (`stack`) as plain arrays, the wide network with its intervals. None: "wide" where there
        is one, else "mean". units: step units that are trees as units (`formula_of`)."""
        which = ("mean" if self.wide is None else "wide") if which is None else which
        return formula_of(self.reading, self.stack(which), self._intervals_of(which), units=units)

    def _intervals_of(self, which: int | str) -> Intervals | None:
        return self.intervals if which == "wide" else None

    def to_torch(self, which: int | str) -> Any:
        """What `which` names (`stack`) as a PyTorch module of rows of numbers, nan for a gap, dates in seconds since
        1970 UTC, categories as positions of their levels; its `encode` makes them of a table. Of classes it gives
        logits, `predict_proba`, `predict`; that of the wide network also `predict_quantiles`, `predict_interval`. A
        network alone, on standardised inputs: `networks.to_torch(index)`. Raises InputError without torch."""
        need("torch", "to_torch")
        from netformer.exports.objects import DeliveredNetwork

        return DeliveredNetwork(self.reading, self.stack(which), self._intervals_of(which))

    def to_sklearn(self, which: int | str) -> Any:
        """What `which` names (`stack`) as a fitted pipeline, which reads tables as `predict` does. It ends in an
        `MLPRegressor` on standardised inputs where that can express the network: one, without a skip and GELU, with
        one activation; else in a `NetworkRegressor`, of the wide network also for `predict(X, quantiles=[0.1, 0.9])`.
        Of classes it ends in an `MLPClassifier`, which takes numbers as labels only where they are whole, or in a
        `NetworkClassifier`: `predict`, `predict_proba`, `classes_`."""
        from netformer.exports.predictors import predictor_of, sklearn_pipeline

        return sklearn_pipeline(self.reading, predictor_of(self.reading, self.stack(which), self._intervals_of(which)))

    def to_onnx(self, which: int | str, path: str | Path, dtype: str = "float64") -> None:
        """Write what `which` names (`stack`) as an ONNX file, see `exports.onnx`; it replaces a file that is there.
        dtype: of numbers and dates, float64 or float32. Raises InputError without the package onnx, and for a column
        that lies too far from 0 for float32."""
        if dtype not in ("float64", "float32"):
            raise InputError(f"dtype must be 'float64' or 'float32', got {dtype!r}")
        content = onnx_model(self.formula(which), dtype == "float32").SerializeToString()
        with replacing(Path(path)) as partial:
            partial.write_bytes(content)

    def named(
        self, columns: Sequence[str] | None = None, target: str | Sequence[str] | None = None, **about: Any
    ) -> Population:
        """The same under other names (None: as they are), with more in `about`."""
        names = [one.name for one in self.reading.targets] if target is None else target
        reading = self.reading.named(columns or self.columns, [names] if isinstance(names, str) else names)
        return replace(self, reading=reading, about=self.about | about)

    def save(self, folder: str | Path) -> None:
        """Write a folder without pickles (`exports.bundle`), complete or not at all. Raises InputError for a folder
        that is not empty, and for an `about` that JSON cannot hold."""
        write_folder(folder, self.reading, self.networks, self.expected_r2, self.wide, self.about, self.intervals)

    @classmethod
    def load(cls, folder: str | Path) -> Population:
        """What `save` wrote. Raises InputError, one line, for a folder that is incomplete, damaged or of another
        format."""
        parts = read_folder(folder)
        try:
            return cls(*parts)
        except InputError as error:
            raise InputError(f"{folder}: {error}") from None


Bundle = Population  # the name it has where one is saved or exported


def html_of(shown: Any, head: Sequence[str] = (), rows: Iterable[Sequence[Any]] = ()) -> str:
    """The lines of `repr(shown)` and a table of at most `MOST_ROWS` rows, escaped, without style or script of its own.
    head: names of its columns; rows: their cells, of numbers and text."""
    lines = "<br>".join(map(escape, repr(shown).splitlines()))
    listed = [[escape(str(cell)) for cell in row] for row in rows]
    if not listed:
        return f"<p>{lines}</p>"
    cells = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in listed[:MOST_ROWS])
    more = len(listed) - MOST_ROWS
    below = f"<p>and {more} more</p>" if more > 0 else ""
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f"<p>{lines}</p><table><thead><tr>{names}</tr></thead><tbody>{cells}</tbody></table>{below}"
