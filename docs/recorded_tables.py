"""What recorded/ says, in docs/recording.md and in the reports; ``python docs/recorded_tables.py`` writes it between their markers.

It judges the claims of every figure of which something is recorded from the tables, as ``snakemake claims --config scale=recorded`` does.
"""

import importlib
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from gallery import NAMES, between_markers

from replication.claims.verdicts import COUNTED, Verdict, count_text, counted_as, judge, kind_text
from replication.errors import ReplicationError
from replication.files.atomic import atomic
from replication.pipeline import dag
from replication.pipeline.configs import RECORDED
from replication.pipeline.drawing import load_tables
from replication.schema.papers import FigureConfig

RECORDING, REPORTS = Path("docs/recording.md"), Path("docs/reports")
BEGIN, END = "<!-- recorded: written by docs/recorded_tables.py -->", "<!-- end of recorded -->"
_DECIDED = [kind for kind in COUNTED if kind not in ("not_evaluated", "withdrawn")]


@dataclass(frozen=True)
class Judged:
    """A figure of which something is recorded.

    Attributes:
        missing: its measurements and runs of which nothing is recorded.
        seeds: of those of which something is.
    """

    paper: str
    name: str
    verdicts: list[Verdict]
    missing: list[str]
    seeds: list[int]


def judged() -> list[Judged]:
    """Every figure of which something is recorded, with its verdicts."""
    sys.path.insert(0, str(Path.cwd()))  # figures/ lies beside the Snakefile and is not installed
    return [_judge(paper, name, entry) for paper, name, entry in dag.figures() if dag.is_recorded(paper, name)]


def _judge(paper: str, name: str, entry: FigureConfig) -> Judged:
    config = dag.figure_of(RECORDED, paper, name)
    folders = {each: sorted((dag.RECORDED_FOLDER / paper / each).glob("seed*")) for each in (*entry.measurements, *entry.runs)}
    tables, _ = load_tables([folder for found in folders.values() for folder in found])
    quantities = importlib.import_module(f"figures.{name}").quantities(tables)
    by_seed = {key: {int(seed): float(value) for seed, value in values.items()} for key, values in quantities.items()}
    verdicts = [judge(claim, by_seed, may_be_absent=True) for claim in config.claims]
    missing = [each for each, found in folders.items() if not found]
    return Judged(paper, name, verdicts, missing, sorted({len(found) for found in folders.values() if found}))


def recording_table(figures: list[Judged]) -> str:
    """A row for every figure of which something is recorded, and the names of the others."""
    lines = ["| figure | seeds | evaluated | not evaluated | waits for |", "|---|---|---|---|---|"]
    for each in figures:
        evaluated = count_text(Counter(kind for verdict in each.verdicts if (kind := counted_as(verdict)) in _DECIDED))
        waiting = ", ".join(verdict.id for verdict in each.verdicts if verdict.outcome == "not_evaluated")
        seeds = " or ".join(map(str, each.seeds))
        waits = ", ".join(f"`{name}`" for name in each.missing)
        lines.append(f"| `{each.name}` | {seeds} | {evaluated} | {waiting} | {waits} |")
    recorded = {each.name for each in figures}
    left = {paper: [f"`{name}`" for each, name, _ in dag.figures() if each == paper and name not in recorded] for paper in NAMES}
    lines += ["", f"{len(figures)} of {len(dag.figures())} figures are drawn. Nothing is recorded yet for these:", ""]
    return "\n".join([*lines, *(f"- {NAMES[paper]}: {', '.join(names)}" for paper, names in left.items() if names)])


def report_table(figures: list[Judged]) -> str:
    """A row for every claim of these figures that was evaluated."""
    lines = ["| claim | published (trust) | measured: mean [90 %] | accepted | under its control | verdict |", "|---|---|---|---|---|---|"]
    for verdict in (verdict for each in figures for verdict in each.verdicts if counted_as(verdict) in _DECIDED):
        interval = f"{_number(verdict.mean)} [{_number(verdict.low)}, {_number(verdict.high)}]"
        measured = f"{interval}{' ' if verdict.unit else ''}{verdict.unit}, n = {len(verdict.estimates)}"
        cells = [f"{verdict.id}: {verdict.statement}", f"{verdict.published} ({verdict.trust})", measured]
        cells += [verdict.region, _number(verdict.control_mean), kind_text(counted_as(verdict))]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) if len(lines) > 2 else "Nothing of this paper is recorded at full scale yet."


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.3g}"


def files() -> dict[Path, str]:
    """What the pages should hold."""
    figures = judged()
    contents = {RECORDING: recording_table(figures)}
    contents |= {REPORTS / f"{paper}.md": report_table([each for each in figures if each.paper == paper]) for paper in NAMES}
    return {page: between_markers(page.read_text(encoding="utf-8"), content, (BEGIN, END), page) for page, content in contents.items()}


def main() -> None:
    """Write the pages."""
    try:
        for page, text in files().items():
            with atomic(page) as temporary:
                temporary.write_text(text, encoding="utf-8")
    except ReplicationError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
