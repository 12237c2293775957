"""Stiffness and the learning rate: domain sizes (version 1, Figure 10), and stiffness at equal loss and at equal epoch (later versions)."""

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import stiffness_published
from figures.ranks import rank_correlation
from figures.stiffness_distance import LAYERS
from figures.stiffness_tables import RATES, nth_step, pick, reordered
from figures.style import ORANGE, PALE_BLUE, Quantities, Tables, legend_clear_of_data, note_missing, requires
from replication.claims.statistics import mean_interval

LOSS_COMPARED = 0.1
PEAK = 3e-4  # up to here version 1's hidden layers rise


@requires(RATES)
def quantities(tables: Tables) -> Quantities:
    """By seed: how domain sizes, stiffness and critical length go with the rate, and the same with the rates in another order."""
    at_loss, at_epoch = by_rate(tables, LOSS_COMPARED), by_rate(tables, None)
    estimates: Quantities = {}
    for name, table, column in (
        ("within_cosine_at_equal_loss", at_loss, "within_cosine"),
        ("within_cosine_at_equal_epoch", at_epoch, "within_cosine"),
        ("between_sign_at_equal_loss", at_loss, "between_sign"),
        ("between_sign_at_equal_epoch", at_epoch, "between_sign"),
        ("length_at_equal_loss", at_loss, "length"),
        ("length_at_equal_epoch", at_epoch, "length"),
    ):
        estimates[f"{name}_by_rate"] = _by_seed(table, column, rank_correlation)
        estimates[f"{name}_by_rate_shuffled"] = _by_seed(table, column, rank_correlation, shuffled=True)
    estimates["hidden_domain_rise"] = _by_seed(at_loss, "hidden_domain", _rise)
    estimates["hidden_domain_rise_shuffled"] = _by_seed(at_loss, "hidden_domain", _rise, shuffled=True)
    estimates["input_domain_rise"] = _by_seed(at_loss, "domain_pixels", _rise)
    estimates["input_less_hidden_rise"] = estimates["input_domain_rise"] - estimates["hidden_domain_rise"]
    estimates["input_less_hidden_rise_shuffled"] = (
        _by_seed(at_loss, "domain_pixels", _rise, shuffled=True) - estimates["hidden_domain_rise_shuffled"]
    )
    return estimates


def by_rate(tables: Tables, target: float | None) -> pd.DataFrame:
    """A row per seed and rate at a training loss, or (None) at the last step that all rates have in common: all that is drawn."""
    measured = tables[RATES]
    keys = ["seed", "run", "step"]
    places = measured["checkpoints"]
    if target is None:
        runs = list(dict.fromkeys(places["run"]))
        places = places[places["target"].isna()]
        common = nth_step(tables, RATES, runs[0], -1)
        places = places[places["step"] == places["seed"].map(common)]
    else:
        places = places[places["target"] == target]
    table = places[[*keys, "learning_rate", "train_loss"]]
    summary = pick(measured["summary"], layer="total", mode="train_train")
    for kind in ("cosine", "sign"):
        values = pick(summary, kind=kind)[[*keys, "within", "between"]]
        table = table.merge(values.rename(columns={name: f"{name}_{kind}" for name in ("within", "between")}), on=keys)
    table = table.merge(pick(measured["lengths"], kind="cosine")[[*keys, "length"]], on=keys)
    sizes = measured["domains"].pivot(index=keys, columns="representation", values="size").add_prefix("domain_").reset_index()
    table = table.merge(sizes, on=keys).sort_values(["seed", "learning_rate"], ignore_index=True)
    hidden = table[[f"domain_{layer}" for layer in LAYERS]].to_numpy()
    return table.assign(hidden_domain=np.exp(np.log(hidden).mean(axis=1)))


def _by_seed(table: pd.DataFrame, column: str, of: Callable[[np.ndarray, np.ndarray], float], *, shuffled: bool = False) -> pd.Series:
    estimates = {}
    for key, rows in table.groupby("seed"):
        seed, values = int(str(key)), rows[column].to_numpy()
        estimates[seed] = of(rows["learning_rate"].to_numpy(), reordered(values, seed) if shuffled else values)
    return pd.Series(estimates)


