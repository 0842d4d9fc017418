"""The command `search`: a front for a table, kept, drawn, gone on with; bad input is one line."""

import json

import numpy as np
import pandas as pd
import pytest
from commands import refused, run

from netformer.exports.population import Population

pytestmark = pytest.mark.usefixtures("small_package")
RUN = ("-t", "price", "--evaluations", 40, "--population", 20)


def test_a_front_is_printed_kept_and_drawn(folder, tmp_path):
    out, page = tmp_path / "front", tmp_path / "front.html"
    asked = ("--objectives", "error,columns", "--max-columns", 3, "--out", out, "--report", page, "--json")
    facts = json.loads(run("search", folder / "t.csv", *RUN, *asked).stdout)
    front = Population.load(out)
    assert len(front) == len(facts["front"]) >= 1
    table = pd.read_csv(folder / "t.csv")
    for i, fact in enumerate(facts["front"]):
        assert fact["columns"] == len(fact["reads"]) <= 3
        other = table.assign(**{name: 0.0 for name in "abcde" if name not in fact["reads"]})
        np.testing.assert_array_equal(front.predict(table, i), front.predict(other, i))
    assert page.read_text().count('class="graph"') == len(front)
    assert front.about["search"]["front"] == facts["front"]


def test_networks_of_a_front_are_named_where_they_are_used(folder, tmp_path):
    run("search", folder / "t.csv", *RUN, "--no-score", "--out", tmp_path / "front")
    commands = {"new.csv": ("predict", tmp_path / "front", folder / "t.csv")}
    commands["new"] = ("export", tmp_path / "front", "--format", "c")
    for name, command in commands.items():
        assert "name one: --which 0, .. or --which" in refused(*command, "--out", tmp_path / name)
        assert not (tmp_path / name).exists()
    run("predict", tmp_path / "front", folder / "t.csv", "--which", 0, "--out", tmp_path / "p.csv")


def test_the_r2_is_on_rows_that_the_search_has_not_seen(folder, tmp_path):
    """Other targets there change nothing but the R2."""
    from netformer.cli.by import rows_to_train_on

    table = pd.read_csv(folder / "t.csv")
    table.loc[~rows_to_train_on(len(table), 0), "price"] *= -1
    table.to_csv(tmp_path / "turned.csv", index=False)
    one, two = (
        json.loads(run("search", path, *RUN, "--json").stdout) for path in (folder / "t.csv", tmp_path / "turned.csv")
    )
    assert [fact.pop("r2") for fact in one["front"]] != [fact.pop("r2") for fact in two["front"]]
    assert one["front"] == two["front"]
    assert one["hypervolume"] == two["hypervolume"]
    assert "r2" not in json.loads(run("search", folder / "t.csv", *RUN, "--no-score", "--json").stdout)["front"][0]


def test_it_goes_on_with_the_same_result(folder, tmp_path):
    more = ("-t", "price", "--population", 20, "--json")
    straight = run("search", folder / "t.csv", *more, "--evaluations", 60).stdout
    run("search", folder / "t.csv", *more, "--evaluations", 20, "--resume", tmp_path / "kept")
    assert run("search", folder / "t.csv", *more, "--evaluations", 60, "--resume", tmp_path / "kept").stdout == straight


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--objectives", "error,speed"), "objective must be a function or one of error"),
        (("--objectives", "error,error"), "an objective may be named once, got 'error' twice"),
        (("--max-params", 1), "max_params must be at least 2 for any network, got 1"),
        (("--evaluations", 0), "evaluations must be a whole number of at least 1, got 0"),
        (("--space", "trees"), "space must be one of latents"),
        (("--report", "front.txt"), "--report must end in .html"),
        (("--task", "classification"), "No such option"),
    ],
)
def test_bad_input_is_one_line(folder, options, message):
    assert message in refused("search", folder / "t.csv", *RUN, *options)
