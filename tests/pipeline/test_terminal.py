"""What a person reads while Snakemake works: a line per job, failures, and nothing else."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from replication.pipeline.request import Request
from replication.pipeline.terminal import Terminal, attach

TARGETS = ["figure_lca_layers"]
STATS = {"train": 2, "measure": 2, "gather": 1, "figure": 1, "total": 6}


def record(event: str | None, message: str = "", level: int = logging.INFO, **details: Any) -> logging.LogRecord:
    made = logging.LogRecord("snakemake", level, "", 0, message, None, None)
    made.__dict__.update(details, event=event and SimpleNamespace(value=event))
    return made


def job(number: int, rule: str, **wildcards: str) -> logging.LogRecord:
    return record("job_info", jobid=number, rule_name=rule, wildcards=wildcards)


def terminal(scale: str = "reduced", **options: Any) -> Terminal:
    defaults: dict[str, Any] = {"targets": lambda: TARGETS, "answers": ["claims"], "cores": 2}
    defaults["format_failure"] = lambda record: f"failed: {record.rule_name}"
    return Terminal(Request(scale=scale), **(defaults | options))


def test_the_first_line_comes_once_when_the_targets_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    known: list[list[str] | None] = [None]
    shown = terminal(targets=lambda: known[0])
    shown.emit(record(None, "Assuming unrestricted shared filesystem usage."))
    assert capsys.readouterr().err == ""
    known[0] = TARGETS
    for _ in range(2):
        shown.emit(record(None, "Building DAG of jobs..."))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Scale: reduced (1 figure, data: mnist).")


def test_a_mistyped_target_ends_the_call_with_a_sentence() -> None:
    with pytest.raises(SystemExit, match="Error: There is no target 'lac'"):
        terminal(targets=lambda: ["lac"]).emit(record(None, "Building DAG of jobs..."))


def test_a_job_is_one_line_with_its_number_and_the_minutes_left(capsys: pytest.CaptureFixture[str]) -> None:
    shown = terminal()
    shown.emit(record("run_info", "Job stats: ...", stats=STATS))
    assert shown.plan is not None
    minutes = shown.plan.core_minutes
    assert minutes is not None
    shown.emit(job(1, "train", paper="lca", run="mnist_fc", seed="0", scale="reduced"))
    shown.emit(record("job_finished", "Finished jobid: 1", job_id=1))
    shown.emit(job(2, "measure", paper="lca", measurement="mnist_fc_lca", seed="0", part="3", scale="reduced"))
    shown.emit(job(3, "data", dataset="mnist"))
    lines = capsys.readouterr().err.splitlines()[1:]
    assert lines == [
        f"[1 of 6] lca: train mnist_fc seed 0 (about {minutes / 2:.0f} min left)",
        f"[2 of 6] lca: measure mnist_fc_lca seed 0 part 3 (about {0.75 * minutes / 2:.0f} min left)",
        f"[3 of 6] data mnist (about {0.75 * minutes / 2:.0f} min left)",
    ]


def test_a_job_that_is_submitted_again_keeps_its_number(capsys: pytest.CaptureFixture[str]) -> None:
    shown = terminal()
    shown.emit(record("run_info", "Job stats: ...", stats=STATS))
    for number, dataset in ((1, "mnist"), (2, "cifar10"), (1, "mnist"), (3, "digits")):
        shown.emit(job(number, "data", dataset=dataset))
    lines = [line.split(" (about")[0] for line in capsys.readouterr().err.splitlines()[1:]]
    assert lines == ["[1 of 6] data mnist", "[2 of 6] data cifar10", "[1 of 6] data mnist, again", "[3 of 6] data digits"]


def test_snakemakes_own_remarks_are_left_out_and_warnings_and_failures_are_not() -> None:
    shown = terminal()
    for event, text in (
        (None, "Select jobs to execute..."),
        ("progress", "3 of 4 steps (75%) done"),
        ("shellcmd", "replicate train"),
        ("resources_info", ""),
    ):
        assert shown.text_of(record(event, text)) is None
    assert shown.text_of(record(None, "The disk is slow.", logging.WARNING)) == "The disk is slow."
    assert shown.text_of(record("job_error", rule_name="train")) == "failed: train"
    assert shown.text_of(record("error", "At least one job did not complete successfully.", logging.ERROR)) is not None


def test_a_report_of_what_is_not_made_says_what_to_run_first() -> None:
    text = terminal().text_of(record("error", "WorkflowError: File x.png marked for report but does not exist.", logging.ERROR))
    assert text is not None
    assert text.endswith("Make it first: run the same command without --report.")
    assert terminal().text_of(record(None, "Missing metadata for file x.png. Maybe ...", logging.WARNING)) is None


def test_a_claim_that_does_not_hold_is_an_answer_and_no_failure_of_a_job() -> None:
    shown = terminal()
    text = "RuleException:\nCalledProcessError in file ...: Command 'replicate claims x.verdicts.json' returned non-zero exit status 1."
    assert shown.text_of(record("error", text, logging.ERROR)) is None
    assert shown.text_of(record("job_error", rule_name="claims")) is None
    assert shown.text_of(record("error", "At least one job did not complete successfully.", logging.ERROR)) is None


def test_a_dry_run_shows_the_table_of_jobs_once_and_no_minutes() -> None:
    shown = terminal(dry=True)
    assert shown.text_of(record("run_info", "Job stats: ...", stats=STATS)) == "Job stats: ..."
    assert shown.text_of(record("run_info", "Job stats: ...", stats=STATS)) is None
    assert shown.text_of(job(1, "train", paper="lca", run="mnist_fc", seed="0")) == "[1 of 6] lca: train mnist_fc seed 0"


@pytest.mark.parametrize("message", ["Nothing to be done (all is up to date).", "This was a dry-run (flag -n)."])
def test_the_end_says_where_results_lie(message: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = terminal("smoke")
    shown.emit(record(None, message))
    assert (
        capsys.readouterr().err.splitlines()[-1] == "Figures: results/smoke/lca/figures/lca_layers.png; tables: results/smoke/lca/tables/"
    )


@pytest.mark.parametrize("verbose", [False, True])
def test_it_takes_the_place_of_snakemakes_handler_unless_more_is_asked_for(verbose: bool, capsys: pytest.CaptureFixture[str]) -> None:
    logger, usual = logging.Logger("workflow"), logging.NullHandler()
    usual.name = "DefaultStreamHandler"
    logger.addHandler(usual)
    workflow = SimpleNamespace(
        output_settings=SimpleNamespace(verbose=verbose, dryrun=False),
        resource_settings=SimpleNamespace(cores=1),
        dag_settings=SimpleNamespace(targets=TARGETS),
    )
    attach(logger, Request(scale="smoke"), workflow, ["claims"])
    assert (usual in logger.handlers) == verbose
    logger.handle(record(None, "Building DAG of jobs..."))
    logger.handle(job(1, "data", dataset="digits"))
    assert len(capsys.readouterr().err.splitlines()) == (1 if verbose else 2)
