"""Exports: every format answers what the bundle answers, compiled or loaded as its user would."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from drawn import draw, reading_of
from grown import some_trees, with_trees
from readers import ANSWERS, SUFFIX, answers_of_onnx, imported

from netformer import Bundle, export
from netformer.exports.formula import formula_of
from netformer.networks.specs import ACTIVATIONS, Layout
from netformer.networks.stack import Networks, concatenate, constant_network
from netformer.sources.digits import ALPHABET, TOLERANCE, coded, decimal, fewest_characters, fewest_digits
from netformer.sources.formats import FORMATS, SCHEMA, SUFFIXES
from netformer.tables.scaling import SQUASH

F = 10
COLUMNS = ("plain", "*/ int x; /*", "new\nline", "why??/", "back\\", 'quo"te', "größe", "{brace}", "'", "\U0001f600 /")


def bundled(networks, wide=None, offset=1e4, **about):
    """Columns with scales from 1e-6 to 1e6, up to `offset` scales away from 0."""
    features = networks.layout.max_features
    scale = np.logspace(-6, 6, features)
    center = scale * np.linspace(-offset, offset, features)
    names = (*COLUMNS, *(f"x{i}" for i in range(F, features)))
    reading = reading_of(center, scale, names, 'the "target" */', (-3e7, 250.0))
    return Bundle(reading, networks, torch.zeros(len(networks)), wide, about)


def formula_of_first(bundle):
    return formula_of(bundle.reading, bundle.stack(0))


def rows(bundle, n=1000, seed=0):
    z = np.random.default_rng(seed).normal(size=(n, len(bundle.columns)))
    z *= np.linspace(0.5, 3, len(bundle.columns))
    return bundle.reading.center + bundle.reading.scale * z


def scaled(networks):
    """Weights of a size that trained networks have."""
    fan = networks.specs.mask.sum(2, keepdim=True).clamp(min=1)
    return Networks(networks.specs, networks.weight * (2 / fan) ** 0.5)


def told_apart(format, X):
    """X as the inputs of the format hold it."""
    return X.astype(np.float32).astype(np.float64) if format == "onnx32" else X


def disagreement(bundle, which, format, folder, X):
    """Largest difference from the bundle, in spreads of the target, and the size of the file."""
    X = told_apart(format, X)
    path = folder / f"net_{which}_{format}.{SUFFIX.get(format, 'py')}"
    export(bundle, which, path, format, overwrite=True)
    difference = np.abs(ANSWERS[format](path, X) - bundle.predict(X, which)).max() / bundle.reading.targets[0].scale
    return difference, path.stat().st_size


def test_every_format_has_a_reader_here():
    assert set(ANSWERS) == set(FORMATS)


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_agrees_with_the_bundle(tmp_path, format):
    shares = {"sparse_share": 0.5, "skip_share": 0.5, "bias_share": 0.5}
    networks = scaled(draw(12, 3, inputs=F, min_width=1, activations=ACTIVATIONS, **shares))
    wide = scaled(draw(16, 4, inputs=F, skip_share=1.0, activations=ACTIVATIONS))
    assert set(networks.specs.activations.flatten().tolist()) == set(range(len(ACTIVATIONS)))
    bundle = bundled(networks, wide)
    X = rows(bundle)
    for which in ["wide", "mean", *range(12)]:
        assert disagreement(bundle, which, format, tmp_path, X)[0] < 1e-5, which


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_holds_trees(tmp_path, format):
    """As questions and leaves: 80 trees of depth 5 are 2,960 numbers, and their units 18,960 weights."""
    bundle = bundled(draw(1, 3, inputs=F), scaled(draw(2, 4, inputs=F, skip_share=1.0)))
    grown = with_trees(bundle, [some_trees(F, count=80, depth=5)], [0.4])
    X = rows(bundle)
    before, after = (disagreement(one, "wide", format, tmp_path, X) for one in (bundle, grown))
    assert after[0] < 1e-5
    assert (after[1] - before[1] < 60_000) == (format != "json")


@pytest.mark.parametrize("format", ["onnx", "torch", "sklearn", "numpy", "c", "html"])
def test_a_row_next_to_a_threshold_of_a_tree_is_where_the_bundle_has_it(tmp_path, format):
    """Thresholds are numbers of float32, of which 9 digits are another float64."""
    trees, one, wide = some_trees(F, count=80, depth=5), draw(1, 3, inputs=F), scaled(draw(2, 4, inputs=F))
    reading = reading_of(np.zeros(F), np.ones(F))
    grown = with_trees(Bundle(reading, one, torch.zeros(1), wide), [trees], [0.9])
    squashed = (reading.shift + reading.spread * trees.cut.reshape(-1, 1)) / SQUASH
    x = SQUASH * squashed / np.sqrt(1 - squashed**2)
    X = np.concatenate([x * (1 + side * 1e-12) for side in (-1, 1)])
    away = np.abs(grown.read(X)[: len(x)] - trees.cut.reshape(-1, 1))
    assert 1e-15 < away.min() < away.max() < 1e-11
    assert disagreement(grown, "wide", format, tmp_path, X)[0] < 1e-5


@pytest.mark.parametrize("name", ["identity", "relu", "tanh", "sigmoid"])
def test_sklearn_agrees_where_it_can_express_the_network(tmp_path, name):
    options = {"activations": (name,), "skip_share": 0.0, "sparse_share": 0.5, "bias_share": 0.5}
    bundle = bundled(scaled(draw(6, 5, inputs=F, **options)))
    X = rows(bundle)
    for which in range(6):
        assert disagreement(bundle, which, "sklearn", tmp_path, X)[0] < 1e-5
        np.testing.assert_allclose(
            bundle.to_sklearn(which).predict(X), bundle.predict(X, which), rtol=0, atol=1e-9 * 250
        )


def test_a_loaded_sklearn_network_can_be_trained_on(tmp_path):
    bundle = bundled(scaled(draw(1, 5, inputs=F, activations=("tanh",), skip_share=0.0)))
    export(bundle, 0, tmp_path / "net.py", "sklearn")
    pipeline = imported(tmp_path / "net.py").load()
    pipeline[-1].partial_fit(pipeline[:-1].transform(rows(bundle, 20)), np.arange(20.0))


def test_sklearn_has_its_own_regressor_where_it_can_express_the_network():
    skip, gelu, tanh = (
        draw(1, 0, inputs=F, skip_share=share, activations=(name,))
        for share, name in ((1.0, "tanh"), (0.0, "gelu"), (0.0, "tanh"))
    )
    mixed = draw(1, 0, inputs=F, skip_share=0.0, min_hidden_layers=2)
    assert len(set(mixed.specs.activations[0].tolist())) > 1
    some = bundled(concatenate([skip, tanh, gelu, mixed]), skip)
    ends = {which: type(some.to_sklearn(which)[-1]).__name__ for which in ("wide", "mean", 0, 1, 2, 3)}
    assert [which for which, name in ends.items() if name == "MLPRegressor"] == [1]


@pytest.mark.parametrize("format", FORMATS)
def test_a_constant_answer_is_written_too(tmp_path, format):
    bundle = bundled(constant_network(F))
    X = rows(bundle, 20)
    path = tmp_path / f"net.{SUFFIX.get(format, 'py')}"
    export(bundle, 0, path, format)
    np.testing.assert_allclose(ANSWERS[format](path, X), np.full(20, -3e7), rtol=1e-15)


@pytest.mark.parametrize("format", FORMATS)
def test_far_rows_are_finite_and_the_same(tmp_path, format):
    bundle = bundled(scaled(draw(4, 6, inputs=F, skip_share=1.0)))
    X, far = told_apart(format, rows(bundle, 4)), 1e37 if format == "onnx32" else 1e300
    X[0], X[1], X[2] = far, -far, X[2] * 1e5
    for which in range(4):
        path = tmp_path / f"net{which}.{SUFFIX.get(format, 'py')}"
        export(bundle, which, path, format)
        expected = bundle.predict(X, which)
        assert np.isfinite(expected).all()
        np.testing.assert_allclose(ANSWERS[format](path, X), expected, rtol=1e-4, atol=1e-5 * 250)


@pytest.mark.parametrize("layout", [Layout(), Layout(16, 2, 32)], ids=["pipeline", "package"])
def test_the_c_of_one_network_is_small(tmp_path, layout):
    """The largest network of a layout, every edge in it: 251 weights in the pipeline's, 1,649 in the package's, which
    stand in the file as characters."""
    sizes = {"min_hidden_layers": layout.max_hidden_layers, "min_width": layout.max_width}
    options = sizes | {"sparse_share": 0.0, "skip_share": 1.0, "bias_share": 1.0}
    bundle = bundled(scaled(draw(4, 7, inputs=layout.max_features, layout=layout, **options)))
    for which in range(4):
        difference, size = disagreement(bundle, which, "c", tmp_path, rows(bundle))
        assert difference < 1e-5
        assert size < (6_000 if layout == Layout() else 10_000)
        text = (tmp_path / f"net_{which}_c.c").read_text()
        assert ("static const char weights" in text) == (layout.max_width == 32)


def test_a_coded_weight_is_the_nearest_step():
    assert len(set(ALPHABET)) == 90
    digit = {character: ord(character) - 35 - (character > "?") - (character > "\\") for character in ALPHABET}
    assert sorted(digit.values()) == list(range(90))
    for count in (3, 4, 5, 6):
        half = (90**count - 1) // 2
        for k in (-half, -half + 1, -1, 0, 1, 91, half):
            text = coded(0.25 * k, count, 0.25)
            assert len(text) == count
            assert sum(digit[c] * 90**i for i, c in enumerate(reversed(text))) - half == k
        assert coded(0.25 * 7 + 0.12, count, 0.25) == coded(0.25 * 7, count, 0.25)


def test_coded_weights_are_as_few_characters_as_the_answers_allow():
    networks = scaled(draw(1, 10, inputs=F))
    few, step = fewest_characters(formula_of_first(bundled(networks)))
    more = formula_of_first(bundled(Networks(networks.specs, networks.weight * 30)))
    assert 3 <= few <= fewest_characters(more)[0]
    assert networks.weight.abs().max() <= step * (90**few // 2)
    nothing = formula_of_first(bundled(constant_network(F)))
    assert fewest_characters(nothing) == (3, 1.0)


def test_the_python_file_needs_the_standard_library_alone(tmp_path):
    bundle = bundled(scaled(draw(2, 8, inputs=F)))
    export(bundle, "mean", tmp_path / "net.py", "numpy")
    X = rows(bundle, 3)
    code = f"import net; print(*net.predict({X.tolist()!r}))"
    run = subprocess.run([sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, '.'); {code}"],
                         cwd=tmp_path, capture_output=True, text=True, check=True)  # fmt: skip
    np.testing.assert_allclose([float(v) for v in run.stdout.split()], bundle.predict(X, "mean"), atol=1e-5 * 250)
    with pytest.raises(ValueError, match="a row must hold 10 cells, got 9"):
        imported(tmp_path / "net.py").predict([[0.0] * 9])


def test_names_of_columns_are_kept_and_can_break_nothing(tmp_path):
    bundle = bundled(scaled(draw(2, 8, inputs=F, skip_share=0.0, activations=("tanh",))))
    for format in FORMATS:
        export(bundle, 0, tmp_path / format, format)
    for format in ("torch", "sklearn", "numpy"):
        (tmp_path / format).rename(tmp_path / f"{format}_net.py")
        module = imported(tmp_path / f"{format}_net.py")
        assert (tuple(module.COLUMNS), module.TARGET) == (COLUMNS, bundle.target)
    properties = {p.key: p.value for p in onnx.load(str(tmp_path / "onnx")).metadata_props}
    assert (tuple(json.loads(properties["columns"])), properties["target"]) == (COLUMNS, bundle.target)
    assert "x[0]: plain" in (tmp_path / "c").read_text()


def test_json_keeps_its_schema(tmp_path):
    from jsonschema import Draft202012Validator

    schema = json.loads(SCHEMA.read_text())
    Draft202012Validator.check_schema(schema)
    check = Draft202012Validator(schema)
    bundle = bundled(draw(4, 1, inputs=F), draw(4, 2, inputs=F), score={"r2": 0.5})
    for which in (0, "mean", "wide"):
        export(bundle, which, tmp_path / f"{which}.json", "json")
        value = json.loads((tmp_path / f"{which}.json").read_text())
        check.validate(value)
        assert value["about"] == {"score": {"r2": 0.5}}
        assert not check.is_valid(value | {"version": 1})
        assert not check.is_valid(value | {"more": 1})
    assert set(schema["$defs"]["layer"]["properties"]["activation"]["enum"]) == set(ACTIVATIONS)
    assert value["squash"] == SQUASH


def test_a_file_is_replaced_only_when_asked(tmp_path):
    bundle, path = bundled(draw(2, inputs=F)), tmp_path / "net.json"
    export(bundle, 0, path, "json")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="exists; choose another name or pass overwrite=True"):
        export(bundle, 1, path, "json")
    assert path.read_bytes() == before
    export(bundle, 1, path, "json", overwrite=True)
    assert path.read_bytes() != before
    with pytest.raises(ValueError, match="exists"):
        export(bundle, 1, tmp_path, "json", overwrite=True)
    with pytest.raises(ValueError, match="must be a folder that exists"):
        export(bundle, 1, tmp_path / "no" / "net.json", "json")
    with pytest.raises(ValueError, match=r"net: must end in .c, .html, .json, .onnx, .py, or format be one of onnx, "):
        export(bundle, 1, tmp_path / "net")
    formats = "onnx, onnx32, torch, sklearn, json, c, numpy, html"
    with pytest.raises(ValueError, match=f"format must be one of {formats}, got 'pickle'"):
        export(bundle, 1, tmp_path / "a", "pickle")
    assert [p.name for p in tmp_path.iterdir()] == ["net.json"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_suffix_says_which_format(tmp_path, suffix):
    bundle = bundled(draw(2, inputs=F))
    written = [export(bundle, 0, tmp_path / f"{name}{suffix}", format) for name, format in
               (("a", None), ("b", SUFFIXES[suffix]))]  # fmt: skip
    assert written[0][0].read_bytes() == written[1][0].read_bytes()


def test_a_loaded_module_can_be_trained(tmp_path):
    bundle = bundled(scaled(draw(3, 9, inputs=F)))
    export(bundle, "mean", tmp_path / "net.py", "torch")
    module = imported(tmp_path / "net.py").load()
    module(torch.from_numpy(rows(bundle, 5))).sum().backward()
    assert all(p.grad is not None for p in module.parameters())
    assert module(torch.from_numpy(rows(bundle, 5)).float()).dtype == torch.float64


def test_digits_are_as_few_as_the_answers_allow():
    formula = formula_of_first(bundled(scaled(draw(1, 10, inputs=F))))
    digits, single = fewest_digits(formula)
    assert single
    assert 4 <= digits <= 9
    z = 2 * np.random.default_rng(1).normal(size=(500, F))

    def error(n):
        rounded = formula.map(lambda v: np.array([float(decimal(x, n)) for x in v.ravel()]).reshape(v.shape))
        return np.abs(rounded.inner(z) - formula.inner(z)).max()

    assert error(digits) < 3 * TOLERANCE
    assert digits == 4 or error(digits - 1) > TOLERANCE / 3


NUMBERS = {
    ".25": (0.25, 9),
    "-.5": (-0.5, 4),
    "0": (-0.0, 9),
    "3": (3.0, 5),
    "1.235e6": (1234567.0, 4),
    "1.5e-7": (1.5e-7, 9),
    "100": (100.0, 4),
    "1e22": (1e22, 17),
    ".3333333333333333": (1 / 3, 17),
}


@pytest.mark.parametrize("text", NUMBERS)
def test_numbers_are_short(text):
    value, digits = NUMBERS[text]
    assert decimal(value, digits) == text


def test_the_objects_of_a_population_answer_what_it_answers(tmp_path):
    """A PyTorch module and an ONNX file, of one network and of merged ones, on rows inside and far outside."""
    networks = scaled(draw(5, 3, inputs=F, sparse_share=0.5, skip_share=0.5, bias_share=0.5, min_width=1))
    bundle = bundled(networks, scaled(draw(6, 4, inputs=F, skip_share=1.0)))
    X = rows(bundle, 50)
    X[0], X[1] = 1e300, -1e300
    for which in ["wide", "mean", *range(5)]:
        expected, module = bundle.predict(X, which), bundle.to_torch(which)
        with torch.no_grad():
            np.testing.assert_allclose(module(torch.from_numpy(X))[:, 0].numpy(), expected, rtol=1e-12, atol=1e-9 * 250)
        assert all(p.dtype == torch.float64 for p in module.parameters())
        bundle.to_onnx(which, tmp_path / "net.onnx")
        np.testing.assert_allclose(answers_of_onnx(tmp_path / "net.onnx", X), expected, atol=1e-5 * 250)
    assert [p.name for p in tmp_path.iterdir()] == ["net.onnx"]
    assert bundle.to_torch(0)(torch.from_numpy(X[2:]).float()).shape == (48, 1)  # single precision is read too
