"""NetFormer: a conditional transformer VAE over target networks.

    tokens -> encoder -> each token's embedding concatenated with the condition -> one latent z a network
    z, condition -> structure heads (type, number, parents) -> grammar -> weights

Inside the transformer a vertex with its incoming edges is one token (a patch, see `specs`). The latent of a network is
`d_global` numbers for the whole and `d_vertex` a patch. The structure is written from the first and read back under a
grammar (`grammar.read_structure`), then the weights are written for it from the others, so every sample is a runnable
network and constraints on the structure cost nothing.

Shape letters: n networks, t tasks, P patches, C slots, d = d_model, c = d_condition, z = d_global + P * d_vertex.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from netformer.errors import InputError
from netformer.model.grammar import Structure
from netformer.model.latent import Gaussian
from netformer.model.task_encoder import Norm, TaskEncoder, _mlp, _squash
from netformer.networks.specs import N_TYPES, Layout, Specs, patch_numbers, patch_types
from netformer.networks.stack import Networks
from netformer.tasks.view import TaskStack

CONDITIONS = ("none", "metafeatures", "task", "both")


PRIORS = ("learned", "normal")


class TransformerVAE(nn.Module):
    """The model. All arguments are plain values and are stored beside the weights.

    condition: which channels exist (`CONDITIONS`). prior: p(z | condition), learned or standard normal (`PRIORS`).
    n_metafeatures: width of the transformed meta-features. d_condition: width of each channel's embedding. d_global,
    d_vertex: latent numbers for the whole network and a patch. temperature, structure_temperature: see `draw`.
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
        d_vertex: int = 8,
        temperature: float = 0.1,
        structure_temperature: float = 0.6,
        orientations: int = 1,
        order_noise: float = 0.0,
        d_row: int = 192,
        rounds: int = 0,
    ) -> None:
        super().__init__()
        if condition not in CONDITIONS:
            raise InputError(f"condition must be one of {', '.join(CONDITIONS)}, got {condition!r}")
        if prior not in PRIORS:
            raise InputError(f"prior must be one of {', '.join(PRIORS)}, got {prior!r}")
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
            "d_vertex": d_vertex,
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
        self.d_latent = d_global + self.layout.n_patches * d_vertex
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
        self.posterior = nn.Linear(d + d_c, 2 * d_vertex)
        self.direct = nn.Linear(3 * n_slots, d_vertex, bias=False)

        self.prior = _mlp(d_c, 2 * d, 2 * self.d_latent) if prior == "learned" else None

        self.structure_in = nn.Linear(d_global + d_c, d)
        self.structure_position = nn.Parameter(0.3 * torch.randn(patches, d))
        self.structure = transformer(n_structure_layers)
        self.type_head = nn.Linear(d, N_TYPES)
        self.number_head = nn.Linear(d, self.n_numbers)
        self.parent_head = nn.Linear(d, n_slots)

        self.writer = _mlp(d_c + patches * (d_vertex + N_TYPES + 2), d_writer, d_writer, patches * n_slots)
        self.template = nn.Parameter(0.7 * torch.randn(patches, n_slots))
        self.latent_head = nn.Linear(d_vertex, n_slots)
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
