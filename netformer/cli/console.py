"""What every command shares: bad input is one line, results go to stdout and notes to stderr, files appear complete."""

from __future__ import annotations

import json
import math
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.markup import escape
from typer.core import TyperGroup

from netformer import __version__
from netformer.errors import EXTRAS, InputError, missing

CODES = "Exit codes: 0 fine; 2 bad input: one line on stderr says what is wrong, and nothing was written."

_SHOWN = 200  # characters of what a library says of a want of memory
_NO_MEMORY = ("allocate", "failed to map segment")  # in what libraries say then
_TYPED: ContextVar[tuple[str, ...]] = ContextVar("typed", default=())


class OneLine(TyperGroup):
    """Commands whose bad input, or a want of memory, is one line on stderr and exit code 2, never a traceback."""

    def main(self, args: Sequence[str] | None = None, *, standalone_mode: bool = True, **extra: Any) -> Any:  # type: ignore[override]
        """Run a command; returns or exits with its code, see `CODES`."""
        _TYPED.set(tuple(sys.argv[1:] if args is None else args))
        try:
            code = super().main(args, standalone_mode=False, **extra)
        except typer.Abort:
            code = 1
        except (typer.TyperException, InputError, OSError, ModuleNotFoundError) as error:
            wrong_use = getattr(error, "format_message", None)
            said = (
                _install(error) if isinstance(error, ModuleNotFoundError) else str(wrong_use() if wrong_use else error)
            )
            line = " ".join(said.split())
            code = 2 if line else 0  # no line: there were no arguments, and the help was shown
            if line:
                print(f"netformer: {line}{'; see --help' if wrong_use else ''}", file=sys.stderr)
        except (MemoryError, RuntimeError, ImportError) as error:
            if not (isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY)):
                raise
            code, said = 2, " ".join(str(error).split())[:_SHOWN]
            way_out = "use fewer rows or columns, or a machine with more"
            print(f"netformer: not enough memory{f' ({said})' if said else ''}; {way_out}", file=sys.stderr)
        if not standalone_mode:
            return code
        sys.exit(code if isinstance(code, int) else 0)


def _install(error: ModuleNotFoundError) -> str:
    """What to install where an extra is missing. Any other module that is missing is a bug, and is raised."""
    if error.name not in EXTRAS:
        raise error
    return missing(error.name, "this")


def _print_version(asked: bool | None) -> None:
    if asked:
        print(f"netformer {__version__}")
        raise typer.Exit


def options(
    version: Annotated[
        bool | None,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit."),
    ] = None,
) -> None:
    """What may stand before a command."""


class Talk:
    """What a command says: results on stdout, notes and progress on stderr, or one JSON object alone."""

    def __init__(self, as_json: bool, quiet: bool) -> None:
        self.as_json, self.silent = as_json, as_json or quiet
        self.out, self.err = Console(), Console(stderr=True, highlight=False)
        if not self.out.is_terminal:
            self.out = Console(width=160)  # a pipe has no width: 80 would fold the tables

    def notes(self, lines: Sequence[str]) -> None:
        """What a user should know beside the result, a line each, on stderr."""
        if not self.silent:
            for line in lines:
                self.err.print(line, style="yellow", markup=False, soft_wrap=True)

    def show(self, *parts: RenderableType) -> None:
        """Results for a reader, on stdout."""
        if not self.silent:
            for part in parts:
                self.out.print(part, markup=False, soft_wrap=isinstance(part, str))

    @contextmanager
    def progress(self, what: str) -> Iterator[Callable[[str], None]]:
        """A sign of life on a terminal while the block runs, which is given a function to say more in it."""
        if self.silent or not self.err.is_terminal:
            yield lambda text: None
            return
        with self.err.status(escape(what)) as status:
            yield lambda text: status.update(escape(text))

    def finish(self, value: dict) -> None:
        """The whole result as one JSON object on stdout, if that was asked for."""
        if self.as_json:
            print(json.dumps(plain(value), allow_nan=False))


@contextmanager
def noted(notes: list[str], path: Path) -> Iterator[None]:
    """UserWarnings of the block become notes with the name of the file in front."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    notes += [f"{path}: {one.message}" for one in caught if issubclass(one.category, UserWarning)]


def command_line() -> str:
    """The command that runs, as it was typed."""
    return shlex.join(["netformer", *_TYPED.get()])


def plain(value: Any) -> Any:
    """For JSON: a DataFrame becomes its rows, what is not finite null."""
    if hasattr(value, "to_dict"):
        value = value.to_dict("records")
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def number(value: float) -> str:
    """Three decimals, or a dash for what is not finite."""
    return f"{value:.3f}" if math.isfinite(value) else "-"


def refuse_existing(path: Path | None) -> None:
    """Raises InputError for an output that is there already, or that cannot be."""
    if path is None:
        return
    if path.exists() or path.is_symlink():
        raise InputError(f"{path}: exists already, nothing was overwritten; choose another --out or remove it")
    file = next((parent for parent in path.parents if parent.exists() and not parent.is_dir()), None)
    if file is not None:
        raise InputError(f"{path}: cannot be written, {file} is a file; choose another --out")
