"""The classifier: scikit-learn's checks, symmetries, probabilities against a logistic regression, refusals."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from classes import jumping
from scipy.optimize import minimize
from sklearn.datasets import load_iris, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from test_estimator import CHECKS, ROOT

from netformer import InputError, NetFormerClassifier, NetFormerRegressor, Population
from netformer.arrays import functions as xp
from netformer.generation import classes as module
from netformer.generation.classes import discriminant_targets, relabelled, stratified
from netformer.model.class_head import logistic
from netformer.networks.specs import Layout, draw_specs
from netformer.networks.stack import Networks
from netformer.tasks.task import class_order

SMALL = {"n_samples": 4, "random_state": 0}


def test_scikit_learns_checks_pass_and_none_is_skipped():
    env = os.environ | {"SCIPY_ARRAY_API": "1", "OMP_NUM_THREADS": "1"}
    code = CHECKS.replace("NetFormerRegressor", "NetFormerClassifier")
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert [result for result in results if result[1] != "passed"] == []
    assert len(results) > 50


@pytest.fixture(scope="module")
def wine():
    X, y = load_wine(return_X_y=True)
    return train_test_split(X, y, random_state=0, stratify=y, test_size=0.4)


@pytest.fixture(scope="module")
def fitted(wine):
    return NetFormerClassifier(random_state=0).fit(wine[0], wine[2])


def test_probabilities_are_better_than_those_of_a_logistic_regression_on_a_curved_border():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 4))
    y = np.where(np.square(X[:, :2]).sum(1) + 0.3 * rng.normal(size=600) > 1.4, "out", "in")
    linear = make_pipeline(StandardScaler(), LogisticRegression()).fit(X[:300], y[:300])
    ours = NetFormerClassifier(random_state=0).fit(X[:300], y[:300])
    found, plain = (log_loss(y[300:], model.predict_proba(X[300:])) for model in (ours, linear))
    assert found < 0.5 * plain
    assert found == pytest.approx(ours.network_.about["log_loss"], abs=0.12)
    assert list(ours.classes_) == ["in", "out"]


def test_other_names_of_classes_permute_the_columns_of_the_answer_and_nothing_else(wine, fitted):
    X, new, y, _ = wine
    place = np.array([2, 0, 1])
    other = NetFormerClassifier(random_state=0).fit(X, place[y])
    for one, turned in (
        (fitted.network_.wide, other.network_.wide),
        (fitted.networks_.networks, other.networks_.networks),
    ):
        outputs = one.layout.outputs
        assert np.array_equal(one.weight[:, outputs], turned.weight[:, outputs][:, place])
        assert np.array_equal(one.weight[:, : outputs.start], turned.weight[:, : outputs.start])
    np.testing.assert_allclose(fitted.decision_function(new), other.decision_function(new)[:, place], atol=1e-12)
    two, owt = (NetFormerClassifier(**SMALL).fit(X, labels) for labels in (y == 1, y != 1))
    np.testing.assert_array_equal(two.decision_function(new), -owt.decision_function(new))


def test_step_units_are_grown_where_classes_jump_and_follow_the_names_of_classes():
    table, codes = jumping()
    new, known = jumping(1000, seed=1)
    plain, found = (NetFormerClassifier(**SMALL, steps=steps).fit(table, codes) for steps in (False, True))
    said = found.network_.about["steps"]
    assert said["share"] > 0.5
    assert said["units"] == 2560
    assert "steps" not in plain.network_.about
    losses = [log_loss(known, model.predict_proba(new)) for model in (plain, found)]
    assert losses[1] < 0.8 * losses[0]
    assert losses[1] == pytest.approx(found.network_.about["log_loss"], abs=0.12)
    place = np.array([2, 0, 1])
    turned = NetFormerClassifier(**SMALL).fit(table, place[codes])
    np.testing.assert_allclose(
        found.decision_function(new), turned.decision_function(new)[:, place], rtol=1e-12, atol=1e-12
    )
    two, owt = (NetFormerClassifier(**SMALL).fit(table, labels) for labels in (codes == 1, codes != 1))
    assert two.network_.about["steps"]["share"] > 0.5
    np.testing.assert_array_equal(two.decision_function(new), -owt.decision_function(new))


def test_rows_that_stand_twice_do_not_make_trees_look_good():
    """A copy of each row among those that trees are grown on would say that trees know it."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(150, 5)), rng.integers(0, 2, 150)
    for times in (1, 4):
        model = NetFormerClassifier(**SMALL).fit(X, y, sample_weight=np.full(150, times))
        assert "steps" not in model.network_.about


