"""Orientation: the order of columns, and the sign of columns and target, in which one network reads a task.

The canonical view of a task (`tasks.view`) is one of many in which the same function can be written. Networks written
for several of them make different errors, as ensembles over permuted features do (TabPFN, Hollmann et al. 2023), at no
cost to each: an orientation is undone in the weights, bit for bit, so every network still reads the canonical columns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from jaxtyping import Bool, Float, Int

from netformer.arrays.devices import drawn
from netformer.arrays.namespace import Generator, Tensor, namespace
from netformer.networks.specs import Specs
from netformer.networks.stack import Networks
from netformer.tasks.view import TaskStack


@dataclass(frozen=True, eq=False)
class Orientations:
    """n of them. order: the canonical column read in each place; unused ones stay last. sign: 1, or -1 for columns and
    target both, which leaves their correlations positive."""

    order: Int[Tensor, "n features"]
    sign: Float[Tensor, " n"]

    def __getitem__(self, index) -> Orientations:
        return Orientations(self.order[index], self.sign[index])

    def canonical(self, where: Bool[Tensor, " n"]) -> Orientations:
        """The same, but the canonical one where the argument says so."""
        xp = namespace(self.order)
        rank = xp.arange(self.order.shape[1])
        return Orientations(xp.where(where.unsqueeze(1), rank, self.order), xp.where(where, 1.0, self.sign))

    def apply(self, tasks: TaskStack) -> TaskStack:
        """Task i in orientation i. Its views still say how the raw table became canonical."""
        at = self.order.unsqueeze(1).expand(-1, tasks.x.shape[1], -1)
        sign = self.sign.unsqueeze(1)
        kinds = tasks.kinds
        if kinds is not None:
            kinds = kinds.gather(1, self.order.unsqueeze(2).expand(-1, -1, kinds.shape[2]))
        return replace(tasks, x=tasks.x.gather(2, at) * sign.unsqueeze(2), y=tasks.y * sign, kinds=kinds)

    def undo(self, networks: Networks) -> Networks:
        """Networks that read canonical columns, from networks that read columns in these orientations;
        every output takes the sign of the target."""
        specs, layout, features = networks.specs, networks.layout, networks.layout.max_features
        xp, place = namespace(self.order), self.order.argsort(1).unsqueeze(1).expand(-1, layout.n_patches, -1)
        sign = self.sign.view(-1, 1, 1)
        bias, inputs, units = networks.weight.split([1, features, layout.max_width], 2)
        weight = xp.cat([bias, inputs.gather(2, place) * sign, units], 2)
        weight = xp.cat([weight[:, : layout.outputs.start], weight[:, layout.outputs] * sign], 1)
        first, inside, last = specs.mask.split([1, features, layout.max_width], 2)
        mask = xp.cat([first, inside.gather(2, place), last], 2)
        turned = Specs(specs.n_inputs, specs.widths, specs.activations, mask, specs.n_outputs)
        return Networks(turned, xp.where(mask, weight, 0.0))


def draw_orientations(n_features: Int[Tensor, " n"], max_features: int, noise: float, g: Generator) -> Orientations:
    """Random orientations: columns drawn one after the other, column j (from 1) with a chance in proportion to
    j^(-1/noise) (Plackett-Luce, by Gumbel noise), either sign as likely. noise 0: the canonical orientation."""
    xp, n = namespace(n_features), len(n_features)
    rank = xp.arange(max_features)
    if noise == 0:
        return Orientations(rank.expand(n, -1), xp.ones(n))
    u = drawn("rand", n, max_features, generator=g, like=n_features).clamp(min=1e-7, max=1 - 1e-7)
    key = noise * -xp.log(-xp.log(u)) - xp.log1p(rank.to(u.dtype))
    key = xp.where(rank < n_features.unsqueeze(1), key, -xp.inf)
    sign = xp.where(drawn("rand", n, generator=g, like=n_features) < 0.5, -1.0, 1.0)
    return Orientations(xp.argsort(key, dim=1, descending=True, stable=True), sign)
