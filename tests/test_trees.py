"""Trees: networks that are trees are found whatever the order of their units, answer and are explained as their units
do, and none is found in what is almost a tree."""

from dataclasses import replace

import numpy as np
import pytest
from drawn import draw
from grown import some_trees, with_trees
from mixed import networks_for, numbers, with_intervals

from netformer.arrays import functions as xp
from netformer.exports.explain import explained
from netformer.exports.formula import formula_of
from netformer.exports.trees import split, step_networks
from netformer.networks.specs import Layout
from netformer.networks.stack import Networks, concatenate

INPUTS = 6


def stack_of(trees, layout, seed=0):
    """Two drawn networks, then those of the trees, with weights that can be changed."""
    first = draw(2, seed, inputs=INPUTS, layout=layout).numpy()
    networks = concatenate([first, step_networks(trees, layout)])
    return Networks(networks.specs, xp.from_numpy(networks.weight.numpy().astype(np.float64)))


def answers(networks, z):
    return networks.answers(xp.from_numpy(z)[None]).numpy()


def said(networks, z):
    """The sum of the answers of a stack, by its units and as `split` has it."""
    rest, trees = split(networks)
    found = answers(rest, z).sum(0)
    for one in trees:
        found[:, one.outputs] += one.predict(z).T
    return answers(networks, z).sum(0), found


@pytest.mark.parametrize("layout", [Layout(INPUTS, 2, 8), Layout(INPUTS, 3, 20, 3)], ids=["a tree each", "two each"])
def test_trees_come_back_from_their_networks(layout):
    outputs, first = (2, 1) if layout.n_outputs > 1 else (1, 0)
    trees = replace(some_trees(INPUTS, outputs), first=first)
    networks = stack_of(trees, layout)
    rest, found = split(networks)
    assert len(rest) == 2
    assert sum(len(one.column) for one in found) == 7
    for name, axis in (("column", 0), ("cut", 0), ("leaf", 1)):
        known = np.concatenate([getattr(one, name) for one in found], axis)
        np.testing.assert_array_equal(known, getattr(trees, name))
    assert {(one.first, len(one.leaf)) for one in found} == {(first, outputs)}
    z = np.random.default_rng(1).normal(size=(500, INPUTS))
    np.testing.assert_allclose(*said(networks, z), rtol=0, atol=1e-12)


def test_the_order_of_units_is_any():
    layout, trees, rng = Layout(INPUTS, 2, 16), some_trees(INPUTS), np.random.default_rng(0)
    networks = stack_of(trees, layout)
    weight, units = networks.weight.numpy(), 1 + INPUTS
    for index in range(2, len(networks)):
        for level in range(2):
            width = int(networks.specs.widths[index, level])
            order, rows = rng.permutation(width), layout.layer(level)
            weight[index, rows.start : rows.start + width] = weight[index, rows][order]
            reader = layout.layer(1) if level == 0 else layout.outputs
            weight[index, reader, units : units + width] = weight[index, reader, units:][:, order]
    mask = xp.from_numpy(weight != 0)
    networks = Networks(replace(networks.specs, mask=mask), networks.weight)
    z = rng.normal(size=(500, INPUTS))
    assert len(split(networks)[0]) == 2
    np.testing.assert_allclose(*said(networks, z), rtol=0, atol=1e-12)


def test_a_row_on_a_threshold_is_where_the_network_has_it():
    """Thresholds that float32 does not hold stay what they are, too."""
    networks = stack_of(some_trees(INPUTS), Layout(INPUTS, 2, 8))
    networks.weight[3:, :3, 0] += 1e-12
    cut = split(networks)[1][0].cut.ravel()
    for side in (-np.inf, 0.0, np.inf):
        z = np.tile(np.nextafter(cut, side) if side else cut, (INPUTS, 1)).T
        np.testing.assert_allclose(*said(networks, z), rtol=0, atol=1e-12)


