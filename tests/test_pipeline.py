"""The whole pipeline on tiny params, stage by stage, in a temporary root."""

import hashlib
import json
import math
import re
import shutil
import subprocess
import sys
from functools import partial
from importlib import import_module
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from ruamel.yaml import YAML
from tiny import PARAMS, ROOT, STAGES, TINY, run_stages

from netformer.artifacts import read_parquet, read_tasks
from netformer.errors import InputError
from netformer.evaluation.ablation import ARMS, BOTH_CHANNELS
from netformer.evaluation.scored import read_scored
from netformer.files import sources_of
from stages import quick, run
from stages.params import load_params
from stages.roots import write_params


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pipeline") / "root"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NETFORMER_WORKERS", "1")
        run_stages(path)
    return path


def test_every_number_is_finite_and_named(root: Path) -> None:
    report = json.loads((root / "reports" / "evaluate" / "metrics.json").read_text())
    assert set(report) == {"zoo", "tokens", "reconstruction", "sampling", "zero_shot", "classes"}
    assert report["tokens"]["exact"] == 1.0
    assert set(report["zero_shot"]) == {"heldout_tasks", "heldout_family"}
    ours = {
        "raw",
        "single",
        "drawn",
        "expected_best_3",
        "best_of_3",
        "average_3",
        "shuffled_condition",
        "metafeatures_only",
        "unconditional",
    }
    ours.add("raw_with_metafeatures")
    theirs = {"constant", "ridge", "mlp", "scratch", "scratch_best", "random_ridge_head", "random128_ridge_head"}
    theirs |= {"random_wide_ridge_head"}
    for rows in report["zero_shot"].values():
        assert ours | theirs | {"retrieval", "zoo_average"} <= set(rows)
        for row in ours | theirs:
            assert {f"{row}_iqr", f"{row}_mean", f"{row}_n_tasks", f"{row}_n_failed"} <= set(rows)
        for row in theirs:
            assert {f"wide_3_minus_{row}", f"single_minus_{row}_se", f"average_3_wins_{row}"} <= set(rows)
    parts = [report[name] for name in set(report) - {"zero_shot"}] + list(report["zero_shot"].values())
    numbers = [v for part in parts for v in part.values()]
    assert all(math.isfinite(v) for v in numbers)
    assert report["sampling"]["validity"] == 1.0
    assert report["sampling"]["uniqueness"] == 1.0  # of several seeds: the mode of a task counts once
    assert json.loads((root / "reports" / "tokenize" / "metrics.json").read_text())["exact"] == 1.0


def test_every_declared_picture_is_an_svg(root: Path) -> None:
    plan = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]["evaluate"]
    declared = {next(iter(plot)) for plot in plan["plots"]}
    assert declared == {str(p.relative_to(root)) for p in (root / "reports" / "evaluate").glob("*.svg")}
    assert all((root / name).read_bytes().startswith(b"<svg xmlns=") for name in declared)


def test_plots_name_columns_that_the_stages_write_and_templates_that_exist(root: Path) -> None:
    for plot in YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["plots"]:
        (spec,) = plot.values()
        assert (ROOT / ".dvc" / "plots" / f"{spec['template']}.json").is_file()
        for name, column in [*spec["y"].items(), *(spec["x"].items() if isinstance(spec["x"], dict) else ())]:
            written = pd.read_csv(root / name, sep="\t" if name.endswith(".tsv") else ",")
            assert {column, *([spec["x"]] if isinstance(spec["x"], str) else [])} <= set(written.columns)


def test_show_prints_every_set_and_says_when_there_is_nothing(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show = import_module("stages.show").main
    show(root)
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("heldout_tasks (5)", "heldout_family (3)", "random_ridge_head", "edge_f1"))
    with pytest.raises(FileNotFoundError, match=r"metrics.json does not exist; run the pipeline first"):
        show(tmp_path)


def test_samples_of_other_params_are_refused(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "root")
    report = tmp_path / "root" / "reports" / "evaluate" / "metrics.json"
    before = report.read_bytes()
    write_params(PARAMS, tmp_path / "root", TINY | {"sample.n_samples": 4})
    with pytest.raises(
        ValueError, match=r"'drawn' must be 2 seeds x 8 tasks x 3, found 32; run the stage sample again"
    ):
        import_module("stages.evaluate").main(tmp_path / "root")
    assert report.read_bytes() == before