def _rise(rates: np.ndarray, sizes: np.ndarray) -> float:
    """Logarithm of the size at 3e-4 over that at the lowest rate."""
    peak = int(np.argmin(np.abs(np.log(rates / PEAK))))
    return float(np.log(sizes[peak] / sizes[int(np.argmin(rates))]))


def draw(tables: Tables) -> Figure:
    """Domain sizes published and ours; critical length; within- and between-class stiffness at equal loss and at equal epoch."""
    figure, grid = plt.subplots(2, 3, figsize=(11.5, 6.8))
    published, ours, length, within, epoch, between = grid.flat
    colours = dict(zip(("input", *LAYERS), ["black", *sns.color_palette("viridis", 6)], strict=True))
    for name, colour in zip(stiffness_published.DOMAIN_SIZES, colours.values(), strict=True):
        published.plot(stiffness_published.RATES, stiffness_published.DOMAIN_SIZES[name], "o-", ms=3, color=colour, label=name)
    published.set_title("published (version 1, Figure 10), loss 0.1", fontsize=8)
    if not note_missing(tables, RATES, (ours, length, within, epoch, between), "FC on Fashion-MNIST"):
        at_loss = by_rate(tables, LOSS_COMPARED)
        for name, colour in colours.items():
            column = "domain_pixels" if name == "input" else f"domain_{name}"
            _draw_means(ours, at_loss, column, label="input (pixels)" if name == "input" else name, color=colour)
        ours.set_title("ours, means over seeds, training loss 0.1", fontsize=8)
        _draw_comparison(length, tables, "length", "critical length (within class, cosine)")
        _draw_comparison(within, tables, "within_cosine", "within class, cosine")
        _draw_comparison(between, tables, "between_sign", "between classes, sign")
        _draw_losses(epoch, tables)
    for axes in (published, ours):
        axes.set(ylabel="size of the stiff domain (1 - crossing)", ylim=(0, None))
        if axes.lines:
            legend_clear_of_data(axes, 0.35, ncols=2)
    for axes in grid.flat:
        axes.set_xscale("log")
        axes.set(xlabel="learning rate (Adam)", xlim=(7e-6, 5e-3))
    figure.suptitle(
        "Version 1: larger rates, larger domains and stiffness. Versions 2 and 3: smaller ones. Means over seeds with 90 % intervals.",
        fontsize=8.5,
    )
    sns.despine(figure)
    return figure


def _draw_means(axes: Axes, table: pd.DataFrame, column: str, **look: object) -> None:
    """Means over seeds with 90 % intervals."""
    groups = table.groupby("learning_rate")[column]
    rates, means = np.array(list(groups.groups)), groups.mean().to_numpy()
    limits = np.array([mean_interval(values.tolist()) for _, values in groups])
    half = np.where(np.isfinite(limits[:, 1]), limits[:, 1] - means, np.nan)
    axes.errorbar(rates, means, half, marker="o", ms=3, lw=1.2, elinewidth=0.7, **look)  # type: ignore[arg-type]


def _draw_comparison(axes: Axes, tables: Tables, column: str, label: str) -> None:
    """At every equal loss (blues) and at the last equal epoch (orange)."""
    targets = sorted(set(tables[RATES]["checkpoints"]["target"].dropna()), reverse=True)
    for target, colour in zip(targets, sns.color_palette("Blues", len(targets) + 1)[1:], strict=True):
        _draw_means(axes, by_rate(tables, target), column, label=f"equal training loss {target:g}", color=colour)
    _draw_means(axes, by_rate(tables, None), column, label="equal epoch", color=ORANGE, ls="--")
    axes.set_ylabel(label)
    legend_clear_of_data(axes, 0.35)


def _draw_losses(axes: Axes, tables: Tables) -> None:
    """What "equal epoch" compares: the training loss that each rate has reached by then, and how near the equal losses were met."""
    for target in sorted(set(tables[RATES]["checkpoints"]["target"].dropna()), reverse=True):
        _draw_means(axes, by_rate(tables, target), "train_loss", label=f"nearest to {target:g}", color=PALE_BLUE)
    _draw_means(axes, by_rate(tables, None), "train_loss", label="at the equal epoch", color=ORANGE, ls="--")
    axes.set_yscale("log")
    axes.set_ylabel("training loss at the comparison")
    legend_clear_of_data(axes, 0.35)
