"""Many small tables: a network per group in one pass, small groups lean on the whole table, one predict for all."""

import json
import shutil
import warnings

import numpy as np
import pandas as pd
import pytest
from readers import imported

from netformer import Groups, InputError, NetFormerRegressor, Population, export, fit_many
from netformer.arrays import functions as xp
from netformer.exports.groups import design
from netformer.generation.many import PENALTIES, _fits, _parts_of, _scales

SIZES = {"north": 60, "south": 40, "a": 9, "b": 3}  # rows, and one of a group of one row


def table_of(per_group=None, seed=0):
    """Groups of one function that differ by a shift, a factor and a slope; one column is constant in each group."""
    rng = np.random.default_rng(seed)
    per_group = SIZES | {"once": 1} if per_group is None else per_group
    name = np.repeat(list(per_group), list(per_group.values()))
    code = np.repeat(np.arange(len(per_group)), list(per_group.values()))
    n, like = len(name), np.random.default_rng(5)
    shift, factor, slope = like.normal(size=999), np.exp(0.4 * like.normal(size=999)), like.normal(size=999)
    X = pd.DataFrame({"x": rng.normal(size=n), "w": rng.normal(size=n), "size": 10.0 + code})
    y = factor[code] * np.sin(2 * X["x"]) + shift[code] + slope[code] * X["w"] + 0.1 * rng.normal(size=n)
    order = rng.permutation(n)
    return X.assign(store=name).iloc[order].reset_index(drop=True), y.to_numpy()[order]


@pytest.fixture(scope="module")
def groups():
    X, y = table_of()
    with pytest.warns(UserWarning, match=r"1 of 5 groups have fewer than 2 rows, .* 1 rows: store 'once'") as said:
        fitted = fit_many(X, y, "store", random_state=0, n_samples=4)
    assert len(said) == 1
    return fitted


def test_groups_are_a_dict_of_populations(groups):
    assert groups.names == ("a", "b", "north", "south")
    assert list(groups) == ["a", "b", "north", "south"]
    assert len(groups) == 4
    assert "a" in groups
    assert "once" not in groups
    assert dict(zip(groups.names, groups.rows, strict=True)) == SIZES
    assert isinstance(groups["a"], Population)
    assert groups["a"].about["group"] == {"store": "a"}
    assert repr(groups).startswith("Groups: 4 networks for 'y', one per 'store', 3 columns\nrows per group: 3 to 60")
    assert len(repr(groups).splitlines()) <= 5
    with pytest.raises(InputError, match=r"'store' must be one of 'a', 'b', 'north', 'south', got 'x'"):
        groups["x"]


@pytest.mark.parametrize("coverage", [None, 0.8])
def test_predictions_are_those_of_each_group_alone(groups, coverage):
    X, _ = table_of(SIZES, seed=1)
    X = X[["store", "w", "size", "x"]]
    together = groups.predict(X) if coverage is None else groups.predict_interval(X, coverage)
    for name in groups:
        at = (X["store"] == name).to_numpy()
        own, rows = groups[name], X[at].drop(columns="store")
        alone = own.predict(rows) if coverage is None else own.predict_interval(rows, coverage)
        np.testing.assert_allclose(together[at], alone, rtol=1e-9, atol=1e-9)


