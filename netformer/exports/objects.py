"""Objects: a delivered network for PyTorch and for scikit-learn, from the cells of a row to units of the target."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from netformer.errors import InputError
from netformer.exports.formula import fills_of, gaps_of, steps_of
from netformer.networks.convert import SKLEARN_NAMES, sklearn_regressor
from netformer.networks.specs import ACTIVATIONS
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


class DeliveredNetwork(nn.Module):
    """The mean of the networks of a stack: rows as numbers (rows, columns) -> units of the target (rows, 1), float64.

    A row holds a number per column of `Population.columns`: a number; a date as seconds since 1970 UTC; a category as
    the position of its level in `levels[name]`, -1 for any other; nan for a gap. `encode(X)` makes them of a table.
    networks: the networks as they are, `nn.Sequential` or `SkipNetwork`, which read standardised inputs; their weights
    are the parameters. inputs: the `Inputs` in front of them, without parameters.
    """

    def __init__(self, reading: Reading, stack: Networks) -> None:
        super().__init__()
        double = Networks(stack.specs, stack.weight.double())
        self.networks = nn.ModuleList([double.to_torch(index) for index in range(len(stack))])
        self.inputs = Inputs(fills_of(reading), gaps_of(reading), steps_of(reading))
        self.reading = reading
        self.levels = {column.name: column.levels for column in reading.table if column.kind == "category"}

    def encode(self, X: Any) -> Float[Tensor, "rows columns"]:
        """The rows of a table as numbers. X: as in `Population.predict`."""
        cells, _ = matched(X, self.reading.columns, self.reading.given or self.reading.columns)
        columns = [
            column.codes(cell).astype(np.float64) if column.kind == "category" else column.values(cell)
            for column, cell in zip(self.reading.table, cells, strict=True)
        ]
        return torch.from_numpy(np.stack(columns, 1))

    def forward(self, x: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows 1"]:
        """Predictions in units of the target, whatever the dtype of x, in float64."""
        z = self.inputs(x)
        t = torch.stack([network(z) for network in self.networks]).mean(0)
        return t * self.reading.target_scale + self.reading.target_center


def target_regressor(reading: Reading, networks: Networks, which: int | str) -> Any:
    """One network as a fitted `MLPRegressor` in float64, from standardised inputs to units of the target.

    networks: those that which is the number of one of, "wide" and "mean" are several. Raises InputError, with the
    numbers that will do, for what MLPRegressor cannot express: several networks, a skip, GELU, activations that differ.
    """
    possible = expressible(networks)
    if which not in possible or isinstance(which, str):
        others = f"it can express {', '.join(map(str, possible))}" if possible else "it can express none of these"
        raise InputError(
            "MLPRegressor is one network without edges from inputs to outputs and without GELU, with one activation; "
            f"got {which!r}; {others}; use torch or onnx for all others"
        )
    chosen = networks[[int(which)]]
    layers = Networks(chosen.specs, chosen.weight.double()).matrices(0)
    weight, bias, activation = layers[-1]
    bias = weight.new_zeros(1) if bias is None else bias
    layers[-1] = (weight * reading.target_scale, bias * reading.target_scale + reading.target_center, activation)
    return sklearn_regressor(layers)


def expressible(networks: Networks) -> list[int]:
    """Numbers of the networks of a stack that `MLPRegressor` can express."""
    specs, allowed = networks.specs, {ACTIVATIONS.index(name) for name in SKLEARN_NAMES}

    def fits(index: int) -> bool:
        used = set(specs.activations[index, : int(specs.depth[index])].tolist())
        return not bool(specs.skip[index]) and len(used) == 1 and used <= allowed

    return [index for index in range(len(networks)) if fits(index)]


def sklearn_pipeline(reading: Reading, regressor: Any) -> Any:
    """A fitted pipeline: a table, as `Population.predict` takes it, to standardised inputs, to a regressor on them."""
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import FunctionTransformer

    return Pipeline([("reading", FunctionTransformer(reading.standardize)), ("network", regressor)])
