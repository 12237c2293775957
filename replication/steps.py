"""The steps of the DAG: here files, configurations and instruments meet. Each reads files, calls one library and writes files."""

import datetime
import hashlib
import importlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from replication import claims, configs, dag, data, lca, lca_sampled, machine, models, records
from replication.configs import RECORDED
from replication.errors import ReplicationError
from replication.lca_ledger import Ledger
from replication.lca_sampled import SampledLedger
from replication.objective import Objective
from replication.schema import LcaConfig, MeanStd, Measurement, RunConfig, SampledLcaConfig
from replication.training import derived_seed, train


def train_run(
    *, scale: str, paper: str, run: str, seed: int, data_file: Path, folder: Path, threads: int, stop_after: float = float("inf")
) -> bool:
    """Train one seed of a run into ``folder``: log tables, final weights, kept weights, record.

    Returns False where ``stop_after`` minutes ended it before its last step; the same call continues it.
    """
    config, device = dag.run_of(scale, paper, run), machine.prepare(threads)
    dataset, experiment = _experiment(config, data_file, device)
    model = _model(config, experiment, seed).to(device)
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
    return True


def measure_part(
    *, scale: str, paper: str, measurement: str, seed: int, part: int, run_folder: Path, data_file: Path, out: Path, threads: int
) -> None:
    """Measure one part (a span of iterations) of one seed into an .npz file with its record."""
    config, device = dag.measurement_of(scale, paper, measurement), machine.prepare(threads)
    run = dag.run_of(scale, paper, config.run)
    trained = records.read_record(run_folder / records.RECORD)
    dataset, experiment = _experiment(run, data_file, device)
    objective = Objective(
        _model(run, experiment, seed), experiment.train.images, experiment.train.labels, batch_norm=config.batch_norm, chunk=config.chunk
    )
    trajectory = np.load(run_folder / "trajectory.npy", mmap_mode="r")
    bounds = np.linspace(0, run.steps, config.spans + 1).round().astype(int)
    span = range(int(bounds[part]), int(bounds[part + 1]))
    progress = machine.reporter(f"measure {measurement} seed {seed} steps {span.start}-{span.stop}")
    start = time.monotonic()
    ledger = _measure(config, objective, trajectory, span, progress)
    details = {"seconds": time.monotonic() - start, "chunk": objective.chunk, "config": config.model_dump(mode="json")}
    record = _provenance("part", scale, paper, seed, device, measurement=measurement, run=config.run, part=part, **details)
    record |= {"depends": dag.measuring_depends(scale, paper, measurement), "data": _data_entry(dataset), "training": trained}
    with records.atomic(out) as temporary, open(temporary, "wb") as handle:
        np.savez_compressed(handle, **ledger.arrays())  # type: ignore[arg-type]
    records.write_record(Path(f"{out}.json"), record, [out])


def _measure(
    config: Measurement, objective: Objective, trajectory: np.ndarray, span: range, progress: Callable[[int, int], None]
) -> Ledger | SampledLedger:
    """Point the configured instrument at a span of a trajectory."""
    if isinstance(config, SampledLcaConfig):
        settings = config.model_dump(include={"examples", "groups", "seed", "fresh", "intervals"})
        return lca_sampled.along(objective, trajectory, steps=span, progress=progress, **settings)
    limits = config.model_dump(include={"max_error", "max_intervals"})
    return lca.along(objective, trajectory, steps=span, progress=progress, **limits)


def gather(*, scale: str, paper: str, measurement: str, seed: int, parts: Sequence[Path], folder: Path) -> None:
    """Join the parts of one seed into tidy tables."""
    part_records = [records.read_record(Path(f"{part}.json")) for part in parts]
    config = dag.measurement_of(scale, paper, measurement)
    kind: Any = SampledLedger if isinstance(config, SampledLcaConfig) else Ledger
    ledgers = []
    for part in parts:
        with np.load(part, allow_pickle=False) as arrays:
            ledgers.append(kind.from_arrays(dict(arrays)))
    first = part_records[0]
    record = {key: first[key] for key in first if key not in ("files", "part", "seconds", "kind")}
    record |= {"kind": "tables", "seconds": sum(each["seconds"] for each in part_records)}
    tables = kind.merge(ledgers).tables()
    if isinstance(config, LcaConfig):
        missed = int((tables["steps"]["error"].abs() > config.max_error).sum())
        record["steps_above_max_error"] = missed
        print(f"{measurement} seed {seed}: {missed} of {len(tables['steps'])} steps above the error threshold {config.max_error:g}")
    records.write_tables(folder, tables, record)


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


def _experiment(config: RunConfig, data_file: Path, device: torch.device) -> tuple[data.Dataset, data.Experiment]:
    dataset = data.load(data_file)
    settings = config.dataset.model_dump(exclude={"name"})
    if isinstance(pixels := config.dataset.normalisation, MeanStd):
        settings["normalisation"] = (pixels.mean, pixels.std)
    return dataset, data.assemble(dataset, **settings, device=device)


def _model(config: RunConfig, experiment: data.Experiment, seed: int) -> torch.nn.Module:
    channels = experiment.train.images.shape[1]
    seed = derived_seed(seed, "initialisation")
    return models.build(config.model, classes=experiment.classes, channels=channels, seed=seed, **config.model_settings)


def _data_entry(dataset: data.Dataset) -> dict[str, Any]:
    origin = dataset.origin
    return {"name": dataset.name, "source": origin.kind, "content": origin.content, "checksums": dict(origin.checksums)}


def _provenance(kind: str, scale: str, paper: str, seed: int, device: torch.device, **details: Any) -> dict[str, Any]:
    return records.provenance(kind=kind, scale=scale, paper=paper, seed=seed, device=machine.describe(device), **details)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _stamp(scale: str, table_records: list[dict[str, Any]]) -> str:
    """The line below a figure: what it was measured on, and how much that can say."""
    parts = []
    for name in dict.fromkeys(record["measurement"] for record in table_records):
        ours = [record for record in table_records if record["measurement"] == name]
        config, source = ours[0]["training"]["config"], ours[0]["data"]
        seeds = ", ".join(str(record["seed"]) for record in ours)
        count = config["dataset"]["examples"]
        images = f"{count:,} images" if count else "all training images"
        parts.append(f"{ours[0]['run']}: {source['name']}, {images}, {config['steps']:,} iterations, seeds {seeds}")
    lead = {"smoke": "SMOKE SCALE, digits in place of the paper's data: speaks for no claim", "recorded": _recorded_lead(table_records)}
    return "\n".join([lead.get(scale, f"{scale} scale"), *dict.fromkeys(parts)])


def _recorded_lead(table_records: list[dict[str, Any]]) -> str:
    first, last = (pick(record["created"] for record in table_records) for pick in (min, max))
    days = " to ".join(dict.fromkeys(datetime.datetime.fromisoformat(moment).date().isoformat() for moment in (first, last)))
    places = ", ".join(dict.fromkeys(f"{record['device']} ({record['processor']})" for record in table_records))
    return f"full scale as published, recorded {days} on {places}"
