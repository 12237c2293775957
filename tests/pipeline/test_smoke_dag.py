"""Some figures' DAG at smoke scale in a copy of the project, and what its dry runs say after an edit."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import pytest
from checkout import PARTS, copy_project

from replication.files.provenance import read_provenance
from replication.files.tables import read_tables

# they have every kind of rule: several networks, runs and measurements in one figure, spans, seeds
COSTS = {"lca_layers": 9, "lca_histogram": 5, "lca_sampling": 1}  # as if measured; LeNet is in the first alone, ResNet-20 in the second
FIGURES = ("lca_helping_over_time", "lca_histogram", "lca_integration_error", "lca_layers", "lca_sampling")


def snakemake(
    project: Path, *arguments: str, scale: str = "smoke", config: Sequence[str] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "snakemake", *arguments, "--config", f"scale={scale}", *config]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, env=os.environ | {"REPLICATION_DATA": ""} | environment)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which every figure was made at smoke scale, without data folder and network."""
    copy = copy_project(tmp_path_factory.mktemp("project") / "checkout", FIGURES)
    (copy / "docs").mkdir()
    rows = [f"{figure},smoke,{minutes}" for figure, minutes in COSTS.items()]
    (copy / "docs/measured.csv").write_text("\n".join(["figure,scale,core_minutes", *rows]))
    ended = snakemake(copy, "figures", scale="auto", REPLICATION_OFFLINE="1")
    assert ended.returncode == 0, ended.stderr
    lines = [line for line in ended.stderr.splitlines() if line and not line.startswith("Using workflow specific profile")]
    assert lines[0].startswith("Scale: smoke (5 figures, data: digits); chosen by the data found"), "before the first job"
    assert lines[-1] == "Figures: results/smoke/lca/figures/; tables: results/smoke/lca/tables/"
    assert all(re.match(r"\[\d+ of \d+\] ", line) for line in lines[1:-1]), "a line per job"
    trained = re.findall(r"train (\w+) seed", ended.stderr)
    assert list(dict.fromkeys(trained)) == ["lenet", "resnet20", "mnist_fc"], "what only an expensive figure needs is trained first"
    return copy


@pytest.fixture
def edited(project: Path) -> Iterator[Path]:
    """The project, whose sources are put back after the test."""
    sources = {path: path.read_bytes() for part in PARTS for path in sorted((project / part).rglob("*.[py]*")) if path.is_file()}
    yield project
    for path, content in sources.items():
        if path.read_bytes() != content:
            path.write_bytes(content)


def jobs(project: Path) -> dict[str, int]:
    """How often each rule would run for all figures."""
    ended = snakemake(project, "-n", "figures")
    assert ended.returncode == 0, ended.stderr
    table = re.search(r"Job stats:\n.*\n-[- ]*\n((?:\w+ +\d+\n)+)", ended.stdout + ended.stderr)
    counts = {rule: int(count) for rule, count in (line.split() for line in table[1].splitlines())} if table else {}
    return {rule: count for rule, count in counts.items() if rule not in ("total", "figures")}


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def replace(path: Path, old: str, new: str) -> None:
    content = path.read_text()
    assert content.count(old) == 1, old
    path.write_text(content.replace(old, new))


def figure_names(project: Path) -> list[str]:
    return sorted(path.stem for path in project.glob("results/smoke/*/figures/*.png"))


def test_every_figure_comes_with_its_files_and_records(project: Path) -> None:
    assert figure_names(project) == sorted(FIGURES)
    for name in figure_names(project):
        folder = project / "results/smoke/lca/figures"
        record = read_provenance(folder / f"{name}.provenance.json")
        assert set(record["files"]) == {f"{name}.{ending}" for ending in ("png", "pdf", "svg", "quantities.csv")}
        assert record["stamp"].startswith("SMOKE SCALE")
        verdicts = json.loads((folder / f"{name}.verdicts.json").read_text())["verdicts"]
        assert {entry["outcome"] for entry in verdicts} <= {"not_evaluated", "withdrawn"}, "smoke speaks for no claim"
        assert all(entry["estimates"] for entry in verdicts), "but the estimates are shown"


def test_tables_carry_their_provenance(project: Path) -> None:
    for folder in project.glob("results/smoke/lca/tables/*/seed*"):
        record = read_provenance(folder / "provenance.json")
        (training,) = record["trainings"]
        assert folder.name == f"seed{record['seed']}" == f"seed{training['seed']}"
        assert training["data"]["name"] == "digits"
        assert training["config"]["model"] in ("mnist_fc", "lenet", "lca_resnet20")
        assert {"torch", "numpy", "python"} <= set(record["versions"])
        tables = read_tables(folder)
        if record["config"]["instrument"] != "lca":
            continue
        steps = tables["steps"]
        change = steps["loss_end"].iloc[-1] - steps["loss_start"].iloc[0]
        assert abs(steps["lca"].sum() - change) < 0.01 * abs(change)
        assert steps["step"].tolist() == list(range(len(steps)))


def test_a_second_run_repeats_nothing(project: Path) -> None:
    assert jobs(project) == {}


