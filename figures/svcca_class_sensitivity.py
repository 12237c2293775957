"""SVCCA's figure 6 on CIFAR-10: how well each layer of the ResNet predicts the logit of single classes."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.layer_maps import DYNAMICS, ENDS, of_network, rows_in_order
from figures.style import AMBER, BLUE, GREY, RED, SKY, Quantities, Tables, note_missing, requires

AUTOMOBILE, CAT, DOG, TRUCK = 1, 3, 5, 9
PAIRS, OTHER_PAIRS = ((CAT, DOG), (AUTOMOBILE, TRUCK)), ((CAT, AUTOMOBILE), (DOG, TRUCK))
LAST_PAIRS = ((CAT, TRUCK), (DOG, AUTOMOBILE))
NAMES = {CAT: ("cat", RED), DOG: ("dog", AMBER), AUTOMOBILE: ("automobile", BLUE), TRUCK: ("truck", SKY)}


@requires(DYNAMICS)
def quantities(tables: Tables) -> Quantities:
    """Per seed: gap between the curves of dissimilar classes minus that of similar ones, mean over blocks; the same with wrong pairs."""
    classes = _blocks(of_network(tables, "classes", "resnet"))
    wide = classes.pivot(index=["seed", "row"], columns="class", values="correlation")
    gap = {pairs: _gap(wide, pairs) for pairs in (PAIRS, OTHER_PAIRS, LAST_PAIRS)}
    right = (gap[OTHER_PAIRS] + gap[LAST_PAIRS]) / 2 - gap[PAIRS]
    wrong = (gap[PAIRS] + gap[LAST_PAIRS]) / 2 - gap[OTHER_PAIRS]
    return {"between_minus_within_pairs": right.groupby("seed").mean(), "between_minus_within_other_pairs": wrong.groupby("seed").mean()}


def _gap(wide: pd.DataFrame, pairs: tuple[tuple[int, int], ...]) -> pd.Series:
    return pd.concat([(wide[a] - wide[b]).abs() for a, b in pairs], axis=1).mean(axis=1)


def _blocks(classes: pd.DataFrame) -> pd.DataFrame:
    return classes[classes["row"].str.endswith("_res")]


def draw(tables: Tables) -> Figure:
    """Left: the four classes, points are seeds; right: all ten, mean over seeds."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), sharey=True)
    if note_missing(tables, DYNAMICS, (left, right), "classes"):
        return figure
    classes = of_network(tables, "classes", "resnet")
    classes = classes[~classes["row"].isin(ENDS)]
    rows = rows_in_order(classes, "row")
    means = classes.groupby(["class", "row"])["correlation"].mean().unstack()[rows]
    for label, (name, colour) in NAMES.items():
        points = classes[classes["class"] == label]
        left.plot(points["row"].map(rows.index), points["correlation"], ".", ms=3, color=colour, alpha=0.6)
        left.plot(range(len(rows)), means.loc[label], "-", color=colour, lw=1.6, label=name)
    left.set_title("alike: cat and dog, automobile and truck", fontsize=9)
    for label in means.index:
        right.plot(range(len(rows)), means.loc[label], "-", lw=1.1, color=NAMES.get(label, ("", GREY))[1])
    right.set_title("all ten classes (grey: the other six)", fontsize=9)
    for axes in (left, right):
        _label(axes, rows)
    left.legend(fontsize=8)
    sns.despine(figure)
    return figure


def _label(axes: Axes, rows: list[str]) -> None:
    axes.set_xticks(range(len(rows)), rows, rotation=90, fontsize=7)
    axes.set(xlabel="layer of the ResNet, input to output", ylabel="correlation of logit with layer", ylim=(0, 1.03))
