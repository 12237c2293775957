"""Grids of points on a line or plane in parameter space, as tables that can be filled in several calls."""

import itertools
import numbers
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from replication.errors import ReplicationError
from replication.files.atomic import atomic
from replication.objective.objective import Objective

Coordinates = Sequence[float] | np.ndarray | Tensor
Vector = Tensor | np.ndarray | Sequence[float]
Progress = Callable[[int, int], None] | None

_AGREEMENT = 1e-4  # relative difference that rounding may make, on another processor too
_TRUTH = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}


def fill(
    axes: dict[str, Coordinates],
    evaluate: Callable[[tuple[float, ...]], dict[str, float]],
    columns: Sequence[str],
    *,
    done: pd.DataFrame | None = None,
    limit: int | None = None,
    progress: Progress = None,
    save_to: Path | str | None = None,
    compared: Mapping[str, str | None] | None = None,
) -> pd.DataFrame:
    """Evaluate the points of a grid that ``done`` has not, and return the whole table.

    A few points of an earlier table are evaluated again, at its corners, edges and middle: a table of another network, direction, loss
    or set of examples gives itself away there, whatever file it was kept in.

    Args:
        axes: coordinates by name, the fastest-varying first (alpha, then beta).
        evaluate: the values of ``columns`` at a point.
        done: an earlier table of the same grid; its computed points are taken over, finite or not.
        limit: the most points to compute now.
        progress: called with (points computed, points of the grid).
        save_to: a CSV file that is written after every point, so that an interrupt loses one point; if it is there already, it is
            continued like ``done``.
        compared: columns that an earlier table must share at the points that are evaluated again, to rounding, each with the column of its
            error bound if it has one; the first column by default.

    Returns:
        One row per point, in the grid's order: the coordinates, ``computed``, and ``columns`` (nan where not computed).

    Raises:
        ReplicationError: coordinates that are not finite and increasing, a limit that is no whole number, an earlier table of another grid
            or of other values, or a file that cannot be read or written.

    Example:
        >>> squares = fill({"alpha": [0.0, 1.0, 2.0]}, lambda at: {"loss": at[0] ** 2}, ["loss"], limit=2)
        >>> squares["computed"].tolist()
        [True, True, False]
        >>> fill({"alpha": [0.0, 1.0, 2.0]}, lambda at: {"loss": at[0] ** 2}, ["loss"], done=squares)["loss"].tolist()
        [0.0, 1.0, 4.0]
    """
    table = _empty(axes, columns)
    if limit is not None and (not isinstance(limit, numbers.Integral) or limit < 0):
        raise ReplicationError(f"The limit is {limit!r}; allowed: a whole number of points to compute now, or None for all.")
    if done is None and save_to is not None and Path(save_to).exists():
        done = _read(Path(save_to))
    if done is not None:
        table = _continued(table, done, list(axes), columns)
        _check_same_values(table, list(axes), {columns[0]: None} if compared is None else compared, evaluate)
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


def as_vector(values: Vector, name: str) -> Tensor:
    """A vector of real numbers as a tensor: whole numbers become float64, floating-point ones keep their type.

    Args:
        values: ``[n]``, a tensor, array or list.
        name: what the vector is called in messages.

    Raises:
        ReplicationError: something else.

    Example:
        >>> as_vector([1, 2], "direction")
        tensor([1., 2.], dtype=torch.float64)
    """
    try:
        vector = values if isinstance(values, Tensor) else torch.as_tensor(np.asarray(values))
    except (TypeError, ValueError):
        vector = None
    if vector is None or vector.dim() != 1 or vector.is_complex():
        what = (
            type(values).__name__ if vector is None else f"{type(values).__name__} of shape {tuple(vector.shape)} and type {vector.dtype}"
        )
        raise ReplicationError(f"The {name} is a {what}; give one vector of real numbers: a tensor, an array or a list.")
    return vector if vector.is_floating_point() else vector.double()


