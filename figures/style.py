"""The common look of the figures, and how they are saved."""

from pathlib import Path

import matplotlib as mpl

from replication.files.atomic import atomic

mpl.use("agg")

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Tables = dict[str, dict[str, pd.DataFrame]]
Quantities = dict[str, pd.Series]  # by name: one estimate per seed, the index holding the seeds

HELPS, HURTS, NEUTRAL, LOSS = "#2a9d4a", "#d1495b", "#c9ccd1", "#1f3b73"  # green helps and red hurts, as in the paper
FORMATS = ("pdf", "svg", "png")

sns.set_theme(context="paper", style="ticks", font_scale=1.05)
mpl.rcParams.update({"svg.hashsalt": "replication", "figure.constrained_layout.use": True, "legend.frameon": False, "savefig.dpi": 150})


def save(figure: Figure, folder: Path, name: str, stamp: str) -> None:
    """Write a figure as PDF, SVG and PNG with ``stamp`` below it; the same figure gives the same bytes."""
    figure.text(0.5, -0.02, stamp, ha="center", va="top", fontsize=7, color="#555555", wrap=False)
    undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {"Software": None}}
    for extension in FORMATS:
        with atomic(folder / f"{name}.{extension}") as temporary:
            figure.savefig(temporary, format=extension, bbox_inches="tight", metadata=undated[extension])
    plt.close(figure)


def not_recorded(axes: Axes, what: str) -> None:
    """Say in an empty panel that its measurement has not been made at this scale."""
    axes.text(0.5, 0.5, f"{what}:\nnot recorded yet", ha="center", va="center", transform=axes.transAxes, color="#777777")
    axes.set_axis_off()
