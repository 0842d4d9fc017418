"""Zoo engine: the stack trains as torch.nn and torch.optim train one network at a time."""

from functools import partial

import numpy as np
import pytest
import torch

from netformer.errors import InputError
from netformer.networks.specs import WRITTEN, Layout, activate, draw_specs
from netformer.networks.stack import Networks
from netformer.tasks.scores import scores
from netformer.tasks.stream import synthetic_tasks
from netformer.tasks.task import TEST, TRAIN, VALID
from netformer.tasks.view import TaskStack, stack_tasks
from netformer.zoo import activations, build, kernel
from netformer.zoo.build import _draws, build_zoo, initialize, train_networks
from netformer.zoo.schedule import learning_rate

LAYOUT = Layout()


@pytest.fixture(scope="module")
def tasks():
    made = synthetic_tasks(4, seed=1, stream="train", split="train", max_features=10, min_rows=40, max_rows=60)
    return stack_tasks(made, 10)


def batch_rows(n_train, step, batch_size, seed):
    """Train rows a network reads in one step, as the kernel picks them."""
    return (_draws(step, batch_size, seed) * n_train).long().clamp(max=n_train - 1)


def draw(n, tasks, **options):
    at = torch.arange(n) % len(tasks)
    return draw_specs(tasks.n_features[at], layout=LAYOUT, generator=torch.Generator().manual_seed(0), **options), at


def test_predicts_as_torch_modules_do(tasks):
    specs, at = draw(60, tasks, skip_share=0.5, sparse_share=0.5, bias_share=0.5)
    networks = initialize(specs, torch.arange(60))
    predicted = networks.predict(tasks.x[at])
    for i in range(60):
        rows = tasks.x[at[i], :, : int(specs.n_inputs[i])]
        torch.testing.assert_close(predicted[i], networks.to_torch(i)(rows).squeeze(1), rtol=1e-5, atol=1e-5)


