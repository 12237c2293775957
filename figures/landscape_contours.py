"""Landscape, Figure 5: contours around ResNets of rising depth with and without shortcuts, and what they are as numbers."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from figures import landscape_published
from figures.residual_nets import (
    FITTED,
    STATISTICS,
    depth_of,
    draw_net,
    draw_trend,
    level_bar,
    mark_published,
    split_by_shortcuts,
    title_of,
    training_accuracies,
    trend_legend,
)
from figures.style import Quantities, Tables, empty_figure, is_measured, requires
from figures.surfaces import NOSHORT, measure_of, network_value

MEASUREMENT = "depth_surfaces"
PANELS = f"First seed, filter-normalised random directions; {STATISTICS}; dashed: published mean radius of the 0.1 contour"


def deepest_fitted_depth(tables: Tables) -> int:
    """Depth of the deepest net without shortcuts with a training accuracy of 0.9 (mean over seeds), the second depth where none has."""
    accuracy = training_accuracies(tables, MEASUREMENT).mean()
    _, without = split_by_shortcuts(accuracy.index)
    fitted = [run for run in without[1:] if accuracy[run] >= FITTED]
    return depth_of((fitted or without[1:2] or without)[-1])


@requires(MEASUREMENT)
def quantities(tables: Tables) -> Quantities:
    """Per seed: what depth does to the basin with and without shortcuts, and how well nets are fitted."""
    accuracy, within_1 = training_accuracies(tables, MEASUREMENT), measure_of(tables, MEASUREMENT, "area_below_centre_plus_1")
    shortcuts, without = split_by_shortcuts(accuracy.columns)
    shallow, deep = shortcuts[0], shortcuts[-1]
    pairs = [run for run in ("resnet56", "resnet20") if {run, run + NOSHORT} <= set(accuracy)]
    before = network_value(tables, MEASUREMENT, "accuracy", trained=False)
    fitted = {f"fitted_difference_{depth_of(run)}": accuracy[run] - accuracy[run + NOSHORT] for run in pairs}
    fitted |= {f"accuracy_{depth_of(run)}_noshort": accuracy[run + NOSHORT] for run in pairs}
    fitted |= {f"accuracy_{depth_of(run)}_noshort_untrained": before[run + NOSHORT] for run in pairs}
    return (
        _depth_quantities(tables)
        | _radii(tables)
        | _without_minus_with(tables)
        | fitted
        | {
            "radius_ratio_with_shortcuts": np.sqrt(_ratio(within_1, deep, shallow)),
            "radius_ratio_deepest_noshort": np.sqrt(_ratio(within_1, without[-1], shallow)),
            "shallow_area_ratio": _ratio(within_1, shallow, without[0]),
            "deep_area_ratio": _ratio(within_1, deep, without[-1]),
        }
    )


def _depth_quantities(tables: Tables) -> Quantities:
    """From the shallowest net to the deepest that is fitted without shortcuts, and to the one of that depth with them."""
    curvature, area = (measure_of(tables, MEASUREMENT, name) for name in ("negative_curvature_in_basin", "area_below_chance"))
    shallow, deep = split_by_shortcuts(area.columns)[0][0], f"resnet{deepest_fitted_depth(tables)}"

    def extra(first: str, last: str) -> pd.Series:
        return np.log(_ratio(area, first + NOSHORT, last + NOSHORT)) - np.log(_ratio(area, first, last))

    return {
        "negative_curvature_rise_noshort": curvature[deep + NOSHORT] - curvature[shallow + NOSHORT],
        "negative_curvature_rise_with_shortcuts": curvature[deep] - curvature[shallow],
        "extra_narrowing_noshort": extra(shallow, deep),
        "extra_narrowing_permuted": (extra(shallow, deep) + extra(deep, shallow)) / 2,
    }


def _without_minus_with(tables: Tables) -> Quantities:
    """What the eye sees at depth 56 and at depth 20, without minus with shortcuts: curvature, steepness, shape and minima."""
    names = {"curvature": "negative_curvature_in_basin", "irregularity": "irregularity_of_centre_plus_1", "minima": "strict_minima"}
    values = {name: measure_of(tables, MEASUREMENT, measure) for name, measure in names.items()}
    rise = measure_of(tables, MEASUREMENT, "rise_0.25").fillna(np.inf)  # a circle that meets a loss that is not finite
    values["steepness"] = pd.DataFrame(np.log(rise.where(rise > 0).clip(upper=float(np.finfo(np.float32).max))))
    pairs = [run for run in ("resnet56", "resnet20") if {run, run + NOSHORT} <= set(rise)]
    return {f"extra_{name}_{depth_of(run)}": table[run + NOSHORT] - table[run] for name, table in values.items() for run in pairs}


def _radii(tables: Tables) -> Quantities:
    """Mean radius of the 0.1 contour by run, its ratios, and the losses at the centre, above which there is no contour."""
    radius, centre = (measure_of(tables, MEASUREMENT, name) for name in ("radius_below_0.1", "centre"))
    shortcuts, without = split_by_shortcuts(radius.columns)
    shallow, deep = shortcuts[0], shortcuts[-1]
    return (
        {f"radius_{run}": radius[run] for run in radius}
        | {f"centre_{run}": centre[run] for run in centre}
        | {
            "contour_ratio_with_shortcuts": radius[deep] / radius[shallow],
            "contour_ratio_deepest_noshort": radius[without[-1]] / radius[shallow],
            "contour_ratio_shallow_noshort": radius[without[0]] / radius[shallow],
            "contour_ratio_deep_noshort": radius[without[-1]] / radius[deep],
        }
    )


def _ratio(values: pd.DataFrame, above: str, below: str) -> pd.Series:
    """One run over another; nan where one of them is zero."""
    positive = values.where(values > 0)
    return positive[above] / positive[below]


def draw(tables: Tables) -> Figure:
    """Top with shortcuts, bottom without, depth rising to the right; at the right the numbers of all seeds."""
    if not is_measured(tables, MEASUREMENT):
        return empty_figure("ResNets of several depths")
    rows = split_by_shortcuts(training_accuracies(tables, MEASUREMENT).columns)
    columns = max(map(len, rows))
    figure = plt.figure(figsize=(2.6 * columns + 3.3, 6.8))
    panels, strip = figure.subfigures(1, 2, width_ratios=[2.6 * columns + 0.6, 2.7], squeeze=False)[0]
    grid = panels.subplots(2, columns, squeeze=False)
    for line, runs in zip(grid, rows, strict=True):
        for axes in line[len(runs) :]:
            axes.set_axis_off()
        for axes, run in zip(line, runs, strict=False):
            draw_net(axes, tables, MEASUREMENT, run, title_of(run))
    level_bar(panels, grid)
    panels.suptitle(PANELS, fontsize=8)
    _draw_strip(strip, tables)
    return figure


def _draw_strip(strip: SubFigure, tables: Tables) -> None:
    upper, middle, lower = strip.subplots(3, 1)
    _draw_numbers(upper, tables, "area_below_chance", "share of the square\nbelow ln 10")
    _draw_numbers(middle, tables, "negative_curvature_in_basin", "negative curvature:\nshare of the basin")
    values = _draw_numbers(lower, tables, "radius_below_0.1", "mean radius of\nthe 0.1 contour")
    depths = pd.Series({run: depth_of(run) for run in values.columns})
    mark_published(lower, depths, landscape_published.contour_radii(), {run: run for run in values.columns})
    trend_legend(middle)
    strip.suptitle("All seeds", fontsize=8)
    for axes in (upper, middle, lower):
        axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
        sns.despine(ax=axes)


def _draw_numbers(axes: Axes, tables: Tables, measure: str, label: str) -> pd.DataFrame:
    """A measure against depth; returns its values, seeds in rows and runs in columns."""
    values = measure_of(tables, MEASUREMENT, measure)
    fitted = training_accuracies(tables, MEASUREMENT).mean() >= FITTED
    draw_trend(axes, pd.Series({run: depth_of(run) for run in values.columns}), values, fitted=fitted)
    axes.set_xlabel("depth", fontsize=7)
    axes.set_ylabel(label, fontsize=7)
    return values
