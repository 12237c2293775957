"""Stiffness version 1, Figure 6: class matrices of the CNN on CIFAR-10 over training, published beside ours."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from figures.stiffness_published import CNN_CIFAR10
from figures.stiffness_tables import (
    CIFAR10,
    CNN,
    TRIVIAL,
    at,
    class_matrix,
    draw_matrix,
    matrices,
    nth_step,
    off_diagonal,
    pick,
    summary,
)
from figures.style import Quantities, Tables, note_missing, requires
from replication.schema.stiffness import ALL_BUT_LAST

VEHICLES = (0, 1, 8, 9)  # airplane, automobile, ship, truck
PUBLISHED = {0: "0", 1600: "50 steps", 672000: "14 epochs", 1584000: "33 epochs"}


@requires(CIFAR10)
def quantities(tables: Tables) -> Quantities:
    """At the start, after 50 steps and at the end: diagonal and cells off the diagonal of the sign matrix, with controls."""
    start, early, end = (nth_step(tables, CIFAR10, CNN, number) for number in (0, 1, -1))
    sign = summary(tables, CIFAR10, CNN, "sign")
    estimates: Quantities = {
        "smallest_diagonal_start": pd.Series({seed: m.diagonal().min() for seed, m in matrices(tables, CIFAR10, start, run=CNN)}),
        "diagonal_start_permuted": at(sign["within_permuted"], start),
        "diagonal_start": at(sign["within"], start),
        "diagonal_end": at(sign["within"], end),
    }
    for name in ("between", "between_flipped"):
        tail = name.removeprefix("between")
        estimates[f"off_diagonal_start{tail}"] = at(sign[name], start)
        estimates[f"off_diagonal_end{tail}"] = at(sign[name], end)
        estimates[f"off_diagonal_rise_early{tail}"] = at(sign[name], early) - at(sign[name], start)
    for column, tail in (("stiffness", ""), ("stiffness_flipped", "_flipped")):
        cells = dict(matrices(tables, CIFAR10, early, run=CNN, column=column))
        estimates[f"off_diagonal_spread_early{tail}"] = pd.Series({seed: off_diagonal(m).std() for seed, m in cells.items()})
        estimates[f"vehicles_early{tail}"] = pd.Series({seed: _vehicles(m) for seed, m in cells.items()})
    but_last = summary(tables, CIFAR10, CNN, "sign", layer=ALL_BUT_LAST)
    estimates["diagonal_end_all_but_last"] = at(but_last["within"], end)
    return estimates


def _vehicles(matrix: np.ndarray) -> float:
    """Mean over the pairs of different vehicles."""
    return float(np.mean([matrix[a, b] for a, b in itertools.permutations(VEHICLES, 2)]))


def draw(tables: Tables) -> Figure:
    """Columns: moments of training. Rows: published signs; ours as signs, as cosines, and as signs of all layers but the last."""
    figure, grid = plt.subplots(4, 4, figsize=(8.6, 8.8), sharex=True, sharey=True)
    for axes, (examples, when) in zip(grid[0], PUBLISHED.items(), strict=True):
        draw_matrix(axes, np.array(CNN_CIFAR10[examples]).T, f"published, {when}")
    if note_missing(tables, CIFAR10, grid[1:].flat, "CNN on CIFAR-10"):
        return figure
    losses = tables[CIFAR10]["losses"]
    seed = int(losses["seed"].min())
    epochs = pick(losses, seed=seed, run=CNN).set_index("step")["epoch"]
    columns = [int(nth_step(tables, CIFAR10, CNN, number)[seed]) for number in (0, 1, -2, -1)]
    rows = (
        ("sign", "total", "ours, sign", 1.0),
        ("cosine", "total", "ours, cosine", 1.0),
        ("sign", ALL_BUT_LAST, "sign, no last layer", 1.0),
    )
    for row, (kind, layer, label, limit) in zip(grid[1:], rows, strict=True):
        for axes, step in zip(row, columns, strict=True):
            when = "0" if not step else f"{step} steps" if epochs[step] < 2 else f"{epochs[step]:.0f} epochs"
            matrix = class_matrix(tables, CIFAR10, seed, step, run=CNN, kind=kind, layer=layer).to_numpy()
            image = draw_matrix(axes, matrix, f"{label}, {when}", limit=limit)
    for axes in grid[:, 0]:
        axes.set_ylabel("class 1")
    for axes in grid[-1]:
        axes.set_xlabel("class 2")
    figure.colorbar(image, ax=grid, shrink=0.4, label="stiffness", pad=0.02)
    figure.suptitle(f"CNN on CIFAR-10, seed {seed} of ours. {TRIVIAL}", fontsize=7.5)
    return figure
