"""Training: reconstruct the zoo, and write networks for tasks nobody trained on.

Each step has two paths. The *zoo path* encodes trained networks under the condition of their task, decodes them and
compares structure, weights and function. The *prior path* draws z from p(z | condition), writes networks and scores
them on the task itself; its tasks are the zoo's and an endless stream of fresh ones (DESIGN: learned prior,
function-space loss, output layer solved inside meta-training).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from lightning_fabric import Fabric
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from netformer.grammar import dense_params, read_structure
from netformer.head import solve_head
from netformer.model import Gaussian, TransformerVAE, structure_loss, weight_scale
from netformer.networks import Networks
from netformer.observation import Prior
from netformer.specs import Layout
from netformer.synthetic import DEFAULT, stream_batch
from netformer.tasks import PAD, TRAIN, TaskStack
from netformer.zoo import learning_rate

Log = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class Corpus:
    """What is learned from: canonical networks, the task of each (networks sorted by it), the sensitivity of every
    vertex, and the transformed meta-features of every task."""

    networks: Networks
    task_index: Int[Tensor, " n"]
    sensitivity: Float[Tensor, "n patches"]
    tasks: TaskStack
    metafeatures: Float[Tensor, "t k"]


@dataclass(frozen=True)
class LossWeights:
    """Weight of each part of the loss; every part is logged apart."""

    type: float = 1.0
    number: float = 1.0
    parent: float = 1.0
    weight: float = 1.0
    function: float = 1.0
    beta_structure: float = 1e-3
    beta: float = 1e-4
    prior_raw: float = 1.0
    prior_solved: float = 1.0


def step_generator(seed: int, step: int) -> torch.Generator:
    """The random numbers of one training step: resuming needs no other state."""
    words = np.random.SeedSequence([seed, 77, step]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)


def weight_loss(
    written: Networks,
    original: Networks,
    sensitivity: Float[Tensor, "n patches"],
    scale: Float[Tensor, "patches slots"],
) -> Float[Tensor, ""]:
    """Squared error on edge weights times the sensitivity of the edge's vertex, summed over a network, mean over
    networks and edges. Weights are in units of their layer's root mean square."""
    error = ((written.weight - original.weight) / scale).square() * sensitivity.unsqueeze(2)
    return error.sum((1, 2)).mean() / original.specs.mask.sum((1, 2)).float().mean()


def function_loss(
    predicted: Float[Tensor, "n rows"], target: Float[Tensor, "n rows"], keep: Float[Tensor, "n rows"]
) -> Float[Tensor, ""]:
    """Mean over networks of log(1 + mean squared error) on the kept rows; targets have unit variance. The logarithm
    bounds the pull of networks that explode."""
    count = keep.sum(1).clamp(min=1)
    return torch.log1p(((predicted - target).square() * keep).sum(1) / count).mean()


def _zoo_batch(corpus: Corpus, n_tasks: int, per_task: int, g: torch.Generator) -> Tensor:
    """Indices of networks, `per_task` from each of `n_tasks` random tasks, task by task."""
    present, counts = torch.unique_consecutive(corpus.task_index, return_counts=True)
    starts = torch.cumsum(counts, 0) - counts
    picked = torch.randperm(len(present), generator=g)[:n_tasks]
    u = torch.rand(len(picked), per_task, generator=g)
    return (starts[picked].unsqueeze(1) + (u * counts[picked].unsqueeze(1)).long()).flatten()


def _query(tasks: TaskStack) -> Tensor:
    """Rows a written network is scored on: all that its condition has not seen."""
    return ((tasks.rows != TRAIN) & (tasks.rows != PAD)).to(tasks.x.dtype)


def _budget(layout: Layout, share: float, g: torch.Generator) -> int | None:
    """With probability `share` a bound on the number of parameters, log-uniform over what the layout allows."""
    if share == 0 or float(torch.rand((), generator=g)) >= share:
        return None
    widest = torch.full((1,), layout.max_features), torch.full((1, layout.max_hidden_layers), layout.max_width)
    most, least = int(dense_params(*widest)), 2 * layout.max_features + 3
    return round(least * (most / least) ** float(torch.rand((), generator=g)))


