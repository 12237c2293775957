"""What a call of Snakemake asks for: values and targets are checked, and the first line says what they come to."""

import re
import shutil
from pathlib import Path

import pytest
from conftest import ROOT

from replication.errors import ReplicationError
from replication.pipeline import dag
from replication.pipeline.request import (
    Plan,
    Request,
    check_targets,
    figures_asked_for,
    first_line,
    last_line,
    measured_core_minutes,
    outputs,
    plan_of,
    priority,
    read,
)

SMOKE = Request(scale="smoke")
SHARP = [("reduced", figure) for paper, figure, _ in dag.figures() if "vgg9_small" in dag.runs_of(dag.paper_of("reduced", paper), figure)]
LCA = [(paper, figure) for paper, figure, _ in dag.figures() if paper == "lca"]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configurations and measured costs, without results."""
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs/measured.csv", tmp_path / "docs")
    (tmp_path / "paper_configs").symlink_to(ROOT / "paper_configs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"scales": "smoke"}, "unknown key 'scales' (did you mean 'scale'?); allowed: scale, seeds, gpu"),
        ({"seed": 6}, "unknown key 'seed' (did you mean 'seeds'?)"),
        ({"zzz": 6}, "unknown key 'zzz'; allowed"),
        (
            {"scale": "smok"},
            "The scale is 'smok' (did you mean 'smoke'?); allowed with --config scale=...: auto, smoke, reduced, full, recorded",
        ),
        ({"scale": 3}, "The scale is '3'; allowed"),
        ({"seeds": 1}, "seeds is 1; allowed with --config seeds=...: whole numbers from 2"),
        ({"seeds": "many"}, "seeds is 'many'; allowed"),
        ({"seeds": True}, "seeds is True; allowed"),
        ({"gpu": -1}, "gpu is -1; allowed"),
        ({"seeds": 4, "scale": "recorded"}, "Seeds cannot be chosen at the scale recorded"),
    ],
    ids=str,
)
def test_a_wrong_value_of_config_is_one_sentence(config: dict[str, object], says: str) -> None:
    with pytest.raises(ReplicationError, match=rf"\A[^\n]*{re.escape(says)}[^\n]*\.\Z"):
        read(config)


def test_what_is_not_given_has_a_default() -> None:
    assert read({}) == Request(scale="auto", seeds=None, gpu=0)
    assert read({"scale": "full", "seeds": 2, "gpu": 1}) == Request(scale="full", seeds=2, gpu=1)


@pytest.mark.parametrize(
    "target", ["all", "figures", "claims", "claims_ci", "lca", "four_views", "figure_lca_toy", "results/x/y.png", "claims.html"]
)
def test_rules_papers_and_files_are_targets(target: str) -> None:
    check_targets([target])


@pytest.mark.parametrize(
    ("target", "nearest"), [("lac", "'lca'"), ("figure_lca_layer", "'figure_lca_layers'"), ("landscapes", "'landscape'")]
)
def test_a_mistyped_target_gets_the_nearest_names(target: str, nearest: str) -> None:
    with pytest.raises(ReplicationError, match=rf"There is no target '{target}' \(did you mean {nearest}.*`snakemake -l` lists all"):
        check_targets(["figures", target])


def test_targets_name_their_figures() -> None:
    everything = [(paper, figure) for paper, figure, _ in dag.figures()]
    assert figures_asked_for([], "smoke") == figures_asked_for(["claims"], "smoke") == everything
    assert figures_asked_for(["lca"], "smoke") == LCA
    assert figures_asked_for(["figure_lca_toy"], "smoke") == [("lca", "lca_toy")]
    assert figures_asked_for(["results/smoke/lca/figures/lca_toy.png"], "smoke") == [("lca", "lca_toy")]
    assert figures_asked_for(["results/data/digits.safetensors"], "smoke") == []
    in_ci = figures_asked_for(["claims_ci"], "smoke")
    assert in_ci == [(paper, name) for paper, name, figure in dag.figures() if any(claim.ci for claim in figure.claims)]
    assert set(figures_asked_for(["lca"], "recorded")) == {name for name in LCA if dag.is_recorded(*name)}


def trainings(files: list[str]) -> int:
    return sum("/runs/" in file for file in files)


def test_seeds_of_the_command_line_are_of_every_run() -> None:
    layers = [("lca", "lca_layers")]
    assert trainings(outputs("smoke", layers)) == 4
    assert trainings(outputs("smoke", layers, seeds=7)) == 14
    assert len(dag.part_files("smoke", "lca", "lca_toy", 5)) == 5, "a toy reads no training"
    assert dag.n_seeds("reduced", "svcca", "convnet_pairs", 6) == 3, "pairs of networks"
    with pytest.raises(ReplicationError, match="With seeds=3, convnet_pairs of svcca has one estimate only"):
        dag.n_seeds("reduced", "svcca", "convnet_pairs", 3)


def test_more_seeds_repeat_none_of_those_that_there_are(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkout / "paper_configs").unlink()
    shutil.copytree(ROOT / "paper_configs", checkout / "paper_configs")
    for part in ("replication", "figures"):
        (checkout / part).symlink_to(ROOT / part)
    before = [dag.training_depends("smoke", "lca", "mnist_fc"), dag.measuring_depends("smoke", "lca", "lca_toy")]
    path = checkout / "paper_configs/lca.yaml"
    path.write_text(re.sub(r"smoke: 2\}", "smoke: 5}", path.read_text()))
    assert dag.measurement_of("smoke", "lca", "lca_toy").n_seeds({}) == 5
    assert [dag.training_depends("smoke", "lca", "mnist_fc"), dag.measuring_depends("smoke", "lca", "lca_toy")] == before


def test_the_first_line_says_scale_data_jobs_and_costs(checkout: Path) -> None:
    request = Request(scale="reduced")
    plan = plan_of(request, ["figure_lca_layers"])
    assert plan.n_jobs == plan.n_missing > 10
    line = first_line(request, plan)
    beginning, costs = (
        r"Scale: reduced \(1 figure, data: mnist\)\. \d+ jobs, \d+ of them",
        r"about \d+ core-minutes by docs/measured\.csv\.",
    )
    assert re.fullmatch(rf"{beginning} without results yet, {costs}", line)
    more = Request(scale="reduced", seeds=6)
    doubled = plan_of(more, ["figure_lca_layers"])
    assert plan.core_minutes is not None
    assert doubled.core_minutes is not None
    assert 1.5 * plan.core_minutes < doubled.core_minutes < 2.5 * plan.core_minutes
    assert "Seeds of every run: 6." in first_line(more, doubled)
    assert "core-minutes" not in first_line(SMOKE, plan_of(SMOKE, ["lca"])), "no cost is measured at smoke scale"


def test_files_that_are_no_figures_are_not_counted_as_no_jobs(checkout: Path) -> None:
    plan = plan_of(SMOKE, ["results/data/digits.safetensors"])
    assert first_line(SMOKE, plan) == "Scale: smoke. Single files."


def test_what_only_an_expensive_figure_needs_comes_first(checkout: Path) -> None:
    """A network of the tables of errors alone before one of the sharpness figure too, and both before a toy."""
    deep, sharp = (priority("reduced", "landscape", run) for run in ("resnet158_noshort", "vgg9_small"))
    costs = measured_core_minutes()
    assert deep == costs["reduced", "landscape_errors"]
    assert sharp == min(cost for (scale, figure), cost in costs.items() if (scale, figure) in SHARP)
    assert deep > sharp > priority("reduced", "lca", "lca_toy") > 0
    assert priority("smoke", "landscape", "resnet158_noshort") == 0, "no cost is measured at smoke scale"


def test_what_is_there_is_not_counted_as_missing(checkout: Path) -> None:
    before = plan_of(SMOKE, ["figure_lca_toy"])
    for file in outputs("smoke", [("lca", "lca_toy")]):
        (checkout / file).parent.mkdir(parents=True, exist_ok=True)
        (checkout / file).touch()
    after = plan_of(SMOKE, ["figure_lca_toy"])
    assert (after.n_jobs, after.n_missing) == (before.n_jobs, 0)


def test_the_last_line_says_where_results_lie(checkout: Path) -> None:
    one = Plan(figures={"smoke": [("lca", "lca_toy")]}, n_jobs=1, n_missing=0, core_minutes=None)
    assert last_line(SMOKE, one) == "Figures: results/smoke/lca/figures/lca_toy.png; tables: results/smoke/lca/tables/"
    several = plan_of(SMOKE, ["lca", "svcca"])
    (checkout / "results/smoke").mkdir(parents=True)
    (checkout / "results/smoke/claims.html").touch()
    assert (
        last_line(SMOKE, several) == "Figures: results/smoke/*/figures/; tables: results/smoke/*/tables/; claims: results/smoke/claims.html"
    )