def test_zoo_and_tokens_hold_the_same_networks_or_are_refused(root: Path) -> None:
    zoo, tokens = (read_parquet(root / "data" / f"{name}.parquet") for name in ("zoo", "tokens"))
    tasks, layout = read_tasks(root / "data" / "tasks.parquet"), load_params(root).zoo.layout
    assert zoo["net_id"].to_pylist() == tokens["net_id"].to_pylist() == list(range(len(zoo)))
    assert zoo["task_id"].to_pylist() == tokens["task_id"].to_pylist()
    assert len(read_scored(zoo, tokens, tasks, layout).networks) == len(zoo)
    for other in (tokens.slice(1), tokens.take(list(reversed(range(len(tokens)))))):
        with pytest.raises(InputError, match=r"must hold the same networks in the same order.*run the stage tokenize"):
            read_scored(zoo, other, tasks, layout)


def test_held_out_tasks_are_never_learned_from(root: Path) -> None:
    tasks = pq.read_table(root / "data" / "tasks.parquet").to_pylist()
    zoo = set(pq.read_table(root / "data" / "zoo.parquet")["task_id"].to_pylist())
    family = {t["task_id"] for t in tasks if t["family"].startswith("friedman")}
    assert len(family) == 3
    assert not family & zoo
    trained = import_module("stages.train").corpus_of(root, load_params(root))[0]
    assert len(trained.tasks) == sum(t["split"] == "train" for t in tasks)


@pytest.mark.slow
def test_same_params_same_bytes(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETFORMER_WORKERS", "1")
    run_stages(tmp_path / "root")
    for kind in ("data/*.parquet", "models/netformer/*", "reports/evaluate/*"):
        first = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in root.glob(kind)}
        second = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (tmp_path / "root").glob(kind)}
        assert first
        assert first == second


def test_stages_work_on_one_torch_thread_and_leave_the_callers_as_they_were() -> None:
    """Sums of several threads differ in their last bits with their number, and a training with them."""
    seen, before = [], torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        run(lambda root: seen.append(torch.get_num_threads()))
        seen.append(torch.get_num_threads())
    finally:
        torch.set_num_threads(before)
    assert seen == [1, 3]


def copied(root: Path, folder: Path, changes: dict) -> Path:
    """A root with the data of another, to train in."""
    folder.mkdir()
    (folder / "data").symlink_to(root / "data")
    write_params(PARAMS, folder, TINY | changes)
    return folder


def curve_of(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / "reports" / "train").rglob("*") if path.is_file()}


