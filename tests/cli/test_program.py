"""The command line as a person meets it: mistakes end with one sentence and status 2, never with a traceback."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from verdict_entries import ENTRY, PLACE

from replication import __version__
from replication.cli import main
from replication.cli.listing import WITHOUT_CHECKOUT
from replication.files.atomic import write_json

JOB = ["--scale", "smoke", "--seed", "0"]


def run(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0), capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "lca", "nope", *JOB, "--data-file", "x", "--folder", "y"], "no run of lca named 'nope'; allowed: mnist_fc, "),
        (["train", "nope", "mnist_fc", *JOB, "--data-file", "x", "--folder", "y"], "no paper named 'nope'; allowed: "),
        (["train", "lca", "mnist_fc", "--scale", "big", "--seed", "0", "--data-file", "x", "--folder", "y"], "The scale is 'big'"),
        (["train", "lca", "mnist_fc", *JOB, "--data-file", "nowhere.safetensors", "--folder", "y"], "nowhere.safetensors"),
        (["figure", "lca", "lca_layers", "--scale", "smoke", "--folder", "x", "nowhere"], "nowhere/provenance.json is missing"),
        (["claims", "nowhere.verdicts.json"], "nowhere.verdicts.json is missing"),
        (["record", "--keep", "results"], "results does not exist; name an archive"),
        (["record", "--minutes", "0", "--into", "x"], "--minutes needs a number above 0 and --into DIR"),
        (["record", "--minutes", "1", "--into", "x", "--only", "nope"], "The queue has no 'nope'"),
        (["bundle", "digits", "--into", "x", "--pieces", "0"], "--pieces is 0; allowed"),
        (["amend", "NO-CLAIM", "--reason", "x", "--results-seen", "no"], "There is no claim 'NO-CLAIM'"),
        (["data", "imagenet", "--out", "x"], "imagenet"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_a_mistake_is_one_sentence(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str], monkeypatch, tmp_path: Path
) -> None:
    (tmp_path / "paper_configs").symlink_to(ROOT / "paper_configs")
    monkeypatch.chdir(tmp_path)
    status, error = run(*arguments, capsys=capsys)
    assert status == 2
    assert says in error
    assert error.startswith("Error: ")
    assert error.count("\n") == 1


CHECKOUT_ONLY = {
    "run": ["lca_layers"],
    "lock": [],
    "amend": ["LCA-C8", "--reason", "x", "--results-seen", "no"],
    "record": ["--list"],
    "crate": ["--scale", "recorded", "--out", "x.zip"],
    "train": ["lca", "mnist_fc", *JOB, "--data-file", "x", "--folder", "y"],
    "measure": ["lca", "mnist_fc_lca", *JOB, "--part", "0", "--out", "x.npz"],
    "gather": ["lca", "mnist_fc_lca", "--scale", "smoke", "--folder", "x", "x.npz"],
    "figure": ["lca", "lca_layers", "--scale", "smoke", "--folder", "x", "y"],
    "judge": ["lca", "lca_layers", "--scale", "smoke", "--quantities-file", "x", "--out", "x.json"],
}


@pytest.mark.parametrize("command", CHECKOUT_ONLY)
def test_outside_a_checkout_a_command_that_needs_it_says_so(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch, tmp_path
) -> None:
    monkeypatch.chdir(tmp_path)
    status, error = run(command, *CHECKOUT_ONLY[command], capsys=capsys)
    assert status == 2
    assert error.startswith(f"Error: `replicate {command}` needs the checkout, and ")
    assert "run in the folder that holds the Snakefile" in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_outside_a_checkout_the_other_commands_work(capsys: pytest.CaptureFixture[str], monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    write_json(tmp_path / "lca_x.verdicts.json", PLACE | {"verdicts": [ENTRY]})
    assert run("data", "digits", "--out", "digits.safetensors", capsys=capsys)[0] == 0
    assert run("bundle", "digits", "--into", "bundle", capsys=capsys)[0] == 0
    assert run("claims", "lca_x.verdicts.json", capsys=capsys)[0] in (0, 1)
    assert run("claims-page", "lca_x.verdicts.json", "--out", "claims.html", capsys=capsys)[0] == 0
    with pytest.raises(SystemExit):
        main(["--help"])
    assert f"Outside a checkout of the repository only these work: {', '.join(WITHOUT_CHECKOUT)}." in capsys.readouterr().out


def test_a_download_that_fails_leaves_no_folder(capsys: pytest.CaptureFixture[str], monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REPLICATION_OFFLINE", "1")
    monkeypatch.delenv("REPLICATION_DATA", raising=False)
    status, error = run("bundle", "mnist", "--into", "b", capsys=capsys)
    assert status == 2
    assert "REPLICATION_OFFLINE is set" in error
    assert list(tmp_path.iterdir()) == []


def test_a_page_of_no_claims_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, error = run("claims-page", "--out", str(tmp_path / "claims.html"), capsys=capsys)
    assert status == 2
    assert "at least one file of verdicts" in error
    assert not (tmp_path / "claims.html").exists()


def test_drawing_and_judging_do_without_torch() -> None:
    """A job that reads tables starts a second faster."""
    code = "import sys\nfrom replication.claims import page, report\n"
    code += "from replication.pipeline import dag, drawing, judging\nassert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_help_answers_without_loading_torch() -> None:
    code = "import sys\nfrom replication import cli\ntry: cli.main(['--help'])\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr
    assert "train one seed of a run" in ended.stdout


def test_the_version_and_who_a_command_is_for_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"replicate {__version__}\n"
    with pytest.raises(SystemExit):
        main(["--help"])
    groups = capsys.readouterr().out.split("\n\n")[-3:]
    assert [group.splitlines()[0].split(" ")[1] for group in groups] == ["everyone:", "those", "of"]
    assert [name in group for group, name in zip(groups, ("  run ", "  amend ", "  measure "), strict=True)] == [True] * 3


NAMES = {"train": ["lca: mnist_fc, ", "svcca: convnet, "], "amend": ["LCA-C8, "], "run": ["lca_layers, "]}


@pytest.mark.parametrize(("command", "names"), NAMES.items())
def test_help_lists_the_allowed_names(command: str, names: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = capsys.readouterr().out
    assert all(name in text for name in names)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["lca_layers"], ["figure_lca_layers", "--config", "scale=auto"]),
        (["lca", "--scale", "smoke", "--seeds", "4", "--cores", "2"], ["lca", "--config", "scale=smoke", "seeds=4", "--cores", "2"]),
        (["claims", "--dry-run"], ["claims", "--config", "scale=auto", "--dry-run"]),
    ],
)
def test_run_calls_snakemake_and_ends_with_its_status(arguments: list[str], expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def called(command: list[str]) -> subprocess.CompletedProcess[bytes]:
        calls.append(command)
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(subprocess, "run", called)
    with pytest.raises(SystemExit) as ended:
        main(["run", *arguments])
    assert ended.value.code == 1
    assert calls == [[sys.executable, "-m", "snakemake", *expected]]


def test_a_time_box_ends_unfinished_and_the_same_command_continues(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for folder in ("paper_configs", "replication"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    monkeypatch.chdir(tmp_path)
    run("data", "digits", "--out", "digits.safetensors", capsys=capsys)
    train = ["train", "lca", "mnist_fc", *JOB, "--data-file", "digits.safetensors", "--folder", "run"]
    status, error = run(*train, "--stop-after", "0", capsys=capsys)
    assert status == 75
    assert "Unfinished: mnist_fc seed 0 was stopped as asked; run again to continue." in error
    assert not (tmp_path / "run" / "provenance.json").exists()
    assert run(*train, capsys=capsys)[0] == 0
    assert '"resumed_at_step": 1' in (tmp_path / "run" / "provenance.json").read_text()
