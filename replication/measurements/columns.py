"""Tables as arrays by ``<table>/<column>`` and back, for instruments whose parts are tables already."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from replication.measurements import Arrays, Tables


def pack(tables: Mapping[str, pd.DataFrame]) -> Arrays:
    """One array per column; text as numpy unicode, so that nothing is pickled."""
    arrays: Arrays = {}
    for name, table in tables.items():
        for column in table:
            values = table[column].to_numpy()
            arrays[f"{name}/{column}"] = values if values.dtype.kind in "biuf" else np.asarray(values, dtype=str)
    return arrays


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
