"""Digits: numbers as text, with as few digits as the answers of a network allow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from netformer.exports.formula import Formula, Rounding

TOLERANCE = 2e-6  # of the target's spread, or of a logit: what written digits may change, on the rows of `_probe`
EXACT_DIGITS = 17
_SINGLE_DIGITS = range(4, 10)  # 9 digits tell all float32 apart
# Of coded weights: printable ASCII but for ! and ", and for ? and \, which mean something in a C string.
ALPHABET = "".join(chr(code) for code in range(35, 127) if chr(code) not in "?\\")
_CHARACTERS = range(3, 7)


def fewest_digits(formula: Formula) -> tuple[int, bool]:
    """Significant decimal digits the weights need, and whether float32 can hold them.

    The fewest, from 4 on, that move no output by more than TOLERANCE on 1,000 rows twice as wide as the table. Where
    units jump, those that tell all float32 apart: a threshold that moves would be seen by few of these rows.
    """
    if "step" in formula.activations:
        return _SINGLE_DIGITS[-1], True
    moved = _probe(formula)
    for digits in _SINGLE_DIGITS:
        if moved(_rounding(digits)) <= TOLERANCE:
            return digits, True
    return EXACT_DIGITS, False


def fewest_characters(formula: Formula) -> tuple[int, float] | None:
    """Characters of ALPHABET a coded weight needs, and the step it counts (`coded`); None where 6 do not suffice.

    The fewest, from 3 on, that move no output by more than TOLERANCE on the same rows. None where units jump: steps of
    a count would move their thresholds.
    """
    if "step" in formula.activations:
        return None
    moved, largest = _probe(formula), 0.0

    def look(values: np.ndarray) -> np.ndarray:
        nonlocal largest
        largest = max(largest, np.abs(values).max(initial=0.0))
        return values

    formula.map(look)
    for count in _CHARACTERS:
        step = float(f"{largest / _half(count) * 1.000001:.9g}") or 1.0
        if moved(_steps(step)) <= TOLERANCE:
            return count, step
    return None


def coded(value: float, count: int, step: float) -> str:
    """round(value / step) + half as `count` digits of base 90, the highest first; half is what makes a 0 the middle:
    (90^count - 1) // 2."""
    rest, text = round(value / step) + _half(count), ""
    for _ in range(count):
        rest, digit = divmod(rest, len(ALPHABET))
        text = ALPHABET[digit] + text
    return text


def _half(count: int) -> int:
    return (len(ALPHABET) ** count - 1) // 2


def _probe(formula: Formula) -> Callable[[Rounding], float]:
    """Tells how far a change of the weights moves an output or the scale of an interval at most, on 1,000 rows twice as
    wide as the table; nan where it is not finite."""
    z = 2 * np.random.default_rng(0).standard_normal((1000, len(formula.reading.inputs)))
    expected = _said(formula, z)

    def moved(change: Rounding) -> float:
        with np.errstate(over="ignore", invalid="ignore"):
            return float(np.abs(_said(formula.map(change), z) - expected).max())

    return moved


def _said(formula: Formula, z: Float[np.ndarray, "rows inputs"]) -> Float[np.ndarray, "rows outputs_and_scales"]:
    """The outputs, and the scale of each that has intervals."""
    answers = formula.inner(z)
    if not formula.spreads:
        return answers
    logs = replace(formula, outputs=formula.spreads, trees=()).inner(z)
    return np.concatenate([answers, np.exp(np.clip(logs, *np.array([one.bounds for one in formula.spreads]).T))], 1)


def decimal(value: float, digits: int) -> str:
    """The shortest text of a number rounded to that many significant digits, for C and Python: .25, -3, 1.5e-7."""
    text = repr(float(value)) if digits >= EXACT_DIGITS else f"{float(value):.{digits}g}"
    mantissa, _, exponent = text.partition("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    sign, mantissa = ("-", mantissa[1:]) if mantissa.startswith("-") else ("", mantissa)
    if mantissa.startswith("0."):
        mantissa = mantissa[1:]
    if mantissa == "0":
        sign = ""
    return f"{sign}{mantissa}e{int(exponent)}" if exponent else f"{sign}{mantissa}"


def _steps(step: float) -> Rounding:
    return lambda values: np.round(values / step) * step


def _rounding(digits: int) -> Rounding:
    def change(values: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            flat = np.array([float(decimal(v, digits)) for v in values.ravel()]).astype(np.float32)
        return flat.astype(np.float64).reshape(values.shape)

    return change
