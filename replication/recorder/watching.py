"""Keeps the weights along a training loop: by a call after each step, or by a hook of the optimizer."""

import logging
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import torch
from torch import nn

from replication.errors import ReplicationError
from replication.recorder.keeping import Keeper
from replication.recorder.optimizer_steps import around_each_step, check_trains, inner_optimizer
from replication.recorder.recorded import RecordedPath

_LOG = logging.getLogger("replication.recorder")


class Recorder:
    """Keeps the weights before the first step and after every step of the optimizer.

    In a loop of your own::

        with Recorder(model) as recorder:
            for inputs, labels in loader:
                ...
                optimizer.step()
                recorder.step()
        tables = lca.along(objective, recorder).tables()

    With the optimizer, one line is enough. Recording begins at once, and each step that the optimizer really makes is kept: with
    gradient accumulation one row per step and not per batch, and none where a GradScaler skips the step. In a Lightning callback the
    line belongs to ``on_train_start`` (``Recorder(module, trainer.optimizers[0])``), in one of the Hugging Face Trainer to
    ``on_train_begin`` (``Recorder(model, optimizer)``, both from its keywords)::

        recorder = Recorder(model, optimizer, folder="path")

    Where something else moves the parameters too (clipping after the step, a moving average that is a part of the model, a second
    optimizer), leave out the optimizer and call ``step`` when all of it is done; the next step of the optimizer raises an error otherwise.

    A row takes 4 bytes per parameter (8 where the model has float64 parameters). Rows can be read at any time, also during the training
    and after an interrupt; in a folder they are complete files after every step, even if the process is killed. Of the real buffers in
    the model's state dict (batch norm's running statistics) those are kept in every row that have changed.

    Args:
        model: the network that is trained; read, never changed. Wrappers for parallel training and of ``torch.compile`` are looked
            through. In distributed training, record in one process only.
        optimizer: whose steps to keep; without it, call ``step`` after each of them.
        every: how many steps lie between kept rows. LCA is defined on 1; for more, straight lines stand for the path between them, and its
            tables count rows (``kept`` has their steps).
        folder: where to keep the rows; in memory by default. A folder that already holds rows raises an error.
        append: continue the recording in ``folder``. The model must have the weights of one of its rows (the last one, or those of a
            checkpoint that the training is resumed from); rows after it are dropped, because their steps are made again.
        only_trainable: leave out parameters that do not require gradients; they must not change.

    Raises:
        ReplicationError: ``every`` below 1, an optimizer of another model, a folder that holds a recording, weights that do not continue
            it, parameters that are not real floating-point numbers; later, steps when nothing is recorded, parameters that come, go or
            change their shape, or that are changed outside of the optimizer's steps or left out.

    >>> model = nn.Linear(2, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> recorder = Recorder(model, optimizer)
    >>> for _ in range(3):
    ...     optimizer.zero_grad()
    ...     model(torch.ones(4, 2)).mean().backward()
    ...     optimizer.step()
    >>> recorder.kept, recorder.trajectory.shape
    ([0, 1, 2, 3], (4, 3))
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None = None,
        *,
        every: int = 1,
        folder: Path | str | None = None,
        append: bool = False,
        only_trainable: bool = False,
    ) -> None:
        if every < 1:
            raise ReplicationError(f"The recorder was given every={every}; give 1 to keep the weights of every step, or more for fewer.")
        if append and folder is None:
            raise ReplicationError("The recorder was given append=True and no folder; give the folder of the recording to go on with.")
        place = None if folder is None else Path(folder)
        self._begin: Callable[[], Keeper] = lambda: Keeper(model, place, append=append, only_trainable=only_trainable)
        self._every, self._taken, self._open = every, 0, False
        self._keeper: Keeper | None = None
        self._stop: Callable[[], None] | None = None
        if optimizer is not None:
            torch_optimizer = inner_optimizer(optimizer)
            check_trains(torch_optimizer, model)
            self._start()
            self._stop = around_each_step(torch_optimizer, self._before_step, self._after_step)

    @property
    def path(self) -> RecordedPath:
        """What was kept so far, with names and shapes.

        Raises:
            ReplicationError: the recorder has not started.
        """
        return self._started.path

    @property
    def kept(self) -> list[int]:
        """After how many steps each row was taken."""
        return list(self._started.steps)

    @property
    def trajectory(self) -> np.ndarray:
        """Parameters in the order of ``model.named_parameters()``, ``[n_kept, n_parameters]``; a memory map where a folder was given."""
        return self.path.trajectory

    @property
    def buffers(self) -> np.ndarray:
        """The floating-point buffers that changed, ``[n_kept, n_moving]``; see ``RecordedPath``."""
        return self.path.buffers

    def step(self) -> None:
        """Call this after each ``optimizer.step()`` if the recorder was not given the optimizer.

        Raises:
            ReplicationError: the recorder has not started or has ended, or it was given the optimizer and counts its steps itself.
        """
        if self._stop is not None:
            raise ReplicationError("The recorder was given the optimizer and sees its steps; leave out recorder.step().")
        self._after_step()

    def close(self) -> None:
        """End the recording, with the last weights where ``every`` left them out. The rows stay readable.

        The logger ``replication.recorder`` warns where the model has other weights than the last row, as when another optimizer took over.
        """
        if self._open and self._started.steps[-1] != self._taken:
            self._started.keep(self._taken)
        if self._open and self._stop is not None and not self._started.is_current:
            _LOG.warning("The model's weights are not those of the last recorded step (%d).", self._taken)
        self._end()

    def __enter__(self) -> Self:  # noqa: D105
        if self._keeper is not None and not self._open:
            raise ReplicationError("The recorder has ended; make a new one for another training.")
        if not self._open:
            self._start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:  # noqa: D105
        if kind is None:
            self.close()
        self._end()  # after an exception the weights may be those of half a step, and are not kept

    @property
    def _started(self) -> Keeper:
        if self._keeper is None:
            raise ReplicationError("The recorder has no rows yet; they begin with its block: `with Recorder(model) as recorder:`.")
        return self._keeper

    def _start(self) -> None:
        self._keeper = self._begin()
        self._taken, self._open = self._keeper.steps[-1], True

    def _before_step(self) -> None:
        if self._open and self._started.steps[-1] == self._taken:
            self._started.check_unchanged()

    def _after_step(self) -> None:
        if not self._open:
            raise ReplicationError(
                "A step was recorded outside of the recorder's block; write `with Recorder(model) as recorder:` around it."
            )
        if (self._taken + 1) % self._every == 0:
            self._started.keep(self._taken + 1)
        self._taken += 1

    def _end(self) -> None:
        self._open = False
        if self._stop is not None:
            self._stop()
        if self._keeper is not None:
            self._keeper.close()
