"""What made a result: a JSON file beside it with configuration, versions, commit, and the sha256 of every file it describes."""

import contextlib
import datetime
import functools
import hashlib
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from replication.errors import ReplicationError
from replication.files.atomic import canonical_json, read_json, sha256, write_json

PROVENANCE = "provenance.json"  # of a folder
_SEAL = "sha256"  # of the provenance itself, so that a damaged seed or date does not go unnoticed
_PACKAGES = ("torch", "numpy", "scipy", "pandas", "snakemake")


def collect_provenance(**details: Any) -> dict[str, Any]:
    """What makes a result: the given details beside commit, versions, processor and time (UTC).

    >>> sorted(collect_provenance(seed=3))
    ['commit', 'created', 'processor', 'seed', 'versions']
    """
    return {
        **details,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES},
        "processor": processor(),
    }


@functools.cache
def _commit() -> str:
    """The commit of this checkout, with ``+dirty`` where files differ from it; ``unknown`` outside a checkout."""
    here = Path(__file__).parent
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run(["git", "status", "--porcelain"], cwd=here, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}+dirty" if changed.strip() else commit


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def processor() -> str:
    """Name of the processor, as the system gives it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def provenance_file(result: Path) -> Path:
    """Where the provenance of one file, or of the files of one figure (named without ending), lies.

    >>> provenance_file(Path("parts/0.npz")).name, provenance_file(Path("figures/lca_layers")).name
    ('0.npz.provenance.json', 'lca_layers.provenance.json')
    """
    return result.with_name(f"{result.name}.{PROVENANCE}")


def write_provenance(path: Path, provenance: Mapping[str, Any], files: list[Path]) -> None:
    """Write the provenance of ``files`` to ``path``, with the sha256 of each file, by file name, and of the provenance itself.

    >>> import tempfile
    >>> result = Path(tempfile.mkdtemp()) / "result.txt"
    >>> result.touch()
    >>> write_provenance(provenance_file(result), {"seed": 3}, [result])
    >>> sorted(read_json(provenance_file(result)))
    ['files', 'seed', 'sha256']
    """
    content = {**provenance, "files": {file.name: sha256(file) for file in files}}
    write_json(path, content | {_SEAL: _seal_of(content)})


def _seal_of(provenance: Mapping[str, Any]) -> str:
    """sha256 of a provenance without its own seal, of the value as it is read back: JSON turns keys into text, tuples into lists."""
    as_read = json.loads(json.dumps({key: value for key, value in provenance.items() if key != _SEAL}))
    return hashlib.sha256(canonical_json(as_read).encode()).hexdigest()


def read_provenance(path: Path, *, check: bool = True) -> dict[str, Any]:
    """The provenance at ``path``; with ``check``, every file that it names must exist with the sha256 that it states.

    Raises:
        ReplicationError: the provenance is damaged, or a file is missing or was changed after it was written.

    >>> import tempfile
    >>> result = Path(tempfile.mkdtemp()) / "result.txt"
    >>> result.touch()
    >>> write_provenance(provenance_file(result), {"seed": 3}, [result])
    >>> read_provenance(provenance_file(result))["seed"]
    3
    """
    provenance = read_json(path)
    files = provenance.get("files") if isinstance(provenance, dict) else None
    if not isinstance(files, dict) or not all(isinstance(checksum, str) for checksum in files.values()):
        raise ReplicationError(f"{path} is not a provenance (it names no files); delete it and run again.")
    if (seal := provenance.pop(_SEAL, None)) not in (None, _seal_of(provenance)):  # older ones have no seal
        raise ReplicationError(
            f"{path} was changed or damaged after it was written (its own sum is not {seal!r}); delete it and run again."
        )
    _check_names(path, files)
    for name, checksum in files.items() if check else ():
        file = Path(path).parent / name
        if not file.is_file():
            raise ReplicationError(f"{file} is missing though {Path(path).name} names it; delete {Path(path).parent} and run again.")
        if sha256(file) != checksum:
            raise ReplicationError(
                f"{file} was changed or damaged after it was written (its sha256 is not the recorded {checksum[:12]}...); "
                f"delete {Path(path).parent} and run again."
            )
    return provenance


def _check_names(path: Path, files: Mapping[str, str]) -> None:
    """Each name must be that of a file in the same folder: a provenance may come from a stranger's archive."""
    for name in files:
        if not name.isprintable() or len(name.encode()) > 255 or Path(name).name != name or name in ("", ".."):
            raise ReplicationError(f"{path} names {name[:60]!r}, which is not a file beside it; delete it and run again.")
