"""Delivery: the networks written for one table, and the wide network they become."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int
from sklearn.utils import _safe_indexing

from netformer.arrays import functions as xp
from netformer.arrays.namespace import Tensor
from netformer.errors import InputError
from netformer.exports.intervals import Intervals
from netformer.exports.population import Population
from netformer.generation.calibration import LeftOut, calibrate, intervals_of, left_out
from netformer.generation.generator import NetFormer
from netformer.generation.merging import for_all, merged
from netformer.growing.beside import beside, intervals_beside, step_units
from netformer.growing.mixing import grow
from netformer.model.prompt import FREE, Prompt
from netformer.networks.stack import Networks, concatenate, constant_network
from netformer.tables.columns import MIN_FREQUENCY
from netformer.tables.inputs import Input
from netformer.tables.reading import CUT, Reading, read
from netformer.tables.scaling import principal_targets

GROUPS = 2  # of inputs beside the relevant ones, of a table with more than a network reads
NOISE_ROWS = 8192  # that `noise_of` looks at, at most
LEAST_RELEVANCE = 5.0  # over the number of rows: of columns that half of the networks read alone
FEWER = 2 / 3  # share of the inputs of a narrow table that may be relevant for some networks to read these alone
ALONE = {"narrow": 0.5, "wide": 0.75}  # share of the networks that read the relevant inputs alone
BINS, BIN_ROWS, RELEVANCE_ROWS = 10, 15, 5000  # of an input for its relevance: bins at most, rows of one, rows of all


@np.errstate(all="ignore")  # what is not finite is looked for where it matters
def deliver(
    X: Any,
    y: Any,
    load: Callable[[], NetFormer],
    *,
    n_samples: int,
    seed: int = 0,
    prompt: Prompt = FREE,
    refine_steps: int = 0,
    target: str | Sequence[str] = "y",
    min_frequency: int = MIN_FREQUENCY,
    steps: bool = False,
) -> Population:
    """`n_samples` networks on all columns of a table, with a wide network and its intervals.

    y: (rows,), or (rows, targets): networks are then written for one target after the other and answer all of them.
    load: gives the model; not called where nothing can be learned (a constant target, no column that varies), which one
    network of zeros answers. prompt, refine_steps: as in `NetFormer.generate`. target, min_frequency: see
    `reading.read`. `about["groups"]`: of columns the networks read a part each, 1 where each is an answer by
    itself; `about["rows"]`: how many rows were fitted. steps: grow step units beside them in the wide network where
    they help (`growing.mixing`), of each target on its own; `about["steps"]` is then how many of its hidden units they
    are, and their share of the answer, of several targets of each.
    """
    reading, z, t = read(X, y, None, target, min_frequency)
    if not (z.any() and t.any()):
        return _nothing(reading, z, t)
    model = load()
    asked: dict[str, Any] = {"prompt": prompt, "refine_steps": refine_steps, "seed": seed}
    x, every = xp.from_numpy(np.clip(z, -CUT, CUT)).float(), xp.from_numpy(t.reshape(len(t), -1)).float()
    own: Tensor | None = None
    if t.ndim == 1:
        networks, expected, groups = written_for(model, reading, X, y, z, t, n_samples, **asked)
    else:
        networks, own, expected, groups = _written_for_each(model, reading, X, z, t, n_samples, **asked)
    # Networks that each read a part of the columns are no answer in the mean, only together.
    share = 1.0 if z.shape[1] > model.model.layout.max_features else None
    wide = merged(networks, x, every.T.contiguous(), share, own)
    about: dict[str, Any] = {"groups": groups, "rows": len(t)}
    left = left_out(networks, wide, z, t, share)
    wide, intervals, grown = _with_steps(wide, left) if steps else (wide, intervals_of(wide, left), {})
    return Population(reading, networks, expected, wide, about | grown, intervals)


@runtime_checkable
class Searching(Protocol):
    """What searches networks for a table, such as `netformer.search.table.Search`."""

    def front(self, model: NetFormer, X: Any, y: Any, *, target: str, min_frequency: int, seed: int) -> Population:
        """Networks for a table with the expected R2 of each, and `about["search"]`, whose "chosen" says which of them
        is to answer; without, it is the one of largest expected R2. Arguments: see `deliver`."""


def deliver_found(
    X: Any,
    y: Any,
    load: Callable[[], NetFormer],
    search: Searching,
    *,
    seed: int,
    target: Sequence[str],
    min_frequency: int = MIN_FREQUENCY,
) -> Population:
    """The front of a search; the network that it chose is the wide one, with its answers as they are, and intervals
    that read the columns that it reads. `about["search"]["chosen"]`: which it is. Arguments: see `deliver`.
    Raises InputError for several targets, and as the search does."""
    if len(target) > 1:
        raise InputError(f"a search is for one target, got {len(target)}: {', '.join(map(repr, target))}")
    reading, z, t = read(X, y, None, target, min_frequency)
    if not (z.any() and t.any()):
        return _nothing(reading, z, t)
    front = search.front(load(), X, y, target=target[0], min_frequency=min_frequency, seed=seed)
    chosen = front.about["search"].get("chosen", int(front.expected_r2.argmax()))
    one = _with_every_edge(front.networks[[chosen]].numpy())
    seen = np.where(one.specs.mask[0, -1, 1 : 1 + z.shape[1]].numpy(), z, 0.0)
    said = front.about["search"] | {"chosen": chosen}
    about = front.about | {"groups": 1, "rows": len(t), "search": said}
    spread = calibrate(one, one, seen, t, share=0.0)
    return replace(front, networks=front.networks.numpy(), wide=one, about=about, intervals=spread)


def _with_every_edge(networks: Networks) -> Networks:
    """The same answers, with an edge into the output from the bias, every input read and every last unit, some of them
    0: a second output, such as the scale of intervals, has those of the first."""
    specs, f = networks.specs, networks.layout.max_features
    mask = specs.mask.clone()
    mask[:, -1, 0] = True
    mask[:, -1, 1 : 1 + f] = mask[:, :, 1 : 1 + f].any(1)
    mask[:, -1, 1 + f :] = specs.last_units
    return Networks(replace(specs, mask=mask), networks.weight)


def _nothing(reading: Reading, z: Float[np.ndarray, "rows inputs"], t: Float[np.ndarray, "rows ..."]) -> Population:
    """One network of zeros, where there is nothing to learn."""
    nothing, said = constant_network(z.shape[1], reading.n_outputs), {"groups": 1, "rows": len(t)}
    return Population(reading, nothing, xp.zeros(1), nothing, said, calibrate(nothing, nothing, z, t))


def _with_steps(wide: Networks, left: LeftOut) -> tuple[Networks, Intervals, dict[str, Any]]:
    """The wide network with step units grown beside it, if they help, its intervals, and what there is to say of it."""
    times, x = left.times.astype(np.float64), left.rows[:, : left.inputs]
    grown = [
        grow(x, y, times, left.some, error.numpy())
        for y, error in zip(left.rows[:, left.inputs :].T, left.errors, strict=True)
    ]
    if not any(grown):
        return wide, intervals_of(wide, left), {}
    errors = [old if one is None else xp.from_numpy(one.left) for one, old in zip(grown, left.errors, strict=True)]
    intervals = intervals_of(wide, left, errors)
    shares = [0.0 if one is None else one.share for one in grown]
    weights = [(1.0, 0.0) if one is None else one.weights for one in grown]
    both = beside(wide, [None if one is None else one.trees for one in grown], weights)
    about = {"steps": {"units": step_units(both), "share": shares[0] if len(shares) == 1 else shares}}
    return both, intervals_beside(intervals, both), about


def _written_for_each(
    model: NetFormer,
    reading: Reading,
    X: Any,
    z: Float[np.ndarray, "rows inputs"],
    t: Float[np.ndarray, "rows targets"],
    n_samples: int,
    *,
    seed: int,
    **asked: Any,
) -> tuple[Networks, Int[Tensor, " n"], Float[Tensor, " n"], int]:
    """`written_for` of several targets: the networks are written for one after the other, of more targets than networks
    for their principal components (`scaling.principal_targets`), and each answers all targets (`merging.for_all`).
    Also the target of each, -1 for none. What is expected of a network is its mean over the targets that vary."""
    varying = np.flatnonzero(t.any(0))
    shown = principal_targets(t[:, varying], n_samples)
    places = varying if len(varying) <= n_samples else np.full(shown.shape[1], -1)
    written, own, hoped = [], [], []
    for number, (column, count) in enumerate(zip(shown.T, split_evenly(n_samples, shown.shape[1]), strict=True)):
        target = np.ascontiguousarray(column)
        networks, expected, groups = written_for(
            model, reading, X, target, z, target, count, seed=seed + number * n_samples, **asked
        )
        written.append(networks)
        own += [int(places[number])] * count
        hoped.append(expected)
    x, y, place = xp.from_numpy(np.clip(z, -CUT, CUT)).float(), xp.from_numpy(t.T).float(), xp.tensor(own)
    networks, error = for_all(concatenate(written), place, x, y)
    r2, known = 1 - error.float(), xp.nonzero(place >= 0).squeeze(1)
    r2[known, place[known]] = xp.cat(hoped)[known]
    return networks, place, r2[:, varying].mean(1), groups


def written_for(
    model: NetFormer,
    reading: Reading,
    X: Any,
    y: Any,
    z: Float[np.ndarray, "rows inputs"],
    t: Float[np.ndarray, " rows"],
    n_samples: int,
    *,
    prompt: Prompt = FREE,
    refine_steps: int = 0,
    seed: int = 0,
) -> tuple[Networks, Float[Tensor, " n"], int]:
    """`n_samples` networks on the inputs z of a table that answer in t, the expected R2 of each, and of how many groups
    of inputs networks read one each: 1 where each is an answer by itself. X, y: the table and what t is made of. All in
    arrays, whatever the model computes with."""
    size = model.model.layout.max_features
    blocks = blocks_of(reading.inputs, relevance(z, t))
    groups = input_groups(blocks, LEAST_RELEVANCE / len(t), size, n_samples)
    written, expected = [], []
    for number, (group, count) in enumerate(groups):
        seen = np.zeros_like(z)
        seen[:, group] = z[:, group]
        networks, estimates = model.write(
            seen,
            t,
            count,
            prompt=prompt,
            refine_steps=refine_steps,
            metafeatures=model.metafeatures_of(reading, X, y, np.sort(group)),
            kinds=reading.kinds,
            random_state=(seed + number) % 2**31,
        )
        written.append(networks.numpy())
        expected.append(np.asarray(estimates))
    return concatenate(written), xp.from_numpy(np.concatenate(expected)), 1 if z.shape[1] <= size else len(groups)


def noise_of(population: Population, X: Any, y: Float[np.ndarray, "rows ..."]) -> Any:
    """Root mean squared residual of `predict` on the rows fitted, of several targets one for each; of more than
    `NOISE_ROWS` on every second, third, .. of them."""
    step = -(-len(y) // NOISE_ROWS)
    some = X if step == 1 else _safe_indexing(X, np.arange(0, len(y), step))
    off = population.predict(some) - y[::step]
    size = np.ldexp(1.0, np.frexp(np.abs(off).max(0))[1] - 1)  # a power of 2: no digit changes, and no square overflows
    noise = size * np.sqrt(np.square(off / size).mean(0))
    return noise if noise.ndim else float(noise)


def relevance(z: Float[np.ndarray, "rows inputs"], t: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " inputs"]:
    """What each input says of the target on its own: adjusted R2 of a line, or of the means of up to `BINS` bins of
    equal size if that is more, on at most `RELEVANCE_ROWS` rows. Of an input that says nothing it is 0 in the mean,
    with a standard deviation of some 4 / rows."""
    step = -(-len(t) // RELEVANCE_ROWS)
    z, t = z[::step], t[::step] - t[::step].mean()
    n, total = len(t), max(float(np.square(t).sum()), 1e-12)
    count = int(np.clip(n // BIN_ROWS, 2, BINS))
    edges = np.quantile(z, np.arange(1, count) / count, axis=0)
    found = np.zeros(z.shape[1])
    for i, column in enumerate(z.T):
        bins = np.searchsorted(edges[:, i], column)
        rows, sums = np.bincount(bins, minlength=count), np.bincount(bins, t, minlength=count)
        used = int((rows > 0).sum())
        centred = column - column.mean()
        line = float(centred @ t) ** 2 / max(float(centred @ centred), 1e-12) / total
        steps = float((sums**2 / np.maximum(rows, 1)).sum()) / total
        adjusted = [1 - (1 - r2) * (n - 1) / max(n - k, 1) for r2, k in ((line, 2), (steps, used))]
        found[i] = max(adjusted)
    return found


def blocks_of(
    inputs: Sequence[Input], strength: Float[np.ndarray, " inputs"]
) -> list[tuple[float, Int[np.ndarray, " _"]]]:
    """The inputs of each column and the strength of the strongest, strongest column first."""
    column = np.array([one.column for one in inputs])
    blocks = [np.flatnonzero(column == which) for which in np.unique(column)]
    return sorted(((float(strength[block].max()), block) for block in blocks), key=lambda pair: -pair[0])


def input_groups(
    blocks: Sequence[tuple[float, Int[np.ndarray, " _"]]], least: float, size: int, n_samples: int
) -> list[tuple[Int[np.ndarray, " _"], int]]:
    """The inputs that networks read and how many networks read them; a column's inputs stay together.

    blocks: see `blocks_of`. Of a narrow table all are read; of one with more than `size` there are `GROUPS` groups,
    each the strongest columns in half of its size and the others in turn. But `ALONE` of the networks read what is
    relevant alone, columns stronger than `least`, unless that is nearly all of a narrow table.
    """
    every = [block for _, block in blocks]
    groups = [np.concatenate(every)]
    narrow = len(groups[0]) <= size
    if not narrow:
        first = _filled(every, size // 2)
        rest = [block for block in every if not np.isin(block, first).any()]
        groups = [_filled([first, *rest[g::GROUPS]], size) for g in range(GROUPS)]
    relevant = _filled([block for strength, block in blocks if strength > least], size)
    able = 0 < len(relevant) <= (FEWER * len(groups[0]) if narrow else size)
    alone = int(n_samples * ALONE["narrow" if narrow else "wide"]) if able else 0
    shares = [(relevant, alone), *zip(groups, split_evenly(n_samples - alone, len(groups)), strict=True)]
    return [(group, count) for group, count in shares if count]


def split_evenly(total: int, parts: int) -> list[int]:
    """So many as equal parts of a number, the first the larger ones."""
    return [len(part) for part in np.array_split(np.arange(total), parts)]


def _filled(blocks: Sequence[Int[np.ndarray, " _"]], size: int) -> Int[np.ndarray, " _"]:
    """Blocks in their order while they fit; of a first one that is too large, its beginning."""
    taken: list[np.ndarray] = []
    for block in blocks:
        room = size - sum(map(len, taken))
        if len(block) <= room or not taken:
            taken.append(block[:room])
    return np.concatenate(taken) if taken else np.zeros(0, np.int64)
