"""Layout: packages in the order in which the method is told; imports run one way, and nothing is too large to read."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "netformer"
# A package imports those before it and the ground, never one after it.
ORDER = (
    "arrays",
    "tables",
    "networks",
    "tasks",
    "exports",
    "sources",
    "zoo",
    "model",
    "training",
    "teacher",
    "growing",
    "generation",
    "search",
    "evaluation",
    "benchmark",
    "readers",
    "report",
    "cli",
)
MOST_IN_A_PACKAGE = 12  # modules, beside `__init__`
MOST_AT_THE_TOP = 8  # of `netformer/`, `__init__` and `__main__` among them
GROUND = {"artifacts", "errors", "files", "options", "ridge", "workers"}  # modules at the top
FLOOR = {
    "artifacts": "tasks",
    "ridge": "arrays",
}  # of the ground, what reads a package and is read only by those after it


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
        assert 2 <= len(list(package.glob("[!_]*.py"))) <= MOST_IN_A_PACKAGE, package.name
    assert {path.stem for path in PACKAGE.glob("[!_]*.py")} <= GROUND
    assert len(list(PACKAGE.glob("*.py"))) <= MOST_AT_THE_TOP


MOST_PARAMETERS = 12
# scikit-learn takes settings as arguments; a command's options are its arguments; compiled loops take arrays.
MAY_HAVE_MORE = {"generation/estimator.py", "cli/app.py", "cli/evaluate.py", "cli/search.py", "zoo/kernel.py"}


def functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    """Functions, methods and classes of a module with their dotted names, not those inside functions."""
    waiting: list[tuple[str, ast.AST]] = [("", ast.parse(path.read_text()))]
    while waiting:
        prefix, owner = waiting.pop()
        for node in ast.iter_child_nodes(owner):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield prefix + node.name, node
                if isinstance(node, ast.ClassDef):
                    waiting.append((f"{prefix}{node.name}.", node))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_function_takes_more_than_twelve_parameters(path: Path) -> None:
    if str(path.relative_to(PACKAGE)) in MAY_HAVE_MORE:
        return
    for name, node in functions(path):
        if isinstance(node, ast.FunctionDef):
            every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            count = len([argument for argument in every if argument.arg not in ("self", "cls")])
            assert count <= MOST_PARAMETERS, f"{name} has {count}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_public_function_has_a_docstring(path: Path) -> None:
    public = [(name, node) for name, node in functions(path) if not any(part[0] == "_" for part in name.split("."))]
    assert [name for name, node in public if ast.get_docstring(node) is None] == []


STAGES = ("download", "zoo", "tokenize", "metafeatures", "train", "sample", "evaluate", "search")


@pytest.mark.parametrize(
    ("module", "stages"),
    [
        ("netformer/model/vae.py", {"train", "sample", "evaluate", "search"}),
        ("netformer/zoo/kernel.py", {"zoo", "evaluate"}),  # the evaluation trains networks from scratch
        ("netformer/zoo/schedule.py", {"zoo", "train", "evaluate"}),
        ("netformer/generation/merging.py", {"evaluate"}),
        ("netformer/evaluation/ablation.py", set()),
        ("netformer/evaluation/card.py", set()),
        ("netformer/tasks/families.py", {"download", "train"}),
        ("stages/params.py", set()),  # what it passes on is under `params`
    ],
)
def test_an_edit_reruns_the_stages_that_need_it_and_no_other(module: str, stages: set[str]) -> None:
    plan = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
    assert set(plan) == set(STAGES)
    assert {name for name in STAGES if module in plan[name]["deps"]} == stages


def test_no_file_is_longer_than_350_lines() -> None:
    files = [path for folder in ("netformer", "stages", "bench", "tests") for path in (ROOT / folder).rglob("*.py")]
    long = {str(path.relative_to(ROOT)): n for path in files if (n := len(path.read_text().splitlines())) > 350}
    assert long == {}
