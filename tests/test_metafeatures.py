import json
import math
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import sklearn.datasets
import torch

from netformer.tasks.metafeatures import (
    NAMES,
    MetaFeatureTransform,
    get_meta_features,
    limit_table,
    meta_features_frame,
    quantile_bins,
)
from netformer.tasks.task import TRAIN, Task, split_rows

MISSION = [
    *("inst_to_attr", "nr_class", "nr_attr", "attr_to_inst", "skewness", "kurtosis", "cor", "cov", "attr_conc"),
    *("class_conc", "sparsity", "gravity", "class_ent", "attr_ent", "mut_inf", "eq_num_attr", "ns_ratio", "f1", "f2"),
    *("tree_depth", "leaves_branch", "nodes_per_attr", "leaves_per_class"),
]


def table(n_rows, n_features, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n_rows, n_features)) * rng.lognormal(size=n_features)
    return x, np.tanh(x[:, 0]) + x[:, -1] ** 2 + 0.3 * rng.normal(size=n_rows)


def make_task(name, n_rows=40, n_features=3, seed=0):
    x, y = table(n_rows, n_features, seed)
    rows = split_rows(n_rows, np.random.default_rng(seed))
    return Task(name, "synthetic", "test", "train", x, y, rows)


def straight_from_pymfe(x, y, n_bins):
    """The documented call, with bins from scipy's ranks instead of `quantile_bins` and all that pymfe precomputes."""
    state = np.random.get_state()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pymfe.mfe import MFE

        classes = np.floor(n_bins * (scipy.stats.rankdata(y) - 0.5) / len(y)).astype(int)
        names, values = MFE(groups="all", features=MISSION, random_state=0).fit(x, classes).extract()
    np.random.set_state(state)
    return dict(zip(names, values, strict=True))


def test_names_are_the_37_values_of_the_23_features():
    bases = [name.partition(".")[0] for name in NAMES]
    assert list(dict.fromkeys(bases)) == MISSION
    assert len(NAMES) == len(set(NAMES)) == 37
    assert all(name.partition(".")[2] in ("", "mean", "sd") for name in NAMES)


@pytest.mark.parametrize(
    ("n_rows", "n_features", "n_bins"), [(150, 4, 5), (61, 2, 5), (43, 3, 4), (25, 3, 2), (60, 14, 5)]
)
def test_equals_a_direct_call_of_pymfe(n_rows, n_features, n_bins):
    x, y = table(n_rows, n_features, seed=n_rows)
    expected = straight_from_pymfe(x, y, n_bins)
    found = get_meta_features(x, y)
    assert set(expected) == set(NAMES)
    assert tuple(found) == NAMES
    for name in NAMES:
        if name in found.filled:
            assert not math.isfinite(expected[name])
            assert found[name] == 0.0
        else:
            assert found[name] == pytest.approx(expected[name], rel=1e-12, abs=1e-12), name


def test_same_call_same_bytes_and_global_generator_untouched():
    x, y = table(40, 14)
    np.random.seed(3)
    before = np.random.get_state()[1].copy()
    first = get_meta_features(x, y)
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    np.random.seed(4)
    assert get_meta_features(x, y) == first


def test_data_frames_of_mixed_columns_read_like_their_array():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "real": rng.normal(size=40),
            "count": rng.integers(0, 9, 40),
            "flag": rng.random(40) > 0.5,
            "nullable": pd.array(rng.integers(0, 9, 40), dtype="Int64"),
        }
    )
    y = pd.Series(rng.normal(size=40))
    assert get_meta_features(frame, y) == get_meta_features(frame.astype(float).to_numpy(), y.to_numpy())


def test_importing_the_module_does_not_import_pymfe():
    heavy = "('pymfe', 'sklearn')"
    code = f"import sys, netformer.tasks.metafeatures; sys.exit(any(m in sys.modules for m in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("n_rows", [1, 2, 5, 19, 30, 49, 50, 151])
