"""SVCCA's figure 2b: top SVCCA directions, further projected on the neurons that matter most to them."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.style import BLUE, GREY, Quantities, Tables, note_missing, requires

MEASUREMENT = "convnet_pairs"
SHOWN = {"fc1": (50, 100), "p2": (150, 300)}  # neurons, as in the paper
DIRECTIONS, NEURONS = 20, 100


@requires(MEASUREMENT)
def quantities(tables: Tables) -> Quantities:
    """Per pair, fc1: accuracy on 20 directions minus that with these on 100 neurons, and on all of them (which changes nothing)."""
    double = tables[MEASUREMENT]["double"]
    rows = double[(double["row"] == "fc1") & (double["directions"] == DIRECTIONS)]
    wide = rows.pivot(index="seed", columns="neurons", values="accuracy")
    shown = NEURONS if NEURONS in wide else sorted(wide.columns)[-2]
    return {"accuracy_lost_on_100_neurons": wide[0] - wide[shown], "accuracy_lost_on_all_neurons": wide[0] - wide[wide.columns.max()]}


def draw(tables: Tables) -> Figure:
    """A panel per layer, mean over pairs."""
    figure, panels = plt.subplots(1, len(SHOWN), figsize=(9, 3.6), sharey=True)
    for axes, (row, neurons) in zip(panels, SHOWN.items(), strict=True):
        if not note_missing(tables, MEASUREMENT, axes, row):
            _draw_layer(axes, tables[MEASUREMENT], row, neurons)
    sns.despine(figure)
    return figure


def _draw_layer(axes: Axes, measured: dict[str, pd.DataFrame], row: str, neurons: tuple[int, ...]) -> None:
    means = measured["double"][measured["double"]["row"] == row].groupby(["neurons", "directions"])["accuracy"].mean().unstack()
    chosen = [m for m in neurons if m in means.index] or list(means.index[1:-1])
    colours = sns.color_palette("flare", len(chosen))
    axes.plot(means.columns, means.loc[0], "o-", ms=4, color=BLUE, label="SVCCA directions")
    for m, colour in zip(chosen, colours, strict=True):
        axes.plot(means.columns, means.loc[m], "s--", ms=3.5, color=colour, label=f"and on {m} neurons")
    axes.axhline(measured["full"]["accuracy"].mean(), color=GREY, ls="--", lw=1)
    axes.set(xlabel="top SVCCA directions", ylabel="test accuracy")
    axes.set_title(f"{row}, {int(measured['full'][row].iloc[0])} neurons (dashed: whole layer)", fontsize=9)
    axes.legend(fontsize=8, loc="lower right")
