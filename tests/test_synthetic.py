"""Synthetic stream: a batch is a function of (seed, stream, index), and its families are what they are called."""

import numpy as np
import pytest
import torch
from sklearn.datasets import make_friedman1, make_friedman2, make_friedman3
from sklearn.linear_model import LinearRegression

from netformer.errors import InputError
from netformer.options import TaskPrior
from netformer.tasks import families
from netformer.tasks.families import FAMILIES, draw_friedman, draw_tasks
from netformer.tasks.stream import STREAMS, batch_generator, stream_batch, synthetic_tasks
from netformer.tasks.task import TEST, TRAIN, VALID

SIZES = {"max_features": 8, "min_rows": 40, "max_rows": 90}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def tasks(n=30, seed=0, stream="train"):
    return synthetic_tasks(n, seed=seed, stream=stream, split="train", **SIZES)


def same(a, b):
    return a.X.shape == b.X.shape and np.array_equal(a.X, b.X) and np.array_equal(a.y, b.y)


def test_a_batch_is_a_function_of_seed_stream_and_index():
    first, again = (stream_batch(3, 6, seed=5, **SIZES) for _ in range(2))
    torch.manual_seed(123)
    for name in ("x", "y", "rows"):
        assert torch.equal(getattr(first, name), getattr(again, name)), name
    for other in (
        stream_batch(4, 6, seed=5, **SIZES),
        stream_batch(3, 6, seed=6, **SIZES),
        stream_batch(3, 6, seed=5, stream="valid", **SIZES),
    ):
        assert other.x.shape != first.x.shape or not torch.equal(other.y, first.y)


def test_no_two_streams_seeds_or_indices_share_their_random_numbers():
    keys = [(seed, stream, index) for seed in range(4) for stream in STREAMS for index in range(4)]
    starts = {tuple(torch.rand(4, generator=batch_generator(*key)).tolist()) for key in keys}
    assert len(starts) == len(keys)


def test_stored_tasks_do_not_depend_on_how_many_are_asked_for():
    many, few = tasks(30), tasks(27)
    assert len(few) == 27
    assert all(same(a, b) for a, b in zip(few, many, strict=False))
    assert len({task.task_id for task in many}) == 30
    for other in (tasks(5, seed=1), tasks(5, stream="valid")):
        assert not any(same(a, b) for a, b in zip(other, many, strict=False))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_finite_varied_and_as_linear_as_its_name(family):
    """Median linear R2 of 40 noiseless tasks: 1 for linear ones, below 0.95 for every other family."""
    drawn = draw_tasks(40, 250, max_features=6, families=(family,), generator=seeded(0))
    assert set(drawn.family) == {family}
    assert bool(torch.isfinite(drawn.x).all() & torch.isfinite(drawn.y).all() & torch.isfinite(drawn.clean).all())
    torch.testing.assert_close(drawn.clean.std(1), torch.ones(40), rtol=1e-3, atol=1e-3)
    x, clean = drawn.x.double().numpy(), drawn.clean.double().numpy()
    scores = [LinearRegression().fit(a, b).score(a, b) for a, b in zip(x, clean, strict=True)]
    if family == "linear":
        assert min(scores) > 0.999
    else:
        assert np.median(scores) < 0.95


def test_unused_columns_are_zero_and_used_ones_are_not():
    drawn = draw_tasks(200, 60, max_features=7, prior=TaskPrior(min_features=3), generator=seeded(1))
    used = torch.arange(7) < drawn.n_features.unsqueeze(1)
    assert set(drawn.n_features.tolist()) == {3, 4, 5, 6, 7}
    assert set(drawn.family) == set(FAMILIES)
    zero = (drawn.x == 0).all(1)
    assert bool(zero[~used].all())
    assert float(zero[used].float().mean()) < 0.01


def test_noise_stays_in_its_range():
    drawn = draw_tasks(100, 4000, max_features=4, prior=TaskPrior(noise_low=0.1, noise_high=0.5), generator=seeded(2))
    deviation = (drawn.y - drawn.clean).std(1)
    assert 0.09 < float(deviation.min()) < 0.15
    assert 0.4 < float(deviation.max()) < 0.55


