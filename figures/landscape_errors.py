"""Landscape, Table 2 and the tables of test errors: published beside ours; flatness against test error; a net too deep to be trained."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import landscape_published
from figures.ranks import rank_correlation
from figures.residual_nets import WITH, WITHOUT, error_percent, title_of
from figures.style import HELPS, NEUTRAL, Quantities, Tables, note_missing, write_not_recorded
from figures.surfaces import NOSHORT, measure_of, network_value

MEASUREMENTS = ("depth_surfaces", "width_surfaces", "dense_surfaces", "vgg9_surfaces")
DEEP, SHALLOW = "resnet158_noshort", "resnet20"
LAST, PERMUTATIONS = 100, 200
IMAGES = 50_000  # of the published trainings
RECALLED = {"densenet": 4.37}  # per cent; no figure prints it (docs/papers/landscape.md)


def errors_by_run(tables: Tables, trained: bool = True) -> pd.DataFrame:
    """Test error in per cent, seeds in rows and runs in columns; a run that two measurements have appears once."""
    return _once([error_percent(tables, name, trained=trained) for name in MEASUREMENTS if name in tables])


def _once(parts: list[pd.DataFrame]) -> pd.DataFrame:
    whole = pd.concat(parts, axis=1)
    return whole.loc[:, ~whole.columns.duplicated()]


def _areas(tables: Tables) -> pd.DataFrame:
    return _once([measure_of(tables, name, "area_below_chance") for name in MEASUREMENTS if name in tables])


def quantities(tables: Tables) -> Quantities:
    """Per seed: every net's test error, its rank correlation with flatness, last accuracies of the deepest net and of 20 layers."""
    estimates: Quantities = {}
    if any(name in tables for name in MEASUREMENTS):
        errors = errors_by_run(tables)
        estimates |= {f"test_error_{run}": errors[run] for run in errors}
        estimates["test_error_untrained"] = errors_by_run(tables, trained=False).mean(axis=1)
        estimates |= _flatness(errors, _areas(tables))
    if DEEP in tables:
        last = int(tables[DEEP]["log"]["step"].max())
        estimates["accuracy_of_156"] = _last_accuracy(tables[DEEP]["log"], last)
        if SHALLOW in tables:
            estimates["accuracy_of_shallow"] = _last_accuracy(tables[SHALLOW]["log"], last)
    return estimates


def _flatness(errors: pd.DataFrame, areas: pd.DataFrame) -> Quantities:
    """Rank correlation over nets but VGG-9, and its mean over random orders of the errors."""
    runs = [run for run in errors if not str(run).startswith("vgg9")]
    true, permuted = {}, {}
    for seed in errors.index:
        area, error = (table.loc[[seed], runs].to_numpy()[0] for table in (areas, errors))
        generator = np.random.default_rng(int(str(seed)))
        true[seed] = rank_correlation(area, error)
        permuted[seed] = float(np.mean([rank_correlation(area, generator.permutation(error)) for _ in range(PERMUTATIONS)]))
    return {"flatness_error_correlation": pd.Series(true), "flatness_error_correlation_permuted": pd.Series(permuted)}


def _last_accuracy(log: pd.DataFrame, step: int) -> pd.Series:
    """Mean accuracy over the hundred mini-batches up to ``step`` or, if earlier, up to the last one."""
    step = min(step, int(log["step"].max()))
    return log[(log["step"] <= step) & (log["step"] > step - LAST)].groupby("seed")["accuracy"].mean()


def draw(tables: Tables) -> Figure:
    """Left: errors published and measured; right: area against error, points numbered as at the left, and two trainings."""
    figure = plt.figure(figsize=(10.5, 6.6))
    grid = figure.add_gridspec(2, 2, width_ratios=[1.25, 1], height_ratios=[1.5, 1])
    left, right, lower = figure.add_subplot(grid[:, 0]), figure.add_subplot(grid[0, 1]), figure.add_subplot(grid[1, 1])
    if any(name in tables for name in MEASUREMENTS):
        errors = errors_by_run(tables)
        _draw_errors(left, errors, _images(tables))
        _draw_flatness(right, errors, _areas(tables))
    else:
        write_not_recorded(left, "test errors")
        write_not_recorded(right, "flatness and test error")
    _draw_trainings(lower, tables)
    sns.despine(figure)
    return figure


