"""Spaces: what is searched. A genome is a row of numbers; a space makes networks of genomes, all in one batch.

    latents     normal noise, one number per latent number, as `TransformerVAE.draw` takes it; 0 is the mode
    structures  depth, widths, activations, bias and skip of dense networks, written from the mode of the latent prior
    both        those, and the noise that the weights are written from
    prompts     bounds on parameters and depth, and allowed activations, that the mode is written under

The last genes of a genome are, where asked for, one per column of the table: a network reads the columns whose gene is
above 1/2, and the one with the largest where none is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from netformer.errors import InputError
from netformer.model.grammar import Structure, read_structure
from netformer.model.prompt import Prompt
from netformer.networks.specs import WRITTEN, Specs, dense_mask
from netformer.networks.stack import Networks
from netformer.search.problem import SearchTask

NOISE = 3.0  # bounds of the noise, in standard deviations
BUDGETS = 24  # steps, even in their logarithm, of the bound on parameters
SPACES = ("latents", "structures", "both", "prompts")


@dataclass(frozen=True, eq=False)
class Space:
    """A kind of genome for one task. kind: one of `SPACES`. columns: whether genomes say which columns are read.

    Raises InputError for another kind.
    """

    task: SearchTask
    kind: str = "latents"
    columns: bool = False

    def __post_init__(self) -> None:
        if self.kind not in SPACES:
            raise InputError(f"space must be one of {', '.join(SPACES)}, got {self.kind!r}")

    @property
    def n_uniform(self) -> int:
        """Genes from 0 to 1 that come first: of a structure or a prompt."""
        layers = self.task.model.layout.max_hidden_layers
        structure = 1 + 2 * layers + 2
        return {"latents": 0, "structures": structure, "both": structure, "prompts": 2 + len(WRITTEN)}[self.kind]

    @property
    def n_noise(self) -> int:
        """Genes that are normal noise and come next: of all latent numbers, or of those that the weights are from."""
        model = self.task.model
        return {"latents": model.d_latent, "both": model.d_latent - model.d_global}.get(self.kind, 0)

    @property
    def n_own(self) -> int:
        """Genes before those of the columns."""
        return self.n_uniform + self.n_noise

    @property
    def n_genes(self) -> int:
        """Numbers in a genome."""
        return self.n_own + (self.task.n_columns if self.columns else 0)

    @property
    def bounds(self) -> tuple[Float[np.ndarray, " genes"], Float[np.ndarray, " genes"]]:
        """Least and largest value of each gene: `NOISE` standard deviations of noise, else 0 to 1."""
        low, high = np.zeros(self.n_genes), np.ones(self.n_genes)
        low[self.n_uniform : self.n_own], high[self.n_uniform : self.n_own] = -NOISE, NOISE
        return low, high

    def initial(self, n: int, rng: np.random.Generator) -> Float[np.ndarray, "n genes"]:
        """n random genomes: noise as the model draws it, the others uniform; of the columns a share is read that is
        uniform itself."""
        uniform, noise = rng.random((n, self.n_uniform)), rng.standard_normal((n, self.n_noise))
        own = np.concatenate([uniform, noise.clip(-NOISE, NOISE)], 1)
        if not self.columns:
            return own
        share, u = rng.random((n, 1)), rng.random((2, n, self.task.n_columns))
        return np.concatenate([own, np.where(u[0] < share, 0.5 + u[1] / 2, u[1] / 2)], 1)

    def first(self, n: int, rng: np.random.Generator) -> Float[np.ndarray, "n genes"]:
        """`initial`, but the first has no noise and reads every column: the mode of the latent prior."""
        genomes = self.initial(n, rng)
        genomes[:1, self.n_uniform : self.n_own] = 0.0
        genomes[:1, self.n_own :] = 1.0
        return genomes

    def write(self, genomes: Float[np.ndarray, "n genes"]) -> Networks:
        """The network of each genome in canonical coordinates, every weight as the model writes it."""
        n, model, task = len(genomes), self.task.model, self.task
        genes = torch.from_numpy(np.ascontiguousarray(genomes[:, : self.n_own])).float()
        c, eps = task.condition.expand(n, -1), torch.zeros(n, model.d_latent)
        if self.n_noise:
            eps[:, -self.n_noise :] = genes[:, self.n_uniform :]
        z = model.draw(task.prior, eps)
        if self.kind == "latents":
            specs = read_structure(model.structure_logits(z, c), task.rows.n_features.expand(n), model.layout)
        elif self.kind == "prompts":
            specs = self._under(genes, model.structure_logits(z[:1], c[:1]))
        else:
            specs = self._dense(genes[:, : self.n_uniform])
        if self.columns:
            specs = reading_only(specs, self._reads(genomes))
        return model.write(z, c, specs)

    def _dense(self, genes: Float[Tensor, "n genes"]) -> Specs:
        layout, n = self.task.model.layout, len(genes)
        layers = layout.max_hidden_layers
        depth, widths, kinds, bias, skip = genes.split([1, layers, layers, 1, 1], 1)
        present = torch.arange(layers) < 1 + _choice(depth, layers)
        widths = (1 + _choice(widths, layout.max_width)) * present
        n_inputs = self.task.rows.n_features.expand(n)
        mask = dense_mask(layout, n_inputs, widths, bias[:, 0] > 0.5, skip[:, 0] > 0.5)
        return Specs(n_inputs, widths, _choice(kinds, len(WRITTEN)) * present, mask)

    def _under(self, genes: Float[Tensor, "n genes"], logits: Structure) -> Specs:
        layout, f = self.task.model.layout, int(self.task.rows.n_features[0])
        step = _choice(genes[:, :1], BUDGETS)[:, 0].tolist()
        depth = _choice(genes[:, 1:2], layout.max_hidden_layers)[:, 0].tolist()
        allowed = _one_at_least(genes[:, 2:])
        budgets = np.geomspace(2 * f + 3, largest(self.task), BUDGETS).round().astype(int).tolist()
        asked = [
            (budgets[s], 1 + d, tuple(name for name, yes in zip(WRITTEN, row, strict=True) if yes))
            for s, d, row in zip(step, depth, allowed.tolist(), strict=True)
        ]
        every = {key: number for number, key in enumerate(dict.fromkeys(asked))}
        n_inputs = self.task.rows.n_features
        each = [read_structure(logits, n_inputs, layout, Prompt(*key)) for key in every]
        at = [every[key] for key in asked]
        widths, kinds = torch.cat([one.widths for one in each]), torch.cat([one.activations for one in each])
        mask = torch.cat([one.mask for one in each])
        return Specs(n_inputs.expand(len(at)), widths[at], kinds[at], mask[at])

    def _reads(self, genomes: Float[np.ndarray, "n genes"]) -> Bool[Tensor, "n features"]:
        """Which canonical inputs each genome reads; those not in use count as read."""
        chosen = _one_at_least(torch.from_numpy(np.ascontiguousarray(genomes[:, self.n_own :])))
        used = self.task.column >= 0
        return torch.where(used, chosen[:, self.task.column.clamp(min=0)], True)


def largest(task: SearchTask) -> int:
    """Parameters of the largest network that the model writes for a task."""
    layout, f = task.model.layout, int(task.rows.n_features[0])
    w, layers = layout.max_width, layout.max_hidden_layers
    return (f + 1) * w + (layers - 1) * (w + 1) * w + w + 1 + f


def reading_only(specs: Specs, reads: Bool[Tensor, "n features"]) -> Specs:
    """Specs without the edges from inputs that are not read. A hidden unit that read nothing else reads all that is
    read, an output that did reads the last hidden units: every vertex keeps an edge that is no bias."""
    layout, features = specs.layout, specs.layout.max_features
    mask, first = specs.mask.clone(), layout.layer(0)
    yes = torch.ones(len(specs), dtype=torch.bool)
    dense = dense_mask(layout, specs.n_inputs, specs.widths, yes, ~yes)
    for rows in (first, layout.outputs):
        mask[:, rows, 1 : 1 + features] &= reads.unsqueeze(1)
        empty = ~mask[:, rows, 1:].any(2, keepdim=True)
        again = dense[:, rows].clone()
        again[:, :, 0] = False
        again[:, :, 1 : 1 + features] &= reads.unsqueeze(1)
        mask[:, rows] |= again & empty
    return replace(specs, mask=mask)


def _choice(genes: Float[Tensor, "n k"], count: int) -> Tensor:
    """Genes in 0 to 1 as whole numbers from 0 to count - 1."""
    return (genes * count).long().clamp(0, count - 1)


def _one_at_least(genes: Float[Tensor, "n k"]) -> Bool[Tensor, "n k"]:
    """Genes above 1/2, and the largest where none is."""
    best = torch.zeros_like(genes, dtype=torch.bool).scatter(1, genes.argmax(1, keepdim=True), True)
    yes = genes > 0.5
    return yes | (best & ~yes.any(1, keepdim=True))
