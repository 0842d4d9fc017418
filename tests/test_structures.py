"""One small network: which structures are tried, which is chosen, and what is refused."""

import numpy as np
import pandas as pd
import pytest
import torch
from commands import refused, run
from numpy.testing import assert_allclose

from netformer import InputError, NetFormerClassifier, NetFormerRegressor
from netformer.generation.generator import NetFormer
from netformer.generation.structures import MOST_LOSS, Smallest, Writing, dense, importance, n_params, sizes
from netformer.model.prompt import Prompt
from netformer.networks.specs import WRITTEN, Layout
from netformer.networks.stack import Networks
from netformer.search.worth import BOUNDS, CHOSEN, COLUMNS, CROPPED, LOSSES, OTHER, RANDOM, measure, summary
from netformer.tables.reading import read
from netformer.tasks.stream import synthetic_tasks

LAYOUT = Layout(16, 2, 32)


@pytest.fixture(scope="module")
def table():
    """A product of two of eight columns: neither says anything on its own."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 8))
    return X, X[:, 5] * X[:, 2] + 0.1 * rng.normal(size=200)


@pytest.fixture(scope="module")
def fitted(table):
    return NetFormerRegressor(max_loss=0.02).fit(*table)


@pytest.mark.parametrize("used", [1, 3, 16])
@pytest.mark.parametrize("bound", [None, 5, 40, 250])
def test_every_candidate_keeps_its_bound_and_reads_what_it_says(used, bound):
    shapes = sizes(LAYOUT, used, Prompt(bound))
    order = torch.arange(used).flip(0)
    specs = dense(LAYOUT, order, shapes)
    assert len(set(shapes)) == len(shapes) == len(specs)
    for (reads, width, name), mask, widths, kinds in zip(
        shapes, specs.mask, specs.widths.tolist(), specs.activations.tolist(), strict=True
    ):
        assert int(mask.sum()) == n_params(reads, width) <= (bound or 10_000)
        assert widths == [width, 0]
        assert WRITTEN[kinds[0]] == name
        read_by = mask[:, 1 : 1 + LAYOUT.max_features].any(0).nonzero().flatten().tolist()
        assert read_by == sorted(order[:reads].tolist())


def test_a_bound_is_used_up_and_activations_are_those_allowed():
    assert max(n_params(reads, width) for reads, width, _ in sizes(LAYOUT, 4, Prompt(60))) > 55
    assert {name for *_, name in sizes(LAYOUT, 4, Prompt(activations=("relu",)))} == {"relu"}
    assert {name for *_, name in sizes(LAYOUT, 4, Prompt(activations=("relu", "tanh")))} == {"tanh"}
    with pytest.raises(InputError, match="max_params must be at least 5, got 4"):
        sizes(LAYOUT, 4, Prompt(4))


def test_importance_is_the_sum_over_paths():
    specs = dense(LAYOUT, torch.arange(2), [(2, 2, "tanh")])
    weight = torch.zeros(specs.mask.shape)
    first = LAYOUT.layer(0).start
    weight[0, first, 1:3] = torch.tensor([2.0, -1.0])
    weight[0, first + 1, 1:3] = torch.tensor([0.0, 4.0])
    weight[0, -1, 1:3] = torch.tensor([0.5, 0.0])  # skip
    weight[0, -1, 1 + LAYOUT.max_features : 3 + LAYOUT.max_features] = torch.tensor([3.0, -0.5])
    assert importance(Networks(specs, weight))[:2].tolist() == [6.5, 5.0]


def test_the_smallest_that_is_good_enough_is_delivered(table, fitted):
    X, _ = table
    front, about = fitted.networks_, fitted.network_.about["search"]
    params = front.networks.specs.mask.sum((1, 2)).tolist()
    r2 = np.asarray(front.expected_r2)
    assert params == sorted(params)
    assert (np.diff(r2) > 0).all(), "a larger one that is no better is no compromise"
    assert about["chosen"] == int(np.flatnonzero(r2 >= r2.max() - 0.02)[0])
    assert about["candidates"] >= len(front)
    assert_allclose(fitted.predict(X), front.predict(X, about["chosen"]), rtol=1e-5, atol=1e-6)
    assert fitted.network_.stack("wide").merged_size()[1] == params[about["chosen"]]
    assert "steps" not in fitted.network_.about


def test_columns_that_act_only_together_are_found(table, fitted):
    X, y = table
    used = fitted.feature_importances_.argsort()[-2:]
    assert set(used.tolist()) == {2, 5}
    assert fitted.score(X, y) > 0.8
    free = NetFormerRegressor(n_samples=1, steps=False, random_state=0).fit(X, y)
    assert fitted.network_.stack("wide").merged_size()[1] < free.network_.stack("wide").merged_size()[1]


def test_more_loss_is_never_larger_and_bounds_hold(table):
    sizes_of = []
    for loss in (0.0, 0.1, MOST_LOSS):
        model = NetFormerRegressor(max_loss=loss, max_params=80, activations=["tanh"]).fit(*table)
        sizes_of.append(model.network_.stack("wide").merged_size()[1])
        assert set(model.networks_.networks.specs.activations[:, 0].tolist()) == {WRITTEN.index("tanh")}
    assert sizes_of == sorted(sizes_of, reverse=True)
    assert sizes_of[0] <= 80
    assert sizes_of[-1] == 5


def test_arrays_and_tensors_choose_the_same(table):
    reading, z, t = read(*table)
    one, other = (Writing.of(load(), z, t, reading.kinds) for load in (NetFormer.load, NetFormer.load_arrays))
    assert one.order().tolist() == other.order().tolist()
    specs = [dense(LAYOUT, task.order(), sizes(LAYOUT, task.used, Prompt(60))) for task in (one, other)]
    r2 = [np.asarray(task.solved(some)[1]) for task, some in zip((one, other), specs, strict=True)]
    assert_allclose(*r2, atol=1e-4)


def test_intervals_folders_and_wide_tables(table, fitted, tmp_path):
    X, y = table
    low, high = fitted.predict_interval(X).T
    assert 0.8 < ((low <= y) & (y <= high)).mean() < 0.99
    fitted.save(tmp_path / "nets")
    again = NetFormerRegressor.load(tmp_path / "nets")
    assert (again.predict(X) == fitted.predict(X)).all()
    assert again.max_loss == 0.02
    wide = np.column_stack([np.random.default_rng(1).normal(size=(200, 30)), X])
    model = NetFormerRegressor(max_loss=0.0).fit(wide, wide[:, 30])
    assert model.score(wide, wide[:, 30]) > 0.95
    nothing = NetFormerRegressor(max_loss=0.0).fit(X, np.ones(200))
    assert (nothing.predict(X) == 1).all()


@pytest.mark.parametrize("value", [-0.1, float("nan"), MOST_LOSS + 1, True, "small"])
def test_max_loss_is_a_number_of_r2(table, value):
    with pytest.raises(InputError, match="max_loss must be None or a number of R2, 0 to 2, got"):
        NetFormerRegressor().set_params(max_loss=value).fit(*table)


def test_what_does_not_go_together_is_one_line(table):
    X, y = table
    with pytest.raises(InputError, match="leave search and refine_steps out"):
        NetFormerRegressor(max_loss=0.01, refine_steps=5).fit(X, y)
    with pytest.raises(InputError, match="leave search and refine_steps out"):
        NetFormerRegressor(max_loss=0.01, search=Smallest()).fit(X, y)
    with pytest.raises(InputError, match="max_loss is for one target, got 2: 'y0', 'y1'"):
        NetFormerRegressor(max_loss=0.01).fit(X, np.column_stack([y, y]))
    assert "max_loss" not in NetFormerClassifier().get_params()


def test_the_command_line_asks_for_it(table, tmp_path):
    X, y = table
    frame = pd.DataFrame(X, columns=list("abcdefgh")).assign(y=y, kind=np.where(y > 0, "up", "down"))
    frame.to_csv(tmp_path / "t.csv", index=False)
    path = str(tmp_path / "t.csv")
    said = run("generate", path, "-t", "y", "--drop", "kind", "--no-score", "--max-loss", "0.02")
    assert "the smallest that is good enough" in " ".join(said.output.split())
    assert "--max-loss is for a target of numbers" in refused("generate", path, "-t", "kind", "--max-loss", "0.02")
    assert "leave --by out" in refused("generate", path, "-t", "y", "--by", "kind", "--max-loss", "0.02")
    assert "max_loss must be" in refused("generate", path, "-t", "y", "--drop", "kind", "--max-loss", "-1")


def test_worth_is_measured_on_rows_that_nothing_has_seen():
    tasks = synthetic_tasks(3, seed=5, stream="valid", split="valid", max_features=4, min_rows=60, max_rows=60)
    found = measure(tasks)
    assert list(found.columns) == COLUMNS
    bounded = found[(found["bound"] > 0) & (found["method"] != OTHER)]
    assert (bounded["params"] <= bounded["bound"]).all()
    assert set(found["method"]) >= {CHOSEN, CROPPED, RANDOM}
    known = summary(found)
    assert {f"structure.{bound or 'free'}.{RANDOM}.gain" for bound in BOUNDS} <= set(known)
    assert known["smallest.0.0.params"] >= known[f"smallest.{LOSSES[-1]}.params"]
    free = found[(found["bound"] == 0) & (found["method"] == CHOSEN)].set_index("task")["test_r2"]
    assert known["structure.free.chosen"] == pytest.approx(free.mean())
