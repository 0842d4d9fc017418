"""`make faults`: SIGKILL, SIGINT and SIGTERM at random moments of every stage and of what the library writes.

    python tests/kills.py --kills 200 [--seed 0] [--only zoo] [--report build/kills.jsonl] [--minutes 30]

Each kill hits a process that makes a unit anew, over what an earlier run left or over nothing, alone or with two
workers. Afterwards every file that bears its own name is whole (that of before, or that of an undisturbed run); a
second run completes with the bytes of an undisturbed one, and leaves no temporary file. Workers left are counted.
Processes are forked from one that has imported everything and computed nothing. A report has a line per kill, and those
that it holds of this code are not sent again: run again, it goes on. Exit code 1 if a kill was not survived.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
STAGES = ("download", "zoo", "tokenize", "metafeatures", "train", "sample", "evaluate", "search")
DELIVERED = ("generate", "export", "fit_many", "search_table")
GONE_WITHIN = 3  # seconds after a process has ended: its workers


def unit(name: str) -> Callable[[Path], None]:
    """What is run under a root and killed."""
    if name in STAGES:
        return import_module(f"stages.{name}").main
    return {"generate": generate, "export": exported, "fit_many": many, "search_table": searched}[name]


def table() -> tuple:
    """Rows of two groups, and a target."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(120, 3)), columns=list("abc"))
    return X.assign(by=np.array(["n", "s"])[np.arange(120) % 2]), X["a"].to_numpy() + X["b"].to_numpy() ** 2


def generate(root: Path) -> None:
    """Networks written for a table, and saved."""
    from commands import small_model

    from netformer import NetFormerRegressor

    X, y = table()
    if not (root / "nets").exists():
        with small_model():
            NetFormerRegressor(n_samples=2, random_state=0).fit(X.drop(columns="by"), y).to_bundle().save(root / "nets")


def exported(root: Path) -> None:
    """A network as one file, over the one that may be there."""
    from netformer import export

    generate(root)
    for format, suffix in (("c", "c"), ("numpy", "py"), ("json", "json"), ("html", "html")):
        export(root / "nets", 0, root / f"net.{suffix}", format, overwrite=True)


def many(root: Path) -> None:
    """A network per group, saved."""
    from commands import small_model

    from netformer.generation.many import fit_many

    if not (root / "groups").exists():
        with small_model():
            fit_many(*table(), "by", random_state=0, n_samples=2).save(root / "groups")


def searched(root: Path) -> None:
    """A search that keeps its generations, and goes on from those that are there."""
    from commands import small_model

    from netformer.generation import fitted
    from netformer.search.table import search_table

    X, y = table()
    with small_model():
        model = fitted._package(in_torch=True)
        search_table(model, X.drop(columns="by"), y, folder=root / "search", evaluations=80, population=20)


def hashes(root: Path) -> dict[str, str]:
    """SHA-256 of every file that is an artifact."""
    found = sorted(path for path in root.rglob("*") if path.is_file() and "build" not in path.relative_to(root).parts)
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def started(name: str, root: Path, workers: int = 1) -> int:
    """A process that makes the unit, first of a group of its own."""
    process = os.fork()
    if process:
        while os.getpgid(process) != process:
            time.sleep(0.001)
        return process
    code = 1
    try:
        os.setsid()  # its own children go with it
        os.environ["NETFORMER_WORKERS"] = str(workers)
        for number in SIGNALS[1:]:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        warnings.simplefilter("ignore")
        from netformer.workers import ending_workers, one_thread

        with one_thread(), ending_workers():
            unit(name)(root)
        code = 0
    except KeyboardInterrupt:
        code = 2
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def completed(name: str, root: Path) -> float:
    """Run a unit to its end; seconds."""
    start = time.monotonic()
    _, status = os.waitpid(started(name, root), 0)
    assert status == 0, f"{name} must complete, ended with {status}"
    return time.monotonic() - start


def left_of(group: int, within: float = GONE_WITHIN) -> bool:
    """Whether processes of a group are there some seconds after its first has ended."""
    late = time.monotonic() + within
    while time.monotonic() < late:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.05)
    return True


