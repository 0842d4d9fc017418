"""Exports of a target of classes: labels and probabilities of the population, labels of every type and any name."""

import ast
import csv
import ctypes
import io
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from classes import LABELS, jumping, of_classes
from mixed import as_text, cells, later_rows, mixed, rows_of
from readers import classes_of_json, imported, library, program

from netformer import NetFormerClassifier, Population, export
from netformer.networks.stack import Networks
from netformer.sources.digits import TOLERANCE, decimal, fewest_characters, fewest_digits
from netformer.sources.formats import SCHEMA, to_json


def from_python(path, population, rows):
    module = imported(path)
    return module.predict(rows), module.predict_proba(rows), module.CLASSES


def from_sklearn(path, population, rows):
    pipeline = imported(path).load()
    return pipeline.predict(rows), pipeline.predict_proba(rows), pipeline.classes_.tolist()


def from_json(path, population, rows):
    return classes_of_json(path, as_text(population, rows))


def from_c(path, population, rows):
    """Labels by number; the table of labels holds them as C does, up to a NUL."""
    loaded, pointer = library(path), ctypes.POINTER(ctypes.c_double)
    encoded, count = np.ascontiguousarray(cells(population, rows)), len(population.classes)
    shares = np.full((len(rows), count + 1), np.nan)
    numbers = [loaded.predict(*(a.ctypes.data_as(pointer) for a in pair)) for pair in zip(encoded, shares, strict=True)]
    assert np.isnan(shares[:, -1]).all()  # nothing is written beyond the classes
    texts = (ctypes.c_char_p * count).in_dll(loaded, "classes")
    assert [text.decode() for text in texts] == [str(label).split("\0")[0] for label in population.classes]
    return [population.classes[k] for k in numbers], shares[:, :-1], population.classes


def from_program(path, population, rows):
    """Through the program beside the C file, from a CSV file."""
    rows.assign(more="x").to_csv(path.with_suffix(".csv"), index=False)
    run = subprocess.run([program(path), path.with_suffix(".csv")], capture_output=True, check=True)
    header, *lines = csv.reader(io.StringIO(run.stdout.decode(), newline=""))
    assert header == [population.target, *(f"{population.target}_{label}" for label in population.classes)]
    known = {str(label): label for label in population.classes}
    return [known[line[0]] for line in lines], [[float(p) for p in line[1:]] for line in lines], population.classes


READERS = {
    "numpy": ("py", from_python, 1e-6),
    "sklearn": ("py", from_sklearn, 1e-6),
    "json": ("json", from_json, 1e-6),
    "c": ("c", from_c, 2e-6),
    "program": ("c", from_program, 2e-6),
}


def assert_same(found, population, rows, which, tolerance):
    """found: labels, probabilities, classes."""
    labels, probabilities, classes = found
    expected = population.predict(rows, which)
    assert list(classes) == list(population.classes)
    assert [type(label) for label in classes] == [type(label) for label in population.classes]
    np.testing.assert_allclose(probabilities, population.predict_proba(rows, which), rtol=0, atol=tolerance)
    assert np.asarray(labels, dtype=object).tolist() == expected.tolist()


@pytest.mark.parametrize("name", LABELS)
@pytest.mark.parametrize("format", READERS)
def test_every_format_agrees_with_the_population(tmp_path, format, name):
    population, rows = of_classes(name)
    suffix, answers, tolerance = READERS[format]
    for which in ("wide", 0) if suffix == "c" else ("wide", "mean", 0, 1, 2):
        path = tmp_path / f"net_{which}.{suffix}"
        export(population, which, path, "c" if format == "program" else format)
        assert_same(answers(path, population, rows), population, rows, which, tolerance)


@pytest.mark.parametrize("name", LABELS)
def test_sklearn_agrees_where_it_can_express_the_network(tmp_path, name):
    population, rows = of_classes(name, skip_share=0.0, activations=("tanh",))
    classifier = name not in ("two floats", "floats", "texts")  # no whole numbers, a NUL at the end
    for which in ("wide", 0, 1, 2):
        pipeline = population.to_sklearn(which)
        ends = "MLPClassifier" if classifier and which != "wide" else "NetworkClassifier"
        export(population, which, tmp_path / f"net{which}.py", "sklearn")
        loaded = imported(tmp_path / f"net{which}.py").load()
        assert [type(one[-1]).__name__ for one in (pipeline, loaded)] == [ends] * 2
        for one, tolerance in ((pipeline, 1e-12), (loaded, 1e-7)):
            found = (one.predict(rows), one.predict_proba(rows), one.classes_.tolist())
            assert_same(found, population, rows, which, tolerance)
    if classifier:
        loaded = imported(tmp_path / "net0.py").load()
        loaded[-1].partial_fit(loaded[:-1].transform(rows[:50]), population.predict(rows[:50], 0))


def test_json_keeps_its_schema(tmp_path):
    from jsonschema import Draft202012Validator

    check = Draft202012Validator(json.loads(SCHEMA.read_text()))
    for name in ("two ints", "texts", "floats", "bools"):
        population, _ = of_classes(name)
        for which in ("wide", 0):
            export(population, which, tmp_path / "net.json", "json", overwrite=True)
            value = json.loads((tmp_path / "net.json").read_text())
            check.validate(value)
            assert len(value["outputs"]) == (1 if len(population.classes) == 2 else len(population.classes))
            target, head = value["target"], {"head": value["outputs"][0]["heads"][0]}
            for spoiled in (
                {"version": 2},
                {"outputs": []},
                {"bias": 0.0},
                {"bodies": [body | head for body in value["bodies"]]},
                {"target": target | {"scale": 1.0}},
                {"target": target | {"classes": target["classes"][:1]}},
                {"target": target | {"classes": [1, "a"]}},
                {"target": {"name": "price", "center": 0.0, "scale": 1.0}},
            ):
                assert not check.is_valid(value | spoiled), spoiled
    value = to_json(mixed())
    check.validate(value)
    for spoiled in ({"version": 3}, {"outputs": []}, {"target": value["target"] | {"classes": [0, 1]}}):
        assert not check.is_valid(value | spoiled), spoiled


