"""Loss change allocation of every step of a trajectory (Lan et al. 2019, arXiv 1909.01440; docs/papers/lca.md)."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from replication.lca.allocation import Allocation, Integrand, Limits, refine
from replication.lca.ledger import Ledger
from replication.lca.path import check_steps, permutation_of, row
from replication.objective.objective import Objective


def along(
    objective: Objective,
    trajectory: Sequence[Any] | np.ndarray | Tensor,
    *,
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

    Memory: a few vectors ``[n_parameters]``, and sums per step and parameter tensor. It never holds A of all steps and parameters.

    Args:
        objective: the loss on a fixed set of examples.
        trajectory: weights after 0, 1, ..., T steps ``[T + 1, n_parameters]``: an array, a memory map or a tensor.
        steps: which steps to allocate, ``range(0, T)`` by default; spans merge with ``Ledger.merge``.
        max_error, max_intervals: as in ``allocate``; a step that misses ``max_error`` is kept, and the ledger shows its error.
        by_class, validation: as in ``allocate``; the ledger keeps their sums over tensors.
        trace: a layer, and steps in which the weight, gradient and A of each of its parameters are kept (LCA, Figure 4).
        steps_at_once: steps whose points are evaluated together where the objective can stack them.
        progress: called with (steps done, steps in all).

    Raises:
        ReplicationError: the trajectory's rows have another length, the steps lie outside of it, or there is no such layer to trace.

    >>> x = torch.tensor([[1.0], [2.0]])
    >>> def loss(outputs, targets):
    ...     return ((outputs - targets) ** 2).sum(1)
    >>> objective = Objective(torch.nn.Linear(1, 1, bias=False), x, 2 * x, loss=loss)
    >>> ledger = along(objective, np.array([[0.0], [1.0], [1.5]]))
    >>> ledger.tables()["steps"]["lca"].tolist()
    [-7.5, -1.875]
    """
    limits = Limits(max_error=max_error, max_intervals=max_intervals)
    steps = check_steps(trajectory, steps)
    integrand = Integrand(objective, by_class=by_class, validation=validation)
    ledger = Ledger.empty(objective.layout, steps, n_classes=objective.n_classes if by_class else 0, trace=trace)
    before = row(trajectory, steps.start, objective) - row(trajectory, steps.start - 1, objective) if steps.start else None
    for done, (step, allocation) in enumerate(_allocations(integrand, trajectory, steps, steps_at_once, limits), start=1):
        ledger.enter(step, allocation, permutation_of(step, objective), before)
        before = allocation.movement
        if trace is not None and step in trace[1]:
            ledger.enter_trace(step, row(trajectory, step, objective), allocation)
        if progress is not None:
            progress(done, len(steps))
    return ledger


def _allocations(
    integrand: Integrand, trajectory: Any, steps: range, steps_at_once: int, limits: Limits
) -> Iterator[tuple[int, Allocation]]:
    """Every step with its allocation; the gradient at its end is kept as the one at the next step's start."""
    objective = integrand.objective
    point = row(trajectory, steps.start, objective)
    loss, gradient = (result[0] for result in integrand.at(point[None]))
    for first in range(steps.start, steps.stop, steps_at_once):
        block = range(first, min(first + steps_at_once, steps.stop))
        ends = [row(trajectory, step + 1, objective) for step in block]
        starts = [point, *ends[:-1]]
        middles = [(start + end) / 2 for start, end in zip(starts, ends, strict=True)]
        values, gradients = integrand.at(torch.stack([p for pair in zip(middles, ends, strict=True) for p in pair]))
        for index, step in enumerate(block):
            known = torch.stack([gradient, gradients[2 * index], gradients[2 * index + 1]])
            losses = torch.stack([loss, values[2 * index + 1]])
            yield step, refine(integrand, starts[index], ends[index] - starts[index], losses, known, limits)
            loss, gradient = losses[1], known[2]
        point = ends[-1]
