"""The nets of the landscape figures by name: depth, with and without shortcuts, which are fitted, and how panels call them."""

import re
from collections.abc import Iterable, Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Normalize
from matplotlib.figure import FigureBase
from matplotlib.lines import Line2D
from matplotlib.patches import Circle

from figures import landscape_published
from figures.style import BLUE, ORANGE, RED, Tables
from figures.surfaces import LEVELS, NOSHORT, draw_surface, network_value, seed_zero

FITTED = 0.9  # of training accuracy: below it there is no minimiser to look around
WITH, WITHOUT = BLUE, RED  # shortcuts
STATISTICS = "evaluation mode, unperturbed running statistics"


def depth_of(run: str) -> int:
    """The depth in a run's name; DenseNet's is 121."""
    digits = re.search(r"\d+", run)
    return int(digits[0]) if digits else 121


def split_by_shortcuts(runs: Iterable[str]) -> tuple[list[str], list[str]]:
    """Runs with and without shortcuts, each by rising depth."""
    names = sorted(dict.fromkeys(runs), key=depth_of)
    return [name for name in names if not name.endswith(NOSHORT)], [name for name in names if name.endswith(NOSHORT)]


def title_of(run: str) -> str:
    """What a panel calls a run."""
    name = run.removesuffix(NOSHORT)
    families = [(r"resnet(\d+)", r"ResNet-\1"), (r"wide_k(\d+)", r"wide ResNet, k = \1"), (r"densenet", "DenseNet")]
    families += [(r"vgg9_(small|large)", r"VGG-9, \1 batch"), ("_decay", ", weight decay")]
    for pattern, called in families:
        name = re.sub(pattern, called, name)
    return name + (", no shortcuts" if run.endswith(NOSHORT) else "")


def error_percent(tables: Tables, measurement: str, *, trained: bool = True) -> pd.DataFrame:
    """Test errors in per cent, seeds in rows and runs in columns."""
    return 100 * (1 - network_value(tables, measurement, "accuracy", split="test", trained=trained))


def training_accuracies(tables: Tables, measurement: str) -> pd.DataFrame:
    """Final training accuracies in [0, 1], seeds in rows and runs in columns."""
    return network_value(tables, measurement, "accuracy")


def fit_line(accuracy: float) -> str:
    """The line of a title that says whether a net is fitted, from its training accuracy."""
    return f"training accuracy {accuracy:.3f}" if accuracy >= FITTED else f"not fitted: training accuracy {accuracy:.2f}"


def draw_net(axes: Axes, tables: Tables, measurement: str, run: str, name: str, *, published: str | None = None) -> None:
    """Contours of a run's surface, first seed, with the published radius of the 0.1 contour as a dashed circle.

    The title names test error, ours and published, and training accuracy of that seed. ``published`` is the run's name in the paper's
    figures where it has another one there.
    """
    published = published or run
    surface = seed_zero(tables[measurement]["surface"].query("run == @run"))
    seed = surface["seed"].iloc[0]
    draw_surface(axes, surface)
    accuracy = training_accuracies(tables, measurement).loc[seed, run]
    error = error_percent(tables, measurement).loc[seed, run]
    axes.set_title(
        f"{name}\ntest error {error:.1f} %{_published_error(published)}\n{fit_line(accuracy)}",
        fontsize=8,
        color="black" if accuracy >= FITTED else WITHOUT,
    )
    if (radius := landscape_published.contour_radii().get(published, 0.0)) > 0:
        axes.add_patch(Circle((0, 0), radius, fill=False, ls="--", lw=1, ec=ORANGE, zorder=4))
    axes.set(xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    axes.tick_params(labelsize=7)
    axes.set_xlabel("alpha", fontsize=7)
    axes.set_ylabel("beta", fontsize=7)
    missing = int((~np.isfinite(surface["loss"])).sum())
    if missing:
        axes.set_xlabel(f"alpha ({missing} points not finite, hatched)", fontsize=7)


def _published_error(run: str) -> str:
    error = landscape_published.error_percents().get(run)
    return "" if error is None else f" (published {error} %)"


def level_bar(figure: FigureBase, grid: np.ndarray) -> Colorbar:
    """The colour bar that all panels of contours share."""
    colours = ScalarMappable(Normalize(LEVELS[0], LEVELS[-1]), mpl.colormaps["viridis"])
    bar = figure.colorbar(colours, ax=list(grid.ravel()), shrink=0.7, pad=0.01, aspect=30)
    bar.set_label(f"training loss; contours from {LEVELS[0]:.1f} to {LEVELS[-1]:.1f} in steps of 0.5, the same in every panel", fontsize=7)
    bar.ax.tick_params(labelsize=7)
    return bar


def draw_trend(axes: Axes, x: pd.Series, values: pd.DataFrame, *, fitted: pd.Series) -> None:
    """Values (seeds in rows, runs in columns) against ``x`` by run: lines through means, dots for seeds, open where not fitted."""
    for runs, colour in zip(split_by_shortcuts(values.columns), (WITH, WITHOUT), strict=True):
        order = x[runs].sort_values().index
        axes.plot(x[order], values[order].mean(), "-", color=colour, lw=1)
        for run in order:
            face = colour if fitted[run] else "white"
            axes.plot([x[run]] * len(values), values[run], "o", ms=4, mec=colour, mfc=face, lw=0)
    axes.set_xticks(sorted(set(x[values.columns])))
    axes.tick_params(labelsize=7)


def mark_published(axes: Axes, x: pd.Series, values: dict[str, float], runs: Mapping[str, str]) -> None:
    """Published values beside the means of ``draw_trend``; ``runs`` gives each of our runs its name in the paper's figures."""
    for run, name in runs.items():
        if name in values:
            landscape_published.mark(axes, x[run], values[name])


def trend_legend(axes: Axes) -> None:
    """What colours and open dots of ``draw_trend`` mean."""
    handles = [
        Line2D([], [], color=WITH, marker="o", ms=4, lw=1, label="with shortcuts"),
        Line2D([], [], color=WITHOUT, marker="o", ms=4, lw=1, label="without"),
        Line2D([], [], color="black", marker="o", ms=4, lw=0, mfc="white", label="not fitted"),
        Line2D([], [], **landscape_published.MARK, label=landscape_published.LABEL),
    ]
    axes.legend(handles=handles, fontsize=7, loc="best")
