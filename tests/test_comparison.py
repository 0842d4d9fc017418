"""Comparison: paired differences by hand, verdicts at their limit; a table counts once however often it is split."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from drawn import draw

from netformer.artifacts import networks_table
from netformer.evaluation import baselines
from netformer.evaluation.arms import ARMS, DRAWN, RAW_DRAWN, positions_of_test, runs_of
from netformer.evaluation.comparison import paired, per_task_table, rating, verdict, zero_shot_metrics
from netformer.evaluation.reported import baseline_scores
from netformer.evaluation.scored import Samples, read_samples, read_scored, sets_of
from netformer.networks.token_tables import tokenize_networks
from netformer.tasks.scores import scores
from netformer.tasks.stream import synthetic_tasks
from netformer.tasks.task import TEST, Task, split_rows
from netformer.tasks.view import TaskStack, stack_tasks

SEEDS, COUNT, FEATURES = 3, 4, 10


def tasks() -> list[Task]:
    """Two synthetic tasks and three splits of one table, in stored order."""
    made = synthetic_tasks(3, seed=0, stream="test", split="test", max_features=FEATURES, min_rows=60, max_rows=60)
    rng = np.random.default_rng(0)
    splits = [
        replace(made[2], task_id=f"real-t/{r}", source="real", row_split=split_rows(60, rng), table="real-t", repeat=r)
        for r in range(SEEDS)
    ]
    return sorted([*splits, *made[:2]], key=lambda task: task.task_id)


def stored(every: list[Task]) -> pa.Table:
    """What the stage sample writes for them: random networks, each task's first the same in all runs."""
    parts, test = [], [every[i] for i in positions_of_test(every)]
    runs = runs_of(test, SEEDS)
    wanted = [(arm, run, i, 1) for arm in ARMS for run in range(SEEDS) for i in set(runs[run].tolist())]
    wanted = [(arm, run, i, n) for arm, run, i, n in wanted if i not in runs[:run].flatten().tolist()]
    wanted += [(DRAWN, run, i, COUNT - 1) for run in range(SEEDS) for i in runs[run].tolist()]
    wanted += [(RAW_DRAWN, 0, i, COUNT - 1) for i in runs[0].tolist()]
    for seed, (arm, run, i, n) in enumerate(wanted):
        networks, at = draw(n, seed=seed, inputs=FEATURES), torch.full((n,), i)
        r2 = scores(networks, stack_tasks(test, FEATURES), at)
        kind = {"arm": [arm] * n, "sampling_seed": torch.full((n,), run)}
        table = networks_table(networks, [test[i].task_id] * n, r2=r2, **kind)
        parts.append(table.append_column("expected_r2", pa.array(np.random.default_rng(seed).random(n))))
    return pa.concat_tables(parts)


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return stored(tasks())


@pytest.fixture(scope="module")
def samples(table: pa.Table) -> Samples:
    return read_samples(table, tasks(), draw(1).layout, SEEDS, COUNT)


def test_paired_is_the_mean_and_its_standard_error_over_problems():
    rng = np.random.default_rng(0)
    per_table = pd.DataFrame({"a": rng.normal(size=40), "b": rng.normal(size=40), "c": np.nan})
    per_table.loc[3, "a"] = np.nan
    per_table.loc[:1, "b"] = per_table.loc[:1, "a"]
    found = paired(per_table, "a", "b")
    d = (per_table["a"] - per_table["b"]).dropna().to_numpy()
    assert found.n == 39
    assert found.difference == pytest.approx(sum(d) / 39)
    assert found.se == pytest.approx(np.sqrt(((d - d.mean()) ** 2).sum() / 38 / 39))
    assert found.wins == pytest.approx(((d > 0).sum() + 1) / 39)
    back = paired(per_table, "b", "a")
    assert (back.difference, back.se, back.wins) == pytest.approx((-found.difference, found.se, 1 - found.wins))
    with pytest.raises(ValueError, match="a comparison of a and c needs at least 2 problems with both, got 0"):
        paired(per_table, "a", "c")


