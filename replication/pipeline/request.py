"""What one call of Snakemake asks for: values of ``--config`` and targets, checked, and the sentences before and after the work."""

import csv
import difflib
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from replication.errors import ReplicationError
from replication.pipeline import configs, dag
from replication.pipeline.configs import RECORDED
from replication.schema.base import SCALES

MEASURED = Path("docs/measured.csv")  # core-minutes and verdicts of each figure, from finished runs
ALL_FIGURES = ("all", "figures", "claims", "claims_page")  # targets of every figure
Figure = tuple[str, str]  # paper and name


@dataclass(frozen=True)
class Request:
    """Values of ``--config``.

    Attributes:
        scale: ``auto`` takes for each figure the largest scale whose data can be had, up to ``reduced``.
        seeds: of every run; None for the numbers in paper_configs.
        gpu: how many GPUs a scheduler is asked for per training and measurement; a GPU that is there is used in any case.
    """

    scale: str = dag.AUTO
    seeds: int | None = None
    gpu: int = 0


def read(config: Mapping[str, Any]) -> Request:
    """Check the values of ``--config``.

    Raises:
        ReplicationError: a key is unknown, or a value is not allowed.

    >>> read({"scale": "smoke", "seeds": 6})
    Request(scale='smoke', seeds=6, gpu=0)
    """
    allowed = [field.name for field in fields(Request)]
    for key in config:
        if key not in allowed:
            raise ReplicationError(f"--config has the unknown key '{key}'{_nearest(key, allowed)}; allowed: {', '.join(allowed)}.")
    request = Request(**config)
    scales = [dag.AUTO, *SCALES, RECORDED]
    if request.scale not in scales:
        nearest = _nearest(str(request.scale), scales)
        raise ReplicationError(f"The scale is '{request.scale}'{nearest}; allowed with --config scale=...: {', '.join(scales)}.")
    if not _is_count(request.gpu, 0):
        raise ReplicationError(f"gpu is {request.gpu!r}; allowed with --config gpu=...: whole numbers from 0.")
    if request.seeds is not None and not _is_count(request.seeds, 2):
        raise ReplicationError(
            f"seeds is {request.seeds!r}; allowed with --config seeds=...: whole numbers from 2, since one seed gives no interval."
        )
    if request.seeds is not None and request.scale == RECORDED:
        raise ReplicationError(
            "Seeds cannot be chosen at the scale recorded, which redraws finished runs; leave out seeds=... or scale=recorded."
        )
    return request


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _nearest(name: str, allowed: Sequence[str]) -> str:
    names = difflib.get_close_matches(name, allowed, 3)
    return f" (did you mean {' or '.join(repr(each) for each in names)}?)" if names else ""


def check_targets(targets: Iterable[str]) -> None:
    """Refuse a target that is neither a rule without wildcards nor a file.

    Raises:
        ReplicationError: with the nearest names.
    """
    figures = dag.figures()
    known = [*configs.load("full"), *(f"figure_{name}" for _, name, _ in figures), *ALL_FIGURES, "claims_ci"]
    for target in targets:
        if target not in known and "/" not in target and "." not in target:
            raise ReplicationError(f"There is no target '{target}'{_nearest(target, known)}; `snakemake -l` lists all.")


def figures_asked_for(targets: Iterable[str], scale: str) -> list[Figure]:
    """The figures that the targets need, in the order of paper_configs; every figure where there is no target.

    For ``recorded`` those of which something is recorded: the others have nothing to be drawn from.
    """
    names = set(targets) or {"all"}
    figures = [(paper, figure, entry) for paper, figure, entry in dag.figures() if scale != RECORDED or dag.is_recorded(paper, figure)]

    def needed(paper: str, figure: str, in_ci: bool) -> bool:
        if names & {*ALL_FIGURES, paper, f"figure_{figure}"} or ("claims_ci" in names and in_ci):
            return True
        return any(name.endswith("/claims.html") or f"/{paper}/figures/{figure}." in name for name in names)

    return [(paper, figure) for paper, figure, entry in figures if needed(paper, figure, any(claim.ci for claim in entry.claims))]


def outputs(scale: str, figures: Iterable[Figure], seeds: int | None = None) -> list[str]:
    """One output file of every job that the figures need, each once."""
    files: dict[str, None] = {}
    for paper, figure in figures:
        entry, folder = dag.figure_of(scale, paper, figure), f"results/{scale}/{paper}"
        if scale != RECORDED:
            trainings = [(run, seed) for run in entry.runs for seed in range(dag.n_seeds_of_run(scale, paper, run, seeds))]
            parts = []
            for measurement in entry.measurements:
                config = dag.measurement_of(scale, paper, measurement)
                parts += dag.part_files(scale, paper, measurement, seeds)
                for seed in range(dag.n_seeds(scale, paper, measurement, seeds)):
                    trainings += config.sources(seed)
            datasets = [dag.run_of(scale, paper, run).dataset.name for run, _ in trainings]
            files |= dict.fromkeys(f"results/data/{name}.safetensors" for name in datasets)
            files |= dict.fromkeys(f"{folder}/runs/{run}/seed{seed}/provenance.json" for run, seed in trainings)
            files |= dict.fromkeys([*parts, *(f"{folder}/tables/{measurement}" for measurement in entry.measurements)])
        files |= dict.fromkeys([f"{folder}/figures/{figure}.png", f"{folder}/figures/{figure}.verdicts.json"])
    return list(files)


