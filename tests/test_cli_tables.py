"""Command line: a table as people hold it, from file to prediction; what is assumed of it and left out is said."""

import json

import numpy as np
import pandas as pd
import pytest
from commands import dirty_table, refused, run

from netformer.errors import InputError
from netformer.exports.population import Bundle
from netformer.generation.estimator import NetFormerRegressor
from netformer.tables.intake import take_in

N = 200


pytestmark = pytest.mark.usefixtures("small_package")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, small_package):
    path = tmp_path_factory.mktemp("dirty")
    dirty_table(N).to_csv(path / "flats.csv", sep=";", index=False)
    options = ("-t", "rent", "--drop", "cents", "-n", 4, "--beside", "ridge")
    report = run("generate", path / "flats.csv", *options, "--out", path / "nets", "--json").stdout
    (path / "generate.json").write_text(report)
    return path


def test_every_column_is_listed_with_what_became_of_it(folder):
    report = json.loads((folder / "generate.json").read_text())
    rows = {row.pop("name"): row for row in report["columns"]}
    assert list(rows) == [name for name in dirty_table() if name not in ("cents", "rent")]
    kinds = {name: row["kind"] for name, row in rows.items()}
    assert {name for name in kinds if kinds[name] == "left out"} == {"id", "land", "place"}
    assert {name for name in kinds if kinds[name] == "number"} == {"area", "built", "costs", "share"}
    assert (kinds["town"], kinds["heat"], kinds["since"]) == ("category", "category", "date")
    assert rows["place"]["note"] == "a copy of town"
    assert rows["town"]["inputs"].startswith("town (mean)")
    assert "heat = missing" in rows["heat"]["inputs"]
    name = folder / "flats.csv"
    assert report["notes"] == [
        f"{name}: read {N} rows and 12 columns, separated by a semicolon, with ',' as decimal mark",
        f"{name}: target 'rent': numbers with a decimal comma",
        f"{name}: left out: 'id' (a row number or an id), 'land' (one level in all rows), 'place' (a copy of town)",
        f"{name}: numbers with a decimal comma; the cell in row {N} taken for a gap: 'area'",
        f"{name}: -999 taken for a gap: 'built'",
        f"{name}: numbers with a decimal comma: 'costs', 'share'",
    ]
    scores = {row["method"]: row["r2"] for row in report["scores"]["methods"]}
    assert min(scores["wide"], scores["ridge"]) > 0.9


def test_the_networks_read_the_file_as_the_table_was(folder, tmp_path):
    bundle, table = Bundle.load(folder / "nets"), dirty_table(N)
    X = table.assign(area=table["area"].where(table["area"] != "on request"))[[*bundle.reading.given]]
    y = table["rent"].str.extract(r"([\d,]+)")[0].str.replace(",", ".").astype(float).to_numpy()
    own = NetFormerRegressor(n_samples=4, random_state=0).fit(X, y)
    np.testing.assert_allclose(bundle.predict(X), own.predict(X))
    run("predict", folder / "nets", folder / "flats.csv", "--out", tmp_path / "p.csv", "--quiet")
    np.testing.assert_allclose(pd.read_csv(tmp_path / "p.csv")["rent"], bundle.predict(X))
    printed = run("inspect", folder / "nets").stdout
    assert all(
        name in printed for name in ("heat = missing", "town (mean)", "a copy of town", "on request") if " =" in name
    )
    assert "-999 taken for a gap" in printed


