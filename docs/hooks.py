"""What is written when the site is built.

`<!-- claims: PAPER -->` becomes the table of a paper's claims, from paper_configs; `<!-- benchmarks -->` the ratios in docs/benchmarks.csv,
drawn as `make benchmarks` draws them.
"""

import importlib.util
import io
import re
from pathlib import Path
from typing import Any

import pandas as pd

from replication.claims import region_text
from replication.errors import ReplicationError
from replication.pipeline import configs
from replication.pipeline.configs import FOLDER

MEASURED = Path("docs/benchmarks.csv")
_PLACE = re.compile(r"<!-- claims: (\w+) -->")
_HEAD = "| claim | statement | published (trust) | accepted: reduced | accepted: full |\n| --- | --- | --- | --- | --- |"


_BENCHMARKS, _PICTURE = "<!-- benchmarks -->", "images/benchmarks.svg"


def on_files(files: Any, config: Any, **_: Any) -> Any:
    """Called by mkdocs once: adds the picture of all benchmarks."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, _PICTURE, content=benchmarks_picture()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs for every page."""
    filled = _PLACE.sub(lambda place: claims_table(place[1]), markdown)
    return filled.replace(_BENCHMARKS, benchmarks_table()) if _BENCHMARKS in filled else filled


def benchmarks_table() -> str:
    """A row for every case, the picture above it."""
    table = pd.read_csv(MEASURED)
    lines = [f"![Times as fast as each peer, on a logarithmic axis]({_PICTURE})", ""]
    lines += ["| instrument | case | against | times as fast |", "| --- | --- | --- | --- |"]
    lines += [f"| {row.instrument} | {row.case} | {row.against} | {row.ratio:.3g} |" for row in table.itertuples()]
    return "\n".join(lines)


def benchmarks_picture() -> bytes:
    """As SVG."""
    spec = importlib.util.spec_from_file_location("ratios", "benchmarks/ratios.py")
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(ratios := importlib.util.module_from_spec(spec))
    ratios.draw(pd.read_csv(MEASURED)).savefig(drawn := io.BytesIO(), format="svg")
    return drawn.getvalue()


def claims_table(paper: str) -> str:
    """Every claim of a paper with its acceptance regions, and what became of those that were withdrawn or do not hold."""
    if not (FOLDER / f"{paper}.yaml").exists():
        return "No claim of this paper is locked yet."
    scales = {scale: _claims(paper, scale) for scale in ("reduced", "full")}
    rows = []
    for claim_id, claim in scales["full"].items():
        published = f"{claim.published.value} ({claim.published.trust})"
        accepted = [_accepted(scales[scale][claim_id]) for scale in scales]
        rows.append(" | ".join(_cell(text) for text in (claim_id, claim.statement, published, *accepted)))
    known = [f"- **{name}**: {each.discrepancy.evidence} *Hypothesis:* {each.discrepancy.hypothesis}" for name, each in _known(scales)]
    withdrawn = [f"- **{name}** is withdrawn: {claim.withdrawn}" for name, claim in scales["full"].items() if claim.withdrawn]
    return "\n".join([_HEAD, *(f"| {row} |" for row in rows), "", *known, *withdrawn])


def _claims(paper: str, scale: str) -> dict[str, Any]:
    loaded = configs.load(scale)
    if paper not in loaded:
        raise ReplicationError(f"There is no paper named '{paper}'; allowed: {', '.join(loaded)}.")
    return {claim.id: claim for name, _, claim in configs.claims_of(loaded) if name == paper}


def _known(scales: dict[str, dict[str, Any]]) -> list[tuple[str, Any]]:
    known = {name: claim for claims in (scales["full"], scales["reduced"]) for name, claim in claims.items() if claim.discrepancy}
    return [(name, known[name]) for name in scales["full"] if name in known]


def _accepted(claim: Any) -> str:
    if claim.withdrawn:
        return "withdrawn"
    return region_text(claim.expect) if claim.expect else "not evaluated"


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")
