"""NetFormer: networks as data, and a transformer that writes new ones. Public names load on first use."""

from importlib import import_module

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


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'netformer' has no attribute {name!r}; it has {', '.join(sorted(_HOMES))}")
    return getattr(import_module(f"netformer.{_HOMES[name]}"), name)
