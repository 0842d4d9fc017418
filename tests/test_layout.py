"""Layout: packages in the order in which the method is told; imports run one way, and nothing is too large to read."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "netformer"
# A package imports those before it and the ground, never one after it.
ORDER = (
    "tables",
    "networks",
    "tasks",
    "exports",
    "zoo",
    "model",
    "training",
    "generation",
    "evaluation",
    "report",
    "cli",
)
GROUND = {"artifacts", "errors", "files", "options", "ridge", "schedule", "workers"}  # modules at the top
FLOOR = {"artifacts": "tasks"}  # of the ground, what reads a package and is read only by those after it


def imported(path: Path) -> set[str]:
    """Names of ours a module imports, also inside functions: `netformer.tasks.view`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    parts = {path.stem for path in PACKAGE.iterdir()}
    return {name for name in names if name.startswith("netformer.") and name.split(".")[1] in parts}


def floor(part: str) -> int:
    if part in GROUND:
        return ORDER.index(FLOOR[part]) if part in FLOOR else -1
    return ORDER.index(part)


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name not in ("__init__.py", "__main__.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    for name in imported(path):
        other = name.split(".")[1]
        if other != parts[0]:
            assert floor(other) <= floor(parts[0]), f"{'.'.join(parts)} imports {name}, which comes later"


def test_no_circle_between_modules() -> None:
    known = {".".join(("netformer", *p.relative_to(PACKAGE).with_suffix("").parts)): p for p in MODULES}
    arrows = {name: imported(path) & set(known) for name, path in known.items()}
    while free := [name for name, others in arrows.items() if not others & set(arrows)]:
        for name in free:
            del arrows[name]
    assert sorted(arrows) == []


def test_every_package_is_described_and_of_a_size_to_read() -> None:
    packages = sorted(path.parent for path in PACKAGE.glob("*/__init__.py"))
    assert sorted(package.name for package in packages) == sorted(ORDER)
    for package in packages:
        tree = ast.parse((package / "__init__.py").read_text())
        assert [type(node) for node in tree.body] == [ast.Expr], f"{package.name}/__init__ must be one docstring"
        assert "Read `" in (ast.get_docstring(tree) or "")
        assert 2 <= len(list(package.glob("[!_]*.py"))) <= 10, package.name
    assert {path.stem for path in PACKAGE.glob("[!_]*.py")} <= GROUND
