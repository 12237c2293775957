"""Quantities of the landscape figures of residual nets from tables whose answers are known; controls fall; drawings are labelled."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from replication import surface_measures

SEEDS = (0, 1, 2)
Function = Callable[[np.ndarray, np.ndarray], np.ndarray]


def bowl(steepness: float, centre: float = 0.01) -> Function:
    return lambda x, y: centre + steepness * (x**2 + 1.5 * y**2)


def rough(steepness: float, centre: float = 0.01) -> Function:
    """A bowl under waves, which curve it down at a part of its points."""
    return lambda x, y: centre + (steepness * (x**2 + y**2)) * (1.3 + np.sin(9 * x) * np.cos(8 * y))


def overflowing(steepness: float) -> Function:
    """A bowl whose corners are not finite."""
    return lambda x, y: np.where(x + y > 1.2, np.inf, np.where(x - y > 1.7, np.nan, bowl(steepness)(x, y)))


@dataclass(frozen=True)
class Net:
    """A made-up run."""

    loss: Function
    accuracy: float = 1.0
    error: float = 10.0  # per cent
    channels: int = 16
    start: float = 2.3


def surface_tables(nets: Mapping[str, Net], points: int = 11, seeds: tuple[int, ...] = SEEDS) -> dict[str, pd.DataFrame]:
    """What ``landscape_surface`` measures, from functions; a seed changes the steepness a little."""
    axis = np.linspace(-1, 1, points)
    x, y = (grid.ravel() for grid in np.meshgrid(axis, axis))
    surfaces, numbers, networks = [], [], []
    for seed in seeds:
        for run, net in nets.items():
            of = {"seed": seed, "run": run}
            loss = net.loss(x, y) * (1 + 0.02 * seed)
            surface = pd.DataFrame({"alpha": x, "beta": y, "computed": True, "loss": loss, "accuracy": np.exp(-np.nan_to_num(loss, posinf=99))})
            surfaces.append(surface.assign(direction=seed, **of))
            numbers.append(surface_measures.measures(surface).assign(direction=seed, **of))
            for step, split in ((0, "train"), (0, "test"), (1500, "train"), (1500, "test")):
                accuracy = 0.1 if step == 0 else net.accuracy if split == "train" else 1 - net.error / 100
                row = {"step": step, "split": split, "loss": net.start if step == 0 else net.loss(np.zeros(1), np.zeros(1))[0]}
                networks.append({**row, "accuracy": accuracy, "channels": net.channels, "parameters": 100, **of})
    return {"surface": pd.concat(surfaces), "measures": pd.concat(numbers), "networks": pd.DataFrame(networks)}


DEPTH_NETS = {
    "resnet20": Net(bowl(4), error=7.4),
    "resnet20_noshort": Net(bowl(5), error=8.2),
    "resnet32": Net(bowl(4.2), error=7),
    "resnet32_noshort": Net(rough(12), accuracy=0.97, error=12),
    "resnet56": Net(bowl(4.5), error=5.9),
    "resnet56_noshort": Net(overflowing(50), accuracy=0.4, error=61),
}


WIDE_NETS = {
    f"{name}{kind}": Net(loss(steep), error=error + 8 * bool(kind), channels=channels)
    for name, channels, steep, error in (("wide_k1", 4, 9, 40), ("resnet32", 8, 6, 35), ("wide_k4", 16, 3, 30))
    for kind, loss in (("", bowl), ("_noshort", rough))
}


def made_up(figure: str, points: int = 11) -> dict[str, dict[str, pd.DataFrame]]:
    """Tables of a figure."""
    return {
        "landscape_contours": lambda: {"depth_surfaces": surface_tables(DEPTH_NETS, points)},
        "landscape_width": lambda: {"width_surfaces": surface_tables(WIDE_NETS, points)},
    }[figure]()
