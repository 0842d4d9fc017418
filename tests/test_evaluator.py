"""Evaluator: test rows only report, choices are made where they are said to be, controls lack what they should lack.

The first law holds for every row at once, without a look inside. Let v be standardised numbers on the m test rows of a
task and s v its test targets there: with predictions p that know nothing of them,

    s^2 R2(s v) = s^2 - |p - s v|^2 / m = 2 s <p, v> / m - |p|^2 / m

which is linear in s, and so is its mean over runs. A prediction, or a choice among predictions, that follows the test
targets bends the line.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn import draw
from sklearn.metrics import r2_score
from torch import Tensor

from netformer.evaluation import baselines
from netformer.evaluation.arms import ARMS, CONTROLS, sample_arm
from netformer.evaluation.reported import baseline_scores
from netformer.evaluation.scored import Samples
from netformer.generation.merging import widen
from netformer.model.grammar import read_structure
from netformer.model.vae import TransformerVAE
from netformer.networks.specs import Layout
from netformer.networks.stack import concatenate
from netformer.options import ModelOptions
from netformer.tasks.scores import scores
from netformer.tasks.task import TEST, TRAIN, VALID, Task
from netformer.tasks.view import TaskStack, stack_tasks

LAYOUT, N_META = Layout(4, 2, 4), 3
RUNS, COUNT = 2, 4
FAR = 200.0  # s: test targets of so many deviations, that no row falls to the floor of -1
OPTIONS = {"steps": 20, "lr": 0.03, "batch_size": 16}


@pytest.fixture(scope="module")
def model() -> TransformerVAE:
    """Random weights under which the condition decides."""
    small = {"d_model": 16, "n_heads": 2, "d_condition": 16, "d_writer": 32, "d_global": 8, "d_vertex": 2, "d_row": 16}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TransformerVAE(LAYOUT, N_META, ModelOptions(orientations=2, **small))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def tables(n: int = 3, held: int = 12) -> list[Task]:
    """Tasks of 3 features and different numbers of train rows; held: valid rows, and test rows."""
    made = []
    for i in range(n):
        rng = np.random.default_rng(i)
        rows = rng.permutation(np.repeat([TRAIN, VALID, TEST], [20 + i, held, held])).astype(np.int8)
        x = rng.normal(size=(len(rows), 3))
        y = np.abs(x[:, 0]) + np.tanh(2 * x[:, 1]) + 0.3 * rng.normal(size=len(rows))
        made.append(Task(str(i), "synthetic", "drawn", "test", x, y, rows))
    return made


def with_targets(task: Task, code: int, s: float) -> Task:
    """The same task, with s times standardised numbers as targets of the rows of one kind."""
    rows, y = task.row_split == code, task.y.copy()
    v = np.random.default_rng(len(y)).normal(size=rows.sum())
    y[rows] = y[task.row_split == TRAIN].std() * s * (v - v.mean()) / v.std()
    return replace(task, y=y)


def sampled(model: TransformerVAE, tasks: list[Task]) -> Samples:
    """What the stages sample and evaluate make of the tasks: every arm, in runs with a seed of their own."""
    stack, t = stack_tasks(tasks, LAYOUT.max_features), len(tasks)
    known = torch.randn(t, N_META, generator=torch.Generator().manual_seed(0))
    index, r2s, expected, networks = torch.arange(t).repeat_interleave(COUNT), {}, [], []
    for arm in ARMS:
        written = [sample_arm(model, stack, known, arm, COUNT, seed) for seed in range(RUNS)]
        r2s[arm] = torch.stack([scores(made, stack, index) for made, _ in written]).view(RUNS, t, COUNT, 3)
        if arm == "single":
            networks, expected = [made for made, _ in written], [estimate for _, estimate in written]
    runs = torch.arange(t).expand(RUNS, -1)
    estimates = torch.stack(expected).view(RUNS, t, COUNT)
    return Samples(tasks, stack, runs, concatenate(networks), index.repeat(RUNS), r2s, estimates)


def every_row(model: TransformerVAE, tasks: list[Task]) -> dict[str, np.ndarray]:
    """All rows of the evaluation, ours and baselines, but the ceiling."""
    samples = sampled(model, tasks)
    options = {"spec": {}, "optimizer": OPTIONS, "scratch_networks": 4, "seed": 0, "workers": 1}
    fitted, _ = baseline_scores(samples.stack, samples.first, draw(20, layout=LAYOUT), samples.wide_units, **options)
    ours = samples.scores()
    del ours["ceiling"]
    return ours | fitted


def test_test_targets_change_no_choice_and_no_prediction_of_any_row(model: TransformerVAE) -> None:
    tasks = tables()
    found = {s: every_row(model, [with_targets(task, TEST, s) for task in tasks]) for s in (FAR, -FAR, 2 * FAR)}
    assert len(found[FAR]) > 20
    for row, here in found[FAR].items():
        back, twice = found[-FAR][row], found[2 * FAR][row]
        assert min(here.min(), back.min(), twice.min()) > -1, row
        np.testing.assert_allclose(4 * twice, 1.5 * here - 0.5 * back, rtol=0, atol=1e-6, err_msg=row)


def test_valid_targets_change_what_is_chosen_by_them_and_nothing_else(model: TransformerVAE) -> None:
    tasks = tables()
    before = every_row(model, tasks)
    after = every_row(model, [with_targets(task, VALID, 1.0) for task in tasks])
    moved = {row for row in before if not np.array_equal(before[row], after[row])}
    by_valid = {f"best_of_{COUNT}", "ridge", "mlp", "retrieval", "scratch", "scratch_best"}
    assert moved <= by_valid
    assert moved >= {f"best_of_{COUNT}", "retrieval", "scratch_best"}


@pytest.fixture(scope="module")
def samples(model: TransformerVAE) -> Samples:
    return sampled(model, tables())


@pytest.fixture(scope="module")
def graded(samples: Samples) -> tuple[Samples, Tensor]:
    """Samples with scores made up, and which sample of each run and problem is best by each of four measures.

    Best, and likewise worst, by train, valid, test rows and leave-one-out is another sample each.
    """
    quality = torch.linspace(-0.5, 0.9, COUNT, dtype=torch.float64)
    g, shape = torch.Generator().manual_seed(3), (RUNS, len(samples.tasks), COUNT)
    order = torch.rand(shape, generator=g).argsort(2)
    by = [quality[order.roll(shift, 2)] for shift in range(4)]  # train, valid, test, leave-one-out
    single = torch.stack(by[:3], 3)
    assert all(len({int(values[r, p].argmax()) for values in by}) == 4 for r in range(RUNS) for p in range(shape[1]))
    return replace(samples, r2=samples.r2 | {"single": single}, expected=by[3]), torch.stack(by)


def test_of_samples_of_known_quality_the_known_one_is_chosen(graded: tuple[Samples, Tensor]) -> None:
    samples, (_, valid, test, leave_one_out) = graded
    found = samples.scores()
    for row, measure in (("best_of", valid), ("expected_best", leave_one_out)):
        expected = [
            np.mean([float(test[run, problem, measure[run, problem].argmax()]) for run in range(RUNS)])
            for problem in range(len(samples.tasks))
        ]
        np.testing.assert_allclose(found[f"{row}_{COUNT}"], expected)


def test_the_first_sample_stands_alone_and_drawn_is_the_mean_of_the_others(graded: tuple[Samples, Tensor]) -> None:
    samples, (_, _, test, _) = graded
    found = samples.scores()
    np.testing.assert_allclose(found["single"], test[:, :, 0].numpy().mean(0))
    np.testing.assert_allclose(found["drawn"], test[:, :, 1:].numpy().mean((0, 2)))
    for arm in ("raw", *CONTROLS):
        np.testing.assert_allclose(found[arm], samples.r2[arm][:, :, 0, TEST].numpy().mean(0))


def test_average_is_the_mean_prediction_and_wide_the_merged_network_of_a_run(samples: Samples) -> None:
    found, t = samples.scores(), len(samples.tasks)
    for problem in range(t):
        stack, scored = samples.stack[[problem]].trim(), {"average": [], "wide": []}
        test = (stack.rows[0] == TEST).numpy()
        for run in range(RUNS):
            start = (run * t + problem) * COUNT
            own = samples.networks[slice(start, start + COUNT)]
            for row, networks in (("average", own), ("wide", widen(own, stack, COUNT))):
                mean = networks.predict(stack.x).double().numpy().mean(0)
                scored[row].append(max(-1.0, r2_score(stack.y[0].numpy()[test], mean[test])))
        for row, values in scored.items():
            assert found[f"{row}_{COUNT}"][problem] == pytest.approx(np.mean(values), abs=1e-4), row


def test_the_best_of_more_scratch_networks_is_better() -> None:
    """By so many valid rows that what is best there is so on test rows, on average over tasks."""
    tasks = tables(10, held=150)
    stack, singles = stack_tasks(tasks, LAYOUT.max_features), draw(10, layout=LAYOUT, inputs=3)
    options = {"spec": {}, "optimizer": OPTIONS, "seed": 0, "workers": 1}
    units = torch.full((10,), 8)
    one, best_of_8 = (
        baseline_scores(stack, singles, singles, units, scratch_networks=n, **options)[0]["scratch_best"]
        for n in (1, 8)
    )
    assert best_of_8.mean() > one.mean() + 0.1


def test_the_random_control_has_the_parameters_of_the_network_it_stands_beside(
    samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hidden unit of it has its inputs, a bias and an output weight; the output has a bias and reads no input."""
    asked = []
    monkeypatch.setattr(
        baselines, "random_head", lambda tasks, units, **_: asked.append(units) or baselines.constant(tasks)
    )
    options = {"spec": {}, "optimizer": OPTIONS, "scratch_networks": 1, "seed": 0, "workers": 1}
    singles = draw(3, layout=LAYOUT, inputs=3, min_width=3)
    baseline_scores(samples.stack, singles, singles, samples.wide_units, **options)
    inputs = samples.stack.n_features
    parameters = 1 + asked[0] * (inputs + 2)
    assert bool((2 * (parameters - singles.specs.n_params).abs() <= inputs + 2).all())


