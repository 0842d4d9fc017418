"""Objects: a delivered network for PyTorch, from the cells of a row to units of the target."""

from __future__ import annotations

import math
from dataclasses import astuple
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from netformer.errors import InputError
from netformer.exports.formula import fills_of, gaps_of, parted, steps_of
from netformer.exports.intervals import COVERAGE, Intervals, ramps_of
from netformer.networks.modules import SkipNetwork
from netformer.networks.stack import Networks
from netformer.tables.columns import matched
from netformer.tables.reading import Reading
from netformer.tables.scaling import SQUASH


class Inputs(nn.Module):
    """Rows as numbers (rows, columns), nan for a gap, to what the networks read of them (rows, inputs), in float64.

    fills, gaps, steps: as in `exports.formula`. The text of this class stands in the files of `torch_source`.
    """

    def __init__(self, fills, gaps, steps):
        super().__init__()
        most = max(map(len, gaps.values()), default=0)
        kept = {"fills": fills, "gaps": [(*gaps.get(i, ()), *[math.nan] * most)[:most] for i in range(len(fills))]}
        order = []
        for part in ("value", "sin", "cos"):
            some = [i for i, step in enumerate(steps) if step[1] == part]
            self.register_buffer(part, torch.tensor([steps[i][0] for i in some], dtype=torch.int64))
            kept[f"{part}_period"] = [steps[i][3][0] for i in some if steps[i][3]]
            order += some
        kept["maps"] = [steps[i][2] for i in order] or [[1.0] * 6]
        self.lookups = []  # column, part, number of the input
        for i, (column, part, constants, more) in enumerate(steps):
            if i not in order:
                self.lookups.append((column, part, i))
                kept[f"table{i}"], kept[f"levels{i}"] = constants, more
        order += [i for _, _, i in self.lookups]
        for name, values in kept.items():
            self.register_buffer(name, torch.tensor(values, dtype=torch.float64))
        self.register_buffer("order", torch.tensor(order).argsort())

    def forward(self, x):
        """x: floats of any precision, on the device of this module."""
        x = x.to(self.fills.dtype)
        x = torch.where((x.unsqueeze(2) == self.gaps).any(2), math.nan, x)
        known = torch.where(x.isnan(), self.fills, x)
        sin = torch.sin(2 * math.pi * (known[:, self.sin] / self.sin_period))
        cos = torch.cos(2 * math.pi * (known[:, self.cos] / self.cos_period))
        center, scale, low, high, shift, spread = self.maps.T
        r = torch.cat([known[:, self.value], sin, cos], 1).sub(center).div(scale)
        r = torch.minimum(torch.maximum(r, low), high)
        z = [(r / torch.sqrt(1 + (r / SQUASH) ** 2) - shift) / spread]
        for column, part, i in self.lookups:
            table, cell, levels = getattr(self, f"table{i}"), x[:, column], getattr(self, f"levels{i}")
            if part == "missing":
                at = cell.isnan().long()
            elif part == "code":
                same = cell.unsqueeze(1) == levels
                at = torch.where(same.any(1), same.long().argmax(1), len(levels))
            else:
                at = known[:, column].long()
                at = torch.where((at < 0) | (at >= len(table)), len(table) - 1, at)
            z.append(table[at].unsqueeze(1))
        return torch.cat(z, 1)[:, self.order]


class Quantiles(nn.Module):
    """Logarithms of the scale of each row (rows,) to how far its quantiles lie from its answer, (rows, quantiles).

    bounds, ramps: as in `exports.intervals`. The text of this class stands in the files of `torch_source`.
    """

    def __init__(self, bounds, ramps):
        super().__init__()
        for name, values in zip(("start", "left", "lengths", "slopes"), ramps):  # noqa: B905
            self.register_buffer(name, torch.tensor(values, dtype=torch.float64))
        self.register_buffer("bounds", torch.tensor(bounds, dtype=torch.float64))

    def forward(self, log, quantiles):
        """quantiles: numbers between 0 and 1."""
        q = torch.as_tensor(quantiles, dtype=self.left.dtype, device=self.left.device)
        if not bool(((q > 0) & (q < 1)).all()):
            raise ValueError(f"quantiles must be between 0 and 1, got {quantiles!r}")
        along = torch.logit(q).unsqueeze(1) - self.left
        along = torch.minimum(torch.maximum(along, self.lengths.clamp(max=0)), self.lengths.clamp(min=0))
        scale = torch.minimum(torch.maximum(log, self.bounds[0]), self.bounds[1]).exp()
        return scale.unsqueeze(1) * (along @ self.slopes + self.start)


