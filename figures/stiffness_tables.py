"""How stiffness figures read their tables, and the drawing that several of them share."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh

from figures.style import Tables
from replication.drawing import draw_classes
from replication.schema.stiffness import ALL_BUT_LAST

MNIST, CIFAR10, CIFAR100, RATES = "mnist_stiffness", "cifar10_stiffness", "cifar100_stiffness", "fashion_rates"
FC, FC_RANDOM, CNN, CIFAR100_CNN, FASHION = "mnist_fc", "mnist_fc_random", "cifar10_cnn", "cifar100_cnn", "fashion_lr_1em3"
TRIVIAL = (
    "The last layer's share of a product within a class is never negative (cross-entropy, features after ReLU), so the within-class sign\n"
    "is nearly always +1 where that layer dominates: see the cosine, and the layers without the last."
)


def pick(table: pd.DataFrame, **where: object) -> pd.DataFrame:
    """The rows in which every named column has its value."""
    for column, value in where.items():
        table = table[table[column] == value]
    return table


def summary(tables: Tables, measurement: str, run: str, kind: str, *, layer: str = "total", mode: str = "train_train") -> pd.DataFrame:
    """Within- and between-class stiffness of a run with its controls, indexed by seed and step."""
    rows = pick(tables[measurement]["summary"], run=run, layer=layer, mode=mode, kind=kind)
    return rows.set_index(["seed", "step"]).sort_index()


def layers_of(tables: Tables, measurement: str, run: str) -> list[str]:
    """Single layers, input to output."""
    names = dict.fromkeys(tables[measurement]["summary"].query("run == @run")["layer"])
    return [name for name in names if name not in ("total", ALL_BUT_LAST)]


def seed_steps(steps: pd.Series) -> list[tuple[int, int]]:
    """(seed, step) for each seed, from its step."""
    return [(int(seed), int(step)) for seed, step in zip(steps.index, steps, strict=True)]


def at(values: pd.Series, steps: pd.Series) -> pd.Series:
    """Values (by seed and step) at one step per seed."""
    return pd.Series({seed: values.loc[(seed, step)] for seed, step in seed_steps(steps)}, dtype=float)


def nth_step(tables: Tables, measurement: str, run: str, number: int) -> pd.Series:
    """By seed: the ``number``-th of the steps measured in every seed (those given, not those at a loss); -1 is the last."""
    rows = pick(tables[measurement]["checkpoints"], run=run)
    return rows[rows["target"].isna()].groupby("seed")["step"].agg(lambda steps: sorted(steps)[number])


def at_loss(tables: Tables, measurement: str, run: str, target: float) -> pd.Series:
    """By seed: the step measured for a training loss."""
    return pick(tables[measurement]["checkpoints"], run=run, target=target).set_index("seed")["step"]


def onset(tables: Tables, measurement: str, run: str) -> pd.Series:
    """By seed: the measured step with the lowest validation loss, from which on the network overfits."""
    rows = pick(tables[measurement]["checkpoints"], run=run)
    return rows.loc[rows.groupby("seed")["validation_loss"].idxmin()].set_index("seed")["step"]


def class_matrix(tables: Tables, measurement: str, seed: int, step: int, *, column: str = "stiffness", **where: object) -> pd.DataFrame:
    """C(a, b) of one network, rows the first and columns the second class; signs of the total among training examples by default."""
    chosen = {"kind": "sign", "layer": "total", "mode": "train_train"} | where
    cells = pick(tables[measurement]["classes"], seed=seed, step=step, **chosen)
    return cells.pivot(index="class_1", columns="class_2", values=column)


def matrices(tables: Tables, measurement: str, steps: pd.Series, **where: object) -> Iterator[tuple[int, np.ndarray]]:
    """Seed and class matrix at one step per seed."""
    for seed, step in seed_steps(steps):
        yield seed, class_matrix(tables, measurement, seed, step, **where).to_numpy()  # type: ignore[arg-type]


def off_diagonal(matrix: np.ndarray) -> np.ndarray:
    """The cells of different classes."""
    return matrix[~np.eye(len(matrix), dtype=bool)]


def reordered(values: np.ndarray, seed: int) -> np.ndarray:
    """The values in another order, its own for every seed: the control of a trend."""
    return np.random.default_rng(seed).permutation(values)


def draw_matrix(axes: Axes, matrix: np.ndarray, title: str, *, limit: float = 1.0, ticks: bool = True) -> QuadMesh:
    """A class matrix in colours from -limit (blue) to +limit (red), the first class downwards."""
    image = draw_classes(axes, matrix, limit=limit)
    axes.set_title(title, fontsize=8)
    if ticks:
        shown = range(0, len(matrix), 2)
        axes.set_xticks([place + 0.5 for place in shown], [str(place) for place in shown])
        axes.set_yticks([place + 0.5 for place in shown], [str(place) for place in shown])
    return image


def step_axis(axes: Axes) -> None:
    """Steps on a scale that is linear up to 25 and logarithmic from there on, so that step 0 has its place."""
    axes.set_xscale("symlog", linthresh=25)
    axes.set_xlim(left=-1)
    axes.set_xticks([0, 10, 100, 1000], ["0", "10", "100", "1,000"])
    axes.set_xlabel("step")


def spread_line(axes: Axes, values: pd.Series, *, label: str, **look: object) -> None:
    """Mean over seeds against step with a band from the lowest to the highest seed; steps that not every seed has are left out."""
    table = values.unstack("seed").dropna()
    line = axes.plot(table.index, table.mean(axis=1), label=label, **look)  # type: ignore[arg-type]
    axes.fill_between(table.index, table.min(axis=1), table.max(axis=1), color=line[0].get_color(), alpha=0.15, lw=0)