def test_comments_and_docstrings_repeat_nothing(edited: Path) -> None:
    append(edited / "replication/lca/allocation.py", "\n# a remark\n")
    replace(
        edited / "replication/lca/allocation.py", '"""Loss Change Allocation of one step (Lan', '"""Loss change allocation of one step (Lan'
    )
    append(edited / "replication/training/loop.py", "\n# a remark\n")
    append(edited / "paper_configs/lca.yaml", "\n# a remark\n")
    assert jobs(edited) == {}


@pytest.mark.parametrize("module", ["lca/allocation.py", "lca/ledger.py"])
def test_editing_the_instrument_repeats_its_measurements_and_what_follows(edited: Path, module: str) -> None:
    append(edited / "replication" / module, "\n_CHANGED = 1\n")
    assert jobs(edited) == {"measure": 8, "gather": 3, "figure": 5, "judge": 5}  # sampled LCA computes without either


def test_editing_the_training_repeats_everything_but_the_data(edited: Path) -> None:
    append(edited / "replication/training/loop.py", "\n_CHANGED = 1\n")
    assert jobs(edited) == {"train": 6, "measure": 14, "gather": 6, "figure": 5, "judge": 5}


def test_editing_one_instrument_leaves_the_other_alone(edited: Path) -> None:
    append(edited / "replication/lca/sampled.py", "\n_CHANGED = 1\n")
    assert jobs(edited) == {"measure": 6, "gather": 3, "figure": 1, "judge": 1}


def test_editing_one_model_leaves_the_other_alone(edited: Path) -> None:
    append(edited / "replication/models/lenet.py", "\n_CHANGED = 1\n")
    assert jobs(edited) == {"train": 2, "measure": 2, "gather": 1, "figure": 1, "judge": 1}


def test_editing_a_figure_redraws_it_alone(edited: Path) -> None:
    append(edited / "figures/lca_histogram.py", "\n_CHANGED = 1\n")
    assert jobs(edited) == {"figure": 1, "judge": 1}


def test_a_changed_claim_stops_a_dry_run_and_an_amended_one_judges_its_figure_again(edited: Path) -> None:
    replace(edited / "paper_configs/lca.yaml", "Every layer of LeNet lowers", "Each layer of LeNet lowers")
    stopped = snakemake(edited, "-n", "figures")
    assert stopped.returncode == 1
    assert "Error: Claim LCA-C8-lenet differs from paper_configs/claims.lock; if that is intended" in stopped.stderr
    amend = [sys.executable, "-m", "replication", "amend", "LCA-C8-lenet", "--reason", "words", "--results-seen", "no"]
    lock = (edited / "paper_configs/claims.lock").read_bytes()
    try:
        assert subprocess.run(amend, cwd=edited, capture_output=True).returncode == 0
        assert jobs(edited) == {"judge": 1}
    finally:
        (edited / "paper_configs/claims.lock").write_bytes(lock)


def test_more_seeds_from_the_command_line_train_only_new_ones(project: Path) -> None:
    ended = snakemake(project, "-n", "lca", config=["seeds=3"])
    assert "Seeds of every run: 3." in ended.stderr
    trained = re.findall(r"lca: train (\w+ seed \d)", ended.stderr)
    assert len(trained) == 3
    assert all(run.endswith("seed 2") for run in trained)
    assert not re.search(r"measure \w+ seed [01]", ended.stderr)


def test_a_new_learning_rate_repeats_its_run(edited: Path) -> None:
    replace(edited / "paper_configs/lca.yaml", "lr: 0.02, momentum: 0.9}         # lr: not stated in the paper", "lr: 0.03, momentum: 0.9}")
    assert jobs(edited) == {"train": 2, "measure": 2, "gather": 1, "figure": 1, "judge": 1}


def test_a_new_seed_trains_only_that_seed(edited: Path) -> None:
    before, after = (f"seeds: {{full: 3, reduced: 3, smoke: {count}}}\n    keep" for count in (2, 3))
    replace(edited / "paper_configs/lca.yaml", before, after)
    assert jobs(edited) == {"train": 1, "measure": 5, "gather": 4, "figure": 5, "judge": 5}


def test_data_prepared_again_with_the_same_content_repeats_nothing(project: Path) -> None:
    os.utime(project / "results/data/digits.safetensors")
    assert jobs(project) == {}


def test_there_is_one_documented_target_per_figure(project: Path) -> None:
    listed = snakemake(project, "-l").stdout
    for name in figure_names(project):
        assert re.search(rf"^figure_{name} \(.+: .+\)$", listed, re.MULTILINE), name
    targets = [line.split(" ")[0] for line in listed.splitlines()]
    n_figures = len(FIGURES)
    assert targets[:6] == ["lca", "all", "figures", "claims", "claims_ci", "claims_page"], "the paper first"
    assert all(target.startswith("figure_") for target in targets[6 : 6 + n_figures])
    assert set(targets[6 + n_figures :]) == {"data", "train", "measure", "gather", "figure", "judge"}, "rules of single jobs last"


