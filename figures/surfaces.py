"""What several landscape figures share: contours at common levels, and tables of nets and their surfaces' measures."""

import warnings

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.contour import QuadContourSet

from figures.style import HURTS, Tables
from replication.landscape.grid import as_grid

LEVELS = np.arange(0.1, 10, 0.5)  # the paper's: the same in every panel, or the eye would compare scales
NOSHORT = "_noshort"


def draw_contours(
    axes: Axes, surface: pd.DataFrame, levels: np.ndarray = LEVELS, *, labels: bool = True, log: bool = False
) -> QuadContourSet:
    """Contours of one surface's loss (columns alpha, beta, loss) at ``levels``; points that are not finite are hatched red.

    Colours go with the loss, or with its logarithm.
    """
    loss, alphas, betas = as_grid(surface, "loss")
    finite = np.isfinite(loss)
    shown = np.where(finite, loss, np.nan)
    with warnings.catch_warnings():  # a surface between two levels is a result: an empty panel
        warnings.filterwarnings("ignore", "No contour levels were found")
        norm = (LogNorm if log else Normalize)(levels[0], levels[-1])
        contours = axes.contour(alphas, betas, shown, levels=levels, cmap="viridis", linewidths=0.7, norm=norm)
    if labels:
        axes.clabel(contours, levels[1::3], inline=True, fontsize=5, fmt="%.2g" if log else "%.1f")
    if not finite.all():
        hatched = axes.contourf(alphas, betas, (~finite).astype(float), levels=[0.5, 1.5], colors="none", hatches=["xxx"])
        hatched.set(edgecolor=HURTS, linewidth=0)
    axes.plot(0, 0, "+", color="black", ms=5)
    axes.set_aspect("equal" if np.isclose(np.ptp(alphas), np.ptp(betas)) else "auto")
    return contours


def measure_of(tables: Tables, measurement: str, name: str) -> pd.DataFrame:
    """A surface measure, seeds in rows and runs in columns; the mean over directions."""
    rows = tables[measurement]["measures"].query("measure == @name")
    return rows.pivot_table(index="seed", columns="run", values="value", aggfunc="mean", sort=False, dropna=False)


def network_value(tables: Tables, measurement: str, column: str, *, split: str = "train", trained: bool = True) -> pd.DataFrame:
    """A column of the nets' table (loss, accuracy, ...) before or after training, seeds in rows and runs in columns."""
    rows = tables[measurement]["networks"].query("split == @split")
    rows = rows[(rows["step"] > 0) == trained]
    return rows.pivot_table(index="seed", columns="run", values=column, sort=False, dropna=False)


def seed_zero(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the first seed and, where there are several, its first direction: what panels show."""
    rows = table[table["seed"] == table["seed"].min()]
    return rows[rows["direction"] == rows["direction"].min()] if "direction" in rows else rows
