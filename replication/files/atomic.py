"""Files that appear under their final name only when they are complete, so a killed job leaves nothing half-written."""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from replication.errors import ReplicationError


@contextlib.contextmanager
def atomic(path: Path, *, folder: bool = False) -> Iterator[Path]:
    """A temporary file (or folder) beside ``path`` that takes its name only if the block ends well.

    Files that an earlier, killed writer of the same path left behind are removed first: each path has one writer. A folder
    that is replaced is moved aside whole, so that it is never seen half-written. Folders that were made for it and stay empty are
    removed.

    Raises:
        ReplicationError: the disk is full, or the folder cannot be written to.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with atomic(folder / "result.txt") as temporary:
    ...     size = temporary.write_text("whole")
    >>> [path.name for path in folder.iterdir()]
    ['result.txt']
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    replaced = path.with_name(f".{path.name}.{os.getpid()}.old.tmp")
    absent = [parent for parent in path.parents if not parent.exists()]  # the deepest first
    left_behind = re.compile(rf"\.{re.escape(path.name)}\.\d+(\.old)?\.tmp")  # but not the files of name.json beside name
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
            with contextlib.suppress(OSError):  # an error here would hide the first one
                _remove(leftover)
        for parent in absent:
            with contextlib.suppress(OSError):  # it holds something, as after every write that succeeded
                parent.rmdir()


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
    """Hexadecimal sha256 of a file's bytes.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "empty"
    >>> file.touch()
    >>> sha256(file)[:8]
    'e3b0c442'
    """
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def canonical_json(value: Any) -> str:
    """The one text for a JSON value: sorted keys, no spaces. Hashes are computed from this text.

    >>> canonical_json({"b": 1, "a": [1, 2.5]})
    '{"a":[1,2.5],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically.

    Raises:
        ValueError: a number is not finite, which JSON cannot express.
        ReplicationError: the disk is full, or the folder cannot be written to.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "result.json"
    >>> write_json(file, {"seeds": [0, 1]})
    >>> read_json(file)
    {'seeds': [0, 1]}
    """
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ReplicationError: the file is missing, cannot be read, or is not JSON.

    >>> read_json(Path("absent.json"))
    Traceback (most recent call last):
        ...
    replication.errors.ReplicationError: absent.json is missing; run the rule that makes it again (snakemake --forcerun).
    """
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise ReplicationError(f"{path} is missing; run the rule that makes it again (snakemake --forcerun).") from None
    except OSError as error:
        raise ReplicationError(f"{path} cannot be read ({error.strerror or error}); fix that and run again.") from None
    except (ValueError, RecursionError) as error:  # ValueError: no JSON, no UTF-8, or a number of thousands of digits
        raise ReplicationError(f"{path} is not valid JSON ({error}); delete it and run again.") from None
