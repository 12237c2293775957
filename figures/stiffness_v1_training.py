"""Stiffness version 1, Figure 2: losses and stiffness over 98 epochs on MNIST, in float32 as published and in float64."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.stiffness_v1_tables import published, summary
from figures.style import AMBER, HURTS, LOSS, Quantities, Tables, note_missing, requires

MEASUREMENT, RUN = "v1_mnist_pairs", "v1_mnist"
IMAGES_PER_EPOCH = 58_016  # as published; 1,813 batches of 32
BANDS = ((0.5, 5), (6, 10), (11, 20), (21, 30), (31, 40), (41, 60), (61, 80), (81, 90), (91, 98))  # epochs, both included
LATE = (31, 98)


@requires(MEASUREMENT)
def quantities(tables: Tables) -> Quantities:
    """Stiffness in bands of epochs in both precisions, what exact zeros explain of the difference, and the losses."""
    losses = _losses(tables)
    epochs = losses["epoch"]
    estimates: Quantities = {
        "onset_epoch": losses["validation_loss"].groupby("seed").idxmin().map(lambda place: epochs.loc[place]),
        "onset_epoch_of_training_loss": losses["train_loss"].groupby("seed").idxmin().map(lambda place: epochs.loc[place]),
    }
    rows = {precision: summary(tables, MEASUREMENT, RUN, precision=precision) for precision in ("float32", "float64", "exact")}
    for low, high in BANDS:
        name = f"{low:g}_{high}".replace("0.5", "1")
        for precision, table in rows.items():
            for column in ("within", "between"):
                _add(estimates, f"{column}_{precision}_epochs_{name}", _band(table[column], epochs, low, high))
        for column in ("within_permuted", "between_flipped"):
            _add(estimates, f"{column}_epochs_{name}", _band(rows["float32"][column], epochs, low, high))
        _add(estimates, f"train_loss_epochs_{name}", _band(losses["train_loss"], epochs, low, high))
    _add(estimates, "untrained_within", _band(rows["float32"]["within"], epochs, 0, 0))
    _add(estimates, "untrained_between", _band(rows["float32"]["between"], epochs, 0, 0))
    return estimates | _precisions(tables, rows, epochs)


def _losses(tables: Tables) -> pd.DataFrame:
    table = tables[MEASUREMENT]["losses"]
    return table[table["run"] == RUN].set_index(["seed", "step"]).sort_index()


def _band(values: pd.Series, epochs: pd.Series, low: float, high: float) -> pd.Series:
    """By seed: mean over the checkpoints of a band; epochs are rounded, since an epoch ends within a step."""
    rounded = epochs.round(2)
    inside = values[(rounded >= low) & (rounded <= high)]
    return inside.groupby("seed").mean()


def _add(estimates: Quantities, name: str, values: pd.Series) -> None:
    """Enter a quantity where its checkpoints were reached at this scale."""
    if len(values):
        estimates[name] = values


def _precisions(tables: Tables, rows: dict[str, pd.DataFrame], epochs: pd.Series) -> Quantities:
    """How much smaller the decline is in float64, and whether zeros explain what float32 adds to it."""
    estimates: Quantities = {}
    end = {precision: _band(table["within"], epochs, 91, 98) for precision, table in rows.items()}
    _add(estimates, "decline_float64_over_float32", (1 - end["float64"]) / (1 - end["float32"]))
    _add(estimates, "decline_float32_over_float32", (1 - end["float32"]) / (1 - end["float32"]))
    _add(estimates, "zero_products_end", _band(rows["float32"]["zero_within"], epochs, 91, 98))
    _add(estimates, "zero_products_end_float64", _band(rows["float64"]["zero_within"], epochs, 91, 98))
    agreement = tables[MEASUREMENT]["agreement"]
    within = agreement[(agreement["run"] == RUN) & (agreement["pairs"] == "within")].set_index(["seed", "step"]).sort_index()
    _add(estimates, "float32_less_float64_without_zeros", _band(within["float32"] - within["float64"], epochs, *LATE))
    _add(estimates, "float32_less_float64_with_zeros", _band(rows["float32"]["within"] - rows["float64"]["within"], epochs, *LATE))
    _add(estimates, "sign_in_float64_of_zeros", _band(within["float64_of_zeros"], epochs, *LATE))
    _add(estimates, "sign_in_float32_of_zeros", 0 * _band(within["float64_of_zeros"], epochs, *LATE))
    cosine = summary(tables, MEASUREMENT, RUN, precision="exact", kind="cosine")
    _add(estimates, "cosine_within_end", _band(cosine["within"], epochs, 91, 98))
    _add(estimates, "cosine_within_start", _band(cosine["within"], epochs, 0, 0))
    return estimates


def draw(tables: Tables) -> Figure:
    """Left: published. Right: ours, mean and range of the seeds. Rows: losses; stiffness; (ours) what float32 rounds to zero."""
    figure, grid = plt.subplots(2, 3, figsize=(12.5, 6.6), sharex=True)
    curves = published()["figure_2"]
    for name, colour, label in (("training_loss", LOSS, "training"), ("validation_loss", HURTS, "validation")):
        grid[0, 0].plot(*_published_curve(curves[name]), color=colour, label=label)
    for name, colour, label in (("same_class", HURTS, "same class"), ("different_class", LOSS, "different classes")):
        grid[1, 0].plot(*_published_curve(curves[name]), color=colour, label=label)
    grid[0, 0].set(title="published: losses", ylabel="cross-entropy")
    grid[1, 0].set(title="published: stiffness", ylabel="mean sign of gradient products")
    if not note_missing(tables, MEASUREMENT, grid[:, 1:].flat, "FC on MNIST"):
        _draw_ours(grid, tables)
    for axes in grid.flat:
        axes.axvline(curves["onset"] / IMAGES_PER_EPOCH, color=AMBER, lw=4, alpha=0.4, zorder=0)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=7, loc="lower left" if axes in grid[1] else "best")
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xlim(0, 110)
        axes.set_xticks([0, 1, 3, 10, 30, 98], ["0", "1", "3", "10", "30", "98"])
    for axes in grid[0, :2]:
        axes.set(yscale="log", ylim=(3e-3, 3))
    for axes in grid[1]:
        axes.set_ylim(-0.75, 1.1)
        axes.axhline(0, color="black", lw=0.8)
        axes.set_xlabel("epoch")
    figure.suptitle("FC on MNIST, 150 validation images; yellow: onset of overfitting as the paper marks it", fontsize=9)
    sns.despine(figure)
    return figure


def _published_curve(curve: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([int(images) / IMAGES_PER_EPOCH for images in curve]), np.array(list(curve.values()))


def _draw_ours(grid: np.ndarray, tables: Tables) -> None:
    losses = _losses(tables)
    epochs = losses["epoch"]
    for name, colour, label in (("train_loss", LOSS, "training"), ("validation_loss", HURTS, "validation")):
        _band_line(grid[0, 1], losses[name], epochs, color=colour, label=label)
    grid[0, 1].set_title("ours: losses")
    single, double = (summary(tables, MEASUREMENT, RUN, precision=precision) for precision in ("float32", "float64"))
    exact = summary(tables, MEASUREMENT, RUN, precision="exact")
    cosine = summary(tables, MEASUREMENT, RUN, precision="exact", kind="cosine")
    for axes, table in ((grid[1, 1], single), (grid[1, 2], double)):
        for name, colour, label in (("within", HURTS, "same class"), ("between", LOSS, "different classes")):
            _band_line(axes, table[name], epochs, color=colour, label=label)
    for table, line, kind in ((exact, "--", "exact"), (cosine, ":", "exact, cosine")):
        _band_line(grid[1, 2], table["within"], epochs, color=HURTS, ls=line, label=f"same class, {kind}")
        _band_line(grid[1, 2], table["between"], epochs, color=LOSS, ls=line, label=f"different classes, {kind}")
    grid[1, 1].set_title("ours: float32, zeros count as 0 (as published)")
    grid[1, 2].set_title("ours: float64, and exact (no cancellation in the loss)")
    shares = grid[0, 2]
    for name, colour, label in (
        ("zero_within", HURTS, "products, same class"),
        ("zero_between", LOSS, "products, different classes"),
        ("zero_gradients", "black", "gradients"),
    ):
        _band_line(shares, single[name], epochs, color=colour, label=label)
    shares.set(title="ours: share of exact zeros in float32", ylim=(-0.02, 1), ylabel="share")


def _band_line(axes: Axes, values: pd.Series, epochs: pd.Series, **look: object) -> None:
    """Mean over seeds with a band from the lowest to the highest."""
    table = values.unstack("seed")
    x = epochs.groupby("step").first().loc[table.index]
    line = axes.plot(x, table.mean(axis=1), **look)  # type: ignore[arg-type]
    axes.fill_between(x, table.min(axis=1), table.max(axis=1), color=line[0].get_color(), alpha=0.15, lw=0)
