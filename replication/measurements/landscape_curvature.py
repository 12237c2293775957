"""Smallest and largest Hessian eigenvalue on the plane of a surface (Li et al. 2018, Figure 7)."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from replication.curvature.ends import eigenvalue_map, extremes
from replication.landscape.directions import axis_generator, random_direction
from replication.landscape.slices import surface
from replication.measurements import Arrays, Progress, Tables
from replication.measurements.columns import run_by_run, unpack
from replication.schema.landscape import CurvatureConfig
from replication.training.trained_run import TrainedRun


def measure(config: CurvatureConfig, runs: Sequence[TrainedRun], *, seed: int, part: int, progress: Progress) -> Arrays:
    """Arrays of the runs that belong to this part."""
    return run_by_run(lambda run, report: tables_of_run(config, run, seed, report), runs, progress)


def tables(config: CurvatureConfig, parts: Sequence[Arrays]) -> Tables:
    """``map`` by run and point: eigenvalues, their errors, loss; ``untrained``: both eigenvalues before training."""
    return unpack(parts)


def tables_of_run(config: CurvatureConfig, run: TrainedRun, seed: int, progress: Progress) -> dict[str, pd.DataFrame]:
    """Eigenvalues and loss on a plane, and the eigenvalues before training."""
    objective = run.around(examples=config.examples)
    axis = np.linspace(-config.reach, config.reach, config.points)
    x, y = (random_direction(run.model(), axis_generator(seed, axis=number)) for number in (0, 1))
    eigenvalues = eigenvalue_map(
        objective, x, y, axis, axis, tolerance=config.tolerance, max_products=config.max_products, progress=progress
    )
    losses = surface(objective, x, y, axis, axis)
    untrained = extremes(run.around(0, examples=config.examples), ignore="biasbn")
    before = pd.DataFrame({"smallest": [untrained.smallest], "largest": [untrained.largest]})
    return {"map": eigenvalues.merge(losses.drop(columns="computed"), on=["alpha", "beta"]), "untrained": before}
