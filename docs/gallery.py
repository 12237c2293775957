"""The pages with pictures and counts: docs/figures.md, the table of papers in README.md, and codecheck.yml.

Run in the folder that holds the Snakefile:

- ``python docs/gallery.py``: write the three files from paper_configs, docs/measured.csv and the pictures in docs/images/figures.
- ``python docs/gallery.py update``: first take over the finished figures and verdicts in ``results/``, whatever their scale.

A picture whose figure has changed since it was drawn stays, and its card says so.
"""

import re
import sys
from pathlib import Path

import measured
import pandas as pd
import yaml
from PIL import Image

from replication.claims.verdicts import COUNTED, count_text, kind_text
from replication.errors import ReplicationError
from replication.files.atomic import atomic
from replication.files.provenance import provenance_file, read_provenance
from replication.pipeline import dag
from replication.pipeline.configs import RECORDED
from replication.pipeline.fingerprints import module_fingerprint
from replication.schema.papers import FigureConfig

README, PAGE, CODECHECK = Path("README.md"), Path("docs/figures.md"), Path("codecheck.yml")
PICTURES, WIDTH, QUALITY = Path("docs/images/figures"), 900, 80
INDEX = PICTURES / "pictures.csv"  # scale and code of every picture
BEGIN, END = "<!-- papers: written by docs/gallery.py -->", "<!-- end of papers -->"
RANKS = ("smoke", RECORDED, "reduced", "full")  # a picture is replaced by one of its own scale or of a later one
_TABLED = [kind for kind in COUNTED if kind not in ("withdrawn", "error")]
NAMES = {
    "lca": "LCA",
    "svcca": "SVCCA and PWCCA",
    "stiffness": "Stiffness",
    "landscape": "Loss landscape",
    "four_views": "Four views of one training",
}


def update(results: Path = measured.RESULTS) -> None:
    """Take over verdicts, costs and pictures of all finished figures.

    Raises:
        ReplicationError: no figure is drawn in ``results``.
    """
    index = read_index()
    drawn = [found for paper, figure, _ in dag.figures() if (found := _best(results, paper, figure)) is not None]
    if not drawn:
        raise ReplicationError(f"No figure is drawn in {results}; run `snakemake figures` first.")
    for scale, stem in drawn:
        if stem.name not in index.index or RANKS.index(scale) >= RANKS.index(index.loc[stem.name, "scale"]):
            write_picture(stem.with_suffix(".png"), picture_of(stem.name))
            code = read_provenance(provenance_file(stem), check=False).get("code", "")
            index.loc[stem.name] = [scale, code]
    write_index(index)
    measured.update(results)


def _best(results: Path, paper: str, figure: str) -> tuple[str, Path] | None:
    """The finished figure of the largest scale, and that scale; what recorded/ has for every panel counts as full."""
    whole = _is_whole(paper, figure)
    for folder, scale in (("full", "full"), *([(RECORDED, "full")] if whole else []), *((each, each) for each in reversed(RANKS[:-1]))):
        stem = results / folder / paper / "figures" / figure
        if stem.with_suffix(".png").exists() and provenance_file(stem).exists():
            return scale, stem
    return None


def _is_whole(paper: str, figure: str) -> bool:
    entry = dag.figure_of(RECORDED, paper, figure)
    return all((dag.RECORDED_FOLDER / paper / name).is_dir() for name in (*entry.measurements, *entry.runs))


def picture_of(figure: str) -> Path:
    """Where the picture of a figure lies."""
    return PICTURES / f"{figure}.webp"


def write_picture(source: Path, target: Path) -> None:
    """A copy of a figure at the width of a screen's column, some forty kilobytes."""
    with Image.open(source) as image:
        small = image.convert("RGB")
    small.thumbnail((WIDTH, 2 * WIDTH), Image.Resampling.LANCZOS)
    with atomic(target) as temporary:
        small.save(temporary, format="webp", quality=QUALITY, method=6)


def read_index() -> pd.DataFrame:
    """Scale and code of every picture, by figure."""
    return pd.read_csv(INDEX, index_col="figure", keep_default_na=False) if INDEX.exists() else pd.DataFrame(columns=["scale", "code"])


def write_index(index: pd.DataFrame) -> None:
    """Write scale and code of every picture, in the order of paper_configs."""
    order = [name for _, name, _ in dag.figures() if name in index.index]
    with atomic(INDEX) as temporary:
        index.loc[order].to_csv(temporary, index_label="figure", lineterminator="\n")


def code_of(figure: str) -> str:
    """Fingerprint of the module that draws a figure, without what it imports."""
    return module_fingerprint(f"figures.{figure}")


