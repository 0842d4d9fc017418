"""Population: the networks delivered for one table. The one form that `generate`, the estimator, folders, exports and
reports share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from netformer.errors import InputError
from netformer.exports.bundle import read_folder, write_folder
from netformer.exports.formula import formula_of
from netformer.exports.objects import DeliveredNetwork, raw_regressor
from netformer.exports.onnx import onnx_model
from netformer.files import replacing
from netformer.networks.stack import Networks, _check_stack
from netformer.tables.reading import Reading

_ROWS = 4096  # of a table that are predicted at once, for memory


@dataclass(frozen=True, eq=False, repr=False)
class Population:
    """Networks for one table, and how it is read: raw columns in, units of the target out.

    reading: names, center and scale of columns and target. networks: they read the standardised columns, cut, and
    answer in the standardised target. expected_r2: of each network on new rows, by leave-one-out of its output layer; a
    little high, see `head.weigh_heads`; nan where it is not known. wide: the stack whose mean is the wide network
    (`merging.widen`), or None. about: anything JSON holds (seeds, scores).

    `len` counts the networks, `population[i]` and `population[i:j]` hold some of them, without the wide one.
    Raises InputError for parts that do not belong together.
    """

    reading: Reading
    networks: Networks
    expected_r2: Float[Tensor, " n"]
    wide: Networks | None = None
    about: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.networks)
        if n < 1:
            raise InputError("networks must hold at least 1 network, got 0")
        for name, stack in (("networks", self.networks), ("wide", self.wide)):
            if stack is not None:
                _check_stack(name, stack, len(self.columns))
        if self.expected_r2.shape != (n,):
            raise InputError(f"expected_r2 must be one number per network, got {tuple(self.expected_r2.shape)}")

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in the order in which they are read."""
        return self.reading.columns

    @property
    def target(self) -> str:
        """Name of the target."""
        return self.reading.target

    def __len__(self) -> int:
        return len(self.networks)

    def __getitem__(self, index: int | slice) -> Population:
        """Some of the networks, in a population without a wide one."""
        at = list(range(len(self)))[index]
        some = at if isinstance(at, list) else [at]
        return replace(self, networks=self.networks[some], expected_r2=self.expected_r2[some], wide=None)

    def __repr__(self) -> str:
        sizes, known = self.networks.specs.n_params, self.expected_r2[torch.isfinite(self.expected_r2)]
        parts = [
            f"Population of {len(self)} networks for {self.target!r}, {len(self.columns)} columns",
            f"parameters: {int(sizes.min())} to {int(sizes.max())}",
        ]
        if self.wide is not None:
            parts[1] += "; merged {} in {} hidden units".format(*self.wide.merged_size()[::-1])
        if len(known):
            parts.append(f"expected R2: {float(known.min()):.3f} to {float(known.max()):.3f}")
        return "\n".join(parts)

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

    def predict(self, X: Any, which: int | str | None = None) -> Float[np.ndarray, "*n rows"]:
        """Predictions in units of the target, float64.

        X: (rows, features), raw columns in the order of `columns`. which: "each" gives (n, rows), the answers of every
        network; "wide", "mean" or an index (see `stack`) give (rows,). None: "wide" where there is a wide network, else
        "each". Raises InputError for another shape and for missing or infinite values.
        """
        X = np.asarray(X, np.float64)
        if X.ndim != 2 or X.shape[1] != len(self.columns):
            raise InputError(f"X must be (rows, {len(self.columns)}), got {X.shape}")
        if not np.isfinite(X).all():
            raise InputError("X must be finite; drop or impute missing values first")
        return self.reading.answer(self.standard_answers(self.reading.standardize(X), which))

    def standard_answers(
        self, z: Float[np.ndarray, "rows features"], which: int | str | None = None
    ) -> Float[np.ndarray, "*n rows"]:
        """From standardised columns, cut, to the standardised target; which: as in `predict`."""
        if which is None:
            which = "each" if self.wide is None else "wide"
        stack = self.networks if which == "each" else self.stack(which)
        networks = Networks(stack.specs, stack.weight.double())
        answers = torch.cat([networks.predict(part[None]) for part in torch.from_numpy(z).split(_ROWS)], 1)
        return (answers if which == "each" else answers.mean(0)).numpy()

    def to_torch(self, which: int | str) -> nn.Module:
        """What `which` names (`stack`) as a PyTorch module that reads raw columns: `exports.objects.DeliveredNetwork`.
        A network alone, on standardised columns, as `tokenize` reads it: `networks.to_torch(index)`."""
        return DeliveredNetwork(self.reading, self.stack(which))

    def to_sklearn(self, which: int | str) -> Any:
        """One network as a fitted `MLPRegressor` that reads raw columns; see `exports.objects.raw_regressor`. Raises
        InputError for what MLPRegressor cannot express: a skip, GELU, activations that differ."""
        return raw_regressor(self.reading, self.stack(which), which)

    def to_onnx(self, which: int | str, path: str | Path) -> None:
        """Write what `which` names (`stack`) as an ONNX file: x double (rows, features), raw, -> y double (rows, 1).
        The file appears complete or not at all, and replaces one that is there."""
        content = onnx_model(formula_of(self.reading, self.stack(which))).SerializeToString()
        with replacing(Path(path)) as partial:
            partial.write_bytes(content)

    def named(self, columns: Sequence[str] | None = None, target: str | None = None, **about: Any) -> Population:
        """The same under other names (None: as they are), with more in `about`."""
        reading = self.reading.named(columns or self.columns, self.target if target is None else target)
        return replace(self, reading=reading, about=self.about | about)

    def save(self, folder: str | Path) -> None:
        """Write a folder without pickles (`exports.bundle`), complete or not at all. Raises InputError for a folder
        that is not empty, and for an `about` that JSON cannot hold."""
        write_folder(folder, self.reading, self.networks, self.expected_r2, self.wide, self.about)

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
