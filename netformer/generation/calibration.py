"""Calibration: from the errors of each row without itself to intervals (`exports.intervals`).

The wide network's output layer is a blend of ridge fits on [x, hidden], of all units together and of each network's own
(`merging.widen`); what a fit without a row answers there has a closed form by the row's leverage. A further ridge fit
on the same [x, hidden] says how large the error of a row is: its target is log |error|. Errors over the scale that the
other rows give are the scores, and their quantiles those of split conformal prediction over a scale (Vovk, Gammerman
and Shafer 2005; Papadopoulos et al. 2008), taken over rows left out one at a time as the jackknife does (Barber et al.
2021, eq. 1.2). Of few rows the scale is drawn to one for all, and the scores to those of both signs together.

No guarantee holds without assumptions: the hidden units have seen every row. How often intervals hold is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from netformer.arrays import functions as xp
from netformer.arrays.namespace import Tensor
from netformer.exports.intervals import LEVELS, Intervals, between
from netformer.generation.merging import UNIT_ROWS, own_fits
from netformer.networks.stack import Networks
from netformer.ridge import PENALTIES, TRUST, along_eigenvectors, prior_scale, trust
from netformer.tables.reading import CUT

ROWS = 2048  # left out one at a time at most: of more rows every second, third, ..
PASSES = 3  # of the fit of the scale, each on errors bounded below by the scale of the pass before
SHARP = 0.5  # times the rows: how sharply penalties of the scale are weighed, which is by likelihood
SCALE_ROWS, SKEW_ROWS = 50.0, 100.0  # rows at which a scale of its own, and scores apart by sign, count half
FLOOR = 0.3  # of the scale: log |error| is bounded below by it, softly
SCALE_PENALTIES = xp.logspace(-1, 5, 13)  # higher: log |error| is mostly noise


@dataclass(frozen=True, eq=False)
class LeftOut:
    """Errors of a wide network on rows without themselves.

    rows, times: different rows, inputs and targets, and how often each is there. some: those looked at. errors: of each
    of these, for each target. The rest is the design that an output layer reads: its centre and unit, along which
    eigenvectors.
    """

    rows: Float[np.ndarray, "all columns"]
    times: Int[np.ndarray, " all"]
    some: Int[np.ndarray, " some"]
    errors: tuple[Float[Tensor, " some"], ...]
    units: Bool[Tensor, "n width"]
    centre: Float[Tensor, " slots"]
    unit: Float[Tensor, " slots"]
    size: Float[Tensor, " k"]
    basis: Float[Tensor, "slots k"]
    rotated: Float[Tensor, "some k"]

    @property
    def inputs(self) -> int:
        """Columns of `rows` that are inputs; targets follow."""
        return self.rows.shape[1] - len(self.errors)


def calibrate(
    networks: Networks,
    wide: Networks,
    z: Float[np.ndarray, "rows inputs"],
    t: Float[np.ndarray, "rows ..."],
    share: float | None = None,
) -> Intervals:
    """Intervals of the wide network that `merging.merged` made of these networks, under `share` and with these rows.
    z, t: standardised (`reading.read`)."""
    return intervals_of(wide, left_out(networks, wide, z, t, share))


def left_out(
    networks: Networks,
    wide: Networks,
    z: Float[np.ndarray, "rows inputs"],
    t: Float[np.ndarray, "rows ..."],
    share: float | None = None,
) -> LeftOut:
    """The error of the wide network on each row without it, see `calibrate`. Rows that are equal in inputs and targets
    are left out together, so that a whole weight is a row that often."""
    networks, wide = networks.numpy(), wide.numpy()
    rows, times = np.unique(np.column_stack([np.clip(z, -CUT, CUT), t]), axis=0, return_counts=True)
    step = -(-len(rows) // ROWS)
    known, count = xp.from_numpy(rows[::step].copy()), xp.from_numpy(times[::step].copy())
    x, mass = known[:, : z.shape[1]], count.double()
    last = wide.specs.widths.gather(1, wide.specs.depth.unsqueeze(1) - 1)
    units = xp.arange(wide.layout.max_width) < last
    network = Networks(wide.specs, wide.weight.double())
    hidden = network.last_hidden(x.unsqueeze(0))
    design = xp.cat([x, hidden.permute(1, 0, 2)[:, units]], 1)
    centre = mass @ design / mass.sum()
    unit = prior_scale(mass @ (design - centre).square() / mass.sum(), x.shape[1])
    size, basis, rotated = along_eigenvectors((design - centre) * unit * mass.sqrt().unsqueeze(1))
    squared = rotated.square()
    joint = len(t) / (len(t) + UNIT_ROWS * int(units.sum())) if share is None else share
    errors = []
    for k, y in enumerate(known[:, z.shape[1] :].T):
        error, _, leverage = _left_out(y, size, rotated, squared, xp.from_numpy(PENALTIES) / step, mass)
        if joint < 1:
            own, own_leverage = _own_left_out(networks, hidden, x, y, k)
            error = joint * error + (1 - joint) * own
            leverage = joint * leverage + (1 - joint) * own_leverage
        if step > 1:  # of the fit on all rows, not on those looked at
            error = (y - network.outputs(hidden, x.unsqueeze(0))[..., k].mean(0)) / (1 - leverage / step)
        errors.append(error)
    some = np.arange(0, len(rows), step)
    return LeftOut(rows, times, some, tuple(errors), units, centre, unit, size, basis, rotated)


def intervals_of(wide: Networks, left: LeftOut, errors: Sequence[Float[Tensor, " some"]] | None = None) -> Intervals:
    """Intervals from errors of rows left out. errors: other ones, of an answer with more in it than `wide`."""
    rotated, count = left.rotated, xp.from_numpy(left.times[left.some])
    certain = len(left.rows) / (len(left.rows) + SCALE_ROWS)
    outputs, bounds, scores = [], [], []
    for error in left.errors if errors is None else errors:
        fitted, moment, mean = _log_scale(error, left.size, rotated, rotated.square(), count.double())
        fitted = mean + certain * (fitted - mean)
        bounds.append(xp.stack([fitted.min(), fitted.max()]).numpy())
        weights = certain * left.unit * (left.basis @ moment)
        outputs.append(_output(wide, left.units, mean - left.centre @ weights, weights))
        scores.append(conformal((error / fitted.exp()).repeat_interleave(count).numpy()))
    return Intervals(xp.stack(outputs, 1), np.stack(bounds), np.stack(scores))


def _own_left_out(
    networks: Networks,
    hidden: Float[Tensor, "n rows width"],
    x: Float[Tensor, "rows features"],
    y: Float[Tensor, " rows"],
    k: int,
) -> tuple[Float[Tensor, " rows"], Float[Tensor, " rows"]]:
    """The error of each row in the weighted mean of output k of the networks under their own output layers, without it,
    and its leverage: that of ridge on [x, hidden], as in `merging.merged`."""
    error, leverage = own_fits(hidden, x, y)
    weight = trust(error.min(1).values)
    answers = Networks(networks.specs, networks.weight.double()).outputs(hidden, x.unsqueeze(0))[..., k]
    off = (y - answers) / (1 - leverage).clamp(min=1e-3)
    return weight @ off, weight @ leverage


def _log_scale(
    error: Float[Tensor, " rows"],
    size: Float[Tensor, " k"],
    rotated: Float[Tensor, "rows k"],
    squared: Float[Tensor, "rows k"],
    mass: Float[Tensor, " rows"],
) -> tuple[Float[Tensor, " rows"], Float[Tensor, " k"], Float[Tensor, ""]]:
    """The logarithm of the scale of each row by all others, its weights along the rotated design, and its mean."""
    fitted = (mass @ error.square() / mass.sum()).sqrt().clamp(min=1e-9).log().expand_as(error)
    for _ in range(PASSES):
        logs = (error.square() + (FLOOR * fitted.exp()).square()).log() / 2
        off, moment, _ = _left_out(logs, size, rotated, squared, SCALE_PENALTIES, mass, SHARP * float(mass.sum()))
        fitted = logs - off
    return fitted, moment, mass @ logs / mass.sum()


def _output(
    wide: Networks, units: Bool[Tensor, "n width"], bias: Float[Tensor, ""], weights: Float[Tensor, " slots"]
) -> Float[Tensor, "n all_slots"]:
    """Output layers whose mean over networks is bias + weights . [x, hidden]."""
    f = wide.layout.max_features
    output = xp.zeros(len(wide), wide.layout.n_slots, dtype=xp.float64)
    output[:, 0], output[:, 1 : 1 + f] = bias, weights[:f]
    output[:, 1 + f :][units] = len(wide) * weights[f:]
    return output


def conformal(scores: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " levels"]:
    """The quantile of scores at each of `LEVELS`: a new one, exchangeable with the n known, is below the k-th of these
    with probability k / (n + 1). The mean of it and that of a symmetric distribution, which counts
    n / (n + SKEW_ROWS) less."""
    n, levels = len(scores), np.array(LEVELS)
    known = np.arange(1, n + 1) / (n + 1)
    half = between(2 * levels[levels > 0.5] - 1, known, np.sort(np.abs(scores)))
    symmetric, skewed = np.concatenate([-half[::-1], [0.0], half]), between(levels, known, np.sort(scores))
    return np.maximum.accumulate(symmetric + n / (n + SKEW_ROWS) * (skewed - symmetric))


def _left_out(
    y: Float[Tensor, " rows"],
    size: Float[Tensor, " k"],
    rotated: Float[Tensor, "rows k"],
    squared: Float[Tensor, "rows k"],
    penalties: Float[Tensor, " penalties"],
    mass: Float[Tensor, " rows"],
    sharp: float = TRUST,
) -> tuple[Float[Tensor, " rows"], Float[Tensor, " k"], Float[Tensor, " rows"]]:
    """The error of each row in the ridge fits without it, the weights along the rotated design of those with it, and
    its leverage: means over penalties, weighed by `trust`. mass: how often each row is there; all of them are left
    out. squared: `rotated` squared."""
    root, mean = mass.sqrt(), mass @ y / mass.sum()
    inverse = 1 / (size.unsqueeze(1) + penalties)
    moment = (rotated.T @ (root * (y - mean))).unsqueeze(1) * inverse
    predicted = mean + rotated @ moment / root.unsqueeze(1)
    leverage = (mass / mass.sum()).unsqueeze(1) + squared @ inverse
    error = (y.unsqueeze(1) - predicted) / (1 - leverage).clamp(min=1e-12)
    squares = (mass @ (y - mean).square()).clamp(min=1e-12)
    weight = xp.softmax(-sharp * (mass @ error.square() / squares), 0)
    return error @ weight, moment @ weight, leverage @ weight
