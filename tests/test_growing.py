"""Growing: trees answer as their definition says, look at no row left out, and are networks that answer the same."""

import numpy as np
import pytest

from netformer import NetFormerRegressor
from netformer.arrays import functions as xp
from netformer.exports.classes import log_loss
from netformer.growing import trees as module
from netformer.growing.beside import beside, enlarged, intervals_beside, step_networks, step_units
from netformer.growing.mixing import FOLDS, LEAST_ROWS, grow, grow_classes
from netformer.growing.trees import BETWEEN, CUTS, DEPTH, PENALTY, RATE, Boosting, ClassBoosting, Trees, thresholds
from netformer.growing.trees import mean_of as mean_of_trees
from netformer.networks.specs import Layout
from netformer.networks.stack import Networks, _check_stack, constant_network

LAYOUT = Layout(3, 2, 32)


def stairs(rows=200, seed=0, noise=0.1):
    """Inputs, one of which is constant and one of few values, and a target that jumps."""
    rng = np.random.default_rng(seed)
    z = np.column_stack([rng.normal(size=rows), rng.integers(0, 3, rows), np.ones(rows)])
    clean = 1.5 * (z[:, 0] > 0.3) - 2.0 * (z[:, 0] > 0.3) * (z[:, 1] > 0.5) + (z[:, 1] > 1.5)
    return z, (clean - clean.mean()) / clean.std() + noise * rng.normal(size=rows)


def boosted(z, y, mass=None, count=5, seed=0):
    boosting = Boosting(z, y[None], np.ones((1, len(y))) if mass is None else mass, np.random.default_rng(seed))
    boosting.grow(count)
    return boosting


def by_hand(trees, z):
    """Leaf by leaf, digit by digit."""
    answers = []
    for row in z:
        answer = trees.bias.copy()
        for number, (column, cut) in enumerate(zip(trees.column, trees.cut, strict=True)):
            digits = "".join("1" if row[c] > at else "0" for c, at in zip(column, cut, strict=True))
            answer += trees.leaf[:, number, int(digits, 2)]
        answers.append(answer)
    return np.array(answers).T


def mean_of(networks, z):
    exact = Networks(networks.specs, networks.weight.double())
    return exact.predict(xp.from_numpy(z)[None]).mean(0).numpy()


def test_thresholds_lie_between_a_value_and_the_next():
    z = np.array([[3.0, 1.0, 1.0, 2.0], [5.0, 5.0, 5.0, 5.0]])
    inputs, cuts = thresholds(z)
    assert inputs.tolist() == [0]
    first, last = 1 + np.float32(BETWEEN), 2 + np.float32(BETWEEN)
    np.testing.assert_allclose(cuts, [[first, first, last, last]], rtol=1e-6)


def test_no_threshold_lies_between_values_that_differ_by_rounding_alone():
    hours = 2 * np.pi * np.arange(24) / 24
    z = np.stack([np.sin(hours), np.full(24, 0.5) + 1e-16 * np.arange(24)])
    inputs, cuts = thresholds(z)
    assert inputs.tolist() == [0]
    assert np.abs(cuts[0][:, None] - z[0]).min() > 1e-3
    assert len(np.unique(cuts)) == 12, "of 13 sines"


@pytest.mark.parametrize("seed", range(8))
def test_columns_of_two_values_have_trees_too(seed):
    """Few questions can be asked of them; none is about a threshold that nothing is above."""
    rng = np.random.default_rng(seed)
    z = rng.integers(0, 2, (rng.integers(60, 200), rng.integers(1, 6))).astype(float)
    y = z[:, 0] + 2.0 * (z.sum(1) > z.shape[1] / 2) + 0.1 * rng.normal(size=len(z))
    trees = boosted(z, y - y.mean(), count=60).trees(0)
    assert ((trees.cut > 0) & (trees.cut < 1)).all()
    fitted = NetFormerRegressor().fit(z, y)
    assert fitted.score(z, y) > 0.5


def test_trees_answer_as_their_definition_says():
    z, y = stairs()
    boosting = boosted(z, y)
    new = np.random.default_rng(1).normal(size=(50, 3))
    assert np.abs(boosting.trees(0).predict(z) - boosting.answers[:, 0]).max() < 1e-12
    assert np.abs(boosting.trees(0).predict(new) - by_hand(boosting.trees(0), new)).max() < 1e-12


