"""New files: a row is read as in the table that was fitted, whatever stands beside it in its own file."""

import numpy as np
import pandas as pd
import pytest
from commands import run

from netformer.errors import InputError
from netformer.tables.intake import match, take_in
from netformer.tables.labels import is_plain, numbers_in
from netformer.tables.reading import read

N = 60
pytestmark = pytest.mark.usefixtures("small_package")

MIXED = {  # cells of columns of text, some of which look like numbers, truth values or gaps
    "code": ["0101", "A303", "101", "1e3"],
    "answer": ["TRUE", "maybe", "FALSE", "true"],
    "version": ["1.0", "2.0b", "1", "2.0"],
    "zip": ["01097", "80331", "10115", "01-097"],
    "sold": ["2020-01-02", "20200103", "2020-03-04", "2021-12-24"],
}


def as_fitted(path):
    """How a table is read, and its features."""
    intake = take_in(path, "y")
    return read(intake.X, intake.y, target=intake.targets)[0].written(intake.columns), intake.X


@pytest.mark.parametrize("sep", [",", ";"])
def test_each_row_alone_is_read_as_in_the_whole_file(tmp_path, sep):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({name: rng.choice(cells, N) for name, cells in MIXED.items()})
    rare = {0: "010", 1: "10-12", 2: "TRUE", 3: "10.0"}  # that stand once, and are no levels
    table = table.assign(size=[rare.get(i, str(10 + 2 * (i % 3))) for i in range(N)], y=rng.normal(size=N))
    table.to_csv(tmp_path / "all.csv", index=False, sep=sep)
    reading, fitted = as_fitted(tmp_path / "all.csv")
    assert [column.kind for column in reading.table] == ["category"] * 4 + ["date", "category"]
    assert set(reading.table[-1].levels) == {"10", "12", "14"}
    whole, y, _ = match(tmp_path / "all.csv", reading)
    expected = reading.numbers(whole)
    np.testing.assert_array_equal(expected, reading.numbers(fitted))
    for i in range(N):
        table.iloc[[i]].to_csv(tmp_path / "one.csv", index=False, sep=sep)
        one, own, _ = match(tmp_path / "one.csv", reading)
        np.testing.assert_array_equal(reading.numbers(one)[0], expected[i])
        assert own == y[i]
        assert set(reading.outside(one)) == ({"size"} if i in rare else set())


@pytest.mark.parametrize("sep", [";", "\t", "|"])
def test_a_decimal_comma_holds_for_every_cell_of_a_file_and_for_later_files(tmp_path, sep):
    size = ["2,5", "3", "0,125", "12,75"] * 15
    net = ["7.341", "950", "12.000", "1.250"] * 15  # no comma in it
    price = ["1.234", "2.000", "3.500", "900"] * 15
    rows = [sep.join(cells) for cells in zip(size, net, price, strict=True)]
    (tmp_path / "all.csv").write_text("\n".join([sep.join(("size", "net", "y")), *rows]))
    intake = take_in(tmp_path / "all.csv", "y")
    assert intake.y[:4].tolist() == [1234, 2000, 3500, 900]
    assert intake.X[:4].to_numpy().tolist() == [[2.5, 7341], [3, 950], [0.125, 12000], [12.75, 1250]]
    assert [column.form for column in intake.columns.values()] == [",", ","]
    assert f"{tmp_path / 'all.csv'}: target 'y': numbers with a decimal comma" in intake.notes
    reading, _ = as_fitted(tmp_path / "all.csv")
    for some in (rows, rows[:1], rows[1:2], [rows[1], rows[3]]):
        (tmp_path / "new.csv").write_text("\n".join([sep.join(("size", "net", "y")), *some]))
        X, y, _ = match(tmp_path / "new.csv", reading)
        at = [rows.index(row) for row in some]
        np.testing.assert_array_equal(reading.numbers(X), reading.numbers(intake.X.iloc[at]))
        np.testing.assert_array_equal(y, intake.y[at])


