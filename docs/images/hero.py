"""The picture at the top of the README: one panel for each paper, drawn from tables in recorded/ and results/.

Run in the folder that holds the Snakefile: python docs/images/hero.py. Each panel takes the largest scale at which its measurement is
finished and says which (smoke is not used: it says nothing about claims). Published values are grey.
"""

import ast
import hashlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path.cwd()))  # figures/ lies beside the Snakefile and is not installed

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from figures.landscape_published import contour_radii as published_radii
from figures.layer_maps import at_percent, of_network, same_layer
from figures.lca_layers import layer_totals
from figures.residual_nets import title_of
from figures.stiffness_v1_tables import published as published_stiffness
from figures.stiffness_v1_tables import summary
from figures.stiffness_v1_training import IMAGES_PER_EPOCH
from figures.style import BLUE, GREEN, GREY, RED, Tables
from figures.surfaces import LEVELS, NOSHORT, network_value, seed_zero
from figures.svcca_dynamics import published as published_similarity
from replication.drawing import draw_contours
from replication.errors import ReplicationError
from replication.files.atomic import atomic
from replication.landscape.grid import as_grid
from replication.pipeline import drawing

OUT = Path(__file__).with_name("hero.png")
SIZE, DPI = (8.0, 6.0), 200  # shown 800 pixels wide: a point is 1.4 pixels
PLACES = (
    ("full", "recorded/{paper}/{name}"),
    ("full", "results/full/{paper}/tables/{name}"),
    ("reduced", "results/reduced/{paper}/tables/{name}"),
)
CONVNET_PERCENT = 35
LOOK = {"font.size": 9, "axes.titlesize": 9.5, "axes.labelsize": 9, "xtick.labelsize": 8.5, "ytick.labelsize": 8.5, "legend.fontsize": 8.5}


def tables_of(paper: str, name: str) -> tuple[Tables, str] | None:
    """Tables of a measurement at the largest scale at which it is finished, and that scale in words."""
    for scale, place in PLACES:
        folders = sorted(Path(place.format(paper=paper, name=name)).glob("seed*"))
        if folders:
            return drawing.load_tables(folders)[0], f"{scale} scale"
    return None


def draw() -> Figure:
    """Four panels; one without tables says that it has none."""
    with plt.rc_context(LOOK):
        figure = plt.figure(figsize=SIZE, layout="constrained")
        rows = figure.subfigures(2, 1, height_ratios=[1, 1.05], hspace=0.03)
        above, below = (row.subfigures(1, 2, width_ratios=[1, 1.12], wspace=0.03) for row in rows)
        draw_layers(above[0].subplots())
        draw_similarity(above[1].subplots())
        draw_stiffness(below[0].subplots())
        draw_landscapes(below[1].subplots(1, 2))
    return figure


def missing(axes: Axes, title: str) -> None:
    """Say that a panel has no tables yet."""
    axes.set_title(title)
    axes.text(0.5, 0.5, "no tables yet", ha="center", va="center", transform=axes.transAxes, color=GREY)
    axes.set_axis_off()


def draw_layers(axes: Axes) -> None:
    """LCA: how much each layer of MNIST-FC lowers the loss, each seed as a dot."""
    title = "LCA: loss change by layer"
    if (found := tables_of("lca", "mnist_fc_lca")) is None:
        return missing(axes, title)
    tables, scale = found
    totals = layer_totals(tables["mnist_fc_lca"]["layers"])
    mean = totals.groupby("layer", sort=False)["total"].mean()
    axes.bar(list(mean.index), mean, color=[GREEN if value < 0 else RED for value in mean], width=0.6)
    axes.plot(totals["layer"], totals["total"], "o", ms=4, mfc="white", mec="black", mew=0.8)
    axes.axhline(0, color="black", lw=0.8)
    axes.set_title(f"{title}\n(MNIST-FC, {scale}, {totals['seed'].nunique()} seeds)")
    axes.set(xlabel="layer, input to output", ylabel="loss change allocated")
    sns.despine(ax=axes)
    return None


