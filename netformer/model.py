"""NetFormer: a conditional transformer VAE over target networks.

    tokens -> encoder -> each token's embedding concatenated with the condition -> one latent z a network
    z, condition -> structure heads (type, number, parents) -> grammar -> weights

Inside the transformer a vertex with its incoming edges is one token (a patch, see `specs`). The latent of a network is
the concatenation of `d_slot` numbers a patch. Structure is written first and read back under a grammar
(`grammar.read_structure`), then the weights are written for that structure, so every sample is a runnable network and
constraints on the structure cost nothing.

Shape letters: n networks, t tasks, P patches, C slots, d = d_model, z = P * d_slot.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from netformer.networks import Networks
from netformer.specs import ACTIVATIONS, Layout, Specs
from netformer.tasks import TaskStack

ABSENT, OUTPUT = 0, len(ACTIVATIONS) + 1
N_TYPES = len(ACTIVATIONS) + 2
CONDITIONS = ("none", "metafeatures", "task", "both")


def patch_types(specs: Specs) -> Int[Tensor, "n patches"]:
    """Vertex type of each patch: ABSENT, 1 + activation, or OUTPUT."""
    layout = specs.layout
    hidden = (specs.activations + 1).unsqueeze(2) * specs.unit_mask
    out = torch.full((len(specs), 1), OUTPUT)
    return torch.cat([hidden.reshape(len(specs), layout.max_hidden_layers * layout.max_width), out], 1)


def patch_numbers(specs: Specs) -> Int[Tensor, "n patches"]:
    """Vertex number of each patch as in its tokens: bias 0, inputs from 1, then patches; 0 for absent ones."""
    present = specs.patch_mask
    return (specs.n_inputs.unsqueeze(1) + present.long().cumsum(1)) * present


@dataclass(frozen=True)
class Structure:
    """Logits from which a network's structure is read."""

    type: Float[Tensor, "n patches types"]
    number: Float[Tensor, "n patches numbers"]
    parent: Float[Tensor, "n patches slots"]


@dataclass(frozen=True)
class Gaussian:
    """A diagonal Gaussian over latents."""

    mu: Float[Tensor, "n z"]
    logvar: Float[Tensor, "n z"]

    def sample(self, eps: Float[Tensor, "n z"]) -> Float[Tensor, "n z"]:
        return self.mu + torch.exp(0.5 * self.logvar) * eps

    def kl(self, other: Gaussian) -> Float[Tensor, " n"]:
        """KL(self || other), summed over the latent."""
        ratio = torch.exp(self.logvar - other.logvar)
        shift = (self.mu - other.mu).square() * torch.exp(-other.logvar)
        return 0.5 * (ratio + shift - 1 + other.logvar - self.logvar).sum(1)

    def __getitem__(self, index) -> Gaussian:
        return Gaussian(self.mu[index], self.logvar[index])


