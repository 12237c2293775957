"""Slices of the loss through parameter space (Li et al. 2018, arXiv 1712.09913): lines, surfaces, interpolation.

f(alpha, beta) = L(theta* + alpha delta + beta eta): mean loss on a fixed set of examples, in evaluation mode with the running
statistics of the unperturbed network (sections 2 and 4). Every function returns a table with a row per point: coordinates,
``computed``, ``loss``, ``accuracy`` in [0, 1], and ``standard_error`` of the loss over the examples. A loss that is not finite
is a result; ``computed`` is False at points that were not evaluated yet. A table given as ``done`` is continued: a long surface
can be computed ``limit`` points at a time and saved in between.
"""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
from torch import nn

from replication.errors import ReplicationError
from replication.landscape.grid import Coordinates, Progress, Vector, fill, plane, plane_through
from replication.objective.evaluation import Evaluation
from replication.objective.objective import Objective
from replication.objective.vector import buffer_shapes, flat_buffers, flat_parameters, layout_of


def line(
    objective: Objective,
    direction: Vector,
    alphas: Coordinates,
    *,
    centre: Vector | None = None,
    done: pd.DataFrame | None = None,
    limit: int | None = None,
    progress: Progress = None,
    save_to: Path | str | None = None,
) -> pd.DataFrame:
    """The loss at centre + alpha direction.

    Args:
        direction: ``[n_parameters]``, a tensor, array or list.
        alphas: increasing.
        centre: ``[n_parameters]``; the objective's own parameters by default.
        done: an earlier table of the same line; its computed points are kept.
        limit: the most points to compute now; all by default.
        progress: called after each point with (points computed, points of the line).
        save_to: a CSV file that is written after every point, so that an interrupt loses one point; a file that is there is continued.

    Returns:
        Columns alpha, computed, loss, accuracy, standard_error.

    Raises:
        ReplicationError: a direction, coordinates or an earlier table that do not fit, or a file that cannot be written.

    Example:
        >>> import torch
        >>> images, labels = torch.tensor([[1.0], [-1.0]]), torch.tensor([0, 1])
        >>> objective = Objective(nn.Linear(1, 2, bias=False), images, labels)
        >>> table = line(objective, torch.tensor([1.0, -1.0]), [0.0, 1.0], centre=torch.zeros(2))
        >>> table["loss"].round(4).tolist()
        [0.6931, 0.1269]
    """
    point = plane_through(objective, [direction], centre)
    row = _as_row(lambda at: objective.evaluate(point(at)))
    return fill({"alpha": alphas}, row, Evaluation._fields, done=done, limit=limit, progress=progress, save_to=save_to)


def surface(
    objective: Objective,
    direction_x: Vector,
    direction_y: Vector,
    alphas: Coordinates,
    betas: Coordinates,
    *,
    centre: Vector | None = None,
    done: pd.DataFrame | None = None,
    limit: int | None = None,
    progress: Progress = None,
    save_to: Path | str | None = None,
) -> pd.DataFrame:
    """The loss at centre + alpha direction_x + beta direction_y; ``as_grid`` turns a column into ``[n_betas, n_alphas]``.

    Args:
        direction_x, direction_y: ``[n_parameters]``; used as they are, not made orthogonal.
        alphas, betas: increasing; a part of the betas gives that part of the surface, and parts are joined by ``pandas.concat``.
        centre, done, limit, progress, save_to: as in ``line``.

    Returns:
        Columns alpha, beta, computed, loss, accuracy, standard_error; alpha varies fastest.

    Raises:
        ReplicationError: a direction, coordinates or an earlier table that do not fit, or a file that cannot be written.

    Example:
        >>> import torch
        >>> images, labels = torch.tensor([[1.0], [-1.0]]), torch.tensor([0, 1])
        >>> objective = Objective(nn.Linear(1, 2, bias=False), images, labels)
        >>> x, y = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
        >>> table = surface(objective, x, y, [-1.0, 1.0], [-1.0, 1.0], centre=torch.zeros(2))
        >>> table["loss"].round(4).tolist()
        [0.6931, 0.1269, 2.1269, 0.6931]
    """
    point = plane_through(objective, [direction_x, direction_y], centre)
    row = _as_row(lambda at: objective.evaluate(point(at)))
    return fill({"alpha": alphas, "beta": betas}, row, Evaluation._fields, done=done, limit=limit, progress=progress, save_to=save_to)


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
    save_to: Path | str | None = None,
) -> pd.DataFrame:
    """The loss on the straight line between two networks, ``start`` at alpha = 0 and ``end`` at alpha = 1 (section 3, Figure 2).

    Batch norm's running statistics move with the weights. Outside [0, 1] a variance may become negative; the loss is then nan.

    Args:
        objective: gives the examples and the loss.
        start, end: two networks of the objective's architecture, usually two minimisers.
        statistics: False keeps the running statistics of ``start``, which gives wrong losses at ``end``.
        done, limit, progress, save_to: as in ``line``.

    Returns:
        As ``line``.

    Raises:
        ReplicationError: a network of another architecture, coordinates or an earlier table that do not fit.

    Example:
        >>> import torch
        >>> images, labels = torch.tensor([[1.0], [-1.0]]), torch.tensor([0, 1])
        >>> start, end = nn.Linear(1, 2), nn.Linear(1, 2)
        >>> objective = Objective(start, images, labels)
        >>> table = interpolation(objective, start, end, [0.0, 0.5, 1.0])
        >>> bool(abs(table["loss"].iloc[2] - objective.value(torch.cat([end.weight.flatten(), end.bias]))) < 1e-6)
        True
    """
    for model in (start, end):
        shapes = [(slot.name, slot.shape) for slot in layout_of(model)]
        if shapes != [(slot.name, slot.shape) for slot in objective.layout] or len(buffer_shapes(model)) != len(buffer_shapes(start)):
            raise ReplicationError(
                "The networks differ in their parameters or buffers; interpolate between two networks of the objective's architecture."
            )
    for model, name in ((start, "The network at alpha = 0"), (end, "The network at alpha = 1"))[: 2 if statistics else 1]:
        objective.refuse_other_network(model, name)
    first, last = (flat_parameters(model) for model in (start, end))
    point = plane(first, [last - first])
    first_buffers, last_buffers = flat_buffers(start), flat_buffers(end if statistics else start)
    buffers = plane(first_buffers, [last_buffers - first_buffers])
    has_buffers = len(objective.buffers()) > 0  # False where the objective uses batch statistics

    def evaluate(at: tuple[float, ...]) -> Evaluation:
        return objective.evaluate(point(at), buffers=buffers(at) if has_buffers else None)

    return fill({"alpha": alphas}, _as_row(evaluate), Evaluation._fields, done=done, limit=limit, progress=progress, save_to=save_to)


def _as_row(evaluate: Callable[[tuple[float, ...]], Evaluation]) -> Callable[[tuple[float, ...]], dict[str, float]]:
    return lambda at: evaluate(at)._asdict()