def test_bins_are_equal_in_size_and_ordered(n_rows):
    y = np.random.default_rng(n_rows).normal(size=n_rows)
    bins = quantile_bins(y)
    sizes = np.bincount(bins)
    assert len(sizes) == min(n_rows, 5, max(2, n_rows // 10))
    assert sizes.max() - sizes.min() <= 1
    assert (np.diff(bins[np.argsort(y)]) >= 0).all()


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9, 0.99])
def test_bins_of_a_two_valued_target_are_the_two_values(share):
    y = (np.arange(200) < 200 * share).astype(float)
    np.testing.assert_array_equal(quantile_bins(y), y.astype(int))


def degenerate(name):
    x, y = table(40, 3)
    constant = x.copy()
    constant[:, 1] = 7.0
    return {
        "one feature": (x[:, :1], y, {"cor.mean", "cov.mean", "attr_conc.mean", "skewness.sd"}),
        "five rows": (x[:5], y[:5], set()),
        "one row": (x[:1], y[:1], {"skewness.mean", "gravity", "f1.mean"}),
        "constant target": (x, np.full(40, 2.5), {"gravity", "f2.mean", "leaves_per_class.mean"}),
        "constant column": (constant, y, {"skewness.mean", "cor.mean", "f1.mean"}),
        "all constant": (constant * 0, y * 0, {"skewness.mean", "gravity", "f1.mean", "f2.mean"}),
        "repeated rows": (np.repeat(x[:4], 10, axis=0), np.repeat(y[:4], 10), set()),
        "repeated columns": (np.hstack([x, x]), y, set()),
        "huge values": (x * 1e200, y, {"cov.mean", "gravity", "tree_depth.mean"}),
        "two values": (np.where(x > 0, 10.0, [9.0, -1.5, 2e-7]), y, set()),
        "offset": (np.round(x) + 1e6, np.round(y), set()),
        "float32 overflow": (x * 1e40, y, {"tree_depth.mean", "nodes_per_attr"}),
    }[name]


DEGENERATE = (
    *("one feature", "five rows", "one row", "constant target", "constant column", "all constant"),
    *("repeated rows", "repeated columns", "huge values", "two values", "offset", "float32 overflow"),
)


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_tables_give_finite_values_and_name_the_filled(name, capfd):
    x, y, must_be_filled = degenerate(name)
    with np.errstate(all="raise"):
        found = get_meta_features(x, y)
    assert tuple(found) == NAMES
    assert all(type(value) is float and math.isfinite(value) for value in found.values())
    assert must_be_filled <= set(found.filled)
    assert all(found[filled] == 0.0 for filled in found.filled)
    assert found["nr_attr"] == x.shape[1]
    assert capfd.readouterr() == ("", "")


def real(name):
    x, y = getattr(sklearn.datasets, f"load_{name}")(return_X_y=True)
    return x, (y if y.ndim == 1 else y[:, 0]).astype(float)


@pytest.mark.parametrize("name", [*DEGENERATE, "diabetes", "linnerud", "wine", "breast_cancer"])
def test_every_value_is_that_of_an_unpatched_call(name):
    """The documented call with pymfe's own pandas; what it cannot compute is filled here and nothing else is."""
    x, y = degenerate(name)[:2] if name in DEGENERATE else real(name)
    state = np.random.get_state()
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        from pymfe.mfe import MFE

        mfe = MFE(groups="all", features=MISSION, random_state=0)
        # the rest of what pymfe can share fails on tables of one row
        mfe.fit(x, quantile_bins(y), precomp_groups=("info-theory", "model-based"))
        expected = dict(zip(*mfe.extract(suppress_warnings=True), strict=True))
    np.random.set_state(state)
    found = get_meta_features(x, y)
    for value in NAMES:
        known = float(expected.get(value, math.nan))
        assert (value in found.filled) == (not math.isfinite(known)), value
        if value not in found.filled:
            assert found[value] == pytest.approx(known, rel=1e-9, abs=1e-12), value


