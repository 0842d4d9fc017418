"""Delivery: which inputs the networks of a table read, and tables too large or too wide for one network."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import make_friedman1

from netformer import NetFormerRegressor
from netformer.generation.delivery import blocks_of, input_groups, relevance
from netformer.tables.inputs import Input


def columns_of(count: int) -> list[Input]:
    return [Input(i, "value") for i in range(count)]


def test_relevance_sees_lines_and_curves_and_is_nothing_for_noise():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2000, 40))
    t = z[:, 0] + z[:, 1] ** 2 + rng.normal(size=2000)
    found = relevance(z, t)
    assert found[0] == pytest.approx(1 / 4, abs=0.05)  # of a variance of 1 + 2 + 1
    assert 0.25 < found[1] < 2 / 4  # ten steps are no parabola
    assert abs(np.corrcoef(z[:, 1], t)[0, 1]) < 0.1
    assert np.abs(found[2:]).max() < 10 / 2000
    assert abs(found[2:].mean()) < 3 / 2000
    binary = (rng.random(2000) < 0.3) * 1.0
    assert relevance(binary[:, None], binary)[0] == pytest.approx(1.0)


def test_a_columns_inputs_stay_together_and_the_strongest_come_first():
    inputs = [Input(0, "value"), Input(1, "level"), Input(1, "level"), Input(2, "value"), Input(1, "level")]
    blocks = blocks_of(inputs, np.array([0.1, 0.0, 0.5, 0.3, 0.0]))
    assert [(strength, block.tolist()) for strength, block in blocks] == [(0.5, [1, 2, 4]), (0.3, [3]), (0.1, [0])]
    (group, count), *others = input_groups(blocks, 0.9, 16, 16)
    assert (group.tolist(), count, others) == ([1, 2, 4, 3, 0], 16, [])
    wide = [(1.0 - i / 100, np.arange(4 * i, 4 * i + 4)) for i in range(10)]  # ten columns of four inputs each
    for group, _ in input_groups(wide, 0.95, 16, 16):
        assert len(group) == 16
        assert all(len(np.intersect1d(group, block)) in (0, 4) for _, block in wide)


@pytest.mark.parametrize(
    ("n_columns", "n_relevant", "expected"),
    [
        (6, 3, [(3, 8), (6, 8)]),
        (6, 5, [(6, 16)]),  # nearly all
        (6, 0, [(6, 16)]),
        (40, 5, [(5, 12), (16, 2), (16, 2)]),
        (40, 40, [(16, 12), (16, 2), (16, 2)]),
        (40, 0, [(16, 8), (16, 8)]),
    ],
)
def test_networks_are_shared_out_over_the_groups(n_columns, n_relevant, expected):
    strength = np.where(np.arange(n_columns) < n_relevant, 0.5, 0.0)
    groups = input_groups(blocks_of(columns_of(n_columns), strength), 0.1, 16, 16)
    assert [(len(group), count) for group, count in groups] == expected
    if expected[0][0] == n_relevant:
        assert sorted(groups[0][0]) == list(range(n_relevant))
    assert sum(count for _, count in input_groups(blocks_of(columns_of(n_columns), strength), 0.1, 16, 1)) == 1


def test_columns_of_noise_cost_little():
    X, y = make_friedman1(1000, 10, noise=1.0, random_state=0)
    wide = np.c_[X, np.random.default_rng(0).uniform(size=(1000, 30))]
    plain, noisy = (
        NetFormerRegressor(random_state=0).fit(table[:500], y[:500]).score(table[500:], y[500:]) for table in (X, wide)
    )
    assert plain > 0.9
    assert noisy > plain - 0.05


def test_levels_of_many_categories_are_read(tmp_path):
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 6, size=(600, 5))
    table = pd.DataFrame(levels, columns=list("abcde")).map(lambda k: f"level {k}")
    y = rng.normal(size=(5, 6))[np.arange(5), levels].sum(1) + rng.normal(size=600) * 0.3
    fitted = NetFormerRegressor(random_state=0).fit(table[:400], y[:400])
    assert len(fitted.network_.reading.inputs) == 30
    assert fitted.score(table[400:], y[400:]) > 0.85


def test_rows_beyond_what_is_solved_at_once_are_read_in_blocks():
    X, y = make_friedman1(20_000, noise=1.0, random_state=0)
    fitted = NetFormerRegressor(n_samples=4, random_state=0).fit(X[:18_000], y[:18_000])
    assert fitted.score(X[18_000:], y[18_000:]) > 0.8
