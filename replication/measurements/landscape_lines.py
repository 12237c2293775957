"""The loss along random directions under several normalisations, and after rescaling the weights (landscape, figure 3, appendix A.1)."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from replication import landscape
from replication.measurements import Arrays, Progress, Tables
from replication.measurements.columns import run_by_run, unpack
from replication.objective.folding import folded
from replication.objective.objective import Objective
from replication.schema.landscape import LinesConfig
from replication.training.trained_run import TrainedRun

FILTER = "filter"
RESCALED_POINTS = 5


def measure(config: LinesConfig, runs: Sequence[TrainedRun], *, seed: int, part: int, progress: Progress) -> Arrays:
    """The part's runs, one by one."""
    return run_by_run(lambda run, report: of_run(config, run, seed, report), runs, progress)


def tables(config: LinesConfig, parts: Sequence[Arrays]) -> Tables:
    """``lines`` by run, direction, normalisation, split and point; ``rescaled`` by run, factor, epsilon, normalisation and point."""
    return unpack(parts)


def of_run(config: LinesConfig, run: TrainedRun, seed: int, progress: Progress) -> dict[str, pd.DataFrame]:
    """Every direction under every normalisation, and the rescaled networks."""
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
                    table = landscape.line(objective, direction, alphas)
                    lines.append(table.assign(direction=drawn, normalise=how, split=split))
        progress(number + 1, config.directions)
    found = {"lines": pd.concat(lines)}
    if config.rescale:
        found["rescaled"] = rescaled_lines(splits["train"], run.model(), config, seed)
    return found


def directions(model: nn.Module, drawn: int, normalise: Sequence[str]) -> dict[str, Tensor]:
    """The same draw under every normalisation."""
    scalings: dict[str, Any] = {how: None if how == "none" else how for how in normalise}
    return {how: landscape.random_direction(model, landscape.axis_generator(drawn, 0), scaling) for how, scaling in scalings.items()}


def rescaled_lines(objective: Objective, model: nn.Module, config: LinesConfig, seed: int) -> pd.DataFrame:
    """The line through the network and through the same function with other weights, with and without filter normalisation (section 4)."""
    alphas = np.linspace(-config.reach, config.reach, RESCALED_POINTS)
    rows = []
    copies = [(1.0, True), *((factor, epsilon) for factor in config.rescale for epsilon in (True, False))]
    for how in (FILTER, "none"):
        original = None
        for factor, epsilon in copies:
            other = rescaled(model, factor, objective.images[:2], epsilon=epsilon)
            direction = directions(other, seed, [how])[how]
            table = landscape.line(Objective(other, objective.images, objective.labels), direction, alphas)
            original = table["loss"].to_numpy() if original is None else original
            rows.append(table.assign(factor=factor, epsilon=epsilon, normalise=how, original=original))
    return pd.concat(rows)


def rescaled(model: nn.Module, factor: float, examples: Tensor, *, epsilon: bool) -> nn.Module:
    """The same function from other weights: every kernel before batch norm times ``factor``, running statistics along with it.

    Without ``epsilon`` batch norm's epsilon stays where it is, so that channels whose variance is not far above it change a little.
    """
    other = copy.deepcopy(model)
    modules = dict(other.named_modules())
    with torch.no_grad():
        for pair in folded(model, examples).pairs:
            linear, norm = modules[pair.linear], modules[pair.norm]
            for parameter in linear.parameters():
                parameter.mul_(factor)
            norm.running_mean.mul_(factor)
            norm.running_var.mul_(factor**2)
            norm.eps *= factor**2 if epsilon else 1
    return other
