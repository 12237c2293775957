"""The house stays in order: no circles, arrows between packages point down, modules and functions stay short, packages name their rooms."""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

from replication import models
from replication.pipeline import configs

MOST_LINES, MOST_LINES_OF_A_FUNCTION = 330, 60
PACKAGE = ROOT / "replication"
# A package or module of the top level imports only from those on the floors below it.
FLOORS = [
    {"errors"},
    {"files", "machine", "models", "objective", "seeds", "palette"},
    {"recorder", "activations", "drawing"},
    {"schema", "data", "lca", "svcca", "landscape", "stiffness"},
    {"claims", "curvature", "plots", "training"},
    {"measurements"},
    {"pipeline"},
    {"recording"},
    {"cli"},
    {"__main__"},
]


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
PACKAGES = sorted(name for name, path in MODULES.items() if path.name == "__init__.py" and name != "replication")


def room(module: str) -> str:
    """The package or module of the top level that holds ``module``."""
    return module.split(".")[1]


def imports(module: str) -> Iterator[str]:
    """Modules of this project that a module imports anywhere in its text, other than for type checkers."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If)
        for inner in ast.walk(node)
        if "TYPE_CHECKING" in ast.unparse(node.test)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            submodules = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else node.module for name in submodules)


def test_no_module_imports_itself_through_others() -> None:
    graph = {module: {name for name in imports(module) if name not in ("replication", module)} for module in MODULES}
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError with the circle


def test_every_room_stands_on_a_floor() -> None:
    assert {room(module) for module in MODULES if module != "replication"} == set().union(*FLOORS)


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"replication"}))
def test_arrows_between_packages_point_down(module: str) -> None:
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    for imported in imports(module):
        if imported != "replication" and room(imported) != room(module):
            assert floor[room(imported)] < floor[room(module)], f"{module} imports {imported}"


def length(function: ast.FunctionDef) -> int:
    """Lines without the docstring, whose examples are welcome."""
    first = function.body[0]
    documented = ast.get_docstring(function) is not None
    return function.end_lineno - function.lineno + 1 - (first.end_lineno - first.lineno + 1 if documented else 0)  # type: ignore[operator]


@pytest.mark.parametrize("module", MODULES)
def test_modules_and_functions_are_short(module: str) -> None:
    text = MODULES[module].read_text(encoding="utf-8")
    assert text.count("\n") <= MOST_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert length(node) <= MOST_LINES_OF_A_FUNCTION, f"{module}.{node.name}"


def registered(package: str) -> set[str]:
    """Modules that a registry of the package finds by name: families of networks, instruments of paper_configs."""
    if package == "replication.models":
        return {models.entry_of(name).family for name in models.names()}
    if package == "replication.measurements":
        papers = configs.load("full", ROOT / "paper_configs").values()
        return {measurement.instrument for paper in papers for measurement in paper.measurements.values()}
    return set()


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_says_which_modules_it_has(package: str) -> None:
    text = ast.get_docstring(ast.parse(MODULES[package].read_text(encoding="utf-8"))) or ""
    inside = {module.rpartition(".")[2] for module in MODULES if module.rpartition(".")[0] == package}
    unnamed = {name for name in inside - registered(package) if f"``{name}``" not in text and f"`{name}`" not in text}
    assert not unnamed


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_has_the_name_of_something_its_package_exports(package: str) -> None:
    """``from replication.lca import ledger`` must mean one thing."""
    inside = {module.rpartition(".")[2] for module in MODULES if module.rpartition(".")[0] == package}
    defined = {
        alias.asname or alias.name
        for node in ast.walk(ast.parse(MODULES[package].read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module in MODULES
        for alias in node.names
        if f"{node.module}.{alias.name}" not in MODULES
    }
    assert not inside & defined


def test_names_of_test_files_are_unique() -> None:
    """Pytest imports test files by their base name alone."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