def test_a_report_of_results_that_are_not_there_says_what_to_run_first(project: Path, tmp_path: Path) -> None:
    ended = snakemake(project, "--report", str(tmp_path / "report.zip"), scale="full")
    assert ended.returncode == 1
    assert "marked for report but does not exist" in ended.stderr
    assert ended.stderr.splitlines()[-1] == "Make it first: run the same command without --report."
    assert "Traceback" not in ended.stderr


def test_a_report_of_one_figure_is_one_file(project: Path, tmp_path: Path) -> None:
    ended = snakemake(project, "figure_lca_layers", "--report", str(tmp_path / "figure.html"))
    assert ended.returncode == 0, ended.stderr
    text = (tmp_path / "figure.html").read_text(encoding="utf-8")
    assert "lca_layers.png" in text
    assert "lca_histogram.png" not in text


def test_a_figure_target_prints_quantities_and_verdicts(project: Path) -> None:
    ended = snakemake(project, "figure_lca_layers")
    assert ended.returncode == 0
    assert "results/smoke/lca/figures/lca_layers.png" in ended.stdout
    assert "mnist_fc_largest_layer_total" in ended.stdout
    assert "LCA-C8-lenet" in ended.stdout


def test_claims_pass_at_smoke_since_none_is_required(project: Path) -> None:
    ended = snakemake(project, "claims")
    assert ended.returncode == 0, ended.stderr
    assert "No claim required at this scale is contradicted." in ended.stdout


def test_a_damaged_table_is_named_and_stops_the_figure(edited: Path) -> None:
    folder = edited / "results/smoke/lca/tables/lenet_lca/seed0"
    content = (folder / "layers.csv").read_text()
    (folder / "layers.csv").write_text(content.replace("conv1", "conv2", 1))
    try:
        ended = snakemake(edited, "results/smoke/lca/figures/lca_layers.png", "--forcerun", "figure")
        assert ended.returncode != 0
        assert "layers.csv was changed or damaged after it was written" in ended.stderr
        assert "Traceback" not in ended.stderr
    finally:
        (folder / "layers.csv").write_text(content)
        snakemake(edited, "figures")


@pytest.mark.parametrize("damaged", ["results/smoke/lca/runs/lenet/seed0/trajectory.npy", "results/data/digits.safetensors"])
def test_a_damaged_trajectory_or_data_file_is_named_before_anything_is_measured(project: Path, damaged: str, tmp_path: Path) -> None:
    path = project / damaged
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        command = [sys.executable, "-m", "replication", "measure", "lca", "lenet_lca", "--scale", "smoke", "--seed", "0", "--part", "0"]
        paths = ["--run-folders", "results/smoke/lca/runs/lenet/seed0", "--data-files", "results/data/digits.safetensors"]
        ended = subprocess.run([*command, *paths, "--out", str(tmp_path / "part.npz")], cwd=project, capture_output=True, text=True)
    finally:
        path.write_bytes(content)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"Error: {damaged} was changed or damaged after it was written")
    assert ended.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("scale", "says"), [("huge", "The scale is 'huge'; allowed with --config scale=...: auto, smoke, reduced, full, recorded.")]
)
def test_a_wrong_scale_is_one_sentence(project: Path, scale: str, says: str) -> None:
    ended = snakemake(project, "-n", "figures", scale=scale)
    assert ended.returncode != 0
    assert f"Error: {says}" in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr


def test_a_config_mistake_stops_the_run_before_any_job(edited: Path) -> None:
    replace(edited / "paper_configs/lca.yaml", "steps: {full: 880, reduced: 40, smoke: 10}", "steps: {full: 880, reduced: -40, smoke: 10}")
    ended = snakemake(edited, "figures")
    assert ended.returncode != 0
    assert "paper_configs/lca.yaml, scale reduced: runs.lenet.steps is -40" in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr


def test_the_linter_remarks_only_on_what_the_design_page_explains(project: Path) -> None:
    """One environment for all rules; no log where the output is for the person at the terminal."""
    ended = subprocess.run([sys.executable, "-m", "snakemake", "--lint"], cwd=project, capture_output=True, text=True)
    remarks = set(re.findall(r"^    \* (.+?):?$", ended.stdout + ended.stderr, re.MULTILINE))
    assert remarks == {"Specify a conda environment or container for each rule.", "No log directive defined"}
    unlogged = re.findall(r"Lints for rule (\w+) .*\n    \* No log directive", ended.stdout + ended.stderr)
    assert set(unlogged) == {"claims", "claims_ci", "lca", *(f"figure_{name}" for name in figure_names(project))}


def test_the_figure_is_drawn_from_tables_to_the_last_bit(project: Path) -> None:
    """The same tables give the same bytes, so a redrawn figure is no change."""
    folder = project / "results/smoke/lca/figures"
    before = read_provenance(folder / "lca_histogram.provenance.json")["files"]
    assert snakemake(project, "results/smoke/lca/figures/lca_histogram.png", "--forcerun", "figure").returncode == 0
    assert read_provenance(folder / "lca_histogram.provenance.json")["files"] == before
    assert pd.read_csv(folder / "lca_histogram.quantities.csv")["seed"].unique().tolist() == [0, 1]
