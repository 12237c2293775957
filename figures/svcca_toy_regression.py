"""SVCCA's figure 3: outputs of a toy network with its last hidden layer reduced to few directions."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.style import BLUE, GREY, ORANGE, RED, Quantities, Tables, note_missing, requires

MEASUREMENT = "toy_networks"
NEURONS = "largest neurons, others 0"
LINES = {
    "svcca": ("SVCCA directions", BLUE, "o-"),
    "largest neurons, least squares": ("largest neurons, least squares", ORANGE, "s--"),
    "random neurons, least squares": ("random neurons, least squares", GREY, "^--"),
    NEURONS: ("largest neurons, others at 0", RED, "v:"),
}


@requires(MEASUREMENT)
def quantities(tables: Tables) -> Quantities:
    """Per pair: relative squared error of the output at 30 directions or neurons, and the largest ratio of successive errors."""
    errors = tables[MEASUREMENT]["errors"].pivot(index=["seed", "k"], columns="projection", values="relative_error")
    most = errors.index.get_level_values("k").max()
    at_most = errors.xs(most, level="k")
    ratios = errors.groupby("seed").apply(lambda one: (one / one.shift()).max())
    return {
        "relative_error_30_directions": at_most["svcca"],
        "relative_error_30_neurons": at_most[NEURONS],
        "relative_error_30_neurons_least_squares": at_most["largest neurons, least squares"],
        "largest_error_ratio_of_successive_panes": ratios["svcca"],
        "largest_error_ratio_neurons": ratios[NEURONS],
        "directions_kept": tables[MEASUREMENT]["network"].set_index("seed")["kept"].astype(float),
        "directions_kept_variance": tables[MEASUREMENT]["network"].set_index("seed")["kept_variance"].astype(float),
    }


def draw(tables: Tables) -> Figure:
    """The four outputs along the input for every k, first pair; errors of all pairs against neurons."""
    figure, grid = plt.subplots(1, 5, figsize=(14, 3.3), width_ratios=[1, 1, 1, 1, 1.5])
    if note_missing(tables, MEASUREMENT, grid, "toy network"):
        return figure
    outputs = tables[MEASUREMENT]["outputs"]
    outputs = outputs[outputs["seed"] == outputs["seed"].min()]
    for axes, (k, pane) in zip(grid[:4], outputs.groupby("k"), strict=True):
        _draw_pane(axes, pane)
        axes.set_title(f"{k} directions", fontsize=10)
    _draw_errors(grid[4], tables[MEASUREMENT]["errors"])
    sns.despine(figure)
    return figure


def _draw_pane(axes: Axes, pane: pd.DataFrame) -> None:
    for number, (_, rows) in enumerate(pane.groupby("target", sort=False)):
        colour = sns.color_palette("deep")[number]
        axes.plot(rows["x"], rows["full"] + 3 * number, color=colour, lw=3, alpha=0.35)
        axes.plot(rows["x"], rows["projected"] + 3 * number, color="black", lw=0.9)
    axes.set(xlabel="input x", ylabel="outputs, 3 apart (wide: all units)", yticks=[], ylim=(-2.2, 11.2))


def _draw_errors(axes: Axes, errors: pd.DataFrame) -> None:
    for name, (label, colour, style) in LINES.items():
        means = errors[errors["projection"] == name].groupby("k")["relative_error"].mean()
        axes.plot(means.index, means, style, color=colour, ms=4, lw=1.2, label=label)
    axes.set(xlabel="directions or neurons k", ylabel="error / variance of output", yscale="log")
    axes.set_title("mean over pairs of networks", fontsize=9)
    axes.legend(fontsize=7)
