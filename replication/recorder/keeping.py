"""Reads a model's parameters and buffers and adds them as rows, in memory or in a folder."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from replication.errors import ReplicationError
from replication.objective.networks import unwrapped
from replication.objective.vector import batch_counts, plain_numbers
from replication.recorder.recorded import (
    BUFFER_FILES,
    FIRST_BUFFERS,
    OUTSIDE,
    SPECIFICATION,
    STEPS,
    WEIGHTS,
    RecordedPath,
    Specification,
    TensorSpec,
    buffer_file,
    read_outside,
    write_outside,
)
from replication.recorder.rows import FileRows, MemoryRows, Rows

_STEP_NUMBERS = np.dtype(np.int64)


class Keeper:
    """Rows of a model's weights and of the buffers that change. The first row is taken at once, or found in an earlier recording.

    Args:
        model: the network; read, never changed.
        folder: where to keep the rows; None for memory.
        append: continue the recording in ``folder``.
        only_trainable: leave out parameters that do not require gradients.

    Attributes:
        steps: after how many steps each row was taken.

    Raises:
        ReplicationError: as in ``Recorder``.

    >>> keeper = Keeper(nn.Linear(1, 1), None)
    >>> keeper.keep(1)
    >>> keeper.steps, keeper.path.trajectory.shape
    ([0, 1], (2, 2))
    """

    def __init__(self, model: nn.Module, folder: Path | None, *, append: bool = False, only_trainable: bool = False) -> None:
        self.steps: list[int] = []
        self._model, self._folder = unwrapped(model), folder
        parameters, buffers = _parameters(self._model), _state_buffers(self._model)
        if only_trainable:
            parameters = {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
        specs = tuple(TensorSpec.of(name, tensor) for name, tensor in parameters.items())
        _check_types(specs)
        buffer_specs = tuple(TensorSpec.of(name, tensor) for name, tensor in buffers.items())
        self._specification = Specification(specs, buffer_specs, only_trainable)
        self._dtype, self._buffer_dtype = _common_dtype(specs), _common_dtype(buffer_specs)
        self._first_buffers = _flat(buffers, self._buffer_dtype)
        self._moving: dict[str, Rows] = {}
        self._last, self._sums = np.empty(0), self._sums_of_left_out()
        self._outside = {name: value.clone() if isinstance(value, Tensor) else value for name, value in state_outside(self._model).items()}
        self._outside_changed: dict[str, np.ndarray] = {}
        earlier = None if folder is None else self._earlier(folder, append)
        if earlier is None or folder is None:
            self._weights, self._numbers = self._new_files()
            self.keep(0)
        else:
            self._weights, self._numbers = self._continue(folder, earlier)

    @property
    def path(self) -> RecordedPath:
        """All rows so far."""
        moving = {name: rows.array() for name, rows in self._moving.items()}
        return RecordedPath(
            self._specification, self._weights.array(), np.array(self.steps), self._first_buffers, moving, dict(self._outside_changed)
        )

    def keep(self, step: int) -> None:
        """One more row. The number of its step is written last, so a row with a number is complete.

        Raises:
            ReplicationError: parameters or buffers came, went or have another shape.
        """
        weights, buffers = _flat(self._kept_parameters(step), self._dtype), self._kept_buffers(step)
        self._check_left_out(step)
        self._note_changes_outside()
        self._weights.append(weights)
        self._last = weights
        for name, (first, now) in buffers.items():
            if name in self._moving:
                self._moving[name].append(now)
            elif not np.array_equal(now, first, equal_nan=True):
                file = None if self._folder is None else buffer_file(self._folder, name)
                self._moving[name] = _rows(file, (now.size,), self._buffer_dtype, [*([first] * len(self.steps)), now.copy()])
        self.steps.append(step)
        self._numbers.append(np.array(step))

    @property
    def is_current(self) -> bool:
        """Whether the model has the weights of the last row."""
        return np.array_equal(_flat(self._kept_parameters(self.steps[-1]), self._dtype), self._last, equal_nan=True)

    def check_unchanged(self) -> None:
        """Raise an error unless the model has the weights of the last row.

        Raises:
            ReplicationError: it has others.
        """
        if not self.is_current:
            raise ReplicationError(
                f"Parameters were changed outside of the optimizer's steps, after step {self.steps[-1]} was recorded; leave the optimizer "
                "out of Recorder(model), and call recorder.step() when all that changes them in a step is done."
            )

    def close(self) -> None:
        """Close the files; the rows stay readable."""
        for rows in (self._weights, self._numbers, *self._moving.values()):
            rows.close()

    def _new_files(self) -> tuple[Rows, Rows]:
        shape = (sum(spec.size for spec in self._specification.parameters),)
        if self._folder is None:
            return _rows(None, shape, self._dtype), _rows(None, (), _STEP_NUMBERS)
        self._specification.write(self._folder)
        np.save(self._folder / FIRST_BUFFERS, self._first_buffers)
        return _rows(self._folder / WEIGHTS, shape, self._dtype), _rows(self._folder / STEPS, (), _STEP_NUMBERS)

    def _earlier(self, folder: Path, append: bool) -> RecordedPath | None:
        """The recording that is to be continued; None where the folder has none.

        Raises:
            ReplicationError: the folder has one, and it is not to be continued.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / SPECIFICATION).exists() and (folder / WEIGHTS).exists():
            raise ReplicationError(f"{folder} already holds a {WEIGHTS} that is no recording of this kind; give another folder.")
        earlier = RecordedPath.read(folder) if (folder / STEPS).exists() else None
        if earlier is None or len(earlier) == 0:  # nothing, or a recording that was killed before its first row
            for leftover in (*folder.glob(BUFFER_FILES), *folder.glob(OUTSIDE)):
                leftover.unlink()
            return None
        if not append:
            raise ReplicationError(
                f"{folder} already holds a recording of {len(earlier)} rows; give append=True to continue it, or another folder."
            )
        if earlier.specification != self._specification:
            raise ReplicationError(
                f"The recording in {folder} has other parameters or buffers than the model; give the model it was made with, "
                "or another folder."
            )
        return earlier

    def _continue(self, folder: Path, earlier: RecordedPath) -> tuple[Rows, Rows]:
        """Open the files of a recording at the last row that has the model's weights, and drop the rows after it.

        Raises:
            ReplicationError: no row has them.
        """
        weights = _flat(_parameters_of(self._specification, self._model), self._dtype)
        rows = reversed(range(len(earlier)))
        row = next((row for row in rows if np.array_equal(earlier.trajectory[row], weights, equal_nan=True)), None)
        if row is None:
            raise ReplicationError(
                f"The model's weights are in none of the {len(earlier)} rows in {folder}; load a checkpoint of that training before the "
                "recorder starts, or give another folder."
            )
        self._last, self._outside_changed = weights, read_outside(folder)
        keep, self.steps, self._first_buffers = row + 1, earlier.steps[: row + 1].tolist(), earlier.first_buffers
        numbers = FileRows(folder / STEPS, (), _STEP_NUMBERS, keep=keep)  # first: they say how many rows there are
        for name, moved in earlier.moving.items():
            self._moving[name] = FileRows(buffer_file(folder, name), moved.shape[1:], self._buffer_dtype, keep=keep)
        return FileRows(folder / WEIGHTS, weights.shape, self._dtype, keep=keep), numbers

    def _kept_parameters(self, step: int) -> dict[str, Tensor]:
        """The parameters in the order of the first row.

        Raises:
            ReplicationError: they are not those of the first row.
        """
        shapes = {spec.name: spec.shape for spec in self._specification.parameters}
        parameters = _parameters(self._model)
        if self._specification.only_trainable:
            parameters = {name: tensor for name, tensor in parameters.items() if tensor.requires_grad or name in shapes}
        if {name: tuple(tensor.shape) for name, tensor in parameters.items()} != shapes:
            raise ReplicationError(_changes(shapes, parameters, step))
        return {name: parameters[name] for name in shapes}

    def _sums_of_left_out(self) -> dict[str, tuple[float, float]]:
        """Sum and length of each parameter that is left out, by which a change is noticed."""
        kept = {spec.name for spec in self._specification.parameters}
        left_out = {name: parameter.detach() for name, parameter in _parameters(self._model).items() if name not in kept}
        real = {name: tensor for name, tensor in left_out.items() if tensor.is_floating_point()}
        return {
            name: (tensor.sum(dtype=torch.float64).item(), torch.linalg.vector_norm(tensor, dtype=torch.float64).item())
            for name, tensor in real.items()
        }

    def _check_left_out(self, step: int) -> None:
        now = self._sums_of_left_out() if self._specification.only_trainable else {}
        moved = [name for name, sums in self._sums.items() if name in now and not np.array_equal(now[name], sums, equal_nan=True)]
        if moved:
            raise ReplicationError(
                f"Parameter '{moved[0]}' requires no gradient and has changed by step {step}, and the recording leaves it out; give "
                "only_trainable=False."
            )

    def _note_changes_outside(self) -> None:
        """Keep the first value of what no row holds and has changed."""
        now = state_outside(self._model)
        for name, first in self._outside.items():
            if name in now and name not in self._outside_changed and not _same(first, now[name]):
                self._outside_changed[name] = first.double().cpu().numpy() if isinstance(first, Tensor) else np.array(first)
                if self._folder is not None:
                    write_outside(self._folder, self._outside_changed)

    def _kept_buffers(self, step: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Each buffer's numbers in the first row and now."""
        present, specs = dict(self._model.named_buffers()), self._specification.buffers
        for spec in specs:
            if spec.name not in present or tuple(present[spec.name].shape) != spec.shape:
                raise ReplicationError(
                    f"Buffer '{spec.name}' is gone or has another shape after step {step}; start a new recorder after such a change."
                )
        now = _flat({spec.name: present[spec.name] for spec in specs}, self._buffer_dtype)
        ends = np.cumsum([spec.size for spec in specs[:-1]], dtype=int)
        pieces = zip(specs, np.split(self._first_buffers, ends), np.split(now, ends), strict=True) if specs else ()
        return {spec.name: (first, piece) for spec, first, piece in pieces}


def _rows(file: Path | None, shape: tuple[int, ...], dtype: np.dtype, earlier: list[np.ndarray] | None = None) -> Rows:
    return MemoryRows(shape, dtype, earlier or []) if file is None else FileRows(file, shape, dtype, earlier or [])


def _parameters(model: nn.Module) -> dict[str, Tensor]:
    parameters: dict[str, Tensor] = dict(model.named_parameters())
    lazy = [name for name, parameter in parameters.items() if is_lazy(parameter)]
    if lazy:
        raise ReplicationError(f"Parameter '{lazy[0]}' of a lazy module has no shape yet; pass one batch through the model first.")
    return parameters


def _parameters_of(specification: Specification, model: nn.Module) -> dict[str, Tensor]:
    parameters = _parameters(model)
    return {spec.name: parameters[spec.name] for spec in specification.parameters}


def _state_buffers(model: nn.Module) -> dict[str, Tensor]:
    """The real buffers that belong to the state dict; the others are caches that the model computes itself.

    Batch norm's number of batches is left out: no output depends on it.
    """
    names = model.state_dict().keys() - batch_counts(model)
    return {name: buffer for name, buffer in model.named_buffers() if name in names and not buffer.is_complex()}


def state_outside(model: nn.Module) -> dict[str, float | Tensor]:
    """Plain numbers in attributes of the modules, and real buffers that are in no state dict, by name: no row holds them.

    >>> state_outside(nn.Sequential(nn.LeakyReLU(0.2)))["0.negative_slope"]
    0.2
    """
    saved = model.state_dict().keys()
    caches = {name: buffer for name, buffer in model.named_buffers() if name not in saved and not buffer.is_complex()}
    return plain_numbers(model) | {name: buffer.detach() for name, buffer in caches.items()}


def _same(first: float | Tensor, now: float | Tensor) -> bool:
    if isinstance(first, Tensor) and isinstance(now, Tensor):
        return first.device == now.device and torch.equal(first, now)
    return type(first) is type(now) and bool(first == now)


def _check_types(specs: tuple[TensorSpec, ...]) -> None:
    for spec in specs:
        if not getattr(torch, spec.dtype).is_floating_point:
            raise ReplicationError(
                f"Parameter '{spec.name}' has type {spec.dtype}, and rows are real floating-point numbers; keep real and imaginary part as "
                "one real parameter, make it a buffer, or give only_trainable=True to leave out parameters without gradients."
            )
    if not specs:
        raise ReplicationError("The model has no parameters to record; give a model with parameters, or leave out only_trainable=True.")


def _common_dtype(specs: tuple[TensorSpec, ...]) -> np.dtype:
    """float32 where it holds all values, which whole numbers above 2^24 need float64 for."""
    narrow = {"float32", "float16", "bfloat16", "bool", "uint8", "int8", "int16", "uint16"}
    return np.dtype(np.float32 if all(spec.dtype in narrow or spec.dtype.startswith("float8") for spec in specs) else np.float64)


def _flat(tensors: Mapping[str, Tensor], dtype: np.dtype) -> np.ndarray:
    """The tensors one after the other, rounded once."""
    kind = torch.float64 if dtype == np.float64 else torch.float32
    pieces = [tensor.detach().flatten().to(kind) for tensor in tensors.values()]
    return torch.cat(pieces).cpu().numpy() if pieces else np.empty(0, dtype=dtype)


def _changes(shapes: dict[str, tuple[int, ...]], parameters: Mapping[str, Tensor], step: int) -> str:
    gone = [f"'{name}' is gone" for name in shapes if name not in parameters]
    new = [f"'{name}' is new" for name in parameters if name not in shapes]
    reshaped = [f"'{name}' has another shape" for name, shape in shapes.items() if name in parameters and parameters[name].shape != shape]
    return (
        f"The model's parameters changed by step {step}: {', '.join([*gone, *new, *reshaped])}; a recording needs the same ones in every "
        "row, so start a new recorder after such a change."
    )
