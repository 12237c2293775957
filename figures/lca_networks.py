"""The networks that LCA's figures show beside each other, and their quantities under one roof."""

from collections.abc import Callable

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.style import Quantities, Tables, note_missing

# measurement: start of the quantities' names, title; MNIST-FC, which every figure has, goes without
MEASURED_NETWORKS = {"resnet20_lca": ("resnet20_", "CIFAR-ResNet-20"), "mnist_fc_lca": ("", "MNIST-FC")}
RowTables = dict[str, pd.DataFrame]


def quantities_of(tables: Tables, of_one: Callable[[RowTables], Quantities]) -> Quantities:
    """The quantities of every network that was measured."""
    estimates: Quantities = {}
    for measurement, (start, _) in MEASURED_NETWORKS.items():
        if measurement in tables:
            estimates |= {f"{start}{name}": values for name, values in of_one(tables[measurement]).items()}
    return estimates


def rows_of(tables: Tables, draw_row: Callable[[list[Axes], RowTables], None], *, columns: int = 2, width: float = 8.6) -> Figure:
    """A row of panels for every network."""
    figure, grid = plt.subplots(len(MEASURED_NETWORKS), columns, figsize=(width, 3.2 * len(MEASURED_NETWORKS)), squeeze=False)
    for row, (measurement, (_, title)) in zip(grid, MEASURED_NETWORKS.items(), strict=True):
        if not note_missing(tables, measurement, row, title):
            draw_row(list(row), tables[measurement])
            row[0].set_title(f"{title}: {row[0].get_title()}")
    return figure
