"""NetFormer: a conditional transformer VAE over target networks.

    tokens -> encoder -> each token's embedding concatenated with the condition -> one latent z a network
    z, condition -> structure heads (type, number, parents) -> grammar -> weights

Inside the transformer a vertex with its incoming edges is one token (a patch, see `specs`). The latent of a network is
`d_global` numbers for the whole and `d_slot` a patch. The structure is written from the first and read back under a
grammar (`grammar.read_structure`), then the weights are written for it from the others, so every sample is a runnable
network and constraints on the structure cost nothing.

Shape letters: n networks, t tasks, P patches, C slots, d = d_model, c = d_condition, z = d_global + P * d_slot.
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
from netformer.tasks import CUT, TaskStack

ABSENT, OUTPUT = 0, len(ACTIVATIONS) + 1
N_TYPES = len(ACTIVATIONS) + 2
CONDITIONS = ("none", "metafeatures", "task", "both")
PRIORS = ("learned", "normal")


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

    def kl(self, other: Gaussian) -> Float[Tensor, "n z"]:
        """KL(self || other) of each latent number; the sum over them is that of the Gaussians."""
        ratio = torch.exp(self.logvar - other.logvar)
        shift = (self.mu - other.mu).square() * torch.exp(-other.logvar)
        return 0.5 * (ratio + shift - 1 + other.logvar - self.logvar)

    def __getitem__(self, index) -> Gaussian:
        return Gaussian(self.mu[index], self.logvar[index])


def _mlp(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for d_in, d_out in pairwise(widths):
        layers += [nn.Linear(d_in, d_out), nn.GELU()]
    return nn.Sequential(*layers[:-1])


def _squash(x: Tensor) -> Tensor:
    """asinh(x) from functions that torch has in vectors: nine times as fast as its own."""
    size = x.abs()
    return torch.copysign(torch.log1p(size + size.square() / (1 + torch.sqrt(size.square() + 1))), x)


class Norm(nn.LayerNorm):
    """LayerNorm with the gain and the bias outside of the kernel, which sums their gradients thread by thread."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.layer_norm(input, self.normalized_shape, None, None, self.eps) * self.weight + self.bias


class TaskEncoder(nn.Module):
    """Rows of a task to one embedding (deep sets), helped by what linear algebra knows already.

    A ridge fit comes first; with r its residual, a row MLP reads [x, y, r and their products], pooled by mean and
    deviation over the train rows. In each of `rounds` every row is then told what the pool says and moves by a layer
    that begins at zero, so weights without rounds go on as they are. Beside it go the moments E[x x'], E[x x' r],
    E[|x| r] and the ridge coefficients.
    """

    def __init__(self, max_features: int, d_row: int, d_out: int, rounds: int) -> None:
        super().__init__()
        f = max_features
        self.rows = _mlp(6 * f + 3, d_row, d_row, d_row)
        self.told = nn.ModuleList(nn.Linear(2 * d_row, d_row) for _ in range(rounds))
        self.moves = nn.ModuleList(nn.Linear(d_row, d_row) for _ in range(rounds))
        for number in self.moves.parameters():
            nn.init.zeros_(number)
        self.out = nn.Sequential(_mlp(2 * d_row + 3 * f + f * (f + 1) + 2, d_row, d_out), Norm(d_out))
        self.upper = torch.triu_indices(f, f)

    def forward(self, tasks: TaskStack) -> Float[Tensor, "t d"]:
        read = tasks.train.any(0)
        keep = tasks.train[:, read].unsqueeze(2).to(tasks.x.dtype)
        with torch.autocast("cpu", enabled=False):
            rows, fixed = self._read(tasks.x[:, read], tasks.y[:, read], keep, tasks.n_features)
        rows = self.rows(rows)
        for told, moves in zip(self.told, self.moves, strict=True):
            rows = rows + moves(functional.gelu(rows + told(_pool(rows, keep)).unsqueeze(1)))
        return self.out(torch.cat([_pool(rows, keep), fixed.to(rows.dtype)], 1))

    def _read(
        self,
        x: Float[Tensor, "t rows features"],
        y: Float[Tensor, "t rows"],
        keep: Float[Tensor, "t rows 1"],
        n_features: Int[Tensor, " t"],
    ) -> tuple[Float[Tensor, "t rows k"], Float[Tensor, "t m"]]:
        """Inputs of the row MLP, and the numbers that need no network; heavy tails squashed by asinh."""
        x, y = x * keep, torch.clamp(y, -CUT, CUT).unsqueeze(2) * keep
        count = keep.sum(1).clamp(min=1)
        m = count.unsqueeze(2)
        second = x.transpose(1, 2) @ x / m
        ridge = torch.linalg.solve(second + (0.02 + 2 / m) * torch.eye(x.shape[2]), x.transpose(1, 2) @ y / m)
        r = y - x @ ridge
        third = (x * r).transpose(1, 2) @ x / m
        i, j = self.upper
        fixed = [
            second[:, i, j],
            2 * third[:, i, j],
            2 * (x.abs() * r).sum(1) / count,
            ridge.squeeze(2),
            r.square().sum(1) / count,
            (torch.arange(x.shape[2]) < n_features.unsqueeze(1)).to(x.dtype),
            torch.log(count) / 3 - 1.5,
        ]
        rows = [x, y, r, x * y, x * r, x.abs() * r, x.abs() * y, x.square() - 1, y.square() - 1]
        return _squash(torch.cat(rows, 2)), _squash(torch.cat(fixed, 1))


