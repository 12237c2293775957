"""The instruments of all four papers on one training, aligned in time: a figure of our own."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from figures.style import GREY, HURTS, LOSS, NEUTRAL, Quantities, Tables, note_missing, requires

MEASUREMENT = "views"
_EARLY = 10  # iterations shown on a linear axis; later ones on a logarithmic one
_TICKS = (0, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


@requires(MEASUREMENT)
def quantities(tables: Tables) -> Quantities:
    """Per seed: unexplained loss change, lead of the bottom layer, gap between classes, sharpness, layers at half of the loss change."""
    views = tables[MEASUREMENT]
    seeds = sorted(views["losses"]["seed"].unique())
    estimates: dict[str, dict[int, float]] = {}
    for seed in seeds:
        own = {name: table[table["seed"] == seed] for name, table in views.items()}
        values = _unexplained(own) | _leads(own["convergence"]) | _stiffness(own["stiffness"]) | _curvature(own) | _half_progress(own)
        for name, value in values.items():
            estimates.setdefault(name, {})[seed] = value
    return {name: pd.Series(values) for name, values in estimates.items()}


def _unexplained(views: dict[str, pd.DataFrame]) -> dict[str, float]:
    """Share of the loss change that the layers' sums and the integration errors do not explain; totals by layer."""
    losses = views["losses"].set_index("step")["loss"]
    change = losses.iloc[-1] - losses.iloc[0]
    allocation = views["allocation"]
    missed = allocation.groupby("step")["error"].first().sum()
    totals = allocation.groupby("layer", sort=False)[["lca", "lca_shuffled"]].sum()
    estimates = {f"unexplained{end}": abs(totals[f"lca{end}"].sum() + missed - change) / abs(change) for end in ("", "_shuffled")}
    estimates |= {f"missed_percent{end}": 100 * abs(totals[f"lca{end}"].sum() / change - 1) for end in ("", "_shuffled")}
    return estimates | {f"{layer}_total": total for layer, total in totals["lca"].items()}


def _leads(convergence: pd.DataFrame) -> dict[str, float]:
    """Mean over the iterations: similarity of the first layer to its final form minus that of the last hidden layer."""
    layers = list(dict.fromkeys(convergence["layer"]))
    first, last = (convergence[convergence["layer"] == layer].sort_values("step") for layer in (layers[0], layers[-2]))

    def lead(column: str) -> float:
        return _over_time(_above_floor(first, column)) - _over_time(_above_floor(last, column))

    from_start = _over_time(_progress(first)) - _over_time(_progress(last))
    return {"bottom_lead": lead("similarity"), "bottom_lead_shuffled": lead("similarity_shuffled"), "bottom_lead_from_start": from_start}


def _above_floor(rows: pd.DataFrame, column: str = "similarity") -> pd.Series:
    """Similarity with 0 at what independent layers would have and 1 for equal ones, by step."""
    values = (rows[column] - rows["noise_floor"]) / (1 - rows["noise_floor"])
    return values.set_axis(rows["step"])


def _progress(rows: pd.DataFrame) -> pd.Series:
    """Share of the way from the first checkpoint's similarity to 1, by step."""
    similarity = rows.set_index("step")["similarity"]
    return (similarity - similarity.iloc[0]) / (1 - similarity.iloc[0])


def _over_time(values: pd.Series) -> float:
    """Mean over the iterations of the line through the checkpoints."""
    steps = values.index.to_numpy(dtype=float)
    return float(np.trapezoid(values, steps) / (steps[-1] - steps[0]))


def _stiffness(stiffness: pd.DataFrame) -> dict[str, float]:
    gaps = {end: stiffness[f"within{end}"] - stiffness[f"between{end}"] for end in ("", "_permuted")}
    return {f"smallest_class_gap{end}": gap.min() for end, gap in gaps.items()}


def _curvature(views: dict[str, pd.DataFrame]) -> dict[str, float]:
    """Rank correlation of the largest eigenvalue with the training loss, and how much of the negative curvature is left at the end."""
    losses = views["losses"].set_index("step")["loss"]
    estimates = {}
    for path, rows in views["curvature"].groupby("path"):
        end = "" if path == "training" else f"_{path}"
        by_step = rows.set_index("step")
        estimates[f"sharpness_follows_loss{end}"] = by_step["largest"].corr(losses.loc[by_step.index], method="spearman")
        estimates[f"negative_curvature_left{end}"] = by_step["smallest"].iloc[-1] / by_step["smallest"].iloc[0]
    return estimates


