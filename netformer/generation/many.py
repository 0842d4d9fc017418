"""Many: a network for each group of a table (a store, a sensor, a patient), all in one pass.

One wide network is written for the whole table, without the column that names the group. Each group keeps its hidden
units and gets an output layer of its own: a ridge fit, in the group, of what the whole network leaves,

    y - whole(x) = d . v(x)        v: [1, whole(x), inputs, hidden units], each part of variance 1 in sum

for `PENALTIES` and for the first one, two, three or all four parts of v, so that a group may differ by a shift, a
factor, slopes or in shape. These fits, and none at all (d = 0), are weighed by their squared errors of rows left out
(closed form, by leverage): those of the group itself, and those of all groups as if they were `COMMON_ROWS` rows more,
since what groups differ by is mostly the same for all (empirical Bayes, Morris 1983). So a group of few rows leans on
the whole table and on what groups are like, and one of many rows goes its own way.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from netformer.arrays import functions as xp
from netformer.arrays.namespace import Tensor
from netformer.errors import InputError
from netformer.exports.groups import Groups, answers, design, first_names, output_layer, without_group
from netformer.exports.population import Population
from netformer.generation.calibration import conformal
from netformer.generation.estimator import NetFormerRegressor
from netformer.generation.fitted import at_least_one
from netformer.networks.stack import Networks
from netformer.ridge import along_eigenvectors
from netformer.tables.reading import CUT, read

PENALTIES = xp.logspace(-2, 3, 11)
COMMON_ROWS, SHARP = 50.0, 0.5  # see the module; times the logarithm of a normal likelihood
LEAST_ROWS = 2  # of a group with an output layer of its own
GROUP_ROWS = 4096  # of a group that its output layer is fitted on at most: every second, third, ..
OPTIMISM = (0.05, 0.95)
MOMENT_ROWS = 8192  # of the table that means and standard deviations of v are taken from


class _Parts(NamedTuple):
    """v as a linear map of `exports.groups.design`: v = (design - centre) @ maps, part by part."""

    centre: Float[Tensor, " slots"]
    unit: Float[Tensor, " slots"]
    whole: Float[Tensor, " slots"]
    inputs: int

    def of(self, made: Float[Tensor, "rows slots"]) -> Float[Tensor, "rows parts"]:
        """v of rows, from their design: the constant, the whole network, then inputs and hidden units."""
        moved = made - self.centre
        return xp.cat([made[:, :1], moved @ self.whole.unsqueeze(1), moved[:, 1:] * self.unit[1:]], 1)

    def output(self, d: Float[Tensor, " parts"]) -> Float[Tensor, " slots"]:
        """d . v as weights of the design."""
        slots = self.whole * d[1]
        slots[1:] += self.unit[1:] * d[2:]
        slots[0] += d[0] - slots @ self.centre
        return slots

    @property
    def sizes(self) -> tuple[int, ...]:
        """Columns of v that the fits of each shape read."""
        return (1, 2, 2 + self.inputs, 1 + len(self.unit))


def fit_many(X: Any, y: Any, by: str, **options: Any) -> Groups:
    """Networks for each group of a table, see the module.

    X: a DataFrame with the column `by`, whose cells as text are the names of the groups; y: (rows,) numbers; else as in
    `NetFormerRegressor.fit`. options: parameters of `NetFormerRegressor` for the network of the whole table;
    no step units are grown. A group of
    fewer than `LEAST_ROWS` rows, or of fewer than min_frequency, and rows without a group have no network of their own:
    a UserWarning says how many, and what they are predicted by is the network of the whole table. Time grows with the
    rows, not with the groups: 1,000 groups of 100 rows and 6 columns in 12 s.

    Raises InputError for a table without the column, where no group has enough rows, and as `NetFormerRegressor.fit`.
    """
    if np.ndim(y) == 2 and np.shape(y)[1] > 1:
        raise InputError(f"y must be (rows,), one target, got {np.shape(y)}; call fit_many for each")
    estimator = NetFormerRegressor(**options | {"steps": False})
    least = max(LEAST_ROWS, at_least_one(estimator.min_frequency))
    table, labels = without_group(X, by)
    names, code, count = np.unique(labels.astype(str), return_inverse=True, return_counts=True)
    kept = np.flatnonzero((count >= least) & (names != ""))
    if not len(kept):
        raise InputError(
            f"{by!r} must name groups of at least {least} rows, found {len(names)} with fewer; choose another"
        )
    _say(by, names, count, np.setdiff1d(np.arange(len(names)), kept), least)
    whole = estimator.fit(table, y).to_bundle()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # `fit` has said it
        target, least = whole.target, estimator.min_frequency
        reading, z, t = read(table, np.asarray(y, np.float64).ravel(), None, target, least)
    z = np.clip(z, -CUT, CUT)
    assert reading.columns == whole.columns
    order = np.argsort(code, kind="stable")
    ends = np.cumsum(count)
    rows = [order[ends[at] - count[at] : ends[at]] for at in kept]
    output, error, some = _outputs(whole, z, t, rows)
    scale, scores = _scales(whole, z, t, error, some)
    sizes = tuple(int(count[at]) for at in kept)
    return Groups(whole, by, tuple(map(str, names[kept])), sizes, output.float(), scale, scores)


def _say(by: str, names: np.ndarray, count: np.ndarray, left: Int[np.ndarray, " k"], least: int) -> None:
    """A UserWarning on groups without a network of their own."""
    if not len(left):
        return
    rows, named = int(count[left].sum()), [name or "(no name)" for name in names[left]]
    warnings.warn(
        f"{len(left)} of {len(names)} groups have fewer than {least} rows, or no name, and lean wholly on the whole "
        f"table, {rows} rows: {by} {first_names(named)}",
        UserWarning,
        stacklevel=3,
    )


def _outputs(
    whole: Population, z: Float[np.ndarray, "rows inputs"], t: Float[np.ndarray, " rows"], rows: Sequence[np.ndarray]
) -> tuple[Float[Tensor, "groups slots"], Float[np.ndarray, " some"], list[np.ndarray]]:
    """Output layers of the groups, the error of each row in its group's fit without it, and the rows these belong
    to, group by group."""
    wide = whole.wide
    assert wide is not None
    parts, base = _parts_of(wide, z), output_layer(wide)
    some = [at[:: -(-len(at) // GROUP_ROWS)] for at in rows]
    fits: list[list[Tensor]] = []
    left_out: list[Tensor] = []
    for at in some:
        made = design(wide, xp.from_numpy(z[at]))
        left = xp.from_numpy(t[at]) - made @ base
        own, off = _fits(parts.of(made), left, parts.sizes)
        fits.append(own)
        left_out.append(off)
    squares = xp.stack([off.square().sum(0) for off in left_out])
    common = squares.sum(0) / sum(map(len, some))
    logits = -SHARP * (squares + COMMON_ROWS * common) / (2 * common.min()).clamp(min=1e-12)
    weights = xp.softmax(logits, 1)
    output = []
    for own, weight in zip(fits, weights, strict=True):
        d = xp.zeros(parts.sizes[-1], dtype=xp.float64)
        for shape, share in zip(own, weight[:-1].split(len(PENALTIES)), strict=True):
            d[: len(shape)] += shape.double() @ share
        output.append(base + parts.output(d))
    error = xp.cat([off @ weight for off, weight in zip(left_out, weights, strict=True)])
    mask = xp.cat([xp.ones(1), wide.specs.mask[:, -1, 1 : 1 + z.shape[1]].any(0), xp.ones(len(base) - 1 - z.shape[1])])
    return xp.stack(output) * mask, error.numpy(), some


def _parts_of(wide: Networks, z: Float[np.ndarray, "rows inputs"]) -> _Parts:
    made = design(wide, xp.from_numpy(z[:: -(-len(z) // MOMENT_ROWS)]))
    centre, inputs, base = made.mean(0), z.shape[1], output_layer(wide)
    deviation = made.std(0, correction=0)
    unit = 1 / (deviation.clamp(min=1e-4) * max(len(base) - 1 - inputs, 1) ** 0.5)
    unit[: 1 + inputs] = inputs**-0.5
    centre[0] = 0.0
    own = made @ base
    scale = own.std(correction=0)
    whole = base / scale if scale > 1e-6 else xp.zeros_like(base)
    whole[0] = 0.0
    return _Parts(centre, unit, whole, inputs)


def _fits(
    v: Float[Tensor, "rows parts"], left: Float[Tensor, " rows"], sizes: Sequence[int]
) -> tuple[list[Float[Tensor, "some penalties"]], Float[Tensor, "rows fits"]]:
    """Ridge fits of one group: for each shape the weights under every penalty, float32, and the errors of rows left
    out under all of them, those without a fit last."""
    weights, errors = [], []
    for size in sizes:
        values, basis, rotated = along_eigenvectors(v[:, :size])
        inverse = 1 / (values.unsqueeze(1) + PENALTIES)
        moment = (rotated.T @ left).unsqueeze(1) * inverse
        leverage = rotated.square() @ inverse
        errors.append((left.unsqueeze(1) - rotated @ moment) / (1 - leverage).clamp(min=1e-6))
        weights.append((basis @ moment).float())
    return weights, xp.cat([*errors, left.unsqueeze(1)], 1)


def _scales(
    whole: Population,
    z: Float[np.ndarray, "rows inputs"],
    t: Float[np.ndarray, " rows"],
    error: Float[np.ndarray, " some"],
    rows: Sequence[np.ndarray],
) -> tuple[Float[np.ndarray, " groups"], Float[np.ndarray, " levels"]]:
    """How large the errors of each group are over the scale of the whole table's intervals, drawn to all groups by
    `COMMON_ROWS` rows, and the quantiles of what is left.

    Errors know the whole network, which has read the row: they grow by as much as its own errors do when rows are left
    out (`OPTIMISM`: between which quantiles that is looked at).
    """
    spread, wide = whole.intervals, whole.wide
    assert spread is not None
    assert wide is not None
    n, every = len(rows), np.concatenate(rows)
    owner = np.repeat(np.arange(n), [len(at) for at in rows])
    logs = answers(wide, z[every], np.zeros(len(every), np.int64), output_layer(spread.scale_of(wide)).unsqueeze(0))
    size = np.exp(np.clip(logs, *spread.bounds[0]))
    seen = np.quantile((t[every] - whole.outputs(z[every], "wide")[:, 0]) / size, OPTIMISM)
    known = spread.scores_at(np.array(OPTIMISM))[0]
    ratio = error / size * max(1.0, float(np.ptp(known)) / max(float(np.ptp(seen)), 1e-9))
    common = float(np.square(ratio).mean())
    count = np.bincount(owner, minlength=n)
    square = (np.bincount(owner, np.square(ratio), n) + COMMON_ROWS * common) / (count + COMMON_ROWS)
    scale = np.sqrt(np.maximum(square, 1e-18))
    return scale, conformal(ratio / scale[owner])
