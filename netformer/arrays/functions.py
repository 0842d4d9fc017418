"""Functions: those of the module torch that the code for both uses, on `array.Array`. Names, arguments and results are
torch's; what is documented here is only what differs.

Importing this module must not import torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy import float32, float64, int8, int64, isfinite, log1p, maximum, minimum, sqrt, tanh  # noqa: F401

from netformer.arrays.array import Array, _wrapped
from netformer.arrays.draws import Generator

bool = np.bool_
inf, nan = math.inf, math.nan
exp, log, copysign = np.exp, np.log, np.copysign
# erf(x) = tanh(x p(x^2)): coefficients of p, the highest first, by least squares for |x| up to `_END`
_ERF = (
    *(-4.03369582e-09, 2.64689318e-07, -6.96141991e-06, 9.37880638e-05),
    *(-0.000633835273, -0.000177021503, 0.102762886, 1.12837994),
)
_END = 4.0  # where a float32 does not tell erf from 1


def from_numpy(x: np.ndarray) -> Any:
    """The same memory as an array of ours."""
    return _wrapped(x)


def tensor(values: Any, dtype: Any = None) -> Any:
    """Numbers as an array, those with a point in float32."""
    found = np.array(values, dtype)
    return _wrapped(found.astype(np.float32) if dtype is None and found.dtype == np.float64 else found)


def _shape(shape: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], Sequence) else shape


def zeros(*shape: Any, dtype: Any = np.float32) -> Any:
    """As torch's."""
    return _wrapped(np.zeros(_shape(shape), dtype))


def ones(*shape: Any, dtype: Any = np.float32) -> Any:
    """As torch's."""
    return _wrapped(np.ones(_shape(shape), dtype))


def full(shape: Any, value: Any, dtype: Any = None) -> Any:
    """As torch's."""
    return _wrapped(np.full(shape, value, dtype or tensor(value).dtype))


def zeros_like(x: Any) -> Any:
    """As torch's."""
    return _wrapped(np.zeros(x.shape, x.dtype))


def ones_like(x: Any) -> Any:
    """As torch's."""
    return _wrapped(np.ones(x.shape, x.dtype))


def full_like(x: Any, value: Any) -> Any:
    """As torch's."""
    return _wrapped(np.full(x.shape, value, x.dtype))


def arange(*ends: int, device: Any = None) -> Any:
    """As torch's, of whole numbers."""
    return _wrapped(np.arange(*ends, dtype=np.int64))


def cat(parts: Sequence[Any], dim: int = 0) -> Any:
    """As torch's."""
    return _wrapped(np.concatenate([np.asarray(part) for part in parts], dim))


def stack(parts: Sequence[Any], dim: int = 0) -> Any:
    """As torch's."""
    return _wrapped(np.stack([np.asarray(part) for part in parts], dim))


def split(x: Any, sizes: Any, dim: int = 0) -> list[Any]:
    """As torch's."""
    return x.split(sizes, dim)


def where(condition: Any, a: Any, b: Any) -> Any:
    """As torch's; two numbers with a point are float32."""
    if isinstance(a, float) and isinstance(b, float):
        a = np.float32(a)
    return _wrapped(np.where(np.asarray(condition), _plain(a), _plain(b)))


def _plain(x: Any) -> Any:
    return x.numpy() if isinstance(x, Array) else x


def gather(x: Any, dim: int, index: Any) -> Any:
    """As torch's."""
    return x.gather(dim, index)


def argsort(x: Any, dim: int = -1, descending: Any = False, stable: Any = True) -> Any:
    """As torch's, always stable."""
    return (-x if descending else x).argsort(dim)


def nonzero(x: Any) -> Any:
    """As torch's: where entries are not 0, a row each."""
    return _wrapped(np.argwhere(x.numpy()))


def bincount(x: Any, weights: Any = None, minlength: int = 0) -> Any:
    """As torch's."""
    return _wrapped(np.bincount(x.numpy(), weights, minlength))


def repeat_interleave(x: Any, repeats: Any, dim: int) -> Any:
    """As torch's."""
    return x.repeat_interleave(repeats, dim)


