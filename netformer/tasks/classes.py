"""Classes: random tasks whose target is one of K classes, with the true probabilities of the classes in every row.

Columns and the function behind them are those of `families.draw_tasks`. Classes are made of them in one of four ways,
drawn per task (`WAYS`): steps of a noisy score between thresholds, ordered along it or permuted; the largest of K noisy
functions; cells around prototypes. Each gives the probabilities of the classes in closed form, label noise is mixed
into them, and the classes are drawn from the result. So the probabilities are true, given what the function reads;
where the observation layer hides some of it (or a graph its other nodes), no method can know them. Their expected log
loss is the floor of a task. The held-out family, steps of Friedman 1-3 (1991), has a function that no stream calls.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from netformer.errors import InputError
from netformer.options import TablePrior, TaskPrior
from netformer.tasks.families import (
    DEFAULT,
    DIRECT,
    FAMILIES,
    NUMBERS,
    DrawnTasks,
    draw_friedman,
    draw_tasks,
    importance,
)
from netformer.tasks.observation import log_uniform, normal, standardize, uniform
from netformer.tasks.stream import batch_generator, row_codes
from netformer.tasks.task import TEST, TRAIN, ClassTask

MAX_CLASSES = 10
LEAST = 2  # rows of every class among the rows fitted
ROWS_PER_CLASS = 5  # of the rows fitted, at least, in the mean of the classes
WAYS, WAY_SHARES = ("ordered", "permuted", "functions", "cells"), (0.2, 0.15, 0.4, 0.25)
BALANCE = (0.25, 0.4, 0.35)  # tasks whose classes are equal, cut at random thresholds, or down to a few rows
BINARY_SHARE = 0.5
NOISY_SHARE, NOISE = 0.3, (0.01, 0.3)  # tasks with label noise, and the share of their labels that are drawn anew
SWING = 0.8  # of the logarithm of the spread with one column, where the noise depends on the input
GUMBEL = math.sqrt(6) / math.pi  # scale of Gumbel noise of standard deviation 1
MOST_PROTOTYPES = 5  # per class
TIGHT = (0.2, 0.8)  # distance of a row from its prototype afterwards, over that before
BLUR = 0.6  # width of the clouds around prototypes over the mean distance to the nearest one, where the spread is 1
ROUNDS = 30  # of the search for the biases that give classes their shares


@dataclass(frozen=True, eq=False)
class DrawnClasses:
    """n raw tasks of equal rows with classes, the first `fitted` rows of each to be fitted on.

    x, n_features, levels: as in `DrawnTasks`. codes: class of each row, from 0. probabilities: true ones of the classes
    in each row, 0 beyond a task's own. family: of the function. way: how classes were made of it, of `WAYS`.
    """

    x: Float[Tensor, "n rows features"]
    codes: Int[Tensor, "n rows"]
    probabilities: Float[Tensor, "n rows classes"]
    n_classes: Int[Tensor, " n"]
    n_features: Int[Tensor, " n"]
    family: tuple[str, ...]
    way: tuple[str, ...]
    levels: Int[Tensor, "n features"]
    fitted: int

    @property
    def rows(self) -> Int[Tensor, "n rows"]:
        """TRAIN for the rows fitted, TEST for the others."""
        return torch.where(torch.arange(self.codes.shape[1]) < self.fitted, TRAIN, TEST).expand_as(self.codes)


def floor(
    probabilities: Float[Tensor, "*n rows classes"] | Float[np.ndarray, "rows classes"],
    keep: Bool[Tensor, "*n rows"] | Bool[np.ndarray, " rows"],
) -> Float[Tensor, " *n"]:
    """Expected log loss under the true probabilities on the kept rows, in nats: the mean of their entropies."""
    entropy, kept = torch.special.entr(torch.as_tensor(probabilities)).sum(-1), torch.as_tensor(keep)
    return (entropy * kept).sum(-1) / kept.sum(-1)


def _coordinates(x: Float[Tensor, "n rows features"], used: Bool[Tensor, "n features"]) -> Tensor:
    """Columns as shown, cut at their outer fiftieths and standardised; gaps lie at the mean."""
    low, high = torch.nanquantile(x, torch.tensor([0.02, 0.98]), dim=1, keepdim=True).nan_to_num(0.0)
    cut = x.clamp(low, high)
    return standardize(torch.where(x.isnan(), cut.nanmean(1, keepdim=True).nan_to_num(0.0), cut)) * used.unsqueeze(1)


def _spread(z: Tensor, n_classes: Int[Tensor, " n"], prior: TaskPrior, g: Generator) -> Float[Tensor, "n rows"]:
    """Deviation of the noise in each row, relative to that of a clean function: the scales of `observation.add_noise`
    for two classes, less for more of them, which lie closer. In some tasks it moves with a column."""
    n = len(z)
    scale = log_uniform(prior.noise_low, prior.noise_high, n, 1, g=g)
    ceiling = uniform(0.02, 0.95, n, 1, g=g)
    scale = torch.where(torch.rand(n, 1, generator=g) < prior.weak_share, (1 / ceiling - 1).sqrt(), scale)
    swing = uniform(-SWING, SWING, n, 1, g=g) * (torch.rand(n, 1, generator=g) < prior.noise_share)
    return scale * torch.exp(swing * z[:, :, 0]) * (2 / n_classes.unsqueeze(1)).sqrt()


def _class_counts(n: int, fitted: int, g: Generator) -> Int[Tensor, " n"]:
    """Two in half of the tasks, else 3 to `MAX_CLASSES`, log-uniform, as far as there are `ROWS_PER_CLASS`."""
    most = min(MAX_CLASSES, max(2, fitted // ROWS_PER_CLASS))
    many = log_uniform(3.0, most + 0.999, n, g=g).floor().long().clamp(max=most)
    return torch.where(torch.rand(n, generator=g) < BINARY_SHARE, 2, many)


def _class_shares(own: Bool[Tensor, "n classes"], fitted: int, g: Generator) -> Float[Tensor, "n classes"]:
    """How many of the rows fitted are of each class, by `BALANCE`."""
    least = (LEAST + 1) / fitted
    cuts = -torch.log(torch.rand(own.shape, generator=g).clamp(1e-6, 1 - 1e-6))  # Dirichlet(1), once normed
    options = torch.stack([torch.ones(own.shape), cuts, log_uniform(least, 1.0, *own.shape, g=g)])
    kind = torch.multinomial(torch.tensor(BALANCE), len(own), True, generator=g)
    weight = options[kind, torch.arange(len(own))] * own
    share = (weight / weight.sum(1, keepdim=True)).clamp(min=least) * own
    return share / share.sum(1, keepdim=True)


# Below: z (n, rows, features); clean, spread (n, rows); w (n, features); share, own (n, classes); p (n, rows, classes).
def _steps(clean: Tensor, spread: Tensor, share: Tensor, fitted: int, g: Generator) -> Tensor:
    """A class for each step of the score plus normal noise; thresholds are noisy scores of rows fitted."""
    noisy = (clean + spread * normal(*clean.shape, g=g))[:, :fitted].sort(1).values
    at = (share.cumsum(1) * fitted).floor().long().clamp(max=fitted - 1)
    last = torch.arange(share.shape[1]) >= (share > 0).sum(1, keepdim=True) - 1  # no class beyond: no threshold
    threshold = torch.where(last, torch.inf, noisy.gather(1, at))
    below = torch.special.ndtr((threshold.unsqueeze(1) - clean.unsqueeze(2)) / spread.unsqueeze(2))
    return below.diff(dim=2, prepend=torch.zeros_like(below[:, :, :1])).clamp(min=0)


def _largest(z: Tensor, clean: Tensor, w: Tensor, spread: Tensor, share: Tensor, fitted: int, g: Generator) -> Tensor:
    """The class whose function plus Gumbel noise is largest. The first is the task's own function, the others are of
    direct families drawn one by one. Biases give classes their shares of the rows fitted; they are found as prices in
    an auction with falling temperature, which rise where a class has too few rows."""
    own = share > 0
    task, column = own.nonzero().unbind(1)
    family, functions = torch.randint(len(DIRECT), task.shape, generator=g), tuple(DIRECT.values())
    scores = torch.full((*own.shape, z.shape[1]), -torch.inf)
    for code in family.unique().tolist():
        at = (family == code).nonzero().squeeze(1)
        scores[task[at], column[at]] = standardize(functions[code](z[task[at]], w[task[at]], g))
    scores[:, 0] = clean
    scores = scores.transpose(1, 2)
    bias, target = torch.zeros(len(z), 1, own.shape[1]), torch.where(own, share, 1.0).log().unsqueeze(1)
    scale = GUMBEL * spread.unsqueeze(2)
    for round_ in range(ROUNDS):
        hot = scale[:, :fitted].clamp(min=2 ** (-6.0 * round_ / ROUNDS))
        found = torch.softmax((scores[:, :fitted] + bias) / hot, 2).mean(1, keepdim=True).clamp(min=1e-4).log()
        bias = bias + hot.mean(1, keepdim=True) * (target - found) * own.unsqueeze(1)
    return torch.softmax((scores + bias) / scale, 2)


def _cells(
    z: Tensor, clean: Tensor, w: Tensor, spread: Tensor, share: Tensor, fitted: int, g: Generator
) -> tuple[Tensor, Int[Tensor, "n rows"]]:
    """The class of the prototype a row belongs to, in an even mixture of normal clouds around prototypes: nearly the
    nearest one where the clouds are narrow. Prototypes are rows fitted, at least one of every class; nearness counts
    the columns that matter and, in half of the tasks, the task's own function. Second: which row is the nearest."""
    n, classes = share.shape
    height = uniform(0.3, 1.0, n, 1, 1, g=g) * (torch.rand(n, 1, 1, generator=g) < 0.5)
    point = torch.cat([z * w.unsqueeze(1), height * clean.unsqueeze(2)], 2)
    count = (share > 0).sum(1, keepdim=True)
    total = (count * log_uniform(1.0, MOST_PROTOTYPES + 0.999, n, 1, g=g)).floor()
    rank = torch.arange(classes * MOST_PROTOTYPES)
    of_class = torch.multinomial(share, len(rank), True, generator=g)
    of_class = torch.where(rank < count, rank, of_class)
    at = torch.rand(n, fitted, generator=g).argsort(1)[:, rank % fitted]
    centre = point.gather(1, at.unsqueeze(2).expand(n, len(rank), point.shape[2]))
    distance = torch.cdist(point, centre).masked_fill((rank >= total).unsqueeze(1), torch.inf)
    near = distance.min(2, keepdim=True).values
    unit = near.mean(1, keepdim=True).clamp(min=1e-6) * BLUR * spread.unsqueeze(2).sqrt()
    weight = torch.softmax(-0.5 * ((distance / unit).square() - (near / unit).square()), 2)
    p = torch.zeros(n, len(weight[0]), classes).scatter_add(2, of_class.unsqueeze(1).expand_as(weight), weight)
    return p, at.gather(1, distance.argmin(2))


