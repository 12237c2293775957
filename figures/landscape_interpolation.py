"""Landscape's figure 2: from the small-batch to the large-batch minimiser, the weights' norm during and histograms after training."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from figures.style import FAINT_GREY, GREY, HURTS, LIGHT_GREY, LOSS, Quantities, Tables, note_missing, requires
from figures.surfaces import seed_zero
from figures.vgg9 import COLOURS, MODE, PAIRS, SMALL, SMALL_DECAY, by_seed, label, twin_of

MEASUREMENT = "vgg9_interpolation"
DECAY = {"": "without weight decay", "_decay": "with weight decay"}
START, END = 0.0, 1.0  # the small-batch and the large-batch minimiser


@requires(MEASUREMENT)
def quantities(tables: Tables) -> Quantities:
    """Per seed: widths of both basins, growth and difference of norms, what wrong batch norm statistics cost."""
    lines = tables[MEASUREMENT]["interpolation"]
    first, last = (_norms(tables[MEASUREMENT]["norms"], place) for place in (0, -1))
    estimates: Quantities = {
        "norm_growth": last[SMALL] / first[SMALL] - 1,
        "norm_growth_decay": last[SMALL_DECAY] / first[SMALL_DECAY] - 1,
        "norm_difference_start": _relative_difference(first, *PAIRS[""]),
        "wrong_statistics_loss": _wrong_statistics(lines, END),
        "wrong_statistics_loss_at_start": _wrong_statistics(lines, START),
    }
    for ending, (small, large) in PAIRS.items():
        ends = (large, small) if ending else (small, large)
        estimates[f"norm_difference{ending}"] = _relative_difference(last, *ends)
        for untrained in ("", "_untrained"):
            curves = _curves(lines, small, trained=not untrained)
            estimates[f"width_difference{ending}{untrained}"] = by_seed(curves, _width_difference) * (-1 if ending else 1)
    return estimates


def _curves(lines: pd.DataFrame, small: str, *, split: str = "train", statistics: bool = True, trained: bool = True) -> pd.DataFrame:
    kept = (lines["small"] == small) & (lines["split"] == split) & (lines["statistics"] == statistics) & (lines["trained"] == trained)
    return lines[kept].sort_values(["seed", "alpha"])


def _width_difference(rows: pd.DataFrame) -> float:
    """Small-batch side minus large-batch side, each towards the other one as far as the middle.

    Beyond the minimisers running variances become negative, which says nothing of the basin.
    """
    alphas, loss = rows["alpha"].to_numpy(), rows["loss"].to_numpy()
    middle = (START + END) / 2
    return basin_width(alphas, loss, START, (START, middle)) - basin_width(alphas, loss, END, (middle, END))


def basin_width(alphas: np.ndarray, loss: np.ndarray, at: float, limits: tuple[float, float]) -> float:
    """Length of the interval around ``at`` and within ``limits`` on which the loss stays below its value there plus 1.

    Between points the loss is linear; a loss that is not finite counts as infinite (at ``at`` itself: nan, no basin).
    """
    loss = np.where(np.isfinite(loss), loss, np.inf)
    place = int(np.abs(alphas - at).argmin())
    if np.isinf(loss[place]):
        return float("nan")
    below = loss - loss[place] - 1
    low, high = np.interp([place - _reach(below[place::-1]), place + _reach(below[place:])], np.arange(len(alphas)), alphas)
    return float(min(high, limits[1]) - max(low, limits[0]))


def _reach(below: np.ndarray) -> float:
    """How many steps, in fractions, a walk makes until it is no longer below zero; to the end where it stays there."""
    above = np.flatnonzero(below >= 0)
    if not len(above):
        return len(below) - 1.0
    end = int(above[0])
    return float(end - below[end] / (below[end] - below[end - 1])) if np.isfinite(below[end]) else end - 1.0


def _norms(norms: pd.DataFrame, place: int) -> pd.DataFrame:
    """At the first (0) or last (-1) kept step, seeds in rows and runs in columns."""
    ordered = norms.sort_values("step").groupby(["seed", "run"], sort=False)["norm"]
    return (ordered.first() if place == 0 else ordered.last()).unstack("run")


def _relative_difference(norms: pd.DataFrame, first: str, second: str) -> pd.Series:
    return (norms[first] - norms[second]) / ((norms[first] + norms[second]) / 2)


def _wrong_statistics(lines: pd.DataFrame, alpha: float) -> pd.Series:
    """The smaller of both pairs' differences at ``alpha``: statistics left at the small batch's minus moved along."""
    differences = []
    for small, _ in PAIRS.values():
        wrong, right = (_at(_curves(lines, small, statistics=statistics), alpha) for statistics in (False, True))
        differences.append(wrong - right)
    return pd.concat(differences, axis=1).min(axis=1)


def _at(curves: pd.DataFrame, alpha: float) -> pd.Series:
    return by_seed(curves, lambda rows: float(rows["loss"].iloc[(rows["alpha"] - alpha).abs().argmin()]))


def draw(tables: Tables) -> Figure:
    """Rows: without and with weight decay; columns: interpolation, norms, histograms; the first seed opaque, the others pale."""
    figure, grid = plt.subplots(2, 3, figsize=(12, 6.6))
    if note_missing(tables, MEASUREMENT, grid.flat, "VGG-9"):
        return figure
    measured = tables[MEASUREMENT]
    for row, (ending, (small, large)) in zip(grid, PAIRS.items(), strict=True):
        _draw_interpolation(row[0], measured["interpolation"], small)
        _draw_norms(row[1], measured["norms"], (small, large))
        _draw_histograms(row[2], seed_zero(measured["weights"]), (small, large))
        for axes, what in zip(row, ("between the minimisers", "norm of the weights", "final weights"), strict=True):
            axes.set_title(f"{what}, {DECAY[ending]}", fontsize=9)
    figure.legend(handles=_lines_in_words(), fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.suptitle(f"VGG-9: {MODE}, interpolated along with the weights unless said otherwise", fontsize=9)
    return figure


def _draw_interpolation(axes: Axes, lines: pd.DataFrame, small: str) -> None:
    twin = twin_of(axes, "loss (cross-entropy)", "accuracy (%)")
    for split, dashes in (("train", "-"), ("test", "--")):
        for number, (_, rows) in enumerate(_curves(lines, small, split=split).groupby("seed")):
            style: dict[str, Any] = {"ls": dashes, "lw": 0.6 if number else 1.3, "alpha": 0.35 if number else 1.0}
            axes.plot(rows["alpha"], rows["loss"], color=LOSS, **style)
            twin.plot(rows["alpha"], 100 * rows["accuracy"].where(np.isfinite(rows["loss"])), color=HURTS, **style)
    wrong = seed_zero(_curves(lines, small, statistics=False))
    axes.plot(wrong["alpha"], wrong["loss"], color=GREY, lw=0.9)
    finite = seed_zero(_curves(lines, small)).loc[lambda rows: np.isfinite(rows["loss"]), "alpha"]
    for end, limit in ((lines["alpha"].min(), finite.min()), (lines["alpha"].max(), finite.max())):
        axes.axvspan(end, limit, color=FAINT_GREY, lw=0)
    for minimiser in (START, END):
        axes.axvline(minimiser, color=LIGHT_GREY, lw=0.8, ls=":")
    axes.set(xlabel="alpha (0: small batch, 1: large batch)", xlim=(-0.5, 1.5), xticks=[-0.5, 0, 0.5, 1, 1.5])


def _lines_in_words() -> list[Line2D | Patch]:
    return [
        Line2D([], [], color=LOSS, label="loss"),
        Line2D([], [], color=HURTS, label="accuracy"),
        Line2D([], [], color="black", label="training"),
        Line2D([], [], color="black", ls="--", label="test"),
        Patch(color=FAINT_GREY, label="no finite loss: a variance\nis extrapolated below 0"),
        Line2D([], [], color=GREY, lw=0.9, label="training loss, batch norm's\nstatistics left at the\nsmall batch's"),
    ]


def _draw_norms(axes: Axes, norms: pd.DataFrame, runs: tuple[str, str]) -> None:
    for run in runs:
        for number, (_, rows) in enumerate(norms[norms["run"] == run].groupby("seed")):
            style: dict[str, Any] = {
                "lw": 0.6 if number else 1.3,
                "alpha": 0.35 if number else 1.0,
                "label": None if number else label(run),
            }
            axes.plot(100 * rows["step"] / rows["step"].max(), rows["norm"], color=COLOURS[run], **style)
    axes.set(xlabel="training (% of the epochs)", ylabel="norm of all parameters", ylim=(0, None), xlim=(0, 100))
    axes.legend(fontsize=7)


def _draw_histograms(axes: Axes, weights: pd.DataFrame, runs: tuple[str, str]) -> None:
    for run in runs:
        rows = weights[weights["run"] == run].sort_values("low")
        edges = np.append(rows["low"], rows["high"].iloc[-1])
        axes.stairs(100 * rows["share"], edges, color=COLOURS[run], label=label(run), lw=1.2)
    axes.set(xlabel="value of a parameter", ylabel="parameters in a bin (%)", yscale="log", ylim=(None, 1000))  # room for the legend
    axes.legend(fontsize=7, loc="upper right")
