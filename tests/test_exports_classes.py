"""Exports of a target of classes: labels and probabilities of the population, labels of every type and any name."""

import json

import numpy as np
import pytest
from classes import LABELS, of_classes
from mixed import as_text, mixed
from readers import classes_of_json, imported

from netformer import export
from netformer.sources.formats import SCHEMA, to_json

WHICH = ["wide", "mean", 0, 1, 2]


def from_python(path, population, rows):
    module = imported(path)
    return module.predict(rows), module.predict_proba(rows), module.CLASSES


def from_sklearn(path, population, rows):
    pipeline = imported(path).load()
    return pipeline.predict(rows), pipeline.predict_proba(rows), pipeline.classes_.tolist()


def from_json(path, population, rows):
    return classes_of_json(path, as_text(population, rows))


READERS = {
    "numpy": ("py", from_python, 1e-6),
    "sklearn": ("py", from_sklearn, 1e-6),
    "json": ("json", from_json, 1e-6),
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
    for which in WHICH:
        path = tmp_path / f"net_{which}.{suffix}"
        export(population, which, path, format)
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
