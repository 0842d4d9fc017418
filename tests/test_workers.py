"""Workers: the same bytes from one process, several, and a Dask cluster that loses a worker in the middle."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import torch
from kills import left_of

from netformer.artifacts import write_tasks
from netformer.evaluation.baselines import mlp_lbfgs
from netformer.networks.specs import Layout, draw_specs
from netformer.tasks.stream import synthetic_tasks
from netformer.tasks.view import stack_tasks
from netformer.workers import cluster, ending_workers, map_parallel, on_cluster
from netformer.zoo.build import initialize, train_networks
from stages import run

distributed = pytest.importorskip("distributed")
ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def dask() -> Iterator:
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as made:
        yield made


def tasks_of(n: int) -> list:
    return synthetic_tasks(n, seed=0, stream="train", split="train", max_features=10, min_rows=40, max_rows=60)


def test_results_keep_the_order_of_the_items(dask) -> None:
    seen: list[tuple[int, int]] = []
    assert map_parallel(abs, [-3, 1, -2], workers=1) == map_parallel(abs, [-3, 1, -2], workers=2) == [3, 1, 2]
    assert not on_cluster()
    with cluster(dask.scheduler_address):
        assert on_cluster()
        assert map_parallel(abs, [-3, 1, -2], progress=lambda done, total: seen.append((done, total))) == [3, 1, 2]
        assert map_parallel(abs, []) == []
    assert not on_cluster()
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_calls_have_one_thread_of_torch_and_leave_the_callers_alone(dask) -> None:
    threads = torch.get_num_threads()
    assert map_parallel(_threads, [0], workers=1) == [1]
    assert torch.get_num_threads() == threads
    with cluster(dask.scheduler_address):
        assert map_parallel(_threads, [0]) == [1]


def _threads(_: int) -> int:
    return torch.get_num_threads()


def test_a_killed_worker_changes_no_bit_of_the_zoo(dask, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real SIGKILL after the first piece came back, while others are at work."""
    monkeypatch.setattr("netformer.zoo.build._PIECE", 16)
    stack = stack_tasks(tasks_of(6), 10)
    index = torch.arange(128) % 6
    specs = draw_specs(stack.n_features[index], layout=Layout(), generator=torch.Generator().manual_seed(0))
    initial, options = initialize(specs, torch.arange(128)), {"steps": 400, "lr": 0.03, "seed": 1}
    alone = train_networks(initial, stack, index, **options)
    with distributed.Client(dask) as client:
        before = set(client.run(os.getpid).values())
    victim = min(before)

    def kill(done: int, total: int) -> None:
        if done == 1:
            os.kill(victim, signal.SIGKILL)

    with cluster(dask.scheduler_address):
        shared = train_networks(initial, stack, index, progress=kill, **options)
        assert torch.equal(alone.weight, shared.weight)
        with distributed.Client(dask) as client:
            assert victim not in client.run(os.getpid).values()
    assert not torch.equal(alone.weight, initial.weight)


def test_metafeatures_and_baselines_are_the_same_on_a_cluster(
    dask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = tasks_of(10)
    write_tasks(tasks, tmp_path / "data" / "tasks.parquet")
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    stack, out = stack_tasks(tasks[:3], 10), tmp_path / "data" / "metafeatures.parquet"
    monkeypatch.setenv("NETFORMER_WORKERS", "1")
    describe = import_module("stages.metafeatures").main
    found = []
    for address in ("", dask.scheduler_address):
        monkeypatch.setenv("NETFORMER_DASK", address)
        describe(tmp_path)
        found.append(out.read_bytes())
        out.unlink()
        with cluster(address):
            found.append(mlp_lbfgs(stack).numpy().tobytes())
    assert found[:2] == found[2:]


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("10.0.0.1:8786", "must be local, tcp://HOST:PORT or tls://HOST:PORT, got 10.0.0.1:8786"),
        ("tcp://127.0.0.1:9", "no Dask scheduler answers at tcp://127.0.0.1:9"),
        ("tcp://127.0.0.1", "no Dask scheduler answers at tcp://127.0.0.1 "),
    ],
)
def test_a_scheduler_that_is_not_there_is_one_line(
    address: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netformer.workers._PATIENCE", 1)
    with pytest.raises(ValueError, match=line), cluster(address):
        pass


def test_a_stage_without_its_scheduler_exits_with_2_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("netformer.workers._PATIENCE", 1)
    monkeypatch.setenv("NETFORMER_DASK", "tcp://127.0.0.1:9")
    for stage in ("zoo", "metafeatures", "evaluate"):
        with pytest.raises(SystemExit, match="2"):
            run(import_module(f"stages.{stage}").main)
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "start it (dask scheduler), correct the address, or leave it out" in error


def test_a_scheduler_without_workers_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netformer.workers._PATIENCE", 1)
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=":0") as empty,
        pytest.raises(ValueError, match="has no workers; start one: dask worker tcp://"),
        cluster(empty.scheduler_address),
    ):
        pass


def test_a_killed_process_of_this_machine_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def main(root: Path) -> None:
        map_parallel(_die, [0, 1], workers=2)

    with pytest.raises(SystemExit):
        run(main)
    assert "one of 2 worker processes was killed; run again" in capsys.readouterr().err


def _die(item: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


WAITS = """
import sys, time
from netformer.workers import map_parallel
from stages import run

def waits(item):
    open(f"{item}", "w").close()
    time.sleep(60)

def main(root):
    map_parallel(waits, [0, 1], workers=2)

run(main)
"""


def test_sigterm_ends_a_stage_with_its_workers(tmp_path: Path) -> None:
    (tmp_path / "waits.py").write_text(WAITS)
    path = os.environ | {"PYTHONPATH": str(ROOT)}
    stage = subprocess.Popen([sys.executable, "waits.py"], cwd=tmp_path, env=path, start_new_session=True)
    while not all((tmp_path / name).exists() for name in "01"):
        assert stage.poll() is None
        time.sleep(0.05)
    stage.terminate()
    assert stage.wait(10) == -signal.SIGTERM
    assert not left_of(stage.pid, within=10)


def test_what_sigterm_does_after_the_block_is_what_it_did_before() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with ending_workers():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
