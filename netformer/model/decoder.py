"""Decoder: a latent and the condition as a structure, then as the weights of that structure."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from netformer.model.arrays import PENALTY_HIGH, PENALTY_LOW
from netformer.model.grammar import Structure
from netformer.model.layers import mlp, transformer
from netformer.networks.specs import N_TYPES, Layout, Specs, patch_types


class StructureDecoder(nn.Module):
    """Logits of vertex type, vertex number and parents of every patch, from the latents of the whole network."""

    def __init__(
        self, layout: Layout, d_global: int, d_condition: int, *, d_model: int, n_heads: int, depth: int
    ) -> None:
        super().__init__()
        self.whole = nn.Linear(d_global + d_condition, d_model)
        self.position = nn.Parameter(0.3 * torch.randn(layout.n_patches, d_model))
        self.blocks = transformer(d_model, n_heads, depth)
        self.type_head = nn.Linear(d_model, N_TYPES)
        self.number_head = nn.Linear(d_model, layout.n_numbers)
        self.parent_head = nn.Linear(d_model, layout.n_slots)

    def forward(self, z_global: Float[Tensor, "n d_global"], c: Float[Tensor, "n two_c"]) -> Structure:
        """The structure before the grammar has read it."""
        whole = self.whole(torch.cat([z_global.to(c.dtype), c], 1))
        h = self.blocks(whole.unsqueeze(1) + self.position)
        return Structure(self.type_head(h).float(), self.number_head(h).float(), self.parent_head(h).float())


class Writer(nn.Module):
    """Every weight of networks whose specs are given: an MLP of everything, a linear map of each vertex's own latents,
    and a template, added up."""

    def __init__(self, layout: Layout, d_vertex: int, d_condition: int, *, d_hidden: int) -> None:
        super().__init__()
        patches, n_slots = layout.n_patches, layout.n_slots
        per_vertex = d_vertex + N_TYPES + 2  # latents, type, bias, share of slots in use
        self.layers = mlp(d_condition + patches * per_vertex, d_hidden, d_hidden, patches * n_slots)
        self.template = nn.Parameter(0.7 * torch.randn(patches, n_slots))
        self.vertex = nn.Linear(d_vertex, n_slots)

    def forward(
        self, z_vertices: Float[Tensor, "n vertex_latents"], c: Float[Tensor, "n two_c"], specs: Specs
    ) -> Float[Tensor, "n patches slots"]:
        """Weights in units of the zoo's (`TransformerVAE.scale`), also where there is no edge."""
        types = functional.one_hot(patch_types(specs), N_TYPES).flatten(1).to(c.dtype)
        edges = torch.cat([specs.mask[:, :, 0], specs.mask.float().mean(2)], 1).to(c.dtype)
        h = self.layers(torch.cat([z_vertices, c, types, edges], 1)).float()
        direct = self.vertex(z_vertices.view(len(c), len(self.template), -1)).float()
        return h.view(direct.shape) + direct + self.template


class Penalties(nn.Module):
    """Ridge penalties of the output layer for each condition: one for inputs, one for hidden units, one for biases."""

    counts: Tensor

    def __init__(self, layout: Layout, d_condition: int) -> None:
        super().__init__()
        self.linear, self.n_slots = nn.Linear(d_condition, 3), layout.n_slots
        counts = torch.tensor([1, layout.max_features, layout.max_width])  # slots of each penalty
        self.register_buffer("counts", counts, persistent=False)

    def forward(self, c: Float[Tensor, "n two_c"]) -> Float[Tensor, "n slots"]:
        """The penalty of each slot, exp(`PENALTY_LOW`) to exp(`PENALTY_HIGH`), as `head.solve_head` reads it."""
        log = (PENALTY_HIGH - PENALTY_LOW) * torch.sigmoid(self.linear(c).float()) + PENALTY_LOW
        return torch.exp(torch.repeat_interleave(log.roll(1, 1), self.counts, 1, output_size=self.n_slots))
