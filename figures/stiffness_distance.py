"""Stiffness against similarity of inputs and of hidden representations (version 1, Figure 9) and the critical length (later versions)."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.ranks import rank_correlation
from figures.stiffness_published import SIMILARITY_CURVES, UPPER_CROSSINGS
from figures.stiffness_tables import FC, MNIST, at, at_loss, nth_step, pick, reordered, seed_steps, spread_line, step_axis
from figures.style import GREY, HURTS, LOSS, Quantities, Tables, legend_clear_of_data, note_missing, requires

LOSS_COMPARED = 0.1
LAYERS = ("fc1", "relu1", "fc2", "relu2", "fc3", "relu3")  # version 1's layers 1 to 6, if it counted dense and ReLU apart
RISING = 0.6  # cosine similarity from which the published input curve rises
SHARE = 0.001  # of all pairs that a drawn bin holds


@requires(MNIST)
def quantities(tables: Tables) -> Quantities:
    """At training loss 0.1: slope and critical length, the input's rise, the dip and the crossings of hidden layers; fall over training."""
    steps = at_loss(tables, MNIST, FC, LOSS_COMPARED)
    lengths = pick(tables[MNIST]["lengths"], run=FC, kind="cosine").set_index(["seed", "step"])
    relative = lengths["length"] / lengths["largest_distance"]
    domains = pick(tables[MNIST]["domains"], run=FC).set_index(["representation", "seed", "step"]).sort_index()
    crossings = {seed: np.array([domains["crossing"].loc[(layer, seed, step)] for layer in LAYERS]) for seed, step in seed_steps(steps)}
    published = np.array(list(UPPER_CROSSINGS.values()))
    curves = {seed: _curve(tables, "pixels", seed, step) for seed, step in seed_steps(steps)}
    history = {seed: lengths["length"].loc[seed].sort_index().loc[1:].to_numpy() for seed, _ in seed_steps(steps)}
    return {
        "within_slope": at(lengths["slope"], steps),
        "within_slope_permuted": at(lengths["slope_permuted"], steps),
        "length_over_largest_distance": at(relative, steps),
        "length_over_largest_distance_start": at(relative, nth_step(tables, MNIST, FC, 0)),
        "input_rise": pd.Series({seed: _rise(curve, "stiffness") for seed, curve in curves.items()}),
        "input_rise_permuted": pd.Series({seed: _rise(curve, "stiffness_permuted") for seed, curve in curves.items()}),
        "lowest_last_hidden": at(domains["lowest"][LAYERS[-1]], steps),
        "lowest_last_hidden_permuted": at(domains["lowest_permuted"][LAYERS[-1]], steps),
        "crossing_by_depth": pd.Series({seed: rank_correlation(np.arange(6), values) for seed, values in crossings.items()}),
        "crossing_by_depth_shuffled": pd.Series(
            {seed: rank_correlation(np.arange(6), reordered(values, seed)) for seed, values in crossings.items()}
        ),
        "crossing_less_published": pd.Series({seed: float(np.mean(values[1:5] - published)) for seed, values in crossings.items()}),
        "crossing_less_published_shifted": pd.Series({seed: float(np.mean(values[:4] - published)) for seed, values in crossings.items()}),
        "length_change_over_training": pd.Series({seed: _change(values) for seed, values in history.items()}),
        "length_change_over_training_shuffled": pd.Series({seed: _change(reordered(values, seed)) for seed, values in history.items()}),
    }


def _curve(tables: Tables, representation: str, seed: int, step: int) -> pd.DataFrame:
    curve = pick(tables[MNIST]["curves"], run=FC, representation=representation, seed=seed, step=step)
    return curve[curve["pairs"] >= SHARE * curve["pairs"].sum()]


def _rise(curve: pd.DataFrame, column: str) -> float:
    """Rank correlation of stiffness and similarity where the similarity is above 0.6."""
    high = curve[curve["similarity"] > RISING]
    return rank_correlation(high["similarity"].to_numpy(), high[column].to_numpy())


def _change(lengths: np.ndarray) -> float:
    """Relative change from the first to the last of the values."""
    return float(lengths[-1] / lengths[0] - 1)


