"""A second device where there is none: what is on `far` is computed on the CPU, but as on a GPU it cannot be mixed with
what is on the CPU, and every look at its numbers is counted.

    python -m far NAME    (in this folder) what `NAME` of this module finds, as JSON

A process that has begun with it keeps it, so tests run it in one of their own.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

aten = torch.ops.aten
LOOKS = {aten._local_scalar_dense.default, aten.nonzero.default, aten.bincount.default, aten.equal.default}
looks: list[str] = []  # where the CPU waited for the device, since the list was emptied


class _Module(_DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]

    def get_rng_state(self, device: Any) -> torch.Tensor:
        return torch.empty(0)

    def set_rng_state(self, state: torch.Tensor, device: Any) -> None:
        """It draws nothing."""


class Far(torch.Tensor):
    """A tensor on the device; `near` has its numbers."""

    near: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, near: torch.Tensor) -> Far:
        made = torch.Tensor._make_wrapper_subclass(
            cls, near.size(), near.stride(), near.storage_offset(), dtype=near.dtype, device="far:0"
        )
        made.near = near
        return made

    def tolist(self) -> Any:
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


class Mode(TorchDispatchMode):
    """While it is in force the device can make tensors, and is given some of the CPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


def computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    parts, shape = tree_flatten((args, kwargs))
    away = [x for x in parts if isinstance(x, Far)]
    mixed = [x for x in parts if isinstance(x, torch.Tensor) and not isinstance(x, Far) and x.ndim]
    device = kwargs.get("device")
    goes = bool(away) if device is None else torch.device(device).type == "far"
    if func not in (aten._to_copy.default, aten.copy_.default):
        assert not (away and mixed), f"{func} of tensors on two devices, of the CPU {[x.shape for x in mixed]}"
    by_mask = func is aten.index.Tensor and any(x is not None and x.dtype == torch.bool for x in args[1])
    if away and (func in LOOKS or by_mask or (func is aten._to_copy.default and not goes)):
        frame: Any = sys._getframe()
        while frame and "/netformer/" not in frame.f_code.co_filename:
            frame = frame.f_back
        looks.append(f"{Path(frame.f_code.co_filename).name} {frame.f_code.co_name}" if frame else "outside")
    near = [x.near if isinstance(x, Far) else x for x in parts]
    near = [torch.device("cpu") if isinstance(x, torch.device) and x.type == "far" else x for x in near]
    args, kwargs = tree_unflatten(near, shape)
    known = {id(x.near): x for x in away}
    found = func(*args, **kwargs)
    return tree_map_only(torch.Tensor, lambda x: known[id(x)] if id(x) in known else Far(x), found) if goes else found


@contextmanager
def device() -> Iterator[torch.device]:
    """The device, in this process and this thread."""
    _setup_privateuseone_for_python_backend("far", _Module())
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor makes them there and sends them, as far as we see
    with Mode():
        yield torch.device("far:0")


def here(function: Callable[[int], Any], steps: range) -> Iterator[tuple[int, Any]]:
    """`batches.ahead` in this thread."""
    return ((step, function(step)) for step in steps)


