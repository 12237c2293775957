"""SVCCA's figure 1: top neurons of two seeds look unrelated, top SVCCA directions match."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.style import BLUE, ORANGE, Quantities, Tables, note_missing, requires

MEASUREMENT = "toy_networks"
COLOURS = {"a": BLUE, "b": ORANGE}


@requires(MEASUREMENT)
def quantities(tables: Tables) -> Quantities:
    """Per pair: fourth coefficient, trained and untrained; smallest correlation of the top four neurons by rank, and with any neuron."""
    measured = tables[MEASUREMENT]
    pairs = measured["pairs"].groupby("seed")[["svcca", "ranked_neurons", "best_neuron"]].min()
    coefficients = measured["coefficients"]
    fourth = coefficients[coefficients["index"] == 4].pivot(index="seed", columns="networks", values="coefficient")
    similarity = coefficients.groupby(["seed", "networks"])["coefficient"].mean().unstack()
    return {
        "fourth_svcca_coefficient": pairs["svcca"],
        "smallest_correlation_of_top_neurons": pairs["ranked_neurons"],
        "smallest_correlation_with_best_match": pairs["best_neuron"],
        "fourth_svcca_coefficient_untrained": fourth["untrained"],
        "svcca_similarity": similarity["trained"],
        "svcca_similarity_untrained": similarity["untrained"],
    }


def draw(tables: Tables) -> Figure:
    """Upper: top neurons of both networks; lower: top directions, the second network's up to sign; right: all coefficients."""
    figure = plt.figure(figsize=(13.5, 4.8))
    grid = figure.subplots(2, 5, width_ratios=[1, 1, 1, 1, 1.4])
    if note_missing(tables, MEASUREMENT, grid.ravel(), "toy networks"):
        return figure
    measured = tables[MEASUREMENT]
    shown, pairs = (measured[name][measured[name]["seed"] == measured[name]["seed"].min()] for name in ("shown", "pairs"))
    for column, (index, rows) in enumerate(shown.groupby("index")):
        pair = pairs[pairs["index"] == index].iloc[0]
        _draw_curves(grid[0, column], rows, "neuron", f"neuron {index}: |r| = {pair['ranked_neurons']:.2f}")
        _draw_curves(grid[1, column], rows, "direction", f"direction {index}: coefficient {pair['svcca']:.4f}")
    for axes in grid[:, 4]:
        axes.remove()
    _draw_coefficients(figure.add_subplot(grid[0, 0].get_gridspec()[:, 4]), measured["coefficients"])
    sns.despine(figure)
    return figure


def _draw_curves(axes: Axes, rows: pd.DataFrame, what: str, title: str) -> None:
    curves = {network: part.set_index("x")[what] for network, part in rows.groupby("network")}
    sign = 1 if what == "neuron" or (curves["a"] * curves["b"]).sum() >= 0 else -1
    axes.plot(curves["a"].index, curves["a"], color=COLOURS["a"], lw=2.4, alpha=0.6)
    axes.plot(curves["b"].index, sign * curves["b"], color=COLOURS["b"], lw=1.1)
    axes.set(xlabel="input x", ylabel="activation" if what == "neuron" else "variate (up to sign)")
    axes.set_title(title, fontsize=8.5)


def _draw_coefficients(axes: Axes, coefficients: pd.DataFrame) -> None:
    first = coefficients[coefficients["seed"] == coefficients["seed"].min()]
    for networks, style in (("trained", "-"), ("untrained", "--")):
        rows = first[first["networks"] == networks]
        axes.plot(rows["index"], rows["coefficient"], style, color="black", lw=1.4, label=f"{networks} networks")
    axes.set(xlabel="SVCCA direction", ylabel="coefficient", ylim=(0, 1.03))
    axes.set_title("blue: network a, orange: network b\n(top neurons by norm)", fontsize=8.5)
    axes.legend(fontsize=8)