def changed(tasks: TaskStack, rows: Tensor) -> TaskStack:
    """Other numbers in some rows of every task."""
    g = torch.Generator().manual_seed(9)
    x = torch.where(rows.unsqueeze(2), torch.randn(tasks.x.shape, generator=g), tasks.x)
    return TaskStack(x, torch.where(rows, torch.randn(tasks.y.shape, generator=g), tasks.y), tasks.rows, tasks.views)


def weights(model: TransformerVAE, tasks: TaskStack, known: Tensor, arm: str, seed: int = 0) -> Tensor:
    return sample_arm(model, tasks, known, arm, COUNT, seed)[0].weight.view(len(tasks), COUNT, -1)


@pytest.mark.parametrize("arm", ARMS)
def test_an_arm_reads_train_rows_or_metafeatures_as_its_name_says(
    model: TransformerVAE, samples: Samples, arm: str
) -> None:
    stack = samples.stack
    known = torch.randn(len(stack), N_META, generator=torch.Generator().manual_seed(0))
    before = weights(model, stack, known, arm)
    assert torch.equal(before, weights(model, changed(stack, ~stack.train), known, arm)), "reads valid or test rows"
    by_rows = not torch.equal(before, weights(model, changed(stack, stack.train), known, arm))
    by_metafeatures = not torch.equal(before, weights(model, stack, known + 1, arm))
    assert by_rows == (arm not in ("metafeatures_only", "unconditional"))
    assert by_metafeatures == (arm in ("metafeatures_only", "raw_with_metafeatures"))


