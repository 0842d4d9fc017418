"""The weights of the package: there, small, documented, and they keep what a prompt asks for."""

import json

import numpy as np
import pytest
import torch
from sklearn.datasets import make_friedman1

from netformer import NetFormer
from netformer.evaluation.metrics import uniqueness
from netformer.generation.generator import CONDITION_ROWS, HEAD_ROWS, PACKAGE
from netformer.tables.reading import read
from stages.params import load_params
from stages.pretrain import main as pretrain


@pytest.fixture(scope="module")
def model() -> NetFormer:
    return NetFormer.load()


@pytest.fixture(scope="module")
def table():
    return make_friedman1(300, n_features=10, noise=1.0, random_state=0)


def test_the_package_is_small_and_says_where_it_comes_from():
    assert (PACKAGE / "model.safetensors").stat().st_size <= 20_000_000
    trainings = json.loads((PACKAGE / "history.json").read_text())
    assert load_params(PACKAGE).train.seed == trainings[-1]["seed"]
    card = (PACKAGE / "README.md").read_text()
    assert all(f"{one['steps']} steps" in card and one["commit"] in card for one in trainings)


@pytest.mark.parametrize(
    ("constraint", "kept"),
    [
        ({"max_params": 60}, lambda s: bool((s.n_params <= 60).all())),
        ({"max_hidden_layers": 1}, lambda s: bool((s.depth == 1).all())),
        ({"activations": ("tanh",)}, lambda s: set(s.activations[s.widths > 0].tolist()) == {2}),
    ],
)
def test_constraints_always_hold(model, table, constraint, kept):
    """Counted in what is delivered."""
    assert kept(model.generate(*table, 32, **constraint).networks.specs)
    assert not kept(model.generate(*table, 32).networks.specs)


def test_a_constraint_nobody_can_meet_names_the_smallest_possible_value(model, table):
    with pytest.raises(ValueError, match="max_params must be at least 23 for these inputs, got 10"):
        model.generate(*table, max_params=10)


def test_networks_come_best_first(model, table):
    X, y = table
    made = model.generate(X, y, n_samples=8, random_state=1)
    assert torch.equal(made.expected_r2, made.expected_r2.sort(descending=True).values)
    written, expected = model.write(*read(X, y)[1:], 8, random_state=1)
    assert expected.argmax() > 0
    assert torch.equal(written.weight[expected.argmax()], made.networks.weight[0])


@pytest.mark.parametrize("rows", [CONDITION_ROWS, CONDITION_ROWS + 1, HEAD_ROWS, HEAD_ROWS + 1])
def test_of_many_rows_some_are_drawn(model, rows):
    """Where none are left out rows keep their order; the task encoder reads some of those that are solved on."""
    z = np.random.default_rng(0).normal(size=(rows, 2))
    t = z @ [1.0, 0.1]
    task, seen = model.task_of(z, t)
    assert (task.n_rows.tolist(), seen.n_rows.tolist()) == ([min(rows, HEAD_ROWS)], [min(rows, CONDITION_ROWS)])
    assert set(seen.y[0].tolist()) <= set(task.y[0].tolist())
    whole = ((t - t.mean()) / t.std()).astype(np.float32)
    for part, most in ((task, HEAD_ROWS), (seen, CONDITION_ROWS)):
        assert np.allclose(part.y[0], whole[:most], rtol=1e-4, atol=1e-6) == (rows <= most)


def test_one_network_is_the_mode_and_no_seed_changes_it(model, table):
    one, same = (model.generate(*table, n_samples=1, random_state=seed).networks.weight for seed in (0, 1))
    assert torch.equal(one, same)
    some, others = (model.generate(*table, n_samples=4, random_state=seed).networks.weight for seed in (0, 1))
    for made, elsewhere in ((some, others), (others, some)):
        known = [torch.isclose(weight, made, rtol=1e-3, atol=1e-4).all(2).all(1).any() for weight in elsewhere]
        assert sum(known) == 1  # all but one are drawn
    assert any(torch.allclose(weight, one[0], rtol=1e-3, atol=1e-4) for weight in some)
    asked = model.generate(*table, n_samples=64, target_r2=0.0).networks  # all temperatures: the mode once
    assert uniqueness(asked) == 1


def test_a_row_far_outside_is_read_as_one_at_the_edge(model, table):
    made = model.generate(*table, n_samples=4)
    far, edge = np.full((1, 10), 1e6), table[0].max(0)
    np.testing.assert_allclose(made.predict(far), made.predict(edge[None]), rtol=1e-9)
    np.testing.assert_allclose(made.reading.high, edge, rtol=1e-9)


def test_a_target_r2_is_asked_for_and_told(model, table):
    """Far below what the table allows, samples of high temperature come near; the best possible is the plain answer."""
    best = model.generate(*table, n_samples=8, target_r2=1.0).expected_r2
    low = model.generate(*table, n_samples=8, target_r2=0.5).expected_r2
    assert float(best.min()) > float(low.max())
    assert float((low - 0.5).abs().mean()) < float((best - 0.5).abs().mean())
    with pytest.raises(ValueError, match="target_r2 must be None or a finite number of at most 1"):
        model.generate(*table, target_r2=1.5)


def test_a_target_r2_is_not_asked_of_refined_networks(model, table):
    with pytest.raises(ValueError, match="target_r2 goes without temperature and refine_steps, got None and 3"):
        model.generate(*table, 2, target_r2=0.5, refine_steps=3)


def test_temperature_is_the_diversity_of_samples(model, table):
    X, y = table
    spread = [model.generate(X, y, 16, temperature=t).predict(X).std(0).mean() for t in (0.0, 0.3, 1.0)]
    assert spread == sorted(spread)
    with pytest.raises(ValueError, match="temperature must be None or a finite number of at least 0"):
        model.generate(X, y, temperature=-1.0)


def test_networks_predict_what_they_were_written_for(model, table):
    X, y = table
    nets = model.generate(X[:200], y[:200], n_samples=16)
    predicted = nets.predict(X[200:])
    assert predicted.shape == (16, 100)
    assert np.median([np.corrcoef(p, y[200:])[0, 1] for p in predicted]) > 0.85


def test_no_training_repeats_the_tasks_of_another(tmp_path):
    """A training with the seed of an earlier one is refused before it trains, and the package stays as it is."""
    before = (PACKAGE / "model.safetensors").read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stages.pretrain.prepare", lambda repository: PACKAGE)
        seed = load_params(PACKAGE).train.seed
        with pytest.raises(ValueError, match=rf"train\.seed must differ .* every earlier training, got {seed}"):
            pretrain(tmp_path, init=PACKAGE)
    assert (PACKAGE / "model.safetensors").read_bytes() == before
