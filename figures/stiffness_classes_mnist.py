"""Stiffness version 1, class matrices of MNIST over training, and what the matrix is before training by initialisation."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.stiffness_tables import FC, MNIST, TRIVIAL, at, class_matrix, draw_matrix, layers_of, nth_step, pick, step_axis, summary
from figures.style import BLUE, GREY, ORANGE, Quantities, Tables, legend_clear_of_data, note_missing, requires

ORACLE = {"initialisation": "torch", "scaling": "unit sphere"}


@requires(MNIST)
def quantities(tables: Tables) -> Quantities:
    """Before training: the analytic oracle; over training: how far the cosine diagonal and the off-diagonal signs fade."""
    estimates: Quantities = {}
    for kind in ("cosine", "sign"):
        oracle = pick(tables[MNIST]["starts"], run=FC, kind=kind, **ORACLE).set_index("seed")
        for name in ("within", "between"):
            estimates[f"oracle_{name}_{kind}"] = oracle[name]
            estimates[f"oracle_{name}_{kind}_permuted"] = oracle[f"{name}_permuted"]
    start, early, end = (nth_step(tables, MNIST, FC, number) for number in (0, 1, -1))
    cosine, sign = (summary(tables, MNIST, FC, kind) for kind in ("cosine", "sign"))
    estimates["between_sign_start"] = at(sign["between"], start)
    estimates["within_sign_end"] = at(sign["within"], end)
    for tail in ("", "_flipped"):
        estimates[f"within_cosine_fall{tail}"] = at(cosine[f"within{tail}"], early) - at(cosine[f"within{tail}"], end)
        estimates[f"between_sign_fade{tail}"] = at(sign[f"between{tail}"], start).abs() - at(sign[f"between{tail}"], end).abs()
    return estimates


def draw(tables: Tables) -> Figure:
    """Above: sign and cosine matrices over training. Below: starts by initialisation and scaling; within-class cosine of single layers."""
    figure = plt.figure(figsize=(9.4, 8.2))
    above, below = figure.subfigures(2, 1, height_ratios=[1.75, 1])  # type: ignore[misc]
    grid = above.subplots(2, 4, sharex=True, sharey=True)
    left, right = below.subplots(1, 2, width_ratios=[1.1, 1])
    if note_missing(tables, MNIST, (*grid.flat, left, right), "FC on MNIST"):
        return figure
    losses = tables[MNIST]["losses"]
    seed = int(losses["seed"].min())
    epochs = pick(losses, seed=seed, run=FC).set_index("step")["epoch"]
    checkpoints = pick(tables[MNIST]["checkpoints"], seed=seed, run=FC)
    given = sorted(set(checkpoints.loc[checkpoints["target"].isna(), "step"]))
    middle = min(given, key=lambda step: abs(epochs[step] - 11))
    for row, kind in zip(grid, ("sign", "cosine"), strict=True):
        for axes, step in zip(row, (given[0], given[1], middle, given[-1]), strict=True):
            when = "0" if not step else f"{step} steps" if epochs[step] < 2 else f"{epochs[step]:.0f} epochs"
            image = draw_matrix(axes, class_matrix(tables, MNIST, seed, step, run=FC, kind=kind).to_numpy(), f"{kind}, {when}")
        row[0].set_ylabel("digit 1")
    for axes in grid[-1]:
        axes.set_xlabel("digit 2")
    above.colorbar(image, ax=grid, shrink=0.6, label="stiffness", pad=0.02)
    above.suptitle(f"FC on MNIST, seed {seed}. {TRIVIAL}", fontsize=7.5)
    _draw_starts(left, pick(tables[MNIST]["starts"], run=FC))
    _draw_layers(right, tables)
    sns.despine(fig=figure)
    return figure


def _draw_starts(axes: Axes, starts: pd.DataFrame) -> None:
    """Between-class stiffness before training, a point per seed."""
    cases = [(init, scaling) for init in ("glorot", "torch") for scaling in ("standardised", "unit sphere")]
    for kind, marker, shift in (("sign", "o", -0.12), ("cosine", "s", 0.12)):
        for place, (initialisation, scaling) in enumerate(cases):
            values = pick(starts, kind=kind, initialisation=initialisation, scaling=scaling)["between"]
            label = f"{kind}, between classes" if not place else None
            axes.plot([place + shift] * len(values), values, marker, ms=4, color={"sign": BLUE, "cosine": ORANGE}[kind], label=label)
    axes.axhline(-1 / 9, color=GREY, lw=0.8, ls="--", label="cosine -1/9: aligned features, uniform outputs")
    axes.axhline(0, color="black", lw=0.8)
    axes.set_xticks(range(len(cases)), [f"{init},\n{scaling}" for init, scaling in cases])
    axes.set(ylabel="stiffness before training", xlabel="initialisation, scaling of the inputs", ylim=(-1.08, 0.35))
    legend_clear_of_data(axes, 0.3, above=False)


def _draw_layers(axes: Axes, tables: Tables) -> None:
    for layer, colour in zip([*layers_of(tables, MNIST, FC), "total"], [*sns.color_palette("viridis", 4), "black"], strict=False):
        within = summary(tables, MNIST, FC, "cosine", layer=layer)["within"].unstack("seed").dropna().mean(axis=1)
        axes.plot(within.index, within, marker=".", color=colour, label=layer)
    step_axis(axes)
    axes.set(ylabel="within-class cosine, mean of seeds", ylim=(0, 1.02))
    legend_clear_of_data(axes, 0.3, ncols=3)
