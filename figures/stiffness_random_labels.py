"""Stiffness with random labels beside the same network with true labels (version 1; network and data set not known)."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.stiffness_tables import (
    FC,
    FC_RANDOM,
    MNIST,
    at,
    at_loss,
    class_matrix,
    draw_matrix,
    nth_step,
    pick,
    spread_line,
    step_axis,
    summary,
)
from figures.style import GREY, HURTS, LOSS, Quantities, Tables, legend_clear_of_data, note_missing, requires

LOSS_COMPARED = 0.15
RUNS = {FC: ("true labels", LOSS), FC_RANDOM: ("random labels", HURTS)}


@requires(MNIST)
def quantities(tables: Tables) -> Quantities:
    """Random over true labels: within-class cosine at equal training loss; between-class sign while random labels are not learnt."""
    true, random = (at(summary(tables, MNIST, run, "cosine")["within"], at_loss(tables, MNIST, run, LOSS_COMPARED)) for run in RUNS)
    later = at(summary(tables, MNIST, FC, "cosine")["within"], nth_step(tables, MNIST, FC, -1))
    return {
        "within_cosine_true": true,
        "within_cosine_random": random,
        "within_cosine_random_over_true": random / true,
        "within_cosine_true_over_true": later / true,
        "between_sign_difference": _difference(tables, "between"),
        "between_sign_difference_flipped": _difference(tables, "between_flipped"),
    }


def _difference(tables: Tables, column: str) -> pd.Series:
    """By seed: between-class sign, random minus true labels, mean over the steps at which the loss on random labels is above 1."""
    true, random = (summary(tables, MNIST, run, "sign")[column] for run in RUNS)
    losses = pick(tables[MNIST]["losses"], run=FC_RANDOM).set_index(["seed", "step"])["train_loss"]
    early = [place for place in true.index.intersection(random.index) if place[1] > 0 and losses[place] > 1]
    return (random - true).loc[early].groupby("seed").mean()


def draw(tables: Tables) -> Figure:
    """Left: sign and cosine matrices at equal training loss. Right: within and between classes over training."""
    figure = plt.figure(figsize=(11, 5.2))
    left, right = figure.subfigures(1, 2, width_ratios=[1.05, 1])  # type: ignore[misc]
    grid = left.subplots(2, 2, sharex=True, sharey=True)
    curves = right.subplots(3, 1, sharex=True)
    if note_missing(tables, MNIST, (*grid.flat, *curves), "FC on MNIST"):
        return figure
    seed = int(tables[MNIST]["losses"]["seed"].min())
    for column, (run, (label, _)) in zip(grid.T, RUNS.items(), strict=True):
        step = int(at_loss(tables, MNIST, run, LOSS_COMPARED)[seed])
        loss = pick(tables[MNIST]["losses"], run=run, seed=seed, step=step)["train_loss"].item()
        for axes, kind in zip(column, ("sign", "cosine"), strict=True):
            matrix = class_matrix(tables, MNIST, seed, step, run=run, kind=kind).to_numpy()
            image = draw_matrix(axes, matrix, f"{label}, {kind}, loss {loss:.2f}")
    for axes in grid[:, 0]:
        axes.set_ylabel("class 1")
    for axes in grid[-1]:
        axes.set_xlabel("class 2")
    left.colorbar(image, ax=grid, shrink=0.6, label="stiffness", pad=0.02)
    left.suptitle(f"FC on MNIST, seed {seed}: at equal training loss, about {LOSS_COMPARED}", fontsize=8.5)
    _draw_curves(list(curves), tables)
    sns.despine(fig=figure)
    return figure


def _draw_curves(panels: list[Axes], tables: Tables) -> None:
    for run, (label, colour) in RUNS.items():
        losses = pick(tables[MNIST]["losses"], run=run).set_index(["step", "seed"])["train_loss"]
        spread_line(panels[0], losses, label=label, color=colour)
        spread_line(panels[1], summary(tables, MNIST, run, "cosine")["within"], label=f"{label}, cosine", color=colour)
        spread_line(panels[1], summary(tables, MNIST, run, "sign")["within"], label=f"{label}, sign", color=colour, ls=":")
        spread_line(panels[2], summary(tables, MNIST, run, "sign")["between"], label=label, color=colour)
    panels[0].axhline(LOSS_COMPARED, color=GREY, lw=0.8, ls="--")
    panels[0].set(ylabel="training loss", yscale="log")
    panels[1].set(ylabel="within class", ylim=(0, 1.05))
    panels[2].set(ylabel="between (sign)", ylim=(-1, 0.4))
    panels[2].axhline(0, color="black", lw=0.8)
    step_axis(panels[2])
    panels[0].set_title("means and range of the seeds; the within-class sign is nearly +1 by the last layer alone", fontsize=7.5)
    for axes in panels:
        legend_clear_of_data(axes, 0.55, ncols=2)