def test_an_interrupted_training_ends_with_the_curve_of_an_uninterrupted_one(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC takes away the outputs of a stage before it runs; the checkpoint is none."""
    stage = import_module("stages.train")
    monkeypatch.setattr(stage, "train", partial(stage.train, checkpoint_every=2, log_every=1))
    straight, resumed = (copied(root, tmp_path / name, {"train.steps": 6}) for name in ("straight", "resumed"))
    stage.main(straight)
    with monkeypatch.context() as patch:

        class Interrupted:
            def __init__(self, name: str) -> None:
                pass

            def __call__(self, done: int, total: int) -> None:
                if done == 5:
                    raise KeyboardInterrupt

        patch.setattr(stage, "Bar", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            stage.main(resumed)
    assert not (resumed / "reports").exists()
    drawn: list[int] = []
    draw = import_module("netformer.training.loop").draw_batch
    monkeypatch.setattr(
        "netformer.training.loop.draw_batch", lambda step, **other: drawn.append(step) or draw(step, **other)
    )
    stage.main(resumed)
    assert drawn == [4, 5]
    assert len(curve_of(straight)) == 14
    assert curve_of(resumed) == curve_of(straight)
    weights = Path("models", "netformer", "model.safetensors")
    assert (resumed / weights).read_bytes() == (straight / weights).read_bytes()


@pytest.mark.slow
def test_two_processes_share_the_stage_and_its_checkpoint(root: Path, tmp_path: Path) -> None:
    changes = {"train.devices": 2, "train.accelerator": "auto"}
    stage, shared = import_module("stages.train"), copied(root, tmp_path / "shared", changes)
    stage.main(shared)
    one, two = (json.loads((path / "reports" / "train" / "metrics.json").read_text()) for path in (root, shared))
    assert list(one) == list(two)
    assert two == pytest.approx(one, rel=0.02)  # bf16
    assert set(curve_of(shared)) == set(curve_of(root))
    assert (shared / "models" / "netformer" / "config.json").read_bytes() == (
        root / "models" / "netformer" / "config.json"
    ).read_bytes()
    names = [stage.checkpoint_of(root, load_params(path), None).name for path in (root, shared)]
    assert names[0] == names[1], "a training goes on with another number of processes, elsewhere"


@pytest.mark.slow
@pytest.mark.slow
def test_every_ablation_is_trained_measured_and_not_repeated(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netformer.evaluation.ablation.MIXED_BATCHES", 1)
    for name in ("netformer", "stages", "dvc.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("params.yaml", "data"):
        (tmp_path / name).symlink_to(root / name)
    ablate = import_module("stages.ablate").main
    ablate(tmp_path, steps=2, seeds=1)
    runs = pd.read_csv(tmp_path / "reports" / "ablations" / "runs.csv")
    assert list(runs["arm"]) == [*list(ARMS)[:1], BOTH_CHANNELS, *list(ARMS)[1:]]
    assert runs[["single", "wide", "raw"]].notna().all().all()
    assert runs.loc[runs["arm"] != BOTH_CHANNELS, ["mixed_single", "mixed_wide"]].notna().all().all()
    models = {p: p.stat().st_mtime_ns for p in (tmp_path / "build").rglob("model.safetensors")}
    assert len(models) == len({p.read_bytes() for p in models}) == len(ARMS), "an arm is no other arm's copy"
    first = (tmp_path / "reports" / "ablations" / "ablations.csv").read_bytes()
    ablate(tmp_path, steps=2, seeds=1)
    assert models == {p: p.stat().st_mtime_ns for p in (tmp_path / "build").rglob("model.safetensors")}
    assert (tmp_path / "reports" / "ablations" / "ablations.csv").read_bytes() == first


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("train.lr", -0.1, r"train\.lr must be greater than 0, got -0\.1"),
        ("train.lr", "fast", r"train\.lr must be a valid number"),
        ("train.accelerator", "tpu", r"train\.accelerator must be 'auto', 'cpu' or 'cuda', got 'tpu'"),
        ("train.devices", 0, r"train\.devices must be greater than or equal to 1, got 0"),
        ("train.devices", 8, "zoo_tasks must be at least devices x nodes, got 4 < 8 x 1"),
        ("train.strategy", "fsdp", r"train\.strategy must be 'auto' or 'ddp', got 'fsdp'"),
        ("zoo.min_width", 9, "min_width must be at most max_width, got 9 > 8"),
        ("model.condition", "all", "model.condition must be 'none', 'metafeatures', 'task' or 'both', got 'all'"),
        ("sample.n_seeds", 3, r"sample\.n_seeds must equal download\.real_splits.*, got 3 and 5"),
        ("sample.temperature", 1, r"sample\.temperature Extra inputs are not permitted"),
    ],
)
def test_wrong_parameter_is_one_line(tmp_path: Path, name: str, value: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_params(PARAMS, tmp_path, {name: value})


def test_the_quick_pipeline_has_all_stages_and_changes_params_that_exist(tmp_path: Path) -> None:
    assert quick.STAGES == STAGES
    changes = YAML(typ="safe").load((ROOT / quick.CHANGES).read_text())
    write_params(PARAMS, tmp_path, changes)
    usual, small = (YAML(typ="safe").load((folder / "params.yaml").read_text()) for folder in (ROOT, tmp_path))
    for name, value in changes.items():
        section, key = name.split(".")
        assert small[section][key] == value != usual[section][key]


def test_exponent_without_a_point_is_a_number(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(re.sub(r"(train:\n(?:.*\n)*?  lr: )\S+", r"\g<1>1e-05", text))
    assert load_params(tmp_path).train.lr == 1e-5


def test_a_failing_stage_exits_with_2_in_one_line(tmp_path: Path) -> None:
    write_params(PARAMS, tmp_path, {})
    result = subprocess.run(
        [sys.executable, "-m", "stages.zoo"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "tasks.parquet does not exist" in result.stderr


@pytest.mark.parametrize("stage", STAGES)
def test_deps_name_every_imported_module(stage: str) -> None:
    plan = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"][stage]
    start = ROOT / "stages" / f"{stage}.py"
    needed = {str(p.relative_to(ROOT)) for p in sources_of(start, ROOT)} | {"stages/__init__.py"}
    needed -= {"stages/params.py", "netformer/options.py"}  # what they pass on is under `params` already
    assert needed == {dep for dep in plan["deps"] if dep.endswith(".py")}
    assert plan["cmd"] == f"python -m stages.{stage}"


def test_library_knows_no_pipeline() -> None:
    for path in (ROOT / "netformer").rglob("*.py"):
        text = path.read_text()
        assert "import dvc" not in text
        assert "from dvc" not in text
        assert "from stages" not in text
