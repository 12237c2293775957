"""Full-scale experiments on a machine that may be lost at any time: ``replicate record --minutes M --into DIR``.

DIR holds finished tables in few archives (``tables-*.zip``), the states from which another machine can continue (``state-*.zip``)
and, below ``work/`` or in another folder, everything else in the folders of ``results/``. No file is ever half-written, so a
recorder that was killed is simply started again.
"""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from replication.data.sources import formats
from replication.errors import ReplicationError
from replication.files.atomic import atomic
from replication.files.provenance import PROVENANCE, provenance_file, read_provenance
from replication.pipeline import dag, kept_weights
from replication.recording import archives, keep, queue
from replication.recording.jobs import DONE, FAILED, UNFINISHED, Job, data_file, log_of, run
from replication.recording.queue import Training, Unit, run_folder, run_of
from replication.schema.queue import Device

_STATE_LIMIT = 2 * archives.LIMIT
_PACK_EVERY = 60.0  # seconds


def record(
    *,
    minutes: float,
    into: Path,
    work: Path | None = None,
    folders: Sequence[Path] = (),
    only: Sequence[str] = (),
    seeds: int | None = None,
    jobs: int | None = None,
    scale: str = "full",
) -> int:
    """Work through the queue for ``minutes`` and return DONE, FAILED (some job did) or UNFINISHED (run again to go on).

    Args:
        into: DIR, as above.
        work: a folder for everything but the archives, in place of DIR/work.
        folders: where data sets lie; the pieces of one may be spread over several.
        only: figures, measurements or runs to take from the queue; all by default.
        seeds: only so many of the first seeds.
        jobs: how many processes at a time; by default as many as the queue says on a GPU, and one without.

    Raises:
        ReplicationError: a wrong name, no data, or another recorder at work in DIR.
    """
    started = time.time()
    entries = queue.in_order(queue.load(), device_here(), scale)
    units = queue.units(entries, scale)
    chosen = [unit for unit in queue.units(entries, scale, only) if seeds is None or unit.seed < seeds]
    root = work or into / "work"
    for folder in (into, root):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(into / ".lock", timeout=0):
            _use_data(folders, root)
            os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))  # of the jobs
            for path in (*archives.packed(into, "tables"), *archives.packed(into, "state")):
                archives.extract(path, root)
            session = Session(into, root, units, chosen, jobs=jobs)
            reserve = min(60.0, 3 * minutes)  # 5 % for the last states to be written
            return session.work(started + 60 * minutes - reserve, reserve / 2)
    except Timeout:
        raise ReplicationError(f"Another `replicate record` is running in {into}; wait for it or take another folder.") from None


def _use_data(folders: Sequence[Path], root: Path) -> None:
    """Let data be read from ``folders``, as one folder of links where there are several, and never from the network."""
    for folder in folders:
        if not folder.is_dir():
            raise ReplicationError(f"--data names {folder}, which is not a folder; correct it.")
    os.environ["REPLICATION_OFFLINE"] = "1"
    if folders:
        joined = folders[0] if len(folders) == 1 else root / "data" / "joined"
        if len(folders) > 1:
            formats.join_folders(folders, joined)
        os.environ["REPLICATION_DATA"] = str(joined.resolve())