def page() -> str:
    """docs/figures.md: the pictures of each paper as a grid."""
    counts, index = measured.read(), read_index()
    lines = [
        "# All figures",
        "",
        "Click a picture to enlarge it. `snakemake` with the name below a picture makes the figure again. The line inside each picture",
        "says which data and seeds it shows. Core-minutes are the processor time at reduced scale if this figure alone is made; the",
        "figures of a paper share most of it. `make pictures` writes this page.",
    ]
    for paper in NAMES:
        entries = [(name, entry) for each, name, entry in dag.figures() if each == paper]
        lines += ["", f"## {NAMES[paper]}", "", '<div class="grid cards" markdown>', ""]
        for name, entry in sorted(entries, key=lambda each: _natural(each[1].reproduces)):
            lines += [*_card(name, entry, counts, index), ""]
        lines.append("</div>")
    return "\n".join(lines) + "\n"


def _natural(text: str) -> list[tuple[int, str]]:
    """A key by which Figure 2 comes before Figure 10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", text)]


def _card(name: str, entry: FigureConfig, counts: pd.DataFrame, index: pd.DataFrame) -> list[str]:
    lines = []
    if name in index.index:
        place = f"images/figures/{name}.webp"
        lines = [f"- [![{entry.reproduces}]({place})]({place})", ""]
    about = [f"    **{entry.reproduces}**", f"    `figure_{name}`"] if lines else [f"- **{entry.reproduces}**", f"    `figure_{name}`"]
    lines += [*about, "", f"    {' '.join(entry.caption.split())}", ""]
    facts = ["no picture yet"]
    if name in index.index:
        scale, code = index.loc[name]
        facts = [f"drawn at {scale} scale{'' if code == code_of(name) else ' by an earlier version of its code'}"]
    minutes = counts["core_minutes"].get((name, "reduced"))
    facts += [] if minutes is None or pd.isna(minutes) else [f"{minutes:.1f} core-minutes"]
    for scale in measured.SCALES:
        if (name, scale) in counts.index and (text := words(counts.loc[[(name, scale)]])):
            facts.append(f"claims, {scale}: {text}")
    return [*lines, f"    *{'; '.join(facts)}*"]


def words(rows: pd.DataFrame) -> str:
    """How many claims reached each verdict."""
    return count_text({kind: int(rows[kind].sum()) for kind in COUNTED})


def papers_table() -> str:
    """A row for each published paper and scale at which its claims were judged."""
    counts, named = measured.read().reset_index(), [kind_text(kind, 2) for kind in _TABLED]
    lines = [f"| paper | scale | figures | {' | '.join(named)} |", "|---" * (3 + len(named)) + "|"]
    for paper, name in list(NAMES.items())[:-1]:  # four views are ours
        for scale in measured.SCALES:
            rows = counts[(counts["paper"] == paper) & (counts["scale"] == scale)]
            if len(rows):
                cells = [str(int(rows[kind].sum())) for kind in _TABLED]
                lines.append(f"| [{name}](docs/reports/{paper}.md) | {scale} | {len(rows)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def readme(text: str) -> str:
    """The text of a README with the table between its markers made anew; errors as of ``between_markers``."""
    return between_markers(text, papers_table(), (BEGIN, END), README)


def between_markers(text: str, content: str, markers: tuple[str, str], page: Path) -> str:
    """The text of a page with ``content`` between its markers.

    Raises:
        ReplicationError: the markers are missing.
    """
    head, begin, rest = text.partition(markers[0])
    _, end, tail = rest.partition(markers[1])
    if not begin or not end:
        raise ReplicationError(f"{page} has no place for the table; put the lines {markers[0]} and {markers[1]} where it belongs.")
    return f"{head}{begin}\n{content}\n{end}{tail}"


def codecheck() -> str:
    """The manifest of CODECHECK: what an independent checker should be able to make."""
    manifest = [
        {"file": f"results/reduced/{paper}/figures/{name}.png", "comment": entry.reproduces} for paper, name, entry in dag.figures()
    ]
    config = {"version": "https://codecheck.org.uk/spec/config/1.0/", "manifest": manifest}
    head = "# Written by docs/gallery.py. Commands: `make figures ARGS='--config scale=reduced'` makes all of these.\n---\n"
    return head + yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=150)


def files() -> dict[Path, str]:
    """What the written files should hold."""
    return {PAGE: page(), README: readme(README.read_text(encoding="utf-8")), CODECHECK: codecheck()}


def main(arguments: list[str]) -> None:
    """Write the files, with ``update`` after taking over finished results."""
    try:
        if arguments not in ([], ["update"]):
            raise ReplicationError(f"The arguments are '{' '.join(arguments)}'; allowed: none, or update.")
        if arguments:
            update()
        for path, text in files().items():
            with atomic(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
    except ReplicationError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
