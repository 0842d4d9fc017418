"""Networks by group from the command line: written, scored, predicted, exported, and one line for bad input."""

import json

import numpy as np
import pandas as pd
import pytest
from commands import refused, run, small_model
from readers import imported

from netformer import Groups


@pytest.fixture(scope="module", autouse=True)
def model():
    with small_model():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(0)
    store = rng.integers(0, 6, 150)
    table = pd.DataFrame(
        {"store": [f"s{i}" for i in store], "price": rng.normal(size=150), "size": rng.normal(size=150)}
    )
    table["units"] = 3.0 * store + (1 + store) * table["price"] + 0.1 * rng.normal(size=150)
    table.loc[0, "store"], table.loc[1, "store"] = "once", None
    table.to_csv(path / "sales.csv", index=False)
    options = ("--target", "units", "--by", "store", "-n", 4)
    done = run("generate", path / "sales.csv", *options, "--out", path / "nets")
    (path / "said.txt").write_text(done.stdout)
    (path / "notes.txt").write_text(done.stderr)
    return path


def test_scores_stand_beside_the_whole_table_and_the_mean_of_the_group(folder):
    said, notes = (folder / "said.txt").read_text(), (folder / "notes.txt").read_text()
    for part in (
        "by group",
        "whole",
        "group mean",
        "constant",
        "on 30 rows held back",
        "one per 'store'",
        "all 150 rows",
    ):
        assert part in said
    assert notes.count("lean wholly on the whole table, 2 rows: store '(no name)', 'once'") == 1
    done = json.loads(run("generate", folder / "sales.csv", "-t", "units", "--by", "store", "-n", 4, "--json").stdout)
    assert done["scores"]["by group"]["r2"] > done["scores"]["whole"]["r2"] + 0.1
    assert done["scores"]["by group"]["mae"] < done["scores"]["group mean"]["mae"]
    assert set(done["groups"]) == {f"s{i}" for i in range(6)}
    assert sum(done["groups"].values()) == 148
    assert done["rows"] == 150


def test_the_column_of_groups_may_have_a_comma_beside_chosen_columns(folder, tmp_path):
    pd.read_csv(folder / "sales.csv").rename(columns={"store": "store, town"}).to_csv(tmp_path / "t.csv", index=False)
    options = ("--by", "store, town", "--columns", "price", "-n", 1)
    done = json.loads(run("generate", tmp_path / "t.csv", "-t", "units", *options, "--json").stdout)
    assert set(done["groups"]) == {f"s{i}" for i in range(6)}


def test_one_predict_serves_all_groups(folder):
    table = pd.read_csv(folder / "sales.csv")
    new = table.drop(columns="units").iloc[::-1]
    new.to_csv(folder / "new.csv", index=False)
    done = run("predict", folder / "nets", folder / "new.csv", "--out", folder / "p.csv", "--interval", 0.8)
    assert "2 rows of groups without a network of their own are predicted by that of the whole table" in done.stderr
    answer = pd.read_csv(folder / "p.csv")
    assert list(answer.columns) == ["units", "units_low", "units_high"]
    groups = Groups.load(folder / "nets")
    with pytest.warns(UserWarning, match="without a network"):
        np.testing.assert_allclose(answer["units"], groups.predict(new), rtol=1e-9)
    assert (answer["units_low"] < answer["units_high"]).all()
    done = run("predict", folder / "nets", folder / "sales.csv", "--out", folder / "q.csv")
    assert "R2 0.9" in done.stdout


def test_one_group_is_looked_at_and_exported(folder):
    run("export", folder / "nets", "--group", "s3", "--format", "numpy", "--out", folder / "code")
    rows = pd.read_csv(folder / "sales.csv").query("store == 's3'")
    answers = imported(folder / "code" / "wide_numpy.py").predict(rows)
    np.testing.assert_allclose(answers, Groups.load(folder / "nets").predict(rows), rtol=0, atol=1e-4)
    assert "wide" in run("inspect", folder / "nets", "--group", "s3").stdout


def test_bad_input_is_one_line(folder, tmp_path):
    nets, sales, out = folder / "nets", folder / "sales.csv", tmp_path / "out"
    by = ("generate", sales, "--target", "units", "--by")
    assert "no column 'shop'; found store, price" in refused(*by, "shop")
    assert "--by must be another column than the target" in refused(*by, "units")
    assert "must name groups of at least 2 rows" in refused(*by, "price")
    assert "--report is a page about one network" in refused(*by, "store", "--report", tmp_path / "page.html")
    assert "holds a network per 'store'; name one, such as --group 's0'" in refused(
        "export", nets, "--format", "c", "--out", out
    )
    assert "'store' must be one of 's0'" in refused("inspect", nets, "--group", "s9")
    assert "each group is answered by its wide network" in refused(
        "predict", nets, sales, "--out", tmp_path / "p.csv", "--which", "mean"
    )
    pd.read_csv(sales).drop(columns="store").to_csv(tmp_path / "bare.csv", index=False)
    lacking = refused("predict", nets, tmp_path / "bare.csv", "--out", tmp_path / "p.csv")
    assert "must have one column 'store'" in lacking
    assert not out.exists()
    assert not (tmp_path / "p.csv").exists()
