"""Tables as arrays by ``<table>/<column>`` and back, for instruments whose parts are tables already."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from replication.measurements import Arrays, Progress, Tables
from replication.training.trained_run import TrainedRun


def pack(tables: Mapping[str, pd.DataFrame]) -> Arrays:
    """One array per column; text as numpy unicode, so that nothing is pickled."""
    arrays: Arrays = {}
    for name, table in tables.items():
        for column in table:
            values = table[column].to_numpy()
            arrays[f"{name}/{column}"] = values if values.dtype.kind in "biuf" else np.asarray(values, dtype=str)
    return arrays


OfRun = Callable[[TrainedRun, Progress], Mapping[str, pd.DataFrame]]


def run_by_run(of_run: OfRun, runs: Sequence[TrainedRun], progress: Progress) -> Arrays:
    """The tables that ``of_run`` makes of every run, joined, with a column ``run`` in front."""
    collected: dict[str, list[pd.DataFrame]] = {}
    for run in runs:
        for name, table in of_run(run, progress).items():
            table.insert(0, "run", run.name)
            collected.setdefault(name, []).append(table)
    return pack({name: pd.concat(each) for name, each in collected.items()})


def unpack(parts: Sequence[Arrays]) -> Tables:
    """The tables of all parts, one below the other."""
    collected: dict[str, list[pd.DataFrame]] = {}
    for arrays in parts:
        columns: dict[str, dict[str, np.ndarray]] = {}
        for key, values in arrays.items():
            name, _, column = key.partition("/")
            columns.setdefault(name, {})[column] = values
        for name, each in columns.items():
            collected.setdefault(name, []).append(pd.DataFrame(each))
    return {name: pd.concat(each, ignore_index=True) for name, each in collected.items()}