def test_a_tree_is_the_greedy_one(monkeypatch):
    """All rows, a penalty as it is: every question is the best of those offered, found here by trying each."""
    monkeypatch.setattr(module, "SOME", 1.0)
    z, y = stairs(120)
    boosting = boosted(z, y, count=1)
    rng = np.random.default_rng(0)
    rng.permutation(len(y))
    ranks = ((np.arange(CUTS) + rng.random()) / CUTS * len(y)).astype(int)
    inputs, cuts = thresholds(np.ascontiguousarray(z.T))
    offered = [(int(i), float(c)) for i, own in zip(inputs, cuts[:, ranks], strict=True) for c in own]
    residual, leaf, gains = y - y.mean(), np.zeros(len(y), int), []
    tree = boosting.trees(0)

    def gain(leaf):
        return sum(residual[leaf == k].sum() ** 2 / ((leaf == k).sum() + PENALTY) for k in range(leaf.max() + 1))

    for column, cut in zip(tree.column[0], tree.cut[0], strict=True):
        gains = [gain(2 * leaf + (z[:, i] > c)) for i, c in offered]
        leaf = 2 * leaf + (z[:, column] > cut)
        assert gain(leaf) == pytest.approx(max(gains), rel=1e-4)
    expected = [RATE * residual[leaf == k].sum() / ((leaf == k).sum() + PENALTY) for k in range(2**DEPTH)]
    assert np.abs(tree.leaf[0, 0] - expected).max() < 1e-12


def test_a_row_left_out_changes_nothing_and_a_weight_is_a_row_that_often():
    z, y = stairs()
    mass = np.ones((1, len(y)))
    mass[0, :40] = 0.0
    other = np.where(np.arange(len(y)) < 40, 1e3, y)
    first, second = (boosted(z, target, mass).trees(0) for target in (y, other))
    assert np.array_equal(first.leaf, second.leaf)
    assert np.array_equal(first.cut, second.cut)
    assert first.bias[0] == pytest.approx(y[40:].mean())


def test_fits_do_not_affect_one_another():
    z, y = np.random.default_rng(1).normal(size=(200, 3)), stairs()[1]
    mass = np.ones((3, len(y)))
    mass[0, ::2], mass[1, 1::3] = 0.0, 2.0
    together = boosted(z, y, mass)
    for fit in range(3):
        alone = boosted(z, y, mass[[fit]])
        assert np.abs(alone.answers[:, 0] - together.answers[:, fit]).max() < 1e-12


@pytest.mark.parametrize("layout", [LAYOUT, Layout(3, 3, 70), Layout(3, 2, 100)])
def test_step_networks_answer_as_the_trees(layout):
    z, y = stairs()
    trees = boosted(z, y, count=7).trees(0)
    networks = step_networks(trees, layout)
    _check_stack("wide", networks, 3)
    assert networks.layout == layout
    assert len(networks) == -(-7 // (layout.max_width // 2**DEPTH))
    assert step_units(networks) == 7 * 2**DEPTH
    # In single precision too, on rows that are not at a threshold; new rows as well as those fitted.
    new = np.random.default_rng(1).normal(size=(500, 3))
    for rows in (z, new):
        expected = trees.predict(rows)[0]
        assert np.abs(mean_of(networks, rows) * len(networks) - expected).max() < 1e-6
        single = networks.predict(xp.from_numpy(rows).float()[None]).sum(0).numpy()
        assert np.abs(single - expected).max() < 1e-5


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.7, 0.3), (0.0, 1.0), (0.9, 0.4)])
def test_beside_adds_both_by_their_weights(weights):
    z, y = stairs()
    trees, wide = boosted(z, y).trees(0), constant_network(3).tensors()
    wide.weight[0, -1, 1] = 0.5
    before = wide.weight.clone()
    both = beside(wide, [trees], [weights])
    expected = weights[0] * 0.5 * z[:, 0] + weights[1] * trees.predict(z)[0]
    assert np.abs(mean_of(both, z) - expected).max() < 1e-6
    assert np.array_equal(wide.weight, before)
    assert step_units(both) == 5 * 2**DEPTH
    assert step_units(wide) == 0


def test_a_larger_layout_changes_no_answer():
    from drawn import draw

    networks = draw(20, 3, Layout(3, 2, 5)).numpy()
    networks = Networks(networks.specs, networks.weight.double())
    x = xp.from_numpy(np.random.default_rng(0).normal(size=(1, 30, 3)))
    larger = enlarged(networks, Layout(3, 4, 9))
    assert larger.layout == Layout(3, 4, 9)
    np.testing.assert_allclose(larger.predict(x), networks.predict(x), rtol=1e-12, atol=1e-12)
    assert np.array_equal(larger.specs.n_params, networks.specs.n_params)


