"""NetFormer: networks as data, and a transformer that writes new ones. Public names load on first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers see of the names below
    from netformer.bundle import Bundle as Bundle
    from netformer.estimator import NetFormerRegressor as NetFormerRegressor
    from netformer.exports import export as export
    from netformer.loaders import TokenTable as TokenTable
    from netformer.loaders import Zoo as Zoo
    from netformer.loaders import load_tokens as load_tokens
    from netformer.loaders import load_zoo as load_zoo
    from netformer.metafeatures import get_meta_features as get_meta_features
    from netformer.sampling import NetFormer as NetFormer
    from netformer.sampling import Population as Population
    from netformer.tokens import detokenize as detokenize
    from netformer.tokens import tokenize as tokenize

__version__ = "0.1.0"

_HOMES = {
    "Bundle": "bundle",
    "NetFormer": "sampling",
    "NetFormerRegressor": "estimator",
    "Population": "sampling",
    "TokenTable": "loaders",
    "Zoo": "loaders",
    "detokenize": "tokens",
    "export": "exports",
    "get_meta_features": "metafeatures",
    "load_tokens": "loaders",
    "load_zoo": "loaders",
    "tokenize": "tokens",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'netformer' has no attribute {name!r}; it has {', '.join(sorted(_HOMES))}")
    return getattr(import_module(f"netformer.{_HOMES[name]}"), name)
