"""LCA Figure 4: weight, gradient and LCA of the most helping and the most hurting parameter of the last layer, and how often they turn."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.lca_networks import MEASURED_NETWORKS, RowTables, quantities_of
from figures.style import HELPS, HURTS, LOSS, ORANGE, Quantities, Tables, note_missing

NO_MOMENTUM = "mnist_fc_no_momentum_lca"
ROLES = ("most helping", "most hurting")


def quantities(tables: Tables) -> Quantities:
    """Per network and seed: iterations between two turns of a weight and of a gradient, and the extreme parameters' net LCA."""
    estimates = quantities_of(tables, _of_network)
    if NO_MOMENTUM in tables:
        estimates |= {f"{name}_no_momentum": values for name, values in _periods(tables[NO_MOMENTUM]["oscillation"]).items()}
        if "mnist_fc_lca" in tables:
            ratio = estimates["weight_turn_period"] / estimates["weight_turn_period_no_momentum"]
            estimates |= {"weight_turn_period_ratio": ratio, "weight_turn_period_ratio_random_walk": _random_walk_ratio(ratio)}
    return estimates


def _of_network(tables: RowTables) -> Quantities:
    estimates = _periods(tables["oscillation"])
    if "traces" not in tables:
        return estimates
    traces = tables["traces"]
    for role in ROLES:
        of_role = traces[traces["role"] == role]
        estimates[f"{role.replace(' ', '_')}_net"] = of_role.groupby("seed")["lca"].sum()
    estimates["most_hurting_net_shuffled"] = pd.Series({seed: _shuffled_net(run) for seed, run in of_role.groupby("seed")})
    return estimates


def _periods(oscillation: pd.DataFrame) -> Quantities:
    """Iterations of the run divided by the mean number of turns of a parameter (the definition in the authors' old plotting code)."""
    sums = oscillation.groupby("seed").agg({"parameters": "sum", "steps": "first", "weight_turns": "sum", "gradient_turns": "sum"})
    return {f"{what}_turn_period": sums["steps"] * sums["parameters"] / sums[f"{what}_turns"] for what in ("weight", "gradient")}


def _shuffled_net(run: pd.DataFrame) -> float:
    """The control: the net LCA to first order with the gradients of the window in random order."""
    movement = np.diff(run["weight"])
    return float(np.random.default_rng(0).permutation(run["gradient"].to_numpy()[:-1]) @ movement)


def _random_walk_ratio(ratio: pd.Series) -> pd.Series:
    """The control: independent movements turn every second iteration, whatever the momentum."""
    walks = np.random.default_rng(0).normal(size=(2, len(ratio), 2000))
    turns = (walks[..., 1:] * walks[..., :-1] < 0).mean(-1)
    return pd.Series(turns[1] / turns[0], index=ratio.index)


def draw(tables: Tables) -> Figure:
    """A column per network and role; rows: weight, gradient, LCA in a window in the middle of training."""
    columns = [(measurement, title, role) for measurement, (_, title) in MEASURED_NETWORKS.items() for role in ROLES]
    figure, grid = plt.subplots(3, len(columns), figsize=(3.1 * len(columns), 5.4), sharex="col")
    for panels, (measurement, title, role) in zip(grid.T, columns, strict=True):
        if note_missing(tables, measurement, panels, title, table="traces"):
            continue
        traces = tables[measurement]["traces"]
        run = traces[(traces["seed"] == traces["seed"].min()) & (traces["role"] == role)]
        _draw_parameter(list(panels), run)
        panels[0].set_title(f"{title}: {role} of {run['layer'].iloc[0]}\nnet LCA {run['lca'].sum():+.1e} in these iterations", fontsize=8)
        panels[2].set_xlabel("iteration")
    for axes, label in zip(grid[:, 0], ("weight", "gradient", "LCA (loss units)"), strict=True):
        axes.set_ylabel(label)
    return figure


def _draw_parameter(panels: list[Axes], run: pd.DataFrame) -> None:
    weight, gradient, lca = panels
    weight.plot(run["step"], run["weight"], color=LOSS, lw=1)
    gradient.plot(run["step"], run["gradient"], color=ORANGE, lw=1)
    gradient.axhline(0, color="black", lw=0.6)
    lca.bar(run["step"], run["lca"], width=1, color=[HELPS if value < 0 else HURTS for value in run["lca"]])
    lca.axhline(0, color="black", lw=0.6)
    for axes in panels:
        sns.despine(ax=axes)
