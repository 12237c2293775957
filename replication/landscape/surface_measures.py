"""What the eye judges on a loss surface, as numbers (landscape specification, section 5.3).

All take the surface S as values ``[n_betas, n_alphas]`` on a square grid of spacing h around the minimiser at (0, 0), as
``planes.as_grid`` makes it. A value that is not finite is no minimum, lies in no basin, and takes those points out of a
measure whose formula needs it; ``measures`` says how many there are.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import label, minimum_filter
from scipy.spatial import ConvexHull

from replication.errors import ReplicationError

CHANCE = float(np.log(10))  # the loss of guessing among ten classes
_RAYS, _RING = 32, 128
_CONVEX, _PARTS = 0.95, 100


def as_grid(table: pd.DataFrame, column: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A column of a surface's table as an array ``[n_betas, n_alphas]``, with alphas and betas; nan where not computed."""
    wide = table.pivot(index="beta", columns="alpha", values=column)
    return wide.to_numpy(dtype=np.float64), wide.columns.to_numpy(dtype=np.float64), wide.index.to_numpy(dtype=np.float64)


@dataclass(frozen=True)
class Surface:
    """Loss on an evenly spaced grid.

    Attributes:
        loss: ``[n_betas, n_alphas]``.
        alphas, betas: coordinates of columns and rows.

    Raises:
        ReplicationError: fewer than three points along an axis, uneven or unequal spacing, or no point at (0, 0).
    """

    loss: np.ndarray
    alphas: np.ndarray
    betas: np.ndarray

    def __post_init__(self) -> None:  # noqa: D105
        gaps = np.concatenate([np.diff(self.alphas), np.diff(self.betas)])
        if min(self.loss.shape) < 3 or not np.allclose(gaps, gaps[0], rtol=1e-6):
            raise ReplicationError(
                f"The grid of {self.loss.shape} points is too small or uneven; give three by three or more with one spacing."
            )
        if max(np.abs(self.alphas).min(), np.abs(self.betas).min()) > 1e-9:
            raise ReplicationError("The grid has no point at (0, 0); choose odd counts so that the minimiser lies on it.")

    @classmethod
    def of(cls, table: pd.DataFrame) -> "Surface":
        """The surface of a table by ``landscape.surface``."""
        return cls(*as_grid(table, "loss"))

    @property
    def spacing(self) -> float:
        """h."""
        return float(self.alphas[1] - self.alphas[0])

    @property
    def centre(self) -> float:
        """The loss at (0, 0)."""
        return float(self.loss[np.abs(self.betas).argmin(), np.abs(self.alphas).argmin()])

    @cached_property
    def finite(self) -> np.ndarray:
        """The loss with nan for every value that is not finite."""
        return np.where(np.isfinite(self.loss), self.loss, np.nan)

    @property
    def edge(self) -> float:
        """The largest distance from the centre that stays on the grid in every direction."""
        return float(min(-self.alphas[0], self.alphas[-1], -self.betas[0], self.betas[-1]))

    def at(self, points: np.ndarray) -> np.ndarray:
        """Bilinear interpolation at points (beta, alpha) ``[n, 2]``; nan outside of the grid and beside values that are not finite."""
        inside = np.clip(points, [self.betas[0], self.alphas[0]], [self.betas[-1], self.alphas[-1]])
        # a point on the edge, but for rounding, is on the grid
        points = np.where(np.abs(points - inside) < 1e-9 * self.spacing, inside, points)
        return RegularGridInterpolator((self.betas, self.alphas), self.finite, bounds_error=False)(points)

    def curvatures(self) -> tuple[np.ndarray, np.ndarray]:
        """Smaller and larger eigenvalue ``[n_betas - 2, n_alphas - 2]`` of the slice's Hessian at inner points, central differences."""
        s, h2 = self.finite, self.spacing**2
        xx = (s[1:-1, 2:] - 2 * s[1:-1, 1:-1] + s[1:-1, :-2]) / h2
        yy = (s[2:, 1:-1] - 2 * s[1:-1, 1:-1] + s[:-2, 1:-1]) / h2
        xy = (s[2:, 2:] - s[2:, :-2] - s[:-2, 2:] + s[:-2, :-2]) / (4 * h2)
        mean, radius = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
        return mean - radius, mean + radius


def basin_area(surface: Surface, level: float) -> float:
    """Share of the grid's points with a loss below ``level`` (5.3 e)."""
    return float((surface.loss < level).mean())


def negative_curvature_share(surface: Surface, below: float = np.inf, threshold: float = 0.05) -> float:
    """Share of inner points with a loss under ``below`` at which lambda_min < -threshold lambda_max (5.3 a); nan where there are none."""
    smaller, larger = surface.curvatures()
    counted = np.isfinite(smaller) & (surface.loss[1:-1, 1:-1] < below)
    return float((smaller < -threshold * larger)[counted].mean()) if counted.any() else float("nan")


