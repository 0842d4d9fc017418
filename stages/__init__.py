"""Stages: read, call one library function, write. Run as `python -m stages.NAME` from the repository's root.

`run` has torch and BLAS work on one thread: a sum that threads share differs in its last bits with their number.
Processes and threads that share networks or tasks, as many as the cores or `NETFORMER_WORKERS`, change no result, and
neither does the Dask cluster that `NETFORMER_DASK` names.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from netformer.errors import InputError


def n_workers() -> int:
    """How many processes or threads share the work of a stage."""
    return int(os.environ.get("NETFORMER_WORKERS", os.cpu_count() or 1))


@contextmanager
def shared() -> Iterator[None]:
    """What a stage spreads goes to the Dask scheduler `NETFORMER_DASK` names, or stays here when there is none."""
    from netformer.workers import cluster  # not a dep of stages that spread nothing

    with cluster(os.environ.get("NETFORMER_DASK", ""), n_workers()):
        yield


def run(main: Callable[[Path], object]) -> None:
    """Run a stage in the current folder, on one thread; bad input is one line on stderr and exit code 2. SIGTERM ends
    it with its worker processes."""
    from netformer.workers import ending_workers, one_thread  # no dep of every stage: they decide no more than threads

    try:
        with one_thread(), ending_workers():
            main(Path())
    except (InputError, OSError) as error:
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
