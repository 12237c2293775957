"""What is kept in ``recorded/``: tables of finished full-scale seeds, checked before they are copied."""

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
from replication.recording.queue import Unit
from replication.schema.base import Strict


def check(folder: Path) -> dict[str, Any]:
    """The provenance of the tables in a folder ``.../<paper>/<name>/seed<k>``.

    Raises:
        ReplicationError: the tables are damaged, are not of full scale, or were made with another configuration than the present one.
    """
    provenance = read_provenance(folder / PROVENANCE)
    _check_kinds(folder, provenance)
    paper, name, seed = folder.parts[-3:]
    config = dag.paper_of(dag.RECORDED, paper)
    if provenance.get("scale") != "full":
        raise ReplicationError(f"{folder} is of scale {provenance.get('scale')}; only full-scale tables are recorded.")
    if seed != f"seed{provenance['seed']}":
        raise ReplicationError(f"{folder} holds tables of seed {provenance['seed']}; move them to the folder of that seed.")
    if name in config.measurements:
        measurement = config.measurements[name]
        pieces = {key: getattr(measurement, key) for key in ("spans", "scatter") if hasattr(measurement, key)}  # they change no number
        _check_same(folder, provenance["config"], measurement, **pieces)
        sources = list(measurement.sources(provenance["seed"]))
    elif name in config.runs:
        sources = [(name, provenance["seed"])]
    else:
        raise ReplicationError(f"{folder}: {paper} has no measurement or run of this name; delete the folder.")
    if [(training["run"], training["seed"]) for training in provenance["trainings"]] != sources:
        raise ReplicationError(f"{folder} was made from other trainings than paper_configs has; record it again.")
    for training in provenance["trainings"]:
        run = config.runs[training["run"]]
        _check_same(folder, training["config"] | {"schedule": _schedule(training["config"].get("schedule"))}, run, seeds=run.seeds)
    return provenance


def _schedule(from_json: Any) -> Any:
    """A schedule by step; JSON has no whole numbers as keys."""
    if not isinstance(from_json, dict):
        return from_json
    return {int(step) if step.isdecimal() else step: rate for step, rate in from_json.items()}


class _Training(BaseModel):
    run: str
    seed: int
    seconds: float
    config: dict[str, Any]


class _Provenance(BaseModel):
    """What is read of a provenance, which may come from a stranger's archive."""

    seed: int
    seconds: float = 0.0  # the log of a run has none of its own
    device: str
    processor: str
    created: AwareDatetime
    measurement: str
    config: dict[str, Any]
    trainings: list[_Training]


def _check_kinds(folder: Path, provenance: dict[str, Any]) -> None:
    try:
        _Provenance.model_validate(provenance)
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        raise ReplicationError(f"{folder} has a provenance with a wrong or missing {place}; record it again.") from None


def _check_same(folder: Path, recorded: dict[str, Any], config: Strict, **irrelevant: Any) -> None:
    """Compare as configurations, so that a key that was added since then with a default is no difference."""
    try:
        same = type(config).model_validate(recorded | irrelevant) == config
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
    """Copy finished full-scale tables into ``recorded/`` and replace older ones of the same seed; returns the folders written.

    Args:
        sources: archives of ``replicate record``, or folders of results.
        only: figures, measurements or runs; all by default.

    Raises:
        ReplicationError: nothing is found, or a folder does not pass ``check``.
    """
    n_found, written = 0, []
    names = {name for (_, name), drawn in dag.figures_of("full").items() if set(only) & {name, *drawn}}
    for source in sources:
        with tempfile.TemporaryDirectory() as unpacked:
            if not source.is_dir():
                archives.extract(source, Path(unpacked))
            for entry in _tables(source if source.is_dir() else Path(unpacked), names if only else None):
                n_found += 1
                written += [target] if (target := _copy(*entry)) else []
    if not n_found:
        what, where = f" of {', '.join(only)}" if only else "", ", ".join(map(str, sources))
        raise ReplicationError(f"There are no full-scale tables{what} in {where}; `replicate record --minutes` makes them.")
    return written


def _tables(root: Path, names: set[str] | None) -> list[tuple[Path, str, str]]:
    """Folders of tables with the paper and the name they are kept under."""
    drawn = {(paper, run) for paper, _, figure in dag.figures() for run in figure.runs}
    folders = [(path, path.parts[-4], path.parts[-2]) for path in root.glob("full/*/tables/*/seed*")]
    logs = ((path, path.parts[-5], path.parts[-3]) for path in root.glob("full/*/runs/*/seed*/tables"))
    folders += [entry for entry in logs if entry[1:] in drawn]
    return sorted(entry for entry in folders if names is None or entry[2] in names)


def _copy(source: Path, paper: str, name: str) -> Path | None:
    """Copy byte by byte, since reading and writing numbers again may change their last digits."""
    seed = source.name if source.name != "tables" else source.parent.name
    target = dag.RECORDED_FOLDER / paper / name / seed
    provenance = read_provenance(source / PROVENANCE)
    _check_kinds(source, provenance)
    if target.is_dir() and read_provenance(target / PROVENANCE, check=False)["created"] >= provenance["created"]:
        return None
    with tempfile.TemporaryDirectory() as place:  # checked under the name that it will have
        copied = Path(place) / paper / name / seed
        shutil.copytree(source, copied)
        check(copied)
    with atomic(target, folder=True) as temporary:
        shutil.copytree(source, temporary, dirs_exist_ok=True)
    return target
