"""Tables as arrays by ``<table>/<column>`` and back, for measurements whose parts are tables already."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from replication.measurements import Arrays, Progress, Tables
from replication.training.trained_run import TrainedRun


def pack(tables: Mapping[str, pd.DataFrame]) -> Arrays:
    """One array per column; text as numpy unicode, so that nothing is pickled.

    >>> sorted(pack({"losses": pd.DataFrame({"run": ["a"], "loss": [0.5]})}))
    ['losses/loss', 'losses/run']
    """
    arrays: Arrays = {}
    for name, table in tables.items():
        for column in table:
            values = table[column].to_numpy()
            arrays[f"{name}/{column}"] = values if values.dtype.kind in "biuf" else np.asarray(values, dtype=str)
    return arrays


def unpack(parts: Sequence[Arrays], *, first: Sequence[str] = ()) -> Tables:
    """The tables of all parts, one below the other.

    Args:
        parts: what ``pack`` made, in the order wanted.
        first: columns that stand in front in the tables that have them.

    >>> part = pack({"losses": pd.DataFrame({"loss": [0.5], "step": [3]})})
    >>> unpack([part, part], first=["step"])["losses"]
       step  loss
    0     3   0.5
    1     3   0.5
    """
    collected: dict[str, list[pd.DataFrame]] = {}
    for arrays in parts:
        columns: dict[str, dict[str, np.ndarray]] = {}
        for key, values in arrays.items():
            name, _, column = key.partition("/")
            columns.setdefault(name, {})[column] = values
        for name, each in columns.items():
            front = [column for column in first if column in each]
            collected.setdefault(name, []).append(pd.DataFrame({column: each[column] for column in dict.fromkeys((*front, *each))}))
    return {name: pd.concat(each, ignore_index=True) for name, each in collected.items()}


def join_runs(tables_by_run: Iterable[tuple[str, Mapping[str, pd.DataFrame]]]) -> Tables:
    """The tables of several runs, given by run name, one below the other, with a column ``run`` in front.

    >>> losses = [("a", {"losses": pd.DataFrame({"loss": [0.5]})}), ("b", {"losses": pd.DataFrame({"loss": [0.25]})})]
    >>> join_runs(losses)["losses"]
      run  loss
    0   a  0.50
    1   b  0.25
    """
    collected: dict[str, list[pd.DataFrame]] = {}
    for run, tables in tables_by_run:
        for name, table in tables.items():
            table.insert(0, "run", run)
            collected.setdefault(name, []).append(table)
    return {name: pd.concat(each, ignore_index=True) for name, each in collected.items()}


def run_by_run(
    tables_of_run: Callable[[TrainedRun, Progress], Mapping[str, pd.DataFrame]], runs: Sequence[TrainedRun], progress: Progress
) -> Arrays:
    """The tables that ``tables_of_run`` makes of every run, joined and packed."""
    return pack(join_runs((run.name, tables_of_run(run, progress)) for run in runs))
