"""What a machine may lack: room on the disk, the right to write, memory; a worker that hangs or is killed; an entry of
DVC's cache; being alone. `make faults` tries every stage."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from workspace import DVC, Clone, Workspace

from netformer.model.store import write_weights
from netformer.workers import cluster, map_parallel

ROOT = Path(__file__).resolve().parents[1]
ONE = "data/class_tasks.parquet"
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="mount namespaces and limits of address space are Linux's")
MORE = 150_000_000  # bytes of address space: the table and the model fit, what is fitted for 40,000 rows does not
LITTLE = """
import resource, sys
import torch, sklearn.ensemble, netformer.cli.describe, netformer.cli.scores, netformer.generation.delivery
from netformer.cli.app import app
with open("/proc/self/statm") as sizes:
    taken = int(sizes.read().split()[0]) * resource.getpagesize()
limit = taken + int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
app(sys.argv[2:], prog_name="netformer")
"""  # before torch is there, Python itself breaks down


@LINUX
def test_a_full_disk_a_limit_and_a_read_only_folder():
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "shortages.py"), "--few"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    cases = 15 if os.geteuid() == 0 else 10
    assert f"{cases} of {cases} shortages survived" in done.stdout
    assert done.stdout.count("one line, then completed") >= cases - 2


def test_weights_that_do_not_fit_end_in_one_line(tmp_path):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
    try:
        with pytest.raises(OSError, match=r"model.safetensors: .*File too large"):
            write_weights({"weight": torch.zeros(1000)}, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


@LINUX
def test_a_command_without_enough_memory_ends_in_one_line(tmp_path):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(40_000, 6)), columns=list("abcdey"))
    table.to_csv(tmp_path / "t.csv", index=False)
    command = [
        "generate",
        tmp_path / "t.csv",
        "-t",
        "y",
        "--out",
        tmp_path / "nets",
        "--beside",
        "ridge",
        "--quiet",
    ]
    done = subprocess.run(
        [sys.executable, "-c", LITTLE, str(MORE), *map(str, command)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("netformer: not enough memory")
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def at_work(item):
    """Says where it runs, then takes its time."""
    folder, number = item
    (folder / str(number)).write_text(str(os.getpid()))
    time.sleep(0.2)
    return number


def process_at_work(folder):
    """The process that began an item: its id, once it has written it."""
    while not (some := [path.read_text() for path in folder.iterdir() if path.read_text()]):
        time.sleep(0.02)
    return int(some[0])


def test_a_process_that_hangs_and_is_killed_ends_the_work_in_one_line(tmp_path):
    def interfere():
        process = process_at_work(tmp_path)
        os.kill(process, signal.SIGSTOP)
        time.sleep(1)
        os.kill(process, signal.SIGKILL)

    thread = threading.Thread(target=interfere)
    thread.start()
    with pytest.raises(OSError, match="one of 2 worker processes was killed; run again"):
        map_parallel(at_work, [(tmp_path, number) for number in range(40)], workers=2)
    thread.join()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_dask_worker_that_hangs_is_given_up_and_its_work_done_elsewhere(tmp_path):
    distributed = pytest.importorskip("distributed")
    import dask

    stopped = []

    def interfere():
        stopped.append(process_at_work(tmp_path))
        os.kill(stopped[0], signal.SIGSTOP)

    thread = threading.Thread(target=interfere)
    with (
        dask.config.set({"distributed.scheduler.worker-ttl": "15s", "distributed.scheduler.allowed-failures": 100}),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as made,
    ):
        thread.start()
        with cluster(made.scheduler_address):
            assert map_parallel(at_work, [(tmp_path, number) for number in range(20)]) == list(range(20))
        thread.join()
        with contextlib.suppress(ProcessLookupError):  # Dask has ended it
            os.kill(stopped[0], signal.SIGKILL)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A workspace whose first stage has run, committed."""
    space = Workspace(tmp_path_factory.mktemp("built"))
    assert space.ran(space.dvc("repro", "download")) == {"download"}
    space.commit("built")
    return space


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["missing", "damaged"])
def test_an_entry_of_the_cache_that_is_missing_or_damaged_is_named_and_made_again(built, tmp_path, harm):
    clone = Clone(built, tmp_path)
    shutil.copytree(built.root / ".dvc" / "cache", clone.root / ".dvc" / "cache")
    kept = clone.root / ".dvc" / "cache" / built.object_of(ONE)
    mode = kept.stat().st_mode
    kept.unlink()
    if harm == "missing":
        assert f"\n{ONE}\n" in clone.fails(255, "dvc", "checkout", "download")
        assert not (clone.root / ONE).exists()
    else:
        kept.write_bytes(b"PAR1 of something else")
        kept.chmod(mode)
        clone.dvc("checkout", "download")  # it looks at no object
        assert not clone.same(built, (ONE,))
        assert f"cache: {ONE}: damaged" in clone.fails(1, "stages.object_check", "--remove")
    assert f"cache: {ONE}: missing" in clone.fails(1, "stages.object_check")
    assert clone.ran(clone.dvc("repro", "download")) == {"download"}
    assert clone.same(built, (ONE, "data/tasks.parquet"))
    assert ONE not in clone.fails(1, "stages.object_check")  # others are missing, which were never made here


@pytest.mark.slow
@pytest.mark.parametrize("other", ["at once", "while a stage runs", "after the first was killed"])
def test_two_runs_of_the_pipeline_in_one_folder(built, tmp_path, other):
    clone = Clone(built, tmp_path)
    command, lock = [*DVC, "repro", "download"], clone.root / ".dvc" / "tmp" / "rwlock"

    def started():
        piped = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
        return subprocess.Popen(command, cwd=clone.root, env=clone.env, **piped)

    def said(run):
        return run.communicate(timeout=300)[0], run.returncode

    first = started()
    while other != "at once" and not (lock.exists() and ONE in lock.read_text()):
        assert first.poll() is None
        time.sleep(0.02)
    if other == "after the first was killed":
        os.killpg(first.pid, signal.SIGKILL)
        assert said(first)[1] == -signal.SIGKILL
        assert "Running stage 'download'" in clone.dvc("repro", "download")
    else:
        second = started()
        ends = sorted([said(first), said(second)], key=lambda end: end[1])
        assert ends[0][1] == 0, ends
        if other == "while a stage runs" or ends[1][1]:  # at once, the second may come when the first is done
            text, code = ends[1]
            assert code == 255, ends
            assert "Traceback" not in text
            assert "ERROR: " in text
            assert "Unable to acquire lock" in text or "is busy, it is being blocked by" in text, text
    assert clone.ran(clone.dvc("repro", "download")) == set()
    assert clone.same(built, (ONE, "data/tasks.parquet"))
    assert not list((clone.root / "data").glob("*.tmp.*"))
