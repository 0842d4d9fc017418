"""Families: what the target of a random task can be, and the graphs its columns can come from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from netformer.errors import InputError
from netformer.networks.specs import sigmoid
from netformer.options import TablePrior, TaskPrior
from netformer.tasks.observation import (
    add_noise,
    draw_categories,
    log_uniform,
    normal,
    observe,
    spoil,
    standardize,
    time_order,
    transform_target,
    uniform,
)


@dataclass(frozen=True, eq=False)
class DrawnTasks:
    """n raw tasks of equal rows. Columns beyond a task's own features are zero. `clean` is y without its noise, nan
    where the target was transformed afterwards. levels: of a column that is a category, whose cells are the numbers of
    its levels; 0 for numbers. Gaps are nan."""

    x: Float[Tensor, "n rows features"]
    y: Float[Tensor, "n rows"]
    clean: Float[Tensor, "n rows"]
    n_features: Int[Tensor, " n"]
    family: tuple[str, ...]
    levels: Int[Tensor, "n features"]


def _features(n: int, rows: int, features: int, g: Generator) -> Tensor:
    """Correlated roots through one random marginal per column: normal, uniform, skewed, heavy-tailed, binary, count."""
    mix = torch.eye(features) + uniform(0.0, 0.8, n, 1, 1, g=g) * normal(n, features, features, g=g) / features**0.5
    z = standardize(normal(n, rows, features, g=g) @ mix)
    threshold = uniform(-1.0, 1.0, n, 1, features, g=g)
    kinds = torch.stack(
        [
            z,
            2 * torch.special.ndtr(z) - 1,
            torch.exp(0.6 * z),
            z * (1 + 0.5 * z.abs()),
            (z > threshold).float(),
            torch.floor(torch.exp(0.5 * z + 0.5)),
        ]
    )
    share = torch.tensor([0.4, 0.25, 0.1, 0.05, 0.1, 0.1])
    kind = torch.multinomial(share, n * features, True, generator=g).view(1, n, 1, features)
    return kinds.gather(0, kind.expand(1, n, rows, features)).squeeze(0)


def importance(n: int, features: int, used: Tensor, g: Generator) -> Tensor:
    """Power-law weights over a task's own features, unit norm; each feature is unused with probability 0.3."""
    rank = torch.argsort(torch.rand(n, features, generator=g), 1).float()
    weight = (rank + 1) ** -uniform(0.0, 1.5, n, 1, g=g)
    keep = (torch.rand(n, features, generator=g) > 0.3) & used
    first = used.float().argmax(1, keepdim=True)
    keep = torch.where(keep.any(1, keepdim=True), keep, torch.zeros_like(keep).scatter(1, first, True))
    weight = weight * keep
    return weight / weight.norm(dim=1, keepdim=True).clamp(min=1e-6)


def _linear(u: Tensor, w: Tensor, g: Generator) -> Tensor:
    return (u @ (w * normal(*w.shape, g=g)).unsqueeze(2)).squeeze(2)


def _mlp(u: Tensor, w: Tensor, g: Generator) -> Tensor:
    """A random teacher with 2 hidden layers of 16, tanh or ReLU."""
    n, _, features = u.shape
    gain = log_uniform(0.7, 2.5, n, 1, 1, g=g)
    relu = (torch.rand(n, 1, 1, generator=g) < 0.5).float()

    def act(a: Tensor) -> Tensor:
        return relu * torch.relu(a) + (1 - relu) * torch.tanh(a)

    h = act(u @ (w.unsqueeze(2) * normal(n, features, 16, g=g) * gain) + normal(n, 1, 16, g=g))
    h = act(h @ (normal(n, 16, 16, g=g) / 4 * gain) + 0.5 * normal(n, 1, 16, g=g))
    return (h @ normal(n, 16, 1, g=g)).squeeze(2)


def _fourier(u: Tensor, w: Tensor, g: Generator) -> Tensor:
    """A Gaussian process draw by 48 random Fourier features (Rahimi and Recht 2007)."""
    n, _, features = u.shape
    omega = w.unsqueeze(2) * normal(n, features, 48, g=g) * log_uniform(0.5, 2.5, n, 1, 1, g=g)
    return (torch.cos(u @ omega + 2 * math.pi * torch.rand(n, 1, 48, generator=g)) @ normal(n, 48, 1, g=g)).squeeze(2)


def _trees(u: Tensor, w: Tensor, g: Generator) -> Tensor:
    """12 oblivious trees of depth 3: every level of a tree asks one question of one feature; leaves are N(0, 1)."""
    trees, depth = 12, 3
    n, rows, _ = u.shape
    column = torch.multinomial(w + 1e-9, trees * depth, True, generator=g)
    at = torch.randint(rows, (n, 1, trees * depth), generator=g)
    values = u.gather(2, column.unsqueeze(1).expand(n, rows, trees * depth))
    bits = (values > values.gather(1, at)).view(n, rows, trees, depth).long()
    leaf = (bits * 2 ** torch.arange(depth)).sum(3)
    leaves = normal(n, trees, 2**depth, g=g)
    return leaves.unsqueeze(1).expand(n, rows, trees, 2**depth).gather(3, leaf.unsqueeze(3)).squeeze(3).sum(2)


