"""The table of figures in README.md: what each reproduces and looks like, what it costs and what its claims came to.

Names and numbers of claims come from paper_configs, costs and verdicts from docs/measured.csv. Run in the folder that holds the Snakefile:
``python docs/figures_table.py`` writes the table between its markers in README.md; ``python docs/figures_table.py SCALE`` first brings
docs/measured.csv and the small pictures up to date with the finished results of that scale.
"""

import datetime
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from replication.claims.results import VERDICTS, read_verdicts
from replication.claims.verdicts import COUNTED, count_text, counted_as
from replication.errors import ReplicationError
from replication.files.atomic import atomic
from replication.files.provenance import provenance_file, read_provenance
from replication.pipeline import dag
from replication.pipeline.configs import RECORDED

README = Path("README.md")
MEASURED = Path("docs/measured.csv")
THUMBNAILS, THUMBNAIL_SIZE = Path("docs/images/thumbnails"), (240, 180)
BEGIN, END = "<!-- figures: written by docs/figures_table.py -->", "<!-- end of figures -->"
COLUMNS = ["paper", "figure", "scale", "date", "core_minutes", *COUNTED]
SHOWN = ("reduced", "full", RECORDED)


def collect(scale: str, results: Path = Path("results")) -> pd.DataFrame:
    """Rows of docs/measured.csv for every figure that is drawn and judged in ``results`` at ``scale``.

    Raises:
        ReplicationError: there is none, or a file of one is damaged.
    """
    if scale not in SHOWN:
        raise ReplicationError(f"The scale is '{scale}'; allowed in {MEASURED}: {', '.join(SHOWN)}.")
    rows = []
    for paper, figure, _ in dag.figures():
        stem = results / scale / paper / "figures" / figure
        verdicts = stem.with_name(f"{figure}{VERDICTS}")
        if verdicts.exists():
            counts = Counter(counted_as(entry) for entry in read_verdicts(verdicts).verdicts)
            made = datetime.datetime.fromisoformat(read_provenance(provenance_file(stem), check=False)["created"])
            cost = core_minutes(scale, paper, figure, results)
            rows.append([paper, figure, scale, made.date().isoformat(), cost, *(counts[outcome] for outcome in COUNTED)])
    if not rows:
        raise ReplicationError(f"No figure is judged in {results / scale}; run `snakemake figures --config scale={scale}` first.")
    return pd.DataFrame(rows, columns=COLUMNS)


def core_minutes(scale: str, paper: str, figure: str, results: Path = Path("results")) -> float | None:
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


def update(scale: str, results: Path = Path("results")) -> None:
    """Put the finished results of a scale into docs/measured.csv, in place of older rows of the same figures, and into README.md."""
    frames = [pd.read_csv(MEASURED)] if MEASURED.exists() else []
    collected = collect(scale, results)
    if scale == "reduced":  # the scale whose costs the table shows
        for row in collected.itertuples():
            write_thumbnail(results / scale / str(row.paper) / "figures" / f"{row.figure}.png", thumbnail_of(str(row.figure)))
    newest = pd.concat([*frames, collected]).drop_duplicates(["figure", "scale"], keep="last").set_index(["scale", "figure"])
    order = [(each, name) for each in SHOWN for _, name, _ in dag.figures() if (each, name) in newest.index]
    with atomic(MEASURED) as temporary:
        newest.loc[order].reset_index()[COLUMNS].to_csv(temporary, index=False, lineterminator="\n")
    write()


def thumbnail_of(figure: str) -> Path:
    """Where the small picture of a figure lies."""
    return THUMBNAILS / f"{figure}.png"


def write_thumbnail(picture: Path, target: Path) -> None:
    """A small copy of a figure in 64 colours, about five kilobytes."""
    with Image.open(picture) as image:
        small = image.convert("RGB")
    small.thumbnail(THUMBNAIL_SIZE, Image.Resampling.LANCZOS)
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic(target) as temporary:
        small.quantize(64).save(temporary, format="png", optimize=True)


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
                f"{claims.get(row['figure'], 'no such figure')}; run `snakemake claims` and `python docs/figures_table.py {row['scale']}`."
            )
    return measured.set_index(["figure", "scale"])


def table() -> str:
    """The table of all figures, and the sum of all verdicts below it."""
    measured = read()
    scales = [scale for scale in SHOWN if scale in measured.index.get_level_values("scale")]
    head = ["`snakemake ...`", "", "reproduces", "core-minutes, reduced", *(f"claims, {scale}" for scale in scales)]
    lines = [_line(head), _line(["---"] * len(head))]
    for _, name, figure in sorted(dag.figures(), key=lambda each: (each[0], _natural(each[2].reproduces))):
        cells = [f"`figure_{name}`", _picture(name), figure.reproduces.replace("|", r"\|"), _cost(measured, name)]
        lines.append(_line([*cells, *(_verdicts(measured, name, scale) for scale in scales)]))
    n_claims = sum(len(figure.claims) for _, _, figure in dag.figures())
    sums = [f"at {scale} scale {_words(measured.xs(scale, level='scale'))}" for scale in scales]
    return "\n".join([*lines, "", f"Of {n_claims} claims: {'; '.join(sums)}."])


def _natural(text: str) -> list[tuple[int, str]]:
    """A key by which Figure 2 comes before Figure 10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", text)]


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _picture(figure: str) -> str:
    path = thumbnail_of(figure)
    return f'<img src="{path.as_posix()}" width="120" alt="{figure}">' if path.exists() else ""


def _cost(measured: pd.DataFrame, figure: str) -> str:
    minutes = measured["core_minutes"].get((figure, "reduced"))
    return "" if minutes is None or pd.isna(minutes) else f"{minutes:.1f}"


def _verdicts(measured: pd.DataFrame, figure: str, scale: str) -> str:
    return _words(measured.loc[[(figure, scale)]]) if (figure, scale) in measured.index else ""


def _words(rows: "pd.DataFrame | pd.Series[Any]") -> str:
    return count_text({kind: int(rows[kind].sum()) for kind in COUNTED})


def written(readme: str) -> str:
    """The text of a README with the table between its markers made anew.

    Raises:
        ReplicationError: the markers are missing.
    """
    head, begin, rest = readme.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ReplicationError(f"{README} has no place for the table; put the lines {BEGIN} and {END} where it belongs.")
    return f"{head}{BEGIN}\n{table()}\n{END}{tail}"


def write() -> None:
    """Write the table into README.md."""
    text = written(README.read_text(encoding="utf-8"))
    with atomic(README) as temporary:
        temporary.write_text(text, encoding="utf-8")


def main(arguments: list[str]) -> None:
    """Write the table; with a scale, bring costs, verdicts and pictures up to date first."""
    try:
        if arguments:
            update(arguments[0])
        else:
            write()
    except ReplicationError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
