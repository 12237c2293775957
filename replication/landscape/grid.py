"""Grids of points on a line or plane in parameter space, as tables that can be filled in several calls."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from replication.errors import ReplicationError
from replication.files.atomic import atomic

Coordinates = Sequence[float] | np.ndarray | Tensor
Progress = Callable[[int, int], None] | None


def fill(
    axes: dict[str, Coordinates],
    evaluate: Callable[[tuple[float, ...]], dict[str, float]],
    columns: Sequence[str],
    *,
    done: pd.DataFrame | None = None,
    limit: int | None = None,
    progress: Progress = None,
    save_to: Path | str | None = None,
    agreement: float = 1e-3,
) -> pd.DataFrame:
    """Evaluate the points of a grid that ``done`` has not, and return the whole table.

    One point of an earlier table is evaluated again, the one farthest from the centre: a table of another network, direction, loss or
    set of examples gives itself away there, whatever file it was kept in.

    Args:
        axes: coordinates by name, the fastest-varying first (alpha, then beta).
        evaluate: the values of ``columns`` at a point.
        done: an earlier table of the same grid; its computed points are taken over, finite or not.
        limit: the most points to compute now.
        progress: called with (points computed, points of the grid).
        save_to: a CSV file that is written after every point, so that an interrupt loses one point; if it is there already, it is
            continued like ``done``.
        agreement: relative difference of the first column that an earlier table may have at the point that is evaluated again.

    Returns:
        One row per point, in the grid's order: the coordinates, ``computed``, and ``columns`` (nan where not computed).

    Raises:
        ReplicationError: coordinates that are not finite and increasing, an earlier table of another grid or of other values, or a file
            that cannot be written.

    Example:
        >>> squares = fill({"alpha": [0.0, 1.0, 2.0]}, lambda at: {"loss": at[0] ** 2}, ["loss"], limit=2)
        >>> squares["computed"].tolist()
        [True, True, False]
        >>> fill({"alpha": [0.0, 1.0, 2.0]}, lambda at: {"loss": at[0] ** 2}, ["loss"], done=squares)["loss"].tolist()
        [0.0, 1.0, 4.0]
    """
    table = _empty(axes, columns)
    if done is None and save_to is not None and Path(save_to).exists():
        done = pd.read_csv(save_to)
    if done is not None:
        table = _continued(table, done, list(axes), columns)
        _check_same_values(table, list(axes), columns[0], evaluate, agreement)
    missing = np.flatnonzero(~table["computed"].to_numpy())[:limit]
    points, values = table[list(axes)].to_numpy(), table[list(columns)].to_numpy(copy=True)
    for row in missing:
        value_of = evaluate(tuple(points[row].tolist()))
        values[row] = [value_of[column] for column in columns]
        table.loc[row, "computed"] = True
        if save_to is not None:
            table[list(columns)] = values
            with atomic(Path(save_to)) as temporary:
                table.to_csv(temporary, index=False)
        if progress is not None:
            progress(int(table["computed"].sum()), len(table))
    table[list(columns)] = values
    return table


def plane(centre: Tensor, directions: Sequence[Tensor]) -> Callable[[tuple[float, ...]], Tensor]:
    """Coordinates to the point centre + sum of coordinate * direction, in float64 and never incrementally.

    Raises:
        ReplicationError: a direction of another length, or one with a value that is not finite.

    Example:
        >>> point = plane(torch.ones(2), [torch.tensor([1.0, 0.0]), torch.tensor([0.0, 10.0])])
        >>> point((0.5, 2.0)).tolist()
        [1.5, 21.0]
    """
    for direction in directions:
        if direction.shape != centre.shape or not torch.isfinite(direction).all():
            raise ReplicationError(
                f"A direction has shape {tuple(direction.shape)} and {int((~torch.isfinite(direction)).sum())} non-finite values; "
                f"give finite vectors of {len(centre)} numbers."
            )
    centre = centre.double()
    vectors = [direction.to(centre.device).double() for direction in directions]

    def point(coordinates: tuple[float, ...]) -> Tensor:
        theta = centre.clone()
        for coordinate, direction in zip(coordinates, vectors, strict=True):
            theta.add_(direction, alpha=coordinate)
        return theta

    return point


def as_grid(table: pd.DataFrame, column: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A column of a surface's table as an array ``[n_betas, n_alphas]``, with alphas and betas; nan where not computed.

    Example:
        >>> table = pd.DataFrame({"alpha": [0.0, 1.0, 0.0, 1.0], "beta": [0.0, 0.0, 5.0, 5.0], "loss": [1.0, 2.0, 3.0, 4.0]})
        >>> loss, alphas, betas = as_grid(table, "loss")
        >>> loss.tolist(), alphas.tolist(), betas.tolist()
        ([[1.0, 2.0], [3.0, 4.0]], [0.0, 1.0], [0.0, 5.0])
    """
    wide = table.pivot(index="beta", columns="alpha", values=column)
    return wide.to_numpy(dtype=np.float64), wide.columns.to_numpy(dtype=np.float64), wide.index.to_numpy(dtype=np.float64)


