"""Mutants: faults put into the code one at a time; a named test must fail for each of them (`make mutants`).

`mutants.toml` holds the faults: in `file`, the text `old` becomes `new`; `test` is what must notice, `why` what would
go unseen. Each is tried in a copy of the repository, in a process of its own. Killed means that an assertion failed.
A fault that no test notices, one that only crashes, a text that is not there exactly once, a test that does not exist
or that fails without any fault: each is printed, and the exit code is 1. All of them take 4 minutes on 2 cores.

A list of our own, because the usual tools make theirs from the syntax: cosmic-ray finds 3,503 places to change in nine
of these modules (hours, at seconds for each), and neither it nor mutmut has the mistakes that matter here among its
operators, such as test rows for valid rows or argmin for argmax.

    python tests/mutants.py [WORD ...]     all, or those that have one of the words in any field
"""

from __future__ import annotations

import ast
import importlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Empty, Queue
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LIST = ROOT / "tests" / "mutants.toml"
WORKERS = 2
LIMIT = 120  # seconds of processor time for one mutant: a fault that never ends is none that a test notices
ASSERTIONS = {"AssertionError", "Failed"}  # `Failed`: pytest.raises that nothing raised
# Imported once and forked for every mutant; nothing of ours, for that is what changes.
PRELOAD = (
    "lightning_fabric",
    "numba",
    "pandas",
    "pyarrow.parquet",
    "scipy.optimize",
    "sklearn.neural_network",
    "torch",
)


@dataclass(frozen=True)
class Mutant:
    """One fault. file: path in the repository; old, new: text within one line; test: a pytest id."""

    file: str
    old: str
    new: str
    test: str
    why: str


def read(path: Path = LIST) -> list[Mutant]:
    """The committed list. Raises TypeError for an entry with other fields."""
    return [Mutant(**entry) for entry in tomllib.loads(path.read_text())["mutant"]]


def stale(mutant: Mutant, root: Path = ROOT) -> str:
    """What is wrong with an entry, or nothing."""
    file, test = root / mutant.file, root / mutant.test.split("::")[0]
    for path in (file, test):
        if not path.is_file():
            return f"no file {path.relative_to(root)}"
    if (count := file.read_text().count(mutant.old)) != 1:
        return f"`old` must be in {mutant.file} once, found {count} times: {mutant.old}"
    if "\n" in mutant.old + mutant.new or mutant.old == mutant.new:
        return f"`old` and `new` must be two texts of one line: {mutant.old}"
    name = mutant.test.split("::")[-1].split("[")[0]
    functions = [node.name for node in ast.parse(test.read_text()).body if isinstance(node, ast.FunctionDef)]
    return "" if name in functions else f"no test {name} in {test.name}"


class Recorder:
    """A pytest plugin: the type of the first exception in a test."""

    def __init__(self) -> None:
        self.kind = ""

    def pytest_runtest_makereport(self, item: Any, call: Any) -> None:
        if call.excinfo is not None and not self.kind:
            self.kind = call.excinfo.typename


def run_tests(folder: Path, tests: list[str], faulty: bool, answer: Connection) -> None:
    """In a process of its own: send pytest's exit code and the type of the first exception."""
    os.chdir(folder)
    for descriptor in (1, 2):
        os.dup2(os.open(os.devnull if faulty else "pytest.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND), descriptor)
    # argmax and argmin are of the same length: compiled code of a fault must never be taken for that of the original.
    sys.dont_write_bytecode = faulty
    sys.path[:] = [entry for entry in sys.path if Path(entry) not in (ROOT, ROOT / "tests")]
    if faulty:
        resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT))
    recorder = Recorder()
    # Shapes are not checked (addopts): a fault must be noticed by what the test says.
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    options = ["-x", "-q", "-p", "no:cacheprovider", "-o", "addopts="]
    code = importlib.import_module("pytest").main([*options, *tests], [recorder])
    answer.send((int(code), recorder.kind))


