"""Matrices in colours: similarity of layers, stiffness of classes."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from torch import Tensor

from replication.drawing import draw_classes, draw_layers
from replication.errors import ReplicationError
from replication.plots.panels import check_columns, panel
from replication.stiffness.matrix import ClassMatrix

_MOST_NAMES = 20  # of classes along an axis
_WRITTEN = 8  # layers up to which values fit into the cells


def similarity(table: pd.DataFrame, *, value: str = "similarity", colorbar: bool = True, ax: Axes | None = None) -> Axes:
    """Layers against layers in colours from 0 to 1, the first layer at the bottom left; up to eight layers with their values.

    Args:
        table: of ``svcca.similarity_matrix``.
        value: the column to draw.
        colorbar: whether to add one.
        ax: the axes to draw in; a new figure by default.

    Returns:
        The axes.

    Raises:
        ReplicationError: a table without these columns, or with a pair of layers twice.

    Example:
        >>> table = pd.DataFrame({"layer_a": ["in", "out"], "layer_b": ["in", "in"], "similarity": [1.0, 0.3]})
        >>> ax = similarity(table)
        >>> ax.images[0].get_array().tolist()
        [[1.0], [0.3]]
    """
    check_columns(table, "layer_a", "layer_b", value, source="svcca.similarity_matrix")
    if table.duplicated(["layer_a", "layer_b"]).any():
        raise ReplicationError("The table has a pair of layers more than once; give one table of svcca.similarity_matrix at a time.")
    ax = panel(ax, size=(4.8, 4.0))
    matrix = table.pivot(index="layer_a", columns="layer_b", values=value)
    matrix = matrix.loc[table["layer_a"].unique(), table["layer_b"].unique()]
    image = draw_layers(ax, matrix)
    if max(matrix.shape) <= _WRITTEN:
        for (row, column), cell in np.ndenumerate(matrix.to_numpy()):
            ax.text(column, row, f"{cell:.2f}", ha="center", va="center", color="black" if cell > 0.5 else "white", fontsize="small")
    ax.set(xlabel="layer of b", ylabel="layer of a")
    if colorbar:
        ax.figure.colorbar(image, ax=ax, label=value)
    return ax


def stiffness(
    matrix: ClassMatrix | pd.DataFrame | Tensor | np.ndarray,
    *,
    classes: Sequence[object] | None = None,
    limit: float = 1.0,
    colorbar: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Classes against classes in colours from -limit (blue) to +limit (red), the first class at the top left.

    Args:
        matrix: of ``stiffness.class_matrix``, its ``table()``, or an array ``[n_classes, n_classes]``.
        classes: names of the classes, in order; the matrix's own labels by default.
        limit: of the colours; 1 holds every cosine and every sign.
        colorbar: whether to add one.
        ax: the axes to draw in; a new figure by default.

    Returns:
        The axes.

    Raises:
        ReplicationError: a matrix that is not square, or another number of names.

    Example:
        >>> ax = stiffness(np.array([[0.5, -0.1], [-0.1, 0.4]]), classes=["cat", "dog"])
        >>> [label.get_text() for label in ax.get_yticklabels()]
        ['cat', 'dog']
    """
    values, own_classes = _cells(matrix)
    names = list(own_classes if classes is None else classes)
    if values.ndim != 2 or values.shape != (len(names), len(names)) or not values.size:
        raise ReplicationError(
            f"The matrix has shape {values.shape}, and {len(names)} classes are named; give one row and column for each of one or more."
        )
    ax = panel(ax, size=(5.0, 4.0))
    image = draw_classes(ax, values, limit=limit)
    shown = range(0, len(names), -(-len(names) // _MOST_NAMES))
    ax.set_xticks([place + 0.5 for place in shown], [str(names[place]) for place in shown], rotation=90 if len(names) > 10 else 0)
    ax.set_yticks([place + 0.5 for place in shown], [str(names[place]) for place in shown])
    ax.set(xlabel="class of the second example", ylabel="class of the first example")
    if colorbar:
        ax.figure.colorbar(image, ax=ax, label="stiffness")
    return ax


def _cells(matrix: ClassMatrix | pd.DataFrame | Tensor | np.ndarray) -> tuple[np.ndarray, Sequence[object]]:
    if isinstance(matrix, ClassMatrix):
        return matrix.mean.cpu().numpy(), matrix.classes.tolist()
    if isinstance(matrix, pd.DataFrame) and "stiffness" in matrix:
        check_columns(matrix, "class_1", "class_2", "stiffness", source="ClassMatrix.table()")
        wide = matrix.pivot(index="class_1", columns="class_2", values="stiffness")
        return wide.to_numpy(dtype=np.float64), wide.index.tolist()
    if isinstance(matrix, pd.DataFrame):
        return matrix.to_numpy(dtype=np.float64), matrix.index.tolist()
    values = matrix.cpu().numpy() if isinstance(matrix, Tensor) else np.asarray(matrix, dtype=np.float64)
    return values, range(len(values))
