"""The computing steps of the DAG. Each reads files and configurations, calls one library, and writes files."""

import functools
import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from replication import data, machine
from replication.data.sources.formats import UNREADABLE
from replication.errors import ReplicationError
from replication.files.atomic import atomic, canonical_json
from replication.files.provenance import PROVENANCE, collect_provenance, provenance_file, read_provenance, write_provenance
from replication.files.tables import read_tables, write_tables
from replication.measurements import instrument_of
from replication.pipeline import dag, kept_weights
from replication.training.loop import train
from replication.training.trained_run import TrainedRun, experiment_of, initial_model
from replication.training.update import precision_on

_ADDED = ("seconds", "core_seconds")  # of a part; those of a seed are their sum


def train_run(
    *, scale: str, paper: str, run: str, seed: int, data_file: Path, folder: Path, threads: int, stop_after: float = float("inf")
) -> bool:
    """Train one seed of a run into ``folder``: log tables, final weights, kept weights, provenance.

    Weights in ``weights/`` that are those of this configuration, seed and data take the place of the training.
    Returns False if it was stopped after ``stop_after`` minutes, before its last step; the same call continues it.
    """
    config, device = dag.run_of(scale, paper, run), machine.prepare(threads)
    dataset = data.load(data_file)
    experiment = experiment_of(config, dataset, device)
    model = initial_model(config, experiment, seed).to(device)
    kept = kept_weights.folder_of(paper, run, seed)
    checksums, n = dataset.origin.checksums, len(experiment.train.labels)
    if taken := kept_weights.take_up(model, config, kept, seed=seed, checksums=checksums, n_examples=n, folder=folder):
        _write_run(folder, taken | {"taken_from": kept.as_posix()})
        return True
    depends = dag.training_depends(scale, paper, run)
    identity = canonical_json([depends, dataset.origin.checksums, seed, device.type, precision_on(device, config), torch.__version__])
    progress = machine.reporter(f"train {run} seed {seed}")
    start = time.process_time()
    trained = train(
        model, experiment, config, seed=seed, folder=folder, identity=_sha256(identity), progress=progress, stop_after_s=60 * stop_after
    )
    core_seconds = _add_core_seconds(folder, time.process_time() - start)
    if not trained.finished:
        return False
    details: dict[str, Any] = {"seconds": trained.seconds, "core_seconds": core_seconds, "resumed_at_step": trained.resumed_at}
    details |= {"non_finite_at_step": trained.non_finite_at, "precision": precision_on(device, config)}
    provenance = _provenance("run", scale, paper, seed, device, run=run, config=config.model_dump(mode="json"), **details)
    provenance |= {
        "depends": depends,
        "kept_steps": [trained.steps[0], trained.steps[-1], len(trained.steps)],
        "data": _data_entry(dataset),
    }
    _write_run(folder, provenance)
    return True


def _write_run(folder: Path, provenance: dict[str, Any]) -> None:
    """The provenance of a run's weights, and that of its log."""
    files = [folder / name for name in ("trajectory.npy", "buffers.npy", "weights.safetensors") if (folder / name).exists()]
    write_provenance(folder / PROVENANCE, provenance, files)
    log = {key: value for key, value in provenance.items() if key != "kind"} | {
        "kind": "tables",
        "measurement": provenance["run"],
        "trainings": [provenance],
    }
    write_tables(folder / "tables", read_tables(folder / "tables"), log)


def _add_core_seconds(folder: Path, seconds: float) -> float:
    """Processor time of a training over all calls that worked on it; a call that was killed is not counted."""
    path = folder / "core_seconds.json"
    total = seconds + (json.loads(path.read_text()) if path.exists() else 0.0)
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(total))
    return total


