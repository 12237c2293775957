"""What each instrument measures of trained networks: one module per ``instrument`` of paper_configs.

A module has two functions, and neither reads or writes files of its own:

- ``measure(config, runs, seed=..., part=..., progress=...)`` applies the instrument to the trainings that the configuration names and
  returns the part's arrays by name;
- ``tables(config, parts)`` joins the arrays of all parts of one seed into tidy tables.

Several of them share ``columns`` (tables as arrays and back), ``svcca_rows`` (layers as rows of a table), ``stiffness_probe`` (the examples
that stiffness is measured on) and ``super_classes`` (those of CIFAR-100).
"""

import importlib
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import pandas as pd

from replication.schema.measurements import MeasurementConfig
from replication.training.trained_run import TrainedRun

Arrays = dict[str, np.ndarray]
Tables = dict[str, pd.DataFrame]
Progress = Callable[[int, int], None]


class Instrument(Protocol):
    """What a module of this package offers."""

    def measure(self, config: MeasurementConfig, runs: Sequence[TrainedRun], *, seed: int, part: int, progress: Progress) -> Arrays:
        """One part of one seed; ``runs`` in the order of ``config.sources_of_part(seed, part)``."""

    def tables(self, config: MeasurementConfig, parts: Sequence[Arrays]) -> Tables:
        """The tables of one seed."""


def instrument_of(config: MeasurementConfig) -> Instrument:
    """The module that makes a measurement."""
    return importlib.import_module(f"{__name__}.{config.instrument}")


def below(arrays: Arrays, folder: str) -> Arrays:
    """The arrays named ``<folder>/<name>``, by name."""
    start = f"{folder}/"
    return {key.removeprefix(start): values for key, values in arrays.items() if key.startswith(start)}


def span_of(part: int, parts: int, n: int) -> range:
    """The ``part``-th of ``parts`` nearly equal spans of ``range(n)``."""
    bounds = np.linspace(0, n, parts + 1).round().astype(int)
    return range(int(bounds[part]), int(bounds[part + 1]))