def _interactions(u: Tensor, w: Tensor, g: Generator) -> Tensor:
    """Pairwise products and squares with a linear part."""
    n, _, features = u.shape
    pairs = w.unsqueeze(1) * w.unsqueeze(2) * normal(n, features, features, g=g)
    v = 3 * torch.tanh(u / 3)
    return 1.5 * torch.einsum("nrf,nfk,nrk->nr", v, pairs, v) + _linear(v, w, g) * uniform(0.0, 1.0, n, 1, g=g)


def _piecewise(u: Tensor, w: Tensor, g: Generator) -> Tensor:
    """Additive piecewise linear functions: 4 hinges per feature, knots at data points."""
    n, rows, features = u.shape
    total = torch.zeros(n, rows)
    for _ in range(4):
        knot = u.gather(1, torch.randint(rows, (n, 1, features), generator=g))
        total = total + (torch.relu(u - knot) @ (w * normal(n, features, g=g)).unsqueeze(2)).squeeze(2)
    return total


def _saturation(u: Tensor, w: Tensor, g: Generator) -> Tensor:
    """Additive saturating curves, one of them gating the rest."""
    n, _, features = u.shape
    steep = log_uniform(0.7, 5.0, n, 1, features, g=g)
    curve = torch.tanh(steep * (u - uniform(-1.0, 1.0, n, 1, features, g=g)))
    gate = sigmoid(3 * standardize(_linear(u, w, g)))
    return (curve @ (w * normal(n, features, g=g)).unsqueeze(2)).squeeze(2) * (1 + uniform(0.0, 1.5, n, 1, g=g) * gate)


def _composition(u: Tensor, w: Tensor, g: Generator) -> Tensor:
    """Two direct families added, multiplied, or one gating the other (the composition within a task of O'Prior)."""
    n = len(u)
    direct = (_mlp, _fourier, _trees, _interactions, _piecewise, _saturation)
    first = torch.randint(len(direct), (), generator=g)
    second = torch.randint(len(direct), (), generator=g)
    a = standardize(direct[int(first)](u, w, g))
    b = standardize(direct[int(second)](u, importance(n, w.shape[1], w.abs() >= 0, g) * (w > 0) + w / 2, g))
    how = torch.randint(3, (n, 1), generator=g)
    return torch.where(how == 0, a + b, torch.where(how == 1, a * (1 + 0.5 * b), torch.tanh(2 * a) * sigmoid(2 * b)))


DIRECT = {
    "linear": _linear,
    "mlp": _mlp,
    "fourier": _fourier,
    "trees": _trees,
    "interactions": _interactions,
    "piecewise": _piecewise,
    "saturation": _saturation,
    "composition": _composition,
}
FAMILIES = (*DIRECT, "graph")
FRIEDMAN_FEATURES = (5, 4, 4)  # that Friedman 1, 2 and 3 read
DEFAULT, NUMBERS = TaskPrior(), TablePrior()