def _mlp(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for d_in, d_out in pairwise(widths):
        layers += [nn.Linear(d_in, d_out), nn.GELU()]
    return nn.Sequential(*layers[:-1])


class TaskEncoder(nn.Module):
    """Rows of a task to one embedding: a row MLP on [x, y, x y, |x| y], pooled by mean and deviation (deep sets)."""

    def __init__(self, max_features: int, d_row: int, d_out: int) -> None:
        super().__init__()
        self.rows = _mlp(4 * max_features + 2, d_row, d_row, d_row)
        self.out = _mlp(2 * d_row + max_features + 1, d_row, d_out)

    def forward(self, tasks: TaskStack) -> Float[Tensor, "t d"]:
        x, y, keep = tasks.x, tasks.y.unsqueeze(2), tasks.train.unsqueeze(2)
        x, y = torch.clamp(x, -6, 6), torch.clamp(y, -6, 6)
        rows = self.rows(torch.cat([x, y, x * y, x.abs() * y, x.square() - 1, y.square() - 1], 2))
        w = keep.to(rows.dtype)
        count = w.sum(1).clamp(min=1)
        mean = (rows * w).sum(1) / count
        deviation = (((rows - mean.unsqueeze(1)).square() * w).sum(1) / count + 1e-6).sqrt()
        used = torch.arange(x.shape[2]) < tasks.n_features.unsqueeze(1)
        size = torch.log(count.float()) / 3 - 1.5
        return self.out(torch.cat([mean, deviation, used.to(mean.dtype), size.to(mean.dtype)], 1))


class TransformerVAE(nn.Module):
    """The model. All arguments are plain values and are stored beside the weights.

    condition: which channels exist (`CONDITIONS`). n_metafeatures: width of the transformed meta-features. d_slot:
    latent numbers a patch. Both channels have a learned null embedding for "not given".
    """

    scale: Tensor

    def __init__(
        self,
        *,
        max_features: int,
        max_hidden_layers: int,
        max_width: int,
        n_metafeatures: int,
        condition: str = "both",
        d_model: int = 128,
        n_heads: int = 4,
        n_encoder_layers: int = 2,
        n_structure_layers: int = 1,
        n_weight_layers: int = 2,
        d_slot: int = 16,
        d_row: int = 192,
    ) -> None:
        super().__init__()
        if condition not in CONDITIONS:
            raise ValueError(f"condition must be one of {', '.join(CONDITIONS)}, got {condition!r}")
        self.arguments: dict[str, Any] = {
            "max_features": max_features,
            "max_hidden_layers": max_hidden_layers,
            "max_width": max_width,
            "n_metafeatures": n_metafeatures,
            "condition": condition,
            "d_model": d_model,
            "n_heads": n_heads,
            "n_encoder_layers": n_encoder_layers,
            "n_structure_layers": n_structure_layers,
            "n_weight_layers": n_weight_layers,
            "d_slot": d_slot,
            "d_row": d_row,
        }
        self.layout = Layout(max_features, max_hidden_layers, max_width)
        self.condition = condition
        self.d_latent = self.layout.n_patches * d_slot
        patches, n_slots, d = self.layout.n_patches, self.layout.n_slots, d_model
        self.n_numbers = 1 + max_features + patches

        def transformer(depth: int) -> nn.TransformerEncoder:
            layer = nn.TransformerEncoderLayer(
                d, n_heads, 2 * d, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            return nn.TransformerEncoder(layer, depth, norm=nn.LayerNorm(d), enable_nested_tensor=False)

        self.task_encoder = TaskEncoder(max_features, d_row, d)
        self.metafeature_encoder = _mlp(n_metafeatures, d, d)
        self.null_task = nn.Parameter(torch.zeros(d))
        self.null_metafeatures = nn.Parameter(torch.zeros(d))

        self.position = nn.Parameter(0.02 * torch.randn(patches, d))
        self.number_embedding = nn.Embedding(self.n_numbers, d)
        self.type_embedding = nn.Embedding(N_TYPES, d)
        self.edges_in = nn.Linear(3 * n_slots, d)
        self.encoder = transformer(n_encoder_layers)
        self.posterior = nn.Linear(3 * d, 2 * d_slot)

        self.prior = _mlp(2 * d, 2 * d, patches * 2 * d_slot)

        self.structure_in = nn.Linear(d_slot + 2 * d, d)
        self.structure = transformer(n_structure_layers)
        self.type_head = nn.Linear(d, N_TYPES)
        self.number_head = nn.Linear(d, self.n_numbers)
        self.parent_head = nn.Linear(d, n_slots)

        self.weights_in = nn.Linear(d_slot + 2 * d, d)
        self.mask_in = nn.Linear(n_slots, d)
        self.weights = transformer(n_weight_layers)
        self.weight_head = nn.Linear(d, n_slots)
        self.latent_head = nn.Linear(d_slot, n_slots)
        self.penalty = nn.Linear(2 * d, 3)
        # Root mean square of the zoo's weights by layer and slot: the unit in which weights are read and written.
        self.register_buffer("scale", torch.ones(patches, n_slots))
        nn.init.zeros_(self.penalty.weight)
        with torch.no_grad():
            self.penalty.bias.copy_(torch.tensor([-4.0, -4.0, -6.0]))
            last = self.prior[-1]
            assert isinstance(last, nn.Linear)
            last.weight.mul_(0.1)

    def embed(
        self,
        n: int,
        tasks: TaskStack | None = None,
        metafeatures: Float[Tensor, "n k"] | None = None,
        keep_task: Bool[Tensor, " n"] | None = None,
        keep_metafeatures: Bool[Tensor, " n"] | None = None,
    ) -> Float[Tensor, "n two_d"]:
        """The condition of n tasks: [task embedding, meta-feature embedding], a null embedding for what is not given,
        not kept, or not part of `condition`."""
        channels = []
        for name, given, null, keep, encoder in (
            ("task", tasks, self.null_task, keep_task, self.task_encoder),
            ("metafeatures", metafeatures, self.null_metafeatures, keep_metafeatures, self.metafeature_encoder),
        ):
            empty = null.unsqueeze(0).expand(n, -1)
            if given is None or self.condition not in (name, "both"):
                channels.append(empty)
                continue
            value = encoder(given)
            channels.append(value if keep is None else torch.where(keep.unsqueeze(1), value, empty.to(value.dtype)))
        return torch.cat(channels, 1)

    def encode(self, networks: Networks, c: Float[Tensor, "n two_d"]) -> Gaussian:
        """q(z | network, condition)."""
        specs = networks.specs
        w = networks.weight / self.scale
        squashed = torch.asinh(2 * w)
        edges = torch.cat([torch.clamp(w, -8, 8), squashed, specs.mask.to(w.dtype)], 2)
        h = (
            self.edges_in(edges)
            + self.type_embedding(patch_types(specs))
            + self.number_embedding(patch_numbers(specs))
            + self.position
        )
        h = self.encoder(h)
        h = torch.cat([h, c.unsqueeze(1).expand(-1, h.shape[1], -1)], 2)
        mu, logvar = self.posterior(h).float().chunk(2, 2)
        return Gaussian(mu.flatten(1), torch.clamp(logvar.flatten(1) - 4, -10, 4))

    def prior_of(self, c: Float[Tensor, "n two_d"]) -> Gaussian:
        """p(z | condition)."""
        mu, logvar = self.prior(c).float().chunk(2, 1)
        return Gaussian(mu, torch.clamp(logvar, -10, 4))

    def _tokens(self, z: Tensor, c: Tensor) -> Tensor:
        patches = z.view(len(z), self.layout.n_patches, -1)
        return torch.cat([patches, c.unsqueeze(1).expand(-1, patches.shape[1], -1)], 2)

    def structure_logits(self, z: Float[Tensor, "n z"], c: Float[Tensor, "n two_d"]) -> Structure:
        """Heads for vertex type, vertex number and parents."""
        h = self.structure(self.structure_in(self._tokens(z, c)) + self.position)
        return Structure(self.type_head(h).float(), self.number_head(h).float(), self.parent_head(h).float())

    def write(self, z: Float[Tensor, "n z"], c: Float[Tensor, "n two_d"], specs: Specs) -> Networks:
        """Every weight of networks with the given specs."""
        mask = specs.mask.to(self.scale.dtype)
        h = (
            self.weights_in(self._tokens(z, c))
            + self.mask_in(mask)
            + self.type_embedding(patch_types(specs))
            + self.position
        )
        h = self.weights(h)
        written = self.weight_head(h).float() + self.latent_head(z.view(len(z), self.layout.n_patches, -1)).float()
        return Networks(specs, torch.where(specs.mask, written * self.scale, 0.0))

    def penalties(self, c: Float[Tensor, "n two_d"]) -> Float[Tensor, "n slots"]:
        """Ridge penalty of each slot of the output layer (bias, inputs, hidden units), relative to the mean square."""
        log = torch.clamp(self.penalty(c).float(), -12, 6)
        counts = torch.tensor([1, self.layout.max_features, self.layout.max_width])
        return torch.exp(torch.repeat_interleave(log[:, [2, 0, 1]], counts, 1))


def solve_head(networks: Networks, tasks: TaskStack, penalties: Float[Tensor, "n slots"]) -> Networks:
    """Output layers solved in closed form on the train rows, shrunk toward the written ones.

    w = w0 + (D'D / m + diag(penalties))^-1 D'(y - D w0) / m with D = [1, x, h] over the m train rows, restricted to the
    edges the spec has; ridge regression as the last layer of meta-learning (R2-D2, Bertinetto et al. 2019; ALPaCA,
    Harrison et al. 2018). Differentiable in everything.
    """
    keep = tasks.train.to(networks.weight.dtype)
    h = networks.hidden(tasks.x)[-1]
    design = torch.cat([torch.ones_like(h[:, :, :1]), tasks.x, h], 2)
    edges = networks.specs.mask[:, -1].to(h.dtype)
    design = design * edges.unsqueeze(1) * keep.unsqueeze(2)
    m = keep.sum(1).clamp(min=1).view(-1, 1, 1)
    start = networks.weight[:, -1:].transpose(1, 2)
    residual = tasks.y.unsqueeze(2) * keep.unsqueeze(2) - design @ start
    gram = design.transpose(1, 2) @ design / m
    moment = design.transpose(1, 2) @ residual / m
    diagonal = penalties + 1e-5 * (1 + gram.diagonal(dim1=1, dim2=2).mean(1, keepdim=True)) + (1 - edges)
    factor = torch.linalg.cholesky(gram + torch.diag_embed(diagonal))
    step = torch.cholesky_solve(moment, factor).squeeze(2) * edges
    weight = torch.cat([networks.weight[:, :-1], (networks.weight[:, -1] + step).unsqueeze(1)], 1)
    return Networks(networks.specs, weight)


def weight_scale(networks: Networks) -> Float[Tensor, "patches slots"]:
    """Root mean square of the existing weights by layer and kind of slot (bias, input, unit)."""
    layout = networks.layout
    scale = torch.ones(layout.n_patches, layout.n_slots)
    groups = [layout.layer(i) for i in range(layout.max_hidden_layers)] + [slice(-1, None)]
    kinds = [slice(0, 1), slice(1, 1 + layout.max_features), slice(1 + layout.max_features, None)]
    for rows in groups:
        for kind in kinds:
            mask = networks.specs.mask[:, rows, kind]
            if bool(mask.any()):
                block = networks.weight[:, rows, kind]
                scale[rows, kind] = (block.square() * mask).sum().div(mask.sum()).sqrt().clamp(min=1e-3)
    return scale


def structure_loss(logits: Structure, specs: Specs) -> dict[str, Float[Tensor, ""]]:
    """Cross-entropy on vertex type, vertex number and parents, a mean a vertex; parents of present vertices only.

    The parent of each slot is one of two classes: the slot's vertex, or none.
    """
    kind, number = patch_types(specs), patch_numbers(specs)
    present = specs.patch_mask.unsqueeze(2).to(logits.parent.dtype)
    parent = functional.binary_cross_entropy_with_logits(logits.parent, specs.mask.to(present.dtype), reduction="none")
    return {
        "type": functional.cross_entropy(logits.type.flatten(0, 1), kind.flatten()),
        "number": functional.cross_entropy(logits.number.flatten(0, 1), number.flatten()),
        "parent": (parent * present).sum() / present.sum(),
    }
