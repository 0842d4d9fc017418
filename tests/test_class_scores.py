"""Scores of classes: as scikit-learn has them, and by hand where it has none."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from netformer.benchmark.class_scores import FLOOR, aligned, calibration_error, class_scores
from netformer.errors import InputError


def answers_for(rows=300, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(classes), rows)
    return (p.cumsum(1) < rng.random((rows, 1))).sum(1), p


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_scores_are_those_of_scikit_learn(classes):
    y, p = answers_for(classes=classes)
    found = class_scores(y, p)
    assert found["log_loss"] == pytest.approx(metrics.log_loss(y, p), abs=1e-4)  # but for the floor
    area = metrics.roc_auc_score(y, p[:, 1] if classes == 2 else p, multi_class="ovr")
    assert found["auc"] == pytest.approx(area)
    assert found["accuracy"] == metrics.accuracy_score(y, p.argmax(1))
    assert found["brier"] == pytest.approx(metrics.brier_score_loss(y, p[:, 1] if classes == 2 else p), abs=1e-5)


def test_a_class_without_rows_breaks_no_score():
    y, p = answers_for(classes=3)
    among = y != 1
    found = class_scores(y[among], p[among])
    assert found["auc"] == pytest.approx(np.mean([metrics.roc_auc_score(y[among] == k, p[among, k]) for k in (0, 2)]))
    assert np.isnan(class_scores(np.zeros(4, int), p[:4])["auc"])
    assert all(np.isfinite(value) for value in found.values())


def test_a_class_that_was_not_fitted_costs_the_floor():
    p = aligned(np.array([[0.4, 0.6]]), [0, 2], 4)
    assert p.tolist() == [[0.4, 0.0, 0.6, 0.0]]
    assert class_scores(np.array([3]), p)["log_loss"] == pytest.approx(np.log((1 + 2 * FLOOR) / FLOOR))


def test_calibration_error_by_hand_and_of_true_probabilities():
    p = np.array([[0.9, 0.1], [0.88, 0.12], [0.4, 0.6], [0.42, 0.58]])
    y = np.array([0, 1, 1, 1])
    # two rows near 0.89, half of them right; two near 0.59, all right
    expected = (2 * abs(0.89 - 0.5) + 2 * abs(0.59 - 1.0)) / 4
    assert calibration_error([(y, p)]) == pytest.approx(expected, abs=1e-5)
    assert calibration_error([(y[:1], p[:1]), (y[1:], p[1:])]) == pytest.approx(expected, abs=1e-5)
    y, p = answers_for(20_000, 4)
    assert calibration_error([(y, p)]) < 0.02 < 0.1 < calibration_error([(y, p**3 / (p**3).sum(1, keepdims=True))])


def test_what_is_no_probability_or_no_class_is_named():
    with pytest.raises(InputError, match="classes must be 0 to 1, got 0 to 2"):
        class_scores(np.array([0, 2]), np.full((2, 2), 0.5))
    with pytest.raises(InputError, match="probabilities must be finite"):
        class_scores(np.array([0]), np.array([[np.nan, 1.0]]))