@pytest.mark.parametrize(
    ("difference", "se", "said"),
    [(0.021, 0.01, "ahead"), (0.02, 0.01, "level"), (-0.021, 0.01, "behind"), (0.0, 0.0, "level"), (0.1, 0.0, "ahead")],
)
def test_a_verdict_needs_more_than_two_standard_errors(difference, se, said):
    assert verdict(difference, se) == said


def test_a_problem_has_a_run_per_seed_on_its_task_or_on_a_split_each():
    test = [tasks()[i] for i in positions_of_test(tasks())]
    runs = runs_of(test, SEEDS)
    assert [task.repeat for task in test] == [0, 0, 0, 1, 2]
    names = [[test[i].task_id for i in row] for row in runs.tolist()]
    synthetic = {test[i].table for i in range(3)} - {"real-t"}
    for column in zip(*names, strict=True):
        assert column == tuple(f"real-t/{r}" for r in range(SEEDS)) or set(column) < synthetic | {column[0]}
    assert sum(len(members) for name, members in sets_of(test).items() if name != "real_tables_small") == 3
    with pytest.raises(ValueError, match=r"n_seeds must be the number of row splits of .*, got 2 and real-t"):
        runs_of(test, 2)


def test_samples_of_a_run_start_with_the_mode_of_its_task(samples: Samples, table: pa.Table):
    rows = table.to_pylist()
    for run in range(SEEDS):
        for problem, i in enumerate(samples.runs[run].tolist()):
            name = samples.tasks[i].task_id
            mine = [row for row in rows if row["task_id"] == name]
            drawn = [row for row in mine if row["arm"] == DRAWN and row["sampling_seed"] == run]
            chosen = [next(row for row in mine if row["arm"] == "single"), *drawn]
            assert samples.r2["single"][run, problem, :, TEST].tolist() == [row["test_r2"] for row in chosen]
            assert samples.expected[run, problem].tolist() == [row["expected_r2"] for row in chosen]
            (control,) = [row for row in mine if row["arm"] == "unconditional"]
            assert float(samples.r2["unconditional"][run, problem, 0, TEST]) == control["test_r2"]
    again = scores(samples.networks, samples.stack, samples.task_index).view(SEEDS, 3, COUNT, 3)
    torch.testing.assert_close(again, samples.r2["single"])
    first = scores(samples.first, samples.stack, torch.arange(len(samples.tasks)))
    for i, task in enumerate(samples.tasks):
        (single,) = [row for row in rows if row["task_id"] == task.task_id and row["arm"] == "single"]
        assert float(first[i, TEST]) == pytest.approx(single["test_r2"])


def test_a_row_is_the_mean_over_the_runs_of_a_problem(samples: Samples):
    found = samples.scores()
    runs = samples.runs.tolist()
    mode = [[float(samples.r2["raw"][r, p, 0, TEST]) for r in range(SEEDS)] for p in range(3)]
    np.testing.assert_allclose(found["raw"], np.mean(mode, axis=1))
    fitted = np.arange(5.0) ** 2
    expected = [np.mean([fitted[runs[r][p]] for r in range(SEEDS)]) for p in range(3)]
    np.testing.assert_allclose(samples.over_runs(fitted), expected)
    for key in (f"wide_{COUNT}", f"average_{COUNT}", "distilled", f"best_of_{COUNT}"):
        one = [Samples(**alone(samples, run)).scores()[key] for run in range(SEEDS)]
        np.testing.assert_allclose(found[key], np.mean(one, axis=0), atol=1e-5)
    long = per_task_table(samples, {"wide_4": found["wide_4"], "raw": found["raw"]})
    real = long[long["set"] == "real_tables"]
    assert set(real["task_id"]) == {"real-t"}
    assert set(long["n_runs"][long["row"] == "wide_4"]) == {SEEDS}
    assert set(long["n_runs"][(long["row"] == "raw") & (long["set"] == "heldout_tasks")]) == {1}
    assert set(real["n_runs"]) == {SEEDS}


