"""No public call touches the global generators of torch, numpy or Python.

The calls run in a process of their own: the checks of types that the tests switch on draw from Python's generator.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from drawn import draw
from sklearn.datasets import make_friedman1

import netformer
from netformer import Bundle, NetFormer, NetFormerClassifier, NetFormerRegressor, Population
from netformer.artifacts import networks_table, write_parquet, write_tasks
from netformer.networks.specs import Layout
from netformer.networks.stack import Networks
from netformer.networks.token_tables import tokenize_networks
from netformer.sources.formats import FORMATS
from netformer.tasks.task import Task


def state() -> tuple:
    kind, keys, *rest = np.random.get_state()
    return torch.get_rng_state().tolist(), kind, keys.tolist(), rest, random.getstate()


@dataclass
class Case:
    """What the calls below need. plain: networks that every format can express."""

    model: NetFormer
    X: Any
    y: Any
    fitted: NetFormerRegressor
    plain: Population
    data: Path
    out: Path


def prepare(data):
    X, y = make_friedman1(60, n_features=5, random_state=0)
    model = NetFormer.load()
    made = model.generate(X, y, 2, max_hidden_layers=1, activations=("tanh",))
    specs, weight = made.networks.specs, made.networks.weight.clone()
    mask = specs.mask.clone()
    mask[:, -1, 1 : 1 + X.shape[1]] = False  # no edges from inputs to outputs
    weight[~mask] = 0
    plain = replace(made, networks=Networks(replace(specs, mask=mask), weight))
    nets, rows = draw(6, layout=Layout(5, 3, 4)), np.zeros(12, np.int8)
    task = Task("t", "synthetic", "sparse", "train", np.ones((12, 3)), np.arange(12.0), rows)
    zoo = networks_table(nets, ["t"] * 6, r2=torch.zeros(6, 3), arm=["zoo"] * 6)
    tokens = tokenize_networks(nets, torch.ones(nets.specs.mask.shape[:2]))
    for name in ("task_id", "net_id"):
        tokens = tokens.add_column(0, name, zoo[name])
    write_tasks([task], data / "tasks.parquet")
    write_parquet(zoo, data / "zoo.parquet")
    write_parquet(tokens, data / "tokens.parquet")
    fitted = NetFormerRegressor(n_samples=2, random_state=0).fit(X, y)
    return Case(model, X, y, fitted, plain, data, data)


def frame(X):
    """The columns of X, and one of two groups."""
    return pd.DataFrame(X).assign(half=np.arange(len(X)) % 2)


DRAW = {
    "torch": lambda c: torch.nn.Linear(2, 2),
    "numpy": lambda c: np.random.rand(),
    "Python": lambda c: random.random(),
}


CALLS = {
    "NetFormer.load": lambda c: NetFormer.load(),
    "generate": lambda c: c.model.generate(c.X, c.y, 3),
    "generate, options": lambda c: c.model.generate(
        c.X, c.y, 2, max_params=60, temperature=0.5, refine_steps=1, metafeatures=True, random_state=3
    ),
    "generate, target_r2": lambda c: c.model.generate(c.X, c.y, 2, target_r2=0.5),
    "Population.predict": lambda c: c.plain.predict(c.X),
    "fit": lambda c: NetFormerRegressor(n_samples=2, random_state=0).fit(c.X, c.y),
    "fit, classes": lambda c: (
        NetFormerClassifier(n_samples=2, random_state=0).fit(c.X, c.y > c.y.mean()).predict_proba(c.X)
    ),
    "NetFormerClassifier.save, load": lambda c: (
        NetFormerClassifier(n_samples=2).fit(c.X, c.y > c.y.mean()).save(c.out / "a"),
        NetFormerClassifier.load(c.out / "a").decision_function(c.X),
    ),
    "fit, random_state=None": lambda c: NetFormerRegressor(n_samples=2).fit(c.X, c.y),
    "fit, refined": lambda c: NetFormerRegressor(1, 2, 0).fit(c.X, c.y),
    "predict": lambda c: c.fitted.predict(c.X),
    "predict, return_std": lambda c: c.fitted.predict(c.X, return_std=True),
    "explain, sampled": lambda c: c.fitted.explain(c.X, n_pairs=2),
    "importances": lambda c: (c.fitted.importances(c.X, c.y), c.fitted.feature_importances_),
    "partial_dependence": lambda c: c.fitted.partial_dependence(0),
    "predict, quantiles": lambda c: c.fitted.predict(c.X, quantiles=[0.1, 0.9]),
    "predict_interval": lambda c: (c.fitted.predict_interval(c.X), c.fitted.network_.predict_interval(c.X)),
    "cross_validate": lambda c: netformer.cross_validate(c.X, c.y, folds=2, beside=("ridge", "hgb")),
    "to_bundle": lambda c: c.fitted.to_bundle(),
    "fit_many": lambda c: netformer.fit_many(frame(c.X), c.y, "half", n_samples=2, random_state=0).predict(frame(c.X)),
    "Groups.save, load": lambda c: (
        netformer.fit_many(frame(c.X), c.y, "half", n_samples=1).save(c.out / "a"),
        netformer.Groups.load(c.out / "a").predict_interval(frame(c.X)),
    ),
    "NetFormerRegressor.save, load": lambda c: (c.fitted.save(c.out / "a"), NetFormerRegressor.load(c.out / "a")),
    "Bundle.save, load": lambda c: (c.plain.save(c.out / "a"), Bundle.load(c.out / "a")),
    "to_torch": lambda c: (c.plain.to_torch(0), c.fitted.network_.to_torch("wide"), c.plain.networks.to_torch(0)),
    "to_sklearn": lambda c: (c.plain.to_sklearn(0), c.plain.networks.to_sklearn(0)),
    "to_onnx": lambda c: c.plain.to_onnx(0, c.out / "net.onnx"),
    "tokenize": lambda c: netformer.tokenize(c.plain.networks.to_torch(0)),
    "detokenize": lambda c: netformer.detokenize(netformer.tokenize(c.plain.networks.to_torch(0))),
    "detokenize, sklearn": lambda c: netformer.detokenize(netformer.tokenize(c.plain.networks.to_torch(0)), "sklearn"),
    "get_meta_features": lambda c: netformer.get_meta_features(c.X, c.y),
    "load_zoo": lambda c: netformer.load_zoo(c.data / "zoo.parquet").networks.to_torch(0),
    "load_tokens": lambda c: netformer.load_tokens(c.data / "tokens.parquet"),
} | {f"export, {name}": lambda c, name=name: netformer.export(c.plain, 0, c.out / "net", name) for name in FORMATS}


def changed(call, case):
    """Whether a call moves a global generator."""
    with tempfile.TemporaryDirectory() as folder:
        before = state()
        call(replace(case, out=Path(folder)))
        return state() != before


@pytest.fixture(scope="module")
def found():
    root = Path(__file__).resolve().parents[1]
    env = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, __file__], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_call_that_draws_is_noticed(found):
    assert [name for name, moved in found.items() if name in DRAW and moved] == list(DRAW)


@pytest.mark.parametrize("call", CALLS)
def test_the_global_generators_are_as_before(found, call):
    assert found[call] is False


def test_every_public_function_and_class_is_called():
    called = " ".join(name for code in CALLS.values() for name in code.__code__.co_names) + " Population"
    missing = [name for name in netformer.__all__ if name not in called.split()]
    assert missing == ["InputError", "TokenTable", "Zoo"]  # what is raised or returned


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as data:
        given = prepare(Path(data))
        print(json.dumps({name: changed(call, given) for name, call in (DRAW | CALLS).items()}))