def test_weights_of_classes_hold_for_step_units():
    table, codes = jumping()
    weighted = NetFormerClassifier(**SMALL, class_weight={0: 1.0, 1: 1.0, 2: 8.0}).fit(table, codes)
    plain = NetFormerClassifier(**SMALL).fit(table, codes)
    assert weighted.network_.about["steps"]["share"] > 0.5
    new = jumping(1000, seed=1)[0]
    assert weighted.predict_proba(new)[:, 2].mean() > 1.2 * plain.predict_proba(new)[:, 2].mean()
    with pytest.raises(InputError, match="steps must be True or False, got 'no'"):
        NetFormerClassifier().set_params(steps="no").fit(table, codes)


def test_classes_that_do_not_jump_grow_no_step_unit(fitted):
    assert "steps" not in fitted.network_.about
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 4))
    y = X @ [1.0, 2.0, 0.0, -1.0] + rng.logistic(size=300) > 0
    assert "steps" not in NetFormerClassifier(**SMALL).fit(X, y).network_.about


def test_of_many_rows_and_classes_fewer_rows_are_grown_on(monkeypatch):
    """What bounds the time: rows times classes, and the number of classes."""
    table, codes = jumping()
    seen = []
    monkeypatch.setattr(module, "grow_classes", lambda z, *more: seen.append(len(z)))
    monkeypatch.setattr(module, "GROWN_CELLS", 300)
    NetFormerClassifier(**SMALL).fit(table, codes)
    assert seen == [400], "rows that trees are judged on stay"
    monkeypatch.setattr(module, "FOLD_ROWS", 100)
    NetFormerClassifier(**SMALL).fit(table, codes)
    assert seen[1:] == [100]
    monkeypatch.setattr(module, "MOST_GROWN", 2)
    NetFormerClassifier(**SMALL).fit(table, codes)
    assert len(seen) == 2


def test_the_order_of_rows_changes_nothing_and_that_of_columns_only_what_rounding_makes_of_it(wine, fitted):
    X, new, y, _ = wine
    rows, columns = np.random.default_rng(0).permutation(len(y)), np.random.default_rng(1).permutation(X.shape[1])
    again = NetFormerClassifier(random_state=0).fit(X[rows], y[rows])
    np.testing.assert_array_equal(fitted.decision_function(new), again.decision_function(new))
    turned = NetFormerClassifier(random_state=0).fit(X[:, columns], y)
    np.testing.assert_allclose(fitted.predict_proba(new), turned.predict_proba(new[:, columns]), atol=2e-3)


def test_labels_of_every_type_come_back_as_they_were_and_travel_with_the_folder(wine, tmp_path):
    X, new, y, _ = wine
    for labels in (np.array(["a", "b", "c"]), np.array([7, -1, 3]), np.array([0.0, 2.0, 1.0]), np.array([True, False])):
        given = labels[y % len(labels)]
        model = NetFormerClassifier(**SMALL).fit(X, given)
        assert model.predict(new).dtype == model.classes_.dtype == given.dtype
        folder = tmp_path / given.dtype.name
        model.save(folder)
        loaded = NetFormerClassifier.load(folder)
        np.testing.assert_array_equal(loaded.predict_proba(new), model.predict_proba(new))
        assert loaded.predict(new).tolist() == model.predict(new).tolist()
        assert Population.load(folder).predict(new).tolist() == model.predict(new).tolist()
    with pytest.raises(InputError, match="holds networks for a target of classes; load it with NetFormerClassifier"):
        NetFormerRegressor.load(folder)


def test_each_network_alone_is_a_classifier_too(wine, fitted):
    _, new, _, known = wine
    each = fitted.networks_.predict_proba(new, "each")
    assert each.shape == (16, len(new), 3)
    np.testing.assert_allclose(each.sum(2), 1)
    losses = [log_loss(known, one) for one in each]
    assert max(losses) < 0.6
    assert log_loss(known, fitted.predict_proba(new)) < np.mean(losses)


