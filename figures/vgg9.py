"""The VGG-9 trainings of the landscape paper: small and large batch, without and with weight decay, by SGD and Adam."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from figures import landscape_published, residual_nets
from figures.style import AMBER, BLUE, HURTS, LOSS, ORANGE, SKY, Tables

SMALL, LARGE, SMALL_DECAY, LARGE_DECAY = SGD = ("vgg9_small", "vgg9_large", "vgg9_small_decay", "vgg9_large_decay")
PAIRS = {"": (SMALL, LARGE), "_decay": (SMALL_DECAY, LARGE_DECAY)}
COLOURS = {SMALL: BLUE, LARGE: ORANGE, SMALL_DECAY: SKY, LARGE_DECAY: AMBER}
SURFACES = "vgg9_surfaces"
MODE = "evaluation mode, batch norm with the trained net's running statistics"


def label(run: str) -> str:
    """A run in words: "large batch, weight decay"."""
    parts = ["Adam"] if "_adam" in run else []
    parts.append("small batch" if "_small" in run else "large batch")
    return ", ".join([*parts, "weight decay"] if run.endswith("_decay") else parts)


def by_seed(rows: pd.DataFrame, of_one: Callable[[pd.DataFrame], float]) -> pd.Series:
    """A number for every seed's rows."""
    return pd.Series({seed: of_one(group) for seed, group in rows.groupby("seed")}, dtype=float)


def by_row(of_two: Callable[[np.ndarray, np.ndarray], float], first: pd.DataFrame, second: pd.DataFrame) -> pd.Series:
    """A number for every seed from two tables with seeds in rows and the same runs in columns."""
    return pd.Series(
        {seed: of_two(first.loc[seed].to_numpy(), second.loc[seed, first.columns].to_numpy()) for seed in first.index}, dtype=float
    )


def error_percent(tables: Tables, *, trained: bool = True) -> pd.DataFrame:
    """Test errors, seeds in rows and runs in columns."""
    return residual_nets.error_percent(tables, SURFACES, trained=trained)


def title(tables: Tables, run: str) -> str:
    """A run in words, the first seed's test error, and its training accuracy where it is not fitted."""
    if SURFACES not in tables:
        return label(run)
    accuracy = residual_nets.training_accuracies(tables, SURFACES)[run].iloc[0]
    warning = "" if accuracy >= residual_nets.FITTED else f"\n{residual_nets.fit_line(accuracy)}"
    errors = landscape_published.error_percents()
    published = f" (published: {errors[run]} %)" if run in errors else ""
    return f"{label(run)}\ntest error {error_percent(tables)[run].iloc[0]:.1f} %{published}{warning}"


def draw_spread(axes: Axes, rows: pd.DataFrame, column: str, **style: Any) -> None:
    """The mean of a column over directions against alpha, its range as a band; gaps where a value is not finite."""
    spread = rows.replace([np.inf, -np.inf], np.nan).groupby("alpha")[column].agg(["mean", "min", "max"])
    axes.plot(spread.index, spread["mean"], **style)
    axes.fill_between(spread.index, spread["min"], spread["max"], color=style.get("color"), alpha=0.15, lw=0)


def twin_of(axes: Axes, loss: str, per_cent: str, *, inner: tuple[bool, bool] = (False, False)) -> Axes:
    """A second, red axis for per cents beside a blue one for the loss, as in the paper; ``inner`` leaves out labels on the left, right."""
    twin = axes.twinx()
    axes.tick_params(axis="y", colors=LOSS, labelleft=not inner[0])
    twin.tick_params(axis="y", colors=HURTS, labelright=not inner[1])
    axes.set_ylabel("" if inner[0] else loss, color=LOSS)
    twin.set_ylabel("" if inner[1] else per_cent, color=HURTS)
    axes.set_ylim(0, 5)
    twin.set_ylim(0, 102)
    return twin
