"""Array: a numpy array with the methods of a torch tensor that the code for both uses, each with torch's meaning.

Where torch and numpy use one name for two things (`view`, `transpose`, `max`, `repeat`), it is torch's. `numpy()` gives
the plain array, which nothing of this stays on. Results without dimensions stay arrays, as tensors do.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Extremes(NamedTuple):
    """What `max` and `min` find along a dimension: values and where they stand."""

    values: Array
    indices: Array


def _wrapped(x: Any) -> Any:
    return np.ndarray.view(np.asarray(x), Array)


_BASE: Any = np.ndarray  # as a base that type checkers do not look into: methods of some names mean other things


class Array(_BASE):
    """See the module. `dim` is an axis, `keepdim` keeps it with length 1."""

    requires_grad, device = False, None  # there is one device

    def __bool__(self) -> bool:
        return bool(self.item())

    def __getitem__(self, index: Any) -> Any:
        return _wrapped(super().__getitem__(index))

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def numpy(self) -> np.ndarray:
        """The plain array."""
        return np.ndarray.view(self, np.ndarray)

    def numel(self) -> int:
        """How many numbers there are."""
        return self.size

    # Shape

    def view(self, *shape: Any) -> Any:
        """The same numbers in another shape; a type is numpy's `view`."""
        if isinstance(shape[0], type | np.dtype):
            return np.ndarray.view(self, *shape)
        return self.reshape(*shape)

    def unsqueeze(self, dim: int) -> Any:
        """One more dimension, of length 1."""
        return np.expand_dims(self, dim)

    def squeeze(self, dim: int) -> Any:
        """Without a dimension, if that has length 1."""
        return np.ndarray.squeeze(self, dim) if self.shape[dim] == 1 else self

    def transpose(self, first: int, second: int) -> Any:
        """Two dimensions exchanged."""
        return np.ndarray.swapaxes(self, first, second)

    def permute(self, *dims: int) -> Array:
        """Dimensions in another order."""
        return np.ndarray.transpose(self, dims)

    def expand(self, *shape: Any) -> Array:
        """Dimensions of length 1 repeated, without a copy; -1 leaves one as it is."""
        wanted = shape[0] if isinstance(shape[0], tuple) else shape
        own = (1,) * (len(wanted) - self.ndim) + self.shape
        full = tuple(old if new == -1 else new for old, new in zip(own, wanted, strict=True))
        return _wrapped(np.broadcast_to(self, full))

    def expand_as(self, other: Array) -> Array:
        """`expand` to the shape of another."""
        return self.expand(*other.shape)

    def flatten(self, start: int = 0) -> Array:
        """Dimensions from `start` on as one."""
        return self.reshape(*self.shape[:start], -1)

    def contiguous(self) -> Array:
        """The same numbers, row by row in memory."""
        return _wrapped(np.ascontiguousarray(self))

    def clone(self) -> Array:
        """A copy."""
        return self.copy()

    def split(self, size: int | list[int], dim: int = 0) -> list[Array]:
        """Parts along a dimension: of `size` each, the last smaller, or of these sizes."""
        total = self.shape[dim]
        edges = list(range(size, total, size)) if isinstance(size, int) else np.cumsum(size)[:-1].tolist()
        return [_wrapped(part) for part in np.split(self.numpy(), edges, dim)]

    def chunk(self, chunks: int, dim: int = 0) -> list[Array]:
        """At most so many parts along a dimension, all but the last of one size."""
        return self.split(-(-self.shape[dim] // chunks), dim)

    def repeat_interleave(self, repeats: Any, dim: int | None = None) -> Array:
        """Every entry so many times, one after the other."""
        return _wrapped(np.repeat(self.numpy(), np.asarray(repeats), dim))

    def diagonal(self, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Array:
        """The diagonal of two dimensions, as the last one."""
        return _wrapped(np.diagonal(self.numpy(), offset, dim1, dim2))

    # Kinds of numbers

    def to(self, dtype: Any) -> Array:
        """In another dtype, without a copy where it is the same."""
        return self.astype(dtype, copy=False)

    def float(self) -> Array:
        """In float32."""
        return self.to(np.float32)

    def double(self) -> Array:
        """In float64."""
        return self.to(np.float64)

    def long(self) -> Array:
        """In int64."""
        return self.to(np.int64)

    def new_zeros(self, *shape: Any) -> Array:
        """Zeros of the same dtype."""
        return _wrapped(np.zeros(shape, self.dtype))

    def new_empty(self, *shape: Any) -> Array:
        """Room for numbers of the same dtype."""
        return _wrapped(np.empty(shape, self.dtype))

    # Number by number

    def square(self) -> Array:
        """x * x."""
        return self * self

    def zero_(self) -> Array:
        """Zeros in place."""
        self[...] = 0
        return self

    def sqrt(self) -> Array:
        """The square root."""
        return np.sqrt(self)

    def rsqrt(self) -> Array:
        """One over the square root."""
        return 1 / np.sqrt(self)

    def exp(self) -> Array:
        """e to the power of x."""
        return np.exp(self)

    def log(self) -> Array:
        """The natural logarithm."""
        return np.log(self)

    def abs(self) -> Array:
        """The size without the sign."""
        return np.abs(self)

    def div(self, other: Any) -> Array:
        """x / other."""
        return self / other

    def clamp(self, min: Any = None, max: Any = None) -> Array:
        """Cut to bounds."""
        low = self if min is None else np.maximum(self, min)
        return low if max is None else np.minimum(low, max)

    def masked_fill(self, mask: Array, value: Any) -> Array:
        """`value` where the mask says so."""
        return _wrapped(np.where(mask, self.dtype.type(value), self))

    # Along dimensions

    def sum(self, dim: Any = None, keepdim: bool = False) -> Array:
        """The sum along dimensions; truth values and whole numbers in int64."""
        return _wrapped(np.sum(self.numpy(), _axes(dim, self), _summed(self.dtype), keepdims=keepdim))

    def mean(self, dim: Any = None, keepdim: bool = False) -> Array:
        """The mean along dimensions."""
        return _wrapped(np.mean(self.numpy(), axis=_axes(dim, self), keepdims=keepdim))

    def std(self, dim: Any = None, correction: int = 1) -> Array:
        """The standard deviation along dimensions, over n - correction."""
        return _wrapped(np.std(self.numpy(), axis=_axes(dim, self), ddof=correction))

    def any(self, dim: Any = None, keepdim: bool = False) -> Array:
        """Whether one is true."""
        return _wrapped(np.any(self.numpy(), _axes(dim, self), keepdims=keepdim))

    def all(self, dim: Any = None, keepdim: bool = False) -> Array:
        """Whether all are true."""
        return _wrapped(np.all(self.numpy(), _axes(dim, self), keepdims=keepdim))

    def amax(self, dim: Any = None, keepdim: bool = False) -> Array:
        """The largest along dimensions."""
        return _wrapped(np.max(self.numpy(), _axes(dim, self), keepdims=keepdim))

    def max(self, dim: int | None = None) -> Any:
        """The largest of all, or along a dimension with where it stands."""
        return self.amax() if dim is None else Extremes(self.amax(dim), self.argmax(dim))

    def min(self, dim: int | None = None) -> Any:
        """The smallest of all, or along a dimension with where it stands."""
        least = _wrapped(np.min(self.numpy(), dim))
        return least if dim is None else Extremes(least, self.argmin(dim))

    def argmax(self, dim: int | None = None, keepdim: bool = False) -> Array:
        """Where the largest stands, the first of equal ones."""
        return _wrapped(np.argmax(self.numpy(), dim, keepdims=keepdim))

    def argmin(self, dim: int | None = None, keepdim: bool = False) -> Array:
        """Where the smallest stands, the first of equal ones."""
        return _wrapped(np.argmin(self.numpy(), dim, keepdims=keepdim))

    def cumsum(self, dim: int) -> Array:
        """Sums up to each entry."""
        return _wrapped(np.add.accumulate(self.numpy(), dim, _summed(self.dtype)))

    def argsort(self, dim: int = -1) -> Array:
        """Where entries stand in ascending order, equal ones in the order they had."""
        return _wrapped(np.argsort(self.numpy(), dim, kind="stable"))

    # By index

    def gather(self, dim: int, index: Array) -> Array:
        """The entries at an index along a dimension, one for each of the index."""
        source = self.numpy()[tuple(slice(None if d == dim % self.ndim else n) for d, n in enumerate(index.shape))]
        return _wrapped(np.take_along_axis(source, index.numpy(), dim))

    def scatter(self, dim: int, index: Array, value: Any) -> Array:
        """A copy with `value` at an index along a dimension."""
        out = self.numpy().copy()
        np.put_along_axis(out, index.numpy(), value, dim)
        return _wrapped(out)

    def scatter_add_(self, dim: int, index: Array, source: Array) -> Array:
        """Add the source at an index along a dimension, in place."""
        at: list[Any] = list(np.indices(index.shape, sparse=True))
        at[dim] = index.numpy()
        np.add.at(self.numpy(), tuple(at), source.numpy())
        return self

    def index_select(self, dim: int, index: Array) -> Array:
        """Entries along a dimension."""
        return _wrapped(np.take(self.numpy(), index.numpy(), dim))

    def index_copy(self, dim: int, index: Array, source: Array) -> Array:
        """A copy with other entries along a dimension."""
        out = self.numpy().copy()
        out[(slice(None),) * dim + (index.numpy(),)] = source
        return _wrapped(out)


def _axes(dim: Any, x: np.ndarray) -> Any:
    return tuple(range(x.ndim)) if dim is None else dim


def _summed(dtype: np.dtype) -> Any:
    return np.int64 if dtype.kind in "bi" else None
