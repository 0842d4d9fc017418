"""Task encoder: the rows of a task as one vector, and the condition it is a part of."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from netformer.arrays.devices import on_cpu
from netformer.model.arrays import LOG_ROWS_SCALE, LOG_ROWS_SHIFT, POOL_EPS, RIDGE, RIDGE_PER_ROW
from netformer.model.layers import Norm, mlp, squash
from netformer.tables.inputs import KINDS
from netformer.tasks.view import CUT, TaskStack


class TaskEncoder(nn.Module):
    """Rows of a task to one embedding (deep sets), helped by what linear algebra knows already.

    A ridge fit comes first; with r its residual, a row MLP reads [x, y, r and their products], pooled by mean and
    standard deviation over the train rows. Each of `rounds` adds to every row a residual update computed from the
    pooled summary. Its last layer starts at zero, so a model without rounds can be trained on with them. Beside the
    pooled summary go the moments E[x x'], E[x x' r], E[|x| r] and the ridge coefficients.

    d_row: width of a row. d_out: width of the embedding. kinds: add to every row what the inputs are (`TaskStack`),
    through a linear layer that starts at zero, so that a model which was not given it can be trained on with it.
    """

    upper: Tensor

    def __init__(self, max_features: int, d_row: int, d_out: int, rounds: int, kinds: bool) -> None:
        super().__init__()
        f = max_features
        self.rows = mlp(6 * f + 3, d_row, d_row, d_row)
        self.told = nn.ModuleList(nn.Linear(2 * d_row, d_row) for _ in range(rounds))
        self.moves = nn.ModuleList(nn.Linear(d_row, d_row) for _ in range(rounds))
        for number in self.moves.parameters():
            nn.init.zeros_(number)
        self.out = nn.Sequential(mlp(2 * d_row + 3 * f + f * (f + 1) + 2, d_row, d_out), Norm(d_out))
        self.register_buffer("upper", torch.triu_indices(f, f), persistent=False)
        self.kinds = None
        if kinds:
            self.kinds = nn.utils.skip_init(nn.Linear, f * (1 + len(KINDS)), d_row, bias=False)
            nn.init.zeros_(self.kinds.weight)

    def forward(self, tasks: TaskStack) -> Float[Tensor, "t c"]:
        """The embedding of each task; only train rows are read, their order does not matter."""
        read = tasks.train.any(0) if on_cpu(tasks.x) else slice(None)  # not to wait for a GPU
        keep = tasks.train[:, read].unsqueeze(2).to(tasks.x.dtype)
        with torch.autocast(tasks.x.device.type, enabled=False):
            rows, fixed = self._read(tasks.x[:, read], tasks.y[:, read], keep, tasks.n_features)
        said = rows.new_zeros(len(rows), 0) if self.kinds is None else self.kinds(input_kinds(tasks).flatten(1))
        if torch.is_grad_enabled() or not on_cpu(rows):
            pooled = self._summary(rows, keep, said)
        else:  # one task after the other: its rows stay in the cache, and nothing large is allocated
            parts = zip(rows.split(1), keep.split(1), said.split(1), strict=True)
            pooled = torch.cat([self._summary(*one) for one in parts])
        return self.out(torch.cat([pooled, fixed.to(pooled.dtype)], 1))

    def _summary(
        self, rows: Float[Tensor, "t rows k"], keep: Float[Tensor, "t rows 1"], said: Float[Tensor, "t _"]
    ) -> Float[Tensor, "t two_d"]:
        """The pooled rows after every round. said: what `kinds` makes of the inputs, of no width without it."""
        rows = self.rows(rows)
        if self.kinds is not None:
            rows = rows + said.unsqueeze(1)
        for told, moves in zip(self.told, self.moves, strict=True):
            rows = rows + moves(functional.gelu(rows + told(_pool(rows, keep)).unsqueeze(1)))
        return _pool(rows, keep)

    def _read(
        self,
        x: Float[Tensor, "t rows features"],
        y: Float[Tensor, "t rows"],
        keep: Float[Tensor, "t rows 1"],
        n_features: Int[Tensor, " t"],
    ) -> tuple[Float[Tensor, "t rows k"], Float[Tensor, "t m"]]:
        """Inputs of the row MLP, and the numbers that need no network; heavy tails squashed by asinh."""
        x, y = x * keep, torch.clamp(y, -CUT, CUT).unsqueeze(2) * keep
        count = keep.sum(1).clamp(min=1)
        m = count.unsqueeze(2)
        second = x.transpose(1, 2) @ x / m
        ridge = torch.linalg.solve(
            second + (RIDGE + RIDGE_PER_ROW / m) * torch.eye(x.shape[2], device=x.device), x.transpose(1, 2) @ y / m
        )
        r = y - x @ ridge
        third = (x * r).transpose(1, 2) @ x / m
        i, j = self.upper
        fixed = [
            second[:, i, j],
            2 * third[:, i, j],
            2 * (x.abs() * r).sum(1) / count,
            ridge.squeeze(2),
            r.square().sum(1) / count,
            (torch.arange(x.shape[2], device=x.device) < n_features.unsqueeze(1)).to(x.dtype),
            torch.log(count) / LOG_ROWS_SCALE - LOG_ROWS_SHIFT,
        ]
        rows = [x, y, r, x * y, x * r, x.abs() * r, x.abs() * y, x.square() - 1, y.square() - 1]
        return squash(torch.cat(rows, 2)), squash(torch.cat(fixed, 1))


def input_kinds(tasks: TaskStack) -> Float[Tensor, "t features kinds"]:
    """What each input is, as in `TaskStack.kinds`; numbers without gaps where nobody said."""
    if tasks.kinds is not None:
        return tasks.kinds
    kinds = tasks.x.new_zeros(len(tasks), tasks.x.shape[2], 1 + len(KINDS))
    used = torch.arange(tasks.x.shape[2], device=tasks.x.device) < tasks.n_features.unsqueeze(1)
    kinds[:, :, KINDS.index("value")] = used.to(kinds.dtype)
    return kinds


def _pool(rows: Float[Tensor, "t rows d"], keep: Float[Tensor, "t rows 1"]) -> Float[Tensor, "t two_d"]:
    """Mean and standard deviation over the kept rows."""
    across, count = keep.transpose(1, 2), keep.sum(1, keepdim=True).clamp(min=1)
    mean = (across @ rows / count).to(rows.dtype)
    variance = across @ (rows - mean).square() / count
    return torch.cat([mean, (variance + POOL_EPS).sqrt().to(rows.dtype)], 2).squeeze(1)


class ConditionEncoder(nn.Module):
    """What networks are written for: a channel for the rows of a task, one for its meta-features.

    condition: which channels exist (`options.CONDITIONS`). Each has a learned null embedding for "not given". rows:
    options of `TaskEncoder`.
    """

    def __init__(
        self, max_features: int, n_metafeatures: int, *, condition: str, d_condition: int, **rows: Any
    ) -> None:
        super().__init__()
        self.condition = condition
        self.task_encoder = TaskEncoder(max_features, d_out=d_condition, **rows)
        self.metafeature_encoder = mlp(n_metafeatures, d_condition, d_condition)
        self.null_task = nn.Parameter(torch.zeros(d_condition))
        self.null_metafeatures = nn.Parameter(torch.zeros(d_condition))

    def forward(
        self,
        n: int,
        tasks: TaskStack | None = None,
        metafeatures: Float[Tensor, "n k"] | None = None,
        keep_task: Bool[Tensor, " n"] | None = None,
        keep_metafeatures: Bool[Tensor, " n"] | None = None,
    ) -> Float[Tensor, "n two_c"]:
        """The condition of n tasks: [task embedding, meta-feature embedding], a null embedding for what is not given,
        not kept, or not part of `condition`."""
        channels = []
        for name, given, null, keep, encoder in (
            ("task", tasks, self.null_task, keep_task, self.task_encoder),
            ("metafeatures", metafeatures, self.null_metafeatures, keep_metafeatures, self.metafeature_encoder),
        ):
            empty = null.unsqueeze(0).expand(n, -1)
            if given is None or self.condition not in (name, "both"):
                channels.append(empty)
                continue
            value = encoder(given)
            channels.append(value if keep is None else torch.where(keep.unsqueeze(1), value, empty.to(value.dtype)))
        return torch.cat(channels, 1)
