"""Final weights that are kept take the place of their training, and of no other."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from runs import run_config

from replication.data import examples
from replication.errors import ReplicationError
from replication.files.provenance import PROVENANCE, read_provenance, write_provenance
from replication.files.tables import read_tables
from replication.pipeline import dag, kept_weights, steps

NET = {"model": "resnet20", "model_settings": {"image_size": 8, "width": 4, "depth": 8}, "keep": [0], "steps": 130, "batch_size": 50}


@pytest.fixture
def train_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """``steps.train_run`` of a small network, as if it were a run of the paper; called with the configuration's changes."""
    monkeypatch.chdir(tmp_path)
    examples.prepare("digits", tmp_path / "digits.safetensors")
    monkeypatch.setattr(dag, "training_depends", lambda *_: "code")

    def call(folder: str, *, seed: int = 0, scale: str = "full", **changes: object) -> Path:
        config = run_config(**(NET | changes))
        monkeypatch.setattr(dag, "run_of", lambda *_: config)
        target = tmp_path / folder
        data_file = tmp_path / "digits.safetensors"
        finished = steps.train_run(scale=scale, paper="landscape", run="net", seed=seed, data_file=data_file, folder=target, threads=1)
        assert finished
        return target

    return call


def was_trained(folder: Path) -> bool:
    return "taken_from" not in read_provenance(folder / PROVENANCE)


def test_kept_weights_leave_what_the_training_left(train_run) -> None:
    trained = train_run("trained")
    assert was_trained(trained)
    assert kept_weights.keep(trained) == kept_weights.folder_of("landscape", "net", 0)
    taken = train_run("taken")
    assert not was_trained(taken)
    for name in ("trajectory.npy", "buffers.npy"):
        assert np.array_equal(np.load(trained / name), np.load(taken / name))
    assert (trained / "weights.safetensors").read_bytes() == (taken / "weights.safetensors").read_bytes()
    log, whole = (read_tables(folder / "tables")["log"] for folder in (taken, trained))
    assert log["step"].tolist() == [1, *range(31, 131)]
    assert log["loss"].tolist() == whole.set_index("step").loc[log["step"], "loss"].tolist()
    assert read_provenance(taken / PROVENANCE)["seconds"] == read_provenance(trained / PROVENANCE)["seconds"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"steps": 131}, "another configuration"),
        ({"optimizer": {"name": "sgd", "lr": 0.06, "momentum": 0.9}}, "another configuration"),
        ({"keep": "every_epoch"}, "another configuration"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_weights_of_another_run_are_not_used(train_run, changes: dict, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    kept_weights.keep(train_run("trained"))
    assert was_trained(train_run("again", **changes))
    assert reason in capsys.readouterr().err


def test_weights_of_another_seed_or_of_other_data_are_not_used(train_run, capsys: pytest.CaptureFixture[str]) -> None:
    kept = kept_weights.keep(train_run("trained"))
    shutil.copytree(kept, kept.with_name("seed1"))
    assert was_trained(train_run("again", seed=1))
    assert "it is of seed 0" in capsys.readouterr().err
    config = run_config(**NET)
    assert not kept_weights.take_up(None, config, kept, seed=0, checksums={"train": "other"}, n_examples=1437, folder=Path("x"))  # type: ignore[arg-type]
    assert "other data" in capsys.readouterr().err


def test_a_run_whose_path_is_read_is_trained(train_run, capsys: pytest.CaptureFixture[str]) -> None:
    kept_weights.keep(train_run("trained", keep="every_epoch"))
    assert was_trained(train_run("again", keep="every_epoch"))
    assert "read the weights of" in capsys.readouterr().err


def test_a_key_that_was_added_since_then_makes_no_difference(train_run) -> None:
    kept = kept_weights.keep(train_run("trained"))
    provenance = read_provenance(kept / PROVENANCE)
    del provenance["config"]["stop_when_non_finite"]
    write_provenance(kept / PROVENANCE, provenance, [kept / "weights.safetensors"])
    assert not was_trained(train_run("again"))


def test_only_trainings_of_full_scale_and_of_a_size_are_kept(train_run, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ReplicationError, match="no training of full scale"):
        kept_weights.keep(train_run("reduced", scale="reduced"))
    trained = train_run("trained")
    monkeypatch.setattr(kept_weights, "LIMIT", 1000)
    with pytest.raises(ReplicationError, match="kept are files of at most"):
        kept_weights.keep(trained)


def test_damaged_weights_are_an_error(train_run) -> None:
    kept = kept_weights.keep(train_run("trained"))
    (kept / "weights.safetensors").write_bytes(b"x")
    with pytest.raises(ReplicationError, match="changed or damaged"):
        train_run("again")


def test_what_the_repository_keeps_is_whole_and_small() -> None:
    root = Path(__file__).parents[2] / kept_weights.FOLDER
    files = list(root.glob(f"*/*/*/{kept_weights.WEIGHTS}"))
    for path in files:
        assert path.stat().st_size <= kept_weights.LIMIT
        read_provenance(path.with_name(PROVENANCE))
    assert sum(path.stat().st_size for path in files) <= kept_weights.TOTAL_LIMIT
