"""Loss Change Allocation (Lan et al. 2019, arXiv 1909.01440).

The change of the loss along a training path is split over parameters and iterations: A_{t,i} is the line integral of the
i-th component of the gradient along the straight segment from theta_t to theta_{t+1}. A < 0 helps, A > 0 hurts, and the
sum over i is the change of the loss in step t. The paper calls the rule RK4; along a known path it is Simpson's.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from replication.errors import ReplicationError
from replication.lca_ledger import Ledger
from replication.objective import Objective


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

    @property
    def first_order(self) -> Tensor:
        """The comparison A_i = g_i(theta_start) (theta_end - theta_start)_i."""
        return self.gradient_start * self.movement

    @property
    def trapezoid(self) -> Tensor:
        """The comparison with the mean of the two end gradients."""
        return (self.gradient_start + self.gradient_end) / 2 * self.movement


def allocate(
    objective: Objective,
    theta_start: Tensor,
    theta_end: Tensor,
    *,
    max_error: float = 1e-3,
    max_intervals: int = 32,
) -> Allocation:
    """Split the loss change of one step over the parameters (LCA, section 3; specification 1.1 and 1.3).

    Composite Simpson on the straight segment: the number of intervals doubles from 2 until abs(error) is at most
    ``max_error`` (absolute, loss units) or ``max_intervals`` is reached; the error is reported either way.

    Args:
        objective: the loss on a fixed set of examples.
        theta_start, theta_end: parameter vectors ``[n_parameters]``; interpolated in float64.

    Raises:
        ReplicationError: a vector of another length, or limits that are not positive.
    """
    _check_limits(max_error, max_intervals)
    start, end = theta_start.to(objective.device).double(), theta_end.to(objective.device).double()
    values, gradients = objective.values_and_gradients(torch.stack([start, (start + end) / 2, end]))
    ends = (values[0].item(), values[2].item())
    return _refine(objective, start, end - start, ends, gradients, max_error=max_error, max_intervals=max_intervals)


def along(
    objective: Objective,
    trajectory: Sequence[Any] | np.ndarray | Tensor,
    *,
    steps: range | None = None,
    max_error: float = 1e-3,
    max_intervals: int = 32,
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
        steps_at_once: steps whose points are evaluated together where the objective can stack them.
        progress: called with (steps done, steps in all).

    Raises:
        ReplicationError: the trajectory's rows have another length, or the steps lie outside of it.
    """
    _check_limits(max_error, max_intervals)
    steps = check_steps(trajectory, steps)
    ledger = Ledger.empty(objective.layout, steps)
    limits = {"max_error": max_error, "max_intervals": max_intervals}
    for done, (step, allocation) in enumerate(_allocations(objective, trajectory, steps, steps_at_once, limits), start=1):
        generator = torch.Generator().manual_seed(step)
        permutation = torch.randperm(objective.n_parameters, generator=generator).to(objective.device)
        ledger.enter(step, allocation, permutation)
        if progress is not None:
            progress(done, len(steps))
    return ledger


def _allocations(
    objective: Objective, trajectory: Any, steps: range, steps_at_once: int, limits: dict[str, Any]
) -> Iterator[tuple[int, Allocation]]:
    """Every step with its allocation; end gradients are carried over to the next step."""
    point = row(trajectory, steps.start, objective)
    loss, gradient = objective.value_and_gradient(point)
    for first in range(steps.start, steps.stop, steps_at_once):
        block = range(first, min(first + steps_at_once, steps.stop))
        ends = [row(trajectory, step + 1, objective) for step in block]
        starts = [point, *ends[:-1]]
        middles = [(start + end) / 2 for start, end in zip(starts, ends, strict=True)]
        values, gradients = objective.values_and_gradients(torch.stack([p for pair in zip(middles, ends, strict=True) for p in pair]))
        for index, step in enumerate(block):
            middle_gradient, end_gradient = gradients[2 * index], gradients[2 * index + 1]
            end_loss = values[2 * index + 1].item()
            known = torch.stack([gradient, middle_gradient, end_gradient])
            yield step, _refine(objective, starts[index], ends[index] - starts[index], (loss, end_loss), known, **limits)
            loss, gradient = end_loss, end_gradient
        point = ends[-1]


def _refine(
    objective: Objective,
    start: Tensor,
    movement: Tensor,
    losses: tuple[float, float],
    gradients: Tensor,
    *,
    max_error: float,
    max_intervals: int,
) -> Allocation:
    """Composite Simpson from gradients at start, middle and end, doubling the intervals until the error is small.

    Three running sums (ends, even and odd interior points) hold whatever number of intervals.
    """
    ends, even, odd = gradients[0] + gradients[2], torch.zeros_like(movement), gradients[1]
    intervals = 2
    while True:
        mean_gradient = (ends + 4 * odd + 2 * even) / (3 * intervals)
        change = mean_gradient * movement
        error = losses[1] - losses[0] - change.sum().item()
        # a non-finite error stays as it is: splitting further cannot mend it
        if not abs(error) > max_error or not np.isfinite(error) or 2 * intervals > max_intervals:
            break
        intervals *= 2
        even = even + odd
        fractions = torch.arange(1, intervals, 2, dtype=torch.float64, device=movement.device) / intervals
        odd = torch.zeros_like(movement)
        for pair in fractions.split(4):
            odd += objective.values_and_gradients(start + pair[:, None] * movement)[1].sum(0)
    return Allocation(change, error, intervals, *losses, gradients[0], gradients[2], mean_gradient, movement)


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


def _check_limits(max_error: float, max_intervals: int) -> None:
    if not max_error > 0 or max_intervals < 2:
        raise ReplicationError(f"max_error is {max_error} and max_intervals {max_intervals}; allowed: above 0, and 2 or more.")
