"""The package: what it installs, what it asks for, and that importing it does nothing else."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

import netformer

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BASE = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
# What scikit-learn cannot be installed without.
WITH_SKLEARN = {"joblib", "scipy", "threadpoolctl"}
OF_AN_EXTRA = {"networks.tokens", "zoo.load"}  # homes of public names that need torch
PROBE = """
import json, os, random, sys

import numpy as np
import sklearn.base  # sets KMP_* in the environment
import torch

def state():
    generators = random.getstate(), np.random.get_state()[1].tolist(), torch.random.get_rng_state().tolist()
    switches = torch.get_default_dtype(), torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled()
    return generators, torch.get_num_threads(), torch.get_num_interop_threads(), switches, np.geterr(), dict(os.environ)

seen = []

def watch(event, args):
    writes = event == "open" and (args[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if writes or event in ("os.mkdir", "socket.connect", "socket.getaddrinfo", "subprocess.Popen"):
        seen.append(f"{event} {args}")

before = state()
sys.addaudithook(watch)
NAMES
assert state() == before
print(json.dumps(seen))
"""


def run(code: str) -> str:
    """What `code` prints in a fresh interpreter that sees this checkout, warnings being errors."""
    command = [sys.executable, "-B", "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def imports(path: Path, lazy: bool) -> set[str]:
    """Dotted names a module imports; with `lazy`, those inside functions too. Without what is for type checkers."""
    found, nodes = set(), list(ast.parse(path.read_text()).body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        elif lazy or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            nodes += ast.iter_child_nodes(node)
    return found


def distributions(lazy: bool) -> set[str]:
    """Distributions reached from the public names and the command line, through every module of ours on the way; at
    import without those that need an extra."""
    homes = {home for home in netformer._HOMES.values() if lazy or home not in OF_AN_EXTRA}
    start = {f"netformer.{home}" for home in homes} | {"netformer.cli.app"}
    modules, waiting, others = set(), start, set()
    while waiting:
        name = waiting.pop()
        path = ROOT / f"{name.replace('.', '/')}.py"
        if name.startswith("netformer.") and name not in modules and path.exists():
            modules.add(name)
            waiting |= imports(path, lazy)
        elif not name.startswith("netformer"):
            others.add(name.partition(".")[0])
    homes = packages_distributions()
    return {canonicalize_name(homes[name][0]) for name in others - sys.stdlib_module_names}


def pins() -> dict[str, Requirement]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    parsed = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(item.name): item for item in parsed}


def declared() -> list[str]:
    extras = PROJECT["optional-dependencies"].values()
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in extra)]
    return [line for line in lines if not line.startswith("netformer[")]


@pytest.mark.parametrize("line", declared())
def test_the_pinned_list_has_every_dependency_at_a_version_it_allows(line):
    wanted = Requirement(line)
    pin = pins().get(canonicalize_name(wanted.name))
    assert pin is not None, f"requirements.txt must list {wanted.name}"
    lowest = [s.version for s in pin.specifier if s.operator in ("==", ">=")]
    assert not wanted.specifier or (lowest and wanted.specifier.contains(lowest[0])), f"{pin} must satisfy {wanted}"


def test_base_dependencies_are_what_the_public_names_import():
    """No more, and no less: what loads with a module must be there; what a function imports may be an extra."""
    assert distributions(lazy=False) - WITH_SKLEARN <= BASE
    of_the_command_line = {"typer", "rich"}
    assert distributions(lazy=True) >= BASE - of_the_command_line


def test_import_alone_loads_no_other_package():
    code = (
        "import json, sys; before = set(sys.modules); import netformer; print(json.dumps([*set(sys.modules) - before]))"
    )
    loaded = {name.partition(".")[0] for name in json.loads(run(code))}
    assert loaded - sys.stdlib_module_names == {"netformer"}


def test_public_names_load_neither_pipeline_nor_plots_nor_compilers():
    names = "; ".join(f"netformer.{name}" for name in netformer.__all__)
    loaded = set(run(f"import sys, netformer; {names}; print(*sys.modules)").split())
    heavy = {"catboost", "dvc", "dvclive", "lightning_fabric", "matplotlib", "numba", "onnx", "pymfe", "statsmodels"}
    assert not heavy & loaded


def test_the_estimator_is_there_before_torch_is():
    """torch takes a second to import: it waits for fit, predict or load."""
    loaded = set(run("import sys; from netformer import NetFormerRegressor as R; R(); print(*sys.modules)").split())
    assert "netformer.generation.estimator" in loaded
    assert "torch" not in loaded


def test_type_checkers_see_every_public_name():
    source = ast.parse(Path(netformer.__file__).read_text())
    shown = next(node for node in source.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
    homes = {n.names[0].name: n.module for n in shown.body if isinstance(n, ast.ImportFrom)}
    assert homes == {name: f"netformer.{home}" for name, home in netformer._HOMES.items()}


def test_import_has_no_side_effects():
    """Global generators, threads, dtype, environment stay as they were; no file is written, no process or socket."""
    names = "\n".join(["import netformer", *(f"netformer.{name}" for name in netformer.__all__)])
    assert json.loads(run(PROBE.replace("NAMES", names))) == []


def test_unknown_names_are_refused_with_those_there_are():
    with pytest.raises(AttributeError, match=r"has no attribute 'NetFormr'; it has .*NetFormerRegressor"):
        netformer.NetFormr  # noqa: B018


def test_the_version_is_in_one_place():
    assert re.fullmatch(r"\d+\.\d+\.\d+", netformer.__version__)
    assert "version" not in PROJECT
    assert PROJECT["dynamic"] == ["version"]
    newest = re.search(r"^## \[(\d[^]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == netformer.__version__


def test_the_package_is_typed_and_carries_its_licence():
    assert (ROOT / "netformer" / "py.typed").exists()
    assert (ROOT / "LICENSE").read_text().startswith(f"{PROJECT['license']} License")


def test_a_release_is_published_without_a_stored_token():
    workflow = YAML(typ="safe").load(ROOT / ".github" / "workflows" / "publish.yml")
    build, publish = workflow["jobs"]["build"], workflow["jobs"]["publish"]
    assert workflow["on"] == {"release": {"types": ["published"]}}
    assert publish["needs"] == "build"
    assert publish["permissions"] == {"id-token": "write"}
    assert "secrets" not in (ROOT / ".github" / "workflows" / "publish.yml").read_text()
    commands = [step["run"] for step in build["steps"] if "run" in step]
    assert any("clean/bin/netformer generate" in command for command in commands)


@pytest.mark.skipif(find_spec("netformer.cli") is None, reason="no command line yet")
def test_the_console_script_exists():
    module, name = PROJECT["scripts"]["netformer"].split(":")
    assert callable(getattr(import_module(module), name))