class Leaves(nn.Module):
    """What a network reads (rows, inputs) to what trees add to its outputs (rows, outputs), in float64.

    first: the first output they answer in, of so many. column, cut, leaf: as of `exports.trees.Trees`. The text of this
    class stands in the files of `torch_source`.
    """

    def __init__(self, first, outputs, column, cut, leaf):
        super().__init__()
        self.register_buffer("column", torch.tensor(column))
        self.register_buffer("cut", torch.tensor(cut, dtype=torch.float64))
        self.leaf = nn.Parameter(torch.tensor(leaf, dtype=torch.float64))
        self.others = first, outputs - first - len(leaf)

    def forward(self, z):
        """z: standardised inputs."""
        place = torch.arange(len(self.column), device=z.device)
        for asked, threshold in zip(self.column.T, self.cut.T):  # noqa: B905
            place = 2 * place + (z[:, asked] > threshold)
        return nn.functional.pad(self.leaf.flatten(1)[:, place].sum(2).T, self.others)


class Classes(nn.Module):
    """Outputs of a network of classes to one logit per class; labels: in the order of the logits.

    Of two classes the network has one output, the logit of the second; that of the first is 0 here. So of any number of
    classes `nn.functional.cross_entropy` reads the logits, and their softmax is the probabilities. The text of this
    class stands in the files of `torch_source`.
    """

    def __init__(self, labels):
        super().__init__()
        self.labels = labels

    def forward(self, outputs):
        """(rows, outputs) -> (rows, classes)."""
        return outputs if outputs.shape[1] > 1 else torch.cat([torch.zeros_like(outputs), outputs], 1)

    def most_probable(self, logits):
        """A list with the label of the most probable class of each row."""
        return [self.labels[place] for place in logits.argmax(1).tolist()]