def _images(tables: Tables) -> int:
    """On how many images most of the nets were trained."""
    name = next(name for name in MEASUREMENTS if name in tables)
    return int(network_value(tables, name, "examples").iloc[0].median())


def _colour(run: str) -> str:
    return NEUTRAL if run.startswith("vgg9") else WITHOUT if run.endswith(NOSHORT) else WITH


def _draw_errors(axes: Axes, errors: pd.DataFrame, images: int) -> None:
    published = landscape_published.error_percents()
    for row, run in enumerate(map(str, errors)):
        if run in published:
            landscape_published.mark(axes, published[run], row, named=False)
        if run in RECALLED:
            axes.plot(RECALLED[run], row, **landscape_published.RECALLED_MARK)
        axes.plot(errors[run], [row] * len(errors), "o", ms=4.5, color=_colour(run), mec="black", mew=0.4)
    axes.plot([], [], "o", ms=4.5, color="white", mec="black", mew=0.4, label="ours, each seed (colours as at the right)")
    axes.plot([], [], **landscape_published.MARK, label="published (printed on figures 2, 3, 5 and 6)")
    axes.plot([], [], **landscape_published.RECALLED_MARK, label="published (recalled, not checked)")
    axes.set_yticks(range(len(errors.columns)), [f"{title_of(run)}   {row + 1}" for row, run in enumerate(map(str, errors))], fontsize=7)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(3, 100)
    axes.set_xticks(ticks := [3, 5, 10, 20, 50, 100], [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.grid(axis="y", lw=0.3)
    axes.set_xlabel("test error (%)", fontsize=8)
    not_comparable = f"\nNot comparable: published after training on {IMAGES:,} images, ours on {images:,}" if images < IMAGES else ""
    axes.set_title(f"Test errors, published and measured{not_comparable}", fontsize=8.5)
    axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.25, -0.08), ncols=2, columnspacing=1)


def _draw_flatness(axes: Axes, errors: pd.DataFrame, areas: pd.DataFrame) -> None:
    for row, run in enumerate(map(str, errors)):
        x, y = areas[run].mean(), errors[run].mean()
        axes.plot(x, y, "o", ms=5, color=_colour(run))
        axes.annotate(str(row + 1), (x, y), xytext=(3.5, 3.5), textcoords="offset points", fontsize=7)
    correlation = _flatness(errors, areas)["flatness_error_correlation"]
    axes.set_xlabel("flatness: share of the square with a loss below ln 10", fontsize=8)
    axes.set_ylabel("test error (%)", fontsize=8)
    axes.margins(0.12)
    title = f"Means over seeds, numbered as at the left; rank correlation\n{correlation.mean():.2f} (mean over seeds; VGG-9 not counted)"
    axes.set_title(title, fontsize=8)
    for label, colour in (("with shortcuts", WITH), ("without shortcuts", WITHOUT), ("VGG-9", NEUTRAL)):
        axes.plot([], [], "o", ms=5, color=colour, label=label)
    axes.legend(fontsize=7, loc="best")


def _draw_trainings(axes: Axes, tables: Tables) -> None:
    if note_missing(tables, DEEP, axes, "the deepest net without shortcuts"):
        return
    last = int(tables[DEEP]["log"]["step"].max())
    for run, colour in ((DEEP, WITHOUT), (SHALLOW, HELPS)):
        if run not in tables:
            continue
        for number, (_, log) in enumerate(tables[run]["log"].query("step <= @last").groupby("seed")):
            smooth = log["accuracy"].rolling(max(1, last // 20), min_periods=1).mean()
            axes.plot(log["step"], smooth, color=colour, lw=1, label=title_of(run) if not number else None)
    axes.axhline(0.1, color="black", lw=0.6, ls=":", label="chance")
    axes.set_ylim(0, 1)
    axes.set_xlabel("step", fontsize=8)
    axes.set_ylabel("training accuracy", fontsize=8)
    axes.set_title(f"Mini-batches, mean over {max(1, last // 20)} steps; every seed", fontsize=8)
    axes.legend(fontsize=7, loc="upper left")
