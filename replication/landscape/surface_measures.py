"""What the eye judges on a loss surface, as numbers: our own measures, defined in ``docs/landscape.md``.

The paper judges its surfaces by eye (Li et al. 2018, arXiv 1712.09913, sections 5 and 6). All functions take the surface S as
losses ``[n_betas, n_alphas]`` on an even grid of spacing h around the minimiser at (0, 0). A loss that is not finite is no
minimum and lies in no basin; where a formula needs it, the point is left out. ``measures`` says how many such points there are.
"""

from itertools import pairwise

import numpy as np
import pandas as pd
from scipy.ndimage import label, minimum_filter
from scipy.spatial import ConvexHull

from replication.errors import ReplicationError
from replication.landscape.contours import contour_irregularity, contour_radii
from replication.landscape.surface_grid import Surface, circle

CHANCE = float(np.log(10))  # the loss of guessing among ten classes
_RAYS, _RING = 32, 128
_CONVEX, _PARTS = 0.95, 100  # share of its hull that a convex region fills; parts of the levels that ``convexity_level`` tries


def basin_area(surface: Surface, level: float) -> float:
    """Share of the grid's points with a loss below ``level``.

    Example:
        >>> axis = np.linspace(-1, 1, 21)
        >>> x, y = np.meshgrid(axis, axis)
        >>> bowl = Surface(loss=x**2 + y**2, alphas=axis, betas=axis)
        >>> basin_area(bowl, 0.015)  # the centre and its four neighbours, of 441 points
        0.011337868480725623
    """
    return float((surface.loss < level).mean())


def negative_curvature_share(surface: Surface, below: float = np.inf, threshold: float = 0.05) -> float:
    """Share of the inner points with a loss below ``below`` at which lambda_min < -threshold lambda_max; nan if there is no such point.

    Example:
        >>> axis = np.linspace(-1, 1, 21)
        >>> x, y = np.meshgrid(axis, axis)
        >>> saddle = Surface(loss=5 + x**2 - y**2, alphas=axis, betas=axis)
        >>> negative_curvature_share(saddle)
        1.0
    """
    smaller, larger = surface.curvatures()
    counted = np.isfinite(smaller) & (surface.loss[1:-1, 1:-1] < below)
    return float((smaller < -threshold * larger)[counted].mean()) if counted.any() else float("nan")


def rise(surface: Surface, radius: float) -> float:
    """Mean loss on the circle of ``radius`` around the centre minus the loss at the centre.

    Interpolation is bilinear, which lies above a convex surface: compare surfaces of the same spacing only.

    Raises:
        ReplicationError: the circle leaves the grid.

    Example:
        >>> axis = np.linspace(-1, 1, 21)
        >>> x, y = np.meshgrid(axis, axis)
        >>> bowl = Surface(loss=x**2 + y**2, alphas=axis, betas=axis)
        >>> round(rise(bowl, 0.5), 2)
        0.25
    """
    if radius > surface.edge * (1 + 1e-9):
        raise ReplicationError(f"A circle of radius {radius} leaves the grid; choose a smaller radius or a wider surface.")
    return float(surface.at(circle(_RING) * radius).mean() - surface.centre)


def ray_decreases(surface: Surface, threshold: float = 0.01) -> np.ndarray:
    """The share of steps that lower the loss by more than ``threshold`` of it, along each of 32 rays from the centre ``[32]``.

    Steps have length h. A step counts if both its ends are finite and on the grid; a ray without such a step is nan.

    Example:
        >>> axis = np.linspace(-1, 1, 21)
        >>> x, y = np.meshgrid(axis, axis)
        >>> saddle = Surface(loss=5 + x**2 - y**2, alphas=axis, betas=axis)
        >>> shares = ray_decreases(saddle)
        >>> float(shares[0]), bool(shares[8] > 0.5)  # along x the loss rises, along y it falls
        (0.0, True)
    """
    shares = np.full(_RAYS, np.nan)
    steps = np.arange(len(surface.alphas) + len(surface.betas)) * surface.spacing
    for number, direction in enumerate(circle(_RAYS)):
        losses = surface.at(steps[:, None] * direction)
        counted = np.isfinite(losses[1:]) & np.isfinite(losses[:-1])
        if counted.any():
            shares[number] = (losses[1:] < (1 - threshold) * losses[:-1])[counted].mean()
    return shares


