"""What code a job depends on: a hash of syntax trees, so that editing a comment or docstring repeats nothing.

Snakemake does not see edits in imported modules; rules carry this fingerprint as a parameter instead.
"""

import ast
import functools
import hashlib
from pathlib import Path

from replication.errors import ReplicationError

_PACKAGES = ("replication", "figures")
# carry results from place to place without changing a number in them
_PLUMBING = {"replication.errors", "replication.records", "replication.configs", "replication.models", "replication"}


def code_fingerprint(*modules: str, root: Path = Path()) -> str:
    """Hash of the given dotted modules and of everything they import from this project, without comments and docstrings.

    Raises:
        ReplicationError: a module has no file or does not parse.
    """
    pending, seen = list(modules), set[str]()
    while pending:
        module = pending.pop()
        if module not in seen and module not in _PLUMBING:
            seen.add(module)
            pending += imports(module, root)
    digest = hashlib.sha256()
    for module in sorted(seen):
        digest.update(f"{module}\n{_tree(_path(module, root))[0]}\n".encode())
    return digest.hexdigest()[:16]


def imports(module: str, root: Path = Path()) -> tuple[str, ...]:
    """Project modules that ``module`` imports."""
    return tuple(name for name in _tree(_path(module, root))[1] if _is_module(name, root))


def _path(module: str, root: Path) -> Path:
    stem = root.joinpath(*module.split("."))
    path = stem.with_suffix(".py")
    return path if path.is_file() else stem / "__init__.py"


def _is_module(name: str, root: Path) -> bool:
    return name.split(".")[0] in _PACKAGES and _path(name, root).is_file()


def _tree(path: Path) -> tuple[str, tuple[str, ...]]:
    try:
        return _parsed(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        raise ReplicationError(f"{path} does not exist; every model, instrument and figure of paper_configs needs its module.") from None
    except SyntaxError as error:
        raise ReplicationError(f"{path} does not parse (line {error.lineno}: {error.msg}); mend it and run again.") from None


@functools.cache
def _parsed(path: Path, _changed: int) -> tuple[str, tuple[str, ...]]:
    """Text of the syntax tree without docstrings, and the dotted names that may be imported modules."""
    tree = ast.parse(path.read_text())
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return ast.dump(tree), tuple(names)
