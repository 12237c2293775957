"""Stiffness, loss and stiffness over training with the onset of overfitting marked (version 1, figures 4-5; later versions, Figure 3)."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.ranks import rank_correlation
from figures.stiffness_tables import (
    CIFAR10,
    CNN,
    FASHION,
    FC,
    FC_RANDOM,
    MNIST,
    RATES,
    TRIVIAL,
    at,
    nth_step,
    onset,
    pick,
    seed_steps,
    spread_line,
    step_axis,
    summary,
)
from figures.style import HURTS, LOSS, ORANGE, Quantities, Tables, note_missing
from replication.schema.stiffness import ALL_BUT_LAST

COLUMNS = {
    "fc_mnist": (MNIST, FC, "FC, MNIST"),
    "fc_fashion": (RATES, FASHION, "FC, Fashion-MNIST"),
    "cnn_cifar10": (CIFAR10, CNN, "CNN, CIFAR-10"),
}
MODES = ("train_train", "train_validation", "validation_validation")


def quantities(tables: Tables) -> Quantities:
    """Change of within-class cosine after the onset, between-class sign at it, and the widest gap between the modes up to it."""
    estimates: Quantities = {}
    for name, (measurement, run, _) in COLUMNS.items():
        if measurement not in tables:
            continue
        start, turn, end = nth_step(tables, measurement, run, 0), onset(tables, measurement, run), nth_step(tables, measurement, run, -1)
        cosine, sign = (summary(tables, measurement, run, kind) for kind in ("cosine", "sign"))
        reference = at(cosine["within"], turn)
        for tail in ("", "_flipped"):
            within = cosine[f"within{tail}"]
            estimates[f"{name}_within_change_after_onset{tail}"] = (at(within, end) - at(within, turn)) / reference
            estimates[f"{name}_within_trend_after_onset{tail}"] = _trends(within, turn)
        estimates[f"{name}_between_sign_start"] = at(sign["between"], start)
        estimates[f"{name}_between_sign_onset"] = at(sign["between"], turn)
        estimates[f"{name}_onset_step"] = turn.astype(float)
    if MNIST in tables:
        turn = onset(tables, MNIST, FC)
        estimates["mode_gap"], estimates["mode_gap_random_labels"] = (_gap(tables, run, turn) for run in (FC, FC_RANDOM))
    return estimates


def _trends(values: pd.Series, turn: pd.Series) -> pd.Series:
    """By seed: rank correlation with the step, from the onset on."""
    trends = {}
    for seed, step in seed_steps(turn):
        late = values.loc[seed]
        late = late[late.index >= step]
        trends[seed] = rank_correlation(late.index.to_numpy(), late.to_numpy())
    return pd.Series(trends)


def _gap(tables: Tables, run: str, until: pd.Series) -> pd.Series:
    """By seed: largest difference between the within-class cosines of two modes, up to a step."""
    modes = pd.DataFrame({mode: summary(tables, MNIST, run, "cosine", mode=mode)["within"] for mode in MODES})
    width = modes.max(axis=1) - modes.min(axis=1)
    return pd.Series({seed: width.loc[seed].loc[:last].max() for seed, last in seed_steps(until)})


def draw(tables: Tables) -> Figure:
    """A column per network: losses above; within and between classes below; the vertical line is the lowest validation loss."""
    figure, grid = plt.subplots(2, len(COLUMNS), figsize=(11, 6.2), sharex="col", height_ratios=[1, 1.5])
    for (above, below), (measurement, run, title) in zip(grid.T, COLUMNS.values(), strict=True):
        if note_missing(tables, measurement, (above, below), title):
            continue
        turn = float(onset(tables, measurement, run).mean())
        _draw_losses(above, pick(tables[measurement]["losses"], run=run))
        _draw_stiffness(below, tables, measurement, run)
        for axes in (above, below):
            axes.axvline(turn, color=ORANGE, lw=5, alpha=0.45, zorder=0, label="onset of overfitting" if axes is above else None)
        above.set_title(title)
        step_axis(below)
    for row in grid:  # one legend for a row, beside its last panel
        if handles := next((axes.get_legend_handles_labels() for axes in row if axes.lines), None):
            row[-1].legend(*handles, fontsize=7, loc="upper left", bbox_to_anchor=(1.02, 1))
    figure.suptitle(f"Means and range of the seeds. {TRIVIAL}", fontsize=7.5)
    sns.despine(figure)
    return figure


def _draw_losses(axes: Axes, losses: pd.DataFrame) -> None:
    for column, colour, label in (("train_loss", LOSS, "training"), ("validation_loss", HURTS, "validation")):
        spread_line(axes, losses.set_index(["step", "seed"])[column], label=label, color=colour)
    axes.set_yscale("log")
    axes.set_ylabel("cross-entropy")


def _draw_stiffness(axes: Axes, tables: Tables, measurement: str, run: str) -> None:
    looks = (
        ("within", "cosine", "total", HURTS, "-", "within class, cosine"),
        ("within", "sign", "total", HURTS, ":", "within class, sign"),
        ("within", "sign", ALL_BUT_LAST, ORANGE, "--", "within class, sign, without the last layer"),
        ("between", "sign", "total", LOSS, ":", "between classes, sign"),
        ("between", "cosine", "total", LOSS, "-", "between classes, cosine"),
    )
    for column, kind, layer, colour, line, label in looks:
        values = summary(tables, measurement, run, kind, layer=layer)
        if len(values):
            spread_line(axes, values[column], label=label, color=colour, ls=line)
    axes.axhline(0, color="black", lw=0.8)
    axes.set(ylabel="stiffness of training examples", ylim=(-1.05, 1.05))
