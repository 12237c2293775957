"""What code a job depends on: a hash of syntax trees, so that editing a comment or docstring repeats nothing.

Snakemake does not see edits in imported modules; rules carry this fingerprint as a parameter instead. Imports are followed; where a
name is imported from a package itself, the package counts with everything that it re-exports, so modules here import leaf modules.
"""

import ast
import functools
import hashlib
import importlib.util
from pathlib import Path

from replication.errors import ReplicationError

_PACKAGES = ("replication", "figures")
_Import = tuple[str, tuple[str, ...]]  # a module or package, and the names imported from it
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
# These carry results without changing a number in them. Where data comes from is the concern of the rule that prepares it.
_PLUMBING = ("replication.errors", "replication.files", "replication.pipeline", "replication.schema", "replication.data.sources")
_REGISTRIES = ("replication", "replication.measurements", "replication.models")  # they find modules by name; a job names those that it uses


def code_fingerprint(*modules: str, root: Path = Path()) -> str:
    """Hash of the given dotted modules and of everything they import from this project, without comments and docstrings.

    Modules that only carry results (files, pipeline, schema) count where they are given by name.

    Raises:
        ReplicationError: a module has no file or does not parse.
    """
    pending, seen = list(modules), set[str]()
    while pending:
        module = pending.pop()
        if module not in seen:
            seen.add(module)
            pending += (name for name in imports(module, root) if not _is_plumbing(name))
    digest = hashlib.sha256()
    for module in sorted(seen):
        digest.update(f"{module}\n{_tree(_path(module, root))[0]}\n".encode())
    return digest.hexdigest()[:16]


def module_fingerprint(module: str, root: Path = Path()) -> str:
    """Hash of one module by itself, without comments and docstrings.

    Raises:
        ReplicationError: the module has no file or does not parse.
    """
    return hashlib.sha256(_tree(_path(module, root))[0].encode()).hexdigest()[:16]


def imports(module: str, root: Path = Path()) -> tuple[str, ...]:
    """Project modules that ``module`` imports."""
    path = _path(module, root)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    imported: list[str] = []
    for base, names in _tree(path)[1]:
        base = importlib.util.resolve_name(base, package)
        modules = [f"{base}.{name}" for name in names if _is_module(f"{base}.{name}", root)]
        # a package counts where a name of its own is imported, and not where only modules of it are
        imported += modules if names and len(modules) == len(names) else [base, *modules]
    return tuple(name for name in imported if _is_module(name, root))


def _is_plumbing(name: str) -> bool:
    return name in _REGISTRIES or any(name == place or name.startswith(f"{place}.") for place in _PLUMBING)


def _path(module: str, root: Path) -> Path:
    stem = root.joinpath(*module.split("."))
    package = stem / "__init__.py"
    return package if package.is_file() else stem.with_suffix(".py")


def _is_module(name: str, root: Path) -> bool:
    return name.split(".")[0] in _PACKAGES and _path(name, root).is_file()


def _tree(path: Path) -> tuple[str, tuple[_Import, ...]]:
    try:
        return _parsed(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ReplicationError(f"{path} does not exist; every model, instrument and figure of paper_configs needs its module.") from None
    except SyntaxError as error:
        raise ReplicationError(f"{path} does not parse (line {error.lineno}: {error.msg}); fix it and run again.") from None
    except UnicodeDecodeError as error:
        raise ReplicationError(f"{path} is not UTF-8 ({error.reason}); fix it and run again.") from None


@functools.cache
def _parsed(source: str) -> tuple[str, tuple[_Import, ...]]:
    """Text of the syntax tree without docstrings, and what is imported from where (relative names too)."""
    tree = ast.parse(source)
    imported: list[_Import] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported += [(alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imported.append(("." * node.level + (node.module or ""), tuple(alias.name for alias in node.names)))
        elif isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return ast.dump(tree), tuple(imported)