@dataclass(frozen=True)
class Plan:
    """What a request comes to, before Snakemake looks at it.

    Attributes:
        figures: by scale.
        n_jobs: of all figures; ``n_missing`` of them have no output yet.
        core_minutes: expected for figures that are missing, by docs/measured.csv; None where it does not know one of them.
    """

    figures: dict[str, list[Figure]]
    n_jobs: int
    n_missing: int
    core_minutes: float | None


def plan_of(request: Request, targets: Iterable[str] = ()) -> Plan:
    """Figures, jobs and expected costs of a request.

    Raises:
        ReplicationError: so few seeds that a measurement of pairs of networks has only one estimate.
    """
    figures: dict[str, list[Figure]] = {}
    for paper, figure in figures_asked_for(targets, request.scale):
        figures.setdefault(dag.scale_of(paper, figure, request.scale), []).append((paper, figure))
    jobs = [output for scale, names in figures.items() for output in outputs(scale, names, request.seeds)]
    minutes = [
        _core_minutes(scale, *name, request.seeds) for scale, names in figures.items() for name in names if _is_missing(scale, *name)
    ]
    known = None if None in minutes else sum(each for each in minutes if each is not None)
    return Plan(figures=figures, n_jobs=len(jobs), n_missing=sum(not Path(job).exists() for job in jobs), core_minutes=known)


def _is_missing(scale: str, paper: str, figure: str) -> bool:
    return not Path(f"results/{scale}/{paper}/figures/{figure}.png").exists()


def _core_minutes(scale: str, paper: str, figure: str, seeds: int | None) -> float | None:
    """What a figure is expected to cost by itself; other numbers of seeds cost in proportion to their jobs."""
    minutes = measured_core_minutes().get((scale, figure))
    if minutes is None or seeds is None:
        return minutes
    return minutes * len(outputs(scale, [(paper, figure)], seeds)) / len(outputs(scale, [(paper, figure)]))


def measured_core_minutes() -> dict[tuple[str, str], float]:
    """Core-minutes of a figure by itself, by scale and figure; those that were timed in docs/measured.csv."""
    if not MEASURED.is_file():
        return {}
    with open(MEASURED, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {(row["scale"], row["figure"]): float(row["core_minutes"]) for row in rows if row["core_minutes"]}


def priority(scale: str, paper: str, name: str) -> float:
    """Where a scheduler should put the jobs of a run or measurement: core-minutes of the cheapest figure that needs it, 0 where unknown.

    What only an expensive figure needs comes first, so that several cores do not end on one long path.
    """
    return _priorities(scale, paper, configs.state(), MEASURED.stat().st_mtime_ns if MEASURED.is_file() else 0).get(name, 0.0)


@functools.lru_cache(maxsize=32)
def _priorities(scale: str, paper: str, state: configs.FolderState, changed: int) -> dict[str, float]:
    costs, config = measured_core_minutes(), dag.paper_of(scale, paper)
    cheapest: dict[str, float] = {}
    for figure, entry in config.figures.items():
        if (cost := costs.get((scale, figure))) is None:
            continue
        runs = [run for name in entry.measurements for run in config.measurements[name].run_names]
        for name in (*entry.measurements, *entry.runs, *runs):
            cheapest[name] = min(cost, cheapest.get(name, cost))
    return cheapest


def first_line(request: Request, plan: Plan) -> str:
    """Scale, data, jobs and expected time of a request, for the beginning of every call."""
    scales = []
    for scale, figures in plan.figures.items():
        names = dict.fromkeys(name for paper, figure in figures for name in _datasets(scale, paper, figure))
        data = f", data: {', '.join(names)}" if names else ""
        scales.append(f"{scale} ({len(figures)} figure{'s' if len(figures) > 1 else ''}{data})")
    why = ""
    if request.scale == dag.AUTO:
        why = "; chosen by the data found" + (": set REPLICATION_DATA for real data" if "smoke" in plan.figures else "")
    seeds = f" Seeds of every run: {request.seeds}." if request.seeds else ""
    jobs = f" {plan.n_jobs} jobs, {plan.n_missing} of them without results yet" if plan.figures else " Single files"
    cost = f", about {plan.core_minutes:.0f} core-minutes by {MEASURED}" if plan.core_minutes and plan.n_missing else ""
    return f"Scale: {', '.join(scales) or request.scale}{why}.{seeds}{jobs}{cost}."


def _datasets(scale: str, paper: str, figure: str) -> list[str]:
    config = dag.paper_of(scale, paper)
    return [] if scale == RECORDED else [config.runs[run].dataset.name for run in dag.runs_of(config, figure)]


def last_line(request: Request, plan: Plan) -> str:
    """Where the figures, the tables and the page of claims lie, for the end of every call."""
    places = []
    for scale, figures in plan.figures.items():
        papers = dict.fromkeys(paper for paper, _ in figures)
        folder = f"results/{scale}/{next(iter(papers)) if len(papers) == 1 else '*'}"
        tables = "recorded/" if scale == RECORDED else f"{folder}/tables/"
        places.append(f"figures: {folder}/figures/{f'{figures[0][1]}.png' if len(figures) == 1 else ''}; tables: {tables}")
    page = Path(f"results/{request.scale}/claims.html")
    if page.is_file():
        places.append(f"claims: {page}")
    text = "; ".join(places)
    return f"{text[:1].upper()}{text[1:]}"
