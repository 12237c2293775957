"""PWCCA's figure 2: similarity of layers that share some of their directions and are noise in the others, by three measures."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from figures.style import BLUE, GREY, ORANGE, RED, Quantities, Tables, note_missing, requires

MEASUREMENT = "noisy_layers"
WEAK, STRONG = "standard deviation 0.1", "as strong as the signal"
PANELS = (WEAK, "variance 0.1", STRONG)
MEASURES = {"mean": ("mean CCA", RED), "svcca": ("SVCCA", ORANGE), "pwcca": ("PWCCA", BLUE)}


@requires(MEASUREMENT)
def quantities(tables: Tables) -> Quantities:
    """Per seed: PWCCA above the mean with half the directions shared; the smallest gap in the order mean, SVCCA, PWCCA."""
    table = tables[MEASUREMENT]["similarity"]
    weak = table[table["noise"] == WEAK].set_index(["seed", "shared"])
    strong = table[table["noise"] == STRONG].set_index(["seed", "shared"])
    half = weak.index.get_level_values("shared").unique()
    middle = half[len(half) // 2] if 100 not in half else 100
    gaps = {name: pd.concat([weak[name] - weak["mean"], weak["pwcca"] - weak[name]]) for name in ("svcca", "svcca_variance")}
    return {
        "pwcca_minus_mean_half_shared": (weak["pwcca"] - weak["mean"]).xs(middle, level="shared"),
        "pwcca_minus_mean_half_shared_strong_noise": (strong["pwcca"] - strong["mean"]).xs(middle, level="shared"),
        "smallest_gap_in_order": gaps["svcca"].groupby("seed").min(),
        "smallest_gap_in_order_variance": gaps["svcca_variance"].groupby("seed").min(),
    }


def draw(tables: Tables) -> Figure:
    """A panel per noise; points are seeds, lines their means."""
    figure, panels = plt.subplots(1, len(PANELS), figsize=(11, 3.5), sharey=True)
    if note_missing(tables, MEASUREMENT, panels, "noisy layers"):
        return figure
    table = tables[MEASUREMENT]["similarity"]
    for axes, noise in zip(panels, PANELS, strict=True):
        rows = table[table["noise"] == noise]
        means = rows.groupby("shared").mean(numeric_only=True)
        for name, (label, colour) in MEASURES.items():
            axes.plot(rows["shared"], rows[name], ".", ms=3, color=colour, alpha=0.6)
            axes.plot(means.index, means[name], "-", color=colour, lw=1.6, label=label)
        axes.plot(means.index, means["svcca_variance"], ":", color=ORANGE, lw=1.4, label="SVCCA, 99 % of variance")
        axes.plot(means.index, means["floor"], "--", color=GREY, lw=1, label="mean CCA of nothing but noise")
        axes.set(xlabel="shared directions", ylabel="similarity", ylim=(0, 1.03))
        axes.set_title(f"noise: {noise}", fontsize=9)
    figure.legend(*panels[-1].get_legend_handles_labels(), fontsize=7, ncols=5, loc="outside upper center")
    sns.despine(figure)
    return figure
