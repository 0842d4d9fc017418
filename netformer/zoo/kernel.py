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

from netformer.zoo.activations import FAST as _FAST
from netformer.zoo.activations import WIDTH as _WIDTH
from netformer.zoo.activations import activate

# `no_type_check`: the test run wraps annotated functions, and numba must see bare ones. Shapes are in the docstrings.
_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
_BETA1, _BETA2, _EPS = 0.9, 0.999, np.float32(1e-8)  # defaults of torch.optim.AdamW
_GROW1, _GROW2, _KEEP2 = np.float32(1 - _BETA1), np.float32(1 - _BETA2), np.float32(_BETA2)


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
def _backward(units, n_outputs, first, source, hidden, weight, value, slope, delta, gradient):
    """Add the gradient (edges) of the loss, from its derivatives to the outputs, last of `delta` (vertices, _WIDTH).

    hidden: the first vertex that is a unit; no derivative is taken to the bias and the inputs.
    """
    for k in range(len(units) - n_outputs):
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
def _cross_entropy(logit, lowest, n_outputs, y, row, count, scale, delta):
    """Sum over `count` rows of -log of the probability of their class y[row]: logistic function of one output, the
    logit of class 1, or softmax of several.

    logit (vertices, _WIDTH): outputs from `lowest` on. delta (the same): gets `scale` times the derivatives to them,
    p - 1 for the class of a row and p for others; 0 beyond `count`.
    """
    total = 0.0
    for r in range(_WIDTH):
        top = logit[lowest, r] if n_outputs > 1 else max(logit[lowest, r], _ZERO)
        for k in range(1, n_outputs):
            top = max(top, logit[lowest + k, r])
        # Class 0 of one output has the logit 0.
        mass = _ZERO if n_outputs > 1 else np.exp(-top)
        for k in range(n_outputs):
            share = np.exp(logit[lowest + k, r] - top)
            delta[lowest + k, r] = share
            mass += share
        at = np.int64(y[row[r]]) if n_outputs > 1 else np.int64(y[row[r]]) - 1  # the output of the class, -1: none
        here = scale if r < count else _ZERO
        for k in range(n_outputs):
            delta[lowest + k, r] = here * (delta[lowest + k, r] / mass - (_ONE if k == at else _ZERO))
        if r < count:
            total += np.log(np.float64(mass)) + top - (logit[lowest + at, r] if at >= 0 else _ZERO)
    return total


@njit(**_FAST)
@no_type_check
def _log_loss(units, n_outputs, code, first, source, run, weight, x, y, start, stop, value, slope, delta, row):
    """`_cross_entropy` of rows start..stop, as `_squared_error` reads them."""
    total = 0.0
    for begin in range(start, stop, _WIDTH):
        for r in range(_WIDTH):
            row[r] = min(begin + r, stop - 1)
        _gather(x, row, value)
        _forward(units, code, first, source, run, weight, value, slope)
        count = min(_WIDTH, stop - begin)
        total += _cross_entropy(value, units[-1] - n_outputs + 1, n_outputs, y, row, count, _ZERO, delta)
    return total


@njit(**_FAST)
@no_type_check
def train(
    networks, task, n_inputs, first_unit, units, code, first, source, weight, x, y, counts, draws, rates, looks, logits
):
    """Train the networks `networks` in place of their initial weights; each ends with its best ones on valid rows.

    networks: indices. task, n_inputs (n): of each network. first_unit (n + 1): where its units begin in units, code
    (vertex and activation, outputs last) and first (its first edge). source, weight (edges): origin and weight.
    x (t, features, rows), y (t, rows): train rows first, then valid rows. counts (t, 2): how many of each.
    draws (steps, batch): uniform numbers that pick rows. rates (steps, 3): `adam_rates` of each step. looks (steps):
    whether valid rows are looked at after a step. logits: 0 for the squared error of one output; else so many outputs
    are logits of the classes that y numbers from 0, trained by `_cross_entropy`.
    """
    steps, size = draws.shape
    hidden = 1 + x.shape[1]
    vertices = 0
    for k in range(len(units)):
        vertices = max(vertices, units[k] + 1)
    value, slope = np.ones((vertices, _WIDTH), np.float32), np.ones((vertices, _WIDTH), np.float32)
    delta, row = np.empty((vertices, _WIDTH), np.float32), np.empty(_WIDTH, np.uint32)
    n_outputs, scale, part = max(1, logits), np.float32(2.0 / size), np.float32(1.0 / size)
    for i in networks:
        a, b = first_unit[i], first_unit[i + 1]
        at, us, cs = task[i], units[a:b], code[a:b]
        begin, end = first[a], first[b]
        fs, ss, w = first[a : b + 1] - begin, source[begin:end], weight[begin:end]
        xs, ys, n, n_valid = x[at, : n_inputs[i]], y[at], counts[at, 0], counts[at, 1]
        run = _runs(us, cs, fs, ss)
        gradient, mean, square = np.empty_like(w), np.zeros_like(w), np.zeros_like(w)
        best, out = w.copy(), us[-1]
        if logits:
            least = _log_loss(us, n_outputs, cs, fs, ss, run, w, xs, ys, n, n + n_valid, value, slope, delta, row)
        else:
            least = _squared_error(us, cs, fs, ss, run, w, xs, ys, n, n + n_valid, value, slope, row)
        for step in range(steps):
            gradient[:] = _ZERO
            for start in range(0, size, _WIDTH):
                for r in range(_WIDTH):
                    row[r] = min(np.int64(draws[step, min(start + r, size - 1)] * np.float32(n)), n - 1)
                _gather(xs, row, value)
                _forward(us, cs, fs, ss, run, w, value, slope)
                if logits:
                    _cross_entropy(value, out - n_outputs + 1, n_outputs, ys, row, size - start, part, delta)
                else:
                    for r in range(_WIDTH):
                        error = scale * (value[out, r] - ys[row[r]])
                        delta[out, r] = error if start + r < size else _ZERO
                _backward(us, n_outputs, fs, ss, hidden, w, value, slope, delta, gradient)
            _adam(w, gradient, mean, square, rates[step, 0], rates[step, 1], rates[step, 2])
            if looks[step]:
                if logits:
                    loss = _log_loss(
                        us, n_outputs, cs, fs, ss, run, w, xs, ys, n, n + n_valid, value, slope, delta, row
                    )
                else:
                    loss = _squared_error(us, cs, fs, ss, run, w, xs, ys, n, n + n_valid, value, slope, row)
                if loss < least:
                    least = loss
                    best[:] = w
        w[:] = best