def test_new_rows_come_in_any_order_and_what_is_odd_is_said(folder, tmp_path):
    table = dirty_table(N).head(6)
    new = table[["share", "since", "costs", "built", "heat", "town", "area"]].assign(remark="-")
    new.loc[0, "area"], new.loc[1, "town"], new.loc[2, ["heat", "share"]] = "900,0", "elsewhere", None
    new.to_csv(tmp_path / "new.csv", index=False)
    done = run("predict", folder / "nets", tmp_path / "new.csv", "--out", tmp_path / "p.csv")
    assert "'remark', not in the table that was fitted" in done.stderr
    assert "outside of what was fitted, and read as its edge: 'area' in 1, 'town' in 1 of 6 rows" in done.stderr
    found = pd.read_csv(tmp_path / "p.csv")["rent"]
    assert np.isfinite(found).all()
    with pytest.warns(UserWarning, match="columns that were not fitted are ignored: remark"):
        np.testing.assert_allclose(found, Bundle.load(folder / "nets").predict(new[new.columns[::-1]]))
    report = run("predict", folder / "nets", tmp_path / "new.csv", "--out", tmp_path / "q.csv", "--json").stdout
    assert json.loads(report)["outside"] == {"area": 1, "town": 1}
    new.assign(built="old").to_csv(tmp_path / "bad.csv", index=False)
    message = refused("predict", folder / "nets", tmp_path / "bad.csv", "--out", tmp_path / "none.csv")
    assert (
        "bad.csv: column 'built' must hold a number in every row, as in the table that was fitted; found 'old'"
        in message
    )
    assert not (tmp_path / "none.csv").exists()


def test_a_column_that_gives_the_target_away_is_said_by_its_name(folder):
    table, said = folder / "flats.csv", "'cents' alone predicts 'rent' with an R2 of 1.0000"
    assert said in run("generate", table, "-t", "rent", "-n", 1, "--no-score").stderr
    done = run("evaluate", table, "-t", "rent", "-n", 1, "--columns", "cents,town", "--beside", "constant")
    assert said in done.stderr


def test_evaluate_reads_it_too_and_what_stands_beside_reads_as_well(folder):
    done = run(
        "evaluate", folder / "flats.csv", "-t", "rent", "--drop", "cents,id", "-n", 2, "--beside", "hgb", "--json"
    )
    (found,) = json.loads(done.stdout)["tables"]
    assert {row["method"] for row in found["methods"]} == {"wide", "single", "hgb"}
    assert all(row["r2"] > 0.8 for row in found["methods"])
    assert f"{folder / 'flats.csv'}: -999 taken for a gap: 'built'" in found["notes"]
    assert [row["name"] for row in found["columns"] if row["kind"] == "left out"] == ["land", "place"]


@pytest.fixture
def numbers():
    return pd.DataFrame(np.random.default_rng(1).normal(size=(60, 3)), columns=["a", "b", "y"])


def notes_of(table, path, **options):
    table.to_csv(path / "t.csv", index=False)
    return [note.removeprefix(f"{path / 't.csv'}: ") for note in take_in(path / "t.csv", "y", **options).notes]


def test_targets_as_people_write_them(numbers, tmp_path):
    dollars = numbers.assign(y=[f"${1000 + i:,}" for i in range(60)])
    dollars.to_csv(tmp_path / "t.csv", index=False)
    np.testing.assert_array_equal(take_in(tmp_path / "t.csv", "y").y, 1000.0 + np.arange(60))
    odd = numbers.assign(y=[*map(str, range(57)), "?", "soon", "-"])
    assert notes_of(odd, tmp_path) == [
        "target 'y': numbers; the cell in row 59 taken for a gap",
        "dropped 3 rows without a finite target 'y'",
    ]


@pytest.mark.parametrize(("levels", "said"), [(3, True), (10, True), (11, False)])
def test_a_target_of_few_whole_numbers_is_taken_for_a_number_and_said(numbers, tmp_path, levels, said):
    text = f"target 'y' holds {levels} whole numbers, 4 to {levels + 3}, and is taken for a number; if they are classes"
    assert (
        any(note.startswith(text) for note in notes_of(numbers.assign(y=numbers.index % levels + 4), tmp_path)) == said
    )
    assert notes_of(numbers.assign(y=numbers.index % levels + 0.5), tmp_path) == []


