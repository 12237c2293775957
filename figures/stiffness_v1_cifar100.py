"""Stiffness version 1, Figure 7: the class matrix of CIFAR-100 after 100 steps, by class number and by super-class."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from figures.stiffness_tables import draw_matrix
from figures.stiffness_v1_tables import class_matrix, matrix_steps, of_moments, published
from figures.style import Quantities, Tables, requires, write_not_recorded
from replication.measurements.super_classes import CIFAR100

MEASUREMENT, RUN = "v1_cifar100_pairs", "v1_cifar100"
N_CLASSES = 100


@requires(MEASUREMENT)
def quantities(tables: Tables) -> Quantities:
    """Diagonal, cells off it, and how much stiffer classes of one super-class are, with groupings drawn by chance."""
    estimates = of_moments(tables, MEASUREMENT, RUN)
    contrasts = tables[MEASUREMENT]["contrasts"]
    for grouping, tail in (("true", ""), ("random", "_random_grouping")):
        rows = contrasts[contrasts["grouping"] == grouping].set_index("seed")
        estimates[f"super_class_excess{tail}"], estimates[f"super_class_p_value{tail}"] = rows["difference"], rows["p_value"]
    return estimates


def draw(tables: Tables) -> Figure:
    """Left: published; right: ours. Above: classes in alphabetical order; below: sorted by super-class."""
    figure, grid = plt.subplots(2, 2, figsize=(9.2, 8.8))
    order = [number for members in CIFAR100.values() for number in members]
    _draw_column(grid[:, 0], np.array(published()["figure_7"]["3200"]), order, "published")
    seeds: pd.Series = tables[MEASUREMENT]["classes"]["seed"] if MEASUREMENT in tables else pd.Series(dtype=int)
    ours = None
    if len(seeds):
        step = matrix_steps(tables, MEASUREMENT, RUN)[-1]
        ours = class_matrix(tables, MEASUREMENT, RUN, int(seeds.min()), step, "float32")
    if ours is not None and len(ours) == N_CLASSES:
        _draw_column(grid[:, 1], ours, order, "ours, float32 as published")
    else:  # the smallest scale has other data
        for axes in grid[:, 1]:
            write_not_recorded(axes, "CNN on CIFAR-100")
    image = grid[0, 0].collections[0]
    figure.colorbar(image, ax=grid, shrink=0.5, label="mean sign of gradient products", pad=0.02)
    figure.suptitle("CNN on CIFAR-100 after 3,200 images; three validation images of each class", fontsize=9)
    return figure


def _draw_column(column: np.ndarray, matrix: np.ndarray, order: list[int], whose: str) -> None:
    off = matrix[~np.eye(len(matrix), dtype=bool)]
    title = f"{whose}, alphabetical: {np.diag(matrix).mean():.2f} | {off.mean():.2f} ({off.std():.2f})"
    draw_matrix(column[0], matrix, title, ticks=False)
    draw_matrix(column[1], matrix[np.ix_(order, order)], f"{whose}, by super-class", ticks=False)
    for edge in range(5, len(matrix), 5):
        for line in (column[1].axhline, column[1].axvline):
            line(edge, color="black", lw=0.2)
    for axes in column:
        axes.set(xlabel="class 1", ylabel="class 2")
