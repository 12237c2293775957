"""From tables to a figure and its quantities: one step of the DAG, without torch."""

import datetime
import importlib
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from replication.claims.results import QUANTITIES
from replication.files.atomic import atomic
from replication.files.provenance import PROVENANCE, collect_provenance, provenance_file, read_provenance, write_provenance
from replication.files.tables import read_tables
from replication.pipeline.configs import RECORDED

MAX_STAMPED = 6  # lines below a figure


def load_tables(folders: Sequence[Path]) -> tuple[dict[str, dict[str, pd.DataFrame]], list[dict[str, Any]]]:
    """Tables of several measurements and seeds, each with a ``seed`` column, and their provenances.

    Args:
        folders: each of one seed, or with the folders ``seed<k>`` of several below it.
    """
    collected: dict[str, dict[str, list[pd.DataFrame]]] = {}
    provenances = []
    for folder in itertools.chain.from_iterable(map(_seeds_of, folders)):
        provenance = read_provenance(folder / PROVENANCE, check=False)
        provenances.append(provenance)
        for name, table in read_tables(folder).items():
            table.insert(0, "seed", int(provenance["seed"]))
            collected.setdefault(provenance["measurement"], {}).setdefault(name, []).append(table)
    joined = {
        measurement: {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}
        for measurement, tables in collected.items()
    }
    return joined, provenances


def _seeds_of(folder: Path) -> list[Path]:
    below = sorted(folder.glob("seed*"), key=lambda seed: (len(seed.name), seed.name))
    return [folder] if (folder / PROVENANCE).exists() or not below else below


def draw_figure(*, scale: str, paper: str, figure: str, table_folders: Sequence[Path], folder: Path) -> None:
    """Compute a figure's quantities and draw it, from tables alone; a module's ``extras`` are files beside it (an animation, say)."""
    sys.path.insert(0, str(Path.cwd()))  # figures/ lies beside the Snakefile and is not installed
    module = importlib.import_module(f"figures.{figure}")
    style = importlib.import_module("figures.style")
    tables, provenances = load_tables(table_folders)
    quantities = module.quantities(tables)
    rows = [(name, seed, value) for name, values in quantities.items() for seed, value in values.items()]
    stamp = stamp_of(scale, provenances)
    style.save(module.draw(tables), folder, figure, stamp)
    with atomic(folder / f"{figure}{QUANTITIES}") as temporary:
        pd.DataFrame(rows, columns=["quantity", "seed", "value"]).to_csv(temporary, index=False, na_rep="nan", lineterminator="\n")
    extras = module.extras(tables) if hasattr(module, "extras") else {}
    for ending, content in extras.items():
        with atomic(folder / f"{figure}{ending}") as temporary:
            temporary.write_bytes(content)
    provenance = collect_provenance(kind="figure", scale=scale, paper=paper, figure=figure, stamp=stamp, tables=provenances)
    files = [folder / f"{figure}{ending}" for ending in (*(f".{each}" for each in style.FORMATS), QUANTITIES, *extras)]
    write_provenance(provenance_file(folder / figure), provenance, files)


def stamp_of(scale: str, provenances: list[dict[str, Any]]) -> str:
    """The line below a figure: what it was measured on, and how much that can say."""
    seeds: dict[str, list[int]] = {}
    trainings = [training for provenance in provenances for training in provenance["trainings"]]
    for training in trainings:
        count = training["config"]["dataset"]["examples"]
        examples = f"{count:,} training examples" if count else "all training examples"
        config = training["config"]
        what = f"{training['run']}: {training['data']['name']}, {examples}{_reductions(config)}, {config['steps']:,} iterations"
        seeds.setdefault(what, []).append(training["seed"])
    parts = [f"{what}, seeds {', '.join(map(str, sorted(set(numbers))))}" for what, numbers in seeds.items()]
    parts = parts if len(parts) <= MAX_STAMPED else [*parts[: MAX_STAMPED - 1], f"and {len(parts) - MAX_STAMPED + 1} more runs like these"]
    lead = _recorded_lead(provenances) if scale == RECORDED else f"{scale} scale"
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


def _recorded_lead(provenances: list[dict[str, Any]]) -> str:
    first, last = (pick(provenance["created"] for provenance in provenances) for pick in (min, max))
    days = " to ".join(dict.fromkeys(datetime.datetime.fromisoformat(moment).date().isoformat() for moment in (first, last)))
    places = ", ".join(dict.fromkeys(f"{provenance['device']} ({provenance['processor']})" for provenance in provenances))
    return f"full scale as published, recorded {days} on {places}"
