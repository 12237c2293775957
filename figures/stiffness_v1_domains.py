"""Stiffness version 1, Figures 9 and 10: stiffness against similarity, and the size of stiff domains against the learning rate."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.ranks import rank_correlation
from figures.stiffness_published import SIMILARITY_CURVES
from figures.stiffness_tables import reordered
from figures.stiffness_v1_rates import DATA
from figures.stiffness_v1_tables import RATES, ours_at_rates, published, rates_table
from figures.style import LOSS, Quantities, Tables, requires, write_not_recorded

LOSS_OF_DOMAINS = 0.1
SPACES = ("input", *(f"layer {number}" for number in range(1, 7)))
HIDDEN = SPACES[2:6]  # whose published sizes rise most with the rate
LOW_RATE, HIGH_RATE = 1e-5, 3e-4


@requires(RATES[0])
def quantities(tables: Tables) -> Quantities:
    """By data set: factor between ours and published sizes, their rise with the rate, and their order by depth."""
    estimates: Quantities = {}
    for data in DATA:
        ours = sizes(tables, data)
        theirs = published_sizes(data)
        shared = [rate for rate in theirs.columns if rate in ours.columns.get_level_values("learning_rate")]
        if len(shared) < 3:
            continue
        for tail, reference in (("", theirs[shared]), ("_reversed", theirs[shared].iloc[:, ::-1].set_axis(shared, axis=1))):
            factors = {seed: _factor(ours.loc[seed], reference) for seed in ours.index}
            estimates[f"{data}_factor{tail}"] = pd.Series(factors)
        rise = (_hidden(ours, HIGH_RATE) / _hidden(ours, LOW_RATE)).map(math.log)
        estimates[f"{data}_hidden_rise"], estimates[f"{data}_hidden_rise_reversed"] = rise, -rise
        inputs = (ours[("input", shared[-1])] / ours[("input", LOW_RATE)]).map(math.log)
        estimates[f"{data}_input_rise"], estimates[f"{data}_input_rise_reversed"] = inputs, -inputs
        depth = {seed: ours.loc[seed].xs(HIGH_RATE, level="learning_rate").reindex(SPACES).dropna() for seed in ours.index}
        orders = {seed: row.to_numpy() for seed, row in depth.items()}
        estimates[f"{data}_order_by_depth"] = pd.Series({s: rank_correlation(np.arange(len(row)), row) for s, row in orders.items()})
        estimates[f"{data}_order_by_depth_shuffled"] = pd.Series(
            {s: rank_correlation(np.arange(len(row)), reordered(row, int(str(s)))) for s, row in orders.items()}
        )
    return estimates


def sizes(tables: Tables, data: str) -> pd.DataFrame:
    """Sizes of the stiff domains by seed (rows), space and rate (columns), at the training loss 0.1."""
    table = rates_table(tables, "domains")
    rows = table[table["run"].str.startswith(f"v1_{data}_lr_") & (table["target"] == LOSS_OF_DOMAINS)]
    spaces = rows["representation"].str.replace("relu", "layer ")
    return rows.assign(space=spaces).pivot(index="seed", columns=["space", "learning_rate"], values="size")


def published_sizes(data: str) -> pd.DataFrame:
    """Published sizes by space (rows) and rate (columns)."""
    figure = published()["figure_10"][data]
    return pd.DataFrame({space: figure[space] for space in SPACES}, index=figure["rates"]).T


def _factor(ours: pd.Series, theirs: pd.DataFrame) -> float:
    """Mean size of the logarithm of ours over published, as a factor, over all spaces and rates that both have."""
    logarithms = [abs(np.log(ours[(space, rate)] / theirs.loc[space, rate])) for space in theirs.index for rate in theirs.columns]
    return float(np.exp(np.nanmean(logarithms)))


def _hidden(ours: pd.DataFrame, rate: float) -> pd.Series:
    """By seed: geometric mean of the hidden layers' sizes."""
    return np.exp(np.log(ours[[(space, rate) for space in HIDDEN]]).mean(axis=1))


def draw(tables: Tables) -> Figure:
    """Left two columns: sizes against the rate, published above ours, by data set. Right: curves against similarity on MNIST."""
    figure, grid = plt.subplots(2, 3, figsize=(13, 6.8))
    colours = sns.color_palette("viridis", len(SPACES))
    for column, (data, title) in zip(grid[:, :2].T, DATA.items(), strict=True):
        theirs = published_sizes(data)
        ours = sizes(tables, data) if RATES[0] in tables else pd.DataFrame()
        for space, colour in zip(SPACES, colours, strict=True):
            column[0].plot(theirs.columns, theirs.loc[space], "o-", color=colour, label=space)
            if not ours.empty:
                column[1].plot(ours[space].columns, ours[space].mean(), "o-", color=colour)
                column[1].fill_between(ours[space].columns.to_numpy(), ours[space].min(), ours[space].max(), color=colour, alpha=0.15, lw=0)
        for axes, whose in zip(column, (f"{title}: published", ours_at_rates(tables, f"{title}: ours")), strict=True):
            axes.set(title=whose, xlabel="learning rate", ylabel="size of the stiff domain")
            axes.set(xscale="log", yscale="log", xlim=(7e-7, 1.5e-3), ylim=(0.02, 1.5))
        if not column[1].lines:
            write_not_recorded(column[1], title)
    grid[0, 0].legend(fontsize=7)
    _draw_curves(grid[:, 2], tables)
    figure.suptitle("FC at the training loss 0.1; size: one less the highest similarity at which stiffness crosses zero", fontsize=9)
    sns.despine(figure)
    return figure


def _draw_curves(column: np.ndarray, tables: Tables) -> None:
    for axes, space, name in zip(column, ("input", "relu5"), ("input", "layer 5"), strict=True):
        curve = SIMILARITY_CURVES[name]
        axes.plot(list(curve), list(curve.values()), "o--", color="black", ms=4, label="published (Figure 9)")
        _draw_our_curve(axes, tables, space)
        axes.axhline(0, color="black", lw=0.8)
        axes.set(title=f"MNIST: {name}", xlabel="cosine similarity", ylabel="mean sign, all pairs", ylim=(-0.8, 1.1))
        axes.legend(fontsize=7)


def _draw_our_curve(axes: Axes, tables: Tables, space: str) -> None:
    table = rates_table(tables, "curves")
    if table.empty:
        return
    chosen = (table["run"] == "v1_mnist_lr_1em3") & (table["target"] == LOSS_OF_DOMAINS) & (table["representation"] == space)
    for number, (_, rows) in enumerate(table[chosen & (table["pairs"] >= 20)].groupby("seed")):
        axes.plot(rows["similarity"], rows["stiffness"], color=LOSS, alpha=0.6, label="ours, rate 1e-3, by seed" if not number else None)
