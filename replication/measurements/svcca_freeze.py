"""Multiply-accumulates of every training step, with layers frozen on the way (SVCCA, section 4.2)."""

from collections.abc import Sequence

import pandas as pd

from replication.measurements import Arrays, Progress, Tables
from replication.measurements.columns import pack, unpack
from replication.models.counting import multiply_accumulates
from replication.schema.svcca import FreezeConfig
from replication.training.optimisation import frozen_at
from replication.training.trained_run import TrainedRun


def measure(config: FreezeConfig, runs: Sequence[TrainedRun], *, seed: int, part: int, progress: Progress) -> Arrays:
    """Cost of every step by run."""
    return pack({"cost": pd.concat([costs(run) for run in runs])})


def tables(config: FreezeConfig, parts: Sequence[Arrays]) -> Tables:
    """``cost``: multiply-accumulates per example, a row per run and step at which they change."""
    return unpack(parts)


def costs(run: TrainedRun) -> pd.DataFrame:
    """Forward, and backward to the inputs and to the weights of every layer that is not frozen; nothing below the lowest of those."""
    _, channels, height, width = run.experiment.test.images.shape
    layers = multiply_accumulates(run.model(), (channels, height, width))
    rows = []
    for step in sorted({0, *(step for step in run.config.freeze.values() if step < run.config.steps)}):
        frozen = frozen_at(run.config, step)
        live = [not any(name == layer or name.startswith(f"{layer}.") for layer in frozen) for name in layers]
        lowest = live.index(True) if any(live) else len(live)
        to_weights = sum(cost for cost, alive in zip(layers.values(), live, strict=True) if alive)
        to_inputs = sum(list(layers.values())[lowest + 1 :])
        rows.append((run.name, step, sum(layers.values()), to_weights + to_inputs))
    table = pd.DataFrame(rows, columns=["run", "from_step", "forward", "backward"])
    return table.assign(steps=[*table["from_step"].iloc[1:], run.config.steps] - table["from_step"])
