"""PWCCA's figure 4 and A7: wider networks converge to more similar solutions."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.style import BLUE, NEUTRAL, RED, Quantities, Tables, requires, write_not_recorded

MEASUREMENT = "widths"
STATES = {"trained": BLUE, "untrained": RED}
SPLITS = {"test": ("-", "test images"), "train": (":", "training images")}


@requires(MEASUREMENT)
def quantities(tables: Tables) -> Quantities:
    """Per pair of networks: by how much the distance falls from the narrowest to the widest, and its correlation with test accuracy."""
    distances, networks = tables[MEASUREMENT]["distances"], tables[MEASUREMENT]["networks"]
    wide = {state: _by_width(distances, state, "test") for state in (*STATES, "shuffled")}
    falls = {state: rows.iloc[:, 0] - rows.iloc[:, -1] for state, rows in wide.items()}
    accuracy = networks.pivot_table(index="seed", columns="filters", values="test_accuracy")
    training = _by_width(distances, "trained", "train")
    return {
        **{f"distance_fall_{state}": fall for state, fall in falls.items()},
        "distance_fall_trained_on_training_images": training.iloc[:, 0] - training.iloc[:, -1],
        "trained_minus_untrained_fall": falls["trained"] - falls["untrained"],
        "shuffled_minus_untrained_fall": falls["shuffled"] - falls["untrained"],
        "accuracy_correlation": wide["trained"].corrwith(accuracy, axis=1),
        "accuracy_correlation_shuffled": wide["shuffled"].corrwith(accuracy, axis=1),
        "smallest_train_accuracy": networks.groupby("seed")["train_accuracy"].min(),
        "largest_train_loss": networks.groupby("seed")["train_loss"].max(),
    }


def _by_width(distances: pd.DataFrame, state: str, split: str) -> pd.DataFrame:
    """Seeds x filters, narrowest first."""
    rows = distances[(distances["state"] == state) & (distances["split"] == split)]
    return rows.pivot(index="seed", columns="filters", values="distance")


def draw(tables: Tables) -> Figure:
    """Left: distance by width; right: by test accuracy (test images); a point for each pair of networks."""
    figure, panels = plt.subplots(1, 2, figsize=(10.5, 3.9))
    if MEASUREMENT in tables:
        distances, networks = tables[MEASUREMENT]["distances"], tables[MEASUREMENT]["networks"]
        _draw_widths(panels[0], distances)
        _draw_accuracy(panels[1], distances, networks)
    else:
        for axes, what in zip(panels, ("distance by width", "distance by accuracy"), strict=True):
            write_not_recorded(axes, what)
    sns.despine(figure)
    return figure


def _draw_widths(axes: Axes, distances: pd.DataFrame) -> None:
    for state, colour in STATES.items():
        for split, (style, title) in SPLITS.items():
            wide = _by_width(distances, state, split)
            axes.plot(wide.columns, wide.mean(), style, color=colour, lw=1.5, label=f"{state}, {title}")
            if split == "test":
                axes.plot(wide.columns, wide.T, ".", color=colour, ms=5, alpha=0.6)
    floor = distances.loc[distances["split"] == "test", "floor"].mean()
    axes.axhline(floor, color=NEUTRAL, lw=1, label="independent layers, test images")
    widths = sorted(distances["filters"].unique())
    axes.set_xscale("log", base=2)
    axes.set_xticks(widths, [str(width) for width in widths])
    axes.minorticks_off()
    axes.set(xlabel="filters of the last convolution", ylabel="PWCCA distance of two seeds", ylim=(0, 1))
    axes.legend(fontsize=7, loc="lower left")


def _draw_accuracy(axes: Axes, distances: pd.DataFrame, networks: pd.DataFrame) -> None:
    wide = _by_width(distances, "trained", "test")
    accuracy = networks.pivot_table(index="seed", columns="filters", values="test_accuracy")
    for colour, width in zip(sns.color_palette("viridis", wide.shape[1]), wide.columns, strict=True):
        axes.plot(accuracy[width], wide[width], "o", ms=5, color=colour, label=f"{width} filters")
    axes.set(xlabel="test accuracy, mean of the two networks", ylabel="PWCCA distance, test images")
    correlation = np.corrcoef(wide.to_numpy().ravel(), accuracy.to_numpy().ravel())[0, 1]
    axes.set_title(f"correlation {correlation:.2f} (published -0.96)", fontsize=10)
    axes.legend(fontsize=8)