def _half_progress(views: dict[str, pd.DataFrame]) -> dict[str, float]:
    """How far the hidden layers have moved from their first to their final form when half of the loss change is allocated."""
    allocated = views["allocation"].groupby("step")["lca"].sum().cumsum()
    half = int((allocated <= allocated.iloc[-1] / 2).to_numpy().argmax()) + 1  # iterations done by then
    layers = list(dict.fromkeys(views["convergence"]["layer"]))[:-1]
    curves = [_progress(rows) for layer, rows in views["convergence"].groupby("layer") if layer in layers]

    def way_at(step: float) -> float:
        return float(np.mean([np.interp(step, curve.index, curve) for curve in curves]))

    return {
        "iterations_to_half_loss": half,
        "way_at_half_loss": way_at(half),
        "way_at_half_loss_even": way_at(len(allocated) / 2),
    }


def draw(tables: Tables) -> Figure:
    """Four panels, one below the other, with a shared time axis; lines are means over seeds, bands their range."""
    figure, panels = plt.subplots(4, 1, figsize=(6.6, 9.6), sharex=MEASUREMENT in tables)
    if note_missing(tables, MEASUREMENT, panels, "four views"):
        return figure
    views = tables[MEASUREMENT]
    layers = list(dict.fromkeys(views["allocation"]["layer"]))
    colours = dict(zip(layers, sns.color_palette("viridis", len(layers)), strict=True))
    last = int(views["losses"]["step"].max())
    _draw_allocation(panels[0], views, colours)
    _draw_convergence(panels[1], views["convergence"], list(colours.values()))
    _draw_stiffness(panels[2], views["stiffness"])
    _draw_curvature(panels[3], views["curvature"])
    for axes in panels:
        axes.set_xscale("symlog", linthresh=_EARLY)
        axes.set_xlim(0, last)
        axes.legend(fontsize=7, ncols=2)
        sns.despine(ax=axes)
    panels[-1].set_xticks([tick for tick in _TICKS if tick <= last])
    panels[-1].xaxis.set_major_formatter(ScalarFormatter())
    panels[-1].set_xlabel(f"iterations (linear up to {_EARLY}, logarithmic from there on)")
    return figure


def _band(axes: Axes, table: pd.DataFrame, column: str, **style: object) -> None:
    """Mean over seeds by step, and the range from the lowest to the highest seed."""
    over = table.groupby("step")[column].agg(["mean", "min", "max"])
    (line,) = axes.plot(over.index, over["mean"], lw=1.4, **style)  # type: ignore[arg-type]
    axes.fill_between(over.index, over["min"], over["max"], color=line.get_color(), alpha=0.2, lw=0)


def _draw_allocation(axes: Axes, views: dict[str, pd.DataFrame], colours: dict[str, object]) -> None:
    losses, allocation = views["losses"], views["allocation"].copy()
    allocation["cumulative"] = allocation.groupby(["seed", "layer"])["lca"].cumsum()
    allocation["step"] += 1  # after the iteration
    start = allocation[allocation["step"] == 1].assign(step=0, cumulative=0.0)
    allocation = pd.concat([start, allocation])
    changes = losses.assign(change=losses["loss"] - losses.groupby("seed")["loss"].transform("first"))
    _band(axes, changes, "change", color=LOSS, ls="--", label="training loss")
    for layer, colour in colours.items():
        _band(axes, allocation[allocation["layer"] == layer], "cumulative", color=colour, label=layer)
    axes.axhline(0, color="black", lw=0.6)
    axes.set_ylabel("LCA: loss change\nallocated so far")


def _draw_convergence(axes: Axes, convergence: pd.DataFrame, colours: list[object]) -> None:
    for layer, colour in zip(dict.fromkeys(convergence["layer"]), colours, strict=False):
        rows = convergence[convergence["layer"] == layer]
        _band(axes, rows.assign(above=_above_floor(rows).to_numpy()), "above", color=colour, label=layer)
    axes.axhline(0, color=NEUTRAL, lw=1)
    axes.set(ylim=(-0.05, 1.02))
    axes.set_ylabel("SVCCA: similarity to the\nfinal form, above chance")


def _draw_stiffness(axes: Axes, stiffness: pd.DataFrame) -> None:
    _band(axes, stiffness, "within", color=HURTS, label="within classes")
    _band(axes, stiffness, "between", color=LOSS, label="between classes")
    _band(axes, stiffness, "within_permuted", color=GREY, ls=":", label="within, labels permuted")
    axes.axhline(0, color="black", lw=0.6)
    axes.set_ylabel("stiffness: mean cosine\nof examples' gradients")


def _draw_curvature(axes: Axes, curvature: pd.DataFrame) -> None:
    for path, colour, what in (("training", LOSS, ""), ("random", GREY, ", as far in a random direction")):
        rows = curvature[curvature["path"] == path]
        for column, style in (("largest", "-"), ("smallest", "--")):
            _band(axes, rows, column, color=colour, ls=style, label=f"{column}{what}")
    axes.axhline(0, color="black", lw=0.6)
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylabel("curvature: eigenvalue\nof the Hessian")
