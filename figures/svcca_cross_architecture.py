"""SVCCA's figure 7: feature maps of a convnet against those of a ResNet."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from figures.layer_maps import DYNAMICS, draw_map, rows_in_order, wide_mean
from figures.style import Quantities, Tables, note_missing, requires


@requires(DYNAMICS)
def quantities(tables: Tables) -> Quantities:
    """Per seed: mean over the lower third of both minus mean over the ResNet's upper and the convnet's lower third."""
    cross = tables[DYNAMICS]["cross"]
    return {
        "lower_minus_upper": _contrast(cross, "fourier"),
        "lower_minus_upper_means": _contrast(cross, "means"),
        "lower_minus_upper_shuffled": _contrast(cross, "means_shuffled"),
    }


def _contrast(cross: pd.DataFrame, value: str) -> pd.Series:
    rows, columns = rows_in_order(cross, "row_a"), rows_in_order(cross, "row_b")
    n = max(1, len(columns) // 3)
    low = cross[cross["row_a"].isin(rows[: max(1, len(rows) // 3)])]
    parts = [low[low["row_b"].isin(chosen)].groupby("seed")[value].mean() for chosen in (columns[:n], columns[-n:])]
    return parts[0] - parts[1]


def draw(tables: Tables) -> Figure:
    """Left: Fourier CCA, mean over frequencies; right: CCA of means over space; both mean over seeds."""
    figure, panels = plt.subplots(1, 2, figsize=(10.5, 4.2))
    if note_missing(tables, DYNAMICS, panels, "convnet and ResNet"):
        return figure
    cross = tables[DYNAMICS]["cross"]
    for axes, value, title in zip(
        panels, ("fourier", "means"), ("Fourier CCA, mean over frequencies", "CCA of means over space"), strict=True
    ):
        image = draw_map(axes, wide_mean(cross, "row_a", "row_b", value))
        axes.tick_params(labelsize=8)
        axes.set(xlabel="layer of the ResNet (after additions)", ylabel="layer of the convnet")
        axes.set_title(title, fontsize=9)
    figure.colorbar(image, ax=panels, label="mean coefficient", pad=0.01)
    return figure
