"""Tidy tables as a folder of CSV files with their provenance."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from replication.errors import ReplicationError
from replication.files.atomic import atomic
from replication.files.provenance import PROVENANCE, read_provenance, write_provenance


def write_tables(folder: Path, tables: Mapping[str, pd.DataFrame], provenance: Mapping[str, Any]) -> None:
    """Write tidy tables as CSV into one folder with their provenance; the folder appears complete or not at all.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "losses"
    >>> write_tables(folder, {"train": pd.DataFrame({"step": [0, 1], "loss": [2.5, 1.5]})}, {"seed": 0})
    >>> sorted(path.name for path in folder.iterdir())
    ['provenance.json', 'train.csv']
    """
    with atomic(folder, folder=True) as temporary:
        files = []
        for name, table in tables.items():
            files.append(temporary / f"{name}.csv")
            table.to_csv(files[-1], index=False, na_rep="nan", lineterminator="\n")
        write_provenance(temporary / PROVENANCE, provenance, files)


def read_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """Tables of one folder by name, checked against their provenance.

    Raises:
        ReplicationError: a table is missing, was changed, or is not CSV.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "losses"
    >>> write_tables(folder, {"train": pd.DataFrame({"step": [0, 1], "loss": [2.5, 1.5]})}, {"seed": 0})
    >>> read_tables(folder)["train"]["loss"].tolist()
    [2.5, 1.5]
    """
    tables = {}
    for name in read_provenance(Path(folder) / PROVENANCE)["files"]:
        try:
            tables[Path(name).stem] = pd.read_csv(Path(folder) / name)
        except (ValueError, OverflowError, MemoryError) as error:  # the errors of pandas are ValueErrors
            reason = " ".join(str(error).split())  # messages of pandas have two lines
            raise ReplicationError(f"{Path(folder) / name} is not a table ({reason}); delete {folder} and run again.") from None
    return tables