def _empty(axes: dict[str, Coordinates], columns: Sequence[str]) -> pd.DataFrame:
    arrays = dict(_checked(axes))
    grids = np.meshgrid(*reversed(arrays.values()), indexing="ij")
    table = pd.DataFrame({name: grid.ravel() for name, grid in zip(arrays, reversed(grids), strict=True)})
    table["computed"] = False
    return table.assign(**dict.fromkeys(columns, np.nan))


def _checked(axes: dict[str, Coordinates]) -> Iterator[tuple[str, np.ndarray]]:
    for name, values in axes.items():
        array = np.asarray(values.cpu() if isinstance(values, Tensor) else values, dtype=np.float64)
        if array.ndim != 1 or not len(array) or not np.isfinite(array).all() or (np.diff(array) <= 0).any():
            raise ReplicationError(f"The {name}s are {values}; give one or more finite numbers in increasing order.")
        yield name, array


def _continued(table: pd.DataFrame, done: pd.DataFrame, axes: list[str], columns: Sequence[str]) -> pd.DataFrame:
    needed = [*axes, "computed", *columns]
    same = len(done) == len(table) and set(needed) <= set(done.columns)
    # a table that was written to a file and read back may differ in the last digit
    if not same or not np.allclose(done[axes], table[axes], rtol=1e-12, atol=1e-12):
        raise ReplicationError(
            f"The earlier table has {len(done)} rows and not this grid of {len(table)} points; give one made with the same axes."
        )
    continued = table.assign(computed=done["computed"].to_numpy(dtype=bool))
    return continued.assign(**{column: done[column].to_numpy(dtype=np.float64) for column in columns})


def _check_same_values(
    table: pd.DataFrame, axes: list[str], column: str, evaluate: Callable[[tuple[float, ...]], dict[str, float]], agreement: float
) -> None:
    """Evaluate one computed point again, as far from the centre as possible along every axis."""
    computed = table[table["computed"] & np.isfinite(table[column])]
    if computed.empty:
        return
    distances = computed[axes].abs()
    row = computed.loc[distances.assign(least=distances.min(axis=1), sum=distances.sum(axis=1)).sort_values(["least", "sum"]).index[-1]]
    at = tuple(float(row[axis]) for axis in axes)
    before, now = float(row[column]), evaluate(at)[column]
    if not abs(now - before) <= agreement * max(abs(now), abs(before)) + 1e-9:
        where = ", ".join(f"{axis} {coordinate:g}" for axis, coordinate in zip(axes, at, strict=True))
        raise ReplicationError(
            f"The earlier table has the {column} {before:.6g} at {where}, and it is {now:.6g} here: the table belongs to another network, "
            "direction, loss or set of examples; start without it."
        )
