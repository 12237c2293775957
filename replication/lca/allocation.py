"""Loss Change Allocation of one step (Lan et al. 2019, arXiv 1909.01440; docs/papers/lca.md).

The change of the loss along a training path is split over parameters and iterations: A_{t,i} is the line integral of the
i-th component of the gradient along the straight segment from theta_t to theta_{t+1}. A < 0 helps, A > 0 hurts, and the
sum over i is the change of the loss in step t. The paper calls its rule RK4; along a path that is known it is Simpson's.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from replication.errors import ReplicationError
from replication.objective.objective import Objective

_POINTS_AT_ONCE = 4  # interior points of a refined segment that are evaluated together


@dataclass(frozen=True)
class Allocation:
    """The loss change of one step, split over parameters.

    Attributes:
        change: A, float64 ``[n_parameters]``, in loss units; negative helps.
        error: (loss_end - loss_start) - sum of A: what the integration missed, in loss units.
        intervals: Simpson intervals used.
        loss_start, loss_end: the loss at both ends.
        gradient_start, gradient_end: its gradients there, float64 ``[n_parameters]``.
        mean_gradient: the gradient averaged along the segment; ``change`` is its product with the movement.
        movement: theta_end - theta_start, float64.
        by_class: A of each class's share of the loss ``[n_classes, n_parameters]``; the rows sum to ``change``. None if not asked for.
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
class Integrand:
    """What is integrated along a segment, as rows of gradients.

    The first rows are of the training loss (one row, or one for each class's share of it); a validation loss adds a last row.
    ``buffers`` ``[n_buffers]`` stand in for the model's own.

    >>> objective = Objective(torch.nn.Linear(1, 2), torch.ones(4, 1), torch.tensor([0, 1, 1, 1]))
    >>> values, gradients = Integrand(objective, by_class=True, validation=objective).at(torch.zeros(1, 4))
    >>> values.shape, gradients.shape
    (torch.Size([1, 3]), torch.Size([1, 3, 4]))
    """

    objective: Objective
    by_class: bool
    validation: Objective | None
    buffers: Tensor | None = None

    @property
    def training_rows(self) -> int:
        """How many rows the training loss takes."""
        return self.objective.n_classes if self.by_class else 1

    def at(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Values ``[n_points, n_rows]`` and gradients ``[n_points, n_rows, n_parameters]``, float64."""
        if self.by_class:
            values, gradients = self.objective.values_and_gradients_by_class(points, buffers=self.buffers)
        else:
            values, gradients = (result[:, None] for result in self.objective.values_and_gradients(points, buffers=self.buffers))
        if self.validation is None:
            return values, gradients
        validation_values, validation_gradients = self.validation.values_and_gradients(points, buffers=self.buffers)
        return torch.cat([values, validation_values[:, None]], 1), torch.cat([gradients, validation_gradients[:, None]], 1)


@dataclass(frozen=True)
class Limits:
    """When the refinement of a step ends: the error is at most ``max_error`` (loss units), or ``max_intervals`` are used.

    Raises:
        ReplicationError: limits that are not positive, or fewer intervals than the rule's two.

    >>> Limits(max_error=0.0, max_intervals=32)
    Traceback (most recent call last):
    replication.errors.ReplicationError: max_error is 0.0 and max_intervals 32; allowed: above 0, and 2 or more.
    """

    max_error: float
    max_intervals: int

    def __post_init__(self) -> None:  # noqa: D105
        if not self.max_error > 0 or self.max_intervals < 2:
            raise ReplicationError(
                f"max_error is {self.max_error} and max_intervals {self.max_intervals}; allowed: above 0, and 2 or more."
            )

    def end(self, error: float, intervals: int) -> bool:
        """Whether to stop; a non-finite error also ends it, because more intervals cannot make it finite."""
        return not abs(error) > self.max_error or not np.isfinite(error) or 2 * intervals > self.max_intervals


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
    """Split the loss change of one step over the parameters (Lan et al. 2019).

    Composite Simpson's rule on the straight segment: the number of intervals doubles from 2 until abs(error) is at most
    ``max_error`` (absolute, loss units) or ``max_intervals`` is reached; the error is reported either way.

    Args:
        objective: the loss on a fixed set of examples.
        theta_start, theta_end: parameter vectors ``[n_parameters]``; interpolated in float64.
        by_class: also split over the classes of the examples (LCA, Figure 8).
        validation: the loss of the same network on other examples, allocated at the same points; its error splits no interval.

    Raises:
        ReplicationError: a vector of another length, or limits that are not positive.

    The mean of ``(theta x - 2 x)^2`` over x = 1, 2 is 2.5 (theta - 2)^2, which falls from 10 to 2.5 between 0 and 1:

    >>> x = torch.tensor([[1.0], [2.0]])
    >>> def loss(outputs, targets):
    ...     return ((outputs - targets) ** 2).sum(1)
    >>> objective = Objective(torch.nn.Linear(1, 1, bias=False), x, 2 * x, loss=loss)
    >>> allocation = allocate(objective, torch.tensor([0.0]), torch.tensor([1.0]))
    >>> allocation.change
    tensor([-7.5000], dtype=torch.float64)
    >>> allocation.first_order, allocation.intervals
    (tensor([-10.], dtype=torch.float64), 2)
    """
    limits = Limits(max_error=max_error, max_intervals=max_intervals)
    start, end = theta_start.to(objective.device).double(), theta_end.to(objective.device).double()
    integrand = Integrand(objective, by_class=by_class, validation=validation)
    values, gradients = integrand.at(torch.stack([start, (start + end) / 2, end]))
    return refine(integrand, start, end - start, values[[0, 2]], gradients, limits)


def refine(integrand: Integrand, start: Tensor, movement: Tensor, losses: Tensor, gradients: Tensor, limits: Limits) -> Allocation:
    """The allocation of a segment whose ends and middle are known: intervals are doubled until the error is small.

    Three running sums (both ends, even and odd interior points) are enough for any number of intervals.

    Args:
        start, movement: ``[n_parameters]``, float64.
        losses: at both ends ``[2, n_rows]``.
        gradients: at the start, the middle and the end ``[3, n_rows, n_parameters]``.

    >>> x = torch.tensor([[1.0], [2.0]])
    >>> objective = Objective(torch.nn.Linear(1, 1, bias=False), x, x, loss=lambda outputs, targets: (outputs**4).sum(1))
    >>> integrand, start, movement = Integrand(objective, by_class=False, validation=None), torch.zeros(1), torch.ones(1)
    >>> values, gradients = integrand.at(torch.tensor([[0.0], [0.5], [1.0]]))
    >>> refine(integrand, start, movement, values[[0, 2]], gradients, Limits(max_error=1e-9, max_intervals=8)).intervals
    2
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
        if limits.end(error, intervals):
            break
        intervals *= 2
        even = even + odd
        fractions = torch.arange(1, intervals, 2, dtype=torch.float64, device=movement.device) / intervals
        odd = torch.zeros_like(ends)
        for block in fractions.split(_POINTS_AT_ONCE):
            odd += integrand.at(start + block[:, None] * movement)[1].sum(0)
    with_validation = integrand.validation is not None
    return Allocation(
        change=change,
        error=error,
        intervals=intervals,
        loss_start=loss_start,
        loss_end=loss_end,
        gradient_start=gradients[0, :rows].sum(0),
        gradient_end=gradients[2, :rows].sum(0),
        mean_gradient=mean_gradient,
        movement=movement,
        by_class=mean_gradients[:rows] * movement if integrand.by_class else None,
        validation=mean_gradients[rows] * movement if with_validation else None,
        validation_losses=(losses[0, -1].item(), losses[1, -1].item()) if with_validation else (np.nan, np.nan),
    )
