"""From a figure's quantities to the verdicts on its claims: one step of the DAG, without torch."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from replication import claims, configs, dag, records
from replication.configs import RECORDED


def read_quantities(path: Path) -> dict[str, dict[int, float]]:
    """Quantities of a figure: by name, one estimate per seed."""
    records.read_record(path.with_name(path.name.replace(".quantities.csv", ".json")))
    table = pd.read_csv(path)
    return {str(name): dict(zip(rows["seed"], rows["value"], strict=True)) for name, rows in table.groupby("quantity", sort=False)}


def judge_figure(*, scale: str, paper: str, figure: str, quantities_file: Path, out: Path) -> None:
    """Judge a figure's claims; what is wrong shows as a verdict, and writing it always succeeds."""
    quantities = read_quantities(quantities_file)
    config = dag.figure_of(scale, paper, figure)
    lock = configs.FOLDER / claims.LOCK
    claims.check_lock(raw_claims(), lock)
    amended = claims.amendments(lock)
    verdicts = [claims.judge(claim, quantities, may_be_absent=scale == RECORDED) for claim in config.claims]
    entries = [{**asdict(each), "post_hoc": each.id in amended, "amendments": amended.get(each.id, [])} for each in verdicts]
    place = {"scale": scale, "paper": paper, "title": dag.paper_of(scale, paper).paper.title, "figure": figure}
    records.write_json(out, {**place, "reproduces": config.reproduces, "verdicts": entries})


def raw_claims() -> dict[str, dict[str, Any]]:
    """Every claim as written in paper_configs, all scales side by side, by id."""
    found: dict[str, dict[str, Any]] = {}
    for path in configs.paper_files():
        for figure in configs.read(path)["figures"].values():
            found |= {claim["id"]: claim for claim in figure.get("claims", [])}
    return found
