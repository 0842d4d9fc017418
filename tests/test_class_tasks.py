"""Tasks with classes: the probabilities are those of the classes, and every class can be learned from."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from netformer.errors import InputError
from netformer.options import TablePrior, TaskPrior
from netformer.tasks import classes
from netformer.tasks.classes import (
    LEAST,
    MAX_CLASSES,
    WAYS,
    class_stream_batch,
    draw_class_tasks,
    floor,
    synthetic_class_tasks,
)
from netformer.tasks.task import TEST, TRAIN

SIZES = {"max_features": 8, "min_rows": 40, "max_rows": 120}
HARD = TaskPrior(1, 0.03, 1.0, 0.4, 0.2, 0.15, 0.2, 0.15, 0.25)
MIXED = TablePrior(0.2, 0.2, 0.1, 0.2)
STREAMS = ("class_train", "class_valid", "class_test", "class_heldout_family")


def drawn(n=40, rows=160, fitted=60, seed=0, **options):
    options = {"max_features": 8, "prior": HARD, **options}
    return draw_class_tasks(n, rows, fitted=fitted, generator=torch.Generator().manual_seed(seed), **options)


def stored(n, stream="class_train", seed=0, **options):
    return synthetic_class_tasks(n, seed=seed, stream=stream, split="train", **SIZES, **options)


def one_hot(codes):
    return torch.nn.functional.one_hot(codes, MAX_CLASSES).double()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("tables", [TablePrior(), MIXED], ids=["numbers", "mixed"])
def test_probabilities_are_those_of_the_rows_asked_about(way, tables):
    """Over 40,000 rows, the share of a class among those where its probability is within a tenth is that probability,
    and the log loss of the classes drawn is the floor."""
    batch = drawn(100, 460, 60, ways=[way], tables=tables)
    assert set(batch.way) == {way}
    p = batch.probabilities[:, 60:].double()
    hit = one_hot(batch.codes[:, 60:])
    for low in np.arange(0, 1, 0.1):
        among = (p > low) & (p <= low + 0.1)
        error = (p * (1 - p))[among].sum().sqrt() / among.sum()
        assert int(among.sum()) > 300
        assert abs(float(hit[among].mean() - p[among].mean())) < 4 * float(error)
    loss = -(hit * p.clamp(min=1e-30).log()).sum(2)
    error = loss.std() / loss.numel() ** 0.5
    expected = floor(p, torch.ones(p.shape[:2], dtype=torch.bool)).mean()
    assert abs(float(loss.mean() - expected)) < 4 * float(error)


@pytest.mark.parametrize("fitted", [4, 9, 60, 300])
def test_probabilities_sum_to_one_and_every_class_can_be_learned(fitted):
    for tables in (TablePrior(), MIXED):
        batch = drawn(60, 2 * fitted, fitted, tables=tables)
        own = torch.arange(MAX_CLASSES) < batch.n_classes.unsqueeze(1)
        p = batch.probabilities
        assert torch.allclose(p.sum(2), torch.ones(p.shape[:2]), atol=1e-5)
        assert bool((p >= 0).all())
        assert not bool(p.transpose(1, 2)[~own].any())
        count = one_hot(batch.codes[:, :fitted]).sum(1)
        assert float(count[own].min()) >= LEAST
        assert float(count[~own].sum()) == 0
        assert bool(own.gather(1, batch.codes[:, fitted:]).all())
        assert batch.rows.unique(dim=0).tolist() == [[TRAIN] * fitted + [TEST] * fitted]


def test_half_are_binary_some_have_most_classes_and_some_a_class_of_two_rows():
    batch = drawn(400, 200, 100)
    assert 0.42 < float((batch.n_classes == 2).double().mean()) < 0.58
    assert set(batch.n_classes.tolist()) == set(range(2, MAX_CLASSES + 1))
    own = torch.arange(MAX_CLASSES) < batch.n_classes.unsqueeze(1)
    count = one_hot(batch.codes[:, :100]).sum(1).masked_fill(~own, torch.inf).min(1).values
    assert int((count == LEAST).sum()) > 5
    assert int((count > 40).sum()) > 20


def test_steps_are_the_probabilities_of_a_noisy_score_between_its_thresholds():
    """Against scipy, with the thresholds found again from the probabilities of one row."""
    g = torch.Generator().manual_seed(0)
    clean, spread = torch.randn(5, 300, generator=g), torch.full((5, 300), 0.7)
    share = torch.tensor([[0.2, 0.5, 0.3, 0.0]]).expand(5, 4)
    p = classes._steps(clean, spread, share, 300, g).double().numpy()
    np.testing.assert_allclose(p.mean(1), share, atol=0.06)
    assert not p[:, :, 3].any()
    middle = np.abs(clean.numpy()).argmin(1)
    for i in range(5):
        first, second = (norm.ppf(p[i, middle[i], :k].sum(), clean[i, middle[i]], 0.7) for k in (1, 2))
        low = norm.cdf(first, clean[i], 0.7)
        expected = np.stack([low, norm.cdf(second, clean[i], 0.7) - low], 1)
        np.testing.assert_allclose(p[i, :, :2], expected, atol=1e-5)


def test_the_largest_function_wins_and_biases_give_the_shares():
    g = torch.Generator().manual_seed(0)
    z, w = torch.randn(6, 400, 3, generator=g), torch.full((6, 3), 3**-0.5)
    share = torch.tensor([[0.1, 0.6, 0.3, 0.0]]).expand(6, 4)
    p = classes._largest(z, z[:, :, 0], w, torch.full((6, 400), 0.3), share, 200, g)
    np.testing.assert_allclose(p[:, :200].mean(1), share, atol=0.02)


def test_narrow_cells_are_those_of_the_nearest_prototype():
    """Every class has a row, its prototype, that is nearly certain to be its own."""
    g = torch.Generator().manual_seed(0)
    z, w = torch.randn(6, 400, 3, generator=g), torch.full((6, 3), 3**-0.5)
    share = torch.tensor([[0.25, 0.25, 0.5, 0.0]]).expand(6, 4)
    p, nearest = classes._cells(z, z[:, :, 0], w, torch.full((6, 400), 1e-4), share, 200, g)
    assert float(p[:, :200, :3].max(1).values.min()) > 0.999
    assert float(p.max(2).values.mean()) > 0.95
    assert not bool(p[:, :, 3].any())
    assert int(nearest.max()) < 200
    assert torch.equal(p.gather(1, nearest.unsqueeze(2).expand_as(p)).argmax(2), p.argmax(2))


def test_rows_drawn_toward_their_prototypes_stay_in_their_cells():
    """Toward a prototype no other one comes nearer; columns of few values, gaps and categories are left as they are."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(60, 200, 4, generator=g)
    x[:, :, 2] = (x[:, :, 2] > 0).float()
    x[:, 5, 0] = torch.nan
    at = torch.arange(0, 200, 20)
    nearest = at[torch.cdist(x[:, :, 1:2], x[:, at, 1:2]).argmin(2)]
    moved = classes._gathered(x, torch.tensor([[True, True, True, False]]).expand(60, 4), nearest, g)
    assert torch.equal(moved[:, :, 2:], x[:, :, 2:])
    assert torch.equal(moved.isnan(), x.isnan())
    changed = (moved[:, :, 1] != x[:, :, 1]).any(1)
    assert 15 < int(changed.sum()) < 45
    assert torch.equal(at[torch.cdist(moved[:, :, 1:2], moved[:, at, 1:2]).argmin(2)], nearest)


