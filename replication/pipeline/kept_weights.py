"""Final weights of trainings in ``weights/``, and their use in place of a training.

A training at full scale takes hours to days; its final weights have a few MB. ``weights/<paper>/<run>/seed<k>`` holds the weights as
safetensors, a thinned log and the provenance of the training. ``replicate train`` (so Snakemake's rule too) takes them up where they
are those of the same configuration, seed and data. A run whose measurements read weights along the path is trained all the same.
"""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import nn

from replication.errors import ReplicationError
from replication.files.atomic import atomic
from replication.files.provenance import PROVENANCE, read_provenance, write_provenance
from replication.files.tables import read_tables, write_tables
from replication.schema.runs import RunConfig
from replication.training.batches import kept_steps
from replication.training.checkpoints import Trajectory, write_weights

FOLDER = Path("weights")
LIMIT = 16 * 2**20  # bytes of one file of weights
TOTAL_LIMIT = 80 * 2**20  # bytes of all that the repository holds
WEIGHTS = "weights.safetensors"
_EVERY, _LAST = 100, 100  # steps of the log that are kept: the first one, every hundredth and the last hundred


def folder_of(paper: str, run: str, seed: int) -> Path:
    """Where a seed's weights are kept.

    >>> folder_of("landscape", "resnet56", 0).as_posix()
    'weights/landscape/resnet56/seed0'
    """
    return FOLDER / paper / run / f"seed{seed}"


def are_wanted(finished: Path) -> bool:
    """Whether a folder ``.../runs/<run>/seed<k>`` holds a finished full-scale training of the landscape paper that is small enough.

    A user of a landscape wants the trained network; the other papers' instruments read whole trainings.
    """
    weights = finished / WEIGHTS
    if not (finished / PROVENANCE).is_file() or not weights.is_file() or weights.stat().st_size > LIMIT:
        return False
    provenance = read_provenance(finished / PROVENANCE, check=False)
    return (provenance.get("paper"), provenance.get("scale"), provenance.get("kind")) == ("landscape", "full", "run")


def keep(finished: Path, root: Path = Path()) -> Path:
    """Keep the final weights of a training below ``root``; returns the folder written.

    Args:
        finished: ``.../runs/<run>/seed<k>``, or a folder that was written here before.

    Raises:
        ReplicationError: the training is not of full scale, is damaged, or its weights are larger than the limit of a file.
    """
    provenance = read_provenance(finished / PROVENANCE)
    if provenance.get("kind") != "run" or provenance.get("scale") != "full":
        raise ReplicationError(f"{finished} is no training of full scale; only such weights are kept.")
    size = (finished / WEIGHTS).stat().st_size
    if size > LIMIT:
        raise ReplicationError(f"{finished / WEIGHTS} has {size / 2**20:.0f} MiB; kept are files of at most {LIMIT // 2**20}.")
    target = root / folder_of(provenance["paper"], provenance["run"], provenance["seed"])
    with atomic(target, folder=True) as temporary:
        shutil.copyfile(finished / WEIGHTS, temporary / WEIGHTS)
        tables = read_tables(finished / "tables")
        write_tables(temporary / "tables", tables | {"log": thinned(tables["log"])}, {"kind": "thinned training log"})
        write_provenance(temporary / PROVENANCE, provenance, [temporary / WEIGHTS])
    return target


def thinned(log: pd.DataFrame) -> pd.DataFrame:
    """The first step of a log, every hundredth one and the last hundred.

    >>> len(thinned(pd.DataFrame({"step": range(1, 1001)})))
    110
    """
    step = log["step"]
    return log[(step == 1) | (step % _EVERY == 0) | (step > step.max() - _LAST)]


def take_up(
    model: nn.Module, config: RunConfig, kept: Path, *, seed: int, checksums: Mapping[str, str], n_examples: int, folder: Path
) -> dict[str, Any] | None:
    """Write into ``folder`` what the training of ``config`` would have left, from the weights in ``kept``.

    Args:
        model: before training; it has the final weights afterwards.
        checksums: of the data set that the run is to be measured on.
        n_examples: how many training examples the run has.

    Returns:
        The provenance of the training, or None where there are no weights, or not those of this run: a line on stderr says why.

    Raises:
        ReplicationError: the kept files are damaged.
    """
    if not (kept / PROVENANCE).is_file():
        return None
    provenance = read_provenance(kept / PROVENANCE)
    steps = kept_steps(config, n_examples)
    if reason := _misfit(provenance, config, seed, checksums, steps):
        print(f"{kept} is not used, since {reason}; training instead.", file=sys.stderr)
        return None
    folder.mkdir(parents=True, exist_ok=True)
    trajectory = Trajectory(folder, steps, model, fresh=True)
    model.load_state_dict(load_file(kept / WEIGHTS))
    trajectory.keep(config.steps, model)
    trajectory.finish()
    write_weights(folder / WEIGHTS, model)
    write_tables(folder / "tables", read_tables(kept / "tables"), {"kind": "thinned training log"})
    return provenance


def _misfit(provenance: Mapping[str, Any], config: RunConfig, seed: int, checksums: Mapping[str, str], steps: list[int]) -> str:
    """Why the weights are not those of this run; empty where they are."""
    if not _same(provenance["config"], config):
        return "it was trained with another configuration"
    if provenance["seed"] != seed:
        return f"it is of seed {provenance['seed']}"
    if provenance["data"]["checksums"] != dict(checksums):
        return "it was trained on other data"
    if config.stop_at_losses:
        return "measurements of this run read the weights at several losses"
    if along := [step for step in steps if step not in (0, config.steps)]:
        return f"measurements of this run read the weights of {len(along)} more steps than the last one"
    return ""


def _same(recorded: Mapping[str, Any], config: RunConfig) -> bool:
    """As configurations, so that a key that was added since then with a default is no difference; JSON has no whole numbers as keys."""
    schedule = {int(step): factor for step, factor in recorded.get("schedule", {}).items()}
    try:
        return RunConfig.model_validate({**recorded, "schedule": schedule, "seeds": config.seeds}) == config
    except ValidationError:
        return False
