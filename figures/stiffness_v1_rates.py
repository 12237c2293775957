"""Stiffness version 1, Figure 8: stiffness between classes against the learning rate, at equal training losses."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from figures.ranks import rank_correlation
from figures.stiffness_tables import reordered
from figures.stiffness_v1_tables import RATES, ours_at_rates, published, rates_table
from figures.style import Quantities, Tables, requires, write_not_recorded

DATA = {"mnist": "MNIST", "fashion": "Fashion-MNIST"}
LOSSES = (0.177, 0.056, 0.017)


@requires(RATES[0])
def quantities(tables: Tables) -> Quantities:
    """By data set and loss: root mean square of ours less published, and rank correlation with the rate."""
    estimates: Quantities = {}
    for data in DATA:
        for loss in LOSSES:
            ours = at_loss(tables, data, loss)
            theirs = published_at(data, loss)
            shared = [rate for rate in theirs.index if rate in ours.columns]
            if len(shared) < 3:
                continue
            name = f"{data}_at_{loss}".replace(".", "_")
            for tail, reference in (("", theirs[shared].to_numpy()), ("_reversed", theirs[shared].to_numpy()[::-1])):
                estimates[f"deviation_{name}{tail}"] = ((ours[shared] - reference) ** 2).mean(axis=1) ** 0.5
            rows = {int(str(seed)): row.dropna() for seed, row in ours.iterrows()}
            estimates[f"order_{name}"] = pd.Series({s: rank_correlation(row.index.to_numpy(), row.to_numpy()) for s, row in rows.items()})
            estimates[f"order_{name}_shuffled"] = pd.Series(
                {s: rank_correlation(row.index.to_numpy(), reordered(row.to_numpy(), s)) for s, row in rows.items()}
            )
    return estimates


def at_loss(tables: Tables, data: str, loss: float) -> pd.DataFrame:
    """Between-class stiffness in float32 by seed (rows) and rate (columns) when the training loss was reached."""
    table = rates_table(tables, "summary")
    chosen = (table["precision"] == "float32") & (table["kind"] == "sign") & (table["target"] == loss)
    rows = table[chosen & table["run"].str.startswith(f"v1_{data}_lr_")]
    return rows.pivot(index="seed", columns="learning_rate", values="between")


def published_at(data: str, loss: float) -> pd.Series:
    """Published values by rate; points that are not in the figure are left out."""
    figure = published()["figure_8"]
    return pd.Series(figure[data][str(loss)], index=figure["rates"], dtype=float).dropna()


def draw(tables: Tables) -> Figure:
    """Columns: MNIST, Fashion-MNIST. Rows: published; ours, mean and range of the seeds. Colours: training losses."""
    figure, grid = plt.subplots(2, 2, figsize=(9, 6.8), sharey=True)
    colours = sns.color_palette("viridis", len(LOSSES))
    for column, (data, title) in zip(grid.T, DATA.items(), strict=True):
        for loss, colour in zip(LOSSES, colours, strict=True):
            theirs = published_at(data, loss)
            column[0].plot(theirs.index, theirs, "o-", color=colour, label=f"training loss {loss}")
            ours = at_loss(tables, data, loss) if RATES[0] in tables else pd.DataFrame()
            if not ours.empty:
                column[1].plot(ours.columns, ours.mean(), "o-", color=colour)
                column[1].fill_between(ours.columns.to_numpy(), ours.min(), ours.max(), color=colour, alpha=0.15, lw=0)
        column[0].set_title(f"{title}: published")
        column[1].set_title(ours_at_rates(tables, f"{title}: ours"))
        for axes in column:
            axes.set(xscale="log", xlabel="learning rate", xlim=(7e-7, 1.5e-3))
        if not column[1].lines:
            write_not_recorded(column[1], title)
        for axes in (axes for axes in column if axes.lines):
            axes.axhline(0, color="black", lw=0.8)
    for axes in grid[:, 0]:
        axes.set_ylabel("stiffness between classes")
    grid[0, 0].legend(fontsize=7)
    sns.despine(figure)
    return figure
