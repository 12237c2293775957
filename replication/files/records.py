"""Results on disk: written atomically, described by a record, checked when read back.

A file or folder appears under its final name only when it is complete, so a killed job leaves nothing half-written.
Beside every result stands a JSON record with its provenance and the sha256 of every file it speaks for.
"""

import contextlib
import datetime
import errno
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from replication.errors import ReplicationError

RECORD = "record.json"
_SEAL = "sha256"  # of the record itself, so that a damaged seed or date does not go unnoticed
_PACKAGES = ("torch", "numpy", "scipy", "pandas", "snakemake")


@contextlib.contextmanager
def atomic(path: Path, *, folder: bool = False) -> Iterator[Path]:
    """A temporary file (or folder) beside ``path`` that takes its name only if the block ends well.

    What an earlier, killed writer of the same path left behind is removed first: there is one writer per path. A folder
    that is replaced steps aside whole, so no moment shows half of it.

    Raises:
        ReplicationError: the disk is full or the place cannot be written to.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    replaced = path.with_name(f".{path.name}.{os.getpid()}.old.tmp")
    left_behind = re.compile(rf"\.{re.escape(path.name)}\.\d+(\.old)?\.tmp")  # and not those of name.json beside name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for stale in path.parent.iterdir():
            if left_behind.fullmatch(stale.name):
                _remove(stale)
        if folder:
            temporary.mkdir()
        yield temporary
        for written in sorted(temporary.rglob("*")) if folder else [temporary]:
            if written.is_file():
                _flush(written)
        if folder and path.exists():
            os.replace(path, replaced)
        os.replace(temporary, path)
    except OSError as error:
        raise writing_failed(path, error) from error
    finally:
        for leftover in (temporary, replaced):
            with contextlib.suppress(OSError):  # it would hide the reason
                _remove(leftover)


def writing_failed(path: Path, error: OSError) -> ReplicationError:
    """The sentence for a write that the operating system refused."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ReplicationError(f"The disk is full while writing {path}; nothing half-written remains: free space and run again.")
    return ReplicationError(f"Cannot write {path} ({error.strerror or error}); make its folder writable and run again.")


def _flush(path: Path) -> None:
    with open(path, "rb+") as handle:
        os.fsync(handle.fileno())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def canonical_json(value: Any) -> str:
    """The one text for a JSON value: sorted keys, no spaces. Hashes and identities are taken of it."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


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


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically; a non-finite number is an error, since JSON has none."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ReplicationError: the file is missing, closed or no JSON.
    """
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise ReplicationError(f"{path} is missing; run the rule that makes it again (snakemake --forcerun).") from None
    except OSError as error:
        raise ReplicationError(f"{path} cannot be read ({error.strerror or error}); mend that and run again.") from None
    except (ValueError, RecursionError) as error:  # ValueError: no JSON, no UTF-8, or a number of thousands of digits
        raise ReplicationError(f"{path} is not valid JSON ({error}); delete it and run again.") from None


def write_record(path: Path, record: Mapping[str, Any], files: list[Path]) -> None:
    """Write the record of ``files``: the given provenance, the sha256 of each, by file name, and that of the record itself."""
    content = {**record, "files": {file.name: sha256(file) for file in files}}
    write_json(path, content | {_SEAL: _sum_of(content)})


def _sum_of(record: Mapping[str, Any]) -> str:
    """sha256 of a record without its own, taken of what reading it back gives: JSON turns keys into text and tuples into lists."""
    as_read = json.loads(json.dumps({key: value for key, value in record.items() if key != _SEAL}))
    return hashlib.sha256(canonical_json(as_read).encode()).hexdigest()


def read_record(path: Path, *, check: bool = True) -> dict[str, Any]:
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


def write_tables(folder: Path, tables: Mapping[str, pd.DataFrame], record: Mapping[str, Any]) -> None:
    """Write tidy tables as CSV into one folder with their record; the folder appears complete or not at all."""
    with atomic(folder, folder=True) as temporary:
        files = []
        for name, table in tables.items():
            files.append(temporary / f"{name}.csv")
            table.to_csv(files[-1], index=False, na_rep="nan", lineterminator="\n")
        write_record(temporary / RECORD, record, files)


def read_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """Tables of one folder by name, checked against their record.

    Raises:
        ReplicationError: a table is missing, changed or no CSV.
    """
    tables = {}
    for name in read_record(Path(folder) / RECORD)["files"]:
        try:
            tables[Path(name).stem] = pd.read_csv(Path(folder) / name)
        except (ValueError, OverflowError, MemoryError) as error:  # pandas' own are kinds of ValueError
            reason = " ".join(str(error).split())  # pandas' own goes over two lines
            raise ReplicationError(f"{Path(folder) / name} is not a table ({reason}); delete {folder} and run again.") from None
    return tables
