"""benchmarks/compare_results.py: equal folders, and one difference of each kind."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.compare_results import compare

VERDICT = {"id": "X-1", "mean": 0.5, "outcome": "reproduced", "statement": "It falls."}


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    old, new = tmp_path / "old", tmp_path / "new"
    (old / "figures").mkdir(parents=True)
    (old / "figures" / "layers.verdicts.json").write_text(json.dumps({"figure": "layers", "verdicts": [VERDICT]}))
    (old / "figures" / "layers.png").write_bytes(b"a picture")
    (old / "provenance.json").write_text('{"created": "yesterday"}')
    (old / "table.csv").write_text("step,loss,seconds\n0,0.1,3\n1,nan,4\n")
    np.savez(old / "part.npz", loss=np.array([0.0, np.nan]))
    shutil.copytree(old, new)
    return old, new


def test_equal_numbers_are_equal_whatever_times_pictures_and_provenance_say(folders: tuple[Path, Path]) -> None:
    old, new = folders
    (new / "figures" / "layers.png").write_bytes(b"another picture")
    (new / "provenance.json").unlink()
    (new / "table.csv").write_text("step,loss,seconds\n0,0.1,5\n1,nan,6\n")
    assert compare(old, new) == ([], [], {"tables": 1, "arrays": 1, "verdicts": 1})


def test_every_difference_is_told(folders: tuple[Path, Path]) -> None:
    old, new = folders
    (new / "table.csv").write_text("step,loss,seconds\n0,0.10000000000000002,3\n1,nan,4\n")
    np.savez(new / "part.npz", loss=np.array([1.0, np.nan]))
    changed = VERDICT | {"mean": 0.25, "statement": "It rises."}
    (new / "figures" / "layers.verdicts.json").write_text(json.dumps({"figure": "layers", "verdicts": [changed]}))
    (new / "more.csv").write_text("a\n1\n")
    numbers, texts, _ = compare(old, new)
    assert numbers == [
        "more.csv: only in the new folder",
        "figures/layers.verdicts.json: X-1.mean: 0.5 became 0.25",
        "part.npz: loss: 1 of 2 values differ, first 0.0 and 1.0, largest relative difference 1",
        "table.csv: loss: 1 of 2 values differ, first '0.1' and '0.10000000000000002', largest relative difference 1.4e-16",
    ]
    assert texts == ["figures/layers.verdicts.json: X-1.statement: 'It falls.' became 'It rises.'"]


def test_a_table_with_other_columns_or_rows(folders: tuple[Path, Path]) -> None:
    old, new = folders
    (new / "table.csv").write_text("step,loss\n0,0.1\n")
    assert compare(old, new)[0] == [
        "table.csv: columns: ['step', 'loss', 'seconds'] became ['step', 'loss']",
        "table.csv: rows: 2 became 1",
    ]
