"""SVCCA's appendices 1 and B and the official tutorial's sample-size curve: what CCA does not see, and what it sees in noise."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.style import BLUE, GREY, LOSS, ORANGE, Quantities, Tables, note_missing, requires

MEASUREMENT = "linear_maps"
BEFORE, AFTER = BLUE, ORANGE
SHOWN = ("permuted", "rotated", "scaled", "all three")


@requires(MEASUREMENT)
def quantities(tables: Tables) -> Quantities:
    """Per seed: deviations from 1 and changes under maps, aligned directions of any size, means of independent layers."""
    measured = tables[MEASUREMENT]
    recovered = measured["recovered"].pivot(index="seed", columns="transformation", values="largest_deviation")
    changes = measured["invariance"].pivot(index="seed", columns="map", values="largest_difference")
    aligned = measured["aligned"].pivot(index=["seed", "index"], columns="kind", values="coefficient")
    means = measured["aligned_means"].pivot(index="seed", columns="kind", values="svcca")
    return {
        "largest_deviation_from_1": recovered[list(SHOWN)].max(axis=1),
        "largest_deviation_from_1_squared": recovered["squared"],
        "largest_change_by_linear_map": changes["orthogonal and scaled"],
        "largest_change_by_squaring": changes["squared"],
        "noise_useful_difference_cca": (aligned["noise"] - aligned["useful"]).abs().groupby("seed").max(),
        "noise_useful_difference_svcca": (means["noise"] - means["useful"]).abs(),
        **_independent(measured["noise"]),
    }


def _independent(noise: pd.DataFrame) -> Quantities:
    """Means of independent layers at 20 examples per neuron, half as many, and with half the neurons on one side."""
    p = noise["neurons_x"].max()
    same = noise[noise["neurons_y"] == p].set_index(["seed", "examples"])["mean"].unstack()
    smaller = noise[noise["neurons_y"] < p].set_index("seed")["mean"]
    return {"independent_mean": same[20 * p], "independent_mean_half_examples": same[10 * p], "independent_mean_100_50": smaller}


def draw(tables: Tables) -> Figure:
    """Two neurons before and after each map and their canonical variates; coefficients of aligned layers; the sample-size curve."""
    figure = plt.figure(figsize=(11.5, 7.2))
    grid = figure.subplots(3, 4, height_ratios=[1, 1, 1.15])
    if note_missing(tables, MEASUREMENT, grid.ravel(), "linear maps"):
        return figure
    measured = tables[MEASUREMENT]
    first = measured["shown"][measured["shown"]["seed"] == measured["shown"]["seed"].min()]
    for column, name in enumerate(SHOWN):
        _draw_neurons(grid[0, column], grid[1, column], first[first["transformation"] == name], name)
    for axes in grid[2]:
        axes.remove()
    lower = grid[2, 0].get_gridspec()
    _draw_aligned(figure.add_subplot(lower[2, :2]), measured["aligned"])
    _draw_noise(figure.add_subplot(lower[2, 2:]), measured["noise"])
    sns.despine(figure)
    return figure


def _draw_neurons(upper: Axes, lower: Axes, rows: pd.DataFrame, name: str) -> None:
    upper.plot(rows["before_1"], rows["before_2"], ".", ms=3, color=BEFORE)
    upper.plot(rows["after_1"], rows["after_2"], ".", ms=3, color=AFTER)
    upper.set(xlabel="neuron 1", ylabel="neuron 2")
    upper.set_title(f"before (blue) and {name} (orange)", fontsize=9)
    lower.plot(rows["variate_before_1"], rows["variate_before_2"], "o", ms=4, mfc="none", color=BEFORE)
    lower.plot(rows["variate_after_1"], rows["variate_after_2"], ".", ms=2.5, color=AFTER)
    lower.set(xlabel="canonical variate 1", ylabel="canonical variate 2")
    lower.set_title("canonical variates of both", fontsize=9)
    lower.set(xticks=[], yticks=[])


def _draw_aligned(axes: Axes, aligned: pd.DataFrame) -> None:
    first = aligned[aligned["seed"] == aligned["seed"].min()]
    for kind, style, colour, width in (("noise", "-", BEFORE, 3), ("useful", "--", AFTER, 1.5)):
        rows = first[first["kind"] == kind]
        axes.plot(rows["index"], rows["coefficient"], style, color=colour, lw=width, label=f"50 aligned + 150 {kind}")
    axes.set(xlabel="canonical direction", ylabel="CCA coefficient", ylim=(-0.05, 1.08))
    axes.set_title("CCA alone cannot tell noise from useful directions", fontsize=9)
    axes.legend(fontsize=8)


def _draw_noise(axes: Axes, noise: pd.DataFrame) -> None:
    p = noise["neurons_x"].max()
    rows = noise[noise["neurons_y"] == p]
    axes.plot(rows["examples"], rows["mean"], "o", ms=4, color=LOSS, label=f"two independent layers of {p} neurons, all seeds")
    theory = rows.groupby("examples")["floor"].mean()
    axes.plot(theory.index, theory, "--", color=GREY, lw=1.2, label="expected in theory")
    axes.set(xlabel="examples", ylabel="mean CCA coefficient", xscale="log", ylim=(0, 1.05))
    axes.set_title("similarity of nothing, by number of examples", fontsize=9)
    axes.legend(fontsize=8)
