"""A copy of the project with some of its figures."""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from conftest import ROOT

from replication.pipeline.configs import paper_files

PARTS = ("Snakefile", "replication", "figures", "paper_configs", "profiles", "recorded")


def copy_project(place: Path, figures: Sequence[str]) -> Path:
    """Copy to the new folder ``place`` what Snakemake needs, with these figures only."""
    place.mkdir()
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, place / part, ignore=shutil.ignore_patterns("__pycache__"))
        elif (ROOT / part).is_file():
            shutil.copy(ROOT / part, place / part)
    keep_figures(place / "paper_configs", figures)
    return place


def keep_figures(configs: Path, names: Sequence[str]) -> None:
    """Leave only the paper with these figures, only these, and their claims in the lock."""
    claims = set()
    for path in paper_files(configs):
        head, figures = path.read_text().split("\nfigures:\n")
        blocks = {re.match(r"  (\w+):", block)[1]: block for block in re.split(r"^(?=  \w)", figures, flags=re.MULTILINE) if block.strip()}
        kept = [blocks[name] for name in names if name in blocks]
        claims |= set(re.findall(r"- id: (\S+)", "".join(kept)))
        path.write_text(f"{head}\nfigures:\n{''.join(kept)}") if kept else path.unlink()
    lock = configs / "claims.lock"
    lock.write_text(json.dumps({name: entry for name, entry in json.loads(lock.read_text()).items() if name in claims}))
