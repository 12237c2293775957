"""Numbers from official code, kept outside of the repository."""

import os
from pathlib import Path

import pytest


def golden(name: str) -> Path:
    """The file of this name in REPLICATION_GOLDEN or in ../shared/golden beside the repository; skips the test where there is none."""
    folders = [Path(os.environ["REPLICATION_GOLDEN"])] if "REPLICATION_GOLDEN" in os.environ else []
    folders.append(Path(__file__).parents[2] / "shared" / "golden")
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    pytest.skip(f"no golden file {name}: looked in {', '.join(map(str, folders))}")
