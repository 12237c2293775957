"""LCA Figure 1: two parameters, exact allocation along a path; and a lag that makes one of two coupled parameters hurt."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.style import GREY, HELPS, HURTS, LOSS, ORANGE, Quantities, Tables, legend_clear_of_data, note_missing, requires

MEASUREMENT = "lca_toy"
FIRST, SECOND = LOSS, ORANGE


@requires(MEASUREMENT)
def quantities(tables: Tables) -> Quantities:
    """Per seed: what the sum misses and what the idle parameter gets, each with gradients shuffled too; totals of the oscillation."""
    estimates = tables[MEASUREMENT]
    rows: dict[int, dict[str, float]] = {}
    for seed in estimates["idle"]["seed"].unique().tolist():
        run = estimates["idle"].query("seed == @seed")
        change = run["loss_end"].iloc[-1] - run["loss_start"].iloc[0]
        rows[seed] = {"idle_path_length": _path_length(estimates["path"].query("seed == @seed"))}
        for ending in ("", "_shuffled"):
            both = run[f"lca{ending}_theta_1"] + run[f"lca{ending}_theta_2"]
            rows[seed][f"toy_sum_error_percent{ending}"] = 100 * abs(both.sum() / change - 1)
            rows[seed][f"idle_allocation_percent{ending}"] = 100 * run[f"lca{ending}_theta_2"].abs().sum() / abs(change)
        rows[seed] |= _of_oscillation(estimates["oscillation"].query("seed == @seed"))
    table = pd.DataFrame.from_dict(rows, orient="index")
    return {str(name): table[name] for name in table}


def _path_length(path: pd.DataFrame) -> float:
    return float(path["theta_2"].diff().abs().sum())


def _of_oscillation(run: pd.DataFrame) -> dict[str, float]:
    totals = totals_of(run).sort_values("delay")
    coupled, separate = totals[totals["coupling"] != 0], totals[totals["coupling"] == 0]
    return {
        "lagging_total": float(coupled["lca_theta_2"].iloc[-1]),
        "leading_total": float(coupled["lca_theta_1"].iloc[-1]),
        "lagging_total_uncoupled": float(separate["lca_theta_2"].iloc[-1]),
        "total_with_least_momentum": float(coupled["lca_theta_2"].iloc[0]),
    }


def totals_of(oscillation: pd.DataFrame) -> pd.DataFrame:
    """Sums over the run for each seed, coupling and delay."""
    keys = ["seed", "coupling", "delay", "momentum"]
    return oscillation.groupby(keys)[["lca_theta_1", "lca_theta_2"]].sum().reset_index()


def draw(tables: Tables) -> Figure:
    """Above: the path on the loss and each parameter's cumulative allocation. Below: the same for the oscillation, and against momentum."""
    figure, axes = plt.subplots(2, 2, figsize=(9, 7))
    if note_missing(tables, MEASUREMENT, axes.flat, "the two-parameter losses"):
        return figure
    first_seed = {name: table[table["seed"] == table["seed"].min()] for name, table in tables[MEASUREMENT].items()}
    _draw_surface(axes[0, 0], first_seed["path"], first_seed["idle"])
    _draw_cumulative(axes[0, 1], first_seed["idle"])
    axes[0, 1].set_title("the idle parameter gets exactly nothing")
    coupled = first_seed["oscillation"].query("coupling != 0")
    longest = coupled[coupled["delay"] == coupled["delay"].max()]
    _draw_cumulative(axes[1, 0], longest)
    momentum = longest["momentum"].iloc[0]
    axes[1, 0].set_title(f"coupled and oscillating: $\\theta_2$ lags (momentum {momentum:.2f}) and hurts")
    _draw_against_momentum(axes[1, 1], first_seed["oscillation"])
    sns.despine(figure)
    return figure


def _draw_surface(axes: Axes, path: pd.DataFrame, steps: pd.DataFrame) -> None:
    x, y = path["theta_1"].to_numpy(), path["theta_2"].to_numpy()
    reach = max(1.0, np.abs(y).max() * 1.25)
    grid = np.linspace(min(x) - 0.3, max(x.max(), -x.min()) + 0.3, 200)
    loss = np.broadcast_to(grid**2 / 2, (2, len(grid)))
    shades = axes.contourf(grid, [-reach, reach], loss, levels=15, cmap="Greys", alpha=0.7)
    axes.figure.colorbar(shades, ax=axes, label="loss", shrink=0.8)
    change = steps["lca_theta_1"].to_numpy()
    axes.plot(x, y, color="black", lw=0.8)
    axes.scatter(x[:-1], y[:-1], c=[HELPS if value < 0 else HURTS for value in change], s=16, zorder=3, lw=0)
    axes.plot(x[0], y[0], "o", mfc="white", mec="black", ms=6, label="start")
    axes.plot(x[-1], y[-1], "s", mfc="white", mec="black", ms=6, label="end")
    axes.set(xlabel=r"$\theta_1$ (gets all the credit)", ylabel=r"$\theta_2$ (moves, changes no loss)")
    axes.set_title(f"one example a step, seed {path['seed'].iloc[0]}; dots: $\\theta_1$ helps (green), hurts (red)", fontsize=8)
    axes.legend(fontsize=7, loc="upper right", frameon=True)


def _draw_cumulative(axes: Axes, steps: pd.DataFrame) -> None:
    for parameter, colour in (("theta_1", FIRST), ("theta_2", SECOND)):
        axes.plot(steps["step"] + 1, steps[f"lca_{parameter}"].cumsum(), color=colour, lw=1.4, label=f"$\\{parameter}$")
    axes.plot(steps["step"] + 1, steps["loss_end"] - steps["loss_start"].iloc[0], color="black", lw=1, ls="--", label="loss change")
    axes.axhline(0, color="black", lw=0.6)
    axes.set(xlabel="iteration", ylabel="LCA summed up to the iteration\n(loss units; negative helps)")
    axes.legend(fontsize=7)


def _draw_against_momentum(axes: Axes, oscillation: pd.DataFrame) -> None:
    totals = totals_of(oscillation)
    coupled, separate = totals[totals["coupling"] != 0], totals[totals["coupling"] == 0]
    for parameter, colour in (("theta_1", FIRST), ("theta_2", SECOND)):
        axes.plot(coupled["momentum"], coupled[f"lca_{parameter}"], "o-", color=colour, ms=4, label=f"$\\{parameter}$")
        label = f"$\\{parameter}$ without coupling"
        axes.plot(separate["momentum"], separate[f"lca_{parameter}"], "x" if parameter == "theta_1" else "+", color=colour, label=label)
    axes.plot(coupled["momentum"], coupled["lca_theta_1"] + coupled["lca_theta_2"], color="black", lw=1, ls="--", label="loss change")
    axes.axhline(0, color="black", lw=0.6)
    axes.axvline(0.5, color=GREY, lw=0.8, ls=":")
    axes.set(xlabel=r"momentum of $\theta_2$ ($\theta_1$: 0.5, dotted)", ylabel="LCA summed over the run (loss units)")
    axes.set_title("an illustration of a hypothesis, no proof")
    legend_clear_of_data(axes, 0.25, ncols=2)
