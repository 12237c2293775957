"""Loss change allocation of every step of a trajectory (Lan et al. 2019, arXiv 1909.01440; docs/papers/lca.md)."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from replication.lca.allocation import Allocation, Integrand, Limits, refine
from replication.lca.ledger import Ledger
from replication.lca.path import Path, check_steps, path_of, permutation_of
from replication.objective.objective import Objective


def along(
    objective: Objective,
    trajectory: Any,
    *,
    buffers: np.ndarray | Tensor | None = None,
    steps: range | None = None,
    max_error: float = 1e-3,
    max_intervals: int = 32,
    by_class: bool = False,
    validation: Objective | None = None,
    trace: tuple[str, range] | None = None,
    steps_at_once: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Ledger:
    """Allocate every step of a trajectory in one pass.

    The gradient at the end of a step is the one at the start of the next: two new gradients per step. The ledger also holds the
    first-order and the trapezoid rule, and a control in which the gradient's entries are permuted over all parameters.

    Where the network keeps running statistics (batch norm in evaluation mode), the loss moves with them too. Each step then follows
    training: first the statistics move, at the old weights, which is the step's ``statistics`` in the table of steps, and then the
    weights move, at the new statistics, which is what is allocated. Loss change = sum of A + statistics + error, in every step.
    Such a step takes three gradients.

    Memory: a few vectors ``[n_parameters]``, and sums per step and parameter tensor. It never holds A of all steps and parameters.

    Args:
        objective: the loss on a fixed set of examples.
        trajectory: the path of the training: a ``Recorder``, its folder, state dicts or files with them, in the order of the training,
            or the weights after 0, 1, ..., T steps ``[T + 1, n_parameters]``; see ``path_of``.
        buffers: the running statistics to weights given as an array: ``recorder.buffers``, or one vector where they did not move.
        steps: which steps to allocate, ``range(0, T)`` by default; spans merge with ``Ledger.merge``.
        max_error, max_intervals: as in ``allocate``; a step that misses ``max_error`` is kept, and the ledger shows its error.
        by_class, validation: as in ``allocate``; the ledger keeps their sums over tensors.
        trace: a layer, and steps in which the weight, gradient and A of each of its parameters are kept (LCA, Figure 4).
        steps_at_once: steps whose points are evaluated together where the objective can stack them.
        progress: called with (steps done, steps in all).

    Raises:
        ReplicationError: names or shapes of the trajectory that do not fit, running statistics that it lacks, steps that lie outside of
            it, or no such layer to trace.

    >>> x = torch.tensor([[1.0], [2.0]])
    >>> def loss(outputs, targets):
    ...     return ((outputs - targets) ** 2).sum(1)
    >>> objective = Objective(torch.nn.Linear(1, 1, bias=False), x, 2 * x, loss=loss)
    >>> ledger = along(objective, np.array([[0.0], [1.0], [1.5]]))
    >>> ledger.tables()["steps"]["lca"].tolist()
    [-7.5, -1.875]
    """
    limits = Limits(max_error=max_error, max_intervals=max_intervals)
    path = path_of(objective, trajectory, buffers)
    steps = check_steps(path, steps)
    integrand = Integrand(objective, by_class=by_class, validation=validation)
    ledger = Ledger.empty(objective.layout, steps, n_classes=objective.n_classes if by_class else 0, trace=trace)
    before = path.weights(steps.start) - path.weights(steps.start - 1) if steps.start else None
    moves = path.buffers(steps.start) is not None
    allocations = _with_buffers(integrand, path, steps, limits) if moves else _allocations(integrand, path, steps, steps_at_once, limits)
    for done, (step, allocation, statistics) in enumerate(allocations, start=1):
        ledger.enter(step, allocation, permutation_of(step, objective), before, statistics)
        before = allocation.movement
        if trace is not None and step in trace[1]:
            ledger.enter_trace(step, path.weights(step), allocation)
        if progress is not None:
            progress(done, len(steps))
    return ledger


Step = tuple[int, Allocation, float | None]  # its number, and the loss change by the statistics where they may move


def _allocations(integrand: Integrand, path: Path, steps: range, steps_at_once: int, limits: Limits) -> Iterator[Step]:
    """Every step with its allocation; the gradient at its end is kept as the one at the next step's start."""
    point = path.weights(steps.start)
    loss, gradient = (result[0] for result in integrand.at(point[None]))
    for first in range(steps.start, steps.stop, steps_at_once):
        block = range(first, min(first + steps_at_once, steps.stop))
        ends = [path.weights(step + 1) for step in block]
        starts = [point, *ends[:-1]]
        middles = [(start + end) / 2 for start, end in zip(starts, ends, strict=True)]
        values, gradients = integrand.at(torch.stack([p for pair in zip(middles, ends, strict=True) for p in pair]))
        for index, step in enumerate(block):
            known = torch.stack([gradient, gradients[2 * index], gradients[2 * index + 1]])
            losses = torch.stack([loss, values[2 * index + 1]])
            yield step, refine(integrand, starts[index], ends[index] - starts[index], losses, known, limits), None
            loss, gradient = losses[1], known[2]
        point = ends[-1]


def _with_buffers(integrand: Integrand, path: Path, steps: range, limits: Limits) -> Iterator[Step]:
    """The same where the buffers are given at every step: weights move at the buffers of the step's end."""
    rows = integrand.training_rows
    start, buffers = path.weights(steps.start), path.buffers(steps.start)
    loss, gradient = (result[0] for result in replace(integrand, buffers=buffers).at(start[None]))
    for step in steps:
        end, moved = path.weights(step + 1), path.buffers(step + 1)
        there, before = replace(integrand, buffers=moved), loss
        if moved is not None and buffers is not None and not torch.equal(moved, buffers):
            loss, gradient = (result[0] for result in there.at(start[None]))
        values, gradients = there.at(torch.stack([(start + end) / 2, end]))
        allocation = refine(there, start, end - start, torch.stack([loss, values[1]]), torch.stack([gradient, *gradients]), limits)
        yield step, allocation, (loss - before)[:rows].sum().item()
        start, buffers, loss, gradient = end, moved, values[1], gradients[1]
