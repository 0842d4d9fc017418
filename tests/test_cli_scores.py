"""Command line: scores of networks on rows held out, what they are printed as, and which rows are held out."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from commands import run
from sklearn.impute import SimpleImputer
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from netformer import NetFormerRegressor, cross_validate
from netformer.benchmark.beside import ridge
from netformer.benchmark.folds import in_folds
from netformer.benchmark.scoring import HeldOut
from netformer.cli.scores import conclusions, plus_minus, which_to_use
from netformer.exports.population import Bundle

pytestmark = pytest.mark.usefixtures("small_package")


def cells(printed):
    """Rows of the tables that were printed."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.splitlines() if line.startswith("│")]


def test_generate_prints_scores_with_errors_and_names_the_best(folder):
    options = ("-n", 2, "--seed", 1, "--beside", "ridge,hgb,constant")
    printed = run("generate", folder / "t.csv", "--target", "price", *options).stdout
    rows = {row[0]: row[1:] for row in cells(printed)}
    assert set(rows) == {"wide", "single", "ridge", "hgb", "constant"}
    assert all(re.fullmatch(r"-?\d+\.\d{3} ± \d+\.\d{3}", row[0]) for row in rows.values())
    assert all(" ± " in cell for row in rows.values() for cell in row[1:3])
    assert all(re.match(r"(ahead|behind|level) [+-]", row[3]) for name, row in rows.items() if name != "wide")
    best = max(rows, key=lambda name: float(rows[name][0].split()[0]))
    assert f"Best here: {best}" in printed
    assert "price: 5-fold cross-validation, 4 times" in printed
    assert "of these rows lie within their interval of 90%" in printed
    assert (
        "Use wide: the 2 networks merged, mostly better than each alone; the one written is fitted on all 120 rows."
        in (printed)
    )


def test_networks_are_fitted_on_every_row_and_scores_are_of_rows_held_out(folder):
    """The saved networks are those of the estimator on the whole table; scores are those of cross_validate."""
    done = run("generate", folder / "t.csv", "-t", "price", "-n", 4, "--beside", "ridge", "--json")
    report = json.loads(done.stdout)
    table = pd.read_csv(folder / "t.csv")
    X, y = table[list("abcde")], table["price"]
    own = NetFormerRegressor(n_samples=4, random_state=0).fit(X, y)
    bundle = Bundle.load(folder / "nets")  # the same command with --out
    np.testing.assert_array_equal(bundle.predict(X), own.predict(X))
    assert report["rows"] == bundle.about["rows"] == 120
    expected = cross_validate(X, y, estimator=own, beside=["ridge"])
    found = {row.pop("method"): row for row in report["scores"]["methods"]}
    assert list(found) == list(expected.index) == [row["method"] for row in bundle.about["scores"]["methods"]][:3]
    for name, row in found.items():
        assert row == pytest.approx(expected.loc[name].to_dict())
    assert report["scores"]["best"] == expected.index[0]
    assert [row["coverage"] for row in report["scores"]["intervals"]] == [0.5, 0.8, 0.9, 0.95]
    assert [row["expected_r2"] for row in report["networks"]] == pytest.approx(own.networks_.expected_r2.tolist())
    assert report["default"] == "wide"


def test_without_scores_the_networks_are_the_same(folder, tmp_path):
    done = run("generate", folder / "t.csv", "-t", "price", "-n", 4, "--no-score", "--out", tmp_path / "nets")
    assert cells(done.stdout) == []
    assert done.stdout.startswith("Use wide: the 4 networks merged")
    X = pd.read_csv(folder / "t.csv")
    np.testing.assert_array_equal(Bundle.load(tmp_path / "nets").predict(X), Bundle.load(folder / "nets").predict(X))
    assert "scores" not in Bundle.load(tmp_path / "nets").about
    assert json.loads(run("generate", folder / "t.csv", "-t", "price", "--no-score", "--json").stdout)["scores"] is None


