"""Landscape's appendix on repeated directions: ten random directions overlaid, and repeated surfaces with and without shortcuts."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from figures.landscape_sharpness import LINES, seed_of
from figures.residual_nets import FITTED, fit_line, title_of, training_accuracies
from figures.style import LOSS, Quantities, Tables, is_measured, note_missing, write_not_recorded
from figures.surfaces import NOSHORT, draw_surface
from figures.vgg9 import MODE, SGD, by_seed, label

REPEATED = "repeated_surfaces"
NEAR = 0.5  # the largest alpha at which curves are compared


def quantities(tables: Tables) -> Quantities:
    """Per seed: variation of the curves over directions, and how far apart the surfaces with and without shortcuts stay."""
    estimates: Quantities = {}
    if LINES in tables:
        lines = tables[LINES]["lines"]
        rows = lines[(lines["normalise"] == "filter") & (lines["split"] == "train")]
        estimates["curve_variation"] = by_seed(rows, _variation)
        means = rows.groupby(["seed", "run", "alpha"], as_index=False)["loss"].mean()
        estimates["curve_variation_across_nets"] = by_seed(means.assign(direction=means["run"], run="any"), _variation)
    if REPEATED in tables:
        roughness = tables[REPEATED]["measures"].query("measure == 'roughness'")
        without = roughness["run"].str.endswith(NOSHORT)
        rough, twin = (roughness[rows].groupby("seed")["value"] for rows in (without, ~without))
        estimates["roughness_gap"] = rough.min() - twin.max()
        estimates["roughness_gap_exchanged"] = twin.min() - twin.max()
    return estimates


def _variation(rows: pd.DataFrame) -> float:
    """Standard deviation over mean of the loss over directions, mean over nets and points near the minimiser."""
    sizes = rows["alpha"].abs()
    near = rows[(sizes > 1e-9) & (sizes <= NEAR + 1e-9)]
    over_directions = near.groupby(["run", "alpha"])["loss"].agg(["std", "mean"])
    return float((over_directions["std"] / over_directions["mean"]).mean())


def draw(tables: Tables) -> Figure:
    """Top: every direction of each VGG-9; below: surfaces of the deep net without shortcuts and of its twin; the first seed."""
    figure = plt.figure(figsize=(12, 9.5))
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 2], squeeze=False)[:, 0]
    for number, (axes, run) in enumerate(zip(top.subplots(1, len(SGD), sharey=True), SGD, strict=True)):
        if not note_missing(tables, LINES, axes, label(run)):
            _draw_curves(axes, seed_of(tables[LINES]["lines"], run))
            axes.set(title=label(run), ylabel="" if number else "training loss (cross-entropy)")
    top.suptitle(f"VGG-9 along filter-normalised random directions, one line each; {MODE}", fontsize=9)
    if is_measured(tables, REPEATED):
        _draw_repeated(bottom, tables)
    else:
        write_not_recorded(bottom.subplots(), "repeated surfaces")
    return figure


def _draw_curves(axes: Axes, lines: pd.DataFrame) -> None:
    rows = lines[lines["split"] == "train"]
    for _, curve in rows.groupby("direction"):
        axes.plot(curve["alpha"], curve["loss"].where(np.isfinite(curve["loss"])), color=LOSS, lw=0.8, alpha=0.7)
    axes.text(0.5, 0.93, f"{rows['direction'].nunique()} directions", transform=axes.transAxes, ha="center", fontsize=8)
    axes.set(xlabel="alpha", ylim=(0, 5), xlim=(rows["alpha"].min(), rows["alpha"].max()))


def _draw_repeated(figure: SubFigure, tables: Tables) -> None:
    """A row per net, the one without shortcuts first; a column per pair of directions."""
    surfaces = tables[REPEATED]["surface"]
    surfaces = surfaces[surfaces["seed"] == surfaces["seed"].min()]
    runs = sorted(surfaces["run"].unique(), key=lambda run: not run.endswith(NOSHORT))
    directions = sorted(surfaces["direction"].unique())
    grid = figure.subplots(len(runs), len(directions), squeeze=False)
    for run, row in zip(runs, grid, strict=True):
        for number, (direction, axes) in enumerate(zip(directions, row, strict=True)):
            image = draw_surface(axes, surfaces[(surfaces["run"] == run) & (surfaces["direction"] == direction)])
            axes.set_title(f"{_net(tables, run)}\npair of directions {number + 1}", fontsize=8.5)
            axes.set(xlabel="alpha", ylabel="" if number else "beta")
    figure.colorbar(image, ax=grid, shrink=0.6, pad=0.01).set_label("training loss (cross-entropy)")


def _net(tables: Tables, run: str) -> str:
    """What a panel calls a run, and its training accuracy where it is not fitted."""
    accuracy = training_accuracies(tables, REPEATED)[run].iloc[0]
    return title_of(run) if accuracy >= FITTED else f"{title_of(run)},\n{fit_line(accuracy)}"