def _pool(rows: Float[Tensor, "t rows d"], keep: Float[Tensor, "t rows 1"]) -> Float[Tensor, "t two_d"]:
    """Mean and deviation over the kept rows."""
    across, count = keep.transpose(1, 2), keep.sum(1, keepdim=True).clamp(min=1)
    mean = (across @ rows / count).to(rows.dtype)
    variance = across @ (rows - mean).square() / count
    return torch.cat([mean, (variance + 1e-6).sqrt().to(rows.dtype)], 2).squeeze(1)


class TransformerVAE(nn.Module):
    """The model. All arguments are plain values and are stored beside the weights.

    condition: which channels exist (`CONDITIONS`). prior: p(z | condition), learned or standard normal (`PRIORS`).
    n_metafeatures: width of the transformed meta-features. d_condition: width of each channel's embedding. d_global,
    d_slot: latent numbers for the whole network and a patch. temperature, structure_temperature: see `draw`.
    orientations, order_noise: in how many orientations of its task the networks of one task are written, and how random
    these are (`orientation`). d_row, rounds: see `TaskEncoder`. Both channels have a learned null embedding for "not
    given".
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
        prior: str = "learned",
        d_model: int = 128,
        d_condition: int = 128,
        n_heads: int = 4,
        n_encoder_layers: int = 2,
        n_structure_layers: int = 1,
        d_writer: int = 512,
        d_global: int = 48,
        d_slot: int = 8,
        temperature: float = 0.1,
        structure_temperature: float = 0.6,
        orientations: int = 1,
        order_noise: float = 0.0,
        d_row: int = 192,
        rounds: int = 0,
    ) -> None:
        super().__init__()
        if condition not in CONDITIONS:
            raise ValueError(f"condition must be one of {', '.join(CONDITIONS)}, got {condition!r}")
        if prior not in PRIORS:
            raise ValueError(f"prior must be one of {', '.join(PRIORS)}, got {prior!r}")
        self.arguments: dict[str, Any] = {
            "max_features": max_features,
            "max_hidden_layers": max_hidden_layers,
            "max_width": max_width,
            "n_metafeatures": n_metafeatures,
            "condition": condition,
            "prior": prior,
            "d_model": d_model,
            "d_condition": d_condition,
            "n_heads": n_heads,
            "n_encoder_layers": n_encoder_layers,
            "n_structure_layers": n_structure_layers,
            "d_writer": d_writer,
            "d_global": d_global,
            "d_slot": d_slot,
            "temperature": temperature,
            "structure_temperature": structure_temperature,
            "orientations": orientations,
            "order_noise": order_noise,
            "d_row": d_row,
            "rounds": rounds,
        }
        self.layout = Layout(max_features, max_hidden_layers, max_width)
        self.condition = condition
        self.temperature, self.structure_temperature = temperature, structure_temperature
        self.orientations, self.order_noise = orientations, order_noise
        self.d_global = d_global
        self.d_latent = d_global + self.layout.n_patches * d_slot
        patches, n_slots, d, d_c = self.layout.n_patches, self.layout.n_slots, d_model, 2 * d_condition
        self.n_numbers = 1 + max_features + patches

        def transformer(depth: int) -> nn.TransformerEncoder:
            layer = nn.TransformerEncoderLayer(
                d, n_heads, 2 * d, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            layer.norm1, layer.norm2 = Norm(d), Norm(d)
            return nn.TransformerEncoder(layer, depth, norm=Norm(d), enable_nested_tensor=False)

        self.task_encoder = TaskEncoder(max_features, d_row, d_condition, rounds)
        self.metafeature_encoder = _mlp(n_metafeatures, d_condition, d_condition)
        self.null_task = nn.Parameter(torch.zeros(d_condition))
        self.null_metafeatures = nn.Parameter(torch.zeros(d_condition))

        self.position = nn.Parameter(0.02 * torch.randn(patches, d))
        self.number_embedding = nn.Embedding(self.n_numbers, d)
        self.type_embedding = nn.Embedding(N_TYPES, d)
        self.edges_in = nn.Linear(3 * n_slots, d)
        self.encoder = transformer(n_encoder_layers)
        self.pooled = nn.Linear(d + d_c, 16)
        self.posterior_global = nn.Linear(16 * patches, 2 * d_global)
        self.posterior = nn.Linear(d + d_c, 2 * d_slot)
        self.direct = nn.Linear(3 * n_slots, d_slot, bias=False)

        self.prior = _mlp(d_c, 2 * d, 2 * self.d_latent) if prior == "learned" else None

        self.structure_in = nn.Linear(d_global + d_c, d)
        self.structure_position = nn.Parameter(0.3 * torch.randn(patches, d))
        self.structure = transformer(n_structure_layers)
        self.type_head = nn.Linear(d, N_TYPES)
        self.number_head = nn.Linear(d, self.n_numbers)
        self.parent_head = nn.Linear(d, n_slots)

        self.writer = _mlp(d_c + patches * (d_slot + N_TYPES + 2), d_writer, d_writer, patches * n_slots)
        self.template = nn.Parameter(0.7 * torch.randn(patches, n_slots))
        self.latent_head = nn.Linear(d_slot, n_slots)
        self.penalty = nn.Linear(d_c, 3)
        # Root mean square of the zoo's weights by layer and slot: the unit in which weights are read and written.
        self.register_buffer("scale", torch.ones(patches, n_slots))
        nn.init.zeros_(self.penalty.weight)
        with torch.no_grad():
            self.penalty.bias.copy_(torch.tensor([0.0, -0.2, -0.7]))
            self.template[-1] = 0.0
            if self.prior is not None:
                last = self.prior[-1]
                assert isinstance(last, nn.Linear)
                last.weight.mul_(0.1)
                last.bias.view(2, -1)[1] = -2.0  # less noise than signal from the first step on

    def embed(
        self,
        n: int,
        tasks: TaskStack | None = None,
        metafeatures: Float[Tensor, "n k"] | None = None,
        keep_task: Bool[Tensor, " n"] | None = None,
        keep_metafeatures: Bool[Tensor, " n"] | None = None,
    ) -> Float[Tensor, "n two_c"]:
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

    def encode(self, networks: Networks, c: Float[Tensor, "n two_c"]) -> Gaussian:
        """q(z | network, condition)."""
        specs = networks.specs
        w = networks.weight / self.scale
        squashed = _squash(2 * w)
        edges = torch.cat([torch.clamp(w, -8, 8), squashed, specs.mask.to(w.dtype)], 2)
        h = (
            self.edges_in(edges)
            + self.type_embedding(patch_types(specs))
            + self.number_embedding(patch_numbers(specs))
            + self.position
        )
        h = self.encoder(h)
        h = torch.cat([h, c.unsqueeze(1).expand(-1, h.shape[1], -1)], 2)
        slots = self.posterior(h) + functional.pad(self.direct(edges), (0, self.direct.out_features))
        parts = [self.posterior_global(self.pooled(h).flatten(1)), *slots.unbind(1)]
        mu, logvar = (torch.cat(half, 1).float() for half in zip(*(part.chunk(2, 1) for part in parts), strict=True))
        return Gaussian(mu, torch.clamp(logvar - 4, -10, 4))

    def prior_of(self, c: Float[Tensor, "n two_c"]) -> Gaussian:
        """p(z | condition)."""
        if self.prior is None:
            return Gaussian(*torch.zeros(2, len(c), self.d_latent))
        mu, logvar = self.prior(c).float().chunk(2, 1)
        return Gaussian(mu, torch.clamp(logvar, -10, 4))

    def draw(
        self, prior: Gaussian, eps: Float[Tensor, "n z"], temperature: float | None = None
    ) -> Float[Tensor, "n z"]:
        """A latent of the prior from normal noise, at `structure_temperature` in its first `d_global` numbers and at
        `temperature` (None: the model's) in the others; 1 is the prior itself."""
        cold = torch.full((self.d_latent,), self.temperature if temperature is None else temperature)
        cold[: self.d_global] = self.structure_temperature
        return prior.sample(cold * eps)

    def structure_logits(self, z: Float[Tensor, "n z"], c: Float[Tensor, "n two_c"]) -> Structure:
        """Heads for vertex type, vertex number and parents."""
        whole = self.structure_in(torch.cat([z[:, : self.d_global].to(c.dtype), c], 1))
        h = self.structure(whole.unsqueeze(1) + self.structure_position)
        return Structure(self.type_head(h).float(), self.number_head(h).float(), self.parent_head(h).float())

    def write(self, z: Float[Tensor, "n z"], c: Float[Tensor, "n two_c"], specs: Specs) -> Networks:
        """Every weight of networks with the given specs, told by each vertex's type, bias and share of slots in use."""
        types = functional.one_hot(patch_types(specs), N_TYPES).flatten(1).to(c.dtype)
        edges = torch.cat([specs.mask[:, :, 0], specs.mask.float().mean(2)], 1).to(c.dtype)
        slots = z[:, self.d_global :]
        h = self.writer(torch.cat([slots, c, types, edges], 1)).float()
        direct = self.latent_head(slots.view(len(z), self.layout.n_patches, -1)).float()
        written = h.view(direct.shape) + direct + self.template
        return Networks(specs, torch.where(specs.mask, written * self.scale, 0.0))

    def penalties(self, c: Float[Tensor, "n two_c"]) -> Float[Tensor, "n slots"]:
        """Ridge penalty of each slot of the output layer (bias, inputs, hidden units), between exp(-12) and exp(6)."""
        log = 18 * torch.sigmoid(self.penalty(c).float()) - 12
        counts = torch.tensor([1, self.layout.max_features, self.layout.max_width])
        return torch.exp(torch.repeat_interleave(log[:, [2, 0, 1]], counts, 1))


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
    parent = -functional.logsigmoid(torch.where(specs.mask, logits.parent, -logits.parent))
    return {
        "type": functional.cross_entropy(logits.type.flatten(0, 1), kind.flatten()),
        "number": functional.cross_entropy(logits.number.flatten(0, 1), number.flatten()),
        "parent": (parent * present).sum() / present.sum(),
    }