def test_whole_groups_later_rows_and_a_file_of_its_own_are_scored_on_request(folder, tmp_path):
    table = pd.read_csv(folder / "t.csv").assign(site=np.arange(120) % 6, day=pd.date_range("2024-01-01", periods=120))
    table.sample(frac=1, random_state=0).to_csv(tmp_path / "t.csv", index=False)
    table.head(30).rename(columns={"site": "Site"}).to_csv(tmp_path / "test.csv", index=False)

    def how(*options):
        arguments = ("generate", tmp_path / "t.csv", "-t", "price", "-n", 1, "--beside", "constant", "--json")
        return json.loads(run(*arguments, *options).stdout)

    grouped = how("--groups", "site", "--drop", "day")
    assert grouped["scores"]["how"] == "5-fold cross-validation, 4 times, 6 groups of 'site'"
    assert [row["name"] for row in grouped["columns"]] == list("abcde")  # new groups have no known level
    later = how("--time", "day", "--columns", "a,b")
    assert later["scores"]["how"] == "the last 40 rows by 'day', in 5 parts, each from all rows before it"
    assert [row["name"] for row in later["columns"]] == ["a", "b"]
    assert how("--in-order")["scores"]["rows"] == 40
    own = how("--drop", "site", "--test", tmp_path / "test.csv")
    assert own["scores"]["how"] == f"the 30 rows of {tmp_path / 'test.csv'}"
    assert own["rows"] == 120
    assert (
        f"{tmp_path / 'test.csv'}: 30 rows also in {tmp_path / 't.csv'}; a score on fitted rows is too good"
        in (own["notes"])
    )
    for name in ("site", "day"):
        done = run(
            "evaluate",
            tmp_path / "t.csv",
            "-t",
            "price",
            "-n",
            1,
            f"--{'groups' if name == 'site' else 'time'}",
            name,
            "--beside",
            "constant",
        )
        assert repr(name) in done.stdout


def test_a_test_file_is_scored_by_the_networks_of_the_table(folder, tmp_path):
    table = pd.read_csv(folder / "t.csv")
    table.head(80).to_csv(tmp_path / "fit.csv", index=False)
    table.tail(40)[["price", *"edcba"]].assign(price=lambda t: t["price"].where(t.index > 81)).to_csv(
        tmp_path / "test.csv", index=False
    )
    options = ("-t", "price", "-n", 2, "--test", tmp_path / "test.csv", "--beside", "ridge", "--json")
    report = json.loads(run("generate", tmp_path / "fit.csv", *options, "--out", tmp_path / "nets").stdout)
    rest, bundle = table.tail(38), Bundle.load(tmp_path / "nets")
    scores = {row["method"]: row["r2"] for row in report["scores"]["methods"]}
    assert scores["wide"] == pytest.approx(r2_score(rest["price"], bundle.predict(rest)))
    linear = ridge().fit(table.head(80)[list("abcde")], table.head(80)["price"])
    assert scores["ridge"] == pytest.approx(linear.score(rest[list("abcde")], rest["price"]))
    assert report["notes"] == [f"{tmp_path / 'test.csv'}: dropped 2 rows without a finite target 'price'"]


@pytest.mark.parametrize(
    ("value", "error", "shown"),
    [
        (43.5152, 2.2345, "43.5 ± 2.2"),
        (53.64, 0.0234, "53.640 ± 0.023"),
        (412345.6, 12345.6, "412346 ± 12346"),
        (1.5, float("nan"), "1.500"),
        (2.0, 0.0, "2.000 ± 0.000"),
        (float("nan"), 1.0, "-"),
    ],
)
def test_a_value_has_the_digits_of_its_error(value, error, shown):
    assert plus_minus(value, error) == shown


