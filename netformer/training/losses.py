"""Losses: what one training step minimises.

The *zoo path* encodes trained networks under the condition of their task, decodes them and compares structure, weights
and function. The *prior path* draws z from p(z | condition), writes networks and scores them on the task itself; its
tasks are the zoo's and fresh ones, whose target may be a class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from netformer.arrays.devices import made_on
from netformer.model.class_head import class_logits, log_loss
from netformer.model.grammar import Structure, read_structure
from netformer.model.head import solve_head
from netformer.model.latent import Gaussian
from netformer.model.prompt import FREE, Prompt
from netformer.model.vae import TransformerVAE
from netformer.networks.specs import Specs, patch_numbers, patch_types
from netformer.networks.stack import Networks
from netformer.options import NETWORKS_PER_CLASS_TASK, LossWeights
from netformer.tasks.classes import floor
from netformer.tasks.task import PAD, TRAIN
from netformer.tasks.view import TaskStack
from netformer.training.batches import Batch
from netformer.training.class_batches import ClassBatch

ZOO = ("type", "number", "parent", "weight", "function", "kl_structure", "kl", "zoo_prior_raw", "zoo_prior_solved")
FUNCTION_ROWS = 96  # rows of a task on which decoded and original predictions are compared, the first ones
ZOO_SHARE = 0.5  # of the prior path on the zoo's tasks, beside that on the stream
LEAST_DEVIATION = 0.05  # of a network's predictions: what counts as constant
STREAM = ("stream_prior_raw", "stream_prior_solved")
PARTS = (*ZOO, *STREAM, "total")  # in the order of logs and checkpoints
CLASS_PARTS = (*ZOO, *STREAM, "stream_classes", "total")  # the same where fresh tasks have classes


class Objective(nn.Module):
    """The loss of a batch as one forward of one module, which is what processes can share.

    autocast: a context of the precision the model computes in; networks are scored outside of it.
    """

    def __init__(self, model: TransformerVAE, weights: LossWeights, autocast: Callable[[], Any]) -> None:
        super().__init__()
        self.model, self.weights, self.autocast = model, weights, autocast

    def forward(self, batch: Batch, shares: dict[str, float]) -> tuple[Float[Tensor, ""], Float[Tensor, " parts"]]:
        """The weighted sum, and `PARTS` or `CLASS_PARTS` without gradients; a part counts as `shares` say of it, or of
        "network"."""
        with made_on(batch.eps.device):
            return self._forward(batch, shares)

    def _forward(self, batch: Batch, shares: dict[str, float]) -> tuple[Float[Tensor, ""], Float[Tensor, " parts"]]:
        losses = zoo_terms(self.model, batch, self.autocast)
        losses |= {f"stream_{name}": value for name, value in stream_terms(self.model, batch, self.autocast).items()}
        if batch.classes is not None:
            losses["stream_classes"] = class_loss(self.model, batch.classes, self.autocast, batch.budget)
        losses = {name: value * shares.get(name, shares["network"]) for name, value in losses.items()}
        value = total_loss(losses, self.weights)
        losses["total"] = value
        parts = PARTS if batch.classes is None else CLASS_PARTS
        return value, torch.stack([losses[name].detach() for name in parts])


def shares(batch: Batch, rank: int, world: int) -> tuple[Batch, dict[str, float]]:
    """The part of process `rank` of `world` and how often each part of its loss counts.

    A loss that is a mean over m items counts world * m / M times, M being its items in the whole batch, so that the
    mean over processes, which is what they make of their gradients, is the mean over the whole batch. All ones for
    one process.
    """
    part = batch.part(rank, world)
    whole = batch.counts
    return part, {name: world * count / whole[name] for name, count in part.counts.items()}


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


def _query(tasks: TaskStack) -> Tensor:
    """Rows a written network is scored on: all that its condition has not seen."""
    return ((tasks.rows != TRAIN) & (tasks.rows != PAD)).to(tasks.x.dtype)


def prior_terms(
    model: TransformerVAE,
    tasks: TaskStack,
    c: Tensor,
    eps: Tensor,
    autocast: Callable[[], Any],
    prompt: Prompt = FREE,
) -> tuple[dict[str, Tensor], Gaussian]:
    """Loss of networks written for `tasks` from the prior: every weight written, and with the output layer solved."""
    with autocast():
        written, prior = _write(model, tasks, c, eps, prompt)
        penalties = model.penalties(c)
    keep = _query(tasks)
    solved = solve_head(written, tasks, penalties)
    return {
        "prior_raw": function_loss(written.predict(tasks.x), tasks.y, keep),
        "prior_solved": function_loss(solved.predict(tasks.x), tasks.y, keep),
    }, prior


def _write(
    model: TransformerVAE, tasks: TaskStack, c: Tensor, eps: Tensor, prompt: Prompt
) -> tuple[Networks, Gaussian]:
    """A network for each task, and the prior it is drawn from."""
    prior = model.prior_of(c)
    z = model.draw(prior, eps)
    with torch.no_grad():
        logits = model.structure_logits(z, c)
    specs = read_structure(logits, tasks.n_features.clamp(min=1), model.layout, prompt)
    return model.write(z, c, specs), prior


def stream_terms(model: TransformerVAE, batch: Batch, autocast: Callable[[], Any]) -> dict[str, Tensor]:
    """Loss of the prior path on fresh tasks, whose meta-features nobody knows."""
    with autocast():
        c = model.embed(len(batch.fresh), batch.fresh, None, batch.keep_fresh, None)
    return prior_terms(model, batch.fresh, c, batch.fresh_eps, autocast, batch.budget)[0]


def class_loss(
    model: TransformerVAE, batch: ClassBatch, autocast: Callable[[], Any], prompt: Prompt = FREE
) -> Float[Tensor, ""]:
    """Expected log loss on query rows, in nats above the floor, of the output layer solved on the hidden units of all
    networks of a task; mean over rows, then tasks."""
    tasks, each = batch.tasks, NETWORKS_PER_CLASS_TASK
    with autocast():
        c = model.embed(len(tasks), tasks, None, batch.keep, None)
        written, _ = _write(model, tasks, c, batch.eps, prompt)
    hidden = written.last_hidden(tasks.x).unflatten(0, (-1, each)).transpose(1, 2).flatten(2)
    own = written.specs.last_units.unflatten(0, (-1, each)).flatten(1)
    logits, asked = class_logits(hidden, own, tasks.x[::each], batch.target, batch.fitted), ~batch.fitted
    loss = (log_loss(logits, batch.target) * asked).sum(1) / asked.sum(1)
    return (loss - floor(batch.target, asked)).mean()


def zoo_terms(model: TransformerVAE, batch: Batch, autocast: Callable[[], Any]) -> dict[str, Tensor]:
    """Loss of the zoo path, prior path on its tasks included."""
    networks, tasks, per_task = batch.networks, batch.tasks, batch.per_task
    with autocast():
        c_task = model.embed(len(tasks), tasks, batch.metafeatures, batch.keep_task, batch.keep_metafeatures)
        c = c_task.repeat_interleave(per_task, 0)
        posterior = model.encode(networks, c)
        z = posterior.sample(batch.eps)
        losses = structure_loss(model.structure_logits(z, c), networks.specs)
        written = model.write(z, c, networks.specs)
    losses["weight"] = weight_loss(written, networks, batch.sensitivity, model.scale)
    x = tasks.x.repeat_interleave(per_task, 0)[:, :FUNCTION_ROWS]
    original = networks.predict(x)
    deviation = original.std(1, keepdim=True).clamp(min=LEAST_DEVIATION)
    present = (tasks.rows != PAD).to(x.dtype).repeat_interleave(per_task, 0)[:, :FUNCTION_ROWS]
    losses["function"] = function_loss(written.predict(x) / deviation, original / deviation, present)
    terms, prior = prior_terms(model, tasks, c_task, batch.prior_eps, autocast)
    expanded = Gaussian(prior.mu.repeat_interleave(per_task, 0), prior.logvar.repeat_interleave(per_task, 0))
    kl = posterior.kl(expanded).mean(0)
    losses["kl_structure"], losses["kl"] = kl[: model.d_global].sum(), kl[model.d_global :].sum()
    return losses | {f"zoo_{name}": value for name, value in terms.items()}


def total_loss(losses: dict[str, Tensor], weights: LossWeights) -> Tensor:
    """The weighted sum. The prior path on the zoo's tasks counts `ZOO_SHARE` of that on the stream."""
    w = weights
    value = (
        w.type * losses["type"]
        + w.number * losses["number"]
        + w.parent * losses["parent"]
        + w.weight * losses["weight"]
        + w.function * losses["function"]
        + w.beta_structure * losses["kl_structure"]
        + w.beta * losses["kl"]
        + w.prior_raw * (losses["stream_prior_raw"] + ZOO_SHARE * losses["zoo_prior_raw"])
        + w.prior_solved * (losses["stream_prior_solved"] + ZOO_SHARE * losses["zoo_prior_solved"])
    )
    return value + w.classes * losses["stream_classes"] if "stream_classes" in losses else value


def structure_loss(logits: Structure, specs: Specs) -> dict[str, Float[Tensor, ""]]:
    """Cross-entropy on vertex type, vertex number and parents, the mean per vertex; parents of present vertices only.

    The parent of each slot is one of two classes: the slot's vertex, or none.
    """
    kind, number = patch_types(specs), patch_numbers(specs)
    present = specs.patch_mask.unsqueeze(2).to(logits.parent.dtype)
    parent = -functional.logsigmoid(torch.where(specs.mask, logits.parent, -logits.parent))
    return {
        "type": functional.cross_entropy(logits.type.flatten(0, 1), kind.flatten()),
        "number": functional.cross_entropy(logits.number.flatten(0, 1), number.flatten()),
        "parent": (parent * present).sum() / present.sum(),
    }
