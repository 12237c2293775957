"""What each command does. Each is a function that imports what it needs: torch and pandas are loaded only where they are used."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from replication.errors import ReplicationError

UNFINISHED = 75  # EX_TEMPFAIL: nothing is wrong, run again


def run(target: str, scale: str, seeds: int | None, cores: int | None, dry_run: bool) -> int:
    """Make a target through Snakemake; its exit status is returned."""
    from replication.pipeline import configs

    if any(target in config.figures for config in configs.load("full").values()):
        target = f"figure_{target}"
    command = [sys.executable, "-m", "snakemake", target, "--config", f"scale={scale}"]
    command += [f"seeds={seeds}"] if seeds is not None else []
    command += ["--cores", str(cores)] if cores else []
    return subprocess.run([*command, "--dry-run"] if dry_run else command).returncode


def data(name: str, out: Path) -> None:
    """Prepare a data set as one file."""
    from replication import data

    data.prepare(name, out)


def bundle(name: str, into: Path, pieces: float | None) -> None:
    """Write an offline bundle of a data set."""
    from replication.data import sources

    if pieces is not None and pieces < 1e-3:
        raise ReplicationError(f"--pieces is {pieces:g}; allowed are numbers of MiB from 0.001: make it larger.")
    sources.write_bundle(sources.read(name), into, piece_bytes=round(pieces * 2**20) if pieces else None)
    print(f"Wrote {name} into {into}; set REPLICATION_DATA={into} where it is to be used.")


def train(**options: Any) -> int:
    """Train one seed of a run; 75 where it was stopped before its end."""
    from replication.pipeline import steps

    if steps.train_run(**options):
        return 0
    print(f"Unfinished: {options['run']} seed {options['seed']} was stopped as asked; run again to continue.", file=sys.stderr)
    return UNFINISHED


def measure(**options: Any) -> None:
    """Measure one part of one seed."""
    from replication.pipeline import steps

    steps.measure_part(**options)


def gather(**options: Any) -> None:
    """Join the parts of a measurement into tables."""
    from replication.pipeline import steps

    steps.gather(**options)


def figure(**options: Any) -> None:
    """Draw a figure from tables."""
    from replication.pipeline import drawing

    drawing.draw_figure(**options)


def judge(**options: Any) -> None:
    """Judge the claims of a figure."""
    from replication.pipeline import judging

    judging.judge_figure(**options)


def show(quantities_file: Path, verdicts_file: Path) -> None:
    """Print a figure's quantities and verdicts."""
    from replication.claims import report

    report.show_figure(quantities_file, verdicts_file)


def claims(verdict_files: list[Path], ci: bool) -> int:
    """Print every claim with its verdict; the status says whether they hold."""
    from replication.claims import report

    return report.show_claims(verdict_files, ci=ci)


def power(figures: list[str], scale: str, results: Path) -> None:
    """Print how many seeds would decide each claim."""
    from replication.pipeline import planning

    planning.show_power(planning.claims_power(scale, results, figures))


def claims_page(verdict_files: list[Path], out: Path) -> None:
    """Write every claim as one page of HTML."""
    from replication.claims import page

    page.write(verdict_files, out)


def crate(scale: str, out: Path) -> None:
    """Pack finished results as a Workflow Run RO-Crate."""
    from replication.pipeline import crate

    n_files = crate.write(scale, out)
    print(f"Wrote {n_files} files and their description into {out}.")


def lock() -> None:
    """Lock new claims."""
    from replication.claims import lock
    from replication.pipeline import configs, judging

    configs.load("full")  # a mistake is not locked
    with_results = judging.claims_with_results()
    new = lock.lock_new(judging.raw_claims(), configs.FOLDER / lock.LOCK, with_results=with_results)
    print(f"Locked {len(new)} new claims: {', '.join(new) or 'none'}.")
    if late := [claim for claim in new if claim in with_results]:
        print(f"Their figures have results already, so they are shown as post hoc: {', '.join(late)}.")


def amend(claim: str, reason: str, results_seen: str) -> None:
    """Record that a locked claim was changed."""
    from replication.claims import lock
    from replication.pipeline import configs, judging

    configs.load("full")
    raw = judging.raw_claims()
    if claim not in raw:
        raise ReplicationError(f"There is no claim '{claim}'; allowed: {', '.join(raw)}.")
    lock.amend(claim, raw[claim], configs.FOLDER / lock.LOCK, reason=reason, results_seen=results_seen == "yes")
    print(f"Amended {claim}; it is shown as post hoc from now on.")


def record(
    minutes: float | None,
    sources: list[Path] | None,
    finished: list[Path] | None,
    show: bool,
    into: Path | None,
    work: Path | None,
    data: list[Path],
    only: list[str],
    seeds: int | None,
    jobs: int | None,
    scale: str,
) -> int:
    """Work through the queue of full-scale experiments, keep what is finished, or print the queue."""
    if sources:
        from replication.recording import keep

        kept = keep.keep(sources, only)
        for folder in kept:
            print(f"Recorded {folder}")
        print(f"{len(kept)} folders of tables were copied into recorded/ (only newer ones are).")
        return 0
    if finished:
        from replication.pipeline import kept_weights

        for folder in finished:
            print(f"Kept {kept_weights.keep(folder)}")
        return 0
    if show:
        from replication.recording import queue, session

        queue.show(only, session.device_here())
        return 0
    if into is None or minutes is None or minutes <= 0 or (jobs or 1) < 1 or (seeds or 1) < 1:
        raise ReplicationError("--minutes needs a number above 0 and --into DIR, and --jobs and --seeds numbers from 1; correct them.")
    from replication.recording import session

    return session.record(minutes=minutes, into=into, work=work, folders=data, only=only, seeds=seeds, jobs=jobs, scale=scale)
