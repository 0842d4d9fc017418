"""Kernel of the zoo engine: trains one network at a time, compiled by numba, with all it touches in the nearest caches.

A network is a list of edges, so nothing is padded and a missing edge costs nothing. A vertex holds a value for each of
64 rows, written as one number (`_Lanes`) that LLVM keeps in a few vector registers; smaller batches are filled up with
rows that have no weight, larger ones are read in blocks. Vertices are numbered as slots and patches are
(`networks.specs`): bias 0, input f at 1 + f, the unit of patch p at 1 + F + p.

All arithmetic is float32. Sums over edges and rows have the order written here; the plain loops that are left (Adam,
activations, losses) may be reordered by `fastmath`, which assumes nothing about nan or inf. Each network runs the same
machine code alone, so a result depends neither on its stack nor on threads. Processors that fuse multiply with add
(AVX2, AVX-512) gave the same bits in a comparison of 128 networks; others round in another way.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

# `no_type_check`: the test run wraps annotated functions, and numba must see bare ones. Shapes are in the docstrings.
_FAST = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz"}}
_WIDTH = 64  # rows that are worked on at once
_ZERO, _QUARTER, _HALF, _ONE, _SIX = (np.float32(value) for value in (0.0, 0.25, 0.5, 1.0, 6.0))
_SQRT_HALF, _DENSITY = np.float32(0.5**0.5), np.float32((2 * np.pi) ** -0.5)
_BETA1, _BETA2, _EPS = 0.9, 0.999, np.float32(1e-8)  # defaults of torch.optim.AdamW
_GROW1, _GROW2, _KEEP2 = np.float32(1 - _BETA1), np.float32(1 - _BETA2), np.float32(_BETA2)


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


class _Lanes(types.Type):
    """A number for each of _WIDTH rows, as compiled code sees it."""

    def __init__(self) -> None:
        super().__init__(name="lanes")


_LANES, _VECTOR = _Lanes(), ir.VectorType(ir.FloatType(), _WIDTH)


register_model(_Lanes)(lambda manager, kind: models.PrimitiveModel(manager, kind, _VECTOR))


def _address(context, builder, signature, args):
    array = context.make_array(signature.args[0])(context, builder, args[0])
    start = builder.gep(array.data, [builder.mul(args[1], ir.Constant(ir.IntType(64), _WIDTH))])
    return builder.bitcast(start, _VECTOR.as_pointer())


# Functions below that are `intrinsic` return a signature and what writes their LLVM code.
@intrinsic
def _load(typing, array, index):
    """Row `index` of an array (any, _WIDTH)."""

    def code(context, builder, signature, args):
        return builder.load(_address(context, builder, signature, args), align=4, typ=_VECTOR)

    return _LANES(array, types.int64), code


@intrinsic
def _store(typing, array, index, lanes):
    """Write row `index` of an array (any, _WIDTH)."""

    def code(context, builder, signature, args):
        builder.store(args[2], _address(context, builder, signature, args), align=4)
        return context.get_dummy_value()

    return types.void(array, types.int64, lanes), code


@intrinsic
def _fill(typing, number):
    """One number in every lane."""

    def code(context, builder, signature, args):
        one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), args[0], ir.Constant(ir.IntType(32), 0))
        return _pick(builder, one, one, [0] * _WIDTH)

    return _LANES(types.float32), code


@intrinsic
def _fma(typing, a, b, c):
    """a * b + c of lanes, rounded once where the processor can."""

    def code(context, builder, signature, args):
        kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{_WIDTH}f32")
        return builder.call(function, args)

    return _LANES(_LANES, _LANES, _LANES), code


@intrinsic
def _multiply(typing, a, b):
    return _LANES(_LANES, _LANES), lambda context, builder, signature, args: builder.fmul(*args)


def _pick(builder, a, b, lanes):
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), list(lanes)))


@intrinsic
def _sum(typing, a):
    """Sum of the lanes: 16 apart in pairs, then the 16 by halves."""

    def code(context, builder, signature, args):
        parts = [_pick(builder, args[0], args[0], range(i, i + 16)) for i in range(0, _WIDTH, 16)]
        while len(parts) > 1:
            parts = [builder.fadd(a, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
        part, width = parts[0], 16
        while width > 1:
            width //= 2
            low, high = (_pick(builder, part, part, range(start, start + width)) for start in (0, width))
            part = builder.fadd(low, high)
        return builder.extract_element(part, ir.Constant(ir.IntType(32), 0))

    return types.float32(_LANES), code


@njit(**_FAST)
@no_type_check
def tanh(x):
    """tanh of a float32, absolute error below 5e-7."""
    x = min(max(x, -_TANH_CLAMP), _TANH_CLAMP)
    s = x * x
    p = (((((_P6 * s + _P5) * s + _P4) * s + _P3) * s + _P2) * s + _P1) * s + _P0
    return x * p / (((_Q3 * s + _Q2) * s + _Q1) * s + _Q0)


@njit(**_FAST)
@no_type_check
def erf(x):
    """erf of a float32, absolute error below 5e-7."""
    x = min(max(x, -_ERF_CLAMP), _ERF_CLAMP)
    s = x * x
    p = (((((_R6 * s + _R5) * s + _R4) * s + _R3) * s + _R2) * s + _R1) * s + _R0
    return x * p / ((((_S4 * s + _S3) * s + _S2) * s + _S1) * s + _S0)


@njit(**_FAST)
@no_type_check
def activate(code, value, slope, begin, end):
    """Apply activation `code` (index into `specs.ACTIVATIONS`) to rows begin..end of value (any, _WIDTH) in place; its
    derivative into slope."""
    for u in range(begin, end):
        if code == 0:
            for r in range(_WIDTH):
                slope[u, r] = _ONE
        elif code == 1:
            for r in range(_WIDTH):
                slope[u, r] = _ONE if value[u, r] > _ZERO else _ZERO
                value[u, r] = max(value[u, r], _ZERO)
        elif code == 2:
            for r in range(_WIDTH):
                h = tanh(value[u, r])
                value[u, r], slope[u, r] = h, _ONE - h * h
        elif code == 3:
            for r in range(_WIDTH):
                h = _HALF * tanh(_HALF * value[u, r]) + _HALF
                value[u, r], slope[u, r] = h, h * (_ONE - h)
        else:
            for r in range(_WIDTH):
                a = value[u, r]
                cumulative = _HALF * erf(a * _SQRT_HALF) + _HALF
                b = min(max(a, -_SIX), _SIX)  # beyond, a exp(-a^2 / 2) is below 1e-7
                t = tanh(_QUARTER * b * b)  # exp(-b^2 / 2) = (1 - t) / (1 + t)
                value[u, r], slope[u, r] = a * cumulative, cumulative + b * _DENSITY * (_ONE - t) / (_ONE + t)


@njit(**_FAST)
@no_type_check
def _gather(x, row, value):
    """Inputs of the rows `row` of x (features, all rows) into value (vertices, _WIDTH)."""
    for f in range(len(x)):
        for r in range(len(row)):
            value[1 + f, r] = x[f, row[r]]


@njit(**_FAST)
@no_type_check
def _runs(units, code, first, source):
    """Whether unit k ends a run: neighbours of one activation that do not read one another, activated in one loop."""
    run, begin = np.ones(len(units), np.bool_), 0
    for k in range(len(units) - 1):
        apart = units[k + 1] != units[k] + 1 or code[k + 1] != code[k]
        for e in range(first[k + 1], first[k + 2]):
            apart = apart or source[e] >= units[begin]
        run[k] = apart
        if apart:
            begin = k + 1
    return run


@njit(**_FAST)
@no_type_check
def _forward(units, code, first, source, run, weight, value, slope):
    """Values and slopes (vertices, _WIDTH) of the units and the output, from the inputs in `value`.

    units: vertices that have a value, in order. code: activation of each. first, source: the edges into unit k are
    first[k]..first[k + 1], from the vertices source[e]. run: see `_runs`.
    """
    begin = 0
    for k in range(len(units)):
        u, total = units[k], _fill(_ZERO)
        for e in range(first[k], first[k + 1]):
            total = _fma(_fill(weight[e]), _load(value, source[e]), total)
        _store(value, u, total)
        if run[k]:
            activate(code[k], value, slope, units[begin], u + 1)
            begin = k + 1


@njit(**_FAST)
@no_type_check
def _backward(units, first, source, hidden, weight, value, slope, delta, gradient):
    """Add the gradient (edges) of the loss, from its derivative to the output, last of `delta` (vertices, _WIDTH).

    hidden: the first vertex that is a unit; no derivative is taken to the bias and the inputs.
    """
    for k in range(len(units) - 1):
        _store(delta, units[k], _fill(_ZERO))
    for k in range(len(units) - 1, -1, -1):
        u = units[k]
        here = _multiply(_load(delta, u), _load(slope, u))
        for e in range(first[k], first[k + 1]):
            a = source[e]
            gradient[e] += _sum(_fma(here, _load(value, a), _fill(_ZERO)))
            if a >= hidden:
                _store(delta, a, _fma(_fill(weight[e]), here, _load(delta, a)))


def adam_rates(step: int, lr: float, weight_decay: float) -> tuple[float, float, float]:
    """What `_adam` needs in step `step`: 1 - lr * decay, lr / (1 - beta1^t), sqrt(1 - beta2^t), with t = step + 1."""
    t = step + 1
    return 1 - lr * weight_decay, lr / (1 - _BETA1**t), (1 - _BETA2**t) ** 0.5


@njit(**_FAST)
@no_type_check
def _adam(weight, gradient, mean, square, keep, step_size, correction):
    """One step of AdamW on every edge (Loshchilov and Hutter 2019), as `torch.optim.AdamW` orders it."""
    for e in range(len(weight)):
        g = gradient[e]
        mean[e] += (g - mean[e]) * _GROW1
        square[e] = square[e] * _KEEP2 + _GROW2 * g * g
        weight[e] = weight[e] * keep - step_size * mean[e] / (np.sqrt(square[e]) / correction + _EPS)


@njit(**_FAST)
@no_type_check
def _squared_error(units, code, first, source, run, weight, x, y, start, stop, value, slope, row):
    """Sum of squared errors on rows start..stop, _WIDTH at a time; the last ones repeat the final row."""
    total = 0.0
    for begin in range(start, stop, _WIDTH):
        for r in range(_WIDTH):
            row[r] = min(begin + r, stop - 1)
        _gather(x, row, value)
        _forward(units, code, first, source, run, weight, value, slope)
        for r in range(min(_WIDTH, stop - begin)):
            total += np.float64(value[units[-1], r] - y[begin + r]) ** 2
    return total


@njit(**_FAST)
@no_type_check
def train(networks, task, n_inputs, first_unit, units, code, first, source, weight, x, y, counts, draws, rates, looks):
    """Train the networks `networks` in place of their initial weights; each ends with its best ones on valid rows.

    networks: indices. task, n_inputs (n): of each network. first_unit (n + 1): where its units begin in units, code
    (vertex and activation, output last) and first (its first edge). source, weight (edges): origin and weight.
    x (t, features, rows), y (t, rows): train rows first, then valid rows. counts (t, 2): how many of each.
    draws (steps, batch): uniform numbers that pick rows. rates (steps, 3): `adam_rates` of each step. looks (steps):
    whether valid rows are looked at after a step.
    """
    steps, size = draws.shape
    hidden = 1 + x.shape[1]
    vertices = 0
    for k in range(len(units)):
        vertices = max(vertices, units[k] + 1)
    value, slope = np.ones((vertices, _WIDTH), np.float32), np.ones((vertices, _WIDTH), np.float32)
    delta, row = np.empty((vertices, _WIDTH), np.float32), np.empty(_WIDTH, np.uint32)
    scale = np.float32(2.0 / size)
    for i in networks:
        a, b = first_unit[i], first_unit[i + 1]
        at, us, cs = task[i], units[a:b], code[a:b]
        begin, end = first[a], first[b]
        fs, ss, w = first[a : b + 1] - begin, source[begin:end], weight[begin:end]
        xs, ys, n, n_valid = x[at, : n_inputs[i]], y[at], counts[at, 0], counts[at, 1]
        run = _runs(us, cs, fs, ss)
        gradient, mean, square = np.empty_like(w), np.zeros_like(w), np.zeros_like(w)
        best, out = w.copy(), us[-1]
        least = _squared_error(us, cs, fs, ss, run, w, xs, ys, n, n + n_valid, value, slope, row)
        for step in range(steps):
            gradient[:] = _ZERO
            for start in range(0, size, _WIDTH):
                for r in range(_WIDTH):
                    row[r] = min(np.int64(draws[step, min(start + r, size - 1)] * np.float32(n)), n - 1)
                _gather(xs, row, value)
                _forward(us, cs, fs, ss, run, w, value, slope)
                for r in range(_WIDTH):
                    error = scale * (value[out, r] - ys[row[r]])
                    delta[out, r] = error if start + r < size else _ZERO
                _backward(us, fs, ss, hidden, w, value, slope, delta, gradient)
            _adam(w, gradient, mean, square, rates[step, 0], rates[step, 1], rates[step, 2])
            if looks[step]:
                loss = _squared_error(us, cs, fs, ss, run, w, xs, ys, n, n + n_valid, value, slope, row)
                if loss < least:
                    least = loss
                    best[:] = w
        w[:] = best
