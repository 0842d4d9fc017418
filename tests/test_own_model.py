"""A model of one's own: a folder or an object, in Python and on the command line; a damaged folder is one line."""

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.base import clone
from sklearn.datasets import make_friedman1
from sklearn.model_selection import cross_val_score
from test_model import TINY
from typer.testing import CliRunner

from netformer import InputError, NetFormer, NetFormerRegressor
from netformer.cli.app import app
from netformer.generation import fitted as home
from netformer.model.store import save_model, write_weights
from netformer.model.vae import TransformerVAE
from netformer.tasks.metafeatures import NAMES, MetaFeatureTransform


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """The folder of a small model that learned nothing."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TransformerVAE.from_arguments(**TINY)
    path = tmp_path_factory.mktemp("models") / "own"
    save_model(model, MetaFeatureTransform((0.0,) * len(NAMES), (1.0,) * len(NAMES)), path)
    return path


@pytest.fixture(scope="module")
def table():
    return make_friedman1(60, n_features=5, random_state=0)


@pytest.fixture
def no_package(monkeypatch):
    """Whoever reads the weights of the package fails."""

    def refuse(in_torch):
        raise AssertionError("the weights of the package were read")

    monkeypatch.setattr(home, "_package", refuse)


@pytest.mark.usefixtures("no_package")
def test_a_folder_a_path_and_an_object_are_the_same_model(own, table):
    X, y = table
    model = NetFormer.load(own)
    fits = [NetFormerRegressor(n_samples=3, random_state=0, model=m).fit(X, y) for m in (str(own), own, model)]
    assert np.array_equal(fits[0].predict(X), fits[1].predict(X))
    np.testing.assert_allclose(fits[0].predict(X), fits[2].predict(X), atol=1e-5 * y.std())  # the object is torch's
    networks = model.generate(X, y, 3).networks
    assert networks.layout.max_width == TINY["max_width"] == fits[0].networks_.networks.layout.max_width


def test_a_model_in_bfloat16_is_read_by_torch(own, table, tmp_path):
    X, y = table
    shutil.copytree(own, tmp_path / "own")
    tensors = {name: tensor.bfloat16() for name, tensor in load_file(own / "model.safetensors").items()}
    write_weights(tensors, tmp_path / "own")
    options = {"n_samples": 3, "random_state": 0}
    fits = [
        NetFormerRegressor(model=m, **options).fit(X, y) for m in (tmp_path / "own", NetFormer.load(tmp_path / "own"))
    ]
    assert np.array_equal(fits[0].predict(X), fits[1].predict(X))


def test_without_a_model_the_package_writes(own, table):
    X, y = table
    packaged = NetFormerRegressor(n_samples=2, random_state=0).fit(X, y)
    assert packaged.networks_.networks.layout.max_width > TINY["max_width"]


@pytest.mark.usefixtures("no_package")
@pytest.mark.parametrize("kind", ["folder", "object"])
def test_it_is_cloned_validated_and_stored(own, table, tmp_path, kind):
    X, y = table
    given = own if kind == "folder" else NetFormer.load(own)
    regressor = NetFormerRegressor(n_samples=2, random_state=0, model=given)
    assert regressor.get_params()["model"] is given
    fitted = clone(regressor).fit(X, y)
    expected = fitted.predict(X)
    assert np.array_equal(regressor.fit(X, y).predict(X), expected)
    assert np.isfinite(cross_val_score(regressor, X, y, cv=2)).all()
    assert np.array_equal(pickle.loads(pickle.dumps(fitted)).predict(X), expected)
    joblib.dump(fitted, tmp_path / "fitted.joblib")
    assert np.array_equal(joblib.load(tmp_path / "fitted.joblib").predict(X), expected)


@pytest.mark.usefixtures("no_package")
@pytest.mark.parametrize("kind", ["folder", "object"])
def test_a_saved_regressor_needs_no_model(own, table, tmp_path, kind):
    """Not for a deviation either; the folder of the model is gone."""
    X, y = table
    moved = tmp_path / "model"
    moved.mkdir()
    for name in ("config.json", "model.safetensors"):
        (moved / name).write_bytes((own / name).read_bytes())
    fitted = NetFormerRegressor(n_samples=3, random_state=0, model=moved if kind == "folder" else NetFormer.load(moved))
    expected = fitted.fit(X, y).predict(X, return_std=True)
    fitted.save(tmp_path / "fitted")
    for file in moved.iterdir():
        file.unlink()
    loaded = NetFormerRegressor.load(tmp_path / "fitted")
    for part, again in zip(expected, loaded.predict(X, return_std=True), strict=True):
        np.testing.assert_array_equal(again, part)
    assert (expected[1] > fitted.noise_).any()
    assert loaded.model == (str(moved) if kind == "folder" else None)
    if kind == "folder":
        with pytest.raises(InputError, match=r"config.json does not exist"):
            loaded.fit(X, y)


@pytest.mark.parametrize("model", [3, b"model", object()])
def test_what_is_no_model_is_named(table, model):
    kind = type(model).__name__
    with pytest.raises(InputError, match=f"model must be None, the path of a folder or a NetFormer, got {kind}"):
        NetFormerRegressor().set_params(model=model).fit(*table)


def rewrite(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def retouch(folder, **changes):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = next(iter(tensors))
    changed = {name: changes["change"](tensors[name])} if "change" in changes else {}
    kept = {k: v for k, v in (tensors | changed).items() if not (changes.get("drop") and k == name)}
    save_file(kept | changes.get("add", {}), path)


DAMAGE = {
    r"config.json does not exist; train a model first": lambda d: [file.unlink() for file in d.iterdir()],
    r"model.safetensors does not exist; train a model first": lambda d: (d / "model.safetensors").unlink(),
    r"config.json must be JSON, found": lambda d: (d / "config.json").write_text("{"),
    r"config.json must be JSON, found.*decode": lambda d: (d / "config.json").write_bytes(b"\xff\xfe{"),
    r"format must be \d+, found None; retrain": lambda d: (d / "config.json").write_text("[1]"),
    r"format must be \d+, found 99; retrain": lambda d: rewrite(d, format=99),
    r"config.json: model must be an object, found 3": lambda d: rewrite(d, model=3),
    r"config.json: model and metafeatures must be as train writes them: ": lambda d: rewrite(d, model={"width": 3}),
    r"config.json: model and metafeatures must be as train writes": lambda d: rewrite(d, metafeatures={"means": []}),
    r"model.safetensors must be a safetensors file, found: ": lambda d: (d / "model.safetensors").write_bytes(
        (d / "model.safetensors").read_bytes()[:-100]
    ),
    r"model.safetensors must be a safetensors file": lambda d: (d / "model.safetensors").write_bytes(b"{}"),
    r"tensors must be those of the model in config.json, other names or shapes: \S+$": lambda d: retouch(d, drop=True),
    r"tensors must be those of the model in .*shapes: more$": lambda d: retouch(d, add={"more": torch.zeros(2)}),
    r"tensors must be those of the model in .*shapes: ": lambda d: retouch(d, change=lambda t: t.flatten()[:1].clone()),
    r"model.safetensors: weights must be finite": lambda d: retouch(d, change=lambda t: t * torch.nan),
}


@pytest.fixture
def damaged(own, tmp_path, request):
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes((own / name).read_bytes())
    NetFormer.load(folder)
    DAMAGE[request.param](folder)
    return folder, request.param


@pytest.mark.parametrize("damaged", DAMAGE, indirect=True)
def test_a_damaged_model_is_one_line_everywhere(damaged, table, tmp_path):
    folder, text = damaged
    X, y = table
    pd.DataFrame(X, columns=list("abcde")).assign(y=y).to_csv(tmp_path / "t.csv", index=False)
    for call in (lambda: NetFormer.load(folder), lambda: NetFormerRegressor(model=folder).fit(X, y)):
        with pytest.raises(InputError, match=text) as caught:
            call()
        assert "\n" not in str(caught.value)
        assert str(folder) in str(caught.value)
    name, target = str(tmp_path / "t.csv"), ["--target", "y", "--model", str(folder)]
    for command in (["generate", name, *target, "--out", str(tmp_path / "nets")], ["evaluate", name, *target],
                    ["info", "--model", str(folder)]):  # fmt: skip
        result = CliRunner().invoke(app, command)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1), command
        assert result.stderr.startswith(f"netformer: {folder}")
    assert not (tmp_path / "nets").exists()


@pytest.mark.usefixtures("no_package")
def test_the_command_line_takes_a_model(own, table, tmp_path):
    X, y = table
    pd.DataFrame(X, columns=list("abcde")).assign(y=y).to_csv(tmp_path / "t.csv", index=False)
    common = [str(tmp_path / "t.csv"), "-t", "y", "-n", "2", "--model", str(own)]
    for command in (
        ["generate", *common, "--no-score", "--out", str(tmp_path / "nets"), "--quiet"],
        ["evaluate", *common, "--beside", "ridge", "--quiet"],
    ):
        result = CliRunner().invoke(app, command, catch_exceptions=False)
        assert result.exit_code == 0, result.stderr
    loaded = NetFormerRegressor.load(tmp_path / "nets")
    assert loaded.networks_.networks.layout.max_width == TINY["max_width"]
    facts = json.loads(CliRunner().invoke(app, ["info", "--model", str(own), "--json"]).stdout)
    assert facts["weights"] == str(own / "model.safetensors")
    assert facts["layout"] == {name: TINY[name] for name in ("max_features", "max_hidden_layers", "max_width")}
    assert facts["parameters"] == sum(t.numel() for t in load_file(own / "model.safetensors").values())


def test_values_of_another_type_are_one_line_without_checks_of_types():
    """As users run it: the tests check types before a value is looked at."""
    code = """
import numpy as np
from netformer import InputError, NetFormer
model, X = NetFormer.load(), np.random.default_rng(0).normal(size=(20, 2))
for options in ({"n_samples": 2.5}, {"n_samples": float("nan")}, {"n_samples": 0}, {"max_params": float("nan")},
                {"max_hidden_layers": True}, {"temperature": "1"}, {"target_r2": float("nan")}, {"refine_steps": 2.5},
                {"activations": "relu"}):
    try:
        model.generate(X, X[:, 0], **options)
    except InputError as error:
        (name,) = options
        assert str(error).startswith(name + " must be") and "\\n" not in str(error), error
    else:
        raise AssertionError(options)
"""
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
