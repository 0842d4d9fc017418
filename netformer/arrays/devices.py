"""Devices: on which of them tensors are computed, and how they get there.

What is drawn is drawn on the CPU, so that every device is given the same numbers. Importing this module must not import
torch.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from netformer.arrays.namespace import Generator, Tensor, namespace
from netformer.errors import InputError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
ACCELERATORS = ("auto", "cpu", "cuda")


def device_of(name: str | torch.device, what: str = "device") -> torch.device:
    """The device of a name: cpu, cuda, one of several GPUs (cuda:1), or auto, cuda if there is one. what: whose value
    the name is. Raises InputError for another name, and for a GPU that is not there."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    kind, _, number = str(name).partition(":")
    if kind == "auto" and not number:
        kind = "cuda" if count else "cpu"
    if kind not in ACCELERATORS or (number and not (kind == "cuda" and number.isdecimal())):
        raise InputError(f"{what} must be auto, cpu, cuda or cuda:N, got {str(name)!r}")
    if kind == "cuda" and int(number or 0) >= count:
        raise InputError(
            f"{what} must be auto, cpu, or one of the {count} CUDA GPUs that torch {torch.__version__} finds, got "
            f"{str(name)!r}; a GPU needs its driver and a build of torch with CUDA"
        )
    return torch.device(f"{kind}:{number}" if number else kind)


def moved(value: T, device: torch.device | str | None) -> T:
    """The same with every tensor on the device, also those in dataclasses and tuples; None: as it is. A tensor that is
    there already is not copied. To a GPU it goes by way of pinned memory, and nobody waits for it."""
    if device is None:
        return value
    if isinstance(value, tuple):
        return tuple(moved(part, device) for part in value)  # type: ignore[return-value]
    if is_dataclass(value):
        parts = {field.name: getattr(value, field.name) for field in fields(value)}
        there = {name: moved(part, device) for name, part in parts.items()}
        same = all(there[name] is part for name, part in parts.items())
        return value if same else replace(value, **there)  # type: ignore[type-var, return-value]
    torch = sys.modules["torch"]
    if not isinstance(value, torch.Tensor):
        return value
    goes = torch.device(device).type == "cuda" and value.device.type == "cpu"
    return value.pin_memory().to(device, non_blocking=True) if goes else value.to(device)


def made_on(device: torch.device | None) -> AbstractContextManager[Any]:
    """While it is in force, tensors that this thread makes are made on the device, unless another one is named. For the
    CPU and for None it does nothing."""
    return nullcontext() if device is None or device.type == "cpu" else device  # type: ignore[return-value]


def on_cpu(x: Any) -> bool:
    """Whether the numbers can be looked at without waiting for another device."""
    return x.device is None or x.device.type == "cpu"


def drawn(kind: str, *shape: int, generator: Generator, like: Tensor) -> Tensor:
    """Random numbers of a generator of the CPU, where `like` is. kind: the function of torch: rand, randn, randperm."""
    xp = namespace(like)
    if like.device is None:
        return getattr(xp, kind)(*shape, generator=generator)
    return getattr(xp, kind)(*shape, generator=generator, device="cpu").to(like.device)


@contextmanager
def enough_memory(lower: str) -> Iterator[None]:
    """Raises InputError, one line, where a GPU has no memory left. lower: what to lower then."""
    try:
        yield
    except sys.modules["torch"].OutOfMemoryError as error:
        line = str(error).partition(".")[0]
        raise InputError(f"the GPU has too little memory: {line}; lower {lower}, or choose cpu") from None
