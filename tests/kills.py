"""`make faults`: SIGKILL, SIGINT and SIGTERM at random moments of every stage and of what the library writes.

    python tests/kills.py --kills 200 [--seed 0] [--only zoo]

Each kill hits a process that makes a unit anew, over what an earlier run left or over nothing. Afterwards every file
that bears its own name is whole (that of before, or that of an undisturbed run); a second run completes with the bytes
of an undisturbed one, and leaves no temporary file. Processes are forked from one that has imported everything and
computed nothing. Exit code 1 if a kill was not survived.
"""

from __future__ import annotations

import argparse
import hashlib
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

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
STAGES = ("download", "zoo", "tokenize", "metafeatures", "train", "sample", "evaluate")
DELIVERED = ("generate", "export", "fit_many")


def unit(name: str) -> Callable[[Path], None]:
    """What is run under a root and killed."""
    if name in STAGES:
        return import_module(f"stages.{name}").main
    return {"generate": generate, "export": exported, "fit_many": many}[name]


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


def hashes(root: Path) -> dict[str, str]:
    """SHA-256 of every file that is an artifact."""
    found = sorted(path for path in root.rglob("*") if path.is_file() and "build" not in path.relative_to(root).parts)
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def started(name: str, root: Path) -> int:
    """A process that makes the unit."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        os.setsid()  # its own children go with it
        for number in SIGNALS[1:]:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        warnings.simplefilter("ignore")
        from netformer.workers import one_thread

        with one_thread():
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

    def kill(self, name: str, number: int, rng: random.Random) -> str:
        """One kill; says when it came, raises AssertionError where it was not survived."""
        root = self.folder / f"{name}_{number}"
        shutil.copytree(self.before[name], root)
        expected, old = self.after[name], hashes(root)
        if rng.random() < 0.3 and name in STAGES:  # over what an earlier run left: damaged outputs of this unit
            for path in expected.keys() - old.keys():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_bytes(b"an earlier artifact")
            old = hashes(root)
        moment = rng.uniform(0.0, 1.05) * self.seconds[name]
        how = rng.choice(SIGNALS)
        process = started(name, root)
        time.sleep(moment)
        done, status = os.waitpid(process, os.WNOHANG)
        if not done:
            os.killpg(process, how) if how == signal.SIGKILL else os.kill(process, how)
            _, status = os.waitpid(process, 0)
        said = (
            f"{name}: {how.name} after {moment:.2f} of {self.seconds[name]:.2f} s, {'hit' if status else 'it was done'}"
        )
        for path, digest in hashes(root).items():
            if ".tmp." not in path:
                assert digest in (expected.get(path), old.get(path)), f"{said}: {path} is half written"
        completed(name, root)
        assert hashes(root) == expected, f"{said}: other files or bytes, {set(hashes(root)) ^ set(expected)}"
        shutil.rmtree(root)
        return said


def main() -> int:
    """So many kills, of each unit in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=(*STAGES, *DELIVERED))
    parser.add_argument("--few", action="store_true", help="units that take a moment, for the tests")
    given = parser.parse_args()
    os.environ["NETFORMER_WORKERS"] = "1"
    import commands  # noqa: F401  everything is imported before the first fork
    import numba  # noqa: F401

    for name in STAGES:
        import_module(f"stages.{name}")
    names = ("download", *DELIVERED) if given.few else (*STAGES, *DELIVERED)
    folder, failed, hit = Path(tempfile.mkdtemp(prefix="kills")), 0, 0
    last = names.index(given.only) + 1 if given.only else len(names)
    harness = Harness(folder, names[:last])
    chosen = (given.only,) if given.only else names
    for number in range(given.kills):
        rng = random.Random(f"{given.seed}/{number}")
        try:
            said = harness.kill(chosen[number % len(chosen)], number, rng)
            hit += said.endswith("hit")
            print(said, flush=True)
        except AssertionError as error:
            failed += 1
            print(f"NOT SURVIVED {error}", flush=True)
    print(
        f"{given.kills - failed} of {given.kills} kills survived, {hit} of them while the unit was at work", flush=True
    )
    shutil.rmtree(folder)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
