"""How far a contour around the minimiser lies from it, and how round it is (Li et al. 2018, arXiv 1712.09913, Figures 3, 5 and 6).

The paper draws contours of the loss from 0.1 on and compares networks by their size and shape. The numbers are ours.
"""

import numpy as np

from replication.landscape.surface_grid import Surface, circle

_RAYS = 128
_FINE = 4  # samples per spacing along a ray


def contour_radii(surface: Surface, level: float) -> np.ndarray:
    """Along each of 128 rays from the centre, the distance up to which the loss stays below ``level``, ``[128]``.

    The loss is bilinear between the grid's points and linear between samples along a ray; a loss that is not finite counts as infinite.
    A ray on which the loss stays below the level ends at the edge of the grid. All are 0 where the loss at the centre is not below the
    level (there is no such contour around the minimiser), nan where it is not finite.

    Example:
        >>> axis = np.linspace(-1, 1, 51)
        >>> x, y = np.meshgrid(axis, axis)
        >>> bowl = Surface(loss=x**2 + y**2, alphas=axis, betas=axis)
        >>> radii = contour_radii(bowl, 0.25)
        >>> float(radii.min().round(2)), float(radii.max().round(2))
        (0.5, 0.5)
    """
    if not np.isfinite(surface.centre):
        return np.full(_RAYS, np.nan)
    directions = circle(_RAYS)
    ends = surface.edge / np.abs(directions).max(axis=1)
    steps = np.linspace(0, 1, 1 + _FINE * max(surface.loss.shape))
    distances = ends[:, None] * steps  # [rays, samples]
    loss = surface.at((distances[..., None] * directions[:, None]).reshape(-1, 2)).reshape(distances.shape)
    below = np.where(np.isfinite(loss), loss, np.inf) < level
    first = np.where(below.all(axis=1), len(steps), below.argmin(axis=1))  # the first sample that is not below the level
    return np.array([_crossing(*ray, level) for ray in zip(distances, loss, first, strict=True)])


def _crossing(distances: np.ndarray, loss: np.ndarray, first: int, level: float) -> float:
    """Where the loss reaches the level between the samples ``first - 1`` and ``first``."""
    if first == 0 or first == len(distances):
        return float(distances[min(first, len(distances) - 1)])
    if not np.isfinite(loss[first]):
        return float(distances[first - 1])
    return float(np.interp(level, loss[first - 1 : first + 1], distances[first - 1 : first + 1]))


def contour_radius(surface: Surface, level: float) -> float:
    """The mean of ``contour_radii``: how far the contour at ``level`` lies from the minimiser.

    Example:
        >>> axis = np.linspace(-1, 1, 51)
        >>> x, y = np.meshgrid(axis, axis)
        >>> round(contour_radius(Surface(loss=0.2 + x**2 + y**2, alphas=axis, betas=axis), 0.45), 2)
        0.5
    """
    return float(contour_radii(surface, level).mean())


def contour_irregularity(radii: np.ndarray) -> float:
    """Standard deviation over mean of a contour's radii: 0 for a circle; nan where there is no contour.

    Example:
        >>> contour_irregularity(np.array([1.0, 1.0, 3.0, 3.0]))
        0.5
    """
    mean = float(radii.mean())
    return float(radii.std()) / mean if mean > 0 else float("nan")