def draw(tables: Tables) -> Figure:
    """Version 1's curves, ours for the same representations, within-class cosine against distance with its line, length over training."""
    figure, grid = plt.subplots(2, 2, figsize=(9.6, 7))
    published, ours, fit, over_training = grid.flat
    for (name, curve), colour in zip(SIMILARITY_CURVES.items(), ("black", HURTS), strict=True):
        published.plot(list(curve), list(curve.values()), "o-", ms=3, color=colour, label=name)
    for layer, crossing in UPPER_CROSSINGS.items():
        published.plot(crossing, 0, "|", ms=12, color=plt.get_cmap("viridis")(layer / 6))
        published.annotate(str(layer), (crossing, -0.14), ha="center", fontsize=7)
    published.set_title("published (version 1, Figure 9), read off; ticks: crossings of layers 2 to 5", fontsize=8)
    if not note_missing(tables, MNIST, (ours, fit, over_training), "FC on MNIST"):
        _draw_curves(ours, tables)
        _draw_fit(fit, tables)
        _draw_lengths(over_training, tables)
    for axes in (published, ours):
        axes.axhline(0, color="black", lw=0.8)
        axes.set(
            xlabel="cosine similarity of the representations", ylabel="stiffness (sign), all pairs", ylim=(-1.05, 1.05), xlim=(-0.3, 1)
        )
    published.legend(fontsize=7, loc="upper left")
    if ours.get_legend_handles_labels()[1]:
        legend_clear_of_data(ours, 0.3, above=False, ncols=2)
    sns.despine(figure)
    return figure


def _draw_curves(axes: Axes, tables: Tables) -> None:
    seed = int(tables[MNIST]["losses"]["seed"].min())
    step = int(at_loss(tables, MNIST, FC, LOSS_COMPARED)[seed])
    for number, representation in enumerate(("pixels", *LAYERS)):
        curve = _curve(tables, representation, seed, step)
        label = f"{number}: {representation}" if number else "input (pixels)"
        colour = plt.get_cmap("viridis")(number / 6) if number else "black"
        axes.plot(curve["similarity"], curve["stiffness"], ".-", ms=3, lw=1, color=colour, label=label)
    loss = pick(tables[MNIST]["losses"], run=FC, seed=seed, step=step)["train_loss"].item()
    axes.set_title(f"ours, FC on MNIST, seed {seed}, training loss {loss:.2f}; bins with {SHARE:.1%} of the pairs or more", fontsize=8)


def _draw_fit(axes: Axes, tables: Tables) -> None:
    """Each seed's line through its within-class pairs, dashed where it goes beyond the distances of the data."""
    lengths = pick(tables[MNIST]["lengths"], run=FC, kind="cosine")
    for seed, step in seed_steps(at_loss(tables, MNIST, FC, LOSS_COMPARED)):
        row = pick(lengths, seed=seed, step=step).iloc[0]
        inside = np.array([row["smallest_distance"], row["largest_distance"]])
        axes.plot(inside, row["intercept"] + row["slope"] * inside, color=LOSS, label="line through all within-class pairs, a seed each")
        outside = np.array([row["largest_distance"], row["length"]])
        axes.plot(outside, row["intercept"] + row["slope"] * outside, color=LOSS, ls="--", lw=0.8, label="beyond the data")
        axes.plot(row["length"], 0, "o", ms=4, color=HURTS, label="critical length")
    axes.axhline(0, color="black", lw=0.8)
    axes.set(xlabel="distance of the inputs, 1 - cosine similarity", ylabel="within-class stiffness (cosine)", ylim=(-0.1, 1.1))
    axes.set_title(f"at training loss {LOSS_COMPARED}: the zero lies where there are no pairs", fontsize=8)
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    axes.legend(list(unique.values()), list(unique), fontsize=7)


def _draw_lengths(axes: Axes, tables: Tables) -> None:
    lengths = pick(tables[MNIST]["lengths"], run=FC, kind="cosine").set_index(["step", "seed"])
    spread_line(axes, lengths["length"], label="critical length: mean and range of the seeds", color=HURTS)
    seed = int(tables[MNIST]["losses"]["seed"].min())
    one = lengths.xs(seed, level="seed")
    axes.errorbar(
        one.index, one["length"], [one["length"] - one["low"], one["high"] - one["length"]],
        fmt=".", ms=3, lw=0.8, color=GREY, label=f"seed {seed}: 90 % interval over examples",
    )  # fmt: skip
    axes.axhline(one["largest_distance"].max(), color="black", lw=0.8, ls="--", label="largest distance in the data")
    step_axis(axes)
    axes.set(ylabel="critical length (cosine, within class)")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=7)