def left_out(z, y, fit):
    """Errors of a linear fit, each row without itself."""
    design = np.column_stack([np.ones(len(z)), z[:, :fit]])
    hat = design @ np.linalg.pinv(design)
    return (y - hat @ y) / (1 - np.diag(hat))


def test_trees_get_the_share_that_rows_left_out_say():
    """A target that jumps is theirs, a straight one is not; a row's answer comes from trees grown without it."""
    z, y = stairs(300)
    every, one = np.arange(300), np.ones(300)
    grown = grow(z, y, one, every, left_out(z, y, 1))
    assert grown.share > 0.8
    assert np.square(grown.left).mean() < 0.7 * np.square(left_out(z, y, 1)).mean()
    straight = z[:, 0] + 0.1 * np.random.default_rng(2).normal(size=300)
    assert grow(z, straight, one, every, left_out(z, straight, 1)) is None
    noise = np.random.default_rng(3).normal(size=(20, 300))
    kept = [grow(z, own, one, every, left_out(z, own, 1)) for own in noise]
    assert sum(one is not None for one in kept) <= 4, "trees fit noise on rows they know"


def test_the_mixed_answer_is_scaled_to_what_rows_left_out_say():
    """What is written knows one half of the target and trees the other: the answer is their sum, not their mean."""
    z, y = stairs(300)
    rng, every, one = np.random.default_rng(5), np.arange(300), np.ones(300)
    other = rng.normal(size=300)
    grown = grow(z, y + other, one, every, y)
    assert sum(grown.weights) > 1.5
    answers = y + other - grown.left
    assert ((y + other) @ answers) / (answers @ answers) == pytest.approx(1, abs=0.1), "no other size fits better"
    codes = (y + other + 0.3 * rng.normal(size=300) > 0).astype(int)
    logits, fold = 2 * other[:, None], rng.permutation(300) % FOLDS
    assert sum(grow_classes(z, codes, one, fold, every, logits).weights) > 1.2


def test_the_mean_of_trees_answers_as_their_mean():
    z, y = stairs()
    parts = [boosted(z, y, seed=seed).trees(0) for seed in range(3)]
    assert not np.array_equal(parts[0].cut, parts[1].cut)
    expected = np.mean([one.predict(z) for one in parts], 0)
    np.testing.assert_allclose(mean_of_trees(parts).predict(z), expected, atol=1e-12)


def classes_of(z, y, cuts, seed=4):
    """Classes by a score that jumps, a tenth of them drawn anew."""
    rng = np.random.default_rng(seed)
    codes = np.digitize(y, np.quantile(y, cuts))
    return np.where(rng.random(len(y)) < 0.1, rng.integers(0, len(cuts) + 1, len(y)), codes)


def shares_of(codes):
    """Logits that say how frequent classes are, and nothing else."""
    share = np.bincount(codes) / len(codes)
    logits = np.log(share[1:] / share[0]) if len(share) == 2 else np.log(share)
    return np.tile(logits, (len(codes), 1))


def class_boosted(z, codes, mass=None, count=30):
    outputs = 1 if codes.max() == 1 else codes.max() + 1
    target = (codes == np.arange(outputs)[:, None] + (outputs == 1)).astype(float)
    mass = np.ones((1, len(codes))) if mass is None else mass
    boosting = ClassBoosting(z, target, mass, np.random.default_rng(0))
    boosting.grow(count)
    return boosting


@pytest.mark.parametrize("cuts", [[0.5], [0.3, 0.7]])
def test_trees_of_classes_go_down_the_log_loss(cuts):
    """A tree is a step along the slope, which finite differences confirm; thirty take most of the loss off."""
    z, y = stairs(300)
    codes = classes_of(z, y, cuts)
    boosting = class_boosted(z, codes, count=3)
    answers, size = boosting.answers[:, 0].T, 1e-5
    for k in range(answers.shape[1]):
        there, back = (log_loss(answers + sign * size * np.eye(answers.shape[1])[k], codes) for sign in (1, -1))
        np.testing.assert_allclose(boosting.residual[k, 0], (back - there) / (2 * size), atol=1e-8)
    losses = [log_loss(class_boosted(z, codes, count=n).answers[:, 0].T, codes).mean() for n in (1, 5, 30)]
    assert losses[0] > losses[1] > losses[2]
    assert losses[2] < 0.6 * log_loss(shares_of(codes), codes).mean()


