"""The weights of the package: there, small, documented, and they keep what a prompt asks for."""

import json

import numpy as np
import pytest
from sklearn.datasets import make_friedman1

from netformer import NetFormer
from netformer.config import load_params
from netformer.sampling import PACKAGE
from stages.pretrain import main as pretrain


@pytest.fixture(scope="module")
def model() -> NetFormer:
    return NetFormer.load()


@pytest.fixture(scope="module")
def table():
    return make_friedman1(300, n_features=10, noise=1.0, random_state=0)


def test_the_package_is_small_and_says_where_it_comes_from():
    assert (PACKAGE / "model.safetensors").stat().st_size <= 20_000_000
    legs = json.loads((PACKAGE / "legs.json").read_text())
    assert load_params(PACKAGE).train.seed == legs[-1]["seed"]


@pytest.mark.parametrize(
    ("constraint", "kept"),
    [
        ({"max_params": 60}, lambda s: bool((s.n_params <= 60).all())),
        ({"max_hidden_layers": 1}, lambda s: bool((s.depth == 1).all())),
        ({"activations": ("tanh",)}, lambda s: set(s.activations[s.widths > 0].tolist()) == {2}),
    ],
)
def test_constraints_always_hold(model, table, constraint, kept):
    """Counted in the model's own coordinates: folding the table's units in adds biases."""
    X, y = table
    networks = model.write(X, y, 32, metafeatures=False, **constraint)[1]
    assert kept(networks.specs)
    free = model.write(X, y, 32, metafeatures=False)[1]
    assert not kept(free.specs)


def test_a_constraint_nobody_can_meet_names_the_smallest_possible_value(model, table):
    with pytest.raises(ValueError, match="max_params must be at least 23 for these inputs, got 10"):
        model.generate(*table, max_params=10)


def test_networks_predict_what_they_were_written_for(model, table):
    X, y = table
    nets = model.generate(X[:200], y[:200], n_samples=16)
    predicted = nets.predict(X[200:])
    assert predicted.shape == (16, 100)
    assert np.median([np.corrcoef(p, y[200:])[0, 1] for p in predicted]) > 0.85


def test_no_leg_of_training_repeats_the_tasks_of_another(tmp_path):
    """A leg with the seed of an earlier one is refused before it trains, and the package stays as it is."""
    before = (PACKAGE / "model.safetensors").read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stages.pretrain.prepare", lambda repository: PACKAGE)
        with pytest.raises(ValueError, match=r"train\.seed must differ from that of every earlier leg, got 0"):
            pretrain(tmp_path, init=PACKAGE)
    assert (PACKAGE / "model.safetensors").read_bytes() == before
