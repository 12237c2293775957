"""Landscape's figure 2: from the small-batch to the large-batch minimiser, the weights' norm during and histograms after training."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from figures import landscape_published
from figures.line_widths import basin_width
from figures.style import FAINT_GREY, GREY, HURTS, LIGHT_GREY, LOSS, ORANGE, Quantities, Tables, note_missing, requires
from figures.surfaces import seed_zero
from figures.vgg9 import COLOURS, MODE, PAIRS, SMALL, SMALL_DECAY, by_seed, label, twin_of

MEASUREMENT = "vgg9_interpolation"
DECAY = {"": "without weight decay", "_decay": "with weight decay"}
START, END = 0.0, 1.0  # the small-batch and the large-batch minimiser
DROP = 0.5  # share of the epochs after which the rate is first divided by ten


@requires(MEASUREMENT)
def quantities(tables: Tables) -> Quantities:
    """Per seed: widths of both basins, growth and difference of norms, what wrong batch norm statistics cost."""
    lines = tables[MEASUREMENT]["interpolation"]
    first, drop, last = (_norms(tables[MEASUREMENT]["norms"], share) for share in (0, DROP, 1))
    estimates: Quantities = {
        "norm_start": first[SMALL],
        "norm_end": last[SMALL],
        "norm_growth": last[SMALL] / first[SMALL] - 1,
        "growth_share_after_drop": (last[SMALL] - drop[SMALL]) / (last[SMALL] - first[SMALL]),
        "growth_share_before_drop": (drop[SMALL] - first[SMALL]) / (last[SMALL] - first[SMALL]),
        "small_excess_at_drop_decay": _relative_difference(drop, *PAIRS["_decay"]),
        "small_excess_at_end_decay": _relative_difference(last, *PAIRS["_decay"]),
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


def _norms(norms: pd.DataFrame, share: float) -> pd.DataFrame:
    """At the kept step nearest to a share of the training, seeds in rows and runs in columns."""
    rows = {}
    for key, curve in norms.groupby(["seed", "run"], sort=False):
        nearest = (curve["step"] - share * curve["step"].max()).abs().to_numpy().argmin()
        rows[key] = float(curve["norm"].iloc[nearest])
    return pd.Series(rows).unstack()


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
    for run in next(pair for pair in PAIRS.values() if pair[0] == small):
        axes.plot(landscape_published.low_loss_interval(run), (1, 1), color=ORANGE, lw=3, solid_capstyle="butt")
    axes.set(xlabel="alpha (0: small batch, 1: large batch)", xlim=(-0.5, 1.5), xticks=[-0.5, 0, 0.5, 1, 1.5])


def _lines_in_words() -> list[Line2D | Patch]:
    return [
        Line2D([], [], color=LOSS, label="loss"),
        Line2D([], [], color=HURTS, label="accuracy"),
        Line2D([], [], color="black", label="training"),
        Line2D([], [], color="black", ls="--", label="test"),
        Patch(color=FAINT_GREY, label="no finite loss: a variance\nis extrapolated below 0"),
        Line2D([], [], color=ORANGE, lw=3, label="published: where the\ntraining loss is below 1"),
        Line2D([], [], **landscape_published.MARK, label=landscape_published.LABEL),
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
            start = rows["norm"].iloc[rows["step"].to_numpy().argmin()]
            axes.plot(100 * rows["step"] / rows["step"].max(), rows["norm"] / start, color=COLOURS[run], **style)
        theirs = landscape_published.weight_norms(run)
        look = landscape_published.MARK | {"mfc": COLOURS[run], "ls": "--", "lw": 0.7, "color": COLOURS[run]}
        axes.plot(100 * theirs.index / landscape_published.EPOCHS, theirs / theirs.iloc[0], **look)
    axes.axvline(100 * DROP, color=LIGHT_GREY, lw=0.8, ls=":")
    axes.set(
        xlabel="training (% of the epochs)", ylabel="norm of all parameters\nover that before training", ylim=(0, None), xlim=(-2, 102)
    )
    axes.legend(fontsize=7)


def _draw_histograms(axes: Axes, weights: pd.DataFrame, runs: tuple[str, str]) -> None:
    for run in runs:
        rows = weights[weights["run"] == run].sort_values("low")
        edges = np.append(rows["low"], rows["high"].iloc[-1])
        axes.stairs(100 * rows["share"], edges, color=COLOURS[run], label=label(run), lw=1.2)
    axes.set(xlabel="value of a parameter", ylabel="parameters in a bin (%)", yscale="log", ylim=(None, 1000))  # room for the legend
    axes.legend(fontsize=7, loc="upper right")
