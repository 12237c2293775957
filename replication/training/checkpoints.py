"""What a training keeps on disk: the state to resume from, the weights after chosen steps, the final weights."""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from replication.files.atomic import atomic
from replication.objective.vector import flat_buffers, flat_parameters, write_buffers, write_parameters


class Checkpoint:
    """Weights, optimizer state, log and evaluations of one moment, in one file with its checksum, written atomically.

    ``evaluations`` holds (step, split, loss, accuracy).
    """

    def __init__(self, folder: Path, identity: str, model: nn.Module, optimizer: torch.optim.Optimizer, log: Tensor) -> None:
        self._path, self._identity = folder / "resume.safetensors", identity
        self._model, self._optimizer, self._log = model, optimizer, log
        self.evaluations: list[tuple[int, str, float, float]] = []

    def save(self, step: int) -> None:
        """Save the state after ``step`` steps."""
        tensors = {f"model.{name}": value.detach().cpu().contiguous() for name, value in self._model.state_dict().items()}
        for index, state in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value.cpu().contiguous() for key, value in state.items() if isinstance(value, Tensor)}
        tensors["log"] = self._log[:step].cpu().clone()
        metadata = {"identity": self._identity, "step": str(step), "evaluations": json.dumps(self.evaluations)}
        metadata["sha256"] = _checksum(tensors, metadata)
        with atomic(self._path) as temporary:
            temporary.write_bytes(save(tensors, metadata))  # save_file hides a full disk and writes under a name of its own

    def load(self, before: Callable[[int], None]) -> int:
        """Put the saved state into the objects and return its step; 0 where there is none of this identity, or a damaged one.

        ``before`` is called with the step before the optimizer's state is loaded, which must have the same parameters by then.
        """
        try:
            with safe_open(self._path, "pt") as handle:
                metadata: dict[str, str] = handle.metadata()
            if metadata["identity"] != self._identity or not self._path.with_name(Trajectory.PARTIAL).is_file():
                return 0
            tensors = load_file(self._path)  # the objects bring it to their devices; Adam counts its steps on the CPU
            intact = metadata.pop("sha256") == _checksum(tensors, metadata)
        except (FileNotFoundError, SafetensorError, KeyError, TypeError):
            return 0
        if not intact:
            print(f"{self._path} is damaged (its checksum differs), so the training starts again.", file=sys.stderr)
            return 0
        step = int(metadata["step"])
        before(step)
        self._model.load_state_dict({key.removeprefix("model."): value for key, value in tensors.items() if key.startswith("model.")})
        state: dict[int, dict[str, Any]] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".", 2)
                state.setdefault(int(index), {})[name] = value
        self._optimizer.load_state_dict({"state": state, "param_groups": self._optimizer.state_dict()["param_groups"]})
        self._log[:step] = tensors["log"]
        self.evaluations += [tuple(entry) for entry in json.loads(metadata["evaluations"])]
        return step

    def remove(self) -> None:
        """The training is finished: nothing is left to resume."""
        self._path.unlink(missing_ok=True)


class Trajectory:
    """The parameters after kept steps as one memory-mapped array, and batch norm's running statistics beside it.

    Both take their final names when the training is finished; a row of nan was never reached. ``n_more`` rows follow those of
    ``steps`` for moments that are not known beforehand.
    """

    PARTIAL = "trajectory.partial.npy"

    def __init__(self, folder: Path, steps: list[int], model: nn.Module, *, fresh: bool, n_more: int = 0) -> None:
        self._n_steps = len(steps)
        self._rows = {step: row for row, step in enumerate(steps)}
        n_rows = len(steps) + n_more
        sizes = {"trajectory": len(flat_parameters(model)), "buffers": len(flat_buffers(model))}
        finished = folder / "buffers.npy"
        if fresh:
            finished.unlink(missing_ok=True)  # of an earlier training; nobody else removes it
        elif finished.exists():
            finished.replace(folder / "buffers.partial.npy")  # killed between the two renames of ``finish``
        self._arrays = {
            name: np.lib.format.open_memmap(
                folder / f"{name}.partial.npy", mode="w+" if fresh else "r+", dtype=np.float32, shape=(n_rows, size) if fresh else None
            )
            for name, size in sizes.items()
            if size
        }
        self._folder = folder
        if fresh:
            for array in self._arrays.values():
                array[:] = np.nan
            self.keep(0, model)

    def keep(self, step: int, model: nn.Module) -> None:
        """Keep the weights after ``step`` steps if that is one of the kept ones."""
        if step in self._rows:
            self._write(self._rows[step], model)

    def keep_more(self, number: int, model: nn.Module) -> None:
        """Keep the weights now in row ``number`` of those that follow the steps."""
        self._write(self._n_steps + number, model)

    def _write(self, row: int, model: nn.Module) -> None:
        self._arrays["trajectory"][row] = flat_parameters(model).cpu().numpy()
        if "buffers" in self._arrays:
            self._arrays["buffers"][row] = flat_buffers(model).cpu().numpy()

    def flush(self) -> None:
        """Hand the rows to the operating system."""
        for array in self._arrays.values():
            array.flush()

    def finish(self) -> None:
        """Give the arrays their final names."""
        self.flush()
        for name in reversed(self._arrays):  # the trajectory last: its partial file marks an unfinished training
            (self._folder / f"{name}.partial.npy").replace(self._folder / f"{name}.npy")


def _checksum(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def write_weights(path: Path, model: nn.Module) -> None:
    """All parameters and buffers by name, as safetensors.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_weights(Path(folder, "weights.safetensors"), nn.Linear(2, 1))
        ...     sorted(load_file(Path(folder, "weights.safetensors")))
        ['bias', 'weight']
    """
    with atomic(path) as temporary:
        temporary.write_bytes(save({name: value.cpu().contiguous() for name, value in model.state_dict().items()}))


def load_row(model: nn.Module, folder: Path, row: int) -> None:
    """Put the parameters, and batch norm's running statistics where there are any, of a kept step into ``model``.

    Example:
        >>> import tempfile
        >>> first, second = nn.Linear(2, 1), nn.Linear(2, 1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     trajectory = Trajectory(Path(folder), [0, 10], first, fresh=True)
        ...     trajectory.keep(10, second)
        ...     trajectory.finish()
        ...     load_row(first, Path(folder), 1)
        >>> first.weight.equal(second.weight)
        True
    """
    write_parameters(model, _row(folder / "trajectory.npy", row))
    if len(flat_buffers(model)):
        write_buffers(model, _row(folder / "buffers.npy", row))


def _row(path: Path, row: int) -> Tensor:
    return torch.from_numpy(np.array(np.load(path, mmap_mode="r")[row]))
