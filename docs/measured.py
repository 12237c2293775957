"""docs/measured.csv: what each figure costs and what its claims came to, collected from finished results."""

import datetime
from collections import Counter
from pathlib import Path

import pandas as pd

from replication.claims.results import VERDICTS, read_verdicts
from replication.claims.verdicts import COUNTED, counted_as
from replication.errors import ReplicationError
from replication.files.atomic import atomic
from replication.files.provenance import provenance_file, read_provenance
from replication.pipeline import dag
from replication.pipeline.configs import RECORDED

MEASURED = Path("docs/measured.csv")
RESULTS = Path("results")
COLUMNS = ["paper", "figure", "scale", "date", "core_minutes", *COUNTED]
SCALES = ("reduced", "full", RECORDED)  # smoke speaks for no claim


def collect(scale: str, results: Path = RESULTS) -> pd.DataFrame:
    """Rows of docs/measured.csv for every figure that is drawn and judged in ``results`` at ``scale``; there may be none.

    Raises:
        ReplicationError: the scale speaks for no claim, or a file is damaged.
    """
    if scale not in SCALES:
        raise ReplicationError(f"The scale is '{scale}'; allowed in {MEASURED}: {', '.join(SCALES)}.")
    rows = []
    for paper, figure, _ in dag.figures():
        stem = results / scale / paper / "figures" / figure
        verdicts = stem.with_name(f"{figure}{VERDICTS}")
        if verdicts.exists():
            counts = Counter(counted_as(entry) for entry in read_verdicts(verdicts).verdicts)
            made = datetime.datetime.fromisoformat(read_provenance(provenance_file(stem), check=False)["created"])
            cost = core_minutes(scale, paper, figure, results)
            rows.append([paper, figure, scale, made.date().isoformat(), cost, *(counts[outcome] for outcome in COUNTED)])
    return pd.DataFrame(rows, columns=COLUMNS)


def core_minutes(scale: str, paper: str, figure: str, results: Path = RESULTS) -> float | None:
    """Processor minutes of every training and measurement a figure needs by itself; None unless all of them were timed."""
    if scale == RECORDED:
        return None
    config, entry = dag.paper_of(scale, paper), dag.figure_of(scale, paper, figure)
    wanted = {f"train/{run}.{seed}" for run in entry.runs for seed in range(config.runs[run].seeds)}
    for name in entry.measurements:
        measurement = config.measurements[name]
        for seed in range(measurement.n_seeds(config.runs)):
            wanted |= {f"train/{run}.{source}" for run, source in measurement.sources(seed)}
            wanted |= {f"measure/{name}.{seed}.{part}" for part in range(measurement.parts)}
    files = [results / "benchmarks" / scale / paper / f"{job}.tsv" for job in sorted(wanted)]
    if not all(file.exists() for file in files):
        return None
    return round(sum(_seconds(file) for file in files) / 60, 1)


def _seconds(benchmark: Path) -> float:
    """Processor seconds of a job; elapsed ones where it ended before Snakemake looked."""
    last = pd.read_csv(benchmark, sep="\t").iloc[-1]
    return float(last["s"] if pd.isna(last["cpu_time"]) else last["cpu_time"])


def update(results: Path = RESULTS) -> None:
    """Put the finished results of every scale into docs/measured.csv, in place of older rows of the same figures."""
    frames = [pd.read_csv(MEASURED)] if MEASURED.exists() else []
    collected = [rows for scale in SCALES if len(rows := collect(scale, results))]
    newest = pd.concat([*frames, *collected]).drop_duplicates(["figure", "scale"], keep="last").set_index(["scale", "figure"])
    order = [(each, name) for each in SCALES for _, name, _ in dag.figures() if (each, name) in newest.index]
    with atomic(MEASURED) as temporary:
        newest.loc[order].reset_index()[COLUMNS].to_csv(temporary, index=False, lineterminator="\n")


def read() -> pd.DataFrame:
    """docs/measured.csv by figure and scale.

    Raises:
        ReplicationError: it names a figure that paper_configs does not have, or other numbers of claims.
    """
    measured = pd.read_csv(MEASURED)
    claims = {name: len(figure.claims) for _, name, figure in dag.figures()}
    for row in measured.to_dict("records"):
        verdicts = sum(row[outcome] for outcome in COUNTED)
        if claims.get(row["figure"]) != verdicts:
            raise ReplicationError(
                f"{MEASURED} has {verdicts} verdicts for {row['figure']} at scale {row['scale']}, paper_configs has claims: "
                f"{claims.get(row['figure'], 'no such figure')}; run `snakemake claims` and `make pictures`."
            )
    return measured.set_index(["figure", "scale"])
