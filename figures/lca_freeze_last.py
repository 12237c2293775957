"""LCA Figure 6: what becomes of the layers' LCA, and of the loss, when the last or the first layer stays as it was initialised."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.lca_resnet_layers import BASELINE, FIRST, LAST, layers_of, others, total_of
from figures.style import HELPS, HURTS, LOSS, Quantities, Tables, is_measured, requires, write_not_recorded
from replication.claims.statistics import mean_interval

MEASUREMENTS = ("resnet20_layers", "resnet20_frozen_layers")
FROZEN = {"last": ("resnet20_frozen_last", LAST), "first": ("resnet20_frozen_first", FIRST)}


def _totals(tables: Tables) -> pd.DataFrame:
    return pd.concat([tables[name]["totals"] for name in MEASUREMENTS], ignore_index=True)


@requires(*MEASUREMENTS)
def quantities(tables: Tables) -> Quantities:
    """Paired by seed: change of the total loss and of the other layers' sum, against the run in which nothing is frozen."""
    totals = _totals(tables)
    estimates: Quantities = {}
    for name, (run, layer) in FROZEN.items():
        estimates[f"frozen_{name}_layer_total"] = total_of(totals, run, layer).abs()
        estimates[f"frozen_{name}_loss_difference"] = others(totals, run, ()) - others(totals, BASELINE, ())
        estimates[f"frozen_{name}_others_difference"] = others(totals, run, (layer,)) - others(totals, BASELINE, (layer,))
        estimates[f"unfrozen_{name}_layer_total"] = total_of(totals, BASELINE, layer)
        estimates[f"unfrozen_{name}_layer_movement"] = estimates[f"unfrozen_{name}_layer_total"].abs()
    return estimates


def draw(tables: Tables) -> Figure:
    """Left: layers, solid normal and hatched with the last layer frozen, means over seeds; right: paired change of the total loss."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 3.8), width_ratios=[3.2, 1])
    if not is_measured(tables, *MEASUREMENTS):
        write_not_recorded(left, "ResNet-20")
        write_not_recorded(right, "frozen layers")
        return figure
    totals = _totals(tables)
    _draw_layers(left, totals)
    _draw_differences(right, totals)
    sns.despine(figure)
    return figure


def _draw_layers(axes: Axes, totals: pd.DataFrame) -> None:
    for shift, (run, label, hatch) in zip(
        (-0.2, 0.2), ((BASELINE, "normal", ""), (FROZEN["last"][0], "last layer frozen", "////")), strict=True
    ):
        rows = layers_of(totals, run).groupby("name", sort=False)["lca"].agg(["mean", list])
        place = np.arange(len(rows)) + shift
        colours = [HELPS if value < 0 else HURTS for value in rows["mean"]]
        axes.bar(place, rows["mean"], width=0.38, color=colours, hatch=hatch, edgecolor="black", lw=0.4, label=label)
        for x, values in zip(place, rows["list"], strict=True):
            axes.plot([x] * len(values), values, ".", ms=2, color="black")
        axes.set_xticks(np.arange(len(rows)), list(rows.index), rotation=75, fontsize=7)
    axes.axhline(0, color="black", lw=0.8)
    axes.set(ylabel="LCA summed over training (loss units)", xlabel="layer, input to output (kernel and bias)")
    axes.set_title("CIFAR-ResNet-20, mean over seeds (dots: each seed)", fontsize=8)
    axes.legend(fontsize=7, loc="lower left")


def _draw_differences(axes: Axes, totals: pd.DataFrame) -> None:
    baseline = others(totals, BASELINE, ())
    for place, (run, _) in enumerate(FROZEN.values()):
        difference = others(totals, run, ()) - baseline
        axes.plot([place] * len(difference), difference, "o", ms=4, color=LOSS, alpha=0.7, label="seeds" if not place else None)
        low, high = mean_interval(difference.to_list())
        if np.isfinite([low, high]).all():
            axes.errorbar(
                place + 0.18, difference.mean(), [[difference.mean() - low], [high - difference.mean()]], fmt="s", ms=4, color="black"
            )
    axes.axhline(0, color="black", lw=0.8)
    axes.set_xticks(range(len(FROZEN)), [f"{name} layer\nfrozen" for name in FROZEN])
    axes.set(xlim=(-0.5, 1.6), ylabel="final loss, frozen minus normal\n(same seed and batches)")
    axes.set_title("below 0: freezing helps", fontsize=8)
