"""ONNX and PyTorch of a target of classes: probabilities and labels of the population, whatever the labels are."""

import json
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from classes import LABELS, of_classes
from mixed import by_name, networks_for
from readers import imported
from torch.nn import functional

from netformer import export
from netformer.errors import InputError
from netformer.exports.onnx import onnx_model
from netformer.sources.libraries import torch_source
from netformer.tables.scaling import Target

WHICH = ["wide", "mean", 0, 3]


def with_classes(population, classes):
    """The same networks, of which an answer is the logit of the second of two classes."""
    reading = replace(population.reading, classes=classes, targets=(Target(population.target),))
    return replace(population, reading=reading)


def surely(population, rows, which):
    """Rows whose most probable class is ahead by more than what formats may differ, most of them."""
    two = np.sort(population.predict_proba(rows, which), 1)[:, -2:]
    sure = two[:, 1] - two[:, 0] > 1e-4
    assert sure.mean() > 0.9
    return sure


def agree(population, rows, which, found, labels, most=1e-6):
    """Probabilities and labels, of the same type, are those of the population."""
    probabilities = population.predict_proba(rows, which)
    assert found.shape == probabilities.shape
    np.testing.assert_allclose(found, probabilities, rtol=0, atol=most)
    sure, expected = surely(population, rows, which), population.predict(rows, which)
    assert [label for label, one in zip(labels, sure, strict=True) if one] == expected[sure].tolist()
    assert len(set(labels)) > 1


def run_onnx(path, cells):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_outputs()] == ["label", "probabilities"]
    label, probabilities = session.run(None, cells)
    assert label.shape == (len(probabilities),)
    assert probabilities.dtype == np.float64
    return label, probabilities


@pytest.mark.parametrize("name", LABELS)
def test_onnx_gives_labels_and_probabilities(tmp_path, name):
    population, rows = of_classes(name)
    whole = name in ("two ints", "ints", "whole floats", "bools")
    kind = object if "texts" in name else np.int64 if whole else np.float64
    for which in WHICH:
        population.to_onnx(which, tmp_path / "net.onnx")
        label, probabilities = run_onnx(tmp_path / "net.onnx", by_name(population, rows))
        assert label.dtype == kind
        agree(population, rows, which, probabilities, label.tolist())
    facts = {one.key: one.value for one in onnx.load(str(tmp_path / "net.onnx")).metadata_props}
    assert json.loads(facts["classes"]) == list(population.classes)
    assert set(facts) == {"columns", "kinds", "target", "classes"}


@pytest.mark.parametrize("name", ["two texts", "ints"])
def test_onnx_of_numbers_reads_single_precision(tmp_path, name):
    population, rows = of_classes(name, "numbers")
    rows = rows.astype(np.float32).astype(np.float64)
    for which in WHICH:
        for format, cells, most in (("onnx", rows, 1e-6), ("onnx32", rows.astype(np.float32), 1e-5)):
            path = tmp_path / f"{which}_{format}.onnx"
            export(population, which, path, format)
            label, probabilities = run_onnx(path, {"x": cells})
            agree(population, rows, which, probabilities, label.tolist(), most)


def test_the_outputs_of_onnx_have_names_of_their_own(tmp_path):
    """Those of the inputs are the names of the columns."""
    letters = np.array(["a", "b", "c"], dtype=object)
    table = pd.DataFrame(
        {"label": letters[np.arange(90) % 3], "probabilities": np.random.default_rng(0).normal(size=90)}
    )
    population = with_classes(networks_for(table, np.arange(90.0)), ("no", "yes"))
    population.to_onnx(0, tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_outputs()] == ["label_", "probabilities_"]
    found = session.run(["probabilities_"], {name: table[[name]].to_numpy() for name in table})[0]
    np.testing.assert_allclose(found, population.predict_proba(table, 0), rtol=0, atol=1e-6)


def test_whole_numbers_that_no_tensor_holds_are_refused():
    population = networks_for(np.arange(60.0).reshape(30, 2), np.arange(30.0))
    for classes in ((0, 2**63 + 1), (0.5, 2**53 + 1)):
        with pytest.raises(InputError, match="labels beyond int64 do not fit into ONNX"):
            onnx_model(with_classes(population, classes).formula(0))


@pytest.mark.parametrize("name", LABELS)
def test_a_module_gives_logits_probabilities_and_labels(tmp_path, name):
    population, rows = of_classes(name)
    codes = torch.tensor([population.classes.index(label) for label in population.predict(rows, "mean").tolist()])
    for which in WHICH:
        export(population, which, tmp_path / "net.py", "torch", overwrite=True)
        module = imported(tmp_path / "net.py")
        assert [type(label) for label in module.CLASSES] == [type(label) for label in population.classes]
        for network, x in (
            (population.to_torch(which), population.to_torch(which).encode(rows)),
            (module.load(), module.encode(rows)),
        ):
            logits = network(x)
            with torch.no_grad():
                found = network.predict_proba(x).numpy()
            agree(population, rows, which, found, network.predict(x))
            expected = population.decision_function(rows, which)
            margins = logits[:, 1:] - logits[:, :1] if len(population.classes) == 2 else logits
            np.testing.assert_allclose(margins.detach().numpy(), expected.reshape(margins.shape), rtol=0, atol=1e-5)
            loss = functional.cross_entropy(logits, codes)
            ours = -np.log(population.predict_proba(rows, which)[np.arange(len(codes)), codes]).mean()
            np.testing.assert_allclose(loss.item(), ours, rtol=1e-4)
            loss.backward()
            assert all(one.grad is not None for one in network.parameters())


def test_numbers_have_no_probabilities():
    population = networks_for(np.arange(60.0).reshape(30, 2), np.arange(30.0))
    module = population.to_torch(0)
    for ask in (module.predict_proba, module.predict):
        with pytest.raises(InputError, match="'price' has no classes but numbers; call the module"):
            ask(module.encode(np.zeros((1, 2))))
    assert "CLASSES" not in torch_source(population.formula(0))
