"""Command line with a small untrained model: what it prints, what it writes, and one line for every bad input."""

import json
import runpy
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from commands import refused, run
from rich.console import Console
from sklearn.metrics import r2_score

from netformer import __version__
from netformer.arrays import functions as xp
from netformer.cli.app import app
from netformer.cli.describe import columns_table, influence, overview, overview_table, structure, weight_tables
from netformer.evaluation.comparison import plain_r2
from netformer.exports.population import Bundle

COMMANDS = [command.callback.__name__ for command in app.registered_commands]


pytestmark = pytest.mark.usefixtures("small_package")


def test_help_comes_at_once_and_documents_the_exit_codes():
    start = time.perf_counter()
    code = "import sys, netformer.cli.app; print(*{'torch', 'pandas', 'sklearn', 'numpy'} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout == "\n"
    assert time.perf_counter() - start < 5  # 0.2 s on an idle machine
    for command in COMMANDS:
        assert "Exit codes: 0 fine; 2 bad input" in " ".join(run(command, "--help").stdout.split())


def test_the_module_runs_and_a_failure_is_one_line():
    done = subprocess.run(
        [sys.executable, "-m", "netformer", "inspect", "absent"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("netformer: absent: no such folder of networks; write it: netformer generate")


def test_the_version_is_said_and_no_arguments_are_no_error():
    assert run("--version").stdout == f"netformer {__version__}\n"
    bare = run()
    assert bare.stderr == ""
    assert bare.stdout.split() == run("--help").stdout.split()
    assert refused("foretell").startswith("netformer: No such command 'foretell'.")


def test_r2_is_scikit_learns_at_any_scale_and_unknown_for_a_constant():
    y, predicted = np.random.default_rng(0).normal(size=(2, 30))
    assert plain_r2(y, predicted) == pytest.approx(r2_score(y, predicted))
    assert plain_r2(y * 1e200, predicted * 1e200) == pytest.approx(r2_score(y, predicted))
    assert np.isnan(plain_r2(np.ones(5), y[:5]))


@pytest.mark.parametrize("suffix", ["tsv", "parquet"])
def test_every_format_gives_the_same_answer(folder, suffix):
    boards = [
        json.loads(run("generate", folder / f"t.{kind}", "-t", "price", "-n", 2, "--beside", "ridge", "--json").stdout)[
            "scores"
        ]
        for kind in ("csv", suffix)
    ]
    assert boards[0] == boards[1]


def test_the_constraints_of_the_prompt_reach_the_networks(folder):
    options = ("--max-params", 40, "--max-hidden-layers", 1, "--activations", "relu,tanh", "--no-score", "--json")
    report = json.loads(run("generate", folder / "t.csv", "-t", "price", "-n", 4, *options).stdout)
    singles = report["networks"]
    assert all(row["n_params"] <= 40 and row["structure"].split()[0].count("-") == 2 for row in singles)
    assert {row["structure"].replace(",", "").split()[1] for row in singles} <= {"relu", "tanh"}
    assert "activations must be" in refused("generate", folder / "t.csv", "-t", "price", "--activations", "relu,sin")
    assert "max_params must be at least" in refused("generate", folder / "t.csv", "-t", "price", "--max-params", 3)


def test_what_is_left_out_and_rows_without_a_target_are_a_note_each(folder):
    result = run("generate", folder / "text.csv", "-t", "price", "-n", 1, "--no-score")
    assert result.stderr == f"{folder / 'text.csv'}: left out: 'city' (one level in all rows)\n"
    result = run("generate", folder / "no_target.csv", "-t", "price", "-n", 1, "--no-score")
    assert result.stderr == f"{folder / 'no_target.csv'}: dropped 3 rows without a finite target 'price'\n"
    report = json.loads(run("generate", folder / "text.csv", "-t", "price", "-n", 1, "--no-score", "--json").stdout)
    kinds = {row["name"]: (row["kind"], row["note"]) for row in report["columns"]}
    assert kinds == dict.fromkeys("abcde", ("number", "")) | {"city": ("left out", "one level in all rows")}


def test_columns_and_drop_decide_what_is_read(folder):
    def read(*options):
        done = run("generate", folder / "t.csv", "-t", "price", "-n", 1, "--no-score", "--json", *options)
        return [row["name"] for row in json.loads(done.stdout)["columns"]]

    assert read("--columns", "c, a") == ["c", "a"]
    assert read("--drop", "e,b") == ["a", "c", "d"]
    assert read("--columns", "a,b,c", "--drop", "b") == ["a", "c"]
    done = run("evaluate", folder / "t.csv", "-t", "price", "-n", 1, "--drop", "a", "--beside", "", "--json")
    assert [row["name"] for row in json.loads(done.stdout)["tables"][0]["columns"]] == list("bcde")


def test_gaps_are_filled_with_medians_of_the_rows_fitted(folder, tmp_path):
    nets, out = tmp_path / "nets", tmp_path / "p.csv"
    run("generate", folder / "gaps.csv", "-t", "price", "-n", 2, "--no-score", "--out", nets)
    table = pd.read_csv(folder / "gaps.csv")
    bundle = Bundle.load(nets)
    middle = table["b"].dropna().quantile(0.5, interpolation="lower")
    assert bundle.reading.table[1].fill == middle
    run("predict", nets, folder / "gaps.csv", "--out", out)
    np.testing.assert_allclose(pd.read_csv(out)["price"], bundle.predict(table))
    if not any(one.part == "missing" for one in bundle.reading.inputs):
        np.testing.assert_allclose(bundle.predict(table), bundle.predict(table.fillna({"b": middle})))


def test_json_and_quiet_say_nothing_else(folder, tmp_path):
    for arguments in (
        ("generate", folder / "no_target.csv", "-t", "price", "-n", 2, "--beside", "ridge"),
        ("inspect", folder / "nets"),
        ("predict", folder / "nets", folder / "t.csv", "--out", tmp_path / "p"),
        ("evaluate", folder / "t.csv", "-t", "price", "-n", 2, "--beside", "ridge"),
        ("export", folder / "nets", "--format", "json", "--out", tmp_path / "e"),
        ("info",),
    ):
        for number, flag in enumerate(("--json", "--quiet")):
            own = [f"{a}{number}.csv" if a in (tmp_path / "p", tmp_path / "e") else a for a in arguments]
            result = run(*own, flag)
            assert result.stderr == ""
            assert isinstance(json.loads(result.stdout), dict) if flag == "--json" else result.stdout == ""


def test_inspect_lists_networks_shows_weights_and_draws(folder, tmp_path):
    picture = tmp_path / "net.svg"
    printed = run("inspect", folder / "nets", "--which", 2, "--draw", picture).stdout
    bundle = Bundle.load(folder / "nets")
    assert all(structure(bundle.networks, i) in printed for i in range(4))
    assert "hidden layer 1" in printed
    assert all(len(line) <= 160 for line in printed.splitlines())
    weight = bundle.networks.matrices(2)[0][0]
    strongest = int(weight[0].abs().argmax())
    assert f"{'abcde'[strongest]}:{float(weight[0, strongest]):+.3f}" in printed
    assert "output layer" in printed
    assert ">network 2</text>" in picture.read_text()
    assert "exists already" in refused("inspect", folder / "nets", "--draw", picture)
    report = json.loads(run("inspect", folder / "nets", "--which", 2, "--json").stdout)
    found = report["networks"][2]["layers"]
    for layer, (weight, _, name) in zip(found, bundle.networks.matrices(2), strict=True):
        assert layer["activation"] == name
        np.testing.assert_allclose(layer["weight"], weight)


def test_inspect_can_be_read_at_80_columns(folder):
    """No cell is cut, no pair of an input and its number is broken, and a unit takes at most two lines."""
    population = Bundle.load(folder / "nets")
    tables = [overview_table(overview(population), "t"), columns_table(population)]
    tables += weight_tables(population.networks, 0, population.reading.input_names)
    for table in tables:
        console = Console(width=80, file=StringIO())
        console.print(table, markup=False)
        lines = console.file.getvalue().splitlines()
        cells = [cell.strip() for line in lines if line.startswith("│") for cell in line.split("│")]
        assert max(map(len, lines)) <= 80
        assert not any(cell.endswith((":", "…")) or cell.startswith(("+", ":")) for cell in cells)
        assert len(lines) <= 4 + 2 * table.row_count + (table.title is not None)


def test_influence_is_the_mean_absolute_slope(folder):
    """Against finite differences on the same rows."""
    networks = Bundle.load(folder / "nets").networks
    double = type(networks)(networks.specs, networks.weight.double())
    x = xp.randn(1, 256, 5, generator=xp.Generator().manual_seed(0)).double()
    for column in range(5):
        step = np.zeros(5)
        step[column] = 1e-6
        slope = (double.predict(x + step) - double.predict(x - step)).abs().mean(1) / 2e-6
        np.testing.assert_allclose(influence(double)[:, column], slope, rtol=1e-3, atol=1e-4)


def test_structure_in_a_line(folder):
    networks = Bundle.load(folder / "nets").networks
    line = structure(networks, 0)
    assert line.startswith("5-")
    assert line.split()[0].endswith("-1")
    assert ("skip" in line) == bool(networks.specs.skip[0])


@pytest.mark.parametrize("which", ["wide", "mean", "1"])
@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_predictions_follow_names_not_places(folder, tmp_path, which, suffix):
    table = pd.read_csv(folder / "t.csv")
    table[["extra", *"edcba"]] = table[["price", *"edcba"]]
    table[["extra", *"edcba"]].to_csv(tmp_path / "new.csv", index=False)
    out = tmp_path / f"p.{suffix}"
    run("predict", folder / "nets", tmp_path / "new.csv", "--out", out, "--which", which)
    read = {"csv": pd.read_csv, "tsv": lambda p: pd.read_csv(p, sep="\t"), "parquet": pd.read_parquet}[suffix]
    expected = Bundle.load(folder / "nets").predict(table[list("abcde")].to_numpy(), 1 if which == "1" else which)
    np.testing.assert_allclose(read(out)["price"], expected)


def test_predict_names_missing_columns_and_reports_r2_where_it_can(folder, tmp_path):
    pd.read_csv(folder / "t.csv")[["a", "b", "e"]].to_csv(tmp_path / "new.csv", index=False)
    message = refused("predict", folder / "nets", tmp_path / "new.csv", "--out", tmp_path / "p.csv")
    assert "new.csv: the table lacks 'c', 'd', read by the networks; found 'a', 'b', 'e'" in message
    pd.read_csv(folder / "t.csv").rename(columns={"c": "C "}).to_csv(tmp_path / "new.csv", index=False)
    message = refused("predict", folder / "nets", tmp_path / "new.csv", "--out", tmp_path / "p.csv")
    assert "the table lacks 'c', read by the networks; did you mean 'C '?" in message
    assert not (tmp_path / "p.csv").exists()
    printed = run("predict", folder / "nets", folder / "no_target.csv", "--out", tmp_path / "p.csv").stdout
    assert "on the 117 rows that have the target, too high if some were fitted" in printed


def test_exports_of_several_formats_share_a_folder_and_answer_alike(folder, tmp_path):
    formats = [part for name in ("onnx", "onnx32", "torch", "json", "c", "numpy") for part in ("--format", name)]
    said = run("export", folder / "nets", "--out", tmp_path / "e", *formats, "--which", "mean").stdout
    names = {"mean.onnx", "mean_float32.onnx", "mean_torch.py", "mean.json", "mean.c", "mean_csv.c", "mean_numpy.py"}
    assert {Path(line.split()[-1]).name for line in said.splitlines()} == names
    assert {path.name for path in (tmp_path / "e").iterdir()} == names
    X = pd.read_csv(folder / "t.csv")[list("abcde")].to_numpy()
    own = runpy.run_path(str(tmp_path / "e" / "mean_numpy.py"))["predict"](X.tolist())
    np.testing.assert_allclose(own, Bundle.load(folder / "nets").predict(X, "mean"))


def test_a_format_that_is_none_leaves_nothing(folder, tmp_path):
    message = refused("export", folder / "nets", "--out", tmp_path / "e", "--format", "json", "--format", "pickle")
    assert "'pickle' is not one of 'onnx', 'onnx32', 'torch', 'sklearn', 'json', 'c', 'numpy'" in message
    assert list(tmp_path.iterdir()) == []


def test_info_names_the_weights():
    facts = json.loads(run("info", "--json").stdout)
    assert facts["torch"] == torch.__version__
    assert facts["steps"] > 0
    assert facts["parameters"] > 1000
    assert "max_width" in run("info").stdout