def _gathered(x: Tensor, numbers: Tensor, nearest: Int[Tensor, "n rows"], g: Generator) -> Tensor:
    """In half of the tasks rows are drawn toward their prototypes, so that classes lie apart, as those of many tables
    do; not in columns with few values. numbers: (n, features), columns that are no categories."""
    n, rows, _ = x.shape
    distinct = (x.sort(1).values.diff(dim=1) > 0).sum(1, keepdim=True)
    moving = (distinct > rows // 4) & numbers.unsqueeze(1) & (torch.rand(n, 1, 1, generator=g) < 0.5)
    centre = x.gather(1, nearest.unsqueeze(2).expand_as(x))
    moved = centre + uniform(*TIGHT, n, 1, 1, g=g) * (x - centre)
    return torch.where(moving & centre.isfinite(), moved, x)


def _with_noise(p: Tensor, own: Bool[Tensor, "n classes"], fitted: int, g: Generator) -> Tensor:
    """In some tasks a share of the labels is drawn anew, evenly or as the classes are frequent."""
    n = len(p)
    share = log_uniform(*NOISE, n, 1, 1, g=g) * (torch.rand(n, 1, 1, generator=g) < NOISY_SHARE)
    even = (own / own.sum(1, keepdim=True)).unsqueeze(1)
    anew = torch.where(torch.rand(n, 1, 1, generator=g) < 0.5, even, p[:, :fitted].mean(1, keepdim=True))
    return (1 - share) * p + share * anew


def _at_least(codes: Int[Tensor, "n rows"], p: Tensor, own: Tensor, fitted: int) -> Int[Tensor, "n rows"]:
    """The same classes, but those with fewer than `LEAST` of the rows fitted are given the rows likeliest to be theirs,
    of classes that have more than that. Needs `LEAST` rows fitted per class."""
    codes = codes.clone()
    first = codes[:, :fitted]
    for k in range(own.shape[1]):
        for _ in range(LEAST):
            count = torch.nn.functional.one_hot(first, own.shape[1]).sum(1)
            some = ((count[:, k] < LEAST) & own[:, k]).nonzero().squeeze(1)
            free = count[some].gather(1, first[some]) > LEAST
            first[some, torch.where(free, p[some, :fitted, k], -1.0).argmax(1)] = k
    return codes


def _labelled(drawn: DrawnTasks, fitted: int, ways: Sequence[str], prior: TaskPrior, g: Generator) -> DrawnClasses:
    """Tasks whose function is known, with classes made of it in one of some ways (`WAYS`)."""
    n, _, features = drawn.x.shape
    used = torch.arange(features) < drawn.n_features.unsqueeze(1)
    n_classes = _class_counts(n, fitted, g)
    own = torch.arange(MAX_CLASSES) < n_classes.unsqueeze(1)
    share = _class_shares(own, fitted, g)
    z = _coordinates(drawn.x, used)
    spread, w = _spread(z, n_classes, prior, g), importance(n, features, used, g)
    odds = torch.tensor([WAY_SHARES[WAYS.index(name)] for name in ways])
    way = torch.multinomial(odds, n, True, generator=g)
    p, x = torch.zeros(*drawn.clean.shape, MAX_CLASSES), drawn.x.clone()
    for code in way.unique().tolist():
        at, name = (way == code).nonzero().squeeze(1), ways[code]
        if name in ("ordered", "permuted"):
            p[at] = _steps(drawn.clean[at], spread[at], share[at], fitted, g)
        elif name == "functions":
            p[at] = _largest(z[at], drawn.clean[at], w[at], spread[at], share[at], fitted, g)
        else:
            p[at], nearest = _cells(z[at], drawn.clean[at], w[at], spread[at], share[at], fitted, g)
            x[at] = _gathered(x[at], drawn.levels[at] == 0, nearest, g)
    # Without an order, which class is the first, the most frequent, or that of the task's own function is chance.
    ordered = torch.tensor([name == "ordered" for name in ways])[way]
    chance = (torch.rand(own.shape, generator=g) + ~own * 1.0).argsort(1)
    place = torch.where(ordered.unsqueeze(1), torch.arange(MAX_CLASSES), chance)
    p = p.gather(2, place.unsqueeze(1).expand_as(p))
    p = _with_noise(p / p.sum(2, keepdim=True), own, fitted, g)
    codes = _at_least((p / torch.empty_like(p).exponential_(generator=g)).argmax(2), p, own, fitted)
    names = tuple(ways[int(c)] for c in way)
    return DrawnClasses(x, codes, p, n_classes, drawn.n_features, drawn.family, names, drawn.levels, fitted)


def draw_class_tasks(
    n: int,
    rows: int,
    *,
    fitted: int,
    max_features: int,
    families: Sequence[str] = FAMILIES,
    ways: Sequence[str] = WAYS,
    prior: TaskPrior = DEFAULT,
    tables: TablePrior = NUMBERS,
    generator: Generator,
) -> DrawnClasses:
    """n random tasks of `rows` rows with 2 to `MAX_CLASSES` classes, each with at least `LEAST` of the first `fitted`.

    Two classes in half of the tasks. The noise of `prior` is that of the scores; the transforms of its targets are left
    out. ways: of making them, of `WAYS`, in the proportions of `WAY_SHARES`.

    Raises InputError for fewer than 4 rows fitted, or more than there are.
    """
    if not 2 * LEAST <= fitted <= rows:
        raise InputError(f"fitted must be between {2 * LEAST} and the number of rows, {rows}, got {fitted}")
    known = replace(prior, target_share=0.0)
    draw = partial(draw_tasks, max_features=max_features, families=families, prior=known, tables=tables)
    return _labelled(draw(n, rows, generator=generator), fitted, ways, prior, generator)


def synthetic_class_tasks(
    n: int,
    *,
    seed: int,
    stream: str,
    split: str,
    max_features: int,
    min_rows: int,
    max_rows: int,
    families: Sequence[str] = FAMILIES,
    prior: TaskPrior = DEFAULT,
    batch_size: int = 25,
    first: int = 0,
) -> list[ClassTask]:
    """n stored tasks of one stream (`class_train`, `class_valid`, `class_test` or `class_heldout_family`).

    Rows are log-uniform, one draw per batch, and split as those of `stream.synthetic_tasks`; columns get random units
    and offsets. first: number of the first one, a multiple of `batch_size`.

    Raises InputError for another stream, or another first.
    """
    streams = ("class_train", "class_valid", "class_test", "class_heldout_family")
    if stream not in streams:
        raise InputError(f"stream must be one of {', '.join(streams)}, got {stream!r}")
    if first % batch_size:
        raise InputError(f"first must be a multiple of {batch_size}, got {first}")
    tasks: list[ClassTask] = []
    for index in range(first // batch_size, math.ceil((first + n) / batch_size)):
        g = batch_generator(seed, stream, index)
        rows = round(float(log_uniform(float(min_rows), float(max_rows), 1, g=g)))
        split_codes = row_codes(rows)
        fitted = int((split_codes == TRAIN).sum())
        if stream == "class_heldout_family":
            friedman = draw_friedman(batch_size, rows, max_features=max_features, generator=g)
            drawn = _labelled(friedman, fitted, ("ordered", "permuted"), prior, g)
        else:
            draw = partial(draw_class_tasks, max_features=max_features, families=families, prior=prior)
            drawn = draw(batch_size, rows, fitted=fitted, generator=g)
        unit = 10 ** uniform(-1.0, 2.0, batch_size, 1, max_features, g=g)
        x = drawn.x * unit + unit * uniform(-2.0, 2.0, batch_size, 1, max_features, g=g)
        tasks += [
            ClassTask(
                task_id=f"{stream}-{index * batch_size + i:06d}",
                source="synthetic",
                family=drawn.family[i],
                way=drawn.way[i],
                split=split,
                X=x[i, :, : int(drawn.n_features[i])].numpy().copy(),
                codes=drawn.codes[i].numpy().copy(),
                probabilities=drawn.probabilities[i, :, : int(drawn.n_classes[i])].numpy().copy(),
                row_split=split_codes.numpy().astype(np.int8),
            )
            for i in range(min(batch_size, n - len(tasks)))
        ]
    return tasks


def class_stream_batch(
    index: int,
    n: int,
    *,
    seed: int,
    max_features: int,
    min_rows: int,
    max_rows: int,
    families: Sequence[str] = FAMILIES,
    prior: TaskPrior = DEFAULT,
    tables: TablePrior = NUMBERS,
) -> DrawnClasses:
    """Batch `index` of the endless stream of tasks with classes, raw: context rows are TRAIN, those asked about TEST.

    Tasks have between `min_rows` and `max_rows` context rows (log-uniform, one draw per batch) and as many as
    `max_rows` / 2 query rows, as in `stream.stream_batch`. The loss on a query row is the expected one, under its
    `probabilities`. With columns that hold more than numbers (`tables`), x has gaps, and numbers of levels.
    """
    g = batch_generator(seed, "class_stream", index)
    context = round(float(log_uniform(float(min_rows), float(max_rows), 1, g=g)))
    draw = partial(draw_class_tasks, max_features=max_features, families=families, prior=prior, tables=tables)
    return draw(n, context + min(context, max_rows // 2), fitted=context, generator=g)
