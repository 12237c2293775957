"""Plots of what a training learns where: the loss change allocated to layers (Lan et al. 2019, arXiv 1909.01440)."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from replication.errors import ReplicationError
from replication.palette import LOSS, in_order
from replication.plots.panels import check_columns, panel

_NAMED = 12  # layers that a legend still holds


def layers(tables: Mapping[str, pd.DataFrame], *, ax: Axes | None = None) -> Axes:
    """The loss change allocated to each layer so far, against iterations; the dashed line is their sum. Lines end where it is not finite.

    Colours run from the first layer (dark) to the last (light). With more than twelve layers, the legend names the first and the last.

    Args:
        tables: of ``lca.along(...).tables()``; the table ``layers`` is drawn.
        ax: the axes to draw in; a new figure by default.

    Returns:
        The axes.

    Raises:
        ReplicationError: no table ``layers``, or one without the columns step, layer and lca.

    Example:
        >>> table = pd.DataFrame({"step": [0, 0, 1, 1], "layer": ["fc1", "fc2"] * 2, "lca": [-0.2, -0.1, -0.1, 0.05]})
        >>> ax = layers({"layers": table})
        >>> [line.get_label() for line in ax.lines[:3]], round(float(ax.lines[2].get_ydata()[-1]), 6)
        (['fc1', 'fc2', 'all layers'], -0.35)
    """
    if "layers" not in tables:
        raise ReplicationError(f"The tables are {', '.join(tables) or 'none'}; give those of lca.along(...).tables(), with 'layers'.")
    table = tables["layers"]
    check_columns(table, "step", "layer", "lca", source="lca.along(...).tables()")
    ax = panel(ax)
    sums = table.groupby(["step", "layer"], sort=False)["lca"].agg(lambda values: values.sum(skipna=False))
    by_step = sums.unstack("layer", fill_value=0).sort_index()
    allocated = by_step.cumsum(skipna=False)
    allocated.index = allocated.index + 1  # a step's change is there after the step
    allocated = pd.concat([pd.DataFrame(0.0, index=[by_step.index[0]], columns=allocated.columns), allocated])
    ends = {allocated.columns[0], allocated.columns[-1]}
    for name, colour in in_order(allocated.columns).items():
        named = len(allocated.columns) <= _NAMED or name in ends
        ax.plot(allocated.index, allocated[name], color=colour, lw=1.4, label=str(name) if named else f"_{name}")
    ax.plot(allocated.index, allocated.sum(axis=1, skipna=False), color=LOSS, lw=1.2, ls="--", label="all layers")
    ax.axhline(0, color="black", lw=0.6)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="iterations", ylabel="LCA so far (loss; negative helps)")
    ax.margins(x=0)
    ax.legend(title="layer", fontsize="small", title_fontsize="small", framealpha=0.8, edgecolor="none")
    return ax
