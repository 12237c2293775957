"""One job of ``replicate record`` in a process of its own: a training, or those parts of a measurement that can be made now."""

import functools
import multiprocessing
import os
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock

from replication.errors import ReplicationError
from replication.recording.queue import Training, Unit, run_folder, run_of

DONE, FAILED, UNFINISHED = 0, 1, 75


@dataclass(frozen=True)
class Job:
    """A training (of one of the unit's sources), or ``parts`` of the unit, which are gathered if they are the last ones."""

    kind: Literal["train", "measure"]
    unit: Unit
    training: Training | None = None
    parts: tuple[int, ...] = ()
    gather: bool = False

    @property
    def name(self) -> str:
        """Its name; two jobs of the same name never run at the same time, so that each file has one writer."""
        paper, name, seed = self.training or (self.unit.paper, self.unit.name, self.unit.seed)
        return f"{self.kind} {paper}/{name} seed {seed}"


def run(job: Job, root: Path, stop_at: float) -> None:
    """Do the job below ``root`` and exit with DONE, FAILED or, when ``stop_at`` (seconds since the epoch) has come, UNFINISHED."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.nice(19)  # it works for hours or days, and somebody may use the machine
    log = log_of(job, root)
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a") as handle, FileLock(log.with_suffix(".lock")):
        for stream in (1, 2):
            os.dup2(handle.fileno(), stream)
        try:
            done = _train(job, root, stop_at) if job.kind == "train" else _measure(job, root, stop_at)
        except ReplicationError as error:
            print(f"Error: {error}", file=sys.stderr, flush=True)
            sys.exit(FAILED)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            sys.exit(FAILED)
    sys.exit(DONE if done else UNFINISHED)


def log_of(job: Job, root: Path) -> Path:
    """The file that a job prints to."""
    return root / "logs" / f"{job.name.replace('/', '.').replace(' ', '.')}.log"


def _end_with_parent() -> None:
    """Jobs end with a killed recorder: the next recorder must not run beside them."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(FAILED)


def data_file(root: Path, name: str) -> Path:
    """Where a prepared data set lies."""
    return root / "data" / f"{name}.safetensors"


def _train(job: Job, root: Path, stop_at: float) -> bool:
    from replication.pipeline import steps  # only here is torch needed

    assert job.training
    scale, (paper, run, seed) = job.unit.scale, job.training
    data = data_file(root, run_of(scale, job.training).dataset.name)
    folder, left = root / run_folder(scale, job.training), max(0.0, stop_at - time.time()) / 60
    return steps.train_run(scale=scale, paper=paper, run=run, seed=seed, data_file=data, folder=folder, threads=1, stop_after=left)


def _measure(job: Job, root: Path, stop_at: float) -> bool:
    from replication.pipeline import steps

    unit, longest = job.unit, 0.0
    measure = functools.partial(steps.measure_part, scale=unit.scale, paper=unit.paper, measurement=unit.name, seed=unit.seed, threads=1)
    for part in job.parts:
        started = time.time()
        if started + longest > stop_at:
            return False
        trainings = unit.trainings_of(part)
        names = dict.fromkeys(run_of(unit.scale, training).dataset.name for training in trainings)
        measure(
            part=part,
            run_folders=[root / run_folder(unit.scale, training) for training in trainings],
            data_files=[data_file(root, name) for name in names],
            out=root / unit.part(part),
        )
        longest = max(longest, time.time() - started)
    if job.gather:
        parts = [root / unit.part(part) for part in range(unit.parts)]
        steps.gather_seed(scale=unit.scale, paper=unit.paper, measurement=unit.name, parts=parts, folder=root / unit.tables)
    return True
