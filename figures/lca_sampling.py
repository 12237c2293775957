"""Beyond the paper: layer sums from a random subset per step, against the exact allocation of the same runs."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from figures.style import LOSS, Quantities, Tables, not_recorded
from replication.statistics import LEVEL

EXACT, SAMPLED, FIXED = "mnist_fc_lca", "mnist_fc_lca_sampled", "mnist_fc_lca_fixed"


def by_layer(tables: Tables, measurement: str) -> pd.DataFrame:
    """Per seed, step and layer (kernel and bias together): the estimate with its standard error beside the exact sum."""
    keys = ["seed", "step", "layer"]
    exact = tables[EXACT]["layers"].groupby(keys, sort=False)["lca"].sum().rename("exact").reset_index()
    joined = tables[measurement]["layers"].rename(columns={"lca": "estimate"}).merge(exact, on=keys)
    joined["variance"] = joined["standard_error"] ** 2
    return joined


def quantities(tables: Tables) -> Quantities:
    """Per seed: error of the layer totals, bias and coverage over steps and layers, and the share of gradients that was computed."""
    if EXACT not in tables or SAMPLED not in tables:
        return {}
    rows = {seed: _of_seed(run) for seed, run in by_layer(tables, SAMPLED).groupby("seed")}
    table = pd.DataFrame.from_dict(rows, orient="index")
    found = {str(name): table[name] for name in table}
    if FIXED in tables:
        fixed = by_layer(tables, FIXED).groupby("seed")
        found["worst_layer_total_error_percent_fixed"] = pd.Series({seed: _worst_total(run) for seed, run in fixed})
    return found


def _of_seed(run: pd.DataFrame) -> dict[str, float]:
    totals = run.groupby("layer")[["estimate", "exact", "variance"]].sum()
    score = (totals["estimate"] - totals["exact"]) / totals["variance"] ** 0.5
    half = _half_width(run)
    missed = (run["estimate"] - run["exact"]).abs()
    shuffled = np.random.default_rng(0).permutation(half.to_numpy())
    return {
        "worst_layer_total_error_percent": _worst_total(run),
        "largest_total_z": score.abs().max(),
        "mean_z": float(((run["estimate"] - run["exact"]) / run["standard_error"]).median()),
        "coverage_percent": 100 * float((missed <= half).mean()),
        "coverage_percent_shuffled": 100 * float((missed.to_numpy() <= shuffled).mean()),
    }


def _half_width(run: pd.DataFrame) -> pd.Series:
    """Half the 90 % interval of one step's estimate: Student's t, since the standard error comes from a few groups."""
    return stats.t.ppf((1 + LEVEL) / 2, run["groups"] - 1) * run["standard_error"]


def _worst_total(run: pd.DataFrame) -> float:
    """Largest relative error of a layer's total over the run, in per cent."""
    totals = run.groupby("layer")[["estimate", "exact"]].sum()
    return float((100 * (totals["estimate"] - totals["exact"]).abs() / totals["exact"].abs()).max())


def draw(tables: Tables) -> Figure:
    """Left: cumulative sums per layer, exact and sampled with its interval; right: how often intervals cover the exact value."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.4))
    if EXACT not in tables or SAMPLED not in tables:
        not_recorded(left, "sampled LCA")
        not_recorded(right, "sampled LCA")
        return figure
    joined = by_layer(tables, SAMPLED)
    _draw_cumulative(left, joined[joined["seed"] == joined["seed"].min()])
    _draw_coverage(right, joined)
    sns.despine(figure)
    return figure


def _draw_cumulative(axes: Axes, run: pd.DataFrame) -> None:
    z = stats.norm.ppf((1 + LEVEL) / 2)
    for colour, (layer, part) in zip(sns.color_palette("deep"), run.groupby("layer", sort=False), strict=False):
        sums = part[["estimate", "exact", "variance"]].cumsum()
        axes.plot(part["step"], sums["exact"], color=colour, lw=2.5, alpha=0.4)
        axes.plot(part["step"], sums["estimate"], color=colour, lw=1, label=str(layer))
        half = z * sums["variance"] ** 0.5
        axes.fill_between(part["step"], sums["estimate"] - half, sums["estimate"] + half, color=colour, alpha=0.2, lw=0)
    axes.set(xlabel="iteration", ylabel="LCA summed up to the iteration (loss units)")
    axes.set_title(f"exact (wide) and sampled (thin), seed {run['seed'].iloc[0]}")
    axes.legend(fontsize=7, title="layer", title_fontsize=7)


def _draw_coverage(axes: Axes, joined: pd.DataFrame) -> None:
    levels = np.linspace(0.05, 0.99, 40)
    score = ((joined["estimate"] - joined["exact"]).abs() / joined["standard_error"]).to_numpy()
    freedom = joined["groups"].to_numpy() - 1
    covered = [100 * float(np.mean(score <= stats.t.ppf((1 + level) / 2, freedom))) for level in levels]
    axes.plot([0, 100], [0, 100], ls="--", color="#999999", lw=1, label="as promised")
    axes.plot(100 * levels, covered, color=LOSS, lw=1.6, label="measured, all seeds, steps and layers")
    axes.set(xlabel="nominal level of the interval (%)", ylabel="intervals that hold the exact value (%)", xlim=(0, 100), ylim=(0, 100))
    axes.set_title("coverage of the steps' intervals")
    axes.legend(fontsize=7, loc="upper left")