def test_label_noise_is_the_least_probability_of_a_class():
    """Where labels are drawn anew evenly, no class of a task is less likely than its part of their share."""
    g = torch.Generator().manual_seed(0)
    own = torch.ones(400, 2, dtype=torch.bool)
    p = torch.zeros(400, 50, 2)
    p[:, :, 0] = 1
    noisy = classes._with_noise(p, own, 50, g)
    least = noisy[:, :, 1].max(1).values
    even = least[least > 0] * 2  # drawn anew as the classes are frequent, the second stays impossible
    assert classes.NOISE[0] <= float(even.min()) < float(even.max()) <= classes.NOISE[1]
    assert abs(len(even) / 400 - classes.NOISY_SHARE / 2) < 0.06
    assert torch.allclose(noisy.sum(2), torch.ones(400, 50))


def test_floor_is_the_mean_entropy_of_the_rows_kept():
    p = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.2, 0.3, 0.5]], dtype=torch.float64)
    keep = torch.tensor([True, True, False])
    assert float(floor(p, keep)) == pytest.approx(np.log(2) / 2)
    assert float(floor(p.numpy(), ~keep.numpy())) == pytest.approx(-sum(q * np.log(q) for q in (0.2, 0.3, 0.5)))
    assert floor(p.expand(4, 3, 3), keep.expand(4, 3)).tolist() == pytest.approx([np.log(2) / 2] * 4)


