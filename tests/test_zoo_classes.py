"""Zoo engine on classes: cross-entropy of one logit or of several, as torch.nn and torch.optim train one network."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from netformer.errors import InputError
from netformer.networks.specs import Layout, draw_specs
from netformer.networks.stack import Networks
from netformer.tasks.stream import synthetic_tasks
from netformer.tasks.task import PAD, TEST, TRAIN, VALID
from netformer.tasks.view import stack_tasks
from netformer.zoo.build import _draws, initialize, train_networks
from netformer.zoo.schedule import learning_rate

OUTPUTS = (1, 3, 10)


@pytest.fixture(scope="module")
def tasks():
    made = synthetic_tasks(4, seed=1, stream="train", split="train", max_features=10, min_rows=40, max_rows=60)
    return stack_tasks(made, 10)


def with_classes(tasks, n_classes):
    """The same tasks, their targets cut into classes of about equal size."""
    rank = tasks.y.masked_fill(tasks.rows == PAD, torch.inf).argsort(1).argsort(1)
    return replace(tasks, y=(rank * n_classes // tasks.n_rows.unsqueeze(1)).clamp(max=n_classes - 1).float())


def drawn(n, tasks, n_outputs, **options):
    """Networks, their tasks with classes and which of these each reads."""
    at, layout = torch.arange(n) % len(tasks), Layout(n_outputs=n_outputs)
    specs = draw_specs(tasks.n_features[at], layout=layout, generator=torch.Generator().manual_seed(0), **options)
    return initialize(specs, torch.arange(n)), with_classes(tasks, max(2, n_outputs)), at


def cross_entropy(logits, y):
    """Of each row, from torch."""
    if logits.shape[1] == 1:
        return functional.binary_cross_entropy_with_logits(logits.squeeze(1), y, reduction="none")
    return functional.cross_entropy(logits, y.long(), reduction="none")


@pytest.mark.parametrize("batch_size", [16, 80])
@pytest.mark.parametrize("n_outputs", OUTPUTS)
def test_a_stack_trains_as_single_networks_in_torch(tasks, n_outputs, batch_size):
    """Sparse or dense, 30 steps of AdamW on the same batches; tolerance 1e-4 absolute on every weight."""
    steps, lr, decay, n = 30, 0.02, 0.01, 24
    shares = {"sparse_share": 0.5, "skip_share": 0.5, "bias_share": 0.7}
    initial, tasks, at = drawn(n, tasks, n_outputs, **shares)
    options = {"steps": steps, "lr": lr, "batch_size": batch_size, "weight_decay": decay, "evaluations": 1, "seed": 3}
    done = train_networks(initial, tasks, at, loss="log loss", **options)
    for i in range(n):
        net = initial.to_torch(i)
        edges = Networks(initial.specs, initial.specs.mask.float()).to_torch(i).parameters()
        optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=decay)
        x, y = tasks.x[at[i], :, : int(initial.specs.n_inputs[i])], tasks.y[at[i]]
        train, valid = tasks.rows[at[i]] == TRAIN, tasks.rows[at[i]] == VALID
        masks = [edge.detach() for edge in edges]
        with torch.no_grad():
            before = cross_entropy(net(x[valid]), y[valid]).sum()
        for step in range(steps):
            n_train = int(train.sum())
            rows = (_draws(step, batch_size, 3) * n_train).long().clamp(max=n_train - 1)
            optimizer.param_groups[0]["lr"] = learning_rate(step, steps, lr)
            optimizer.zero_grad()
            cross_entropy(net(x[train][rows]), y[train][rows]).mean().backward()
            for parameter, mask in zip(net.parameters(), masks, strict=True):
                parameter.grad *= mask
            optimizer.step()
        with torch.no_grad():
            after = cross_entropy(net(x[valid]), y[valid]).sum()
        expected = net if after < before else initial.to_torch(i)
        for ours, theirs in zip(done.to_torch(i).parameters(), expected.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("n_outputs", OUTPUTS)
def test_batched_is_one_by_one_bit_for_bit(tasks, n_outputs):
    initial, tasks, at = drawn(10, tasks, n_outputs)
    options = {"steps": 10, "lr": 0.02, "batch_size": 8, "evaluations": 2, "loss": "log loss"}
    whole = train_networks(initial, tasks, at, **options)
    alone = [train_networks(initial[[i]], tasks[[int(at[i])]], torch.zeros(1).long(), **options) for i in range(10)]
    assert torch.equal(torch.cat([one.weight for one in alone]), whole.weight)
    assert whole.layout.n_outputs == n_outputs
    garbage = initial.weight.clone()
    garbage[0] = 1e30 * initial.specs.mask[0]
    other = train_networks(Networks(initial.specs, garbage), tasks, at, **options)
    assert torch.equal(other.weight[1:], whole.weight[1:])


def valid_loss(networks, tasks, at):
    answers, found = networks.answers(tasks.x[at]).double(), []
    for logits, y, rows in zip(answers, tasks.y[at].double(), tasks.rows[at], strict=True):
        found.append(cross_entropy(logits[rows == VALID], y[rows == VALID]).sum())
    return torch.stack(found)


@pytest.mark.parametrize("lr", [0.02, 5.0])
@pytest.mark.parametrize("n_outputs", OUTPUTS)
def test_kept_weights_are_never_worse_on_valid_than_the_initial_ones(tasks, n_outputs, lr):
    initial, tasks, at = drawn(24, tasks, n_outputs)
    before = valid_loss(initial, tasks, at)
    done = train_networks(initial, tasks, at, steps=20, lr=lr, batch_size=8, evaluations=4, loss="log loss")
    after = valid_loss(done, tasks, at)
    assert bool((after <= before * (1 + 1e-4)).all())
    if lr < 1:
        assert float((after < before).float().mean()) > 0.5


def test_test_rows_are_never_read(tasks):
    initial, tasks, at = drawn(6, tasks, 3)
    hidden = tasks.rows == TEST
    changed = replace(tasks, x=tasks.x.masked_fill(hidden.unsqueeze(2), 1e3), y=tasks.y.masked_fill(hidden, 1e3))
    options = {"steps": 10, "lr": 0.02, "batch_size": 8, "loss": "log loss"}
    assert torch.equal(*(train_networks(initial, some, at, **options).weight for some in (tasks, changed)))


@pytest.mark.parametrize(
    ("n_outputs", "loss", "label", "message"),
    [
        (3, "squared error", 0.0, "squared error must have networks of one output, got 3; train them by log loss"),
        (3, "log loss", 3.0, "log loss must have the classes 0 to 2 as targets, got 3"),
        (3, "log loss", 0.5, "log loss must have the classes 0 to 2 as targets, got 0.5"),
        (1, "log loss", -1.0, "log loss must have the classes 0 to 1 as targets, got -1"),
        (1, "log loss", float("nan"), "log loss must have the classes 0 to 1 as targets, got nan"),
        (1, "hinge", 0.0, "loss must be 'squared error' or 'log loss', got 'hinge'"),
    ],
)
def test_a_loss_that_does_not_fit_is_refused(tasks, n_outputs, loss, label, message):
    initial, tasks, at = drawn(4, tasks, n_outputs)
    tasks.y[2, (tasks.rows[2] == TRAIN).nonzero()[0]] = label
    with pytest.raises(InputError, match=f"^{message}$"):
        train_networks(initial, tasks, at, steps=3, lr=0.01, loss=loss)
