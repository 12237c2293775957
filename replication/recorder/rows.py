"""Rows of equal shape that are added one by one, in memory or in a .npy file that is complete after every row."""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np


def complete_rows(path: Path) -> np.ndarray:
    """The rows of a .npy file as a memory map; without the last ones where the file ends before them, as after a crash of the machine.

    Raises:
        OSError, ValueError: no such file, or one that is no array of rows.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(Path(folder) / "rows.npy", np.ones((3, 2)))
    ...     content = (Path(folder) / "rows.npy").read_bytes()
    ...     _ = (Path(folder) / "rows.npy").write_bytes(content[:-5])
    ...     complete_rows(Path(folder) / "rows.npy").shape
    (2, 2)
    """
    try:
        return np.load(path, mmap_mode="r")
    except ValueError:
        with open(path, "rb") as file:
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            start = file.tell()
        row_bytes = int(np.prod(shape[1:])) * dtype.itemsize
        if not shape or dtype.hasobject or not row_bytes:
            raise
        count = (path.stat().st_size - start) // row_bytes
        return np.memmap(path, dtype, "r", start, (count, *shape[1:])) if count else np.empty((0, *shape[1:]), dtype)


class Rows(Protocol):
    """Rows ``[n_rows, ...]`` that grow at the end."""

    def append(self, row: np.ndarray) -> None:
        """Add one row."""
        ...

    def array(self) -> np.ndarray:
        """All rows so far."""
        ...

    def close(self) -> None:
        """Nothing is added any more."""
        ...


class MemoryRows:
    """Rows in memory.

    Args:
        shape: of one row.
        dtype: of the numbers.
        earlier: rows to begin with.

    >>> rows = MemoryRows((2,), np.dtype("float32"))
    >>> rows.append(np.array([1.0, 2.0]))
    >>> rows.array()
    array([[1., 2.]], dtype=float32)
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype, earlier: Sequence[np.ndarray] = ()) -> None:
        self._shape, self._dtype, self._rows = shape, dtype, list(earlier)

    def append(self, row: np.ndarray) -> None:
        """Add a copy of one row."""
        self._rows.append(np.array(row, dtype=self._dtype))

    def array(self) -> np.ndarray:
        """All rows so far, a copy."""
        return np.stack(self._rows) if self._rows else np.empty((0, *self._shape), dtype=self._dtype)

    def close(self) -> None:
        """Does nothing."""


class FileRows:
    """Rows in a .npy file. The number in its header grows after the row was written, so the file can be read at any moment.

    Args:
        path: the file.
        shape: of one row.
        dtype: of the numbers.
        earlier: rows to begin with, in a new file.
        keep: how many rows of the existing file to go on from; None starts a new one.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> rows = FileRows(Path(folder.name) / "rows.npy", (2,), np.dtype("float32"))
    >>> rows.append(np.array([1.0, 2.0]))
    >>> np.load(Path(folder.name) / "rows.npy").tolist()
    [[1.0, 2.0]]
    >>> rows.close()
    >>> folder.cleanup()
    """

    def __init__(
        self, path: Path, shape: tuple[int, ...], dtype: np.dtype, earlier: Sequence[np.ndarray] = (), *, keep: int | None = None
    ) -> None:
        self._path, self._shape, self._dtype = path, shape, dtype.newbyteorder("<")
        self._count = keep or 0
        if keep is None:
            self._create(earlier)
        self._file: BinaryIO = open(path, "r+b")  # noqa: SIM115 - open as long as the training runs
        if keep is not None:
            self._write_header(self._file)
            self._file.truncate(self._file.tell() + keep * self._row_bytes)
        self._file.seek(0, 2)

    @property
    def _row_bytes(self) -> int:
        return int(np.prod(self._shape)) * self._dtype.itemsize

    def _create(self, earlier: Sequence[np.ndarray]) -> None:
        """The whole file with its first rows under another name, which is changed at the end."""
        temporary = self._path.with_suffix(".new")
        self._count = len(earlier)
        with open(temporary, "wb") as file:
            self._write_header(file)
            for row in earlier:
                file.write(self._bytes(row))
        temporary.replace(self._path)

    def append(self, row: np.ndarray) -> None:
        """Add one row; once this returns, it can be read even if the process is killed."""
        self._file.write(self._bytes(row))
        self._file.flush()
        self._count += 1
        self._file.seek(0)
        self._write_header(self._file)
        self._file.flush()
        self._file.seek(0, 2)

    def array(self) -> np.ndarray:
        """All rows so far, as a memory map."""
        return np.load(self._path, mmap_mode="r") if self._count and self._row_bytes else np.empty((self._count, *self._shape), self._dtype)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _bytes(self, row: np.ndarray) -> bytes:
        return np.ascontiguousarray(row, dtype=self._dtype).tobytes()

    def _write_header(self, file: BinaryIO) -> None:
        """The header has the same length for any number of rows, because numpy leaves room for the first axis to grow."""
        header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": (self._count, *self._shape)}
        np.lib.format.write_array_header_1_0(file, header)