class DeliveredNetwork(nn.Module):
    """The mean of the networks of a stack: rows as numbers (rows, columns) -> units of the target (rows, 1), of several
    (rows, targets), float64.

    Of a target of classes: -> logits (rows, classes), in the order of `Population.classes`, as
    `nn.functional.cross_entropy` reads them; of two classes that of the first is 0. `predict_proba(x)` and `predict(x)`
    are probabilities and labels.

    A row holds a number per column of `Population.columns`: a number; a date as seconds since 1970 UTC; a category as
    the position of its level in `levels[name]`, -1 for any other; nan for a gap. `encode(X)` makes them of a table.
    networks: the networks as they are, `nn.Sequential` or `SkipNetwork`, which read standardised inputs; their weights
    are the parameters, and the leaves of the trees that some of the stack are, as `Leaves` in `trees`. inputs: the
    `Inputs` in front of them, without parameters. With intervals, of this stack, also `predict_quantiles` and
    `predict_interval`; scales: the same hidden layers, with the output layers of the scale.
    """

    unit: Tensor  # scale of each target
    center: Tensor

    def __init__(self, reading: Reading, stack: Networks, intervals: Intervals | None = None) -> None:
        super().__init__()
        networks, logs, trees = parted(stack, intervals)
        self.networks, self.scales, self.count = _modules(networks), None, len(stack)
        leaves = [Leaves(one.first, reading.n_outputs, one.column, one.cut, one.leaf / self.count) for one in trees]
        self.trees = nn.ModuleList(leaves)
        if intervals is not None and logs is not None:
            self.scales = _modules(logs)
            for ours, theirs in zip(map(_body, self.scales), map(_body, self.networks), strict=True):
                for at in range(len(ours) - 1):
                    ours[at] = theirs[at]
            pairs = zip(intervals.bounds.tolist(), intervals.scores.tolist(), strict=True)
            self.quantiles = nn.ModuleList([Quantiles(ends, astuple(ramps_of(scores))) for ends, scores in pairs])
        self.inputs = Inputs(fills_of(reading), gaps_of(reading), steps_of(reading))
        self.classes = Classes(reading.classes) if reading.classes else None
        self.reading = reading
        for name, values in (("unit", reading.scales), ("center", reading.centers)):
            self.register_buffer(name, torch.from_numpy(values), persistent=False)
        self.levels = {column.name: column.levels for column in reading.table if column.kind == "category"}

    def encode(self, X: Any) -> Float[Tensor, "rows columns"]:
        """The rows of a table as numbers. X: as in `Population.predict`."""
        cells, _ = matched(X, self.reading.columns, self.reading.given or self.reading.columns)
        columns = [
            column.codes(cell).astype(np.float64) if column.kind == "category" else column.values(cell)
            for column, cell in zip(self.reading.table, cells, strict=True)
        ]
        return torch.from_numpy(np.stack(columns, 1))

    def forward(self, x: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows answers"]:
        """Units of the targets (rows, targets), or logits (rows, classes), in float64, whatever the dtype of x."""
        return self._answer(self.inputs(x))

    def _answer(self, z: Float[Tensor, "rows inputs"]) -> Float[Tensor, "rows answers"]:
        y = self._mean(self.networks, z)
        for trees in self.trees:
            y = y + trees(z)
        return y * self.unit + self.center if self.classes is None else self.classes(y)

    def _mean(self, networks: nn.ModuleList, z: Float[Tensor, "rows inputs"]) -> Float[Tensor, "rows outputs"]:
        return torch.stack([network(z) for network in networks]).sum(0) / self.count

    def predict_proba(self, x: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows classes"]:
        """The probability of each class in every row. Raises InputError for a target of numbers."""
        self._labels()
        return self(x).softmax(1)

    def predict(self, x: Float[Tensor, "rows columns"]) -> list[Any]:
        """The label of the most probable class of each row. Raises InputError for a target of numbers."""
        return self._labels().most_probable(self(x))

    def _labels(self) -> Classes:
        if self.classes is None:
            raise InputError(f"{self.reading.target!r} has no classes but numbers; call the module")
        return self.classes

    def predict_quantiles(self, x: Float[Tensor, "rows columns"], quantiles: Any) -> Float[Tensor, "rows ..."]:
        """Quantiles of the target for each row, in its units; of several targets (rows, targets, quantiles). quantiles:
        numbers between 0 and 1. Raises InputError without intervals, ValueError for other quantiles."""
        if self.scales is None:
            raise InputError("there are no intervals here: they belong to the wide network of a fitted table")
        z = self.inputs(x)
        logs = self._mean(self.scales, z)
        off = torch.stack([one(logs[:, k], quantiles) for k, one in enumerate(self.quantiles)], 1)
        found = self._answer(z).unsqueeze(2) + off * self.unit.unsqueeze(1)
        return found if len(self.quantiles) > 1 else found[:, 0]

    def predict_interval(
        self, x: Float[Tensor, "rows columns"], coverage: float = COVERAGE
    ) -> Float[Tensor, "rows ..."]:
        """The least and the largest target to be expected of each row: it lies between them with this probability."""
        return self.predict_quantiles(x, [(1 - coverage) / 2, (1 + coverage) / 2])


def _body(network: nn.Module) -> nn.Sequential:
    body = network.body if isinstance(network, SkipNetwork) else network
    assert isinstance(body, nn.Sequential)
    return body


def _modules(networks: Networks) -> nn.ModuleList:
    exact = Networks(networks.specs, networks.weight.double())
    return nn.ModuleList([exact.to_torch(index) for index in range(len(exact))])
