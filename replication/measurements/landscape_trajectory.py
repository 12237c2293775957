"""Training paths in planes: of their principal components, and of random directions (landscape, figures 8 and 9)."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from scipy.interpolate import RegularGridInterpolator
from torch import Tensor

from replication import landscape
from replication.landscape.grid import as_grid
from replication.measurements import Arrays, Progress, Tables
from replication.measurements.columns import run_by_run, unpack
from replication.schema.landscape import TrajectoryConfig
from replication.training.trained_run import TrainedRun

MARGIN = 0.15  # of the path's extent, left free on every side
PCA, RANDOM, RANDOM_FINAL = "pca", "random", "random_final"


def measure(config: TrajectoryConfig, runs: Sequence[TrainedRun], *, seed: int, part: int, progress: Progress) -> Arrays:
    """The part's runs, one by one."""
    return run_by_run(lambda run, report: of_run(config, run, seed, report), runs, progress)


def tables(config: TrajectoryConfig, parts: Sequence[Arrays]) -> Tables:
    """By run: ``surface`` (alpha, beta along the principal components), ``variance``, ``paths``, ``captured``, ``angles``, ``cosines``."""
    return unpack(parts)


def of_run(config: TrajectoryConfig, run: TrainedRun, seed: int, progress: Progress) -> dict[str, pd.DataFrame]:
    """Its plane, its path in three planes, the surface around its end, its angles with the gradient."""
    rows = np.asarray(run.trajectory)
    found = landscape.trajectory_plane(rows, generator=landscape.axis_generator(seed, 2))
    planes = {PCA: (found.direction_x, found.direction_y), **random_planes(rows, seed)}
    paths = {name: landscape.project(rows, axes).numpy() for name, axes in planes.items()}
    captured = [(name, landscape.captured_variance(rows, axes)) for name, axes in planes.items()]
    path = paths[PCA]
    surface = landscape.surface(run.around(examples=config.examples), *planes[PCA], *extents(path, config.points), progress=progress)
    variance = {"ratio": found.explained_variance_ratio.numpy(), "random_walk": found.random_walk.numpy(), "one_walk": one_walk(rows, seed)}
    return {
        "surface": surface,
        "variance": pd.DataFrame({"axis": np.arange(1, len(rows) + 1), **variance}),
        "paths": pd.concat(pd.DataFrame({"plane": name, "step": run.steps, "x": at[:, 0], "y": at[:, 1]}) for name, at in paths.items()),
        "captured": pd.DataFrame(captured, columns=["plane", "share"]),
        "angles": angles(surface, path, run.steps, seed),
        "cosines": cosines(rows.shape[1], config.cosines, seed),
    }


def random_planes(rows: np.ndarray, seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Two random unit directions, and one of them with the direction from the beginning to the end (figure 8 a and b)."""
    draws = (torch.randn(rows.shape[1], generator=landscape.axis_generator(seed, axis), dtype=torch.float64) for axis in (0, 1))
    first, second = (draw / draw.norm() for draw in draws)
    whole = torch.from_numpy(rows[0].astype(np.float64) - rows[-1])
    return {RANDOM: (first, second), RANDOM_FINAL: (whole / whole.norm(), first)}


def one_walk(rows: np.ndarray, seed: int) -> np.ndarray:
    """Explained variance ratios ``[T]`` of a single random walk with the path's step lengths: a control beside the mean of many."""
    lengths = torch.from_numpy(np.linalg.norm(np.diff(rows, axis=0).astype(np.float64), axis=1))
    return landscape.random_walk_control(lengths, rows.shape[1], generator=landscape.axis_generator(seed, 5), walks=1).numpy()


def extents(path: np.ndarray, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Evenly spaced coordinates along both axes that hold the path ``[T, 2]`` with a margin."""
    low, high = path.min(0), path.max(0)
    margin = MARGIN * (high - low)
    return tuple(np.linspace(low[axis] - margin[axis], high[axis] + margin[axis], points) for axis in (0, 1))  # type: ignore[return-value]


def angles(surface: pd.DataFrame, path: np.ndarray, steps: Sequence[int], seed: int) -> pd.DataFrame:
    """Size of the cosine between a step of the path and the slice's gradient at its middle; ``control`` has the steps in another order."""
    loss, alphas, betas = as_grid(surface, "loss")
    slopes = np.gradient(np.where(np.isfinite(loss), loss, np.nan), betas, alphas)
    moves, middles = np.diff(path, axis=0), (path[1:] + path[:-1]) / 2
    # bilinear; the path's plane has another spacing along each axis and need not have a point at (0, 0)
    at_middles = [RegularGridInterpolator((betas, alphas), slope, bounds_error=False)(middles[:, ::-1]) for slope in reversed(slopes)]
    gradient = np.stack(at_middles, axis=1)
    shuffled = moves[np.random.default_rng([seed, 3]).permutation(len(moves))]
    return pd.DataFrame({"step": list(steps)[1:], "cosine": _cosine(moves, gradient), "control": _cosine(shuffled, gradient)})


def cosines(n_parameters: int, pairs: int, seed: int) -> pd.DataFrame:
    """Mean size of the cosine of two random directions, the formula sqrt(2 / (pi n)), and the same with directions that share a tenth.

    In blocks of pairs, so that memory stays small.
    """
    generator = landscape.axis_generator(seed, 4)
    sizes, shared = [], []
    for _ in range(pairs):
        first, second = torch.randn(2, n_parameters, generator=generator)
        sizes.append(abs(float(first @ second / (first.norm() * second.norm()))))
        second = second + 0.1 * first
        shared.append(abs(float(first @ second / (first.norm() * second.norm()))))
    formula = float(np.sqrt(2 / (np.pi * n_parameters)))
    return pd.DataFrame({"parameters": [n_parameters], "mean": [np.mean(sizes)], "formula": [formula], "shared": [np.mean(shared)]})


def _cosine(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.abs((first * second).sum(1) / lengths)
