"""What a recorder kept: weights and buffers of every kept step, with their names and shapes."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import torch
from torch import Tensor

from replication.errors import ReplicationError
from replication.recorder.rows import complete_rows

SPECIFICATION, WEIGHTS, STEPS, FIRST_BUFFERS = "recording.json", "trajectory.npy", "steps.npy", "first_buffers.npy"
OUTSIDE = "outside.npz"
BUFFER_FILES = "buffer-*.npy"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape and type (as torch writes it, such as "float32") of a parameter or buffer."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @classmethod
    def of(cls, name: str, tensor: Tensor) -> "TensorSpec":
        """What describes ``tensor``."""
        return cls(name, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))

    @property
    def is_floating_point(self) -> bool:
        """Whether the numbers are floating-point ones."""
        return "float" in self.dtype

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape))


@dataclass(frozen=True)
class Specification:
    """What the columns of a recording are.

    Attributes:
        parameters, buffers: in the order of the columns.
        only_trainable: whether parameters without gradients were left out.
    """

    parameters: tuple[TensorSpec, ...]
    buffers: tuple[TensorSpec, ...]
    only_trainable: bool

    def write(self, folder: Path) -> None:
        """As JSON, complete or not at all."""
        entries = {
            "parameters": [vars(spec) for spec in self.parameters],
            "buffers": [vars(spec) for spec in self.buffers],
            "only_trainable": self.only_trainable,
        }
        temporary = folder / f"{SPECIFICATION}.new"
        temporary.write_text(json.dumps(entries, indent=1), encoding="utf-8")
        temporary.replace(folder / SPECIFICATION)

    @classmethod
    def read(cls, folder: Path) -> "Specification":
        """The inverse of ``write``.

        Raises:
            ReplicationError: there is no recording, or its description cannot be read.
        """
        try:
            entries = json.loads((folder / SPECIFICATION).read_text(encoding="utf-8"))
            parameters, buffers = (
                tuple(TensorSpec(entry["name"], tuple(entry["shape"]), entry["dtype"]) for entry in entries[kind])
                for kind in ("parameters", "buffers")
            )
            return cls(parameters, buffers, entries["only_trainable"])
        except OSError:
            raise ReplicationError(f"{folder} holds no recording: {SPECIFICATION} is missing; give a Recorder's folder.") from None
        except (ValueError, KeyError, TypeError) as error:
            raise ReplicationError(f"{folder / SPECIFICATION} cannot be read ({error!r}); record the training again.") from None


@dataclass(frozen=True)
class RecordedPath:
    """Weights and buffers after some of the steps of a training.

    Attributes:
        specification: names, shapes and types.
        trajectory: parameters one after the other ``[n_kept, n_parameters]``; a memory map where it was read from a folder.
        steps: after how many steps each row was kept ``[n_kept]``.
        first_buffers: all real buffers of the state dict before the first step ``[n_buffers]``, without batch norm's number of batches.
        moving: the buffers that changed during training, by name ``[n_kept, size]``; all others stayed as they were first.
        outside: first values of plain numbers in attributes and of buffers in no state dict that changed, by name; no row holds them.

    >>> import tempfile
    >>> from replication.recorder import Recorder
    >>> folder = tempfile.TemporaryDirectory()
    >>> with Recorder(torch.nn.Linear(2, 1), folder=folder.name) as recorder:
    ...     recorder.step()
    >>> path = RecordedPath.read(folder.name)
    >>> [spec.name for spec in path.specification.parameters], path.trajectory.shape
    (['weight', 'bias'], (2, 3))
    >>> folder.cleanup()
    """

    specification: Specification
    trajectory: np.ndarray
    steps: np.ndarray
    first_buffers: np.ndarray
    moving: Mapping[str, np.ndarray]
    outside: Mapping[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path | str) -> "RecordedPath":
        """A recording from its folder, also while it is written, or after the training was killed.

        Rows that a file lacks at its end are left out, which the logger ``replication.recorder`` says at level INFO.

        Raises:
            ReplicationError: there is no recording in the folder.
        """
        folder = Path(folder)
        specification = Specification.read(folder)
        try:
            steps = np.array(complete_rows(folder / STEPS))  # a row's number is written last, when its weights and buffers are there
            files = {spec.name: buffer_file(folder, spec.name) for spec in specification.buffers}
            moving = {name: complete_rows(path) for name, path in files.items() if path.exists()}
            width = sum(spec.size for spec in specification.parameters)
            trajectory = complete_rows(folder / WEIGHTS) if width and len(steps) else np.empty((len(steps), width), dtype=np.float32)
            n = min(len(rows) for rows in (steps, trajectory, *moving.values()))
            if n < len(steps):
                _LOG.info("The recording in %s has %d complete rows of %d; the files end before the others.", folder, n, len(steps))
            cut = {name: rows[:n] for name, rows in moving.items()}
            return cls(specification, trajectory[:n], steps[:n], np.load(folder / FIRST_BUFFERS), cut, read_outside(folder))
        except (OSError, ValueError) as error:
            raise ReplicationError(f"The recording in {folder} cannot be read ({error}); record the training again.") from None

    def __len__(self) -> int:
        """Number of kept rows."""
        return len(self.steps)

    @property
    def is_partial(self) -> bool:
        """Whether parameters without gradients were left out."""
        return self.specification.only_trainable

    @property
    def buffers(self) -> np.ndarray:
        """The floating-point buffers that changed, side by side ``[n_kept, n_moving]``: for batch norm the running means and variances."""
        moving = [spec for spec in self.specification.buffers if spec.name in self.moving and spec.is_floating_point]
        rows = [self.moving[spec.name] for spec in moving]
        return np.concatenate(rows, axis=1) if rows else np.empty((len(self), 0), dtype=self.first_buffers.dtype)

    def tensors(self, index: int) -> dict[str, Tensor]:
        """The parameters and buffers of one row, by name and in their shapes."""
        pieces = _cut(np.array(self.trajectory[index]), self.specification.parameters)
        buffers = _cut(self.first_buffers, self.specification.buffers)
        for spec in self.specification.buffers:
            if spec.name in self.moving:
                buffers[spec.name] = torch.as_tensor(np.array(self.moving[spec.name][index])).view(spec.shape)
            pieces[spec.name] = buffers[spec.name].to(getattr(torch, spec.dtype))
        return pieces


def buffer_file(folder: Path, name: str) -> Path:
    """Where the rows of a buffer are kept once it has changed."""
    return folder / f"buffer-{quote(name, safe='')}.npy"


def write_outside(folder: Path, values: Mapping[str, np.ndarray]) -> None:
    """Keep first values of what no row holds, complete or not at all."""
    temporary = folder / f"new-{OUTSIDE}"
    arrays: dict[str, Any] = {quote(name, safe=""): value for name, value in values.items()}
    np.savez(temporary, **arrays)
    temporary.replace(folder / OUTSIDE)


def read_outside(folder: Path) -> dict[str, np.ndarray]:
    """The inverse of ``write_outside``; nothing where there is no file."""
    if not (folder / OUTSIDE).exists():
        return {}
    with np.load(folder / OUTSIDE) as file:
        return {unquote(name): file[name] for name in file.files}


def _cut(vector: np.ndarray, specs: tuple[TensorSpec, ...]) -> dict[str, Tensor]:
    pieces = torch.as_tensor(vector).split([spec.size for spec in specs])
    return {spec.name: piece.view(spec.shape) for spec, piece in zip(specs, pieces, strict=True)}