def alone(samples: Samples, run: int) -> dict:
    """The fields of one run as if there were no other: its tasks are all there are."""
    at, (_, t, n) = samples.runs[run], samples.shape
    part = slice(run * t * n, (run + 1) * t * n)
    return {
        "tasks": [replace(samples.tasks[i], repeat=0) for i in at.tolist()],
        "stack": samples.stack[at],
        "runs": torch.arange(t)[None],
        "networks": samples.networks[part],
        "task_index": torch.arange(t).repeat_interleave(n),
        "r2": {arm: values[run : run + 1] for arm, values in samples.r2.items()},
        "expected": samples.expected[run : run + 1],
    }


def test_wide_units_are_those_the_wide_networks_output_layer_reads(samples: Samples):
    for i in range(len(samples.tasks)):
        networks = samples.of_task(i)
        read = sum(int(networks[[k]].specs.widths[0][networks[[k]].specs.depth[0] - 1]) for k in range(COUNT))
        assert int(samples.wide_units[i]) == read


def test_controls_have_the_size_of_what_they_stand_beside(samples: Samples, monkeypatch: pytest.MonkeyPatch):
    asked = []

    def head(tasks: TaskStack, units: int | torch.Tensor, **_: int) -> torch.Tensor:
        asked.append(torch.as_tensor(units).expand(len(tasks)).tolist())
        return baselines.constant(tasks)

    fast = {"random_head": head, "mlp_lbfgs": lambda tasks, **_: baselines.constant(tasks)}
    for name, made in fast.items():
        monkeypatch.setattr(f"netformer.evaluation.reported.baselines.{name}", made)
    monkeypatch.setattr("netformer.evaluation.reported.train_networks", lambda initial, *_, **__: initial)
    found, _ = baseline_scores(
        samples.stack,
        samples.first,
        draw(5, inputs=FEATURES),
        samples.wide_units,
        spec={},
        optimizer={},
        scratch_networks=2,
        seed=0,
        workers=1,
    )
    assert {len(values) for values in found.values()} == {len(samples.tasks)}
    own, fixed, wide = asked
    assert set(fixed) == {128}
    assert wide == samples.wide_units.tolist()
    assert max(own) < min(wide)


def test_metrics_hold_means_and_paired_differences():
    lines = [
        {"set": "heldout_tasks", "task_id": str(i), "row": row, "test_r2": value}
        for i in range(3)
        for row, value in {"single": 0.5 + 0.1 * i, "ridge": 0.5, "ceiling": 0.9}.items()
    ]
    found = zero_shot_metrics(pd.DataFrame(lines))["heldout_tasks"]
    assert found["single_mean"] == pytest.approx(0.6)
    assert found["single_minus_ridge"] == pytest.approx(0.1)
    assert found["single_minus_ridge_se"] == pytest.approx(0.1 / np.sqrt(3))
    assert found["single_wins_ridge"] == pytest.approx(2.5 / 3)
    assert not [
        key for key in found if "minus_ceiling" in key or "minus_single" in key or key.startswith("ridge_minus")
    ]
    assert np.isfinite(list(found.values())).all()


def test_ratings_rank_rows_by_whom_they_beat_and_are_the_same_twice():
    rng = np.random.default_rng(0)
    per_table = pd.DataFrame(rng.normal(size=(40, 3)) * 0.1 + [0.0, 0.1, 0.3], columns=["ridge", "single", "wide_16"])
    found = rating(per_table)
    assert found == rating(per_table)
    assert found["ridge"] == 1000 < found["single"] < found["wide_16"]
    assert found["wide_16_low"] < found["wide_16"] < found["wide_16_high"]


def test_tokens_of_other_networks_are_refused():
    made, networks = tasks(), draw(4)
    zoo = networks_table(networks, [made[0].task_id] * 4, r2=torch.zeros(4, 3), arm=["zoo"] * 4)
    tokens = tokenize_networks(networks).add_column(0, "net_id", zoo["net_id"])
    assert len(read_scored(zoo, tokens, made, networks.layout).networks) == 4
    with pytest.raises(ValueError, match=r"zoo\.parquet and tokens\.parquet must hold the same networks"):
        read_scored(zoo, tokens.take(pa.array([0, 2, 1, 3])), made, networks.layout)
