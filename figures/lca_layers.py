"""LCA Figure 5: loss change allocated to each layer, for the fully connected network and LeNet."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.style import GREY, HELPS, HURTS, LOSS, PALE_GREEN, Quantities, Tables, note_missing

MNIST_NETWORKS = {"mnist_fc_lca": ("mnist_fc", "MNIST-FC"), "lenet_lca": ("lenet", "MNIST-LeNet")}


def layer_totals(layers: pd.DataFrame, column: str = "lca") -> pd.DataFrame:
    """Sum over the run per seed and layer (kernel and bias together), in the network's order, with the layer's parameters."""
    tensors = layers.groupby(["seed", "layer", "tensor"], sort=False).agg(total=(column, "sum"), parameters=("parameters", "first"))
    return tensors.groupby(["seed", "layer"], sort=False).sum().reset_index()


def quantities(tables: Tables) -> Quantities:
    """Largest (least helping) layer total and its rank correlation with size, per network and seed; and per layer its total."""
    estimates: Quantities = {}
    for measurement, (network, _) in MNIST_NETWORKS.items():
        if measurement not in tables:
            continue
        for column, ending in (("lca", ""), ("lca_shuffled", "_shuffled")):
            totals = layer_totals(tables[measurement]["layers"], column)
            estimates[f"{network}_largest_layer_total{ending}"] = totals.groupby("seed")["total"].max()
            estimates[f"{network}_size_rank_correlation{ending}"] = pd.Series(
                {seed: -group["total"].corr(group["parameters"], method="spearman") for seed, group in totals.groupby("seed")}
            )
            if not ending:
                for layer, group in totals.groupby("layer", sort=False):
                    estimates[f"{network}_{layer}_total"] = group.set_index("seed")["total"]
    return estimates


def draw(tables: Tables) -> Figure:
    """Above: total per layer, kernel and bias stacked. Below: share of the loss change against share of the parameters."""
    figure, axes = plt.subplots(2, 2, figsize=(7.2, 5.4))
    for column, (measurement, (_, title)) in enumerate(MNIST_NETWORKS.items()):
        above, below = axes[0, column], axes[1, column]
        above.set_title(title)
        if note_missing(tables, measurement, (above, below), title):
            continue
        layers = tables[measurement]["layers"]
        _draw_totals(above, layers)
        if column == 0:
            above.legend(fontsize=7, loc="lower right")
        _draw_shares(below, layer_totals(layers))
    return figure


def _draw_totals(axes: Axes, layers: pd.DataFrame) -> None:
    """Kernel and bias of each layer stacked (means over seeds), every seed's layer total as a dot."""
    per_tensor = layers.groupby(["seed", "layer", "tensor"], sort=False)["lca"].sum().reset_index()
    per_tensor["part"] = per_tensor["tensor"].str.rpartition(".")[2].map({"weight": "kernel", "bias": "bias"})
    mean = per_tensor.groupby(["layer", "part"], sort=False)["lca"].mean().unstack("part")
    names = list(mean.index)
    axes.bar(names, mean["kernel"], color=[HELPS if v < 0 else HURTS for v in mean["kernel"]], width=0.65, label="kernel")
    axes.bar(names, mean["bias"], bottom=mean["kernel"], color=PALE_GREEN, width=0.65, label="bias")
    totals = layer_totals(layers)
    axes.plot(totals["layer"], totals["total"], "o", ms=3, mfc="white", mec="black", mew=0.8, label="layer, each seed")
    axes.axhline(0, color="black", lw=0.8)
    axes.set_ylabel("LCA summed over training\n(loss units; negative helps)")
    axes.set_xlabel("layer, input to output")
    sns.despine(ax=axes)


def _draw_shares(axes: Axes, totals: pd.DataFrame) -> None:
    """One point per layer and seed; on the dashed line each parameter contributes the same."""
    shares = totals.copy()
    for column in ("total", "parameters"):
        shares[column] = 100 * shares[column] / shares.groupby("seed")[column].transform("sum")
    equal = np.geomspace(0.02, 100)
    axes.plot(equal, equal, ls="--", color=GREY, lw=1, label="equal per parameter")
    axes.plot(shares["parameters"], shares["total"], "o", ms=5, color=LOSS, alpha=0.7)
    for layer, group in shares.groupby("layer", sort=False):
        place = (group["parameters"].iloc[0], group["total"].mean())
        axes.annotate(str(layer), place, xytext=(6, 4), textcoords="offset points", fontsize=8)
    axes.set_xscale("log")
    hurts = shares["total"].min() <= 0
    axes.set_yscale("symlog" if hurts else "log")  # a layer that hurts has a negative share
    axes.set(xlim=(0.02, 300), ylim=(1.5 * shares["total"].min() if hurts else 0.02, 300))
    axes.set_xlabel("share of the parameters (%)")
    axes.set_ylabel("share of the loss change (%)")
    axes.legend(fontsize=7, loc="upper left")
    sns.despine(ax=axes)
