"""Report card: its figures on cases with known answers, and the committed report belongs to the committed weights."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from drawn import draw
from scipy.stats import norm

from netformer.artifacts import write_tasks
from netformer.evaluation.card import (
    BUDGETS,
    NOMINAL,
    STEPS,
    TARGETS,
    TEMPERATURES,
    WIDE_STEPS,
    _refined_r2,
    by_group,
    calibration,
    prompts,
    refine_report,
)
from netformer.evaluation.scored import Samples
from netformer.exports.population import Population
from netformer.files import imported_names
from netformer.generation.generator import NetFormer
from netformer.generation.refinement import refine
from netformer.model.head import weigh_heads
from netformer.model.vae import TransformerVAE
from netformer.tasks.metafeatures import NAMES, MetaFeatureTransform
from netformer.tasks.scores import r2
from netformer.tasks.stream import synthetic_tasks
from netformer.tasks.task import TEST, VALID
from netformer.tasks.view import TaskStack, stack_tasks
from stages import report_card
from stages.report_card import REFERENCE_CODE, evaluator, origin, over_splits, reference_key, references
from stages.roots import once

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "reports" / "pretrained" / "metrics.json"


def samples(n: int = 4, scale: float = 0.3, rows: int = 60) -> Samples:
    tasks = synthetic_tasks(6, seed=0, stream="test", split="test", max_features=10, min_rows=rows, max_rows=rows)
    stack = stack_tasks(tasks, 10)
    networks = draw(len(tasks) * n, inputs=10)
    small = type(networks)(networks.specs, scale * networks.weight)
    index = torch.arange(len(tasks)).repeat_interleave(n)
    r2s = {"single": torch.zeros(1, len(tasks), n, 3)}
    return Samples(tasks, stack, index[None, ::n], small, index, r2s, torch.zeros(1, len(tasks), n))


def untrained() -> TransformerVAE:
    torch.manual_seed(0)
    sizes = {"max_features": 10, "max_hidden_layers": 3, "max_width": 8, "n_metafeatures": 3}
    return TransformerVAE.from_arguments(**sizes, d_model=16, d_row=16).eval()


def test_committed_report_comes_from_the_committed_weights_params_and_evaluator():
    report = json.loads(REPORT.read_text())
    assert report["sha256"] == origin(ROOT)


def test_the_stamp_covers_what_decides_a_number_and_no_page():
    found = {str(path.relative_to(ROOT)) for path in evaluator(ROOT)}
    stages = {f"stages/{name}.py" for name in ("report_card", "download", "zoo", "tokenize", "sample", "evaluate")}
    library = {"evaluation/scored", "evaluation/references", "tasks/real", "zoo/build", "generation/merging", "ridge"}
    library |= {"generation/generator", "tables/reading"}
    assert stages | {f"netformer/{name}.py" for name in library} <= found
    pages = ("netformer/report/", "netformer/cli/", "netformer/exports/", "stages/report.py")
    assert not [name for name in found if name.startswith(pages)]


def test_no_number_of_the_report_passes_through_a_form_that_networks_are_delivered_in(monkeypatch):
    def refused(*_, **__):
        raise AssertionError("a number of the report must not pass through netformer/exports")

    for name in [n for n, value in vars(Population).items() if callable(value) and not n.startswith("__")]:
        monkeypatch.setattr(Population, name, refused)
    transform = MetaFeatureTransform((0.0,) * len(NAMES), (1.0,) * len(NAMES))
    report = prompts(NetFormer(untrained(), transform), samples().tasks[:2], seed=0)
    assert set(report) >= {f"target_r2_{asked:g}" for asked in TARGETS}


def test_a_stage_runs_again_when_code_or_the_roots_own_reports_have_changed(tmp_path, monkeypatch):
    repository, root, runs = tmp_path / "repository", tmp_path / "root", []
    for folder in (repository / "reports", root / "reports" / "train"):
        folder.mkdir(parents=True)
    (repository / "dvc.yaml").write_text("stages: {made: {deps: [code.py, reports/train], params: [a]}}")
    (repository / "code.py").write_text("x = 1\n")
    (root / "params.yaml").write_text("a: 1\n")
    monkeypatch.setattr("stages.roots.import_module", lambda name: SimpleNamespace(main=runs.append))

    def again() -> bool:
        before = len(runs)
        once(repository, root, "made")
        return len(runs) > before

    assert [again(), again()] == [True, False]
    (repository / "code.py").write_text('"""Words."""\n\nx = 1  # more words\n')
    (repository / "reports" / "train").mkdir()
    (repository / "reports" / "train" / "loss.tsv").write_text("1")
    assert not again()
    (repository / "code.py").write_text("x = 2\n")
    assert [again(), again()] == [True, False]
    (root / "reports" / "train" / "loss.tsv").write_text("1")
    assert [again(), again()] == [True, False]


def test_references_are_fitted_again_when_tasks_code_or_libraries_have_changed(tmp_path, monkeypatch):
    made = synthetic_tasks(3, seed=0, stream="test", split="test", max_features=5, min_rows=40, max_rows=40)
    real = [replace(made[0], task_id=f"real-t/{r}", source="real", table="real-t", repeat=r) for r in range(2)]
    seen: list[list[str]] = []

    def fitted(tasks, **_):
        seen.append([task.task_id for task in tasks])
        scores = {"task_id": seen[-1], "row": "svr", "test_r2": [0.25, 0.5], "fit_seconds": [1.0, 3.0]}
        return pd.DataFrame(scores).assign(predict_seconds=0.5)

    def again() -> int:
        before = len(seen)
        found = references(tmp_path, tmp_path)
        expected = {"task_id": "real-t", "row": "svr", "test_r2": 0.375, "fit_seconds": 2.0, "predict_seconds": 0.5}
        assert found.to_dict("records") == [expected | {"n_runs": 2}]
        return len(seen) - before

    monkeypatch.setattr(report_card, "reference_scores", fitted)
    write_tasks([*real, *made[1:]], tmp_path / "data" / "tasks.parquet")
    assert [again(), again()] == [1, 0]
    assert seen == [["real-t/0", "real-t/1"]]
    with monkeypatch.context() as patch:
        patch.setattr(report_card, "version", lambda name: "another")
        assert [again(), again()] == [1, 0]
    with monkeypatch.context() as patch:
        patch.setattr(report_card, "code_digest", lambda paths: "another")
        assert again() == 1
    write_tasks([*real, made[1]], tmp_path / "data" / "tasks.parquet")
    assert again() == 1


def test_references_depend_on_the_code_that_fits_and_scores_them_and_on_no_other(tmp_path):
    shutil.copytree(ROOT / "netformer", tmp_path / "netformer", ignore=shutil.ignore_patterns("pretrained"))
    (tmp_path / "tasks").write_text("")

    def moved(module: str, old: str, new: str) -> bool:
        path, before = tmp_path / "netformer" / module, reference_key(tmp_path / "tasks", tmp_path)
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
        return reference_key(tmp_path / "tasks", tmp_path) != before

    assert reference_key(tmp_path / "tasks", tmp_path) == reference_key(tmp_path / "tasks")
    assert not moved("networks/stack.py", "import torch\n", "import torch\n\nEDITED = 1\n")
    assert not moved("tasks/view.py", "import torch\n", "import torch\n\nEDITED = 1\n")
    assert not moved("tables/reading.py", "CUT = 6.0", "CUT = 7.0")
    assert moved("evaluation/references.py", "(0.3, 1.0, 10.0, 100.0)", "(0.3, 1.0, 10.0)")
    assert moved("tasks/scores.py", "value = 1 - error / total", "value = 1 - 2 * error / total")
    ours = [name for name in imported_names(ROOT / REFERENCE_CODE[0]) if name.startswith("netformer.")]
    # Whether another one decides a score: say so in `reference_key`.
    assert {name for name in ours if f"{name.replace('.', '/')}.py" not in REFERENCE_CODE} == {
        *("netformer.errors", "netformer.errors.InputError", "netformer.tasks.scores.r2"),
        *(f"netformer.tasks.task{name}" for name in ("", ".TEST", ".TRAIN", ".VALID", ".Task")),
        *("netformer.workers", "netformer.workers.map_parallel"),
    }


def test_a_row_is_the_mean_over_the_splits_of_its_table():
    made = synthetic_tasks(1, seed=0, stream="test", split="test", max_features=5, min_rows=40, max_rows=40)[0]
    tasks = [replace(made, task_id=f"t/{r}", table="t", repeat=r) for r in range(2)] + [replace(made, table="")]
    scores = pd.DataFrame({"task_id": ["t/0", made.task_id, "t/1"], "row": "rf", "test_r2": [0.1, 0.9, 0.3]})
    found = over_splits(scores, tasks).set_index("task_id")
    assert found["test_r2"].to_dict() == {"t": pytest.approx(0.2), made.task_id: 0.9}
    assert found["n_runs"].to_dict() == {"t": 2, made.task_id: 1}


def agreeing(made: Samples, n: int) -> Samples:
    return replace(made, networks=made.networks[torch.arange(len(made.tasks)).repeat_interleave(n) * n])


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
def test_coverage_is_that_of_normal_errors(ratio, monkeypatch):
    """Samples without spread, and a wide network whose errors are normal, on test rows `ratio` times as large as on
    train rows: their intervals cover what scipy says. Errors on valid rows are wild and do not count."""
    g = torch.Generator().manual_seed(0)

    def wide(networks, stack, n):
        size = torch.where(stack.rows == TEST, ratio, torch.where(stack.rows == VALID, 50.0, 1.0))
        predicted = stack.y + 0.3 * size * torch.randn(stack.y.shape, generator=g)
        return SimpleNamespace(predict=lambda x: predicted.repeat_interleave(n, 0))

    monkeypatch.setattr("netformer.evaluation.card.widen", wide)
    report = calibration(agreeing(samples(2, rows=600), 2))
    for p in NOMINAL:
        covered = 1 - 2 * norm.sf(norm.interval(p)[1] / ratio)
        assert report[f"coverage_{p:g}"] == pytest.approx(covered, abs=0.06)  # 3 deviations, of 720 rows


def test_samples_that_all_agree_have_no_spread_to_rank_errors_by():
    report = calibration(agreeing(samples(4), 4))
    assert report["row_correlation"] == 0.0
    assert report["coverage_0.95"] > 0.6  # what the residuals of the train rows say


def test_prompts_hold():
    made = samples()
    model = untrained()
    transform = MetaFeatureTransform((0.0,) * len(NAMES), (1.0,) * len(NAMES))
    report = prompts(NetFormer(model, transform), made.tasks, seed=0)
    assert all(report[f"max_params_{k}"]["kept"] == 1.0 for k in BUDGETS)
    assert report["max_params_60"]["median_params"] <= 60
    temperatures = (0.0, model.temperature, *TEMPERATURES)
    assert all(report[f"temperature_{t:g}"]["spread"] > 0 for t in temperatures)
    assert set(report) >= {f"target_r2_{asked:g}" for asked in TARGETS}


def refined_report(made):
    model, retrieved = untrained(), made.networks[: len(made.tasks)]
    ticks = []
    report = refine_report(model, made, retrieved, 0, 1, lambda done, every: ticks.append((done, every)))
    return report["heldout_tasks"], ticks


def test_refine_curves_move_and_count_every_task_of_a_set():
    made = samples(1)
    curves, ticks = refined_report(made)
    assert set(curves) == {"generated", "he", "retrieval", "generated_latent", "wide_latent"}
    assert ticks[-1] == (4 * len(STEPS) + len(WIDE_STEPS),) * 2
    for name, row in curves.items():
        steps = WIDE_STEPS if name == "wide_latent" else STEPS
        assert all(row[f"steps_{k}_n_tasks"] == 6 for k in steps)
        assert row[f"steps_{steps[-1]}_mean"] != row["steps_0_mean"]
    assert curves["generated"]["steps_0"] == pytest.approx(curves["generated_latent"]["steps_0"], abs=1e-5)


def test_refine_curves_of_a_table_are_means_over_its_row_splits(monkeypatch):
    """Two tables, the second with two splits: scores of the tasks are 0.1, 0.2 and 0.6."""
    made = samples(1)
    tasks = [replace(task, source="real") for task in made.tasks[:3]]
    tasks[2] = replace(tasks[2], table=tasks[1].task_id, repeat=1)
    own, index = torch.arange(3), torch.tensor([0, 1, 0, 2])
    parts = {"stack": made.stack[own], "networks": made.networks[index], "task_index": index}
    r2s = {"single": torch.zeros(2, 2, 1, 3)}
    split = Samples(tasks, runs=index.view(2, 2), r2=r2s, expected=torch.zeros(2, 2, 1), **parts)
    starts = []

    def scored(job, stack, **_):
        starts.append(job[0])
        assert len(stack) == 3
        return torch.tensor([0.1, 0.2, 0.6], dtype=torch.float64)

    monkeypatch.setattr("netformer.evaluation.card._refined_r2", scored)
    report = refine_report(untrained(), split, made.networks[own], 0, 1, lambda done, every: None)
    assert {len(start) for start in starts if not isinstance(start, int)} == {3}
    for row in report["real_tables"].values():
        assert row["steps_0_mean"] == row["steps_0"] == pytest.approx((0.1 + (0.2 + 0.6) / 2) / 2)
        assert row["steps_0_n_tasks"] == 2


def test_refine_curves_read_train_rows_alone():
    made = samples(1)
    stack, other = made.stack, torch.where(made.stack.rows == VALID, 1e3, made.stack.y)
    changed = TaskStack(stack.x, other, stack.rows, stack.views)
    assert refined_report(made)[0] == refined_report(replace(made, stack=changed))[0]


def test_a_point_of_a_refine_curve_is_the_test_r2_of_refined_networks_task_by_task():
    kind = {"seed": 0, "stream": "test", "split": "test", "max_features": 10}
    tasks = [t for n in (60, 200) for t in synthetic_tasks(12, min_rows=n, max_rows=n, **kind)]
    stack, networks = stack_tasks(tasks, 10), draw(len(tasks), inputs=10)
    penalties = torch.full((len(tasks), networks.layout.n_slots), 0.1)
    curve = _refined_r2((networks, 5), untrained(), stack, penalties, 0)
    for i in (0, 13, 20):
        part, own = stack[[i]].trim(), torch.zeros(1, dtype=torch.long)
        moved = refine(networks[[i]], part.train_only(), own, steps=5, penalties=penalties[[i]])
        delivered, _ = weigh_heads(moved, part.train_only(), penalties[[i]])
        expected = r2(part.y, delivered.predict(part.x), part.rows == TEST)
        assert float(curve[i]) == pytest.approx(float(expected), abs=1e-3)


@pytest.fixture
def per_task() -> pd.DataFrame:
    ids = [t.task_id for t in samples().tasks]
    shown = {"single": 0.5, "wide_16": 0.6, "raw": 0.3, "ridge": 0.4, "mlp": 0.5}
    shown |= {"random128_ridge_head": 0.45, "scratch_best": 0.7}
    return pd.DataFrame(
        [
            {"set": "heldout_tasks", "task_id": i, "family": "f", "row": row, "test_r2": value}
            for i in ids
            for row, value in shown.items()
        ]
    )


def test_groups_cover_every_task_once(per_task):
    table = by_group(samples(), per_task)
    for name in ("family", "train rows", "features"):
        assert table[table["group"] == name]["n_tasks"].sum() == 6
    assert (table["single"] == 0.5).all()
