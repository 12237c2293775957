"""The loss along random directions under several normalisations and after rescaling the weights (Li et al. 2018, Figure 3, app. A.1)."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from replication.landscape.directions import axis_generator, random_direction
from replication.landscape.slices import line
from replication.measurements import Arrays, Progress, Tables
from replication.measurements.columns import run_by_run, unpack
from replication.objective.folding import folded
from replication.objective.objective import Objective
from replication.schema.landscape import LinesConfig
from replication.training.trained_run import TrainedRun

FILTER = "filter"
RESCALED_POINTS = 5


def measure(config: LinesConfig, runs: Sequence[TrainedRun], *, seed: int, part: int, progress: Progress) -> Arrays:
    """Arrays of the runs that belong to this part."""
    return run_by_run(lambda run, report: tables_of_run(config, run, seed, report), runs, progress)


def tables(config: LinesConfig, parts: Sequence[Arrays]) -> Tables:
    """``lines`` by run, direction, normalisation, split and point; ``rescaled`` by run, factor, epsilon, normalisation and point."""
    return unpack(parts)


def tables_of_run(config: LinesConfig, run: TrainedRun, seed: int, progress: Progress) -> dict[str, pd.DataFrame]:
    """Lines along every direction under every normalisation, and lines through rescaled copies of the network."""
    alphas = np.linspace(-config.reach, config.reach, config.points)
    splits = {"train": run.around(examples=config.examples)}
    if config.test_examples:
        splits["test"] = run.around(examples=config.test_examples, split="test")
    lines = []
    for number in range(config.directions):
        drawn = seed * config.directions + number
        for how, direction in directions(run.model(), drawn, config.normalise).items():
            for split, objective in splits.items():
                if split == "train" or how == FILTER:
                    table = line(objective, direction, alphas)
                    lines.append(table.assign(direction=drawn, normalise=how, split=split))
        progress(number + 1, config.directions)
    tables = {"lines": pd.concat(lines)}
    if config.rescale:
        tables["rescaled"] = rescaled_lines(splits["train"], run.model(), config, seed)
    return tables


def directions(model: nn.Module, drawn: int, normalise: Sequence[str]) -> dict[str, Tensor]:
    """The same draw under every normalisation."""
    scalings: dict[str, Any] = {how: None if how == "none" else how for how in normalise}
    return {how: random_direction(model, axis_generator(drawn, 0), scaling) for how, scaling in scalings.items()}


def rescaled_lines(objective: Objective, model: nn.Module, config: LinesConfig, seed: int) -> pd.DataFrame:
    """The line through the network and through the same function with other weights, with and without filter normalisation (section 4)."""
    alphas = np.linspace(-config.reach, config.reach, RESCALED_POINTS)
    rows = []
    copies = [(1.0, True), *((factor, epsilon) for factor in config.rescale for epsilon in (True, False))]
    for how in (FILTER, "none"):
        original = None
        for factor, epsilon in copies:
            scaled = rescaled(model, factor, objective.inputs[:2], epsilon=epsilon)
            direction = directions(scaled, seed, [how])[how]
            table = line(Objective(scaled, objective.inputs, objective.labels), direction, alphas)
            original = table["loss"].to_numpy() if original is None else original
            rows.append(table.assign(factor=factor, epsilon=epsilon, normalise=how, original=original))
    return pd.concat(rows)


def rescaled(model: nn.Module, factor: float, examples: Tensor, *, epsilon: bool) -> nn.Module:
    """A copy that computes the same function: every kernel before batch norm times ``factor``, and its running statistics too.

    Without ``epsilon`` batch norm's epsilon is not scaled, so channels with a variance close to it change a little.
    """
    scaled = copy.deepcopy(model)
    modules = dict(scaled.named_modules())
    with torch.no_grad():
        for pair in folded(model, examples).pairs:
            linear, norm = modules[pair.linear], modules[pair.norm]
            for parameter in linear.parameters():
                parameter.mul_(factor)
            norm.running_mean.mul_(factor)
            norm.running_var.mul_(factor**2)
            norm.eps *= factor**2 if epsilon else 1
    return scaled
