"""A loss surface on an even grid: what its measures and contours read."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.interpolate import RegularGridInterpolator

from replication.errors import ReplicationError
from replication.landscape.grid import as_grid


@dataclass(frozen=True)
class Surface:
    """Loss on an evenly spaced grid.

    Attributes:
        loss: ``[n_betas, n_alphas]``.
        alphas, betas: coordinates of columns and rows.

    Raises:
        ReplicationError: fewer than three points along an axis, uneven or unequal spacing, or no point at (0, 0).

    Example:
        >>> axis = np.linspace(-1, 1, 21)
        >>> x, y = np.meshgrid(axis, axis)
        >>> bowl = Surface(loss=x**2 + y**2, alphas=axis, betas=axis)
        >>> round(bowl.spacing, 6), bowl.centre, bowl.edge
        (0.1, 0.0, 1.0)
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
    def from_table(cls, table: pd.DataFrame) -> "Surface":
        """The surface in a table that ``landscape.surface`` returned."""
        loss, alphas, betas = as_grid(table, "loss")
        return cls(loss=loss, alphas=alphas, betas=betas)

    @property
    def spacing(self) -> float:
        """The distance h between neighbours along an axis."""
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
        """The loss ``[n]`` at points (beta, alpha) ``[n, 2]``, bilinear; nan outside the grid and beside losses that are not finite."""
        inside = np.clip(points, [self.betas[0], self.alphas[0]], [self.betas[-1], self.alphas[-1]])
        # a point that rounding put just outside the edge is on the grid
        points = np.where(np.abs(points - inside) < 1e-9 * self.spacing, inside, points)
        return RegularGridInterpolator((self.betas, self.alphas), self.finite, bounds_error=False)(points)

    def curvatures(self) -> tuple[np.ndarray, np.ndarray]:
        """Smaller and larger eigenvalue of the 2 x 2 Hessian at the inner points, each ``[n_betas - 2, n_alphas - 2]``.

        Second derivatives are central differences.
        """
        s, h2 = self.finite, self.spacing**2
        xx = (s[1:-1, 2:] - 2 * s[1:-1, 1:-1] + s[1:-1, :-2]) / h2
        yy = (s[2:, 1:-1] - 2 * s[1:-1, 1:-1] + s[:-2, 1:-1]) / h2
        xy = (s[2:, 2:] - s[2:, :-2] - s[:-2, 2:] + s[:-2, :-2]) / (4 * h2)
        mean, radius = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
        return mean - radius, mean + radius


def circle(n: int) -> np.ndarray:
    """Unit vectors (beta, alpha) at ``n`` even angles ``[n, 2]``.

    Example:
        >>> circle(2).round(6).tolist()
        [[0.0, 1.0], [0.0, -1.0]]
    """
    angles = 2 * np.pi * np.arange(n) / n
    return np.stack([np.sin(angles), np.cos(angles)], axis=1)
