"""Landscape's appendix A.1: unnormalised, layer- and filter-normalised slices side by side, and slices of rescaled networks."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.landscape_sharpness import LINES, seed_of
from figures.ranks import rank_correlation, shifted_rank_correlation
from figures.style import GREEN, GREY, Quantities, Tables, note_missing, requires
from figures.surfaces import seed_zero
from figures.vgg9 import COLOURS, MODE, SGD, SMALL, SURFACES, by_row, by_seed, draw_spread, error_percent, label

TITLES = {"none": "not normalised", "layer": "layer-normalised", "filter": "filter-normalised"}
COPIES = {"rescaled_difference": "epsilon", "rescaled_difference_small": "not epsilon and factor < 1"}
RADIUS = 0.25
LARGEST = float(np.finfo(np.float32).max)  # what a loss beyond float32 counts as
SHOWN = (1e-3, 1e4)  # of the loss


@requires(LINES)
def quantities(tables: Tables) -> Quantities:
    """Per seed: what rescaling the weights changes, and how much better filter normalisation orders the nets by test error."""
    estimates: Quantities = {}
    for name, copies in COPIES.items():
        for how, ending in (("filter", ""), ("none", "_unnormalised")):
            rows = tables[LINES]["rescaled"].query(copies)
            rows = rows[rows["normalise"] == how]
            estimates[f"{name}{ending}"] = by_seed(rows, _largest_difference)
    if SURFACES not in tables:
        return estimates
    errors, rises = error_percent(tables), {how: _rises(tables[LINES]["lines"], how) for how in ("filter", "none")}
    for correlation, ending in ((rank_correlation, ""), (shifted_rank_correlation, "_shifted")):
        filtered, unnormalised = (by_row(correlation, rises[how], errors) for how in ("filter", "none"))
        estimates[f"filter_minus_unnormalised_correlation{ending}"] = filtered - unnormalised
    return estimates


def _largest_difference(rows: pd.DataFrame) -> float:
    """Relative, over nets and points; a loss that is not finite counts as the largest float32, so that a verdict can be read off."""
    loss, original = (rows[column].where(np.isfinite(rows[column]), LARGEST) for column in ("loss", "original"))
    return float(((loss - original).abs() / original).max())


def _rises(lines: pd.DataFrame, how: str) -> pd.DataFrame:
    """Training loss at the points nearest to the radius minus that at the centre, mean over directions; by seed and run."""
    rows = lines[(lines["normalise"] == how) & (lines["split"] == "train")]
    sizes = rows["alpha"].abs()
    nearest = sizes.iloc[(sizes - RADIUS).abs().argmin()]
    loss = rows["loss"].where(np.isfinite(rows["loss"]), np.inf)
    rim, centre = (
        rows.assign(loss=loss)[np.isclose(sizes, size)].pivot_table(index="seed", columns="run", values="loss", sort=False)
        for size in (nearest, 0)
    )
    return rim - centre


def draw(tables: Tables) -> Figure:
    """The nets of the first seed under each normalisation on one axis of the loss; right: one net and its rescaled copies."""
    figure, panels = plt.subplots(1, 4, figsize=(15, 4))
    if note_missing(tables, LINES, panels, "VGG-9"):
        return figure
    lines = tables[LINES]["lines"]
    limits = _limits(lines)
    for axes, (how, text) in zip(panels, TITLES.items(), strict=False):
        for run in SGD:
            rows = seed_of(lines, run, how)
            draw_spread(axes, rows[rows["split"] == "train"], "loss", color=COLOURS[run], lw=1.3, label=_with_error(tables, run))
        axes.set(xlabel="alpha", yscale="log", ylim=limits, title=text)
    panels[0].set_ylabel("training loss (cross-entropy)")
    _draw_rescaled(panels[3], seed_zero(tables[LINES]["rescaled"]), limits)
    panels[2].legend(fontsize=7, loc="upper center", frameon=True, framealpha=0.8)
    figure.suptitle(f"VGG-9, mean and range over directions; {MODE}", fontsize=9)
    return figure


def _limits(lines: pd.DataFrame) -> tuple[float, float]:
    """Of the shared axis: all finite losses, as far as they lie within what is shown."""
    finite = lines.loc[np.isfinite(lines["loss"]) & (lines["loss"] > 0), "loss"]
    low, high = np.clip([finite.min(), finite.max()], *SHOWN)
    return float(low) / 1.5, float(high) * 1.5


def _with_error(tables: Tables, run: str) -> str:
    return f"{label(run)}: test error {error_percent(tables)[run].iloc[0]:.1f} %" if SURFACES in tables else label(run)


def _draw_rescaled(axes: Axes, rescaled: pd.DataFrame, limits: tuple[float, float]) -> None:
    """The same function with other weights: three curves that must coincide, and three that do not."""
    rows = rescaled[rescaled["run"] == SMALL]
    for how, colour in (("filter", GREEN), ("none", GREY)):
        for factor, style, size in ((1.0, "o-", 8), (10.0, "s--", 5), (0.1, "^:", 3)):
            curve = rows[(rows["normalise"] == how) & np.isclose(rows["factor"], factor) & rows["epsilon"]].replace(
                [np.inf, -np.inf], np.nan
            )
            name = f"{TITLES[how]}, weights x {factor:g}"
            axes.plot(curve["alpha"], curve["loss"], style, color=colour, ms=size, lw=1, mfc="none", label=name)
    axes.set(xlabel="alpha", yscale="log", ylim=limits, title=f"{label(SMALL)}, kernels rescaled")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.02, 0.5))
