"""Shards: same bytes whatever was interrupted and whoever made them; damaged ones are remade; parts are readable."""

import errno
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import torch
from ruamel.yaml import YAML

from netformer.artifacts import NETWORKS, TASKS, networks_of, read_tasks
from netformer.errors import InputError
from netformer.networks.specs import Layout
from netformer.networks.token_tables import detokenize_networks
from netformer.tasks.stream import synthetic_tasks
from netformer.workers import cluster
from netformer.zoo import shards
from netformer.zoo.shards import make_shard, make_shards, open_shards
from stages.scale import main, write_report

ROOT = Path(__file__).resolve().parents[1]
DRAW = {"seed": 0, "max_features": 10, "min_rows": 40, "max_rows": 50}
ZOO = {
    "layout": Layout(),
    "spec": {},
    "networks_per_task": 4,
    "duplicate_share": 0.1,
    "min_valid_r2": 0.05,
    "optimizer": {"steps": 20, "lr": 0.03, "batch_size": 16, "weight_decay": 0.0},
    "max_gap": 0.5,
    "seed": 0,
}
SETTINGS = {"draw": DRAW, "zoo": ZOO, "canonical": False}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    assert make_shards(3, folder, **SETTINGS)["made"] == 3
    return folder


def test_two_processes_write_the_bytes_of_one(made: Path, tmp_path: Path) -> None:
    total = make_shards(3, tmp_path, workers=2, **SETTINGS)
    assert contents(tmp_path) == contents(made)
    assert total["drawn"] == 3 * 200
    assert 0 < total["kept"] == open_shards(tmp_path, "zoo").count_rows() < 600
    assert total["bytes"] == sum(len(data) for name, data in contents(tmp_path).items() if name.endswith("parquet"))