def test_a_table_with_text_gaps_and_many_levels():
    rng = np.random.default_rng(0)
    town = rng.integers(40, size=600)
    kind = rng.integers(3, size=40)[town]
    table = pd.DataFrame(
        {"town": [f"t{i}" for i in town], "size": rng.normal(size=600), "sex": rng.choice(list("mf"), 600)}
    )
    table.loc[::7, "size"] = np.nan
    label = np.where(rng.random(600) < 0.9, np.array(["x", "y", "z"])[kind], "x")
    model = NetFormerClassifier(random_state=0).fit(table[:400], pd.Series(label[:400], name="what"))
    assert model.network_.target == "what"
    assert [name for name in model.network_.reading.input_names if "town" in name] == [
        "town (mean)",
        "town (mean) 2",
        "town (mean) 3",
    ]
    assert model.score(table[400:], label[400:]) > 0.75
    found = model.explain(table[400:405])
    assert found.values.shape == (5, 3, 3)
    np.testing.assert_allclose(
        found.base_values + found.values.sum(1), model.decision_function(table[400:405]), atol=1e-6
    )
    worth = model.importances(table[400:], label[400:]).set_index("column")["importance"]
    assert worth["town"] > 0.3 > 0.05 > worth["sex"]
    curve = model.partial_dependence("size")
    np.testing.assert_allclose(curve[["x", "y", "z"]].to_numpy().sum(1), 1)


def test_many_classes_and_more_columns_than_a_network_reads():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(40, 20))
    y = np.arange(800) % 40
    X = centres[y] + 0.6 * rng.normal(size=(800, 20))
    model = NetFormerClassifier(random_state=0).fit(X[:400], y[:400])
    assert model.predict_proba(X[400:]).shape == (400, 40)
    assert log_loss(y[400:], model.predict_proba(X[400:])) < 1.0
    assert model.score(X[400:], y[400:]) > 0.75


def test_class_weights_move_probabilities_to_rare_classes():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(400, 2)), (rng.random(400) < 0.1).astype(int)
    plain, even = (NetFormerClassifier(class_weight=w, **SMALL).fit(X, y) for w in (None, "balanced"))
    assert plain.predict_proba(X)[:, 1].mean() == pytest.approx(y.mean(), abs=0.02)
    assert even.predict_proba(X)[:, 1].mean() == pytest.approx(0.5, abs=0.05)
    none = NetFormerClassifier(class_weight={0: 0.0, 1: 1.0}, **SMALL).fit(X, y).predict_proba(X)
    assert none[:, 1].min() > 0.95
    heavy = NetFormerClassifier(class_weight={0: 1.0, 1: 9.0}, **SMALL).fit(X, y)
    assert heavy.predict_proba(X)[:, 1].mean() == pytest.approx(0.5, abs=0.08)


def test_a_table_that_says_nothing_is_answered_by_how_frequent_classes_are():
    X, y = np.zeros((30, 2)), np.array(["a"] * 15 + ["b"] * 9 + ["c"] * 6)
    found = NetFormerClassifier(**SMALL).fit(X, y).predict_proba(X[:1])
    np.testing.assert_allclose(found, [[0.5, 0.3, 0.2]], atol=1e-6)
    np.testing.assert_allclose(NetFormerClassifier(**SMALL).fit(X, y == "a").predict_proba(X[:1]), [[0.5, 0.5]])


@pytest.mark.parametrize("k", [1, 3])
def test_logistic_solves_what_a_general_optimiser_solves(k):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 4))
    size, basis = np.linalg.eigh(x.T @ x)
    rotated, codes = x @ basis, rng.integers(max(k, 2), size=80)
    target = np.eye(max(k, 2))[codes][:, -k:]
    penalty = 3.0

    def loss(v):
        w = v.reshape(5, k)
        logits = rotated @ w[:4] + w[4]
        if k == 1:
            return np.logaddexp(0, (1 - 2 * target[:, 0]) * logits[:, 0]).sum() + penalty / 4 * np.square(w[:4]).sum()
        return (np.logaddexp.reduce(logits, 1) - (target * logits).sum(1)).sum() + penalty / 2 * np.square(w[:4]).sum()

    found, bias = logistic(
        *map(torch.from_numpy, (rotated, size, target, np.ones((1, 80)), np.array([penalty]))), steps=200
    )
    best = minimize(loss, np.zeros(5 * k), method="BFGS", options={"gtol": 1e-8}).fun
    assert loss(np.concatenate([found[0].numpy(), bias[0].numpy()]).ravel()) == pytest.approx(best, abs=1e-4)


