"""What the landscape paper's figures 8 and 9 share: training paths in a plane."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from figures.style import BLUE, RED
from replication.drawing import draw_path

MEASUREMENT = "vgg9_trajectories"
PATH, DROPS = BLUE, RED
DROPPED = (1 / 2, 3 / 4, 11 / 12)  # of training: where the paper divides the learning rate by ten


def path_of(paths: pd.DataFrame, run: str, plane: str) -> pd.DataFrame:
    """The kept steps of the first seed in order, with their coordinates x and y in a plane."""
    kept = (paths["seed"] == paths["seed"].min()) & (paths["run"] == run) & (paths["plane"] == plane)
    return paths[kept].sort_values("step")


def draw_epochs(axes: Axes, path: pd.DataFrame) -> None:
    """A dot for every kept step; red where the rate has just been lowered; a square at the start and a star at the end."""
    draw_path(axes, path[["x", "y"]].to_numpy(), label="path, a dot per epoch", color=PATH)
    steps = path["step"].to_numpy()
    nearest = [int(np.abs(steps - share * steps[-1]).argmin()) for share in DROPPED]
    axes.plot(path["x"].iloc[nearest], path["y"].iloc[nearest], "o", color=DROPS, ms=4.5, label="learning rate lowered")