def measure_part(
    *,
    scale: str,
    paper: str,
    measurement: str,
    seed: int,
    part: int,
    run_folders: Sequence[Path],
    data_files: Sequence[Path],
    out: Path,
    threads: int,
) -> None:
    """Measure one part of one seed into an .npz file with its provenance."""
    config, device = dag.measurement_of(scale, paper, measurement), machine.prepare(threads)
    datasets = {dataset.name: dataset for dataset in (_loaded(path, _changed(path)) for path in data_files)}
    runs, trainings = [], []
    for (name, run_seed), folder in zip(config.sources_of_part(seed, part), run_folders, strict=True):
        dataset = datasets[dag.run_of(scale, paper, name).dataset.name]
        run, training = _opened(scale, paper, name, run_seed, folder, dataset, device, _changed(folder / PROVENANCE))
        runs.append(run)
        trainings.append(training)
    progress = machine.reporter(f"measure {measurement} seed {seed} part {part}")
    start, core_start = time.monotonic(), time.process_time()
    arrays = instrument_of(config).measure(config, runs, seed=seed, part=part, progress=progress)
    details: dict[str, Any] = {"seconds": time.monotonic() - start, "core_seconds": time.process_time() - core_start}
    details |= {"config": config.model_dump(mode="json"), "trainings": trainings}
    provenance = _provenance("part", scale, paper, seed, device, measurement=measurement, part=part, **details)
    provenance |= {"depends": dag.measuring_depends(scale, paper, measurement)}
    with atomic(out) as temporary, open(temporary, "wb") as handle:
        np.savez_compressed(handle, **arrays)  # type: ignore[arg-type]
    write_provenance(provenance_file(out), provenance, [out])


# A process that measures many parts reads and checks what they share once: a trajectory may have gigabytes.


@functools.lru_cache(maxsize=2)
def _loaded(path: Path, changed: int) -> data.Dataset:
    return data.load(path)


@functools.lru_cache(maxsize=4)
def _opened(
    scale: str, paper: str, run: str, seed: int, folder: Path, dataset: data.Dataset, device: torch.device, changed: int
) -> tuple[TrainedRun, dict[str, Any]]:
    provenance = read_provenance(folder / PROVENANCE)
    return TrainedRun(run, seed, dag.run_of(scale, paper, run), folder, dataset, device), provenance


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def gather(*, scale: str, paper: str, measurement: str, parts: Sequence[Path], folder: Path) -> None:
    """Join the parts of a measurement into a folder of tidy tables for each seed.

    Args:
        parts: all parts of the first seed, then all parts of the next one, and so on.
    """
    n_parts = dag.measurement_of(scale, paper, measurement).parts
    with atomic(folder, folder=True) as temporary:
        for seed, first in enumerate(range(0, len(parts), n_parts)):
            parts_of_seed = parts[first : first + n_parts]
            gather_seed(scale=scale, paper=paper, measurement=measurement, parts=parts_of_seed, folder=temporary / f"seed{seed}")


def gather_seed(*, scale: str, paper: str, measurement: str, parts: Sequence[Path], folder: Path) -> None:
    """Join the parts of one seed into tidy tables."""
    provenances = [read_provenance(provenance_file(part)) for part in parts]
    config = dag.measurement_of(scale, paper, measurement)
    collected = [read_part(part) for part in parts]
    first = provenances[0]
    joined = {key: first[key] for key in first if key not in ("files", "part", "kind", *_ADDED)}
    trainings = {(training["run"], training["seed"]): training for each in provenances for training in each["trainings"]}
    joined |= {key: sum(each[key] for each in provenances) for key in _ADDED if all(key in each for each in provenances)}
    joined |= {"kind": "tables", "trainings": list(trainings.values())}
    write_tables(folder, instrument_of(config).tables(config, collected), joined)


def read_part(path: Path) -> dict[str, np.ndarray]:
    """The arrays of one part of a measurement.

    Raises:
        ReplicationError: the file is not one, or holds objects that would have to be unpickled.
    """
    try:
        with open(path, "rb") as handle, np.load(handle, allow_pickle=False) as arrays:
            return dict(arrays)
    except UNREADABLE as error:
        reason = " ".join(str(error).split())
        raise ReplicationError(f"{path} is not a part of a measurement ({reason}); delete it and run again.") from None


def _data_entry(dataset: data.Dataset) -> dict[str, Any]:
    origin = dataset.origin
    return {"name": dataset.name, "source": origin.kind, "content": origin.content, "checksums": dict(origin.checksums)}


def _provenance(kind: str, scale: str, paper: str, seed: int, device: torch.device, **details: Any) -> dict[str, Any]:
    return collect_provenance(kind=kind, scale=scale, paper=paper, seed=seed, device=machine.describe(device), **details)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
