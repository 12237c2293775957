"""Quantities of the landscape figures of residual nets from tables whose answers are known; controls fall; drawings are labelled."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

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
            surface = pd.DataFrame(
                {"alpha": x, "beta": y, "computed": True, "loss": loss, "accuracy": np.exp(-np.nan_to_num(loss, posinf=99))}
            )
            surfaces.append(surface.assign(direction=seed, **of))
            numbers.append(surface_measures.measures(surface).assign(direction=seed, **of))
            for step, split in ((0, "train"), (0, "test"), (1500, "train"), (1500, "test")):
                accuracy = 0.1 if step == 0 else net.accuracy if split == "train" else 1 - net.error / 100
                row = {"step": step, "split": split, "loss": net.start if step == 0 else net.loss(np.zeros(1), np.zeros(1))[0]}
                networks.append({**row, "accuracy": accuracy, "examples": 1000, "channels": net.channels, "parameters": 100, **of})
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

DENSE_NETS = {"densenet": Net(bowl(3), error=4.4, start=2.4)}
VGG_NETS = {"vgg9_small": Net(bowl(6), error=7.4), "vgg9_large": Net(bowl(8), error=11), "vgg9_small_decay": Net(bowl(2), error=6)}


def log_table(accuracy: Callable[[np.ndarray], np.ndarray], steps: int) -> dict[str, pd.DataFrame]:
    """The log of a training."""
    step = np.arange(1, steps + 1)
    return {"log": pd.concat([pd.DataFrame({"seed": seed, "step": step, "loss": 2.3, "accuracy": accuracy(step)}) for seed in SEEDS])}


def map_tables(points: int = 7) -> dict[str, pd.DataFrame]:
    """Ratios of 0.01 with shortcuts and 0.2 without; a point that did not converge and one without a finite ratio in each map."""
    axis = np.linspace(-1, 1, points)
    x, y = (grid.ravel() for grid in np.meshgrid(axis, axis))
    maps, untrained = [], []
    for seed in SEEDS:
        for run, ratio in (("resnet20", 0.01), ("resnet32_noshort", 0.2), ("densenet", 0.02)):
            loss = bowl(4)(x, y)
            table = pd.DataFrame({"alpha": x, "beta": y, "ratio": ratio * (1 + 0.2 * loss), "converged": 1.0, "loss": loss})
            table.loc[points * points // 2, ["ratio", "converged"]] = 0.5, 0.0
            table.loc[0, "ratio"] = np.nan
            maps.append(table.assign(seed=seed, run=run))
            untrained.append({"seed": seed, "run": run, "smallest": -0.3, "largest": 1.0})
    return {"map": pd.concat(maps), "untrained": pd.DataFrame(untrained)}


def errors_tables(points: int) -> dict[str, dict[str, pd.DataFrame]]:
    nets = {"depth_surfaces": DEPTH_NETS, "width_surfaces": WIDE_NETS, "dense_surfaces": DENSE_NETS, "vgg9_surfaces": VGG_NETS}
    logs = {
        "resnet156_noshort": log_table(lambda step: 0.1 + 0 * step, 300),
        "resnet20_noshort": log_table(lambda step: np.minimum(step / 400, 1), 1500),
    }
    return {name: surface_tables(group, points) for name, group in nets.items()} | logs


def made_up(figure: str, points: int = 9) -> dict[str, dict[str, pd.DataFrame]]:
    """Tables of a figure."""
    return {
        "landscape_contours": lambda: {"depth_surfaces": surface_tables(DEPTH_NETS, points)},
        "landscape_width": lambda: {"width_surfaces": surface_tables(WIDE_NETS, points)},
        "landscape_errors": lambda: errors_tables(points),
        "landscape_curvature": lambda: {"curvature_maps": map_tables()},
    }[figure]()
