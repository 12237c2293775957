"""The path of a training as an objective sees it: weights and running statistics after each step, in whatever form they were kept."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from replication.errors import ReplicationError
from replication.objective.objective import Objective
from replication.recorder.checkpoints import CheckpointPath
from replication.recorder.recorded import RecordedPath
from replication.recorder.watching import Recorder


class Path(Protocol):
    """Weights, and buffers where they are known, after 0, 1, ..., T steps."""

    def __len__(self) -> int:
        """T + 1."""
        ...

    def weights(self, step: int) -> Tensor:
        """The parameters after ``step`` steps, float64 ``[n_parameters]`` on the objective's device."""
        ...

    def buffers(self, step: int) -> Tensor | None:
        """The objective's buffers after ``step`` steps, float64 ``[n_buffers]``; None where the objective's own hold at every step."""
        ...


def path_of(objective: Objective, trajectory: Any, buffers: Any = None) -> Path:
    """The path of a training for an objective.

    Args:
        objective: the loss; the path must have its parameters, and its buffers where they move.
        trajectory: a ``Recorder``, its folder or a ``RecordedPath``; models, state dicts or files with them, in the order of the
            training (``CheckpointPath``); or the weights alone ``[T + 1, n_parameters]`` as an array, a memory map or a tensor. All but
            the last are matched by name.
        buffers: for weights alone, the buffers that go with them ``[T + 1, n_buffers]`` (``recorder.buffers``), or one vector
            ``[n_buffers]`` for all steps (``objective.buffers()`` where they did not move).

    Raises:
        ReplicationError: names or shapes that do not fit, rows of another length, or running statistics that move along a training
            and are not given.

    >>> objective = Objective(torch.nn.Linear(1, 1), torch.ones(2, 1), torch.tensor([0, 0]))
    >>> states = [{"weight": torch.zeros(1, 1), "bias": torch.zeros(1)}, {"weight": torch.ones(1, 1), "bias": torch.zeros(1)}]
    >>> path_of(objective, states).weights(1)
    tensor([1., 0.], dtype=torch.float64)
    """
    named = _named(trajectory)
    if named is None:
        return ArrayPath(objective, trajectory, buffers)
    if buffers is not None:
        raise ReplicationError("The trajectory has buffers of its own, and buffers were given too; leave out buffers=...")
    return NamedPath(objective, named)


def _named(trajectory: Any) -> RecordedPath | CheckpointPath | None:
    """The trajectory if its tensors have names."""
    if isinstance(trajectory, Recorder):
        return trajectory.path
    if isinstance(trajectory, RecordedPath | CheckpointPath):
        return trajectory
    if isinstance(trajectory, str | os.PathLike):
        return RecordedPath.read(os.fspath(trajectory))
    if isinstance(trajectory, Sequence) and len(trajectory) and isinstance(trajectory[0], Mapping | nn.Module | str | os.PathLike):
        return CheckpointPath(trajectory)
    return None


class ArrayPath:
    """A path of rows without names, which must be in the objective's order. Arguments and errors as in ``path_of``.

    >>> objective = Objective(torch.nn.Linear(1, 1), torch.ones(2, 1), torch.tensor([0, 0]))
    >>> ArrayPath(objective, np.arange(6).reshape(3, 2)).weights(1)
    tensor([2., 3.], dtype=torch.float64)
    """

    def __init__(self, objective: Objective, trajectory: Any, buffers: Any = None) -> None:
        self._objective, self._trajectory = objective, trajectory
        if buffers is None and objective.moving_buffers:
            raise ReplicationError(_statistics_are_missing(objective))
        self._buffers = None if buffers is None or not objective.buffer_shapes else self._checked(buffers)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._trajectory)

    def weights(self, step: int) -> Tensor:
        """As in ``Path``.

        Raises:
            ReplicationError: the row is not as long as the objective's parameter vector.
        """
        kept = self._trajectory[step]
        weights = kept.detach() if isinstance(kept, Tensor) else torch.as_tensor(np.array(kept))
        if weights.shape != (self._objective.n_parameters,):
            raise ReplicationError(
                f"Row {step} of the trajectory has shape {tuple(weights.shape)}; the objective's parameters have "
                f"({self._objective.n_parameters},)."
            )
        return weights.to(self._objective.device).double()

    def buffers(self, step: int) -> Tensor | None:
        """As in ``Path``."""
        if self._buffers is None:
            return None
        values = torch.as_tensor(np.array(self._buffers if self._buffers.ndim == 1 else self._buffers[step]))
        buffers = self._objective.buffers()
        buffers[self._columns] = values.to(buffers)
        return buffers

    def _checked(self, buffers: Any) -> np.ndarray:
        """The buffers as an array: all of the objective's, or those that move."""
        if isinstance(buffers, Tensor):
            buffers = buffers.detach().cpu()
        rows = np.asarray(buffers)
        shapes = self._objective.buffer_shapes
        moving = [torch.full(shape, name in self._objective.moving_buffers).flatten() for name, shape in shapes.items()]
        is_moving = torch.cat(moving)
        width = rows.shape[-1] if rows.ndim else 0
        if width not in (len(is_moving), int(is_moving.sum())) or (rows.ndim != 1 and rows.shape[:-1] != (len(self),)):
            raise ReplicationError(
                f"The buffers have shape {rows.shape}; the trajectory has {len(self)} rows and the objective {len(is_moving)} numbers in "
                "buffers: give a row for each row of the trajectory, or the recorder itself in place of its arrays."
            )
        self._columns = slice(None) if width == len(is_moving) else is_moving.to(self._objective.device)
        return rows


