"""Command line with a small untrained model: what it prints, what it writes, and one line for every bad input."""

import json
import runpy
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import make_friedman1
from sklearn.impute import SimpleImputer
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from typer.testing import CliRunner

from netformer.cli.app import app
from netformer.cli.describe import influence, structure
from netformer.cli.leaderboard import plain_r2, ridge_pipeline, rows_to_train_on
from netformer.exports.population import Bundle
from netformer.generation import estimator
from netformer.generation.generator import NetFormer
from netformer.model.vae import TransformerVAE
from netformer.tasks.metafeatures import MetaFeatureTransform

torch.set_num_threads(1)
TINY = {"max_features": 8, "max_hidden_layers": 2, "max_width": 6, "n_metafeatures": 37, "d_model": 16, "n_heads": 2}
COMMANDS = ("generate", "inspect", "predict", "export", "evaluate", "info")


def run(*arguments, code=0):
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"NO_COLOR": "1"}, catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def refused(*arguments):
    """The one line of stderr."""
    result = run(*arguments, code=2)
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture(scope="module", autouse=True)
def small_model():
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        torch.manual_seed(0)
        model = TransformerVAE.from_arguments(d_vertex=2, d_row=16, condition="task", **TINY).eval()
        patch.setattr(estimator, "_package", lambda: NetFormer(model, MetaFeatureTransform((0.0,), (1.0,))))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """t.csv, t.tsv, t.parquet: one table; nets: networks written for it; other tables have one flaw each."""
    path = tmp_path_factory.mktemp("cli")
    X, y = make_friedman1(120, n_features=5, noise=0.5, random_state=0)
    table = pd.DataFrame(X, columns=list("abcde")).assign(price=y)
    table.to_csv(path / "t.csv", index=False)
    table.to_csv(path / "t.tsv", index=False, sep="\t")
    table.to_parquet(path / "t.parquet")
    table.assign(city="Rome").to_csv(path / "text.csv", index=False)
    table.assign(a="low", b="x", c="y", d="z", e="w").to_csv(path / "only_text.csv", index=False)
    table.assign(price="cheap").to_csv(path / "text_target.csv", index=False)
    table.assign(price=1.0).to_csv(path / "constant.csv", index=False)
    table.assign(c=np.nan).to_csv(path / "empty_column.csv", index=False)
    table.assign(b=table["b"].where(table.index > 4)).to_csv(path / "gaps.csv", index=False)
    table.assign(price=table["price"].where(table.index > 2)).to_csv(path / "no_target.csv", index=False)
    table.head(9).to_csv(path / "small.csv", index=False)
    (path / "twice.csv").write_text((path / "t.csv").read_text().replace("a,b", "a,a", 1))
    (path / "latin.csv").write_bytes("größe,price\n1,2\n".encode("latin-1"))
    (path / "semicolon.csv").write_text((path / "t.csv").read_text().replace(",", ";"))
    (path / "nothing.csv").write_text("")
    run("generate", path / "t.csv", "--target", "price", "-n", 4, "--out", path / "nets", "--quiet")
    return path


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


def test_the_leaderboard_holds_every_network_and_the_baselines(folder):
    printed = run("generate", folder / "t.csv", "--target", "price", "-n", 3, "--seed", 1).stdout
    names = [line.split("│")[1].strip() for line in printed.splitlines() if line.startswith("│")]
    assert sorted(names) == sorted(["0", "1", "2", "mean", "wide", "ridge", "constant"])
    assert "default: wide (R2" in printed


