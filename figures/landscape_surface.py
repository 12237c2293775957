"""Landscape, Figures 1 and 4: log-scaled surfaces in three dimensions, with a page that turns them and files for ParaView."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d import Axes3D

from figures.residual_nets import FITTED, STATISTICS, depth_of, fit_line, split_by_shortcuts, title_of, training_accuracies
from figures.style import Quantities, Tables, write_not_recorded
from figures.surfaces import NOSHORT, measure_of, seed_zero
from replication.landscape.export import html, vts
from replication.landscape.heights import CEILING, height_scale
from replication.landscape.surface_grid import Surface
from replication.landscape.surface_measures import rise
from replication.palette import SEQUENTIAL
from replication.plots.slices import surface_3d

DEPTHS, DENSE = "depth_surfaces", "dense_surfaces"
PUBLISHED_DEPTH = 56
SCALE = height_scale(np.zeros(1))  # the paper's: log(min(loss, 10) + 0.1)


def runs_of(tables: Tables) -> dict[str, str]:
    """The measurement of every run: ResNets with shortcuts, without, DenseNet."""
    parts = split_by_shortcuts(tables[DEPTHS]["surface"]["run"].unique()) if DEPTHS in tables else ([], [])
    measurements = {run: DEPTHS for part in parts for run in part}
    return measurements | (dict.fromkeys(tables[DENSE]["surface"]["run"].unique(), DENSE) if DENSE in tables else {})


def quantities(tables: Tables) -> Quantities:
    """Per seed: how convex the basins are, the loss before training and a step away (with shortcuts only where DenseNet is there too)."""
    estimates: Quantities = {}
    runs = runs_of(tables)
    if DENSE in tables:
        estimates["dense_negative_curvature_in_basin"] = measure_of(tables, DENSE, "negative_curvature_in_basin")[list(runs)[-1]]
    if DEPTHS in tables:
        deepest = split_by_shortcuts(run for run in runs if runs[run] == DEPTHS)[1][-1]
        estimates["deepest_noshort_negative_curvature_in_basin"] = measure_of(tables, DEPTHS, "negative_curvature_in_basin")[deepest]
        estimates["convexity_level_deepest_noshort"] = measure_of(tables, DEPTHS, "convexity_level")[deepest]
    first = {run: tables[run]["log"].query("step == 1").set_index("seed")["loss"] for run in runs if run in tables}
    if first:
        estimates["largest_initial_loss_with_shortcuts"] = pd.DataFrame(first).max(axis=1)
    if DEPTHS in tables and DENSE in tables:
        estimates |= _with_shortcuts(tables, [run for run in runs if not run.endswith(NOSHORT)])
    return estimates


def _with_shortcuts(tables: Tables, runs: list[str]) -> Quantities:
    both = (DEPTHS, DENSE)
    convex = pd.concat([measure_of(tables, name, "convexity_level") for name in both], axis=1)[runs]
    surfaces = pd.concat([tables[name]["surface"] for name in both]).query("run in @runs")
    away = {key: _one_step_away(Surface.from_table(table)) for key, table in surfaces.groupby(["seed", "run", "direction"])}
    return {
        "smallest_convexity_level_with_shortcuts": convex.min(axis=1),
        "loss_one_step_away": pd.Series(away).groupby(level=0).min(),
    }


def _one_step_away(surface: Surface) -> float:
    """Mean loss on the circle of radius 1."""
    return surface.centre + rise(surface, 1.0)


def draw(tables: Tables) -> Figure:
    """Left without shortcuts, right with them: ResNet-56 twice; the deepest net without shortcuts beside DenseNet."""
    figure = plt.figure(figsize=(10, 9))
    grid = [figure.add_subplot(2, 2, place + 1, projection="3d") for place in range(4)]
    runs = runs_of(tables)
    for axes, run in zip(grid, _panels(tables), strict=True):
        if run in runs:
            _draw_surface(axes, tables, runs[run], run)
        else:
            axes.set_axis_off()
            empty = figure.add_axes(axes.get_position())
            write_not_recorded(empty, title_of(run))
    colours, ticks = ScalarMappable(Normalize(SCALE.low, SCALE.high), mpl.colormaps[SEQUENTIAL]), SCALE.ticks()
    bar = figure.colorbar(colours, ax=grid, shrink=0.5, pad=0.02, ticks=list(SCALE.heights(np.array(ticks))))
    bar.ax.set_yticklabels([f"{tick:g}" if tick < CEILING else "10 or more" for tick in ticks])
    bar.set_label(f"training loss; height and colour: {SCALE.formula('loss')}", fontsize=8)
    looks = f"First seed, filter-normalised random directions; {STATISTICS}; the same heights and colours"
    figure.suptitle(f"{looks}\nThe paper prints no numbers on its figures 1 and 4; those of figure 5 stand beside the contours", fontsize=8)
    return figure


def _panels(tables: Tables) -> list[str]:
    """What the paper shows; where its deepest net without shortcuts is not there or the same as above, the deepest fitted one."""
    first, dense = f"resnet{PUBLISHED_DEPTH}", next((run for run, name in runs_of(tables).items() if name == DENSE), "densenet")
    second = "resnet110" + NOSHORT
    if DEPTHS in tables:
        accuracy = training_accuracies(tables, DEPTHS).mean()
        deepest = split_by_shortcuts(accuracy.index)[1]
        fitted = [run for run in deepest if accuracy[run] >= FITTED and depth_of(run) < PUBLISHED_DEPTH]
        second = deepest[-1] if depth_of(deepest[-1]) > PUBLISHED_DEPTH or not fitted else fitted[-1]
    return [first + NOSHORT, first, second, dense]


def _draw_surface(axes: Axes3D, tables: Tables, measurement: str, run: str) -> None:
    surface = seed_zero(tables[measurement]["surface"].query("run == @run"))
    surface_3d(surface, scale=SCALE, ax=axes)
    axes.set(xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    axes.tick_params(labelsize=7, pad=0)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.label.set_fontsize(8)
    loss = surface["loss"]
    accuracy = training_accuracies(tables, measurement).loc[surface["seed"].iloc[0], run]
    missing = int((~np.isfinite(loss)).sum())
    gaps = f"; {missing} of {loss.size} points not finite (gaps)" if missing else ""
    axes.set_title(f"{title_of(run)}\n{fit_line(accuracy)}{gaps}", fontsize=8.5)


def extras(tables: Tables) -> dict[str, bytes]:
    """``.html`` with every surface of the first seed, and one ``.RUN.vts`` for each; empty where nothing was measured."""
    surfaces = {run: seed_zero(tables[name]["surface"].query("run == @run")) for run, name in runs_of(tables).items()}
    if not surfaces:
        return {}
    named = {_page_title(tables, run): table for run, table in surfaces.items()}
    page = html(named, "Loss surfaces (Li et al. 2018, Figures 1 and 4)")
    return {".html": page.encode()} | {f".{run}.vts": vts(table) for run, table in surfaces.items()}


def _page_title(tables: Tables, run: str) -> str:
    measurement = runs_of(tables)[run]
    accuracy = training_accuracies(tables, measurement)
    return f"{title_of(run)} ({fit_line(accuracy[run].iloc[0])})"
