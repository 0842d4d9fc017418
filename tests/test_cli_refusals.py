"""Command line: one line for every bad input, and nothing is written or overwritten; text that is not plain."""

import json

import numpy as np
import pandas as pd
import pytest
from commands import refused, run
from typer.testing import CliRunner

from netformer.cli.app import app

pytestmark = pytest.mark.usefixtures("small_package")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("absent.csv", "absent.csv: no such file; give the path of a table: .csv, .tsv, .txt"),
        ("nets", "nets: is a folder; give one file: .csv, .tsv, .txt"),
        ("one_level.csv", "no column can be used beside the target: a: one level in all rows; b: one level"),
        ("names.csv", "beside the target: who: a text that differs in nearly every row"),
        ("endless.csv", "column 'b' must be finite, found inf in row 7; leave the cell empty"),
        ("twice.csv", "column names must be unique, found more than once: 'a'"),
        ("latin.csv", "the text must be UTF-8, found byte 0xf6 in line 1; probably cp1252"),
        ("text_target.csv", "target 'price' must vary, found one class, 'cheap' in all rows; choose another column"),
        ("mixed_target.csv", "target 'price' holds 91 different values in 120 rows, too many for classes: '0', '1'"),
        (
            "unique_target.csv",
            "it looks like an identifier, or a number with cells that are none; choose another column",
        ),
        ("date_target.csv", "target 'price' holds dates, neither numbers nor classes: write them as a number, such as"),
        ("empty_target.csv", "target 'price' holds no value; choose another column"),
        ("constant.csv", "target 'price' must vary, found 1 in all rows; choose another column"),
        ("small.csv", "a table needs at least 10 rows with a target, found 9; add rows"),
        ("colon.csv", "found one column only, 'a:b:c:d:e:price'; name what separates columns by --sep"),
        ("nothing.csv", "a table needs a header and rows, found an empty file"),
    ],
)
@pytest.mark.parametrize("command", ["generate", "evaluate"])
def test_a_bad_table_is_one_line_and_nothing_is_written(folder, tmp_path, command, table, message):
    out = ("--out", tmp_path / "out") if command == "generate" else ()
    assert message in refused(command, folder / table, "--target", "price", *out)
    assert list(tmp_path.iterdir()) == []


def test_unknown_columns_bring_the_nearest_names_and_the_target_is_none(folder, tmp_path):
    table, out = folder / "text.csv", ("--out", tmp_path / "out")
    assert "no column 'City'; did you mean 'city'?" in refused("generate", table, "-t", "price", "--drop", "City", *out)
    assert "no column 'x'; found a, b, c" in refused("evaluate", table, "-t", "price", "--columns", "a,x")
    message = refused("generate", table, "-t", "price", "--drop", "price", *out)
    assert "'price' is the target, which is never read; leave it out of --drop" in message
    message = refused("generate", table, "-t", "price", "--columns", "a", "--drop", "a", *out)
    assert "no column is left beside the target 'price'; name more, or drop fewer" in message
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_target_brings_the_nearest_names(folder):
    assert "no column 'prize'; did you mean 'price'?" in refused("generate", folder / "t.csv", "--target", "prize")


def test_what_cannot_be_scored_is_one_line_and_nothing_is_written(folder, tmp_path):
    table = pd.read_csv(folder / "t.csv").assign(site="one", day=pd.Timestamp("2024-01-01"), who=["a", "b"] * 60)
    given, test, out = tmp_path / "t.csv", tmp_path / "test.csv", ("--out", tmp_path / "out")
    table = table.assign(late=np.where(table.index > 3, 1.0, np.nan))
    table.to_csv(given, index=False)
    table.drop(columns="price").to_csv(test, index=False)
    table.rename(columns={"c": "C "}).to_csv(tmp_path / "other.csv", index=False)
    table.assign(price=np.nan).to_csv(tmp_path / "unknown.csv", index=False)
    for options, message in (
        (("--groups", "sit"), "t.csv: no column 'sit'; did you mean 'site'?"),
        (("--groups", "site"), "t.csv: groups must be at least 2, found one in all 120 rows; choose another column"),
        (("--groups", "price"), "'price' is the target; --groups and --time need another column"),
        (("--time", "who"), "t.csv: time must be a column of dates or numbers, 'who' holds text; choose another"),
        (("--time", "late"), "t.csv: time must be known in every row, 'late' is not in row 1; drop such rows"),
        (
            ("--time", "day"),
            "t.csv: rows must differ in time, found one time in all rows to be held out (day); choose another",
        ),
        (("--groups", "who", "--columns", "who"), "no column is left beside the target and 'who', which is not read"),
        (
            ("--groups", "who", "--in-order"),
            "--groups and --in-order exclude each other: each says which rows are held out; give one",
        ),
        (("--test", tmp_path / "absent.csv"), "absent.csv: no such file; give --test the path of a table"),
        (("--test", test), "test.csv: a test file must have the target, a column 'price' with numbers"),
        (("--test", tmp_path / "unknown.csv"), "unknown.csv: a test file must have the target, a column 'price'"),
        (
            ("--test", tmp_path / "other.csv"),
            "other.csv: the table lacks 'c', read by the networks; did you mean 'C '?",
        ),
        (
            ("--by", "who", "--in-order"),
            "--by holds back a fifth of the rows; leave --groups, --time, --in-order, --test",
        ),
        (("--beside", "ridge,xgb"), "what stands beside must be of ridge, hgb, catboost, constant, got 'xgb'"),
    ):
        for command in ("generate", "evaluate")[: 1 if "--by" in options else 2]:
            written = out if command == "generate" else ()
            assert message in refused(command, given, "-t", "price", "-n", 1, *options, *written)
    assert {path.name for path in tmp_path.iterdir()} == {"t.csv", "test.csv", "other.csv", "unknown.csv"}


