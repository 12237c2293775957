"""Slices of the loss through parameter space (Li et al. 2018, arXiv 1712.09913): lines, surfaces, interpolation.

f(alpha, beta) = L(theta* + alpha delta + beta eta): mean loss on a fixed set of examples, in evaluation mode with the running
statistics of the unperturbed network (sections 2 and 4; specification 1.1 to 1.6). Every function returns a table with a row
per point: coordinates, ``computed``, ``loss``, ``accuracy`` in [0, 1], and ``standard_error`` of the loss over the examples.
A non-finite loss is a result; a point that was not computed yet says so in ``computed``. A table handed back as ``done`` is
continued, so a long surface is made in goes of ``limit`` points and saved between them.
"""

from collections.abc import Callable

import pandas as pd
from torch import Tensor, nn

from replication.errors import ReplicationError
from replication.landscape.directions import axis_generator, normalised, random_direction
from replication.landscape.grid import Coordinates, Progress, fill, plane
from replication.landscape.surface_measures import as_grid
from replication.landscape.trajectories import captured_variance, project, random_walk_control, trajectory_plane
from replication.objective.evaluation import Evaluation
from replication.objective.objective import Objective
from replication.objective.vector import buffer_shapes, flat_buffers, flat_parameters, layout_of

__all__ = [
    "as_grid",
    "axis_generator",
    "captured_variance",
    "interpolation",
    "line",
    "normalised",
    "project",
    "random_direction",
    "random_walk_control",
    "surface",
    "trajectory_plane",
]


def line(
    objective: Objective,
    direction: Tensor,
    alphas: Coordinates,
    *,
    centre: Tensor | None = None,
    done: pd.DataFrame | None = None,
    limit: int | None = None,
    progress: Progress = None,
) -> pd.DataFrame:
    """The loss at centre + alpha direction.

    Args:
        direction: ``[n_parameters]``.
        alphas: increasing.
        centre: ``[n_parameters]``; the objective's own parameters by default.
        done, limit, progress: an earlier table to continue, the most points to compute now, called with (done, all).

    Returns:
        Columns alpha, computed, loss, accuracy, standard_error.

    Raises:
        ReplicationError: a direction, coordinates or an earlier table that do not fit.
    """
    point = plane(_centre(objective, centre), [direction])
    evaluate = _evaluation(lambda at: objective.evaluate(point(at)))
    return fill({"alpha": alphas}, evaluate, Evaluation._fields, done=done, limit=limit, progress=progress)


def surface(
    objective: Objective,
    direction_x: Tensor,
    direction_y: Tensor,
    alphas: Coordinates,
    betas: Coordinates,
    *,
    centre: Tensor | None = None,
    done: pd.DataFrame | None = None,
    limit: int | None = None,
    progress: Progress = None,
) -> pd.DataFrame:
    """The loss at centre + alpha direction_x + beta direction_y; ``as_grid`` turns a column into ``[n_betas, n_alphas]``.

    Args:
        direction_x, direction_y: ``[n_parameters]``; used as they are, not made orthogonal.
        alphas, betas: increasing; a span of betas makes a part of the surface, parts are concatenated.
        centre, done, limit, progress: as in ``line``.

    Returns:
        Columns alpha, beta, computed, loss, accuracy, standard_error; alpha varies fastest.

    Raises:
        ReplicationError: a direction, coordinates or an earlier table that do not fit.
    """
    point = plane(_centre(objective, centre), [direction_x, direction_y])
    evaluate = _evaluation(lambda at: objective.evaluate(point(at)))
    return fill({"alpha": alphas, "beta": betas}, evaluate, Evaluation._fields, done=done, limit=limit, progress=progress)


def interpolation(
    objective: Objective,
    start: nn.Module,
    end: nn.Module,
    alphas: Coordinates,
    *,
    statistics: bool = True,
    done: pd.DataFrame | None = None,
    limit: int | None = None,
    progress: Progress = None,
) -> pd.DataFrame:
    """The loss between two networks of the objective's form, start at alpha = 0 and end at 1 (Figure 2; specification 1.6).

    Batch norm's running statistics move along; outside [0, 1] a variance may become negative, and the loss is then nan.

    Args:
        start, end: the two minimisers; the objective gives the form, the examples and the loss.
        statistics: False leaves the statistics at those of ``start``, which gives wrong losses at ``end``.
        done, limit, progress: as in ``line``.

    Returns:
        As ``line``.

    Raises:
        ReplicationError: a network of another form, coordinates or an earlier table that do not fit.
    """
    for model in (start, end):
        shapes = [(slot.name, slot.shape) for slot in layout_of(model)]
        if shapes != [(slot.name, slot.shape) for slot in objective.layout] or len(buffer_shapes(model)) != len(buffer_shapes(start)):
            raise ReplicationError(
                "The networks differ in their parameters or buffers; interpolate between two of the objective's own form."
            )
    first, last = (flat_parameters(model) for model in (start, end))
    point = plane(first, [last - first])
    moving = len(objective.buffers()) > 0  # none where the objective uses batch statistics
    first_buffers, last_buffers = flat_buffers(start), flat_buffers(end)
    buffers = plane(first_buffers, [(last_buffers - first_buffers) * statistics])

    def evaluate(at: tuple[float, ...]) -> Evaluation:
        return objective.evaluate(point(at), buffers=buffers(at) if moving else None)

    return fill({"alpha": alphas}, _evaluation(evaluate), Evaluation._fields, done=done, limit=limit, progress=progress)


def _centre(objective: Objective, centre: Tensor | None) -> Tensor:
    return objective.parameters() if centre is None else centre.to(objective.device)


def _evaluation(evaluate: Callable[[tuple[float, ...]], Evaluation]) -> Callable[[tuple[float, ...]], dict[str, float]]:
    return lambda at: evaluate(at)._asdict()
