"""Commands in groups by who needs them, and their help with the names that their arguments may have."""

import argparse
from collections.abc import Callable
from pathlib import Path

from replication.errors import ReplicationError

WITHOUT_CHECKOUT = ("show", "claims", "claims-page", "bundle", "data")  # the others read paper_configs/, figures/ or the Snakefile


def check_checkout(command: str) -> None:
    """Stop with one sentence where a command that reads the checkout runs elsewhere.

    Raises:
        ReplicationError: the current folder is no checkout.
    """
    if not Path("paper_configs").is_dir():
        raise ReplicationError(
            f"`replicate {command}` needs the checkout, and {Path.cwd()} is not one (it has no paper_configs/): "
            "clone the repository and run in the folder that holds the Snakefile."
        )


class Commands:
    """The commands, listed by who needs them."""

    FOR_PEOPLE = "for everyone"
    FOR_MAINTAINERS = "for those who change claims and recorded results"
    FOR_SNAKEMAKE = "steps of the workflow, which the Snakefile calls"

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parsers = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Command)
        self.listed: dict[str, list[tuple[str, str]]] = {self.FOR_PEOPLE: [], self.FOR_MAINTAINERS: [], self.FOR_SNAKEMAKE: []}

    def add(
        self, group: str, run: Callable[..., int | None], name: str, about: str, *positionals: str, **paths: str
    ) -> argparse.ArgumentParser:
        """A command with its positional arguments and its required paths (option name and help)."""
        command = self.parsers.add_parser(name, description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
        command.set_defaults(command=run, checkout_for="" if name in WITHOUT_CHECKOUT else name)
        for positional in positionals:
            command.add_argument(positional, help=f"allowed {positional} names: see below" if positional in _NAMES else None)
        for option, text in paths.items():
            command.add_argument(f"--{option.replace('_', '-')}", required=True, type=Path, help=text)
        self.listed[group].append((name, about))
        return command

    def overview(self) -> str:
        """All commands in groups, for the help of the program."""
        groups = [f"Outside a checkout of the repository only these work: {', '.join(WITHOUT_CHECKOUT)}."]
        for title, commands in self.listed.items():
            groups.append("\n".join([f"{title}:", *(f"  {name:12} {about}" for name, about in commands)]))
        return "\n\n".join(groups)


_NAMES = ("paper", "run", "measurement", "figure", "figures", "claim", "target")


class Command(argparse.ArgumentParser):
    """A command whose help lists the names that its positional arguments may have, read from paper_configs only then."""

    def format_help(self) -> str:
        """The help, with the allowed names."""
        positionals = [action.dest for action in self._actions if not action.option_strings and action.dest in _NAMES]
        if positionals:
            self.epilog = "\n\n".join(f"{positional.removesuffix('s')}:\n{_allowed(positional)}" for positional in positionals)
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
            "figures": list(config.figures),
            "target": list(config.figures),
            "claim": [claim.id for figure in config.figures.values() for claim in figure.claims],
        }[positional]
        for paper, config in papers.items()
    }
    return "\n".join(f"  {paper}: {', '.join(listed)}" for paper, listed in names.items())
