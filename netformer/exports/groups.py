"""Groups: one network per group of a table, all in one object and one folder.

All groups share the hidden units of the wide network that was written for the whole table; what a group has of its own
is an output layer (`generation.many` says how it is fitted). So thousands of networks are one matrix,

    t = w[group] . [1, z, h(z)]      z: what networks read of a row; h: the hidden units of all networks of the wide one

and rows of all groups are predicted at once. A row of any other group is answered by the network of the whole table.

whole/                 the population of the whole table (`exports.bundle`)
groups.safetensors     output layers, scales and scores of errors
groups.json            format, name of the column, names and rows of the groups, and the SHA-256 of the other file
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.numpy import load, save

from netformer.arrays import functions as xp
from netformer.arrays.namespace import Tensor
from netformer.errors import InputError, first_few
from netformer.exports.bundle import GROUPS, is_groups
from netformer.exports.intervals import Intervals, ends_of, quantiles_of
from netformer.exports.population import Population
from netformer.files import replacing
from netformer.networks.stack import Networks, spread, with_outputs
from netformer.tables.cells import texts_of
from netformer.tables.columns import is_frame
from netformer.tables.reading import Reading

FORMAT = 1
SHOWN = 5  # names in a line
_TENSORS, _WHOLE = "groups.safetensors", "whole"
_ROWS = 4096  # of a table that are predicted at once, for memory
_PARTS = {"output": 2, "scale": 1, "scores": 1}


@dataclass(frozen=True, eq=False, repr=False)
class Groups:
    """Networks by the name of a group, as text: `groups["north"]` is a Population whose wide network is that of the
    group; `len`, `in` and iteration are those of a dict.

    whole: the population of the whole table, without the column `by`, with a wide network and intervals. names: of the
    groups that have a network, in order. rows: how many rows of each were fitted. output: the output layer of each on
    [1, inputs, hidden units], float32. scale: how large the errors of each are over the scale that `whole.intervals`
    gives, above 0. scores: of `Intervals`, of all groups. Raises InputError for parts that do not belong together.
    """

    whole: Population
    by: str
    names: tuple[str, ...]
    rows: tuple[int, ...]
    output: Float[Tensor, "groups slots"]
    scale: Float[np.ndarray, " groups"]
    scores: Float[np.ndarray, " levels"]

    def __post_init__(self) -> None:
        if self.whole.wide is None or self.whole.intervals is None:
            raise InputError("the population of the whole table must have a wide network and intervals")
        n, slots = len(self.names), 1 + len(self.whole.reading.inputs) + int(self.whole.wide.specs.last_units.sum())
        if len(set(self.names)) < n or len(self.rows) != n or self.scale.shape != (n,):
            raise InputError(f"each of {n} groups must have a name of its own, a number of rows and a scale")
        if self.output.shape != (n, slots) or self.output.dtype != xp.float32:
            raise InputError(f"output must be ({n}, {slots}) float32, got {tuple(self.output.shape)}")
        if not bool(xp.isfinite(self.output).all()) or not ((self.scale > 0) & np.isfinite(self.scale)).all():
            raise InputError("output layers of groups must be finite, and scales finite and above 0")
        replace(self.whole.intervals, scores=self.scores[None])  # looks at them

    @property
    def target(self) -> str:
        """Name of the target."""
        return self.whole.target

    @property
    def reading(self) -> Reading:
        """What networks read, of tables that also have the column `by`."""
        whole = self.whole.reading
        return replace(whole, given=(*(whole.given or whole.columns), self.by))

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        return str(name) in self.names

    def __getitem__(self, name: Any) -> Population:
        """The network of one group, to predict, explain, save and export. It reads tables without the column `by`, and
        any group's rows. `wide` is the network of the group, with its intervals; `networks` are those of the whole
        table. Raises InputError for a group that has no network."""
        if name not in self:
            raise InputError(f"{self.by!r} must be one of {first_names(self.names)}, got {str(name)!r}")
        at, whole = self.names.index(str(name)), self.whole
        assert whole.wide is not None
        assert whole.intervals is not None
        sizes, shift = whole.intervals, float(np.log(self.scale[at]))
        output = sizes.output.clone()
        output[:, :, 0] += shift
        intervals = Intervals(output, sizes.bounds + shift, self.scores[None])
        units = whole.wide.specs.last_units
        wide = with_outputs(whole.wide, units, spread(self.output[at].unsqueeze(1), units))
        about = whole.about | {"group": {self.by: str(name)}, "rows": {"trained": self.rows[at]}}
        return replace(whole, wide=wide, intervals=intervals, about=about)

    def __repr__(self) -> str:
        rows = sorted(self.rows)
        columns, slots = len(self.whole.columns), self.output.shape[1]
        size = f"rows per group: {rows[0]} to {rows[-1]}, median {rows[len(rows) // 2]}\n" if rows else ""
        return (
            f"Groups: {len(self)} networks for {self.target!r}, one per {self.by!r}, {columns} columns\n{size}"
            f"{slots - 1 - len(self.whole.reading.inputs)} hidden units shared, {slots} weights of each group's own"
        )

    def predict(self, X: Any) -> Float[np.ndarray, " rows"]:
        """Predictions in units of the target, each row by the network of its group.

        X: a DataFrame with the column `by`, rows in any order; see `Population.predict`. Rows of any other group are
        answered by the network of the whole table, and a UserWarning says so. Raises InputError for a table without the
        column, and as `Population.predict` does.
        """
        group, z = self._read(X)
        return self.whole.reading.answers(self._answers(group, z)[:, None])[:, 0]

    def predict_quantiles(self, X: Any, quantiles: Any) -> Float[np.ndarray, "rows q"]:
        """Quantiles of the target for each row, in its units, from the errors of each group's rows left out. X: as in
        `predict`; quantiles: as in `Population.predict_quantiles`."""
        wanted = quantiles_of(quantiles)
        spread, wide = self.whole.intervals, self.whole.wide
        assert spread is not None
        assert wide is not None
        group, z = self._read(X)
        logs = answers(wide, z, group, output_layer(spread.scale_of(wide)).expand(len(self) + 1, -1))
        scale = np.exp(np.clip(logs, *spread.bounds[0])) * np.append(self.scale, 1.0)[group]
        known = replace(spread, scores=self.scores[None]).scores_at(wanted)[0], spread.scores_at(wanted)[0]
        scores = np.where((group < len(self))[:, None], *known)
        return self.whole.reading.answers((self._answers(group, z)[:, None] + scale[:, None] * scores)[..., None])[
            ..., 0
        ]

    def predict_interval(self, X: Any, coverage: Any = 0.9) -> Float[np.ndarray, "rows 2"]:
        """The least and the largest target of each row that are to be expected, as in `Population.predict_interval`."""
        return self.predict_quantiles(X, ends_of(coverage))

    def _answers(
        self, group: Int[np.ndarray, " rows"], z: Float[np.ndarray, "rows inputs"]
    ) -> Float[np.ndarray, " rows"]:
        assert self.whole.wide is not None
        whole = output_layer(self.whole.wide).unsqueeze(0)
        return answers(self.whole.wide, z, group, xp.cat([self.output.double(), whole]))

    def _read(self, X: Any) -> tuple[Int[np.ndarray, " rows"], Float[np.ndarray, "rows inputs"]]:
        """The position of each row's group, their number for any other, and what networks read."""
        X, names = without_group(X, self.by)
        group = pd.Index(list(self.names)).get_indexer(pd.Index(names))
        if (group < 0).any():
            others = first_names(sorted(set(names[group < 0])))
            warnings.warn(
                f"{int((group < 0).sum())} rows of groups without a network of their own are predicted by that of the "
                f"whole table: {self.by} {others}",
                UserWarning,
                stacklevel=3,
            )
        return np.where(group < 0, len(self), group), self.whole.read(X)

    def save(self, folder: str | Path) -> None:
        """Write everything as one folder (see above), complete or not at all: a folder per group would repeat the
        hidden layers in each. Raises InputError for a folder that is not empty."""
        folder = Path(folder).resolve()
        if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
            raise InputError(f"{folder} must be a new or an empty folder; remove it or choose another name")
        tensors = {"output": np.ascontiguousarray(self.output.numpy())}
        tensors |= {name: np.ascontiguousarray(getattr(self, name)) for name in ("scale", "scores")}
        data = save(tensors)
        described = {"format": FORMAT, "by": self.by, "names": self.names, "rows": self.rows}
        text = json.dumps(described | {"sha256": hashlib.sha256(data).hexdigest()}, indent=1)
        with replacing(folder) as partial:
            partial.mkdir()
            self.whole.save(partial / _WHOLE)
            (partial / _TENSORS).write_bytes(data)
            (partial / GROUPS).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> Groups:
        """What `save` wrote. Raises InputError, one line, for a folder that is incomplete, damaged or of another
        format."""
        folder = Path(folder)
        if not is_groups(folder) or not (folder / _TENSORS).is_file():
            raise InputError(f"{folder} must be a folder that Groups.save wrote; {GROUPS} or {_TENSORS} is missing")
        whole = Population.load(folder / _WHOLE)
        try:
            described = json.loads((folder / GROUPS).read_text(encoding="utf-8"))
            data = (folder / _TENSORS).read_bytes()
            if described["format"] != FORMAT or described["sha256"] != hashlib.sha256(data).hexdigest():
                raise InputError("of another format, or changed since it was written; save it again")
            tensors = load(data)
            if {name: tensor.ndim for name, tensor in tensors.items()} != _PARTS:
                raise InputError(f"{_TENSORS} must hold {', '.join(_PARTS)}, found {', '.join(tensors)}")
            scale, scores = (tensors[name].astype(np.float64) for name in ("scale", "scores"))
            names, rows = tuple(map(str, described["names"])), tuple(map(int, described["rows"]))
            return cls(whole, str(described["by"]), names, rows, xp.from_numpy(tensors["output"]), scale, scores)
        except InputError as error:
            raise InputError(f"{folder}: {error}") from None
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError, SafetensorError) as error:
            raise InputError(f"{folder} must be a folder that Groups.save wrote, found {error!r}") from None