def gap(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """Mean difference of the weights of two models."""
    return float(torch.cat([(a[name] - b[name]).abs().flatten().double() for name in a]).mean())


def off(a: list[dict[str, float]], b: list[dict[str, float]]) -> float:
    """Largest relative difference of two curves."""
    return max(abs(x[name] - y[name]) / (1 + abs(x[name])) for x, y in zip(a, b, strict=True) for name in x)


def writer() -> dict[str, Any]:
    """Three steps of the model's training on either device, and from a checkpoint of the other."""
    import test_processes as given

    from netformer.options import ModelOptions, TablePrior
    from netformer.training import loop

    loop.ahead = here
    corpus, cpu = given.corpus.__wrapped__(), torch.device("cpu")
    tables = TablePrior(category_share=0.3, gap_share=0.2)
    plain = replace(given.OPTIONS, steps=3, stream_tasks=9, tables=tables, budget_share=0.0)
    classes, budget = replace(plain, class_share=0.4), replace(plain, budget_share=1.0)
    model = ModelOptions(**given.MODEL, rounds=1, kinds=True)
    found: dict[str, Any] = {}

    def trained(place: torch.device, options: Any, **how: Any) -> tuple[dict[str, torch.Tensor], list, list[str]]:
        """Weights, curve, and looks at the device until the end of the last step."""
        fabric = SimpleNamespace(
            global_rank=0, world_size=1, device=place, broadcast=lambda value: value, autocast=nullcontext
        )
        curve: list = []
        seen: list[str] = []

        def log(step: int, row: dict[str, float]) -> None:
            curve.append(row)
            seen[:] = looks

        looks.clear()
        made = loop.train(corpus, model, options, fabric=fabric, log=log, log_every=1, **how)
        return made.state_dict(), curve, seen

    with device() as far, TemporaryDirectory() as folder:
        for name, options in (("plain", plain), ("classes", classes), ("budget", budget)):
            weights, curve, _ = trained(cpu, options)
            there, its_curve, seen = trained(far, options)
            found[name] = {"weights": gap(weights, there), "loss": off(curve, its_curve), "looks": dict(Counter(seen))}
        for first, second in ((cpu, far), (far, cpu)):
            how = {"checkpoint": Path(folder) / f"{first.type}.safetensors", "checkpoint_every": 2}
            trained(first, budget, **how)
            again, its_curve, _ = trained(second, budget, **how)
            found[f"after_{first.type}"] = {"weights": gap(weights, again), "loss": off(curve, its_curve)}
    return found


def teacher() -> dict[str, Any]:
    """The teacher's training on either device, and from a checkpoint of the other; what the stage says of it."""
    import test_teaching as given

    from netformer.arrays.devices import made_on, moved
    from netformer.teacher import loop
    from netformer.teacher.answers import Answerer, valid_r2
    from netformer.teacher.store import digest_of

    loop.ahead = here
    cpu, options = torch.device("cpu"), replace(given.SMALL, steps=6, precision="32-true")
    prior, found = given.stage_tasks().download.prior, {}

    def taught(place: torch.device, **how: Any) -> tuple[loop.Progress, list[str]]:
        looks.clear()
        made = loop.teach(given.OPTIONS, options, given.writer(), prior=prior, device=place, **how)
        return made, list(looks)

    def compared(a: loop.Progress, b: loop.Progress) -> dict[str, Any]:
        b.teacher.to("cpu")
        weights = gap(a.teacher.state_dict(), b.teacher.state_dict())
        return {"weights": weights, "loss": off(*([dict(enumerate(row)) for row in p.curve] for p in (a, b)))}

    with device() as far, TemporaryDirectory() as folder:
        (whole, _), (there, seen) = taught(cpu), taught(far)
        writer = given.writer()
        near = valid_r2(Answerer(whole.averaged(), writer), [given.tasks()], orders=2)
        digest = digest_of(writer)
        with made_on(far):
            answerer = Answerer(there.averaged(), writer.to(far))
            found["r2"] = float((near - valid_r2(answerer, [moved(given.tasks(), far)], orders=2).cpu()).abs().max())
        found["digest"] = digest == digest_of(writer)
        found |= {"plain": {**compared(whole, there), "looks": dict(Counter(seen))}}
        for first, second in ((cpu, far), (far, cpu)):
            where = Path(folder) / first.type
            taught(first, folder=where, minutes=0.0)
            again, _ = taught(second, folder=where)
            found[f"after_{first.type}"] = compared(whole, again)
    return found


def generated() -> dict[str, Any]:
    """Networks that the package's weights write for a table on either device, the gap of their answers."""
    import numpy as np

    from netformer import NetFormer

    x = np.random.default_rng(0).normal(size=(120, 5))
    y, found = x[:, 0] * x[:, 1] + x[:, 2], {}
    with device() as far:
        near = NetFormer.load()
        there = NetFormer(NetFormer.load().model.to(far), near.transform)
        for name, how in (("plain", {}), ("bound", {"max_params": 60}), ("refined", {"refine_steps": 8})):
            answers = [np.asarray(model.generate(x, y, 4, **how).predict(x)) for model in (near, there)]
            found[name] = float(np.abs(answers[0] - answers[1]).max())
    return found


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]]()))
