"""Bundle: what was delivered comes back the same from a folder, and a damaged folder is named."""

import hashlib
import json
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from drawn import draw, reading_of
from safetensors.torch import load_file, save_file
from sklearn.base import clone
from sklearn.datasets import make_friedman1
from test_model import TINY

import netformer.generation.fitted as home
from netformer import Bundle, NetFormer, NetFormerRegressor, Population, export
from netformer.arrays import functions as xp
from netformer.exports import trees
from netformer.model.vae import TransformerVAE
from netformer.networks.specs import ACTIVATIONS
from netformer.networks.stack import Networks
from netformer.tables.scaling import SQUASH
from netformer.tasks.metafeatures import NAMES, MetaFeatureTransform

F = 10


def delivered(seed=0, k=4, wide=True, **about):
    """k random networks on columns whose scales go from 1e-6 to 1e6, far from 0."""
    networks = draw(k, seed, inputs=F, skip_share=0.5, sparse_share=0.5)
    stack = draw(k, seed + 1, inputs=F, skip_share=1.0) if wide else None
    scale = np.logspace(-6, 6, F)
    center = scale * np.linspace(-1e4, 1e4, F)
    reading = reading_of(center, scale, [f"c{i}" for i in range(F)], "t", (-3e3, 250.0))
    return Bundle(reading, networks, torch.linspace(0.5, 0.9, k), stack, about)


def rows(bundle, n=50, seed=0):
    z = np.random.default_rng(seed).normal(size=(n, len(bundle.columns)))
    return bundle.reading.center + bundle.reading.scale * z