class Runner:
    """Copies of the repository, a fault in each at a time."""

    def __init__(self, folder: Path) -> None:
        self.first, self.context = folder / "0", get_context("forkserver")
        self.context.set_forkserver_preload(list(PRELOAD))
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        for name in subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0"):
            if name and (ROOT / name).is_file():
                (self.first / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.first / name)

    def outcome(self, folder: Path, tests: list[str], faulty: bool) -> tuple[int | None, str]:
        """Exit code of pytest, None where the process died or was stopped, and the type of the first exception."""
        receiver, sender = self.context.Pipe(duplex=False)
        process = self.context.Process(target=run_tests, args=(folder, tests, faulty, sender))
        process.start()
        sender.close()
        try:
            return receiver.recv()
        except EOFError:
            return None, ""
        finally:
            process.join()

    def without_fault(self, tests: list[str]) -> str:
        """The end of pytest's log when the named tests do not pass as they are, else nothing."""
        code, _ = self.outcome(self.first, tests, False)
        return "" if code == 0 else "\n".join((self.first / "pytest.log").read_text().splitlines()[-25:])

    def survives(self, folder: Path, mutant: Mutant) -> str:
        """Why the mutant is not killed, or nothing."""
        path = folder / mutant.file
        original, status = path.read_text(), path.stat()
        path.write_text(original.replace(mutant.old, mutant.new))  # modified now: compiled code is older
        try:
            code, kind = self.outcome(folder, [mutant.test], True)
        finally:
            path.write_text(original)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        if code is None:
            return f"died, or was stopped after {LIMIT} s of processor time"
        if code == 1:
            return "" if kind in ASSERTIONS else f"the fault only crashes: {kind}"
        return "survives" if code == 0 else f"pytest could not run the test (exit code {code})"

    def run(self, mutants: list[Mutant]) -> dict[Mutant, str]:
        """What `survives` says of each; a line is printed as it comes."""
        found: dict[Mutant, str] = {}
        queue: Queue[Mutant] = Queue()
        for mutant in mutants:
            queue.put(mutant)

        def work(folder: Path) -> None:
            while True:
                try:
                    mutant = queue.get_nowait()
                except Empty:
                    return
                start = time.perf_counter()
                found[mutant] = self.survives(folder, mutant)
                taken = time.perf_counter() - start
                print(
                    f"{found[mutant] or 'killed':12} {taken:5.1f} s  {mutant.file}: {mutant.old} -> {mutant.new}",
                    flush=True,
                )

        folders = [self.first] + [self.first.with_name(str(i)) for i in range(1, WORKERS)]
        for folder in folders[1:]:
            shutil.copytree(self.first, folder)
        threads = [threading.Thread(target=work, args=(folder,)) for folder in folders]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found


def main(*words: str) -> int:
    """Run the list, or what has one of the words, and print it; 0 when every mutant is killed."""
    os.environ["OMP_NUM_THREADS"] = "1"
    start = time.perf_counter()
    mutants = [mutant for mutant in read() if any(w in field for w in words or [""] for field in vars(mutant).values())]
    if wrong := [reason for mutant in mutants if (reason := stale(mutant))]:
        print("the list is stale:", *wrong, sep="\n  ")
        return 1
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        runner = Runner(Path(folder))
        if log := runner.without_fault(sorted({mutant.test for mutant in mutants})):
            print(f"the named tests must pass without a fault:\n{log}")
            return 1
        print(f"the named tests pass without a fault   {time.perf_counter() - start:.0f} s")
        alive = {mutant: reason for mutant, reason in runner.run(mutants).items() if reason}
    print(f"killed {len(mutants) - len(alive)} of {len(mutants)} in {(time.perf_counter() - start) / 60:.1f} minutes")
    for mutant, reason in alive.items():
        print(f"  {reason}: {mutant.file}: {mutant.new}\n    {mutant.why}\n    should be killed by {mutant.test}")
    return 1 if alive or not mutants else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
