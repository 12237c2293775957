"""What the Snakefile asks of the configurations: which figures, seeds and parts there are, and what each job depends on."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from replication import models
from replication.errors import ReplicationError
from replication.pipeline import configs
from replication.pipeline.configs import RECORDED
from replication.pipeline.fingerprints import code_fingerprint
from replication.schema.base import SCALES
from replication.schema.measurements import Untrained
from replication.schema.papers import FigureConfig, Measurement, PaperConfig
from replication.schema.runs import RunConfig

AUTO = "auto"
RECORDED_FOLDER = Path("recorded")
Entry = TypeVar("Entry")


def _remembered(function: Callable[[str, str, str], str]) -> Callable[[str, str, str], str]:
    """Remember the answers of a function that is asked for every job, as long as paper_configs of this folder stays as it is."""

    @functools.cache
    def answer(_state: configs.FolderState, scale: str, paper: str, name: str) -> str:
        return function(scale, paper, name)

    @functools.wraps(function)
    def ask(scale: str, paper: str, name: str) -> str:
        return answer(configs.state(), scale, paper, name)

    return ask


def figures() -> list[tuple[str, str, FigureConfig]]:
    """Paper, name and configuration of every figure; there are the same ones at every scale."""
    return [(paper, name, figure) for paper, config in configs.load("full").items() for name, figure in config.figures.items()]


def is_recorded(paper: str, figure: str) -> bool:
    """Whether tables of any of the figure's measurements or runs are kept in recorded/."""
    entry = figure_of(RECORDED, paper, figure)
    return any((RECORDED_FOLDER / paper / name).is_dir() for name in (*entry.measurements, *entry.runs))


def ci_figures() -> list[tuple[str, str]]:
    """Paper and name of every figure with a claim that continuous integration checks."""
    return [(paper, name) for paper, name, figure in figures() if any(claim.ci for claim in figure.claims)]


def scale_of(paper: str, figure: str, requested: str) -> str:
    """The requested scale, or for ``auto`` the largest that this machine can do: reduced where the data can be had, else smoke."""
    if requested not in (AUTO, RECORDED, *SCALES):
        allowed = ", ".join([AUTO, *SCALES, RECORDED])
        raise ReplicationError(f"The scale is '{requested}'; allowed with --config scale=...: {allowed}.")
    if requested != AUTO:
        return requested
    from replication import data  # it imports torch, which a job whose scale is known may not need

    config = configs.load("reduced")[paper]
    needed = {config.runs[run].dataset.name for run in runs_of(config, figure)}
    return "reduced" if all(data.available(name) for name in needed) else "smoke"


def runs_of(config: PaperConfig, figure: str) -> list[str]:
    """The runs that a figure is drawn from, by themselves or through measurements."""
    entry = config.figures[figure]
    measured = (run for name in entry.measurements for run in config.measurements[name].run_names)
    return list(dict.fromkeys([*entry.runs, *measured]))


def sources(scale: str, paper: str, measurement: str, seed: int, part: int) -> list[tuple[str, int]]:
    """Run and seed of every training that one part of a measurement reads."""
    return list(measurement_of(scale, paper, measurement).sources_of_part(seed, part))


def run_of(scale: str, paper: str, run: str) -> RunConfig:
    """Configuration of a training run."""
    return _entry(paper_of(scale, paper).runs, run, f"run of {paper}")


def measurement_of(scale: str, paper: str, measurement: str) -> Measurement:
    """Configuration of a measurement."""
    return _entry(paper_of(scale, paper).measurements, measurement, f"measurement of {paper}")


def figure_of(scale: str, paper: str, figure: str) -> FigureConfig:
    """Configuration of a figure."""
    return _entry(paper_of(scale, paper).figures, figure, f"figure of {paper}")


def paper_of(scale: str, paper: str) -> PaperConfig:
    """Configuration of a paper."""
    return _entry(configs.load(scale), paper, "paper")


def _entry(entries: dict[str, Entry], name: str, what: str) -> Entry:
    if name not in entries:
        raise ReplicationError(f"There is no {what} named '{name}'; allowed: {', '.join(entries)}.")
    return entries[name]


def figures_of(scale: str) -> dict[tuple[str, str], list[str]]:
    """By paper and name of a measurement or run: the figures that are drawn from it."""
    drawn: dict[tuple[str, str], list[str]] = {}
    for paper, config in configs.load(scale).items():
        for figure, entry in config.figures.items():
            for name in (*entry.measurements, *entry.runs):
                drawn.setdefault((paper, name), []).append(figure)
    return drawn


