"""Loaders: what they give back is what was written, filters agree with pandas on the whole table."""

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from drawn import draw

import netformer
from netformer.artifacts import networks_table, write_parquet, write_tasks
from netformer.networks.specs import Layout
from netformer.networks.token_tables import tokenize_networks
from netformer.tasks.task import Task
from netformer.zoo.load import load_tokens, load_zoo

LAYOUT = Layout(5, 3, 4)
SPLITS = ("train", "valid", "test")


@pytest.fixture(scope="module")
def nets():
    return draw(60, layout=LAYOUT, sparse_share=0.5, skip_share=0.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, nets):
    """tasks, zoo and tokens of 60 networks on 9 tasks, three of each split."""
    path, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    rows = np.zeros(12, np.int8)
    tasks = [
        Task(f"t{i}", "synthetic", "sparse", SPLITS[i % 3], rng.normal(size=(12, 3)), rng.normal(size=12), rows)
        for i in range(9)
    ]
    ids = [f"t{i % 9}" for i in range(60)]
    table = networks_table(nets, ids, r2=torch.tensor(rng.uniform(-1, 1, (60, 3))), arm=["zoo"] * 60)
    tokens = tokenize_networks(nets, torch.ones(nets.specs.mask.shape[:2]))
    tokens = tokens.add_column(0, "task_id", table["task_id"]).add_column(0, "net_id", table["net_id"])
    write_tasks(tasks, path / "tasks.parquet")
    write_parquet(table, path / "zoo.parquet")
    write_parquet(tokens, path / "tokens.parquet")
    return path


def same(left, right):
    return torch.equal(left.weight, right.weight) and torch.equal(left.specs.mask, right.specs.mask)


def test_the_whole_zoo_comes_back_with_its_layout(folder, nets):
    zoo = netformer.load_zoo(folder / "zoo.parquet")
    assert (len(zoo), zoo.layout) == (60, LAYOUT)
    assert same(zoo.networks, nets)
    assert torch.equal(zoo.networks.specs.activations, nets.specs.activations)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("layout", [Layout(), Layout(16, 2, 32), Layout(3, 1, 4), Layout(2, 4, 8)])
def test_the_layout_is_told_from_the_masks_or_asked_for(tmp_path, layout, seed):
    nets = draw(30, seed=seed, layout=layout)
    table = networks_table(nets, ["t"] * 30, r2=torch.zeros(30, 3), arm=["zoo"] * 30)
    write_parquet(table, tmp_path / "zoo.parquet")
    assert load_zoo(tmp_path / "zoo.parquet").layout == layout


def test_a_layout_that_is_not_clear_is_asked_for(tmp_path):
    one = draw(1, layout=Layout(2, 1, 4))
    table = networks_table(one, ["t"], r2=torch.zeros(1, 3), arm=["zoo"])
    write_parquet(table.slice(0, 0), tmp_path / "zoo.parquet")
    with pytest.raises(ValueError, match="holds no network to tell the layout from; pass layout="):
        load_zoo(tmp_path / "zoo.parquet")
    assert len(load_zoo(tmp_path / "zoo.parquet", layout=Layout(2, 1, 4)).networks) == 0


@pytest.mark.parametrize("split", SPLITS)
def test_filters_are_those_of_pandas(folder, split, nets):
    frame = pq.read_table(folder / "zoo.parquet").to_pandas()
    of_split = frame["task_id"].isin([f"t{i}" for i in range(9) if SPLITS[i % 3] == split])
    keep = (of_split & (frame["valid_r2"] >= 0.1) & (frame["n_params"] < 40)).to_numpy()
    assert 0 < keep.sum() < 20
    rules = {"split": split, "min_r2": 0.1}
    zoo = load_zoo(folder / "zoo.parquet", where=pc.field("n_params") < 40, **rules)
    assert same(zoo.networks, nets[torch.tensor(keep)])
    assert zoo.task_ids == frame["task_id"][keep].tolist()
    expected = frame.loc[keep, ["train_r2", "valid_r2", "test_r2"]]
    np.testing.assert_array_equal(zoo.r2.numpy(), expected.to_numpy())
    tokens = load_tokens(folder / "tokens.parquet", **rules)
    assert tokens.table["net_id"].to_pylist() == frame["net_id"][of_split & (frame["valid_r2"] >= 0.1)].tolist()


