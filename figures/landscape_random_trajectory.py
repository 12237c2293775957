"""Landscape's figure 8: on random directions a training path cannot be seen."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from figures.style import FAINT_GREY, Quantities, Tables, note_missing, requires
from figures.trajectory_paths import MEASUREMENT, draw_epochs, path_of
from figures.vgg9 import SMALL, label

PLANES = {"a": "random", "b": "random_final", "c": "random_final"}
TITLES = {"a": "two random directions", "b": "a random direction and the one to the end,\nequal scales", "c": "the same, enlarged across"}

AXES = {"random": ("random direction 1", "random direction 2"), "random_final": ("from the end towards the start", "random direction 1")}


@requires(MEASUREMENT)
def quantities(tables: Tables) -> Quantities:
    """Per seed: cosines of random directions over their formula, shares of the path that planes capture in per cent."""
    cosines, captured = tables[MEASUREMENT]["cosines"], tables[MEASUREMENT]["captured"]
    ratios = cosines.assign(own=cosines["mean"] / cosines["formula"], shared=cosines["shared"] / cosines["formula"]).groupby("seed")
    shares = {plane: 100 * rows.groupby("seed")["share"].agg(["min", "max"]) for plane, rows in captured.groupby("plane")}
    return {
        "cosine_over_formula": ratios["own"].mean(),
        "cosine_over_formula_shared": ratios["shared"].mean(),
        "captured_by_random": shares["random"]["max"],
        "captured_by_principal": shares["pca"]["min"],
    }


def draw(tables: Tables) -> Figure:
    """(a) the path on two random directions, its axes zoomed; (b) one of them and the direction to the end; (c) enlarged."""
    figure, panels = plt.subplots(1, 3, figsize=(11.5, 3.9))
    for axes, (letter, plane) in zip(panels, PLANES.items(), strict=True):
        if note_missing(tables, MEASUREMENT, axes, "VGG-9"):
            continue
        draw_epochs(axes, path_of(tables[MEASUREMENT]["paths"], SMALL, plane))
        share = 100 * _share(tables[MEASUREMENT]["captured"], plane)
        axes.set_title(f"({letter}) {TITLES[letter]}\n{share:.3g} % of the path's variance", fontsize=8.5)
        along, across = AXES[plane]
        axes.set(xlabel=along, ylabel=across)
        if letter == "b":
            axes.set_aspect("equal", adjustable="datalim")
        axes.axhline(0, color=FAINT_GREY, lw=0.6, zorder=0)
        axes.axvline(0, color=FAINT_GREY, lw=0.6, zorder=0)
    if MEASUREMENT in tables:
        panels[2].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.02, 0.5))
        figure.suptitle(
            f"VGG-9, {label(SMALL)}, without weight decay: distances in the space of all parameters, from the end of training\n"
            "The paper prints no numbers on its figure 8",
            fontsize=9,
        )
    return figure


def _share(captured: pd.DataFrame, plane: str) -> float:
    """Of the first seed's path."""
    rows = captured[(captured["seed"] == captured["seed"].min()) & (captured["run"] == SMALL) & (captured["plane"] == plane)]
    return float(rows["share"].iloc[0])
