"""Files: written completely or not at all, and the code behind a module."""

from __future__ import annotations

import ast
import glob
import hashlib
import itertools
import os
import platform
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]  # other machines may share the disk
_calls = itertools.count()
_in_use: set[str] = set()  # temporary names of this process


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, for a file or a folder, which takes its place when the block ends; after an
    error nothing is left of it.

    Missing folders are made. The name is this call's own, so that no two write into one file; it keeps the suffix,
    which says the format. What processes of this machine that were killed left beside `path` is removed. A folder takes
    the place of no folder or of an empty one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{_HOST}-*.tmp.{glob.escape(path.name)}"):
        if left.name not in _in_use and not _is_running(left.name.split("-")[1]):
            _remove(left)
    temporary = path.with_name(f".{_HOST}-{os.getpid()}-{next(_calls)}.tmp.{path.name}")
    _in_use.add(temporary.name)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        _remove(temporary)
        _in_use.discard(temporary.name)


def _is_running(process: str) -> bool:
    """Whether another process of this number is there; a name of this one's that is not in use is of a dead one."""
    if os.name != "posix" or not process.isdecimal():
        return True
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return int(process) != os.getpid()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def imported_names(path: Path) -> list[str]:
    """What a Python file imports, also inside functions: `from a.b import c` gives a.b and a.b.c."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return names


def sources_of(start: Path, root: Path) -> set[Path]:
    """The Python files below `root` that the file `start` imports, also inside functions, also by way of others, with
    itself. A package stands for none: its `__init__` holds a docstring."""
    found, queue = {start}, [start]
    while queue:
        for name in imported_names(queue.pop()):
            file = root / (name.replace(".", "/") + ".py")
            if file.exists() and file not in found:
                found.add(file)
                queue.append(file)
    return found


def code_digest(paths: Iterable[Path]) -> str:
    """SHA-256 of what Python files do, in order of their paths: comments, docstrings and line breaks do not count."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
                node.body = node.body[1:] or [ast.Pass()]
        digest.update(ast.unparse(tree).encode())
    return digest.hexdigest()
