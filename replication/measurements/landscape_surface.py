"""Surfaces around trained networks, and how well these are fitted (landscape, figures 1, 3 to 6 and Table 2)."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from replication import landscape
from replication.landscape import surface_measures
from replication.measurements import Arrays, Progress, Tables
from replication.measurements.columns import run_by_run, unpack
from replication.schema.landscape import SurfaceConfig
from replication.training.trained_run import TrainedRun


def measure(config: SurfaceConfig, runs: Sequence[TrainedRun], *, seed: int, part: int, progress: Progress) -> Arrays:
    """The part's runs, one by one."""
    return run_by_run(lambda run, report: of_run(config, run, seed, report), runs, progress)


def tables(config: SurfaceConfig, parts: Sequence[Arrays]) -> Tables:
    """``surface`` by run, direction and point; ``measures`` by run and direction; ``networks`` by run, step and split."""
    return unpack(parts)


def of_run(config: SurfaceConfig, run: TrainedRun, seed: int, progress: Progress) -> dict[str, pd.DataFrame]:
    """Surfaces of one network on a fixed subset, its losses and errors on whole sets."""
    objective = run.around(examples=config.examples)
    axis = np.linspace(-config.reach, config.reach, config.points)
    surfaces, numbers = [], []
    for direction in range(config.directions):
        drawn = seed * config.directions + direction
        x, y = (landscape.random_direction(run.model(), landscape.axis_generator(drawn, axis=number)) for number in (0, 1))
        table = landscape.surface(objective, x, y, axis, axis, progress=progress)
        surfaces.append(table.assign(direction=drawn))
        numbers.append(surface_measures.measures(table).assign(direction=drawn))
    return {"surface": pd.concat(surfaces), "measures": pd.concat(numbers), "networks": networks(run, config.test_examples)}


def networks(run: TrainedRun, test_examples: int | None) -> pd.DataFrame:
    """Loss and accuracy before (evaluated with running statistics (0, 1)) and after training, on the whole training and the test set."""
    splits: dict[Literal["train", "test"], int | None] = {"train": None, "test": test_examples}
    rows = []
    for step in (0, run.config.steps):
        for split, examples in splits.items():
            objective = run.around(step, examples=examples, split=split)
            theta = objective.parameters()
            found = objective.evaluate(theta)
            rows.append((step, split, found.loss, found.accuracy, found.standard_error, len(objective.labels), float(theta.norm())))
    table = pd.DataFrame(rows, columns=["step", "split", "loss", "accuracy", "standard_error", "examples", "norm"])
    return table.assign(channels=objective.layout[0].shape[0], parameters=objective.n_parameters)
