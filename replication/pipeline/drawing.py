"""From tables to a figure and its quantities: one step of the DAG, without torch."""

import datetime
import importlib
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from replication.files.atomic import atomic
from replication.files.provenance import PROVENANCE, provenance, read_provenance, write_provenance
from replication.files.tables import read_tables
from replication.pipeline.configs import RECORDED

MAX_STAMPED = 6  # lines below a figure


def load_tables(folders: Sequence[Path]) -> tuple[dict[str, dict[str, pd.DataFrame]], list[dict[str, Any]]]:
    """Tables of several measurements and seeds, each with a ``seed`` column, and their records.

    Args:
        folders: each of one seed, or with the folders ``seed<k>`` of several below it.
    """
    collected: dict[str, dict[str, list[pd.DataFrame]]] = {}
    found = []
    for folder in itertools.chain.from_iterable(map(_seeds_of, folders)):
        record = read_provenance(folder / PROVENANCE, check=False)
        found.append(record)
        for name, table in read_tables(folder).items():
            table.insert(0, "seed", int(record["seed"]))
            collected.setdefault(record["measurement"], {}).setdefault(name, []).append(table)
    return {m: {name: pd.concat(parts, ignore_index=True) for name, parts in t.items()} for m, t in collected.items()}, found


def _seeds_of(folder: Path) -> list[Path]:
    below = sorted(folder.glob("seed*"), key=lambda seed: (len(seed.name), seed.name))
    return [folder] if (folder / PROVENANCE).exists() or not below else below


def draw_figure(*, scale: str, paper: str, figure: str, table_folders: Sequence[Path], folder: Path) -> None:
    """Compute a figure's quantities and draw it, from tables alone; a module's ``extras`` are files beside it (an animation, say)."""
    sys.path.insert(0, str(Path.cwd()))  # figures/ lies beside the Snakefile and is not installed
    module = importlib.import_module(f"figures.{figure}")
    style = importlib.import_module("figures.style")
    tables, table_records = load_tables(table_folders)
    quantities = module.quantities(tables)
    rows = [(name, seed, value) for name, values in quantities.items() for seed, value in values.items()]
    stamp = _stamp(scale, table_records)
    style.save(module.draw(tables), folder, figure, stamp)
    with atomic(folder / f"{figure}.quantities.csv") as temporary:
        pd.DataFrame(rows, columns=["quantity", "seed", "value"]).to_csv(temporary, index=False, na_rep="nan", lineterminator="\n")
    extras = module.extras(tables) if hasattr(module, "extras") else {}
    for ending, content in extras.items():
        with atomic(folder / f"{figure}{ending}") as temporary:
            temporary.write_bytes(content)
    record = provenance(kind="figure", scale=scale, paper=paper, figure=figure, stamp=stamp, tables=table_records)
    files = [folder / f"{figure}.{extension}" for extension in (*style.FORMATS, "quantities.csv")]
    files += [folder / f"{figure}{ending}" for ending in extras]
    write_provenance(folder / f"{figure}.json", record, files)


def _stamp(scale: str, table_records: list[dict[str, Any]]) -> str:
    """The line below a figure: what it was measured on, and how much that can say."""
    seeds: dict[str, list[int]] = {}
    trainings = [training for record in table_records for training in record["trainings"]]
    for training in trainings:
        count = training["config"]["dataset"]["examples"]
        examples = f"{count:,} training examples" if count else "all training examples"
        config = training["config"]
        what = f"{training['run']}: {training['data']['name']}, {examples}{_reductions(config)}, {config['steps']:,} iterations"
        seeds.setdefault(what, []).append(training["seed"])
    parts = [f"{what}, seeds {', '.join(map(str, sorted(set(found))))}" for what, found in seeds.items()]
    parts = parts if len(parts) <= MAX_STAMPED else [*parts[: MAX_STAMPED - 1], f"and {len(parts) - MAX_STAMPED + 1} more runs like these"]
    lead = _recorded_lead(table_records) if scale == RECORDED else f"{scale} scale"
    if scale == "smoke":
        what = ", digits in place of the paper's data" if any(training["data"]["name"] == "digits" for training in trainings) else ""
        lead = f"SMOKE SCALE{what}: speaks for no claim"
    return "\n".join([lead, *parts])


def _reductions(config: dict[str, Any]) -> str:
    """Size of the images and what differs from the published model."""
    settings = dict(config["model_settings"])
    size = settings.pop("image_size", config["dataset"].get("image_size"))
    parts = [f"{size}x{size} pixels"] if size else []
    parts += [f"{key} {value}" for key, value in settings.items()]
    return "".join(f", {part}" for part in parts)


def _recorded_lead(table_records: list[dict[str, Any]]) -> str:
    first, last = (pick(record["created"] for record in table_records) for pick in (min, max))
    days = " to ".join(dict.fromkeys(datetime.datetime.fromisoformat(moment).date().isoformat() for moment in (first, last)))
    places = ", ".join(dict.fromkeys(f"{record['device']} ({record['processor']})" for record in table_records))
    return f"full scale as published, recorded {days} on {places}"
