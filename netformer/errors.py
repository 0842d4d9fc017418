"""Errors a user can mend."""

from __future__ import annotations

import math
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input: one line that says what, where, what is allowed, what was found and the way out.

    The command line and the stages print that line and exit with 2; any other exception keeps its traceback.
    """


def require(options: object, names: Iterable[str], low: int | float, high: int | float = math.inf) -> None:
    """Raises InputError unless every named attribute is a number from `low` to `high`."""
    for name in sorted(names):
        value = getattr(options, name)
        if not low <= value <= high:
            bounds = f"at least {low}" if high == math.inf else f"between {low} and {high}"
            raise InputError(f"{name} must be {bounds}, got {value}")
