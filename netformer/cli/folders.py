"""Folders: the networks that a command is given by the name of a folder. What reads them loads inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from netformer.errors import InputError

if TYPE_CHECKING:
    from netformer.exports.groups import Groups
    from netformer.exports.population import Population


def load_bundle(path: Path, group: str | None = None) -> Population:
    """The networks in a folder that `generate` wrote, of one with --by those of a group. Raises InputError for a folder
    that is missing or damaged, and for a group that is not there."""
    if not path.is_dir():
        raise InputError(
            f"{path}: no such folder of networks; write it: netformer generate TABLE --target y --out {path}"
        )
    from netformer.exports.bundle import is_groups
    from netformer.exports.population import Population

    if is_groups(path):
        groups = load_groups(path)
        if group is None:
            raise InputError(
                f"{path}: holds a network per {groups.by!r}; name one, such as --group {groups.names[0]!r}"
            )
        return groups[group]
    if group is not None:
        raise InputError(f"{path}: holds no networks by group; leave out --group")
    return Population.load(path)


def load_groups(path: Path) -> Groups:
    """The networks in a folder that `generate --by` wrote. Raises InputError for a folder that is damaged."""
    from netformer.exports.groups import Groups

    return Groups.load(path)


def which_of(text: str, networks: Population) -> Any:
    """wide, mean or the number of a network. Raises InputError for others, and for wide where none was merged."""
    count = len(networks.networks)
    if text == "wide" and networks.wide is None:
        raise InputError(
            f"these networks were searched, none is merged from others; name one: --which 0, .. or --which {count - 1}"
        )
    if text in ("wide", "mean"):
        return text
    if text.isdecimal() and int(text) < count:
        return int(text)
    raise InputError(f"--which must be wide, mean or a network from 0 to {count - 1}, got {text!r}")
