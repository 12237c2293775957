"""The steps of the DAG: here files, configurations and instruments meet. Each reads files, calls one library and writes files."""

import datetime
import hashlib
import importlib
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from replication import claims, configs, dag, data, machine, records
from replication.configs import RECORDED
from replication.errors import ReplicationError
from replication.measurements import instrument_of
from replication.trained_run import TrainedRun, experiment_of, initial_model
from replication.training import train

MAX_STAMPED = 6  # lines below a figure


def train_run(
    *, scale: str, paper: str, run: str, seed: int, data_file: Path, folder: Path, threads: int, stop_after: float = float("inf")
) -> bool:
    """Train one seed of a run into ``folder``: log tables, final weights, kept weights, record.

    Returns False where ``stop_after`` minutes ended it before its last step; the same call continues it.
    """
    config, device = dag.run_of(scale, paper, run), machine.prepare(threads)
    dataset = data.load(data_file)
    experiment = experiment_of(config, dataset, device)
    model = initial_model(config, experiment, seed).to(device)
    depends = dag.training_depends(scale, paper, run)
    checksums = dataset.origin.checksums
    identity = records.canonical_json([depends, checksums, seed, device.type, torch.__version__])
    progress = machine.reporter(f"train {run} seed {seed}")
    trained = train(
        model, experiment, config, seed=seed, folder=folder, identity=_short(identity), progress=progress, stop_after_s=60 * stop_after
    )
    if not trained.finished:
        return False
    details = {"seconds": trained.seconds, "resumed_at_step": trained.resumed_at, "non_finite_at_step": trained.non_finite_at}
    record = _provenance("run", scale, paper, seed, device, run=run, config=config.model_dump(mode="json"), **details)
    record |= {"depends": depends, "kept_steps": [trained.steps[0], trained.steps[-1], len(trained.steps)], "data": _data_entry(dataset)}
    files = [folder / name for name in ("trajectory.npy", "buffers.npy", "weights.safetensors") if (folder / name).exists()]
    records.write_record(folder / records.RECORD, record, files)
    log = {key: value for key, value in record.items() if key != "kind"} | {"kind": "tables", "measurement": run, "trainings": [record]}
    records.write_tables(folder / "tables", records.read_tables(folder / "tables"), log)
    return True


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
    """Measure one part of one seed into an .npz file with its record."""
    config, device = dag.measurement_of(scale, paper, measurement), machine.prepare(threads)
    datasets = {dataset.name: dataset for dataset in map(data.load, data_files)}
    runs, trainings = [], []
    for (name, run_seed), folder in zip(config.sources(seed), run_folders, strict=True):
        run = dag.run_of(scale, paper, name)
        runs.append(TrainedRun(name, run_seed, run, folder, datasets[run.dataset.name], device))
        trainings.append(records.read_record(folder / records.RECORD))
    progress = machine.reporter(f"measure {measurement} seed {seed} part {part}")
    start = time.monotonic()
    arrays = instrument_of(config).measure(config, runs, seed=seed, part=part, progress=progress)
    details = {"seconds": time.monotonic() - start, "config": config.model_dump(mode="json"), "trainings": trainings}
    record = _provenance("part", scale, paper, seed, device, measurement=measurement, part=part, **details)
    record |= {"depends": dag.measuring_depends(scale, paper, measurement)}
    with records.atomic(out) as temporary, open(temporary, "wb") as handle:
        np.savez_compressed(handle, **arrays)  # type: ignore[arg-type]
    records.write_record(Path(f"{out}.json"), record, [out])


def gather(*, scale: str, paper: str, measurement: str, seed: int, parts: Sequence[Path], folder: Path) -> None:
    """Join the parts of one seed into tidy tables."""
    part_records = [records.read_record(Path(f"{part}.json")) for part in parts]
    config = dag.measurement_of(scale, paper, measurement)
    collected = []
    for part in parts:
        with np.load(part, allow_pickle=False) as arrays:
            collected.append(dict(arrays))
    first = part_records[0]
    record = {key: first[key] for key in first if key not in ("files", "part", "seconds", "kind")}
    record |= {"kind": "tables", "seconds": sum(each["seconds"] for each in part_records)}
    records.write_tables(folder, instrument_of(config).tables(config, collected), record)


def load_tables(folders: Sequence[Path]) -> tuple[dict[str, dict[str, pd.DataFrame]], list[dict[str, Any]]]:
    """Tables of several seeds and measurements, each with a ``seed`` column, and their records."""
    collected: dict[str, dict[str, list[pd.DataFrame]]] = {}
    found = []
    for folder in folders:
        record = records.read_record(folder / records.RECORD, check=False)
        found.append(record)
        for name, table in records.read_tables(folder).items():
            table.insert(0, "seed", int(record["seed"]))
            collected.setdefault(record["measurement"], {}).setdefault(name, []).append(table)
    return {m: {name: pd.concat(parts, ignore_index=True) for name, parts in t.items()} for m, t in collected.items()}, found


