"""LCA Figure 2: allocation to single parameters in a few iterations, as images; all of them as an animation."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from PIL import Image

from figures.style import HELPS, HURTS, LIGHT_GREY, Quantities, Tables, empty_figure, is_measured, requires
from replication.measurements.lca_frames import SCALE_PERCENTILE, WHITE

MEASUREMENT = "mnist_fc_frames"
PHASES = {"1_to_10": (1, 10), "11_to_100": (11, 100), "101_on": (101, None)}
SHOWN = 6  # frames in the still figure
MILLISECONDS = 600  # a frame of the animation
COLOURS = LinearSegmentedColormap.from_list("helps_hurts", [HELPS, "white", HURTS])
LEGEND = (
    f"green: helps, red: hurts, white: |A| below {WHITE:.0%} of full colour; full colour is the {SCALE_PERCENTILE:g}th percentile of |A|\n"
    "over a layer's kernel and all frames (one scale per layer, symmetrical)"
)


@requires(MEASUREMENT)
def quantities(tables: Tables) -> Quantities:
    """Per seed and phase (iterations counted from 1): per cent of the weights that visibly help, hurt, or are white, over its frames;
    helping among the coloured; the same with gradients shuffled and with a colour scale for every frame; the difference of white."""
    shares = tables[MEASUREMENT]["shares"]
    estimates: Quantities = {}
    for phase, (first, last) in PHASES.items():
        within = shares[(shares["step"] + 1).between(first, last or np.inf)]
        sums = within.drop(columns="layer").groupby("seed").sum()
        for ending in ("", "_shuffled", "_own_scale"):
            coloured = sums[f"helping{ending}"] + sums[f"hurting{ending}"]
            estimates[f"helping_of_coloured_percent_{phase}{ending}"] = 100 * sums[f"helping{ending}"] / coloured
            estimates[f"white_percent_{phase}{ending}"] = 100 * sums[f"white{ending}"] / sums["parameters"]
        estimates[f"helping_percent_{phase}"] = 100 * sums["helping"] / sums["parameters"]
        estimates[f"hurting_percent_{phase}"] = 100 * sums["hurting"] / sums["parameters"]
        estimates[f"exactly_zero_percent_{phase}"] = 100 * sums["exactly_zero"] / sums["parameters"]
    for ending in ("", "_own_scale"):
        estimates[f"white_gain_percent{ending}"] = estimates[f"white_percent_101_on{ending}"] - estimates[f"white_percent_1_to_10{ending}"]
    estimates["worst_frame_error"] = tables[MEASUREMENT]["frames"].groupby("seed")["error"].agg(lambda error: error.abs().max())
    return {name: values for name, values in estimates.items() if len(values)}


def images_of(tables: Tables) -> dict[str, dict[int, np.ndarray]]:
    """Of the first seed with pictures: per layer and step A as an image, divided by the layer's colour scale.

    Rows of the first layer's matrix (its hidden units) become square tiles, five in a row, where their inputs are a square image.
    """
    pixels, shares = tables[MEASUREMENT]["pixels"], tables[MEASUREMENT]["shares"]
    seed = pixels["seed"].min()
    scales = shares[shares["seed"] == seed].groupby("layer")["colour_scale"].first()
    images: dict[str, dict[int, np.ndarray]] = {}
    for number, (layer, part) in enumerate(pixels[pixels["seed"] == seed].groupby("layer", sort=False)):
        name = str(layer)
        shape = (part["step"].nunique(), part["unit"].nunique(), part["input"].nunique())
        values = part["lca"].to_numpy().reshape(shape) / scales[name]
        steps = [int(step) for step in part["step"].unique()]
        images[name] = {step: _tiles(each) if number == 0 else each for step, each in zip(steps, values, strict=True)}
    return images


def _tiles(rows: np.ndarray, columns: int = 5) -> np.ndarray:
    side = round(rows.shape[1] ** 0.5)
    if side * side != rows.shape[1]:
        return rows
    gap = side + 1
    n_rows = -(-len(rows) // columns)
    sheet = np.full((n_rows * gap - 1, columns * gap - 1), np.nan)  # nan: the lines between the tiles
    for number, row in enumerate(rows):
        top, left = number // columns * gap, number % columns * gap
        sheet[top : top + side, left : left + side] = row.reshape(side, side)
    return sheet


def draw(tables: Tables) -> Figure:
    """A row of frames for each layer, and below the shares of green, red and white in every frame."""
    if not is_measured(tables, MEASUREMENT, table="pixels"):
        return empty_figure("allocation to single parameters")
    images = images_of(tables)
    steps = list(next(iter(images.values())))
    shown = [steps[index] for index in np.unique(np.linspace(0, len(steps) - 1, SHOWN).round().astype(int))]
    heights = [image.shape[0] / image.shape[1] for image in (frames[steps[0]] for frames in images.values())]
    size = (2.1 * len(shown), 2.1 * sum(heights) + 2.6)
    figure = plt.figure(figsize=size)
    grid = figure.add_gridspec(len(images) + 1, len(shown), height_ratios=[*heights, 0.8])
    for row, (layer, frames) in enumerate(images.items()):
        for column, step in enumerate(shown):
            axes = figure.add_subplot(grid[row, column])
            _draw_image(axes, frames[step])
            axes.set_title(f"iteration {step + 1}" if row == 0 else "", fontsize=9)
            axes.set_ylabel(layer if column == 0 else "")
    _draw_shares(figure.add_subplot(grid[-1, :]), tables[MEASUREMENT]["shares"])
    figure.suptitle(LEGEND, fontsize=8)
    return figure


def _draw_image(axes: Axes, image: np.ndarray) -> None:
    colours = COLOURS.with_extremes(bad=LIGHT_GREY)
    shown = axes.imshow(np.where(np.abs(image) < WHITE, 0, image), cmap=colours, vmin=-1, vmax=1, interpolation="nearest")
    shown.set_clip_on(False)  # SVG names a clip after its unrounded place, whose last bit varies, and the same tables give the same bytes
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_color(LIGHT_GREY)


def _draw_shares(axes: Axes, shares: pd.DataFrame) -> None:
    """Means over seeds and layers, weighted by the parameters."""
    sums = shares.groupby("step")[["parameters", "helping", "white", "hurting"]].sum()
    parts = [100 * sums[name] / sums["parameters"] for name in ("helping", "white", "hurting")]
    axes.stackplot(sums.index + 1, *parts, colors=[HELPS, "white", HURTS], labels=["helping", "white", "hurting"], alpha=0.85)
    axes.set_title("all weights of all layers, all seeds", fontsize=9)
    axes.set(xscale="log", xlabel="iteration", ylabel="weights (%)", xlim=(1, sums.index.max() + 1), ylim=(0, 100))
    for edge in (10, 100):
        axes.axvline(edge, color="black", lw=0.7, ls=":")
    axes.legend(fontsize=7, loc="center", frameon=True)


def extras(tables: Tables) -> dict[str, bytes]:
    """The animation of all frames, ``{".gif": ...}``; empty where no pictures were measured. The same tables give the same bytes."""
    if not is_measured(tables, MEASUREMENT, table="pixels"):
        return {}
    images = images_of(tables)
    shares = tables[MEASUREMENT]["frames"]
    losses = shares[shares["seed"] == tables[MEASUREMENT]["pixels"]["seed"].min()].set_index("step")["loss_start"]
    frames = [_frame(images, step, losses[step]) for step in next(iter(images.values()))]
    file = io.BytesIO()
    frames[0].save(file, format="GIF", save_all=True, append_images=frames[1:], duration=MILLISECONDS, loop=0)
    return {".gif": file.getvalue()}


def _frame(images: dict[str, dict[int, np.ndarray]], step: int, loss: float) -> Image.Image:
    heights = [image.shape[0] / image.shape[1] for image in (frames[step] for frames in images.values())]
    size = (4.6, 4.4 * sum(heights) + 0.9)
    figure, axes = plt.subplots(len(images), 1, figsize=size, height_ratios=heights, dpi=100)
    for each, (layer, frames) in zip(np.atleast_1d(axes), images.items(), strict=True):
        _draw_image(each, frames[step])
        each.set_ylabel(layer)
    figure.suptitle(f"iteration {step + 1}, loss {loss:.3f}\n" + LEGEND.replace("; ", ";\n"), fontsize=7)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    frame = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(64)
    plt.close(figure)
    return frame