def strict_minima(surface: Surface) -> int:
    """Number of inner points whose loss is below that of all eight neighbours.

    Example:
        >>> axis = np.linspace(-1, 1, 21)
        >>> x, y = np.meshgrid(axis, axis)
        >>> bowl = Surface(loss=x**2 + y**2, alphas=axis, betas=axis)
        >>> strict_minima(bowl)
        1
    """
    loss = np.where(np.isnan(surface.loss), np.inf, surface.loss)
    around = np.ones((3, 3))
    around[1, 1] = 0
    lowest = minimum_filter(loss, footprint=around, mode="constant", cval=np.inf)
    return int((loss < lowest)[1:-1, 1:-1].sum())


def away_from_centre_share(surface: Surface) -> float:
    """Share of the inner points, without the centre, at which minus the gradient points away from the centre.

    Example:
        >>> axis = np.linspace(-1, 1, 21)
        >>> x, y = np.meshgrid(axis, axis)
        >>> bowl = Surface(loss=x**2 + y**2, alphas=axis, betas=axis)
        >>> away_from_centre_share(bowl)
        0.0
    """
    slope_y, slope_x = np.gradient(surface.finite, surface.spacing)
    alphas, betas = np.meshgrid(surface.alphas, surface.betas)
    towards = (slope_x * alphas + slope_y * betas)[1:-1, 1:-1]
    counted = np.isfinite(towards) & (np.hypot(alphas, betas)[1:-1, 1:-1] > surface.spacing / 2)
    return float((towards[counted] < 0).mean()) if counted.any() else float("nan")


def roughness(surface: Surface) -> float:
    """Mean of abs(second difference of log(S + 0.001)) along both axes.

    Example:
        >>> axis = np.linspace(-1, 1, 21)
        >>> x, y = np.meshgrid(axis, axis)
        >>> plane = Surface(loss=np.exp(x + y) - 1e-3, alphas=axis, betas=axis)
        >>> round(roughness(plane), 6)
        0.0
    """
    logs = np.log(surface.finite + 1e-3)
    seconds = np.concatenate([np.diff(logs, 2, axis=axis).ravel() for axis in (0, 1)])
    return float(np.nanmean(np.abs(seconds))) if np.isfinite(seconds).any() else float("nan")