def table_folders(scale: str, paper: str, figure: str, seeds: int | None = None) -> list[str]:
    """Folders of the tables that a figure is drawn from: of each measurement, with its seeds below, and of each seed of a run.

    For ``recorded``, those that exist, with their seeds below.
    """
    entry = figure_of(scale, paper, figure)
    if scale == RECORDED:
        folders = [RECORDED_FOLDER / paper / name for name in (*entry.measurements, *entry.runs)]
        recorded = [str(folder) for folder in folders if any(folder.glob("seed*"))]
        if not recorded:
            raise ReplicationError(f"Nothing is recorded for {figure} in {RECORDED_FOLDER / paper}; run it with --config scale=full.")
        return recorded
    measured = [f"results/{scale}/{paper}/tables/{name}" for name in entry.measurements]
    trained = [
        f"results/{scale}/{paper}/runs/{run}/seed{seed}/tables"
        for run in entry.runs
        for seed in range(n_seeds_of_run(scale, paper, run, seeds))
    ]
    return measured + trained


def n_seeds_of_run(scale: str, paper: str, run: str, seeds: int | None = None) -> int:
    """How many seeds of a run are trained: ``seeds``, or the number in its configuration."""
    return run_of(scale, paper, run).seeds if seeds is None else seeds


def n_seeds(scale: str, paper: str, measurement: str, seeds: int | None = None) -> int:
    """How many seeds of a measurement are made, with ``seeds`` trainings of every run or as many as configured.

    Raises:
        ReplicationError: ``seeds`` are so few that the measurement has one estimate where it had several.
    """
    config, runs = measurement_of(scale, paper, measurement), paper_of(scale, paper).runs
    configured = config.n_seeds(runs)
    if seeds is None:
        return configured
    if isinstance(config, Untrained):
        return seeds
    made = config.n_seeds({name: run.model_copy(update={"seeds": seeds}) for name, run in runs.items()})
    if made < min(2, configured):
        raise ReplicationError(
            f"With seeds={seeds}, {measurement} of {paper} has one estimate only: each compares several networks; use more seeds."
        )
    return made


def part_files(scale: str, paper: str, measurement: str, seeds: int | None = None) -> list[str]:
    """Every part of every seed of a measurement."""
    parts = measurement_of(scale, paper, measurement).parts
    folders = [f"results/{scale}/{paper}/parts/{measurement}/seed{seed}" for seed in range(n_seeds(scale, paper, measurement, seeds))]
    return [f"{folder}/{part}.npz" for folder in folders for part in range(parts)]


@_remembered
def training_depends(scale: str, paper: str, run: str) -> str:
    """Fingerprint of a run's configuration (its number of seeds left out) and of the code that trains it."""
    config = run_of(scale, paper, run).model_copy(update={"seeds": 1})
    return f"{configs.identity(config)} {code_fingerprint('replication.training.loop', models.module_of(config.model))}"


@_remembered
def measuring_depends(scale: str, paper: str, measurement: str) -> str:
    """Fingerprint of a measurement's configuration (its number of seeds left out) and of the code that makes it."""
    config = measurement_of(scale, paper, measurement)
    if isinstance(config, Untrained):  # more seeds repeat no earlier seed
        config = config.model_copy(update={"seeds": 1})
    built = [models.module_of(run_of(scale, paper, run).model) for run in config.run_names]
    return f"{configs.identity(config)} {code_fingerprint(f'replication.measurements.{config.instrument}', *built)}"


@_remembered
def drawing_depends(scale: str, paper: str, figure: str) -> str:
    """Fingerprint of the module that draws a figure; its claims are judged apart from it."""
    config = figure_of(scale, paper, figure)
    return f"{config.reproduces} {code_fingerprint(f'figures.{figure}', 'replication.claims.statistics')}"


@_remembered
def judging_depends(scale: str, paper: str, figure: str) -> str:
    """Fingerprint of a figure's claims and of the code that judges them."""
    config = figure_of(scale, paper, figure)
    return " ".join(
        [*(configs.identity(claim) for claim in config.claims), code_fingerprint("replication.claims.verdicts", "replication.claims.lock")]
    )


def page_depends() -> str:
    """Fingerprint of the code that writes the page of claims."""
    return code_fingerprint("replication.claims.page")


def data_depends() -> str:
    """Fingerprint of the code that reads data sets."""
    return code_fingerprint("replication.data.examples", "replication.data.sources.reading", "replication.data.sources.formats")
