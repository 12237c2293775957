"""LCA Figure 3, middle: share of parameters that help, hurt or do neither at each iteration."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter1d

from figures.lca_networks import RowTables, quantities_of, rows_of
from figures.style import HELPS, HURTS, LOSS, NEUTRAL, Quantities, Tables

SMOOTHING = 1.0  # iterations: standard deviation of the published curve's Gaussian filter; never applied to statistics


def helping_share(steps: pd.DataFrame, helping: str = "helping", hurting: str = "hurting") -> pd.Series:
    """Per cent of the parameters with A < 0 among those with A != 0, in each row."""
    return 100 * steps[helping] / (steps[helping] + steps[hurting])


def quantities(tables: Tables) -> Quantities:
    """Per network: mean share over the run, over its first 100 steps, with zeros in the denominator, and under shuffled gradients."""
    return quantities_of(tables, _of_network)


def _of_network(tables: RowTables) -> Quantities:
    steps, layers = tables["steps"], tables["layers"]
    shuffled = layers.groupby(["seed", "step"])[["helping_shuffled", "hurting_shuffled"]].sum().reset_index()
    return {
        "helping_percent": _mean(steps, helping_share(steps)),
        "helping_percent_first_100": _mean(steps, helping_share(steps).where(steps["step"] < 100)),
        "helping_percent_second_half": _mean(steps, helping_share(steps).where(steps["step"] >= steps["step"].max() / 2)),
        "helping_percent_of_all": _mean(steps, 100 * steps["helping"] / steps[["helping", "hurting", "zero"]].sum(axis=1)),
        "zero_percent": _mean(steps, 100 * steps["zero"] / steps[["helping", "hurting", "zero"]].sum(axis=1)),
        "helping_percent_shuffled": _mean(shuffled, helping_share(shuffled, "helping_shuffled", "hurting_shuffled")),
    }


def _mean(table: pd.DataFrame, values: pd.Series) -> pd.Series:
    return values.groupby(table["seed"]).mean()


def draw(tables: Tables) -> Figure:
    """A row per network: stacked shares of one seed with the loss on the right; all seeds' helping shares without zeros as lines."""
    return rows_of(tables, _draw_network)


def _draw_network(panels: list[Axes], tables: RowTables) -> None:
    steps, (axes, detail) = tables["steps"], panels
    first = steps[steps["seed"] == steps["seed"].min()]
    parts = first[["helping", "zero", "hurting"]].to_numpy(dtype=float)
    smooth = gaussian_filter1d(100 * parts / parts.sum(1, keepdims=True), SMOOTHING, axis=0)
    axes.stackplot(first["step"], smooth.T, colors=[HELPS, NEUTRAL, HURTS], labels=["helping", "zero", "hurting"], alpha=0.85)
    axes.axhline(50, color="black", lw=0.8, ls="--")
    axes.set(xlabel="iteration", ylabel="share of the parameters (%)", ylim=(0, 100), xlim=(0, first["step"].max()))
    axes.set_title(f"all parameters, seed {first['seed'].iloc[0]}")
    right = axes.twinx()
    right.plot(first["step"], first["loss_end"], color=LOSS, lw=1.4, label="training loss")
    right.set_ylabel("training loss (whole set)", color=LOSS)
    right.set_ylim(bottom=0)
    handles = [*axes.get_legend_handles_labels()[0], *right.get_lines()]
    axes.legend(handles=handles, loc="upper right", fontsize=7, frameon=True, framealpha=0.9)
    for seed, run in steps.groupby("seed"):
        curve = gaussian_filter1d(helping_share(run).to_numpy(dtype=float), SMOOTHING)
        detail.plot(run["step"], curve, lw=0.8, alpha=0.8, label=f"seed {seed}")
    detail.axhline(50, color="black", lw=0.8, ls="--")
    detail.set(xlabel="iteration", ylabel="helping among moving parameters (%)", xlim=(0, steps["step"].max()))
    detail.set_title("zeros left out")
    if np.isfinite(helping_share(steps)).all():
        detail.legend(fontsize=7, loc="upper right")
    sns.despine(ax=detail)
