"""Both ends of the Hessian's spectrum on the plane of a surface (landscape, figure 7)."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from replication import curvature, landscape
from replication.measurements import Arrays, Progress, Tables
from replication.measurements.columns import run_by_run, unpack
from replication.schema.landscape import CurvatureConfig
from replication.training.trained_run import TrainedRun


def measure(config: CurvatureConfig, runs: Sequence[TrainedRun], *, seed: int, part: int, progress: Progress) -> Arrays:
    """The part's runs, one by one."""
    return run_by_run(lambda run, report: of_run(config, run, seed, report), runs, progress)


def tables(config: CurvatureConfig, parts: Sequence[Arrays]) -> Tables:
    """``map`` by run and point: eigenvalues, their errors, loss; ``untrained``: both eigenvalues before training."""
    return unpack(parts)


def of_run(config: CurvatureConfig, run: TrainedRun, seed: int, progress: Progress) -> dict[str, pd.DataFrame]:
    """Eigenvalues and loss on a plane, and the eigenvalues before training."""
    objective = run.around(examples=config.examples)
    axis = np.linspace(-config.reach, config.reach, config.points)
    x, y = (landscape.random_direction(run.model(), landscape.axis_generator(seed, axis=number)) for number in (0, 1))
    eigenvalues = curvature.eigenvalue_map(
        objective, x, y, axis, axis, tolerance=config.tolerance, max_products=config.max_products, progress=progress
    )
    losses = landscape.surface(objective, x, y, axis, axis)
    centre = curvature.extremes(start := run.around(0, examples=config.examples), start.parameters(), ignore="biasbn")
    before = pd.DataFrame({"smallest": [centre.smallest], "largest": [centre.largest]})
    return {"map": eigenvalues.merge(losses.drop(columns="computed"), on=["alpha", "beta"]), "untrained": before}
