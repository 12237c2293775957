"""What the main-text figures of the landscape paper (arXiv 1712.09913v3) show, by the names of our runs.

Printed numbers stand on the figures; the others were read off, with the reading errors that the file gives.
"""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from figures.style import AMBER, ORANGE

PUBLISHED = Path(__file__).parent / "published" / "landscape.json"
EPOCHS = 300
MARK: dict[str, Any] = {"marker": "D", "ms": 6.5, "lw": 0, "mec": ORANGE, "mfc": AMBER, "zorder": 4}  # of a published number
RECALLED_MARK = MARK | {"mfc": "white"}
LABEL = "published, at full scale"
# figure 2 and 3 name VGG-9's trainings by weight decay and batch size, figure 9 by optimizer as well
_DECAY, _BATCH = {"": "wd0", "_decay": "wd5e-4"}, {"small": "bs128", "large": "bs8192"}
_SGD = [f"vgg9_{batch}{decay}" for batch in _BATCH for decay in _DECAY]
_DENSE = {"densenet": "densenet121"}


@functools.cache
def published() -> dict[str, Any]:
    """Every published number by figure, as it was read."""
    numbers: dict[str, Any] = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    return numbers


def _of_vgg9(run: str) -> tuple[str, str, str]:
    """A VGG-9 run's optimizer, weight decay and batch size as the file names them."""
    decay = "_decay" if run.endswith("_decay") else ""
    return "adam" if "_adam" in run else "sgd", _DECAY[decay], _BATCH["small" if "_small" in run else "large"]


def error_percents() -> dict[str, float]:
    """Printed test errors in per cent by run (Figures 2, 3, 5 and 6); k = 1 of the wide networks is ResNet-56."""
    errors = {f"wide_{key}": float(value) for key, value in published()["figure6"]["printed"]["test_error_percent"].items()}
    errors |= published()["figure5"]["printed"]["test_error_percent"]
    for run in _SGD:
        _, decay, batch = _of_vgg9(run)
        errors[run] = published()["figure2"]["printed"]["test_error_percent"][decay][batch]
    return errors


def weight_norms(run: str) -> pd.Series:
    """Norm of all parameters of a VGG-9 run by epoch (Figure 2)."""
    _, decay, batch = _of_vgg9(run)
    curve = published()["figure2"]["read"]["weight_norm"][f"{decay}_{batch}"]
    return pd.Series({int(epoch): float(norm) for epoch, norm in curve.items()}, name="norm").sort_index()


def low_loss_interval(run: str) -> tuple[float, float]:
    """Between which alphas of the interpolation the training loss around a VGG-9 minimiser is below 1 (Figure 2)."""
    _, decay, batch = _of_vgg9(run)
    low, high = published()["figure2"]["read"]["interpolation_train_loss_below_1"][decay][batch]
    return float(low), float(high)


def half_width(run: str) -> float:
    """Half the width at a training loss of 1 of a VGG-9 run's filter-normalised line (Figure 3)."""
    _, decay, batch = _of_vgg9(run)
    return float(published()["figure3"]["read"]["half_width_at_train_loss_1"][decay][batch])


def contour_radii() -> dict[str, float]:
    """Mean radius of the 0.1 contour by run (Figures 3, 5 and 6); 0 where the figure shows that there is none."""
    depths, widths = (published()[figure]["read"]["mean_radius_of_0.1_contour"] for figure in ("figure5", "figure6"))
    none = {run: 0.0 for run in published()["figure5"]["read"]["innermost_contour"] if run != "note"}
    radii = {name: float(radius) for name, radius in depths.items() if name.startswith("resnet")} | none
    radii |= {f"wide_{name}": float(radius) for name, radius in widths.items() if name.startswith("k")}
    for run in _SGD:
        _, decay, batch = _of_vgg9(run)
        radii[run] = float(published()["figure3"]["read"]["mean_radius_of_0.1_contour"][decay][batch])
    return radii


def curvature_map(run: str) -> np.ndarray:
    """abs(smallest / largest eigenvalue) ``[31, 31]`` of a run, the first row at beta = -1; 0.5 stands for 0.5 or more (Figure 7)."""
    return np.array(published()["figure7"]["read"]["maps_top_row_is_y_plus_1"][_DENSE.get(run, run)])[::-1]


def curvature_runs() -> list[str]:
    """The runs of Figure 7, by our names."""
    ours = {theirs: run for run, theirs in _DENSE.items()}
    return [ours.get(name, name) for name in published()["figure7"]["read"]["networks"]]


def curvature_shares(run: str) -> dict[str, float]:
    """Shares of a map's cells below and above limits, and its median (Figure 7)."""
    shares: dict[str, float] = published()["figure7"]["read"]["share_of_cells"][_DENSE.get(run, run)]
    return shares


def components(run: str) -> tuple[float, float]:
    """Variance of a VGG-9 path in its first and second principal component, in per cent (Figure 9)."""
    optimizer, decay, batch = _of_vgg9(run)
    first, second = published()["figure9"]["printed"]["explained_percent_pc1_pc2"][f"{optimizer}_{decay}"][batch]
    return float(first), float(second)


def mark(axes: Axes, x: float, y: float, *, named: bool = True, **style: Any) -> None:
    """A published number on a panel; ``named`` puts it into the legend."""
    axes.plot([x], [y], **(MARK | style), label=LABEL if named else None)