def test_the_sentences_below_the_scores():
    y = np.random.default_rng(0).normal(size=60)

    def said(rows=60, **predicted):
        one = {name: np.atleast_2d(values)[:, :rows] for name, values in predicted.items()}
        return conclusions(HeldOut(y[:rows], one, {}, np.arange(rows), np.arange(rows), ""))

    noise = np.random.default_rng(1).normal(size=60)
    near, far, mean = y + 0.1 * noise, y + 0.5 * noise, np.full(60, y.mean())
    assert said(wide=near, ridge=far) == ["Best here: wide."]
    assert said(wide=near, ridge=y + 0.1 * noise[::-1]) == ["Best here: wide. Level with it: ridge."]
    (line,) = said(wide=far, hgb=near)
    assert re.fullmatch(
        r"Best here: hgb; wide is behind it \(-0\.\d+ ± 0\.\d+\); if predictions are all you need, use hgb\.", line
    )
    (line,) = said(wide=y + 0.1001 * noise[::-1], ridge=near)
    assert line.startswith("Best here: ridge; wide is level with it (")
    assert said(wide=mean, constant=mean)[-1].startswith("wide is not ahead of the mean of the target")
    assert said(30, wide=near)[-1] == "30 rows are few, these scores are rough."
    y = np.ones(60)
    assert said(wide=near)[0].startswith("The target is the same in all rows held out: no R2")


def test_the_network_to_use_is_the_one_that_is_ahead():
    y, noise = np.random.default_rng(0).normal(size=(2, 60))

    class Written:
        expected_r2, about = np.array([0.1, 0.6, 0.2]), {"rows": 60}

        def __len__(self):
            return 3

    def said(**off):
        answers = {name: (y + much * noise)[None] for name, much in off.items()}
        return which_to_use(Written(), [HeldOut(y, answers, {}, np.arange(60), np.arange(60), "")])

    assert said(wide=0.5, single=0.1) == "Use --which 1: single, ahead of wide; it is fitted on all 60 rows."
    assert said(wide=0.1, single=0.5).startswith("Use wide: the 3 networks merged")
    assert said(wide=0.5, single=0.5, ridge=0.1).startswith("Use wide: the 3 networks merged")


def test_evaluate_prints_what_generate_prints_for_any_number_of_tables(folder):
    options = ("-t", "price", "-n", 2, "--beside", "ridge,constant")
    report = json.loads(run("evaluate", folder / "t.csv", folder / "text.csv", *options, "--json").stdout)
    one = json.loads(run("generate", folder / "t.csv", *options, "--json").stdout)
    assert [row["table"] for row in report["tables"]] == [str(folder / "t.csv"), str(folder / "text.csv")]
    scores = [{row["method"]: row["r2"] for row in found["methods"]} for found in (*report["tables"], one["scores"])]
    assert scores[0] == pytest.approx(scores[1])
    assert scores[0] == pytest.approx(scores[2])
    assert report["tables"][0]["said"] == one["said"][:-1]
    printed = run("evaluate", folder / "t.csv", folder / "text.csv", *options).stdout
    assert len(cells(printed)) == 2 * 4
    assert f"{folder / 'text.csv'}: price: 5-fold" in " ".join(printed.split())


def test_evaluate_fills_gaps_inside_each_fold(folder):
    """Against a pipeline of scikit-learn's on the same folds."""
    report = json.loads(
        run("evaluate", folder / "gaps.csv", "-t", "price", "-n", 1, "--beside", "ridge", "--json").stdout
    )
    table = pd.read_csv(folder / "gaps.csv")
    X, y = table[list("abcde")], table["price"].to_numpy()
    filled = SimpleImputer(strategy="median", add_indicator=True)
    whole = make_pipeline(filled, StandardScaler(), RidgeCV(np.logspace(-3, 3, 13)))
    plan, errors = in_folds(np.arange(120)), np.zeros((4, 120))
    for part in plan.parts:
        predicted = whole.fit(X.iloc[part.fitted], y[part.fitted]).predict(X.iloc[part.held_out])
        errors[part.repeat, part.held_out] = y[part.held_out] - predicted
    (row,) = (one for one in report["tables"][0]["methods"] if one["method"] == "ridge")
    assert row["r2"] == pytest.approx(1 - np.square(errors).mean() / y.var(), abs=1e-9)
