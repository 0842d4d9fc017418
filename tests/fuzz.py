"""`make fuzz`: hostile input in great numbers, for every reader of tests/hostile.py or one of them.

    python tests/fuzz.py --inputs 1000000 [--reader table.csv] [--kept build/fuzz]

Every reader gets its share, in pieces; a line per piece is kept, so that the same command goes on where it stopped.
With atheris (`make fuzz` installs it) inputs that reach new lines of the package are damaged further; without it every
input is a valid file damaged anew. What is not refused as it should be is kept once per place in the code, under
tests/cases/READER/, where tests/test_hostile.py reads it from then on. Exit code 1 if there was any.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
try:
    import atheris
except ImportError:
    atheris = None

CASES = ROOT / "tests" / "cases"
HANGS = 20  # seconds after which a reader is stopped
LARGEST = 1 << 17  # bytes of an input that is damaged further
PIECE = 5_000  # inputs of one process


def place_of(error: BaseException) -> str:
    """The line of ours from which an error comes, or what was wrong with a refusal."""
    if isinstance(error, AssertionError):
        return str(error)[:20]
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "netformer" in frame.filename or "stages" in frame.filename]
    last = (own or frames)[-1]
    return f"{type(error).__name__} {Path(last.filename).name}:{last.lineno}"


@contextmanager
def stopped(seconds: int) -> Iterator[None]:
    """TimeoutError in what takes longer."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"not read in {seconds} s")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def keep(name: str, data: bytes) -> Path:
    """A case, under its hash."""
    path = CASES / name / hashlib.sha256(data).hexdigest()[:16]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def fuzz(name: str, inputs: int, first: int, last: Path, corpus: Path) -> int:
    """So many inputs for one reader; how many places were found. last: where the input at work is kept, for a parent
    that sees this process die. corpus: a folder for inputs that reached new lines, from which the next process goes
    on; those are read again and not counted again."""
    warnings.simplefilter("ignore")
    package = atheris.instrument_imports(include=["netformer", "stages"]) if atheris else nullcontext()
    with package:
        import torch
        from hostile import every_reader, hostile
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="fuzz"))
    reader = next(one for one in every_reader(folder / "valid") if one.name == name)
    found: set[str] = set()

    def read(data: bytes) -> None:
        last.write_bytes(data)
        (folder / "case").mkdir()
        try:
            with stopped(HANGS):
                reader.check(data, folder / "case")
        except Exception as error:  # whatever it is, it is what we look for
            if place_of(error) not in found:
                found.add(place_of(error))
                print(f"{name}: {place_of(error)}: {str(error)[:200]!r} -> {keep(name, data)}", flush=True)
        finally:
            shutil.rmtree(folder / "case")

    def finish() -> None:
        last.unlink(missing_ok=True)
        print(f"{name}: {len(found)} places in {inputs} inputs", flush=True)
        shutil.rmtree(folder)

    if atheris is None:
        for number in range(first, first + inputs):
            read(hostile(reader, number))
        finish()
        return len(found)
    corpus.mkdir(parents=True, exist_ok=True)
    done = -sum(1 for _ in corpus.iterdir())
    for number, seed in enumerate(reader.seeds):
        (corpus / str(number)).write_bytes(seed)

    def one(data: bytes) -> None:
        nonlocal done
        read(data)
        done += 1
        if done == inputs:  # libFuzzer itself leaves without a word
            finish()
            os_exit(len(found))

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        rng = random.Random(seed)
        return (reader.mutate(data, rng) if rng.random() < 0.7 else atheris.Mutate(data, most))[:most]

    settings = [f"-seed={first + 1}", f"-max_len={LARGEST}", "-verbosity=0", "-rss_limit_mb=8192", "-timeout=60"]
    atheris.Setup([sys.argv[0], *settings, str(corpus)], one, custom_mutator=mutate)
    atheris.Fuzz()
    return 0


def os_exit(found: int) -> None:
    """Leave at once, past libFuzzer's own end."""
    import os

    sys.stdout.flush()
    os._exit(min(found, 1))


def main() -> int:
    """Pieces for each reader in turn, each in a process of its own, so that none takes the others with it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="of all readers together")
    parser.add_argument("--reader", help="only this one")
    parser.add_argument("--kept", type=Path, default=ROOT / "build" / "fuzz", help="what goes on from run to run")
    parser.add_argument("--piece", type=int, nargs=2, metavar=("INPUTS", "FIRST"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    last = given.kept / f"{given.reader}.last"
    if given.piece:
        return min(fuzz(given.reader, *given.piece, last, given.kept / given.reader), 1)
    from hostile import READERS  # not in a process that reads: there it is imported under atheris

    names, report = [given.reader] if given.reader else list(READERS), given.kept / "pieces.jsonl"
    given.kept.mkdir(parents=True, exist_ok=True)
    pieces = [json.loads(line) for line in report.read_text().splitlines()] if report.exists() else []
    done: Counter[str] = Counter()
    for piece in pieces:
        done[piece["reader"]] += piece["inputs"]
    failed, share = any(piece["failed"] for piece in pieces), -(-given.inputs // len(names))
    while (name := min(names, key=lambda one: done[one])) and done[name] < share:
        inputs, last = min(PIECE, share - done[name]), given.kept / f"{name}.last"
        command = [sys.executable, __file__, "--reader", name, "--kept", str(given.kept)]
        command += ["--piece", str(inputs), str(done[name])]
        code = subprocess.run(command, check=False, cwd=ROOT).returncode
        failed |= code != 0
        if last.exists():
            print(f"{name}: the process died ({code}) -> {keep(name, last.read_bytes())}", flush=True)
            last.unlink()
        done[name] += inputs
        with report.open("a") as file:
            file.write(json.dumps({"reader": name, "inputs": inputs, "failed": code != 0}) + "\n")
    print(f"{sum(done[name] for name in names)} inputs of {len(names)} readers, {'some' if failed else 'none'} found")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
