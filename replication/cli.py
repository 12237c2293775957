"""``replicate``: the command line. Rules of the Snakefile call it, and so can a person.

A user's mistake ends with one sentence and status 2, without a traceback. Each command is a function here that imports what it needs:
torch and pandas are loaded only where they are used, so that ``--help`` and mistakes answer at once.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from replication.errors import ReplicationError

UNFINISHED = 75  # EX_TEMPFAIL: nothing is wrong, run again


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status."""
    options = vars(_parser().parse_args(arguments))
    command: Callable[..., int | None] = options.pop("command")
    try:
        status = command(**options) or 0
        sys.stdout.flush()
    except ReplicationError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader, head for instance, has closed its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except KeyboardInterrupt:
        print("Interrupted; run the same command again to continue.", file=sys.stderr)
        sys.exit(130)
    sys.exit(status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="replicate", description="The steps of the replication DAG, one at a time.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_data_commands(commands)
    _add_computing_commands(commands)
    _add_claims_commands(commands)
    _add_record_command(commands)
    return parser


def _add(commands: Any, run: Callable[..., int | None], name: str, about: str, *positionals: str, **paths: str) -> argparse.ArgumentParser:
    """A command with its positional arguments and its required paths (option name and help)."""
    command: argparse.ArgumentParser = commands.add_parser(name, help=about, description=about)
    command.set_defaults(command=run)
    for positional in positionals:
        command.add_argument(positional)
    for option, text in paths.items():
        command.add_argument(f"--{option.replace('_', '-')}", required=True, type=Path, help=text)
    return command


def _add_data_commands(commands: Any) -> None:
    _add(commands, _data, "data", "prepare a data set as one file", "name", out="file to write (.safetensors)")
    bundle = _add(commands, _bundle, "bundle", "write an offline bundle of a data set", "name", into="folder to write it into")
    bundle.add_argument("--pieces", type=float, metavar="MIB", help="cut larger files into pieces of at most this many MiB")


def _add_computing_commands(commands: Any) -> None:
    files = {"data_file": "prepared data", "folder": "folder of the run"}
    train = _add(commands, _train, "train", "train one seed of a run", "paper", "run", **files)
    measure = _add(commands, _measure, "measure", "measure one part of one seed", "paper", "measurement", out=".npz")
    gather = _add(commands, _gather, "gather", "join the parts of a measurement into tables", "paper", "measurement", folder="to write")
    figure = _add(commands, _figure, "figure", "draw a figure from tables", "paper", "figure", folder="folder to write into")
    judging = {"quantities_file": "from `replicate figure`", "out": ".json"}
    judge = _add(commands, _judge, "judge", "judge the claims of a figure", "paper", "figure", **judging)
    for command in (train, measure, gather, figure, judge):
        command.add_argument("--scale", required=True, help="smoke, reduced, full or recorded")
    for command in (train, measure):
        command.add_argument("--seed", required=True, type=int)
        command.add_argument("--threads", type=int, default=1)
    train.add_argument("--stop-after", type=float, default=float("inf"), metavar="MINUTES", help="end unfinished; run again to continue")
    measure.add_argument("--part", required=True, type=int)
    measure.add_argument("--run-folders", nargs="*", type=Path, default=[], help="the trainings it reads, in order")
    measure.add_argument("--data-files", nargs="*", type=Path, default=[], help="their data, each once")
    gather.add_argument("parts", nargs="+", type=Path, help="all parts of the first seed, then those of the next")
    figure.add_argument("table_folders", nargs="+", type=Path)


def _add_claims_commands(commands: Any) -> None:
    files = {"quantities_file": "of the figure", "verdicts_file": "of the figure"}
    _add(commands, _show, "show", "print a figure's quantities and verdicts", **files)
    about = "print every claim with its verdict; the status says if they hold: 0 yes, 1 no, 2 broken"
    claims = _add(commands, _claims, "claims", about)
    claims.add_argument("verdict_files", nargs="+", type=Path)
    claims.add_argument("--ci", action="store_true", help="only claims marked ci; inconclusive ones do not fail")
    page = _add(commands, _claims_page, "claims-page", "write every claim as one page of HTML", out="file to write (.html)")
    page.add_argument("verdict_files", nargs="*", type=Path)
    _add(commands, _lock, "lock", "lock new claims before their evaluation seeds run")
    amend = _add(commands, _amend, "amend", "record that a locked claim was changed", "claim")
    amend.add_argument("--reason", required=True)
    amend.add_argument("--results-seen", required=True, choices=["yes", "no"])


def _add_record_command(commands: Any) -> None:
    about = "work through the queue of full-scale experiments, and keep what is finished in recorded/"
    command = _add(commands, _record, "record", about)
    action = command.add_mutually_exclusive_group(required=True)
    action.add_argument("--minutes", type=float, help="train, measure and gather for so long, into --into; run again to go on")
    action.add_argument(
        "--keep", nargs="+", type=Path, metavar="FROM", dest="sources", help="keep finished tables (archives, results/) in recorded/"
    )
    action.add_argument("--list", action="store_true", dest="show", help="print the queue: minutes, and what is recorded on which device")
    command.add_argument("--into", type=Path, metavar="DIR", help="folder of archives and of everything that is needed to go on")
    command.add_argument("--data", nargs="+", type=Path, default=[], metavar="FOLDER", help="where data sets, or their pieces, lie")
    command.add_argument("--only", nargs="+", default=[], metavar="NAME", help="figures, measurements or runs of the queue")
    command.add_argument("--jobs", type=int, help="processes at a time (default: what the queue says on a GPU, else 1)")
    command.add_argument("--scale", default="full", help=argparse.SUPPRESS)  # for tests


def _data(name: str, out: Path) -> None:
    from replication import data

    data.prepare(name, out)


def _bundle(name: str, into: Path, pieces: float | None) -> None:
    from replication.data import sources

    if pieces is not None and pieces < 1e-3:
        raise ReplicationError(f"--pieces is {pieces:g}; allowed are numbers of MiB from 0.001: make it larger.")
    sources.write_bundle(sources.read(name), into, piece_bytes=round(pieces * 2**20) if pieces else None)
    print(f"Wrote {name} into {into}; set REPLICATION_DATA={into} where it is to be used.")


def _train(**options: Any) -> int:
    from replication.pipeline import steps

    if steps.train_run(**options):
        return 0
    print(f"Unfinished: {options['run']} seed {options['seed']} was stopped as asked; run again to continue.", file=sys.stderr)
    return UNFINISHED


def _measure(**options: Any) -> None:
    from replication.pipeline import steps

    steps.measure_part(**options)


def _gather(**options: Any) -> None:
    from replication.pipeline import steps

    steps.gather(**options)


def _figure(**options: Any) -> None:
    from replication.pipeline import drawing

    drawing.draw_figure(**options)


def _judge(**options: Any) -> None:
    from replication.pipeline import judging

    judging.judge_figure(**options)


def _show(quantities_file: Path, verdicts_file: Path) -> None:
    from replication.claims import report

    report.show_figure(quantities_file, verdicts_file)


def _claims(verdict_files: list[Path], ci: bool) -> int:
    from replication.claims import report

    return report.show_claims(verdict_files, ci=ci)


def _claims_page(verdict_files: list[Path], out: Path) -> None:
    from replication.claims import page

    page.write(verdict_files, out)


def _lock() -> None:
    from replication.claims import lock
    from replication.pipeline import configs, judging

    configs.load("full")  # a mistake is not locked
    new = lock.lock_new(judging.raw_claims(), configs.FOLDER / lock.LOCK)
    print(f"Locked {len(new)} new claims: {', '.join(new) or 'none'}.")


def _amend(claim: str, reason: str, results_seen: str) -> None:
    from replication.claims import lock
    from replication.pipeline import configs, judging

    configs.load("full")
    raw = judging.raw_claims()
    if claim not in raw:
        raise ReplicationError(f"There is no claim '{claim}'; allowed: {', '.join(raw)}.")
    lock.amend(claim, raw[claim], configs.FOLDER / lock.LOCK, reason=reason, results_seen=results_seen == "yes")
    print(f"Amended {claim}; it is shown as post hoc from now on.")


def _record(
    minutes: float | None,
    sources: list[Path] | None,
    show: bool,
    into: Path | None,
    data: list[Path],
    only: list[str],
    jobs: int | None,
    scale: str,
) -> int:
    if sources:
        from replication.recording import keep

        kept = keep.keep(sources, only)
        for folder in kept:
            print(f"Recorded {folder}")
        print(f"{len(kept)} folders of tables were newer than those in recorded/.")
        return 0
    if show:
        from replication.recording import queue

        queue.show(only)
        return 0
    if into is None or minutes is None or minutes <= 0 or (jobs or 1) < 1:
        raise ReplicationError("--minutes needs a number above 0 and --into DIR, and --jobs a number from 1; correct them.")
    from replication.recording import session

    return session.record(minutes=minutes, into=into, folders=data, only=only, jobs=jobs, scale=scale)
