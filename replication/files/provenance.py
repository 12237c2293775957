"""What made a result: a JSON file beside it with configuration, versions, commit and the sha256 of every file it speaks for."""

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

PROVENANCE = "provenance.json"
_SEAL = "sha256"  # of the provenance itself, so that a damaged seed or date does not go unnoticed
_PACKAGES = ("torch", "numpy", "scipy", "pandas", "snakemake")


def provenance(**details: Any) -> dict[str, Any]:
    """What made a result: the given details beside commit, versions, processor and time (UTC)."""
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


def write_provenance(path: Path, record: Mapping[str, Any], files: list[Path]) -> None:
    """Write the record of ``files``: the given provenance, the sha256 of each, by file name, and that of the record itself."""
    content = {**record, "files": {file.name: sha256(file) for file in files}}
    write_json(path, content | {_SEAL: _sum_of(content)})


def _sum_of(record: Mapping[str, Any]) -> str:
    """sha256 of a record without its own, taken of what reading it back gives: JSON turns keys into text and tuples into lists."""
    as_read = json.loads(json.dumps({key: value for key, value in record.items() if key != _SEAL}))
    return hashlib.sha256(canonical_json(as_read).encode()).hexdigest()


def read_provenance(path: Path, *, check: bool = True) -> dict[str, Any]:
    """The record at ``path``; with ``check`` every file it names must be there with the recorded sum.

    Raises:
        ReplicationError: the record is damaged, or a file is missing or was changed since it was recorded.
    """
    record = read_json(path)
    files = record.get("files") if isinstance(record, dict) else None
    if not isinstance(files, dict) or not all(isinstance(recorded, str) for recorded in files.values()):
        raise ReplicationError(f"{path} is not a record (it names no files); delete it and run again.")
    if (seal := record.pop(_SEAL, None)) not in (None, _sum_of(record)):  # older records have none
        raise ReplicationError(
            f"{path} was changed or damaged after it was written (its own sum is not {seal!r}); delete it and run again."
        )
    if strange := [
        name for name in files if not name.isprintable() or len(name.encode()) > 255 or Path(name).name != name or name in ("", "..")
    ]:
        raise ReplicationError(f"{path} names {strange[0][:60]!r}, which is no file beside it; delete it and run again.")
    for name, recorded in files.items() if check else ():
        file = Path(path).parent / name
        if not file.is_file():
            raise ReplicationError(f"{file} is missing though {Path(path).name} names it; delete {Path(path).parent} and run again.")
        if sha256(file) != recorded:
            raise ReplicationError(
                f"{file} was changed or damaged after it was written (its sha256 is not the recorded {recorded[:12]}...); "
                f"delete {Path(path).parent} and run again."
            )
    return record
