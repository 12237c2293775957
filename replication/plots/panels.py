"""What the plots share: axes of their own, and checks of the tables they are given."""

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

from replication.errors import ReplicationError


def panel(ax: Axes | None, *, size: tuple[float, float] = (5.0, 3.6), **keywords: Any) -> Axes:
    """``ax``, or the axes of a new figure.

    Args:
        size: of the new figure, in inches.
        keywords: for ``Figure.add_subplot``.

    Example:
        >>> ax = panel(None)
        >>> panel(ax) is ax
        True
        >>> plt.close(ax.figure)
    """
    return ax if ax is not None else plt.figure(figsize=size, layout="constrained").add_subplot(**keywords)


def check_columns(table: pd.DataFrame, *columns: str, source: str) -> None:
    """Raise an error unless the table has all these columns and a row.

    Args:
        source: the function that returns such tables, for the message.

    Raises:
        ReplicationError: a missing column, or no row.

    Example:
        >>> check_columns(pd.DataFrame({"alpha": [0.0]}), "alpha", source="landscape.line")
    """
    missing = [column for column in columns if column not in table]
    if missing or not len(table):
        what = f"no column {missing[0]!r}" if missing else "no rows"
        raise ReplicationError(f"The table has {what}; give a table that {source} returned, with {', '.join(columns)}.")
