"""Tokens of networks that classify: exact inverses with MLPClassifier, logits as outputs, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn import draw
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from netformer.errors import InputError
from netformer.networks.specs import Layout
from netformer.networks.token_tables import tokenize_networks, tokens_of
from netformer.networks.tokens import Tokens, detokenize, tokenize

LAYOUT = Layout()
LABELS = [(2, 7), (False, True), ("no", "yes"), (1.0, 2.0, 3.0), ("a", "b", "c", "d", "é")]


def numbers(n_outputs):
    """Tokens of one input that so many outputs read."""
    one = torch.ones(n_outputs, dtype=torch.int64)
    return Tokens(one, 1 + one.cumsum(0), one.float(), 0 * one, 1, n_outputs)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("activation", "hidden"), [("relu", (5, 3)), ("logistic", (4,)), ("tanh", ())])
@pytest.mark.parametrize("labels", LABELS)
def test_a_fitted_classifier_round_trips_bit_for_bit(labels, activation, hidden, dtype):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 3)).astype(dtype), np.array(labels)[rng.permutation(60) % len(labels)]
    net = MLPClassifier(hidden_layer_sizes=hidden, activation=activation, max_iter=2, random_state=0)
    with pytest.warns(ConvergenceWarning):
        net.fit(x, y)
    tokens = tokenize(net)
    assert (tokens.classes, tokens.n_outputs) == (labels, 1 if len(labels) == 2 else len(labels))
    assert not bool(tokens.type[tokens.vertex == tokens.vertex[-1]].any())
    back = detokenize(tokens, to="sklearn")
    assert type(back) is MLPClassifier
    assert tokenize(back).equal(tokens)
    for ours, theirs in zip(back.coefs_ + back.intercepts_, net.coefs_ + net.intercepts_, strict=True):
        assert ours.dtype == theirs.dtype == dtype
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(back.predict_proba(x), net.predict_proba(x))
    np.testing.assert_array_equal(back.predict(x), net.predict(x))
    logits = detokenize(tokens)(torch.from_numpy(x)).detach().double()
    proba = torch.softmax(logits, 1) if len(labels) > 2 else torch.cat([1 - logits.sigmoid(), logits.sigmoid()], 1)
    np.testing.assert_allclose(proba, net.predict_proba(x), rtol=1e-5, atol=1e-6)
    back.partial_fit(x, y)  # every fitted attribute is there


def test_a_stack_of_logits_and_its_tokens_make_the_same_classifier():
    networks = draw(20, layout=replace(LAYOUT, n_outputs=3), sparse_share=0.0, skip_share=0.0, activations=("relu",))
    table, x = tokenize_networks(networks), torch.randn(1, 9, LAYOUT.max_features)
    expected = networks.answers(x).argmax(2)
    for index in range(20):
        net = detokenize(replace(tokens_of(table, index), classes=("x", "y", "z")), to="sklearn")
        found = net.predict(x[0, :, : int(networks.specs.n_inputs[index])].numpy())
        assert found.tolist() == ["xyz"[k] for k in expected[index].tolist()]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ((1,), r"classes must be two or more labels, got \[1\]"),
        ((2, 1), r"classes must be distinct labels of one type .*, sorted, got \[2, 1\]"),
        ((1, 1), "classes must be distinct labels"),
        (("a", 1), "classes must be distinct labels of one type"),
        ((1, 2, 3), "3 classes must have 3 outputs, got 1"),
    ],
)
def test_classes_that_fit_no_outputs_are_refused(classes, message):
    with pytest.raises(InputError, match=message):
        replace(numbers(1), classes=classes)
    with pytest.raises(InputError, match="2 classes must have 1 output, got 2"):
        replace(numbers(2), classes=(0, 1))


def test_sklearn_has_no_float_labels_that_are_not_whole():
    tokens = replace(numbers(3), classes=(0.5, 1.0, 1.5))
    with pytest.raises(InputError, match=r"MLPClassifier takes float labels only where they are whole, got \[0.5, 1.0"):
        detokenize(tokens, to="sklearn")


def test_classifiers_that_are_no_tokens_are_refused():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 2)), rng.integers(0, 2, (20, 3))
    independent = MLPClassifier((2,), solver="lbfgs", max_iter=5000).fit(x, y)
    with pytest.raises(InputError, match="MLPClassifier must give one class per row, got 3 independent labels"):
        tokenize(independent)
    with pytest.raises(InputError, match="MLPClassifier must be fitted before it is tokenized"):
        tokenize(MLPClassifier())
    skip = tokens_of(tokenize_networks(draw(1, skip_share=1.0)), 0)
    with pytest.raises(InputError, match="MLPClassifier has only edges between consecutive layers"):
        detokenize(replace(skip, classes=(0, 1)), to="sklearn")
