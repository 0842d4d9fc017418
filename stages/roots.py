"""Roots: folders in which the stages work apart from the pipeline, with params of their own."""

import hashlib
import json
from collections.abc import Mapping
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from netformer.files import code_digest
from netformer.workers import one_thread
from stages.params import load_params


def write_params(source: Path, root: Path, changes: Mapping[str, Any]) -> None:
    """`params.yaml` under `root`: the params of the file `source`, changed by name, as in {"train.steps": 300}.

    Raises InputError, as `load_params` does, for names that do not exist and values that are not allowed.
    """
    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 1000
    params = yaml.load(source.read_text())
    for where, value in changes.items():
        *sections, key = where.split(".")
        part = params
        for section in sections:
            part = part.setdefault(section, {})
        part[key] = value
    (root / "data").mkdir(parents=True, exist_ok=True)
    yaml.dump(params, root / "params.yaml")
    load_params(root)


def once(repository: Path, root: Path, stage: str) -> Any:
    """Run a stage under `root`, on one thread, unless what `dvc.yaml` says it depends on is as it was.
    Returns what the stage returns, None where it has not run.

    Of code counts what it does, not its comments. Data, models and reports are those of `root`; a folder that is not
    there counts as empty.
    """
    plan = YAML(typ="safe").load((repository / "dvc.yaml").read_text())["stages"][stage]
    params = YAML(typ="safe").load((root / "params.yaml").read_text())
    digest = hashlib.sha256()
    for where in plan.get("params", []):
        value = reduce(lambda section, key: section[key], where.split("."), params)
        digest.update(f"{where}: {json.dumps(value)}\n".encode())
    for name in plan["deps"]:
        path = (root if name.startswith(("data/", "models/", "reports/")) else repository) / name
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            digest.update(code_digest([file]).encode() if file.suffix == ".py" else file.read_bytes())
    stamp = root / "stamps" / stage
    if stamp.exists() and stamp.read_text() == digest.hexdigest():
        return None
    with one_thread():
        result = import_module(f"stages.{stage}").main(root)
    stamp.parent.mkdir(exist_ok=True)
    stamp.write_text(digest.hexdigest())
    return result
