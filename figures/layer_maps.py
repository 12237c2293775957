"""Layer x layer maps and depth, for the SVCCA figures that compare layers."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.image import AxesImage

from figures.style import Quantities, Tables
from replication.drawing import draw_layers

DYNAMICS = "dynamics"
RUN_TITLES = {"convnet": "convnet", "resnet": "ResNet"}
ENDS = ("in", "logits", "out")  # which the paper leaves out of "bottom-up": they are special


def rows_in_order(table: pd.DataFrame, column: str) -> list[str]:
    """Layers from input to output, as the instrument lists them."""
    return list(dict.fromkeys(table[column]))


def at_percent(table: pd.DataFrame, percent: int) -> pd.DataFrame:
    """The rows of the kept step nearest to a share of the training."""
    wanted = percent / 100 * table["step"].max()
    steps = table["step"].unique()
    return table[table["step"] == min(steps, key=lambda step: abs(step - wanted))]


def depth_correlation(table: pd.DataFrame, row: str = "row", value: str = "similarity") -> pd.Series:
    """Per seed: rank correlation of depth with similarity, the input, logits and softmax left out."""
    inner = table[~table[row].isin(ENDS)]
    order = {name: depth for depth, name in enumerate(rows_in_order(inner, row))}
    ranked = inner.assign(depth=inner[row].map(order))
    return pd.Series({seed: rows["depth"].corr(rows[value], method="spearman") for seed, rows in ranked.groupby("seed")})


def difference_of_rows(table: pd.DataFrame, first: str, second: str) -> pd.Series:
    """Per seed: similarity of one row minus that of another."""
    wide = table.pivot(index="seed", columns="row", values="similarity")
    return wide[first] - wide[second]


def of_network(tables: Tables, name: str, run: str) -> pd.DataFrame:
    """One table of the dynamics measurement for one network."""
    table = tables[DYNAMICS][name]
    return table[table["run"] == run]


def same_layer(matrices: pd.DataFrame) -> pd.DataFrame:
    """The diagonal of layer x layer tables."""
    return matrices[matrices["layer_a"] == matrices["layer_b"]].rename(columns={"layer_a": "row"})


def wide_mean(table: pd.DataFrame, index: str, columns: str, value: str) -> pd.DataFrame:
    """Mean over seeds as a matrix in the layers' order."""
    mean = table.groupby([index, columns], sort=False)[value].mean().unstack()
    return mean.loc[rows_in_order(table, index), rows_in_order(table, columns)]


def draw_map(axes: Axes, matrix: pd.DataFrame) -> AxesImage:
    """A layer x layer map from 0 to 1, input at the bottom left."""
    return draw_layers(axes, matrix, fontsize=7)


def keep_finite(estimates: Quantities) -> Quantities:
    """Quantities without those that smoke scale has no layers for."""
    return {name: values for name, values in estimates.items() if len(values.dropna())}
