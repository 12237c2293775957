"""SVCCA's figure 2a: test accuracy on few SVCCA directions or neurons of one layer, without retraining."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.style import BLUE, GREY, ORANGE, Quantities, Tables, note_missing, requires

MEASUREMENT = "convnet_pairs"
ROWS = ("p2", "fc1", "fc2")
LINES = {
    "svcca": ("SVCCA directions", BLUE, "-"),
    "largest neurons, least squares": ("largest activations, least squares", ORANGE, "-"),
    "largest neurons, others 0": ("largest activations, others at 0", ORANGE, ":"),
    "random neurons, least squares": ("random neurons, least squares", GREY, "-"),
    "random neurons, others 0": ("random neurons, others at 0", GREY, ":"),
}


@requires(MEASUREMENT)
def quantities(tables: Tables) -> Quantities:
    """Per pair, fc1: accuracy change at 25 dimensions, and ratios of the dimensions that 95 % of the accuracy takes."""
    measured = tables[MEASUREMENT]
    full = measured["full"].set_index("seed")["accuracy"]
    fc1 = measured["projections"][measured["projections"]["row"] == "fc1"]
    wide = fc1.pivot(index=["seed", "k"], columns="projection", values="accuracy")
    at = wide.xs(25, level="k")
    needed = pd.DataFrame({name: dimensions_needed(wide[name], full, measured["full"].set_index("seed")["fc1"]) for name in wide})
    return {
        "accuracy": full,
        "accuracy_change_25_directions": at["svcca"] - full,
        "accuracy_change_25_neurons": at["random neurons, others 0"] - full,
        "dimensions_svcca": needed["svcca"],
        "dimensions_ratio_largest_neurons": needed["largest neurons, least squares"] / needed["svcca"],
        "dimensions_ratio_random_neurons": needed["random neurons, least squares"] / needed["svcca"],
        "dimensions_ratio_random_over_largest": needed["random neurons, least squares"] / needed["largest neurons, least squares"],
    }


def dimensions_needed(accuracy: pd.Series, full: pd.Series, size: pd.Series, share: float = 0.95) -> pd.Series:
    """Per seed: the smallest measured k with this share of the full accuracy; the layer's size where none has it."""
    needed = {}
    for seed, values in accuracy.groupby("seed"):
        enough = values[values >= share * full[seed]].index.get_level_values("k")
        needed[seed] = float(enough.min()) if len(enough) else float(size[seed])
    return pd.Series(needed)


def draw(tables: Tables) -> Figure:
    """A panel per layer, mean over pairs; the dashed line is the full layer."""
    figure, panels = plt.subplots(1, len(ROWS), figsize=(11, 3.6), sharey=True)
    for axes, row in zip(panels, ROWS, strict=True):
        if not note_missing(tables, MEASUREMENT, axes, row):
            _draw_layer(axes, tables[MEASUREMENT], row)
    if MEASUREMENT in tables:
        figure.legend(*panels[0].get_legend_handles_labels(), fontsize=8, ncols=3, loc="outside upper center")
    sns.despine(figure)
    return figure


def _draw_layer(axes: Axes, measured: dict[str, pd.DataFrame], row: str) -> None:
    rows = measured["projections"][measured["projections"]["row"] == row]
    for name, (label, colour, style) in LINES.items():
        means = rows[rows["projection"] == name].groupby("k")["accuracy"].mean()
        axes.plot(means.index, means, style, marker=".", ms=4, lw=1.3, color=colour, label=label)
    axes.axhline(measured["full"]["accuracy"].mean(), color=GREY, ls="--", lw=1)
    axes.set(xlabel="directions or neurons k", ylabel="test accuracy", xscale="log")
    axes.set_title(f"{row}, {int(measured['full'][row].iloc[0])} neurons", fontsize=10)
