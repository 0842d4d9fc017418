"""Shards: a zoo of any size, made and kept piece by piece, so that neither memory nor the cost of a failure grows.

A shard holds `TASKS` tasks of the train stream, the networks trained on them and their tokens. It is a function of the
settings and its number alone, and the first tasks are those of the pipeline. In the folder:

    settings.json                       what every shard was made from; another zoo needs another folder
    tasks/ zoo/ tokens/ 000012.parquet  schemas of the pipeline, row groups of `ROW_GROUP` rows
    done/000012.json                    SHA-256 of the three, and counts; written last: without it a shard is made again
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import multiprocessing
import os
import resource
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from netformer.artifacts import networks_table, write_json, write_parquet, write_tasks
from netformer.errors import InputError
from netformer.files import code_digest, sources_of
from netformer.networks.sensitivity import sensitivity
from netformer.networks.symmetry import canonicalize
from netformer.networks.token_tables import tokenize_networks
from netformer.tasks.stream import synthetic_tasks
from netformer.tasks.view import stack_tasks
from netformer.workers import map_parallel
from netformer.zoo.build import Progress, build_zoo

if TYPE_CHECKING:
    from pyarrow.dataset import Dataset


TASKS = 50  # two batches of the stream; 2,500 networks at 50 per task: seconds to make, a few MB
ROW_GROUP = 500
KINDS = ("tasks", "zoo", "tokens")
_M_MMAP_THRESHOLD = -3  # malloc.h
_LARGE_BLOCK = 1 << 20


def make_shards(
    n: int,
    folder: Path,
    *,
    draw: dict[str, Any],
    zoo: dict[str, Any],
    canonical: bool,
    workers: int = 1,
    progress: Progress | None = None,
) -> dict[str, int | float]:
    """Make the first n shards in `folder`, or what is missing or damaged of them.

    draw, zoo: arguments of `synthetic_tasks` and `build_zoo`. workers: processes, unless a Dask cluster is in use.

    Returns counts (shards, made, drawn, kept), bytes on disk, `cpu_seconds` of the shards made, and `peak_memory`, the
    sum over processes of the largest resident set of each, in bytes.

    Raises InputError when the folder holds shards of other settings, OSError when it is full; run again then, what is
    complete stays.
    """
    if n < 1:
        raise InputError(f"shards must be at least 1, got {n}")
    settings = json.loads(json.dumps({"draw": draw, "zoo": zoo, "canonical": canonical, "code": _code()}, default=vars))
    folder = folder.resolve()  # workers may run elsewhere
    _claim(folder / "settings.json", settings)
    make = partial(make_shard, folder=folder, draw=draw, zoo=zoo, canonical=canonical)
    rows = map_parallel(make, range(n), workers=workers, progress=progress)
    peaks = {os.getpid(): _peak()}
    for row in rows:
        peaks[row["process"]] = max(row["peak_memory"], peaks.get(row["process"], 0))
    total = {name: sum(row[name] for row in rows) for name in ("made", "drawn", "kept", "bytes", "cpu_seconds")}
    return {"shards": n, **total, "peak_memory": sum(peaks.values())}


def make_shard(
    index: int, *, folder: Path, draw: dict[str, Any], zoo: dict[str, Any], canonical: bool
) -> dict[str, Any]:
    """Make shard `index`, or find it complete; what `make_shards` sums up."""
    if not (folder / "settings.json").exists():
        raise OSError(f"a worker does not find {folder}; it must be on a disk that all workers share")
    if multiprocessing.parent_process() is not None:
        return_memory()  # in a worker; a caller's own process is the caller's
    start, name = time.process_time(), f"{index:06d}"
    files = {kind: folder / kind / f"{name}.parquet" for kind in KINDS}
    done = folder / "done" / f"{name}.json"
    record = _complete(done, files)
    made = record is None
    if record is None:
        done.unlink(missing_ok=True)
        try:
            counts = _write(index, files, draw, zoo, canonical)
            record = counts | {"sha256": {kind: _sha256(path) for kind, path in files.items()}}
            write_json(record, done)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            way_out = "free some space and run again: complete shards are kept"
            raise OSError(f"{folder} is full at shard {index}; {way_out}") from None
    return {
        **{name: record[name] for name in ("drawn", "kept")},
        "made": int(made),
        "bytes": sum(path.stat().st_size for path in files.values()),
        "cpu_seconds": time.process_time() - start,
        "process": os.getpid(),
        "peak_memory": _peak(),
    }


def open_shards(folder: Path | str, kind: str) -> Dataset:
    """The tasks, zoo or tokens of all complete shards as one `pyarrow.dataset`: columns and row groups are read when
    they are asked for, without looking at their SHA-256.

    Raises InputError for another kind and a folder without complete shards.
    """
    from pyarrow.dataset import dataset

    if kind not in KINDS:
        raise InputError(f"kind must be one of {', '.join(KINDS)}, got {kind}")
    names = sorted(path.stem for path in (Path(folder) / "done").glob("*.json"))
    if not names:
        raise InputError(f"{folder} has no complete shards; make some (python -m stages.scale)")
    return dataset([str(Path(folder) / kind / f"{name}.parquet") for name in names])


def _write(index: int, files: dict[str, Path], draw: dict, zoo: dict, canonical: bool) -> dict[str, int]:
    tasks = synthetic_tasks(TASKS, first=index * TASKS, stream="train", split="train", **draw)
    stack = stack_tasks(tasks, draw["max_features"])
    first = int(np.random.SeedSequence(zoo["seed"]).generate_state(1)[0])
    seed = (first + index) % 2**30  # of this shard alone
    made, counts = build_zoo(stack, workers=1, **zoo | {"seed": seed})
    at = made.task_index
    ids = [tasks[i].task_id for i in at.tolist()]
    table = networks_table(made.networks, ids, r2=made.r2, arm=["zoo"] * len(ids), init_seed=made.init_seed)
    numbers = pa.array(np.arange(len(ids)) + index * counts["drawn"], pa.int64())  # unique in the whole zoo
    table = table.set_column(0, "net_id", numbers)
    networks = canonicalize(made.networks) if canonical else made.networks
    tokens = tokenize_networks(networks, sensitivity(networks, stack.x[at], stack.train[at]))
    tokens = tokens.add_column(0, "task_id", table["task_id"]).add_column(0, "net_id", numbers)
    write_tasks(tasks, files["tasks"])
    write_parquet(table, files["zoo"], ROW_GROUP)
    write_parquet(tokens, files["tokens"], ROW_GROUP)
    return {name: counts[name] for name in ("drawn", "kept")}


def _complete(done: Path, files: dict[str, Path]) -> dict[str, Any] | None:
    """The record of a shard whose files are what was written, else None."""
    try:
        record = json.loads(done.read_text())
        return record if record["sha256"] == {kind: _sha256(path) for kind, path in files.items()} else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _claim(path: Path, settings: dict[str, Any]) -> None:
    if not path.exists():
        return write_json(settings, path)
    try:
        found = json.loads(path.read_text())
    except ValueError:
        raise InputError(f"{path} is damaged; delete {path.parent} or give another folder") from None
    if found != settings:
        names = ", ".join(sorted(_differences(found, settings)))
        raise InputError(f"{path.parent} holds shards with another {names}; delete it or give another folder")


def _differences(a: Any, b: Any, name: str = "settings") -> list[str]:
    """Dotted names of what differs."""
    if not (isinstance(a, dict) and isinstance(b, dict)):
        return [] if a == b else [name]
    parts = [_differences(a.get(k), b.get(k), k if name == "settings" else f"{name}.{k}") for k in a.keys() | b.keys()]
    return [item for part in parts for item in part]


def _code() -> str:
    """Digest of the modules that decide what a shard is."""
    here = Path(__file__).resolve()
    return code_digest(sources_of(here, here.parents[2]))[:16]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def return_memory() -> None:
    """Have glibc hand back what is free, and from now on blocks of 1 MB and more as soon as they are; elsewhere nothing
    happens. It is for processes that make shards: glibc keeps such blocks in pieces, 1.07 GB per process after 12
    shards, and growing; 0.65 GB after 50 with this."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)
        libc.malloc_trim(0)


def _peak() -> int:
    """Largest resident set of this process so far, in bytes (Linux counts in kB)."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