def test_the_decimal_mark_of_a_file_says_what_its_target_is(tmp_path):
    x = np.random.default_rng(0).normal(size=N).round(2)
    table = pd.DataFrame({"x": x, "y": ["1.000", "2.000", "3.000"] * (N // 3)})
    table.to_csv(tmp_path / "all.csv", index=False, sep=";", decimal=",")
    intake = take_in(tmp_path / "all.csv", "y")
    assert not intake.classes
    assert intake.y[:3].tolist() == [1000, 2000, 3000]
    with pytest.raises(InputError, match="target 'y' must be numeric, found 'abc' in row 2"):
        numbers_in("y", pd.Series(["2,5", "abc", "3,1", "def"]))


def test_a_file_with_decimal_points_is_read_with_points_whatever_was_fitted(tmp_path):
    size = np.random.default_rng(0).normal(size=N).round(2)
    table = pd.DataFrame({"size": size, "n": np.arange(N) % 7, "y": 3 * size})
    table.to_csv(tmp_path / "all.csv", index=False, sep=";", decimal=",")
    reading, fitted = as_fitted(tmp_path / "all.csv")
    for sep in (",", ";"):
        table.to_csv(tmp_path / "new.csv", index=False, sep=sep)
        X, _, _ = match(tmp_path / "new.csv", reading)
        np.testing.assert_array_equal(reading.numbers(X), reading.numbers(fitted))


def test_groups_and_labels_stay_text(tmp_path):
    rng = np.random.default_rng(1)
    shop = np.array(["007", "A1", "012"])[np.arange(90) % 3]
    x, label = rng.normal(size=90), np.array(["TRUE", "FALSE", "maybe"])[np.arange(90) // 3 % 3]
    y = x * np.array([1.0, -1.0, 3.0])[np.arange(90) % 3]
    table = pd.DataFrame({"shop": shop, "x": x, "y": y, "label": label})
    table.to_csv(tmp_path / "all.csv", index=False)
    by = ("-t", "y", "--by", "shop", "--columns", "x", "-n", 1)
    run("generate", tmp_path / "all.csv", *by, "--out", tmp_path / "by", "--quiet")
    to = ("-t", "label", "--columns", "x,shop", "-n", 1, "--no-score")
    run("generate", tmp_path / "all.csv", *to, "--out", tmp_path / "classes", "--quiet")
    some = table[(table["shop"] == "007") & (table["label"] == "TRUE")]
    some.to_csv(tmp_path / "some.csv", index=False)
    found = {}
    for nets in ("by", "classes"):
        for file in ("all", "some"):
            out = tmp_path / f"{nets}-{file}.csv"
            done = run("predict", tmp_path / nets, tmp_path / f"{file}.csv", "--out", out)
            assert "without a network" not in done.stderr
            assert "no class fitted" not in done.stderr
            found[nets, file] = pd.read_csv(out, dtype={"label": str})
        whole = found[nets, "all"].iloc[some.index].reset_index(drop=True)
        pd.testing.assert_frame_equal(found[nets, "some"], whole, rtol=1e-9)


def test_levels_that_no_text_was_are_read_as_numbers(tmp_path):
    """Of columns of a categorical type, whose levels are numbers: 1.0 is 1 there."""
    assert all(map(is_plain, ("", "7", "-3", "2.5", "True", 7, True)))
    assert not any(map(is_plain, ("07", "1.0", "TRUE", "true", "1,000", "$5", "1e3", "A1")))
    x = pd.Categorical(["1", "2", "3"] * 20)
    reading, _, _ = read(pd.DataFrame({"x": x, "z": np.arange(60.0) % 9}), np.arange(60.0))
    (tmp_path / "new.csv").write_text("x,z\n1.0,3\n,4\n2.0,5\n")
    X, _, _ = match(tmp_path / "new.csv", reading)
    again = pd.DataFrame({"x": ["1", None, "2"], "z": [3.0, 4.0, 5.0]})
    np.testing.assert_array_equal(reading.numbers(X), reading.numbers(again))


@pytest.mark.parametrize(("written", "form"), [("%d.%m.%y", "%d.%m.%y"), ("%d/%m/%y %H:%M", "%d/%m/%y %H:%M")])
def test_dates_may_come_in_iso_8601_where_another_form_was_fitted(tmp_path, written, form):
    days = pd.date_range("2020-09-20 08:30", periods=N, freq="37h").floor("min")
    table = pd.DataFrame({"day": days.strftime(written), "y": np.arange(N) ** 1.5})
    table.to_csv(tmp_path / "all.csv", index=False)
    reading, _ = as_fitted(tmp_path / "all.csv")
    assert reading.table[0].form == form
    days = days if "%H" in form else days.normalize()
    table.assign(day=days.strftime("%Y-%m-%dT%H:%M")).to_csv(tmp_path / "new.csv", index=False)
    X, _, _ = match(tmp_path / "new.csv", reading)
    np.testing.assert_array_equal(reading.numbers(X), reading.numbers(table[["day"]]))
    like = f"must hold a date such as {pd.Timestamp(2026, 12, 31):{form}}, or 2026-12-31,"
    with pytest.raises(ValueError, match=like):
        reading.numbers(table[["day"]].replace(table["day"][3], "soon"))
