"""From tables to the files of a figure."""

import json
import sys
from pathlib import Path
from types import ModuleType

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from replication.claims.results import read_quantities
from replication.errors import ReplicationError
from replication.files.provenance import read_provenance
from replication.files.tables import write_tables
from replication.pipeline import drawing

TRAINING = {
    **{"run": "net", "seed": 0, "config": {"dataset": {"examples": 1000}, "steps": 20, "model_settings": {"width": 8, "image_size": 16}}},
    "data": {"name": "mnist", "source": "folder", "content": "official", "checksums": {}},
}


def folder_of(path: Path, seed: int, name: str = "measurement") -> Path:
    record = {
        "kind": "tables",
        "seed": seed,
        "measurement": name,
        "created": "2026-01-01T00:00:00+00:00",
        "device": "cpu",
        "processor": "p",
    }
    write_tables(path, {"totals": pd.DataFrame({"value": [1.0 * seed, 2.0]})}, record | {"trainings": [TRAINING | {"seed": seed}]})
    return path


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A figure that draws one line and brings a second file."""
    made = ModuleType("figures.made_up")
    made.quantities = lambda tables: {"total": tables["measurement"]["totals"].groupby("seed")["value"].sum()}
    made.draw = lambda tables: plt.subplots()[0]
    made.extras = lambda tables: {".gif": b"moving"}
    monkeypatch.setitem(sys.modules, "figures.made_up", made)
    monkeypatch.setattr(drawing, "module_fingerprint", lambda name: f"code of {name}")  # it has no file
    return made


def test_a_figure_comes_with_quantities_extras_stamp_and_a_record_of_them_all(tmp_path: Path, module: ModuleType) -> None:
    folders = [folder_of(tmp_path / f"seed{seed}", seed) for seed in (0, 1)]
    out = tmp_path / "figures"
    drawing.draw_figure(scale="reduced", paper="lca", figure="made_up", table_folders=folders, folder=out)
    record = read_provenance(out / "made_up.provenance.json")
    assert set(record["files"]) == {"made_up.png", "made_up.pdf", "made_up.svg", "made_up.quantities.csv", "made_up.gif"}
    assert (out / "made_up.gif").read_bytes() == b"moving"
    assert record["stamp"] == "reduced scale; MNIST (1,000 training examples); seeds 0, 1"
    assert record["code"] == "code of figures.made_up"
    assert read_quantities(out / "made_up.quantities.csv") == {"total": {0: 2.0, 1: 3.0}}


def test_a_stamp_is_one_short_line() -> None:
    trainings = [TRAINING | {"seed": seed} for seed in range(3)]
    trainings += [TRAINING | {"seed": 0, "config": {"dataset": {"examples": examples}}} for examples in (11_000, None)]
    provenances = [{"trainings": trainings, "created": "2026-01-02T03:04:05+00:00"}]
    assert drawing.stamp_of("reduced", provenances) == "reduced scale; MNIST (1,000 to 11,000 or all training examples); seeds 0 to 2"
    assert drawing.stamp_of("recorded", provenances).startswith("full scale, recorded 2026-01-02; MNIST (")
    without_trainings = [{"trainings": [], "seed": seed} for seed in range(3)]
    assert drawing.stamp_of("smoke", without_trainings) == "SMOKE SCALE: tests the code only; seeds 0 to 2"
    digits = [{"trainings": [TRAINING | {"data": {"name": "digits"}}]}]
    assert drawing.stamp_of("smoke", digits).startswith("SMOKE SCALE (digits instead of the paper's data): tests the code only; digits (")


def test_tables_of_seeds_and_of_training_logs_stand_side_by_side(tmp_path: Path) -> None:
    folders = [folder_of(tmp_path / "a", 0), folder_of(tmp_path / "b", 1), folder_of(tmp_path / "c", 0, "net")]
    tables, provenances = drawing.load_tables(folders)
    assert set(tables) == {"measurement", "net"}
    assert tables["measurement"]["totals"]["seed"].tolist() == [0, 0, 1, 1]
    assert len(provenances) == 3
    assert json.loads((tmp_path / "a" / "provenance.json").read_text())["seed"] == 0


def test_seeds_below_a_folder_are_read_in_their_order(tmp_path: Path) -> None:
    for seed in (10, 2, 0):
        folder_of(tmp_path / f"measurement/seed{seed}", seed)
    tables, provenances = drawing.load_tables([tmp_path / "measurement"])
    assert [record["seed"] for record in provenances] == [0, 2, 10]
    assert tables["measurement"]["totals"]["seed"].tolist() == [0, 0, 2, 2, 10, 10]


def test_a_folder_without_tables_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ReplicationError, match=r"measurement/provenance\.json is missing"):
        drawing.load_tables([tmp_path / "measurement"])
