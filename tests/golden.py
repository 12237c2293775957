"""Numbers of the official codes, which lie outside of the repository."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


def golden(name: str) -> Any:
    """The golden file ``name``: JSON read, of anything else the path; the test is skipped where the folder is not there."""
    given = os.environ.get("REPLICATION_GOLDEN")
    folders = [Path(given)] if given else []
    for folder in [*folders, ROOT.parent / "shared" / "golden"]:
        path = folder / name
        if path.is_file():
            return json.loads(path.read_text()) if path.suffix == ".json" else path
    pytest.skip(f"{name} is neither in REPLICATION_GOLDEN nor in ../shared/golden")