def plane_through(objective: Objective, directions: Sequence[Vector], centre: Vector | None) -> Callable[[tuple[float, ...]], Tensor]:
    """As ``plane``, at ``centre`` or else the objective's own parameters, and on its device.

    Raises:
        ReplicationError: as in ``plane``; a centre or direction that is no vector.

    Example:
        >>> objective = Objective(torch.nn.Linear(1, 2, bias=False), torch.ones(1, 1), torch.tensor([0]))
        >>> plane_through(objective, [[1, 0]], [0.0, 0.5])((2.0,)).tolist()
        [2.0, 0.5]
    """
    origin = objective.parameters() if centre is None else as_vector(centre, "centre").to(objective.device)
    return plane(origin, [as_vector(direction, "direction") for direction in directions])


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

    Raises:
        ReplicationError: a point that the table has more than once.

    Example:
        >>> table = pd.DataFrame({"alpha": [0.0, 1.0, 0.0, 1.0], "beta": [0.0, 0.0, 5.0, 5.0], "loss": [1.0, 2.0, 3.0, 4.0]})
        >>> loss, alphas, betas = as_grid(table, "loss")
        >>> loss.tolist(), alphas.tolist(), betas.tolist()
        ([[1.0, 2.0], [3.0, 4.0]], [0.0, 1.0], [0.0, 5.0])
    """
    repeated = table[table.duplicated(["alpha", "beta"])]
    if len(repeated):
        alpha, beta = (repeated[axis].iloc[0] for axis in ("alpha", "beta"))
        raise ReplicationError(
            f"The table has the point alpha {alpha:g}, beta {beta:g} more than once; give each point once: leave out the rows that parts "
            'of a surface share, as in table.drop_duplicates(["alpha", "beta"]).'
        )
    wide = table.pivot(index="beta", columns="alpha", values=column)
    return wide.to_numpy(dtype=np.float64), wide.columns.to_numpy(dtype=np.float64), wide.index.to_numpy(dtype=np.float64)


def computed_rows(table: pd.DataFrame) -> np.ndarray:
    """The column ``computed`` as truth values ``[n_rows]``, also where it was stored as 0 and 1 or as text.

    Raises:
        ReplicationError: another entry.

    Example:
        >>> computed_rows(pd.DataFrame({"computed": ["True", "False"]})).tolist()
        [True, False]
    """
    values = table["computed"].map(lambda value: _TRUTH.get(str(value).strip().lower()))
    if values.isna().any():
        value = table["computed"][values.isna()].iloc[0]
        raise ReplicationError(
            f"The table's column 'computed' has the entry {value!r}; allowed: True and False, as the function wrote them."
        )
    return values.to_numpy(dtype=bool)


def _read(file: Path) -> pd.DataFrame:
    """The table of an earlier call.

    Raises:
        ReplicationError: a folder, or a file that is no table.
    """
    try:
        return pd.read_csv(file)
    except (OSError, ValueError) as error:  # empty and malformed files are ValueErrors of pandas
        reason = " ".join(str(error).split())[:200]
        raise ReplicationError(
            f"{file} holds no earlier table ({reason}); give a new file, or one that this function has written."
        ) from None


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
    continued = table.assign(computed=computed_rows(done))
    return continued.assign(**{column: done[column].to_numpy(dtype=np.float64) for column in columns})


def _check_same_values(
    table: pd.DataFrame, axes: list[str], compared: Mapping[str, str | None], evaluate: Callable[[tuple[float, ...]], dict[str, float]]
) -> None:
    """Evaluate a few computed points again."""
    computed = table[table["computed"].to_numpy() & np.isfinite(table[list(compared)].to_numpy()).all(axis=1)]
    if computed.empty:
        return
    for place in _telling_places(computed[axes].to_numpy()):
        row = computed.iloc[place]
        at = tuple(float(row[axis]) for axis in axes)
        values = evaluate(at)
        for column, bound in compared.items():
            before, now = float(row[column]), values[column]
            allowed = _AGREEMENT * max(abs(now), abs(before)) + 1e-9 + (0.0 if bound is None else float(row[bound]) + values[bound])
            if not abs(now - before) <= allowed:
                where = ", ".join(f"{axis} {coordinate:g}" for axis, coordinate in zip(axes, at, strict=True))
                raise ReplicationError(
                    f"The earlier table has the {column} {before:.6g} at {where}, and it is {now:.6g} here: the table belongs to another "
                    "network, direction, loss or set of examples; start without it."
                )


def _telling_places(points: np.ndarray) -> list[int]:
    """Places in ``points`` ``[n, n_axes]``: the corners, the end of each axis through the middle, and the middle."""
    n_axes = points.shape[1]
    corners = points @ np.array(list(itertools.product((1, -1), repeat=n_axes))).T
    from_middle = np.abs(points - np.median(points, axis=0))
    ends = [np.lexsort((-points[:, axis], np.delete(from_middle, axis, axis=1).sum(axis=1)))[0] for axis in range(n_axes)]
    return sorted({*corners.argmax(axis=0).tolist(), *map(int, ends), int(from_middle.sum(axis=1).argmin())})
