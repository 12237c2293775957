"""Landscape's figure 3: filter-normalised slices of VGG-9 in one and two dimensions, and how they go with the test errors."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.ranks import rank_correlation, shifted_rank_correlation
from figures.style import HURTS, LOSS, Quantities, Tables, note_missing, requires
from figures.surfaces import draw_surface, measure_of, seed_zero
from figures.vgg9 import MODE, PAIRS, SGD, SMALL_DECAY, SURFACES, by_row, draw_spread, error_percent, label, title, twin_of

LINES = "vgg9_lines"


@requires(SURFACES)
def quantities(tables: Tables) -> Quantities:
    """Per seed: differences of test errors; sharpness against error; how much wider the small batch with weight decay is."""
    errors = error_percent(tables)
    (small, large), start = PAIRS[""], error_percent(tables, trained=False)
    estimates: Quantities = {f"error_difference{ending}": errors[second] - errors[first] for ending, (first, second) in PAIRS.items()}
    estimates["error_difference_untrained"] = start[large] - start[small]
    sharpness = measure_of(tables, SURFACES, "rise_0.25").fillna(np.inf)  # a circle that meets a loss that is not finite
    estimates["sharpness_error_correlation"] = by_row(rank_correlation, sharpness, errors)
    estimates["sharpness_error_correlation_shifted"] = by_row(shifted_rank_correlation, sharpness, errors)
    area = measure_of(tables, SURFACES, "area_below_centre_plus_1")
    margins = pd.DataFrame({run: area[run] - area.drop(columns=run).max(axis=1) for run in area})
    estimates["widest_margin"] = margins[SMALL_DECAY]
    estimates["widest_margin_others"] = margins.drop(columns=SMALL_DECAY).mean(axis=1)
    return estimates


def draw(tables: Tables) -> Figure:
    """A column per net of the first seed; top: loss and error along all directions; bottom: contours of its first surface."""
    figure, grid = plt.subplots(2, len(SGD), figsize=(13, 6.6))
    for number, (run, (top, bottom)) in enumerate(zip(SGD, grid.T, strict=True)):
        if not note_missing(tables, LINES, top, label(run)):
            inner = (number > 0, number < len(SGD) - 1)
            _draw_lines(top, seed_of(tables[LINES]["lines"], run), inner)
        if not note_missing(tables, SURFACES, bottom, label(run)):
            image = draw_surface(bottom, seed_zero(tables[SURFACES]["surface"].query("run == @run")))
            bottom.set(xlabel="alpha", ylabel="" if number else "beta")
        top.set_title(title(tables, run), fontsize=8.5)
    if LINES in tables:
        names = "lines: mean and range\nover directions"
        handles, _ = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles=handles, fontsize=7, title=names, title_fontsize=7, loc="center left", bbox_to_anchor=(1, 0.75))
    if SURFACES in tables:
        figure.colorbar(image, ax=grid[1], shrink=0.8, pad=0.01).set_label("training loss (cross-entropy)")
    figure.suptitle(f"VGG-9, filter-normalised random directions; {MODE}", fontsize=9)
    return figure


def seed_of(lines: pd.DataFrame, run: str, normalise: str = "filter") -> pd.DataFrame:
    """A net's lines under one normalisation: those of the first seed, all directions."""
    return lines[(lines["seed"] == lines["seed"].min()) & (lines["run"] == run) & (lines["normalise"] == normalise)]


def _draw_lines(axes: Axes, lines: pd.DataFrame, inner: tuple[bool, bool]) -> None:
    twin = twin_of(axes, "loss (cross-entropy)", "error (%)", inner=inner)
    lines = lines.assign(error=100 * (1 - lines["accuracy"]))
    for split, dashes in (("train", "-"), ("test", "--")):
        rows = lines[lines["split"] == split]
        draw_spread(axes, rows, "loss", color=LOSS, ls=dashes, lw=1.3, label=f"loss, {'training' if split == 'train' else 'test'}")
        draw_spread(twin, rows, "error", color=HURTS, ls=dashes, lw=1.3)
        axes.plot([], [], color=HURTS, ls=dashes, label=f"error, {'training' if split == 'train' else 'test'}")
    axes.set(xlabel="alpha", xlim=(lines["alpha"].min(), lines["alpha"].max()))
