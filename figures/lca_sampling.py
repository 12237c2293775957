"""Beyond the paper: layer sums from a random subset per step, against the exact allocation of the same runs."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from figures.style import GREY, LIGHT_GREY, LOSS, Quantities, Tables, note_missing, requires
from replication.claims.statistics import LEVEL

EXACT, FRESH, FIXED, MINIBATCH = (f"mnist_fc_lca{tail}" for tail in ("", "_fresh", "_fixed", "_minibatch"))
NAMES = {FRESH: "fresh subset in every step", FIXED: "one fixed subset", MINIBATCH: "the step's own mini-batch"}


def by_layer(tables: Tables, measurement: str) -> pd.DataFrame:
    """Per seed, step and layer (kernel and bias together): the estimate with its standard error beside the exact sum."""
    keys = ["seed", "step", "layer"]
    exact = tables[EXACT]["layers"].groupby(keys, sort=False)["lca"].sum().rename("exact").reset_index()
    return tables[measurement]["layers"].rename(columns={"lca": "estimate"}).merge(exact, on=keys)


def totals(tables: Tables, measurement: str) -> pd.DataFrame:
    """Per seed and layer: the total over the run with its standard error, the exact total and the error in per cent."""
    exact = tables[EXACT]["layers"].groupby(["seed", "layer"], sort=False)["lca"].sum().rename("exact").reset_index()
    estimates = tables[measurement]["totals"].query("kind == 'layer'").rename(columns={"lca": "estimate", "name": "layer"})
    joined = estimates.merge(exact, on=["seed", "layer"])
    return joined.assign(error_percent=100 * (joined["estimate"] / joined["exact"] - 1))


@requires(EXACT)
def quantities(tables: Tables) -> Quantities:
    """Per seed: error of the layer totals, bias and coverage over steps and layers, and the share of gradients that was computed."""
    estimates: Quantities = {}
    for measurement in (name for name in NAMES if name in tables):
        ending = "" if measurement == FRESH else measurement.removeprefix(EXACT)
        compared = totals(tables, measurement)
        estimates[f"worst_layer_total_error_percent{ending}"] = compared.groupby("seed")["error_percent"].agg(
            lambda error: error.abs().max()
        )
        score = (compared["estimate"] - compared["exact"]) / compared["standard_error"]
        estimates[f"largest_total_z{ending}"] = score.abs().groupby(compared["seed"]).max()
        points = 2 if measurement == FIXED else 3  # gradients in a step, of which the exact measurement needs 2
        estimates[f"gradients_percent{ending}"] = 100 * points / 2 * compared.groupby("seed")["share"].first()
    if FRESH in tables:
        rows = {seed: _of_steps(run) for seed, run in by_layer(tables, FRESH).groupby("seed")}
        table = pd.DataFrame.from_dict(rows, orient="index")
        estimates |= {str(name): table[name] for name in table}
    return estimates


def _of_steps(run: pd.DataFrame) -> dict[str, float]:
    half = _half_width(run)
    missed = (run["estimate"] - run["exact"]).abs()
    shuffled = np.random.default_rng(0).permutation(half.to_numpy())
    return {
        "median_step_z": float(((run["estimate"] - run["exact"]) / run["standard_error"]).median()),
        "coverage_percent": 100 * float((missed <= half).mean()),
        "coverage_percent_shuffled": 100 * float((missed.to_numpy() <= shuffled).mean()),
    }


def _half_width(run: pd.DataFrame) -> pd.Series:
    """Half the 90 % interval of one step's estimate: Student's t, since the standard error comes from a few groups."""
    return stats.t.ppf((1 + LEVEL) / 2, run["groups"] - 1) * run["standard_error"]


def draw(tables: Tables) -> Figure:
    """Cumulative sums per layer, exact and sampled; the totals' errors in per cent; how often the steps' intervals cover."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.6))
    if note_missing(tables, (EXACT, FRESH), (left, middle, right), "sampled LCA"):
        return figure
    joined = by_layer(tables, FRESH)
    _draw_cumulative(left, joined[joined["seed"] == joined["seed"].min()])
    _draw_totals(middle, tables)
    _draw_coverage(right, joined)
    sns.despine(figure)
    return figure


def _draw_cumulative(axes: Axes, run: pd.DataFrame) -> None:
    z = stats.norm.ppf((1 + LEVEL) / 2)
    run = run.assign(variance=run["standard_error"] ** 2)
    for colour, (layer, part) in zip(sns.color_palette("deep"), run.groupby("layer", sort=False), strict=False):
        sums = part[["estimate", "exact", "variance"]].cumsum()
        axes.plot(part["step"], sums["exact"], color=colour, lw=2.5, alpha=0.4)
        axes.plot(part["step"], sums["estimate"], color=colour, lw=1, label=str(layer))
        half = z * sums["variance"] ** 0.5
        axes.fill_between(part["step"], sums["estimate"] - half, sums["estimate"] + half, color=colour, alpha=0.2, lw=0)
    axes.set(xlabel="iteration", ylabel="LCA summed up to the iteration (loss units)")
    axes.set_title(f"exact (wide) and fresh subsets (thin), seed {run['seed'].iloc[0]}")
    axes.legend(fontsize=7, title="layer", title_fontsize=7)


def _draw_totals(axes: Axes, tables: Tables) -> None:
    """A point per seed and layer, with its 90 % interval."""
    layers = list(dict.fromkeys(tables[EXACT]["layers"]["layer"]))
    measurements = [name for name in NAMES if name in tables]
    for number, (measurement, colour) in enumerate(zip(measurements, sns.color_palette("deep"), strict=False)):
        compared = totals(tables, measurement)
        place = compared["layer"].map(layers.index) + 0.25 * (number - 1) + 0.05 * (compared["seed"].rank(method="dense") - 2)
        half = 100 * _half_width(compared) / compared["exact"].abs()
        label = f"{NAMES[measurement]}, {100 * compared['share'].iloc[0]:.3g} %"
        axes.errorbar(place, compared["error_percent"], half, fmt="o", ms=3, lw=0.8, color=colour, label=label)
    axes.axhspan(-2, 2, color=LIGHT_GREY, alpha=0.5, lw=0, zorder=0)
    axes.set_xticks(range(len(layers)), layers)
    axes.set_yscale("symlog", linthresh=10)
    axes.set(xlabel="layer", ylabel="error of the layer's total (%)")
    axes.set_title("totals over the run, 90 % intervals; grey: within 2 %")
    axes.legend(fontsize=7)


def _draw_coverage(axes: Axes, joined: pd.DataFrame) -> None:
    levels = np.linspace(0.05, 0.99, 40)
    score = ((joined["estimate"] - joined["exact"]).abs() / joined["standard_error"]).to_numpy()
    freedom = joined["groups"].to_numpy() - 1
    covered = [100 * float(np.mean(score <= stats.t.ppf((1 + level) / 2, freedom))) for level in levels]
    axes.plot([0, 100], [0, 100], ls="--", color=GREY, lw=1, label="nominal")
    axes.plot(100 * levels, covered, color=LOSS, lw=1.6, label="measured, all seeds, steps and layers")
    axes.set(xlabel="nominal level of the interval (%)", ylabel="intervals that hold the exact value (%)", xlim=(0, 100), ylim=(0, 100))
    axes.set_title("coverage of the steps' intervals")
    axes.legend(fontsize=7, loc="upper left")