def test_nothing_is_filled_in_an_ordinary_table():
    assert get_meta_features(*table(60, 3)).filled == ()


def test_pickle_keeps_the_filled_names():
    found = get_meta_features(*degenerate("one feature")[:2])
    copy = pickle.loads(pickle.dumps(found))
    assert copy == found
    assert copy.filled == found.filled != ()


X, Y = table(20, 2)


@pytest.mark.parametrize(
    ("parameters", "target", "message"),
    [
        (X.astype(str), Y, r"^parameters must be numeric, got dtype <U\d+; encode it first$"),
        (X, Y.astype(object), r"^target must be numeric, got dtype object; encode it first$"),
        (pd.DataFrame({"a": X[:, 0], "b": ["1"] * 20}), Y, "^parameters must be numeric, got column 'b' of another"),
        (np.where(X.max() > X, X, np.nan), Y, "^parameters must be finite, got 1 NaN or infinite values; impute or"),
        (pd.DataFrame({"a": pd.array([None] + [1] * 19, dtype="Int64")}), Y, "^parameters must be finite, got 1 NaN"),
        (X, np.where(Y > 0, np.inf, -np.inf), "^target must be finite, got 20 NaN or infinite values"),
        (X, Y[:-1], "^parameters and target must have the same number of rows, got 20 and 19$"),
        (X[:0], Y[:0], r"^parameters must not be empty, got shape \(0, 2\)$"),
        (X[:, :0], Y, r"^parameters must not be empty, got shape \(20, 0\)$"),
        (X[:, 0], Y, r"^parameters must have shape \(rows, features\), got \(20,\)$"),
        (X, X, r"^target must have shape \(rows,\), got \(20, 2\)$"),
    ],
)
def test_errors_say_what_is_wrong(parameters, target, message):
    with pytest.raises(ValueError, match=message) as error:
        get_meta_features(parameters, target)
    assert "\n" not in str(error.value)


def test_limit_table_keeps_the_features_most_correlated_with_the_target_in_table_order():
    x, _ = table(50, 6)
    y = 1.0 * x[:, 4] / x[:, 4].std() - 3.0 * x[:, 1] / x[:, 1].std() + 2.0 * x[:, 5] / x[:, 5].std()
    expected = np.sort(np.argsort([-abs(np.corrcoef(column, y[:30])[0, 1]) for column in x[:30].T])[:3])
    kept, target = limit_table(x, y, max_rows=30, max_features=3)
    np.testing.assert_array_equal(kept, x[:30][:, expected])
    np.testing.assert_array_equal(target, y[:30])
    whole, _ = limit_table(x, y, max_rows=50, max_features=6)
    np.testing.assert_array_equal(whole, x)
    with pytest.raises(ValueError, match=r"^max_features must be >= 1, got 0$"):
        limit_table(x, y, max_rows=30, max_features=0)


def test_the_frame_is_get_meta_features_of_the_train_rows_whatever_the_workers_and_the_order():
    tasks = [make_task(f"t{i}", n_features=1 + i % 4, seed=i) for i in range(9)]
    seen = []
    one = meta_features_frame(tasks, workers=1, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]  # a worker gets eight at a time
    assert one.column_names == ["task_id", *NAMES, "filled"]
    for task, row in zip(tasks, one.to_pylist(), strict=True):
        train = task.row_split == TRAIN
        expected = get_meta_features(task.X[train], task.y[train])
        assert row == {"task_id": task.task_id, **expected, "filled": list(expected.filled)}
    two = meta_features_frame(tasks[::-1], workers=2)
    assert two.schema == one.schema
    assert two.to_pylist()[::-1] == one.to_pylist()


