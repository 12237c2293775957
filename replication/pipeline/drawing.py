"""From tables to a figure and its quantities: one step of the DAG, without torch."""

import datetime
import importlib
import itertools
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from replication.claims.results import QUANTITIES
from replication.files.atomic import atomic
from replication.files.provenance import PROVENANCE, collect_provenance, provenance_file, read_provenance, write_provenance
from replication.files.tables import read_tables
from replication.pipeline.configs import RECORDED
from replication.pipeline.fingerprints import module_fingerprint

_TITLES = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}  # of data sets


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
    code = module_fingerprint(f"figures.{figure}")
    provenance = collect_provenance(kind="figure", scale=scale, paper=paper, figure=figure, code=code, stamp=stamp, tables=provenances)
    files = [folder / f"{figure}{ending}" for ending in (*(f".{each}" for each in style.FORMATS), QUANTITIES, *extras)]
    write_provenance(provenance_file(folder / figure), provenance, files)


def stamp_of(scale: str, provenances: list[dict[str, Any]]) -> str:
    """The line below a figure: scale, data and seeds; the provenance beside the figure has every setting of every run."""
    examples: dict[str, set[int]] = {}
    seeds = {int(provenance["seed"]) for provenance in provenances if not provenance["trainings"]}  # of what trains within, or not at all
    for training in (training for provenance in provenances for training in provenance["trainings"]):
        examples.setdefault(training["data"]["name"], set()).add(training["config"]["dataset"]["examples"] or 0)
        seeds.add(training["seed"])
    data = "; ".join(f"{_TITLES.get(name, name)} ({_range_of(counts)} training examples)" for name, counts in examples.items())
    parts = [_lead(scale, provenances, examples), data, _seeds_in_words(seeds)]
    return "; ".join(part for part in parts if part)


def _range_of(counts: set[int]) -> str:
    """``1,000 to 11,000``; a count of 0 stands for the whole data set."""
    words = [f"{count:,}" for count in sorted(counts) if count]
    span = " to ".join(dict.fromkeys([words[0], words[-1]])) if words else ""
    return f"{span} or all" if 0 in counts and words else span or "all"


def _seeds_in_words(seeds: set[int]) -> str:
    """``seeds 0 to 2`` for three in a row, else each."""
    ordered = sorted(seeds)
    if len(ordered) > 2 and ordered[-1] - ordered[0] == len(ordered) - 1:
        return f"seeds {ordered[0]} to {ordered[-1]}"
    return f"{'seed' if len(ordered) == 1 else 'seeds'} {', '.join(map(str, ordered))}" if ordered else ""


def _lead(scale: str, provenances: list[dict[str, Any]], data: Iterable[str]) -> str:
    if scale == "smoke":
        instead = " (digits instead of the paper's data)" if "digits" in data else ""
        return f"SMOKE SCALE{instead}: tests the code only"
    if scale != RECORDED:
        return f"{scale} scale"
    first, last = (pick(provenance["created"] for provenance in provenances) for pick in (min, max))
    days = " to ".join(dict.fromkeys(datetime.datetime.fromisoformat(moment).date().isoformat() for moment in (first, last)))
    return f"full scale, recorded {days}"
