"""A copy of the project with some of its figures."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from replication.pipeline.configs import paper_files

PARTS = ("Snakefile", "replication", "figures", "paper_configs", "profiles", "recorded")


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