def rise(surface: Surface, radius: float) -> float:
    """Mean loss on the circle of ``radius`` around the centre minus the loss at the centre (5.3 d).

    Bilinear between grid points, which lies above a convex surface: compare surfaces of the same spacing only.

    Raises:
        ReplicationError: the circle leaves the grid.
    """
    if radius > surface.edge * (1 + 1e-9):
        raise ReplicationError(f"A circle of radius {radius} leaves the grid; choose a smaller radius or a wider surface.")
    return float(surface.at(_circle(_RING) * radius).mean() - surface.centre)


def ray_decreases(surface: Surface, threshold: float = 0.01) -> np.ndarray:
    """For each of 32 rays from the centre, the share of its steps of length h that lower the loss by more than ``threshold`` of it (5.3 b).

    ``[32]``; steps with an end that is not finite or outside of the grid are not counted; nan for a ray without any.
    """
    shares = np.full(_RAYS, np.nan)
    steps = np.arange(len(surface.alphas) + len(surface.betas)) * surface.spacing
    for number, direction in enumerate(_circle(_RAYS)):
        losses = surface.at(steps[:, None] * direction)
        counted = np.isfinite(losses[1:]) & np.isfinite(losses[:-1])
        if counted.any():
            shares[number] = (losses[1:] < (1 - threshold) * losses[:-1])[counted].mean()
    return shares


def strict_minima(surface: Surface) -> int:
    """Number of inner points whose loss is below that of all eight neighbours (5.3 c)."""
    loss = np.where(np.isnan(surface.loss), np.inf, surface.loss)
    around = np.ones((3, 3))
    around[1, 1] = 0
    lowest = minimum_filter(loss, footprint=around, mode="constant", cval=np.inf)
    return int((loss < lowest)[1:-1, 1:-1].sum())


def away_from_centre_share(surface: Surface) -> float:
    """Share of inner points, the centre left out, where the slice's -gradient has a negative component towards the centre (5.3 i)."""
    slope_y, slope_x = np.gradient(surface.finite, surface.spacing)
    alphas, betas = np.meshgrid(surface.alphas, surface.betas)
    towards = (slope_x * alphas + slope_y * betas)[1:-1, 1:-1]
    counted = np.isfinite(towards) & (np.hypot(alphas, betas)[1:-1, 1:-1] > surface.spacing / 2)
    return float((towards[counted] < 0).mean()) if counted.any() else float("nan")


def roughness(surface: Surface) -> float:
    """Mean of abs(second difference of log(S + 0.001)) along both axes (5.3 g)."""
    logs = np.log(surface.finite + 1e-3)
    seconds = np.concatenate([np.diff(logs, 2, axis=axis).ravel() for axis in (0, 1)])
    return float(np.nanmean(np.abs(seconds))) if np.isfinite(seconds).any() else float("nan")


def convexity_level(surface: Surface) -> float:
    """The loss up to which every sublevel region around the centre is convex (5.3 j); the largest finite loss where all are.

    The region at a level is the connected part (eight neighbours) of the points with a loss up to it that holds the centre. It
    counts as convex if it holds more than 95 % of the grid's points in its convex hull, one point being forgiven. The points of
    a convex set fill their hull however coarse the grid, so that a surface with convex sublevel sets passes at every level; a
    region cut off by the square stays convex. The levels are the surface's own losses, of which every hundredth part is tried,
    and all of them in the part where convexity ends; nan without a finite centre.
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
    # a hair wider, so that points on the hull's edge lie inside and points on one line have a hull
    wide = np.concatenate([corners + np.array(shift) for shift in ((-1e-3, 0), (1e-3, 0), (0, -1e-3), (0, 1e-3))])
    equations = ConvexHull(wide).equations
    inside = np.indices(region.shape).reshape(2, -1).T @ equations[:, :2].T + equations[:, 2] <= 1e-9
    return int(inside.all(axis=1).sum())


def measures(table: pd.DataFrame, *, chance: float = CHANCE, radii: tuple[float, ...] = (0.25, 0.5)) -> pd.DataFrame:
    """Every measure of a surface's table: columns ``measure`` and ``value``.

    Args:
        chance: the loss of guessing, below which a point counts as in the basin.
        radii: of ``rise``; those that leave the grid are nan.

    Raises:
        ReplicationError: a grid without the point (0, 0), or uneven, or smaller than three by three.
    """
    surface = Surface.of(table)
    finite = surface.loss[np.isfinite(surface.loss)]
    rays = ray_decreases(surface)
    rows: dict[str, float] = {
        "centre": surface.centre,
        "non_finite_points": float(surface.loss.size - len(finite)),
        "maximum": float(finite.max()) if len(finite) else float("nan"),
        "median": float(np.median(finite)) if len(finite) else float("nan"),
        "area_below_chance": basin_area(surface, chance),
        "area_below_centre_plus_1": basin_area(surface, surface.centre + 1),
        "area_below_0.1": basin_area(surface, 0.1),
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
    return pd.DataFrame({"measure": rows.keys(), "value": rows.values()})


def _circle(n: int) -> np.ndarray:
    """Unit vectors (beta, alpha) at ``n`` even angles ``[n, 2]``."""
    angles = 2 * np.pi * np.arange(n) / n
    return np.stack([np.sin(angles), np.cos(angles)], axis=1)
