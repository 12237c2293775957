"""LCA supplement: allocated against true loss change, for first order, trapezoid and Simpson's rule."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.lca_networks import RowTables, quantities_of, rows_of
from figures.style import LOSS, ORANGE, PURPLE, TEAL, Quantities, Tables, legend_clear_of_data

THRESHOLD = 1e-3  # loss units per iteration: the official code's criterion
RULES = {"first_order": ("first order", ORANGE), "trapezoid": ("trapezoid", PURPLE), "lca": ("Simpson", TEAL)}


def quantities(tables: Tables) -> Quantities:
    """Per network and seed: relative errors of the sum over the run, worst step, share of steps within the threshold, and controls."""
    return quantities_of(tables, _of_network)


def _of_network(tables: RowTables) -> Quantities:
    rows = {seed: _of_seed(run) for seed, run in tables["steps"].groupby("seed")}
    table = pd.DataFrame.from_dict(rows, orient="index")
    return {str(name): table[name] for name in table}


def _of_seed(run: pd.DataFrame) -> dict[str, float]:
    change = run["loss_end"] - run["loss_start"]
    errors = {rule: change - run[rule] for rule in (*RULES, "lca_shuffled", "first_order_shuffled")}
    relative = {rule: 100 * abs(error.sum()) / abs(change.sum()) for rule, error in errors.items()}
    within = {rule: 100 * (error.abs() <= THRESHOLD).mean() for rule, error in errors.items()}
    spread = {rule: error.abs().sum() for rule, error in errors.items()}
    return {
        "relative_error_percent": relative["lca"],
        "relative_error_percent_trapezoid": relative["trapezoid"],
        "relative_error_percent_first_order": relative["first_order"],
        "relative_error_percent_shuffled": relative["lca_shuffled"],
        "steps_within_threshold_percent": within["lca"],
        "steps_within_threshold_percent_shuffled": within["lca_shuffled"],
        "first_order_error_ratio": spread["first_order"] / spread["lca"],
        "first_order_error_ratio_shuffled": spread["first_order_shuffled"] / spread["lca_shuffled"],
        "worst_step_error": errors["lca"].abs().max(),
        "mean_intervals": run["intervals"].mean(),
    }


def draw(tables: Tables) -> Figure:
    """A row per network. Left: the loss rebuilt from each rule's allocations; right: the absolute error of every step."""
    return rows_of(tables, _draw_network)


def _draw_network(panels: list[Axes], tables: RowTables) -> None:
    steps, (left, right) = tables["steps"], panels
    run = steps[steps["seed"] == steps["seed"].min()]
    change = run["loss_end"] - run["loss_start"]
    left.plot(run["step"] + 1, run["loss_end"], color=LOSS, lw=3, alpha=0.35, label="true training loss")
    for rule, (label, colour) in RULES.items():
        rebuilt = run["loss_start"].iloc[0] + run[rule].cumsum()
        left.plot(run["step"] + 1, rebuilt, color=colour, lw=1.2, ls="--" if rule == "lca" else "-", label=label)
        right.plot(run["step"] + 1, np.maximum((change - run[rule]).abs(), 1e-12), ".", ms=2, color=colour, label=label)
    left.set(xlabel="iteration", ylabel="loss at the start + sum of allocations")
    left.set_title(f"rebuilt loss, seed {run['seed'].iloc[0]}")
    left.legend(fontsize=7)
    right.axhline(THRESHOLD, color="black", ls="--", lw=0.8, label="threshold 0.001")
    right.set(xlabel="iteration", ylabel="absolute error of the step (loss units)", yscale="log")
    right.set_title("error of each step")
    legend_clear_of_data(right, 0.3, above=False, markerscale=3)
    for axes in panels:
        sns.despine(ax=axes)
