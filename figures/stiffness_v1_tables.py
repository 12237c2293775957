"""Version 1 of the stiffness paper: its published numbers, and what its figures read from our tables alike."""

import functools
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from figures.stiffness_tables import draw_matrix
from figures.style import Quantities, Tables, write_not_recorded

PUBLISHED = Path(__file__).parent / "published" / "stiffness_v1.json"
PRECISIONS = {"float32": "ours, float32", "float64": "ours, float64", "exact": "ours, exact"}
DRAWN = ("float32", "exact")
RATES = ("v1_rates_pairs", "v1_low_rates_pairs")
CELLS = ("within", "between", "between_sd")
NOTE = "Titles: mean of the diagonal | mean (standard deviation) of the cells off it. Ours: validation pairs, lowest seed."


@functools.cache
def published() -> dict[str, Any]:
    """Every published number by figure."""
    numbers: dict[str, Any] = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    return numbers


def summary(tables: Tables, measurement: str, run: str, *, precision: str = "float32", kind: str = "sign") -> pd.DataFrame:
    """Stiffness within and between classes of a run at its given steps, with the controls, indexed by seed and step."""
    table = tables[measurement]["summary"]
    chosen = (table["run"] == run) & (table["precision"] == precision) & (table["kind"] == kind) & table["target"].isna()
    return table[chosen].set_index(["seed", "step"]).sort_index()


def rates_table(tables: Tables, name: str) -> pd.DataFrame:
    """A table of the runs at all learning rates that were measured; empty where none was."""
    return pd.concat([tables[measurement][name] for measurement in RATES if name in tables.get(measurement, {})] or [pd.DataFrame()])


def ours_at_rates(tables: Tables, name: str) -> str:
    """What the title of our panel says: which of the published rates are not recorded yet."""
    return name if all(measurement in tables for measurement in RATES) else f"{name} (1e-6 and 3e-6 not recorded yet)"


def matrix_steps(tables: Tables, measurement: str, run: str) -> list[int]:
    """The steps whose class matrices were kept, in order: one for each published panel that was reached."""
    table = tables[measurement]["classes"]
    return sorted(int(step) for step in table.loc[table["run"] == run, "step"].unique())


def class_matrix(tables: Tables, measurement: str, run: str, seed: int, step: int, precision: str) -> np.ndarray:
    """Class 2 downwards and class 1 to the right, as published."""
    table = tables[measurement]["classes"]
    chosen = table[(table["run"] == run) & (table["seed"] == seed) & (table["step"] == step)]
    return chosen.pivot(index="class_2", columns="class_1", values=precision).to_numpy()


def of_moments(tables: Tables, measurement: str, run: str) -> Quantities:
    """Diagonal, mean and spread off it at the moments of the published panels, numbered from 0, with controls.

    ``within_1_permuted``: labels given to other examples; ``between_1_flipped``: gradients turned up or down by chance;
    ``rise_1``: how far the mean between classes has risen since the panel before; ``_float64`` and ``_exact`` are
    the same in these precisions.
    """
    estimates: Quantities = {}
    rows = {precision: summary(tables, measurement, run, precision=precision) for precision in PRECISIONS}
    for number, step in enumerate(matrix_steps(tables, measurement, run)):
        for precision, table in rows.items():
            tail = "" if precision == "float32" else f"_{precision}"
            at_step = table.xs(step, level="step")
            for name in CELLS:
                estimates[f"{name}_{number}{tail}"] = at_step[name]
        at_step = rows["float32"].xs(step, level="step")
        estimates[f"within_{number}_permuted"] = at_step["within_permuted"]
        for name in ("between", "between_sd"):
            estimates[f"{name}_{number}_flipped"] = at_step[f"{name}_flipped"]
        if number:
            for tail in ("", "_flipped"):
                estimates[f"rise_{number}{tail}"] = estimates[f"between_{number}{tail}"] - estimates[f"between_{number - 1}{tail}"]
    return estimates


def draw_panels(tables: Tables, measurement: str, run: str, figure_name: str, moments: dict[str, str], network: str) -> Figure:
    """Published class matrices above ours in float32 and exact; columns: moments of training by images seen."""
    figure, grid = plt.subplots(3, len(moments), figsize=(2.3 * len(moments) + 0.8, 7.6), sharex=True, sharey=True, squeeze=False)
    for axes, (images, when) in zip(grid[0], moments.items(), strict=True):
        image = draw_matrix(axes, np.array(published()[figure_name][images]), "")
        axes.set_title(_title("published", when, np.array(published()[figure_name][images])), fontsize=7.5)
    steps = matrix_steps(tables, measurement, run) if measurement in tables else []
    for row, precision in zip(grid[1:], DRAWN, strict=True):
        for axes, when, step in zip(row, moments.values(), [*steps, *[None] * (len(moments) - len(steps))], strict=False):
            if step is None:
                write_not_recorded(axes, when)
                continue
            seed = int(tables[measurement]["classes"]["seed"].min())
            matrix = class_matrix(tables, measurement, run, seed, step, precision)
            draw_matrix(axes, matrix, "")
            axes.set_title(_title(PRECISIONS[precision], f"step {step:,}", matrix), fontsize=7.5)
    for axes in grid[:, 0]:
        axes.set_ylabel("class 2")
    for axes in grid[-1]:
        axes.set_xlabel("class 1")
    figure.colorbar(image, ax=grid, shrink=0.4, label="mean sign of gradient products", pad=0.02)
    figure.suptitle(f"{network}. {NOTE}", fontsize=7.5)
    return figure


def _title(whose: str, when: str, matrix: np.ndarray) -> str:
    off = matrix[~np.eye(len(matrix), dtype=bool)]
    return f"{whose}, {when}\n{np.diag(matrix).mean():.2f} | {off.mean():.2f} ({off.std():.2f})"