def test_a_target_that_stands_for_a_gap_and_rows_that_repeat_are_said(numbers, tmp_path):
    notes = notes_of(numbers.assign(y=numbers["y"].where(numbers.index > 3, -999)), tmp_path)
    assert notes == ["target 'y' is -999 in 4 rows, far from all other values; if it stands for a gap, empty it"]
    (note,) = notes_of(pd.concat([numbers, numbers.head(10)]), tmp_path)
    assert note.startswith("10 rows the same as an earlier one; a score on copies of fitted rows is too good")
    assert notes_of(pd.concat([numbers, numbers.head(1)]), tmp_path) == []


def test_columns_are_settled_on_every_row_of_the_file(numbers, tmp_path):
    """A cell that is no number is a gap wherever it stands; text stays text where the rows fitted look like numbers."""
    text = ["x", "y"] * 4 + [str(i % 5) for i in range(52)]  # 13 % are no numbers
    table = numbers.assign(a=["n.v.", *map(str, range(59))], b=text, y=np.arange(60.0) + 0.5)
    table.loc[3, "y"] = np.nan
    table.to_csv(tmp_path / "t.csv", index=False)
    intake = take_in(tmp_path / "t.csv", "y")
    assert intake.X["a"].isna().tolist() == [True] + [False] * 58
    assert isinstance(intake.X["b"].dtype, pd.CategoricalDtype)
    assert intake.X.index.tolist() == [i for i in range(60) if i != 3]
    with pytest.raises(InputError, match="column 'a' must be finite, found -inf in row 9; leave the cell empty"):
        notes_of(numbers.assign(a=np.where(numbers.index == 8, -np.inf, 1.0)), tmp_path)


def test_ten_thousand_levels_are_left_out_or_read(tmp_path):
    rows = 10_000
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.normal(size=rows), "who": [f"person {i}" for i in range(rows)]})
    table = table.assign(y=table["a"] + 0.1 * rng.normal(size=rows))
    table.to_csv(tmp_path / "t.csv", index=False)
    done = run("generate", tmp_path / "t.csv", "-t", "y", "-n", 1, "--no-score")
    assert "left out: 'who' (a text that differs in nearly every row (10000 of 10000))" in done.stderr
    some = table.assign(who=[f"person {i // 4}" for i in range(rows)])
    some.to_csv(tmp_path / "t.csv", index=False)
    report = json.loads(run("generate", tmp_path / "t.csv", "-t", "y", "-n", 1, "--no-score", "--json").stdout)
    assert report["columns"][1]["inputs"].startswith("who (mean)")


def test_cells_of_several_types_are_read_or_left_out_with_the_reason(tmp_path):
    rows = [{"a": i % 9, "b": ["x", 1, None, 2.5, True][i % 5], "c": [i], "y": i * 1.5} for i in range(40)]
    (tmp_path / "t.json").write_text(json.dumps(rows))
    report = json.loads(run("generate", tmp_path / "t.json", "-t", "y", "-n", 1, "--beside", "hgb", "--json").stdout)
    found = {row["name"]: (row["kind"], row["note"][:24]) for row in report["columns"]}
    assert found == {"a": ("number", ""), "b": ("category", ""), "c": ("left out", "holds lists or the like")}
    message = refused("generate", tmp_path / "t.json", "-t", "c")
    assert "target 'c' must hold text, numbers or truth values, found [0]" in message


def test_columns_are_kept_beside_the_features_as_they_stand(numbers, tmp_path):
    table = numbers.assign(site=["n", "s"] * 30).assign(y=numbers["y"].where(numbers.index > 1))
    table.to_csv(tmp_path / "t.csv", index=False)
    intake = take_in(tmp_path / "t.csv", "y", drop="site", keep=["site", "a"])
    assert list(intake.X) == ["a", "b"]
    assert list(intake.kept["site"]) == ["n", "s"] * 29
    pd.testing.assert_series_equal(intake.kept["a"], intake.X["a"])
    with pytest.raises(InputError, match="no column 'sites'; did you mean 'site'"):
        take_in(tmp_path / "t.csv", "y", keep=["sites"])
