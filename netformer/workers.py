"""Workers: one function over many items, shared by processes of this machine or by a Dask cluster.

Results come in the order of the items and have the same bytes whoever computed them: every call runs on one thread of
torch and BLAS, alone in its process. (Another kind of processor may round sums of the zoo engine otherwise.)
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from netformer.errors import InputError

_CLIENT: ContextVar[Any] = ContextVar("client", default=None)
_ALONE = threading.RLock()  # a Dask worker may have several threads, and pymfe is not for several at once
_PATIENCE = 15  # seconds a scheduler and its first worker have to answer


@contextmanager
def cluster(address: str, workers: int = 1) -> Iterator[None]:
    """Within the block `map_parallel` uses the Dask scheduler at `address`.

    address: tcp://HOST:PORT or tls://HOST:PORT; `local` starts `workers` processes and ends them with the block; an
    empty one changes nothing. Everything runs from the caller's thread.

    Raises InputError when Dask is not installed, the scheduler cannot be reached, or it has no workers.
    """
    if not address:
        yield
        return
    if address != "local" and not address.startswith(("tcp://", "tls://")):
        raise InputError(f"the Dask scheduler must be local, tcp://HOST:PORT or tls://HOST:PORT, got {address}")
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise InputError("work on a Dask cluster needs the extra scale: pip install 'netformer[scale]'") from None
    with ExitStack() as stack:
        place: Any = address
        if address == "local":
            place = stack.enter_context(LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0"))
        try:
            if address != "local":
                _reach(address)
            client = stack.enter_context(Client(place, timeout=_PATIENCE))
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            way_out = "start it (dask scheduler), correct the address, or leave it out: the bytes are the same"
            raise InputError(f"no Dask scheduler answers at {address} ({reason}); {way_out}") from None
        try:
            client.wait_for_workers(1, timeout=_PATIENCE)
        except TimeoutError:
            raise InputError(
                f"the Dask scheduler at {address} has no workers; start one: dask worker {address}"
            ) from None
        token = _CLIENT.set(client)
        stack.callback(_CLIENT.reset, token)
        yield


def _reach(address: str) -> None:
    """Raises OSError or ValueError unless something listens at an address: known before Dask starts a thread."""
    place = urlsplit(address)
    if not place.hostname or place.port is None:
        raise ValueError(f"host and port are needed, got {place.netloc!r}")
    socket.create_connection((place.hostname, place.port), timeout=_PATIENCE).close()


@contextmanager
def ending_workers() -> Iterator[None]:
    """Within the block SIGTERM ends the worker processes of this one with it, at once; otherwise they wait for work for
    5 minutes more. Outside the main thread, which alone gets signals, the block changes nothing."""

    def end(number: int, _: Any) -> None:
        for worker in multiprocessing.active_children():
            worker.terminate()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def on_cluster() -> bool:
    """Whether `map_parallel` sends its work to a Dask cluster here."""
    return _CLIENT.get() is not None


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch and BLAS of this process work on one thread within the block: a sum that threads share differs in its last
    bits with their number, and small products wait longer for a second thread than they take. Also a decorator."""
    import torch
    from threadpoolctl import threadpool_limits

    threads = torch.get_num_threads()
    with threadpool_limits(1):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def map_parallel(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list:
    """`[function(item) for item in items]`, computed by `workers` processes, or by the cluster of the block.

    function: importable where the workers are. progress: called with (items done, items in all). A cluster repeats
    elsewhere what a lost worker was doing.

    Raises OSError when a process of this machine dies, or the cluster gives up.
    """
    call, results, client = partial(_alone, function), [None] * len(items), _CLIENT.get()
    found = _from_processes(call, items, workers) if client is None else _from_cluster(client, call, items)
    for done, (index, result) in enumerate(found, 1):
        results[index] = result
        if progress is not None:
            progress(done, len(items))
    return results


def _from_processes(call: Callable[[Any], Any], items: Sequence[Any], workers: int) -> Iterator[tuple[int, Any]]:
    import joblib

    try:
        yield from enumerate(joblib.Parallel(workers, return_as="generator")(joblib.delayed(call)(i) for i in items))
    except BrokenExecutor:
        way_out = "run again, with a smaller NETFORMER_WORKERS if memory was short"
        raise OSError(f"one of {workers} worker processes was killed; {way_out}") from None


def _from_cluster(client: Any, call: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """In the order of completion. Items travel inside their tasks, so that no worker's death loses them."""
    from distributed import KilledWorker, as_completed

    futures = [client.submit(call, item, pure=False) for item in items]
    index = {future.key: i for i, future in enumerate(futures)}
    waiting = as_completed(futures, with_results=True)
    del futures  # a result leaves the cluster as soon as it is here
    try:
        for future, result in waiting:
            yield index[future.key], result
    except (KilledWorker, CancelledError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OSError(f"the Dask cluster gave up ({reason}); look at its workers' logs and memory, run again") from None


def _alone(function: Callable[[Any], Any], item: Any) -> Any:
    with _ALONE, one_thread():
        return function(item)