class NamedPath:
    """A path whose tensors have names, in any order. Arguments and errors as in ``path_of``.

    Parameters that a recording left out, since they were not trained, have the objective's values at every step.

    >>> objective = Objective(torch.nn.Linear(1, 1), torch.ones(2, 1), torch.tensor([0, 0]))
    >>> states = [{"bias": torch.ones(1), "weight": torch.zeros(1, 1)}, torch.nn.Linear(1, 1)]
    >>> NamedPath(objective, CheckpointPath(states)).weights(0)
    tensor([0., 1.], dtype=torch.float64)
    """

    def __init__(self, objective: Objective, source: RecordedPath | CheckpointPath) -> None:
        self._objective, self._source = objective, source
        first = source.tensors(0)
        self._prefix = _prefix([slot.name for slot in objective.layout], first)
        self._check_parameters(first)
        missing = [name for name in objective.moving_buffers if self._prefix + name not in first]
        if missing:
            raise ReplicationError(_statistics_are_missing(objective, of_recording=isinstance(source, RecordedPath)))
        self._check_whole_numbers()
        self._own_parameters, self._own_buffers = objective.parameters(), objective.buffers()
        self._last_read: tuple[int, Mapping[str, Tensor]] = (0, first)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._source)

    def weights(self, step: int) -> Tensor:
        """As in ``Path``.

        Raises:
            ReplicationError: a tensor of another shape, or one that this row lacks.
        """
        tensors, weights = self._tensors(step), self._own_parameters.clone()
        for slot in self._objective.layout:
            piece = self._piece(tensors, slot.name, slot.shape, step, optional=self._source.is_partial)
            if piece is not None:
                weights[slot.slice] = piece.to(weights)
        return weights

    def buffers(self, step: int) -> Tensor | None:
        """As in ``Path``; caches that are in no state dict are the objective's own."""
        if not len(self._own_buffers):
            return None
        tensors, pieces, start = self._tensors(step), [], 0
        for name, shape in self._objective.buffer_shapes.items():
            piece = self._piece(tensors, name, shape, step, optional=name not in self._objective.moving_buffers)
            pieces.append(self._own_buffers[start : start + shape.numel()] if piece is None else piece.to(self._own_buffers))
            start += shape.numel()
        return torch.cat(pieces)

    def _tensors(self, step: int) -> Mapping[str, Tensor]:
        """The row's tensors; weights and buffers are asked for one after the other, and a file is read once for both."""
        if self._last_read[0] != step:
            self._last_read = (step, self._source.tensors(step))
        return self._last_read[1]

    def _piece(self, tensors: Mapping[str, Tensor], name: str, shape: torch.Size, step: int, *, optional: bool) -> Tensor | None:
        tensor = tensors.get(self._prefix + name)
        if tensor is None and optional:
            return None
        if tensor is None or tensor.shape != shape:
            seen = "is missing" if tensor is None else f"has shape {tuple(tensor.shape)}"
            raise ReplicationError(f"'{name}' {seen} in row {step} of the path; the objective's has {tuple(shape)}.")
        return tensor.flatten()

    def _check_parameters(self, first: Mapping[str, Tensor]) -> None:
        """Every parameter of the objective is there, and no other one moves."""
        names = [self._prefix + slot.name for slot in self._objective.layout]
        missing = [name for name in names if name not in first]
        if missing and not (self._source.is_partial and len(missing) < len(names)):
            raise ReplicationError(
                f"The path lacks {_listed(missing)} and has {_listed(list(first))}; give the rows or state dicts of the objective's model."
            )
        known = {*names, *(self._prefix + name for name in self._objective.buffer_shapes), *_buffers_of(self._source, first)}
        last = self._source.tensors(len(self._source) - 1)
        kept = [(first[name], last.get(name, first[name])) for name in names if name in first]
        for name in first.keys() - known:
            start, end = first[name], last.get(name, first[name])
            tied = any(start.shape == a.shape and torch.equal(start, a) and torch.equal(end, b) for a, b in kept)
            if start.is_floating_point() and not tied and not torch.equal(start, end):
                raise ReplicationError(
                    f"'{name}' moves along the path and is no parameter of the objective; give an objective of all parameters that move."
                )

    def _check_whole_numbers(self) -> None:
        """The loss does not depend on buffers of whole numbers and masks that are others in the path than in the objective's network."""
        n, last = len(self._prefix), len(self) - 1
        for row in sorted({0, last // 2, last}):
            tensors = {name[n:]: tensor for name, tensor in self._source.tensors(row).items() if name.startswith(self._prefix)}
            self._objective.refuse_other_network(tensors, f"Row {row} of the path")
        if isinstance(self._source, RecordedPath) and self._source.outside:
            outside = {name: torch.as_tensor(value) for name, value in self._source.outside.items()}
            changed = _listed(list(outside))
            self._objective.refuse_other_network(outside, f"Row 0 of the path, before {changed} changed,")


def check_steps(path: Any, steps: range | None) -> range:
    """The steps to allocate, by default all of them.

    Args:
        path: weights after 0, 1, ..., T steps, anything with a length of T + 1.
        steps: consecutive steps; step t leads from row t to row t + 1.

    Raises:
        ReplicationError: they are not consecutive steps of the path, or there is none.

    >>> check_steps(np.zeros((4, 2)), None)
    range(0, 3)
    """
    if len(path) < 2:
        raise ReplicationError(
            f"The path has {len(path)} rows and no step; record a training, and where weights are changed without the optimizer's step "
            "method, leave the optimizer out and call recorder.step() after each change."
        )
    steps = range(len(path) - 1) if steps is None else steps
    if len(steps) == 0 or steps.step != 1 or steps.start < 0 or steps.stop > len(path) - 1:
        raise ReplicationError(f"The steps are {steps}; allowed: consecutive ones within range(0, {len(path) - 1}).")
    return steps


def permutation_of(step: int, objective: Objective) -> Tensor:
    """The permutation of the parameters ``[n_parameters]`` that the shuffled control of a step uses.

    It is fixed by the step's number, so that the control does not depend on how the steps are cut into spans.

    >>> objective = Objective(torch.nn.Linear(2, 1), torch.ones(2, 2), torch.zeros(2, dtype=torch.long))
    >>> sorted(permutation_of(7, objective).tolist())
    [0, 1, 2]
    """
    generator = torch.Generator().manual_seed(step)
    return torch.randperm(objective.n_parameters, generator=generator).to(objective.device)


def _buffers_of(source: RecordedPath | CheckpointPath, first: Mapping[str, Tensor]) -> list[str]:
    """Names that are no parameters; in a state dict only batch norm's own statistics can be told, which "batch" objectives do not have."""
    if isinstance(source, RecordedPath):
        return [spec.name for spec in source.specification.buffers]
    return [name for name in first if name.rpartition(".")[2] in ("running_mean", "running_var")]


def _statistics_are_missing(objective: Objective, *, of_recording: bool = False) -> str:
    if of_recording:
        return (
            f"The buffers {_listed(list(objective.moving_buffers))} move along a training, and the recording does not hold them, since "
            "they are not in the model's state dict; register them with persistent=True and record again."
        )
    return (
        f"The network's running statistics ({_listed(list(objective.moving_buffers))}) move along a training without being parameters, "
        "and the path does not hold them: for the loss in evaluation mode give the recorder itself (lca.along(objective, recorder)) or "
        "buffers=recorder.buffers, and for the loss with batch statistics make the objective with batch_norm='batch' and a chunk."
    )


def _prefix(names: Sequence[str], tensors: Mapping[str, Tensor]) -> str:
    """What stands before all of the objective's names, where the model is a part of what was saved."""
    if any(name in tensors for name in names):
        return ""
    prefixes = {key.removesuffix(names[0]) for key in tensors if key.endswith(f".{names[0]}")}
    fitting = [prefix for prefix in prefixes if all(prefix + name in tensors for name in names)]
    return fitting[0] if len(fitting) == 1 else ""


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown or "nothing"
