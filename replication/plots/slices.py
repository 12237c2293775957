"""Slices of the loss and the spectrum of its Hessian (Li et al. 2018, arXiv 1712.09913; Ghorbani et al. 2019, arXiv 1901.10159)."""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LightSource, Normalize
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.mplot3d import Axes3D
from torch import Tensor

from replication.drawing import draw_contours, draw_path
from replication.errors import ReplicationError
from replication.landscape.grid import as_grid, computed_rows
from replication.landscape.heights import CEILING, HeightScale, height_scale
from replication.palette import GREY, HURTS, LOSS, PALE_BLUE, RED, SEQUENTIAL
from replication.plots.panels import check_columns, panel

_LEVELS = 20
_NAMES: dict[str, Any] = {"fontsize": 7, "fmt": lambda level: f"{float(f'{level:.2g}'):g}"}  # two digits, and 220 for 2.2e+02
_WIDE_RANGE = 30  # of largest to smallest loss, from which on contours are spaced logarithmically


def line(table: pd.DataFrame, *, column: str = "loss", ax: Axes | None = None, **look: Any) -> Axes:
    """A column of a line against alpha, with a band of one standard error where it is the loss.

    Points that are not finite are gaps, and red marks at the lower edge show where they are.

    Args:
        table: of ``landscape.line`` or ``landscape.interpolation``.
        column: the column to draw.
        ax: the axes to draw in; a new figure by default.
        look: for ``Axes.plot``, such as ``label`` and ``color``.

    Returns:
        The axes.

    Raises:
        ReplicationError: a table without these columns.

    Example:
        >>> ax = line(pd.DataFrame({"alpha": [-1.0, 0.0, 1.0], "loss": [1.0, 0.1, np.inf]}), label="network")
        >>> ax.get_xlabel(), ax.get_ylabel(), ax.get_legend_handles_labels()[1]
        ('alpha', 'loss', ['network', '1 point is not finite'])
    """
    check_columns(table, "alpha", column, source="landscape.line")
    ax = panel(ax)
    rows = table.sort_values("alpha")
    alphas, values = (rows[name].to_numpy(dtype=np.float64) for name in ("alpha", column))
    finite = np.isfinite(values)
    style: dict[str, Any] = {"color": LOSS, "lw": 1.5, **look}
    (curve,) = ax.plot(alphas, np.where(finite, values, np.nan), **style)
    if column == "loss" and "standard_error" in rows:
        error = rows["standard_error"].to_numpy(dtype=np.float64)
        ax.fill_between(alphas, values - error, values + error, where=finite, color=curve.get_color(), alpha=0.2, lw=0)
    computed = computed_rows(rows) if "computed" in rows else np.ones(len(rows), dtype=bool)
    missing = computed & ~finite
    if missing.any():
        label = "1 point is not finite" if missing.sum() == 1 else f"{missing.sum()} points are not finite"
        ax.plot(alphas[missing], np.zeros(missing.sum()), "|", color=HURTS, ms=9, transform=ax.get_xaxis_transform(), label=label)
    ax.set(xlabel="alpha", ylabel=column.replace("_", " "))
    return ax


