"""LCA Figure 8: class by class, the iterations in which all layers have a peak of learning, against what chance gives."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, Quantities, Tables, note_missing, requires
from replication.lca import peaks

MEASUREMENT = "mnist_fc_lca"
PEAKS = 20  # the deepest of each layer and class
DRAWS = 2000
REACH = 20  # iterations that near shifts go at most; momentum 0.9 remembers ten
LAYERS, ALL = (BLUE, ORANGE, GREEN, PURPLE), RED
NULLS = {
    "shifted": "A: each layer shifted in time",
    "near": f"A, at most {REACH} iterations",
    "classes": "B: layers of different classes",
    "shuffled": "C: shuffled in time",
}


def marks_of(run: pd.DataFrame) -> np.ndarray:
    """Peaks of one seed, Boolean ``[n_layers, n_classes, n_steps]``, layers in the network's order."""
    layers = run["layer"].unique()
    series = [run[run["layer"] == layer].pivot(index="class", columns="step", values="lca").to_numpy() for layer in layers]
    return peaks.peaks(np.stack(series), PEAKS)


def nulls_of(marks: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Coincidences under each null, by its name."""
    random = np.random.default_rng(seed)
    return {
        "shifted": peaks.shifted(marks, DRAWS, random),
        "near": peaks.shifted(marks, DRAWS, random, reach=min(REACH, marks.shape[2] - 1)),
        "classes": peaks.of_other_classes(marks, DRAWS, random),
        "shuffled": peaks.shuffled(marks, DRAWS, random),
    }


@requires(MEASUREMENT, table="classes")
def quantities(tables: Tables) -> Quantities:
    """Per seed: the count, and its ratio to each null with the p value.

    The controls are what the same numbers are on average once all layers but the first were shifted again, far or near; and the
    count with each layer taken from another seed, where no step is shared and only the course of training is.
    """
    classes = tables[MEASUREMENT]["classes"]
    runs = {seed: classes[classes["seed"] == seed] for seed in classes["seed"].unique().tolist()}
    marks = {seed: marks_of(run) for seed, run in runs.items()}
    rows = {seed: _of_seed(each, seed) | {"non_finite": float((~np.isfinite(runs[seed]["lca"])).sum())} for seed, each in marks.items()}
    if len(marks) >= classes["layer"].nunique():  # so that no two layers share a seed
        for number, seed in enumerate(marks):
            others = [list(marks.values())[(number + layer) % len(marks)][layer] for layer in range(len(marks[seed]))]
            rows[seed]["synchrony_count_other_seeds"] = peaks.coincidences(np.stack(others))
    table = pd.DataFrame.from_dict(rows, orient="index")
    return {str(name): table[name] for name in table}


def _of_seed(marks: np.ndarray, seed: int) -> dict[str, float]:
    observed = peaks.coincidences(marks)
    estimates: dict[str, float] = {"synchrony_count": observed}
    nulls = nulls_of(marks, seed)
    for name, null in nulls.items():
        estimates |= {f"synchrony_ratio_{name}": peaks.ratio(observed, null), f"synchrony_p_{name}": peaks.p_value(observed, null)}
    again = nulls_of(marks, seed + 1_000_000)
    for name in ("shifted", "near"):
        estimates[f"synchrony_ratio_{name}_control"] = peaks.ratio(again[name].mean(), nulls[name])
        estimates[f"synchrony_p_{name}_control"] = float(np.mean([peaks.p_value(count, nulls[name]) for count in again[name]]))
    return estimates


def draw(tables: Tables) -> Figure:
    """Left: rows of classes, a dot for each layer's peak, red where all layers peak. Right: the nulls beside what was observed."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), width_ratios=(2.6, 1))
    if note_missing(tables, MEASUREMENT, (left, right), "LCA by class", table="classes"):
        return figure
    classes = tables[MEASUREMENT]["classes"]
    seed = int(classes["seed"].min())
    run = classes[classes["seed"] == seed]
    marks = marks_of(run)
    _draw_peaks(left, marks, list(run["layer"].unique()))
    left.set_title(f"the {PEAKS} deepest peaks of each layer and class, seed {seed}")
    _draw_nulls(right, nulls_of(marks, seed), peaks.coincidences(marks))
    sns.despine(figure)
    return figure


def _draw_peaks(axes: Axes, marks: np.ndarray, layers: list[str]) -> None:
    n_layers, n_classes, n_steps = marks.shape
    together = marks.all(axis=0)
    for number, layer in enumerate(layers):
        for chosen, colour, size, label in ((~together, LAYERS[number % len(LAYERS)], 7, layer), (together, ALL, 13, "all layers")):
            row, step = np.nonzero(marks[number] & chosen)
            place = row + 0.22 * (n_layers - 1) / 2 - 0.22 * number  # the first layer lowest
            axes.scatter(step + 1, place, s=size, color=colour, lw=0, label=label, zorder=3 if chosen is together else 2)
    axes.set_yticks(range(n_classes))
    axes.set(xlabel="iteration", ylabel="class; in each row the layers, input lowest", xscale="log", xlim=(1, 1.05 * n_steps))
    axes.set_ylim(n_classes + 0.2, -0.6)  # room for the legend
    labelled = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    names = [*layers, "all layers"]
    axes.legend([labelled[name] for name in names], names, fontsize=7, ncols=len(names), loc="lower left", frameon=True)


def _draw_nulls(axes: Axes, nulls: dict[str, np.ndarray], observed: int) -> None:
    """The distribution of each null as a row of bars, drawn to equal height; the observed count as a line."""
    for number, (name, null) in enumerate(nulls.items()):
        values, counts = np.unique(null, return_counts=True)
        axes.bar(values, 0.55 * counts / counts.max(), bottom=-number, width=0.8, color=GREY, lw=0)
        words = f"{NULLS[name]}:\nmean {null.mean():.2g}, ratio {peaks.ratio(observed, null):.3g}, p {_p(observed, null)}"
        axes.text(0, 0.6 - number, words, fontsize=7, va="bottom")
    axes.axvline(observed, color=ALL, lw=1.6)
    axes.set_yticks([])
    axes.set(xlabel="(class, iteration) pairs in which all layers peak", ylabel=f"nulls, {DRAWS:,} draws each", xlim=(-0.6, None))
    axes.set_ylim(-len(nulls) + 0.9, 1.1)
    axes.set_title(f"observed (red): {observed}; by chance:")
    note = (
        "Part of the synchrony is arithmetic: all layers share each step, its\nmini-batch and one error signal. "
        "Shifts of any length also break up\nthat most peaks come early; near shifts do not."
    )
    axes.annotate(note, (0.5, -0.14), xycoords="axes fraction", ha="center", va="top", fontsize=7)


def _p(observed: int, null: np.ndarray) -> str:
    p = peaks.p_value(observed, null)
    return f"< {2 / len(null):.2g}" if p < 2 / len(null) else f"{p:.2g}"