def test_folds_hold_every_class_evenly():
    codes = np.repeat([0, 1, 2], [50, 7, 3])
    fold = stratified(codes)
    for number in range(3):
        count = np.bincount(fold[codes == number], minlength=5)
        assert count.max() - count.min() <= 1


def test_directions_separate_the_classes_and_do_not_know_their_numbers():
    rng = np.random.default_rng(0)
    codes = rng.integers(30, size=600)
    z = rng.normal(size=(30, 5))[codes] + 0.3 * rng.normal(size=(600, 5))
    found = discriminant_targets(z, codes, 16)
    assert found.shape == (5, 600)
    np.testing.assert_allclose(found.mean(1), 0, atol=1e-9)
    place = rng.permutation(30)
    np.testing.assert_allclose(np.abs(discriminant_targets(z, place[codes], 16)), np.abs(found), atol=1e-6)


def test_order_of_classes_and_outputs():
    assert class_order(np.array([2, 0, 0, 1, 2, 1, 1]), 3).tolist() == [1, 0, 2]
    specs = draw_specs(torch.tensor([3, 3]), layout=Layout(3, 1, 4, 3), generator=torch.Generator().manual_seed(0))
    stack = Networks(specs, torch.randn(specs.mask.shape) * specs.mask).numpy()
    x = xp.randn(1, 6, 3, generator=xp.Generator().manual_seed(0))
    place = np.array([2, 0, 1])
    np.testing.assert_allclose(relabelled(stack, place).answers(x), stack.answers(x)[:, :, place])


REFUSED = {
    "must vary, found one class, 'a' in all rows": (["a"] * 30),
    "needs at least 2 rows, 'c' of target 'y' stands in row 30 alone": ["a"] * 20 + ["b"] * 9 + ["c"],
    "holds 30 different values in 30 rows, too many for classes": [f"name{i}" for i in range(30)],
    "looks like a target of numbers; use NetFormerRegressor": np.linspace(0, 1, 30),
    "labels of one type, found int, str": [1, "a"] * 15,
    "must hold text, whole numbers or truth values, found b'a'": [b"a", b"b"] * 15,
    "whole numbers or truth values, found .*2020": pd.to_datetime(["2020-01-01", "2021-01-01"] * 15),
    "no gaps, found one in row 3": ["a", "b", None] * 10,
    "no gaps, found one in row 2": [1.0, np.nan, 0.0] * 10,
}


@pytest.mark.parametrize("message", REFUSED)
def test_bad_targets_are_refused_in_one_line(message):
    X = np.random.default_rng(0).normal(size=(30, 2))
    with pytest.raises(InputError, match=message) as error:
        NetFormerClassifier(**SMALL).fit(X, pd.Series(REFUSED[message]))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("weights", ["even", {"c": 1.0}, {"a": -1.0, "b": 1.0}, {"a": 0.0, "b": 0.0}])
def test_class_weights_that_are_none_are_refused(weights):
    X = np.random.default_rng(0).normal(size=(30, 2))
    with pytest.raises(InputError, match="class_weight must be None, 'balanced' or a dict of weights"):
        NetFormerClassifier(class_weight=weights, **SMALL).fit(X, ["a", "b"] * 15)


def test_a_regressor_says_where_classes_belong():
    with pytest.raises(InputError, match="found 'a'; for a target of classes there is NetFormerClassifier"):
        NetFormerRegressor().fit(np.zeros((4, 1)), ["a", "b"] * 2)


def test_iris_is_learned():
    X, y = load_iris(return_X_y=True)
    a, b, c, d = train_test_split(X, y, random_state=0, stratify=y)
    assert log_loss(d, NetFormerClassifier(random_state=0).fit(a, c).predict_proba(b)) < 0.15
