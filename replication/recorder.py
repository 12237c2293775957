"""The weights along a training loop of your own, as loss change allocation and planes through trajectories read them.

``replication.checkpoints`` does this for trainings of paper_configs, which know their steps beforehand and are continued when killed.
"""

from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
from torch import nn

from replication.errors import ReplicationError
from replication.objective.vector import flat_buffers, flat_parameters


class Recorder:
    """Keeps the weights before the first step, after every ``every``-th one and at the end of the block.

    ::

        with Recorder(model) as recorder:
            for images, labels in loader:
                ...
                optimizer.step()
                recorder.step()
        lca.along(objective, recorder.trajectory)

    A trajectory takes 4 bytes per parameter and kept step: with ``folder`` on disk (``trajectory.npy`` and, where the model has
    batch norm, ``buffers.npy``), to be read as a memory map. These files take their names at the end of the block; after an
    exception there are none.

    Args:
        model: the network that is trained; read, never changed. It must keep its parameters, trained or not.
        every: the straight line between kept weights stands for the path, so 1 is what LCA is defined on.
        folder: where to keep the trajectory; in memory by default.

    Attributes:
        kept: after how many steps each row was taken.

    Raises:
        ReplicationError: ``every`` is below 1; later, steps outside of the block, or a trajectory asked for before its end.
    """

    def __init__(self, model: nn.Module, *, every: int = 1, folder: Path | str | None = None) -> None:
        if every < 1:
            raise ReplicationError(f"The recorder was given every={every}; give 1 to keep the weights of every step, or more for fewer.")
        self.kept: list[int] = []
        self._model, self._every, self._taken = model, every, 0
        self._folder = None if folder is None else Path(folder)
        self._parts: dict[str, _Rows] = {}
        self._open = False

    @property
    def trajectory(self) -> np.ndarray:
        """Parameters in the order of ``model.parameters()``, float32 ``[n_kept, n_parameters]``; a memory map where a folder was given."""
        return self._part("trajectory")

    @property
    def buffers(self) -> np.ndarray:
        """Batch norm's running statistics in the order of ``Objective.buffers``, float32 ``[n_kept, n_buffers]``."""
        return self._part("buffers")

    def step(self) -> None:
        """To be called after each ``optimizer.step()``."""
        if not self._open:
            raise ReplicationError(
                "A step was recorded outside of the recorder's block; write `with Recorder(model) as recorder:` around it."
            )
        self._taken += 1
        if self._taken % self._every == 0:
            self._keep()

    def __enter__(self) -> Self:  # noqa: D105
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
        self._open, self._taken, self.kept = True, 0, []
        self._parts = {name: _Rows(self._folder, name, len(row)) for name, row in self._now().items()}
        self._keep()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:  # noqa: D105
        self._open = False
        if kind is None and self.kept[-1] != self._taken:
            self._keep()
        for rows in self._parts.values():
            rows.close(finished=kind is None)

    def _now(self) -> dict[str, np.ndarray]:
        vectors = {"trajectory": flat_parameters(self._model), "buffers": flat_buffers(self._model)}
        return {name: vector.detach().float().cpu().numpy() for name, vector in vectors.items()}

    def _keep(self) -> None:
        for name, row in self._now().items():
            self._parts[name].append(row)
        self.kept.append(self._taken)

    def _part(self, name: str) -> np.ndarray:
        if self._open or not self._parts:
            raise ReplicationError(
                f"The recorder's {name} is there when its block has ended; read it after `with Recorder(model) as recorder:`."
            )
        return self._parts[name].array()


class _Rows:
    """Rows of equal length, in memory or appended to a .npy file whose header is completed at the end."""

    def __init__(self, folder: Path | None, name: str, width: int) -> None:
        self._width, self._rows, self._count = width, list[np.ndarray](), 0
        self._path = None if folder is None or not width else folder / f"{name}.npy"
        self._file: BinaryIO | None = None
        if self._path is not None:
            self._path.unlink(missing_ok=True)  # of an earlier training
            self._file = open(self._partial, "wb")  # noqa: SIM115 - closed at the end of the recorder's block
            self._write_header()

    @property
    def _partial(self) -> Path:
        assert self._path is not None
        return self._path.with_suffix(".partial.npy")

    def append(self, row: np.ndarray) -> None:
        self._count += 1
        if self._file is None:
            self._rows.append(row.copy())
        else:
            self._file.write(row.astype("<f4").tobytes())

    def close(self, *, finished: bool) -> None:
        if self._file is None or self._path is None:
            return
        if finished:
            self._file.seek(0)
            self._write_header()
        self._file.close()
        if finished:
            self._partial.replace(self._path)
        else:
            self._partial.unlink()

    def array(self) -> np.ndarray:
        return np.array(self._rows) if self._path is None else np.load(self._path, mmap_mode="r")

    def _write_header(self) -> None:
        """The same length for any number of rows: numpy leaves room for the first axis to grow."""
        assert self._file is not None
        shape = (self._count, self._width)
        np.lib.format.write_array_header_1_0(self._file, {"descr": "<f4", "fortran_order": False, "shape": shape})
