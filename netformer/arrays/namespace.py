"""Namespace: which functions an array is computed with.

Networks, views of tasks and fitted output layers are torch tensors where a model is trained and measured, and numpy
arrays (`array.Array`) in what estimators and the command line deliver, so that these run without torch. Code for both
asks `namespace` for the functions that belong to its arguments and is written in torch's words: `xp.cat(parts, 1)`.

Importing this module must not import torch.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from netformer.arrays import functions
from netformer.arrays.array import Array

if TYPE_CHECKING:
    from torch import Generator, Tensor
else:
    Generator = Tensor = Any  # of jaxtyping's shapes: whatever has a shape and a dtype


def namespace(x: Any) -> Any:
    """The module torch for a tensor, `arrays.functions` for an `Array`."""
    return functions if isinstance(x, Array) else sys.modules["torch"]


def alike(x: Any, like: Any) -> Any:
    """A numpy array as what `like` is, a tensor on its device or an `Array`; on the CPU nothing is copied."""
    made = namespace(like).from_numpy(np.asarray(x))
    return made if like.device is None else made.to(like.device)