def test_a_batch_is_a_function_of_seed_and_index():
    first, again = (class_stream_batch(3, 6, seed=5, **SIZES) for _ in range(2))
    for name in ("x", "codes", "probabilities", "n_classes"):
        assert torch.equal(getattr(first, name), getattr(again, name)), name
    for other in (class_stream_batch(4, 6, seed=5, **SIZES), class_stream_batch(3, 6, seed=6, **SIZES)):
        assert other.x.shape != first.x.shape or not torch.equal(other.x, first.x)
    assert 40 <= first.fitted <= 120
    assert first.x.shape[1] == first.fitted + min(first.fitted, 60)


def test_stored_tasks_are_learnable_and_do_not_depend_on_how_many_are_asked_for():
    many, few, later = stored(30), stored(27), stored(5, first=25)
    for a, b in [*zip(few, many, strict=False), *zip(later, many[25:], strict=True)]:
        assert a.task_id == b.task_id
        assert np.array_equal(a.X, b.X)
        assert np.array_equal(a.codes, b.codes)
    for task in many:
        count = np.bincount(task.codes[task.row_split == TRAIN], minlength=task.n_classes)
        assert len(count) == task.n_classes
        assert count.min() >= LEAST
        np.testing.assert_allclose(task.probabilities.sum(1), 1, atol=1e-5)
        assert len(task.X) == len(task.codes) == len(task.probabilities) == len(task.row_split)
    for other in (stored(5, seed=1), *(stored(5, stream) for stream in STREAMS[1:])):
        assert not any(a.X.shape == b.X.shape and np.array_equal(a.X, b.X) for a, b in zip(other, many, strict=False))


def test_only_the_held_out_family_is_made_of_friedmans_functions(monkeypatch):
    held_out = stored(12, "class_heldout_family")
    assert {task.family for task in held_out} == {"friedman1", "friedman2", "friedman3"}
    assert {task.way for task in held_out} <= {"ordered", "permuted"}

    def forbidden(*arguments, **options):
        raise AssertionError("the held-out family was reached")

    monkeypatch.setattr(classes, "draw_friedman", forbidden)
    for stream in STREAMS[:3]:
        stored(3, stream)
    class_stream_batch(0, 4, seed=0, **SIZES)


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(InputError, match=r"stream must be one of class_train, .*, got 'train'"):
        stored(3, "train")
    with pytest.raises(InputError, match="first must be a multiple of 25, got 3"):
        stored(3, first=3)
    for fitted in (3, 161):
        with pytest.raises(InputError, match=f"fitted must be between 4 and the number of rows, 160, got {fitted}"):
            drawn(fitted=fitted)