@pytest.fixture
def tiny(monkeypatch):
    """The estimator with a model that learned nothing."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TransformerVAE.from_arguments(**TINY).eval()
    transform = MetaFeatureTransform((0.0,) * len(NAMES), (1.0,) * len(NAMES))
    monkeypatch.setattr(home, "_package", lambda in_torch: NetFormer(model, transform))
    return make_friedman1(60, n_features=5, random_state=0)


def test_predictions_are_the_networks_own_on_standardised_inputs():
    bundle = delivered()
    X = rows(bundle)
    r = (X - bundle.reading.center) / bundle.reading.scale
    z = xp.from_numpy((r / np.hypot(1, r / SQUASH) - 0.1) / 0.9)[None]
    for which, stack in (("wide", bundle.wide), ("mean", bundle.networks), (2, bundle.networks[[2]])):
        stack = stack.numpy()
        expected = Networks(stack.specs, stack.weight.double()).predict(z).mean(0).numpy() * 250.0 - 3e3
        predicted = bundle.predict(X, which)
        assert predicted.dtype == np.float64
        np.testing.assert_allclose(predicted, expected, rtol=1e-11, atol=1e-9)


@pytest.mark.parametrize("wide", [True, False])
def test_a_saved_bundle_comes_back_the_same(tmp_path, wide):
    bundle = delivered(wide=wide, seeds=[1, 2], score={"r2": 0.5})
    bundle.save(tmp_path / "a" / "b")
    again = Bundle.load(tmp_path / "a" / "b")
    assert np.array_equal(again.expected_r2, bundle.expected_r2)
    assert (again.columns, again.target, again.about) == (bundle.columns, "t", {"seeds": [1, 2], "score": {"r2": 0.5}})
    X = rows(bundle)
    for which in [0, 3, "mean", "each", None] + ["wide"] * wide:
        assert np.array_equal(again.predict(X, which), bundle.predict(X, which))
    assert (again.wide is not None) == wide
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["b"]
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == ["networks.json", "networks.safetensors"]


def test_equal_bundles_are_equal_bytes(tmp_path):
    for name in "ab":
        delivered().save(tmp_path / name)
    for name in ("networks.json", "networks.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_folder_that_is_not_empty_is_refused_and_left_alone(tmp_path):
    (tmp_path / "kept").write_text("x")
    with pytest.raises(ValueError, match="must be a new or an empty folder"):
        delivered().save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    (tmp_path / "kept").unlink()
    delivered().save(tmp_path)
    Bundle.load(tmp_path)


def test_what_json_cannot_hold_leaves_no_folder(tmp_path):
    for value in (float("nan"), object()):
        with pytest.raises(ValueError, match="about must hold finite numbers"):
            delivered(score=value).save(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def rewrite(folder, **changes):
    path = folder / "networks.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def reseal(folder, **changes):
    """Other tensors with a valid checksum."""
    path = folder / "networks.safetensors"
    save_file({k: v for k, v in (load_file(path) | changes).items() if v is not None}, path)
    rewrite(folder, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


DAMAGE = {
    r"networks.json must be a file that Bundle.save wrote": lambda d: (d / "networks.json").unlink(),
    r"networks.safetensors must be a file that": lambda d: (d / "networks.safetensors").unlink(),
    r"networks.json must be JSON, found": lambda d: (d / "networks.json").write_text("{"),
    r"format must be 7, found 4": lambda d: rewrite(d, format=4),
    r"format must be 7, found None": lambda d: (d / "networks.json").write_text("[1]"),
    r"reading must be a dict, found None": lambda d: rewrite(d, reading=None),
    r"sha256 must be \w+, found \w+; the file was changed or cut": lambda d: (d / "networks.safetensors").write_bytes(
        (d / "networks.safetensors").read_bytes()[:-1]
    ),
    r"maps must be a tensor of float64 with 2 dimensions, found none": lambda d: reseal(d, maps=None),
    r"maps must be \(6, 10\) finite float64": lambda d: reseal(d, maps=torch.ones(6, 9).double()),
    r"finite float64, got float64 \(6, 10\)": lambda d: reseal(d, maps=torch.full((6, F), torch.inf).double()),
    r"expected_r2 must be one number per network, got \(3,\)": lambda d: reseal(d, expected_r2=torch.zeros(3)),
    r"scale and spread must be above 0": lambda d: reseal(d, maps=torch.zeros(6, F).double()),
    r"the scale of a target must be above 0": lambda d: reseal(d, target=torch.tensor([0.0, torch.inf]).double()),
    r"target must be center and scale of each, found shape \(3,\)": lambda d: reseal(d, target=torch.ones(3).double()),
    r"networks.weight must be a tensor of float32 .* found int64": lambda d: reseal(
        d, **{"networks.weight": torch.zeros(1).long()}
    ),
    r"must hold floats and whole numbers, found 'BF16'": lambda d: reseal(
        d, **{"networks.weight": torch.zeros(1).bfloat16()}
    ),
    r"networks: weight must have a number for each of \d+ edges, found 3": lambda d: reseal(
        d, **{"networks.weight": torch.zeros(3)}
    ),
    r"networks: edges must have a bit for each of \(4, 25, 20\) places": lambda d: reseal(
        d, **{"networks.shape": torch.tensor([25, 20])}
    ),
    r"networks: edges must have a bit for each of \(4, 9223372036854775807, 9223372036854775807\) places": lambda d: (
        reseal(d, **{"networks.shape": torch.full((2,), 2**63 - 1)})
    ),
    r"networks: edges must have a bit for each of \(4, -5, -95\) places": lambda d: reseal(
        d, **{"networks.shape": torch.tensor([-5, -95])}
    ),
    r"wide: edges must have a bit for each of \(4, 475\) places": lambda d: reseal(
        d, **{"wide.shape": torch.tensor([475])}
    ),
    r"wide: all parts must describe the same networks": lambda d: reseal(d, **{"wide.n_inputs": torch.tensor([F])}),
    r"networks: n_inputs must be 10, one per column": lambda d: reseal(d, **{"networks.n_inputs": torch.arange(4) + 8}),
    r"networks: widths must be 1 to 8": lambda d: reseal(d, **{"networks.widths": torch.full((4, 3), 9)}),
    r"networks: activations must be 0 to 5": lambda d: reseal(d, **{"networks.activations": torch.full((4, 3), 6)}),
    r"networks: mask must hold no edge": lambda d: reseal(
        d,
        **{
            "networks.edges": torch.full((-(-4 * 25 * 19 // 8),), 255, dtype=torch.uint8),
            "networks.weight": torch.ones(4 * 25 * 19),
        },
    ),
    r"networks: weight must be finite, and 0 where": lambda d: reseal(
        d, **{"networks.weight": torch.full_like(load_file(d / "networks.safetensors")["networks.weight"], torch.nan)}
    ),
}


@pytest.mark.parametrize("text", DAMAGE)
def test_a_damaged_folder_is_named_in_one_line(tmp_path, text):
    delivered().save(tmp_path / "a")
    DAMAGE[text](tmp_path / "a")
    with pytest.raises(ValueError, match=text) as caught:
        Bundle.load(tmp_path / "a")
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "a") in str(caught.value)


def test_a_sealed_file_that_is_no_safetensors_is_named(tmp_path):
    delivered().save(tmp_path / "a")
    (tmp_path / "a" / "networks.safetensors").write_bytes(b"no tensors")
    rewrite(tmp_path / "a", sha256=hashlib.sha256(b"no tensors").hexdigest())
    with pytest.raises(ValueError, match="must be a safetensors file"):
        Bundle.load(tmp_path / "a")


@pytest.mark.parametrize("which", [4, -1, "best", True])
def test_another_which_is_refused(which):
    with pytest.raises(ValueError, match=r"which must be 'wide', 'mean' or an index from 0 to 3, got"):
        delivered().predict(np.zeros((1, F)), which)


def test_a_bundle_without_a_wide_network_says_so_and_answers_with_each():
    bundle = delivered(wide=False)
    with pytest.raises(ValueError, match=r"which must be 'mean' or an index from 0 to 3, got 'wide'"):
        bundle.predict(np.zeros((1, F)), "wide")
    X = rows(bundle)
    each = bundle.predict(X)
    assert each.shape == (4, 50)
    for i in range(4):
        np.testing.assert_allclose(each[i], bundle.predict(X, i), rtol=1e-12)
    np.testing.assert_allclose(each.mean(0), bundle.predict(X, "mean"), rtol=1e-12)


def test_one_class_has_both_names_and_holds_networks_like_a_list():
    assert Population is Bundle
    bundle = delivered()
    X = rows(bundle)
    assert len(bundle) == 4
    last, some = bundle[-1], bundle[1:3]
    assert (len(last), len(some), last.wide) == (1, 2, None)
    np.testing.assert_array_equal(last.predict(X)[0], bundle.predict(X, 3))
    np.testing.assert_allclose(some.predict(X), bundle.predict(X, "each")[1:3], rtol=1e-12)
    assert np.array_equal(some.expected_r2, bundle.expected_r2[1:3])
    assert sum(len(one) for one in bundle) == 4
    with pytest.raises(IndexError):
        bundle[4]
    assert repr(bundle).startswith("Population of 4 networks for 't', 10 columns\nparameters: ")
    assert len(repr(bundle).splitlines()) == 3


def test_many_rows_are_answered_as_few_are(monkeypatch):
    bundle = delivered()
    X = rows(bundle, 23)
    whole = bundle.predict(X, "each")
    monkeypatch.setattr(trees, "_ROWS", 5)
    np.testing.assert_allclose(bundle.predict(X, "each"), whole, rtol=1e-12)
    assert bundle.predict(X[:0], "each").shape == (4, 0)


def test_rows_of_another_shape_and_infinite_values_are_refused():
    bundle = delivered()
    with pytest.raises(ValueError, match=r"X must be \(rows, 10\), got 9 columns; it was fitted on 'c0', 'c1'"):
        bundle.predict(np.zeros((2, 9)))
    with pytest.raises(ValueError, match="column 'c0' must be finite, found inf in row 1"):
        bundle.predict(np.full((1, F), np.inf))
    assert np.isfinite(bundle.predict(np.full((1, F), 1e308))).all()
    gaps, middle = bundle.predict(np.full((1, F), np.nan)), bundle.predict(bundle.reading.center[None])
    np.testing.assert_array_equal(gaps, middle)


@pytest.mark.parametrize("case", ["table", "constant target", "constant columns", "wide table", "one column"])
def test_a_loaded_regressor_predicts_what_the_saved_one_does(tmp_path, tiny, case):
    X, y = tiny
    if case == "constant target":
        y = np.full(60, 1e30)
    elif case == "constant columns":
        X = np.ones_like(X)
    elif case == "wide table":
        X = np.random.default_rng(0).normal(size=(60, TINY["max_features"] + 5))
    elif case == "one column":
        X = X[:, :1]
    fitted = NetFormerRegressor(n_samples=3, random_state=0).fit(X, y)
    fitted.save(tmp_path / "a")
    loaded = NetFormerRegressor.load(tmp_path / "a")
    assert np.array_equal(loaded.predict(X), fitted.predict(X))
    assert np.array_equal(Bundle.load(tmp_path / "a").predict(X), fitted.predict(X))
    assert np.array_equal(pickle.loads(pickle.dumps(fitted)).predict(X), fitted.predict(X))
    assert loaded.get_params() == fitted.get_params()
    np.testing.assert_array_equal(clone(loaded).fit(X, y).predict(X), fitted.predict(X))
    assert [path.suffix for path in sorted((tmp_path / "a").iterdir())] == [".json", ".safetensors"]


def test_names_of_columns_come_back(tmp_path, tiny):
    X, y = tiny
    table = pd.DataFrame(X, columns=list("vwxyz"))
    fitted = NetFormerRegressor(n_samples=2, random_state=0, activations=("relu", "tanh")).fit(table, y)
    fitted.save(tmp_path / "a")
    loaded = NetFormerRegressor.load(tmp_path / "a")
    assert loaded.feature_names_in_.tolist() == list("vwxyz")
    assert np.array_equal(loaded.predict(table), fitted.predict(table))
    assert loaded.activations == ("relu", "tanh")
    assert np.array_equal(loaded.predict(table[list("zyxwv")]), fitted.predict(table))
    assert fitted.to_bundle(columns=list("abcde"), target="t").columns == tuple("abcde")
    assert NetFormerRegressor(n_samples=2).fit(X, y).to_bundle().columns == ("x0", "x1", "x2", "x3", "x4")


def test_a_fitted_regressor_is_exported_with_its_units(tmp_path, tiny):
    X, y = tiny
    X, y = 1e6 + 1e-3 * X, 1e4 * y - 1e6
    fitted = NetFormerRegressor(n_samples=3, random_state=0).fit(X, y)
    export(fitted.to_bundle(target="yield"), "wide", tmp_path / "net.py", "numpy")
    scope: dict = {}
    exec((tmp_path / "net.py").read_text(), scope)
    assert scope["TARGET"] == "yield"
    assert export(fitted, "wide", tmp_path / "own.py", "numpy") == [tmp_path / "own.py"]  # to_bundle() is called
    assert (tmp_path / "own.py").read_text() == (tmp_path / "net.py").read_text().replace("'yield'", "'y'")
    np.testing.assert_allclose(scope["predict"](X), fitted.predict(X), rtol=0, atol=1e-5 * y.std())


def test_unknown_parameters_in_a_folder_are_refused(tmp_path):
    delivered(estimator={"stride": 1}).save(tmp_path / "a")
    with pytest.raises(ValueError, match=r"about.estimator must hold some of activations, .* found"):
        NetFormerRegressor.load(tmp_path / "a")
    delivered(wide=False).save(tmp_path / "b")
    X = rows(delivered())
    assert np.array_equal(NetFormerRegressor.load(tmp_path / "b").predict(X), delivered().predict(X, "mean"))


def test_constraints_hold_for_every_network_written(tiny):
    X, y = tiny
    free = NetFormerRegressor(n_samples=6, random_state=0).fit(X, y).networks_.networks.specs
    assert int(free.n_params.max()) > 60
    assert int(free.depth.max()) > 1
    options = {"max_params": 60, "max_hidden_layers": 1, "activations": ["relu"]}
    specs = NetFormerRegressor(n_samples=6, random_state=0, **options).fit(X, y).networks_.networks.specs
    assert int(specs.n_params.max()) <= 60
    assert set(specs.depth.tolist()) == {1}
    assert set(specs.activations[:, 0].tolist()) == {ACTIVATIONS.index("relu")}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"max_params": 0}, "max_params must be None or a whole number of at least 1, got 0"),
        ({"max_params": 2}, "max_params must be at least"),
        ({"max_hidden_layers": 1.5}, "max_hidden_layers must be None or a whole number of at least 1, got 1.5"),
        ({"activations": "relu"}, "activations must be None or a list of identity, .*, got 'relu'"),
        ({"activations": []}, "activations must be None or a list of"),
        ({"activations": ("relu", "swish")}, "activations must be None or a list of"),
    ],
)
def test_constraints_nobody_can_keep_are_named(tiny, options, text):
    with pytest.raises(ValueError, match=text):
        NetFormerRegressor(n_samples=2).set_params(**options).fit(*tiny)
