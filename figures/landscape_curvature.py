"""Landscape, Figure 7: size of the smallest over the largest eigenvalue of the Hessian on the planes of the surfaces."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from figures import landscape_published
from figures.residual_nets import STATISTICS, WITH, WITHOUT, split_by_shortcuts, title_of
from figures.style import GREY, Quantities, Tables, empty_figure, is_measured, requires
from figures.surfaces import NOSHORT, seed_zero
from replication.landscape.grid import as_grid
from replication.landscape.surface_measures import CHANCE

MEASUREMENT, DENSE = "curvature_maps", "densenet"
SMALL, BRIGHTEST = 0.05, 0.5  # the paper's colours end at 0.5: a ratio that can be compared with its maps is "at least 0.5"


def points_of(tables: Tables) -> pd.DataFrame:
    """The maps; ``ratio`` is nan where the eigenvalues did not converge."""
    recorded = tables[MEASUREMENT]["map"]
    return recorded.assign(ratio=recorded["ratio"].where((recorded["converged"] == 1) & np.isfinite(recorded["ratio"])))


def medians(tables: Tables) -> pd.DataFrame:
    """Median ratio over the map, seeds in rows and runs in columns."""
    return points_of(tables).groupby(["seed", "run"], sort=False)["ratio"].median().unstack("run", sort=False)


def untrained(tables: Tables) -> pd.DataFrame:
    """The ratio before training, seeds in rows and runs in columns."""
    rows = tables[MEASUREMENT]["untrained"]
    return rows.assign(ratio=(rows["smallest"] / rows["largest"]).abs()).pivot(index="seed", columns="run", values="ratio")


@requires(MEASUREMENT)
def quantities(tables: Tables) -> Quantities:
    """Per seed: how much of the basin has tiny negative eigenvalues, and what removing the shortcuts does to the median."""
    points, middle = points_of(tables), medians(tables)
    shortcuts, without = split_by_shortcuts(middle.columns)
    known = points[points["ratio"].notna()]
    basin = known[(known["loss"] < CHANCE) & known["run"].isin(shortcuts)]
    shares = basin.assign(small=basin["ratio"] < SMALL).groupby(["seed", "run"])["small"].mean().unstack("run")
    before = untrained(tables)
    large = known.assign(large=known["ratio"] >= BRIGHTEST).groupby(["seed", "run"])["large"].mean().unstack("run")
    residual = [run for run in shortcuts if run != DENSE]
    dense = {"share_of_large_ratios_dense": large[DENSE]} if DENSE in large else {}
    return dense | {
        "share_of_large_ratios": large[residual].mean(axis=1),
        "share_of_large_ratios_noshort": large[without[-1]],
        "share_of_large_ratios_difference": large[without[-1]] - large[residual].mean(axis=1),
        "share_of_large_ratios_difference_shallow": large[without[0]] - large[residual].mean(axis=1),
        "share_of_small_ratios_in_basin": shares.mean(axis=1),
        "share_of_small_ratios_untrained": (before < SMALL).mean(axis=1),
        "median_ratio_difference": middle[without[-1]] - middle[shortcuts].mean(axis=1),
        "median_ratio_difference_shallow": middle[without[0]] - middle[shortcuts].mean(axis=1),
    }


def draw(tables: Tables) -> Figure:
    """Ours above, published below, in the same colours; at the right medians and values before training of all seeds."""
    if not is_measured(tables, MEASUREMENT):
        return empty_figure("maps of eigenvalues")
    runs = [run for part in split_by_shortcuts(map(str, medians(tables))) for run in part]
    theirs = landscape_published.curvature_runs()
    columns = max(len(runs), len(theirs))
    figure = plt.figure(figsize=(2.9 * columns + 4, 6.8))
    maps, strip = figure.subfigures(1, 2, width_ratios=[2.9 * columns + 0.7, 3.3], squeeze=False)[0]
    grid = maps.subplots(2, columns, squeeze=False)
    for axes in (*grid[0, len(runs) :], *grid[1, len(theirs) :]):
        axes.set_axis_off()
    for axes, run in zip(grid[0], runs, strict=False):
        _draw_map(axes, seed_zero(points_of(tables).query("run == @run")), run)
    for axes, run in zip(grid[1], theirs, strict=False):
        image = _draw_published(axes, run)
    bar = maps.colorbar(image, ax=list(grid.ravel()), shrink=0.6, pad=0.01, extend="max")
    bar.set_label("abs(smallest / largest eigenvalue)", fontsize=8)
    maps.suptitle(f"First seed; Hessian without biases and batch norm; {STATISTICS}; dashed: loss ln 10; hatched: left out", fontsize=8)
    _draw_medians(strip.subplots(), tables, runs)
    return figure


def _draw_map(axes: Axes, points: pd.DataFrame, run: str) -> AxesImage:
    ratio, alphas, betas = as_grid(points, "ratio")
    half = (alphas[1] - alphas[0]) / 2
    extent = (alphas[0] - half, alphas[-1] + half, betas[0] - half, betas[-1] + half)
    axes.set_facecolor("white")
    axes.patch.set(hatch="xxx", edgecolor=GREY)
    image = axes.imshow(ratio, origin="lower", extent=extent, cmap="viridis", vmin=0, vmax=BRIGHTEST)
    loss = as_grid(points, "loss")[0]
    inside = np.isfinite(loss) & (loss < CHANCE)
    if inside.any() and not inside.all():
        drawn = np.where(np.isfinite(loss), loss, np.nan)
        axes.contour(alphas, betas, drawn, levels=[CHANCE], colors="white", linestyles="--", linewidths=1)
    axes.plot(0, 0, "+", color="white", ms=6)
    left_out = int(np.isnan(ratio).sum())
    numbers = f"median {np.nanmedian(ratio):.3f}; 0.5 or more: {100 * np.nanmean(ratio >= BRIGHTEST):.3g} %"
    axes.set_title(f"{title_of(run)}\n{numbers}\n{left_out} of {ratio.size} points left out", fontsize=8)
    axes.set(xticks=(alphas[0], 0, alphas[-1]), yticks=(betas[0], 0, betas[-1]))
    axes.set_xlabel("alpha", fontsize=8)
    axes.set_ylabel("beta", fontsize=8)
    return image


def _draw_published(axes: Axes, run: str) -> AxesImage:
    """A map of the paper's figure, cell by cell."""
    ratio = landscape_published.curvature_map(run)
    half = 1 / (len(ratio) - 1)
    extent = (-1 - half, 1 + half, -1 - half, 1 + half)
    image = axes.imshow(ratio, origin="lower", extent=extent, cmap="viridis", vmin=0, vmax=BRIGHTEST)
    shares = landscape_published.curvature_shares(run)
    axes.set_title(f"published: {title_of(run)}\nmedian {shares['median']}; 0.5 or more: {100 * shares['at_least_.5']:.3g} %", fontsize=8)
    axes.set(xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    axes.set_xlabel("alpha", fontsize=8)
    axes.set_ylabel("beta", fontsize=8)
    return image


def _draw_medians(axes: Axes, tables: Tables, runs: list[str]) -> None:
    middle, before = medians(tables), untrained(tables)
    for place, run in enumerate(runs):
        colour = WITHOUT if run.endswith(NOSHORT) else WITH
        axes.plot([place - 0.12] * len(middle), middle[run], "o", ms=5, color=colour)
        if run in landscape_published.curvature_runs():
            landscape_published.mark(axes, place, landscape_published.curvature_shares(run)["median"], named=False)
        axes.plot([place + 0.12] * len(before), before[run], "x", ms=5, color="black", label="before training" if not place else None)
    axes.plot([], [], "o", ms=5, color=WITH, label="trained, with shortcuts: median of the map")
    axes.plot([], [], "o", ms=5, color=WITHOUT, label="trained, without")
    axes.plot([], [], **landscape_published.MARK, label="published median, where it has this net")
    axes.axhline(SMALL, color="black", lw=0.7, ls=":")
    axes.set_xticks(range(len(runs)), [title_of(run).replace(", ", ",\n") for run in runs], fontsize=7)
    axes.set(xlim=(-0.5, len(runs) - 0.5), ylim=(0, 1.35 * axes.get_ylim()[1]))
    axes.set_ylabel("abs(smallest / largest eigenvalue)", fontsize=8)
    axes.set_title("All seeds; dotted: 0.05", fontsize=8)
    axes.legend(fontsize=7, loc="best")
    sns.despine(ax=axes)
