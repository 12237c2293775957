"""PWCCA's figure 3 and A10: distances within and between networks that generalise and networks that memorise."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.style import BLUE, GREEN, RED, Quantities, Tables, note_missing, requires

MEASUREMENT = "groups"
GROUPS = {"generalising": GREEN, "memorising": RED, "between": BLUE}
SOFTMAX = "softmax"
LAST = 3  # hidden layers that the claim is of


@requires(MEASUREMENT)
def quantities(tables: Tables) -> Quantities:
    """Per quartet of networks: memorising minus generalising distance, in the last hidden layers and at the softmax; accuracies.

    The controls ask whether two groups of one network of either kind differ more than the true groups do. Their difference by itself
    scatters around 0, the bound of the claims, and would hold by chance.
    """
    distances = tables[MEASUREMENT]["distances"]
    accuracy = tables[MEASUREMENT]["accuracy"]
    hidden = _difference(distances, "train", ("memorising", "generalising"))
    mixed_hidden = _difference(distances, "train", ("mixed group 1", "mixed group 2"))
    softmax = _difference(distances, "test", ("memorising", "generalising"), softmax=True)
    mixed_softmax = _difference(distances, "test", ("mixed group 1", "mixed group 2"), softmax=True)
    return {
        "memorising_minus_generalising": hidden,
        "mixed_groups_beyond_true_ones": mixed_hidden.abs() - hidden.abs(),
        "softmax_memorising_minus_generalising_test": softmax,
        "softmax_mixed_groups_beyond_true_ones_test": mixed_softmax.abs() - softmax.abs(),
        **{f"{run}_train_accuracy": rows.groupby("seed")["train"].min() for run, rows in accuracy.groupby("run")},
        **{f"{run}_test_accuracy": rows.groupby("seed")["test"].mean() for run, rows in accuracy.groupby("run")},
    }


def _difference(distances: pd.DataFrame, split: str, groups: tuple[str, str], *, softmax: bool = False) -> pd.Series:
    rows = distances[distances["split"] == split]
    hidden = [layer for layer in dict.fromkeys(rows["layer"]) if layer != SOFTMAX]
    chosen = rows[rows["layer"].isin([SOFTMAX] if softmax else hidden[-LAST:])]
    means = chosen.groupby(["seed", "group"])["distance"].mean().unstack()
    return means[groups[0]] - means[groups[1]]


def draw(tables: Tables) -> Figure:
    """Left: on training images; right: on test images; lines are means, points the seeds."""
    figure, panels = plt.subplots(1, 2, figsize=(10.5, 3.9), sharey=True)
    for axes, split in zip(panels, ("train", "test"), strict=True):
        if not note_missing(tables, MEASUREMENT, axes, "two groups"):
            distances = tables[MEASUREMENT]["distances"]
            _draw_split(axes, distances[distances["split"] == split])
            axes.set_title({"train": "training images", "test": "test images"}[split], fontsize=10)
    sns.despine(figure)
    return figure


def _draw_split(axes: Axes, rows: pd.DataFrame) -> None:
    layers = list(dict.fromkeys(rows["layer"]))
    labels = {"generalising": "two generalising", "memorising": "two memorising", "between": "one of either"}
    for group, colour in GROUPS.items():
        points = rows[rows["group"] == group]
        axes.plot(points["layer"].map(layers.index), points["distance"], ".", ms=4, color=colour, alpha=0.6)
        means = points.groupby("layer")["distance"].mean()[layers]
        axes.plot(range(len(layers)), means, "-", lw=1.5, color=colour, label=labels[group])
    axes.set_xticks(range(len(layers)), layers, rotation=0, fontsize=8)
    axes.set(xlabel="convolution, then softmax", ylabel="PWCCA distance", ylim=(0, None))
    axes.legend(fontsize=8)
