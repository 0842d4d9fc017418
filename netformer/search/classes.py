"""Classes: the output layer of candidates where the target is a class, and the error that a search makes small then.

The output layer of each is a multinomial logistic regression on
the inputs and hidden units that it reads (`model.class_head.logistic`) under several penalties, weighed by their log
loss on rows left out, a fifth at a time; that loss over the one of the shares of the classes is the error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from netformer.generation.classes import FOLDS, LEAST_OF_ROW, stratified
from netformer.model.class_head import log_loss, logistic, times
from netformer.networks.specs import Specs
from netformer.networks.stack import Networks
from netformer.ridge import prior_scale

PENALTIES = (0.3, 3.0, 30.0)
FOLD_ROWS = 512  # that choose among penalties, at most


@dataclass(frozen=True, eq=False)
class ClassHead:
    """The output layer of classes, for a task in canonical coordinates (`SearchTask.head`).

    x: (rows, features). target: 1 for the class of a row, of two classes one column for the second. weight: of the
    rows, mean 1. left: (folds, rows) which rows each fold leaves out; of more than `FOLD_ROWS` rows every second,
    third, .. is left out at all.
    """

    x: Float[Tensor, "rows features"]
    target: Float[Tensor, "rows k"]
    weight: Float[Tensor, " rows"]
    left: Bool[Tensor, "folds some"]

    @classmethod
    def of(
        cls,
        x: Float[Tensor, "rows features"],
        codes: Int[np.ndarray, " rows"],
        n_classes: int,
        weight: Float[np.ndarray, " rows"],
    ) -> ClassHead:
        """For rows of these classes, 0 to n_classes - 1."""
        every = torch.from_numpy(codes).unsqueeze(1) == torch.arange(n_classes)
        mass = torch.from_numpy(weight / weight.mean()).clamp(min=LEAST_OF_ROW)
        step = -(-len(codes) // FOLD_ROWS)
        fold = torch.from_numpy(stratified(codes[::step])) == torch.arange(FOLDS).unsqueeze(1)
        return cls(x, (every[:, 1:] if every.shape[1] == 2 else every).float(), mass.float(), fold)

    @property
    def n_outputs(self) -> int:
        """One of two classes, else one per class."""
        return self.target.shape[1]

    @property
    def solved_from(self) -> Float[Tensor, "rows k"]:
        """Target and weights."""
        return torch.cat([self.target, self.weight.unsqueeze(1)], 1)

    @property
    def plain_loss(self) -> float:
        """Log loss of the shares of the classes, which no column is needed for."""
        share = (self.weight @ self.target) / self.weight.sum()
        logits = torch.logit(share) if self.n_outputs == 1 else share.log()
        return float(self.weight @ log_loss(logits.expand(1, *self.target.shape), self.target)[0] / self.weight.sum())

    def solved(self, networks: Networks) -> tuple[Networks, Float[Tensor, " n"]]:
        """The same hidden layers under output layers of classes, which read what the output did, and a bias; and the
        log loss of rows left out over `plain_loss`."""
        hidden = networks.last_hidden(self.x.unsqueeze(0))
        reads = networks.specs.mask[:, -1, 1:]
        made = torch.cat([self.x.expand(len(hidden), -1, -1), hidden], 2) * reads.unsqueeze(1)
        centre = self.weight @ made / self.weight.sum()
        away = (made - centre.unsqueeze(1)) * reads.unsqueeze(1)
        features = self.x.shape[1]
        units = reads[:, features:].sum(1).tolist()
        variance = self.weight @ away.square() / self.weight.sum()
        unit = torch.stack([prior_scale(own, features, count) for own, count in zip(variance, units, strict=True)])
        some = reads.any(0)  # what no network reads is left out of the work
        away = (away * unit.unsqueeze(1))[:, :, some]
        gram = (away.mT @ (away * self.weight.unsqueeze(1))).double().nan_to_num(0.0, 0.0, 0.0)
        size, basis = torch.linalg.eigh(gram)
        size, rotated = size.clamp(min=0), away @ basis.float()
        share, loss = self._penalties(rotated, size)
        penalty = (share @ torch.tensor(PENALTIES).log()).exp()
        weights, bias = logistic(rotated, size, self.target, self.weight.expand(len(networks), -1), penalty)
        slots = torch.zeros(*unit.shape, self.n_outputs, dtype=weights.dtype)
        slots[:, some] = basis @ weights
        slots *= unit.unsqueeze(2)
        outputs = torch.cat([bias - centre.unsqueeze(1).double() @ slots, slots], 1)
        return _ending(networks, outputs.float()), loss / self.plain_loss

    def _penalties(
        self, rotated: Float[Tensor, "n rows r"], size: Float[Tensor, "n r"]
    ) -> tuple[Float[Tensor, "n penalties"], Float[Tensor, " n"]]:
        """How each network weighs the penalties, by likelihood on the rows left out, and the mean loss there."""
        step = -(-len(self.target) // FOLD_ROWS)
        n, each = len(rotated), self.left.repeat_interleave(len(PENALTIES), 0)
        target, weight, some = self.target[::step], self.weight[::step], rotated[:, ::step]
        weights, bias = logistic(
            some.repeat_interleave(len(each), 0),
            (size / step).repeat_interleave(len(each), 0),
            target,
            (~each * weight).repeat(n, 1),
            torch.tensor(PENALTIES).repeat(n * len(self.left)),
        )
        loss = weights.new_empty(n, len(each))
        for i in range(n):
            own = slice(i * len(each), (i + 1) * len(each))
            logits = times(some[i], weights[own].float()) + bias[own].float()
            loss[i] = torch.where(each, log_loss(logits, target), 0.0) @ weight
        total = loss.view(n, len(self.left), -1).sum(1)
        share = torch.softmax(-total, 1)
        return share.float(), ((share * total).sum(1) / weight.sum()).float()

    def moved(self, networks: Networks, x: Float[Tensor, "1 rows f"], noisy: Float[Tensor, "1 rows f"]) -> Tensor:
        """Mean square of how far probabilities move, over their variance among the rows: (n,)."""
        share = (self.weight @ self.target) / self.weight.sum()
        off = (self._said(networks, noisy) - self._said(networks, x)).square().mean(1)
        return off.sum(1) / (share * (1 - share)).sum()

    def _said(self, networks: Networks, x: Float[Tensor, "1 rows f"]) -> Float[Tensor, "n rows k"]:
        logits = networks.answers(x)
        return logits.sigmoid() if self.n_outputs == 1 else logits.softmax(2)


def _ending(networks: Networks, outputs: Float[Tensor, "n slots k"]) -> Networks:
    """The same hidden layers under other output layers, each output with a bias and the edges that the one had."""
    first, specs, k = networks.layout.outputs.start, networks.specs, outputs.shape[2]
    edges = specs.mask[:, first:].expand(-1, k, -1).clone()
    edges[:, :, 0] = True
    weight = torch.cat([networks.weight[:, :first], outputs.mT * edges], 1)
    mask = torch.cat([specs.mask[:, :first], edges], 1)
    return Networks(Specs(specs.n_inputs, specs.widths, specs.activations, mask, k), weight)