def _graph(n: int, rows: int, features: int, g: Generator) -> tuple[Tensor, Tensor]:
    """A small structural causal model: features + 4 nodes, each a random function of a few earlier ones plus noise.

    y is one node, the features are others: causes, effects or siblings of it; the rest stays hidden.
    """
    nodes = features + 4
    values = torch.zeros(n, rows, nodes)
    roots = _features(n, rows, nodes, g)
    for index in range(nodes):
        if index < 2:
            values[:, :, index] = standardize(roots[:, :, index])
            continue
        parents = (torch.rand(n, 1, index, generator=g) < min(1.0, 2.2 / index)).float()
        coefficients = normal(n, 1, index, g=g) * parents
        a = standardize((values[:, :, :index] * coefficients).sum(2)) + uniform(-1.0, 1.0, n, 1, g=g)
        choice = torch.randint(7, (n, 1), generator=g)
        curves = [a, torch.tanh(2 * a), torch.relu(a), a.square(), torch.sin(2 * a), a.abs(), (a > 0).float()]
        out = torch.stack(curves).gather(0, choice.expand(1, n, rows)).squeeze(0)
        noise = log_uniform(0.05, 0.5, n, 1, g=g)
        orphan = (parents.sum(2) == 0).float()
        mixed = standardize(out) * (1 - orphan) + standardize(roots[:, :, index]) * orphan
        values[:, :, index] = standardize(mixed + noise * normal(n, rows, g=g))
    target = torch.randint(nodes // 2, nodes, (n, 1), generator=g)
    order = torch.rand(n, nodes, generator=g).scatter(1, target, 2.0)
    x = values.gather(2, torch.argsort(order, 1)[:, :features].unsqueeze(1).expand(n, rows, features))
    y = values.gather(2, target.unsqueeze(1).expand(n, rows, 1)).squeeze(2)
    return x, y


def draw_tasks(
    n: int,
    rows: int,
    *,
    max_features: int,
    families: Sequence[str] = FAMILIES,
    prior: TaskPrior = DEFAULT,
    tables: TablePrior = NUMBERS,
    generator: Generator,
) -> DrawnTasks:
    """n random tasks of `rows` rows, each with `prior.min_features` to `max_features` columns.

    families: of which the function of each task is drawn, with equal chance. prior: what columns and target look like.
    tables: what columns hold beside numbers. Rows have no order, but in tasks in order of time (`tables.time_share`),
    where they stand in it.
    """
    g = generator
    n_features = torch.randint(min(prior.min_features, max_features), max_features + 1, (n,), generator=g)
    used = torch.arange(max_features) < n_features.unsqueeze(1)
    x = _features(n, rows, max_features, g)
    family = torch.randint(len(families), (n,), generator=g)
    w = importance(n, max_features, used, g)
    categories = draw_categories(used, rows, tables.category_share, g) if tables.category_share > 0 else None
    acting = standardize(x if categories is None else categories.acted(x)) * used.unsqueeze(1)
    clean = torch.zeros(n, rows)
    for code, name in enumerate(families):
        at = (family == code).nonzero().squeeze(1)
        if len(at) == 0:
            continue
        if name == "graph":
            x[at], clean[at] = _graph(len(at), rows, max_features, g)
        else:
            clean[at] = DIRECT[name](acting[at], w[at], g)
    clean = standardize(clean)
    y = add_noise(clean, x, prior, g)
    latent, levels = x, torch.zeros(n, max_features, dtype=torch.long)
    x = observe(x, used, prior, g)
    if prior.target_share > 0:
        y, kind = transform_target(y, prior.target_share, g)
        clean = torch.where(kind.unsqueeze(1) < 0, clean, torch.nan)
    if categories is not None:
        x, levels = categories.shown(x, latent)
    if tables.time_share > 0:
        order = time_order(x, used, tables.time_share, g)
        x = x.gather(1, order.unsqueeze(2).expand_as(x))
        y, clean = y.gather(1, order), clean.gather(1, order)
    x = torch.where(used.unsqueeze(1), spoil(x, levels == 0, tables, g), 0.0)
    return DrawnTasks(x, y, clean, n_features, tuple(families[int(c)] for c in family), levels)


def draw_friedman(n: int, rows: int, *, max_features: int, generator: Generator) -> DrawnTasks:
    """Friedman 1, 2 and 3 in turn: random feature order, extra irrelevant features, noise as by
    default (`TaskPrior`). Raises InputError for `max_features` below the 5 that Friedman 1 reads."""
    if max_features < FRIEDMAN_FEATURES[0]:
        least = FRIEDMAN_FEATURES[0]
        raise InputError(f"max_features must be at least {least}, which the Friedman family reads, got {max_features}")
    g = generator
    u = torch.rand(n, rows, max_features, generator=g)
    clean, family = torch.zeros(n, rows), []
    n_features = torch.zeros(n, dtype=torch.long)
    for index in range(n):
        kind = index % 3 + 1
        family.append(f"friedman{kind}")
        if kind == 1:
            a = u[index]
            clean[index] = (
                10 * torch.sin(math.pi * a[:, 0] * a[:, 1]) + 20 * (a[:, 2] - 0.5) ** 2 + 10 * a[:, 3] + 5 * a[:, 4]
            )
        else:
            low, high = torch.tensor([0.0, 40 * math.pi, 0.0, 1.0]), torch.tensor([100.0, 560 * math.pi, 1.0, 11.0])
            a = low + (high - low) * u[index, :, :4]
            u[index, :, :4] = a
            inner = a[:, 1] * a[:, 2] - 1 / (a[:, 1] * a[:, 3])
            clean[index] = torch.sqrt(a[:, 0] ** 2 + inner**2) if kind == 2 else torch.atan(inner / a[:, 0])
        n_features[index] = torch.randint(FRIEDMAN_FEATURES[kind - 1], max_features + 1, (), generator=g)
        order = torch.randperm(int(n_features[index]), generator=g)
        u[index, :, : len(order)] = u[index][:, order]
        u[index, :, len(order) :] = 0
    clean = standardize(clean)
    y = clean + log_uniform(0.03, 0.7, n, 1, g=g) * normal(n, rows, g=g)
    return DrawnTasks(u, y, clean, n_features, tuple(family), torch.zeros(n, max_features, dtype=torch.long))