def draw_similarity(axes: Axes) -> None:
    """SVCCA: how similar each layer of the convnet is to its final form, published beside ours."""
    theirs = published_similarity("convnet", CONVNET_PERCENT)
    names = list(theirs.index)
    axes.plot(names, np.diag(theirs), "s-", color=GREY, ms=4.5, lw=1, label="published")
    title, where = f"SVCCA: layers against their final form\n(convnet, {CONVNET_PERCENT} % of training", ")"
    if (found := tables_of("svcca", "dynamics")) is not None:
        tables, scale = found
        diagonal = at_percent(same_layer(of_network(tables, "matrices", "convnet")), CONVNET_PERCENT)
        ours = diagonal.pivot(index="row", columns="seed", values="similarity").reindex(names).dropna()
        axes.plot(ours.index, ours.mean(axis=1), "o-", color=BLUE, ms=4.5, lw=1, label="ours")
        axes.fill_between(ours.index, ours.min(axis=1), ours.max(axis=1), color=BLUE, alpha=0.2, lw=0)
        where = f", {scale})"
    axes.set_title(title + where)
    axes.set(ylim=(0, 1.05), ylabel="SVCCA similarity")
    axes.tick_params(axis="x", labelrotation=60)
    axes.legend(loc="lower left")
    sns.despine(ax=axes)


def draw_stiffness(axes: Axes) -> None:
    """Stiffness: Figure 2 of version 1, published beside ours in float32 and float64."""
    curve = published_stiffness()["figure_2"]["same_class"]
    axes.plot([int(images) / IMAGES_PER_EPOCH for images in curve], list(curve.values()), color=GREY, lw=1.6, label="published")
    title, where = "Stiffness: gradients of the same class\n(FC on MNIST", ")"
    if (found := tables_of("stiffness", "v1_mnist_pairs")) is not None:
        tables, scale = found
        epochs = tables["v1_mnist_pairs"]["losses"].query("run == 'v1_mnist'").groupby("step")["epoch"].first()
        for precision, colour, line in (("float32", RED, "-"), ("float64", BLUE, "--")):
            within = summary(tables, "v1_mnist_pairs", "v1_mnist", precision=precision)["within"].unstack("seed")
            axes.plot(epochs.loc[within.index], within.mean(axis=1), line, color=colour, lw=1.4, label=f"ours, {precision}")
            axes.fill_between(epochs.loc[within.index], within.min(axis=1), within.max(axis=1), color=colour, alpha=0.15, lw=0)
        where = f", {scale})"
    axes.set_title(title + where)
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xticks([0, 1, 3, 10, 30, 98], ["0", "1", "3", "10", "30", "98"])
    axes.set(xlim=(0, 110), ylim=(-0.05, 1.05), xlabel="epoch", ylabel="mean sign of products")
    axes.legend(loc="lower left")
    sns.despine(ax=axes)


def draw_landscapes(panels: np.ndarray) -> None:
    """Loss landscape: contours around one deep network with and without shortcuts; dashed, how far the published 0.1 contour lies."""
    if (found := tables_of("landscape", "depth_surfaces")) is None:
        for axes, title in zip(panels, ("Landscape:\nwith shortcuts", "without"), strict=True):
            missing(axes, title)
        return
    tables, scale = found
    runs = [run for run in pd.unique(tables["depth_surfaces"]["surface"]["run"]) if not run.endswith(NOSHORT)]
    deepest = runs[-1]
    errors = 100 * (1 - network_value(tables, "depth_surfaces", "accuracy", split="test"))
    titles = (f"Landscape: {title_of(deepest)}\nwith shortcuts", f"without shortcuts\n({scale})")
    for axes, run, title in zip(panels, (deepest, deepest + NOSHORT), titles, strict=True):
        surface = seed_zero(tables["depth_surfaces"]["surface"].query("run == @run"))
        draw_contours(axes, *as_grid(surface, "loss"), LEVELS)
        if (radius := published_radii().get(run, 0.0)) > 0:
            axes.add_patch(Circle((0, 0), radius, fill=False, ls="--", lw=1.6, ec=GREY, zorder=4))
        axes.set_title(title)
        axes.set(xticks=(-1, 0, 1), yticks=(-1, 0, 1), xlabel=f"test error {errors[run].mean():.1f} %")
    panels[1].set_yticklabels([])


def identity() -> str:
    """What identifies the code that drew the picture, without comments; the picture carries it."""
    return hashlib.sha256(ast.dump(ast.parse(Path(__file__).read_text(encoding="utf-8"))).encode()).hexdigest()[:16]


def reduce_colours(picture: Path) -> None:
    """Write the picture again in at most 256 colours, with the identity of this code."""
    about = PngInfo()
    about.add_text("code", identity())
    with Image.open(picture) as image:
        small = image.convert("RGB").quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    with atomic(picture) as temporary:
        small.save(temporary, format="png", optimize=True, pnginfo=about)


def main() -> None:
    """Write the picture."""
    try:
        draw().savefig(OUT, dpi=DPI, metadata={"Software": None})
    except ReplicationError as error:
        sys.exit(f"Error: {error}")
    reduce_colours(OUT)
    print(f"{OUT.relative_to(Path.cwd())}: {OUT.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
