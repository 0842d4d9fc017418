"""Batched: the reading of many drawn tables at once, in torch, for the stream of fresh tasks that a training reads.

`inputs_of_many` repeats what `reading.read` makes of one table (`inputs`, `scaling`), by the same rules and constants;
a test holds the two together. Dates are not drawn and not read here.

Shape letters: c columns of any tables, i inputs, m rows fitted, which come first among all rows, k levels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from netformer.tables.columns import LEAST_OTHERS, LEAST_STAND_INS, MIN_FREQUENCY
from netformer.tables.inputs import CODE_LEVELS, CODE_ROWS, CODES, FOLDS, KINDS, LEAST_ROWS, MOST_SHOWN
from netformer.tables.scaling import LIGHT, NORMAL_IQR, SQUASH

NARROW = 1e-6  # an interquartile range over the center's size, in float32, below which it is rounding
VALUE, LEVEL, MEAN, MISSING, OTHER = range(len(KINDS))


@dataclass(frozen=True, eq=False)
class ManyInputs:
    """Inputs of n tables, as many for each as the table with most has; the others end in zeros.

    x: squashed, mean and standard deviation any. kinds: as `Reading.kinds`. column: what each is made of, -1 for none.
    """

    x: Float[Tensor, "n rows inputs"]
    kinds: Float[Tensor, "n inputs kinds"]
    column: Int[Tensor, "n inputs"]


@dataclass(frozen=True, eq=False)
class _Inputs:
    """Some inputs: the column of each, its kind, its values, and the range it is cut to."""

    column: Int[Tensor, " i"]
    kind: int
    x: Float[Tensor, "i rows"]
    low: Float[Tensor, " i"]
    high: Float[Tensor, " i"]


def inputs_of_many(
    x: Float[Tensor, "n rows columns"],
    levels: Int[Tensor, "n columns"],
    y: Float[Tensor, "n rows"],
    fitted: int,
) -> ManyInputs:
    """What networks read of n tables of equally many rows, decided on the first `fitted` rows of each.

    x: cells, gaps nan; of a category the number of the level, from 0. levels: how many a category has, 0 for a number.
    y: the target, finite on the rows fitted.
    """
    n, rows, f = x.shape
    cells = x.transpose(1, 2).reshape(n * f, rows)
    t = y[:, :fitted] - y[:, :fitted].mean(1, keepdim=True)
    t = (t / t.std(1, keepdim=True, correction=0).clamp(min=1e-12)).repeat_interleave(f, 0)
    missing, category = cells[:, :fitted].isnan(), levels.flatten() > 0
    numbers, categories = (~category & ~missing.all(1)).nonzero().squeeze(1), category.nonzero().squeeze(1)
    made, share = _of_numbers(cells[numbers], t[numbers])
    parts = [_Inputs(numbers[p.column], p.kind, p.x, p.low, p.high) for p in made]
    gaps = missing.to(x.dtype).mean(1)
    gaps[numbers] = share
    if len(categories):
        codes = torch.where(cells[categories].isnan(), -1, cells[categories]).long() + 1
        codes, counts = _frequent(codes, fitted)
        gaps[categories] = counts[:, 0].to(x.dtype) / fitted
        made = _of_categories(codes, counts, t[categories])
        parts += [_Inputs(categories[p.column], p.kind, p.x, p.low, p.high) for p in made]
    parts = [p for p in parts if len(p.column)]
    column = torch.cat([p.column for p in parts])
    kind = torch.cat([torch.full_like(p.column, p.kind) for p in parts])
    scaled = torch.cat([_scaled(p, fitted) for p in parts])
    order = torch.argsort(column, stable=True)
    column, kind, scaled = column[order], kind[order], scaled[order]
    table = column // f
    place = torch.arange(len(table)) - torch.searchsorted(table, table)
    most = int(place.max()) + 1
    every = x.new_zeros(n, most, rows).index_put((table, place), scaled)
    kinds = torch.cat([torch.nn.functional.one_hot(kind, len(KINDS)).to(x.dtype), gaps[column].unsqueeze(1)], 1)
    return ManyInputs(
        every.transpose(1, 2).contiguous(),
        x.new_zeros(n, most, len(KINDS) + 1).index_put((table, place), kinds),
        torch.full((n, most), -1).index_put((table, place), column % f),
    )


def _of_numbers(cells: Float[Tensor, "c rows"], t: Float[Tensor, "c m"]) -> tuple[list[_Inputs], Float[Tensor, " c"]]:
    """The value of each, an indicator of gaps and the mean of the target where they help; and the share of gaps."""
    m, every = t.shape[1], torch.arange(len(cells))
    cells = _without_stand_ins(cells, m)
    gap = cells.isnan()
    seen = gap[:, :m]
    ordered = torch.where(seen, torch.inf, cells[:, :m]).sort(1).values
    count = m - seen.sum(1, keepdim=True)
    filled = torch.where(gap, ordered.gather(1, (count - 1) // 2), cells)
    parts = [_inputs(every, VALUE, filled, m)]
    some = (seen.any(1)).nonzero().squeeze(1)
    indicator = gap[some].to(cells.dtype)
    pays = _helps(filled[some, :m].unsqueeze(2), indicator[:, :m].unsqueeze(2), t[some])
    parts.append(_inputs(some[pays], MISSING, indicator[pays], m))
    known = torch.where(gap, 0.0, cells)
    distinct = 1 + (ordered.diff(dim=1).nan_to_num(0.0) > 0).sum(1) - seen.any(1).long()
    few = (distinct >= CODE_LEVELS[0]) & (distinct <= CODE_LEVELS[1]) & (count[:, 0] >= CODE_ROWS * distinct)
    some = ((known[:, :m] == known[:, :m].round()).all(1) & few).nonzero().squeeze(1)
    if len(some):
        codes = _codes(torch.where(gap, torch.nan, cells)[some], ordered[some])
        pays = _act_as_codes(codes[:, :m], filled[some, :m], t[some])
        parts.append(_means(some[pays], _frequent(codes[pays], m)[0], t[some[pays]]))
    return parts, seen.to(cells.dtype).mean(1)


def _of_categories(codes: Int[Tensor, "c rows"], counts: Int[Tensor, "c k"], t: Float[Tensor, "c m"]) -> list[_Inputs]:
    """An input for each level of a category with few, else mean and count. codes, counts: of `_frequent`; 0: gaps."""
    m, seen = t.shape[1], counts > 0
    few = seen.sum(1) <= MOST_SHOWN
    shown = (counts >= LEAST_ROWS) & few.unsqueeze(1)
    both = (shown.sum(1) == 2) & (seen.sum(1) == 2) & (counts.sum(1) == m)
    shown[both] = shown[both].scatter(1, counts[both].argmax(1, keepdim=True), False)
    column, level = shown.nonzero().unbind(1)
    parts = [_inputs(column, LEVEL, (codes[column] == level.unsqueeze(1)).to(t.dtype), m)]
    many = (~few).nonzero().squeeze(1)
    if len(many):
        means = _means(many, codes[many], t[many])
        parts.append(means)
        table = torch.cat([torch.log1p(counts[many].to(t.dtype)), t.new_zeros(len(many), 1)], 1)
        size = table.gather(1, codes[many])
        pays = _helps(means.x[:, :m].unsqueeze(2), size[:, :m].unsqueeze(2), t[many])
        low = torch.zeros_like(size[pays, 0])
        parts.append(_Inputs(many[pays], OTHER, size[pays], low, size[pays, :m].amax(1)))
    return parts


def _frequent(codes: Int[Tensor, "c rows"], m: int) -> tuple[Int[Tensor, "c rows"], Int[Tensor, "c k"]]:
    """Levels that are not kept get a code of their own, the last (`inputs.frequent`), and how many rows the others
    have."""
    k = int(codes.max()) + 1 if len(codes) else 1
    counts = torch.nn.functional.one_hot(codes[:, :m], k).sum(1)
    counts = torch.where(counts >= MIN_FREQUENCY, counts, 0)
    return torch.where(counts.gather(1, codes) > 0, codes, k), counts


def _inputs(column: Int[Tensor, " i"], kind: int, x: Float[Tensor, "i rows"], m: int) -> _Inputs:
    return _Inputs(column, kind, x, x[:, :m].amin(1), x[:, :m].amax(1))


def _without_stand_ins(cells: Float[Tensor, "c rows"], m: int) -> Float[Tensor, "c rows"]:
    """Numbers that stand for gaps become nan, one at either end of a column (`columns.stand_ins`)."""
    for sign in (1.0, -1.0):
        values = sign * cells[:, :m]
        end = torch.where(values.isnan(), torch.inf, values).amin(1, keepdim=True)
        others = ~values.isnan() & (values != end)
        low = torch.where(others, values, torch.inf).amin(1)
        high = torch.where(others, values, -torch.inf).amax(1)
        enough = ((values == end).sum(1) >= LEAST_STAND_INS) & (others.sum(1) >= LEAST_OTHERS)
        some = (enough & (low - end[:, 0] > high - low)).nonzero().squeeze(1)
        ordered = torch.where(others[some], values[some], torch.inf).sort(1).values
        distinct = 1 + ((ordered.diff(dim=1) > 0) & ordered[:, 1:].isfinite()).sum(1)
        some = some[distinct >= LEAST_OTHERS]
        cells = cells.index_put((some,), torch.where(sign * cells[some] == end[some], torch.nan, cells[some]))
    return cells


def _codes(cells: Float[Tensor, "c rows"], ordered: Float[Tensor, "c m"]) -> Int[Tensor, "c rows"]:
    """The place of each number among the different ones of its column, one more than the last for any other."""
    fresh = torch.cat([torch.ones_like(ordered[:, :1], dtype=torch.bool), ordered.diff(dim=1) > 0], 1)
    fresh &= ordered.isfinite()
    k = CODE_LEVELS[1]
    place = torch.where(fresh, fresh.cumsum(1) - 1, k)
    values = ordered.new_full((len(cells), k + 1), torch.inf).scatter(1, place, ordered)
    values[:, k] = torch.inf
    found = torch.searchsorted(values, cells.nan_to_num(torch.inf)).clamp(max=k)
    return torch.where(values.gather(1, found) == cells, found, k)


def _sums(codes: Int[Tensor, "c m"], t: Float[Tensor, "c m"], k: int) -> tuple[Tensor, Tensor]:
    zeros = t.new_zeros(len(codes), k)
    return zeros.scatter_add(1, codes, torch.ones_like(t)), zeros.scatter_add(1, codes, t)


def _prior_rows(codes: Int[Tensor, "c m"], t: Float[Tensor, "c m"]) -> Float[Tensor, "c 1"]:
    """As `inputs._prior_rows`."""
    k, m = int(codes.max()) + 1, t.shape[1]
    n, total = _sums(codes, t, k)
    _, squares = _sums(codes, t.square(), k)
    used, mean = (n > 0).sum(1), total / n.clamp(min=1)
    within = (squares - n * mean.square()).sum(1).clamp(min=0) / (m - used).clamp(min=1)
    between = (n * (mean - t.mean(1, keepdim=True)).square()).sum(1) / (used - 1).clamp(min=1)
    size = (m - n.square().sum(1) / m) / (used - 1).clamp(min=1)
    return (within / ((between - within) / size.clamp(min=1e-9)).clamp(min=1e-9)).clamp(0.1, 100.0).unsqueeze(1)


def _means(column: Int[Tensor, " c"], codes: Int[Tensor, "c rows"], t: Float[Tensor, "c m"]) -> _Inputs:
    """Shrunk means of the target by code, of the other folds on the rows fitted (`inputs.level_means`)."""
    if not len(codes):
        return _inputs(column, MEAN, t.new_zeros(codes.shape), t.shape[1])
    m, k = t.shape[1], int(codes.max()) + 1
    own = codes[:, :m]
    prior = _prior_rows(own, t)
    fold = torch.from_numpy(np.random.default_rng(0).permutation(m) % FOLDS)
    cell = own * FOLDS + fold
    counts, sums = (part.view(len(codes), k, FOLDS) for part in _sums(cell, t, k * FOLDS))
    n, total = counts.sum(2), sums.sum(2)
    others = ((total.unsqueeze(2) - sums) / (n.unsqueeze(2) - counts + prior.unsqueeze(2))).flatten(1)
    values = torch.where(n > 0, total / (n + prior), 0.0)
    x = torch.cat([others.gather(1, cell), values.gather(1, codes[:, m:])], 1)
    low, high = (torch.minimum(values.amin(1), t.new_zeros(())), torch.maximum(values.amax(1), t.new_zeros(())))
    return _Inputs(column, MEAN, x, torch.minimum(low, x[:, :m].amin(1)), torch.maximum(high, x[:, :m].amax(1)))


def _act_as_codes(
    codes: Int[Tensor, "c m"], filled: Float[Tensor, "c m"], t: Float[Tensor, "c m"]
) -> Bool[Tensor, " c"]:
    """As `inputs._act_as_codes`."""
    z = filled - filled.mean(1, keepdim=True)
    z = z / z.std(1, keepdim=True, correction=0).clamp(min=1e-12)
    prior, (n, total) = _prior_rows(codes, t), _sums(codes, t, int(codes.max()) + 1)
    left = t - (total.gather(1, codes) - t) / (n.gather(1, codes) - 1 + prior)
    gain = _leave_one_out_squares(torch.stack([z, z**2, z**3], 2), t) - left.square()
    return gain.mean(1) > CODES * gain.std(1, correction=0) / t.shape[1] ** 0.5


def _helps(base: Float[Tensor, "c m a"], more: Float[Tensor, "c m b"], t: Float[Tensor, "c m"]) -> Bool[Tensor, " c"]:
    """As `inputs.helps`."""
    return _leave_one_out_squares(torch.cat([base, more], 2), t).sum(1) < _leave_one_out_squares(base, t).sum(1)


def _leave_one_out_squares(design: Float[Tensor, "c m a"], t: Float[Tensor, "c m"]) -> Float[Tensor, "c m"]:
    """As `inputs.leave_one_out_squares`."""
    design = design - design.mean(1, keepdim=True)
    size = design.abs().amax(1, keepdim=True)
    basis, triangle = torch.linalg.qr(design / torch.where(size > 0, size, 1.0))
    diagonal = triangle.diagonal(dim1=1, dim2=2).abs()
    basis = basis * (diagonal > NARROW * triangle.abs().amax((1, 2)).clamp(min=1).unsqueeze(1)).unsqueeze(1)
    leverage = basis.square().sum(2) + 1 / t.shape[1]
    y = t - t.mean(1, keepdim=True)
    residual = y - (basis @ (basis.transpose(1, 2) @ y.unsqueeze(2))).squeeze(2)
    return (residual / (1 - leverage).clamp(min=1e-6)).square()


def _scaled(inputs: _Inputs, m: int) -> Float[Tensor, "i rows"]:
    """Cut to the range fitted, then by median and interquartile range, squashed unless tails are light (`reading`)."""
    ordered = inputs.x[:, :m].sort(1).values

    def quantile(q: float) -> Tensor:
        at = q * (m - 1)
        low = int(at)
        return ordered[:, low] + (at - low) * (ordered[:, min(low + 1, m - 1)] - ordered[:, low])

    center, wide = quantile(0.5), (quantile(0.75) - quantile(0.25)) / NORMAL_IQR
    scale = torch.where(wide > NARROW * center.abs(), wide, inputs.x[:, :m].std(1, correction=0))
    scale = torch.where(scale > NARROW * center.abs(), scale, 1.0)
    cut = torch.minimum(torch.maximum(inputs.x, inputs.low.unsqueeze(1)), inputs.high.unsqueeze(1))
    r = (cut - center.unsqueeze(1)) / scale.unsqueeze(1)
    light = r[:, :m].abs().amax(1, keepdim=True) <= LIGHT
    return torch.where(light, r, r / (1 + (r / SQUASH).square()).sqrt())
