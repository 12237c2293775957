"""What several landscape figures share: contours at common levels, and tables of nets and their surfaces' measures."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.contour import QuadContourSet

from figures.style import Tables
from replication.drawing import draw_contours
from replication.landscape.grid import as_grid

LEVELS = np.arange(0.1, 10, 0.5)  # the paper's: the same in every panel, or the eye would compare scales
NOSHORT = "_noshort"


def draw_surface(axes: Axes, surface: pd.DataFrame, levels: np.ndarray = LEVELS, *, log: bool = False) -> QuadContourSet:
    """Contours of one surface's loss (columns alpha, beta, loss) at ``levels``, as the plots of one's own surfaces draw them.

    Colours go with the loss, or with its logarithm.
    """
    return draw_contours(axes, *as_grid(surface, "loss"), levels, logarithmic=log, fontsize=7, fmt="%.2g" if log else "%.1f")


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
