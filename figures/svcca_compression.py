"""SVCCA's appendix 5: test accuracy with the top layers compressed one after the other."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.style import BLUE, GREEN, GREY, Quantities, Tables, note_missing, requires

MEASUREMENT = "convnet_pairs"
METHODS = {
    "two networks": ("SVCCA against another seed", BLUE, "-"),
    "logits": ("SVCCA against the logits", GREEN, "-"),
    "random neurons": ("random neurons, others at 0", GREY, ":"),
}


@requires(MEASUREMENT)
def quantities(tables: Tables) -> Quantities:
    """Per pair, all five layers compressed: accuracy change at 0.35 of every layer, methods compared at the smallest fraction."""
    measured = tables[MEASUREMENT]
    full = measured["full"].set_index("seed")["accuracy"]
    compression = measured["compression"]
    whole = compression[compression["layers"] == compression["layers"].max()]
    wide = whole.pivot(index=["seed", "fraction"], columns="method", values="accuracy")
    at_35, at_least = wide.xs(0.35, level="fraction"), wide.xs(whole["fraction"].min(), level="fraction")
    return {
        "accuracy_change_35_two_networks": at_35["two networks"] - full,
        "accuracy_change_35_logits": at_35["logits"] - full,
        "accuracy_change_35_random_neurons": at_35["random neurons"] - full,
        "logits_minus_two_networks_05": at_least["logits"] - at_least["two networks"],
        "random_minus_two_networks_05": at_least["random neurons"] - at_least["two networks"],
    }


def draw(tables: Tables) -> Figure:
    """Left: all five layers, by fraction; right: at 0.35, layer after layer; means over pairs."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 3.8), sharey=True)
    if note_missing(tables, MEASUREMENT, (left, right), "compression"):
        return figure
    measured = tables[MEASUREMENT]
    compression = measured["compression"]
    _draw_fractions(left, compression[compression["layers"] == compression["layers"].max()])
    _draw_layers(right, compression[compression["fraction"] == 0.35])
    for axes in (left, right):
        axes.axhline(measured["full"]["accuracy"].mean(), color=GREY, ls="--", lw=1)
    left.legend(fontsize=8, loc="lower right")
    sns.despine(figure)
    return figure


def _draw_fractions(axes: Axes, whole: pd.DataFrame) -> None:
    for method, (label, colour, style) in METHODS.items():
        rows = whole[whole["method"] == method]
        axes.plot(rows["fraction"], rows["accuracy"], ".", ms=4, color=colour, alpha=0.6)
        means = rows.groupby("fraction")["accuracy"].mean()
        axes.plot(means.index, means, style, lw=1.4, color=colour, label=label)
    axes.set(xlabel="dimensions kept in each of p2, fc1, bn3, fc2, bn4 / neurons", ylabel="test accuracy")
    axes.set_title("five layers compressed (dashed: none)", fontsize=9)


def _draw_layers(axes: Axes, rows: pd.DataFrame) -> None:
    order = list(dict.fromkeys(rows.sort_values("layers")["lowest_row"]))
    for method, (_, colour, style) in METHODS.items():
        means = rows[rows["method"] == method].groupby("lowest_row")["accuracy"].mean()[order]
        axes.plot(order, means, style, marker="o", ms=4, lw=1.4, color=colour)
    axes.set(xlabel="compressed from the top down to this layer", ylabel="test accuracy")
    axes.set_title("0.35 of every layer", fontsize=9)
