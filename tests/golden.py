"""Published numbers to test against, where a folder of them is at hand."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).parents[1]


def golden(name: str) -> Any:
    """The JSON file ``name`` from the folder REPLICATION_GOLDEN or ../shared/golden; skips the test where it is in neither."""
    given = os.environ.get("REPLICATION_GOLDEN")
    for folder in ([Path(given)] if given else []) + [_ROOT.parent / "shared" / "golden"]:
        if (folder / name).is_file():
            return json.loads((folder / name).read_text())
    pytest.skip(f"{name} is neither in the folder REPLICATION_GOLDEN nor in ../shared/golden")
