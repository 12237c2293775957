"""What the plots of one's own results and the papers' figures draw alike: matrices, contours and paths on given axes, from plain arrays.

No function here makes a figure or needs torch; ``replication.plots`` puts names, checks and colour bars around them.
"""

import warnings
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm, Normalize
from matplotlib.contour import QuadContourSet
from matplotlib.image import AxesImage

from replication.palette import DIVERGING, HURTS, SEQUENTIAL


def draw_layers(ax: Axes, matrix: pd.DataFrame, *, most_names: int = 20, **look: Any) -> AxesImage:
    """A matrix with layers in rows and columns, in colours from 0 to 1, the first row at the bottom.

    Args:
        most_names: names along an axis at most; beyond that every second one is left out, and so on. 0 for no names.
        look: of the names, such as ``fontsize``.

    Example:
        >>> import matplotlib.pyplot as plt
        >>> image = draw_layers(plt.figure().add_subplot(), pd.DataFrame([[1.0, 0.2]], index=["in"], columns=["in", "out"]))
        >>> [label.get_text() for label in image.axes.get_xticklabels()]
        ['in', 'out']
    """
    image = ax.imshow(matrix.to_numpy(), origin="lower", vmin=0, vmax=1, cmap=SEQUENTIAL, interpolation="nearest", aspect="auto")
    upright = max(len(str(name)) for name in matrix.columns) > 2  # longer names would run into each other
    for labels, axis, rotation in ((matrix.columns, ax.xaxis, 90 if upright else 0), (matrix.index, ax.yaxis, 0)):
        shown = range(0, len(labels), -(-len(labels) // most_names)) if most_names else range(0)
        axis.set_ticks(list(shown), [str(labels[place]) for place in shown], rotation=rotation, **look)
    return image


def draw_classes(ax: Axes, matrix: np.ndarray, *, limit: float = 1.0) -> QuadMesh:
    """A square matrix in colours from -limit (blue) to +limit (red), the first row at the top; cells without a value stay white.

    Example:
        >>> import matplotlib.pyplot as plt
        >>> draw_classes(plt.figure().add_subplot(), np.eye(2), limit=0.5).get_clim()
        (-0.5, 0.5)
    """
    image = ax.pcolormesh(matrix, cmap=DIVERGING, vmin=-limit, vmax=limit, rasterized=True)
    ax.set(xlim=(0, matrix.shape[1]), ylim=(matrix.shape[0], 0), aspect="equal")
    return image


def draw_contours(
    ax: Axes, values: np.ndarray, alphas: np.ndarray, betas: np.ndarray, levels: np.ndarray, *, logarithmic: bool = False, **names: Any
) -> QuadContourSet:
    """Contours of a surface; points that are not finite are hatched red, a cross marks (0, 0). Both axes have one scale where they can.

    Args:
        values: of the surface, ``[n_betas, n_alphas]``.
        levels: of the contours, rising.
        logarithmic: whether colours go with the logarithm.
        names: how every third level is named, for ``Axes.clabel``, such as ``fontsize`` and ``fmt``; no names by default.

    Example:
        >>> import matplotlib.pyplot as plt
        >>> axis = np.linspace(-1, 1, 9)
        >>> draw_contours(plt.figure().add_subplot(), axis**2 + axis[:, None] ** 2, axis, axis, np.array([0.5, 1.0])).get_clim()
        (0.5, 1.0)
    """
    finite = np.isfinite(values)
    norm = (LogNorm if logarithmic else Normalize)(levels[0], levels[-1])
    with warnings.catch_warnings():  # a surface between two levels is a result: an empty panel
        warnings.filterwarnings("ignore", "No contour levels were found")
        contours = ax.contour(alphas, betas, np.where(finite, values, np.nan), levels, cmap=SEQUENTIAL, linewidths=0.7, norm=norm)
    if names:
        ax.clabel(contours, levels[1::3], inline=True, **names)
    if not finite.all():
        hatched = ax.contourf(alphas, betas, (~finite).astype(float), levels=[0.5, 1.5], colors="none", hatches=["xxx"])
        hatched.set(edgecolor=HURTS, linewidth=0)
    ax.plot(0, 0, "+", color="black", ms=5)
    ax.set_aspect("equal" if np.isclose(np.ptp(alphas), np.ptp(betas)) else "auto")
    return contours


def draw_path(ax: Axes, path: np.ndarray, *, label: str, color: str) -> None:
    """A training's path in a plane: a dot for every row, a square at the start and a star at the end.

    Args:
        path: coordinates ``[n_steps, 2]``.
        label: of the dots, for a legend.

    Example:
        >>> import matplotlib.pyplot as plt
        >>> ax = plt.figure().add_subplot()
        >>> draw_path(ax, np.array([[1.0, 1.0], [0.5, 0.2], [0.0, 0.0]]), label="training", color="red")
        >>> [line.get_label() for line in ax.lines]
        ['training', 'start', 'end']
    """
    ax.plot(path[:, 0], path[:, 1], ".-", color=color, lw=0.7, ms=3, label=label)
    ax.plot(*path[0], "s", color="black", ms=4, mfc="white", label="start", zorder=3)
    ax.plot(*path[-1], "*", color="black", ms=7, label="end", zorder=3)
