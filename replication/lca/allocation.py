"""Loss Change Allocation (Lan et al. 2019, arXiv 1909.01440).

The change of the loss along a training path is split over parameters and iterations: A_{t,i} is the line integral of the
i-th component of the gradient along the straight segment from theta_t to theta_{t+1}. A < 0 helps, A > 0 hurts, and the
sum over i is the change of the loss in step t. The paper calls the rule RK4; along a known path it is Simpson's.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from replication.errors import ReplicationError
from replication.lca.ledger import Ledger
from replication.objective.objective import Objective


@dataclass(frozen=True)
class Allocation:
    """The loss change of one step, split over parameters.

    Attributes:
        change: A, float64 ``[n_parameters]``; negative helps.
        error: (L_end - L_start) - sum of A: what the integration missed, in loss units.
        intervals: Simpson intervals used.
        loss_start, loss_end: the loss at both ends.
        gradient_start, gradient_end: its gradients there, float64 ``[n_parameters]``.
        mean_gradient: the gradient averaged along the segment; ``change`` is its product with the movement.
        movement: theta_end - theta_start, float64.
        by_class: A of each class's share of the loss ``[n_classes, n_parameters]``, which sum to ``change``; None if not asked for.
        validation: A of the validation loss ``[n_parameters]``; None without one.
        validation_losses: that loss at both ends; nan without one.
    """

    change: Tensor
    error: float
    intervals: int
    loss_start: float
    loss_end: float
    gradient_start: Tensor
    gradient_end: Tensor
    mean_gradient: Tensor
    movement: Tensor
    by_class: Tensor | None = None
    validation: Tensor | None = None
    validation_losses: tuple[float, float] = (float("nan"), float("nan"))

    @property
    def first_order(self) -> Tensor:
        """The comparison A_i = g_i(theta_start) (theta_end - theta_start)_i."""
        return self.gradient_start * self.movement

    @property
    def trapezoid(self) -> Tensor:
        """The comparison with the mean of the two end gradients."""
        return (self.gradient_start + self.gradient_end) / 2 * self.movement


@dataclass(frozen=True)
class _Integrand:
    """What is integrated along a segment: a row of gradients for the training loss, or for each class's share of it, and one for the
    validation loss if there is one."""

    objective: Objective
    by_class: bool
    validation: Objective | None

    @property
    def training_rows(self) -> int:
        return self.objective.n_classes if self.by_class else 1

    def at(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Values ``[n_points, n_rows]`` and gradients ``[n_points, n_rows, n_parameters]``."""
        if self.by_class:
            values, gradients = self.objective.values_and_gradients_by_class(points)
        else:
            values, gradients = (result[:, None] for result in self.objective.values_and_gradients(points))
        if self.validation is None:
            return values, gradients
        others = self.validation.values_and_gradients(points)
        return torch.cat([values, others[0][:, None]], 1), torch.cat([gradients, others[1][:, None]], 1)


def allocate(
    objective: Objective,
    theta_start: Tensor,
    theta_end: Tensor,
    *,
    max_error: float = 1e-3,
    max_intervals: int = 32,
    by_class: bool = False,
    validation: Objective | None = None,
) -> Allocation:
    """Split the loss change of one step over the parameters (LCA, section 3; specification 1.1 and 1.3).

    Composite Simpson on the straight segment: the number of intervals doubles from 2 until abs(error) is at most
    ``max_error`` (absolute, loss units) or ``max_intervals`` is reached; the error is reported either way.

    Args:
        objective: the loss on a fixed set of examples.
        theta_start, theta_end: parameter vectors ``[n_parameters]``; interpolated in float64.
        by_class: also split over the classes of the examples (specification 1.6).
        validation: the loss of the same network on other examples, allocated at the same points; its error does not split further.

    Raises:
        ReplicationError: a vector of another length, or limits that are not positive.
    """
    _check_limits(max_error, max_intervals)
    start, end = theta_start.to(objective.device).double(), theta_end.to(objective.device).double()
    integrand = _Integrand(objective, by_class, validation)
    values, gradients = integrand.at(torch.stack([start, (start + end) / 2, end]))
    return _refine(integrand, start, end - start, values[[0, 2]], gradients, max_error=max_error, max_intervals=max_intervals)


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
    """Allocate every step of a trajectory in one pass whose memory does not grow with the number of steps.

    The gradient at the end of a step is the one at the start of the next: two new gradients per step. Beside Simpson's rule
    the ledger holds first order and trapezoid, and a control in which the gradient's entries are permuted over all parameters
    (by a permutation fixed by the step's number, so that it does not depend on how steps are cut into spans).

    Args:
        trajectory: weights after 0, 1, ..., T steps ``[T + 1, n_parameters]``: an array, a memory map or a tensor.
        steps: which steps to allocate, ``range(0, T)`` by default; spans merge with ``Ledger.merge``.
        max_error, max_intervals: as in ``allocate``; steps that miss ``max_error`` are kept and show in the ledger.
        by_class, validation: as in ``allocate``; sums over tensors are kept.
        trace: a layer and steps in which each of its parameters' weight, gradient and A are kept (LCA, Figure 4).
        steps_at_once: steps whose points are evaluated together where the objective can stack them.
        progress: called with (steps done, steps in all).

    Raises:
        ReplicationError: the trajectory's rows have another length, the steps lie outside of it, or there is no such layer to trace.
    """
    _check_limits(max_error, max_intervals)
    steps = check_steps(trajectory, steps)
    integrand = _Integrand(objective, by_class, validation)
    ledger = Ledger.empty(objective.layout, steps, n_classes=objective.n_classes if by_class else 0, trace=trace)
    before = row(trajectory, steps.start, objective) - row(trajectory, steps.start - 1, objective) if steps.start else None
    limits = {"max_error": max_error, "max_intervals": max_intervals}
    for done, (step, allocation) in enumerate(_allocations(integrand, trajectory, steps, steps_at_once, limits), start=1):
        ledger.enter(step, allocation, permutation_of(step, objective), before)
        before = allocation.movement
        if trace is not None and step in trace[1]:
            ledger.enter_trace(step, row(trajectory, step, objective), allocation)
        if progress is not None:
            progress(done, len(steps))
    return ledger


