"""What the Snakefile asks of the configurations: which figures, seeds and parts there are, and what each job depends on."""

import functools
from pathlib import Path
from typing import TypeVar

from replication import configs, data, models
from replication.configs import RECORDED
from replication.errors import ReplicationError
from replication.fingerprints import code_fingerprint
from replication.schema import SCALES, FigureConfig, Measurement, PaperConfig, RunConfig

AUTO = "auto"
RECORDED_FOLDER = Path("recorded")
Entry = TypeVar("Entry")


@functools.cache
def papers(scale: str) -> dict[str, PaperConfig]:
    """Every paper's configuration at ``scale``."""
    return configs.load(scale)


def figures() -> list[tuple[str, str, FigureConfig]]:
    """Paper, name and configuration of every figure; there are the same ones at every scale."""
    return [(paper, name, figure) for paper, config in papers("full").items() for name, figure in config.figures.items()]


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
    config = papers("reduced")[paper]
    needed = {config.runs[config.measurements[name].run].dataset.name for name in config.figures[figure].measurements}
    return "reduced" if all(data.available(name) for name in needed) else "smoke"


def describe_scales(requested: str) -> str:
    """One line for the beginning and the end of every run."""
    chosen: dict[str, list[str]] = {}
    for paper, name, _ in figures():
        chosen.setdefault(scale_of(paper, name, requested), []).append(name)
    parts = [f"{scale} ({len(names)} figure{'s' if len(names) > 1 else ''})" for scale, names in chosen.items()]
    why = "chosen by the data found: set REPLICATION_DATA for real data" if "smoke" in chosen else "chosen by the data found"
    return f"Scale: {', '.join(parts)}{f'; {why}' if requested == AUTO else ''}."


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
    return _entry(papers(scale), paper, "paper")


def _entry(entries: dict[str, Entry], name: str, what: str) -> Entry:
    if name not in entries:
        raise ReplicationError(f"There is no {what} named '{name}'; allowed: {', '.join(entries)}.")
    return entries[name]


def table_folders(scale: str, paper: str, figure: str) -> list[str]:
    """Folders of the tables that a figure is drawn from: one per measurement and seed; for ``recorded`` those there are."""
    config, needed = paper_of(scale, paper), figure_of(scale, paper, figure).measurements
    if scale == RECORDED:
        found = [str(path) for name in needed for path in sorted((RECORDED_FOLDER / paper / name).glob("seed*"))]
        if not found:
            raise ReplicationError(f"Nothing is recorded for {figure} in {RECORDED_FOLDER / paper}; run it with --config scale=full.")
        return found
    seeds = {name: range(config.runs[config.measurements[name].run].seeds) for name in needed}
    return [f"results/{scale}/{paper}/tables/{name}/seed{seed}" for name in needed for seed in seeds[name]]


def training_depends(scale: str, paper: str, run: str) -> str:
    """Fingerprint of a run's configuration (its number of seeds left out) and of the code that trains it."""
    config = run_of(scale, paper, run).model_copy(update={"seeds": 1})
    return f"{configs.identity(config)} {code_fingerprint('replication.training', models.module_of(config.model))}"


def measuring_depends(scale: str, paper: str, measurement: str) -> str:
    """Fingerprint of a measurement's configuration and of the code that makes it."""
    config = measurement_of(scale, paper, measurement)
    model = models.module_of(run_of(scale, paper, config.run).model)
    return f"{configs.identity(config)} {code_fingerprint(f'replication.{config.instrument}', model)}"


def drawing_depends(scale: str, paper: str, figure: str) -> str:
    """Fingerprint of the module that draws a figure; its claims are judged apart from it."""
    config = figure_of(scale, paper, figure)
    return f"{config.reproduces} {code_fingerprint(f'figures.{figure}', 'replication.statistics')}"


def judging_depends(scale: str, paper: str, figure: str) -> str:
    """Fingerprint of a figure's claims and of the code that judges them."""
    config = figure_of(scale, paper, figure)
    return " ".join([*(configs.identity(claim) for claim in config.claims), code_fingerprint("replication.claims")])


def data_depends() -> str:
    """Fingerprint of the code that reads data sets."""
    return code_fingerprint("replication.data", "replication.sources", "replication.formats")
