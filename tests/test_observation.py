"""The observation layer: each ingredient does what its name says, and nothing where its share is 0."""

from dataclasses import replace

import pytest
import torch

from netformer.options import TaskPrior
from netformer.tasks.families import draw_tasks
from netformer.tasks.observation import observe, transform_target
from netformer.tasks.stream import stream_batch

PLAIN = TaskPrior()
SHARES = ("weak_share", "noise_share", "warp_share", "level_share", "derived_share", "target_share")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(prior: TaskPrior, n: int = 60, rows: int = 300):
    return draw_tasks(n, rows, max_features=6, prior=prior, generator=seeded(0))


def kurtosis(x: torch.Tensor) -> torch.Tensor:
    z = (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True).clamp(min=1e-6)
    return z.pow(4).mean(1)


@pytest.mark.parametrize("share", SHARES)
def test_each_ingredient_changes_tasks_alone_and_stays_finite(share):
    plain, rich = drawn(PLAIN), drawn(replace(PLAIN, **{share: 1.0}))
    assert bool(torch.isfinite(rich.x).all() & torch.isfinite(rich.y).all())
    assert torch.equal(plain.n_features, rich.n_features)
    columns = share in ("warp_share", "level_share", "derived_share")
    assert torch.equal(plain.x, rich.x) != columns
    assert torch.equal(plain.y, rich.y) == columns


def test_weak_tasks_have_little_to_explain():
    weak = drawn(replace(PLAIN, weak_share=1.0), rows=2000)
    explained = 1 / (1 + (weak.y - weak.clean).var(1))
    assert 0.3 < float(explained.median()) < 0.65
    assert float(explained.min()) < 0.15


def test_columns_with_levels_hold_few_values():
    x = torch.randn(20, 500, 5, generator=seeded(1))
    used = torch.ones(20, 5, dtype=torch.bool)
    levels = observe(x, used, replace(PLAIN, level_share=1.0), seeded(2))
    counts = torch.tensor([len(column.unique()) for task in levels for column in task.T])
    assert int(counts.max()) <= 49  # rounded at most in quarters of a deviation, over 12 of them
    assert float((counts == 2).float().mean()) > 0.3


def test_warped_columns_keep_their_order_and_gain_tails():
    x = torch.randn(40, 400, 3, generator=seeded(3))
    used = torch.ones(40, 3, dtype=torch.bool)
    warped = observe(x, used, replace(PLAIN, warp_share=1.0), seeded(4))
    order = torch.argsort(x, 1)
    assert bool((warped.gather(1, order).diff(dim=1) >= -1e-5).all())
    assert float(kurtosis(warped).quantile(0.75)) > 6


def test_derived_columns_follow_others():
    x = torch.randn(30, 800, 4, generator=seeded(5))
    used = torch.ones(30, 4, dtype=torch.bool)
    derived = observe(x, used, replace(PLAIN, derived_share=1.0), seeded(6))
    z = torch.cat([x, x.square()], 2)
    z = (z - z.mean(1, keepdim=True)) / z.std(1, keepdim=True)
    best = (torch.einsum("nrf,nrk->nfk", derived, z) / 800).abs().amax(2)
    assert float((best > 0.5).float().mean()) > 0.9


def test_transformed_targets_are_of_every_kind_and_keep_their_direction():
    y = torch.randn(400, 300, generator=seeded(7))
    made, kind = transform_target(y, 1.0, seeded(8))
    assert set(kind.tolist()) == {0, 1, 2, 3, 4}
    assert all(len(row.unique()) == 2 for row in made[kind == 4])
    z = (made - made.mean(1, keepdim=True)) / made.std(1, keepdim=True)
    correlation = (z * y).mean(1).abs()
    assert float(correlation.quantile(0.05)) > 0.4
    same, none = transform_target(y, 0.0, seeded(8))
    assert torch.equal(same, y)
    assert set(none.tolist()) == {-1}


def test_rich_stream_is_canonical_finite_and_deterministic():
    prior = replace(PLAIN, min_features=1, **dict.fromkeys(SHARES, 0.3))
    sizes = {"seed": 0, "max_features": 16, "min_rows": 20, "max_rows": 60, "prior": prior}
    first, again, other = (stream_batch(i, 64, **sizes) for i in (0, 0, 1))
    assert torch.equal(first.x, again.x)
    assert first.x.shape != other.x.shape or not torch.equal(first.x, other.x)
    assert bool(torch.isfinite(first.x).all() & torch.isfinite(first.y).all())
    assert int(first.n_features.min()) <= 2
