"""Transformer: rows as tokens, every row attends to the train rows; the answer corrects a closed-form fit.

In-context regression (TabPFN, Hollmann et al. 2023, 2207.01848): one forward pass is both fit and prediction. What is
learned is only what `inputs.Fits.base` leaves.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from netformer.errors import InputError, require
from netformer.model.layers import Norm
from netformer.tasks.view import TaskStack
from netformer.teacher.inputs import Fits, n_row_inputs, row_inputs

HEAD_DEVIATION = 0.05  # standard deviation of the head's initial weights: of zeros the blocks hear nothing at first


@dataclass(frozen=True)
class TeacherOptions:
    """Options of the teacher, as in the section `teacher` of params/teacher.yaml.

    max_features: columns read, at most, as of the model that writes networks. d_model: width of a row's token. n_heads:
    attention heads. n_blocks: blocks of attention and MLP. d_hidden: width of the MLPs. networks: written networks per
    task whose hidden units the fit that is corrected reads; 0: that fit is ridge regression.

    Raises InputError for a value out of range.
    """

    max_features: int = 16
    d_model: int = 192
    n_heads: int = 6
    n_blocks: int = 4
    d_hidden: int = 384
    networks: int = 1

    def __post_init__(self) -> None:
        require(self, asdict(self).keys() - {"networks"}, low=1)
        require(self, ["networks"], low=0)
        if self.d_model % self.n_heads:
            raise InputError(f"d_model must be a multiple of n_heads, got {self.d_model} and {self.n_heads}")


class Block(nn.Module):
    """Attention of rows to the train rows, then an MLP; each starts as nothing added to a row. Learned numbers scale
    what stays of a row (residual decay) and what goes in again of its first token."""

    def __init__(self, d: int, n_heads: int, d_hidden: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm, self.norm_hidden = Norm(d), Norm(d)
        self.query, self.both, self.out = nn.Linear(d, d), nn.Linear(d, 2 * d), nn.Linear(d, d)
        self.widen, self.narrow = nn.Linear(d, d_hidden), nn.Linear(d_hidden, d)
        self.stays = nn.Parameter(torch.tensor([1.0, 0.0]))
        for layer in (self.out, self.narrow):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, asking: Float[Tensor, "t q d"], train: Float[Tensor, "t m d"], first: Float[Tensor, "t q d"]
    ) -> Float[Tensor, "t q d"]:
        """asking: rows to update. train: those they attend to. first: the tokens of the rows before any block."""
        x = self.stays[0] * asking + self.stays[1] * first
        q = self._heads(self.query(self.norm(asking)))
        k, v = (self._heads(part) for part in self.both(self.norm(train)).chunk(2, 2))
        with torch.autocast(q.device.type, enabled=False):  # on a CPU, bfloat16 is slow backward on few rows
            seen = functional.scaled_dot_product_attention(q.float(), k.float(), v.float())
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        return x + self.narrow(functional.gelu(self.widen(self.norm_hidden(x)), approximate="tanh"))

    def _heads(self, x: Float[Tensor, "t rows d"]) -> Float[Tensor, "t heads rows e"]:
        return x.unflatten(2, (self.n_heads, -1)).transpose(1, 2)


class Teacher(nn.Module):
    """An in-context regressor. Called with tasks that have equally many train rows, which stand first."""

    def __init__(self, options: TeacherOptions) -> None:
        super().__init__()
        o = self.options = options
        n_row, n_known, n_whole = n_row_inputs(o.max_features)
        self.row, self.known, self.whole = (nn.Linear(n, o.d_model) for n in (n_row, n_known, n_whole))
        self.blocks = nn.ModuleList(Block(o.d_model, o.n_heads, o.d_hidden) for _ in range(o.n_blocks))
        self.norm, self.head = Norm(o.d_model), nn.Linear(o.d_model, 2)
        nn.init.normal_(self.head.weight, std=HEAD_DEVIATION)
        nn.init.zeros_(self.head.bias)

    @classmethod
    def seeded(cls, options: TeacherOptions, seed: int) -> Teacher:
        """A teacher with random weights; no global generator is moved."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(options)

    @property
    def arguments(self) -> dict[str, Any]:
        """The options, as they are stored beside the weights."""
        return asdict(self.options)

    def forward(self, tasks: TaskStack, fits: Fits, n_train: int) -> Float[Tensor, "t queries"]:
        """Answers for the rows behind the first `n_train`, which are the train rows of every task, in standard
        deviations of the target. The order of train rows does not matter; no row that is asked about sees another."""
        with torch.autocast(tasks.x.device.type, enabled=False):
            rows, known, whole = row_inputs(tasks, fits)
            first = self.row(rows) + self.known(known) + self.whole(whole).unsqueeze(1)
        h = first
        for number, block in enumerate(self.blocks):
            asking = slice(n_train, None) if number == len(self.blocks) - 1 else slice(None)
            h = block(h[:, asking], h[:, :n_train], first[:, asking])
        with torch.autocast(h.device.type, enabled=False):
            step, back = self.head(self.norm(h.float())).unbind(2)
        linear, base = fits.linear[:, n_train:], fits.base[:, n_train:]
        return base + fits.deviation * step + back * (linear - base)