def test_columns_read_no_more_than_they_say(folder):
    zoo = load_zoo(folder / "zoo.parquet", split="test", columns=["net_id", "n_params"])
    assert zoo.table.column_names == ["net_id", "n_params"]
    assert len(zoo) == 20
    for what, message in (("networks", "networks need the columns n_inputs"), ("r2", "r2 needs the columns train_r2")):
        with pytest.raises(ValueError, match=message):
            getattr(zoo, what)
    with pytest.raises(ValueError, match="task_ids need the column task_id"):
        zoo.task_ids  # noqa: B018


def test_tokens_are_the_networks_edges(folder, nets):
    tokens = netformer.load_tokens(folder / "tokens.parquet", layout=LAYOUT)
    assert same(tokens.networks, nets)
    assert torch.equal(tokens.sensitivity > 0, nets.specs.patch_mask)
    x = torch.randn(7, int(nets.specs.n_inputs[3]), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(netformer.detokenize(tokens[3])(x), nets.to_torch(3)(x))
    assert tokens[-1].equal(tokens[59])
    assert [len(edges) for edges in tokens] == nets.specs.n_params.tolist()


def test_the_least_layout_of_tokens_holds_the_same_functions(folder, nets):
    tokens = load_tokens(folder / "tokens.parquet", split="valid")
    specs = nets.specs
    assert tokens.layout == Layout(int(specs.n_inputs.max()), int(specs.depth.max()), int(specs.widths.max()))
    x = torch.randn(1, 6, 5, generator=torch.Generator().manual_seed(0))
    rows = torch.tensor(tokens.table["net_id"].to_pylist())
    torch.testing.assert_close(tokens.networks.predict(x[:, :, : tokens.layout.max_features]), nets[rows].predict(x))


def test_tokens_of_several_outputs_come_back_with_their_layout(tmp_path):
    nets = draw(30, layout=Layout(5, 3, 4, 6))
    path, ids = tmp_path / "tokens.parquet", np.arange(30)
    tokens = tokenize_networks(nets)
    write_parquet(tokens.add_column(0, "task_id", [[f"t{i}" for i in ids]]).add_column(0, "net_id", [ids]), path)
    loaded = load_tokens(path)
    assert loaded.layout == Layout(5, 3, 4, 6)
    assert same(loaded.networks, nets)
    assert loaded[4].n_outputs == 6


@pytest.mark.parametrize("load", [load_zoo, load_tokens])
def test_bad_input_is_one_line(folder, tmp_path, load):
    name = "zoo.parquet" if load is load_zoo else "tokens.parquet"
    with pytest.raises(ValueError, match=r"absent.parquet does not exist; run the stage"):
        load(tmp_path / "absent.parquet")
    (tmp_path / "text.parquet").write_text("no Parquet")
    with pytest.raises(ValueError, match=r"text.parquet is not a readable Parquet file"):
        load(tmp_path / "text.parquet")
    with pytest.raises(ValueError, match=r"tasks.parquet must have the columns .*; it lacks"):
        load(folder / "tasks.parquet")
    with pytest.raises(ValueError, match="split must be one of train, valid, test, got 'tests'"):
        load(folder / name, split="tests")
    (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(ValueError, match=r"tasks.parquet does not exist"):
        load(tmp_path / name, split="train")
    assert len(load(tmp_path / name, split="train", tasks=folder / "tasks.parquet")) == 20
    with pytest.raises(ValueError, match=rf"{name} cannot be filtered so"):
        load(folder / name, where=pc.field("absent") > 0)
    (tmp_path / name).write_bytes((folder / name).read_bytes().replace(b"net_id", b"net_\xff\xfe"))
    with pytest.raises(ValueError, match=rf"{name} is not a readable Parquet file: the name of a column is not UTF-8"):
        load(tmp_path / name)


def test_columns_that_do_not_exist_are_named(folder):
    with pytest.raises(ValueError, match=r"columns must be some of net_id, .* got nparams"):
        load_zoo(folder / "zoo.parquet", columns=["nparams"])
