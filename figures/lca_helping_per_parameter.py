"""LCA Figure 3, right: in what share of the iterations each parameter helps, beside what independent coins would give."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.lca_networks import RowTables, quantities_of, rows_of
from figures.style import GREY, HELPS, Quantities, Tables

EXTREMES = (0.1, 99.9)  # percentiles; minimum and maximum depend on the number of parameters


def quantities(tables: Tables) -> Quantities:
    """Per network and seed: extreme percentiles and spread of the share, the spread of coins, and the control's percentiles."""
    return quantities_of(tables, _of_network)


def _of_network(tables: RowTables) -> Quantities:
    rows = {}
    for seed, bins in tables["parameters"].groupby("seed"):
        steps = tables["steps"].query("seed == @seed")
        low, high = _percentiles(bins, "parameters")
        coins_low, coins_high = _percentiles(bins, "coins")
        constant_low, constant_high = np.percentile(_constant_roles(steps), EXTREMES)
        rows[seed] = {
            "least_helping_share": low,
            "most_helping_share": high,
            "farthest_from_half": max(50 - low, high - 50),
            "farthest_from_half_coins": max(50 - coins_low, coins_high - 50),
            "farthest_from_half_constant_roles": max(50 - constant_low, constant_high - 50),
            "spread_over_coins": _spread(bins, "parameters") / _spread(bins, "coins"),
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    return {str(name): table[name] for name in table}


def _percentiles(bins: pd.DataFrame, column: str) -> np.ndarray:
    """Of the binned distribution, spread evenly within bins (half a point wide)."""
    cumulative = np.concatenate([[0], bins[column].cumsum()])
    edges = np.concatenate([bins["low"], bins["high"].iloc[-1:]])
    return np.interp(np.array(EXTREMES) / 100 * cumulative[-1], cumulative, edges)


def _spread(bins: pd.DataFrame, column: str) -> float:
    centres = (bins["low"] + bins["high"]) / 2
    mean = np.average(centres, weights=bins[column])
    return float(np.sqrt(np.average((centres - mean) ** 2, weights=bins[column])))


def _constant_roles(steps: pd.DataFrame) -> np.ndarray:
    """The control: as many parameters help in each iteration as in truth, but always the same ones; share per parameter, per cent."""
    active = (steps["helping"] + steps["hurting"]).to_numpy(dtype=float)
    rank = np.linspace(0, 1, 2001)
    return 100 * np.mean(rank[:, None] < (steps["helping"].to_numpy() / active)[None], axis=1)


def draw(tables: Tables) -> Figure:
    """A row per network: the share's distribution over parameters with the coins' drawn over it, and the same logarithmic."""
    return rows_of(tables, _draw_network)


def _draw_network(panels: list[Axes], tables: RowTables) -> None:
    bins = _joined(tables["parameters"], tables["steps"]["step"].nunique())
    total, width = bins["parameters"].sum(), bins["high"].iloc[0] - bins["low"].iloc[0]
    seen = bins[(bins["parameters"] > 0) | (bins["coins"] > 0.5)]
    for axes, scale in zip(panels, ("linear", "log"), strict=True):
        axes.bar(bins["low"], 100 * bins["parameters"] / total, width=width, align="edge", color=HELPS, alpha=0.7, label="measured")
        axes.step(bins["low"], 100 * bins["coins"] / total, where="post", color="black", lw=1, label="independent coins\n(binomial null)")
        axes.axvline(50, color=GREY, ls="--", lw=0.8)
        axes.set_yscale(scale)
        if scale == "log":
            axes.set_ylim(50 / total, 300 * max(bins["parameters"].max(), bins["coins"].max()) / total)
        axes.set(xlim=(seen["low"].min() - 1, seen["high"].max() + 1), xlabel="iterations in which a parameter helps (%)")
        axes.set_ylabel("parameters (%)")
        sns.despine(ax=axes)
    panels[0].set_title("published extremes 48 and 53 % (ResNet-20)")
    panels[1].set_title("logarithmic")
    panels[0].legend(fontsize=7)


def _joined(bins: pd.DataFrame, steps: int) -> pd.DataFrame:
    """All seeds together, in bins so wide that each holds two or more of the shares k / steps: narrower ones would show a comb."""
    width = bins["high"].iloc[0] - bins["low"].iloc[0]
    together = max(1, int(np.ceil(200 / steps / width)))
    groups = bins.assign(group=(bins["low"] / width).round().astype(int) // together)
    return groups.groupby("group").agg(low=("low", "min"), high=("high", "max"), parameters=("parameters", "sum"), coins=("coins", "sum"))
