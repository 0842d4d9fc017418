"""Training: reconstruct the zoo, and write networks for tasks nobody trained on.

A step reads one batch (`batches`), minimises one objective (`losses`) and may be shared by several processes
(`processes`). A training that was interrupted goes on from its checkpoint and ends with the same weights and the same
curve of losses.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from netformer.arrays.devices import enough_memory, moved
from netformer.errors import InputError
from netformer.model.store import write_tensors
from netformer.model.vae import TransformerVAE
from netformer.networks.stack import weight_scale
from netformer.options import BatchOptions, ModelOptions, TaskPrior, TrainOptions
from netformer.tasks.families import DEFAULT
from netformer.training.batches import Batch, Corpus, ahead, draw_batch
from netformer.training.losses import CLASS_PARTS, PARTS, Objective, shares
from netformer.training.processes import mean_over, processes, shared
from netformer.zoo.schedule import learning_rate

Log = Callable[[int, dict[str, float]], None]
CLIP = 1.0  # the norm of the gradient is at most that
WARMUP_SHARE, WARMUP_STEPS = 0.1, 100  # of the learning rate: the shorter of the two
BETAS = (0.9, 0.98)  # of AdamW
NARROWEST, WIDEST = 16, 1024  # matrices between them are orthogonalised: wider ones cost most and gain least (`LOG.md`)
LAYERS = (nn.Linear, nn.MultiheadAttention, nn.Embedding, nn.LayerNorm)  # see `_by_module`


class LossCurve:
    """Numbers of every step so far (`names`), logged as means of `every` steps and of what is left at the end.

    They are stored with a checkpoint and added again when training resumes from it: whoever listens hears of every
    step, in the same words as without the interruption.
    """

    def __init__(self, names: tuple[str, ...], log: Log | None, every: int, steps: int) -> None:
        self.names, self.log, self.every, self.steps = names, log, every, steps
        self.rows: list[list[float]] = []
        self._sums = dict.fromkeys(names, 0.0)

    def add(self, row: list[float]) -> None:
        """The numbers of the next step."""
        self.rows.append(row)
        for name, value in zip(self.names, row, strict=True):
            self._sums[name] += value
        step = len(self.rows)
        if step % self.every == 0 or step == self.steps:
            since = (step - 1) % self.every + 1
            if self.log is not None:
                self.log(step, {name: total / since for name, total in self._sums.items()})
            self._sums = dict.fromkeys(self.names, 0.0)


def curve_names(options: BatchOptions) -> tuple[str, ...]:
    """Numbers of a step: parts of the loss, and `skipped`, 1 if its gradient was not finite and moved nothing."""
    return (*(CLASS_PARTS if options.class_tasks else PARTS), "skipped")


def train(
    corpus: Corpus,
    model_options: ModelOptions,
    options: TrainOptions,
    *,
    prior: TaskPrior = DEFAULT,
    initial: TransformerVAE | None = None,
    fabric: Fabric | None = None,
    checkpoint: Path | None = None,
    checkpoint_every: int = 500,
    log: Log | None = None,
    log_every: int = 20,
) -> TransformerVAE:
    """Train a `TransformerVAE`; the same arguments give the same weights.

    prior: of the fresh tasks. initial: a model of the same options, or with fewer `rounds` of its task encoder, to go
    on from instead of random weights; it is not changed. fabric: of `processes.launch`, the processes that share every
    step, with a precision and a device of its own; every one calls this with the same arguments and gets the same
    weights, up to rounding those of one process. checkpoint: a file that process 0 writes every `checkpoint_every`
    steps and all resume from when it exists, on any device; the caller keys its name by everything that matters. log:
    called in process 0 with a step and the mean of each of `curve_names` since the last call; a resumed training begins
    with the calls of the steps before its checkpoint.

    Batches are drawn on the CPU while the device works. The model that is returned is on the CPU.

    Raises InputError when a process would have no task and when a GPU has too little memory, OSError when a process
    does not see the checkpoint.
    """
    o = options
    fabric = fabric or processes(precision=o.precision)
    rank, world, device = fabric.global_rank, fabric.world_size, fabric.device
    fresh = min(o.number_tasks, o.class_tasks or o.number_tasks)
    least = min(o.zoo_tasks, fresh, len(corpus.task_index.unique()))
    if least < world:
        raise InputError(f"zoo_tasks and fresh tasks of each kind must be at least the {world} processes, got {least}")
    with torch.random.fork_rng():
        torch.manual_seed(o.seed)
        model = TransformerVAE(corpus.networks.layout, corpus.metafeatures.shape[1], model_options)
    if initial is None:
        model.scale.copy_(weight_scale(corpus.networks))
    else:
        model.load_state_dict(model.state_dict() | initial.state_dict())
    model.to(device)
    optimizers = _optimizers(model, o.lr, o.weight_decay)
    curve = LossCurve(curve_names(o), log if rank == 0 else None, log_every, o.steps)
    if checkpoint is not None and checkpoint.exists():
        _resume(checkpoint, model, optimizers, curve)
    start = len(curve.rows)
    if fabric.broadcast(start) != start:
        raise OSError(f"process {rank} does not see the checkpoint of process 0: {checkpoint} must be a shared file")
    objective = shared(Objective(model, o.loss, fabric.autocast), fabric, every_parameter=model.condition == "both")
    draw = partial(
        draw_batch,
        corpus=corpus,
        options=o,
        seed=o.seed,
        d_latent=model.d_latent,
        order_noise=model.order_noise,
        prior=prior,
    )

    def read(step: int) -> tuple[Batch, dict[str, float]]:
        return moved(shares(draw(step), rank, world), device)

    parameters = [parameter for _, parameter in _by_module(model)]
    with _kernels(device), enough_memory("train.stream_tasks and train.zoo_tasks"):
        for step, batch in ahead(read, range(start, o.steps)):
            value, parts = objective(*batch)
            model.zero_grad(set_to_none=True)
            value.backward()
            norm = torch.nn.utils.clip_grad_norm_(parameters, CLIP)
            numbers = torch.cat([mean_over(fabric, parts), norm.view(1)])
            *row, size = numbers.tolist()  # here a GPU is waited for, once a step
            finite, warmup = math.isfinite(size), min(WARMUP_SHARE, WARMUP_STEPS / o.steps)
            for optimizer in optimizers:
                optimizer.param_groups[0]["lr"] = learning_rate(step, o.steps, o.lr, warmup=warmup)
                if finite:
                    optimizer.step()
            curve.add([*row, float(not finite)])
            if rank == 0 and checkpoint is not None and (step + 1) % checkpoint_every == 0 and step + 1 < o.steps:
                _save(checkpoint, model, optimizers, curve)
    return model.cpu().eval()


def _kernels(device: torch.device) -> AbstractContextManager[Any]:
    """Attention by formula on the CPU, where flash attention is slow backward on a few dozen tokens."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