def prior_terms(
    model: TransformerVAE,
    tasks: TaskStack,
    c: Tensor,
    eps: Tensor,
    autocast: Callable[[], Any],
    max_params: int | None = None,
) -> tuple[dict[str, Tensor], Gaussian]:
    """Loss of networks written for `tasks` from the prior: every weight written, and with the output layer solved."""
    with autocast():
        prior = model.prior_of(c)
        z = model.draw(prior, eps)
        with torch.no_grad():
            logits = model.structure_logits(z, c)
        specs = read_structure(logits, tasks.n_features.clamp(min=1), model.layout, max_params=max_params)
        written = model.write(z, c, specs)
        penalties = model.penalties(c)
    keep = _query(tasks)
    solved = solve_head(written, tasks, penalties)
    return {
        "prior_raw": function_loss(written.predict(tasks.x), tasks.y, keep),
        "prior_solved": function_loss(solved.predict(tasks.x), tasks.y, keep),
    }, prior


def zoo_terms(
    model: TransformerVAE,
    corpus: Corpus,
    at: Tensor,
    per_task: int,
    g: torch.Generator,
    dropout: float,
    noise: float,
    autocast: Any,
) -> dict[str, Tensor]:
    """Loss of the zoo path for networks `at` (`per_task` in a row share a task), prior path on their tasks included."""
    networks, sensitivity = corpus.networks[at], corpus.sensitivity[at]
    index = corpus.task_index[at[::per_task]]
    tasks, t, n = corpus.tasks[index], len(index), len(at)
    keep_task = torch.rand(t, generator=g) >= dropout
    keep_meta = torch.rand(t, generator=g) >= dropout
    eps = torch.randn(n, model.d_latent, generator=g)
    known = corpus.metafeatures[index]
    known = known + noise * torch.randn(known.shape, generator=g)
    with autocast():
        c_task = model.embed(t, tasks, known, keep_task, keep_meta)
        c = c_task.repeat_interleave(per_task, 0)
        posterior = model.encode(networks, c)
        z = posterior.sample(eps)
        losses = structure_loss(model.structure_logits(z, c), networks.specs)
        written = model.write(z, c, networks.specs)
    losses["weight"] = weight_loss(written, networks, sensitivity, model.scale)
    x = tasks.x.repeat_interleave(per_task, 0)[:, :96]
    original = networks.predict(x)
    deviation = original.std(1, keepdim=True).clamp(min=0.05)
    present = (tasks.rows != PAD).to(x.dtype).repeat_interleave(per_task, 0)[:, :96]
    losses["function"] = function_loss(written.predict(x) / deviation, original / deviation, present)
    terms, prior = prior_terms(model, tasks, c_task, torch.randn(t, model.d_latent, generator=g), autocast)
    expanded = Gaussian(prior.mu.repeat_interleave(per_task, 0), prior.logvar.repeat_interleave(per_task, 0))
    kl = posterior.kl(expanded).mean(0)
    losses["kl_structure"], losses["kl"] = kl[: model.d_global].sum(), kl[model.d_global :].sum()
    return losses | {f"zoo_{name}": value for name, value in terms.items()}


