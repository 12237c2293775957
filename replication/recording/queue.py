"""What is to be recorded: the queue of ``paper_configs/queue.yaml``, checked against the papers' configurations, and shown as a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from pydantic import ValidationError
from tabulate import tabulate

from replication.errors import ReplicationError
from replication.files.provenance import PROVENANCE, read_provenance
from replication.pipeline import configs, dag
from replication.schema.queue import Device, Queue, QueueEntry
from replication.schema.runs import RunConfig

Training = tuple[str, str, int]  # paper, run, seed


@dataclass(frozen=True)
class Unit:
    """One seed of a measurement, or of a run whose log is recorded. It results in one folder of tables.

    Attributes:
        is_run: whether ``name`` is a run.
        side_by_side: how many jobs of its entry share a GPU.
    """

    scale: str
    paper: str
    name: str
    seed: int
    is_run: bool
    side_by_side: int

    def __str__(self) -> str:  # noqa: D105 - for messages
        return f"{self.paper}/{self.name} seed {self.seed}"

    @property
    def tables(self) -> str:
        """Where its tables lie below a folder of results."""
        return f"{self.scale}/{self.paper}/tables/{self.name}/seed{self.seed}"

    @property
    def kept(self) -> str:
        """Where its tables lie below ``recorded/``."""
        return f"{self.paper}/{self.name}/seed{self.seed}"

    @property
    def parts(self) -> int:
        """How many parts there are to measure."""
        return 0 if self.is_run else dag.measurement_of(self.scale, self.paper, self.name).parts

    def part(self, number: int) -> str:
        """Where the file of a part lies below a folder of results."""
        return f"{self.scale}/{self.paper}/parts/{self.name}/seed{self.seed}/{number}.npz"

    def trainings_of(self, part: int) -> list[Training]:
        """The trainings that one part reads."""
        return [(self.paper, run, seed) for run, seed in dag.sources(self.scale, self.paper, self.name, self.seed, part)]

    @property
    def trainings(self) -> list[Training]:
        """The trainings that it reads, or is."""
        if self.is_run:
            return [(self.paper, self.name, self.seed)]
        return [(self.paper, run, seed) for run, seed in dag.measurement_of(self.scale, self.paper, self.name).sources(self.seed)]

    @property
    def depends(self) -> str:
        """Fingerprint of the configuration and the code that make it."""
        return (dag.training_depends if self.is_run else dag.measuring_depends)(self.scale, self.paper, self.name)


def run_folder(scale: str, training: Training) -> str:
    """Where a training lies below a folder of results."""
    paper, run, seed = training
    return f"{scale}/{paper}/runs/{run}/seed{seed}"


def run_of(scale: str, training: Training) -> RunConfig:
    """Configuration of a training."""
    return dag.run_of(scale, *training[:2])


def load(folder: Path = configs.FOLDER) -> list[QueueEntry]:
    """The entries of the queue in the order of the file.

    Raises:
        ReplicationError: the file is missing or broken, or names something that the configurations do not have.
    """
    path = folder / configs.QUEUE
    try:
        entries = Queue.model_validate(configs.read(path)).queue
    except ValidationError as error:
        raise ReplicationError(f"{path}: {configs.describe(error)}.") from None
    for entry in entries:
        _check(entry, path)
    return entries


def _check(entry: QueueEntry, path: Path) -> None:
    papers = configs.load("full")
    if entry.paper not in papers:
        raise ReplicationError(f"{path} names the unknown paper '{entry.paper}'; allowed: {', '.join(papers)}.")
    config = papers[entry.paper]
    for what, names, known in (("measurement", entry.measurements, config.measurements), ("run", entry.runs, config.runs)):
        for name in names:
            if name not in known:
                raise ReplicationError(f"{path} names the unknown {what} '{name}' of {entry.paper}; allowed: {', '.join(known)}.")
            if entry.seeds and entry.seeds > (n_seeds := _n_seeds("full", entry.paper, name, what == "run")):
                raise ReplicationError(f"{path} asks for {entry.seeds} seeds of {entry.paper}/{name}, which has {n_seeds}; ask for fewer.")


def in_order(entries: Sequence[QueueEntry], device: Device, scale: str = "full") -> list[QueueEntry]:
    """The entries with the cheapest evidence first.

    That is the fewest minutes of all its seeds per figure that no earlier entry of the file gives anything to, one at least.
    """
    figures, known_figures, known_units = dag.figures_of(scale), set[str](), set[str]()
    cost = {}
    for number, entry in enumerate(entries):
        drawn = {figure for name in entry.names for figure in figures.get((entry.paper, name), ())} - known_figures
        seeds = {unit.seed for unit in units_of(entry, scale) if unit.tables not in known_units}
        cost[number] = entry.minutes(device) * len(seeds) / max(1, len(drawn))
        known_figures |= drawn
        known_units |= {unit.tables for unit in units_of(entry, scale)}
    return [entries[number] for number in sorted(cost, key=lambda number: cost[number])]


def _n_seeds(scale: str, paper: str, name: str, is_run: bool) -> int:
    config = dag.paper_of(scale, paper)
    return config.runs[name].seeds if is_run else config.measurements[name].n_seeds(config.runs)


def units_of(entry: QueueEntry, scale: str) -> list[Unit]:
    """The units of an entry, seed by seed, so that units that read the same trainings are neighbours."""
    names = [(name, name in entry.runs) for name in entry.names]
    seeds = {name: min(entry.seeds or 2**32, _n_seeds(scale, entry.paper, name, is_run)) for name, is_run in names}
    return [
        Unit(scale=scale, paper=entry.paper, name=name, seed=seed, is_run=is_run, side_by_side=entry.side_by_side)
        for seed in range(max(seeds.values()))
        for name, is_run in names
        if seed < seeds[name]
    ]


def units(entries: Sequence[QueueEntry], scale: str, only: Sequence[str] = ()) -> list[Unit]:
    """The units of all entries, each once, in order; of those that ``only`` names (figures, measurements or runs) if any.

    Raises:
        ReplicationError: a name that is not in the queue.
    """
    by_tables: dict[str, Unit] = {}
    for unit in (unit for entry in entries for unit in units_of(entry, scale)):
        by_tables.setdefault(unit.tables, unit)
    ordered = list(by_tables.values())
    if not only:
        return ordered
    by_figure = dag.figures_of(scale)
    for name in only:
        if not any(name in (unit.name, *by_figure.get((unit.paper, unit.name), ())) for unit in ordered):
            allowed = dict.fromkeys(unit.name for unit in ordered)
            raise ReplicationError(f"The queue has no '{name}'; allowed with --only: figures and {', '.join(allowed)}.")
    return [unit for unit in ordered if set(only) & {unit.name, *by_figure.get((unit.paper, unit.name), ())}]


def show(only: Sequence[str], device: Device) -> None:
    """Print a row per entry of the queue, in the order for a device: what is recorded, what a seed costs, the figures drawn from it."""
    entries, figures = in_order(load(), device), dag.figures_of("full")
    chosen = {unit.tables for unit in units(entries, "full", only)}
    shown = [entry for entry in entries if any(unit.tables in chosen for unit in units_of(entry, "full"))]
    rows = []
    for entry in shown:
        drawn = dict.fromkeys(figure for name in entry.names for figure in figures.get((entry.paper, name), ()))
        costs = (f"{entry.core_minutes:,.9g} {entry.core_minutes_are}", f"{entry.gpu_minutes:,.9g} {entry.gpu_minutes_are}")
        recorded = "\n".join(_recorded(entry, name) for name in entry.names)
        rows.append([entry.paper, "\n".join(entry.names), recorded, *costs, ", ".join(drawn)])
    headers = ["paper", "measurement or run", "recorded", "core-minutes\nof a seed", "GPU minutes\nof a seed", "figures that gain"]
    print(tabulate(rows, headers=headers, maxcolwidths=[None] * 5 + [60]))
    left = {unit.tables for unit in units(shown, "full", only) if not (dag.RECORDED_FOLDER / unit.kept).is_dir()}
    hours = {each: _hours(shown, left, each) for each in get_args(Device)}
    print(f"\nThe cheapest evidence first, on the {device.upper()} found here.", end=" ")
    print(f"Left, at most: {hours['cpu']:,.0f} core-hours, or {hours['gpu']:,.0f} hours of a GPU.")


def _recorded(entry: QueueEntry, name: str) -> str:
    """Seeds recorded of those in the queue, and on what."""
    seeds = [unit for unit in units_of(entry, "full") if unit.name == name]
    paths = [path for unit in seeds if (path := dag.RECORDED_FOLDER / unit.kept / PROVENANCE).is_file()]
    devices = dict.fromkeys(read_provenance(path, check=False)["device"].partition(",")[0] for path in paths)
    return f"{len(paths)} of {len(seeds)}" + (f" ({', '.join(devices)})" if devices else "")


def _hours(entries: Sequence[QueueEntry], left: set[str], device: Device) -> float:
    """What the seeds with anything left to record cost, each as a whole entry."""
    minutes, counted = 0.0, set[str]()
    for entry in entries:
        of_entry = [unit for unit in units_of(entry, "full") if unit.tables in left - counted]
        minutes += entry.minutes(device) * len({unit.seed for unit in of_entry})
        counted |= {unit.tables for unit in of_entry}
    return minutes / 60