def test_rows_that_are_few_are_said(folder, tmp_path):
    table = pd.read_csv(folder / "t.csv").head(20)
    table.to_csv(tmp_path / "few.csv", index=False)
    done = run("generate", tmp_path / "few.csv", "-t", "price", "-n", 1, "--beside", "constant")
    assert "20 rows are few, these scores are rough." in done.stdout


def test_wrong_use_is_one_line_too(folder):
    assert "Missing option '--target'" in refused("generate", folder / "t.csv")
    assert "No such command 'write'" in refused("write")
    assert "n_samples must be a whole number of at least 1, got 0" in refused(
        "generate", folder / "t.csv", "-t", "price", "-n", 0
    )
    assert "--out must end in .csv, .tsv or .parquet" in refused(
        "predict", folder / "nets", folder / "t.csv", "--out", "p"
    )


@pytest.mark.parametrize("which", ["4", "-1", "best", "1.0"])
def test_a_network_that_is_not_there(folder, tmp_path, which):
    message = refused("predict", folder / "nets", folder / "t.csv", "--out", tmp_path / "p.csv", "--which", which)
    assert f"--which must be wide, mean or a network from 0 to 3, got '{which}'" in message


def test_what_exists_is_not_overwritten(folder, tmp_path):
    kept = tmp_path / "kept.csv"
    kept.write_text("mine")
    (tmp_path / "full").mkdir()
    message = "exists already, nothing was overwritten; choose another --out or remove it"
    assert message in refused("generate", folder / "t.csv", "-t", "price", "--out", tmp_path / "full")
    assert message in refused("predict", folder / "nets", folder / "t.csv", "--out", kept)
    assert message in refused("export", folder / "nets", "--format", "json", "--out", tmp_path / "full")
    below = refused("generate", folder / "t.csv", "-t", "price", "--out", kept / "nets")
    assert "kept.csv is a file; choose another --out" in below
    assert kept.read_text() == "mine"
    assert list((tmp_path / "full").iterdir()) == []


def test_a_damaged_bundle_is_refused_by_every_reader(folder, tmp_path):
    bad = tmp_path / "bad"
    bad.mkdir()
    for file in (folder / "nets").iterdir():
        (bad / file.name).write_bytes(file.read_bytes()[:-9])
    for arguments in (
        ("inspect", bad),
        ("predict", bad, folder / "t.csv", "--out", tmp_path / "p.csv"),
        ("export", bad, "--format", "json", "--out", tmp_path / "e"),
    ):
        assert str(bad) in refused(*arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]


def test_how_text_is_read_is_an_option_and_a_note_of_every_command(tmp_path):
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 4)), columns=["größe", "b", "c", "y"])
    german, bare, nets = tmp_path / "german.csv", tmp_path / "bare.txt", tmp_path / "nets"
    german.write_bytes(table.to_csv(sep=";", decimal=",", index=False).encode("cp1252"))
    table.to_csv(bare, sep=":", index=False, header=False)
    assert "probably cp1252" in refused("generate", german, "-t", "y")
    said = f"{german}: read 60 rows and 4 columns, separated by a semicolon, with ',' as decimal mark"
    common = ("-t", "y", "-n", 2, "--encoding", "cp1252", "--beside", "constant")
    notes = json.loads(run("generate", german, *common, "--out", nets, "--json").stdout)["notes"]
    assert notes == run("evaluate", german, *common).stderr.splitlines()
    assert notes == [said]
    done = run("predict", nets, german, "--encoding", "cp1252", "--out", tmp_path / "p.csv", "--json")
    assert json.loads(done.stdout)["notes"] == [said]
    done = run("generate", bare, "-t", "x3", "-n", 2, "--no-header", "--sep", ":", "--no-score", "--json")
    assert [row["name"] for row in json.loads(done.stdout)["columns"]] == ["x0", "x1", "x2"]
    piped = CliRunner().invoke(
        app, ["generate", "-", "-t", "y", "--no-score", "--json"], input=table.to_csv(index=False)
    )
    assert json.loads(piped.stdout)["rows"] == 60