def test_the_first_sample_is_the_mode_and_the_others_are_drawn(model: TransformerVAE, samples: Samples) -> None:
    for arm in ("single", "raw"):
        one, other = (weights(model, samples.stack, torch.zeros(3, N_META), arm, seed) for seed in (0, 1))
        assert torch.equal(one[:, 0], other[:, 0])
        assert not (one[:, 1:] == other[:, 1:]).flatten(1).all(1).any()


def test_the_shuffled_condition_is_that_of_another_task(model: TransformerVAE, samples: Samples) -> None:
    """Written by hand: the mode of the prior of task j, with the inputs of task i, is what i is given, j not i."""
    stack, t = samples.stack, len(samples.tasks)
    known = torch.zeros(t, N_META)
    first = {arm: weights(model, stack, known, arm)[:, 0] for arm in ("raw", "shuffled_condition")}

    def given(i: int, arm: str) -> list[int]:
        """The tasks under whose condition network i was written."""
        found = []
        for j in range(t):
            with torch.no_grad():
                c = model.embed(1, stack[[j]].train_only())
                z = model.prior_of(c).mu
                specs = read_structure(model.structure_logits(z, c), stack.n_features[[i]], model.layout)
                written = model.write(z, c, specs).weight.flatten()
            if torch.allclose(written, first[arm][i], rtol=1e-4, atol=1e-5):
                found.append(j)
        return found

    assert [given(i, "raw") for i in range(t)] == [[i] for i in range(t)]
    others = [given(i, "shuffled_condition") for i in range(t)]
    assert all(len(found) == 1 and found != [i] for i, found in enumerate(others))
    assert len({found[0] for found in others}) == t
