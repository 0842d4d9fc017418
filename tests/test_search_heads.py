"""Output layers of many networks of one task: those of `head.weigh_heads`, by another way."""

import numpy as np
import pytest
import torch

from netformer import NetFormer
from netformer.model.head import weigh_heads
from netformer.networks.stack import Networks
from netformer.search.heads import solved
from netformer.search.spaces import SPACES, Space
from netformer.search.table import task_of_table

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 5))
TABLES = {
    "smooth": (X, X[:, 0] + np.sin(3 * X[:, 1])),
    "few rows": (X[:7], X[:7, 0] - X[:7, 1]),
    "one binary column": (X[:, :1] > 0, 2.0 * (X[:, 0] > 0) + 0.1 * X[:, 1]),
    "linear, no noise": (X, X @ np.arange(5.0)),
    "far cells": (np.where(X > 1.5, 1e6, X), X[:, 0]),
    "more inputs than are read": (np.hstack([X] * 4) + RNG.normal(size=(120, 20)), X[:, 2]),
}


@pytest.fixture(scope="module")
def model():
    return NetFormer.load()


@pytest.fixture(scope="module", params=TABLES.values(), ids=TABLES)
def task(request, model):
    return task_of_table(model, *request.param)[0]


@pytest.mark.parametrize("kind", SPACES)
def test_they_are_those_of_delivered_networks(task, kind):
    space = Space(task, kind, columns=True)
    with torch.no_grad():
        written = space.write(space.first(40, np.random.default_rng(0)))
    rows = task.rows.train_only()
    expected, r2 = weigh_heads(written, rows[[0] * 40], task.penalties.expand(40, -1))
    found, error = solved(written, task)
    torch.testing.assert_close(error, 1 - r2, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(found.predict(rows.x), expected.predict(rows.x), rtol=1e-3, atol=1e-3)
    assert (found.weight[~found.specs.mask] == 0).all()
    assert torch.equal(found.weight[:, :-1], written.weight[:, :-1])


def test_a_network_does_not_depend_on_those_beside_it(model):
    task, _ = task_of_table(model, *TABLES["smooth"])
    space = Space(task, "structures")
    with torch.no_grad():
        written = space.write(space.first(30, np.random.default_rng(0)))
    found, error = solved(written, task)
    for i in range(0, 30, 7):
        alone, own = solved(written[[i]], task)
        torch.testing.assert_close(alone.weight, found.weight[[i]], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(own, error[[i]], rtol=1e-5, atol=1e-7)


def test_units_that_do_not_exist_may_hold_anything(model):
    """What a padded unit computes reaches no output layer."""
    task, _ = task_of_table(model, *TABLES["smooth"])
    space = Space(task, "structures")
    with torch.no_grad():
        written = space.write(space.first(30, np.random.default_rng(0)))
    weight = torch.where(written.specs.patch_mask.unsqueeze(2), written.weight, 7.0)
    weight[:, -1] = written.weight[:, -1]
    found, error = solved(Networks(written.specs, weight), task)
    expected, own = solved(written, task)
    assert torch.equal(found.weight[:, -1], expected.weight[:, -1])
    assert torch.equal(error, own)