class Session:
    """One call of the command: what is finished, what is running, what is left.

    Args:
        place: where archives lie.
        root: where everything else lies.
        units: of the whole queue, whose trainings stay until they were measured.
        chosen: those to work on.
        jobs: processes at a time, or None.
    """

    def __init__(self, place: Path, root: Path, units: Sequence[Unit], chosen: Sequence[Unit], *, jobs: int | None) -> None:
        self.place, self.root, self.units, self.chosen = place, root, units, chosen
        self.jobs = jobs or (None if device_here() == "gpu" else 1)
        self.finished = {unit for unit in units if self._is_current(self.root / unit.tables, unit.depends) or keep.is_recorded(unit)}
        self.parts = {unit: self._parts(unit) for unit in units if unit not in self.finished}
        self.trained = {training for unit in self.parts for training in unit.trainings if self._is_trained(unit.scale, training)}
        self.failed: set[str] = set()
        self.ended: set[str] = set()  # failed, or stopped for want of time: not started again by this call
        self.running: dict[Job, tuple[multiprocessing.process.BaseProcess, float]] = {}
        self.without_data: dict[str, ReplicationError] = {}

    def work(self, stop_at: float, grace: float) -> int:
        """Start jobs until ``stop_at`` (seconds since the epoch), kill those that still run ``grace`` seconds later, and pack."""
        before = len(self.finished)
        self._pack_missing()
        self._finish()
        self._clean()
        self._prepare_data()
        packed_at = time.time()
        while True:
            if time.time() < stop_at:
                self._start(stop_at)
            if not self.running:
                break
            if time.time() > stop_at + grace:
                self._kill()
                break
            ends = [process.sentinel for process, _ in self.running.values()]
            multiprocessing.connection.wait(ends, timeout=max(0.0, min(stop_at + grace - time.time(), 5.0)) + 0.01)
            self._reap()
            if time.time() > packed_at + _PACK_EVERY:  # the machine may be lost before the minutes are over
                self._pack_state()
                packed_at = time.time()
        self._pack_state()
        return self._report(before)

    def _start(self, stop_at: float) -> None:
        names = {job.name for job in self.running}
        for job in self.ready():
            share = 1 / job.unit.side_by_side
            used = sum(1 / running.unit.side_by_side for running in self.running)
            if len(self.running) >= self.jobs if self.jobs else used + share > 1 + 1e-9:
                return
            if job.name not in names | self.ended:
                names.add(job.name)
                process = multiprocessing.get_context("spawn").Process(target=run, args=(job, self.root, stop_at), daemon=True)
                process.start()
                self.running[job] = (process, time.time())

    def ready(self) -> Iterator[Job]:
        """Jobs that could run now, cheapest evidence first; what can be measured before what can be trained."""
        for unit in self.chosen:
            if unit in self.finished or self._lacks_data(unit):
                continue
            missing = [part for part in range(unit.parts) if part not in self.parts[unit]]
            wanted = {part: unit.trainings_of(part) for part in missing}
            now = tuple(part for part in missing if all(training in self.trained for training in wanted[part]))
            if not unit.is_run and (now or not missing):
                yield Job("measure", unit, parts=now, gather=len(now) == len(missing))
            for training in dict.fromkeys(unit.trainings if unit.is_run else [each for part in missing for each in wanted[part]]):
                if training not in self.trained:
                    yield Job("train", unit, training=training)

    def _reap(self) -> None:
        for job, (process, began) in list(self.running.items()):
            if process.exitcode is None:
                continue
            del self.running[job]
            minutes = f"{(time.time() - began) / 60:.1f} min"
            if process.exitcode == DONE:
                print(f"{job.name}: {minutes}", flush=True)
                self._done(job)
                continue
            self.ended.add(job.name)
            if not job.training:
                self.parts[job.unit] = self._parts(job.unit)
            if process.exitcode == UNFINISHED:
                print(f"{job.name}: stopped after {minutes}, to be continued", flush=True)
            else:
                log = log_of(job, self.root)
                lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
                print(f"{job.name}: failed after {minutes} ({lines[-1] if lines else f'status {process.exitcode}'}; see {log})", flush=True)
                self.failed.add(job.name)

    def _done(self, job: Job) -> None:
        if job.training:
            self.trained.add(job.training)
        else:
            self.parts[job.unit] |= set(job.parts)
        self._finish(job.unit if job.gather else None)
        self._clean()

    def _finish(self, measured: Unit | None = None) -> None:
        """Enter a gathered measurement, and every run that was trained and whose log is a result, and pack their tables."""
        runs = [unit for unit in self.chosen if unit.is_run and unit not in self.finished and unit.trainings[0] in self.trained]
        for unit in runs:
            with atomic(self.root / unit.tables, folder=True) as temporary:
                shutil.copytree(self.root / run_folder(unit.scale, unit.trainings[0]) / "tables", temporary, dirs_exist_ok=True)
        for unit in [measured, *runs] if measured else runs:
            self.finished.add(unit)
            self._pack([unit.tables])

    def _kill(self) -> None:
        for job, (process, _) in self.running.items():
            process.kill()
            process.join()
            print(f"{job.name}: out of time; finished parts are kept", flush=True)
        self.running.clear()

    def _parts(self, unit: Unit) -> set[int]:
        return {part for part in range(unit.parts) if self._is_current(self.root / unit.part(part), unit.depends)}

    def _is_current(self, path: Path, depends: str) -> bool:
        """Whether a part or a folder of tables exists and was made by the present configuration and code."""
        provenance = provenance_file(path) if path.suffix == ".npz" else path / PROVENANCE
        return provenance.is_file() and read_provenance(provenance, check=False).get("depends") == depends

    def _is_trained(self, scale: str, training: Training) -> bool:
        folder = self.root / run_folder(scale, training)
        if not self._is_current(folder, dag.training_depends(scale, *training[:2])):
            return False
        return all((folder / name).is_file() for name in read_provenance(folder / PROVENANCE, check=False)["files"])

    def needed_folders(self) -> set[str]:
        """Folders of trainings that some part of the queue has yet to read, and of parts that have yet to be gathered."""
        folders = set()
        for unit in (unit for unit in self.units if unit not in self.finished):
            missing = [part for part in range(unit.parts) if part not in self.parts[unit]]
            trainings = unit.trainings if unit.is_run else [each for part in missing for each in unit.trainings_of(part)]
            folders |= {run_folder(unit.scale, training) for training in trainings}
            folders.add(str(Path(unit.part(0)).parent))
        return folders

    def _clean(self) -> None:
        """Remove trainings and parts that nothing will read again: trajectories are large. Final weights of landscapes stay."""
        needed = self.needed_folders()
        scale = self.units[0].scale
        for folder in (*self.root.glob(f"{scale}/*/runs/*/seed*"), *self.root.glob(f"{scale}/*/parts/*/seed*")):
            if folder.relative_to(self.root).as_posix() not in needed:
                if kept_weights.are_wanted(folder):
                    kept_weights.keep(folder, self.place)
                shutil.rmtree(folder)

    def _pack_missing(self) -> None:
        """Bring the archives up to date with the finished tables: a recorder may have been killed between the two."""
        made = [unit.tables for unit in self.units if (self.root / unit.tables).is_dir()]
        packed = self._packed()
        self._pack([folder for folder in made if folder not in packed])

    def _packed(self) -> set[str]:
        return {folder for path in archives.packed(self.place, "tables") for folder in archives.folders(path)}

    def _pack(self, folders: Sequence[str]) -> None:
        if self._packed() & set(folders):  # made again by changed code: the archives hold each folder once
            for path in archives.packed(self.place, "tables"):
                path.unlink()
            folders = [unit.tables for unit in self.units if (self.root / unit.tables).is_dir()]
        for folder in archives.add(self.place, "tables", self.root, folders):
            print(f"{folder} is too large for an archive and stays in {self.root}", flush=True)

    def _pack_state(self) -> None:
        """Pack the states from which another machine can continue, as far as they are small."""
        room, small = _STATE_LIMIT, []
        for folder in sorted(self.needed_folders()):
            size = _size(self.root / folder)
            if 0 < size <= min(room, archives.LIMIT):
                room -= size
                small.append(folder)
        archives.replace(self.place, "state", self.root, small)

    def _prepare_data(self) -> None:
        trainings = [(unit.scale, training) for unit in self.chosen if unit not in self.finished for training in unit.trainings]
        for name in dict.fromkeys(run_of(scale, training).dataset.name for scale, training in trainings):
            try:
                if not data_file(self.root, name).is_file():
                    from replication import data  # torch, which is not needed here otherwise

                    data.prepare(name, data_file(self.root, name))
            except ReplicationError as error:
                print(f"Without {name}: {error}", flush=True)
                self.without_data[name] = error
        left = [unit for unit in self.chosen if unit not in self.finished]
        if left and all(self._lacks_data(unit) for unit in left):
            raise next(iter(self.without_data.values()))

    def _lacks_data(self, unit: Unit) -> bool:
        return any(run_of(unit.scale, training).dataset.name in self.without_data for training in unit.trainings)

    def _report(self, before: int) -> int:
        left = [unit for unit in self.chosen if unit not in self.finished]
        kept = ", ".join(str(path) for path in archives.packed(self.place, "tables")) or "none yet"
        print(f"{len(self.finished) - before} finished now, {len(left)} of {len(self.chosen)} left; finished tables: {kept}.")
        if self.failed:
            print(f"Failed: {', '.join(sorted(self.failed))}.")
            return FAILED
        if left:
            print(f"Next: {left[0]}. Run the same command again to continue.")
        return UNFINISHED if left else DONE


def _size(folder: Path) -> int:
    """Bytes of the files of a folder, which a running training may change meanwhile."""
    sizes = []
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            sizes += [path.stat().st_size] if path.is_file() else []
    return sum(sizes)


def device_here() -> Device:
    """What trainings and measurements would run on."""
    import torch

    return "gpu" if torch.cuda.is_available() else "cpu"