class Harness:
    """Undisturbed runs of some units, one after the other under one root, and kills of each."""

    def __init__(self, folder: Path, names: tuple[str, ...]) -> None:
        from tiny import PARAMS, TINY

        from stages.roots import write_params

        self.folder, self.names = folder, names
        few = {"download.n_train": 4, "download.n_test": 2, "download.n_heldout_family": 1, "zoo.steps": 5}
        changes = TINY | few | {"download.sources": ["synthetic"], "evaluate.scratch_networks": 1}
        write_params(PARAMS, folder / "root", changes)
        self.before: dict[str, Path] = {}
        self.after: dict[str, dict[str, str]] = {}
        self.seconds: dict[str, float] = {}
        self.written: dict[str, int] = {}  # bytes
        for name in names:
            self.before[name] = folder / f"before_{name}"
            shutil.copytree(folder / "root", self.before[name])
            self.seconds[name] = completed(name, folder / "root")
            self.after[name] = hashes(folder / "root")
            new = self.after[name].keys() - hashes(self.before[name]).keys()
            self.written[name] = sum((folder / "root" / path).stat().st_size for path in new)

    def kill(self, name: str, number: int, rng: random.Random) -> dict[str, Any]:
        """One kill: what, how, when, whether the unit was at work (`hit`), whether workers of it were left. `fault` is
        what was not survived of it, or nothing."""
        root = self.folder / f"{name}_{number}"
        shutil.copytree(self.before[name], root)
        expected, old = self.after[name], hashes(root)
        over = rng.random() < 0.3 and name in STAGES
        if over:  # what an earlier run left: damaged outputs of this unit
            for path in expected.keys() - old.keys():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_bytes(b"an earlier artifact")
            old = hashes(root)
        share, how, workers = rng.uniform(0.0, 1.05), rng.choice(SIGNALS), rng.choice((1, 2))
        process = started(name, root, workers)
        time.sleep(share * self.seconds[name])
        done, status = os.waitpid(process, os.WNOHANG)
        if not done:
            os.killpg(process, how) if how == signal.SIGKILL else os.kill(process, how)
            _, status = os.waitpid(process, 0)
        said = {"unit": name, "signal": how.name, "share": round(share, 3), "workers": workers, "over": over}
        left, fault = left_of(process), self.fault(name, root, old)
        if left:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process, signal.SIGKILL)
        shutil.rmtree(root)
        return said | {"hit": bool(status), "left": left, "fault": fault}

    def fault(self, name: str, root: Path, old: dict[str, str]) -> str:
        """What is wrong after a process has ended, and after the unit is made again."""
        expected = self.after[name]
        half = [path for path, digest in hashes(root).items() if digest not in (expected.get(path), old.get(path))]
        if half := [path for path in half if ".tmp." not in path]:
            return f"half written: {', '.join(half)}"
        try:
            self.seconds[name] = min(self.seconds[name], completed(name, root))  # the first run of all compiles
        except AssertionError as error:
            return str(error)
        found = hashes(root)
        other = sorted(path for path in found.keys() | expected.keys() if found.get(path) != expected.get(path))
        return f"other bytes or files: {', '.join(other)}" if other else ""


def code() -> str:
    """SHA-256 of what the code and the parameters of the units say."""
    from netformer.files import code_digest

    files = [path for folder in ("netformer", "stages") for path in (ROOT / folder).rglob("*.py")]
    own = [ROOT / "tests" / name for name in ("kills.py", "tiny.py", "commands.py")]
    return hashlib.sha256((code_digest(files + own) + (ROOT / "params.yaml").read_text()).encode()).hexdigest()


def main() -> int:
    """So many kills, of each unit in turn, without those of the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=(*STAGES, *DELIVERED))
    parser.add_argument("--few", action="store_true", help="units that take a moment, for the tests")
    parser.add_argument("--report", type=Path, help="file that a line per kill is added to")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so many; run again to go on")
    given = parser.parse_args()
    late = time.monotonic() + 60 * given.minutes
    import commands  # noqa: F401  everything is imported before the first fork
    import numba  # noqa: F401
    import pymoo.algorithms.moo.nsga2  # noqa: F401

    for module in ("netformer.search.table", *(f"stages.{name}" for name in STAGES)):
        import_module(module)
    names = ("download", *DELIVERED) if given.few else (*STAGES, *DELIVERED)
    chosen = (given.only,) if given.only else names
    wanted = {number: chosen[number % len(chosen)] for number in range(given.kills)}
    now, sent = code(), []
    if given.report and given.report.exists():
        earlier = [json.loads(line) for line in given.report.read_text().splitlines()]
        sent = [
            one
            for one in earlier
            if (one["code"], one["seed"], wanted.get(one["number"])) == (now, given.seed, one["unit"])
        ]
        wanted = {number: name for number, name in wanted.items() if number not in {one["number"] for one in sent}}
    folder = Path(tempfile.mkdtemp(prefix="kills"))
    harness = Harness(folder, names[: names.index(given.only) + 1 if given.only else None]) if wanted else None
    for number, name in wanted.items():
        if harness is None or time.monotonic() > late:
            break
        said = harness.kill(name, number, random.Random(f"{given.seed}/{number}"))
        sent.append({"code": now, "seed": given.seed, "number": number} | said)
        print(json.dumps({"number": number} | said), flush=True)
        if given.report:
            given.report.parent.mkdir(parents=True, exist_ok=True)
            with given.report.open("a") as file:
                file.write(json.dumps(sent[-1]) + "\n")
    shutil.rmtree(folder)
    failed, hit, left = (sum(bool(one[what]) for one in sent) for what in ("fault", "hit", "left"))
    print(
        f"{len(sent) - failed} of {len(sent)} kills survived; {hit} hit a unit at work, {left} left workers", flush=True
    )
    if len(sent) < given.kills:
        print(f"{given.kills - len(sent)} are left", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
