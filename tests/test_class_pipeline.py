"""Classes in the pipeline: stored tasks, a zoo that classifies, its tokens, and scores on held-out tasks."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import log_loss as sklearn_log_loss
from test_losses import LAYOUT, small_model
from tiny import run_stages

from netformer.artifacts import (
    by_outputs,
    networks_of,
    read_class_tasks,
    read_parquet,
    write_class_tasks,
    write_parquet,
)
from netformer.errors import InputError
from netformer.evaluation.class_scores import ROWS, class_metrics
from netformer.networks.symmetry import canonicalize
from netformer.networks.token_tables import detokenize_networks
from netformer.tasks.classes import floor, synthetic_class_tasks
from netformer.tasks.task import TEST, TRAIN, ClassTask
from netformer.tasks.view import stack_class_tasks
from netformer.zoo.classes import build_class_zoo, class_r2
from stages.params import load_params


def made(n: int = 8, rows: int = 80) -> list[ClassTask]:
    return synthetic_class_tasks(
        n, seed=0, stream="class_train", split="train", max_features=4, min_rows=rows, max_rows=rows, batch_size=n
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("classes") / "root"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NETFORMER_WORKERS", "1")
        run_stages(path)
    return path


def test_stored_tasks_come_back_as_they_were(tmp_path: Path) -> None:
    tasks = made()
    write_class_tasks(tasks[::-1], tmp_path / "class_tasks.parquet")
    for before, after in zip(tasks, read_class_tasks(tmp_path / "class_tasks.parquet"), strict=True):
        for name in ("task_id", "source", "family", "way", "split"):
            assert getattr(before, name) == getattr(after, name)
        for name in ("X", "codes", "probabilities", "row_split"):
            np.testing.assert_array_equal(getattr(before, name), getattr(after, name))


def test_every_zoo_of_classes_and_its_tokens_hold_the_same_networks(root: Path) -> None:
    layout, data = load_params(root).zoo.layout, root / "data"
    tasks = {task.task_id: task for task in read_class_tasks(data / "class_tasks.parquet")}
    assert [task.split for task in tasks.values()].count("test") == 4
    zoo, tokens = (read_parquet(data / f"class_{name}.parquet") for name in ("zoo", "tokens"))
    assert zoo["net_id"].to_pylist() == tokens["net_id"].to_pylist() == list(range(len(zoo)))
    assert len(by_outputs(zoo)) > 1
    for (k, part), (same, stored) in zip(by_outputs(zoo), by_outputs(tokens), strict=True):
        assert k == same
        assert {tasks[name].n_outputs for name in part["task_id"].to_pylist()} == {k}
        own = replace(layout, n_outputs=k)
        networks, back = canonicalize(networks_of(part, own)), detokenize_networks(stored, own)
        assert torch.equal(networks.weight, back.weight)
        assert torch.equal(networks.specs.mask, back.specs.mask)
    assert json.loads((root / "reports" / "tokenize" / "metrics.json").read_text())["exact_classes"] == 1.0
    counts = json.loads((root / "reports" / "zoo" / "metrics.json").read_text())["classes"]
    assert counts["kept"] == len(zoo)
    assert counts["drawn"] == 2 * len(tasks)


def test_tasks_whose_target_is_a_number_are_stored_apart(root: Path) -> None:
    ids = pq.read_table(root / "data" / "tasks.parquet")["task_id"].to_pylist()
    assert not any(name.startswith("class_") for name in ids)


def test_scores_of_the_zoo_are_those_of_the_probabilities() -> None:
    tasks = made()
    options = {"min_hidden_layers": 1, "min_width": 4, "sparse_share": 0.0, "bias_share": 1.0}
    zoos, _ = build_class_zoo(
        tasks, layout=LAYOUT, optimizer={"steps": 60, "lr": 0.02}, spec=options, networks_per_task=3,
        duplicate_share=0.0, min_valid_r2=-1.0, max_gap=9.0, seed=0, workers=1,
    )  # fmt: skip
    by_id = {task.task_id: task for task in tasks}
    assert sum(len(names) for names, _ in zoos) == 24
    for names, zoo in zoos:
        for i in (0, len(names) - 1):
            task = by_id[names[i]]
            stack, k = stack_class_tasks([task], 4), task.probabilities.shape[1]
            p = torch.softmax(
                torch.nn.functional.pad(zoo.networks[[i]].answers(stack.x)[0], (int(k == 2), 0)).double(), 1
            )
            tested, fitted = task.row_split == TEST, task.row_split == TRAIN
            share = np.bincount(task.codes[fitted], minlength=k) / fitted.sum()
            losses = [
                sklearn_log_loss(task.codes[tested], q, labels=range(k))
                for q in (p.numpy()[tested], np.tile(share, (tested.sum(), 1)))
            ]
            assert float(zoo.r2[i, 2]) == pytest.approx(max(-1.0, 1 - losses[0] / losses[1]), abs=1e-4)
    assert np.median(torch.cat([zoo.r2[:, 0] for _, zoo in zoos])) > 0.1


def test_the_view_of_a_task_does_not_know_the_numbers_of_its_classes() -> None:
    task = next(task for task in made() if task.n_outputs > 2)
    k = task.probabilities.shape[1]
    place = np.roll(np.arange(k), 1)
    p = np.empty_like(task.probabilities)
    p[:, place] = task.probabilities
    here, there = (
        stack_class_tasks([one], 4) for one in (task, replace(task, codes=place[task.codes], probabilities=p))
    )
    assert torch.equal(here.x, there.x)
    np.testing.assert_array_equal(there.y[0].long().numpy(), place[here.y[0].long().numpy()])


def test_class_r2_is_zero_for_shares_and_negative_for_less() -> None:
    tasks = [task for task in made() if task.n_outputs == 1]
    stack = stack_class_tasks(tasks, 4)
    zoos, _ = build_class_zoo(
        tasks, layout=LAYOUT, optimizer={"steps": 1, "lr": 1e-6}, spec={}, networks_per_task=1, duplicate_share=0.0,
        min_valid_r2=-1.0, max_gap=9.0, seed=0, workers=1,
    )  # fmt: skip
    networks = zoos[0][1].networks
    share = torch.tensor([task.codes[task.row_split == TRAIN].mean() for task in tasks])
    weight = torch.zeros_like(networks.weight)
    weight[:, -1, 0] = torch.logit(share)
    constant = replace(networks, weight=weight)
    found = class_r2(constant, stack, torch.arange(len(tasks)))
    np.testing.assert_allclose(found[:, 0], 0, atol=1e-5)


def test_rows_of_the_evaluation_are_in_order_and_relabelling_changes_nothing() -> None:
    model, tasks = small_model().requires_grad_(False), made(6, 200)
    found = class_metrics(model, tasks, n_samples=4, seed=0)
    expected = np.mean([float(floor(task.probabilities, task.row_split == TEST)) for task in tasks])
    assert found["floor"] == pytest.approx(expected, abs=1e-5)
    assert all(found["floor"] < found[row] for row in ROWS[:-1])
    assert found["random_wide"] < found["majority"]
    assert found["wide_minus_majority"] == pytest.approx(found["wide"] - found["majority"])
    other = [
        replace(
            task, codes=task.probabilities.shape[1] - 1 - task.codes, probabilities=task.probabilities[:, ::-1].copy()
        )
        for task in tasks
    ]
    again = class_metrics(model, other, n_samples=4, seed=0)
    assert all(again[row] == pytest.approx(found[row], rel=1e-4) for row in ROWS)


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("codes", [0], "X, codes, probabilities and row_split must fit, found"),
        ("n_classes", 1, "1 classes, and lists of"),
        ("n_features", 0, "0 features"),
        ("split", "all", "X and probabilities must be finite, codes below n_classes, splits train, valid, test; row 1"),
        ("codes", 99, "codes below n_classes"),
        ("probabilities", -0.5, "probabilities must be finite"),
        ("probabilities", float("nan"), "probabilities must be finite"),
        ("X", float("inf"), "X and probabilities must be finite"),
        ("row_split", 3, "splits train, valid, test"),
        ("way", None, "column way must have no gaps"),
    ],
)
def test_damaged_tasks_of_classes_are_one_line(tmp_path, name, value, line):
    path = tmp_path / "class_tasks.parquet"
    options = {"max_features": 4, "min_rows": 24, "max_rows": 26}
    write_class_tasks(synthetic_class_tasks(2, seed=0, stream="class_train", split="train", **options), path)
    table = read_parquet(path)
    cells = table[name].to_pylist()
    cells[1] = [value, *cells[1][1:]] if isinstance(cells[1], list) and not isinstance(value, list) else value
    write_parquet(
        table.set_column(table.column_names.index(name), table.field(name), pa.array(cells, table.field(name).type)),
        path,
    )
    with pytest.raises(InputError, match=line):
        read_class_tasks(path)
