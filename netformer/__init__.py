"""NetFormer: a transformer that writes small neural networks for a table. Public names load on first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers see of the names below
    from netformer.benchmark.scoring import cross_validate as cross_validate
    from netformer.errors import InputError as InputError
    from netformer.exports.groups import Groups as Groups
    from netformer.exports.population import Bundle as Bundle
    from netformer.exports.population import Population as Population
    from netformer.generation.classifier import NetFormerClassifier as NetFormerClassifier
    from netformer.generation.estimator import NetFormerRegressor as NetFormerRegressor
    from netformer.generation.generator import NetFormer as NetFormer
    from netformer.generation.many import fit_many as fit_many
    from netformer.networks.tokens import detokenize as detokenize
    from netformer.networks.tokens import tokenize as tokenize
    from netformer.sources.formats import export as export
    from netformer.tasks.metafeatures import get_meta_features as get_meta_features
    from netformer.zoo.load import TokenTable as TokenTable
    from netformer.zoo.load import Zoo as Zoo
    from netformer.zoo.load import load_tokens as load_tokens
    from netformer.zoo.load import load_zoo as load_zoo

__version__ = "0.1.0"
_HOMES = {
    "Bundle": "exports.population",
    "Groups": "exports.groups",
    "InputError": "errors",
    "NetFormer": "generation.generator",
    "NetFormerClassifier": "generation.classifier",
    "NetFormerRegressor": "generation.estimator",
    "Population": "exports.population",
    "TokenTable": "zoo.load",
    "Zoo": "zoo.load",
    "cross_validate": "benchmark.scoring",
    "detokenize": "networks.tokens",
    "export": "sources.formats",
    "fit_many": "generation.many",
    "get_meta_features": "tasks.metafeatures",
    "load_tokens": "zoo.load",
    "load_zoo": "zoo.load",
    "tokenize": "networks.tokens",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'netformer' has no attribute {name!r}; it has {', '.join(sorted(_HOMES))}")
    try:
        return getattr(import_module(f"netformer.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        from netformer.errors import EXTRAS, InputError, missing

        if error.name not in EXTRAS:
            raise
        raise InputError(missing(error.name, f"netformer.{name}")) from None
