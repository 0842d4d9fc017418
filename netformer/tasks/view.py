"""View: the canonical view of a task, in which every network reads it.

The view of a task is a function of its train rows alone: features ordered by |correlation with y|, signs flipped to
make that correlation positive, columns and target standardised, columns cut at `CUT` standard deviations. It removes
the symmetries of a table (order, sign, scale) before anything is learned, and `Views.fold` puts it back into the first
and last layer of what is delivered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from netformer.arrays.namespace import Tensor, namespace
from netformer.networks.specs import Specs
from netformer.networks.stack import Networks
from netformer.tables.inputs import KINDS
from netformer.tables.reading import CUT, read
from netformer.tasks.task import PAD, TRAIN, ClassTask, Task, class_order


@dataclass(frozen=True, eq=False)
class Views:
    """How t raw tables become canonical: columns (t, F) of the raw table, the sign, mean and scale of each, the number
    of columns in use, and mean and scale of y."""

    columns: Int[Tensor, "t features"]
    sign: Float[Tensor, "t features"]
    mean: Float[Tensor, "t features"]
    scale: Float[Tensor, "t features"]
    n_features: Int[Tensor, " t"]
    y_mean: Float[Tensor, " t"]
    y_scale: Float[Tensor, " t"]

    def __getitem__(self, index) -> Views:
        fields = (self.columns, self.sign, self.mean, self.scale, self.n_features, self.y_mean, self.y_scale)
        return Views(*(field[index] for field in fields))

    def apply(self, x: Float[Tensor, "t rows raw"]) -> Float[Tensor, "t rows features"]:
        """Raw columns to canonical inputs, cut at +-CUT; unused inputs are zero."""
        picked = x.gather(2, self.columns.unsqueeze(1).expand(-1, x.shape[1], -1))
        used = namespace(x).arange(self.columns.shape[1]) < self.n_features.unsqueeze(1)
        z = (picked - self.mean.unsqueeze(1)) / self.scale.unsqueeze(1) * self.sign.unsqueeze(1)
        return z.clamp(-CUT, CUT) * used.unsqueeze(1)

    def fold(self, networks: Networks, n_raw: int) -> Networks:
        """Networks that read the `n_raw` raw columns and answer in the units of y, every output; entry i of the
        views belongs to network i. A hidden unit that reads an input whose mean is not
        0 gets a bias, and so does every output where the mean of y is not."""
        layout, specs, n = networks.layout, networks.specs, len(networks)
        features, width, xp = layout.max_features, layout.max_width, namespace(networks.weight)
        used = (xp.arange(features) < self.n_features.unsqueeze(1)).to(networks.weight.dtype)
        gain = self.sign / self.scale * used
        index = self.columns.clamp(max=n_raw - 1).unsqueeze(1).expand(n, layout.n_patches, features)  # padding: unused
        weight = networks.weight.new_zeros(n, layout.n_patches, 1 + n_raw + width)
        mask = xp.zeros(weight.shape, dtype=xp.bool)
        inputs = networks.weight[:, :, 1 : 1 + features] * gain.unsqueeze(1)
        edges = specs.mask[:, :, 1 : 1 + features] & (used > 0).unsqueeze(1)
        weight[:, :, 1 : 1 + n_raw].scatter_add_(2, index, inputs)
        mask[:, :, 1 : 1 + n_raw] = xp.zeros(n, layout.n_patches, n_raw).scatter_add_(2, index, edges.float()) > 0
        weight[:, :, 0] = networks.weight[:, :, 0] - (inputs * self.mean.unsqueeze(1)).sum(2)
        moved = edges & (self.mean != 0).unsqueeze(1)
        mask[:, :, 0] = specs.mask[:, :, 0] | moved.any(2)
        weight[:, :, 1 + n_raw :] = networks.weight[:, :, 1 + features :]
        mask[:, :, 1 + n_raw :] = specs.mask[:, :, 1 + features :]
        weight[:, layout.outputs] *= self.y_scale.view(-1, 1, 1)
        weight[:, layout.outputs, 0] += self.y_mean.unsqueeze(1)
        mask[:, layout.outputs, 0] |= (self.y_mean != 0).unsqueeze(1)
        n_inputs = xp.full_like(specs.n_inputs, n_raw)
        folded = Specs(n_inputs, specs.widths, specs.activations, mask, specs.n_outputs)
        return Networks(folded, weight)

    def fold_standardized(self, networks: Networks, n_raw: int) -> Networks:
        """As `fold`, all networks for the one task of these views, whose columns and target were standardised before:
        means are 0 and standard deviations 1, so that columns find their place and sign and nothing is rounded."""
        xp = namespace(self.mean)
        plain = replace(self, mean=xp.zeros_like(self.mean), scale=xp.ones_like(self.scale))
        plain = replace(plain, y_mean=xp.zeros_like(self.y_mean), y_scale=xp.ones_like(self.y_scale))
        return plain[[0] * len(networks)].fold(networks, n_raw)


@dataclass(frozen=True, eq=False)
class TaskStack:
    """t tasks in their canonical view, padded to equal rows.

    rows: TRAIN, VALID, TEST or PAD. kinds: what each input is, 1 for one of `KINDS`, and the share of gaps in its
    column; 0 for unused ones; None: all are numbers without gaps.
    """

    x: Float[Tensor, "t rows features"]
    y: Float[Tensor, "t rows"]
    rows: Int[Tensor, "t rows"]
    views: Views
    kinds: Float[Tensor, "t features kinds"] | None = None

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index) -> TaskStack:
        """A sub-stack; `index` selects along the first axis and keeps it."""
        kinds = None if self.kinds is None else self.kinds[index]
        return TaskStack(self.x[index], self.y[index], self.rows[index], self.views[index], kinds)

    def float(self) -> TaskStack:
        """The same stack in float32, as the model reads it."""
        v = self.views
        views = Views(
            v.columns,
            v.sign.float(),
            v.mean.float(),
            v.scale.float(),
            v.n_features,
            v.y_mean.float(),
            v.y_scale.float(),
        )
        kinds = None if self.kinds is None else self.kinds.float()
        return TaskStack(self.x.float(), self.y.float(), self.rows, views, kinds)

    @property
    def n_features(self) -> Int[Tensor, " t"]:
        """Columns in use of each task."""
        return self.views.n_features

    @property
    def n_rows(self) -> Int[Tensor, " t"]:
        """Rows of each task, up to the last that is no padding."""
        return ((self.rows != PAD) * namespace(self.rows).arange(1, 1 + self.rows.shape[1])).max(1).values

    def trim(self) -> TaskStack:
        """The same tasks without the padding that all of them have."""
        n = int(self.n_rows.max())
        return self.at_rows(slice(n))

    def at_rows(self, some) -> TaskStack:
        """The same tasks with some of their rows, the same ones for all."""
        return replace(self, x=self.x[:, some], y=self.y[:, some], rows=self.rows[:, some])

    @property
    def train(self) -> Bool[Tensor, "t rows"]:
        """The rows a method may be fitted on."""
        return self.rows == TRAIN

    def train_only(self) -> TaskStack:
        """The train rows alone, in their order, padded to equal numbers."""
        count, xp = self.train.sum(1), namespace(self.x)
        at = xp.argsort((~self.train).to(xp.int8), dim=1, stable=True)[:, : int(count.max())]
        present = xp.arange(at.shape[1]) < count.unsqueeze(1)
        x = self.x.gather(1, at.unsqueeze(2).expand(-1, -1, self.x.shape[2])) * present.unsqueeze(2)
        return replace(self, x=x, y=self.y.gather(1, at) * present, rows=xp.where(present, TRAIN, PAD))


def canonicalize_tasks(
    x: Float[Tensor, "t rows raw"],
    y: Float[Tensor, "t rows"],
    rows: Int[Tensor, "t rows"],
    max_features: int,
    kinds: Float[Tensor, "t raw kinds"] | None = None,
) -> TaskStack:
    """The canonical view of raw tables; zero columns pad a narrow table. kinds: of the columns, see `TaskStack`.

    Statistics come from the train rows. A column that is constant there is not used. Of more than `max_features`
    usable columns those with the largest |correlation with y| stay; ties go to the earlier column.
    """
    xp = namespace(x)
    w = (rows == TRAIN).to(x.dtype).unsqueeze(2)
    present = (rows != PAD).to(x.dtype)
    count = w.sum(1).clamp(min=1)
    mean, y_mean = (x * w).sum(1) / count, (y * w[..., 0]).sum(1) / count[:, 0]
    centred, y_centred = (x - mean.unsqueeze(1)) * w, (y - y_mean.unsqueeze(1)) * w[..., 0]
    scale, y_scale = (centred.square().sum(1) / count).sqrt(), (y_centred.square().sum(1) / count[:, 0]).sqrt()
    usable = scale > 1e-6 * (mean.abs() + 1e-30)
    scale = xp.where(usable, scale, xp.ones_like(scale))
    y_scale = xp.where(y_scale > 1e-6 * (y_mean.abs() + 1e-30), y_scale, xp.ones_like(y_scale))
    correlation = xp.einsum("trf,tr->tf", centred, y_centred) / (count * scale * y_scale.unsqueeze(1))
    if x.shape[2] < max_features:
        pad, wider = (0, max_features - x.shape[2]), xp.nn.functional.pad
        mean, scale = wider(mean, pad), wider(scale, pad, value=1.0)
        usable, correlation = wider(usable, pad), wider(correlation, pad)
        x = wider(x, pad)
        kinds = None if kinds is None else wider(kinds, (0, 0, *pad))
    strength = xp.where(usable, correlation.abs(), -xp.ones_like(correlation))
    columns = xp.argsort(strength, dim=1, descending=True, stable=True)[:, :max_features]
    sign = xp.where(correlation.gather(1, columns) < 0, -1.0, 1.0).to(x.dtype)
    views = Views(
        columns,
        sign,
        mean.gather(1, columns),
        scale.gather(1, columns),
        usable.sum(1).clamp(max=max_features),
        y_mean,
        y_scale,
    )
    z = views.apply(x) * present.unsqueeze(2)
    if kinds is not None:
        kinds = kinds.gather(1, columns.unsqueeze(2).expand(-1, -1, kinds.shape[2]))
        kinds = kinds * (xp.arange(max_features) < views.n_features.unsqueeze(1)).unsqueeze(2)
    return TaskStack(z, (y - y_mean.unsqueeze(1)) / y_scale.unsqueeze(1) * present, rows, views, kinds)


def stack_tasks(tasks: Sequence[Task], max_features: int) -> TaskStack:
    """Stored tasks as one canonical stack, in the given order. Each is read as any table is (`tables.reading`), fitted
    on its train rows; standardised in float64, kept as float32."""
    import torch

    n_rows, tables = max(len(t.y) for t in tasks), [_inputs(task) for task in tasks]
    width = max(len(kinds) for _, kinds in tables)
    x = torch.zeros(len(tasks), n_rows, width, dtype=torch.float64)
    every = torch.zeros(len(tasks), width, 1 + len(KINDS), dtype=torch.float64)
    y = torch.zeros(len(tasks), n_rows, dtype=torch.float64)
    rows = torch.full((len(tasks), n_rows), PAD)
    for index, (task, (z, kinds)) in enumerate(zip(tasks, tables, strict=True)):
        n, f = z.shape
        every[index, :f] = torch.from_numpy(kinds)
        x[index, :n, :f] = torch.from_numpy(z)
        y[index, :n] = torch.tensor(task.y)
        rows[index, :n] = torch.tensor(task.row_split).long()
    return canonicalize_tasks(x, y, rows, max_features, every).float()


def stack_class_tasks(tasks: Sequence[ClassTask], max_features: int) -> TaskStack:
    """Tasks in the view of the indicator of their most frequent class; y holds numbers of classes instead of it."""
    import torch

    shown = []
    for task in tasks:
        most = class_order(task.codes[task.row_split == TRAIN], task.probabilities.shape[1])[0]
        y = (task.codes == most).astype(np.float32)
        shown.append(Task(task.task_id, task.source, task.family, task.split, task.X, y, task.row_split))
    stack = stack_tasks(shown, max_features)
    codes = torch.zeros_like(stack.y)
    for row, task in enumerate(tasks):
        codes[row, : len(task.codes)] = torch.from_numpy(task.codes)
    return replace(stack, y=codes)


def _inputs(task: Task) -> tuple[Float[np.ndarray, "rows inputs"], Float[np.ndarray, "inputs kinds"]]:
    train = task.row_split == TRAIN
    reading, z, _ = read(task.X[train], task.y[train])
    every = reading.scaled(reading.numbers(task.X))
    every[train] = z
    return every, reading.kinds