def surface(
    table: pd.DataFrame,
    *,
    column: str = "loss",
    levels: np.ndarray | None = None,
    logarithmic: bool | None = None,
    path: Tensor | np.ndarray | None = None,
    names: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Contours of a surface; points that are not finite are hatched red, a cross marks (0, 0).

    Args:
        table: of ``landscape.surface``, or ``curvature.eigenvalue_map`` with one of its columns.
        column: the column to draw.
        levels: of the contours, rising; chosen from the values by default.
        logarithmic: whether colours (and chosen levels) go with the logarithm; by default where the largest value is more than 30 times
            the smallest.
        path: of a training, ``[n_steps, 2]``, as in ``TrajectoryPlane.coordinates``.
        names: whether contours carry their level.
        ax: the axes to draw in; a new figure by default.

    Returns:
        The axes; its first collection is the set of contours, for ``Figure.colorbar``.

    Raises:
        ReplicationError: a table without these columns, with fewer than two alphas or betas, or with a point twice; levels that do not
            rise; a path of another shape; or a logarithm of levels that are not above zero.

    Example:
        >>> x, y = (grid.ravel() for grid in np.meshgrid(np.linspace(-1, 1, 9), np.linspace(-1, 1, 9)))
        >>> ax = surface(pd.DataFrame({"alpha": x, "beta": y, "loss": x**2 + y**2}), levels=np.array([0.5, 1.0]))
        >>> ax.get_xlabel(), ax.collections[0].levels.tolist()
        ('alpha', [0.5, 1.0])
    """
    check_columns(table, "alpha", "beta", column, source="landscape.surface")
    ax = panel(ax, size=(4.8, 4.2))
    values, alphas, betas = _grid(table, column)
    levels, log = _levels(values[np.isfinite(values)], levels, logarithmic)
    draw_contours(ax, values, alphas, betas, levels, logarithmic=log, **(_NAMES if names else {}))
    if path is not None:
        coordinates = np.asarray(path, dtype=np.float64)
        if coordinates.ndim != 2 or coordinates.shape[1] != 2:
            raise ReplicationError(
                f"The path has shape {coordinates.shape}; give coordinates [n_steps, 2], such as TrajectoryPlane.coordinates."
            )
        draw_path(ax, coordinates, label="training", color=RED)
        ax.legend(fontsize="small")
    ax.xaxis.set_major_locator(MaxNLocator(6))  # names do not run into each other
    ax.set(xlabel="alpha", ylabel="beta")
    return ax


def _grid(table: pd.DataFrame, column: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As ``as_grid``, of a table that spans a surface."""
    values, alphas, betas = as_grid(table, column)
    if min(values.shape) < 2:
        raise ReplicationError(
            f"The table has {len(alphas)} alphas and {len(betas)} betas; a surface needs two or more of each, so draw a single row of "
            "points with plots.line."
        )
    return values, alphas, betas


def _levels(values: np.ndarray, levels: np.ndarray | None, logarithmic: bool | None) -> tuple[np.ndarray, bool]:
    """Rising levels and whether they go with the logarithm."""
    given = np.asarray(levels, dtype=np.float64) if levels is not None else values
    low, high = (float(given.min()), float(given.max())) if given.size else (0.0, 1.0)
    log = low > 0 and high > _WIDE_RANGE * low if logarithmic is None else logarithmic
    if log and not low > 0:
        raise ReplicationError(f"The lowest value is {low:g}, which has no logarithm; give levels above zero or logarithmic=False.")
    if levels is not None:
        if given.ndim != 1 or not given.size or not np.isfinite(given).all() or (np.diff(given) <= 0).any():
            raise ReplicationError(f"The levels are {np.asarray(levels).tolist()}; give one or more finite numbers in increasing order.")
        return given, log
    if not high > low:
        high = low + max(abs(low), 1.0)
    between = np.geomspace(low, high, _LEVELS + 2) if log else np.linspace(low, high, _LEVELS + 2)
    return between[1:-1], log


def surface_3d(
    table: pd.DataFrame,
    *,
    column: str = "loss",
    ceiling: float | None = CEILING,
    logarithmic: bool | None = None,
    scale: HeightScale | None = None,
    ax: Axes | None = None,
) -> Axes:
    """A surface in three dimensions, lit from the upper left; the text above it says how many points the ceiling hides.

    Args:
        table: of ``landscape.surface``.
        column: what height and colour show.
        ceiling, logarithmic: as in ``landscape.heights.height_scale``.
        scale: a scale that several surfaces share, in place of ``ceiling`` and ``logarithmic``.
        ax: axes with ``projection="3d"``; a new figure by default.

    Returns:
        The axes.

    Raises:
        ReplicationError: axes without the third dimension, a table as ``surface`` refuses it, or a scale that does not fit.

    Example:
        >>> x, y = (grid.ravel() for grid in np.meshgrid(np.linspace(-1, 1, 9), np.linspace(-1, 1, 9)))
        >>> ax = surface_3d(pd.DataFrame({"alpha": x, "beta": y, "loss": 6 * (x**2 + y**2)}))
        >>> ax.get_zlabel(), ax.texts[0].get_text()
        ('log(min(loss, 10) + 0.1)', '4 of 81 points lie above 10 and are drawn at it.')
    """
    check_columns(table, "alpha", "beta", column, source="landscape.surface")
    ax = panel(ax, size=(5.4, 4.6), projection="3d")
    if not isinstance(ax, Axes3D):
        raise ReplicationError("The axes are flat; make them with figure.add_subplot(projection='3d').")
    values, alphas, betas = _grid(table, column)
    scale = scale or height_scale(values, ceiling=ceiling, logarithmic=logarithmic)
    height = np.where(np.isfinite(values), scale.heights(values), np.nan)
    x, y = np.meshgrid(alphas, betas)
    colours = _lit(np.nan_to_num(height, nan=scale.high), Normalize(scale.low, scale.high))
    ax.plot_surface(x, y, height, facecolors=colours, rstride=1, cstride=1, linewidth=0.15, edgecolor=(0, 0, 0, 0.25), antialiased=True)
    ax.view_init(32, -58)
    ax.set_box_aspect((1, 1, 0.75))
    ticks = scale.ticks()
    ax.set(xlabel="alpha", ylabel="beta", zlabel=scale.formula(column.replace("_", " ")), zlim=(scale.low, scale.high))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(4))
    ax.set_zticks(list(scale.heights(np.array(ticks))), [f"{tick:g}" for tick in ticks])
    ax.text2D(0.5, 0.97, scale.sentence(values, column.replace("_", " ")), transform=ax.transAxes, ha="center", fontsize="small")
    return ax


