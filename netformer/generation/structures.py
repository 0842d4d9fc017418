"""Structures: which structure fits a table, where a network is to be small.

A bound on parameters crops the structure that a model would write; which columns a small network should read it does
not ask. Here dense networks of many sizes are written for one table from the mode of the latent prior, reading
the inputs alone that matter most to a large network for the same table, and the leave-one-out error of each
(`head.weigh_heads`) decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from netformer.arrays.namespace import Tensor, namespace
from netformer.errors import InputError
from netformer.exports.population import Population
from netformer.generation.generator import NetFormer
from netformer.model.head import weigh_heads
from netformer.model.prompt import FREE, Prompt
from netformer.networks.specs import WRITTEN, Layout, Specs, dense_mask
from netformer.networks.stack import Networks
from netformer.tables.reading import read
from netformer.tasks.view import TaskStack

READ = (1, 2, 3, 4, 5, 6, 8, 10, 12)  # inputs that a candidate reads; and all
WIDTHS = (1, 2, 4, 8, 16, 32)  # hidden units of a candidate; and as many as its bound leaves
KINDS = ("gelu", "tanh")  # activations of a candidate, of those allowed; others only where neither is
MOST_LOSS = 2.0


@dataclass(frozen=True)
class Smallest:
    """The smallest network whose leave-one-out R2 is at most `max_loss` below the best one's, of those that keep a
    prompt: for `delivery.deliver_found`. max_loss: 0 to `MOST_LOSS`; 0 asks for the best.

    Raises InputError for another max_loss.
    """

    max_loss: Any = 0.0  # they come from users, and are a float once checked
    prompt: Prompt = FREE

    def __post_init__(self) -> None:
        number = isinstance(self.max_loss, int | float | np.number) and not isinstance(self.max_loss, bool | np.bool_)
        if not number or not 0 <= self.max_loss <= MOST_LOSS:
            raise InputError(f"max_loss must be None or a number of R2, 0 to {MOST_LOSS:g}, got {self.max_loss!r}")

    def front(self, model: NetFormer, X: Any, y: Any, *, target: str, min_frequency: int, seed: int = 0) -> Population:
        """The networks that no smaller one is as good as, smallest first. `about["search"]`: "chosen", which of them it
        is, "max_loss", and how many "candidates" there were. Nothing is drawn: seed is not read. The others: see
        `reading.read`. Raises InputError as it does, and for a bound of parameters nobody can meet."""
        reading, z, t = read(X, y, None, target, min_frequency)
        task = Writing.of(model, z, t, reading.kinds)
        shapes = sizes(model.model.layout, task.used, self.prompt)
        solved, r2 = task.solved(dense(model.model.layout, task.order(), shapes))
        networks = task.folded(solved, z.shape[1])
        params, good = networks.specs.mask.sum((1, 2)).numpy(), r2.numpy()
        front, best = [], -np.inf
        for i in np.lexsort((-good, params)):
            if good[i] > best:
                front.append(int(i))
                best = good[i]
        kept = good[front]
        chosen = int((kept >= kept.max() - self.max_loss).argmax())
        said = {"max_loss": float(self.max_loss), "candidates": len(good), "chosen": chosen}
        return Population(reading, networks[front], r2[front], about={"search": said})


@dataclass(frozen=True, eq=False)
class Writing:
    """One table and the mode of its latent prior: networks of any structure are written for it.

    tasks: the one task, in canonical coordinates, every row a train row. c: its condition. z: the latent.
    """

    model: Any
    tasks: TaskStack
    c: Float[Tensor, "1 two_c"]
    z: Float[Tensor, "1 z"]

    @classmethod
    def of(
        cls,
        model: NetFormer,
        z: Float[np.ndarray, "rows inputs"],
        t: Float[np.ndarray, " rows"],
        kinds: Float[np.ndarray, "inputs kinds"] | None = None,
    ) -> Writing:
        """A table as `NetFormer.task_of` takes it."""
        writer, (task, seen) = model.model, model.task_of(z, t, kinds)
        xp = namespace(task.x)
        with xp.no_grad():
            c = writer.embed(1, seen, None)
            latent = writer.draw(writer.prior_of(c), xp.zeros(1, writer.d_latent))
        return cls(writer, task, c, latent)

    @property
    def used(self) -> int:
        """Inputs of the task that vary, of those that the model reads."""
        return int(self.tasks.n_features[0])

    def order(self) -> Int[Tensor, " used"]:
        """The inputs, in canonical coordinates, what matters most to a large network for this task first."""
        layout, xp = self.model.layout, namespace(self.c)
        whole = self.solved(dense(layout, xp.arange(self.used), [(self.used, layout.max_width, KINDS[0])]))[0]
        return xp.argsort(-importance(whole)[: self.used], stable=True)

    def solved(self, specs: Specs) -> tuple[Networks, Float[Tensor, " n"]]:
        """Networks of these structures with solved output layers, and the leave-one-out R2 of each (`weigh_heads`)."""
        xp = namespace(self.c)
        with xp.no_grad():
            every = xp.zeros(len(specs), dtype=xp.int64)
            written = self.model.write(self.z[every], self.c[every], specs)
            return weigh_heads(written, self.tasks[every], self.model.penalties(self.c[every]))

    def folded(self, networks: Networks, columns: int) -> Networks:
        """Networks on the columns of z, of which there are so many, that answer in t."""
        return self.tasks.views.fold_standardized(networks, columns)


def importance(networks: Networks) -> Float[Tensor, " features"]:
    """How much each input can move the answer of the first network, whose hidden layer is one: the sizes of the weights
    along every path from the input to the output, multiplied and added up."""
    layout, weight = networks.layout, networks.weight[0].abs()
    inputs = slice(1, 1 + layout.max_features)
    units = weight[-1, 1 + layout.max_features :]
    return units @ weight[layout.layer(0), inputs] + weight[-1, inputs]


def sizes(layout: Layout, used: int, prompt: Prompt = FREE) -> list[tuple[int, int, str]]:
    """Inputs read, hidden units and activation of each candidate for a task of `used` inputs; all keep the prompt.
    Raises InputError, naming the least, where none can."""
    allowed = WRITTEN if prompt.activations is None else prompt.activations
    names = [name for name in KINDS if name in allowed] or list(allowed)
    found = [
        (reads, width, name)
        for reads in (*(k for k in READ if k < used), used)
        for width in _widths(reads, layout.max_width, prompt.max_params)
        for name in names
    ]
    if not found:
        raise InputError(f"max_params must be at least {n_params(1, 1)}, got {prompt.max_params}")
    return found


def dense(layout: Layout, order: Int[Tensor, " used"], shapes: Sequence[tuple[int, int, str]]) -> Specs:
    """Specs of one hidden layer, every edge present, with biases and a skip: each reads the first few inputs of an
    order, all of the task's. shapes: as `sizes` gives them."""
    xp, n, used = namespace(order), len(shapes), len(order)
    coded = [(k, w, WRITTEN.index(name)) for k, w, name in shapes]
    reads, width, kind = (xp.tensor(list(one)) for one in zip(*coded, strict=True))
    widths, kinds = (xp.zeros(n, layout.max_hidden_layers, dtype=xp.int64) for _ in range(2))
    widths[:, 0], kinds[:, 0] = width, kind
    yes, n_inputs = xp.ones(n, dtype=xp.bool), xp.full((n,), used)
    read = xp.zeros(n, layout.max_features, dtype=xp.bool)
    read[:, order] = xp.arange(used) < reads.unsqueeze(1)
    mask = dense_mask(layout, n_inputs, widths, yes, yes)
    mask[:, :, 1 : 1 + layout.max_features] &= read.unsqueeze(1)
    return Specs(n_inputs, widths, kinds, mask)


def n_params(reads: int, width: int) -> int:
    """Parameters of a dense network of one hidden layer with biases and a skip."""
    return (reads + 1) * width + width + 1 + reads


def _widths(reads: int, most: int, max_params: int | None) -> list[int]:
    """Numbers of hidden units of a candidate that reads so many inputs."""
    room = most if max_params is None else min(most, (max_params - 1 - reads) // (reads + 2))
    return sorted({width for width in (*WIDTHS, room) if 1 <= width <= room})
