"""Processes: several of them share the steps of one training, through Lightning Fabric.

On one machine they are started here. On several nodes SLURM (`srun`) or `torchrun` starts the command once per process,
and Fabric finds the others. Every process has one thread of torch.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, nn
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException
from torch.nn.parallel import DistributedDataParallel

from netformer.arrays.devices import device_of
from netformer.errors import InputError

T = TypeVar("T")
_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Socket Timeout", "Timed out waiting")
_WAY_OUT = "run again to go on from the last checkpoint, with fewer devices if memory was short"


def processes(
    devices: int = 1, nodes: int = 1, strategy: str = "auto", precision: str = "32-true", accelerator: str = "cpu"
) -> Fabric:
    """Fabric for `devices` processes on each of `nodes` machines; `launch` starts them.

    strategy: ddp (every process has the whole model, gradients are averaged), or auto, ddp if there are several.
    accelerator: cpu, cuda (a GPU for each process), or auto, cuda if there is a GPU.

    Raises InputError when torchrun or the absence of a launcher contradicts the numbers, and without enough GPUs.
    """
    world, kind = devices * nodes, device_of(accelerator, "accelerator").type
    if kind == "cuda" and devices > (count := torch.cuda.device_count()):
        raise InputError(f"devices must be at most {count}, the GPUs of this machine, got {devices}")
    started = int(os.environ.get("WORLD_SIZE", 1)) if "TORCHELASTIC_RUN_ID" in os.environ else world
    if started != world:
        raise InputError(f"devices x nodes must be {started}, the processes torchrun started, got {devices} x {nodes}")
    if world == 1 and strategy == "auto":
        return Fabric(accelerator=kind, devices=1, precision=precision)  # type: ignore[arg-type]

    def made(start: str) -> Fabric:
        ddp = DDPStrategy(start_method=start)  # type: ignore[arg-type]
        return Fabric(accelerator=kind, devices=devices, num_nodes=nodes, strategy=ddp, precision=precision)  # type: ignore[arg-type]

    fabric = made("popen")  # which starts nothing where others did
    if started_elsewhere(fabric):
        return fabric
    if nodes > 1:
        raise InputError(f"nodes must be 1 unless srun or torchrun starts the command on every node, got {nodes}")
    return made("spawn")


def started_elsewhere(fabric: Fabric) -> bool:
    """Whether something else (srun, torchrun) started all processes."""
    environment = getattr(fabric.strategy, "cluster_environment", None)
    return environment is not None and environment.creates_processes_externally


def launch(fabric: Fabric, function: Callable[..., T], *arguments: Any) -> T:
    """`function(fabric, *arguments)` in every process; returns what it returns in process 0.

    function, arguments: picklable if processes are started here; what is returned is small then, and has no tensors
    (a pipe holds 64 kB of it). One process without DDP is this one.

    Raises OSError in one line when a process dies or loses the others; the rest have been stopped then.
    """
    if fabric.world_size == 1 and fabric.strategy.launcher is None:
        return fabric.launch(function, *arguments)
    logger = logging.getLogger("torch.multiprocessing.spawn")  # that it stops the others
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        return fabric.launch(partial(_alone, function, arguments))
    except ProcessExitedException as error:
        how = f"was killed ({error.signal_name})" if error.signal_name else f"ended with code {error.exit_code}"
        raise OSError(f"process {error.error_index} of {fabric.world_size} {how}; {_WAY_OUT}") from None
    except ProcessRaisedException as error:
        last = str(error).strip().splitlines()[-1]
        if last.startswith(("OSError: ", "ValueError: ", f"{InputError.__module__}.{InputError.__name__}: ")):
            raise OSError(last.partition(": ")[2]) from None
        raise
    finally:
        logger.setLevel(level)


def _alone(function: Callable[..., T], arguments: tuple, fabric: Fabric) -> T:
    torch.set_num_threads(1)  # Fabric shares the cores among the processes
    try:
        return function(fabric, *arguments)
    except RuntimeError as error:
        if any(words in str(error) for words in _LOST):
            where = f"process {fabric.global_rank} of {fabric.world_size}"
            raise OSError(f"{where} lost the connection to another, which has died; {_WAY_OUT}") from None
        raise


def shared(module: nn.Module, fabric: Fabric, *, every_parameter: bool) -> nn.Module:
    """The module with gradients averaged over the processes by backward; itself in a process alone.

    every_parameter: whether every forward uses every parameter. Parameters are those of process 0.
    """
    if fabric.world_size == 1:
        return module
    return DistributedDataParallel(module, find_unused_parameters=not every_parameter)


def mean_over(fabric: Fabric, values: Tensor) -> Tensor:
    """Mean over the processes."""
    return values if fabric.world_size == 1 else fabric.all_reduce(values, reduce_op="mean")  # type: ignore[return-value]
