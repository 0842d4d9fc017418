"""Tasks: the canonical view forgets order, sign and scale, and fold puts them back."""

import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score

from netformer.networks.specs import Layout, draw_specs
from netformer.tasks.scores import r2, scores
from netformer.tasks.task import TEST, TRAIN, VALID, Task, split_rows
from netformer.tasks.view import CUT, canonicalize_tasks, stack_tasks
from netformer.zoo.build import initialize


def table(rows=80, features=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(1, rows, features, generator=g, dtype=torch.float64)
    y = x[:, :, 0] - 0.5 * x[:, :, 1] + 0.2 * torch.randn(1, rows, generator=g, dtype=torch.float64)
    codes = torch.full((1, rows), TRAIN)
    codes[:, 50:65], codes[:, 65:] = VALID, TEST
    return x, y, codes


def test_order_sign_and_scale_of_columns_do_not_matter():
    x, y, codes = table()
    changed = x[:, :, [3, 1, 4, 0, 2]] * torch.tensor([2.0, -3.0, 1e4, -1e-3, 5.0]) + 7
    first, second = canonicalize_tasks(x, y, codes, 6), canonicalize_tasks(changed, 3 * y - 8, codes, 6)
    torch.testing.assert_close(first.x, second.x, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(first.y, second.y, rtol=1e-6, atol=1e-6)


def test_the_sign_of_y_flips_every_feature_and_nothing_else():
    x, y, codes = table()
    first, second = canonicalize_tasks(x, y, codes, 6), canonicalize_tasks(x, -y, codes, 6)
    assert torch.equal(first.views.columns, second.views.columns)
    torch.testing.assert_close(second.x, -first.x, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(second.y, -first.y, rtol=1e-9, atol=1e-9)


def test_canonical_columns_are_standard_and_ordered_by_positive_correlation():
    x, y, codes = table()
    stack = canonicalize_tasks(x * 40 + 3, y, codes, 7)
    z, target = stack.x[0, :50].numpy(), stack.y[0, :50].numpy()
    np.testing.assert_allclose(z[:, :5].mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(z[:, :5].std(0), 1, atol=1e-9)
    correlation = np.array([np.corrcoef(column, target)[0, 1] for column in z[:, :5].T])
    assert correlation.min() >= 0
    assert (np.diff(correlation) <= 0).all()
    assert not z[:, 5:].any()


def test_how_a_task_is_read_depends_on_its_train_rows_alone():
    rng = np.random.default_rng(0)
    X = np.c_[rng.normal(size=(200, 2)), rng.integers(0, 9, 200)]
    y, codes = rng.normal(size=9)[X[:, 2].astype(int)] + X[:, 0], split_rows(200, rng)
    other = codes != TRAIN
    first = stack_tasks([Task("a", "csv", "csv", "test", X, y, codes)], 5)
    X, y = X.copy(), y.copy()
    X[other, :2], y[other] = 1e3, -50.0
    second = stack_tasks([Task("a", "csv", "csv", "test", X, y, codes)], 5)
    assert int(first.n_features) == 4  # two numbers, a code and the mean of its level
    train = torch.from_numpy(~other)
    assert torch.equal(first.x[0, train], second.x[0, train])
    assert torch.equal(first.y[0, train], second.y[0, train])
    assert not torch.equal(first.x[0, ~train], second.x[0, ~train])


def test_arrays_that_cannot_be_written_are_stacked_as_others_are():
    """pandas hands out such arrays, the targets of real tables among them; torch warned of them."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(30, 3))
    arrays = X, X[:, 0] ** 2, split_rows(30, rng)
    usual = stack_tasks([Task("a", "csv", "csv", "test", *arrays)], 3)
    for array in arrays:
        array.flags.writeable = False
    assert torch.equal(stack_tasks([Task("a", "csv", "csv", "test", *arrays)], 3).x, usual.x)


def test_padding_rows_of_a_stack_change_nothing():
    rng = np.random.default_rng(1)
    made = []
    for rows, features in ((30, 3), (70, 6)):
        X = rng.normal(size=(rows, features))
        made.append(Task("a", "csv", "csv", "test", X, X[:, 0] + X[:, 1] ** 2, split_rows(rows, rng)))
    both, alone = stack_tasks(made, 5), stack_tasks(made[:1], 5)
    assert torch.equal(both.x[0, :30], alone.x[0])
    assert torch.equal(both.y[0, :30], alone.y[0])
    assert not bool(both.x[0, 30:].any() | both.y[0, 30:].any())
    assert both.n_features.tolist() == [3, 5]


def test_only_train_rows_decide_the_view():
    x, y, codes = table()
    other_x, other_y = x.clone(), y.clone()
    other_x[:, 50:], other_y[:, 50:] = 100.0, -5.0
    first, second = canonicalize_tasks(x, y, codes, 6).views, canonicalize_tasks(other_x, other_y, codes, 6).views
    for name in ("columns", "sign", "mean", "scale", "n_features", "y_mean", "y_scale"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name


def test_constant_columns_are_not_used_and_strong_ones_stay():
    x, y, codes = table()
    x[:, :50, 2] = 4.0
    stack = canonicalize_tasks(x, y, codes, 3)
    assert int(stack.n_features[0]) == 3
    assert stack.views.columns[0, :2].tolist() == [0, 1]
    assert 2 not in stack.views.columns[0].tolist()


@pytest.mark.parametrize(("n_raw", "n_outputs"), [(1, 1), (3, 1), (5, 1), (5, 4), (7, 1), (7, 2)])
def test_folded_networks_read_raw_columns(n_raw, n_outputs):
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(60, n_raw)) * 10.0 + 3).astype(np.float32)
    y = (50 * X[:, -1] - 20 * X[:, n_raw // 2] + 4).astype(np.float32)
    rows = torch.from_numpy(split_rows(60, rng)).long()[None]
    stack = canonicalize_tasks(torch.from_numpy(X)[None], torch.from_numpy(y)[None], rows, 5)
    at = torch.zeros(20, dtype=torch.long)
    layout, g = Layout(5, 3, 8, n_outputs), torch.Generator().manual_seed(0)
    networks = initialize(draw_specs(stack.n_features[at], layout=layout, generator=g), torch.arange(20))
    folded = stack.views[at].fold(networks, n_raw)
    assert folded.layout == Layout(n_raw, 3, 8, n_outputs)
    assert not bool(folded.weight[~folded.specs.mask].any())
    raw = folded.answers(torch.from_numpy(X)[None])
    expected = networks.answers(stack.x) * stack.views.y_scale + stack.views.y_mean
    torch.testing.assert_close(raw, expected, rtol=1e-3, atol=1e-3 * float(stack.views.y_scale[0]))


@pytest.mark.parametrize("n_raw", [3, 7])
def test_columns_are_cut_at_some_deviations_of_the_train_rows(n_raw):
    rng = np.random.default_rng(1)
    X = (rng.standard_t(1, size=(200, n_raw)) * 10 + 3).astype(np.float32)
    codes = split_rows(200, rng)
    y = torch.from_numpy(np.arctan(X).sum(1))[None]
    stack = canonicalize_tasks(torch.from_numpy(X)[None], y, torch.from_numpy(codes).long()[None], 5)
    assert float(stack.x.abs().max()) == CUT
    train = X[codes == TRAIN].astype(float)
    low, high = (torch.from_numpy(train.mean(0) + end * train.std(0)).float() for end in (-CUT, CUT))
    networks = initialize(
        draw_specs(stack.n_features, layout=Layout(5, 3, 8), generator=torch.Generator().manual_seed(0)),
        torch.arange(1),
    )
    cut = torch.from_numpy(X).clamp(low, high)[None]
    expected = networks.predict(stack.x) * stack.views.y_scale + stack.views.y_mean
    torch.testing.assert_close(stack.views.fold(networks, n_raw).predict(cut), expected, rtol=1e-3, atol=1e-2)


def test_r2_is_sklearns_with_a_floor():
    g = torch.Generator().manual_seed(0)
    y, predicted = torch.randn(6, 30, generator=g), torch.randn(6, 30, generator=g)
    predicted[0] = y[0] + 0.1
    predicted[1] = torch.nan
    keep = torch.rand(6, 30, generator=g) < 0.7
    ours = r2(y, predicted, keep)
    assert float(ours[1]) == -1
    for i in (0, 2, 3, 4, 5):
        expected = max(-1.0, r2_score(y[i][keep[i]], predicted[i][keep[i]]))
        assert float(ours[i]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("n", [3, 4, 10, 101])
def test_every_part_of_a_split_has_rows(n):
    codes = split_rows(n, np.random.default_rng(0))
    counts = np.bincount(codes, minlength=3)
    assert counts.sum() == n
    assert counts.min() >= 1
    if n > 10:
        assert abs(counts[0] / n - 0.6) < 0.02


def test_the_parts_of_a_split_have_the_shares_asked_for():
    """All three differ, lest two of them be exchanged; every row is as likely to be of any part."""
    rng = np.random.default_rng(0)
    drawn = np.stack([split_rows(50, rng, train=0.5, valid=0.3) for _ in range(400)])
    assert {tuple(np.bincount(codes, minlength=3)) for codes in drawn} == {(25, 15, 10)}
    for code, share in ((TRAIN, 0.5), (VALID, 0.3), (TEST, 0.2)):
        np.testing.assert_allclose((drawn == code).mean(0), share, atol=0.1)


def test_scores_of_networks_are_their_r2_on_train_valid_and_test_rows_in_this_order():
    rng = np.random.default_rng(2)
    made = []
    for rows in (30, 55):
        X = rng.normal(size=(rows, 3))
        made.append(Task("a", "csv", "csv", "test", X, X[:, 0] + 0.5 * rng.normal(size=rows), split_rows(rows, rng)))
    tasks, index = stack_tasks(made, 3), torch.tensor([1, 0, 1, 1, 0])
    networks = initialize(
        draw_specs(torch.full((5,), 3), layout=Layout(3, 2, 4), generator=torch.Generator().manual_seed(0)),
        torch.arange(5),
    )
    found = scores(networks, tasks, index, chunk=2)
    for i, at in enumerate(index.tolist()):
        predicted = networks.predict(tasks.x[at : at + 1])[i].double().numpy()
        y, rows = tasks.y[at].double().numpy(), tasks.rows[at].numpy()
        for column, code in ((0, TRAIN), (1, VALID), (2, TEST)):
            expected = max(-1.0, r2_score(y[rows == code], predicted[rows == code]))
            assert float(found[i, column]) == pytest.approx(expected, abs=1e-6)


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match=r"at least 3 rows .* got 2"):
        split_rows(2, np.random.default_rng(0))
