"""LCA Figure 6, left: loss change allocated to each layer of ResNet-20, with and without the opening phase."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.style import HELPS, HURTS, LOSS, Quantities, Tables, note_missing, requires

MEASUREMENT, BASELINE = "resnet20_layers", "resnet20"
FIRST, LAST = "conv", "fc"  # kernel and bias


def layers_of(totals: pd.DataFrame, run: str) -> pd.DataFrame:
    """Convolutions and classifier of one run (kernel and bias together), in the network's order; batch norm is in ``others``."""
    rows = totals[(totals["run"] == run) & (totals["kind"] == "layer")]
    return rows[~rows["name"].str.contains("bn")]


def total_of(totals: pd.DataFrame, run: str, layer: str, column: str = "lca") -> pd.Series:
    """A layer's total per seed."""
    return layers_of(totals, run).query("name == @layer").set_index("seed")[column]


def others(totals: pd.DataFrame, run: str, without: tuple[str, ...], column: str = "lca") -> pd.Series:
    """Sum per seed over all layers, batch norm included, but those ``without``."""
    rows = totals[(totals["run"] == run) & (totals["kind"] == "layer") & ~totals["name"].isin(without)]
    return rows.groupby("seed")[column].sum()


@requires(MEASUREMENT)
def quantities(tables: Tables) -> Quantities:
    """Totals of the first and the last layer, whole and without the opening phase, their standard errors, and the control's."""
    totals = tables[MEASUREMENT]["totals"]
    estimates: Quantities = {}
    for name, layer in (("first", FIRST), ("last", LAST)):
        for column in ("lca", "lca_late", "lca_shuffled", "standard_error"):
            ending = column.removeprefix("lca").removeprefix("standard_error") + ("_standard_error" if column == "standard_error" else "")
            estimates[f"{name}_layer_total{ending}"] = total_of(totals, BASELINE, layer, column)
    kernels = layers_of(totals, BASELINE)
    estimates["layers_with_positive_total"] = (kernels["lca"] > 0).groupby(kernels["seed"]).sum().astype(float)
    estimates["others_total"] = others(totals, BASELINE, (FIRST, LAST))
    return estimates


def draw(tables: Tables) -> Figure:
    """A bar per layer (mean over seeds), every seed as a dot with its sampling error; above whole, below without the opening phase."""
    figure, (above, below) = plt.subplots(2, 1, figsize=(7.6, 5.4), sharex=True)
    if note_missing(tables, MEASUREMENT, (above, below), "ResNet-20"):
        return figure
    layers = layers_of(tables[MEASUREMENT]["totals"], BASELINE)
    _draw_totals(above, layers, "lca", "standard_error")
    above.set_title("CIFAR-ResNet-20: whole run")
    above.legend(fontsize=7, loc="lower left")
    _draw_totals(below, layers, "lca_late", "standard_error_late")
    below.set_title("without the opening phase")
    below.set_xlabel("layer, input to output (kernel and bias; batch norm not shown)")
    below.tick_params(axis="x", rotation=75, labelsize=7)
    sns.despine(figure)
    return figure


def _draw_totals(axes: Axes, layers: pd.DataFrame, column: str, error: str) -> None:
    mean = layers.groupby("name", sort=False)[column].mean()
    axes.bar(list(mean.index), mean, color=[HELPS if value < 0 else HURTS for value in mean], width=0.7, label="mean over seeds")
    place = layers["name"].map({name: index for index, name in enumerate(mean.index)})
    shift = 0.16 * (layers["seed"].rank(method="dense") - layers["seed"].nunique() / 2 - 0.5)
    axes.errorbar(
        place + shift,
        layers[column],
        layers[error],
        fmt="o",
        ms=2.5,
        lw=0.7,
        color=LOSS,
        label="each seed with its sampling error (1 s.e.)",
    )
    axes.axhline(0, color="black", lw=0.8)
    axes.set_ylabel("LCA (loss units)")