def without_group(X: Any, by: str) -> tuple[pd.DataFrame, np.ndarray]:
    """A table without the column that names the group, and the name of each row's group as text, "" for a gap. Raises
    InputError for what is no DataFrame and for a table without the column."""
    if not is_frame(X):
        raise InputError(f"X must be a DataFrame with the column {by!r}, got {type(X).__name__}")
    table = X if isinstance(X, pd.DataFrame) else X.to_pandas()
    table = table.set_axis([str(name) for name in table.columns], axis=1)
    if list(table.columns).count(by) != 1:
        raise InputError(
            f"the table must have one column {by!r}, which names the group; found {first_names(table.columns)}"
        )
    return table.drop(columns=by), texts_of(table[by].astype(object))


def design(wide: Networks, z: Float[Tensor, "rows inputs"]) -> Float[Tensor, "rows slots"]:
    """[1, z, hidden units of all networks] in float64, which the output layer of a wide network reads."""
    wide = wide.numpy()
    network = Networks(wide.specs, wide.weight.double())
    hidden = network.hidden(z.double().unsqueeze(0))[-1].permute(1, 0, 2)[:, wide.specs.last_units]
    return xp.cat([xp.ones(len(z), 1, dtype=xp.float64), z.double(), hidden], 1)


def output_layer(wide: Networks) -> Float[Tensor, " slots"]:
    """The output layer of a wide network as weights of `design`."""
    wide = wide.numpy()
    last, f = wide.weight[:, -1].double(), wide.layout.max_features
    return xp.cat([last[:, : 1 + f].mean(0), last[:, 1 + f :][wide.specs.last_units] / len(wide)])


@np.errstate(all="ignore")
def answers(
    wide: Networks,
    z: Float[np.ndarray, "rows inputs"],
    group: Int[np.ndarray, " rows"],
    slots: Float[Tensor, "g slots"],
) -> Float[np.ndarray, " rows"]:
    """The answer of each row under the output layer of its group. slots: a row for each group."""
    parts = zip(xp.from_numpy(z).split(_ROWS), xp.from_numpy(group).split(_ROWS), strict=True)
    return xp.cat([(design(wide, x) * slots[at]).sum(1) for x, at in parts]).numpy()


def first_names(names: Any) -> str:
    """The first `SHOWN` names, quoted, and how many more there are."""
    return first_few([repr(str(name)) for name in names], SHOWN)
