"""What is to be recorded: the queue of ``paper_configs/queue.yaml``, checked against the papers' configurations, and shown as a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from tabulate import tabulate

from replication.errors import ReplicationError
from replication.files.provenance import PROVENANCE, read_provenance
from replication.pipeline import configs, dag
from replication.schema.queue import Queue, QueueEntry
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
    """The entries of the queue in order.

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


def _n_seeds(scale: str, paper: str, name: str, is_run: bool) -> int:
    config = dag.paper_of(scale, paper)
    return config.runs[name].seeds if is_run else config.measurements[name].n_seeds(config.runs)


def units_of(entry: QueueEntry, scale: str) -> list[Unit]:
    """The units of an entry, seed by seed, so that units that read the same trainings are neighbours."""
    names = [(name, False) for name in entry.measurements] + [(name, True) for name in entry.runs]
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


def show(only: Sequence[str] = ()) -> None:
    """Print a row per measurement or run of the queue: minutes per seed, seeds recorded, on what, and the figures drawn from it."""
    entries, figures = load(), dag.figures_of("full")
    chosen = {(unit.paper, unit.name) for unit in units(entries, "full", only)}
    rows = []
    for entry in entries:
        names = [(entry.paper, name) for name in (*entry.measurements, *entry.runs) if (entry.paper, name) in chosen]
        rows += [(paper, name, *_progress(entry, name), ", ".join(figures.get((paper, name), []))) for paper, name in names]
    headers = ["paper", "measurement or run", "recorded", "minutes of a seed", "on", "the queue says", "figures"]
    print(tabulate(rows, headers=headers, maxcolwidths=[None] * 4 + [26, None, 50]))


def _progress(entry: QueueEntry, name: str) -> tuple[str, str, str, str]:
    """Seeds recorded of those in the queue; minutes of one seed; devices; the minutes that the queue states for the whole entry."""
    paths = sorted((dag.RECORDED_FOLDER / entry.paper / name).glob(f"seed*/{PROVENANCE}"))
    provenances = [read_provenance(path, check=False) for path in paths]
    n_seeds = sum(unit.name == name for unit in units_of(entry, "full"))
    is_run = name in entry.runs
    seconds = [sum(training["seconds"] for training in each["trainings"]) + (0 if is_run else each["seconds"]) for each in provenances]
    minutes = f"{sum(seconds) / len(seconds) / 60:.1f}" if seconds else ""
    devices = ", ".join(dict.fromkeys(each["device"] for each in provenances))
    return f"{min(len(provenances), n_seeds)} of {n_seeds}", minutes, devices, f"{entry.minutes:g} {entry.minutes_are}"
