"""What Snakemake prints: what a call comes to, one line per job, and where the results lie.

Snakemake's own blocks go to its log file, and to the terminal with ``--verbose``.
"""

import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from replication.errors import ReplicationError
from replication.pipeline.request import Plan, Request, check_targets, first_line, last_line, plan_of

_NO_FAULT = "Missing metadata for file"  # a warning for every file that is not made yet
_EXPENSIVE = ("train", "measure")  # minutes, against seconds of the other rules


def attach(logger: logging.Logger, request: Request, workflow: Any, answers: Iterable[str]) -> None:
    """Let ``logger`` print to the terminal as this module does, in place of Snakemake's handler unless ``--verbose`` was given.

    Args:
        workflow: Snakemake's; its targets are known only after the Snakefile was read.
        answers: rules that print claims and fail where one does not hold, which is an answer and no fault.
    """
    verbose = workflow.output_settings.verbose
    for handler in list(logger.handlers):
        if handler.name == "DefaultStreamHandler":
            if not verbose:
                logger.removeHandler(handler)
            terminal = Terminal(
                request,
                targets=lambda: workflow.dag_settings and (workflow.dag_settings.targets or ()),
                format_failure=handler.format,
                cores=workflow.resource_settings.cores,
                dry=workflow.output_settings.dryrun,
                verbose=verbose,
                answers=answers,
            )
            logger.addHandler(terminal)


def list_targets_first(workflow: Any, papers: Sequence[str]) -> None:
    """Let ``snakemake -l`` list what a person asks for before the rules of single jobs: papers, all of them, figures."""
    first = [*papers, "all", "figures", "claims", "claims_ci", "claims_page"]

    def place(rule: Any) -> tuple[int, str]:
        if rule.name in first:
            return first.index(rule.name), rule.name
        return len(first) + (not rule.name.startswith("figure_")), rule.name

    def list_rules(only_targets: bool = False) -> None:
        for rule in sorted(workflow.rules, key=place):
            if not (only_targets and rule.has_wildcards()):
                print(f"{rule.name} ({rule.docstring})" if rule.docstring else rule.name)

    workflow.list_rules = list_rules  # Snakemake's own sorts by name


class Terminal(logging.Handler):
    """Prints to standard error: first what a call comes to, then a line per job; failures as Snakemake words them.

    Args:
        targets: of the call; None as long as they are not known.
        format_failure: Snakemake's text for a failed job.
        cores: that Snakemake may use; None without limit.
        verbose: the first line only; Snakemake prints the rest.
    """

    def __init__(
        self,
        request: Request,
        *,
        targets: Callable[[], Iterable[str] | None],
        format_failure: Callable[[logging.LogRecord], str],
        cores: int | None = None,
        dry: bool = False,
        verbose: bool = False,
        answers: Iterable[str] = (),
    ) -> None:
        super().__init__(logging.INFO)
        self.request, self.targets, self.format_failure = request, targets, format_failure
        self.cores, self.dry, self.verbose, self.answers = cores, dry, verbose, tuple(answers)
        self.plan: Plan | None = None
        self.total = 0
        self.numbers: dict[int, int] = {}  # of the jobs that were started, in the order of their first start
        self.expensive: set[int] = set()  # jobs that were started and are not finished
        self.n_expensive = self.n_expensive_done = 0
        self.answered = False  # claims were printed, and one does not hold

    def emit(self, record: logging.LogRecord) -> None:
        """Print what a record of Snakemake means for a person, if anything; a mistake in the call ends it with one sentence."""
        if self.plan is None and (targets := self.targets()) is not None:
            try:
                check_targets(targets)
                self.plan = plan_of(self.request, targets)
            except ReplicationError as error:
                sys.exit(f"Error: {error}")
            print(first_line(self.request, self.plan), file=sys.stderr, flush=True)
        text = None if self.verbose else self.text_of(record)
        if text:
            print(text, file=sys.stderr, flush=True)

    def text_of(self, record: logging.LogRecord) -> str | None:
        """The text for a record, or None."""
        details = record.__dict__
        event = getattr(details.get("event"), "value", None)
        if event == "run_info":
            return self._count(details["stats"], record.getMessage())
        if event == "job_info":
            return self._job(details)
        if event == "job_finished":
            self._finish(details["job_id"])
            return None
        if event == "job_error":
            self.answered = self.answered or details["rule_name"] in self.answers
            return None if details["rule_name"] in self.answers else self.format_failure(record)
        return self._message(record) if event in (None, "error") else None

    def _count(self, stats: Mapping[str, int], table: str) -> str | None:
        """Note how many jobs there are; before a dry run, Snakemake's table of them."""
        before = self.total
        self.total = sum(int(count) for rule, count in stats.items() if rule != "total")
        self.n_expensive = sum(int(stats.get(rule, 0)) for rule in _EXPENSIVE)
        return table if self.dry and not before else None

    def _job(self, details: Mapping[str, Any]) -> str:
        rule, wildcards = details["rule_name"], dict(details["wildcards"] or {})
        again = details["jobid"] in self.numbers
        number = self.numbers.setdefault(details["jobid"], len(self.numbers) + 1)
        if rule in _EXPENSIVE:
            self.expensive.add(details["jobid"])
        name = next((wildcards[key] for key in ("run", "measurement", "figure", "dataset") if key in wildcards), "")
        numbers = [f"{key} {wildcards[key]}" for key in ("seed", "part") if key in wildcards]
        what = " ".join(part for part in (rule, name, *numbers) if part)
        paper = f"{wildcards['paper']}: " if "paper" in wildcards else ""
        return f"[{number} of {self.total}] {paper}{what}{', again' if again else ''}{self._minutes_left()}"

    def _finish(self, job: int) -> None:
        if job in self.expensive:
            self.expensive.remove(job)
            self.n_expensive_done += 1

    def _minutes_left(self) -> str:
        if self.dry or not self.plan or not self.plan.core_minutes or not self.cores or not self.n_expensive:
            return ""
        left = self.plan.core_minutes * (1 - self.n_expensive_done / self.n_expensive) / self.cores
        return f" (about {left:.0f} min left)" if left >= 1 else ""

    def _message(self, record: logging.LogRecord) -> str | None:
        text = record.getMessage().strip()
        end = last_line(self.request, self.plan) if self.plan else ""
        if text.startswith("Nothing to be done"):
            return f"Nothing to be done: everything is made and up to date.\n{end}"
        if text.startswith("This was a dry-run"):
            return f"This was a dry run (-n): nothing was made.\n{end}"
        if "CalledProcessError" in text and "replicate claims" in text:  # comes before the failure of the job itself
            self.answered = True
        if "marked for report but does not exist" in text:
            return f"{text}\nMake it first: run the same command without --report."
        if self.answered or record.levelno < logging.WARNING or text.startswith(_NO_FAULT):
            return None
        return text
