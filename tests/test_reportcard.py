"""Report card: its figures on cases with known answers, and the committed report belongs to the committed weights."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from drawn import draw

from netformer.metafeatures import NAMES, MetaFeatureTransform
from netformer.model import TransformerVAE
from netformer.reportcard import (
    BUDGETS,
    NOMINAL,
    TARGETS,
    TEMPERATURES,
    by_group,
    calibration,
    head_to_head,
    prompts,
)
from netformer.sampling import NetFormer
from netformer.scored import Samples
from netformer.synthetic import synthetic_tasks
from netformer.tasks import stack_tasks
from stages.report_card import origin

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "reports" / "pretrained" / "metrics.json"


def samples(n: int = 4, scale: float = 0.3) -> Samples:
    tasks = synthetic_tasks(6, seed=0, stream="test", split="test", max_features=10, min_rows=60, max_rows=60)
    stack = stack_tasks(tasks, 10)
    networks = draw(len(tasks) * n, inputs=10)
    small = type(networks)(networks.specs, scale * networks.weight)
    index = torch.arange(len(tasks)).repeat_interleave(n)
    return Samples(
        tasks, stack, small, index, {"single": torch.zeros(1, len(tasks), n, 3)}, torch.zeros(1, len(tasks), n)
    )


def test_committed_report_comes_from_the_committed_weights_params_and_evaluator():
    report = json.loads(REPORT.read_text())
    assert report["sha256"] == origin(ROOT)


def test_calibration_is_of_probabilities():
    report = calibration(samples())
    coverage = [report[f"coverage_{p:g}"] for p in NOMINAL]
    assert coverage == sorted(coverage)
    assert all(0 <= value <= 1 for value in coverage)
    assert -1 <= report["row_correlation"] <= 1


def test_samples_that_all_agree_have_no_spread_to_rank_errors_by():
    made = samples(4)
    same = made.networks[torch.arange(6).repeat_interleave(4) * 4]
    report = calibration(Samples(made.tasks, made.stack, same, made.task_index, made.r2, made.expected))
    assert report["row_correlation"] == 0.0
    assert report["coverage_0.95"] > 0.6  # what the residuals of the train rows say


def test_prompts_hold():
    made = samples()
    torch.manual_seed(0)
    model = TransformerVAE(max_features=10, max_hidden_layers=3, max_width=8, n_metafeatures=3, d_model=16, d_row=16)
    transform = MetaFeatureTransform((0.0,) * len(NAMES), (1.0,) * len(NAMES))
    report = prompts(NetFormer(model.eval(), transform), made.tasks, seed=0)
    assert all(report[f"max_params_{k}"]["kept"] == 1.0 for k in BUDGETS)
    assert report["max_params_60"]["median_params"] <= 60
    temperatures = (0.0, model.temperature, *TEMPERATURES)
    assert all(report[f"temperature_{t:g}"]["spread"] > 0 for t in temperatures)
    assert set(report) >= {f"target_r2_{asked:g}" for asked in TARGETS}


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


def test_head_to_head_counts_wins_and_not_ties(per_task):
    report = head_to_head(per_task, ("single",), ("ridge", "mlp", "catboost"))["heldout_tasks"]
    assert report["single_beats_ridge"] == 1.0
    assert report["single_beats_mlp"] == 0.0
    assert "single_beats_catboost" not in report
    assert report["wide_16_mean"] == pytest.approx(0.6)


def test_groups_cover_every_task_once(per_task):
    table = by_group(samples(), per_task)
    for name in ("family", "train rows", "features"):
        assert table[table["group"] == name]["n_tasks"].sum() == 6
    assert (table["single"] == 0.5).all()
