"""Tables of the stream: columns as people have them, read in batches, equal to the reading of each table."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from netformer.errors import InputError
from netformer.model.orientation import Orientations
from netformer.model.vae import TransformerVAE
from netformer.networks.specs import Layout
from netformer.options import ModelOptions, TablePrior, TaskPrior
from netformer.tables.batched import inputs_of_many
from netformer.tables.inputs import KINDS
from netformer.tables.reading import read
from netformer.tasks.families import DrawnTasks, draw_tasks
from netformer.tasks.observation import STAND_INS, draw_categories
from netformer.tasks.stream import stream_batch
from netformer.tasks.task import TRAIN

PRIOR = TaskPrior(min_features=2, warp_share=0.15, level_share=0.2, weak_share=0.3, target_share=0.2)
MIXED = TablePrior(category_share=0.3, gap_share=0.2, outlier_share=0.15, time_share=0.2)
SIZES = {"max_features": 8, "min_rows": 60, "max_rows": 60, "prior": PRIOR}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(seed: int, rows: int, n: int = 12, tables: TablePrior = MIXED) -> DrawnTasks:
    return draw_tasks(n, rows, max_features=8, prior=PRIOR, tables=tables, generator=seeded(seed))


def frame(tasks: DrawnTasks, i: int) -> pd.DataFrame:
    """Task i as a person would hold it."""
    cells = {}
    for j in range(int(tasks.n_features[i])):
        column = tasks.x[i, :, j].double().numpy()
        if tasks.levels[i, j] > 0:
            names = [None if np.isnan(cell) else f"level {int(cell):02d}" for cell in column]
            cells[f"x{j}"] = pd.Series(names, dtype="category")
        else:
            cells[f"x{j}"] = pd.Series(column)
    return pd.DataFrame(cells)


def standard(v: np.ndarray, m: int) -> np.ndarray:
    return (v - v[:m].mean()) / v[:m].std()


@pytest.mark.parametrize(("seed", "rows"), [(0, 60), (1, 200), (2, 400), (3, 90), (5, 30)])
def test_batches_are_read_as_each_table_is(seed: int, rows: int) -> None:
    """The same inputs of the same columns, the same numbers in all rows, the same share of gaps."""
    tasks, m = drawn(seed, rows), rows * 2 // 3
    many = inputs_of_many(tasks.x.double(), tasks.levels, tasks.y.double(), m)
    seen = set()
    for i in range(len(tasks.x)):
        table = frame(tasks, i)
        reading, z, _ = read(table.iloc[:m], tasks.y[i, :m].double().numpy())
        theirs = reading.scaled(reading.numbers(table))
        theirs[:m] = z
        left_out = {int(name[1:]) for name, _ in reading.left_out}
        expected: dict[tuple[int, str], list] = {}
        for k, one in enumerate(reading.inputs):
            if z[:, k].any():
                at = int(reading.columns[one.column][1:])
                expected.setdefault((at, one.kind), []).append((theirs[:, k], reading.kinds[k, -1]))
        found: dict[tuple[int, str], list] = {}
        for k in range(many.x.shape[2]):
            at, values = int(many.column[i, k]), many.x[i, :, k].numpy()
            if at >= 0 and at not in left_out and values[:m].std() > 1e-9:
                kind = KINDS[int(many.kinds[i, k, :-1].argmax())]
                found.setdefault((at, kind), []).append((standard(values, m), float(many.kinds[i, k, -1])))
        assert {key: len(some) for key, some in found.items()} == {key: len(some) for key, some in expected.items()}
        for key, some in found.items():
            for values, gaps in some:
                assert min(np.abs(values - other).max() + abs(gaps - share) for other, share in expected[key]) < 1e-6
            seen.add(key[1])
    assert seen >= {"value", "level", "missing"} if rows > 30 else seen >= {"value", "level"}


def test_every_kind_of_input_occurs() -> None:
    kinds = sum(
        inputs_of_many(tasks.x, tasks.levels, tasks.y, 200).kinds.sum((0, 1))
        for tasks in (drawn(seed, 300, 40, replace(MIXED, category_share=0.5)) for seed in range(3))
    )
    assert bool((kinds > 0).all()), kinds


def test_later_rows_decide_nothing_and_are_read_alone() -> None:
    tasks = drawn(3, 120)
    both = inputs_of_many(tasks.x, tasks.levels, tasks.y, 80)
    cut = inputs_of_many(tasks.x[:, :90], tasks.levels, torch.cat([tasks.y[:, :80], torch.zeros(12, 10)], 1), 80)
    assert torch.equal(both.kinds, cut.kinds)
    # to the last digit: how a sum is rounded may depend on the number of rows
    torch.testing.assert_close(both.x[:, :90], cut.x, rtol=0, atol=1e-6)


@pytest.mark.parametrize("share", vars(TablePrior()))
def test_each_ingredient_alone_does_what_it_says(share: str) -> None:
    plain, rich = drawn(0, 200, 30, TablePrior()), drawn(0, 200, 30, TablePrior(**{share: 1.0}))
    used = torch.arange(8) < plain.n_features.unsqueeze(1)
    assert torch.equal(plain.n_features, rich.n_features)
    assert bool(rich.y.isfinite().all())
    gaps = rich.x.isnan().float().mean(1)[used]
    if share == "gap_share":
        assert bool((gaps > 0).float().mean() > 0.95)
        assert 0.05 < float(gaps.mean()) < 0.3
    else:
        assert not gaps.any()
    if share == "category_share":
        shown = rich.levels[used] > 0
        assert 0.5 < float(shown.float().mean()) < 0.9  # the others are integer codes
        cells = rich.x.transpose(1, 2)[used]
        assert bool((cells == cells.round()).all())
        assert int(rich.levels.max()) > 10
    else:
        assert not rich.levels.any()
    if share == "outlier_share":
        stands = torch.stack([(rich.x == value).any(1) for value in STAND_INS]).any(0)[used]
        assert 0.2 < float(stands.float().mean()) < 0.6
        wild = (rich.x - plain.x).abs().amax(1)[used] > 10
        assert float(wild.float().mean()) > 0.5
    if share == "time_share":
        sorted_y, sorted_plain = rich.y.sort(1).values, plain.y.sort(1).values
        assert torch.equal(sorted_y, sorted_plain)
        rank = torch.arange(200.0) - 99.5
        z = (rich.x - rich.x.mean(1, keepdim=True)) / rich.x.std(1, keepdim=True).clamp(min=1e-6)
        along = (z * rank.view(1, -1, 1)).mean(1).abs() / rank.square().mean().sqrt()
        assert float(along.amax(1).median()) > 0.6
        assert float((along.amax(1) > 0.6).float().mean()) > 0.5


def test_a_category_acts_through_its_levels() -> None:
    """What the function is given takes one value per level, and a prototype moves a second column with it."""
    used = torch.ones(20, 6, dtype=torch.bool)
    made = draw_categories(used, 300, 0.4, seeded(0))
    x = torch.randn(20, 300, 6, generator=seeded(1))
    acted, (shown, levels) = made.acted(x), made.shown(x, x)
    moved = {(int(t), int(c)) for t, c, m in zip(made.task, made.other, made.moves, strict=True) if m.any()}
    assert moved
    for k in range(len(made.task)):
        t, c = int(made.task[k]), int(made.column[k])
        codes = shown[t, :, c]
        assert bool((codes < made.levels[k]).all() & (codes >= 0).all())
        assert int(levels[t, c]) == (0 if made.coded[k] else int(made.levels[k]))
        for level in codes.unique():
            if (t, c) not in moved:
                assert len(acted[t, codes == level, c].unique()) == 1
    chosen = {(int(t), int(c)) for t, c in zip(made.task, made.column, strict=True)}
    for t in range(20):
        for c in range(6):
            if (t, c) not in chosen:
                assert torch.equal(shown[t, :, c], x[t, :, c])
                assert torch.equal(acted[t, :, c], x[t, :, c]) == ((t, c) not in moved)


def test_the_stream_reads_mixed_tables_and_plain_ones_are_as_ever() -> None:
    mixed = stream_batch(0, 12, seed=0, tables=MIXED, **SIZES)
    assert torch.equal(mixed.x, stream_batch(0, 12, seed=0, tables=MIXED, **SIZES).x)
    assert bool(mixed.x.isfinite().all())
    assert mixed.kinds is not None
    used = torch.arange(8) < mixed.n_features.unsqueeze(1)
    assert torch.equal(mixed.kinds[:, :, :-1].sum(2), used.float())
    train = mixed.rows == TRAIN
    z = torch.where(train.unsqueeze(2), mixed.x, torch.nan)
    assert float(z.nanmean(1).abs().max()) < 0.05
    assert stream_batch(0, 12, seed=0, **SIZES).kinds is None


def test_kinds_follow_their_columns_into_an_orientation() -> None:
    tasks = stream_batch(0, 12, seed=0, tables=MIXED, **SIZES)
    order = torch.arange(8).flip(0).expand(12, -1)
    turned = Orientations(order, -torch.ones(12)).apply(tasks)
    assert turned.kinds is not None
    assert tasks.kinds is not None
    assert torch.equal(turned.kinds, tasks.kinds.flip(1))
    assert torch.equal(turned[[3, 1]].kinds, turned.kinds[[3, 1]])


def test_the_model_hears_of_kinds_only_if_asked_and_starts_as_if_it_did_not() -> None:
    tasks = stream_batch(0, 12, seed=0, tables=MIXED, **SIZES)
    plain, told = (made(kinds) for kinds in (False, True))
    missing = told.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing == ["condition_encoder.task_encoder.kinds.weight"]
    assert torch.equal(plain.embed(12, tasks), told.embed(12, tasks))
    others = replace(tasks, kinds=None)
    assert torch.equal(plain.embed(12, tasks), plain.embed(12, others))
    torch.nn.init.normal_(told.condition_encoder.task_encoder.kinds.weight)
    assert not torch.allclose(told.embed(12, tasks), told.embed(12, others))


def made(kinds: bool) -> TransformerVAE:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TransformerVAE(Layout(8, 2, 8), 37, ModelOptions(kinds=kinds)).eval()


def test_shares_out_of_range_are_one_line() -> None:
    with pytest.raises(InputError, match=r"gap_share must be .* got 1\.5"):
        TablePrior(gap_share=1.5)