def test_scores_are_of_rows_nobody_was_fitted_on(folder):
    """Independently: ridge and the saved networks on the same rows, by scikit-learn."""
    report = json.loads(run("generate", folder / "t.csv", "--target", "price", "-n", 4, "--json").stdout)
    scores = {row["name"]: row["r2"] for row in report["leaderboard"]}
    table = pd.read_csv(folder / "t.csv")
    X, y, train = table[list("abcde")].to_numpy(), table["price"].to_numpy(), rows_to_train_on(120, 0)
    assert report["rows"] == {"trained": 96, "held_back": 24} == {"trained": train.sum(), "held_back": (~train).sum()}
    assert scores["ridge"] == pytest.approx(ridge_pipeline().fit(X[train], y[train]).score(X[~train], y[~train]))
    bundle = Bundle.load(folder / "nets")  # the same command with --out
    np.testing.assert_allclose(bundle.reading.center, X[train].mean(0))
    for name in ("wide", "mean", "0", "3"):
        predicted = bundle.predict(X[~train], int(name) if name.isdecimal() else name)
        assert scores[name] == pytest.approx(r2_score(y[~train], predicted), abs=1e-6)
    assert bundle.about["r2"] == pytest.approx(scores)
    values = [row["r2"] for row in report["leaderboard"]]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize(("rows", "held"), [(10, 2), (11, 2), (13, 3), (100, 20)])
def test_a_fifth_is_held_back_and_the_seed_decides(rows, held):
    assert (~rows_to_train_on(rows, 0)).sum() == held
    assert np.array_equal(rows_to_train_on(rows, 3), rows_to_train_on(rows, 3))


def test_r2_is_scikit_learns_at_any_scale_and_unknown_for_a_constant():
    y, predicted = np.random.default_rng(0).normal(size=(2, 30))
    assert plain_r2(y, predicted) == pytest.approx(r2_score(y, predicted))
    assert plain_r2(y * 1e200, predicted * 1e200) == pytest.approx(r2_score(y, predicted))
    assert np.isnan(plain_r2(np.ones(5), y[:5]))


@pytest.mark.parametrize("suffix", ["tsv", "parquet"])
def test_every_format_gives_the_same_answer(folder, suffix):
    boards = [
        json.loads(run("generate", folder / f"t.{kind}", "-t", "price", "-n", 2, "--json").stdout)["leaderboard"]
        for kind in ("csv", suffix)
    ]
    assert boards[0] == boards[1]


def test_the_constraints_of_the_prompt_reach_the_networks(folder):
    options = ("--max-params", 40, "--max-hidden-layers", 1, "--activations", "relu,tanh", "--json")
    report = json.loads(run("generate", folder / "t.csv", "-t", "price", "-n", 4, *options).stdout)
    singles = [row for row in report["leaderboard"] if row["name"].isdecimal()]
    assert all(row["n_params"] <= 40 and row["structure"].split()[0].count("-") == 2 for row in singles)
    assert {row["structure"].replace(",", "").split()[1] for row in singles} <= {"relu", "tanh"}
    assert "activations must be" in refused("generate", folder / "t.csv", "-t", "price", "--activations", "relu,sin")
    assert "max_params must be at least" in refused("generate", folder / "t.csv", "-t", "price", "--max-params", 3)


def test_columns_that_are_not_numeric_and_rows_without_target_are_left_out_in_one_line_each(folder):
    result = run("generate", folder / "text.csv", "-t", "price", "-n", 1)
    assert "left out, not numeric: city (as 'Rome'); encode them" in result.stderr
    assert result.stderr.count("\n") == 1
    result = run("generate", folder / "no_target.csv", "-t", "price", "-n", 1)
    assert "dropped 3 rows without a finite target 'price'" in result.stderr
    report = json.loads(run("generate", folder / "text.csv", "-t", "price", "-n", 1, "--json").stdout)
    assert (report["columns"], report["left_out"]) == (list("abcde"), ["city"])


def test_gaps_are_filled_when_asked_with_the_medians_of_train_rows_alone(folder, tmp_path):
    nets, out = tmp_path / "nets", tmp_path / "p.csv"
    result = run("generate", folder / "gaps.csv", "-t", "price", "-n", 2, "--impute", "median", "--out", nets)
    assert "filled 5 gaps with the medians" in result.stderr
    b = pd.read_csv(folder / "gaps.csv")["b"].to_numpy()
    bundle = Bundle.load(nets)
    middle = np.nanmedian(b[rows_to_train_on(120, 0)])
    assert bundle.about["medians"][1] == middle
    assert "missing or infinite values in b (5); fill them, or say --impute median" in refused(
        "predict", nets, folder / "gaps.csv", "--out", out
    )
    run("predict", nets, folder / "gaps.csv", "--out", out, "--impute", "median")
    X = pd.read_csv(folder / "gaps.csv")[list("abcde")].fillna({"b": middle}).to_numpy()
    np.testing.assert_allclose(pd.read_csv(out)["price"], bundle.predict(X))


