"""Training: reconstruct the zoo, and write networks for tasks nobody trained on.

A step reads one batch (`batches`), minimises one objective (`losses`) and may be shared by several processes
(`processes`). A training that was interrupted goes on from its checkpoint and ends with the same weights and the same
curve of losses.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file, save_file
from torch.nn.attention import SDPBackend, sdpa_kernel

from netformer.errors import InputError
from netformer.model.vae import TransformerVAE
from netformer.networks.stack import weight_scale
from netformer.schedule import learning_rate
from netformer.tasks.families import DEFAULT
from netformer.tasks.observation import TaskPrior
from netformer.training.batches import Corpus, ahead, draw_batch
from netformer.training.losses import PARTS, LossWeights, Objective, shares
from netformer.training.processes import mean_over, processes, shared

Log = Callable[[int, dict[str, float]], None]


class LossCurve:
    """Losses of every step so far (`PARTS`), logged as means of `every` steps and of what is left at the end.

    They are stored with a checkpoint and added again when training resumes from it: whoever listens hears of every
    step, in the same words as without the interruption.
    """

    def __init__(self, log: Log | None, every: int, steps: int) -> None:
        self.log, self.every, self.steps = log, every, steps
        self.rows: list[list[float]] = []
        self._sums = dict.fromkeys(PARTS, 0.0)

    def add(self, row: list[float]) -> None:
        self.rows.append(row)
        for name, value in zip(PARTS, row, strict=True):
            self._sums[name] += value
        step = len(self.rows)
        if step % self.every == 0 or step == self.steps:
            since = (step - 1) % self.every + 1
            if self.log is not None:
                self.log(step, {name: total / since for name, total in self._sums.items()})
            self._sums = dict.fromkeys(PARTS, 0.0)


@sdpa_kernel(SDPBackend.MATH)  # flash attention is slow backward on a few dozen tokens
def train(
    corpus: Corpus,
    model_arguments: dict[str, Any],
    *,
    steps: int,
    lr: float,
    weight_decay: float,
    zoo_tasks: int,
    networks_per_task: int,
    stream_tasks: int,
    min_rows: int,
    max_rows: int,
    budget_share: float,
    mode_share: float,
    condition_dropout: float,
    metafeature_noise: float,
    loss: LossWeights,
    precision: str,
    seed: int,
    prior: TaskPrior = DEFAULT,
    initial: TransformerVAE | None = None,
    fabric: Fabric | None = None,
    checkpoint: Path | None = None,
    checkpoint_every: int = 500,
    log: Log | None = None,
    log_every: int = 20,
) -> TransformerVAE:
    """Train a `TransformerVAE`; the same arguments give the same weights.

    prior: of the fresh tasks. budget_share: share of steps whose fresh networks are written under random constraints
    on size, depth and activations. mode_share: share of fresh tasks answered with the mode of the prior.
    metafeature_noise: deviation of what is added to the meta-features of the zoo, in units of theirs, lest its tasks be
    known by heart. initial: a model of the same arguments, or with fewer `rounds` of its task encoder, to go on from
    instead of random weights; it is not changed. fabric: of `processes.launch`, the processes that share every step,
    with a precision of its own; every one calls this with the same arguments and gets the same weights, up to rounding
    those of one process. checkpoint: a file that process 0 writes every `checkpoint_every` steps and all resume from
    when it exists; the caller keys its name by everything that matters. log: called in process 0 with a step and the
    mean of each loss since the last call; a resumed training begins with the calls of the steps before its checkpoint.

    Raises InputError when a process would have no task, OSError when one does not see the checkpoint.
    """
    fabric = fabric or processes(precision=precision)
    rank, world = fabric.global_rank, fabric.world_size
    least = min(zoo_tasks, stream_tasks, len(corpus.task_index.unique()))
    if least < world:
        raise InputError(f"zoo_tasks and stream_tasks must be at least the {world} processes, got {least}")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = TransformerVAE(**model_arguments)
    if initial is None:
        model.scale.copy_(weight_scale(corpus.networks))
    else:
        model.load_state_dict(model.state_dict() | initial.state_dict())
    optimizers = _optimizers(model, lr, weight_decay)
    curve = LossCurve(log if rank == 0 else None, log_every, steps)
    if checkpoint is not None and checkpoint.exists():
        _resume(checkpoint, model, optimizers, curve)
    start = len(curve.rows)
    if fabric.broadcast(start) != start:
        raise OSError(f"process {rank} does not see the checkpoint of process 0: {checkpoint} must be a shared file")
    objective = shared(Objective(model, loss, fabric.autocast), fabric, every_parameter=model.condition == "both")
    draw = partial(
        draw_batch,
        corpus=corpus,
        seed=seed,
        layout=model.layout,
        d_latent=model.d_latent,
        zoo_tasks=zoo_tasks,
        networks_per_task=networks_per_task,
        stream_tasks=stream_tasks,
        budget_share=budget_share,
        mode_share=mode_share,
        condition_dropout=condition_dropout,
        metafeature_noise=metafeature_noise,
        order_noise=model.order_noise,
        min_rows=min_rows,
        max_rows=max_rows,
        prior=prior,
    )
    for step, batch in ahead(draw, range(start, steps)):
        value, parts = objective(*shares(batch, rank, world))
        model.zero_grad(set_to_none=True)
        value.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = learning_rate(step, steps, lr, warmup=min(0.1, 100 / steps))
            if math.isfinite(float(norm)):
                optimizer.step()
        curve.add(mean_over(fabric, parts).tolist())
        if rank == 0 and checkpoint is not None and (step + 1) % checkpoint_every == 0 and step + 1 < steps:
            _save(checkpoint, model, optimizers, curve)
    return model.eval()


def _optimizers(model: TransformerVAE, lr: float, weight_decay: float) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for matrices inside the model, AdamW for what it reads, writes and adds, and for very
    wide matrices, which orthogonalising costs most and helps least (`LOG.md`)."""
    outside = ("embedding.weight", "position", "template")
    matrices = {
        name
        for name, value in model.named_parameters()
        if value.ndim == 2 and min(value.shape) >= 16 and max(value.shape) <= 1024 and not name.endswith(outside)
    }
    inner = [value for name, value in model.named_parameters() if name in matrices]
    outer = [value for name, value in model.named_parameters() if name not in matrices]
    return [
        torch.optim.Muon(inner, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(outer, lr=lr, weight_decay=weight_decay, betas=(0.9, 0.98), fused=True),
    ]


def _save(path: Path, model: TransformerVAE, optimizers: list[torch.optim.Optimizer], curve: LossCurve) -> None:
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for optimizer in optimizers:
        for name, parameter in model.named_parameters():
            for key, value in optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{name}/{key}"] = value
    tensors["curve"] = torch.tensor(curve.rows, dtype=torch.float64)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    save_file({name: value.contiguous() for name, value in tensors.items()}, temporary)
    temporary.replace(path)


def _resume(path: Path, model: TransformerVAE, optimizers: list[torch.optim.Optimizer], curve: LossCurve) -> None:
    tensors = load_file(path)
    model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    parameters = dict(model.named_parameters())
    owner = {id(p): optimizer for optimizer in optimizers for p in optimizer.param_groups[0]["params"]}
    for where, value in tensors.items():
        if where.startswith("optimizer."):
            name, key = where.removeprefix("optimizer.").split("/")
            owner[id(parameters[name])].state[parameters[name]][key] = value
    for row in tensors["curve"].tolist():
        curve.add(row)
