"""Errors a user can mend."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from importlib.util import find_spec

# Packages that only some uses need, and the extra with each.
EXTRAS = {"torch": "torch", "pymfe": "metafeatures", "pyarrow": "parquet", "onnx": "export"}


class InputError(ValueError):
    """Bad input: one line that says what, where, what is allowed, what was found and the way out.

    The command line and the stages print that line and exit with 2; any other exception keeps its traceback.
    """


def first_few(parts: Sequence[str], most: int = 8) -> str:
    """At most so many of them with commas between, and how many more, for a message: a, b and 3 more."""
    return ", ".join(parts[:most]) + (f" and {len(parts) - most} more" if len(parts) > most else "")


def require(options: object, names: Iterable[str], low: int | float, high: int | float = math.inf) -> None:
    """Raises InputError unless every named attribute is a number from `low` to `high`."""
    for name in sorted(names):
        value = getattr(options, name)
        if not low <= value <= high:
            bounds = f"at least {low}" if high == math.inf else f"between {low} and {high}"
            raise InputError(f"{name} must be {bounds}, got {value}")


def need(package: str, what: str) -> None:
    """Raises InputError, one line that says how to install it, where a package of `EXTRAS` that `what` needs is
    missing. Nothing is imported."""
    if find_spec(package) is None:
        raise InputError(missing(package, what))


def missing(package: str, what: str) -> str:
    """The line of `need`."""
    return f"{what} needs {package}: pip install 'netformer[{EXTRAS[package]}]'"
