"""SVCCA's appendix 4: every layer of a convnet against every layer of another one that differs in its seed."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.layer_maps import ENDS, draw_map, rows_in_order, wide_mean
from figures.style import GREY, LOSS, Quantities, Tables, note_missing, requires

MEASUREMENT = "convnet_pairs"


@requires(MEASUREMENT)
def quantities(tables: Tables) -> Quantities:
    """Per pair: the less similar of first and last layer (c1 and logits) minus the least similar one between them."""
    matrix = tables[MEASUREMENT]["matrix"]
    diagonal = matrix[matrix["layer_a"] == matrix["layer_b"]]
    return {"ends_minus_middle": _ends(diagonal, "similarity"), "ends_minus_middle_shuffled": _ends(diagonal, "shuffled")}


def _ends(diagonal: pd.DataFrame, value: str) -> pd.Series:
    wide = diagonal.pivot(index="seed", columns="layer_a", values=value)
    middle = wide.drop(columns=[*ENDS, "c1"]).min(axis=1)
    return wide[["c1", "logits"]].min(axis=1) - middle


def draw(tables: Tables) -> Figure:
    """Left: the map, mean over pairs; right: its diagonal, each pair, beside what independent layers would give."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6))
    if note_missing(tables, MEASUREMENT, (left, right), "two seeds"):
        return figure
    matrix = tables[MEASUREMENT]["matrix"]
    image = draw_map(left, wide_mean(matrix, "layer_a", "layer_b", "similarity"))
    left.set(xlabel="layer of the second network", ylabel="layer of the first network")
    left.set_title("SVCCA of two seeds, means over space", fontsize=9)
    figure.colorbar(image, ax=left, label="SVCCA similarity")
    _draw_diagonal(right, matrix[matrix["layer_a"] == matrix["layer_b"]])
    sns.despine(ax=right)
    return figure


def _draw_diagonal(axes: Axes, diagonal: pd.DataFrame) -> None:
    rows = rows_in_order(diagonal, "layer_a")
    for number, (_, pair) in enumerate(diagonal.groupby("seed")):
        values = pair.set_index("layer_a").loc[rows]
        axes.plot(rows, values["similarity"], "o-", ms=3, lw=1, color=LOSS, alpha=0.7, label=None if number else "same layer, each pair")
        axes.plot(rows, values["noise_floor"], "--", lw=1, color=GREY, label=None if number else "independent layers")
    axes.tick_params(axis="x", rotation=90)
    axes.set(xlabel="layer, input to output", ylabel="SVCCA similarity", ylim=(0, 1.05))
    axes.legend(fontsize=8)
