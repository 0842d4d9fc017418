"""Task encoder: the rows of a task as one vector."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from netformer.tasks.view import CUT, TaskStack


def _mlp(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for d_in, d_out in pairwise(widths):
        layers += [nn.Linear(d_in, d_out), nn.GELU()]
    return nn.Sequential(*layers[:-1])


def _squash(x: Tensor) -> Tensor:
    """asinh(x) from functions that torch has in vectors: nine times as fast as its own."""
    size = x.abs()
    return torch.copysign(torch.log1p(size + size.square() / (1 + torch.sqrt(size.square() + 1))), x)


class Norm(nn.LayerNorm):
    """LayerNorm with the gain and the bias outside of the kernel, which sums their gradients thread by thread."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.layer_norm(input, self.normalized_shape, None, None, self.eps) * self.weight + self.bias


class TaskEncoder(nn.Module):
    """Rows of a task to one embedding (deep sets), helped by what linear algebra knows already.

    A ridge fit comes first; with r its residual, a row MLP reads [x, y, r and their products], pooled by mean and
    deviation over the train rows. In each of `rounds` every row is then told what the pool says and moves by a layer
    that begins at zero, so weights without rounds go on as they are. Beside it go the moments E[x x'], E[x x' r],
    E[|x| r] and the ridge coefficients.
    """

    def __init__(self, max_features: int, d_row: int, d_out: int, rounds: int) -> None:
        super().__init__()
        f = max_features
        self.rows = _mlp(6 * f + 3, d_row, d_row, d_row)
        self.told = nn.ModuleList(nn.Linear(2 * d_row, d_row) for _ in range(rounds))
        self.moves = nn.ModuleList(nn.Linear(d_row, d_row) for _ in range(rounds))
        for number in self.moves.parameters():
            nn.init.zeros_(number)
        self.out = nn.Sequential(_mlp(2 * d_row + 3 * f + f * (f + 1) + 2, d_row, d_out), Norm(d_out))
        self.upper = torch.triu_indices(f, f)

    def forward(self, tasks: TaskStack) -> Float[Tensor, "t d"]:
        read = tasks.train.any(0)
        keep = tasks.train[:, read].unsqueeze(2).to(tasks.x.dtype)
        with torch.autocast("cpu", enabled=False):
            rows, fixed = self._read(tasks.x[:, read], tasks.y[:, read], keep, tasks.n_features)
        rows = self.rows(rows)
        for told, moves in zip(self.told, self.moves, strict=True):
            rows = rows + moves(functional.gelu(rows + told(_pool(rows, keep)).unsqueeze(1)))
        return self.out(torch.cat([_pool(rows, keep), fixed.to(rows.dtype)], 1))

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
        ridge = torch.linalg.solve(second + (0.02 + 2 / m) * torch.eye(x.shape[2]), x.transpose(1, 2) @ y / m)
        r = y - x @ ridge
        third = (x * r).transpose(1, 2) @ x / m
        i, j = self.upper
        fixed = [
            second[:, i, j],
            2 * third[:, i, j],
            2 * (x.abs() * r).sum(1) / count,
            ridge.squeeze(2),
            r.square().sum(1) / count,
            (torch.arange(x.shape[2]) < n_features.unsqueeze(1)).to(x.dtype),
            torch.log(count) / 3 - 1.5,
        ]
        rows = [x, y, r, x * y, x * r, x.abs() * r, x.abs() * y, x.square() - 1, y.square() - 1]
        return _squash(torch.cat(rows, 2)), _squash(torch.cat(fixed, 1))


def _pool(rows: Float[Tensor, "t rows d"], keep: Float[Tensor, "t rows 1"]) -> Float[Tensor, "t two_d"]:
    """Mean and deviation over the kept rows."""
    across, count = keep.transpose(1, 2), keep.sum(1, keepdim=True).clamp(min=1)
    mean = (across @ rows / count).to(rows.dtype)
    variance = across @ (rows - mean).square() / count
    return torch.cat([mean, (variance + 1e-6).sqrt().to(rows.dtype)], 2).squeeze(1)
