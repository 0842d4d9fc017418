"""Baselines: closed forms equal the slow way, and no fit reads a row it must not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from drawn import draw
from sklearn.linear_model import Ridge
from sklearn.neural_network import MLPRegressor

from netformer.evaluation import baselines
from netformer.networks.specs import Layout
from netformer.tasks.scores import r2
from netformer.tasks.task import PAD, TEST, TRAIN, VALID
from netformer.tasks.view import TaskStack, canonicalize_tasks

LAYOUT = Layout()


def stack(t=4, n_rows=60, raw=6, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(t, n_rows, raw, generator=g, dtype=torch.float64)
    x[0, :, 4:] = 0
    y = x[:, :, 0] + torch.sin(2 * x[:, :, 1]) + 0.3 * torch.randn(t, n_rows, generator=g, dtype=torch.float64)
    rows = torch.tensor([TRAIN, TRAIN, TRAIN, VALID, TEST]).repeat(t, n_rows // 5)
    rows[-1, -10:] = PAD
    return canonicalize_tasks(x, y, rows, LAYOUT.max_features)


BY_NAME = {
    "constant": baselines.constant,
    "ridge": baselines.ridge,
    "mlp_lbfgs": baselines.mlp_lbfgs,
    "random_head": lambda tasks: baselines.random_head(tasks, 16),
    "retrieval": lambda tasks: baselines.retrieval(tasks.float(), draw(30))[1],
    "zoo_average": lambda tasks: baselines.zoo_average(tasks.float(), draw(30)),
}


@pytest.mark.parametrize("name", BY_NAME)
def test_test_rows_are_not_read(name):
    tasks = stack()
    other = TaskStack(tasks.x, torch.where(tasks.rows == TEST, 1e3, tasks.y), tasks.rows, tasks.views)
    predicted = BY_NAME[name](tasks)
    assert predicted.shape == tasks.y.shape
    assert bool(torch.isfinite(predicted).all())
    assert torch.equal(predicted, BY_NAME[name](other))


def test_constant_is_the_train_mean():
    tasks = stack()
    for index in range(len(tasks)):
        mean = tasks.y[index][tasks.train[index]].mean()
        torch.testing.assert_close(baselines.constant(tasks)[index], mean.expand(60))


def test_ridge_equals_sklearn():
    tasks = stack()
    predicted = baselines.ridge(tasks).numpy()
    for index in range(len(tasks)):
        x, y, rows = (v[index].numpy() for v in (tasks.x, tasks.y, tasks.rows))
        fits = [Ridge(alpha=a).fit(x[rows == TRAIN], y[rows == TRAIN]) for a in np.logspace(-3, 3, 13)]
        errors = [np.square(f.predict(x[rows == VALID]) - y[rows == VALID]).sum() for f in fits]
        np.testing.assert_allclose(predicted[index], fits[int(np.argmin(errors))].predict(x), atol=1e-8)


@pytest.mark.parametrize("columns", [5, 50])
def test_leave_one_out_equals_brute_force(columns):
    g = torch.Generator().manual_seed(3)
    design = torch.randn(2, 30, columns, generator=g, dtype=torch.float64)
    y = torch.randn(2, 30, generator=g, dtype=torch.float64)
    train = torch.rand(2, 30, generator=g) < 0.7
    fast = baselines.leave_one_out(*baselines.ridge_path(design, y, train), y, train)
    slow = torch.zeros_like(fast)
    for task in range(2):
        for row in torch.nonzero(train[task]).squeeze(1).tolist():
            without = train[task : task + 1].clone()
            without[0, row] = False
            predicted, _ = baselines.ridge_path(design[task : task + 1], y[task : task + 1], without)
            slow[task] += (y[task, row] - predicted[0, row]).square()
    torch.testing.assert_close(fast, slow, rtol=1e-6, atol=1e-8)


def test_random_head_depends_on_the_task_alone():
    tasks = stack()
    together = baselines.random_head(tasks, torch.tensor([4, 8, 16, 16]), seed=1)
    for index, units in enumerate((4, 8, 16, 16)):
        alone = baselines.random_head(tasks[[index]], units, seed=1)
        torch.testing.assert_close(together[index], alone[0], rtol=1e-6, atol=1e-8)
    assert not torch.allclose(together, baselines.random_head(tasks, 16, seed=2))


def test_random_head_solves_what_a_line_cannot():
    tasks = stack(n_rows=600)
    scores = [r2(tasks.y, f, tasks.rows == TEST) for f in (baselines.random_head(tasks, 128), baselines.ridge(tasks))]
    assert bool((scores[0] > scores[1]).all())


@pytest.mark.parametrize("chunks", [(64, 4), (7, 3), (64, 2, 2)])
def test_retrieval_finds_the_net_that_made_the_task(chunks):
    networks = draw(40)
    tasks = stack(t=5).float()
    made = torch.tensor([3, 11, 39, 0, 22])
    answer = networks[made].predict(tasks.x)
    index, predicted = baselines.retrieval(TaskStack(tasks.x, answer, tasks.rows, tasks.views), networks, *chunks)
    torch.testing.assert_close(predicted, answer)
    assert torch.equal(index, made)


def test_retrieval_passes_over_what_is_not_finite():
    networks, tasks = draw(10), stack().float()
    expected, _ = baselines.retrieval(tasks, networks[1:])
    networks.weight[0, -1] = torch.nan
    assert torch.equal(baselines.retrieval(tasks, networks)[0], expected + 1)


def test_zoo_average_is_a_mean():
    networks, tasks = draw(10), stack().float()
    mean = sum(networks[[i]].predict(tasks.x[:1]) for i in range(4)) / 4
    torch.testing.assert_close(baselines.zoo_average(tasks, networks, count=4)[:1], mean)


def test_mlp_same_spec_fits_what_sklearn_can_express():
    networks, tasks = draw(100), stack()
    task_index = torch.arange(100) % 4
    values, index = baselines.mlp_same_spec(networks, tasks, task_index)
    assert len(values) == len(index) > 0
    assert not bool(networks.specs.skip[index].any())
    first = int(index[0])
    net = networks.to_sklearn(first)
    x, y, rows = (v[task_index[first]] for v in (tasks.x, tasks.y, tasks.rows))
    x = x[:, : int(networks.specs.n_inputs[first])]
    again = MLPRegressor(
        hidden_layer_sizes=net.hidden_layer_sizes,
        activation=net.activation,
        solver="lbfgs",
        max_iter=500,
        random_state=0,
    )
    predicted = torch.from_numpy(again.fit(x[rows == TRAIN].numpy(), y[rows == TRAIN].numpy()).predict(x.numpy()))
    torch.testing.assert_close(values[:1], r2(y[None], predicted[None], (rows == TEST)[None]))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_mlp_chooses_its_penalty_on_valid_rows():
    """Train rows alone would ask for the smallest penalty on every task."""
    tasks = stack(t=3)
    predicted = baselines.mlp_lbfgs(tasks)
    chosen = []
    for i in range(3):
        x, y, rows = (v[i].numpy() for v in (tasks.x[..., : int(tasks.n_features[i])], tasks.y, tasks.rows))
        fits = {}
        for penalty in baselines.MLP_PENALTIES:
            net = MLPRegressor(
                hidden_layer_sizes=(8, 8),
                activation="tanh",
                solver="lbfgs",
                alpha=penalty,
                max_iter=500,
                random_state=0,
            )
            fits[penalty] = net.fit(x[rows == TRAIN], y[rows == TRAIN]).predict(x)
        error = {penalty: np.square(fit - y)[rows == VALID].sum() for penalty, fit in fits.items()}
        chosen.append(min(error, key=error.get))
        np.testing.assert_allclose(predicted[i].numpy()[rows != PAD], fits[chosen[-1]][rows != PAD])
    assert max(chosen) > min(baselines.MLP_PENALTIES)


def test_mlp_same_spec_of_nothing_is_empty():
    values, index = baselines.mlp_same_spec(draw(5, activations=("gelu",)), stack(), torch.zeros(5, dtype=torch.long))
    assert len(values) == len(index) == 0