def convexity_level(surface: Surface) -> float:
    """The loss up to which every sublevel region around the centre is convex; the largest finite loss if all of them are.

    The region at a level holds the points with a loss up to that level that are connected to the centre (eight neighbours). It
    counts as convex if its points and one more make up more than 95 % of the grid's points in its convex hull: one missing
    point is allowed. On any grid the points of a convex set fill their hull, so a surface with convex sublevel sets passes at
    every level; a region that the edge of the grid cuts off stays convex. The levels are the losses of the surface: first a
    hundred of them are tried, then all in the interval in which convexity ends. nan if the centre is not finite.

    Example:
        >>> axis = np.linspace(-1, 1, 21)
        >>> x, y = np.meshgrid(axis, axis)
        >>> bowl = Surface(loss=x**2 + y**2, alphas=axis, betas=axis)
        >>> convexity_level(bowl)
        2.0
    """
    if not np.isfinite(surface.centre):
        return float("nan")
    losses = np.unique(surface.loss[np.isfinite(surface.loss) & (surface.loss >= surface.centre)])
    ends = [*range(0, len(losses), -(-len(losses) // _PARTS)), len(losses) - 1]
    for before, end in pairwise([-1, *ends]):
        if not _is_convex(surface, losses[end]):
            return next(float(level) for level in losses[before + 1 :] if not _is_convex(surface, level))
    return float(losses[-1])


def _is_convex(surface: Surface, level: float) -> bool:
    parts, _ = label(surface.loss <= level, structure=np.ones((3, 3)))
    region = parts == parts[np.abs(surface.betas).argmin(), np.abs(surface.alphas).argmin()]
    return (region.sum() + 1) / _in_hull(region) > _CONVEX


def _in_hull(region: np.ndarray) -> int:
    """How many points of the grid lie in the convex hull of a region's points."""
    rows = np.flatnonzero(region.any(axis=1))
    first, last = region[rows].argmax(axis=1), region.shape[1] - 1 - region[rows, ::-1].argmax(axis=1)
    corners = np.column_stack([np.tile(rows, 2), np.concatenate([first, last])])
    # a little wider, so that points on the hull's edge lie inside and points on one line have a hull
    wide = np.concatenate([corners + np.array(shift) for shift in ((-1e-3, 0), (1e-3, 0), (0, -1e-3), (0, 1e-3))])
    equations = ConvexHull(wide).equations
    inside = np.indices(region.shape).reshape(2, -1).T @ equations[:, :2].T + equations[:, 2] <= 1e-9
    return int(inside.all(axis=1).sum())


def measures(table: pd.DataFrame, *, chance: float = CHANCE, radii: tuple[float, ...] = (0.25, 0.5)) -> pd.DataFrame:
    """Every measure of a surface's table: columns ``measure`` and ``value``.

    Args:
        table: as ``landscape.surface`` returns it.
        chance: the loss of guessing; points below it lie in the basin. The logarithm of the number of classes.
        radii: of ``rise``; nan for a radius that leaves the grid.

    Raises:
        ReplicationError: a grid without the point (0, 0), or uneven, or smaller than three by three.

    Example:
        >>> x, y = (grid.ravel() for grid in np.meshgrid(np.linspace(-1, 1, 21), np.linspace(-1, 1, 21)))
        >>> value = measures(pd.DataFrame({"alpha": x, "beta": y, "loss": 4 * (x**2 + y**2)})).set_index("measure")["value"]
        >>> value[["centre", "maximum", "strict_minima"]].tolist()
        [0.0, 8.0, 1.0]
    """
    surface = Surface.from_table(table)
    finite = surface.loss[np.isfinite(surface.loss)]
    rays = ray_decreases(surface)
    radii_of = {"0.1": contour_radii(surface, 0.1), "centre_plus_1": contour_radii(surface, surface.centre + 1)}
    value_of: dict[str, float] = {
        "centre": surface.centre,
        "non_finite_points": float(surface.loss.size - len(finite)),
        "maximum": float(finite.max()) if len(finite) else float("nan"),
        "median": float(np.median(finite)) if len(finite) else float("nan"),
        "area_below_chance": basin_area(surface, chance),
        "area_below_centre_plus_1": basin_area(surface, surface.centre + 1),
        "area_below_0.1": basin_area(surface, 0.1),
        **{f"radius_below_{level}": float(distances.mean()) for level, distances in radii_of.items()},
        "irregularity_of_centre_plus_1": contour_irregularity(radii_of["centre_plus_1"]),
        **{f"rise_{radius}": rise(surface, radius) if radius <= surface.edge else float("nan") for radius in radii},
        "negative_curvature": negative_curvature_share(surface),
        "negative_curvature_in_basin": negative_curvature_share(surface, below=chance),
        "ray_decreases": float(np.nanmean(rays)) if np.isfinite(rays).any() else float("nan"),
        "monotone_rays": float((rays[np.isfinite(rays)] == 0).mean()) if np.isfinite(rays).any() else float("nan"),
        "strict_minima": float(strict_minima(surface)),
        "away_from_centre": away_from_centre_share(surface),
        "roughness": roughness(surface),
        "convexity_level": convexity_level(surface),
    }
    return pd.DataFrame({"measure": value_of.keys(), "value": value_of.values()})
