"""Command line: several targets, from `generate` to `predict`, and what it says of each."""

import json

import numpy as np
import pandas as pd
import pytest
from commands import refused, run

from netformer.exports.population import Bundle

pytestmark = pytest.mark.usefixtures("small_package")


@pytest.fixture
def table(tmp_path):
    """A file with two targets of numbers, one of them with a gap, and a column of classes."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(80, 2)).round(3), columns=["dose", "heat"])
    frame["pure"] = (frame["dose"] + frame["heat"]).round(3)
    frame["much"] = (1e6 * np.tanh(frame["dose"])).round()
    frame["kind"] = np.where(frame["heat"] > 0, "warm", "cold")
    frame.loc[3, "pure"] = np.nan
    frame.to_csv(tmp_path / "t.csv", index=False)
    return tmp_path / "t.csv"


def test_two_targets_are_written_scored_reported_and_predicted(table, tmp_path):
    out, page, answers = tmp_path / "nets", tmp_path / "r.html", tmp_path / "p.csv"
    options = ("-n", 2, "--beside", "ridge", "--drop", "kind", "--out", out, "--report", page)
    done = run("generate", table, "--target", "pure, much", *options, "--json")
    facts = json.loads(done.stdout)
    assert facts["targets"] == ["pure", "much"]
    assert list(facts["scores"]["targets"]) == ["pure", "much"]
    for own in facts["scores"]["targets"].values():
        assert {row["method"] for row in own["methods"]} == {"wide", "single", "ridge"}
        assert own["rows"] == 79
    assert "dropped 1 row without a finite value of every target, 'pure', 'much'" in " ".join(facts["notes"])
    assert [line.split(":")[0] for line in facts["said"]][-1] == "Use wide"
    assert {"pure", "much"} <= {line.split(":")[0] for line in facts["said"]}
    text = page.read_text()
    for title in ("Scores", "Intervals", "Curves", "The network"):
        assert f"pure: {title}" in text
        assert f"much: {title}" in text
    said = run("predict", out, table, "--out", answers, "--interval", 0.8).stdout
    assert "pure: R2 " in said
    assert "much: R2 " in said
    found, bundle = pd.read_csv(answers), Bundle.load(out)
    assert list(found) == [f"{name}{end}" for name in ("pure", "much") for end in ("", "_low", "_high")]
    rows = pd.read_csv(table).drop(columns=["pure", "much", "kind"])
    np.testing.assert_allclose(found[["pure", "much"]], bundle.predict(rows))
    np.testing.assert_allclose(found[["much_low", "much_high"]], bundle.predict_interval(rows, 0.8)[:, 1])
    run("export", out, "--out", tmp_path / "files", "--format", "html")
    assert "How good, much" in (tmp_path / "files" / "wide.html").read_text()
    assert "pure" in run("inspect", out, "--which", 0).stdout


def test_a_target_that_is_named_twice_or_with_blanks_is_one(table):
    for named in ("pure,pure", " pure", "pure,"):
        facts = json.loads(run("generate", table, "--target", named, "-n", 1, "--no-score", "--json").stdout)
        assert [one["name"] for one in facts["columns"]] == ["dose", "heat", "much", "kind"]


def test_targets_that_do_not_go_together_are_one_line(table):
    assert "target 'kind' looks like classes, and several targets are numbers" in refused(
        "generate", table, "--target", "pure,kind"
    )
    assert "no column 'none'" in refused("generate", table, "--target", "pure,none")
    assert "--by is for one target, got 'pure', 'much'" in refused(
        "generate", table, "--target", "pure,much", "--by", "kind"
    )
    assert "'much' is the target, which is never read" in refused(
        "generate", table, "--target", "pure,much", "--drop", "much"
    )
