"""Problem: the table that candidates are written for, with what the model knows of it, worked out once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from netformer.errors import InputError
from netformer.model.latent import Gaussian
from netformer.model.vae import TransformerVAE
from netformer.networks.stack import Networks
from netformer.tasks.view import TaskStack


@runtime_checkable
class Head(Protocol):
    """An output layer other than ridge regression on the target, such as that of classes (`classes.ClassHead`)."""

    @property
    def n_outputs(self) -> int:
        """Outputs of a network under it."""

    @property
    def solved_from(self) -> Float[Tensor, "rows k"]:
        """What it is solved from beside the inputs: another search where it differs."""

    def solved(self, networks: Networks) -> tuple[Networks, Float[Tensor, " n"]]:
        """Networks with their output layers, and the error of each on rows left out: 0 is perfect, 1 no better than
        without a column."""

    def moved(self, networks: Networks, x: Float[Tensor, "1 rows f"], noisy: Float[Tensor, "1 rows f"]) -> Tensor:
        """How far the answers of each network move from x to the noisy rows, see `objectives.robustness`: (n,)."""


@dataclass(frozen=True, eq=False)
class SearchTask:
    """One task in its canonical view and the model that writes networks for it.

    rows: a stack of this task alone; objectives of one's own may read all its rows, output layers are solved on its
    train rows. column: (features) the number of the table's column that each canonical input is made of, 0 to
    `n_columns` - 1; -1 for inputs not in use. n_inputs: inputs of the table, which an export reads all.
    condition, prior, penalties: what the model says of it, each (1, ..). head: None: ridge regression on y.
    """

    model: TransformerVAE
    rows: TaskStack
    column: Int[Tensor, " features"]
    n_inputs: int
    condition: Float[Tensor, "1 two_c"]
    prior: Gaussian
    penalties: Float[Tensor, "1 slots"]
    head: Head | None = None

    @classmethod
    def of(
        cls,
        model: TransformerVAE,
        rows: TaskStack,
        column: Int[Tensor, " features"] | None = None,
        n_inputs: int | None = None,
        metafeatures: Float[Tensor, "1 k"] | None = None,
        seen: TaskStack | None = None,
    ) -> SearchTask:
        """A task as it is stored (`stack_tasks`), a stack of one. column: None: every input is a column. n_inputs:
        None: those in use. metafeatures: transformed, None: the null embedding. seen: the rows that the task encoder
        reads; None: the train rows. Raises InputError for several tasks and for one without a column that varies.
        """
        if len(rows) != 1:
            raise InputError(f"a search is for one task, got {len(rows)}")
        used = int(rows.n_features[0])
        if used == 0:
            raise InputError("a search needs a column that varies, found none")
        if column is None:
            at = torch.arange(rows.x.shape[2])
            column = torch.where(at < used, at, -1)
        with torch.no_grad():
            c = model.embed(1, rows.train_only() if seen is None else seen, metafeatures)
            return cls(model, rows, column, n_inputs or used, c, model.prior_of(c), model.penalties(c))

    @property
    def n_outputs(self) -> int:
        """Outputs of a network for it."""
        return 1 if self.head is None else self.head.n_outputs

    @property
    def n_columns(self) -> int:
        """Columns of the table that inputs in use are made of."""
        return int(self.column.max()) + 1

    @property
    def digest(self) -> str:
        """SHA-256 of the rows and of what the model makes of them: equal for the same table and the same weights."""
        parts = [self.rows.x, self.rows.y, self.rows.rows, self.condition, self.prior.mu, self.penalties, self.column]
        parts += [] if self.head is None else [self.head.solved_from]
        return hashlib.sha256(b"".join(part.contiguous().numpy().tobytes() for part in parts)).hexdigest()
