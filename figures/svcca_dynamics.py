"""SVCCA's figure 4: layers during training against layers at the end, ours beside the published panels."""

import json
from itertools import combinations
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from figures.layer_maps import (
    DYNAMICS,
    RUN_TITLES,
    at_percent,
    depth_correlation,
    difference_of_rows,
    draw_map,
    of_network,
    same_layer,
    wide_mean,
)
from figures.style import Quantities, Tables, note_missing, requires

PERCENTS = (0, 35, 75, 100)
PUBLISHED = Path(__file__).parent / "published" / "svcca_figure4.json"


@requires(DYNAMICS)
def quantities(tables: Tables) -> Quantities:
    """Per seed: rank correlations with depth, batch norm pairs, residual stripes, the top of the convnet."""
    estimates: Quantities = {}
    for run in RUN_TITLES:
        diagonal, broken = same_layer(of_network(tables, "matrices", run)), of_network(tables, "controls", run)
        for percent in (0, 35, 75):
            estimates[f"{run}_depth_correlation_{percent}"] = depth_correlation(at_percent(diagonal, percent))
        for percent in (35, 75):
            estimates[f"{run}_depth_correlation_{percent}_shuffled"] = depth_correlation(_broken_at(broken, percent))
    early = at_percent(same_layer(of_network(tables, "matrices", "convnet")), 35)
    broken = of_network(tables, "controls", "convnet")
    estimates["out_minus_fc2_35"] = difference_of_rows(early, "out", "fc2")
    estimates["out_minus_fc2_35_shuffled"] = difference_of_rows(_broken_at(broken, 35), "out", "fc2")
    return estimates | _batch_norm(tables[DYNAMICS]["norms"]) | _stripes(at_percent(of_network(tables, "matrices", "resnet"), 100))


def _broken_at(controls: pd.DataFrame, percent: int) -> pd.DataFrame:
    """The controls of 35 or 75 %, the only ones that are measured."""
    return controls[controls["step"] == (controls["step"].min() if percent == 35 else controls["step"].max())]


def _batch_norm(norms: pd.DataFrame) -> Quantities:
    between = {kind: rows.groupby("seed")[["cca", "svcca"]].min() for kind, rows in norms.groupby("between")}
    return {
        "batch_norm_deviation_cca": 1 - between["norm"]["cca"],
        "convolution_deviation_cca": 1 - between["convolution"]["cca"],
        "batch_norm_smallest_svcca": between["norm"]["svcca"],
        "convolution_svcca": between["convolution"]["svcca"],
    }


def _stripes(final: pd.DataFrame) -> Quantities:
    """Mean similarity within stages of outputs after additions, before them, and of all convolutions."""
    blocks = [name for name in dict.fromkeys(final["layer_a"]) if name.endswith("_res")]
    numbers = [int(name[1:].removesuffix("_res")) for name in blocks]
    size = max(1, len(numbers) // 3)
    stages = [numbers[i : i + size] for i in range(0, len(numbers), size)]
    parts = {"res": ("res",), "branch": ("cv2",), "conv": ("cv1", "cv2")}
    means: dict[str, dict[object, float]] = {name: {} for name in parts}
    for seed, rows in final.groupby("seed"):
        similarity = rows.set_index(["layer_a", "layer_b"])["similarity"]
        for name, kinds in parts.items():
            inside = [[f"b{number}_{kind}" for number in stage for kind in kinds] for stage in stages]
            values = [similarity[pair] for stage in inside for pair in combinations(stage, 2)]
            means[name][seed] = sum(values) / len(values) if values else float("nan")
    res, branch, conv = (pd.Series(means[name]) for name in parts)
    return {"residual_minus_convolution": res - conv, "branch_minus_convolution": branch - conv, "residual_similarity": res}


def published(network: str, percent: int) -> pd.DataFrame:
    """A published panel, every cell as read from the official image."""
    stored = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    rows = stored[f"{network}_rows"]
    return pd.DataFrame(stored[network][str(percent)], index=rows, columns=rows)


def draw(tables: Tables) -> Figure:
    """Rows: convnet ours (mean over seeds) and published, ResNet ours and published; columns: 0, 35, 75 and 100 % of training."""
    figure, grid = plt.subplots(4, len(PERCENTS), figsize=(12, 12.5))
    for number, (run, title) in enumerate(RUN_TITLES.items()):
        for column, percent in enumerate(PERCENTS):
            ours, theirs = grid[2 * number, column], grid[2 * number + 1, column]
            if not note_missing(tables, DYNAMICS, ours, title):
                matrix = wide_mean(at_percent(of_network(tables, "matrices", run), percent), "layer_a", "layer_b", "similarity")
                image = draw_map(ours, matrix)
                ours.set_title(f"{title}, {percent} % of training: measured", fontsize=8.5)
            image = draw_map(theirs, published(run, percent))
            theirs.set_title(f"{title}, {percent} %: published (weighted)", fontsize=8.5)
            for axes in (ours, theirs):
                axes.set_xlabel("layer at the end of training", fontsize=7)
                axes.set_ylabel("layer during training", fontsize=7)
    bar = figure.colorbar(image, ax=grid, shrink=0.5, pad=0.01)
    bar.set_label("SVCCA similarity")
    return figure
