"""From a figure's quantities to the verdicts on its claims: one step of the DAG, without torch."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ValidationError

from replication import claims
from replication.errors import ReplicationError
from replication.files.atomic import read_json, write_json
from replication.files.provenance import read_provenance
from replication.pipeline import configs, dag
from replication.pipeline.configs import RECORDED


@dataclass(frozen=True)
class _Judged(claims.Verdict):
    """A verdict, and whether and how its claim was amended."""

    post_hoc: bool
    amendments: list[str]


class _VerdictFile(BaseModel):
    title: str
    paper: str
    figure: str
    reproduces: str
    scale: str
    verdicts: list[_Judged]


def read_quantities(path: Path) -> dict[str, dict[int, float]]:
    """Quantities of a figure: by name, one estimate per seed."""
    read_provenance(path.with_name(path.name.replace(".quantities.csv", ".json")))
    try:
        table = pd.read_csv(path).astype({"seed": int, "value": float})
        return {str(name): dict(zip(rows["seed"], rows["value"], strict=True)) for name, rows in table.groupby("quantity", sort=False)}
    except (ValueError, LookupError) as error:
        reason = " ".join(str(error).split())
        raise ReplicationError(f"{path} is not a table of quantities ({reason}); delete it and run again.") from None


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
    write_json(out, {**place, "reproduces": config.reproduces, "verdicts": entries})


def read_verdicts(path: Path) -> dict[str, Any]:
    """A verdict file as ``judge_figure`` writes it.

    Raises:
        ReplicationError: it is missing, damaged or of an earlier version of this package.
    """
    content: dict[str, Any] = read_json(path)
    try:
        _VerdictFile.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "content"
        wrong = f"has no {place}" if first["type"] == "missing" else f"has a wrong {place}"
        again = "it is damaged or of an earlier version: delete it and run `snakemake claims` again"
        raise ReplicationError(f"{path} {wrong}; {again}.") from None
    return content


def raw_claims() -> dict[str, dict[str, Any]]:
    """Every claim as written in paper_configs, all scales side by side, by id."""
    found: dict[str, dict[str, Any]] = {}
    for path in configs.paper_files():
        for figure in configs.read(path)["figures"].values():
            found |= {claim["id"]: claim for claim in figure.get("claims", [])}
    return found