def test_ceiling_is_what_the_noiseless_target_scores(monkeypatch):
    """Seen from outside: of 100 tasks none above 1, none at the floor, and without noise every ceiling is 1."""
    made = tasks(50) + tasks(50, stream="heldout_family")
    assert all(-1 <= task.ceiling <= 1 for task in made)
    assert np.median([task.ceiling for task in made]) > 0.7
    assert min(task.ceiling for task in made) < 0.9
    monkeypatch.setattr(families, "normal", lambda *shape, g: torch.zeros(*shape))
    noiseless = tasks(25, stream="heldout_family")
    assert [task.ceiling for task in noiseless] == [1.0] * 25


def test_stored_tasks_have_every_part_and_their_own_columns_only():
    for task in tasks(25):
        assert task.X.shape[0] == len(task.y) == len(task.row_split)
        assert 38 <= len(task.y) <= 91
        assert 2 <= task.X.shape[1] <= 8
        assert (task.X.std(0) > 0).mean() > 0.5
        shares = np.bincount(task.row_split, minlength=3) / len(task.y)
        np.testing.assert_allclose(shares, [0.6, 0.2, 0.2], atol=1.5 / len(task.y))


def test_stream_batches_are_canonical_and_hold_context_and_queries_only():
    batch = stream_batch(0, 12, seed=0, **SIZES)
    context = batch.train.sum(1)
    assert set(batch.rows.unique().tolist()) == {TRAIN, TEST}
    assert VALID not in batch.rows
    assert bool((context == context[0]).all())
    assert 40 <= int(context[0]) <= 90
    assert batch.x.shape[1] - int(context[0]) == min(int(context[0]), 45)
    train_y = batch.y[:, : int(context[0])]
    torch.testing.assert_close(train_y.mean(1), torch.zeros(12), rtol=0, atol=1e-5)
    torch.testing.assert_close(train_y.std(1, correction=0), torch.ones(12), rtol=1e-4, atol=1e-4)


def test_friedman_needs_the_features_it_reads():
    with pytest.raises(InputError, match=r"^max_features must be at least 5, which the Friedman family reads, got 4$"):
        draw_friedman(3, 50, max_features=4, generator=seeded(0))


def test_friedman_targets_are_sklearns_formulas(monkeypatch):
    """sklearn's makers, fed our columns in place of their uniform draws, give our noiseless target."""
    monkeypatch.setattr(torch, "randperm", lambda n, generator: torch.arange(n))  # keep the formula's column order
    drawn = draw_friedman(9, 200, max_features=7, generator=seeded(3))

    class Columns:
        """Stands in for the random state: its uniform numbers are given."""

        def __init__(self, u):
            self.u = u

        def uniform(self, size):
            return self.u.copy()

        def standard_normal(self, size):
            return np.zeros(size)

    makers = {"friedman1": make_friedman1, "friedman2": make_friedman2, "friedman3": make_friedman3}
    monkeypatch.setattr("sklearn.datasets._samples_generator.check_random_state", lambda state: state)
    assert set(drawn.family) == set(makers)
    low, width = np.array([0, 40 * np.pi, 0, 1]), np.array([100, 520 * np.pi, 1, 10])
    for i, name in enumerate(drawn.family):
        x = drawn.x[i].double().numpy()
        u = x[:, :5] if name == "friedman1" else (x[:, :4] - low) / width
        maker = makers[name].__wrapped__
        options = {"n_features": 5} if name == "friedman1" else {}
        _, y = maker(n_samples=200, noise=0.0, random_state=Columns(u), **options)
        assert u.min() >= -1e-6
        assert u.max() <= 1 + 1e-6
        np.testing.assert_allclose(drawn.clean[i].numpy(), (y - y.mean()) / y.std(ddof=1), rtol=0, atol=2e-3)


def test_friedman_columns_are_permuted_and_padded():
    drawn = draw_friedman(60, 100, max_features=8, generator=seeded(4))
    assert int(drawn.n_features[0::3].min()) == 5
    assert int(drawn.n_features[1::3].min()) == 4
    beyond = torch.arange(8) >= drawn.n_features.unsqueeze(1)
    assert torch.equal((drawn.x == 0).all(1), beyond)
    largest = drawn.x[1::3].amax(1).argmax(1)  # the column of friedman2 in (40 pi, 560 pi)
    assert len(set(largest.tolist())) > 3
