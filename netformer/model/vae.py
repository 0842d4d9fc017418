"""VAE: a conditional variational autoencoder of networks, built of transformers.

    network, condition -> encoder -> one latent z per network
    z, condition -> structure decoder -> grammar -> specs
    z, condition, specs -> writer -> weights

Inside the transformer a vertex with its incoming edges is one patch (see `specs`). The latent of a network is
`d_global` numbers for the whole and `d_vertex` per vertex. The structure is written from the first and read under a
grammar (`grammar.read_structure`), then the weights are written for it from the others, so every sample is a runnable
network and constraints on the structure cost nothing.

Shape letters: n networks, t tasks, P patches, C slots, d = d_model, c = d_condition, two_c = 2 * c (two channels),
z = d_global + P * d_vertex.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from netformer.model.arrays import LAYOUT
from netformer.model.decoder import Penalties, StructureDecoder, Writer
from netformer.model.grammar import Structure
from netformer.model.latent import Encoder, Gaussian, LatentPrior
from netformer.model.task_encoder import ConditionEncoder
from netformer.networks.specs import Layout, Specs
from netformer.networks.stack import Networks
from netformer.options import ModelOptions
from netformer.tasks.view import TaskStack


class TransformerVAE(nn.Module):
    """The model: modules for the condition, the posterior, the prior, the structure, the weights and the penalties.

    Called by its parts: `embed` a condition; `encode` networks or `draw` a latent from `prior_of` the condition;
    `structure_logits` and `write`; `penalties` of the output layer. layout: of the networks. n_metafeatures: width of
    the transformed meta-features.
    """

    scale: Tensor

    def __init__(self, layout: Layout, n_metafeatures: int, options: ModelOptions) -> None:
        super().__init__()
        o = options
        self.layout, self.options, self.n_metafeatures = layout, options, n_metafeatures
        self.condition = o.condition
        self.temperature, self.structure_temperature = o.temperature, o.structure_temperature
        self.orientations, self.order_noise = o.orientations, o.order_noise
        self.d_global = o.d_global
        self.d_latent = o.d_global + layout.n_patches * o.d_vertex
        d_c, sizes = 2 * o.d_condition, {"d_model": o.d_model, "n_heads": o.n_heads}
        self.condition_encoder = ConditionEncoder(
            layout.max_features,
            n_metafeatures,
            condition=o.condition,
            d_condition=o.d_condition,
            d_row=o.d_row,
            rounds=o.rounds,
            kinds=o.kinds,
        )
        self.encoder = Encoder(layout, o.d_global, o.d_vertex, d_c, depth=o.n_encoder_layers, **sizes)
        self.latent_prior = LatentPrior(self.d_latent, d_c, d_hidden=2 * o.d_model, learned=o.prior == "learned")
        self.structure_decoder = StructureDecoder(layout, o.d_global, d_c, depth=o.n_structure_layers, **sizes)
        self.writer = Writer(layout, o.d_vertex, d_c, d_hidden=o.d_writer)
        self.penalties = Penalties(layout, d_c)
        # Root mean square of the zoo's weights by layer and slot: the unit in which weights are read and written.
        self.register_buffer("scale", torch.ones(layout.n_patches, layout.n_slots))
        self._initialize()

    @classmethod
    def from_arguments(cls, **arguments: Any) -> TransformerVAE:
        """A model of the given `arguments`; options that are not named are those of params.yaml."""
        layout = Layout(*(arguments.pop(name) for name in LAYOUT))
        return cls(layout, arguments.pop("n_metafeatures"), ModelOptions(**arguments))

    @property
    def arguments(self) -> dict[str, Any]:
        """Layout, number of meta-features and options, as they are stored beside the weights."""
        shape = {name: getattr(self.layout, name) for name in LAYOUT}
        return {**shape, "n_metafeatures": self.n_metafeatures, **asdict(self.options)}

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.scale.device

    @torch.no_grad()
    def _initialize(self) -> None:
        """Where initial weights are not those the layers draw for themselves."""
        nn.init.zeros_(self.penalties.linear.weight)
        self.penalties.linear.bias.copy_(torch.tensor([0.0, -0.2, -0.7]))  # exp of -3, -3.9, -6: inputs, units, bias
        self.writer.template[-1] = 0.0
        if self.latent_prior.layers is not None:
            last = self.latent_prior.layers[-1]
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
        """The condition of n tasks, see `ConditionEncoder`."""
        return self.condition_encoder(n, tasks, metafeatures, keep_task, keep_metafeatures)

    def encode(self, networks: Networks, c: Float[Tensor, "n two_c"]) -> Gaussian:
        """q(z | network, condition)."""
        return self.encoder(networks.weight / self.scale, networks.specs, c)

    def prior_of(self, c: Float[Tensor, "n two_c"]) -> Gaussian:
        """p(z | condition)."""
        return self.latent_prior(c)

    def draw(
        self, prior: Gaussian, eps: Float[Tensor, "n z"], temperature: float | None = None
    ) -> Float[Tensor, "n z"]:
        """A latent of the prior from normal noise, at `structure_temperature` in its first `d_global` numbers and at
        `temperature` (None: the model's) in the others; 1 is the prior itself."""
        by_number = torch.full(
            (self.d_latent,), self.temperature if temperature is None else temperature, device=eps.device
        )
        by_number[: self.d_global] = self.structure_temperature
        return prior.sample(by_number * eps)

    def structure_logits(self, z: Float[Tensor, "n z"], c: Float[Tensor, "n two_c"]) -> Structure:
        """Logits of vertex types, vertex numbers and parents, for `grammar.read_structure`."""
        return self.structure_decoder(z[:, : self.d_global], c)

    def write(self, z: Float[Tensor, "n z"], c: Float[Tensor, "n two_c"], specs: Specs) -> Networks:
        """Networks with the given specs, every weight written."""
        written = self.writer(z[:, self.d_global :], c, specs) * self.scale
        return Networks(specs, torch.where(specs.mask, written, 0.0))
