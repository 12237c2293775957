"""``replicate``: the command line. Rules of the Snakefile call it, and so can a person.

A user's mistake ends with one sentence and status 2, without a traceback.
"""

import argparse
import importlib
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
    command = options.pop("command")
    try:
        status = _COMMANDS[command](**options)
        sys.stdout.flush()
    except ReplicationError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader, head say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except KeyboardInterrupt:
        print("Interrupted; run the same command again to continue.", file=sys.stderr)
        sys.exit(130)
    sys.exit(status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="replicate", description="The steps of the replication DAG, one at a time.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, about: str, *names: str, **paths: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=about, description=about)
        for positional in names:
            command.add_argument(positional)
        for option, text in paths.items():
            command.add_argument(f"--{option.replace('_', '-')}", required=True, type=Path, help=text)
        return command

    def job(command: argparse.ArgumentParser, *, seed: bool = False) -> argparse.ArgumentParser:
        command.add_argument("--scale", required=True, help="smoke, reduced, full or recorded")
        if seed:
            command.add_argument("--seed", required=True, type=int)
        return command

    add("data", "prepare a data set as one file", "name", out="file to write (.safetensors)")
    bundle = add("bundle", "write an offline bundle of a data set", "name", into="folder to write it into")
    bundle.add_argument("--pieces", type=float, metavar="MIB", help="cut larger files into pieces of at most this many MiB")
    train = job(add("train", "train one seed of a run", "paper", "run", data_file="prepared data", folder="folder of the run"), seed=True)
    measure = job(add("measure", "measure one part of one seed", "paper", "measurement", out=".npz"), seed=True)
    measure.add_argument("--run-folders", nargs="*", type=Path, default=[], help="the trainings it reads, in order")
    measure.add_argument("--data-files", nargs="*", type=Path, default=[], help="their data, each once")
    measure.add_argument("--part", required=True, type=int)
    train.add_argument("--stop-after", type=float, default=float("inf"), metavar="MINUTES", help="end unfinished; run again to continue")
    for command in (train, measure):
        command.add_argument("--threads", type=int, default=1)
    gather = job(add("gather", "join the parts of a measurement into tables", "paper", "measurement", folder="folder to write"))
    gather.add_argument("parts", nargs="+", type=Path, help="all parts of the first seed, then those of the next")
    figure = job(add("figure", "draw a figure from tables", "paper", "figure", folder="folder to write into"))
    figure.add_argument("table_folders", nargs="+", type=Path)
    job(add("judge", "judge the claims of a figure", "paper", "figure", quantities_file="from `replicate figure`", out=".json"))
    add("show", "print a figure's quantities and verdicts", quantities_file="of the figure", verdicts_file="of the figure")
    table = add("claims", "print every claim with its verdict; the status says if they hold: 0 yes, 1 no, 2 broken")
    table.add_argument("verdict_files", nargs="+", type=Path)
    table.add_argument("--ci", action="store_true", help="only claims marked ci; inconclusive ones do not fail")
    page = add("claims-page", "write every claim as one page of HTML", out="file to write (.html)")
    page.add_argument("verdict_files", nargs="*", type=Path)
    add("measured", "put costs and verdicts of finished results into docs/measured.csv and README.md", "scale")
    add("readme", "write the table of figures into README.md")
    add("lock", "lock new claims before their evaluation seeds run")
    amend = add("amend", "record that a locked claim was changed", "claim")
    amend.add_argument("--reason", required=True)
    amend.add_argument("--results-seen", required=True, choices=["yes", "no"])
    _record_options(add("record", "work through the queue of full-scale experiments, and keep what is finished in recorded/"))
    return parser


def _record_options(command: argparse.ArgumentParser) -> None:
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("--minutes", type=float, help="train, measure and gather for so long, into --into; run again to go on")
    what.add_argument("--keep", nargs="+", type=Path, metavar="FROM", help="keep finished tables (archives, results/) in recorded/")
    what.add_argument("--list", action="store_true", help="print the queue: minutes, and what is recorded on which device")
    command.add_argument("--into", type=Path, metavar="DIR", help="folder of archives and of everything that is needed to go on")
    command.add_argument("--data", nargs="+", type=Path, default=[], metavar="FOLDER", help="where data sets, or their pieces, lie")
    command.add_argument("--only", nargs="+", default=[], metavar="NAME", help="figures, measurements or runs of the queue")
    command.add_argument("--jobs", type=int, help="processes at a time (default: what the queue says on a GPU, else 1)")
    command.add_argument("--scale", default="full", help=argparse.SUPPRESS)  # for tests


# torch and pandas are imported by the commands that need them, so that --help and mistakes answer at once


def _data(name: str, out: Path) -> int:
    from replication import data

    data.prepare(name, out)
    return 0


def _bundle(name: str, into: Path, pieces: float | None) -> int:
    from replication.data.sources import reading as sources

    if pieces is not None and pieces < 1e-3:
        raise ReplicationError(f"--pieces is {pieces:g}; allowed are numbers of MiB from 0.001: make it larger.")
    sources.write_bundle(sources.read(name), into, piece_bytes=round(pieces * 2**20) if pieces else None)
    print(f"Wrote {name} into {into}; set REPLICATION_DATA={into} where it is to be used.")
    return 0


def _train(**options: object) -> int:
    from replication.pipeline import steps

    if steps.train_run(**options):  # type: ignore[arg-type]
        return 0
    print(
        f"Unfinished: {options['run']} seed {options['seed']} was stopped as asked; run again to continue.",
        file=sys.stderr,
    )
    return UNFINISHED


def _step(module: str, function: str) -> Callable[..., int]:
    def call(**options: object) -> int:
        getattr(importlib.import_module(f"replication.{module}"), function)(**options)
        return 0

    return call


def _show(quantities_file: Path, verdicts_file: Path) -> int:
    from replication.claims import report

    report.show_figure(quantities_file, verdicts_file)
    return 0


def _claims(verdict_files: list[Path], ci: bool) -> int:
    from replication.claims import report

    return report.show_claims(verdict_files, ci=ci)


def _lock() -> int:
    from replication import claims
    from replication.pipeline import configs, judging

    configs.load("full")
    new = claims.lock_new(judging.raw_claims(), configs.FOLDER / claims.LOCK)
    print(f"Locked {len(new)} new claims: {', '.join(new) or 'none'}.")
    return 0


def _amend(claim: str, reason: str, results_seen: str) -> int:
    from replication import claims
    from replication.pipeline import configs, judging

    configs.load("full")
    raw = judging.raw_claims()
    if claim not in raw:
        raise ReplicationError(f"There is no claim '{claim}'; allowed: {', '.join(raw)}.")
    claims.amend(claim, raw[claim], configs.FOLDER / claims.LOCK, reason=reason, results_seen=results_seen == "yes")
    print(f"Amended {claim}; it is shown as post hoc from now on.")
    return 0


def _record(**options: Any) -> int:
    if options["keep"]:
        from replication.recording import keep

        for folder in (kept := keep.keep(options["keep"], options["only"])):
            print(f"Recorded {folder}")
        print(f"{len(kept)} folders of tables were newer than those in recorded/.")
        return 0
    if options["list"]:
        from replication.recording import listing

        listing.show(options["only"])
        return 0
    if options["into"] is None or options["minutes"] <= 0 or (options["jobs"] or 1) < 1:
        raise ReplicationError("--minutes needs a number above 0 and --into DIR, and --jobs a number from 1; correct them.")
    from replication.recording import session

    names = ("minutes", "into", "only", "jobs", "scale")
    return session.record(folders=options["data"], **{name: options[name] for name in names})


_COMMANDS: dict[str, Callable[..., int]] = {
    "data": _data,
    "bundle": _bundle,
    "train": _train,
    "measure": _step("pipeline.steps", "measure_part"),
    "gather": _step("pipeline.steps", "gather"),
    "figure": _step("pipeline.drawing", "draw_figure"),
    "judge": _step("pipeline.judging", "judge_figure"),
    "show": _show,
    "claims": _claims,
    "claims-page": _step("claims.page", "write"),
    "measured": _step("figures_table", "update"),
    "readme": _step("figures_table", "write"),
    "lock": _lock,
    "amend": _amend,
    "record": _record,
}