def test_a_row_of_another_group_is_answered_by_the_whole_table_with_a_notice(groups):
    X, _ = table_of(SIZES, seed=2)
    other = X.assign(store=np.where(X["store"] == "a", "new", np.where(X["store"] == "b", None, X["store"])))
    said = r"12 rows of groups without a network of their own are predicted by that of the whole table: store '', 'new'"
    with pytest.warns(UserWarning, match=said):
        answers = groups.predict(other)
    at = X["store"].isin(["a", "b"]).to_numpy()
    whole = groups.whole.predict(X.drop(columns="store"))
    np.testing.assert_allclose(answers[at], whole[at], rtol=1e-9, atol=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        interval = groups.predict_interval(other)
    np.testing.assert_allclose(interval[at], groups.whole.predict_interval(X.drop(columns="store"))[at], atol=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        known = groups.predict(X)
    np.testing.assert_array_equal(answers[~at], known[~at])


def test_groups_lean_on_the_whole_table_the_more_the_fewer_rows_they_have():
    """40 groups of 6 rows: ahead of one network for all, and of one fitted to each group alone; groups that do not
    differ stay with the whole table."""
    X, y = table_of({f"g{i}": 6 for i in range(40)})
    new, known = table_of({f"g{i}": 20 for i in range(40)}, seed=3)
    fitted = fit_many(X, y, "store", random_state=0)

    def error(answer):
        return float(np.square(answer - known).mean())

    alone = np.zeros(len(new))
    for name in ("g0", "g1", "g2", "g3", "g4"):
        seen, asked = X["store"] == name, new["store"] == name
        one = NetFormerRegressor(random_state=0).fit(X.loc[seen, ["x", "w"]].to_numpy(), y[seen])
        alone[asked] = one.predict(new.loc[asked, ["x", "w"]].to_numpy())
    five = new["store"].isin(["g0", "g1", "g2", "g3", "g4"]).to_numpy()
    answer = fitted.predict(new)
    assert error(answer) < 0.5 * error(fitted.whole.predict(new.drop(columns="store")))
    assert np.square(answer - known)[five].mean() < 0.5 * np.square(alone - known)[five].mean()
    ends = fitted.predict_interval(new)
    assert 0.8 < ((ends[:, 0] <= known) & (known <= ends[:, 1])).mean() < 0.99
    same = np.sin(2 * X["x"]).to_numpy()
    like = fit_many(X, same + 0.3 * np.random.default_rng(0).normal(size=len(same)), "store", random_state=0)
    moved = like.predict(new) - like.whole.predict(new.drop(columns="store"))
    assert moved.std() < 0.2


def test_errors_of_rows_left_out_are_those_of_fits_without_them():
    rng = np.random.default_rng(0)
    for rows in (2, 5, 30):
        v, left = xp.from_numpy(rng.normal(size=(rows, 7))), xp.from_numpy(rng.normal(size=rows))
        weights, errors = _fits(v, left, (1, 3, 7))
        assert errors.shape == (rows, 3 * len(PENALTIES) + 1)
        np.testing.assert_array_equal(errors[:, -1], left)
        for shape, size in enumerate((1, 3, 7)):
            for at in (0, 5, 10):
                penalty, d = float(PENALTIES[at]), v[:, :size].numpy()
                full = np.linalg.solve(d.T @ d + penalty * np.eye(size), d.T @ left.numpy())
                np.testing.assert_allclose(weights[shape][:, at], full, atol=1e-5)
                keep = np.arange(rows) > 0
                w = np.linalg.solve(d[keep].T @ d[keep] + penalty * np.eye(size), d[keep].T @ left.numpy()[keep])
                expected = float(left[0]) - d[0] @ w
                np.testing.assert_allclose(errors[0, shape * len(PENALTIES) + at], expected, rtol=1e-6, atol=1e-9)


def test_what_a_group_adds_is_one_output_layer(groups):
    z = xp.from_numpy(np.random.default_rng(0).normal(size=(50, 3)))
    parts, made = _parts_of(groups.whole.wide, z.numpy()), design(groups.whole.wide, z)
    d = xp.from_numpy(np.random.default_rng(1).normal(size=parts.sizes[-1]))
    v = parts.of(made)
    assert v.shape == (50, 2 + 3 + made.shape[1] - 4)
    np.testing.assert_allclose(made @ parts.output(d), v @ d, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(v[:, 1].std(correction=0), 1.0, rtol=1e-6)
    np.testing.assert_allclose(v[:, 5:].numpy().var(0).sum(), 1.0, rtol=0.2)


def test_scales_follow_the_errors_of_each_group(groups):
    rng = np.random.default_rng(0)
    z, rows = rng.normal(size=(4000, 3)), [np.arange(2000), np.arange(2000, 4000)]
    t = groups.whole.outputs(z, "wide")[:, 0] + 10.0 * rng.normal(size=4000)
    error = rng.normal(size=4000) * np.repeat([1.0, 3.0], 2000)
    scale, scores = _scales(groups.whole, z, t, error, rows)
    assert 2.5 < scale[1] / scale[0] < 3.1  # drawn a little to each other
    assert (np.diff(scores) >= 0).all()


def test_saved_and_loaded_they_answer_the_same(tmp_path, groups):
    X, _ = table_of(SIZES, seed=1)
    groups.save(tmp_path / "nets")
    loaded = Groups.load(tmp_path / "nets")
    np.testing.assert_array_equal(loaded.predict(X), groups.predict(X))
    np.testing.assert_array_equal(loaded.predict_interval(X), groups.predict_interval(X))
    assert repr(loaded) == repr(groups)
    held = b"".join(path.read_bytes() for path in sorted((tmp_path / "nets").rglob("*")) if path.is_file())
    assert b"north" in held
    assert b"once" not in held  # the name of a group of one row
    with pytest.raises(InputError, match="must be a new or an empty folder"):
        groups.save(tmp_path / "nets")


def spoil(folder, key, value):
    path = folder / "groups.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda folder: (folder / "groups.json").unlink(), "groups.json or groups.safetensors is missing"),
        (lambda folder: shutil.rmtree(folder / "whole"), "must be a file that Bundle.save wrote"),
        (lambda folder: (folder / "groups.json").write_text("[]"), "must be a folder that Groups.save wrote"),
        (lambda folder: (folder / "groups.safetensors").write_bytes(b"0"), "changed since it was written"),
        (lambda folder: spoil(folder, "format", 2), "of another format"),
        (lambda folder: spoil(folder, "names", ["a", "a", "b", "c"]), "must have a name of its own"),
        (lambda folder: spoil(folder, "rows", [1]), "must have a name of its own"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(tmp_path, groups, harm, said):
    groups.save(tmp_path / "nets")
    harm(tmp_path / "nets")
    with pytest.raises(InputError, match=said) as caught:
        Groups.load(tmp_path / "nets")
    assert "\n" not in str(caught.value)


def test_one_group_is_exported_as_any_network(tmp_path, groups):
    X, _ = table_of({"north": 20}, seed=4)
    rows = X.drop(columns="store")
    for format in ("numpy", "torch"):
        (path,) = export(groups["north"], "wide", tmp_path / f"north_{format}.py", format)
        module = imported(path)
        if format == "numpy":
            answers = module.predict(rows)
            ends = np.array(module.predict_interval(rows, 0.9))
            np.testing.assert_allclose(ends, groups["north"].predict_interval(rows, 0.9), rtol=0, atol=1e-5)
        else:
            answers = module.load()(module.encode(rows)).detach().numpy()[:, 0]
        np.testing.assert_allclose(answers, groups["north"].predict(rows), rtol=0, atol=1e-5)
    groups["a"].save(tmp_path / "a")
    np.testing.assert_array_equal(Population.load(tmp_path / "a").predict(rows), groups["a"].predict(rows))


def test_one_group_a_constant_target_and_names_that_are_numbers():
    X, y = table_of({"1": 30, "2": 30})
    X = X.assign(store=X["store"].astype(float))  # 1.0 is the group 1
    fitted = fit_many(X, y, "store", random_state=0, n_samples=2)
    assert fitted.names == ("1", "2")
    np.testing.assert_array_equal(fitted.predict(X), fitted.predict(X.astype({"store": int})))
    only = fit_many(X.assign(store="all"), y, "store", random_state=0, n_samples=2)
    assert only.names == ("all",)
    constant = fit_many(X, np.full(len(y), 7.0), "store", random_state=0, n_samples=2)
    np.testing.assert_allclose(constant.predict(X), 7.0)


def test_bad_input_is_one_line():
    X, y = table_of(SIZES)
    with pytest.raises(InputError, match="X must be a DataFrame with the column 'store', got ndarray"):
        fit_many(X[["x", "w"]].to_numpy(), y, "store")
    with pytest.raises(InputError, match="the table must have one column 'shop', which names the group; found 'x'"):
        fit_many(X, y, "shop")
    with pytest.raises(InputError, match="'x' must name groups of at least 2 rows, found 112 with fewer"):
        fit_many(X, y, "x")
    with pytest.raises(InputError, match=r"y must be \(rows,\), one target, got \(112, 2\)"):
        fit_many(X, np.column_stack([y, y]), "store")
    with pytest.raises(InputError, match="coverage must be a number between 0 and 1"):
        fit_many(X, y, "store", n_samples=1, random_state=0).predict_interval(X, 1.5)