def test_each_network_gets_its_own_activation():
    a = torch.randn(7, 5, 3)
    codes = torch.tensor([4, 0, 2, 2, 1, 3, 0])
    functions = (lambda v: v, torch.relu, torch.tanh, torch.sigmoid, torch.nn.functional.gelu)
    expected = torch.stack([functions[int(code)](row) for code, row in zip(codes, a, strict=True)])
    torch.testing.assert_close(activate(a, codes), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("batch_size", [16, 80])
def test_a_stack_trains_as_single_networks_in_torch(tasks, batch_size):
    """Sparse or dense, 30 steps of AdamW on the same batches; tolerance 1e-4 absolute on every weight."""
    steps, lr, decay, n = 30, 0.02, 0.01, 24
    specs, at = draw(n, tasks, sparse_share=0.5, skip_share=0.5, bias_share=0.7)
    initial = initialize(specs, torch.arange(n))
    done = train_networks(
        initial, tasks, at, steps=steps, lr=lr, batch_size=batch_size, weight_decay=decay, evaluations=1, seed=3
    )
    for i in range(n):
        net, edges = initial.to_torch(i), exists(specs, i)
        optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=decay)
        x, y = tasks.x[at[i], :, : int(specs.n_inputs[i])], tasks.y[at[i]]
        train, valid = tasks.rows[at[i]] == TRAIN, tasks.rows[at[i]] == VALID
        with torch.no_grad():
            before = (net(x).squeeze(1) - y)[valid].square().sum()
        for step in range(steps):
            rows = batch_rows(int(train.sum()), step, batch_size, 3)
            optimizer.param_groups[0]["lr"] = learning_rate(step, steps, lr)
            optimizer.zero_grad()
            (net(x[train][rows]).squeeze(1) - y[train][rows]).square().mean().backward()
            for parameter, mask in zip(net.parameters(), edges, strict=True):
                parameter.grad *= mask
            optimizer.step()
        with torch.no_grad():
            after = (net(x).squeeze(1) - y)[valid].square().sum()
        expected = net if after < before else initial.to_torch(i)
        for ours, theirs in zip(done.to_torch(i).parameters(), expected.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def exists(specs, i):
    """For each parameter of `to_torch(i)` which of its entries are edges."""
    return [p.detach() for p in Networks(specs, specs.mask.float()).to_torch(i).parameters()]


def test_networks_never_meet_and_threads_do_not_matter(tasks, monkeypatch):
    """Bit for bit: alone, in a stack, in any chunk, on one thread or three, beside a network that diverges."""
    specs, at = draw(10, tasks)
    initial = initialize(specs, torch.arange(10))
    options = {"steps": 10, "lr": 0.02, "batch_size": 8, "evaluations": 2}
    whole = train_networks(initial, tasks, at, **options)
    alone = [train_networks(initial[[i]], tasks[[int(at[i])]], torch.zeros(1).long(), **options) for i in range(10)]
    assert torch.equal(torch.cat([one.weight for one in alone]), whole.weight)
    with monkeypatch.context() as patch:
        patch.setattr(build, "_CHUNK", 2)
        parts = train_networks(initial, tasks, at, workers=3, **options)
    assert torch.equal(parts.weight, whole.weight)
    garbage = initial.weight.clone()
    garbage[0] = 1e30 * specs.mask[0]
    other = train_networks(Networks(specs, garbage), tasks, at, **options)
    assert torch.equal(other.weight[1:], whole.weight[1:])


def test_the_first_steps_of_a_longer_training_are_those_of_a_shorter_one_at_its_rates(tasks):
    """Rates of 0 leave weights where they are, so that a long training ends where it was after 20 steps."""
    specs, at = draw(12, tasks)
    initial = initialize(specs, torch.arange(12))
    options = {"batch_size": 16, "weight_decay": 0.1}
    rate = partial(learning_rate, steps=60, peak=0.05)
    whole = train_networks(initial, tasks, at, steps=60, lr=0.05, evaluations=6, **options)
    same = train_networks(initial, tasks, at, steps=60, lr=rate, evaluations=6, **options)
    begun = train_networks(initial, tasks, at, steps=20, lr=rate, evaluations=2, **options)
    held = train_networks(
        initial, tasks, at, steps=60, lr=lambda step: rate(step) if step < 20 else 0.0, evaluations=6, **options
    )
    assert torch.equal(same.weight, whole.weight)
    assert torch.equal(begun.weight, held.weight)
    assert not torch.equal(begun.weight, whole.weight)


def test_inputs_are_left_alone_and_missing_edges_stay_zero(tasks):
    specs, at = draw(20, tasks, sparse_share=1.0)
    initial = initialize(specs, torch.arange(20))
    before = initial.weight.clone()
    done = train_networks(initial, tasks, at, steps=10, lr=5.0, batch_size=8, weight_decay=0.5)
    assert torch.equal(initial.weight, before)
    assert not bool(done.weight[~specs.mask].any() | torch.signbit(done.weight[~specs.mask]).any())


def test_units_without_a_slope_are_refused(tasks):
    specs, at = draw(3, tasks, activations=("tanh", "step"))
    with pytest.raises(InputError, match="activations of identity, relu, tanh, sigmoid, gelu, found step units"):
        train_networks(initialize(specs, torch.arange(3)), tasks, at, steps=1, lr=0.1)


@pytest.mark.parametrize(("code", "name"), list(enumerate(WRITTEN)))
def test_compiled_activations_and_slopes_are_those_of_torch(code, name):
    """Absolute tolerance 2e-6 on values and derivatives, relative 2e-6 where values are large."""
    a = torch.cat([torch.linspace(-12, 12, 4001), torch.tensor([-1e4, -50.0, 50.0, 1e4])])
    a = torch.cat([a, a.new_zeros(-len(a) % 64)])
    value, slope = a.numpy().reshape(-1, 64).copy(), np.empty((len(a) // 64, 64), np.float32)
    activations.activate(code, value, slope, 0, len(value))
    value, slope = value.ravel(), slope.ravel()
    exact = a.double().requires_grad_()
    expected = activate(exact.view(1, -1, 1), torch.tensor([code])).flatten()
    (derivative,) = torch.autograd.grad(expected.sum(), exact)
    torch.testing.assert_close(torch.from_numpy(value).double(), expected.detach(), rtol=2e-6, atol=2e-6)
    torch.testing.assert_close(torch.from_numpy(slope).double(), derivative, rtol=2e-6, atol=2e-6)


def valid_loss(networks, tasks, at):
    error = (networks.predict(tasks.x[at]) - tasks.y[at]).square()
    return torch.where(tasks.rows[at] == VALID, error, 0.0).sum(1)


@pytest.mark.parametrize("lr", [0.02, 5.0])
def test_kept_weights_are_never_worse_on_valid_than_the_initial_ones(tasks, lr):
    specs, at = draw(24, tasks)
    initial = initialize(specs, torch.arange(24))
    before = valid_loss(initial, tasks, at)
    done = train_networks(initial, tasks, at, steps=20, lr=lr, batch_size=8, evaluations=4)
    after = valid_loss(done, tasks, at)
    assert bool((after <= before * (1 + 1e-4)).all())
    if lr < 1:
        assert float((after < before).float().mean()) > 0.5


def test_test_rows_are_never_read(tasks):
    assert bool((tasks.rows == TEST).any(1).all())
    specs, at = draw(6, tasks)
    initial = initialize(specs, torch.arange(6))
    weights = []
    for shift in (0.0, 1e3):
        y = torch.where(tasks.rows == TEST, tasks.y + shift, tasks.y)
        stack = TaskStack(torch.where((tasks.rows == TEST).unsqueeze(2), shift, tasks.x), y, tasks.rows, tasks.views)
        weights.append(train_networks(initial, stack, at, steps=10, lr=0.02, batch_size=8).weight)
    assert torch.equal(*weights)
    assert not torch.equal(weights[0], initial.weight)


@pytest.mark.parametrize("steps", [10, 37, 400])
def test_learning_rate_rises_to_its_peak_and_falls_toward_zero(steps):
    rates = [learning_rate(step, steps, 0.3) for step in range(steps)]
    top = rates.index(max(rates))
    assert max(rates) == pytest.approx(0.3)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert 0 < rates[-1] < 0.3 * 0.05


def test_batches_reach_all_train_rows_and_differ_by_step_and_seed():
    rows = torch.cat([batch_rows(30, step, 64, seed=0) for step in range(20)])
    assert set(rows.tolist()) == set(range(30))
    assert not torch.equal(batch_rows(30, 0, 64, 0), batch_rows(30, 1, 64, 0))
    assert not torch.equal(batch_rows(30, 0, 64, 0), batch_rows(30, 0, 64, 1))


@pytest.mark.parametrize(("code", "name"), [(TRAIN, "train"), (VALID, "valid")])
def test_a_task_without_train_or_valid_rows_is_named(tasks, code, name):
    specs, at = draw(8, tasks)
    rows = tasks.rows.clone()
    rows[2][rows[2] == code] = TEST
    lacking = TaskStack(tasks.x, tasks.y, rows, tasks.views)
    with pytest.raises(
        InputError, match=f"^every task must have train and valid rows, found none that is {name} in task 2$"
    ):
        train_networks(initialize(specs, torch.arange(8)), lacking, at, steps=3, lr=0.01)
    trained = train_networks(initialize(specs[:2], torch.arange(2)), lacking, at[:2], steps=3, lr=0.01)
    assert len(trained) == 2, "a task that no network reads may lack them"


def test_equal_seeds_share_their_initialisation_and_absent_edges_are_plus_zero(tasks):
    specs, _ = draw(6, tasks)
    same = initialize(specs[[0, 0, 1]], torch.tensor([5, 5, 6]))
    assert torch.equal(same.weight[0], same.weight[1])
    assert not torch.equal(same.weight[0], same.weight[2])
    assert not bool(torch.signbit(same.weight[~same.specs.mask]).any())


def test_the_filter_counts_every_network(tasks):
    options = {"layout": LAYOUT, "spec": {}, "networks_per_task": 6, "duplicate_share": 0.2, "seed": 0}
    options["optimizer"] = {"steps": 40, "lr": 0.03, "batch_size": 16, "weight_decay": 0.0}
    zoo, counts = build_zoo(tasks, min_valid_r2=0.2, max_gap=0.2, **options)
    assert counts["drawn"] == 24
    assert counts["kept"] == len(zoo.networks) < 24
    rejected = [value for name, value in counts.items() if name.startswith("rejected")]
    assert sum(rejected) + counts["kept"] == 24
    assert float(zoo.r2[:, VALID].min()) >= 0.2
    torch.testing.assert_close(zoo.r2, scores(zoo.networks, tasks, zoo.task_index))


def test_a_duplicate_starts_from_a_net_with_its_own_initialisation(tasks):
    options = {"layout": LAYOUT, "spec": {}, "networks_per_task": 10, "min_valid_r2": -2.0, "max_gap": 9.0, "seed": 0}
    options["optimizer"] = {"steps": 1, "lr": 0.01, "batch_size": 4, "weight_decay": 0.0}
    for share in (0.0, 0.5, 1.0):
        zoo, _ = build_zoo(tasks, duplicate_share=share, **options)
        copied = zoo.init_seed != torch.arange(40)
        assert not bool(copied[zoo.init_seed].any())
        assert bool(copied.any()) == (share > 0)
    assert int(copied.sum()) == 39


def test_runs_end_where_a_unit_reads_its_run_or_activation_or_number_changes():
    units, code = np.array([3, 4, 5, 6, 8, 9]), np.array([2, 2, 2, 1, 1, 1])
    first, source = np.array([0, 1, 2, 3, 4, 5, 6]), np.array([1, 2, 3, 0, 0, 0])
    assert kernel._runs(units, code, first, source).tolist() == [False, True, True, True, False, True]