def test_json_and_quiet_say_nothing_else(folder, tmp_path):
    for arguments in (
        ("generate", folder / "no_target.csv", "-t", "price", "-n", 2),
        ("inspect", folder / "nets"),
        ("predict", folder / "nets", folder / "t.csv", "--out", tmp_path / "p"),
        ("evaluate", folder / "t.csv", "-t", "price", "-n", 2),
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
    assert "output layer" in printed
    assert ">network 2</text>" in picture.read_text()
    assert "exists already" in refused("inspect", folder / "nets", "--draw", picture)
    report = json.loads(run("inspect", folder / "nets", "--which", 2, "--json").stdout)
    found = report["networks"][2]["layers"]
    for layer, (weight, _, name) in zip(found, bundle.networks.matrices(2), strict=True):
        assert layer["activation"] == name
        np.testing.assert_allclose(layer["weight"], weight)


def test_influence_is_the_mean_absolute_slope(folder):
    """Against finite differences on the same rows."""
    networks = Bundle.load(folder / "nets").networks
    double = type(networks)(networks.specs, networks.weight.double())
    g = torch.Generator().manual_seed(0)
    x = torch.randn(1, 256, 5, generator=g).double()
    for column in range(5):
        step = torch.zeros(5, dtype=torch.float64)
        step[column] = 1e-6
        slope = (double.predict(x + step) - double.predict(x - step)).abs().mean(1) / 2e-6
        torch.testing.assert_close(influence(double)[:, column], slope, rtol=1e-3, atol=1e-4)


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
    assert "new.csv: the networks read columns that it lacks: c, d; add or rename them" in message
    assert not (tmp_path / "p.csv").exists()
    printed = run("predict", folder / "nets", folder / "no_target.csv", "--out", tmp_path / "p.csv").stdout
    assert "on the 117 rows that have the target" in printed


def test_exports_of_several_formats_share_a_folder_and_answer_alike(folder, tmp_path):
    formats = [part for name in ("onnx", "torch", "json", "c", "numpy") for part in ("--format", name)]
    run("export", folder / "nets", "--out", tmp_path / "e", *formats, "--which", "mean")
    names = {"mean.onnx", "mean_torch.py", "mean.json", "mean.c", "mean_numpy.py"}
    assert {path.name for path in (tmp_path / "e").iterdir()} == names
    X = pd.read_csv(folder / "t.csv")[list("abcde")].to_numpy()
    own = runpy.run_path(str(tmp_path / "e" / "mean_numpy.py"))["predict"](X.tolist())
    np.testing.assert_allclose(own, Bundle.load(folder / "nets").predict(X, "mean"))


def test_a_format_that_cannot_express_the_network_leaves_nothing(folder, tmp_path):
    message = refused("export", folder / "nets", "--out", tmp_path / "e", "--format", "json", "--format", "sklearn")
    assert "MLPRegressor, got 'wide'; use torch or onnx" in message
    assert list(tmp_path.iterdir()) == []
    message = refused("export", folder / "nets", "--out", tmp_path / "e", "--format", "pickle")
    assert "'pickle' is not one of 'onnx', 'torch', 'sklearn', 'json', 'c', 'numpy'" in message


def test_evaluate_scores_as_scikit_learn_does(folder):
    report = json.loads(run("evaluate", folder / "t.csv", folder / "text.csv", "-t", "price", "-n", 2, "--json").stdout)
    table = pd.read_csv(folder / "t.csv")
    X, y = table[list("abcde")].to_numpy(), table["price"].to_numpy()
    folds = KFold(3, shuffle=True, random_state=0)
    assert len(report["tables"]) == 2
    for row in report["tables"]:
        assert row["ridge"]["r2"] == pytest.approx(cross_val_score(ridge_pipeline(), X, y, cv=folds).mean())
        assert {"netformer", "ridge", "mlp"} <= set(row)
        assert all(row[name]["seconds"] >= 0 for name in ("netformer", "ridge", "mlp"))
    assert "ridge" in run("evaluate", folder / "t.csv", "-t", "price", "-n", 2).stdout


def test_evaluate_fills_gaps_inside_each_fold(folder):
    report = json.loads(
        run("evaluate", folder / "gaps.csv", "-t", "price", "-n", 1, "--impute", "median", "--json").stdout
    )
    table = pd.read_csv(folder / "gaps.csv")
    whole = make_pipeline(SimpleImputer(strategy="median"), ridge_pipeline())
    scores = cross_val_score(whole, table[list("abcde")], table["price"], cv=KFold(3, shuffle=True, random_state=0))
    assert report["tables"][0]["ridge"]["r2"] == pytest.approx(scores.mean(), abs=1e-9)


def test_info_names_the_weights():
    facts = json.loads(run("info", "--json").stdout)
    assert facts["torch"] == torch.__version__
    assert facts["steps"] > 0
    assert facts["parameters"] > 1000
    assert "max_width" in run("info").stdout


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("absent.csv", r"absent.csv: no such file; give the path of a .csv, .tsv, .parquet table"),
        ("nets", r"nets: is a folder; give one .csv, .tsv, .parquet file"),
        ("only_text.csv", "no numeric column beside the target; encode some (pandas.get_dummies): a (as 'low'), b"),
        ("empty_column.csv", "no finite value in any row of c; drop the column"),
        ("twice.csv", "column names must be unique, found more than once: 'a'"),
        ("latin.csv", "the text must be UTF-8; save it as UTF-8"),
        ("text_target.csv", "target 'price' must be numeric, found 'cheap' in row 1; this is regression"),
        ("constant.csv", "target 'price' must vary, found 1 in all rows; choose another column"),
        ("small.csv", "a table needs at least 10 rows with a target, found 9; add rows"),
        ("gaps.csv", "missing or infinite values in b (5); fill them, or say --impute median"),
        ("semicolon.csv", "found one column only, 'a;b;c;d;e;price'; separate columns by commas"),
        ("nothing.csv", "a table needs a header and rows, found an empty file"),
    ],
)
@pytest.mark.parametrize("command", ["generate", "evaluate"])
def test_a_bad_table_is_one_line_and_nothing_is_written(folder, tmp_path, command, table, message):
    out = ("--out", tmp_path / "out") if command == "generate" else ()
    assert message in refused(command, folder / table, "--target", "price", *out)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_target_brings_the_nearest_names(folder):
    assert "no column 'prize'; did you mean 'price'?" in refused("generate", folder / "t.csv", "--target", "prize")


def test_a_target_that_is_rare_or_rows_that_are_few_are_said(folder, tmp_path):
    table = pd.read_csv(folder / "t.csv").head(20)
    train = rows_to_train_on(20, 0)
    table.assign(price=train * np.arange(20.0)).to_csv(tmp_path / "rare.csv", index=False)
    table.assign(price=~train * np.arange(1.0, 21)).to_csv(tmp_path / "flat.csv", index=False)
    report = json.loads(run("generate", tmp_path / "rare.csv", "-t", "price", "-n", 1, "--json").stdout)
    assert {row["r2"] for row in report["leaderboard"]} == {None}
    assert "the target is constant on the rows held back" in report["why"]
    message = refused("generate", tmp_path / "flat.csv", "-t", "price")
    assert "must vary in the rows trained on; try another --seed" in message
    table.to_csv(tmp_path / "few.csv", index=False)
    assert "4 rows are few, these R2 are rough" in run("generate", tmp_path / "few.csv", "-t", "price", "-n", 1).stdout


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