def diag_embed(x: Any) -> Any:
    """As torch's: the last dimension as the diagonal of matrices."""
    out = np.zeros((*x.shape, x.shape[-1]), x.dtype)
    at = np.arange(x.shape[-1])
    out[..., at, at] = x
    return _wrapped(out)


def baddbmm(bias: Any, a: Any, b: Any) -> Any:
    """As torch's: bias + a @ b."""
    out = np.matmul(a.numpy(), b.numpy())
    out += bias.numpy()
    return _wrapped(out)


addmm = baddbmm


def einsum(equation: str, *parts: Any) -> Any:
    """As torch's."""
    return _wrapped(np.einsum(equation, *(part.numpy() for part in parts), optimize=True))


def logspace(start: int, end: int, steps: int) -> Any:
    """As torch's of float64, digit by digit: powers of 10, counted from either end."""
    step, half = (end - start) / (steps - 1), steps // 2
    powers = [start + step * i if i < half else end - step * (steps - 1 - i) for i in range(steps)]
    return _wrapped(np.array([10.0**power for power in powers]))


def relu(x: Any) -> Any:
    """As torch's."""
    return np.maximum(x, 0)


def erf(x: Any) -> Any:
    """As torch's; of float32 within 2e-7, from a tanh, which numpy has in vectors."""
    if x.dtype == np.float64:
        from scipy.special import erf as exact  # takes 0.1 s to import

        return _wrapped(exact(x.numpy()))
    t = np.clip(x.numpy(), -_END, _END)
    squared = t * t
    p = np.full_like(t, _ERF[0])
    for coefficient in _ERF[1:]:
        p *= squared
        p += np.float32(coefficient)
    p *= t
    np.tanh(p, out=p)
    np.copyto(p, np.sign(t), where=squared >= np.float32(_END * _END))
    return _wrapped(p)


def gelu(x: Any) -> Any:
    """As torch's, by `erf`."""
    out = erf(x * x.dtype.type(0.5**0.5))
    out += 1
    out *= x
    out *= x.dtype.type(0.5)
    return out


def sigmoid(x: Any) -> Any:
    """As torch's."""
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def softplus(x: Any) -> Any:
    """As torch's: log(1 + exp(x))."""
    return np.logaddexp(x, 0)


def logit(x: Any) -> Any:
    """As torch's."""
    return np.log(x / (1 - x))


def logsumexp(x: Any, dim: int) -> Any:
    """As torch's."""
    top = x.amax(dim, True)
    return np.log(np.exp(x - top).sum(dim)) + top.squeeze(dim)


def log_softmax(x: Any, dim: int) -> Any:
    """As torch's."""
    return x - logsumexp(x, dim).unsqueeze(dim)


def softmax(x: Any, dim: int) -> Any:
    """As torch's."""
    out = np.exp(x - x.amax(dim, True))
    out /= out.sum(dim, True)
    return out


def pad(x: Any, widths: tuple[int, ...], value: Any = 0) -> Any:
    """As torch's: behind and before the last dimensions, the last first."""
    pairs = [(widths[i], widths[i + 1]) for i in range(0, len(widths), 2)]
    every = [(0, 0)] * (x.ndim - len(pairs)) + pairs[::-1]
    return _wrapped(np.pad(x.numpy(), every, constant_values=value))


def one_hot(codes: Any, n: int) -> Any:
    """As torch's."""
    return (codes.unsqueeze(-1) == arange(n)).long()


def _eigh(x: Any) -> tuple[Any, Array]:
    size, basis = np.linalg.eigh(x.numpy())
    return _wrapped(size), _wrapped(basis)


linalg = SimpleNamespace(eigh=_eigh)
nn = SimpleNamespace(
    functional=SimpleNamespace(gelu=gelu, log_softmax=log_softmax, one_hot=one_hot, pad=pad, softplus=softplus)
)


def no_grad() -> Any:
    """Nothing: there are no gradients."""
    return nullcontext()


def rand(*shape: int, generator: Generator) -> Any:
    """As torch's, the same numbers."""
    return _wrapped(generator.uniform(math.prod(shape)).reshape(shape))


def randn(*shape: int, generator: Generator) -> Any:
    """As torch's, the same numbers (`draws`); at least 16 of them."""
    return _wrapped(generator.normal(math.prod(shape)).reshape(shape))
