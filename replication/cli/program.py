"""The command line itself: arguments, exit statuses, and one sentence for each mistake."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from replication import __version__
from replication.cli import actions
from replication.cli.listing import Commands, check_checkout
from replication.errors import ReplicationError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status."""
    options = vars(_parser().parse_args(arguments))
    command: Callable[..., int | None] = options.pop("command")
    checkout_for = options.pop("checkout_for")
    try:
        if checkout_for:
            check_checkout(checkout_for)
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
    commands = Commands(parser)
    _add_run_command(commands)
    _add_claims_commands(commands)
    _add_record_command(commands)
    _add_data_commands(commands)
    _add_computing_commands(commands)
    parser.epilog = commands.overview()
    return parser


def _add_run_command(commands: Commands) -> None:
    about = "make a figure, or all figures of a paper, and print its claims (runs Snakemake)"
    run = commands.add(commands.FOR_PEOPLE, actions.run, "run", about, "target")
    run.add_argument(
        "--scale", default="auto", help="smoke, reduced, full or recorded; by default reduced if the data can be had, otherwise smoke"
    )
    run.add_argument("--seeds", type=int, help="number of trainings of every run; by default as in paper_configs")
    run.add_argument("--cores", type=int, help="processors to use; by default all")
    run.add_argument("--dry-run", action="store_true", help="only print what would be made")


def _add_data_commands(commands: Commands) -> None:
    commands.add(commands.FOR_SNAKEMAKE, actions.data, "data", "prepare a data set as one file", "name", out="file to write (.safetensors)")
    bundle = commands.add(
        commands.FOR_PEOPLE, actions.bundle, "bundle", "write an offline bundle of a data set", "name", into="folder to write it into"
    )
    bundle.add_argument("--pieces", type=float, metavar="MIB", help="cut larger files into pieces of at most this many MiB")


def _add_computing_commands(commands: Commands) -> None:
    files = {"data_file": "prepared data", "folder": "folder of the run"}
    step = commands.FOR_SNAKEMAKE
    train = commands.add(step, actions.train, "train", "train one seed of a run", "paper", "run", **files)
    measure = commands.add(step, actions.measure, "measure", "measure one part of one seed", "paper", "measurement", out=".npz")
    gather = commands.add(
        step,
        actions.gather,
        "gather",
        "join the parts of a measurement into tables",
        "paper",
        "measurement",
        folder="to write",
    )
    figure = commands.add(step, actions.figure, "figure", "draw a figure from tables", "paper", "figure", folder="folder to write into")
    judging = {"quantities_file": "from `replicate figure`", "out": ".json"}
    judge = commands.add(step, actions.judge, "judge", "judge the claims of a figure", "paper", "figure", **judging)
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


def _add_claims_commands(commands: Commands) -> None:
    files = {"quantities_file": "of the figure", "verdicts_file": "of the figure"}
    commands.add(commands.FOR_PEOPLE, actions.show, "show", "print a figure's quantities and verdicts", **files)
    about = "print every claim with its verdict; exit status 0: none is contradicted, 1: some are, 2: something is broken"
    claims = commands.add(commands.FOR_PEOPLE, actions.claims, "claims", about)
    claims.add_argument("verdict_files", nargs="+", type=Path)
    claims.add_argument("--ci", action="store_true", help="only claims marked ci")
    about = "print how many seeds would decide each claim with probability 0.9, from the figures that are drawn"
    power = commands.add(commands.FOR_PEOPLE, actions.power, "power", about)
    power.add_argument("figures", nargs="*", metavar="figure", help="figures or papers (default: all that are drawn); names: see below")
    power.add_argument("--scale", default="reduced", help="reduced, full or recorded (default: reduced)")
    where = "folder of the results (default: results; name another for pilots)"
    power.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help=where)
    page = commands.add(
        commands.FOR_SNAKEMAKE, actions.claims_page, "claims-page", "write every claim as one page of HTML", out="file to write (.html)"
    )
    page.add_argument("verdict_files", nargs="*", type=Path)
    about = "pack figures, tables and their provenance as a Workflow Run RO-Crate"
    crate = commands.add(commands.FOR_PEOPLE, actions.crate, "crate", about, out="file to write (.zip)")
    crate.add_argument("--scale", required=True, help="smoke, reduced, full or recorded")
    commands.add(commands.FOR_MAINTAINERS, actions.lock, "lock", "lock new claims before their evaluation seeds run")
    amend = commands.add(commands.FOR_MAINTAINERS, actions.amend, "amend", "record that a locked claim was changed", "claim")
    amend.add_argument("--reason", required=True)
    amend.add_argument("--results-seen", required=True, choices=["yes", "no"])


def _add_record_command(commands: Commands) -> None:
    about = "run the queue of full-scale experiments, and copy finished ones into recorded/"
    command = commands.add(commands.FOR_MAINTAINERS, actions.record, "record", about)
    action = command.add_mutually_exclusive_group(required=True)
    action.add_argument(
        "--minutes", type=float, help="train, measure and gather for this many minutes and write to --into; run again to continue"
    )
    action.add_argument(
        "--keep",
        nargs="+",
        type=Path,
        metavar="FROM",
        dest="sources",
        help="check finished tables (archives, results/) and copy them into recorded/",
    )
    action.add_argument(
        "--keep-weights", nargs="+", type=Path, metavar="RUN", dest="finished", help="copy final weights of trainings into weights/"
    )
    action.add_argument(
        "--list",
        action="store_true",
        dest="show",
        help="print the queue in the order for this device: minutes of a seed on a CPU and on a GPU, what is recorded, which figures gain",
    )
    command.add_argument("--into", type=Path, metavar="DIR", help="folder for archives and for everything that is needed to continue")
    command.add_argument("--work", type=Path, metavar="DIR", help="folder for everything but the archives (default: work/ below --into)")
    command.add_argument("--data", nargs="+", type=Path, default=[], metavar="FOLDER", help="folders that hold data sets or their pieces")
    command.add_argument("--only", nargs="+", default=[], metavar="NAME", help="figures, measurements or runs of the queue")
    command.add_argument("--seeds", type=int, help="only so many of the first seeds")
    command.add_argument("--jobs", type=int, help="processes of one thread at a time (default: on a GPU as the queue says, otherwise 1)")
    command.add_argument("--scale", default="full", help=argparse.SUPPRESS)  # for tests
