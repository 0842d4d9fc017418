"""Activations of the zoo engine and their slopes, compiled by numba: what `zoo.kernel` applies to units of a network.

float32, absolute error below 2e-6. The plain loops may be reordered by `fastmath`, which assumes nothing about nan or
inf. After a change here remove numba's cache of `zoo.kernel`, which looks at its own file alone.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np
from numba import njit

# `no_type_check`: the test run wraps annotated functions, and numba must see bare ones. Shapes are in the docstrings.
FAST = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz"}}
WIDTH = 64  # rows that are worked on at once
_ZERO, _QUARTER, _HALF, _ONE, _SIX = (np.float32(value) for value in (0.0, 0.25, 0.5, 1.0, 6.0))
_SQRT_HALF, _DENSITY = np.float32(0.5**0.5), np.float32((2 * np.pi) ** -0.5)

# Rational approximations of Eigen (MathFunctionsImpl.h, SpecialFunctionsImpl.h; MPL2): x p(x^2) / q(x^2), lowest first.
_TANH_CLAMP, _ERF_CLAMP = np.float32(7.90531110763549805), np.float32(4.0)
_P0, _P1, _P2, _P3 = np.array(
    [4.89352455891786e-03, 6.37261928875436e-04, 1.48572235717979e-05, 5.12229709037114e-08], np.float32
)
_P4, _P5, _P6 = np.array([-8.60467152213735e-11, 2.00018790482477e-13, -2.76076847742355e-16], np.float32)
_Q0, _Q1, _Q2, _Q3 = np.array(
    [4.89352518554385e-03, 2.26843463243900e-03, 1.18534705686654e-04, 1.19825839466702e-06], np.float32
)
_R0, _R1, _R2, _R3 = np.array(
    [-1.60960333262415e-02, -2.95459980854025e-03, -7.34990630326855e-04, -5.69250639462346e-05], np.float32
)
_R4, _R5, _R6 = np.array([-2.10102402082508e-06, 2.77068142495902e-08, -2.72614225801306e-10], np.float32)
_S0, _S1, _S2 = np.array([-1.42647390514189e-02, -7.37332916720468e-03, -1.68282697438203e-03], np.float32)
_S3, _S4 = np.array([-2.13374055278905e-04, -1.45660718464996e-05], np.float32)


@njit(**FAST)
@no_type_check
def tanh(x):
    """tanh of a float32, absolute error below 5e-7."""
    x = min(max(x, -_TANH_CLAMP), _TANH_CLAMP)
    s = x * x
    p = (((((_P6 * s + _P5) * s + _P4) * s + _P3) * s + _P2) * s + _P1) * s + _P0
    return x * p / (((_Q3 * s + _Q2) * s + _Q1) * s + _Q0)


@njit(**FAST)
@no_type_check
def erf(x):
    """erf of a float32, absolute error below 5e-7."""
    x = min(max(x, -_ERF_CLAMP), _ERF_CLAMP)
    s = x * x
    p = (((((_R6 * s + _R5) * s + _R4) * s + _R3) * s + _R2) * s + _R1) * s + _R0
    return x * p / ((((_S4 * s + _S3) * s + _S2) * s + _S1) * s + _S0)


@njit(**FAST)
@no_type_check
def activate(code, value, slope, begin, end):
    """Apply activation `code` (index into `specs.ACTIVATIONS`) to rows begin..end of value (any, WIDTH) in place; its
    derivative into slope."""
    for u in range(begin, end):
        if code == 0:
            for r in range(WIDTH):
                slope[u, r] = _ONE
        elif code == 1:
            for r in range(WIDTH):
                slope[u, r] = _ONE if value[u, r] > _ZERO else _ZERO
                value[u, r] = max(value[u, r], _ZERO)
        elif code == 2:
            for r in range(WIDTH):
                h = tanh(value[u, r])
                value[u, r], slope[u, r] = h, _ONE - h * h
        elif code == 3:
            for r in range(WIDTH):
                h = _HALF * tanh(_HALF * value[u, r]) + _HALF
                value[u, r], slope[u, r] = h, h * (_ONE - h)
        else:
            for r in range(WIDTH):
                a = value[u, r]
                cumulative = _HALF * erf(a * _SQRT_HALF) + _HALF
                b = min(max(a, -_SIX), _SIX)  # beyond, a exp(-a^2 / 2) is below 1e-7
                t = tanh(_QUARTER * b * b)  # exp(-b^2 / 2) = (1 - t) / (1 + t)
                value[u, r], slope[u, r] = a * cumulative, cumulative + b * _DENSITY * (_ONE - t) / (_ONE + t)
