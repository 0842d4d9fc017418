"""Extras: packages that only some uses need, and what to install for them.

Importing this module must import none of them.
"""

from __future__ import annotations

from importlib.util import find_spec

from netformer.errors import InputError

EXTRAS = {
    "torch": "torch",
    "pymfe": "metafeatures",
    "pyarrow": "parquet",
    "onnx": "export",
}  # the extra with each package


def need(package: str, what: str) -> None:
    """Raises InputError, one line that says how to install it, where a package that `what` needs is missing."""
    if find_spec(package) is None:
        raise InputError(missing(package, what))


def missing(package: str, what: str) -> str:
    """The line of `need`."""
    return f"{what} needs {package}: pip install 'netformer[{EXTRAS[package]}]'"
