"""Observation: what a table shows of the variables behind it, and how noise and units change its target.

A synthetic task is a function of latent columns. This layer, applied after the function, shows them the way real tables
do: warped, rounded, cut into levels, under category codes without an order, as copies and mixes of each other, with
gaps, wild cells and rows in order of time; and it gives the target noise of several kinds and units that are not those
of the function. Categories alone reach the function too: its argument is then what their levels stand for. `TaskPrior`
and `TablePrior` hold the share of each ingredient; one whose share is 0 draws no random number, so that it can be
ablated alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from netformer.options import TablePrior, TaskPrior

MOST_LEVELS = 60  # of a category
ROWS_PER_LEVEL = 4  # at least, in the mean of a category's levels
STAND_INS = (-999.0, -99.0, 999.0)  # numbers that people write into a gap


def uniform(low: float, high: float, *shape: int, g: Generator) -> Tensor:
    """Uniform numbers in [low, high)."""
    return low + (high - low) * torch.rand(*shape, generator=g)


def log_uniform(low: float, high: float, *shape: int, g: Generator) -> Tensor:
    """Numbers in [low, high) whose logarithm is uniform."""
    return torch.exp(uniform(math.log(low), math.log(high), *shape, g=g))


def normal(*shape: int, g: Generator) -> Tensor:
    """Numbers of mean 0 and standard deviation 1, normally distributed."""
    return torch.randn(*shape, generator=g)


def standardize(v: Tensor) -> Tensor:
    """Zero mean and unit standard deviation along the rows (dimension 1)."""
    return (v - v.mean(1, keepdim=True)) / v.std(1, keepdim=True).clamp(min=1e-6)


def _choose(options: list[Tensor], kind: Int[Tensor, "n 1 k"]) -> Tensor:
    """Of several versions of the same columns, for each column the one of its kind."""
    stacked = torch.stack(options)
    return stacked.gather(0, kind.expand(1, *stacked.shape[1:])).squeeze(0)


def _derive(x: Float[Tensor, "n rows features"], share: float, used: Tensor, g: Generator) -> Tensor:
    """Some columns become a noisy copy, a square, or a mix of two others of the same task."""
    n, rows, features = x.shape
    first, second = (torch.multinomial(used.float(), features, True, generator=g) for _ in range(2))
    a, b = (x.gather(2, at.unsqueeze(1).expand_as(x)) for at in (first, second))
    blur = log_uniform(0.03, 1.0, n, 1, features, g=g) * normal(n, rows, features, g=g)
    kind = torch.randint(3, (n, 1, features), generator=g)
    shift = uniform(-1.5, 1.5, n, 1, features, g=g)
    made = _choose([a + blur, (a + shift).square(), a + normal(n, 1, features, g=g) * b], kind)
    return torch.where(torch.rand(n, 1, features, generator=g) < share, standardize(made), x)


def _warp(x: Float[Tensor, "n rows features"], share: float, g: Generator) -> Tensor:
    """Some columns go through a monotone map: exponential, signed power, Kumaraswamy of the ranks, a floor."""
    n, _, features = x.shape
    shape = (n, 1, features)
    z = standardize(x).clamp(-6, 6)
    p = torch.special.ndtr(z).clamp(1e-6, 1 - 1e-6)
    a, b = log_uniform(0.2, 5.0, *shape, g=g), log_uniform(0.2, 5.0, *shape, g=g)
    options = [
        torch.exp(uniform(0.4, 1.5, *shape, g=g) * z),
        z.sign() * z.abs() ** log_uniform(0.4, 3.0, *shape, g=g),
        1 - (1 - p**a) ** b,
        torch.relu(z - uniform(-1.0, 0.7, *shape, g=g)),
    ]
    kind = torch.multinomial(torch.tensor([0.4, 0.25, 0.15, 0.2]), n * features, True, generator=g).view(shape)
    return torch.where(torch.rand(*shape, generator=g) < share, _choose(options, kind), x)


def _levels(x: Float[Tensor, "n rows features"], share: float, g: Generator) -> Tensor:
    """Some columns keep few values: rounded, binary, or category codes in no order."""
    n, _, features = x.shape
    shape = (n, 1, features)
    z = standardize(x).clamp(-6, 6)
    count = log_uniform(3.0, 12.0, *shape, g=g).floor()
    level = (torch.special.ndtr(z) * count).floor().minimum(count - 1)
    code = torch.rand(n, 12, features, generator=g).argsort(1).argsort(1).to(x.dtype)
    options = [
        (z * log_uniform(0.6, 4.0, *shape, g=g)).round(),
        (z > uniform(-1.3, 1.3, *shape, g=g)).to(x.dtype),
        code.gather(1, level.long()),
    ]
    kind = torch.multinomial(torch.tensor([0.35, 0.45, 0.2]), n * features, True, generator=g).view(shape)
    return torch.where(torch.rand(*shape, generator=g) < share, _choose(options, kind), x)


def observe(
    x: Float[Tensor, "n rows features"], used: Tensor, prior: TaskPrior, g: Generator
) -> Float[Tensor, "n rows features"]:
    """The columns as a table shows them. used: (n, features), the columns a task has."""
    if prior.derived_share > 0:
        x = _derive(x, prior.derived_share, used, g)
    if prior.warp_share > 0:
        x = _warp(x, prior.warp_share, g)
    if prior.level_share > 0:
        x = _levels(x, prior.level_share, g)
    return x


def add_noise(
    clean: Float[Tensor, "n rows"], x: Float[Tensor, "n rows features"], prior: TaskPrior, g: Generator
) -> Float[Tensor, "n rows"]:
    """The standardised clean target with noise."""
    n, rows = clean.shape
    scale = log_uniform(prior.noise_low, prior.noise_high, n, 1, g=g)
    noise = normal(n, rows, g=g)
    if prior.weak_share > 0:
        ceiling = uniform(0.02, 0.95, n, 1, g=g)
        scale = torch.where(torch.rand(n, 1, generator=g) < prior.weak_share, (1 / ceiling - 1).sqrt(), scale)
    if prior.noise_share > 0:
        chi = normal(4, n, rows, g=g).square().mean(0).clamp(min=0.05).sqrt()
        swing = torch.exp(uniform(-0.8, 0.8, n, 1, g=g) * standardize(x[:, :, 0]).clamp(-3, 3))
        kind = torch.randint(2, (n, 1), generator=g)
        other = noise * torch.where(kind == 0, swing, 1 / chi)
        other = other / other.square().mean(1, keepdim=True).sqrt().clamp(min=1e-6)
        noise = torch.where(torch.rand(n, 1, generator=g) < prior.noise_share, other, noise)
    return clean + scale * noise


def transform_target(
    y: Float[Tensor, "n rows"], share: float, g: Generator
) -> tuple[Float[Tensor, "n rows"], Int[Tensor, " n"]]:
    """The target in other units, and for each task the kind of its transform (-1: none).

    0 exponential, 1 signed power, 2 clipped at a bound, 3 rounded to few levels, 4 cut in two.
    """
    n = len(y)
    z = standardize(y).clamp(-6, 6)
    cut = uniform(-1.0, 1.0, n, 1, g=g)
    options = [
        torch.exp(uniform(0.3, 1.2, n, 1, g=g) * z),
        z.sign() * z.abs() ** log_uniform(0.5, 2.5, n, 1, g=g),
        torch.maximum(z, cut),
        (z * log_uniform(0.7, 3.0, n, 1, g=g)).round(),
        (z > cut).to(y.dtype),
    ]
    flip = torch.where(torch.rand(n, 1, generator=g) < 0.5, -1.0, 1.0)
    kind = torch.multinomial(torch.tensor([0.4, 0.2, 0.15, 0.1, 0.15]), n, True, generator=g)
    made = flip * torch.stack(options).gather(0, kind.view(1, n, 1).expand(1, *y.shape)).squeeze(0)
    changed = torch.rand(n, generator=g) < share
    return torch.where(changed.unsqueeze(1), standardize(made), y), torch.where(changed, kind, -1)


@dataclass(frozen=True, eq=False)
class Categories:
    """Columns of n tables that are categories: latent numbers, cut into levels. The k of them in all:

    task, column: where each is. levels: how many it has. edges: the latent quantiles at which it is cut. names: the
    code of each level, lowest latent first. values: what each level stands for, in the function. other: a second
    column of the same table, which the levels move too, by `moves` (0: they do not). coded: shown as integers in a
    column of numbers.
    """

    task: Int[Tensor, " k"]
    column: Int[Tensor, " k"]
    levels: Int[Tensor, " k"]
    edges: Float[Tensor, "k most"]
    names: Int[Tensor, "k most"]
    values: Float[Tensor, "k most"]
    other: Int[Tensor, " k"]
    moves: Float[Tensor, "k most"]
    coded: Bool[Tensor, " k"]

    def _places(self, x: Float[Tensor, "n rows features"]) -> Int[Tensor, "k rows"]:
        z = standardize(x)[self.task, :, self.column]
        return torch.searchsorted(self.edges, torch.special.ndtr(z).contiguous()).clamp(max=MOST_LEVELS - 1)

    def acted(self, x: Float[Tensor, "n rows features"]) -> Float[Tensor, "n rows features"]:
        """The arguments of the function: latent columns, but what the levels stand for where one is a category."""
        place = self._places(x)
        moved = x.transpose(1, 2).index_put((self.task, self.other), self.moves.gather(1, place), accumulate=True)
        return moved.index_put((self.task, self.column), self.values.gather(1, place)).transpose(1, 2)

    def shown(
        self, x: Float[Tensor, "n rows features"], latent: Float[Tensor, "n rows features"]
    ) -> tuple[Float[Tensor, "n rows features"], Int[Tensor, "n features"]]:
        """Columns as a table shows them, with the number of the level in each category; and how many levels every
        column has, 0 for numbers and coded ones."""
        code = self.names.gather(1, self._places(latent)).to(x.dtype)
        levels = torch.zeros(len(x), x.shape[2], dtype=torch.long)
        levels[self.task, self.column] = torch.where(self.coded, 0, self.levels)
        return x.transpose(1, 2).index_put((self.task, self.column), code).transpose(1, 2), levels


def draw_categories(used: Bool[Tensor, "n features"], rows: int, share: float, g: Generator) -> Categories:
    """Which columns are categories, and how their levels act: by a number of their own, by a number and a move of
    another column (a prototype), or by their place in an order. Levels have power-law counts."""
    chosen = (torch.rand(used.shape, generator=g) < share) & used
    task, column = chosen.nonzero().unbind(1)
    k, rank = len(task), torch.arange(MOST_LEVELS)
    most = min(MOST_LEVELS, max(2, rows // ROWS_PER_LEVEL))
    levels = log_uniform(2.0, most + 0.999, k, 1, g=g).floor().long()
    counts = torch.where(rank < levels, (rank + 1.0) ** -uniform(0.0, 1.5, k, 1, g=g), 0.0)
    own = torch.rand(k, MOST_LEVELS, generator=g) + (rank >= levels)  # an order of its own levels, the others last
    counts = counts.gather(1, own.argsort(1))
    edges = (counts / counts.sum(1, keepdim=True)).cumsum(1)
    kind = torch.randint(3, (k, 1), generator=g)
    order = (torch.rand(k, MOST_LEVELS, generator=g) + (rank >= levels)).argsort(1).argsort(1)
    values = torch.where(kind == 2, rank / levels, normal(k, MOST_LEVELS, g=g))
    other = torch.multinomial(used[task].float(), 1, generator=g).squeeze(1) if k else column
    moves = normal(k, MOST_LEVELS, g=g) * ((kind == 1) & (other != column).unsqueeze(1))
    coded = torch.rand(k, generator=g) < 0.3
    names = torch.where(kind == 2, rank, order)
    return Categories(task, column, levels.squeeze(1), edges, names, values, other, moves, coded)


def spoil(
    x: Float[Tensor, "n rows features"], numbers: Bool[Tensor, "n features"], tables: TablePrior, g: Generator
) -> Float[Tensor, "n rows features"]:
    """Gaps (nan), wild cells and numbers that stand for gaps. numbers: columns that are no categories; these have gaps
    alone."""
    n, rows, f = x.shape
    if tables.outlier_share > 0:
        chosen = (torch.rand(n, 1, f, generator=g) < tables.outlier_share) & numbers.unsqueeze(1)
        wild = torch.rand(n, rows, f, generator=g) < log_uniform(0.003, 0.03, n, 1, f, g=g)
        far = normal(n, rows, f, g=g) * 10 ** uniform(0.5, 3.0, n, 1, f, g=g)
        stands = (torch.rand(n, 1, f, generator=g) < 0.4) & chosen
        sign = torch.tensor(STAND_INS)[torch.randint(len(STAND_INS), (n, 1, f), generator=g)]
        absent = stands & _gaps(x, g)
        x = torch.where(absent, sign, torch.where(wild & chosen & ~stands, x + far, x))
    if tables.gap_share > 0:
        chosen = torch.rand(n, 1, f, generator=g) < tables.gap_share
        x = torch.where(chosen & _gaps(x, g), torch.nan, x)
    return x


def _gaps(x: Float[Tensor, "n rows features"], g: Generator) -> Bool[Tensor, "n rows features"]:
    """Which cells are missing if a column has gaps: completely at random, by another column, or by what they hold
    (Rubin 1976); between a fiftieth and a half of a column."""
    n, rows, f = x.shape
    z = standardize(x).clamp(-6, 6)
    other = z.gather(2, torch.randint(f, (n, 1, f), generator=g).expand_as(z))
    kind = torch.randint(3, (n, 1, f), generator=g)
    flip = torch.where(torch.rand(n, 1, f, generator=g) < 0.5, -2.0, 2.0)
    score = normal(n, rows, f, g=g) + flip * torch.where(kind == 0, 0.0, torch.where(kind == 1, other, z))
    rate = log_uniform(0.02, 0.5, n, 1, f, g=g)
    return score > torch.special.ndtri(1 - rate) * (1 + (kind > 0) * 4.0) ** 0.5


def time_order(
    x: Float[Tensor, "n rows features"], used: Bool[Tensor, "n features"], share: float, g: Generator
) -> Int[Tensor, "n rows"]:
    """The order of rows: of some tasks by one of their columns, up to noise; of the others as they are."""
    n, rows, _ = x.shape
    column = torch.multinomial(used.float(), 1, generator=g).view(n, 1, 1).expand(n, rows, 1)
    key = standardize(x).gather(2, column).squeeze(2) + log_uniform(0.01, 1.0, n, 1, g=g) * normal(n, rows, g=g)
    timed = torch.rand(n, 1, generator=g) < share
    return torch.where(timed, key, torch.arange(rows) / rows).argsort(1)
