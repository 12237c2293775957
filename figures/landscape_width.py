"""Landscape, Figure 6: contours around wide ResNets, with and without shortcuts."""

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from figures import landscape_published
from figures.landscape_contours import PANELS
from figures.ranks import rank_correlation, shifted_rank_correlation
from figures.residual_nets import (
    FITTED,
    draw_net,
    draw_trend,
    error_percent,
    level_bar,
    mark_published,
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


def published_name(run: str, factor: float) -> str:
    """A run's name in the paper's Figure 6, by its widening factor."""
    return f"wide_k{factor:g}" + (NOSHORT if run.endswith(NOSHORT) else "")


@requires(MEASUREMENT)
def quantities(tables: Tables) -> Quantities:
    """Per seed: rank correlations of k with the basin's area and with the test error, radii of the 0.1 contour and what k adds to them."""
    k, area, errors = widening(tables), measure_of(tables, MEASUREMENT, "area_below_chance"), error_percent(tables, MEASUREMENT)
    kinds = {noshort: [run for run in k.index if run.endswith(NOSHORT) == noshort] for noshort in (False, True)}

    def trend(values: pd.DataFrame, noshort: bool, correlation: Correlation = rank_correlation) -> pd.Series:
        runs = kinds[noshort]
        return values[runs].apply(lambda row: correlation(k[runs].to_numpy(), row.to_numpy()), axis=1)

    return _radii(tables, k) | {
        "area_trend_noshort": trend(area, True),
        "area_trend_with_shortcuts": trend(area, False),
        "area_trend_shifted": trend(area, True, shifted_rank_correlation),
        "error_trend": (trend(errors, False) + trend(errors, True)) / 2,
        "error_trend_shifted": (trend(errors, False, shifted_rank_correlation) + trend(errors, True, shifted_rank_correlation)) / 2,
    }


def _radii(tables: Tables, k: pd.Series) -> Quantities:
    """Radius of the 0.1 contour by widening factor, and the logarithm of the widest net's over the narrowest one's with shortcuts."""
    radius = measure_of(tables, MEASUREMENT, "radius_below_0.1")
    shortcuts = [run for run in k.index if not run.endswith(NOSHORT)]
    positive = radius[shortcuts].where(radius[shortcuts] > 0)
    narrowest, second, widest = positive[shortcuts[0]], positive[shortcuts[1]], positive[shortcuts[-1]]
    return {f"radius_{published_name(run, k[run])}": radius[run] for run in k.index} | {
        "radius_gain": np.log(widest / narrowest),
        "radius_gain_shifted": np.log(narrowest / second),
    }


def draw(tables: Tables) -> Figure:
    """Top with shortcuts, bottom without, k rising to the right; at the right area and test error of all seeds against k."""
    if not is_measured(tables, MEASUREMENT):
        return empty_figure("wide ResNets")
    k = widening(tables)
    factors = sorted(set(k))
    figure = plt.figure(figsize=(2.6 * len(factors) + 3.3, 6.8))
    panels, strip = figure.subfigures(1, 2, width_ratios=[2.6 * len(factors) + 0.6, 2.7], squeeze=False)[0]
    grid = panels.subplots(2, len(factors), squeeze=False)
    for row, (line, runs) in enumerate(zip(grid, split_by_shortcuts(k.index), strict=True)):
        for axes, factor in zip(line, factors, strict=True):
            matching = [run for run in runs if k[run] == factor]
            name = f"k = {factor:g}, {'no' if row else 'with'} shortcuts"
            if matching:
                draw_net(axes, tables, MEASUREMENT, matching[0], name, published=published_name(matching[0], factor))
            else:
                write_not_recorded(axes, name)
    level_bar(panels, grid)
    panels.suptitle(PANELS, fontsize=8)
    _draw_numbers(strip.subplots(3, 1), tables, k)
    strip.suptitle("All seeds", fontsize=8)
    return figure


def _draw_numbers(grid: np.ndarray, tables: Tables, k: pd.Series) -> None:
    fitted = training_accuracies(tables, MEASUREMENT).mean() >= FITTED
    values = {"share of the square below ln 10": measure_of(tables, MEASUREMENT, "area_below_chance")}
    values["test error (%)"] = error_percent(tables, MEASUREMENT)
    values["mean radius of the 0.1 contour"] = measure_of(tables, MEASUREMENT, "radius_below_0.1")
    names = {str(run): published_name(str(run), factor) for run, factor in k.items()}
    for axes, (label, table) in zip(grid, values.items(), strict=True):
        draw_trend(axes, k, table, fitted=fitted)
        axes.set_xscale("log", base=2)
        axes.set_xticks(sorted(set(k)), [f"{factor:g}" for factor in sorted(set(k))])
        axes.set_xlabel("widening factor k", fontsize=7)
        axes.set_ylabel(label, fontsize=7)
        sns.despine(ax=axes)
    mark_published(grid[1], k, landscape_published.error_percents(), names)
    mark_published(grid[2], k, landscape_published.contour_radii(), names)
    trend_legend(grid[0])