def _allocations(
    integrand: _Integrand, trajectory: Any, steps: range, steps_at_once: int, limits: dict[str, Any]
) -> Iterator[tuple[int, Allocation]]:
    """Every step with its allocation; end gradients are carried over to the next step."""
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
            yield step, _refine(integrand, starts[index], ends[index] - starts[index], losses, known, **limits)
            loss, gradient = losses[1], known[2]
        point = ends[-1]


def _refine(
    integrand: _Integrand, start: Tensor, movement: Tensor, losses: Tensor, gradients: Tensor, *, max_error: float, max_intervals: int
) -> Allocation:
    """Composite Simpson from rows of gradients at start, middle and end, doubling the intervals until the error is small.

    Three running sums (ends, even and odd interior points) hold whatever number of intervals.
    """
    rows = integrand.training_rows
    ends, even, odd = gradients[0] + gradients[2], torch.zeros_like(gradients[0]), gradients[1]
    loss_start, loss_end = losses[:, :rows].sum(1).tolist()
    intervals = 2
    while True:
        mean_gradients = (ends + 4 * odd + 2 * even) / (3 * intervals)
        mean_gradient = mean_gradients[:rows].sum(0)
        change = mean_gradient * movement
        error = loss_end - loss_start - change.sum().item()
        # a non-finite error stays as it is: splitting further cannot mend it
        if not abs(error) > max_error or not np.isfinite(error) or 2 * intervals > max_intervals:
            break
        intervals *= 2
        even = even + odd
        fractions = torch.arange(1, intervals, 2, dtype=torch.float64, device=movement.device) / intervals
        odd = torch.zeros_like(ends)
        for pair in fractions.split(4):
            odd += integrand.at(start + pair[:, None] * movement)[1].sum(0)
    allocation = Allocation(
        change, error, intervals, loss_start, loss_end, gradients[0, :rows].sum(0), gradients[2, :rows].sum(0), mean_gradient, movement
    )
    return replace(
        allocation,
        by_class=mean_gradients[:rows] * movement if integrand.by_class else None,
        validation=mean_gradients[rows] * movement if integrand.validation is not None else None,
        validation_losses=(losses[0, -1].item(), losses[1, -1].item()) if integrand.validation is not None else (np.nan, np.nan),
    )


def check_steps(trajectory: Any, steps: range | None) -> range:
    """The steps to allocate, all of them by default.

    Raises:
        ReplicationError: they are not consecutive steps of the trajectory.
    """
    steps = range(len(trajectory) - 1) if steps is None else steps
    if len(steps) == 0 or steps.step != 1 or steps.start < 0 or steps.stop > len(trajectory) - 1:
        raise ReplicationError(f"The steps are {steps}; allowed: consecutive ones within range(0, {len(trajectory) - 1}).")
    return steps


def row(trajectory: Any, step: int, objective: Objective) -> Tensor:
    """The weights after ``step`` steps, float64 ``[n_parameters]`` on the objective's device.

    Raises:
        ReplicationError: they are not as many as the objective's parameters.
    """
    row = torch.as_tensor(np.array(trajectory[step]) if not isinstance(trajectory, Tensor) else trajectory[step])
    if row.shape != (objective.n_parameters,):
        raise ReplicationError(
            f"Row {step} of the trajectory has shape {tuple(row.shape)}; the objective's parameters have ({objective.n_parameters},)."
        )
    return row.to(objective.device).double()


def permutation_of(step: int, objective: Objective) -> Tensor:
    """The control's permutation of the parameters, fixed by the step's number, so that it does not depend on the spans."""
    generator = torch.Generator().manual_seed(step)
    return torch.randperm(objective.n_parameters, generator=generator).to(objective.device)


def _check_limits(max_error: float, max_intervals: int) -> None:
    if not max_error > 0 or max_intervals < 2:
        raise ReplicationError(f"max_error is {max_error} and max_intervals {max_intervals}; allowed: above 0, and 2 or more.")
