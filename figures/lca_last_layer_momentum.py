"""LCA Figure 7: the last layer's and the other layers' LCA against the last layer's own momentum, lr fixed and lr rescaled."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.lca_resnet_layers import BASELINE, LAST, layers_of, others, total_of
from figures.style import LOSS, RED, Quantities, Tables, is_measured, legend_clear_of_data, note_missing, requires

MEASUREMENTS = ("resnet20_layers", "resnet20_momentum_layers")
ARMS = {"fixed": ("resnet20_delay", "lr fixed"), "rescaled": ("resnet20_rescaled", "lr rescaled to keep lr / (1 - momentum)")}
FULL_DELAY = 9  # momentum 0.9: the baseline
OMITTED = 10  # layers the published figure leaves out for legibility


def _totals(tables: Tables) -> pd.DataFrame:
    return pd.concat([tables[name]["totals"] for name in MEASUREMENTS], ignore_index=True)


def runs_of(totals: pd.DataFrame, arm: str) -> dict[int, str]:
    """Delay in iterations, m / (1 - m) -> run, in rising order."""
    start = ARMS[arm][0]
    runs = {int(run.removeprefix(start)): run for run in totals["run"].unique() if run.startswith(start)}
    return dict(sorted((runs | {FULL_DELAY: BASELINE}).items()))


@requires(*MEASUREMENTS)
def quantities(tables: Tables) -> Quantities:
    """Per arm and seed: rank correlation with the delay of the last layer's LCA and of the others' sum, and with the delays shuffled."""
    totals = _totals(tables)
    estimates: Quantities = {}
    for arm in ARMS:
        runs = runs_of(totals, arm)
        last = pd.DataFrame({delay: total_of(totals, run, LAST) for delay, run in runs.items()})
        rest = pd.DataFrame({delay: others(totals, run, (LAST,)) for delay, run in runs.items()})
        for name, table in (("last_layer", last), ("others", rest)):
            estimates[f"{name}_delay_correlation_{arm}"] = _correlation(table, list(runs))
            estimates[f"{name}_delay_correlation_{arm}_shuffled"] = _correlation(table, [*list(runs)[1::2], *list(runs)[::2]])
        estimates[f"last_layer_total_no_delay_{arm}"] = last[min(runs)]
    estimates["last_layer_total_full_delay"] = last[FULL_DELAY]
    return estimates


def _correlation(table: pd.DataFrame, delays: list[int]) -> pd.Series:
    """Spearman's, of each seed's row with the delays."""
    against = pd.Series(delays, index=table.columns, dtype=float)
    return table.T.corrwith(against, method="spearman")


def draw(tables: Tables) -> Figure:
    """A row per arm. Left: bars per layer for each delay; right: the last layer's total and the others' sum against the delay."""
    figure, grid = plt.subplots(len(ARMS), 2, figsize=(10.5, 6.4), width_ratios=[2.2, 1])
    for row, (arm, (_, title)) in zip(grid, ARMS.items(), strict=True):
        if note_missing(tables, MEASUREMENTS, row, f"ResNet-20, {title}"):
            continue
        (left, right), totals = row, _totals(tables)
        runs = runs_of(totals, arm)
        _draw_layers(left, totals, runs)
        left.set_title(f"CIFAR-ResNet-20, last layer's {title}")
        _draw_against_delay(right, totals, runs)
    if is_measured(tables, *MEASUREMENTS):
        grid[0, 0].legend(fontsize=7, title="mean delay m / (1 - m)\nof the last layer", title_fontsize=7, ncols=2)
        legend_clear_of_data(grid[0, 1], 0.3, above=False)
        sns.despine(figure)
    return figure


def _draw_layers(axes: Axes, totals: pd.DataFrame, runs: dict[int, str]) -> None:
    colours = sns.color_palette("viridis", len(runs))
    for number, ((delay, run), colour) in enumerate(zip(runs.items(), colours, strict=True)):
        mean = layers_of(totals, run).groupby("name", sort=False)["lca"].mean().iloc[OMITTED:]
        place = np.arange(len(mean)) + 0.8 * ((number + 0.5) / len(runs) - 0.5)
        axes.bar(place, mean, width=0.8 / len(runs), color=colour, label=f"{delay}")
        axes.set_xticks(np.arange(len(mean)), list(mean.index), rotation=60, fontsize=7)
    axes.axhline(0, color="black", lw=0.8)
    axes.set_ylabel("LCA (loss units), mean over seeds")


def _draw_against_delay(axes: Axes, totals: pd.DataFrame, runs: dict[int, str]) -> None:
    last = pd.DataFrame({delay: total_of(totals, run, LAST) for delay, run in runs.items()})
    rest = pd.DataFrame({delay: others(totals, run, (LAST,)) for delay, run in runs.items()})
    for table, colour, label in ((last, RED, "last layer"), (rest, LOSS, "all others")):
        axes.plot(table.columns, table.T, color=colour, lw=0.6, alpha=0.5)
        axes.plot(table.columns, table.mean(), "o-", color=colour, ms=4, label=f"{label} (thin: seeds)")
    axes.axhline(0, color="black", lw=0.8)
    axes.set(xlabel="mean delay of the last layer (iterations)", ylabel="LCA summed over training")
