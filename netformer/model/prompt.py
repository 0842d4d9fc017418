"""Prompt: what a user may ask of the networks written, checked in one place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from netformer.errors import InputError
from netformer.networks.specs import WRITTEN


@dataclass(frozen=True)
class Prompt:
    """Constraints that hold for every network written; None: no constraint.

    max_params: most edges of a network, at least 1. max_hidden_layers: most hidden layers, at least 1. activations:
    names allowed for hidden units, of `specs.WRITTEN`, at least one; any sequence becomes a tuple.

    Raises InputError for anything else. A bound too low for the inputs of a table is named by `read_structure`.
    """

    # Any: they come from users, and are int, int and a tuple of names, or None, once checked.
    max_params: Any = None
    max_hidden_layers: Any = None
    activations: Any = None

    def __post_init__(self) -> None:
        for name in ("max_params", "max_hidden_layers"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, whole_number(name, value, 1, "None or "))
        names = self.activations
        if names is not None:
            if isinstance(names, str) or not _some_of(names, WRITTEN):
                raise InputError(f"activations must be None or a list of {', '.join(WRITTEN)}, got {names!r}")
            object.__setattr__(self, "activations", tuple(str(name) for name in names))


FREE = Prompt()


def whole_number(name: str, value: Any, least: int, instead: str = "") -> int:
    """`value` as an int. Raises InputError for what is no whole number (a bool, 2.5, nan) or below `least`; instead:
    what else would be allowed, for the message."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise InputError(f"{name} must be {instead}a whole number of at least {least}, got {value!r}")
    return int(value)


def check_request(
    n_samples: Any, refine_steps: Any = 0, temperature: Any = None, target_r2: Any = None
) -> tuple[int, int]:
    """n_samples and refine_steps as ints. Raises InputError, one line, for any of the four that `generate` cannot
    take; see there."""
    n_samples, refine_steps = whole_number("n_samples", n_samples, 1), whole_number("refine_steps", refine_steps, 0)
    if temperature is not None and not (_finite(temperature) and temperature >= 0):
        raise InputError(f"temperature must be None or a finite number of at least 0, got {temperature!r}")
    if target_r2 is not None:
        if not (_finite(target_r2) and target_r2 <= 1):
            raise InputError(f"target_r2 must be None or a finite number of at most 1, got {target_r2!r}")
        if temperature is not None or refine_steps:
            raise InputError(
                f"target_r2 goes without temperature and refine_steps, got {temperature!r} and {refine_steps}"
            )
    return n_samples, refine_steps


def _finite(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _some_of(names: Any, allowed: tuple[str, ...]) -> bool:
    """Whether `names` is a sequence with at least one element, all of them allowed."""
    try:
        return len(names) > 0 and all(name in allowed for name in names)
    except TypeError:
        return False
