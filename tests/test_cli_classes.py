"""Command line: a target of classes. What it is taken for, what is written and printed, one line for bad input."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from commands import refused, run
from sklearn.metrics import accuracy_score, log_loss

from netformer import NetFormerClassifier, cross_validate
from netformer.benchmark.class_scores import class_scores
from netformer.cli.scores import conclusions
from netformer.exports.population import Population

pytestmark = pytest.mark.usefixtures("small_package")
SMALL = ("-n", 2, "--beside", "logistic,constant")


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """t.csv: text labels; two.csv: truth values; codes.csv: 0, 1, 2; nets: networks for t.csv; others have a flaw."""
    from commands import small_model

    path, rng = tmp_path_factory.mktemp("classes"), np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(120, 3)), columns=list("abc"))
    codes = np.digitize(X["a"] + 0.5 * rng.normal(size=120), [-0.4, 0.6])
    labels = np.array(["no", "per haps", "yes, sure"], dtype=object)[codes]
    table = X.assign(town=["Ulm", "Bonn", "Kiel"] * 40, answer=labels)
    table.to_csv(path / "t.csv", index=False)
    table.assign(answer=codes > 0).to_csv(path / "two.csv", index=False)
    table.assign(answer=codes).to_csv(path / "codes.csv", index=False)
    table.assign(answer="no").to_csv(path / "one.csv", index=False)
    table.assign(answer=["odd", *labels[1:]]).to_csv(path / "alone.csv", index=False)
    table.assign(answer=[f"r{i}" for i in range(120)]).to_csv(path / "names.csv", index=False)
    table.assign(answer=X["b"]).to_csv(path / "floats.csv", index=False)
    table.assign(answer=np.where(np.arange(120) < 4, None, labels)).to_csv(path / "gaps.csv", index=False)
    records = table.assign(answer=[1, *labels[1:]]).to_dict("records")
    (path / "mixed.json").write_text(json.dumps(records))
    with small_model():
        run("generate", path / "t.csv", "-t", "answer", *SMALL, "--out", path / "nets", "--quiet")
    return path


def test_generate_prints_the_scores_of_classes_and_says_what_it_took_the_target_for(tables):
    done = run("generate", tables / "t.csv", "-t", "answer", *SMALL)
    lines = [line for line in done.stdout.splitlines() if line.startswith("│")]
    rows = {one[0]: one[1:] for one in ([cell.strip() for cell in line.split("│")[1:-1]] for line in lines)}
    assert set(rows) == {"wide", "logistic", "constant"}
    assert all(re.fullmatch(r"\d\.\d{3} ± \d\.\d{3}", cell) for row in rows.values() for cell in row[:4])
    assert "answer: 5-fold cross-validation stratified by class, 4 times" in done.stdout
    assert all(word in done.stdout for word in ("log loss", "accuracy", "AUC", "calibration error"))
    best = min(rows, key=lambda name: float(rows[name][0].split()[0]))
    assert f"Best here: {best}" in done.stdout
    assert re.search(r"[\d.]+ ± [\d.]+ % of these rows have the class called most probable", done.stdout)
    assert done.stderr.strip() == f"{tables / 't.csv'}: target 'answer' is taken for 3 classes"


def test_networks_and_scores_are_those_of_the_classifier(tables):
    report = json.loads(run("generate", tables / "t.csv", "-t", "answer", *SMALL, "--json").stdout)
    table = pd.read_csv(tables / "t.csv")
    X, y = table.drop(columns="answer"), table["answer"]
    own = NetFormerClassifier(n_samples=2, random_state=0).fit(X, y)
    bundle = Population.load(tables / "nets")
    np.testing.assert_array_equal(bundle.predict_proba(X), own.predict_proba(X))
    assert report["task"] == "classification"
    assert report["classes"] == list(bundle.classes) == ["no", "per haps", "yes, sure"]
    expected = cross_validate(X, y, estimator=own, beside=["logistic", "constant"])
    found = {row.pop("method"): row for row in report["scores"]["methods"]}
    assert list(found) == list(expected.index)
    for name, row in found.items():
        assert row == pytest.approx(expected.loc[name].to_dict())
    assert np.sum(report["scores"]["confusion"]) == 120
    assert report["scores"] == bundle.about["scores"] | {"methods": report["scores"]["methods"]}


@pytest.mark.parametrize(
    ("file", "task", "kind"),
    [
        ("codes.csv", "auto", "classification"),
        ("codes.csv", "regression", "regression"),
        ("two.csv", "auto", "classification"),
    ],
)
def test_the_target_decides_and_the_option_turns_it(tables, file, task, kind):
    done = run("generate", tables / file, "-t", "answer", "--task", task, "-n", 1, "--no-score", "--json")
    report = json.loads(done.stdout)
    assert report["task"] == kind
    other = "regression" if kind == "classification" else "classification"
    assert f"--task {other}" in report["notes"][0]
    if file == "two.csv":
        assert report["classes"] == [False, True]


def test_predict_writes_labels_and_probabilities(tables, tmp_path):
    table = pd.read_csv(tables / "t.csv")
    done = run("predict", tables / "nets", tables / "t.csv", "--out", tmp_path / "p.csv")
    found, own = pd.read_csv(tmp_path / "p.csv"), Population.load(tables / "nets")
    assert list(found) == ["answer", "answer_no", "answer_per haps", "answer_yes, sure"]
    np.testing.assert_allclose(found.iloc[:, 1:], own.predict_proba(table), atol=1e-15)
    assert found["answer"].tolist() == own.predict(table).tolist()
    right = accuracy_score(table["answer"], found["answer"])
    loss = log_loss(table["answer"], found.iloc[:, 1:])
    assert f"accuracy {right:.3f}, log loss {loss:.3f} on the 120 rows that have the target" in done.stdout
    for which in ("mean", "0"):
        run("predict", tables / "nets", tables / "t.csv", "--which", which, "--out", tmp_path / f"{which}.parquet")
    each = pd.read_parquet(tmp_path / "0.parquet")
    np.testing.assert_array_equal(each.iloc[:, 1:], own.predict_proba(table, 0))
    facts = json.loads(
        run("predict", tables / "nets", tables / "gaps.csv", "--out", tmp_path / "g.csv", "--json").stdout
    )
    known = np.arange(120) >= 4
    assert facts["accuracy"] == pytest.approx(accuracy_score(table["answer"][known], found["answer"][known]))
    assert facts["classes"] == ["no", "per haps", "yes, sure"]


def test_labels_that_were_not_fitted_are_said_and_not_scored(tables, tmp_path):
    done = run("predict", tables / "nets", tables / "alone.csv", "--out", tmp_path / "p.csv")
    assert "target 'answer': 'odd' in row 1: no class fitted" in done.stderr
    assert "on the 119 rows that have the target" in done.stdout
    done = run("predict", tables / "nets", tables / "codes.csv", "--out", tmp_path / "q.csv")
    assert "rows that have the target" not in done.stdout


def test_evaluate_and_the_ways_to_hold_out_rows(tables, tmp_path):
    both = run(
        "evaluate", tables / "t.csv", tables / "floats.csv", "-t", "answer", "-n", 1, "--beside", "constant", "--json"
    )
    one, two = json.loads(both.stdout)["tables"]
    assert (one["task"], two["task"]) == ("classification", "regression")
    pd.read_csv(tables / "alone.csv").head(40).to_csv(tmp_path / "test.csv", index=False)
    for options, how in (
        (
            ("--groups", "town"),
            "3-fold cross-validation stratified by class, 4 times, 3 groups of 'town'",
        ),
        (("--in-order",), "the last 40 rows, in 5 parts, each from all rows before it"),
        (("--test", tmp_path / "test.csv"), f"the 39 rows of {tmp_path / 'test.csv'}"),
    ):
        done = run("evaluate", tables / "t.csv", "-t", "answer", "-n", 1, "--beside", "constant", *options, "--json")
        (found,) = json.loads(done.stdout)["tables"]
        assert found["how"] == how
        assert found["methods"][0]["log_loss"] > 0


def test_inspect_names_the_outputs_and_draws_them(tables, tmp_path):
    done = run("inspect", tables / "nets", "--which", 0, "--draw", tmp_path / "net.svg")
    assert "of 3 classes" in done.stdout
    assert "logits of the classes" in done.stdout
    assert "answer yes, sure" in done.stdout
    facts = json.loads(run("inspect", tables / "nets", "--which", 0, "--json").stdout)
    last = facts["networks"][0]["layers"][-1]
    assert len(last["weight"]) == len(last["bias"]) == 3
    assert facts["classes"] == ["no", "per haps", "yes, sure"]


def test_export_writes_the_formats_of_classes(tables, tmp_path):
    run("export", tables / "nets", "--format", "json", "--format", "numpy", "--format", "html", "--out", tmp_path / "e")
    assert json.loads((tmp_path / "e" / "wide.json").read_text())["target"]["classes"] == [
        "no",
        "per haps",
        "yes, sure",
    ]


@pytest.mark.parametrize(
    ("file", "options", "message"),
    [
        ("one.csv", (), "one.csv: target 'answer' must vary, found one class, 'no' in all rows; choose another column"),
        (
            "alone.csv",
            (),
            "a class needs at least 2 rows, 'odd' of target 'answer' stands in row 1 alone; drop such rows",
        ),
        ("names.csv", (), "target 'answer' holds 120 different values in 120 rows, too many for classes: 'r0', 'r1'"),
        ("floats.csv", ("--task", "classification"), "target 'answer' looks like a number, found -"),
        ("mixed.json", (), "labels of target 'answer' must be of one type, found 1 (number) in row 1 and '"),
        ("t.csv", ("--task", "regression"), "target 'answer' must be numeric, found '"),
        (
            "t.csv",
            ("--beside", "ridge"),
            "what stands beside must be of logistic, hgb, catboost, constant, got 'ridge'",
        ),
        ("t.csv", ("--task", "both"), "Invalid value for '--task'"),
    ],
)
@pytest.mark.parametrize("command", ["generate", "evaluate"])
def test_bad_input_is_one_line_and_nothing_is_written(tables, tmp_path, command, file, options, message):
    out = ("--out", tmp_path / "out") if command == "generate" else ()
    assert message in refused(command, tables / file, "-t", "answer", "-n", 1, *options, *out)
    assert list(tmp_path.iterdir()) == []


def test_what_classes_have_not_is_one_line(tables, tmp_path):
    out = ("--out", tmp_path / "out.csv")
    message = refused("predict", tables / "nets", tables / "t.csv", "--interval", 0.9, *out)
    assert "'answer' has classes, whose probabilities are written; leave --interval out" in message
    message = refused("generate", tables / "t.csv", "-t", "answer", "--by", "town", "--out", tmp_path / "out")
    assert (
        "--by is for targets that are numbers, 'answer' has 3 classes; leave out --by, 'town' is then read" in message
    )
    assert list(tmp_path.iterdir()) == []


def test_rows_without_a_label_are_left_out_with_a_note(tables):
    done = run("generate", tables / "gaps.csv", "-t", "answer", "-n", 1, "--no-score", "--json")
    assert json.loads(done.stdout)["rows"] == 116
    assert f"{tables / 'gaps.csv'}: dropped 4 rows without a target 'answer'" in json.loads(done.stdout)["notes"]


def test_conclusions_name_the_best_by_log_loss_and_what_is_level():
    from test_class_scoring import drawn, made

    y, p, off = drawn(np.random.default_rng(0), 400, 3, 1.0)
    flat = np.broadcast_to(np.bincount(y) / len(y), p.shape)
    lines = conclusions(made(y, wide=off, logistic=p, constant=flat))
    assert re.fullmatch(
        r"Best here: logistic; wide is behind it \(log loss \+0\.\d{3} ± 0\.\d{3}\); if predictions are all you need, "
        "use logistic.",
        lines[0],
    )
    assert conclusions(made(y, wide=p, logistic=p, constant=flat)) == ["Best here: wide. Level with it: logistic."]
    nothing = conclusions(made(y, wide=flat, constant=flat))
    assert nothing[-1] == "wide is not ahead of the shares of the classes: these columns say nothing sure about it."
    assert class_scores(y, p)["log_loss"] < class_scores(y, off)["log_loss"]