def _lit(heights: np.ndarray, norm: Normalize) -> np.ndarray:
    """Colours of the heights under a light from the upper left; half of the light, so that a colour bar stays true."""
    plain = ScalarMappable(norm, mpl.colormaps[SEQUENTIAL]).to_rgba(heights)[..., :3]
    shaded = LightSource(azdeg=315, altdeg=50).shade_rgb(plain, heights, vert_exag=0.15, blend_mode="soft")
    return (plain + shaded) / 2


def spectrum(density: Mapping[str, pd.DataFrame] | pd.DataFrame, *, ax: Axes | None = None, **look: Any) -> Axes:
    """The density of the Hessian's eigenvalues on a logarithmic axis, with the quadrature's nodes as marks below.

    Args:
        density: of ``curvature.spectral_density``, or its table ``density`` alone.
        ax: the axes to draw in; a new figure by default.
        look: for ``Axes.plot``, such as ``label`` and ``color``.

    Returns:
        The axes.

    Raises:
        ReplicationError: no table ``density``, one without the columns, or one that is not finite.

    Example:
        >>> ax = spectrum(pd.DataFrame({"eigenvalue": [0.0, 1.0, 2.0], "density": [0.1, 0.8, 0.1]}))
        >>> ax.get_xlabel(), ax.get_yscale()
        ('eigenvalue', 'log')
    """
    if isinstance(density, Mapping) and "density" not in density:
        raise ReplicationError("There is no table 'density'; give what curvature.spectral_density returned.")
    table = density if isinstance(density, pd.DataFrame) else density["density"]
    check_columns(table, "eigenvalue", "density", source="curvature.spectral_density")
    if not np.isfinite(table[["eigenvalue", "density"]].to_numpy()).all():
        raise ReplicationError("The density is not finite, because a Hessian-vector product was not; there is nothing to draw.")
    ax = panel(ax)
    eigenvalues, heights = table["eigenvalue"].to_numpy(), table["density"].to_numpy()
    visible = np.maximum(heights, 1e-6 * heights.max())  # bells fall to zero between the nodes
    style: dict[str, Any] = {"color": LOSS, "lw": 1.3, **look}
    (curve,) = ax.plot(eigenvalues, visible, **style)
    ax.fill_between(eigenvalues, visible.min(), visible, color=PALE_BLUE if "color" not in look else curve.get_color(), alpha=0.4, lw=0)
    if not isinstance(density, pd.DataFrame) and "nodes" in density:
        nodes = density["nodes"]["eigenvalue"].to_numpy()
        ax.plot(nodes, np.full(len(nodes), 0.02), "|", color=curve.get_color(), ms=6, alpha=0.5, transform=ax.get_xaxis_transform())
    ax.axvline(0, color=GREY, lw=0.7, ls=":")
    ax.set_yscale("log")
    ax.set_ylim(visible.min(), 2 * visible.max())
    ax.set(xlabel="eigenvalue", ylabel="density (per unit of the eigenvalue)")
    return ax
