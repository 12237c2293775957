"""The common look of the figures, and how they are saved."""

import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

from replication.files.atomic import atomic
from replication.palette import (  # noqa: F401 - figures take their colours from here
    AMBER,
    BLUE,
    FAINT_GREY,
    GREEN,
    GREY,
    HELPS,
    HURTS,
    LIGHT_GREY,
    LOSS,
    NEUTRAL,
    ORANGE,
    PALE_BLUE,
    PALE_GREEN,
    PALE_YELLOW,
    PURPLE,
    RED,
    SKY,
    TEAL,
)

mpl.use("agg")

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Tables = dict[str, dict[str, pd.DataFrame]]
Quantities = dict[str, pd.Series]  # by name: one estimate per seed, the index holding the seeds
QuantitiesOf = Callable[[Tables], Quantities]

FORMATS = ("pdf", "svg", "png")

sns.set_theme(context="paper", style="ticks", font_scale=1.05)
mpl.rcParams.update({"svg.hashsalt": "replication", "figure.constrained_layout.use": True, "legend.frameon": False, "savefig.dpi": 150})


def save(figure: Figure, folder: Path, name: str, stamp: str) -> None:
    """Write a figure as PDF, SVG and PNG with ``stamp`` below it; the same figure gives the same bytes."""
    figure.text(0.5, -0.02, stamp, ha="center", va="top", fontsize=7, color=GREY, wrap=False)
    undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {"Software": None}}
    for extension in FORMATS:
        with atomic(folder / f"{name}.{extension}") as temporary:
            figure.savefig(temporary, format=extension, bbox_inches="tight", metadata=undated[extension])
    plt.close(figure)


def legend_clear_of_data(axes: Axes, share: float, *, above: bool = True, **look: Any) -> None:
    """A legend in a strip above or below the data, for which the vertical axis grows by this share of its length."""
    scale = axes.yaxis.get_transform()
    low, high = scale.transform(axes.get_ylim())
    room = share * (high - low)
    axes.set_ylim(*scale.inverted().transform([low, high + room] if above else [low - room, high]))
    axes.legend(fontsize=7, loc="upper left" if above else "lower left", **look)


def is_measured(tables: Tables, *measurements: str, table: str | None = None) -> bool:
    """Whether all these measurements have tables at this scale, including ``table`` where one is named."""
    return all(name in tables and (table is None or table in tables[name]) for name in measurements)


def requires(*measurements: str, table: str | None = None) -> Callable[[QuantitiesOf], QuantitiesOf]:
    """For a figure's ``quantities``: there are none if a measurement has no tables (or not ``table``)."""

    def decorated(quantities: QuantitiesOf) -> QuantitiesOf:
        @functools.wraps(quantities)
        def of_measured(tables: Tables) -> Quantities:
            return quantities(tables) if is_measured(tables, *measurements, table=table) else {}

        return of_measured

    return decorated


def note_missing(
    tables: Tables, measurements: str | Sequence[str], panels: Axes | Iterable[Axes], what: str, *, table: str | None = None
) -> bool:
    """Whether a measurement has no tables (or not ``table``); if so, every panel says that ``what`` is not recorded yet."""
    if is_measured(tables, *([measurements] if isinstance(measurements, str) else measurements), table=table):
        return False
    for axes in [panels] if isinstance(panels, Axes) else panels:
        write_not_recorded(axes, what)
    return True


def empty_figure(what: str) -> Figure:
    """A figure of one panel, which says that ``what`` is not recorded yet: where the number of panels depends on the tables."""
    figure, axes = plt.subplots(figsize=(6, 3))
    write_not_recorded(axes, what)
    return figure


def write_not_recorded(axes: Axes, what: str) -> None:
    """Say in an empty panel that its measurement has not been made at this scale."""
    axes.text(0.5, 0.5, f"{what}:\nnot recorded yet", ha="center", va="center", transform=axes.transAxes, color=GREY)
    axes.set_axis_off()