def test_so_does_a_cluster(made: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    with cluster("local", 2):
        make_shards(3, tmp_path, **SETTINGS)
    assert contents(tmp_path) == contents(made)


def test_a_run_that_stopped_goes_on_where_it_was(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted while the tokens of the second shard are written, then asked for less, then for all."""
    write = shards.write_parquet

    def stop(table: pa.Table, path: Path, row_group: int | None = None) -> None:
        if path == tmp_path / "tokens" / "000001.parquet":
            raise KeyboardInterrupt
        write(table, path, row_group)

    with monkeypatch.context() as patch:
        patch.setattr(shards, "write_parquet", stop)
        with pytest.raises(KeyboardInterrupt):
            make_shards(3, tmp_path, **SETTINGS)
    assert [path.name for path in (tmp_path / "done").iterdir()] == ["000000.json"]
    assert open_shards(tmp_path, "zoo").count_rows() == json.loads((made / "done" / "000000.json").read_text())["kept"]
    assert make_shards(1, tmp_path, **SETTINGS)["made"] == 0
    assert make_shards(3, tmp_path, **SETTINGS)["made"] == 2
    assert contents(tmp_path) == contents(made)


@pytest.mark.parametrize("name", ["tasks/000001.parquet", "zoo/000001.parquet", "tokens/000001.parquet"])
@pytest.mark.parametrize("damage", ["flip", "cut", "delete"])
def test_a_damaged_shard_is_made_again(made: Path, name: str, damage: str) -> None:
    before, path = contents(made), made / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data if damage == "flip" else data[:-9])
    if damage == "delete":
        path.unlink()
    assert make_shards(3, made, **SETTINGS)["made"] == 1
    assert contents(made) == before


def test_a_damaged_record_costs_its_shard_alone(made: Path) -> None:
    before = contents(made)
    for text in ("{", "[]", "{}"):
        (made / "done" / "000002.json").write_text(text)
        assert make_shards(3, made, **SETTINGS)["made"] == 1
    assert contents(made) == before


def test_shards_are_the_pipelines_tasks_networks_and_tokens(made: Path) -> None:
    tasks = [task for k in range(3) for task in read_tasks(made / "tasks" / f"{k:06d}.parquet")]
    plain = synthetic_tasks(150, stream="train", split="train", **DRAW)
    assert [task.task_id for task in tasks] == [task.task_id for task in plain]
    assert all((a.X == b.X).all() and (a.y == b.y).all() for a, b in zip(tasks, plain, strict=True))
    zoo, tokens = (open_shards(made, kind).to_table() for kind in ("zoo", "tokens"))
    assert zoo.schema.equals(NETWORKS)
    assert open_shards(made, "tasks").schema.equals(TASKS)
    ids = zoo["net_id"].to_pylist()
    assert len(set(ids)) == len(ids)
    assert tokens["net_id"].to_pylist() == ids
    networks = networks_of(zoo, Layout())
    assert torch.equal(networks.weight, detokenize_networks(tokens, Layout()).weight)  # not canonical here
    assert len(torch.unique(networks.weight.flatten(1), dim=0)) == len(ids)


def test_row_groups_are_read_alone(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "ROW_GROUP", 40)
    make_shards(1, tmp_path, **SETTINGS)
    whole, file = pq.read_table(made / "zoo" / "000000.parquet"), pq.ParquetFile(tmp_path / "zoo" / "000000.parquet")
    assert file.num_row_groups == -(-len(whole) // 40)
    assert file.read_row_group(1).equals(whole.slice(40, 40))
    good = open_shards(made, "zoo").to_table(columns=["net_id"], filter=ds.field("valid_r2") > 0.5)
    assert 0 < len(good) == sum(value > 0.5 for value in whole_column(made, "valid_r2"))


def whole_column(folder: Path, name: str) -> list[float]:
    return open_shards(folder, "zoo").to_table(columns=[name])[name].to_pylist()


def test_other_settings_need_another_folder(made: Path) -> None:
    with pytest.raises(ValueError, match="shards must be at least 1, got 0"):
        make_shards(0, made, **SETTINGS)
    with pytest.raises(
        ValueError, match=r"holds shards with another zoo.optimizer.steps; delete it or give another folder"
    ):
        make_shards(1, made, **SETTINGS | {"zoo": ZOO | {"optimizer": ZOO["optimizer"] | {"steps": 21}}})


def test_damaged_settings_are_one_line_with_the_file_and_the_way_out(made: Path) -> None:
    settings = made / "settings.json"
    before = settings.read_bytes()
    try:
        for text in (b"", before[:-9], b"\xff"):
            settings.write_bytes(text)
            with pytest.raises(InputError, match=r"^\S+settings.json is damaged; delete \S+ or give another folder$"):
                make_shards(1, made, **SETTINGS)
    finally:
        settings.write_bytes(before)


def test_a_full_folder_keeps_what_is_complete(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(table: pa.Table, path: Path, row_group: int | None = None) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    make_shards(1, tmp_path, **SETTINGS)
    with monkeypatch.context() as patch:
        patch.setattr(shards, "write_parquet", full)
        with pytest.raises(
            OSError, match=r"is full at shard 1; free some space and run again: complete shards are kept"
        ):
            make_shards(3, tmp_path, **SETTINGS)
    assert make_shards(3, tmp_path, **SETTINGS)["made"] == 2
    assert contents(tmp_path) == contents(made)


def test_empty_folders_and_wrong_kinds_are_named(made: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no complete shards"):
        open_shards(tmp_path, "zoo")
    with pytest.raises(ValueError, match="kind must be one of tasks, zoo, tokens, got nets"):
        open_shards(made, "nets")
    with pytest.raises(OSError, match=r"a worker does not find .*; it must be on a disk that all workers share"):
        make_shard(0, folder=tmp_path, **SETTINGS)
    with pytest.raises(ValueError, match="first must be a multiple of 25, got 10"):
        synthetic_tasks(5, first=10, stream="train", split="train", **DRAW)


def test_the_command_counts_in_whole_shards_and_reports_complete_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETFORMER_WORKERS", "1")
    yaml = YAML()
    params = yaml.load((ROOT / "params.yaml").read_text())
    params["download"] |= {"min_rows": 40, "max_rows": 50}
    yaml.dump(params, tmp_path / "params.yaml")
    options = {"networks_per_task": 1, "steps": 5, "report": Path("scale.json")}
    assert main(tmp_path, networks=51, **options)["networks"] == 100
    report = json.loads((tmp_path / "scale.json").read_text())
    main(tmp_path, networks=51, **options)  # nothing to do: no timing
    assert json.loads((tmp_path / "scale.json").read_text()) == report
    assert (tmp_path / "scale.svg").read_text().count(">5 steps</text>") == 2
    for name in ("networks", "steps", "networks_per_task"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            main(tmp_path, **{"networks": 10} | {name: 0})


def test_the_exponent_is_the_slope_of_the_logarithms(tmp_path: Path) -> None:
    for networks in (10, 1000, 100):
        point = {"networks": networks, "steps": 5, "seconds": networks**1.5, "cpu_seconds": 2 * networks}
        write_report(point | {"peak_memory": 1}, tmp_path / "scale.json")
    exponent = json.loads((tmp_path / "scale.json").read_text())["exponent"]["5_steps"]
    assert exponent == pytest.approx({"seconds": 1.5, "cpu_seconds": 1.0})


def test_the_costs_of_a_network_and_of_a_step_are_told_apart(tmp_path: Path) -> None:
    for networks, steps in ((10, 5), (1000, 5), (100, 50)):
        cpu = 3 + networks * (0.5 + 0.25 * steps)
        point = {"networks": networks, "steps": steps, "seconds": cpu, "cpu_seconds": cpu, "peak_memory": 1}
        write_report(point, tmp_path / "scale.json")
    found = json.loads((tmp_path / "scale.json").read_text())["cpu_seconds"]
    assert found == pytest.approx({"run": 3, "network": 0.5, "step": 0.25, "largest_relative_error": 0}, abs=1e-9)
