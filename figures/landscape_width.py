"""Landscape, Figure 6: contours around wide ResNets, with and without shortcuts."""

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from figures.ranks import rank_correlation, shifted_rank_correlation
from figures.residual_nets import (
    FITTED,
    STATISTICS,
    draw_net,
    draw_trend,
    error_percent,
    level_bar,
    split_by_shortcuts,
    training_accuracies,
    trend_legend,
)
from figures.style import Quantities, Tables, empty_figure, is_measured, requires, write_not_recorded
from figures.surfaces import NOSHORT, measure_of, network_value

MEASUREMENT = "width_surfaces"
Correlation = Callable[[np.ndarray, np.ndarray], float]


def widening(tables: Tables) -> pd.Series:
    """The widening factor k by run, k rising: channels of the first layer over the fewest of any run."""
    channels = network_value(tables, MEASUREMENT, "channels").iloc[0]
    return (channels / channels.min()).sort_values(kind="stable")


@requires(MEASUREMENT)
def quantities(tables: Tables) -> Quantities:
    """Per seed: rank correlations of k with the basin's area and with the test error."""
    k, area, errors = widening(tables), measure_of(tables, MEASUREMENT, "area_below_chance"), error_percent(tables, MEASUREMENT)
    kinds = {noshort: [run for run in k.index if run.endswith(NOSHORT) == noshort] for noshort in (False, True)}

    def trend(values: pd.DataFrame, noshort: bool, correlation: Correlation = rank_correlation) -> pd.Series:
        runs = kinds[noshort]
        return values[runs].apply(lambda row: correlation(k[runs].to_numpy(), row.to_numpy()), axis=1)

    return {
        "area_trend_noshort": trend(area, True),
        "area_trend_with_shortcuts": trend(area, False),
        "area_trend_shifted": trend(area, True, shifted_rank_correlation),
        "error_trend": (trend(errors, False) + trend(errors, True)) / 2,
        "error_trend_shifted": (trend(errors, False, shifted_rank_correlation) + trend(errors, True, shifted_rank_correlation)) / 2,
    }


def draw(tables: Tables) -> Figure:
    """Top with shortcuts, bottom without, k rising to the right; at the right area and test error of all seeds against k."""
    if not is_measured(tables, MEASUREMENT):
        return empty_figure("wide ResNets")
    k = widening(tables)
    factors = sorted(set(k))
    figure = plt.figure(figsize=(2.6 * len(factors) + 3.3, 6.2))
    panels, strip = figure.subfigures(1, 2, width_ratios=[2.6 * len(factors) + 0.6, 2.7], squeeze=False)[0]
    grid = panels.subplots(2, len(factors), squeeze=False)
    for row, (line, runs) in enumerate(zip(grid, split_by_shortcuts(k.index), strict=True)):
        for axes, factor in zip(line, factors, strict=True):
            matching = [run for run in runs if k[run] == factor]
            name = f"k = {factor:g}, {'no' if row else 'with'} shortcuts"
            if matching:
                draw_net(axes, tables, MEASUREMENT, matching[0], name)
            else:
                write_not_recorded(axes, name)
    level_bar(panels, grid)
    panels.suptitle(f"First seed, filter-normalised random directions; {STATISTICS}", fontsize=8)
    _draw_numbers(strip.subplots(2, 1), tables, k)
    strip.suptitle("All seeds", fontsize=8)
    return figure


def _draw_numbers(grid: np.ndarray, tables: Tables, k: pd.Series) -> None:
    fitted = training_accuracies(tables, MEASUREMENT).mean() >= FITTED
    values = {"share of the square below ln 10": measure_of(tables, MEASUREMENT, "area_below_chance")}
    values["test error (%)"] = error_percent(tables, MEASUREMENT)
    for axes, (label, table) in zip(grid, values.items(), strict=True):
        draw_trend(axes, k, table, fitted=fitted)
        axes.set_xscale("log", base=2)
        axes.set_xticks(sorted(set(k)), [f"{factor:g}" for factor in sorted(set(k))])
        axes.set_xlabel("widening factor k", fontsize=7)
        axes.set_ylabel(label, fontsize=7)
        sns.despine(ax=axes)
    trend_legend(grid[1])