def test_weights_of_several_outputs_are_numbers_or_text(tmp_path):
    """What a file of C holds them as: text where the file is large. No output moves by more than the tolerance."""
    for name, kind, text in (("ints", "numbers", False), ("texts", "mixed", True)):
        population, _ = of_classes(name, kind)
        export(population, "wide", tmp_path / f"{kind}.c")
        assert ("static const char weights" in (tmp_path / f"{kind}.c").read_text()) == text
        formula = population.formula("wide")
        z = 2 * np.random.default_rng(1).standard_normal((500, len(population.reading.inputs)))
        digits, single = fewest_digits(formula)
        count, step = fewest_characters(formula)
        assert single
        for change in (
            lambda v, n=digits: np.array([float(decimal(x, n)) for x in v.ravel()]).reshape(v.shape),
            lambda v, size=step: np.round(v / size) * size,
        ):
            moved = np.abs(formula.map(change).inner(z) - formula.inner(z)).max(0)
            assert (moved < 3 * TOLERANCE).all()
        assert 3 <= count <= 6


def test_every_output_decides_how_many_digits_are_kept():
    """An output with weights a thousand times as large as the others' needs more, wherever it stands."""
    population, _ = of_classes("ints", "numbers")
    formula = population.formula(0)
    least = fewest_digits(formula)[0], fewest_characters(formula)[0]
    for k in range(3):
        large = [one.map(lambda v: 1000 * v) if k == i else one for i, one in enumerate(formula.outputs)]
        changed = replace(formula, outputs=tuple(large))
        assert fewest_digits(changed)[0] > least[0]
        assert (fewest_characters(changed) or [7])[0] > least[1]


def test_the_program_of_classes_has_no_intervals(tmp_path):
    population, _ = of_classes("two ints", "numbers")
    export(population, 0, tmp_path / "net.c")
    done = subprocess.run(
        [program(tmp_path / "net.c"), "--interval", "0.9"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.endswith("--interval is of numbers; this network writes the probabilities of classes\n")


def test_the_python_file_needs_the_standard_library_alone(tmp_path):
    population, rows = of_classes("texts", "numbers")
    export(population, 0, tmp_path / "net.py")
    code = f"import sys; sys.path.insert(0, '.'); import net; print(ascii(net.predict({rows[:5].tolist()!r})))"
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ast.literal_eval(run.stdout) == population.predict(rows[:5], 0).tolist()


@pytest.mark.parametrize("format", READERS)
@pytest.mark.parametrize("name", ["two ints", "ints"])
def test_classes_that_are_as_probable_are_the_first(tmp_path, format, name):
    """Where no network reads anything, and far from the table."""
    population, rows = of_classes(name)
    rows = rows[:8].copy()
    rows.loc[:3, "size"] = 1e300
    nothing = Networks(population.wide.specs, 0 * population.wide.weight)
    population = replace(population, wide=nothing)
    suffix, answers, tolerance = READERS[format]
    (path, *_) = export(population, "wide", tmp_path / f"net.{suffix}", "c" if format == "program" else format)
    found = answers(path, population, rows)
    assert_same(found, population, rows, "wide", tolerance)
    assert set(found[0]) == {population.classes[0]}


@pytest.fixture(scope="module", params=["two texts", "texts", "two that jump", "three that jump"])
def fitted(request, tmp_path_factory):
    """A classifier as people fit, save and load one, with step units where classes jump: its folder, and new rows."""
    folder = tmp_path_factory.mktemp("fitted") / "folder"
    if request.param not in LABELS:
        table, codes = jumping()
        labels = np.array(["no", "yes", "perhaps"] if request.param.startswith("three") else ["no", "yes", "yes"])
        classifier = NetFormerClassifier(n_samples=2, random_state=0).fit(table, labels[codes])
        assert classifier.network_.about["steps"]["share"] > 0.5
        classifier.save(folder)
        return classifier, folder, jumping(120, seed=1)[0]
    labels = [label for label in LABELS[request.param] if label != ""][-4:]
    table, y = rows_of(300)
    codes = np.digitize(y, np.quantile(y, np.arange(1, len(labels)) / len(labels)))
    target = pd.Series([labels[k] for k in codes], name="sort, or kind")
    classifier = NetFormerClassifier(n_samples=2, random_state=0).fit(table, target)
    classifier.save(folder)
    return classifier, folder, later_rows(120)


@pytest.mark.parametrize("format", READERS)
def test_a_fitted_classifier_is_exported_as_it_answers(tmp_path, fitted, format):
    classifier, folder, rows = fitted
    suffix, answers, tolerance = READERS[format]
    (path, *_) = export(folder, "wide", tmp_path / f"net.{suffix}", "c" if format == "program" else format)
    labels, probabilities, classes = answers(path, Population.load(folder), rows)
    assert list(classes) == classifier.classes_.tolist()
    np.testing.assert_allclose(probabilities, classifier.predict_proba(rows), rtol=0, atol=tolerance)
    assert list(labels) == classifier.predict(rows).tolist()
    assert len(set(labels)) == len(classes)
