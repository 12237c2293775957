"""SVCCA's figure 5: test accuracy with and without freezing layers bottom-up, and what it saves."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.layer_maps import RUN_TITLES
from figures.style import BLUE, GREEN, GREY, Quantities, Tables, note_missing

COST = "freeze_cost"
AT_START = "convnet_frozen_at_start"
BASE, FROZEN = BLUE, GREEN


def quantities(tables: Tables) -> Quantities:
    """Paired by seed: final test accuracy with freezing minus without; compute saved (one seed: it is the same for all)."""
    final = {run: _final(tables, run) for run in (*RUN_TITLES, *(f"{run}_frozen" for run in RUN_TITLES), AT_START) if run in tables}
    estimates: Quantities = {}
    for run in RUN_TITLES:
        if run in final and f"{run}_frozen" in final:
            estimates[f"{run}_freeze_minus_base"] = (final[f"{run}_frozen"] - final[run]).dropna()
    if AT_START in final and "convnet" in final:
        estimates[f"{AT_START}_minus_base"] = (final[AT_START] - final["convnet"]).dropna()
    if COST in tables:
        for run in RUN_TITLES:
            base, frozen = (_total(tables[COST]["cost"], name) for name in (run, f"{run}_frozen"))
            estimates[f"{run}_backward_saved_percent"] = 100 * (1 - frozen["backward"] / base["backward"])
            estimates[f"{run}_compute_saved_percent"] = 100 * (1 - frozen.sum(axis=1) / base.sum(axis=1))
    return estimates


def _final(tables: Tables, run: str) -> pd.Series:
    rows = _test(tables, run)
    return rows[rows["step"] == rows["step"].max()].set_index("seed")["accuracy"]


def _test(tables: Tables, run: str) -> pd.DataFrame:
    evaluation = tables[run]["evaluation"]
    return evaluation[evaluation["split"] == "test"]


def _total(cost: pd.DataFrame, run: str) -> pd.DataFrame:
    """Multiply-accumulates per example over the whole training, per seed."""
    rows = cost[cost["run"] == run]
    return rows[["forward", "backward"]].mul(rows["steps"], axis=0).groupby(rows["seed"]).sum()


def draw(tables: Tables) -> Figure:
    """A panel per network: test accuracy over training, mean and standard error over seeds; right: compute."""
    figure, panels = plt.subplots(1, 3, figsize=(12.5, 3.7), width_ratios=[1.3, 1.3, 1])
    for axes, (run, title) in zip(panels[:2], RUN_TITLES.items(), strict=True):
        if not note_missing(tables, (run, f"{run}_frozen"), axes, title):
            _draw_accuracy(axes, tables, run, title)
    if not note_missing(tables, COST, panels[2], "compute"):
        _draw_cost(panels[2], tables[COST]["cost"])
    sns.despine(figure)
    return figure


def _draw_accuracy(axes: Axes, tables: Tables, run: str, title: str) -> None:
    lines = [(run, "all layers trained", BASE, "-"), (f"{run}_frozen", "frozen bottom-up", FROZEN, "-")]
    lines += [(AT_START, "control: all but the last frozen at the start", GREY, ":")] if run == "convnet" else []
    for name, label, colour, style in lines:
        if name in tables:
            by_step = _test(tables, name).groupby("step")["accuracy"]
            mean, error = by_step.mean(), by_step.sem().fillna(0)
            axes.plot(mean.index, mean, style, marker=".", ms=4, color=colour, lw=1.4, label=f"{label} ({by_step.size().iloc[0]} seeds)")
            axes.fill_between(mean.index, mean - error, mean + error, color=colour, alpha=0.2, lw=0)
    axes.set(xlabel="iteration", ylabel="test accuracy (band: standard error)")
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=7, loc="lower right" if run == "resnet" else "center right")


def _draw_cost(axes: Axes, cost: pd.DataFrame) -> None:
    for place, run in enumerate(RUN_TITLES):
        whole = _total(cost, run).sum(axis=1).mean()
        for shift, name, colour in ((-0.2, run, BASE), (0.2, f"{run}_frozen", FROZEN)):
            total = _total(cost, name).mean() / whole
            axes.bar(place + shift, total["forward"], width=0.36, color=colour, alpha=0.45, edgecolor="black", lw=0.4)
            axes.bar(place + shift, total["backward"], bottom=total["forward"], width=0.36, color=colour, edgecolor="black", lw=0.4)
    axes.set_xticks(range(len(RUN_TITLES)), list(RUN_TITLES.values()))
    axes.set(xlabel="network (light: forward, dark: backward)", ylabel="multiply-accumulates (relative)")
