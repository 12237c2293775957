"""Surfaces around trained networks, and their losses and errors (Li et al. 2018, Figures 1 and 3 to 6, Table 2)."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from replication.landscape.directions import axis_generator, random_direction
from replication.landscape.slices import surface
from replication.landscape.surface_measures import measures
from replication.measurements import Arrays, Progress, Tables
from replication.measurements.columns import run_by_run, unpack
from replication.schema.landscape import SurfaceConfig
from replication.training.trained_run import TrainedRun


def measure(config: SurfaceConfig, runs: Sequence[TrainedRun], *, seed: int, part: int, progress: Progress) -> Arrays:
    """Arrays of the runs that belong to this part."""
    return run_by_run(lambda run, report: tables_of_run(config, run, seed, report), runs, progress)


def tables(config: SurfaceConfig, parts: Sequence[Arrays]) -> Tables:
    """``surface`` by run, direction and point; ``measures`` by run and direction; ``networks`` by run, step and split."""
    return unpack(parts)


def tables_of_run(config: SurfaceConfig, run: TrainedRun, seed: int, progress: Progress) -> dict[str, pd.DataFrame]:
    """Surfaces of one network on a fixed subset, its losses and errors on the whole sets."""
    loss = reached(run, config.at_losses.get(run.name))
    objective = run.around(loss=loss, examples=config.examples)
    axis = np.linspace(-config.reach, config.reach, config.points)
    model = run.model() if loss is None else run.model_at_loss(loss)
    surfaces, measured = [], []
    for direction in range(config.directions):
        drawn = seed * config.directions + direction
        x, y = (random_direction(model, axis_generator(drawn, axis=number)) for number in (0, 1))
        table = surface(objective, x, y, axis, axis, progress=progress)
        surfaces.append(table.assign(direction=drawn))
        measured.append(measures(table).assign(direction=drawn))
    return {"surface": pd.concat(surfaces), "measures": pd.concat(measured), "networks": networks(run, loss, config.test_examples)}


def reached(run: TrainedRun, loss: float | None) -> float | None:
    """The training loss at which a network is measured; None for its last weights, also where it never came down to ``loss``."""
    return loss if loss in run.steps_at_losses else None


def networks(run: TrainedRun, loss: float | None, test_examples: int | None) -> pd.DataFrame:
    """Loss and accuracy on the training and the test set, before training (with running statistics 0 and 1) and after it.

    With ``loss`` the second network is the one that first had this training loss.
    """
    splits: dict[Literal["train", "test"], int | None] = {"train": None, "test": test_examples}
    rows = []
    last = run.config.steps if loss is None else run.steps_at_losses[loss]
    for step, at_loss in ((0, None), (last, loss)):
        for split, examples in splits.items():
            objective = run.around(step, loss=at_loss, examples=examples, split=split)
            theta = objective.parameters()
            evaluation = objective.evaluate(theta)._asdict()
            rows.append({"step": step, "split": split, **evaluation, "examples": len(objective.labels), "norm": float(theta.norm())})
    table = pd.DataFrame(rows)
    return table.assign(channels=objective.layout[0].shape[0], parameters=objective.n_parameters)