def _by_module(model: nn.Module) -> list[tuple[nn.Module, nn.Parameter]]:
    """Every parameter with the module that holds it, those outside of `LAYERS` (positions, templates, null embeddings)
    first: the order in which the norm of the gradient is summed, and so part of what makes a training repeatable."""
    held = [(module, parameter) for module in model.modules() for parameter in module.parameters(recurse=False)]
    return sorted(held, key=lambda pair: isinstance(pair[0], LAYERS))


def _optimizers(model: TransformerVAE, lr: float, weight_decay: float) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the matrices of linear layers and attention, AdamW for embeddings, positions,
    templates, vectors, and matrices that are wider than `WIDEST` or narrower than `NARROWEST`."""
    inner: list[nn.Parameter] = []
    outer: list[nn.Parameter] = []
    for module, parameter in _by_module(model):
        multiplies = isinstance(module, nn.Linear | nn.MultiheadAttention) and parameter.ndim == 2
        fits = multiplies and min(parameter.shape) >= NARROWEST and max(parameter.shape) <= WIDEST
        (inner if fits else outer).append(parameter)
    return [
        torch.optim.Muon(inner, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(outer, lr=lr, weight_decay=weight_decay, betas=BETAS, fused=True),
    ]


def _save(path: Path, model: TransformerVAE, optimizers: list[torch.optim.Optimizer], curve: LossCurve) -> None:
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for optimizer in optimizers:
        for name, parameter in model.named_parameters():
            for key, value in optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{name}/{key}"] = value
    tensors["curve"] = torch.tensor(curve.rows, dtype=torch.float64)
    write_tensors(tensors, path)


def _resume(path: Path, model: TransformerVAE, optimizers: list[torch.optim.Optimizer], curve: LossCurve) -> None:
    tensors = load_file(path)
    model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    parameters = dict(model.named_parameters())
    owner = {id(p): optimizer for optimizer in optimizers for p in optimizer.param_groups[0]["params"]}
    for where, value in tensors.items():
        if where.startswith("optimizer."):
            name, key = where.removeprefix("optimizer.").split("/")
            owner[id(parameters[name])].state[parameters[name]][key] = value.to(parameters[name].device)
    for row in tensors["curve"].tolist():
        curve.add(row)
