"""Stages: read, call one library function, write. Run as `python -m stages.NAME` from the repository's root."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm


def run(main: Callable[[Path], None]) -> None:
    """Run a stage in the current folder; bad input is one line on stderr and exit code 2."""
    try:
        main(Path())
    except (ValueError, OSError) as error:
        spec = sys.modules[main.__module__].__spec__  # under -m the module is called __main__
        print(f"{spec.name if spec else main.__module__}: {error}", file=sys.stderr)
        raise SystemExit(2) from None


class Bar:
    """A progress callable (done, total), silent when stderr is not a terminal."""

    def __init__(self, name: str) -> None:
        self._bar = tqdm(desc=name, disable=None)

    def __call__(self, done: int, total: int) -> None:
        self._bar.total = total
        self._bar.update(done - self._bar.n)
        if done >= total:
            self._bar.close()
