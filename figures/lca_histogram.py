"""LCA Figure 3, left: the distribution of every allocation (all parameters, all iterations), with a Weibull fit."""

import math

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from scipy import stats

from figures.lca_networks import RowTables, quantities_of, rows_of
from figures.style import HELPS, HURTS, Quantities, Tables
from replication.lca.distributions import gaussian_share_beyond, weibull_fit

PUBLISHED_SHAPE, PUBLISHED_SCALE = 0.53, 5.1e-8  # CIFAR-ResNet20, SGD 0.1: the overlay of the authors' old plotting code
LINEAR_RANGE_IN_SCALES = 18  # the published linear panel spans +-9.1e-7, that is 18 scales


def quantities(tables: Tables) -> Quantities:
    """Per network and seed: Weibull shape and scale of abs(A), the same fit to a Gaussian of equal spread, kurtosis, tail shares, and
    how much of the learning few of the helping elements and parameters do."""
    return quantities_of(tables, _of_network)


def _of_network(tables: RowTables) -> Quantities:
    histogram, elements = (tables[name] for name in ("histogram", "elements"))
    rows = {}
    for seed, bins in histogram.groupby("seed"):
        moments = elements[elements["seed"] == seed].iloc[0]
        finite = moments["elements"] - moments["zeros"] - moments["non_finite"]
        variance = moments["sum_of_squares"] / finite - (moments["sum"] / finite) ** 2
        shape, scale = _fit(bins)
        rows[seed] = {
            "weibull_shape": shape,
            "weibull_scale": scale,
            "weibull_shape_gaussian": _gaussian_shape(math.sqrt(variance)),
            "kurtosis": moments["sum_of_fourth_powers"] / finite / variance**2,
            **{f"tail_over_gaussian_{s}_sigma": _share_beyond(bins, s * math.sqrt(variance)) / gaussian_share_beyond(s) for s in (2, 3)},
            "non_finite_elements": moments["non_finite"],
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    return {str(name): table[name] for name in table} | _concentration(tables["concentration"])


def _concentration(table: pd.DataFrame) -> Quantities:
    """Gini coefficient, what the top per cent holds, and how many per cent hold 90 %: of helping elements and helping parameters."""
    names = ("gini", "top_1_percent_hold", "percent_holding_90")
    return {f"{name}_of_{of}": part.set_index("seed")[name] for of, part in table.groupby("of") for name in names}


def _fit(bins: pd.DataFrame) -> tuple[float, float]:
    return weibull_fit((bins["sum"] / bins["count"]).to_numpy(), bins["count"].to_numpy())


def _gaussian_shape(sigma: float) -> float:
    """The control: the same fit to abs(x) of a Gaussian with the measured spread, on bins as fine."""
    edges = sigma * 10 ** np.linspace(-6, 1, 40 * 7 + 1)
    return weibull_fit(np.sqrt(edges[1:] * edges[:-1]), np.diff(stats.halfnorm.cdf(edges, scale=sigma)))[0]


def _share_beyond(bins: pd.DataFrame, bound: float) -> float:
    """Share of the sum of abs(A) beyond ``bound``; the bin around the bound (6 % wide) is divided in proportion."""
    beyond = ((bins["high"] - bound) / (bins["high"] - bins["low"])).clip(0, 1)
    return float((bins["sum"] * beyond).sum() / bins["sum"].sum())


def draw(tables: Tables) -> Figure:
    """A row per network. Left: logarithmic, the tails; right: linear, near zero; both as densities with the fitted double Weibull."""
    return rows_of(tables, _draw_network)


def _draw_network(panels: list[Axes], tables: RowTables) -> None:
    histogram, (left, right) = tables["histogram"], panels
    pooled = histogram.groupby(["sign", "low", "high"], as_index=False)[["count", "sum"]].sum()
    shape, scale = _fit(pooled)
    reach = pooled["high"].max()
    left.set_yscale("log")
    _draw_density(left, pooled, np.linspace(-reach, reach, 161), shape, scale)
    left.set_title("logarithmic: the tails")
    near = LINEAR_RANGE_IN_SCALES * scale
    _draw_density(right, pooled, np.linspace(-near, near, 121), shape, scale)
    right.set_title("linear: around zero")
    published = f"published (ResNet-20):\nshape {PUBLISHED_SHAPE}, scale {PUBLISHED_SCALE:g}"
    left.legend(fontsize=7, loc="upper right", title=published, title_fontsize=7)


def _draw_density(axes: Axes, bins: pd.DataFrame, edges: np.ndarray, shape: float, scale: float) -> None:
    """The logarithmic bins spread over linear ones, helping left of zero and hurting right of it, as a density."""
    width, total = edges[1] - edges[0], bins["count"].sum()
    centres, tallest = (edges[1:] + edges[:-1]) / 2, 0.0
    for sign, colour, side in (("helping", HELPS, -1), ("hurting", HURTS, 1)):
        part = bins[bins["sign"] == sign]
        low, high, count = part["low"].to_numpy(), part["high"].to_numpy(), part["count"].to_numpy()
        cumulative = [float((count * ((edge - low) / (high - low)).clip(0, 1)).sum()) for edge in np.maximum(side * edges, 0)]
        density = np.abs(np.diff(cumulative)) / total / width
        axes.fill_between(centres, density, step="mid", color=colour, alpha=0.75, lw=0, label=sign)
        tallest = max(tallest, density.max())
    one_element = 1 / (total * width)
    fine = np.linspace(edges[0], edges[-1], 1000)
    curve = 0.5 * stats.weibull_min.pdf(np.abs(fine), shape, scale=scale)
    seen = curve > one_element  # where the fit expects at least one element in a bin
    axes.plot(fine[seen], curve[seen], color="black", lw=1, label=f"double Weibull:\nshape {shape:.2f}, scale {scale:.1e}")
    axes.set_ylim(one_element / 2 if axes.get_yscale() == "log" else 0, 1.3 * tallest)  # the fitted density has a pole at zero
    axes.set(xlabel="A of one parameter in one iteration (loss units)", ylabel="density (zeros left out)")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}"))
    sns.despine(ax=axes)
