"""What is kept in ``recorded/``: tables of finished full-scale seeds, and what must hold of them before they are."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import AwareDatetime, BaseModel, ValidationError

from replication.errors import ReplicationError
from replication.files.atomic import atomic
from replication.files.provenance import PROVENANCE, read_provenance
from replication.pipeline import dag
from replication.recording import archives
from replication.recording.queue import Unit, figures_of
from replication.schema.base import Strict


def check(folder: Path) -> dict[str, Any]:
    """The record of a folder ``.../<paper>/<name>/seed<k>`` of tables, which are undamaged, of full scale and of the present configuration.

    Raises:
        ReplicationError: one of these does not hold.
    """
    record = read_provenance(folder / PROVENANCE)
    _check_kinds(folder, record)
    paper, name, seed = folder.parts[-3:]
    config = dag.paper_of(dag.RECORDED, paper)
    if record.get("scale") != "full":
        raise ReplicationError(f"{folder} is of scale {record.get('scale')}; only full-scale tables are recorded.")
    if seed != f"seed{record['seed']}":
        raise ReplicationError(f"{folder} holds tables of seed {record['seed']}; put them where they belong.")
    if name in config.measurements:
        measurement = config.measurements[name]
        pieces = {key: getattr(measurement, key) for key in ("spans", "scatter") if hasattr(measurement, key)}  # they change no number
        _same(folder, record["config"], measurement, **pieces)
        wanted = list(measurement.sources(record["seed"]))
    elif name in config.runs:
        wanted = [(name, record["seed"])]
    else:
        raise ReplicationError(f"{folder}: {paper} has no measurement or run of this name; delete the folder.")
    if [(training["run"], training["seed"]) for training in record["trainings"]] != wanted:
        raise ReplicationError(f"{folder} was made from other trainings than paper_configs has; record it again.")
    for training in record["trainings"]:
        run = config.runs[training["run"]]
        schedule = training["config"].get("schedule")  # JSON has no whole numbers as keys
        schedule = (
            {int(step) if step.isdecimal() else step: each for step, each in schedule.items()} if isinstance(schedule, dict) else schedule
        )
        _same(folder, training["config"] | {"schedule": schedule}, run, seeds=run.seeds)
    return record


class _Training(BaseModel):
    run: str
    seed: int
    seconds: float
    config: dict[str, Any]


class _Record(BaseModel):
    """What is read of a record, which may come from a stranger's archive."""

    seed: int
    seconds: float = 0.0  # the log of a run has none of its own
    device: str
    processor: str
    created: AwareDatetime
    measurement: str
    config: dict[str, Any]
    trainings: list[_Training]


def _check_kinds(folder: Path, record: dict[str, Any]) -> None:
    try:
        _Record.model_validate(record)
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        raise ReplicationError(f"{folder} has a record with a wrong or missing {place}; record it again.") from None


def _same(folder: Path, found: dict[str, Any], config: Strict, **irrelevant: Any) -> None:
    """Compare as configurations, so that a key that has come since then with a default is no difference."""
    try:
        same = type(config).model_validate(found | irrelevant) == config
    except ValidationError:
        same = False
    if not same:
        raise ReplicationError(f"{folder} was made with another configuration than paper_configs has now; record it again.")


def is_recorded(unit: Unit) -> bool:
    """Whether the unit's tables are in ``recorded/`` already."""
    folder = dag.RECORDED_FOLDER / unit.paper / unit.name / f"seed{unit.seed}"
    if unit.scale != "full" or not folder.is_dir():
        return False
    try:
        check(folder)
    except ReplicationError:
        return False
    return True


def keep(sources: Sequence[Path], only: Sequence[str] = ()) -> list[Path]:
    """Copy finished full-scale tables into ``recorded/``, older ones of the same seed being replaced; returns the folders written.

    Args:
        sources: archives of ``replicate record``, or folders of results.
        only: figures, measurements or runs; all by default.

    Raises:
        ReplicationError: nothing is found, or a folder does not pass ``check``.
    """
    found, written = 0, []
    figures = figures_of("full")
    names = {name for (_, name), drawn in figures.items() if set(only) & {name, *drawn}}
    for source in sources:
        with tempfile.TemporaryDirectory() as unpacked:
            if not source.is_dir():
                archives.extract(source, Path(unpacked))
            for entry in _tables(source if source.is_dir() else Path(unpacked), names if only else None):
                found += 1
                written += [target] if (target := _copy(*entry)) else []
    if not found:
        what, where = f" of {', '.join(only)}" if only else "", ", ".join(map(str, sources))
        raise ReplicationError(f"There are no full-scale tables{what} in {where}; `replicate record --minutes` makes them.")
    return written


def _tables(root: Path, names: set[str] | None) -> list[tuple[Path, str, str]]:
    """Folders of tables with the paper and the name they are kept under."""
    drawn = {(paper, run) for paper, _, figure in dag.figures() for run in figure.runs}
    found = [(path, path.parts[-4], path.parts[-2]) for path in root.glob("full/*/tables/*/seed*")]
    logs = ((path, path.parts[-5], path.parts[-3]) for path in root.glob("full/*/runs/*/seed*/tables"))
    found += [entry for entry in logs if entry[1:] in drawn]
    return sorted(entry for entry in found if names is None or entry[2] in names)


def _copy(source: Path, paper: str, name: str) -> Path | None:
    """Copy byte by byte, since reading and writing numbers again may change their last digits."""
    seed = source.name if source.name != "tables" else source.parent.name
    target = dag.RECORDED_FOLDER / paper / name / seed
    record = read_provenance(source / PROVENANCE)
    _check_kinds(source, record)
    if target.is_dir() and read_provenance(target / PROVENANCE, check=False)["created"] >= record["created"]:
        return None
    with tempfile.TemporaryDirectory() as place:  # checked where it has the name it will have
        copied = Path(place) / paper / name / seed
        shutil.copytree(source, copied)
        check(copied)
    with atomic(target, folder=True) as temporary:
        shutil.copytree(source, temporary, dirs_exist_ok=True)
    return target
