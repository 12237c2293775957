"""Landscape's figure 9: training paths in the plane of their principal components, over the loss there, beside random walks."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure

from figures import landscape_published
from figures.style import GREY, NEUTRAL, PALE_YELLOW, Quantities, Tables, note_missing, requires
from figures.surfaces import draw_surface, seed_zero
from figures.trajectory_paths import MEASUREMENT, PATH, draw_epochs, path_of
from figures.vgg9 import LARGE, LARGE_DECAY, MODE, SMALL, SMALL_DECAY, by_seed, label

# as in the paper: with weight decay above, SGD and Adam side by side, each with the small batch left and the large batch right
LAYOUT = tuple(
    tuple(f"vgg9{optimizer}_{batch}{decay}" for optimizer in ("", "_adam") for batch in ("small", "large")) for decay in ("_decay", "")
)
LEVELS = np.geomspace(1e-3, 1e2, 21)
SHARES = {"captured_by_two": "ratio", "captured_by_two_random_walk": "random_walk"}


@requires(MEASUREMENT)
def quantities(tables: Tables) -> Quantities:
    """Per seed: shares of two principal components, beyond those of random walks; how much less steps cross contours late than early."""
    shares = two_axes(tables)
    beyond = shares[["ratio", "one_walk"]].sub(shares["random_walk"], axis=0).groupby("seed").min()
    angles = tables[MEASUREMENT]["angles"]
    decay = angles[angles["run"] == SMALL_DECAY]
    return {
        **{name: shares[column].groupby("seed").mean() for name, column in SHARES.items()},
        **_beside_published(tables, 100 * shares["ratio"].unstack("run")),
        "captured_beyond_random_walk": beyond["ratio"],
        "captured_beyond_random_walk_by_walk": beyond["one_walk"],
        "crossing_fall": by_seed(decay, lambda rows: _fall(rows, "cosine")),
        "crossing_fall_shuffled": by_seed(decay, lambda rows: _fall(rows, "control")),
    }


def _beside_published(tables: Tables, shares: pd.DataFrame) -> Quantities:
    """Shares of two components in per cent by run; how far the small batch with weight decay lies below the others."""
    captured = tables[MEASUREMENT]["captured"].query("plane == 'random'")
    margins = pd.DataFrame({run: shares[run] - shares.drop(columns=run).min(axis=1) for run in shares})
    return {f"two_components_{run}": shares[run] for run in shares} | {
        "two_random_directions": 100 * captured.groupby("seed")["share"].max(),
        "least_share_margin": margins[SMALL_DECAY],
        "least_share_margin_others": margins.drop(columns=SMALL_DECAY).mean(axis=1),
        "decay_difference_small": shares[SMALL_DECAY] - shares[SMALL],
        "decay_difference_large": shares[LARGE_DECAY] - shares[LARGE],
    }


def two_axes(tables: Tables) -> pd.DataFrame:
    """Shares of the first two components by seed and run: of the path, of random walks (mean) and of a single one."""
    variance = tables[MEASUREMENT]["variance"]
    return variance[variance["axis"] <= 2].groupby(["seed", "run"], sort=False)[["ratio", "random_walk", "one_walk"]].sum()


def _fall(angles: pd.DataFrame, column: str) -> float:
    """The mean over the path's first half minus that over its second; steps without a gradient are left out."""
    cosines = angles.sort_values("step")[column].to_numpy()
    half = len(cosines) // 2
    return float(np.nanmean(cosines[:half]) - np.nanmean(cosines[half:]))


def draw(tables: Tables) -> Figure:
    """Planes of eight trainings of the first seed, and the shares of all seeds beside those of random walks."""
    figure = plt.figure(figsize=(17, 7.2))
    left, right = figure.subfigures(1, 2, width_ratios=[4.6, 1], squeeze=False)[0]
    grid, beside = left.subplots(len(LAYOUT), len(LAYOUT[0])), right.subplots()
    if note_missing(tables, MEASUREMENT, (*grid.flat, beside), "VGG-9"):
        return figure
    for runs, row in zip(LAYOUT, grid, strict=True):
        for run, axes in zip(runs, row, strict=True):
            image = _draw_plane(axes, tables, run)
    left.colorbar(image, ax=grid, shrink=0.7, pad=0.01, ticks=10.0 ** np.arange(-3, 3), format="%g").set_label(
        "training loss (cross-entropy)"
    )
    grid[0, 0].legend(fontsize=7, loc="best", frameon=True, framealpha=0.8)
    figure.suptitle(f"VGG-9 around the end of training; {MODE}", fontsize=9)
    _draw_shares(beside, two_axes(tables))
    return figure


def _draw_plane(axes: Axes, tables: Tables, run: str) -> QuadContourSet:
    measured = tables[MEASUREMENT]
    image = draw_surface(axes, seed_zero(measured["surface"].query("run == @run")), LEVELS, log=True)
    draw_epochs(axes, path_of(measured["paths"], run, "pca"))
    shares = seed_zero(measured["variance"].query("run == @run")).set_index("axis")["ratio"]
    axes.set_title(_name(run), fontsize=9)
    first, second = landscape_published.components(run)
    axes.set_xlabel(f"1st component: {100 * shares[1]:.1f} % (published {first} %)", fontsize=8)
    axes.set_ylabel(f"2nd component: {100 * shares[2]:.1f} % (published {second} %)", fontsize=8)
    axes.tick_params(labelsize=7)
    return image


def _draw_shares(axes: Axes, shares: pd.DataFrame) -> None:
    """A row per training: both components' share of every seed, and the random walks'."""
    runs = [run for row in LAYOUT for run in row if run in shares.index.get_level_values("run")]
    for place, run in enumerate(runs):
        rows = 100 * shares.xs(run, level="run")
        names = [None] * 3 if place else ["random walks with\nthe same steps (mean)", "single random walk", "training path, each seed"]
        axes.barh(place, rows["random_walk"].mean(), color=NEUTRAL, height=0.6, label=names[0])
        axes.plot(rows["one_walk"], [place + 0.2] * len(rows), "|", color=GREY, ms=7, label=names[1])
        axes.plot(rows["ratio"], [place] * len(rows), "o", color=PATH, ms=4, label=names[2])
        landscape_published.mark(axes, sum(landscape_published.components(run)), place - 0.2, named=not place)
    axes.set_yticks(range(len(runs)), [_name(run).replace(", weight", ",\nweight") for run in runs], fontsize=7)
    axes.invert_yaxis()
    axes.axvspan(40, 90, color=PALE_YELLOW, alpha=0.35, lw=0, label="the paper's text: 40 to 90 %", zorder=0)
    axes.set(xlim=(0, 100), xlabel="variance in two components (%)")
    axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.4, -0.1))


def _name(run: str) -> str:
    return label(run) if "_adam" in run else f"SGD, {label(run)}"
