"""``replicate``: the command line. Rules of the Snakefile call it, and so can a person.

A user's mistake ends with one sentence and status 2, without a traceback. Each command is a function here that imports what it needs:
torch and pandas are loaded only where they are used, so that ``--help`` and mistakes answer at once.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from replication import __version__
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
    parser = argparse.ArgumentParser(
        prog="replicate",
        description="Figures and claims of four papers on how neural networks train.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"replicate {__version__}")
    commands = _Commands(parser)
    _add_run_command(commands)
    _add_claims_commands(commands)
    _add_record_command(commands)
    _add_data_commands(commands)
    _add_computing_commands(commands)
    parser.epilog = commands.overview()
    return parser


class _Commands:
    """The commands, listed by who needs them."""

    FOR_PEOPLE = "for everyone"
    FOR_MAINTAINERS = "for those who change claims and recorded results"
    FOR_SNAKEMAKE = "steps of the workflow, which the Snakefile calls"

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parsers = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Command)
        self.listed: dict[str, list[tuple[str, str]]] = {self.FOR_PEOPLE: [], self.FOR_MAINTAINERS: [], self.FOR_SNAKEMAKE: []}

    def add(
        self, group: str, run: Callable[..., int | None], name: str, about: str, *positionals: str, **paths: str
    ) -> argparse.ArgumentParser:
        """A command with its positional arguments and its required paths (option name and help)."""
        command = self.parsers.add_parser(name, description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
        command.set_defaults(command=run)
        for positional in positionals:
            command.add_argument(positional, help=f"allowed {positional} names: see below" if positional in _NAMES else None)
        for option, text in paths.items():
            command.add_argument(f"--{option.replace('_', '-')}", required=True, type=Path, help=text)
        self.listed[group].append((name, about))
        return command

    def overview(self) -> str:
        """All commands in groups, for the help of the program."""
        groups = []
        for title, commands in self.listed.items():
            groups.append("\n".join([f"{title}:", *(f"  {name:12} {about}" for name, about in commands)]))
        return "\n\n".join(groups)


_NAMES = ("paper", "run", "measurement", "figure", "claim", "target")


class _Command(argparse.ArgumentParser):
    """A command whose help lists the names that its positional arguments may have, read from paper_configs only then."""

    def format_help(self) -> str:
        """The help, with the allowed names."""
        positionals = [action.dest for action in self._actions if not action.option_strings and action.dest in _NAMES]
        if positionals:
            self.epilog = "\n\n".join(f"{positional}:\n{_allowed(positional)}" for positional in positionals)
        return super().format_help()


def _allowed(positional: str) -> str:
    """Names that a positional argument may have, by paper."""
    from replication.pipeline import configs

    try:
        papers = configs.load("full")
    except ReplicationError as error:  # outside of a checkout
        return f"  {error}"
    if positional == "paper":
        return f"  {', '.join(papers)}"
    names = {
        paper: {
            "run": list(config.runs),
            "measurement": list(config.measurements),
            "figure": list(config.figures),
            "target": list(config.figures),
            "claim": [claim.id for figure in config.figures.values() for claim in figure.claims],
        }[positional]
        for paper, config in papers.items()
    }
    return "\n".join(f"  {paper}: {', '.join(listed)}" for paper, listed in names.items())


def _add_run_command(commands: _Commands) -> None:
    about = "make a figure, or all figures of a paper, and print its claims (runs Snakemake)"
    run = commands.add(commands.FOR_PEOPLE, _run, "run", about, "target")
    run.add_argument("--scale", default="auto", help="smoke, reduced, full or recorded; by default the largest that the data found allow")
    run.add_argument("--seeds", type=int, help="trainings of every run; by default as many as paper_configs says")
    run.add_argument("--cores", type=int, help="processors to use; by default all")
    run.add_argument("--dry-run", action="store_true", help="only say what would be made")


def _add_data_commands(commands: _Commands) -> None:
    commands.add(commands.FOR_SNAKEMAKE, _data, "data", "prepare a data set as one file", "name", out="file to write (.safetensors)")
    bundle = commands.add(
        commands.FOR_PEOPLE, _bundle, "bundle", "write an offline bundle of a data set", "name", into="folder to write it into"
    )
    bundle.add_argument("--pieces", type=float, metavar="MIB", help="cut larger files into pieces of at most this many MiB")


def _add_computing_commands(commands: _Commands) -> None:
    files = {"data_file": "prepared data", "folder": "folder of the run"}
    train = commands.add(commands.FOR_SNAKEMAKE, _train, "train", "train one seed of a run", "paper", "run", **files)
    measure = commands.add(commands.FOR_SNAKEMAKE, _measure, "measure", "measure one part of one seed", "paper", "measurement", out=".npz")
    gather = commands.add(
        commands.FOR_SNAKEMAKE, _gather, "gather", "join the parts of a measurement into tables", "paper", "measurement", folder="to write"
    )
    figure = commands.add(
        commands.FOR_SNAKEMAKE, _figure, "figure", "draw a figure from tables", "paper", "figure", folder="folder to write into"
    )
    judging = {"quantities_file": "from `replicate figure`", "out": ".json"}
    judge = commands.add(commands.FOR_SNAKEMAKE, _judge, "judge", "judge the claims of a figure", "paper", "figure", **judging)
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


def _add_claims_commands(commands: _Commands) -> None:
    files = {"quantities_file": "of the figure", "verdicts_file": "of the figure"}
    commands.add(commands.FOR_PEOPLE, _show, "show", "print a figure's quantities and verdicts", **files)
    about = "print every claim with its verdict; the status says if they hold: 0 yes, 1 no, 2 broken"
    claims = commands.add(commands.FOR_PEOPLE, _claims, "claims", about)
    claims.add_argument("verdict_files", nargs="+", type=Path)
    claims.add_argument("--ci", action="store_true", help="only claims marked ci; inconclusive ones do not fail")
    page = commands.add(
        commands.FOR_SNAKEMAKE, _claims_page, "claims-page", "write every claim as one page of HTML", out="file to write (.html)"
    )
    page.add_argument("verdict_files", nargs="*", type=Path)
    commands.add(commands.FOR_MAINTAINERS, _lock, "lock", "lock new claims before their evaluation seeds run")
    amend = commands.add(commands.FOR_MAINTAINERS, _amend, "amend", "record that a locked claim was changed", "claim")
    amend.add_argument("--reason", required=True)
    amend.add_argument("--results-seen", required=True, choices=["yes", "no"])


def _add_record_command(commands: _Commands) -> None:
    about = "work through the queue of full-scale experiments, and keep what is finished in recorded/"
    command = commands.add(commands.FOR_MAINTAINERS, _record, "record", about)
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


def _run(target: str, scale: str, seeds: int | None, cores: int | None, dry_run: bool) -> int:
    from replication.pipeline import configs

    if any(target in config.figures for config in configs.load("full").values()):
        target = f"figure_{target}"
    command = [sys.executable, "-m", "snakemake", target, "--config", f"scale={scale}"]
    command += [f"seeds={seeds}"] if seeds is not None else []
    command += ["--cores", str(cores)] if cores else []
    return subprocess.run([*command, "--dry-run"] if dry_run else command).returncode


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
    with_results = judging.claims_with_results()
    new = lock.lock_new(judging.raw_claims(), configs.FOLDER / lock.LOCK, with_results=with_results)
    print(f"Locked {len(new)} new claims: {', '.join(new) or 'none'}.")
    if late := [claim for claim in new if claim in with_results]:
        print(f"Their figures have results already, so they are shown as post hoc: {', '.join(late)}.")


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