def total_loss(losses: dict[str, Tensor], weights: LossWeights) -> Tensor:
    """The weighted sum. The prior path on the zoo's tasks counts half of that on the stream."""
    w = weights
    return (
        w.type * losses["type"]
        + w.number * losses["number"]
        + w.parent * losses["parent"]
        + w.weight * losses["weight"]
        + w.function * losses["function"]
        + w.beta_structure * losses["kl_structure"]
        + w.beta * losses["kl"]
        + w.prior_raw * (losses["stream_prior_raw"] + 0.5 * losses["zoo_prior_raw"])
        + w.prior_solved * (losses["stream_prior_solved"] + 0.5 * losses["zoo_prior_solved"])
    )


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
    condition_dropout: float,
    metafeature_noise: float,
    loss: LossWeights,
    precision: str,
    seed: int,
    prior: Prior = DEFAULT,
    initial: TransformerVAE | None = None,
    checkpoint: Path | None = None,
    checkpoint_every: int = 500,
    log: Log | None = None,
    log_every: int = 20,
) -> TransformerVAE:
    """Train a `TransformerVAE`; the same arguments give the same weights.

    prior: of the fresh tasks. budget_share: share of steps whose fresh networks are written under a random bound on
    their size. metafeature_noise: deviation of what is added to the meta-features of the zoo, in units of theirs, lest
    its tasks be known by heart. initial: a model of the same arguments to go on from, instead of random weights; it is
    not changed. checkpoint: a file written every `checkpoint_every` steps and resumed from when it exists; the caller
    keys its name by everything that matters. log: called with a step and the mean of each loss since the last call.
    """
    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)  # type: ignore[arg-type]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = TransformerVAE(**model_arguments)
    if initial is None:
        model.scale.copy_(weight_scale(corpus.networks))
    else:
        model.load_state_dict(initial.state_dict())
    optimizers = _optimizers(model, lr, weight_decay)
    start = 0
    if checkpoint is not None and checkpoint.exists():
        start = _resume(checkpoint, model, optimizers)
    sums: dict[str, float] = {}
    for step in range(start, steps):
        g = step_generator(seed, step)
        at = _zoo_batch(corpus, zoo_tasks, networks_per_task, g)
        losses = zoo_terms(
            model, corpus, at, networks_per_task, g, condition_dropout, metafeature_noise, fabric.autocast
        )
        fresh = stream_batch(
            step,
            stream_tasks,
            seed=seed,
            max_features=model.layout.max_features,
            min_rows=min_rows,
            max_rows=max_rows,
            prior=prior,
        )
        with fabric.autocast():
            keep = torch.rand(stream_tasks, generator=g) >= condition_dropout / 2
            c = model.embed(stream_tasks, fresh, None, keep, None)
        eps = torch.randn(stream_tasks, model.d_latent, generator=g)
        budget = _budget(model.layout, budget_share, g)
        terms, _ = prior_terms(model, fresh, c, eps, fabric.autocast, budget)
        losses |= {f"stream_{name}": value for name, value in terms.items()}
        value = total_loss(losses, loss)
        model.zero_grad(set_to_none=True)
        value.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = learning_rate(step, steps, lr, warmup=min(0.1, 100 / steps))
            if math.isfinite(float(norm)):
                optimizer.step()
        for name, part in {**losses, "total": value}.items():
            sums[name] = sums.get(name, 0.0) + float(part.detach())
        if log and ((step + 1) % log_every == 0 or step + 1 == steps):
            since = min(step % log_every, step - start) + 1
            log(step + 1, {name: total / since for name, total in sums.items()})
            sums = {}
        if checkpoint is not None and (step + 1) % checkpoint_every == 0 and step + 1 < steps:
            _save(checkpoint, model, optimizers, step + 1)
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


def _save(path: Path, model: TransformerVAE, optimizers: list[torch.optim.Optimizer], step: int) -> None:
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for optimizer in optimizers:
        for name, parameter in model.named_parameters():
            for key, value in optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{name}/{key}"] = value
    tensors["step"] = torch.tensor(step)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    save_file({name: value.contiguous() for name, value in tensors.items()}, temporary)
    temporary.replace(path)


def _resume(path: Path, model: TransformerVAE, optimizers: list[torch.optim.Optimizer]) -> int:
    tensors = load_file(path)
    model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    parameters = dict(model.named_parameters())
    owner = {id(p): optimizer for optimizer in optimizers for p in optimizer.param_groups[0]["params"]}
    for where, value in tensors.items():
        if where.startswith("optimizer."):
            name, key = where.removeprefix("optimizer.").split("/")
            owner[id(parameters[name])].state[parameters[name]][key] = value
    return int(tensors["step"])
