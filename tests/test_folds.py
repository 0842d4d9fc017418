"""Folds: rows are held out as asked for, none twice, none with a copy among those fitted."""

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GroupKFold, KFold

from netformer.benchmark.folds import FOLDS, copies, groups_of, in_folds, in_time, times_of
from netformer.errors import InputError


@pytest.mark.parametrize(("rows", "repeats"), [(20, 5), (99, 5), (100, 4), (250, 2), (399, 2), (400, 1), (5000, 1)])
def test_small_tables_are_divided_more_often(rows, repeats):
    plan = in_folds(np.arange(rows))
    assert plan.repeats == repeats
    assert len(plan.parts) == 5 * repeats
    held = np.concatenate([part.held_out for part in plan.parts])
    assert (np.bincount(held, minlength=rows) == repeats).all()
    sizes = [len(part.held_out) for part in plan.parts]
    assert max(sizes) - min(sizes) <= 1
    assert f"{repeats} times" in plan.how or repeats == 1


def test_folds_depend_on_the_seed_alone():
    def held(**options):
        return [part.held_out.tolist() for part in in_folds(np.arange(50), repeats=2, **options).parts]

    assert held(seed=1) == held(seed=1) != held(seed=2)
    assert held(seed=1)[:5] != held(seed=1)[5:]


def test_groups_stay_together_and_folds_stay_even():
    label = np.repeat(np.arange(12), np.arange(1, 13))
    plan = in_folds(label, repeats=3, of="site")
    for part in plan.parts:
        assert not set(label[part.fitted]) & set(label[part.held_out])
    first = [len(part.held_out) for part in plan.parts[:5]]
    even = [len(test) for _, test in GroupKFold(5).split(label, groups=label)]
    assert max(first) <= max(even) + 1
    assert plan.how == "5-fold cross-validation, 3 times, 12 groups of 'site'"
    assert len(in_folds(np.arange(40) % 3, repeats=1).parts) == 3  # no more folds than groups


def test_later_rows_are_predicted_from_earlier_ones_alone():
    rng = np.random.default_rng(5)
    times = rng.permutation(np.repeat(np.arange(30.0), 3))
    plan = in_time(times, of="day")
    for part in plan.parts:
        assert times[part.fitted].max() < times[part.held_out].min()
    held = np.concatenate([part.held_out for part in plan.parts])
    assert len(set(held.tolist())) == len(held) == 30
    assert times[held].min() == 20
    assert plan.how == "the last 30 rows by 'day', in 5 parts, each from all rows before it"
    blocks = plan.clusters[held]
    assert len(set(blocks.tolist())) == 6  # of 5 neighbours each
    with pytest.raises(
        InputError, match=r"rows must differ in time, found one time in all rows to be held out \(day\)"
    ):
        in_time(np.zeros(20), of="day")


def test_copies_share_a_label_and_repeated_measurements_do_not():
    X = pd.DataFrame({"a": [1, 1, 2, 2, 3, np.nan, np.nan], "b": ["x", "x", "y", "y", "z", None, None]})
    y = np.array([5.0, 5, 6, 7, 8, 9, 9])
    label = copies(X, y).tolist()
    assert label[0] == label[1]
    assert label[5] == label[6]
    assert len(set(label)) == 5
    assert len(set(copies(X.assign(c=[[1]] * 7), y).tolist())) == 7  # lists cannot be compared
    assert in_folds(np.array([0, 0, 1, 2, 3])).how.endswith(", copies of a row in one fold")


def test_what_is_no_order_and_no_group_is_refused():
    assert times_of("d", pd.Series(["2020-01-02", "2020-01-01"]))[0] > times_of("d", pd.Series(["2020-01-01"] * 2))[0]
    assert groups_of(["u", None, "v", None]).tolist() == [0, 1, 2, 1]
    for call, message in (
        (lambda: times_of("d", pd.Series(["x", "y"])), "time must be a column of dates or numbers, 'd' holds text"),
        (lambda: times_of("d", pd.Series([1.0, np.nan])), "time must be known in every row, 'd' is not in row 2"),
        (lambda: in_folds(np.zeros(9, np.int64)), "groups must be at least 2, found one in all 9 rows"),
        (lambda: in_folds(np.arange(9), folds=1), "folds must be a whole number of at least 2, got 1"),
        (lambda: in_folds(np.arange(9), repeats=0), "repeats must be a whole number of at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_folds_are_like_those_of_scikit_learn():
    """As even, and no row twice."""
    assert FOLDS == 5
    ours = sorted(len(part.held_out) for part in in_folds(np.arange(83), repeats=1).parts)
    assert ours == sorted(len(test) for _, test in KFold(5).split(np.zeros(83)))
