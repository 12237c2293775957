"""Stiffness, the 100 x 100 class matrix of CIFAR-100 sorted by super-class, with the blocks tested against random groupings."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.stiffness_tables import CIFAR100, CIFAR100_CNN, class_matrix, draw_matrix, nth_step, pick
from figures.style import LOSS, PALE_BLUE, Quantities, Tables, note_missing, requires

LEVELS = {"super_class": "super-classes", "kingdom": "living or not"}


@requires(CIFAR100)
def quantities(tables: Tables) -> Quantities:
    """At the last step, signs: how much stiffer classes of one group are than others, and the p-value against random groupings."""
    end = nth_step(tables, CIFAR100, CIFAR100_CNN, -1)
    contrasts = pick(tables[CIFAR100]["contrasts"], run=CIFAR100_CNN, mode="train_train", kind="sign")
    contrasts = contrasts[contrasts["step"] == contrasts["seed"].map(end)]
    estimates: Quantities = {}
    for level in LEVELS:
        for grouping, tail in (("true", ""), ("random", "_random_grouping")):
            rows = pick(contrasts, level=level, grouping=grouping).set_index("seed")
            estimates[f"{level}_contrast{tail}"] = rows["difference"]
            estimates[f"{level}_p_value{tail}"] = rows["p_value"]
    return estimates


def draw(tables: Tables) -> Figure:
    """Left and middle: the matrix by class number and sorted by super-class. Right: means by how closely classes are related."""
    figure, (plain, blocks, bars) = plt.subplots(1, 3, figsize=(12, 4.4), width_ratios=[1, 1, 0.9])
    if note_missing(tables, CIFAR100, (plain, blocks, bars), "CNN on CIFAR-100"):
        return figure
    seed = int(tables[CIFAR100]["losses"]["seed"].min())
    step = int(nth_step(tables, CIFAR100, CIFAR100_CNN, -1)[seed])
    matrix = class_matrix(tables, CIFAR100, seed, step, run=CIFAR100_CNN)
    groups = pick(tables[CIFAR100]["groups"], seed=seed).set_index("class")
    order = groups.sort_values(["kingdom", "super_class"]).index
    cells = matrix.loc[order, order].to_numpy()
    limit = float(np.ceil(10 * np.quantile(np.abs(cells[~np.eye(len(cells), dtype=bool)]), 0.99)) / 10) or 1.0
    draw_matrix(plain, matrix.to_numpy(), "sign, classes by number", limit=limit, ticks=False)
    image = draw_matrix(blocks, cells, "sign, by super-class; bold line: living | not living", limit=limit, ticks=False)
    members = groups.loc[order]
    for column, width in (("super_class", 0.3), ("kingdom", 1.2)):
        for edge in np.flatnonzero(np.diff(members[column])) + 1:
            for line in (blocks.axhline, blocks.axvline):
                line(edge, color="black", lw=width)
    for axes in (plain, blocks):
        axes.set(xlabel="class 2", ylabel="class 1")
    figure.colorbar(image, ax=blocks, label="stiffness", shrink=0.8)
    figure.suptitle(f"CNN on CIFAR-100, seed {seed}, step {step}", fontsize=9)
    _draw_levels(bars, tables)
    return figure


def _draw_levels(axes: Axes, tables: Tables) -> None:
    """Means over seeds by relation, early and late, with a point per seed."""
    levels = pick(tables[CIFAR100]["levels"], run=CIFAR100_CNN, mode="train_train")
    names = list(dict.fromkeys(levels["level"]))
    steps = sorted(set(pick(tables[CIFAR100]["checkpoints"], run=CIFAR100_CNN)["step"]))
    cases = [(kind, step) for kind in ("sign", "cosine") for step in (steps[-2:] if len(steps) > 1 else steps)]
    colours = sns.color_palette("Paired", len(cases)) if len(cases) > 2 else [LOSS, PALE_BLUE]
    for number, ((kind, step), colour) in enumerate(zip(cases, colours, strict=True)):
        values = pick(levels, kind=kind, step=step)
        for place, name in enumerate(names):
            cell: pd.Series = values[values["level"] == name]["stiffness"]
            x = place + 0.2 * (number - (len(cases) - 1) / 2)
            axes.bar(x, cell.mean(), width=0.18, color=colour, label=f"{kind}, step {step}" if not place else None)
            axes.plot([x] * len(cell), cell, ".", ms=3, color="black")
    axes.axhline(0, color="black", lw=0.8)
    axes.set_xticks(range(len(names)), [name.replace(" ", "\n", 1) for name in names], fontsize=8)
    axes.set(ylabel="mean stiffness", xlabel="how the two classes are related (closest only)")
    axes.set_title("points: seeds", fontsize=8)
    axes.legend(fontsize=7)
    sns.despine(ax=axes)