def test_a_row_left_out_changes_no_tree_of_classes():
    z, y = stairs(300)
    codes = classes_of(z, y, [0.3, 0.7])
    mass = np.ones((1, len(y)))
    mass[0, :40] = 0.0
    other = np.where(np.arange(len(y)) < 40, (codes + 1) % 3, codes)
    first, second = (class_boosted(z, own, mass).trees(0) for own in (codes, other))
    assert np.array_equal(first.leaf, second.leaf)
    assert np.array_equal(first.cut, second.cut)


def test_other_numbers_of_classes_permute_the_outputs_of_trees():
    z, y = stairs(300)
    codes, place = classes_of(z, y, [0.3, 0.7]), np.array([2, 0, 1])
    one, turned = class_boosted(z, codes).trees(0), class_boosted(z, place[codes]).trees(0)
    assert np.array_equal(one.cut, turned.cut)
    np.testing.assert_allclose(one.predict(z), turned.predict(z)[place], atol=1e-9)


def test_step_networks_answer_in_every_output_as_trees_of_classes():
    z, y = stairs(300)
    trees = class_boosted(z, classes_of(z, y, [0.3, 0.7]), count=7).trees(0)
    wide = constant_network(3, 3)
    wide.specs.mask[:, wide.layout.outputs, 1] = True
    wide.weight[:, wide.layout.outputs, 1] = xp.from_numpy(np.array([0.5, -1.0, 2.0], np.float32))
    both = beside(wide, [trees], [(0.6, 0.4)])
    _check_stack("wide", both, 3)
    expected = 0.6 * z[:, :1] * [0.5, -1.0, 2.0] + 0.4 * trees.predict(z).T
    exact = Networks(both.specs, both.weight.double())
    found = exact.outputs(exact.last_hidden(xp.from_numpy(z)[None]), xp.from_numpy(z)[None]).mean(0)
    assert np.abs(np.asarray(found) - expected).max() < 1e-5
    assert step_units(both) == 7 * 2**DEPTH


def test_trees_of_classes_are_kept_where_labels_jump_alone():
    z, y = stairs(300)
    rng, every, one = np.random.default_rng(0), np.arange(300), np.ones(300)
    fold = rng.permutation(300) % FOLDS
    codes = classes_of(z, y, [0.3, 0.7])
    logits = shares_of(codes)
    grown = grow_classes(z, codes, one, fold, every, logits)
    assert grown.share > 0.7
    assert grown.left.mean() < 0.7 * log_loss(logits, codes).mean()
    noise = [rng.integers(0, 2, 300) for _ in range(20)]
    kept = [grow_classes(z, own, one, fold, every, shares_of(own)) for own in noise]
    assert sum(own is not None for own in kept) <= 2, "trees fit noise on rows they know"
    straight = (rng.random(300) < 1 / (1 + np.exp(-3 * z[:, 0]))).astype(int)
    assert grow_classes(z, straight, one, fold, every, 3 * z[:, :1]) is None, "the truth is written already"


def test_few_rows_grow_nothing():
    z, y = stairs(LEAST_ROWS - 1)
    assert grow(z, y, np.ones(len(y)), np.arange(len(y)), left_out(z, y, 1)) is None
    trees = Trees(np.array([0.5]), np.zeros((1, 4), int), np.zeros((1, 4)), np.zeros((1, 1, 16)))
    assert trees.predict(z)[0].tolist() == [0.5] * len(z)


def test_intervals_keep_their_scale():
    from netformer.exports.intervals import LEVELS, Intervals

    z, y = stairs()
    wide = constant_network(3)
    output = xp.tensor([[[0.3, 0.1, 0.2, -0.4, 0.0]]], dtype=xp.float64)
    before = Intervals(output, np.array([[-1.0, 1.0]]), np.linspace(-2, 2, len(LEVELS))[None])
    both = beside(wide, [boosted(z, y).trees(0)], [(0.5, 0.5)])
    after = intervals_beside(before, both)
    x = xp.from_numpy(z)[None]
    first, second = (one.scale_of(stack).predict(x).mean(0) for one, stack in ((before, wide), (after, both)))
    np.testing.assert_allclose(first, second, rtol=1e-12)
