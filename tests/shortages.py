"""No room: a full disk, a limit on the size of a file and a folder that cannot be written, for every stage and for what
the library writes.

    python tests/shortages.py [--few] [--only zoo]

Each is real: a tmpfs of few bytes in a mount namespace of its own, RLIMIT_FSIZE, a folder without write permission and
a process without the powers of root. The unit ends in one line that names the reason, or completes; no file is half
written, no temporary one is left; with room again it completes with the bytes of an undisturbed run. Processes are
forked as in `kills`. Exit code 1 if one was not survived.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import resource
import shutil
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from kills import DELIVERED, STAGES, Harness, completed, hashes, unit  # noqa: E402  as a script it finds them there

NEW_NAMESPACE, NEW_USER, RECURSIVE_PRIVATE, REMOUNT = 0x20000, 0x10000000, 0x44000, 32  # of Linux
PAGE = 4096
SHARES = (0.3, 0.0, 0.8)  # of what a unit writes
LIMITS = (500, 0, 10_000)  # bytes of a file
REASONS = {"full": "No space left", "limit": "File too large", "read-only": "Permission denied"}
LIBC = ctypes.CDLL(None, use_errno=True)


def called(function: str, *arguments: object) -> None:
    """A function of libc. Raises OSError where it fails."""
    if getattr(LIBC, function)(*arguments):
        raise OSError(ctypes.get_errno(), function)


def forked(work: Callable[[], None]) -> tuple[int, str]:
    """Exit code of a process that does this, and what it said on stderr: an OSError in one line with code 2, as stages
    and commands do, of anything else the traceback."""
    reading, writing = os.pipe()
    process = os.fork()
    if process:
        os.close(writing)
        with os.fdopen(reading) as said:
            text = said.read()
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), text
    code = 1
    try:
        os.dup2(writing, 2)
        warnings.simplefilter("ignore")
        work()
        code = 0
    except SystemExit as error:
        code = int(error.code or 0)
    except OSError as error:
        code = 2
        print(error, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def run(name: str, root: Path) -> None:
    """A unit, as a user runs it."""
    import stages

    os.chdir(root)
    if name in STAGES:
        stages.run(unit(name))
    else:
        unit(name)(Path())


def mounted(root: Path, size: int, flags: int = 0) -> None:
    """A disk of so many bytes in a place that only this process sees."""
    called("mount", b"tmpfs", str(root).encode(), b"tmpfs", flags, f"size={size}".encode())


def writable(root: Path, yes: bool) -> None:
    for path in [root, *root.rglob("*")]:
        path.chmod((0o700 if path.is_dir() else 0o600) if yes else (0o500 if path.is_dir() else 0o400))


def size_of(root: Path) -> int:
    """Bytes that its files and folders take, in whole pages."""
    return sum(-(-path.stat().st_size // PAGE) * PAGE or PAGE for path in [root, *root.rglob("*")])


def case(harness: Harness, name: str, fault: str, number: int) -> None:
    """One shortage of one unit; exit code 2 where it was hit by it, AssertionError where that was not survived."""
    root, before, expected = harness.folder / "short", harness.before[name], harness.after[name]
    root.mkdir()
    if fault == "full":
        called("unshare", NEW_NAMESPACE)
        called("mount", b"none", b"/", None, RECURSIVE_PRIVATE, None)
        mounted(root, size_of(before) + int(SHARES[number] * harness.written[name]) + PAGE)
    shutil.copytree(before, root, dirs_exist_ok=True)
    old = hashes(root)
    if fault == "read-only":
        writable(root, False)

    def work() -> None:
        if fault == "limit":
            resource.setrlimit(resource.RLIMIT_FSIZE, (LIMITS[number], resource.RLIM_INFINITY))
        elif fault == "read-only":
            called("unshare", NEW_USER)
        run(name, root)

    code, said = forked(work)
    found = hashes(root)
    last = said.strip().splitlines()[-1:]
    assert code in (0, 2), f"exit code {code}: {said}"
    assert code == 0 or (REASONS[fault] in last[0] and "Traceback" not in said), said
    for path, digest in found.items():
        assert digest in (expected.get(path), old.get(path)), f"{path} is half written, or a temporary file"
    if fault == "full":
        mounted(root, 1 << 28, REMOUNT)
    elif fault == "read-only":
        writable(root, True)
    completed(name, root)
    assert hashes(root) == expected, f"other files or bytes, {set(hashes(root)) ^ set(expected)}"
    raise SystemExit(code)


def main() -> int:
    """Every shortage of every unit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--few", action="store_true", help="units that take a moment, for the tests")
    parser.add_argument("--only", choices=(*STAGES, *DELIVERED))
    given = parser.parse_args()
    os.environ["NETFORMER_WORKERS"] = "1"
    import commands  # noqa: F401  everything is imported before the first fork

    for name in STAGES:
        import_module(f"stages.{name}")
    folder, failed, hit = Path(tempfile.mkdtemp(prefix="shortages")), 0, 0
    names = ("download", *DELIVERED) if given.few else (*STAGES, *DELIVERED)
    harness = Harness(folder, names[: names.index(given.only) + 1 if given.only else None])
    cases = [
        (name, fault, number)
        for name in ((given.only,) if given.only else harness.names)
        for fault in ("full", "limit", "read-only")
        for number in range(1 if fault == "read-only" or given.few else len(SHARES))
        if fault != "full" or os.geteuid() == 0  # others may not mount
    ]
    for name, fault, number in cases:
        code, said = forked(lambda name=name, fault=fault, number=number: case(harness, name, fault, number))
        shutil.rmtree(folder / "short")
        good = code in (0, 2)
        hit, failed = hit + (code == 2), failed + (not good)
        print(f"{name}: {fault} {number}: {('completed', said, 'one line, then completed')[code]}", flush=True)
    print(f"{len(cases) - failed} of {len(cases)} shortages survived, {hit} of them met", flush=True)
    shutil.rmtree(folder)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
