"""Landscape's figure 3: filter-normalised slices of VGG-9 in one and two dimensions, and how they go with the test errors."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import landscape_published
from figures.line_widths import low_loss_width
from figures.ranks import rank_correlation, shifted_rank_correlation
from figures.style import HURTS, LOSS, Quantities, Tables, note_missing, requires
from figures.surfaces import draw_surface, measure_of, seed_zero
from figures.vgg9 import COLOURS, MODE, PAIRS, SGD, SMALL_DECAY, SURFACES, by_row, draw_spread, error_percent, label, title, twin_of

LINES = "vgg9_lines"
LEVEL = 1.0  # of the training loss, at which the paper's lines are as wide as the order of the test errors


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
    estimates |= _radii(tables) | (_half_widths(tables, errors) if LINES in tables else {})
    estimates["widest_margin"] = margins[SMALL_DECAY]
    estimates["widest_margin_others"] = margins.drop(columns=SMALL_DECAY).mean(axis=1)
    return estimates


def _radii(tables: Tables) -> Quantities:
    radius = measure_of(tables, SURFACES, "radius_below_0.1")
    return {f"radius_{run}": radius[run] for run in radius}


def _half_widths(tables: Tables, errors: pd.DataFrame) -> Quantities:
    """Half-widths at a training loss of 1 by run, how they go with the test errors, and the logarithm of small over large batch."""
    widths = half_widths(tables)
    positive = pd.DataFrame(np.log(widths.where(widths > 0)))
    estimates: Quantities = {f"half_width_{run}": widths[run] for run in widths}
    estimates["half_width_error_correlation"] = by_row(rank_correlation, widths, errors)
    estimates["half_width_error_correlation_shifted"] = by_row(shifted_rank_correlation, widths, errors)
    for ending, (small, large) in PAIRS.items():
        estimates[f"half_width_ratio{ending}"] = positive[small] - positive[large]
    estimates["half_width_ratio_permuted"] = 0 * positive[PAIRS[""][0]]
    return estimates


def half_widths(tables: Tables) -> pd.DataFrame:
    """Half the width at a training loss of 1 of the filter-normalised lines, mean over directions; seeds in rows and runs in columns."""
    lines = tables[LINES]["lines"]
    rows = lines[(lines["normalise"] == "filter") & (lines["split"] == "train")].sort_values("alpha")
    reach = float(rows["alpha"].max())
    widths = {
        key: low_loss_width(line["alpha"].to_numpy(), line["loss"].to_numpy(), 0.0, LEVEL, (-reach, reach)) / 2
        for key, line in rows.groupby(["seed", "run", "direction"], sort=False)
    }
    table = pd.Series(widths).rename_axis(["seed", "run", "direction"])
    return table.groupby(["seed", "run"], sort=False).mean().unstack("run")


def draw(tables: Tables) -> Figure:
    """A column per net of the first seed; top: loss and error along all directions; bottom: contours of its first surface.

    The last column has half-widths and radii of all seeds beside the published ones.
    """
    figure, grid = plt.subplots(2, len(SGD) + 1, figsize=(16, 6.6))
    _draw_sizes(grid[:, -1], tables)
    grid = grid[:, :-1]
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


def _draw_sizes(panels: np.ndarray, tables: Tables) -> None:
    """Half-widths at a training loss of 1, and radii of the 0.1 contour: every seed beside the published value."""
    radii = landscape_published.contour_radii()
    published = ({run: landscape_published.half_width(run) for run in SGD}, radii)
    measured = (
        half_widths(tables) if LINES in tables else None,
        measure_of(tables, SURFACES, "radius_below_0.1") if SURFACES in tables else None,
    )
    titles = (f"half-width at a training loss of {LEVEL:g}", "mean radius of the 0.1 contour")
    for axes, ours, theirs, text in zip(panels, measured, published, titles, strict=True):
        for place, run in enumerate(SGD):
            landscape_published.mark(axes, place, theirs[run], named=not place)
            if ours is not None and run in ours:
                name = "ours, each seed" if not place else None
                axes.plot([place] * len(ours), ours[run], "o", ms=4, color=COLOURS[run], mec="black", mew=0.4, label=name)
        axes.set_xticks(range(len(SGD)), [label(run).replace(" ", "\n") for run in SGD], fontsize=7)
        axes.set(xlim=(-0.5, len(SGD) - 0.5), ylim=(0, None))
        axes.set_title(text, fontsize=8.5)
        axes.legend(fontsize=7)


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