def test_the_frame_ignores_all_rows_but_the_first_train_rows():
    task = make_task("t", n_features=4)
    late = np.flatnonzero(task.row_split == TRAIN)[15:]
    x, y = task.X.copy(), task.y.copy()
    for rows in (late, np.flatnonzero(task.row_split != TRAIN)):
        x[rows], y[rows] = np.nan, np.nan
    changed = Task("t", "synthetic", "test", "train", x, y, task.row_split)
    cut = {"workers": 1, "max_rows": 15, "max_features": 2}
    assert meta_features_frame([changed], **cut).equals(meta_features_frame([task], **cut))
    assert meta_features_frame([task], **cut)["nr_attr"].to_pylist() == [2.0]


def test_the_frame_of_no_tasks_is_empty_and_a_bad_task_is_named():
    assert meta_features_frame([], workers=1).schema == meta_features_frame([make_task("t")], workers=1).schema
    bad = make_task("broken")
    bad.X[bad.row_split == TRAIN, 0] = np.nan
    with pytest.raises(ValueError, match=r"^task broken: parameters must be finite, got 24 NaN or infinite values"):
        meta_features_frame([bad], workers=1)


def spread(n_tasks=30, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n_tasks, 37)) * np.exp(rng.normal(size=37) * 4)


def test_transform_is_the_standardised_signed_log():
    values = spread()
    logs = np.copysign(np.log(1 + np.abs(values)), values)
    expected = (logs - logs.mean(0)) / logs.std(0)
    out = MetaFeatureTransform.fit(values)(values)
    assert out.dtype == torch.float32
    np.testing.assert_allclose(out.numpy(), np.clip(expected, -5, 5), rtol=1e-5, atol=1e-5)
    assert torch.equal(MetaFeatureTransform.fit(torch.from_numpy(values)).transform(torch.from_numpy(values)), out)


def test_transform_of_a_task_depends_on_the_fitted_tasks_only():
    fitted, new = MetaFeatureTransform.fit(spread(seed=0)), spread(seed=1)
    assert torch.equal(fitted(new)[:3], fitted(new[:3]))
    assert torch.equal(fitted(new)[0], fitted(new[0]))
    assert not torch.equal(MetaFeatureTransform.fit(new)(new), fitted(new))


def test_transform_is_bounded_for_extreme_values():
    fitted = MetaFeatureTransform.fit(spread())
    assert torch.equal(fitted(np.full((1, 37), 1e30)), torch.full((1, 37), 5.0))
    assert torch.equal(fitted(np.full((1, 37), -1e30)), torch.full((1, 37), -5.0))
    assert torch.isfinite(MetaFeatureTransform.fit(spread() * 1e30)(spread())).all()


def test_columns_that_are_constant_up_to_rounding_become_zero():
    values = spread()
    values[:, 0], values[:, 1], values[:, 2] = 5.0, 1e300, np.random.default_rng(0).normal(size=30) * 1e-16
    fitted = MetaFeatureTransform.fit(values)
    assert (fitted(spread(seed=1) * 1e9)[:, :3] == 0).all()
    assert (fitted(values)[:, 3:].std(0) > 0).all()
    assert (MetaFeatureTransform.fit(values[:1])(values) == 0).all()


def test_transform_survives_json():
    fitted = MetaFeatureTransform.fit(spread())
    back = MetaFeatureTransform.from_dict(json.loads(json.dumps(fitted.to_dict())))
    assert back == fitted
    assert torch.equal(back(spread(seed=1)), fitted(spread(seed=1)))


def test_transform_errors():
    fitted = MetaFeatureTransform.fit(spread())
    with pytest.raises(ValueError, match=r"^meta-feature values must be finite; leave missing rows to"):
        fitted(np.full((1, 37), np.nan))
    with pytest.raises(ValueError, match=r"^MetaFeatureTransform.fit needs at least one task, got 0$"):
        MetaFeatureTransform.fit(np.zeros((0, 37)))
    with pytest.raises(ValueError, match=r"^stored meta-features must be netformer.tasks.metafeatures.NAMES"):
        MetaFeatureTransform.from_dict({**fitted.to_dict(), "names": list(NAMES[::-1])})
