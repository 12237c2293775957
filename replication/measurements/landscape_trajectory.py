"""Training paths in the plane of their principal components and in random planes (Li et al. 2018, Figures 8 and 9)."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from scipy.interpolate import RegularGridInterpolator
from torch import Tensor

from replication.landscape.directions import axis_generator
from replication.landscape.grid import as_grid
from replication.landscape.slices import surface
from replication.landscape.trajectories import captured_variance, project, random_walk_control, trajectory_plane
from replication.measurements import Arrays, Progress, Tables
from replication.measurements.columns import run_by_run, unpack
from replication.schema.landscape import TrajectoryConfig
from replication.training.trained_run import TrainedRun

MARGIN = 0.15  # empty border on every side, as a share of the path's extent
PCA, RANDOM, RANDOM_FINAL = "pca", "random", "random_final"


def measure(config: TrajectoryConfig, runs: Sequence[TrainedRun], *, seed: int, part: int, progress: Progress) -> Arrays:
    """Arrays of the runs that belong to this part."""
    return run_by_run(lambda run, report: tables_of_run(config, run, seed, report), runs, progress)


def tables(config: TrajectoryConfig, parts: Sequence[Arrays]) -> Tables:
    """By run: ``surface`` (alpha, beta along the principal components), ``variance``, ``paths``, ``captured``, ``angles``, ``cosines``."""
    return unpack(parts)


def tables_of_run(config: TrajectoryConfig, run: TrainedRun, seed: int, progress: Progress) -> dict[str, pd.DataFrame]:
    """The plane of one training, its path in three planes, the surface around its end, and angles of its steps with the gradient."""
    rows = np.asarray(run.trajectory)
    pca = trajectory_plane(rows, generator=axis_generator(seed, 2))
    planes = {PCA: (pca.direction_x, pca.direction_y), **random_planes(rows, seed)}
    paths = {name: project(rows, axes).numpy() for name, axes in planes.items()}
    captured = [(name, captured_variance(rows, axes)) for name, axes in planes.items()]
    path = paths[PCA]
    alphas, betas = extents(path, config.points)
    losses = surface(run.around(examples=config.examples), *planes[PCA], alphas, betas, progress=progress)
    variance = {"ratio": pca.explained_variance_ratio.numpy(), "random_walk": pca.random_walk.numpy(), "one_walk": one_walk(rows, seed)}
    return {
        "surface": losses,
        "variance": pd.DataFrame({"axis": np.arange(1, len(rows) + 1), **variance}),
        "paths": pd.concat(pd.DataFrame({"plane": name, "step": run.steps, "x": at[:, 0], "y": at[:, 1]}) for name, at in paths.items()),
        "captured": pd.DataFrame(captured, columns=["plane", "share"]),
        "angles": angles(losses, path, run.steps, seed),
        "cosines": cosines(rows.shape[1], config.cosines, seed),
    }


def random_planes(rows: np.ndarray, seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Two random unit directions, and one of them with the direction from the beginning to the end (figure 8 a and b)."""
    draws = (torch.randn(rows.shape[1], generator=axis_generator(seed, axis), dtype=torch.float64) for axis in (0, 1))
    first, second = (draw / draw.norm() for draw in draws)
    whole = torch.from_numpy(rows[0].astype(np.float64) - rows[-1])
    return {RANDOM: (first, second), RANDOM_FINAL: (whole / whole.norm(), first)}


def one_walk(rows: np.ndarray, seed: int) -> np.ndarray:
    """Explained variance ratios ``[T]`` of a single random walk with the path's step lengths: a control beside the mean of many."""
    lengths = torch.from_numpy(np.linalg.norm(np.diff(rows, axis=0).astype(np.float64), axis=1))
    return random_walk_control(lengths, rows.shape[1], generator=axis_generator(seed, 5), walks=1).numpy()


def extents(path: np.ndarray, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Evenly spaced coordinates along both axes that cover the path ``[T, 2]`` with a margin."""
    low, high = path.min(0), path.max(0)
    margin = MARGIN * (high - low)
    alphas, betas = np.linspace(low - margin, high + margin, points).T
    return alphas, betas


def angles(surface: pd.DataFrame, path: np.ndarray, steps: Sequence[int], seed: int) -> pd.DataFrame:
    """abs(cosine) between each step of the path and the gradient of the surface at its middle; ``control`` has the steps shuffled."""
    loss, alphas, betas = as_grid(surface, "loss")
    slopes = np.gradient(np.where(np.isfinite(loss), loss, np.nan), betas, alphas)
    moves, middles = np.diff(path, axis=0), (path[1:] + path[:-1]) / 2
    # bilinear; the spacing differs between the axes, and there need not be a point at (0, 0)
    at_middles = [RegularGridInterpolator((betas, alphas), slope, bounds_error=False)(middles[:, ::-1]) for slope in reversed(slopes)]
    gradient = np.stack(at_middles, axis=1)
    shuffled = moves[np.random.default_rng([seed, 3]).permutation(len(moves))]
    return pd.DataFrame({"step": list(steps)[1:], "cosine": _cosine(moves, gradient), "control": _cosine(shuffled, gradient)})


def cosines(n_parameters: int, pairs: int, seed: int) -> pd.DataFrame:
    """Mean abs(cosine) of two random directions, the formula sqrt(2 / (pi n)), and the mean where the second has a tenth of the first."""
    generator = axis_generator(seed, 4)
    independent, shared = [], []
    for _ in range(pairs):
        first, second = torch.randn(2, n_parameters, generator=generator)
        independent.append(abs(float(first @ second / (first.norm() * second.norm()))))
        second = second + 0.1 * first
        shared.append(abs(float(first @ second / (first.norm() * second.norm()))))
    formula = float(np.sqrt(2 / (np.pi * n_parameters)))
    return pd.DataFrame({"parameters": [n_parameters], "mean": [np.mean(independent)], "formula": [formula], "shared": [np.mean(shared)]})


def _cosine(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.abs((first * second).sum(1) / lengths)