def draw_figure(*, scale: str, paper: str, figure: str, table_folders: Sequence[Path], folder: Path) -> None:
    """Compute a figure's quantities and draw it, from tables alone."""
    sys.path.insert(0, str(Path.cwd()))  # figures/ lies beside the Snakefile and is not installed
    module = importlib.import_module(f"figures.{figure}")
    style = importlib.import_module("figures.style")
    tables, table_records = load_tables(table_folders)
    quantities = module.quantities(tables)
    rows = [(name, seed, value) for name, values in quantities.items() for seed, value in values.items()]
    stamp = _stamp(scale, table_records)
    style.save(module.draw(tables), folder, figure, stamp)
    with records.atomic(folder / f"{figure}.quantities.csv") as temporary:
        pd.DataFrame(rows, columns=["quantity", "seed", "value"]).to_csv(temporary, index=False, na_rep="nan", lineterminator="\n")
    record = records.provenance(kind="figure", scale=scale, paper=paper, figure=figure, stamp=stamp, tables=table_records)
    files = [folder / f"{figure}.{extension}" for extension in (*style.FORMATS, "quantities.csv")]
    records.write_record(folder / f"{figure}.json", record, files)


def read_quantities(path: Path) -> dict[str, dict[int, float]]:
    """Quantities of a figure: by name, one estimate per seed."""
    records.read_record(path.with_name(path.name.replace(".quantities.csv", ".json")))
    table = pd.read_csv(path)
    return {str(name): dict(zip(rows["seed"], rows["value"], strict=True)) for name, rows in table.groupby("quantity", sort=False)}


def judge_figure(*, scale: str, paper: str, figure: str, quantities_file: Path, out: Path) -> None:
    """Judge a figure's claims; what is wrong shows as a verdict, and writing it always succeeds."""
    quantities = read_quantities(quantities_file)
    config = dag.figure_of(scale, paper, figure)
    amended = claims.check_lock(raw_claims(), configs.FOLDER / claims.LOCK)
    verdicts = [claims.judge(claim, quantities, may_be_absent=scale == RECORDED) for claim in config.claims]
    entries = [{**asdict(verdict), "post_hoc": verdict.id in amended} for verdict in verdicts]
    records.write_json(out, {"scale": scale, "paper": paper, "figure": figure, "verdicts": entries})


def raw_claims() -> dict[str, dict[str, Any]]:
    """Every claim as written in paper_configs, all scales side by side, by id."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(configs.FOLDER.glob("*.yaml")):
        for figure in configs.read(path)["figures"].values():
            found |= {claim["id"]: claim for claim in figure.get("claims", [])}
    return found


def record_tables(*, paper: str, measurement: str) -> list[Path]:
    """Copy the tables of finished full-scale seeds into recorded/, where they are kept; returns the folders written."""
    source = Path(f"results/full/{paper}/tables/{measurement}")
    written = []
    for folder in sorted(source.glob("seed*")):
        target = dag.RECORDED_FOLDER / paper / measurement / folder.name
        record = records.read_record(folder / records.RECORD, check=False)
        records.write_tables(target, records.read_tables(folder), record)
        written.append(target)
    if not written:
        raise ReplicationError(
            f"There are no tables in {source}; run the figure with --config scale=full first: no other scale is recorded."
        )
    return written


def _data_entry(dataset: data.Dataset) -> dict[str, Any]:
    origin = dataset.origin
    return {"name": dataset.name, "source": origin.kind, "content": origin.content, "checksums": dict(origin.checksums)}


def _provenance(kind: str, scale: str, paper: str, seed: int, device: torch.device, **details: Any) -> dict[str, Any]:
    return records.provenance(kind=kind, scale=scale, paper=paper, seed=seed, device=machine.describe(device), **details)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _stamp(scale: str, table_records: list[dict[str, Any]]) -> str:
    """The line below a figure: what it was measured on, and how much that can say."""
    seeds: dict[str, list[int]] = {}
    trainings = [training for record in table_records for training in record["trainings"]]
    for training in trainings:
        count = training["config"]["dataset"]["examples"]
        images = f"{count:,} images" if count else "all training images"
        what = f"{training['run']}: {training['data']['name']}, {images}, {training['config']['steps']:,} iterations"
        seeds.setdefault(what, []).append(training["seed"])
    parts = [f"{what}, seeds {', '.join(map(str, sorted(set(found))))}" for what, found in seeds.items()]
    parts = parts if len(parts) <= MAX_STAMPED else [*parts[: MAX_STAMPED - 1], f"and {len(parts) - MAX_STAMPED + 1} more runs like these"]
    smoke = "SMOKE SCALE, digits in place of the paper's data: speaks for no claim" if trainings else "SMOKE SCALE: speaks for no claim"
    lead = {"smoke": smoke, "recorded": _recorded_lead(table_records)}
    return "\n".join([lead.get(scale, f"{scale} scale"), *parts])


def _recorded_lead(table_records: list[dict[str, Any]]) -> str:
    first, last = (pick(record["created"] for record in table_records) for pick in (min, max))
    days = " to ".join(dict.fromkeys(datetime.datetime.fromisoformat(moment).date().isoformat() for moment in (first, last)))
    places = ", ".join(dict.fromkeys(f"{record['device']} ({record['processor']})" for record in table_records))
    return f"full scale as published, recorded {days} on {places}"
