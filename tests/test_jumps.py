"""Jumps: held-out families jump or do not, whatever is asked twice is the same, and differences are paired."""

import numpy as np
import pandas as pd
import pytest

from netformer.evaluation import jumps
from netformer.evaluation.jumps import (
    CLASS_SETS,
    SETS,
    STEPS,
    TEST_ROWS,
    draw,
    draw_classes,
    measure,
    measure_classes,
    summary,
)
from stages import step_card


@pytest.mark.parametrize("name", SETS)
def test_tasks_have_rows_to_test_on_and_are_the_same_twice(name):
    z, y = draw(name, 50, 3)
    assert z.shape[0] == len(y) == 50 + TEST_ROWS
    assert np.isfinite(z).all()
    assert np.isfinite(y).all()
    again, other = draw(name, 50, 3), draw(name, 50, 4)
    assert np.array_equal(z, again[0])
    assert np.array_equal(y, again[1])
    assert not np.array_equal(y, other[1])


def test_cells_have_as_many_values_as_prototypes():
    for number in range(5):
        rng, z = np.random.default_rng(number), np.random.default_rng(9).normal(size=(500, 5))
        assert 2 <= len(np.unique(jumps._cells(z, rng))) <= 16


def test_one_tree_has_as_many_values_as_leaves(monkeypatch):
    """Its target is that of no tree more, whatever the number drawn."""
    z = np.random.default_rng(9).normal(size=(500, 5))
    for number in range(5):
        rng = np.random.default_rng(number)
        monkeypatch.setattr(jumps, "MOST_TREES", 1)
        assert 2 <= len(np.unique(jumps._trees(z, rng))) <= 2**5


def test_every_method_is_fitted_on_the_same_rows_and_scored_on_the_others(monkeypatch):
    seen = []

    class Mean:
        def fit(self, X, y):
            seen.append((X.copy(), y.copy()))
            self.mean = y.mean()
            return self

        def predict(self, X):
            assert len(X) == TEST_ROWS
            return np.full(len(X), self.mean)

    monkeypatch.setattr(jumps, "_methods", lambda seed: {"a": Mean, STEPS: Mean})
    measured = measure(("cells",), (60,), 2)
    assert measured[["set", "rows", "task", "method"]].to_numpy().tolist() == [
        ["cells", 60, task, method] for task in range(2) for method in ("a", STEPS)
    ]
    z, y = draw("cells", 60, 0)
    for X, own in seen[:2]:
        assert np.array_equal(X, z[:60])
        assert np.array_equal(own, y[:60])
    expected = 1 - np.square(y[60:] - y[:60].mean()).mean() / y[60:].var()
    assert measured["test_r2"][0] == pytest.approx(expected)


def test_differences_are_paired():
    rows = [("trees", 300, task, m, r2) for task, both in enumerate([(0.1, 0.3), (0.5, 0.8)]) for m, r2 in
            zip(("wide_16", STEPS), both, strict=True)]  # fmt: skip
    found = summary(pd.DataFrame(rows, columns=jumps.MEASURED))
    assert found["trees.300.wide_16"] == pytest.approx(0.3)
    assert found["trees.300.wide_16.minus"] == pytest.approx(0.25)
    assert found["trees.300.wide_16.minus_se"] == pytest.approx(0.05)
    assert found["trees.300.wide_16.standing"] == "ahead"
    assert f"trees.300.{STEPS}.minus" not in found


@pytest.mark.parametrize("name", CLASS_SETS)
def test_every_class_is_in_the_rows_for_learning(name):
    numbers = set()
    for number in range(6):
        z, codes = draw_classes(name, 60, number)
        assert len(z) == len(codes) == 60 + TEST_ROWS
        k = int(codes.max()) + 1
        assert np.bincount(codes[:60], minlength=k).min() >= (2 if name == "random" else 1)
        numbers.add(k)
        assert np.array_equal(codes, draw_classes(name, 60, number)[1])
    assert len(numbers) > 1
    if name in SETS:
        assert numbers == {2, 3, 5}
        assert not np.array_equal(draw_classes(name, 60, 0)[0], draw(name, 60, 0)[0])


class Shares:
    """The shares of classes, whatever the row."""

    fits = 0

    def __init__(self):
        self.network_ = type("", (), {"about": {"steps": {}}})

    def fit(self, X, codes):
        Shares.fits += 1
        assert len(X) == len(codes) == 60
        self.shares = np.bincount(codes) / len(codes)
        return self

    def predict_proba(self, X):
        assert len(X) == TEST_ROWS
        return np.tile(self.shares, (len(X), 1))


def test_what_is_known_of_a_task_is_not_measured_again(monkeypatch, tmp_path):
    monkeypatch.setattr(jumps, "_class_methods", lambda seed: {"a": Shares, STEPS: Shares})
    monkeypatch.setattr(Shares, "fits", 0)
    first = measure_classes(("cells",), (60,), 2, kept=tmp_path / "kept")
    assert Shares.fits == 4
    more = measure_classes(("cells",), (60,), 3, kept=tmp_path / "kept")
    assert Shares.fits == 6
    pd.testing.assert_frame_equal(first, more[:4])
    _, codes = draw_classes("cells", 60, 1)
    expected = -np.log((np.bincount(codes[:60]) / 60)[codes[60:]]).mean()
    assert first["log_loss"][2] == pytest.approx(expected)
    assert more["kept"].tolist() == [None, True] * 3
    assert more["classes"].tolist() == [2, 2, 3, 3, 5, 5]


def test_of_classes_less_loss_is_ahead_and_those_of_two_stand_apart():
    rows = [
        (name, size, task, 2 + task, method, loss, kept)
        for name in CLASS_SETS
        for size in step_card.ROWS
        for task, both in enumerate([(0.8, 0.5), (0.6, 0.4)])
        for method, loss, kept in zip(("wide_16", STEPS, "catboost"), (*both, 0.7), (None, not task, None), strict=True)
    ]
    found = summary(pd.DataFrame(rows, columns=jumps.CLASS_MEASURED))
    assert found["trees.300.wide_16.minus"] == pytest.approx(-0.25)
    assert found["trees.300.wide_16.minus_se"] == pytest.approx(0.05)
    assert found["trees.300.wide_16.standing"] == "ahead"
    assert found["trees.300.kept"] == 0.5
    assert found["trees.two.catboost.minus"] == pytest.approx(-0.2)
    table = step_card.table_of_classes(found).splitlines()
    assert len(table) == 2 + 2 * len(CLASS_SETS)
    assert table[2] == "| trees | 300 | 0.700 | 0.450 | -0.250 ± 0.050 | 50 % | 0.700 | -0.250 ± 0.050 |"
