"""SVCCA's appendix 3: similarity of every layer with itself at the end, over training."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.layer_maps import DYNAMICS, ENDS, RUN_TITLES, depth_correlation, of_network, rows_in_order
from figures.style import RED, Quantities, Tables, note_missing, requires


@requires(DYNAMICS)
def quantities(tables: Tables) -> Quantities:
    """Per seed: rank correlation of depth with the similarity averaged over the kept steps between the start and the end."""
    estimates: Quantities = {}
    for run in RUN_TITLES:
        curves = of_network(tables, "curves", run)
        inner = curves[(curves["step"] > 0) & (curves["step"] < curves["step"].max())]
        estimates[f"{run}_curve_depth_correlation"] = depth_correlation(_mean_over_steps(inner))
        estimates[f"{run}_curve_depth_correlation_shuffled"] = depth_correlation(_mean_over_steps(of_network(tables, "controls", run)))
    return estimates


def _mean_over_steps(curves: pd.DataFrame) -> pd.DataFrame:
    return curves.groupby(["seed", "row"], sort=False)["similarity"].mean().reset_index()


def draw(tables: Tables) -> Figure:
    """A panel per network, dark near the input; lines are means over seeds. ResNet: after additions."""
    figure, panels = plt.subplots(1, len(RUN_TITLES), figsize=(11, 4), sharey=True)
    for axes, (run, title) in zip(panels, RUN_TITLES.items(), strict=True):
        if not note_missing(tables, DYNAMICS, axes, title):
            _draw_network(axes, of_network(tables, "curves", run), title)
    sns.despine(figure)
    return figure


def _draw_network(axes: Axes, curves: pd.DataFrame, title: str) -> None:
    rows = [row for row in rows_in_order(curves, "row") if row not in ENDS and not row.endswith(("_cv1", "_cv2"))]
    colours = sns.color_palette("viridis", len(rows))
    means = curves.groupby(["row", "step"])["similarity"].mean().unstack()
    for colour, row in zip(colours, rows, strict=True):
        axes.plot(means.columns, means.loc[row], "o-", ms=3, lw=1.3, color=colour, label=row)
    for row, style in (("logits", "--"), ("out", ":")):
        axes.plot(means.columns, means.loc[row], style, lw=1.3, color=RED, label=row)
    axes.set(xlabel="iteration", ylabel="SVCCA with the layer at the end", ylim=(0, 1.03))
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=7, ncols=2, loc="lower right")