CHANGES = {
    "a question with a weight": (slice(0, 3), slice(1, 1 + INPUTS), 2.0),
    "no answer of one digit": (slice(8, 9), slice(1 + INPUTS, 2 + INPUTS), 0.0),
    "two leaves alike": (slice(8, 9), slice(1 + INPUTS, 2 + INPUTS), -1.0),
    "an answer counts more": (slice(8, 9), slice(1 + INPUTS, 2 + INPUTS), 1.5),
    "two of three answers do": (slice(15, 16), slice(0, 1), 0.6),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_almost_a_tree_stays_a_network(name):
    rows, slots, factor = CHANGES[name]
    networks = stack_of(some_trees(INPUTS), Layout(INPUTS, 2, 8))
    networks.weight[4, rows, slots] *= factor
    rest, _ = split(networks)
    assert len(rest) == 3
    z = np.random.default_rng(1).normal(size=(500, INPUTS))
    np.testing.assert_allclose(*said(networks, z), rtol=0, atol=1e-12)


def test_of_trees_alone_one_network_is_left():
    networks = step_networks(some_trees(INPUTS), Layout(INPUTS, 2, 8))
    rest, (trees,) = split(networks)
    assert (len(rest), len(trees.column)) == (1, 6)
    z = np.random.default_rng(1).normal(size=(50, INPUTS))
    np.testing.assert_allclose(*said(Networks(networks.specs, networks.weight.double()), z), rtol=0, atol=1e-12)


@pytest.mark.parametrize("share", [0.4, 1.0])
def test_a_population_answers_and_explains_with_trees_as_with_units(share):
    X, population = numbers(columns=INPUTS)
    population = with_trees(with_intervals(population), [some_trees(INPUTS, depth=5)], [share])
    formula, units = population.formula("wide"), population.formula("wide", units=True)
    assert len(formula.trees[0].column) == 7
    assert not units.trees
    assert len(units.bodies) == len(formula.bodies) + 7
    z = population.read(X)
    near = {"rtol": 0, "atol": 1e-12}
    np.testing.assert_allclose(formula.inner(z), units.inner(z), **near)
    np.testing.assert_allclose(population.outputs(z), units.inner(z), **near)
    np.testing.assert_allclose(population.outputs(z)[:5], population.outputs(z[:5]), **near)  # of few rows by units
    near["atol"] *= population.reading.targets[0].scale
    for background in (None, z[50:60]):
        found, known = (explained(one, X[:40], z[:40], background) for one in (formula, units))
        np.testing.assert_allclose(found.values, known.values, **near)
        assert not found.error_std.any()


def test_leaves_that_the_scale_reads_stay_units():
    _, population = numbers(columns=INPUTS)
    population = with_trees(with_intervals(population), [some_trees(INPUTS)], [0.5])
    output = population.intervals.output.clone()
    output[-1, :, -8:] = 0.1
    intervals = replace(population.intervals, output=output)
    formula = formula_of(population.reading, population.wide, intervals)
    assert not formula.trees
    assert len(formula.bodies) == len(population.wide)
    assert formula.spreads[0].heads[-1].any()


def test_columns_of_several_inputs_are_one_player_of_a_tree():
    """Dates and levels have several inputs; one set of answers is the row's or the reference's as a whole."""
    import pandas as pd

    rng = np.random.default_rng(0)
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, 200), "D")
    table = pd.DataFrame({"sold": days, "kind": rng.choice(list("abc"), 200), "size": rng.normal(size=200)})
    population = networks_for(table, rng.normal(size=200))
    inputs = len(population.reading.inputs)
    assert inputs > 4
    population = with_trees(population, [some_trees(inputs, count=20, depth=5)], [0.7])
    rows, background = table[:20], population.read(table[100:110])
    formula, units = (population.formula("wide", units=kept) for kept in (False, True))
    found, known = (explained(one, rows, population.read(rows), background) for one in (formula, units))
    scale = population.reading.targets[0].scale
    np.testing.assert_allclose(found.values, known.values, rtol=0, atol=1e-12 * scale)
