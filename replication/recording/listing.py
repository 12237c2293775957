"""The queue of full-scale experiments as a table: what it takes, and what is recorded."""

from collections.abc import Sequence

from tabulate import tabulate

from replication.files.provenance import read_provenance
from replication.pipeline import dag
from replication.recording import queue
from replication.schema.queue import QueueEntry


def show(only: Sequence[str] = ()) -> None:
    """Print a row per measurement or run of the queue: minutes per seed, seeds recorded, on what, and the figures drawn from it."""
    entries, figures = queue.load(), queue.figures_of("full")
    chosen = {(unit.paper, unit.name) for unit in queue.units(entries, "full", only)}
    rows = []
    for entry in entries:
        names = [(entry.paper, name) for name in (*entry.measurements, *entry.runs) if (entry.paper, name) in chosen]
        rows += [(paper, name, *_row(entry, name), ", ".join(figures.get((paper, name), []))) for paper, name in names]
    headers = ["paper", "measurement or run", "recorded", "minutes of a seed", "on", "the queue says", "figures"]
    print(tabulate(rows, headers=headers, maxcolwidths=[None] * 4 + [26, None, 50]))


def _row(entry: QueueEntry, name: str) -> tuple[str, str, str, str]:
    """Seeds recorded of those wanted; minutes that one took; on what; what the queue says of the whole entry."""
    paths = sorted((dag.RECORDED_FOLDER / entry.paper / name).glob("seed*/provenance.json"))
    found = [read_provenance(path, check=False) for path in paths]
    wanted = sum(unit.name == name for unit in queue.units_of(entry, "full"))
    of_run = name in entry.runs
    seconds = [sum(each["seconds"] for each in record["trainings"]) + (0 if of_run else record["seconds"]) for record in found]
    minutes = f"{sum(seconds) / len(seconds) / 60:.1f}" if found else ""
    devices = ", ".join(dict.fromkeys(record["device"] for record in found))
    return f"{min(len(found), wanted)} of {wanted}", minutes, devices, f"{entry.minutes:g} {entry.minutes_are}"
